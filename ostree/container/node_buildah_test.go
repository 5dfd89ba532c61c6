package container_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// bytesEntry is a file with other content.
func bytesEntry(e ostree.Entry, text string) ostree.Entry {
	e.Size, e.Detached, e.Object = int64(len(text)), true, ostree.Checksum{}
	e.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	return e
}

// debPackage makes a Debian package in a folder.
func debPackage(t *testing.T, dir, name, version string) {
	t.Helper()
	tree := t.TempDir()
	for path, text := range map[string]string{
		"DEBIAN/control":              "Package: " + name + "\nVersion: " + version + "\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: for a test\n",
		"usr/bin/" + name:             "#!/bin/sh\necho " + name + "\n",
		"etc/" + name + ".conf":       "conf\n",
		"usr/share/" + name + "/text": name + "\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(tree, path), []byte(text), 0o755))
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	importRun(t, "dpkg-deb", "--build", "--root-owner-group", tree, filepath.Join(dir, name+".deb"))
}

// A node image of a Debian system and its extensions, built by buildah from what
// is rendered, without a network, and imported.
func TestNodeBuiltByBuildah(t *testing.T) {
	b := newBuildah(t)
	interop.Peer(t, "dpkg-deb")
	base, commit := debianBase(t, debianSubset(t, "apt", "dash", "coreutils", "sed", "grep", "tar", "diffutils", "libc-bin"))
	folder := t.TempDir()
	debPackage(t, filepath.Join(folder, "debs"), "kubelet-sample", "2:1.33.4-1")
	debPackage(t, filepath.Join(folder, "ext"), "usbguard-sample", "0.9")
	for path, text := range map[string]string{
		"overlay/etc/overlay.conf": "overlay\n", "overlay/usr/lib/os-release": "ID=debian\n",
		"finish.sh": "#!/bin/sh\nset -e\necho \"$NOTE\" > /usr/share/note\nrm /etc/overlay.conf\nln /usr/bin/dash /usr/bin/sh2\nchmod 0750 /usr/bin/kubelet-sample\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, path), []byte(text), 0o755))
	}
	spec := &container.NodeSpec{
		Base: nodeBase, Version: "12.0.2", DisplayName: "Debian sample", OpenShift: "4.22", StreamClass: "debian-12", Created: time.Unix(1795608000, 0),
		Labels: map[string]string{"io.example.note": `a "b" $c \d $(e) 'f'`}, Args: map[string]string{"NOTE": `$x "y" \z`},
		Manager: container.ManagerAPT, PackageDir: "debs", Files: "overlay", Script: "finish.sh", ExtensionDir: "ext",
	}
	node, extensions, err := container.BuildNode(t.Context(), openCache(t, t.TempDir()), base, spec, &container.BuildNodeOptions{Context: folder, Dir: t.TempDir(), Build: b.build})
	require.NoError(t, err)
	requireValid(t, node)
	requireValid(t, extensions)
	i, err := container.Inspect(t.Context(), node)
	require.NoError(t, err)
	require.Equal(t, container.KindNode, i.Kind)
	require.Equal(t, "12.0.2", i.MachineOS)
	require.Equal(t, commit, i.Commit)
	for label, want := range map[string]string{
		"io.example.note": spec.Labels["io.example.note"], "io.openshift.os.streamclass": "debian-12", "containers.bootc": "1", "ostree.linux": "6.1.0",
		"io.openshift.build.version-display-names": "machine-os=Debian sample", "io.openshift.metalayer": "true", "ostree.bootable": "true",
	} {
		require.Equal(t, want, i.Labels[label], label)
	}
	require.NotContains(t, i.Labels, "io.buildah.version")
	want, err := base.Manifest()
	require.NoError(t, err)
	got, err := node.Manifest()
	require.NoError(t, err)
	require.Equal(t, want.Layers, got.Layers[:len(want.Layers)], "the base's layers stay what registries have")

	// The list that was made in the build is that of the database.
	listed, err := container.Packages(t.Context(), node, nil)
	require.NoError(t, err)
	at := slices.IndexFunc(listed, func(p ostree.Package) bool { return p.Name == "kubelet-sample" })
	require.Equal(t, ostree.Package{Name: "kubelet-sample", Epoch: "2", Version: "1.33.4", Release: "1", Arch: "all"}, listed[at])
	database, err := container.Packages(t.Context(), relabel(t, derive(t, node, "usr/x=1"), map[string]string{"io.openshift.metalayer": ""}), nil)
	require.NoError(t, err)
	require.Equal(t, database, listed)

	repo := importRepo(t, ostree.ModeArchive)
	imported, err := container.Import(t.Context(), repo, node, nil)
	require.NoError(t, err)
	require.Equal(t, commit, imported.Base)
	changes := importChanges(t, repo, imported.Base, imported.Commit)
	require.Equal(t, "#!/bin/sh\necho kubelet-sample\n", changes["usr/bin/kubelet-sample"])
	require.Equal(t, "conf\n", changes["usr/etc/kubelet-sample.conf"])
	require.Equal(t, "$x \"y\" \\z\n", changes["usr/share/note"])
	require.Equal(t, "ID=debian\nOPENSHIFT_VERSION=\"4.22\"\n", changes["usr/lib/os-release"])
	require.NotEmpty(t, changes["usr/bin/sh2"])
	require.NotContains(t, importList(t, repo, imported.Commit), "usr/etc/overlay.conf")
	require.NoError(t, repo.Fsck(t.Context(), nil))

	files, err := list(t, container.Flatten(extensions))
	require.NoError(t, err)
	require.Contains(t, files, "usr/share/rpm-ostree/extensions.json={\n\"usbguard-sample\": \"0.9.all\"\n}\n")
	require.Contains(t, strings.Join(files, "\n"), "\nusr/share/rpm-ostree/extensions/usbguard-sample.deb=")

	// What would be another with every build is not there.
	for path := range importList(t, repo, imported.Commit) {
		require.False(t, strings.HasPrefix(path, "var/log/") || strings.HasPrefix(path, "var/cache/ldconfig"), path)
	}
}

// Images of nothing but files, without a shell in them, and one's own
// Containerfile.
func TestNodeOfFilesBuiltByBuildah(t *testing.T) {
	b := newBuildah(t)
	base := inspectImage(t, "bash 5.2-1", "sed 4.9-1")
	folder := t.TempDir()
	for path, text := range map[string]string{
		"root/usr/bin/kubelet": "kubelet\n", "ext/extensions.json": `{"usbguard":"1.0-1.x86_64"}`, "ext/usbguard.rpm": "rpm\n",
		"Own": "FROM nowhere.example.org/base AS build\nCOPY root/ /\nFROM build\nARG VALUE=none\nLABEL io.example.value=${VALUE}\nCOPY root/usr/bin/kubelet /usr/bin/again\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, path), []byte(text), 0o644))
	}
	build := func(spec *container.NodeSpec) (node, extensions v1.Image) {
		spec.Base, spec.Version, spec.Created = nodeBase, "9.1.0", time.Unix(1795608000, 0)
		node, extensions, err := container.BuildNode(t.Context(), openCache(t, t.TempDir()), base, spec, &container.BuildNodeOptions{Context: folder, Dir: t.TempDir(), Build: b.build})
		require.NoError(t, err)
		require.NoError(t, container.Lint(t.Context(), node, nil))
		return node, extensions
	}
	node, extensions := build(&container.NodeSpec{Manager: container.ManagerNone, Files: "root", ExtensionDir: "ext"})
	require.NoError(t, container.Lint(t.Context(), extensions, nil))
	// ostree-ext takes the node image for what it is, too.
	program := interop.OstreeExt(t)
	theirs, ours := importRepo(t, ostree.ModeBare), importRepo(t, ostree.ModeBareUser)
	want, err := peerImport(t, program, theirs, node)
	require.NoError(t, err)
	got, err := container.Import(t.Context(), ours, node, nil)
	require.NoError(t, err)
	require.Equal(t, roots(t, theirs, want), roots(t, ours, got.Commit))
	packages, err := container.Packages(t.Context(), node, nil)
	require.NoError(t, err)
	require.Len(t, packages, 2)
	// Built again: the same images.
	again, more := build(&container.NodeSpec{Manager: container.ManagerNone, Files: "root", ExtensionDir: "ext"})
	require.Equal(t, digest(t, node), digest(t, again))
	require.Equal(t, digest(t, extensions), digest(t, more))

	node, extensions = build(&container.NodeSpec{Containerfile: "Own", Args: map[string]string{"VALUE": `a "b" $c`}, Labels: map[string]string{"io.example.more": `$x "y"`}})
	require.Nil(t, extensions)
	config, err := node.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, `$x "y"`, config.Config.Labels["io.example.more"])
	require.Equal(t, `a "b" $c`, config.Config.Labels["io.example.value"])
	require.Equal(t, "machine-os=9.1.0", config.Config.Labels[container.LabelVersions])
}
