package zstd

import (
	"encoding/binary"
	"math/bits"
)

func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }
func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }

// extend is how many bytes are the same at a place and at, before the end of content.
func extend(content []byte, place, at int) int {
	a, b := content[place:], content[at:]
	n := 0
	for n+8 <= len(b) && n+8 <= len(a) {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		n += 8
	}
	for n < len(b) && n < len(a) && a[n] == b[n] {
		n++
	}
	return n
}

// high is the place of the highest bit of v, which is not 0.
func high(v uint32) uint32 { return uint32(bits.Len32(v)) - 1 }

const (
	costBits = 8 // costs are in 1/256 bits
	bit      = 1 << costBits
	logSize  = 1 << 11
)

// logs are logarithms to base 2, in 1/256.
var logs = func() (table [logSize]uint16) {
	for i := 1; i < len(table); i++ {
		whole := bits.Len(uint(i)) - 1
		x, log := uint64(i)<<(31-whole), uint16(whole)
		for range costBits { // a bit for each squaring
			x = x * x >> 31
			log <<= 1
			if x >= 1<<32 {
				x >>= 1
				log |= 1
			}
		}
		table[i] = log
	}
	return table
}()

// weighted are numbers times their logarithms.
var weighted = func() (table [logSize]uint32) {
	for i, log := range logs {
		table[i] = uint32(i) * uint32(log)
	}
	return table
}()

// log2 is the logarithm of v, which is not 0, in 1/256.
func log2(v uint32) uint32 {
	shift := max(bits.Len32(v), 11) - 11
	return uint32(logs[v>>shift&(logSize-1)]) + uint32(shift)<<costBits
}
