package xxhash_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/xxhash"
)

// The lower halves are what zstd 1.5 writes behind frames of that content.
func TestSum64(t *testing.T) {
	for content, want := range map[string]uint64{
		"":    0xef46db3751d8e999,
		"a":   0xd24ec4f1a98c6e5b,
		"abc": 0x44bc2cf5ad770999,
		"Nobody inspects the spammish repetition": 0xfbcea83c8a378bf1,
		strings.Repeat("0123456789", 10) + "abc":  0x4724a2cb8c422dad,
	} {
		require.Equal(t, want, xxhash.Sum64([]byte(content)), content)
	}
}

func BenchmarkSum64(b *testing.B) {
	content := make([]byte, 1<<20)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		xxhash.Sum64(content)
	}
}
