package inflate

import "math/bits"

// An entry of a decoding table:
//
//	bits  0-5   bits to drop: those of the code and the extra ones after it
//	bits  8-11  bits of the code alone
//	bit  13     end of the block
//	bit  14     not an ordinary code: with bit 13 the end of the block, with bits
//	            0-5 a table for longer codes that has as many bits, else no code
//	bit  15     a literal
//	bits 16-31  the literal, the shortest length or distance, or where the table
//	            for longer codes begins
const (
	dropMask = 63
	endFlag  = 1 << 13
	oddFlag  = 1 << 14
	litFlag  = 1 << 15
)

// How many bits the tables look at. Longer codes are in further tables behind; of
// all complete codes the worst needs 2342 and 402 entries.
const (
	litBits, litSize   = 11, 4096
	distBits, distSize = 8, 512
)

// tables decode a block.
type tables struct {
	lit  [litSize]uint32
	dist [distSize]uint32
}

const (
	maxCode  = 15  // bits of a code
	numLit   = 288 // literals, end of block and lengths; two of them are no codes
	numDist  = 32  // also
	endBlock = 256
)

// litEntries and distEntries are the entries without the bits of the code.
var (
	litEntries  = makeLitEntries()
	distEntries = makeDistEntries()
)

func makeLitEntries() (e [numLit]uint32) {
	for i := range endBlock {
		e[i] = litFlag | uint32(i)<<16
	}
	e[endBlock] = oddFlag | endFlag
	base := uint32(3)
	for i := endBlock + 1; i < 285; i++ {
		extra := uint32(max(0, (i-261)/4))
		e[i] = base<<16 | extra
		base += 1 << extra
	}
	e[285] = 258 << 16
	e[286], e[287] = oddFlag, oddFlag
	return e
}

func makeDistEntries() (e [numDist]uint32) {
	base := uint32(1)
	for i := range 30 {
		extra := uint32(max(0, (i-2)/2))
		e[i] = base<<16 | extra
		base += 1 << extra
	}
	e[30], e[31] = oddFlag, oddFlag
	return e
}

// build fills a table for codes of the lengths given, and reports whether they
// are a complete code, or one that has a single code of one bit, or none at all. As
// with loop, the race detector would be in its way.
//
//go:norace
func build(table []uint32, root int, lengths []uint8, entries []uint32) bool {
	var count, next [maxCode + 2]int
	for _, l := range lengths {
		count[l&maxCode]++
	}
	longest, code, n := 0, 0, 0
	for l := 1; l <= maxCode; l++ {
		next[l] = n
		if n += count[l]; count[l] > 0 {
			longest = l
		}
	}
	for l := 1; l <= longest; l++ {
		code = code<<1 + count[l]
	}
	if code != 1<<longest || longest == 0 {
		if longest > 1 || code > 1 {
			return false
		}
		single(table[:1<<root], lengths, entries)
		return true
	}
	// Symbols in the order of their codes.
	var symbols [numLit]uint16
	for i, l := range lengths {
		if l > 0 {
			symbols[next[l&maxCode]] = uint16(i)
			next[l&maxCode]++
		}
	}
	fill(table, root, &count, symbols[:n], entries)
	return true
}

// single fills a table for one code of one bit, or for none: the other bit is no
// code.
func single(table []uint32, lengths []uint8, entries []uint32) {
	for i := range table {
		table[i] = oddFlag
	}
	for i, l := range lengths {
		for c := 0; l > 0 && c < len(table); c += 2 {
			table[c] = entry(entries[i], 1)
		}
	}
}

func entry(e uint32, length int) uint32 {
	if e == oddFlag {
		return e // no code
	}
	return e + uint32(length) + uint32(length)<<8
}

// fill fills a table for a complete code. A table for codes of up to so many bits
// is, twice, the beginning of the one for codes of one bit more.
//
//go:norace
func fill(table []uint32, root int, count *[maxCode + 2]int, symbols []uint16, entries []uint32) {
	c, end := 0, 2 // a code, as the stream has it, and the size of the table so far
	l := 1
	for ; l <= root; l++ {
		for range count[l] {
			table[c] = entry(entries[symbols[0]], l)
			symbols = symbols[1:]
			c = following(c, end)
		}
		if l < root {
			copy(table[end:2*end], table[:end])
			end *= 2
		}
	}
	prefix, start := -1, 0
	for ; len(symbols) > 0; l++ {
		for left := count[l]; left > 0; left-- {
			if p := c & (1<<root - 1); p != prefix {
				// The rest of the codes that begin alike: how long they get.
				more := l - root
				for used := left; used < 1<<more; used = used<<1 + count[root+more] {
					more++
				}
				prefix, start, end = p, end, end+1<<more
				table[p] = oddFlag | uint32(start)<<16 | uint32(more)
			}
			e := entry(entries[symbols[0]], l)
			symbols = symbols[1:]
			for i := start + c>>root; i < end; i += 1 << (l - root) {
				table[i] = e
			}
			c = following(c, 1<<l)
		}
	}
}

// following is the code of as many bits after c, which is below end and not the
// last.
func following(c, end int) int {
	bit := 1 << bits.Len(uint(c^(end-1))) >> 1
	return c&(bit-1) | bit
}
