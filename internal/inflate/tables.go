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
// are a complete code, or one that has a single code of one bit, or none at all.
func build(table []uint32, root int, lengths []uint8, entries []uint32) bool {
	var count [maxCode + 1]int
	longest := 0
	for _, l := range lengths {
		count[l]++
		longest = max(longest, int(l))
	}
	var next [maxCode + 1]int
	code := 0
	for l := 1; l <= longest; l++ {
		code <<= 1
		next[l] = code
		code += count[l]
	}
	first := table[:1<<root]
	if code != 1<<longest || longest == 0 {
		if longest > 1 || longest == 1 && code != 1 {
			return false
		}
		for i := range first {
			first[i] = oddFlag
		}
	}
	// reversed is the next code of a length as the stream has it.
	reversed := func(l uint8) int {
		c := next[l]
		next[l]++
		return int(bits.Reverse16(uint16(c)) >> (16 - l))
	}
	if longest > root {
		// How long the codes are that begin alike.
		clear(first)
		again := next
		for _, l := range lengths {
			if int(l) > root {
				p := &first[reversed(l)&(1<<root-1)]
				*p = max(*p, uint32(l))
			}
		}
		next = again
		at := 1 << root
		for i, l := range first {
			if l == 0 {
				continue
			}
			more := int(l) - root
			first[i] = oddFlag | uint32(at)<<16 | uint32(more)
			at += 1 << more
			if at > len(table) {
				return false // never: see litSize
			}
		}
	}
	for i, l := range lengths {
		if l == 0 {
			continue
		}
		c := reversed(l)
		e := entries[i] + uint32(l) + uint32(l)<<8
		if entries[i] == oddFlag {
			e = oddFlag // no code
		}
		if int(l) <= root {
			for c < 1<<root {
				first[c] = e
				c += 1 << l
			}
			continue
		}
		p := first[c&(1<<root-1)]
		start, size := int(p>>16), 1<<(p&dropMask)
		for c >>= root; c < size; c += 1 << (int(l) - root) {
			table[start+c] = e
		}
	}
	return true
}
