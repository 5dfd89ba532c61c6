package walk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/okd-project/okd-streams/examples/internal/buildah"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/stream"
)

// nodeBuilder has the node image and its extensions built with buildah, if the
// flags say in which folder: of a spec, or of the definition's Containerfile.
func (r *Run) nodeBuilder(f *Flags) error {
	if f.NodeContext == "" {
		if f.NodeSpec != "" {
			return ui.Usagef("-node-spec needs -node-context")
		}
		return nil
	}
	if f.Node != "" {
		return ui.Usagef("-node-context builds a node image, and -node names one")
	}
	spec, err := nodeSpec(r.Definition, f)
	if err != nil {
		return err
	}
	b := &nodeBuild{spec: spec, context: f.NodeContext, dir: filepath.Join(r.Env.State, "node"), builder: &buildah.Builder{
		Program: f.Buildah, Driver: f.BuildahDriver, Isolation: f.BuildahIsolation,
	}}
	if f.BuildahStorage != "" {
		b.builder.Root, b.builder.RunRoot = filepath.Join(f.BuildahStorage, "root"), filepath.Join(f.BuildahStorage, "run")
	}
	if b.id, err = b.identity(); err != nil {
		return fmt.Errorf("-node-context: %w", err)
	}
	r.Options.NodeBuilder, r.Options.NodeBuilderID = b.build, b.id
	return nil
}

// placeholders are what a spec must have and the build decides.
const (
	placeholderBase    = "localhost/base"
	placeholderVersion = "0.0.0"
)

// nodeSpec reads the spec, or makes one of the definition.
func nodeSpec(def *stream.Definition, f *Flags) (*container.NodeSpec, error) {
	if f.NodeSpec != "" {
		file, err := os.Open(f.NodeSpec)
		if err != nil {
			return nil, err
		}
		spec, err := container.DecodeNodeSpec(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", f.NodeSpec, err)
		}
		return spec, nil
	}
	if def.OS.Containerfile == "" && len(def.OS.Packages) == 0 {
		return nil, ui.Usagef("stream %s has neither os.containerfile nor os.packages: say with -node-spec what the node image is built of", def.Identity.Name)
	}
	spec := &container.NodeSpec{
		Base: placeholderBase, Version: placeholderVersion, Containerfile: def.OS.Containerfile, Args: def.OS.BuildArgs,
		Source: def.OS.Source.Git, Commit: def.OS.Source.Commit, Manager: container.PackageManager(def.OS.Manager), Packages: def.OS.Packages,
	}
	for _, e := range def.Extensions.Sets {
		x := container.NodeExtension{Name: e.Name, Packages: e.Packages, MatchVersion: e.MatchVersion}
		for _, arch := range e.Architectures {
			x.Architectures = append(x.Architectures, string(arch))
		}
		spec.Extensions = append(spec.Extensions, x)
	}
	if def.OS.Containerfile != "" {
		// Where openshift/os has it.
		const extensions = "extensions/Containerfile"
		if _, err := os.Stat(filepath.Join(f.NodeContext, extensions)); err == nil && spec.Extensions == nil {
			spec.ExtensionsContainerfile = extensions
		}
		return spec, spec.Check()
	}
	for _, r := range def.OS.Repositories {
		if r.Credentials != nil {
			return nil, ui.Usagef("repository %s of stream %s needs credentials, which buildah is not given: -node-context takes what needs none", r.Name, def.Identity.Name)
		}
		url, err := r.BaseURL.Expand(stream.Vars{Minor: def.Version.String(), Stream: def.Identity.Name})
		if err != nil {
			return nil, ui.Usagef("repository %s of stream %s: %w", r.Name, def.Identity.Name, err)
		}
		spec.Repositories = append(spec.Repositories, container.NodeRepository{Name: r.Name, URL: url, GPGKey: r.GPGKey, Include: r.Include, Exclude: r.Exclude})
	}
	return spec, spec.Check()
}

// nodeBuild keeps what it built in folders of its own, since what is installed from
// the network may be other the next day, and a run that goes on needs the same.
type nodeBuild struct {
	spec         *container.NodeSpec
	context, dir string
	builder      *buildah.Builder
	id           string
}

// identity changes with the spec and with any file of the build context, but for
// those of git.
func (b *nodeBuild) identity() (string, error) {
	spec := *b.spec
	spec.Base, spec.Version = placeholderBase, placeholderVersion
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(&spec); err != nil {
		return "", err
	}
	err := filepath.WalkDir(b.context, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		name, err := filepath.Rel(b.context, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %s %d\n", filepath.ToSlash(name), info.Mode(), info.Size())
		switch {
		case info.Mode().IsRegular():
			file, err := os.Open(path)
			if err != nil {
				return err
			}
			_, err = io.Copy(h, file)
			return errors.Join(err, file.Close())
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			fmt.Fprintf(h, "%q\n", target)
			return err
		}
		return nil
	})
	return "buildah-" + hex.EncodeToString(h.Sum(nil)[:8]), err
}

// build is for [daily.Options].
func (b *nodeBuild) build(ctx context.Context, base v1.Image) (node, extensions v1.Image, err error) {
	digest, err := base.Digest()
	if err != nil {
		return nil, nil, err
	}
	kept := filepath.Join(b.dir, b.id+"-"+digest.Hex[:16])
	if _, err := os.Stat(kept); err == nil {
		return readKept(kept)
	}
	if err := b.make(ctx, base, kept); err != nil {
		return nil, nil, err
	}
	return readKept(kept)
}

// The layouts in a folder of kept images.
const (
	keptNode       = "node"
	keptExtensions = "extensions"
)

func readKept(dir string) (node, extensions v1.Image, err error) {
	if node, err = readLayout(filepath.Join(dir, keptNode)); err != nil {
		return nil, nil, err
	}
	if extensions, err = readLayout(filepath.Join(dir, keptExtensions)); errors.Is(err, fs.ErrNotExist) {
		return node, nil, nil
	}
	return node, extensions, err
}

func readLayout(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(m.Manifests) != 1 {
		return nil, fmt.Errorf("%s: %d images, not one", dir, len(m.Manifests))
	}
	return index.Image(m.Manifests[0].Digest)
}

// make builds into a folder that is there when all is.
func (b *nodeBuild) make(ctx context.Context, base v1.Image, kept string) (err error) {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(b.dir, "tmp-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	cache, err := container.OpenCache(ctx, filepath.Join(work, "cache"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	i, err := container.Inspect(ctx, base)
	if err != nil {
		return err
	}
	spec := *b.spec
	spec.Base, spec.Version, spec.Created = placeholderBase, semantic(i.Version), i.Created
	scratch := filepath.Join(work, "build")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		return err
	}
	node, extensions, err := container.BuildNode(ctx, cache, base, &spec, &container.BuildNodeOptions{Context: b.context, Dir: scratch, Build: b.builder.Build})
	if err != nil {
		return err
	}
	out := filepath.Join(work, "out")
	for name, img := range map[string]v1.Image{keptNode: node, keptExtensions: extensions} {
		if img == nil {
			continue
		}
		to, err := layout.Write(filepath.Join(out, name), empty.Index)
		if err != nil {
			return err
		}
		if err := to.AppendImage(img); err != nil {
			return err
		}
	}
	// Those of earlier builds are in the registry.
	earlier, err := filepath.Glob(filepath.Join(b.dir, "buildah-*"))
	if err != nil {
		return err
	}
	for _, dir := range earlier {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return os.Rename(out, kept)
}

// semantic makes a semantic version of Fedora CoreOS' four numbers.
func semantic(version string) string {
	if v, err := stream.ParseVersion(version); err == nil && v.Scheme == stream.SchemeFCOS {
		return version[:strings.LastIndexByte(version, '.')]
	}
	return version
}
