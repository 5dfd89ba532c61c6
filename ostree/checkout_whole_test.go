package ostree_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// manyFiles is some directories with more files than are one task of a checkout,
// and files beside them.
func manyFiles() (entries []ostree.Entry, files int) {
	entries = append(entries, dir("."), file("a", "content"), file("z", "content"))
	for _, top := range []string{"b", "c"} {
		entries = append(entries, dir(top), dir(top+"/sub"))
		for i := range 300 {
			entries = append(entries, file(fmt.Sprintf("%s/sub/%03d", top, i), fmt.Sprintf("%s %d", top, i)))
			files++
		}
	}
	return entries, files + 2
}

// below gives the paths of what is below a folder, sorted.
func below(t testing.TB, folder string) (paths []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(p string, _ fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // it got another name meanwhile
		}
		rel, _ := filepath.Rel(folder, p)
		paths = append(paths, rel)
		return err
	}))
	slices.Sort(paths)
	return paths
}

// TestCheckoutShowsWhole: while a folder is filled, what has its name in it is
// whole.
func TestCheckoutShowsWhole(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	entries, files := manyFiles()
	c, _ := commitTree(t, r, entries...)
	out := t.TempDir()
	root, err := os.OpenRoot(out)
	require.NoError(t, err)
	defer root.Close()
	looks, shown := 0, 0
	require.NoError(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true, Workers: 1, Progress: func(e ostree.Event) {
		looks++
		for _, top := range []string{"b", "c"} {
			if _, err := os.Lstat(out + "/" + top); err == nil {
				shown++
				require.Len(t, below(t, out+"/"+top), 302, "after %d files", e.Done)
			}
		}
	}}))
	require.Greater(t, looks, 5)
	require.NotZero(t, shown)
	got := below(t, out)
	require.Len(t, got, files+5)
	require.False(t, slices.ContainsFunc(got, func(p string) bool { return strings.HasPrefix(p, ".okd") }))
}

// TestCheckoutFailureShows: what was written before an error has its name.
func TestCheckoutFailureShows(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	entries, _ := manyFiles()
	c, _ := commitTree(t, r, append(entries, file("c/sub/zzz", large(1)))...)
	for e, err := range r.List(t.Context(), c, "c/sub/zzz", nil) {
		require.NoError(t, err)
		flip(t, objectFile(r, e.Object, "filez"), -20)
	}
	out := t.TempDir()
	root, err := os.OpenRoot(out)
	require.NoError(t, err)
	defer root.Close()
	err = r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true, Workers: 1})
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	require.ErrorContains(t, err, "c/sub/zzz")
	got := below(t, out)
	require.Contains(t, got, "c/sub/255") // of an earlier task
	for _, p := range got {
		require.False(t, strings.HasPrefix(p, ".okd"), p)
		require.NotEqual(t, "c/sub/zzz", p)
	}
}

// TestCheckoutModes: files and directories have owner, mode and attributes of the
// commit whatever the process and the folder give new ones.
func TestCheckoutModes(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	entries := []ostree.Entry{dir("."), dir("sub")}
	modes := []uint32{0, 0o400, 0o600, 0o640, 0o644, 0o666, 0o755, 0o777, 0o2755, 0o4755, 0o1644}
	for _, mode := range modes {
		for _, top := range []string{"", "sub/"} {
			e := file(fmt.Sprintf("%s%05o", top, mode), "content")
			e.Mode = ostree.ModeRegular | mode
			entries = append(entries, e)
		}
	}
	c, _ := commitTree(t, r, entries...)
	for _, mask := range []int{0, 0o022, 0o077} {
		for _, bits := range []os.FileMode{0o755, 0o755 | os.ModeSetgid} {
			out := t.TempDir()
			require.NoError(t, os.Chmod(out, bits))
			root, err := os.OpenRoot(out)
			require.NoError(t, err)
			old := syscall.Umask(mask)
			err = r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true})
			syscall.Umask(old)
			require.NoError(t, err)
			require.NoError(t, root.Close())
			for _, mode := range modes {
				for _, top := range []string{"", "sub/"} {
					var st syscall.Stat_t
					require.NoError(t, syscall.Lstat(fmt.Sprintf("%s/%s%05o", out, top, mode), &st))
					require.Equal(t, mode&^0o6000|0o400, st.Mode&0o7777, "mode %o, umask %o", mode, mask)
				}
			}
			var st syscall.Stat_t
			require.NoError(t, syscall.Lstat(out+"/sub", &st))
			require.Equal(t, uint32(0o755), st.Mode&0o7777)
		}
	}
}
