//go:build linux

package ostree_test

import (
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

// What a killed checkout left is removed by the next one into the same folder,
// unless another runs there, and nothing else is.
func TestCheckoutRemovesLeftovers(t *testing.T) {
	r := newRepo(t, ostree.ModeArchive)
	c, err := r.Commit(t.Context(), literal(dir("."), file("a", "1"), dir("d"), dir("d/e"), file("d/e/f", "2")), nil)
	require.NoError(t, err)
	kept := []string{"d", "d/.okd-checkout-", "d/.okd-checkout-1", "d/.okd-checkout-1-x", "d/e"}
	left := []string{".okd-checkout-7-1", ".okd-checkout-7-1/usr", ".okd-checkout-7-1/usr/file", ".okd-checkout-7-9", "d/.okd-checkout-7-2", "d/e/.okd-checkout-7-3", "d/e/.okd-checkout-7-3/file"}
	made := []string{"a", "d/e/f"}
	names := func(t *testing.T, path string) (all []string) {
		require.NoError(t, fs.WalkDir(os.DirFS(path), ".", func(path string, _ fs.DirEntry, err error) error {
			if path != "." {
				all = append(all, path)
			}
			return err
		}))
		return all
	}
	sorted := func(lists ...[]string) []string {
		all := slices.Concat(lists...)
		slices.SortFunc(all, func(a, b string) int {
			return strings.Compare(a, b)
		})
		return all
	}
	prepare := func(t *testing.T) (string, *os.Root) {
		path := t.TempDir()
		for _, name := range sorted(kept, left) {
			at := filepath.Join(path, name)
			if filepath.Base(name) == "file" || filepath.Dir(name) == "d" && name != "d/e" {
				require.NoError(t, os.WriteFile(at, nil, 0o600))
			} else {
				require.NoError(t, os.Mkdir(at, 0o700))
			}
		}
		root, err := os.OpenRoot(path)
		require.NoError(t, err)
		t.Cleanup(func() { root.Close() })
		return path, root
	}
	for _, union := range []ostree.Union{ostree.UnionOverwrite, ostree.UnionAdd, ostree.UnionIdentical} {
		path, root := prepare(t)
		require.NoError(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true, Union: union}))
		require.ElementsMatch(t, sorted(kept, made), names(t, path))
	}
	t.Run("another runs", func(t *testing.T) {
		path, root := prepare(t)
		other, err := root.Open(".")
		require.NoError(t, err)
		defer other.Close()
		require.NoError(t, syscall.Flock(int(other.Fd()), syscall.LOCK_SH))
		require.NoError(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true, Union: ostree.UnionOverwrite}))
		require.ElementsMatch(t, sorted(kept, made, left), names(t, path))
	})
	t.Run("into an empty folder", func(t *testing.T) {
		path := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(path, ".okd-checkout-7-1", "usr"), 0o700))
		root, err := os.OpenRoot(path)
		require.NoError(t, err)
		defer root.Close()
		require.NoError(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true}))
		require.ElementsMatch(t, sorted(made, []string{"d", "d/e"}), names(t, path))
	})
	t.Run("failed", func(t *testing.T) { // leaves no name of its own
		path, root := prepare(t)
		require.NoError(t, os.WriteFile(filepath.Join(path, "a"), []byte("another"), 0o644))
		require.ErrorIs(t, r.Checkout(t.Context(), root, c, &ostree.CheckoutOptions{UserMode: true, Union: ostree.UnionIdentical}), fs.ErrExist)
		for _, name := range names(t, path) {
			require.NotContains(t, left, name)
			require.NotRegexp(t, `\.okd-checkout-\d+-\d+`, name)
		}
	})
}
