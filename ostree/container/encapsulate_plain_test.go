package container_test

import (
	"context"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// plainCommit has what a plain image has to carry: owners, modes, attributes of
// files and directories, one object several times, long names, /etc, links.
func plainCommit(t *testing.T, repo *ostree.Repo, version string) ostree.Checksum {
	t.Helper()
	long := "usr/share/" + strings.Repeat("long/", 30) + "file"
	files := map[string]string{
		"usr/lib/os-release": "ID=sample\nVERSION=" + version + "\n", "usr/etc/passwd": "root:x:0:0::/root:/bin/sh\n", "usr/etc/skel/empty": "", "usr/share/empty": "",
		"usr/bin/tool": strings.Repeat("tool ", 1000), "usr/bin/sh": "->tool", "usr/bin/ash": "->tool", "bin": "->usr/bin",
		"usr/share/doc/a/license": "the same text", "usr/share/doc/b/license": "the same text", long: "long", long + "-too": "long", "usr/lib/deep/link": "->" + strings.Repeat("x/", 80),
	}
	fsys := mapFS(files)
	fsys["sysroot"], fsys["var"], fsys["tmp"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}, &fstest.MapFile{Mode: fs.ModeDir | 0o755}, &fstest.MapFile{Mode: fs.ModeDir | fs.ModeSticky | 0o777}
	tree := ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range ostree.FS(fsys).Entries(ctx) {
				switch e.Path {
				case "usr/bin/tool":
					e.Mode, e.UID, e.GID = ostree.ModeRegular|0o4755, 12, 34
					e.Xattrs = []ostree.Xattr{{Name: "security.capability", Value: []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")}, {Name: "user.note", Value: []byte("a=b\nc")}}
				case "usr/share/doc":
					e.Mode, e.UID, e.GID = ostree.ModeDir|0o2750, 5, 1<<21
					e.Xattrs = []ostree.Xattr{{Name: "user.dir", Value: []byte("x")}}
				}
				if !yield(e, err) {
					return
				}
			}
		}
	})
	c, err := repo.Commit(t.Context(), tree, &ostree.CommitOptions{
		Subject: "plain", Timestamp: time.Unix(1700000000, 0), NoFsync: true,
		Metadata: []ostree.MetadataItem{{Key: "version", Value: ostree.StringVariant(version)}, {Key: "ostree.bootable", Value: ostree.BoolVariant(true)}},
	})
	require.NoError(t, err)
	return c
}

// A plain image is imported as a commit with the same root, however it is split
// and compressed, and nothing in it speaks of a commit.
func TestPlain(t *testing.T) {
	repo := newRepo(t)
	c := plainCommit(t, repo, "1.0")
	head, err := repo.ReadCommit(t.Context(), c)
	require.NoError(t, err)
	var prior v1.Image
	for name, opts := range map[string]container.EncapsulateOptions{
		"one layer": {}, "split": {Components: split(t, repo, c)}, "separate": {Components: split(t, repo, c), Planner: container.Separate{}, Codec: container.Zstd},
		"few layers": {Components: split(t, repo, c), MaxLayers: 4, Codec: container.None},
		"exclusive":  {Components: append(split(t, repo, c), container.Component{ID: "tool", Exclusive: true, Paths: []string{"usr/bin/tool", "usr/share/doc/b/license"}})},
	} {
		opts.Dialect = container.Plain
		img := encapsulate(t, openCache(t, t.TempDir()), repo, c, &opts)
		requireValid(t, img)
		config, err := img.ConfigFile()
		require.NoError(t, err)
		require.NotContains(t, config.Config.Labels, container.LabelCommit)
		require.NotContains(t, config.Config.Labels, container.LabelFinalDiffID)
		require.Equal(t, "1", config.Config.Labels[container.LabelBootc])
		i, err := container.Inspect(t.Context(), img)
		require.NoError(t, err)
		require.Equal(t, container.KindPlain, i.Kind)
		require.Equal(t, "1.0", i.Version)
		for _, mode := range importModes() {
			dst := importRepo(t, mode)
			got, err := container.Import(t.Context(), dst, img, &container.ImportOptions{Name: "oci:plain"})
			require.NoError(t, err, "%s %s", name, mode)
			require.Zero(t, got.Base)
			commit, err := dst.ReadCommit(t.Context(), got.Commit)
			require.NoError(t, err)
			require.Equal(t, head.RootMeta, commit.RootMeta, "%s %s", name, mode)
			require.Equal(t, listing(t, repo, c), listing(t, dst, got.Commit), "%s %s", name, mode)
			require.NoError(t, dst.Fsck(t.Context(), nil))
		}
		if name == "split" {
			prior = img
		}
	}

	// The next day has the layers that did not change.
	next := plainCommit(t, repo, "1.1")
	img := encapsulate(t, openCache(t, t.TempDir()), repo, next, &container.EncapsulateOptions{Dialect: container.Plain, Components: split(t, repo, next), Prior: prior, Codec: container.Zstd})
	before, err := prior.Manifest()
	require.NoError(t, err)
	after, err := img.Manifest()
	require.NoError(t, err)
	kept := 0
	for _, l := range after.Layers {
		if slices.ContainsFunc(before.Layers, func(d v1.Descriptor) bool { return d.Digest == l.Digest }) {
			kept++
		}
	}
	require.Equal(t, len(after.Layers)-1, kept, "all but that of os-release")

	_, err = container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Dialect: container.Plain, FormatVersion: 2})
	require.ErrorContains(t, err, "format version 2 of dialect plain")
}

// listing gives each path of a commit with its object or directory's metadata.
func listing(t *testing.T, repo *ostree.Repo, c ostree.Checksum) map[string]string {
	t.Helper()
	out := map[string]string{}
	for e, err := range repo.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		out[e.Path] = e.Object.String()
		if e.Mode&ostree.ModeType == ostree.ModeDir {
			meta, err := (&ostree.DirMeta{UID: e.UID, GID: e.GID, Mode: e.Mode, Xattrs: e.Xattrs}).Marshal()
			require.NoError(t, err)
			out[e.Path] = string(meta)
		}
	}
	return out
}
