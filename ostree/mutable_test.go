package ostree_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// commitMutable commits m twice, as it is and walked, to the same checksum, and
// gives that.
func commitMutable(t testing.TB, r *ostree.Repo, m *ostree.MutableTree) ostree.Checksum {
	t.Helper()
	stats := &ostree.CommitStats{}
	got, err := r.Commit(t.Context(), m, &ostree.CommitOptions{Stats: stats})
	require.NoError(t, err)
	require.Zero(t, stats.Files, "no file is looked at")
	walked, err := r.Commit(t.Context(), m, &ostree.CommitOptions{Edit: func(*ostree.Entry) (bool, error) { return true, nil }})
	require.NoError(t, err)
	require.Equal(t, walked, got)
	require.NoError(t, r.Fsck(t.Context(), nil))
	return got
}

func TestMutableTree(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUser)
	base, _ := commitTree(t, r, dir("."), file("a", "1"), dir("d"), file("d/b", "2"), dir("d/e"), file("d/e/f", "3"), link("l", "a"))
	other, commit := commitTree(t, r, dir("."), file("z", "9"), dir("q"), file("q/r", "8"))
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)

	m, err := r.Edit(t.Context(), base)
	require.NoError(t, err)
	require.Equal(t, base, commitMutable(t, r, m), "no change is the same commit")
	require.NoError(t, m.Remove(t.Context(), "/d/e/"))
	require.NoError(t, m.Remove(t.Context(), "l"))
	require.NoError(t, m.SetFile(t.Context(), "d/c", tree.Files[0].Object))
	require.NoError(t, m.Copy(t.Context(), "d/q", other, "q"))
	require.NoError(t, m.Copy(t.Context(), "a", base, "l"))
	require.NoError(t, m.SetDir(t.Context(), "new", ostree.DirMeta{Mode: ostree.ModeDir | 0o700}))
	require.NoError(t, m.SetDir(t.Context(), "d", ostree.DirMeta{Mode: ostree.ModeDir | 0o711, UID: 3}))
	require.NoError(t, m.SetDir(t.Context(), ".", ostree.DirMeta{Mode: ostree.ModeDir | 0o750}))
	for _, path := range []string{"nope", "d/nope", "nope/x", "a/x"} {
		require.ErrorIs(t, m.Remove(t.Context(), path), fs.ErrNotExist, path)
	}
	require.ErrorIs(t, m.SetFile(t.Context(), "nope/x", tree.Files[0].Object), fs.ErrNotExist)
	require.ErrorIs(t, m.SetFile(t.Context(), "x", ostree.Checksum{1}), fs.ErrNotExist)
	require.ErrorIs(t, m.Copy(t.Context(), "x", base, "nope"), fs.ErrNotExist)
	require.ErrorIs(t, m.Copy(t.Context(), "x", ostree.Checksum{1}, "nope"), fs.ErrNotExist)
	require.ErrorIs(t, m.Remove(t.Context(), "../x"), fs.ErrInvalid)
	require.Error(t, m.Remove(t.Context(), "."))
	require.Error(t, m.SetFile(t.Context(), ".", tree.Files[0].Object))
	require.Error(t, m.SetDir(t.Context(), "x", ostree.DirMeta{Mode: 0o755}))

	top, d, added := dir("."), dir("d"), dir("new")
	top.Mode, d.Mode, d.UID, added.Mode = ostree.ModeDir|0o750, ostree.ModeDir|0o711, 3, ostree.ModeDir|0o700
	want, _ := commitTree(t, r, top, link("a", "a"), d, file("d/b", "2"), file("d/c", "9"), dir("d/q"), file("d/q/r", "8"), added)
	require.Equal(t, want, commitMutable(t, r, m))

	// The whole root, and what is gone by the time of the commit.
	require.NoError(t, m.Copy(t.Context(), "/", other, "/"))
	require.Equal(t, other, commitMutable(t, r, m))
	m, err = r.Edit(t.Context(), base)
	require.NoError(t, err)
	require.NoError(t, m.Remove(t.Context(), "a"))
	_, err = r.Prune(t.Context(), &ostree.PruneOptions{RefsOnly: true})
	require.NoError(t, err)
	_, err = r.Commit(t.Context(), m, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = r.Edit(t.Context(), base)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestMutableMerge: a merge is what an overlay is.
func TestMutableMerge(t *testing.T) {
	for seed := range uint64(4) {
		r := newRepo(t, ostree.ModeBareUser)
		opts := &treegen.Options{Files: 40, MaxSize: 1 << 12}
		var layers []ostree.Checksum
		for i := range uint64(3) {
			c, err := r.Commit(t.Context(), treegen.Tree(10*seed+i, opts), nil)
			require.NoError(t, err)
			layers = append(layers, c)
		}
		m, err := r.Edit(t.Context(), layers[0])
		require.NoError(t, err)
		require.NoError(t, m.Merge(t.Context(), layers[1]))
		require.NoError(t, m.Merge(t.Context(), layers[2]))
		want, err := r.Commit(t.Context(), ostree.Overlay(r.Tree(layers[0]), r.Tree(layers[1]), r.Tree(layers[2])), nil)
		require.NoError(t, err)
		require.Equal(t, want, commitMutable(t, r, m))
		require.NoError(t, m.Merge(t.Context(), want))
		require.Equal(t, want, commitMutable(t, r, m))
	}
}
