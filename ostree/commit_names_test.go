package ostree_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// TestCommitOfManyNames: however long names are and in whatever order they come,
// each keeps its object.
func TestCommitOfManyNames(t *testing.T) {
	t.Parallel()
	var below []ostree.Entry
	for i := range 300 {
		below = append(below, dir(fmt.Sprintf("d%03d-%s", i, strings.Repeat("x", 300))), file(fmt.Sprintf("f%03d-%s", i, strings.Repeat("y", 300)), fmt.Sprint(i)))
	}
	below = append(below, file(strings.Repeat("long", 20_000), "long"), file("z", "behind it"), dir("d/"+strings.Repeat("e", 65_535)), file("d/f", "f"))
	below = append(below, dir("d"))
	slices.SortFunc(below, func(a, b ostree.Entry) int { return strings.Compare(a.Path, b.Path) })
	r := newRepo(t, ostree.ModeArchive)
	c, _ := commitTree(t, r, append([]ostree.Entry{dir(".")}, below...)...)

	// The same files by short names.
	short := []ostree.Entry{dir(".")}
	var files []string
	want := make(map[string]ostree.Checksum)
	for _, e := range below {
		want[e.Path] = ostree.Checksum{}
		if e.Mode&ostree.ModeType == ostree.ModeRegular {
			files = append(files, e.Path)
			e.Path = fmt.Sprintf("%04d", len(files))
			short = append(short, e)
		}
	}
	_, commit := commitTree(t, r, short...)
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	for i, f := range tree.Files {
		want[files[i]] = f.Object
	}
	for e, err := range r.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		if e.Path == "." {
			continue
		}
		sum, ok := want[e.Path]
		require.True(t, ok, "%.80s", e.Path)
		if !sum.IsZero() {
			require.Equal(t, sum, e.Object, "%.80s", e.Path)
		}
		delete(want, e.Path)
	}
	require.Empty(t, want)

	// Another order: what is in a directory comes from behind.
	slices.SortStableFunc(below, func(a, b ostree.Entry) int {
		if x, y := strings.Count(a.Path, "/"), strings.Count(b.Path, "/"); x != y {
			return x - y
		}
		return strings.Compare(b.Path, a.Path)
	})
	again, _ := commitTree(t, r, append([]ostree.Entry{dir(".")}, below...)...)
	require.Equal(t, c, again)
}

// TestCommitRefusesWhatCannotBeRead: no commit is made that is deeper or larger than those
// that are read.
func TestCommitRefusesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	chain := func(depth int) []ostree.Entry {
		entries := []ostree.Entry{dir(".")}
		for i := range depth {
			entries = append(entries, dir(strings.Repeat("d/", i)+"d"))
		}
		return entries
	}
	c, err := r.Commit(t.Context(), literal(chain(2048)...), nil)
	require.NoError(t, err)
	for _, err := range r.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
	}
	_, err = r.Commit(t.Context(), literal(chain(2049)...), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "directories nest deeper than 2048")

	large := []ostree.MetadataItem{{Key: "large", Value: ostree.BytesVariant(make([]byte, ostree.MaxMetadataSize))}}
	_, err = r.Commit(t.Context(), r.Tree(c), &ostree.CommitOptions{Metadata: large})
	require.ErrorContains(t, err, "commit of 134217")
	_, err = r.Commit(t.Context(), r.Tree(c), &ostree.CommitOptions{Detached: large})
	require.ErrorContains(t, err, "commitmeta of 134217")
	require.NoError(t, r.Fsck(t.Context(), nil))
}

// TestCommitNamesDirectory: a directory that the disk has no room for is named.
func TestCommitNamesDirectory(t *testing.T) {
	mount := smallDisk(t, "1m")
	r, err := ostree.Init(t.Context(), filepath.Join(mount, "repo"), ostree.ModeArchive, nil)
	require.NoError(t, err)
	require.NoError(t, r.SetConfig(t.Context(), "core", "min-free-space-percent", "0"))
	require.NoError(t, r.Close())
	r, err = ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	defer r.Close()
	entries := []ostree.Entry{dir("."), dir("a"), dir("a/b"), dir("a/b/many")}
	for i := range 200 {
		entries = append(entries, file(fmt.Sprintf("a/b/many/%03d%s", i, strings.Repeat("n", 8000)), ""))
	}
	_, err = r.Commit(t.Context(), literal(append(entries, dir("a/c"), dir("b"))...), nil)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "ostree: commit a/b/many: ")
	requireClean(t, r)
}
