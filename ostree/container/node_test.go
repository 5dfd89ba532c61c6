package container_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/ostree/container"
)

const nodeStreamClass = "io.openshift.os.streamclass"

const nodeBase = "quay.io/okd/scos-base@sha256:0000000000000000000000000000000000000000000000000000000000000001"

// nodeSpecs are specs of all kinds, by the names of their golden files.
func nodeSpecs() map[string]*container.NodeSpec {
	full := func(manager container.PackageManager) *container.NodeSpec {
		return &container.NodeSpec{
			Base: nodeBase, Version: "9.0.20261126-0", DisplayName: "CentOS Stream CoreOS", OpenShift: "4.22", StreamClass: "centos-9", Linux: "5.14.0-600.el9.x86_64",
			Source: "https://github.com/openshift/os", Commit: "1e19a0bee0cb4abfdbdf3cd201a450ae5cd20a48", Ref: "release-4.22",
			Created: time.Unix(1795608000, 0).UTC(), Labels: map[string]string{"com.coreos.stream": "okd-scos-next", "io.example.note": `a "b" $c \d`},
			Args: map[string]string{"OPENSHIFT_CI": "0", "NOTE": `$x "y" \z`}, Manager: manager, Packages: []string{"cri-o", "openshift-kubelet", "openvswitch3.5"},
			PackageDir: "rpms", Files: "overlay", Script: "finish.sh",
			Extensions: []container.NodeExtension{
				{Name: "usbguard", Packages: []string{"usbguard"}},
				{Name: "kernel-rt", Packages: []string{"kernel-rt-core", "kernel-rt-devel"}, Architectures: []string{"x86_64", "aarch64"}, MatchVersion: "kernel"},
			}, ExtensionDir: "extra",
		}
	}
	rpmostree, dnf, apt := full(""), full(container.ManagerDNF), full(container.ManagerAPT)
	repositories := []container.NodeRepository{
		{Name: "c9s-baseos", URL: "https://mirror.example.org/9-stream/BaseOS/$basearch/os", GPGKey: "file:///etc/pki/rpm-gpg/RPM-GPG-KEY-centosofficial"},
		{Name: "c9s-nfv", URL: "https://mirror.example.org/SIGs/9-stream/nfv/$basearch", Include: []string{"openvswitch*"}, Exclude: []string{"openvswitch2.17"}},
		{Name: "ose", Secret: true},
	}
	rpmostree.Repositories, dnf.Repositories = repositories, repositories
	dnf.ExtensionsBuilder, dnf.ExtensionsBase = "quay.io/centos/centos:stream9", "registry.example.org/ubi9/ubi:latest"
	return map[string]*container.NodeSpec{
		"rpm-ostree": rpmostree, "dnf": dnf, "apt": apt,
		"files": {Base: nodeBase, Version: "1.0.0", Manager: container.ManagerNone, Files: "root", ExtensionDir: "extensions"},
		"own": {Base: nodeBase, Version: "1.0.0", Containerfile: "os/Containerfile", ExtensionsContainerfile: "os/extensions/Containerfile",
			Args: map[string]string{"OPENSHIFT_CI": "1"}},
		"labels only": {Base: nodeBase, Version: "1.0.0", Manager: container.ManagerDNF},
	}
}

func TestRenderNode(t *testing.T) {
	for name, spec := range nodeSpecs() {
		t.Run(name, func(t *testing.T) {
			node, extensions, err := container.RenderNode(spec)
			require.NoError(t, err)
			requireGoldenFile(t, "node/"+strings.ReplaceAll(name, " ", "-")+".Containerfile", []byte(node))
			requireGoldenFile(t, "node/"+strings.ReplaceAll(name, " ", "-")+".extensions.Containerfile", []byte(extensions))
			for range 5 { // maps have no order
				again, more, err := container.RenderNode(spec)
				require.NoError(t, err)
				require.Equal(t, node+extensions, again+more)
			}
			// What is in JSON is the same spec.
			data, err := json.Marshal(spec)
			require.NoError(t, err)
			decoded, err := container.DecodeNodeSpec(bytes.NewReader(data))
			require.NoError(t, err)
			require.Equal(t, spec, decoded)
		})
	}
}

func TestNodeSpecCheck(t *testing.T) {
	for _, tc := range []struct {
		change func(*container.NodeSpec)
		want   string
	}{
		{func(n *container.NodeSpec) { n.Base = "" }, "container: node base: is missing: invalid argument"},
		{func(n *container.NodeSpec) { n.Base = "a b" }, `node base: "a b" is not of the form`},
		{func(n *container.NodeSpec) { n.Version = "" }, "node version: is missing"},
		{func(n *container.NodeSpec) { n.Version = "42.20261126.3.0" }, `node version: "42.20261126.3.0" is not of the form`},
		{func(n *container.NodeSpec) { n.DisplayName = "x,y=z" }, "node displayName"},
		{func(n *container.NodeSpec) { n.OpenShift = "4.22\"; rm -rf /" }, "node openshift"},
		{func(n *container.NodeSpec) { n.StreamClass = "a\nb" }, "node streamClass"},
		{func(n *container.NodeSpec) { n.Commit = "$(x)" }, "node commit"},
		{func(n *container.NodeSpec) { n.Packages = []string{"a", "b;c"} }, `node packages[1]: "b;c" is not of the form`},
		{func(n *container.NodeSpec) { n.Packages = []string{"-y"} }, "node packages[0]"},
		{func(n *container.NodeSpec) { n.Packages = []string{""} }, "node packages[0]: is missing"},
		{func(n *container.NodeSpec) { n.Files = "../x" }, "node files"},
		{func(n *container.NodeSpec) { n.Files = "a/../../x" }, "node files: \"a/../../x\" is not a plain path"},
		{func(n *container.NodeSpec) { n.Script = "/bin/sh" }, "node script"},
		{func(n *container.NodeSpec) { n.PackageDir = "a//b" }, "node packageDir"},
		{func(n *container.NodeSpec) { n.Labels = map[string]string{"containers.bootc": "1"} }, "node labels[containers.bootc]: is made of other fields"},
		{func(n *container.NodeSpec) { n.Labels = map[string]string{"ostree.commit": "1"} }, "is made of other fields"},
		{func(n *container.NodeSpec) { n.Labels = map[string]string{"a b": "1"} }, "node labels[a b] key"},
		{func(n *container.NodeSpec) { n.Labels = map[string]string{"a": "1\nRUN x"} }, "node labels[a]: \"1\\nRUN x\" has control characters"},
		{func(n *container.NodeSpec) { n.Args = map[string]string{"BASE": "x"} }, "node args[BASE]: is an argument of every node image"},
		{func(n *container.NodeSpec) { n.Args = map[string]string{"a-b": "x"} }, "node args[a-b] key"},
		{func(n *container.NodeSpec) { n.Args = map[string]string{"a": "\xff"} }, "node args[a]"},
		{func(n *container.NodeSpec) { n.Manager = "yum" }, `node manager: is "yum", want one of rpm-ostree, dnf, apt, none: unsupported operation`},
		{func(n *container.NodeSpec) { n.Manager = container.ManagerNone; n.Packages = []string{"a"} }, "none installs no packages"},
		{func(n *container.NodeSpec) {
			n.Manager = container.ManagerAPT
			n.Repositories = []container.NodeRepository{{Name: "a", URL: "https://x"}}
		}, "node repositories: are for RPM packages"},
		{func(n *container.NodeSpec) { n.Repositories = []container.NodeRepository{{Name: "a]"}} }, "node repositories[0].url: is missing"},
		{func(n *container.NodeSpec) { n.Repositories = []container.NodeRepository{{Name: "a", URL: "x'y"}} }, "node repositories[0].url"},
		{func(n *container.NodeSpec) {
			n.Repositories = []container.NodeRepository{{Name: "a", Secret: true}, {Name: "a", Secret: true, URL: "https://x"}}
		}, `node repositories[1].name: "a" occurs twice`},
		{func(n *container.NodeSpec) {
			n.Repositories = []container.NodeRepository{{Name: "a", Secret: true, URL: "https://x"}}
		}, "the other fields must be empty"},
		{func(n *container.NodeSpec) { n.Extensions = []container.NodeExtension{{Name: "a"}} }, "node extensions[0].packages: there are none"},
		{func(n *container.NodeSpec) {
			n.Extensions = []container.NodeExtension{{Name: "a", Packages: []string{"`x`"}, MatchVersion: "a b"}}
		}, "node extensions[0].matchVersion"},
		{func(n *container.NodeSpec) { n.Containerfile = "x"; n.Script = "y" }, "node containerfile: says already what is installed"},
		{func(n *container.NodeSpec) { n.ExtensionsContainerfile = "x"; n.ExtensionDir = "y" }, "node extensionsContainerfile: says already"},
		{func(n *container.NodeSpec) { n.Created = time.Unix(-5, 0) }, "node created"},
	} {
		spec := &container.NodeSpec{Base: nodeBase, Version: "1.0.0"}
		require.NoError(t, spec.Check())
		tc.change(spec)
		require.ErrorContains(t, spec.Check(), tc.want)
		_, _, err := container.RenderNode(spec)
		require.ErrorContains(t, err, tc.want)
	}
}

func TestDecodeNodeSpecRefuses(t *testing.T) {
	for _, tc := range [][2]string{
		{`{"base":"x","version":"1.0.0","pakages":[]}`, `unknown field "pakages"`},
		{`{"base":"x","version":"1.0.0"} {}`, "something follows the document"},
		{`{"base":"x"`, "unexpected EOF"},
		{`{}`, "node base: is missing"},
		{`{"base":"x","version":"1.0.0","labels":{"a":"` + strings.Repeat("x", container.MaxNodeSpecSize) + `"}}`, "more than 1048576 bytes"},
	} {
		_, err := container.DecodeNodeSpec(strings.NewReader(tc[0]))
		require.ErrorContains(t, err, tc[1])
	}
}

// What is rendered has the lines that the spec asks for and no others, whatever is
// in the spec.
func FuzzDecodeNodeSpec(f *testing.F) {
	docs := []string{`{"base":"x","version":"1.0.0","labels":{"a":"\u2028\"$(x)"}}`}
	for _, spec := range nodeSpecs() {
		data, err := json.Marshal(spec)
		require.NoError(f, err)
		docs = append(docs, string(data))
	}
	mutants.Add(f, docs...)
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := fuzzbound.Read(t, 512, container.DecodeNodeSpec, data)
		if err != nil {
			return
		}
		again, err := json.Marshal(spec)
		require.NoError(t, err)
		decoded, err := container.DecodeNodeSpec(bytes.NewReader(again))
		require.NoError(t, err)
		node, extensions, err := container.RenderNode(spec)
		require.NoError(t, err)
		node2, extensions2, err := container.RenderNode(decoded)
		require.NoError(t, err)
		require.Equal(t, node+extensions, node2+extensions2)
		continued := false
		for line := range strings.Lines(node + extensions) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); !continued {
				require.Contains(t, []string{"", "#", "ARG", "FROM", "COPY", "RUN", "LABEL"}, word)
			}
			continued = strings.HasSuffix(line, "\\\n")
		}
	})
}

// nodePair is a base image, a node image of it, and its extensions.
func nodePair(t testing.TB) (base, node, extensions v1.Image) {
	t.Helper()
	base = inspectImage(t, "bash 5.2-1", "sed 4.9-1")
	node = relabel(t, derive(t, base, "usr/bin/kubelet=1", metaList), map[string]string{
		container.LabelVersions: "machine-os=9.1.0", container.LabelMetaLayer: "true", nodeStreamClass: "centos-9", "com.coreos.stream": "next",
	})
	extensions = imageOf(t, layerOf(t, archive(t, `usr/share/rpm-ostree/extensions.json={"kernel-devel": "6.12.0-1.el10.x86_64", "usbguard": "1.0-1.el10.x86_64"}`)))
	extensions = relabel(t, withPlatform(t, extensions, "amd64"), map[string]string{
		container.LabelExtensions: "true", container.LabelVersion: "9.1.0", nodeStreamClass: "centos-9", "com.coreos.stream": "next",
	})
	return base, node, extensions
}

func TestCheckNode(t *testing.T) {
	base, node, extensions := nodePair(t)
	require.NoError(t, container.CheckNode(t.Context(), base, node, extensions))
	require.NoError(t, container.CheckNode(t.Context(), nil, node, nil))
	require.NoError(t, container.CheckNode(t.Context(), base, node, relabel(t, extensions, map[string]string{container.LabelVersion: "", "com.coreos.stream": ""})))
	set := func(img v1.Image, key, value string) v1.Image { return relabel(t, img, map[string]string{key: value}) }
	kernels := relabel(t, withPlatform(t, imageOf(t, layerOf(t, archive(t,
		`usr/share/rpm-ostree/extensions.json={"kernel-devel": "6.12.0-2.el10.x86_64", "kernel-rt-core": "0:6.12.0-1.el10.x86_64", "kernel-tools": "1-1.x86_64"}`))), "amd64"),
		map[string]string{container.LabelExtensions: "true", container.LabelVersion: "9.1.0", nodeStreamClass: "centos-9"})
	other := inspectImage(t, "bash 5.2-1", "grep 1-1")
	for name, tc := range map[string]struct {
		base, node, extensions v1.Image
		want                   []string
	}{
		"no version":     {node: set(node, container.LabelVersions, ""), want: []string{`container: node check node image: label io.openshift.build.versions is "", which names no machine-os`}},
		"odd version":    {node: set(node, container.LabelVersions, "machine-os=42.20261126.3.0"), want: []string{`version "42.20261126.3.0" of machine-os is not a semantic version`}},
		"swapped":        {node: extensions, extensions: node, want: []string{"node image: is an extensions image", `extensions image: label io.openshift.os.extensions is "", want "true"`}},
		"no list":        {node: derive(t, node, "usr/x=1"), want: []string{"node image: usr/share/openshift/base/meta.json: must be in the last layer"}},
		"other base":     {base: other, want: []string{"base image: layer 0 has diff ID sha256:", "it was built of another", "label ostree.commit: is"}},
		"base above":     {base: derive(t, node, "usr/x=1"), want: []string{"base image: has", "layers, the node image"}},
		"base's arch":    {base: withPlatform(t, base, "arm64"), want: []string{"base image: is for arm64, the node image for amd64"}},
		"version":        {extensions: set(extensions, container.LabelVersion, "9.2.0"), want: []string{`version: is "9.2.0" of the extensions image (label org.opencontainers.image.version) and "9.1.0" of the node image`}},
		"arch":           {extensions: withPlatform(t, extensions, "arm64"), want: []string{"architecture: is arm64 of the extensions image and amd64 of the node image"}},
		"class":          {extensions: set(extensions, nodeStreamClass, ""), want: []string{`label io.openshift.os.streamclass: is "" in the extensions image and "centos-9" in the node image`}},
		"stream":         {extensions: set(extensions, "com.coreos.stream", "stable"), want: []string{`label com.coreos.stream: is "stable" in the extensions image and "next" in the node image`}},
		"extension list": {extensions: derive(t, extensions, "usr/x=1"), want: []string{"extensions image: usr/share/rpm-ostree/extensions.json: must be in the last layer"}},
		"kernel":         {extensions: kernels, want: []string{"package kernel-devel: is 6.12.0-2.el10 in the extensions image, the node's kernel is 6.12.0-1.el10"}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.node == nil {
				tc.node = node
			}
			err := container.CheckNode(t.Context(), tc.base, tc.node, tc.extensions)
			require.Error(t, err)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
			if name == "kernel" {
				require.NotContains(t, err.Error(), "kernel-rt-core", "an epoch of 0 is none")
				require.NotContains(t, err.Error(), "kernel-tools")
			}
			for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
				fault, ok := errors.AsType[*container.Error](e)
				require.True(t, ok)
				require.Equal(t, "node check", fault.Op)
			}
		})
	}
}

// packer stands for a builder: it packs the base image's layers anew and puts one
// more on top.
type packer struct {
	t      *testing.T
	files  []string // in the notation of archive
	builds []container.NodeBuild
	drop   bool // the base
	none   bool // no image
}

func (p *packer) build(_ context.Context, b *container.NodeBuild) error {
	p.builds = append(p.builds, *b)
	to, err := layout.Write(b.Output, empty.Index)
	if err != nil || p.none {
		return err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	labels := map[string]string{}
	if b.From != "" {
		from := importLayout(p.t, b.From)
		config, err := from.ConfigFile()
		require.NoError(p.t, err)
		extensions := strings.HasSuffix(b.Output, "extensions")
		if !p.drop && !extensions {
			layers, err := from.Layers()
			require.NoError(p.t, err)
			for _, l := range layers {
				r, err := l.Uncompressed()
				require.NoError(p.t, err)
				var buf bytes.Buffer
				_, err = buf.ReadFrom(r)
				require.NoError(p.t, err)
				img, err = mutate.AppendLayers(img, layerOf(p.t, buf.Bytes()))
				require.NoError(p.t, err)
			}
		}
		if !extensions {
			for k, v := range config.Config.Labels {
				labels[k] = v
			}
		}
	}
	data, err := os.ReadFile(b.Containerfile)
	require.NoError(p.t, err)
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.Trim(line, " \\\n"), `="`); ok {
			labels[key] = strings.TrimSuffix(value, `"`)
		}
	}
	for _, l := range b.Labels {
		key, value, _ := strings.Cut(l, "=")
		labels[key] = value
	}
	img = relabel(p.t, withPlatform(p.t, derive(p.t, img, p.files...), "amd64"), labels)
	return to.AppendImage(img)
}

func TestBuildNode(t *testing.T) {
	base := inspectImage(t, "bash 5.2-1", "sed 4.9-1")
	context, cache := t.TempDir(), openCache(t, t.TempDir())
	require.NoError(t, os.WriteFile(filepath.Join(context, "Own"), []byte("FROM x\n"), 0o600))
	spec := &container.NodeSpec{Base: nodeBase, Version: "9.1.0", Manager: container.ManagerNone, Files: "root", Args: map[string]string{"B": "2", "A": "1"}, Created: time.Unix(1795608000, 0)}
	build := func(spec *container.NodeSpec, p *packer) (node, extensions v1.Image, err error) {
		p.t = t
		return container.BuildNode(t.Context(), cache, base, spec, &container.BuildNodeOptions{Context: context, Dir: t.TempDir(), Build: p.build})
	}
	p := &packer{files: []string{"usr/bin/kubelet=1"}}
	node, extensions, err := build(spec, p)
	require.NoError(t, err)
	require.Nil(t, extensions)
	require.Len(t, p.builds, 1)
	require.Equal(t, []string{"A=1", "B=2"}, p.builds[0].Args)
	require.Empty(t, p.builds[0].Labels, "they are in the Containerfile")
	require.Equal(t, spec.Created, p.builds[0].Created)
	requireValid(t, node)

	// The base's layers are its own, and a list of packages was added.
	want, err := base.Manifest()
	require.NoError(t, err)
	got, err := node.Manifest()
	require.NoError(t, err)
	require.Equal(t, want.Layers, got.Layers[:len(want.Layers)])
	require.Len(t, got.Layers, len(want.Layers)+2)
	layers, err := node.Layers()
	require.NoError(t, err)
	plain, err := layers[len(layers)-1].Uncompressed()
	require.NoError(t, err)
	var archive bytes.Buffer
	_, err = archive.ReadFrom(plain)
	require.NoError(t, err)
	require.Zero(t, archive.Len()%512)
	require.True(t, bytes.HasSuffix(archive.Bytes(), make([]byte, 1024)), "other tools want the end of an archive")
	packages, err := container.Packages(t.Context(), node, nil)
	require.NoError(t, err)
	require.Len(t, packages, 2)
	i, err := container.Inspect(t.Context(), node)
	require.NoError(t, err)
	require.Equal(t, container.KindNode, i.Kind)
	require.Equal(t, "9.1.0", i.MachineOS)
	require.NoError(t, container.Lint(t.Context(), node, nil))

	// How the builder compresses is nothing; the cache, either.
	cache = openCache(t, t.TempDir())
	again, _, err := build(spec, &packer{files: p.files})
	require.NoError(t, err)
	require.Equal(t, digest(t, node), digest(t, again))

	// A list that is there is not made again.
	listed, _, err := build(&container.NodeSpec{Base: nodeBase, Version: "9.1.0", Containerfile: "Own", Labels: map[string]string{"x": "y"}},
		&packer{files: []string{metaList}})
	require.NoError(t, err)
	m, err := listed.Manifest()
	require.NoError(t, err)
	require.Len(t, m.Layers, len(want.Layers)+2, "it was not said to be there")

	spec.ExtensionDir = "ext"
	p = &packer{files: []string{`usr/share/rpm-ostree/extensions.json={}`}}
	node, extensions, err = build(spec, p)
	require.NoError(t, err)
	require.Len(t, p.builds, 2)
	require.NoError(t, container.CheckNode(t.Context(), base, node, extensions))
	requireValid(t, extensions)

	// One's own Containerfiles get labels from outside.
	p = &packer{files: []string{`usr/share/rpm-ostree/extensions.json={}`}}
	_, _, err = build(&container.NodeSpec{Base: nodeBase, Version: "9.1.0", Containerfile: "Own", ExtensionsContainerfile: "Own"}, p)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(context, "Own"), p.builds[0].Containerfile)
	require.Equal(t, []string{"containers.bootc=1", "io.openshift.build.versions=machine-os=9.1.0", "org.opencontainers.image.version=9.1.0"}, p.builds[0].Labels)
	require.Equal(t, []string{"io.openshift.os.extensions=true", "org.opencontainers.image.version=9.1.0"}, p.builds[1].Labels)
	require.Equal(t, filepath.Base(p.builds[1].From), "node-image")
}

func TestBuildNodeRefuses(t *testing.T) {
	base := inspectImage(t, "bash 5.2-1")
	spec := &container.NodeSpec{Base: nodeBase, Version: "9.1.0", Manager: container.ManagerNone, Files: "root"}
	build := func(opts *container.BuildNodeOptions) error {
		_, _, err := container.BuildNode(t.Context(), openCache(t, t.TempDir()), base, spec, opts)
		return err
	}
	require.ErrorContains(t, build(nil), "context, dir and build are needed")
	opts := func(p *packer) *container.BuildNodeOptions {
		p.t = t
		return &container.BuildNodeOptions{Context: t.TempDir(), Dir: t.TempDir(), Build: p.build}
	}
	require.ErrorContains(t, build(opts(&packer{drop: true, files: []string{"usr/x=1"}})), "layer 0 is not that of the base image")
	require.ErrorContains(t, build(opts(&packer{none: true})), "the builder made 0 images, not one")
	failing := opts(&packer{})
	failing.Build = func(context.Context, *container.NodeBuild) error { return fmt.Errorf("no space") }
	require.EqualError(t, build(failing), "container: node image: build: no space")
	wrong := opts(&packer{})
	wrong.Codec = "lzma"
	require.ErrorIs(t, build(wrong), errors.ErrUnsupported)
	spec.Version = "x"
	require.ErrorContains(t, build(opts(&packer{})), "node version")
}
