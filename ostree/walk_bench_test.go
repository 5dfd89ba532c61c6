package ostree_test

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// wideTree has so many files, twenty in each directory, one of ten of which is
// below the root, as in a Debian system.
func wideTree(files int) ostree.Tree {
	return ostree.TreeFunc(func(context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			if !yield(dir("."), nil) {
				return
			}
			n := 0
			for i := 0; n < files; i++ {
				top := fmt.Sprintf("directory-%04d", i)
				for j := range 10 {
					at := top
					if j > 0 {
						at += fmt.Sprintf("/below-%d", j)
					}
					if !yield(dir(at), nil) {
						return
					}
					for k := range 20 {
						// Before "below" in the order of names.
						name := fmt.Sprintf("%s/a-file-%d.%d", at, n%1000, 10+k)
						if n++; !yield(file(name, "content"), nil) {
							return
						}
					}
				}
			}
		}
	})
}

// BenchmarkWalk walks the metadata of a commit of 50,000 files in 2,500
// directories: names and checksums of everything, owners and modes of directories.
func BenchmarkWalk(b *testing.B) {
	const files = 50000
	r := newRepo(b, ostree.ModeArchive)
	c, err := r.Commit(b.Context(), wideTree(files), nil)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		commit, err := r.ReadCommit(b.Context(), c)
		require.NoError(b, err)
		n := 0
		metas := make(map[ostree.Checksum]*ostree.DirMeta) // there are few
		var walk func(tree, meta ostree.Checksum) error
		walk = func(tree, meta ostree.Checksum) error {
			d, err := r.ReadDirTree(b.Context(), tree)
			if err != nil {
				return err
			}
			if metas[meta] == nil {
				if metas[meta], err = r.ReadDirMeta(b.Context(), meta); err != nil {
					return err
				}
			}
			n += len(d.Files)
			for i := range d.Dirs {
				if err := walk(d.Dirs[i].Tree, d.Dirs[i].Meta); err != nil {
					return err
				}
			}
			return nil
		}
		require.NoError(b, walk(commit.RootTree, commit.RootMeta))
		require.Equal(b, files, n)
	}
	b.ReportMetric(float64(files)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
