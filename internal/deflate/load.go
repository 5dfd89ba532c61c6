package deflate

import (
	"encoding/binary"
	"math/bits"
)

func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }
func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }

// extend is how many bytes, at most limit, are the same at a place and at.
func extend(content []byte, place, at, limit int) int {
	limit = min(limit, len(content)-at)
	n := 0
	for n+8 <= limit {
		if x := load64(content, place+n) ^ load64(content, at+n); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		n += 8
	}
	for n < limit && content[place+n] == content[at+n] {
		n++
	}
	return n
}
