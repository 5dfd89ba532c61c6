package ostree_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// TestLinked: of a checkout by hard links, what was not replaced is the object
// that it is, and is not read.
func TestLinked(t *testing.T) {
	for _, mode := range []ostree.Mode{ostree.ModeBare, ostree.ModeBareUser, ostree.ModeBareUserOnly} {
		if mode == ostree.ModeBare && !isRoot() {
			continue
		}
		t.Run(string(mode), func(t *testing.T) {
			r := newRepo(t, mode)
			owned, run := file("owned", "55555"), file("run", "333")
			run.Mode = ostree.ModeRegular | 0o755
			if mode != ostree.ModeBareUserOnly {
				owned.UID, owned.GID = 7, 8
				owned.Xattrs = []ostree.Xattr{{Name: "user.a", Value: []byte("b")}}
			}
			c, _ := commitTree(t, r, dir("."), file("a", "1"), file("b", "22"), owned, run, dir("d"), file("d/c", "4444"), file("d/e", "666666"), link("l", "a"))
			tree := filepath.Join(t.TempDir(), "tree")
			require.NoError(t, os.Mkdir(tree, 0o755))
			checkout(t, r, tree, c, &ostree.CheckoutOptions{UserMode: mode != ostree.ModeBare, RequireHardLinks: true})
			// New files; and a second name for one that is linked.
			require.NoError(t, os.Remove(filepath.Join(tree, "b")))
			require.NoError(t, os.WriteFile(filepath.Join(tree, "b"), []byte("new-b"), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(tree, "d", "new"), []byte("new-file"), 0o600))
			require.NoError(t, os.Rename(filepath.Join(tree, "d", "c"), filepath.Join(tree, "d", "moved")))
			require.NoError(t, os.Link(filepath.Join(tree, "owned"), filepath.Join(tree, "d", "again")))

			stats := &ostree.CommitStats{}
			linked, err := r.Commit(t.Context(), openDir(t, tree), &ostree.CommitOptions{Linked: true, Stats: stats})
			require.NoError(t, err)
			require.Equal(t, int64(len("new-b")+len("new-file")), stats.BytesRead)
			hits := int64(6)
			if mode == ostree.ModeBare { // others have symbolic links of their own
				hits++
			}
			require.Equal(t, hits, stats.CacheHits)
			require.Equal(t, int64(9), stats.Files)
			before, after := contentOf(t, r, c), contentOf(t, r, linked)
			plain, err := r.Commit(t.Context(), openDir(t, tree), nil)
			require.NoError(t, err)
			read := contentOf(t, r, plain)
			for path, want := range map[string]ostree.Checksum{"a": before["a"], "owned": before["owned"], "run": before["run"], "d/moved": before["d/c"], "d/e": before["d/e"],
				"d/again": before["owned"], "b": read["b"], "d/new": read["d/new"], "l": read["l"]} {
				require.Equal(t, want, after[path], path)
			}
			require.Len(t, after, 9)

			// Options change what the objects have.
			for name, opts := range map[string]ostree.CommitOptions{
				"owner":     {Owner: &ostree.Owner{UID: 70, GID: 80}},
				"canonical": {CanonicalPermissions: true},
				"bare":      {SkipXattrs: true},
				"edit": {Edit: func(e *ostree.Entry) (bool, error) {
					if e.Path == "owned" && mode != ostree.ModeBareUserOnly {
						require.Equal(t, uint32(7), e.UID)
					}
					if e.Path == "run" {
						e.Mode = ostree.ModeRegular | 0o700
					}
					return e.Path != "d/e", nil
				}},
			} {
				want, err := r.Commit(t.Context(), r.Tree(linked), &opts)
				require.NoError(t, err, name)
				opts.Linked = true
				got, err := r.Commit(t.Context(), openDir(t, tree), &opts)
				require.NoError(t, err, name)
				require.Equal(t, want, got, name)
			}
			require.NoError(t, r.Fsck(t.Context(), nil))
		})
	}
}

// TestLinkedElsewhere: what is no hard link to an object of the repository is
// read as ever.
func TestLinkedElsewhere(t *testing.T) {
	tree := adoptTree(t)
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser} {
		r := newRepo(t, mode)
		want, err := r.Commit(t.Context(), openDir(t, tree), nil)
		require.NoError(t, err)
		stats := &ostree.CommitStats{}
		got, err := r.Commit(t.Context(), openDir(t, tree), &ostree.CommitOptions{Linked: true, Stats: stats})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Zero(t, stats.CacheHits)
		require.NotZero(t, stats.BytesRead)
	}
}

// TestMountsBelow: below the root there is /proc at least; below a new folder,
// nothing.
func TestMountsBelow(t *testing.T) {
	for path, want := range map[string]bool{"/": true, "/proc/..": true, t.TempDir(): false} {
		f, err := os.Open(path)
		require.NoError(t, err)
		require.Equal(t, want, ostree.MountsBelow(int(f.Fd())), path)
		require.NoError(t, f.Close())
	}
}

// contentOf gives the content objects of a commit by path.
func contentOf(t testing.TB, r *ostree.Repo, c ostree.Checksum) map[string]ostree.Checksum {
	t.Helper()
	objects := make(map[string]ostree.Checksum)
	for e, err := range r.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		if e.Mode&ostree.ModeType != ostree.ModeDir {
			objects[e.Path] = e.Object
		}
	}
	return objects
}

// TestLinkedAsPeer: a checkout of ours or of ostree's, changed, is the commit
// that ostree makes of it.
func TestLinkedAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	tree := treegen.Tree(41, &treegen.Options{Root: true, Files: 150, MaxSize: 1 << 16})
	r := newRepo(t, ostree.ModeBare)
	c, err := r.Commit(t.Context(), tree, &ostree.CommitOptions{Edit: withoutEmpty, Ref: "os"})
	require.NoError(t, err)
	ours, theirs := t.TempDir(), filepath.Join(t.TempDir(), "out")
	checkout(t, r, ours, c, &ostree.CheckoutOptions{RequireHardLinks: true})
	run(t, "ostree", "--repo="+r.Path(), "checkout", "-H", "os", theirs)
	for _, dir := range []string{ours, theirs} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new file"), []byte("new"), 0o644))
		run(t, "ostree", "--repo="+r.Path(), "commit", "--branch=peer", "--link-checkout-speedup", dir)
		peer, err := r.Resolve(t.Context(), "peer")
		require.NoError(t, err)
		want, err := r.ReadCommit(t.Context(), peer)
		require.NoError(t, err)
		stats := &ostree.CommitStats{}
		linked, err := r.Commit(t.Context(), openDir(t, dir), &ostree.CommitOptions{Linked: true, Stats: stats})
		require.NoError(t, err)
		got, err := r.ReadCommit(t.Context(), linked)
		require.NoError(t, err)
		require.Equal(t, want.RootTree, got.RootTree)
		require.Equal(t, want.RootMeta, got.RootMeta)
		require.Equal(t, int64(len("new")), stats.BytesRead)
	}
}
