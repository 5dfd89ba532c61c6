// Package xxhash has XXH64, which tells whether content is damaged, at several times the
// speed of a cryptographic hash:
// https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md.
package xxhash

import (
	"encoding/binary"
	"math/bits"
)

const (
	prime1 = 0x9e3779b185ebca87
	prime2 = 0xc2b2ae3d27d4eb4f
	prime3 = 0x165667b19e3779f9
	prime4 = 0x85ebca77c2b2ae63
	prime5 = 0x27d4eb2f165667c5
)

func round64(acc, v uint64) uint64 { return bits.RotateLeft64(acc+v*prime2, 31) * prime1 }

func merge64(h, acc uint64) uint64 { return (h^round64(0, acc))*prime1 + prime4 }

// Sum64 is the hash with seed 0.
func Sum64(b []byte) uint64 {
	n := uint64(len(b))
	h := uint64(prime5)
	if len(b) >= 32 {
		one := uint64(prime1)
		a, b2, c, d := one+prime2, uint64(prime2), uint64(0), -one
		for len(b) >= 32 {
			a = round64(a, binary.LittleEndian.Uint64(b))
			b2 = round64(b2, binary.LittleEndian.Uint64(b[8:]))
			c = round64(c, binary.LittleEndian.Uint64(b[16:]))
			d = round64(d, binary.LittleEndian.Uint64(b[24:]))
			b = b[32:]
		}
		h = bits.RotateLeft64(a, 1) + bits.RotateLeft64(b2, 7) + bits.RotateLeft64(c, 12) + bits.RotateLeft64(d, 18)
		h = merge64(merge64(merge64(merge64(h, a), b2), c), d)
	}
	h += n
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^round64(0, binary.LittleEndian.Uint64(b)), 27)*prime1 + prime4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(b))*prime1, 23)*prime2 + prime3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}
