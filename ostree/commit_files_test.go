package ostree_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// TestCommitInAnyOrder: files that come in another order than that of their
// names, or again, make the same tree.
func TestCommitInAnyOrder(t *testing.T) {
	want := map[string]ostree.Entry{}
	for i := range 50 {
		e := file(fmt.Sprintf("f%02d", i), fmt.Sprint(i))
		want[e.Path] = e
	}
	sorted := []ostree.Entry{dir(".")}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		sorted = append(sorted, want[name])
	}
	r := newRepo(t, ostree.ModeArchive)
	_, first := commitTree(t, r, sorted...)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		entries := slices.Clone(sorted)
		random.Shuffle(len(entries)-1, func(i, j int) { entries[i+1], entries[j+1] = entries[j+1], entries[i+1] })
		// The first ones come once more: before, as a directory and as another
		// file, and as a directory that is left out again.
		before := []ostree.Entry{dir("."), dir(entries[1].Path), file(entries[1].Path+"/below", "x"), file(entries[2].Path, "other")}
		_, got := commitTree(t, r, append(before, entries[1:]...)...)
		require.Equal(t, first.RootTree, got.RootTree)
		_, got = commitTree(t, r, append(slices.Clone(sorted), dir(entries[1].Path), entries[1])...)
		require.Equal(t, first.RootTree, got.RootTree)
	}
}
