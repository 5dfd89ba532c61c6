package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// images prints images of a commit, each through a fresh layer cache, and what
// a folder of layouts holds of them.
func images(ctx context.Context, p *printer, dir string, repo *ostree.Repo, commit ostree.Checksum) error {
	registry, err := layoutregistry.Open(ctx, filepath.Join(dir, "layouts"), nil)
	if err != nil {
		return err
	}
	to, err := name.NewRepository("registry.example.com/sample/os")
	if err != nil {
		return err
	}
	components, err := byFirstDigit(ctx, repo, commit)
	if err != nil {
		return err
	}
	for _, codec := range []container.Codec{container.Gzip, container.Zstd} {
		for _, chunked := range []bool{false, true} {
			opts := &container.EncapsulateOptions{Codec: codec, Architecture: "amd64", MaxLayers: 6}
			what := fmt.Sprintf("image, %s, one layer", codec)
			if chunked {
				opts.Components = components
				what = fmt.Sprintf("image, %s, chunked", codec)
			}
			cache, err := container.OpenCache(ctx, filepath.Join(dir, "layers "+what), nil)
			if err != nil {
				return err
			}
			defer cache.Close()
			img, err := container.Encapsulate(ctx, cache, repo, commit, opts)
			if err != nil {
				return err
			}
			desc, err := registry.WriteImage(ctx, to, img, nil)
			p.line(what, desc.Digest, err)
		}
	}
	content, err := folder(filepath.Join(dir, "layouts"))
	p.line("folder of layouts", content, err)
	return nil
}

// byFirstDigit makes components of a commit's objects.
func byFirstDigit(ctx context.Context, repo *ostree.Repo, commit ostree.Checksum) ([]container.Component, error) {
	components := make([]container.Component, 16)
	for i := range components {
		components[i].ID = fmt.Sprintf("sample-%02d", i)
		components[i].Frequency = uint32(i)
	}
	seen := make(map[ostree.Checksum]bool)
	for e, err := range repo.Tree(commit).Entries(ctx) {
		if err != nil {
			return nil, err
		}
		if e.Mode&ostree.ModeType != ostree.ModeDir && !seen[e.Object] {
			seen[e.Object] = true
			c := &components[e.Object[0]>>4]
			c.Objects = append(c.Objects, e.Object)
		}
	}
	return components, nil
}

// payloads prints a release image of two components.
func payloads(ctx context.Context, p *printer, dir string) error {
	registry, err := layoutregistry.Open(ctx, filepath.Join(dir, "payloads"), nil)
	if err != nil {
		return err
	}
	repo, err := name.NewRepository("registry.example.com/sample/release")
	if err != nil {
		return err
	}
	const manifest = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: sample\n  annotations:\n    image: placeholder.example.org/sample:sample-operator\n"
	const references = "apiVersion: image.openshift.io/v1\nkind: ImageStream\nspec:\n  tags:\n  - name: sample-operator\n    from:\n      kind: DockerImage\n      name: placeholder.example.org/sample:sample-operator\n"
	spec := &payload.Spec{Version: "0.0.0-sample.1", Created: stamp, Components: make(map[string]name.Reference), Previous: []string{"0.0.0-sample.0"}}
	for _, component := range []struct {
		name  string
		files []string
	}{
		{payload.BaseTag, []string{"manifests/0000_00_namespace.yaml", manifest}},
		{"sample-operator", []string{"manifests/0000_50_namespace.yaml", manifest, "manifests/image-references", references}},
	} {
		img, err := image(component.files, component.name != payload.BaseTag)
		if err != nil {
			return err
		}
		desc, err := registry.WriteImage(ctx, repo, img, nil)
		if err != nil {
			return err
		}
		spec.Components[component.name] = repo.Digest(desc.Digest.String())
	}
	built, err := payload.Assemble(ctx, registry, spec, nil)
	if err != nil {
		return err
	}
	p.line("release image", built.Digest, nil)
	p.line("release image's layer", built.DiffID, nil)
	_, err = registry.WriteImage(ctx, repo, built.Image, nil)
	if err != nil {
		return err
	}
	content, err := folder(filepath.Join(dir, "payloads"))
	p.line("folder of payloads", content, err)
	return nil
}

// image makes an image of one layer with files, given as name, content.
func image(files []string, operator bool) (v1.Image, error) {
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	tw := tar.NewWriter(zw)
	for i := 0; i < len(files); i += 2 {
		err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), ModTime: stamp, Format: tar.FormatUSTAR})
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(tw, files[i+1]); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	}, tarball.WithMediaType(types.DockerLayer))
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.DockerManifestSchema2), mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: stamp}}})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", "amd64", v1.Time{Time: stamp}
	config.Config.Labels = map[string]string{"io.openshift.build.commit.id": "", "io.openshift.build.source-location": ""}
	if operator {
		config.Config.Labels["io.openshift.release.operator"] = "true"
	}
	return mutate.ConfigFile(img, config)
}
