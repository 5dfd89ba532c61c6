package container_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// inspectSystem is a tree that can be booted, with dpkg's database.
func inspectSystem(packages ...string) map[string]string {
	files := map[string]string{
		"boot/vmlinuz-6.1.0": "kernel", "boot/initrd.img-6.1.0": "initramfs",
		"usr/lib/modules/6.1.0/modules": "x", "usr/lib/os-release": "ID=sample\n", "etc/hosts": "127.0.0.1 localhost\n",
	}
	status := ""
	for _, p := range packages {
		name, version, _ := strings.Cut(p, " ")
		status += "Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n"
		files["usr/share/"+name] = strings.Repeat(name+version, 100)
		files["var/lib/dpkg/info/"+name+".list"] = "/usr/share/" + name + "\n"
	}
	files["var/lib/dpkg/status"] = status
	return files
}

// inspectCommit commits such a tree as the daily build does.
func inspectCommit(t testing.TB, r *ostree.Repo, files map[string]string, metadata ...ostree.MetadataItem) ostree.Checksum {
	t.Helper()
	c, err := r.Commit(t.Context(), ostree.Postprocess(ostree.FS(mapFS(files)), nil), &ostree.CommitOptions{
		Subject: "system", Timestamp: time.Unix(1700000000, 0), NoFsync: true,
		Metadata: append(metadata, ostree.MetadataItem{Key: "version", Value: ostree.StringVariant("9.1")},
			ostree.MetadataItem{Key: "ostree.bootable", Value: ostree.BoolVariant(true)}),
	})
	require.NoError(t, err)
	return c
}

// inspectImage is a base image of packages.
func inspectImage(t testing.TB, packages ...string) v1.Image {
	t.Helper()
	r := newRepo(t)
	c := inspectCommit(t, r, inspectSystem(packages...))
	cache := openCache(t, t.TempDir())
	components, err := container.Components(t.Context(), cache, r, c, nil)
	require.NoError(t, err)
	return encapsulate(t, cache, r, c, &container.EncapsulateOptions{Components: components, MaxLayers: 6, Architecture: "x86_64"})
}

// relabel sets labels of an image, "" removes one.
func relabel(t testing.TB, img v1.Image, labels map[string]string) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	if config.Config.Labels == nil {
		config.Config.Labels = map[string]string{}
	}
	for k, v := range labels {
		if config.Config.Labels[k] = v; v == "" {
			delete(config.Config.Labels, k)
		}
	}
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)
	return img
}

// derive adds a layer as a container build does.
func derive(t testing.TB, img v1.Image, entries ...string) v1.Image {
	t.Helper()
	img, err := mutate.Append(img, mutate.Addendum{
		Layer: layerOf(t, archive(t, entries...)), History: v1.History{CreatedBy: "RUN it", Created: v1.Time{Time: time.Unix(1700001000, 0)}},
	})
	require.NoError(t, err)
	return img
}

const metaList = `usr/share/openshift/base/meta.json={"rpmdb.pkglist":[["kernel","0","6.12.0","1.el10","x86_64"],["cri-o",2,"1.33","3.el10","x86_64"]]}`

func TestInspect(t *testing.T) {
	img := inspectImage(t, "bash 5.2-1", "sed 4.9-1")
	i, err := container.Inspect(t.Context(), img)
	require.NoError(t, err)
	require.Equal(t, container.KindBase, i.Kind)
	require.Equal(t, "system", i.Head.Subject)
	require.Equal(t, "9.1", i.Version)
	require.Empty(t, i.MachineOS)
	require.True(t, i.Bootable)
	require.Equal(t, "amd64", i.Architecture)
	require.Equal(t, time.Unix(1700000000, 0).UTC(), i.Created)
	require.Equal(t, i.Commit.String(), i.Labels[container.LabelCommit])
	require.Nil(t, i.Layers[0].Components)
	require.Equal(t, "system", i.Layers[0].CreatedBy)
	last := i.Layers[len(i.Layers)-1]
	require.Equal(t, []string{}, last.Components)
	require.False(t, last.Derived)

	node := relabel(t, derive(t, img, "usr/bin/kubelet=1"), map[string]string{container.LabelVersions: "other=1.0.0, machine-os=9.1.0"})
	n, err := container.Inspect(t.Context(), node)
	require.NoError(t, err)
	require.Equal(t, container.KindNode, n.Kind)
	require.Equal(t, "9.1.0", n.MachineOS)
	require.Equal(t, i.Commit, n.Commit)
	require.True(t, n.Layers[len(i.Layers)].Derived)
	require.Equal(t, i.Layers, n.Layers[:len(i.Layers)])

	for kind, labels := range map[container.Kind]map[string]string{
		container.KindExtensions: {container.LabelExtensions: "true"},
		container.KindPlain:      {container.LabelBootc: "1"},
		container.KindOther:      {"x": "y"},
	} {
		i, err := container.Inspect(t.Context(), relabel(t, imageOf(t, layerOf(t, archive(t, "a=b"))), labels))
		require.NoError(t, err)
		require.Equal(t, kind, i.Kind)
		require.Nil(t, i.Head)
		require.Len(t, i.Layers, 1)
		require.True(t, i.Layers[0].Derived)
	}
}

func TestInspectRefuses(t *testing.T) {
	img := inspectImage(t, "bash 5.2-1")
	other := strings.Repeat("ab", 32)
	for name, tc := range map[string]struct {
		labels map[string]string
		is     error
		text   string
	}{
		"no such commit": {map[string]string{container.LabelCommit: other}, fs.ErrNotExist, "layer 0: no commit " + other},
		"no checksum":    {map[string]string{container.LabelCommit: "1"}, nil, "label ostree.commit"},
		"no final":       {map[string]string{container.LabelFinalDiffID: ""}, errors.ErrUnsupported, "no label"},
		"other final":    {map[string]string{container.LabelFinalDiffID: "sha256:" + other}, ostree.ErrCorrupt, "not there"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := container.Inspect(t.Context(), relabel(t, img, tc.labels))
			require.ErrorContains(t, err, tc.text)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
			fault, ok := errors.AsType[*container.Error](err)
			require.True(t, ok)
			require.Equal(t, "inspect", fault.Op)
		})
	}
	// A commit of another content under the name.
	hex := strings.Repeat("cd", 32)
	fake := imageOf(t, layerOf(t, archive(t, "sysroot/ostree/repo/objects/cd/"+hex[2:]+".commit=not it")))
	config, err := fake.ConfigFile()
	require.NoError(t, err)
	_, err = container.Inspect(t.Context(), relabel(t, fake, map[string]string{
		container.LabelCommit: hex, container.LabelFinalDiffID: config.RootFS.DiffIDs[0].String(),
	}))
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = container.Inspect(ctx, img)
	require.ErrorIs(t, err, context.Canceled)
}

func TestHistory(t *testing.T) {
	img := derive(t, inspectImage(t, "bash 5.2-1"), "usr/bin/x=1")
	list, err := container.History(img)
	require.NoError(t, err)
	m, err := img.Manifest()
	require.NoError(t, err)
	require.Len(t, list, len(m.Layers))
	require.Equal(t, "system", list[0].CreatedBy)
	require.Equal(t, m.Layers[0].Digest, list[0].Layer.Digest)
	end := list[len(list)-1]
	require.Equal(t, "RUN it", end.CreatedBy)
	require.True(t, end.Layer.Derived)
	require.Equal(t, time.Unix(1700001000, 0).UTC(), end.Created)

	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.History = slices.Insert(config.History, 1, v1.History{CreatedBy: "LABEL x", EmptyLayer: true})
	withEmpty, err := mutate.ConfigFile(img, config)
	require.NoError(t, err)
	list, err = container.History(withEmpty)
	require.NoError(t, err)
	require.Nil(t, list[1].Layer)
	require.Equal(t, m.Layers[1].Digest, list[2].Layer.Digest)

	for text, edit := range map[string]func(c *v1.ConfigFile){
		"entries for":  func(c *v1.ConfigFile) { c.History = c.History[:2] },
		"more entries": func(c *v1.ConfigFile) { c.History = append(c.History, c.History...) },
		"there is":     func(c *v1.ConfigFile) { c.History = nil },
	} {
		c := config.DeepCopy()
		edit(c)
		bad, err := mutate.ConfigFile(img, c)
		require.NoError(t, err)
		_, err = container.History(bad)
		require.ErrorContains(t, err, text)
	}
}

func TestPackages(t *testing.T) {
	base := inspectImage(t, "sed 1:4.9-1", "bash 5.2-1")
	names := func(img v1.Image) (out []string) {
		list, err := container.Packages(t.Context(), img, &container.PackagesOptions{TempDir: t.TempDir()})
		require.NoError(t, err)
		for _, p := range list {
			out = append(out, p.String())
		}
		return out
	}
	// dpkg's database in the layers.
	require.Equal(t, []string{"bash-5.2-1.amd64", "sed-1:4.9-1.amd64"}, names(base))
	// What a layer above changed of it.
	more := derive(t, base, "usr/lib/sysimage/dpkg/status=Package: new\nStatus: install ok installed\nArchitecture: amd64\nVersion: 7\n\n",
		"usr/lib/sysimage/dpkg/info/new.list=/usr/bin/new\n")
	require.Equal(t, []string{"new-7.amd64"}, names(more))
	// OpenShift's list in the last layer, if the label says so.
	node := derive(t, base, "usr/bin/kubelet=1", metaList)
	require.Equal(t, []string{"bash-5.2-1.amd64", "sed-1:4.9-1.amd64"}, names(node))
	node = relabel(t, node, map[string]string{container.LabelMetaLayer: "true"})
	require.Equal(t, []string{"cri-o-2:1.33-3.el10.x86_64", "kernel-6.12.0-1.el10.x86_64"}, names(node))
	require.Equal(t, []string{"bash-5.2-1.amd64", "sed-1:4.9-1.amd64"}, names(derive(t, node, "usr/bin/x=1")))

	// The list that rpm-ostree leaves in the commit, for as long as nothing is
	// added to it.
	r := newRepo(t)
	list, err := ostree.ParseVariant(`[('zlib', '0', '1.3', '2.el10', 'x86_64'), ('bash', '1', '5.2', '1.el10', 'x86_64')]`)
	require.NoError(t, err)
	c := inspectCommit(t, r, inspectSystem("nano 7.2-1"), ostree.MetadataItem{Key: "rpmostree.rpmdb.pkglist", Value: list})
	img := encapsulate(t, openCache(t, t.TempDir()), r, c, nil)
	require.Equal(t, []string{"bash-1:5.2-1.el10.x86_64", "zlib-1.3-2.el10.x86_64"}, names(img))
	require.Equal(t, []string{"nano-7.2-1.amd64"}, names(derive(t, img, "usr/bin/x=1")))

	_, err = container.Packages(t.Context(), imageOf(t, layerOf(t, archive(t, "a=b"))), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for text, list := range map[string]string{
		"no rpmdb.pkglist": `{}`, "package 1 has 2 fields": `{"rpmdb.pkglist":[["a","1"]]}`, "no name": `{"rpmdb.pkglist":[["","0","1","1","x"]]}`,
		"package 1": `{"rpmdb.pkglist":[["a","0",1,"1","x"]]}`, "unexpected end": `{"rpmdb.pkglist":`, "cannot unmarshal": `{"rpmdb.pkglist":[["a",{},"1","1","x"]]}`,
	} {
		bad := relabel(t, derive(t, base, "usr/share/openshift/base/meta.json="+list), map[string]string{container.LabelMetaLayer: "true"})
		_, err := container.Packages(t.Context(), bad, nil)
		require.ErrorContains(t, err, text, list)
	}
}

// rpm's database, a real one.
func TestPackagesOfRPM(t *testing.T) {
	database, err := os.ReadFile(interop.SharedData(t, "rpm", "rpmdb.sqlite"))
	require.NoError(t, err)
	r := newRepo(t)
	c := commit(t, r, map[string]string{"usr/lib/sysimage/rpm/rpmdb.sqlite": string(database)})
	img := encapsulate(t, openCache(t, t.TempDir()), r, c, nil)
	list, err := container.Packages(t.Context(), img, nil)
	require.NoError(t, err)
	require.Len(t, list, 5)
	require.True(t, slices.ContainsFunc(list, func(p ostree.Package) bool { return p.Name == "filesystem" }))
	require.NoError(t, container.CheckRegression(list, list, nil).Err())
}

func TestCompare(t *testing.T) {
	a := inspectImage(t, "bash 5.2-1", "sed 4.9-1", "grep 3.8-1")
	b := inspectImage(t, "bash 5.2-1", "sed 4.10-1", "nano 7.2-1")
	c, err := container.Compare(t.Context(), a, b, &container.CompareOptions{Packages: true, Files: true, TempDir: t.TempDir()})
	require.NoError(t, err)
	am, err := a.Manifest()
	require.NoError(t, err)
	bm, err := b.Manifest()
	require.NoError(t, err)
	require.Len(t, am.Layers, len(c.Kept)+len(c.Removed))
	require.Len(t, bm.Layers, len(c.Kept)+len(c.Added))
	require.NotEmpty(t, c.Kept)
	size, err := b.Size()
	require.NoError(t, err)
	total, pull := size+bm.Config.Size, size+bm.Config.Size
	for _, l := range bm.Layers {
		total += l.Size
		if !slices.ContainsFunc(am.Layers, func(d v1.Descriptor) bool { return d.Digest == l.Digest }) {
			pull += l.Size
		}
	}
	require.Equal(t, total, c.Size)
	require.Equal(t, pull, c.Pull)
	require.Empty(t, c.Recompressed)
	var packages, files []string
	for _, p := range c.Packages {
		packages = append(packages, fmt.Sprint(p.From, " ", p.To))
	}
	require.Equal(t, []string{"grep-3.8-1.amd64 <nil>", "<nil> nano-7.2-1.amd64", "sed-4.9-1.amd64 sed-4.10-1.amd64"}, packages)
	for _, f := range c.Files {
		files = append(files, fmt.Sprintf("%c %s", f.Kind(), f.Path))
	}
	require.Contains(t, files, "D usr/share/grep")
	require.Contains(t, files, "A usr/share/nano")
	require.Contains(t, files, "M usr/share/sed")
	require.NotContains(t, files, "M usr/share/bash")

	same, err := container.Compare(t.Context(), a, a, nil)
	require.NoError(t, err)
	require.Zero(t, same.Pull)
	require.Len(t, same.Kept, len(am.Layers))
	require.Nil(t, same.Packages)

	// The same content compressed in another way.
	r := newRepo(t)
	commit := inspectCommit(t, r, inspectSystem("bash 5.2-1"))
	gz := encapsulate(t, openCache(t, t.TempDir()), r, commit, nil)
	zst := encapsulate(t, openCache(t, t.TempDir()), r, commit, &container.EncapsulateOptions{Codec: container.Zstd})
	c, err = container.Compare(t.Context(), gz, zst, nil)
	require.NoError(t, err)
	require.Len(t, c.Recompressed, 1)
	require.Equal(t, c.Added, c.Recompressed)

	_, err = container.Compare(t.Context(), a, imageOf(t, layerOf(t, archive(t, "a=b"))), &container.CompareOptions{Packages: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "second image")
	c, err = container.Compare(t.Context(), empty.Image, imageOf(t, layerOf(t, archive(t, "a=b"))), &container.CompareOptions{Packages: true})
	require.NoError(t, err)
	require.Nil(t, c.Packages)
}

// The recorded images, and what ostree-ext says of them.
func TestInspectRecorded(t *testing.T) {
	for _, name := range []string{"image-v1b-1-pack8", "image-v1b-1-single", "image-v1b-edge", "image-v1b-2-pack8-prior"} {
		img := golden(t, "v1b", name+".tar.zst")
		i, err := container.Inspect(t.Context(), img)
		require.NoError(t, err, name)
		require.Equal(t, container.KindBase, i.Kind)
		var manifest struct{ Annotations map[string]string }
		require.NoError(t, json.Unmarshal(readShared(t, "v1b", "expected", name+".manifest.json"), &manifest))
		require.Equal(t, manifest.Annotations[container.LabelCommit], i.Commit.String())
		_, err = container.History(img)
		require.NoError(t, err)
		if name != "image-v1b-edge" { // which does not say that it can be booted
			require.NoError(t, container.Lint(t.Context(), img, &container.LintOptions{Documents: true}))
		}
	}
	// An image that the reference made so that nothing can import it.
	_, err := container.Inspect(t.Context(), golden(t, "v1b", "image-v1b-edge-emptychunk-fv2.tar.zst"))
	require.NoError(t, err)
	err = container.Lint(t.Context(), golden(t, "v1b", "image-v1b-edge-emptychunk-fv2.tar.zst"), &container.LintOptions{Documents: true})
	require.ErrorContains(t, err, "has the content of layer 1, which label ostree.final-diffid names")
}

func TestCompareLikeOstreeExt(t *testing.T) {
	peer := interop.OstreeExt(t)
	from, to := unpack(t, "v1b", "image-v1b-1-pack8.tar.zst"), unpack(t, "v1b", "image-v1b-2-pack8-prior.tar.zst")
	out, err := exec.CommandContext(t.Context(), peer, "container", "compare", "ostree-unverified-image:oci:"+from, "ostree-unverified-image:oci:"+to).Output()
	require.NoError(t, err)
	c, err := container.Compare(t.Context(), golden(t, "v1b", "image-v1b-1-pack8.tar.zst"), golden(t, "v1b", "image-v1b-2-pack8-prior.tar.zst"), nil)
	require.NoError(t, err)
	line := func(list []container.Layer) string {
		sum := int64(0)
		for _, l := range list {
			sum += l.Size
		}
		return fmt.Sprintf("%d %.1f kB", len(list), float64(sum)/1000)
	}
	want := []string{line(slices.Concat(c.Kept, c.Added)), line(c.Removed), line(c.Added)}
	for i, text := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		_, text, _ = strings.Cut(text, ":")
		text = strings.Join(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(text, "Size:", ""), "\u00a0", " ")), " ")
		require.Equal(t, want[i], text)
	}
}

func TestLintImage(t *testing.T) {
	base := inspectImage(t, "bash 5.2-1", "sed 4.9-1")
	require.NoError(t, container.Lint(t.Context(), base, &container.LintOptions{TempDir: t.TempDir()}))
	node := relabel(t, derive(t, base, "usr/bin/kubelet=1", "run/leftover=1", metaList), map[string]string{
		container.LabelVersions: "machine-os=9.1.0", container.LabelMetaLayer: "true",
	})
	require.NoError(t, container.Lint(t.Context(), node, nil))
	extensions := relabel(t, imageOf(t, layerOf(t, archive(t, "usr/share/rpm-ostree/extensions.json={}"))), map[string]string{container.LabelExtensions: "true"})
	extensions = withPlatform(t, extensions, "amd64")
	require.NoError(t, container.Lint(t.Context(), extensions, nil))

	for name, tc := range map[string]struct {
		img  v1.Image
		want []string
	}{
		"labels": {relabel(t, base, map[string]string{container.LabelBootable: "", container.LabelBootc: "0"}), []string{
			`label ostree.bootable: is "", want "true"`, `label containers.bootc: is "0", want "1"`}},
		"no platform": {withPlatform(t, base, ""), []string{"config: no architecture"}},
		"no list": {relabel(t, derive(t, base, "usr/bin/kubelet=1"), map[string]string{container.LabelVersions: "machine-os=9.1.0", container.LabelMetaLayer: "true"}), []string{
			"usr/share/openshift/base/meta.json: must be in the last layer", "no such file"}},
		"list below": {derive(t, node, "usr/bin/x=1"), []string{"must be in the last layer"}},
		"no label": {relabel(t, node, map[string]string{container.LabelMetaLayer: ""}), []string{
			"label io.openshift.metalayer: is not \"true\""}},
		"no kernel":     {derive(t, base, "usr/lib/modules/6.1.0/.wh.vmlinuz="), []string{"vmlinuz"}},
		"no extensions": {derive(t, extensions, "usr/bin/x=1"), []string{"usr/share/rpm-ostree/extensions.json: must be in the last layer"}},
		"corrupt":       {relabel(t, base, map[string]string{container.LabelCommit: "x"}), []string{"label ostree.commit"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := container.Lint(t.Context(), tc.img, nil)
			require.Error(t, err)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	// Without the layers the tree is not looked at.
	require.NoError(t, container.Lint(t.Context(), derive(t, base, "usr/lib/modules/6.1.0/.wh.vmlinuz="), &container.LintOptions{Documents: true}))
}

func withPlatform(t testing.TB, img v1.Image, arch string) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)
	return img
}

func TestIndex(t *testing.T) {
	r := newRepo(t)
	c := inspectCommit(t, r, inspectSystem("bash 5.2-1"))
	cache := openCache(t, t.TempDir())
	image := func(arch string) v1.Image {
		return encapsulate(t, cache, r, c, &container.EncapsulateOptions{Architecture: arch})
	}
	amd, arm := image("x86_64"), image("aarch64")
	idx, err := container.Index(arm, amd)
	require.NoError(t, err)
	require.NoError(t, validate.Index(idx))
	m, err := idx.IndexManifest()
	require.NoError(t, err)
	require.Equal(t, "9.1", m.Annotations[container.LabelVersion])
	require.Equal(t, "linux/amd64", m.Manifests[0].Platform.String())
	require.Equal(t, "linux/arm64", m.Manifests[1].Platform.String())
	require.Equal(t, digest(t, arm), m.Manifests[1].Digest.String())
	again, err := container.Index(amd, arm)
	require.NoError(t, err)
	one, err := idx.Digest()
	require.NoError(t, err)
	two, err := again.Digest()
	require.NoError(t, err)
	require.Equal(t, one, two)

	for text, images := range map[string][]v1.Image{
		"no images": nil, "two images for linux/amd64": {amd, amd}, "names no platform": {amd, withPlatform(t, arm, "")},
		`is version "8", that for linux/amd64 "9.1"`: {amd, relabel(t, arm, map[string]string{container.LabelVersion: "8"})},
	} {
		_, err := container.Index(images...)
		require.ErrorContains(t, err, text)
	}
}

func ExampleInspect() {
	ctx, dir, img, err := exampleBaseImage()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	i, err := container.Inspect(ctx, img)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(i.Kind, i.Commit.String()[:16], len(i.Layers), "layer")
	lines, err := container.History(img)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(lines[0].CreatedBy[:23])
	_, err = container.Packages(ctx, img, nil)
	fmt.Println(errors.Is(err, fs.ErrNotExist)) // no package database
	// Output:
	// base 345aa1b17fa6a12e 1 layer
	// ostree export of commit
	// true
}

func ExampleCompare() {
	ctx, dir, img, err := exampleBaseImage()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	c, err := container.Compare(ctx, empty.Image, img, &container.CompareOptions{Files: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(c.Kept), len(c.Added), c.Pull == c.Size)
	// Output: 0 1 true
}

func ExampleLint() {
	ctx, dir, img, err := exampleBaseImage()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	fmt.Println(container.Lint(ctx, img, &container.LintOptions{Documents: true}))
	// Output:
	// container: lint label ostree.bootable: is "", want "true"
	// container: lint label containers.bootc: is "", want "1"
}

func ExampleIndex() {
	_, dir, img, err := exampleBaseImage()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	_, err = container.Index(img, img)
	fmt.Println(err)
	// Output: container: index images: two images for linux/amd64
}

// exampleBaseImage makes a base image for the examples.
func exampleBaseImage() (context.Context, string, v1.Image, error) {
	ctx, dir, err := exampleRepo()
	if err != nil {
		return nil, "", nil, err
	}
	repo, err := ostree.Open(ctx, filepath.Join(dir, "repo"), nil)
	if err != nil {
		return nil, "", nil, err
	}
	defer repo.Close()
	commit, err := repo.Resolve(ctx, "sample")
	if err != nil {
		return nil, "", nil, err
	}
	cache, err := container.OpenCache(ctx, filepath.Join(dir, "cache"), nil)
	if err != nil {
		return nil, "", nil, err
	}
	img, err := container.Encapsulate(ctx, cache, repo, commit, &container.EncapsulateOptions{Architecture: "x86_64"})
	return ctx, dir, img, err
}

// Whatever is in the last layer's list, or in the first layer where the commit
// is looked for.
func FuzzPackages(f *testing.F) {
	f.Add([]byte(`{"rpmdb.pkglist":[["kernel","0","6.12.0","1.el10","x86_64"]]}`), []byte("x"))
	f.Add([]byte(`{"rpmdb.pkglist":[["a",1e9,"","",""],[]]}`), make([]byte, 1024))
	f.Add([]byte("->\x00"), []byte{}) // content, whatever archive would make of it
	f.Fuzz(func(t *testing.T, list, first []byte) {
		file := tar.Header{Name: "usr/share/openshift/base/meta.json", Mode: 0o644}
		img := imageOf(t, layerOf(t, importTar(t, []tarEntry{{file, string(list)}})))
		img = relabel(t, img, map[string]string{container.LabelMetaLayer: "true"})
		var packages []ostree.Package
		var err error
		fuzzbound.Within(t, 2<<20+512*len(list), func() { packages, err = container.Packages(t.Context(), img, nil) })
		require.True(t, err != nil || len(packages) > 0)
		for _, p := range packages {
			require.NotEmpty(t, p.Name)
		}
		bad := imageOf(t, layerOf(t, first))
		config, err := bad.ConfigFile()
		require.NoError(t, err)
		bad = relabel(t, bad, map[string]string{
			container.LabelCommit: strings.Repeat("ab", 32), container.LabelFinalDiffID: config.RootFS.DiffIDs[0].String(),
		})
		fuzzbound.Within(t, 2<<20+64*len(first), func() { _, err = container.Inspect(t.Context(), bad) })
		require.Error(t, err)
	})
}
