package ostree_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// TestCommitOfCheckout: a commit of a commit's checkout is that commit.
func TestCommitOfCheckout(t *testing.T) {
	if !isRoot() {
		t.Skip("restoring owners and attributes needs root")
	}
	for _, seed := range treegen.Seeds(t, 3) {
		tree := treegen.Tree(seed, &treegen.Options{Root: true, Files: 100, MaxSize: 1 << 20})
		for _, mode := range faithful() {
			t.Run(fmt.Sprintf("%d/%s", seed, mode), func(t *testing.T) {
				r := newRepo(t, mode)
				want, err := r.Commit(t.Context(), tree, &ostree.CommitOptions{Edit: withoutEmpty})
				require.NoError(t, err)
				for _, copied := range []bool{false, true} {
					out := t.TempDir()
					checkout(t, r, out, want, &ostree.CheckoutOptions{Copy: copied})
					got, err := r.Commit(t.Context(), openDir(t, out), nil)
					require.NoError(t, err)
					require.Equal(t, want, got)
				}
			})
		}
	}
}

// withoutEmpty takes away what a directory's reader does not see.
func withoutEmpty(e *ostree.Entry) (bool, error) {
	var kept []ostree.Xattr
	for _, x := range e.Xattrs {
		if len(x.Value) > 0 {
			kept = append(kept, x)
		}
	}
	e.Xattrs = kept
	return true, nil
}

func TestCheckoutLinks(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUser)
	setuid := file("setuid", "4")
	setuid.Mode = ostree.ModeRegular | 0o4755
	hidden := file("hidden", "5")
	hidden.Mode = ostree.ModeRegular
	c, commit := commitTree(t, r, dir("."), file("a", "1"), file("empty", ""), setuid, hidden, dir("d"), file("d/b", "2"), link("d/l", "b"))
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	object, err := os.Stat(objectFile(r, tree.Files[0].Object, "file"))
	require.NoError(t, err)

	linked, copied := t.TempDir(), t.TempDir()
	checkout(t, r, linked, c, &ostree.CheckoutOptions{UserMode: true})
	checkout(t, r, copied, c, &ostree.CheckoutOptions{UserMode: true, Copy: true})
	st, err := os.Stat(linked + "/a")
	require.NoError(t, err)
	require.True(t, os.SameFile(object, st))
	st, err = os.Stat(copied + "/a")
	require.NoError(t, err)
	require.False(t, os.SameFile(object, st))
	for _, out := range []string{linked, copied} {
		st, err = os.Stat(out + "/setuid")
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o755), st.Mode())
		st, err = os.Stat(out + "/hidden")
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o400), st.Mode())
		target, err := os.Readlink(out + "/d/l")
		require.NoError(t, err)
		require.Equal(t, "b", target)
	}
	st, err = os.Stat(linked + "/empty")
	require.NoError(t, err)
	require.EqualValues(t, 1, nlink(st), "empty files are never links")
	st, err = os.Stat(linked + "/d")
	require.NoError(t, err)
	require.Zero(t, st.ModTime().Unix())

	sub := t.TempDir()
	checkout(t, r, sub, c, &ostree.CheckoutOptions{Subpath: "/d/", UserMode: true})
	require.FileExists(t, sub+"/b")
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	require.ErrorIs(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{Subpath: "nope"}), fs.ErrNotExist)
	require.ErrorIs(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{Subpath: "d/b"}), fs.ErrNotExist)
	require.ErrorIs(t, r.Checkout(t.Context(), root, ostree.Checksum{1}, nil), fs.ErrNotExist)
}

func TestCheckoutUnion(t *testing.T) {
	for _, mode := range allModes() {
		for _, copied := range []bool{false, true} {
			r := newRepo(t, mode)
			c, _ := commitTree(t, r, dir("."), dir("d"), file("d/a", "new"), link("d/l", "new"), file("d/only", "1"))
			for _, u := range []struct {
				union ostree.Union
				want  string
			}{{ostree.UnionOverwrite, "new"}, {ostree.UnionAdd, "old"}} {
				out := t.TempDir()
				require.NoError(t, os.Mkdir(out+"/d", 0o750))
				require.NoError(t, os.WriteFile(out+"/d/a", []byte("old"), 0o600))
				require.NoError(t, os.Symlink("old", out+"/d/l"))
				require.NoError(t, os.WriteFile(out+"/d/extra", []byte("old"), 0o600))
				opts := &ostree.CheckoutOptions{UserMode: true, Union: u.union, Copy: copied}
				for range 2 {
					checkout(t, r, out, c, opts)
					data, err := os.ReadFile(out + "/d/a")
					require.NoError(t, err)
					require.Equal(t, u.want, string(data))
					target, err := os.Readlink(out + "/d/l")
					require.NoError(t, err)
					require.Equal(t, u.want, target)
					entries, err := os.ReadDir(out + "/d")
					require.NoError(t, err)
					require.Len(t, entries, 4, fmt.Sprint(entries))
					st, err := os.Stat(out + "/d")
					require.NoError(t, err)
					require.Equal(t, fs.ModeDir|0o750, st.Mode(), "it was there")
				}
				root, err := os.OpenRoot(out)
				require.NoError(t, err)
				require.ErrorIs(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true}), fs.ErrExist)
				require.NoError(t, root.Close())
			}
		}
	}
}

// TestCheckoutStaysInside: links in the folder are never followed.
func TestCheckoutStaysInside(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	c, _ := commitTree(t, r, dir("."), dir("etc"), file("etc/passwd", "evil"), file("f", "evil"))
	outside, out := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(outside+"/f", []byte("mine"), 0o644))
	require.NoError(t, os.Symlink(outside, out+"/etc"))
	require.NoError(t, os.Symlink(outside+"/f", out+"/f"))
	root, err := os.OpenRoot(out)
	require.NoError(t, err)
	defer root.Close()
	require.Error(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true, Union: ostree.UnionOverwrite}))
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	data, err := os.ReadFile(outside + "/f")
	require.NoError(t, err)
	require.Equal(t, "mine", string(data))
}

// TestCheckoutVerifies: what is copied is checked, and nothing is left under the
// name of a file that is not right.
func TestCheckoutVerifies(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	c, commit := commitTree(t, r, dir("."), file("a", large(1)))
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	flip(t, objectFile(r, tree.Files[0].Object, "filez"), -20)
	out := t.TempDir()
	root, err := os.OpenRoot(out)
	require.NoError(t, err)
	defer root.Close()
	require.ErrorIs(t, r.Checkout(t.Context(), root, c, nil), ostree.ErrCorrupt)
	names, err := filepath.Glob(out + "/*")
	require.NoError(t, err)
	require.Empty(t, names)
	names, err = filepath.Glob(out + "/.*")
	require.NoError(t, err)
	require.Empty(t, names)
}

func TestDevInoCache(t *testing.T) {
	source := t.TempDir()
	for i := range 20 {
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/f%02d", source, i), []byte(fmt.Sprint("content", i)), 0o644))
	}
	path := filepath.Join(t.TempDir(), "cache")
	r := newRepo(t, ostree.ModeBareUser)
	commit := func(opts ostree.CommitOptions) (ostree.Checksum, ostree.CommitStats) {
		return commitCached(t, r, openDir(t, source), path, opts)
	}
	settle(t, source)
	want, stats := commit(ostree.CommitOptions{})
	require.Zero(t, stats.CacheHits)
	got, stats := commit(ostree.CommitOptions{})
	require.Equal(t, want, got)
	require.EqualValues(t, 20, stats.CacheHits)
	require.Zero(t, stats.BytesRead)

	// The checksum is over owner and mode too.
	owned, stats := commit(ostree.CommitOptions{Owner: &ostree.Owner{UID: 3, GID: 4}})
	require.Zero(t, stats.CacheHits)
	uncached, err := r.Commit(t.Context(), openDir(t, source), &ostree.CommitOptions{Owner: &ostree.Owner{UID: 3, GID: 4}})
	require.NoError(t, err)
	require.Equal(t, uncached, owned)

	// Same size and mtime, other content: ctime tells.
	st, err := os.Stat(source + "/f00")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(source+"/f00", []byte("CONTENT0"), 0o644))
	require.NoError(t, os.Chtimes(source+"/f00", st.ModTime(), st.ModTime()))
	got, stats = commit(ostree.CommitOptions{})
	require.NotEqual(t, want, got)
	require.EqualValues(t, 19, stats.CacheHits)

	// A repository that lacks the object gets it.
	other := newRepo(t, ostree.ModeArchive)
	cache, err := ostree.OpenDevInoCache(path)
	require.NoError(t, err)
	again, err := other.Commit(t.Context(), openDir(t, source), &ostree.CommitOptions{Cache: cache})
	require.NoError(t, err)
	require.Equal(t, got, again)
	require.NoError(t, other.Fsck(t.Context(), nil))

	// A damaged cache is an empty one.
	flip(t, path, 40)
	_, stats = commit(ostree.CommitOptions{})
	require.Zero(t, stats.CacheHits)
}

// What eight saves in a row did not need is forgotten, and nothing else.
func TestDevInoCacheForgets(t *testing.T) {
	kept, other := t.TempDir(), t.TempDir()
	for i := range 50 {
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/f%02d", kept, i), []byte(fmt.Sprint("kept", i)), 0o644))
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/f%02d", other, i), []byte(fmt.Sprint("other", i)), 0o644))
	}
	settle(t, kept)
	settle(t, other)
	path := filepath.Join(t.TempDir(), "cache")
	r := newRepo(t, ostree.ModeBareUser)
	hits := func(folder string) int64 {
		_, stats := commitCached(t, r, openDir(t, folder), path, ostree.CommitOptions{})
		return stats.CacheHits
	}
	size := func() int64 {
		st, err := os.Stat(path)
		require.NoError(t, err)
		return st.Size()
	}
	require.Zero(t, hits(kept))
	one := size()
	require.Zero(t, hits(other))
	two := size()
	require.EqualValues(t, 50, hits(kept))
	for range 7 {
		require.EqualValues(t, 50, hits(other))
		require.Equal(t, two, size())
	}
	require.EqualValues(t, 50, hits(kept), "needed again in time")
	for range 8 {
		require.EqualValues(t, 50, hits(kept))
	}
	require.Equal(t, one, size(), "forgotten")
	before, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 50, hits(kept))
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after), "nothing changed, so nothing is written")
	require.Zero(t, hits(other))
}

// settle waits until the files of a folder are older than the clock's tick.
func settle(t testing.TB, folder string) {
	t.Helper()
	probe := filepath.Join(t.TempDir(), "probe")
	var newest int64
	for e, err := range openDir(t, folder).Entries(t.Context()) {
		require.NoError(t, err)
		newest = max(newest, e.Identity.CtimeNs)
	}
	for {
		require.NoError(t, os.WriteFile(probe, nil, 0o644))
		st, err := os.Stat(probe)
		require.NoError(t, err)
		if st.ModTime().UnixNano() > newest+100_000_000 {
			return
		}
	}
}
