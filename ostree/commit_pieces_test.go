//go:build linux

package ostree_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// Large files are compressed in pieces, some by workers that are through. Neither
// what is read back nor what is stored depends on who did it.
func TestLargeFilesInPieces(t *testing.T) {
	const piece = 1 << 20
	random := rand.New(rand.NewPCG(1, 2))
	entries := []ostree.Entry{dir(".")}
	contents := make(map[string]string)
	for i, size := range []int{piece + 1, 2 * piece, 2*piece + 1, 6*piece + 12345} {
		content := make([]byte, size)
		for j := range content {
			content[j] = "abcdefgh"[7&random.Uint32()>>(j%29)]
		}
		name := fmt.Sprint("file", i)
		contents[name] = string(content)
		entries = append(entries, file(name, string(content)))
	}
	stored := func(r *ostree.Repo) map[string]string {
		all := make(map[string]string)
		root := filepath.Join(r.Path(), "objects")
		require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			all[path[len(root):]] = string(data)
			return err
		}))
		return all
	}
	var want map[string]string
	for _, workers := range []int{1, 4} {
		for _, filled := range []bool{false, true} {
			r := newRepo(t, ostree.ModeArchive)
			if filled { // objects are looked for before they are compressed
				_, err := r.Commit(t.Context(), literal(dir(".")), nil)
				require.NoError(t, err)
			}
			c, err := r.Commit(t.Context(), literal(entries...), &ostree.CommitOptions{Workers: workers, Ref: "x"})
			require.NoError(t, err)
			requireClean(t, r)
			for e, err := range r.Tree(c).Entries(t.Context()) {
				require.NoError(t, err)
				if e.Path != "." {
					_, got := readObject(t, r, e.Object)
					require.True(t, contents[e.Path] == got, e.Path)
				}
			}
			// By way of another mode.
			user := newRepo(t, ostree.ModeBareUser)
			require.NoError(t, user.PullLocal(t.Context(), r, &ostree.PullLocalOptions{Workers: workers, Revs: []string{"x"}}))
			back := newRepo(t, ostree.ModeArchive)
			require.NoError(t, back.PullLocal(t.Context(), user, &ostree.PullLocalOptions{Workers: workers, Revs: []string{"x"}}))
			got := stored(back)
			if want == nil {
				want = got
				require.Len(t, want, len(stored(r)))
			}
			require.Len(t, got, len(want))
			for name, data := range got {
				require.True(t, want[name] == data, "%s, %d workers, filled %v", name, workers, filled)
			}
		}
	}
}
