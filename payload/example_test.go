package payload_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/okd-project/okd-streams/payload"
)

// shelf is the least that images can be read from; a publish.Registry is more.
type shelf map[string]v1.Image

func (s shelf) Head(context.Context, name.Reference) (*v1.Descriptor, error) {
	return nil, fs.ErrNotExist // no tags here
}

func (s shelf) Image(_ context.Context, ref name.Reference) (v1.Image, error) {
	if img, ok := s[ref.Identifier()]; ok {
		return img, nil
	}
	return nil, fs.ErrNotExist
}

func (s shelf) Index(context.Context, name.Reference) (v1.ImageIndex, error) {
	return nil, fs.ErrNotExist // no indexes either
}

// put makes an image of one layer with these files and gives its reference.
func (s shelf) put(labels map[string]string, files ...string) name.Reference {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Size: int64(len(files[i+1])), ModTime: time.Unix(1700000000, 0)})
		_, _ = io.WriteString(tw, files[i+1])
	}
	_ = tw.Close()
	layer, _ := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	img, _ := mutate.AppendLayers(empty.Image, layer)
	img, _ = mutate.Config(img, v1.Config{Labels: labels})
	digest, _ := img.Digest()
	s[digest.String()] = img
	ref, _ := name.NewDigest("registry.example.com/okd/content@" + digest.String())
	return ref
}

// sampleSpec describes a release of two components.
func sampleSpec() (shelf, *payload.Spec) {
	images := shelf{}
	spec := &payload.Spec{
		Version: "4.20.0-okd-scos.1",
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Components: map[string]name.Reference{
			"cluster-version-operator": images.put(nil, "usr/bin/cluster-version-operator", "…"),
			"example-operator": images.put(map[string]string{payload.LabelOperator: "true"},
				"manifests/10_deployment.yaml", "kind: Deployment\napiVersion: apps/v1\nimage: example.org/placeholder\nversion: 0.0.1-snapshot\n",
				"manifests/image-references", "kind: ImageStream\napiVersion: image.openshift.io/v1\nspec:\n  tags:\n  - name: example-operator\n    from: {kind: DockerImage, name: example.org/placeholder}\n"),
		},
		Previous: []string{"4.20.0-okd-scos.0"},
	}
	return images, spec
}

func ExampleAssemble() {
	images, spec := sampleSpec()
	built, err := payload.Assemble(context.Background(), images, spec, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, tag := range built.References.Tags {
		fmt.Println(tag.Name)
	}
	fmt.Println(built.Metadata.Version, built.Metadata.Previous, built.Manifests, "manifest")
	// Output:
	// cluster-version-operator
	// example-operator
	// 4.20.0-okd-scos.1 [4.20.0-okd-scos.0] 1 manifest
}

func ExampleOpen() {
	images, spec := sampleSpec()
	built, err := payload.Assemble(context.Background(), images, spec, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	images[built.Digest.String()] = built.Image
	ref, err := name.NewDigest("registry.example.com/okd/release@" + built.Digest.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	release, err := payload.Open(context.Background(), images, ref, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(release.Version())
	for file := range release.Manifests() {
		fmt.Println(file)
	}
	image, err := release.Image("example-operator")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(image.Context())
	// Output:
	// 4.20.0-okd-scos.1
	// 0000_50_example-operator_10_deployment.yaml
	// registry.example.com/okd/content
}

func ExampleDecodeImageStream() {
	stream, err := payload.DecodeImageStream([]byte(`
kind: ImageStream
apiVersion: image.openshift.io/v1
metadata:
  name: scos-4.20
spec:
  tags:
  - name: cli
    from:
      kind: DockerImage
      name: quay.io/okd/scos-content@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(stream.Name, len(stream.Tags), stream.Tag("cli").Kind)
	// Output: scos-4.20 1 DockerImage
}

func ExampleDecodeMetadata() {
	m, err := payload.DecodeMetadata([]byte(`{"kind":"cincinnati-metadata-v0","version":"4.20.0-okd-scos.1","previous":["4.20.0-okd-scos.0"],"metadata":{"url":"https://example.com"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Version, m.Previous, m.Metadata["url"])
	// Output: 4.20.0-okd-scos.1 [4.20.0-okd-scos.0] https://example.com
}

func ExampleParseVersions() {
	versions, err := payload.ParseVersions("machine-os=9.0.20260101-0,kubernetes=1.33.4", "machine-os=CentOS Stream CoreOS")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(versions["machine-os"].DisplayName, versions["machine-os"].Version)
	fmt.Println(payload.FormatVersions(versions))
	// Output:
	// CentOS Stream CoreOS 9.0.20260101-0
	// kubernetes=1.33.4,machine-os=9.0.20260101-0 machine-os=CentOS Stream CoreOS
}

func ExampleOpenFolder() {
	// As unpacked from a release image, or written by `oc adm release extract`.
	folder := fstest.MapFS{
		"release-manifests/image-references": {Data: []byte(`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"4.20.0-okd-scos.1"}}`)},
		"release-manifests/release-metadata": {Data: []byte(`{"kind":"cincinnati-metadata-v0","version":"4.20.0-okd-scos.1","previous":[]}`)},
		"release-manifests/0000_10_a.yaml":   {Data: []byte("kind: Namespace\n")},
	}
	release, err := payload.OpenFolder(context.Background(), folder)
	if err != nil {
		fmt.Println(err)
		return
	}
	for file := range release.Manifests() {
		fmt.Println(release.Version(), file)
	}
	// Output: 4.20.0-okd-scos.1 0000_10_a.yaml
}

// A mirror that somebody carried along as one archive.
func ExampleFolder() {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "v2/openshift/release/manifests/"})
	_ = tw.Close()
	archive, err := payload.Archive(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	images, err := payload.Folder(archive)
	if err != nil {
		fmt.Println(err)
		return
	}
	ref, err := name.NewTag("localhost/openshift/release:4.20.0-okd-scos.1-x86_64")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = payload.Open(context.Background(), images, ref, nil)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output: true
}

func ExampleArchive() {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./oci-layout", Size: 2})
	_, _ = io.WriteString(tw, "{}")
	_ = tw.Close()
	archive, err := payload.Archive(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := fs.ReadFile(archive, "oci-layout")
	fmt.Println(string(data), err)
	// Output: {} <nil>
}

// sampleFolder is a payload in a folder.
func sampleFolder() *payload.Release {
	release, err := payload.OpenFolder(context.Background(), fstest.MapFS{
		"image-references": {Data: []byte(`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"4.20.0-okd-scos.1"},"spec":{"tags":[
			{"name":"cli","annotations":{"io.openshift.build.versions":"kubectl=1.33.4","io.openshift.build.version-display-names":"kubectl=Client"},"from":{"kind":"DockerImage","name":"registry.example.com/okd/content@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}}]}}`)},
		"release-metadata":   {Data: []byte(`{"kind":"cincinnati-metadata-v0","version":"4.20.0-okd-scos.1","previous":["4.20.0-okd-scos.0"]}`)},
		"0000_10_cli_a.yaml": {Data: []byte("kind: Namespace\napiVersion: v1\nmetadata:\n  name: a\n  annotations:\n    include.release.openshift.io/self-managed-high-availability: \"true\"\n")},
		"0000_10_cli_b.yaml": {Data: []byte("kind: Namespace\napiVersion: v1\nmetadata:\n  name: b\n  annotations:\n    include.release.openshift.io/self-managed-high-availability: \"true\"\n    release.openshift.io/feature-set: TechPreviewNoUpgrade\n")},
		"0000_10_cli_readme": {Data: []byte("not loaded")},
	})
	if err != nil {
		panic(err)
	}
	return release
}

func ExampleRelease_WriteText() {
	if err := sampleFolder().WriteText(os.Stdout, &payload.TextOptions{View: payload.ViewPullspecs}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// Name:           4.20.0-okd-scos.1
	// Manifests:      2
	// Metadata files: 1
	//
	// Release Metadata:
	//   Version:  4.20.0-okd-scos.1
	//   Upgrades: 4.20.0-okd-scos.0
	//
	// Component Versions:
	//   kubectl 1.33.4 Client
	//
	// Images:
	//   NAME PULL SPEC
	//   cli  registry.example.com/okd/content@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
}

func ExampleRelease_WriteContents() {
	var buf bytes.Buffer
	if err := sampleFolder().WriteContents(context.Background(), &buf); err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.Lines(buf.String()) {
		if strings.HasPrefix(line, "# ") {
			fmt.Print(line)
		}
	}
	// Output:
	// # image-references
	// # release-metadata
	// # 0000_10_cli_a.yaml
	// # 0000_10_cli_b.yaml
	// # 0000_10_cli_readme
}

// What a cluster would apply, and why not the rest.
func ExampleCluster_Includes() {
	cluster := &payload.Cluster{FeatureSet: "Default"}
	for object, err := range sampleFolder().Objects(context.Background()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		var not *payload.Exclusion
		if errors.As(cluster.Includes(object), &not) {
			fmt.Printf("%s: %s\n", object, not.Reason)
			continue
		}
		fmt.Printf("%s (%s:%d)\n", object, object.File, object.Line)
	}
	// Output:
	// Namespace a (0000_10_cli_a.yaml:1)
	// Namespace b: release.openshift.io/feature-set=TechPreviewNoUpgrade does not have Default
}

func ExampleSizes() {
	layer := func(size int64, digit string) v1.Descriptor {
		return v1.Descriptor{Size: size, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(digit, 64)}}
	}
	sizes, total, layers := payload.Sizes([]payload.ComponentImage{
		{Tag: "cli", Layers: []v1.Descriptor{layer(100, "a"), layer(10, "b")}},
		{Tag: "installer", Layers: []v1.Descriptor{layer(100, "a"), layer(20, "c")}},
	})
	for _, s := range sizes {
		fmt.Println(s.Tag, s.Total, s.Unique)
	}
	fmt.Println(total, layers)
	// Output:
	// cli 110 10
	// installer 120 20
	// 130 3
}

func ExampleComparePackages() {
	from := []payload.Package{{Name: "kernel", Version: "6.12.0", Release: "1.el10"}, {Name: "bash", Version: "5.2", Release: "6"}}
	to := []payload.Package{{Name: "kernel", Version: "6.12.0", Release: "2.el10"}, {Name: "bash", Version: "5.2", Release: "6"}}
	fmt.Println(payload.ComparePackages(from, to).Changed)
	// Output: map[kernel:{6.12.0-1.el10 6.12.0-2.el10}]
}

func ExampleRelease_Components() {
	images, spec := sampleSpec()
	spec.Components["stream-coreos"] = images.put(map[string]string{"io.openshift.metalayer": "true"},
		"usr/share/openshift/base/meta.json", `{"rpmdb.pkglist":[["kernel","0","6.12.0","1.el10","x86_64"]]}`)
	spec.Components["stream-coreos-extensions"] = images.put(nil, "usr/share/rpm-ostree/extensions.json", "{}")
	built, err := payload.Assemble(context.Background(), images, spec, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	images[built.Digest.String()] = built.Image
	ref, err := name.NewDigest("registry.example.com/okd/release@" + built.Digest.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	release, err := payload.Open(context.Background(), images, ref, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	components, err := release.Components(context.Background(), images, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range components {
		fmt.Println(c.Tag, len(c.Layers))
	}
	packages, err := release.Packages(context.Background(), images, nil)
	fmt.Println(packages, err)
	// Output:
	// cluster-version-operator 1
	// example-operator 1
	// stream-coreos 1
	// stream-coreos-extensions 1
	// [kernel-6.12.0-1.el10] <nil>
}

func ExampleDecodeMapping() {
	images, err := payload.DecodeMapping([]byte("# what to put in\ncli registry.example.com/okd/cli:dev\ninstaller=registry.example.com/okd/installer:dev\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(images), images["cli"])
	// Output: 2 registry.example.com/okd/cli:dev
}

// taggedFolder is a payload with one component.
func taggedFolder(version, digit, commit string) *payload.Release {
	release, err := payload.OpenFolder(context.Background(), fstest.MapFS{
		"image-references": {Data: []byte(`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"` + version + `","creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"tags":[
			{"name":"cli","annotations":{"io.openshift.build.source-location":"https://github.com/openshift/oc","io.openshift.build.commit.id":"` + commit + `"},
			"from":{"kind":"DockerImage","name":"registry.example.com/okd/content@sha256:` + strings.Repeat(digit, 64) + `"}}]}}`)},
		"release-metadata": {Data: []byte(`{"kind":"cincinnati-metadata-v0","version":"` + version + `","previous":["4.20.0-okd-scos.1"]}`)},
	})
	if err != nil {
		panic(err)
	}
	return release
}

func ExampleCompare() {
	d := payload.Compare(taggedFolder("4.20.0-okd-scos.1", "1", "1111111"), taggedFolder("4.20.0-okd-scos.2", "2", "2222222"))
	if err := d.WriteText(os.Stdout, nil); err != nil {
		fmt.Println(err)
	}
	// Output:
	//           FROM                  TO
	// Name:     4.20.0-okd-scos.1     4.20.0-okd-scos.2
	// Created:  2026-01-02T03:04:05Z  2026-01-02T03:04:05Z
	//
	// Version:       4.20.0-okd-scos.1  4.20.0-okd-scos.2
	// Upgrade From:                     Yes
	//
	// Images Changed:
	//   cli sha256:1111111111111111111111111111111111111111111111111111111111111111 sha256:2222222222222222222222222222222222222222222222222222222222222222
}

// clones answers what git would: the caller decides how it is asked.
type clones map[string]string

func (c clones) Log(_ context.Context, location, from, to string) ([]payload.Commit, error) {
	args, err := payload.GitLogArguments(from, to) // for exec.CommandContext(ctx, "git", …)
	if err != nil {
		return nil, err
	}
	return payload.DecodeGitLog([]byte(c[location+" "+args[len(args)-2]]))
}

func ExampleNewChangeLog() {
	from, to := taggedFolder("4.20.0-okd-scos.1", "1", "1111111"), taggedFolder("4.20.0-okd-scos.2", "2", "2222222")
	history := clones{"https://github.com/openshift/oc 1111111..2222222": "2222222\n1111111 3333333\n1767323045\nMerge pull request #7 from somebody/branch\n\nOCPBUGS-1: help is shorter\n"}
	log, err := payload.NewChangeLog(context.Background(), from, to, &payload.ChangeLogOptions{History: history})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range log.Updated {
		for _, c := range r.Changes {
			fmt.Println(r.Images, c.Issues, c.Subject, c.Pull)
		}
	}
	// Output: [cli] [OCPBUGS-1] help is shorter 7
}

func ExampleRelease_Extract() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	// What a cluster would apply, as oc writes it.
	n, err := sampleFolder().Extract(context.Background(), dir, &payload.FilesOptions{Normalised: true, Cluster: &payload.Cluster{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := os.ReadFile(filepath.Join(dir, "0000_10_cli_a.yaml"))
	fmt.Println(n, err)
	fmt.Print(string(data))
	// Output:
	// 1 <nil>
	// ---
	// apiVersion: v1
	// kind: Namespace
	// metadata:
	//   annotations:
	//     include.release.openshift.io/self-managed-high-availability: "true"
	//   name: a
}

func ExampleRelease_Files() {
	for file, err := range sampleFolder().Files(context.Background(), nil) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(file.Name)
	}
	// Output:
	// image-references
	// release-metadata
	// 0000_10_cli_a.yaml
	// 0000_10_cli_b.yaml
	// 0000_10_cli_readme
}

func ExampleRelease_Tools() {
	images, spec := sampleSpec()
	spec.Components["cli"] = images.put(nil, "usr/bin/oc", "\x00_RELEASE_VERSION_LOCATION_\x00"+strings.Repeat("X", 64)+"\x00")
	built, err := payload.Assemble(context.Background(), images, spec, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	images[built.Digest.String()] = built.Image
	ref, err := name.NewDigest("registry.example.com/okd/release@" + built.Digest.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	release, err := payload.Open(context.Background(), images, ref, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	set, err := release.Tools(context.Background(), images, dir, &payload.ToolsOptions{OS: []string{"linux"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, tool := range set.Tools {
		fmt.Println(tool.File, tool.Command, tool.Warnings)
	}
	// Output: openshift-client-linux-4.20.0-okd-scos.1.tar.gz oc []
}

// What to ask git for in a clone, and what it answers.
func ExampleDecodeGitLog() {
	args, err := payload.GitLogArguments("1111111", "2222222")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(args[len(args)-2]) // for exec.CommandContext(ctx, "git", args...)
	commits, err := payload.DecodeGitLog([]byte("2222222\n1111111\n1767323045\nhelp is shorter (#7)\n\x00"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(commits[0].ID, commits[0].Merge, commits[0].Time)
	// Output:
	// 1111111..2222222
	// 2222222 false 2026-01-02 03:04:05 +0000 UTC
}

// A release of manifests in a folder: of the images only the one to start from
// is read.
func ExampleAssemble_folder() {
	images := shelf{}
	base := images.put(nil, "usr/bin/cluster-version-operator", "x")
	built, err := payload.Assemble(context.Background(), images, &payload.Spec{
		Version: "4.20.0-okd-scos.1", Created: time.Unix(1700000000, 0),
		Folder: fstest.MapFS{
			"image-references":     {Data: []byte(`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","spec":{"tags":[{"name":"cluster-version-operator","from":{"kind":"DockerImage","name":"` + base.Name() + `"}}]}}`)},
			"my-operator/ns.yaml":  {Data: []byte("kind: Namespace\napiVersion: v1\nmetadata:\n  name: mine\n")},
			"my-operator/map.yaml": {Data: []byte("kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: mine\n")},
		},
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(built.Manifests, built.Warnings)
	// Output:
	// 2 [component my-operator: image-references has no image for its manifests]
}

func ExampleRelease_Sources() {
	list, unknown := sampleFolder().Sources()
	fmt.Println(len(list), unknown)
	// Output:
	// 0 [cli]
}

// What an update enables by itself in a cluster with the capability Console.
func ExampleCluster_ImplicitCapabilities() {
	cluster := &payload.Cluster{Capabilities: []string{"Console"}}
	list, err := cluster.ImplicitCapabilities(context.Background(), sampleFolder(), sampleFolder())
	fmt.Println(list, err)
	// Output:
	// [] <nil>
}

// The packages of the node images of two releases, as a gate: here the same
// release twice.
func ExampleCompareOS() {
	release := sampleFolder()
	changes, err := payload.CompareOS(context.Background(), shelf{}, release, release, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range changes {
		if err := c.Err(); err != nil {
			fmt.Println("held back:", err)
		}
	}
	fmt.Println(len(changes), "node images changed")
	// Output:
	// 0 node images changed
}

func ExampleRelease_EnabledGates() {
	gates, err := sampleFolder().EnabledGates(context.Background(), &payload.Cluster{FeatureSet: "TechPreviewNoUpgrade"})
	fmt.Println(gates, err)
	// Output:
	// [] <nil>
}
