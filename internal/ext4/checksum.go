package ext4

import (
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c is the kernel's function of that name: without the inversions of the
// usual checksum, so that seeds and parts chain.
func crc32c(seed uint32, parts ...[]byte) uint32 {
	for _, p := range parts {
		seed = ^crc32.Update(^seed, castagnoli, p)
	}
	return seed
}

// crc16 is CRC-16/ARC with the given start.
func crc16(seed uint16, parts ...[]byte) uint16 {
	for _, part := range parts {
		for _, b := range part {
			seed ^= uint16(b)
			for range 8 {
				if seed&1 != 0 {
					seed = seed>>1 ^ 0xa001
				} else {
					seed >>= 1
				}
			}
		}
	}
	return seed
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// without gives b with zeros where a checksum of so many bytes is.
func without(b []byte, at, n int) []byte {
	c := append([]byte(nil), b...)
	clear(c[at : at+n])
	return c
}
