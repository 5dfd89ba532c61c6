package ostree_test

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

func TestRepair(t *testing.T) {
	tree := func() ostree.Tree {
		return literal(dir("."), file("a", strings.Repeat("a", 100)), dir("d"), file("d/b", "bbb"), dir("d/e"), file("d/e/f", "fff"), link("l", "a"))
	}
	opts := func() *ostree.CommitOptions {
		return &ostree.CommitOptions{Ref: "x", Timestamp: time.Unix(5, 0), Detached: []ostree.MetadataItem{{Key: "k", Value: ostree.StringVariant("v")}}}
	}
	for _, mode := range allModes() {
		src := newRepo(t, ostree.ModeArchive)
		want, err := src.Commit(t.Context(), tree(), opts())
		require.NoError(t, err)
		good := newRepo(t, mode)
		_, err = good.Commit(t.Context(), tree(), opts())
		require.NoError(t, err)
		whole := objectFacts(t, good.Path())
		// Detached metadata is named by nothing, and nothing is valid metadata.
		names := slices.DeleteFunc(strings.Split(objectNames(t, good.Path()), "\n"), func(name string) bool { return strings.HasSuffix(name, ".commitmeta") })
		cases := []string{"all"}
		if mode == ostree.ModeArchive {
			cases = append(cases, names...)
		}
		for _, name := range cases {
			for _, missing := range []bool{false, true} {
				r := newRepo(t, mode)
				_, err = r.Commit(t.Context(), tree(), opts())
				require.NoError(t, err)
				for _, each := range names {
					if each != name && name != "all" {
						continue
					}
					path := r.Path() + each
					if st, err := os.Lstat(path); missing || err != nil || st.Mode()&fs.ModeSymlink != 0 {
						require.NoError(t, os.Remove(path))
						continue
					}
					require.NoError(t, os.Truncate(path, 0))
				}
				empty := newRepo(t, mode)
				_, err := r.Repair(t.Context(), empty)
				require.ErrorIs(t, err, fs.ErrNotExist)
				n, err := r.Repair(t.Context(), src)
				require.NoError(t, err, "%s %s", mode, name)
				require.NotZero(t, n)
				require.NoError(t, r.Fsck(t.Context(), nil))
				same(t, whole, objectFacts(t, r.Path()))
				got, err := r.Resolve(t.Context(), "x")
				require.NoError(t, err)
				require.Equal(t, want, got)
				n, err = r.Repair(t.Context(), src)
				require.NoError(t, err)
				require.Zero(t, n)
				requireClean(t, r)
			}
		}
	}
}
