package composefs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/composefs"
)

func verity(data []byte) composefs.Digest {
	var v composefs.Verity
	_, _ = v.Write(data)
	return v.Sum()
}

// slow is the digest as the kernel's documentation words it.
func slow(data []byte) composefs.Digest {
	root := make([]byte, 32)
	for level := data; len(level) > 0; {
		var hashes []byte
		for ; len(level) > 0; level = level[min(4096, len(level)):] {
			var block [4096]byte
			copy(block[:], level)
			hash := sha256.Sum256(block[:])
			hashes = append(hashes, hash[:]...)
		}
		if len(hashes) == 32 {
			root = hashes
			break
		}
		level = hashes
	}
	descriptor := make([]byte, 256)
	copy(descriptor, []byte{1, 1, 12})
	binary.LittleEndian.PutUint64(descriptor[8:], uint64(len(data)))
	copy(descriptor[16:], root)
	return sha256.Sum256(descriptor)
}

func TestVerity(t *testing.T) {
	for _, tc := range []struct{ content, want string }{
		{"", "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"}, // `fsverity digest`
		{"moo\n", "ebaa23af194a798df610e5fe2bd10725c9c4a3a56a6b62d4d0ee551d4fc4be27"},
	} {
		require.Equal(t, tc.want, hex.EncodeToString(sum(verity([]byte(tc.content)))), "%q", tc.content)
	}
	const block = 4096
	var v composefs.Verity
	for _, size := range []int{0, 1, block - 1, block, block + 1, 128*block - 1, 128 * block, 128*block + 1, 129 * block, 128*128*block + 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := make([]byte, size)
			random := rand.NewChaCha8([32]byte{1})
			_, _ = random.Read(data)
			want := slow(data)
			require.Equal(t, want, verity(data))
			for rest := data; len(rest) > 0; { // in odd pieces
				n, err := v.Write(rest[:min(3*block-5, len(rest))])
				require.NoError(t, err)
				rest = rest[n:]
			}
			require.Equal(t, want, v.Sum())
			if size > 0 {
				data[size-1] ^= 1
				require.NotEqual(t, want, verity(data))
			}
		})
	}
}

func sum(d composefs.Digest) []byte { return d[:] }

func BenchmarkVerity(b *testing.B) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var v composefs.Verity
	for b.Loop() {
		_, _ = v.Write(data)
		v.Sum()
	}
}
