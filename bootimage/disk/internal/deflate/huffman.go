package deflate

import (
	"math/bits"
	"slices"
)

// code is a Huffman code: of each symbol its bits, reversed as deflate writes them,
// and their number.
type code struct {
	bits []uint16
	lens []uint8
}

// maxSymbols is the size of the largest alphabet.
const maxSymbols = 288

// builder makes codes.
type builder struct {
	sorted []uint32 // frequency above 9 bits of the symbol
	weight [2 * maxSymbols]uint32
	parent [2 * maxSymbols]uint16
	depth  [2 * maxSymbols]uint8
}

// build makes the best code for frequencies whose words have at most limit bits.
// There are always two words: some readers refuse less.
func (b *builder) build(c code, freqs []uint32, limit int) {
	clear(c.lens)
	b.sorted = b.sorted[:0]
	for symbol, f := range freqs {
		if f > 0 {
			b.sorted = append(b.sorted, f<<9|uint32(symbol))
		}
	}
	slices.Sort(b.sorted)
	n := len(b.sorted)
	if n < 2 {
		symbol := 0
		if n == 1 {
			symbol = int(b.sorted[0] & 511)
		}
		other := 0
		if symbol == 0 {
			other = 1
		}
		c.lens[symbol], c.lens[other] = 1, 1
		c.assign()
		return
	}
	// Leaves are below n, in order; nodes are made in order, too.
	for i, s := range b.sorted {
		b.weight[i] = s >> 9
	}
	leaf, node := 0, n
	for next := n; next < 2*n-1; next++ {
		var sum uint32
		for range 2 {
			lightest := leaf
			if leaf >= n || node < next && b.weight[node] < b.weight[leaf] {
				lightest = node
				node++
			} else {
				leaf++
			}
			sum += b.weight[lightest]
			b.parent[lightest] = uint16(next)
		}
		b.weight[next] = sum
	}
	// How many words have how many bits. Nodes that are too deep give their two
	// leaves to the deepest one that is not.
	var counts [17]int
	root := 2*n - 2
	b.depth[root] = 0
	counts[1] = 2
	for i := root - 1; i >= n; i-- {
		d := int(b.depth[b.parent[i]]) + 1
		b.depth[i] = uint8(d)
		if d >= limit {
			d = limit - 1
			for counts[d] == 0 {
				d--
			}
		}
		counts[d]--
		counts[d+1] += 2
	}
	i := 0
	for length := limit; length > 0; length-- {
		for range counts[length] {
			c.lens[b.sorted[i]&511] = uint8(length)
			i++
		}
	}
	c.assign()
}

// assign gives words to lengths, as RFC 1951, 3.2.2.
func (c *code) assign() {
	var counts, next [16]uint16
	for _, l := range c.lens {
		counts[l]++
	}
	counts[0] = 0
	for l := 1; l < 16; l++ {
		next[l] = (next[l-1] + counts[l-1]) << 1
	}
	for symbol, l := range c.lens {
		if l > 0 {
			c.bits[symbol] = bits.Reverse16(next[l]) >> (16 - l)
			next[l]++
		}
	}
}

// newCode makes room for a code of n symbols.
func newCode(n int) code { return code{make([]uint16, n), make([]uint8, n)} }
