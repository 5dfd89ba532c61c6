package container_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

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

// hardTree is what the reference tools lose or get wrong on their way: content in
// /sysroot, targets of links that a normalised path is not, and what not every
// repository mode keeps.
func hardTree() ostree.Tree {
	files := maps.Clone(sample)
	maps.Copy(files, map[string]string{
		"sysroot/sub/deep/file": "in sysroot", "sysroot/link": "->sub/./deep", "usr/empty-dir/.keep": "",
		"usr/dot": "->a/./b", "usr/end": "->d/.", "usr/front": "->/./f", "usr/root": "->/", "usr/up": "->../../x", "usr/slashes": "->a//b",
		"usr/long": "->" + strings.Repeat("target//", 30) + "x", "usr/etc/dot": "->./passwd", "usr/" + strings.Repeat("ü", 60) + "/name": "long",
		"usr/attributes": "a", "usr/owned": "o", "usr/setuid": "s", "usr/none": "n",
	})
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range ostree.FS(mapFS(files)).Entries(ctx) {
				switch e.Path {
				case "usr/attributes", "sysroot/sub":
					e.Xattrs = []ostree.Xattr{{Name: "security.capability", Value: []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")}, {Name: "user.x", Value: []byte{0}}}
				case "usr/owned", "usr/dot", "usr/lib":
					e.UID, e.GID = 70000, 3_000_000_000
				case "usr/setuid":
					e.Mode |= 0o6000
				case "usr/none":
					e.Mode &^= 0o777
				}
				if !yield(e, err) {
					return
				}
			}
		}
	})
}

// What the reference loses or can't import of its own images comes whole from
// ours: it has the same commit, in which nothing is missing.
func TestOstreeExtImportsHardTrees(t *testing.T) {
	program := interop.OstreeExt(t)
	interop.Peer(t, "ostree")
	repo := newRepo(t)
	c, err := repo.Commit(t.Context(), hardTree(), &ostree.CommitOptions{Subject: "hard", Timestamp: time.Unix(1700000000, 0), NoFsync: true})
	require.NoError(t, err)
	components := split(t, repo, c)
	cache := openCache(t, t.TempDir())
	for _, opts := range []container.EncapsulateOptions{
		{}, {FormatVersion: 2}, {Dialect: container.V1a}, {Components: components, MaxLayers: 5}, {Components: components, FormatVersion: 2, MaxLayers: 5},
		{Components: components, Dialect: container.V1a, MaxLayers: 5},
	} {
		img := encapsulate(t, cache, repo, c, &opts)
		dst := importRepo(t, ostree.ModeBareUser)
		importRun(t, program, "container", "unencapsulate", "--repo="+dst.Path(), "--write-ref=x", "ostree-unverified-image:"+importWritten(t, img))
		got, err := dst.Resolve(t.Context(), "x")
		require.NoError(t, err)
		require.Equal(t, c, got, "%+v", opts)
		require.Contains(t, importRun(t, "ostree", "--repo="+dst.Path(), "fsck"), "no errors found")
		require.NoError(t, dst.Fsck(t.Context(), nil))
		requireImported(t, img, c)
	}
}

// requireImported imports a commit in every mode, in which ostree finds no fault.
func requireImported(t *testing.T, img v1.Image, c ostree.Checksum) {
	t.Helper()
	for _, mode := range importModes() {
		dst := importRepo(t, mode)
		got, err := container.Import(t.Context(), dst, img, &container.ImportOptions{Name: "oci:x", Ref: "x"})
		require.NoError(t, err)
		require.Equal(t, c, got.Base, mode)
		require.Contains(t, importRun(t, "ostree", "--repo="+dst.Path(), "fsck"), "no errors found", mode)
	}
}

// What ostree-ext encapsulates, in one layer and in many, is ours in every mode,
// and ostree finds no fault in it.
func TestImportOfFreshOstreeExtImages(t *testing.T) {
	program := interop.OstreeExt(t)
	interop.Peer(t, "ostree")
	repo := newRepo(t)
	files := maps.Clone(sample)
	files["usr/etc/"+strings.Repeat("long/", 30)+"name"] = "long"
	c := commit(t, repo, files, ostree.MetadataItem{Key: "ostree.bootable", Value: ostree.BoolVariant(true)})
	meta := map[string]any{"version": 1}
	layers, mapping := map[string]string{}, map[string]string{}
	for _, k := range split(t, repo, c) {
		layers[k.ID] = k.ID
		for _, o := range k.Objects {
			mapping[o.String()] = k.ID
		}
	}
	meta["layers"], meta["mapping"] = layers, mapping
	text, err := json.Marshal(meta)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "meta.json")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	for _, flags := range [][]string{nil, {"--compression-fast"}, {"--contentmeta=" + file}} {
		dir := t.TempDir()
		importRun(t, program, append(append([]string{"container", "encapsulate", "--repo=" + repo.Path()}, flags...), c.String(), "oci:"+dir)...)
		requireImported(t, importLayout(t, dir), c)
	}
}

// Tools once left out the dirtree of /sysroot, which is that of any empty
// directory: images where nothing else has it are whole all the same.
func TestImportWithoutTheEmptyDirtree(t *testing.T) {
	files := maps.Clone(sample)
	repo := newRepo(t)
	fsys := mapFS(files)
	fsys["sysroot"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	c, err := repo.Commit(t.Context(), ostree.FS(fsys), &ostree.CommitOptions{Subject: "s", Timestamp: time.Unix(1700000000, 0), NoFsync: true})
	require.NoError(t, err)
	empties := 0
	for _, dialect := range []container.Dialect{container.V1a, container.V1b} {
		entries := importEntries(t, encapsulate(t, openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Dialect: dialect}))
		require.Len(t, entries, 1)
		kept := slices.DeleteFunc(entries[0], func(e tarEntry) bool {
			if e.Name == objectName("\x00", "dirtree") {
				empties++
				return true
			}
			return false
		})
		old := importLabelled(t, importWith(t, empty.Image, importTar(t, kept)), map[string]string{"ostree.commit": c.String()})
		for _, mode := range importModes() {
			for _, opts := range []*container.ImportOptions{{CommitOnly: true, Ref: "x"}, {Name: "oci:x"}} {
				dst := importRepo(t, mode)
				got, err := container.Import(t.Context(), dst, old, opts)
				require.NoError(t, err)
				require.Equal(t, c, got.Base)
				require.NoError(t, dst.Fsck(t.Context(), nil))
				require.Contains(t, importList(t, dst, got.Commit), "sysroot")
			}
		}
	}
	require.Positive(t, empties, "an image of ours that has it")
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
