package ostree_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// TestClaims compares the table of claims with a map: as it grows, and with claims
// that are taken back and made again.
func TestClaims(t *testing.T) {
	t.Parallel()
	type key struct {
		kind ostree.ObjectType
		sum  ostree.Checksum
	}
	table, want := ostree.NewClaimTable(), make(map[key]uint8)
	random := uint64(1)
	for range 30_000 {
		random = random*6364136223846793005 + 1442695040888963407
		n := random >> 33 % 3000
		k := key{kind: ostree.TypeFile + ostree.ObjectType(n%3)} // objects of three kinds have one checksum
		binary.BigEndian.PutUint64(k.sum[:], n/3)
		got, ok := table.Get(k.kind, k.sum)
		old, there := want[k]
		require.Equal(t, there, ok)
		require.Equal(t, old, got)
		if random>>60%4 == 0 {
			table.Remove(k.kind, k.sum)
			delete(want, k)
		} else {
			shelf := uint8(random >> 20 % 5)
			table.Set(k.kind, k.sum, shelf)
			want[k] = shelf
		}
		require.Equal(t, len(want), table.Len())
	}
	require.Greater(t, len(want), 2000)
	got := make(map[key]uint8)
	table.Each(func(kind ostree.ObjectType, sum ostree.Checksum, shelf uint8) { got[key{kind, sum}] = shelf })
	require.Equal(t, want, got)
}

// BenchmarkClaims makes 100,000 claims; its bytes are what they take.
func BenchmarkClaims(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		table := ostree.NewClaimTable()
		for i := range uint64(100_000) {
			var sum ostree.Checksum
			binary.BigEndian.PutUint64(sum[:], i)
			table.Set(ostree.TypeFile, sum, 0)
			table.Set(ostree.TypeFile, sum, 1)
		}
	}
}
