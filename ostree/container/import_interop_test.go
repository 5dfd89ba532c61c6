package container_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// importRun runs a reference tool and gives what it printed.
func importRun(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	// Deployments are immutable otherwise, and stay behind the test.
	cmd.Env = append(os.Environ(), "OSTREE_SYSROOT_DEBUG=mutable-deployments")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, args, out)
	return string(out)
}

// importWritten writes an image to a folder, and gives ostree-ext's name of it.
func importWritten(t testing.TB, img v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	require.NoError(t, path.AppendImage(img))
	return "oci:" + dir
}

// ostree-ext imports ours: the same commit, in which nothing is missing.
func TestOstreeExtImportsOurs(t *testing.T) {
	program := interop.OstreeExt(t)
	interop.Peer(t, "ostree")
	repo := newRepo(t)
	c := commit(t, repo, sample)
	components := split(t, repo, c)
	cache := openCache(t, t.TempDir())
	for _, opts := range []container.EncapsulateOptions{
		{}, {FormatVersion: 2}, {Dialect: container.V1a}, {Codec: container.Zstd}, {Codec: container.None},
		{Components: components, MaxLayers: 5}, {Components: components, Dialect: container.V1a, Planner: container.OstreeExt{}, MaxLayers: 5},
		{Components: components, FormatVersion: 2, Planner: container.Frugal{}, MaxLayers: 4},
	} {
		dst := importRepo(t, ostree.ModeBareUser)
		importRun(t, program, "container", "unencapsulate", "--repo="+dst.Path(), "--write-ref=x", "ostree-unverified-image:"+importWritten(t, encapsulate(t, cache, repo, c, &opts)))
		got, err := dst.Resolve(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, c, got, "%+v", opts)
		require.Contains(t, importRun(t, "ostree", "--repo="+dst.Path(), "fsck"), "no errors found")
	}
}

// What we import is listed, shown, deployed, pruned and removed by ostree-ext, and
// not pulled again; what is deployed is not pruned by us.
func TestImportIsOstreeExts(t *testing.T) {
	program := interop.OstreeExt(t)
	interop.Peer(t, "ostree")
	if os.Getuid() != 0 {
		t.Skip("deploying needs root")
	}
	img := importWith(t, golden(t, "v1b", "image-v1b-1-pack8.tar.zst"), archive(t, "usr/share/new=1", "etc/new=1"))
	name := importWritten(t, img)
	sysroot := filepath.Join(t.TempDir(), "sysroot")
	require.NoError(t, os.Mkdir(sysroot, 0o755))
	importRun(t, "ostree", "admin", "init-fs", sysroot)
	importRun(t, "ostree", "admin", "os-init", "--sysroot="+sysroot, "os")
	dir := filepath.Join(sysroot, "ostree", "repo")
	importRun(t, "ostree", "--repo="+dir, "config", "set", "core.fsync", "false")
	repo := openRepo(t, dir)
	require.Equal(t, ostree.ModeBare, repo.Mode())
	got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: name})
	require.NoError(t, err)

	require.Equal(t, name+"\n", importRun(t, program, "container", "image", "list", "--repo", dir))
	require.Contains(t, importRun(t, program, "container", "image", "metadata", "--repo", dir, name), `"schemaVersion":2`)
	require.Contains(t, importRun(t, program, "container", "image", "history", "--repo", dir, name), "CREATED BY")
	require.Contains(t, importRun(t, program, "container", "image", "prune-layers", "--repo", dir), "Removed layers: 0")
	require.Contains(t, importRun(t, "ostree", "--repo="+dir, "fsck"), "no errors found")

	importRun(t, program, "container", "image", "deploy", "--sysroot", sysroot, "--stateroot", "os", "--imgref", "ostree-unverified-image:"+name)
	require.Contains(t, importRun(t, "ostree", "admin", "status", "--sysroot="+sysroot), "os "+got.Commit.String()+".0", "our commit, not another of its own")
	data, err := os.ReadFile(filepath.Join(sysroot, "ostree", "deploy", "os", "deploy", got.Commit.String()+".0", "usr", "share", "new"))
	require.NoError(t, err)
	require.Equal(t, "1", string(data))
	require.NoError(t, container.RemoveImage(t.Context(), repo, name))
	pruned, err := container.PruneImages(t.Context(), repo)
	require.NoError(t, err)
	require.Empty(t, pruned, "the image is deployed")

	other := importRepo(t, ostree.ModeBareUser)
	_, err = container.Import(t.Context(), other, img, &container.ImportOptions{Name: name})
	require.NoError(t, err)
	importRun(t, program, "container", "image", "remove", "--repo", other.Path(), name)
	for ref, err := range other.Refs(t.Context()) {
		require.NoError(t, err)
		require.Fail(t, "a ref is left", ref.String())
	}
}

// What ostree-ext pulled is ours: layers are not read again, the image is listed.
func TestImportTakesWhatOstreeExtHas(t *testing.T) {
	program := interop.OstreeExt(t)
	interop.Peer(t, "ostree")
	base := golden(t, "v1b", "image-v1b-edge.tar.zst")
	img := importWith(t, base, archive(t, "usr/share/new=1", "etc/new=1"))
	name := importWritten(t, img)
	repo := importRepo(t, ostree.ModeBareUser)
	importRun(t, program, "container", "image", "pull", repo.Path(), "ostree-unverified-image:"+name)
	var names []string
	for image, err := range container.ListImages(t.Context(), repo) {
		require.NoError(t, err)
		names = append(names, image.Name)
	}
	require.Equal(t, []string{name}, names)
	pruned, err := container.PruneImages(t.Context(), repo)
	require.NoError(t, err)
	require.Empty(t, pruned)
	var stats container.ImportStats
	got, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:ours", Stats: &stats})
	require.NoError(t, err)
	require.Equal(t, 2, stats.Reused)
	require.Equal(t, commitEdge, got.Base.String())
	require.Equal(t, map[string]string{"usr/share": "/", "usr/share/new": "1", "usr/etc/new": "1"}, importChanges(t, repo, got.Base, got.Commit))
	require.NoError(t, container.RemoveImage(t.Context(), repo, name))
	require.NoError(t, container.RemoveImage(t.Context(), repo, "oci:ours"))
	pruned, err = container.PruneImages(t.Context(), repo)
	require.NoError(t, err)
	require.Len(t, pruned, 2)
	require.Contains(t, importRun(t, "ostree", "--repo="+repo.Path(), "fsck"), "no errors found")
}

// Layers that a container build might make, merged by both: the same trees. Only
// usr and etc: the peer's libostree is of 2022 and treats var differently.
func TestImportMergesAsOstreeExt(t *testing.T) {
	program := interop.OstreeExt(t)
	interop.Peer(t, "ostree")
	if os.Getuid() != 0 {
		t.Skip("only a bare repository of the peer's is not lossy, which needs root")
	}
	base := golden(t, "v1b", "image-v1b-edge.tar.zst")
	theirs, ours := importRepo(t, ostree.ModeBare), importRepo(t, ostree.ModeArchive)
	for i, entries := range [][]string{
		// No symbolic link: archive writes those with mode 0644, of which the peer
		// makes an object that has not its checksum.
		{"usr/a/b/c=1", "usr/a/b/d=2", "usr/a/f=>usr/a/b/c"},
		{"usr/share/.wh..wh..opq=", "usr/share/only=1"},
		{"usr/.wh.lib=", "usr/lib/back=1", "etc/x=1", "etc/y=>etc/x"},
		{"usr/l=>usr/later", "usr/later=1", "usr/later=2"},
		{"usr/share/.wh..wh.plnk/x=1", "usr/share/.wh..wh.aufs="},
		{"run/x=1", "opt/y=1", "usr/share/n=1", "tmp/", "proc/"},
	} {
		img := importWith(t, base, archive(t, entries...))
		name := importWritten(t, img)
		importRun(t, program, "container", "image", "pull", theirs.Path(), "ostree-unverified-image:"+name)
		got, err := container.Import(t.Context(), ours, img, nil)
		require.NoError(t, err)
		var want ostree.Checksum
		for image, err := range container.ListImages(t.Context(), theirs) {
			require.NoError(t, err)
			if image.Name == name {
				want = image.Commit
			}
		}
		their, err := theirs.ReadCommit(t.Context(), want)
		require.NoError(t, err)
		our, err := ours.ReadCommit(t.Context(), got.Commit)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(their.RootTree, their.RootMeta), fmt.Sprint(our.RootTree, our.RootMeta), "%d: %s", i, strings.Join(entries, " "))
	}
}
