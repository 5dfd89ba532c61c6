package deflate

import "math/bits"

// code is a Huffman code: bits, the first lowest, and how many of each symbol.
type code struct {
	bits [288]uint16
	size [288]uint8
	// For making it.
	used   []uint32 // frequency<<9 | symbol
	sorted []uint32 // the same, meanwhile
	nodes  []uint32
	parent [2 * 288]uint16
	depth  [2 * 288]uint8
}

// make makes the code for n symbols of these frequencies, with at most limit bits each.
// At least two symbols get one, as some readers want it.
func (c *code) make(frequencies []uint32, limit int) {
	c.size = [288]uint8{}
	if c.sorted == nil {
		c.used, c.sorted = make([]uint32, 0, len(c.bits)), make([]uint32, 0, len(c.bits))
	}
	c.used = c.used[:0]
	for s, f := range frequencies {
		if f > 0 {
			c.used = append(c.used, min(f, 1<<22)<<9|uint32(s))
		}
	}
	for s := uint32(0); len(c.used) < 2; s++ {
		if int(s) >= len(frequencies) || frequencies[s] == 0 {
			c.used = append(c.used, s)
		}
	}
	c.sort()
	var counts [33]int // of codes by length
	c.lengths(&counts)
	shorten(&counts, limit)
	// The most frequent symbols get the shortest codes.
	at := 0
	for length := limit; length > 0; length-- {
		for range counts[length] {
			c.size[c.used[at]&511] = uint8(length)
			at++
		}
	}
	c.assign(len(frequencies))
}

// sort sorts the used symbols by frequency, and by number where that is the same.
func (c *code) sort() {
	for shift := 9; shift < 9+24; shift += 8 { // frequencies have 24 bits
		var next [256]uint16
		top := uint32(0)
		for _, u := range c.used {
			next[u>>shift&255]++
			top |= u
		}
		if top>>shift == 0 {
			return // no frequency is so high
		}
		at := uint16(0)
		for i, n := range next {
			next[i] = at
			at += n
		}
		c.sorted = c.sorted[:len(c.used)]
		for _, u := range c.used {
			p := &next[u>>shift&255]
			c.sorted[*p] = u
			*p++
		}
		c.used, c.sorted = c.sorted, c.used
	}
}

// lengths counts how long the codes of the used symbols are. Frequencies are joined two
// at a time, the smallest first; what is joined is in ascending order, too, so that two
// queues do.
func (c *code) lengths(counts *[33]int) {
	n := len(c.used)
	c.nodes = c.nodes[:0]
	parent, depth := &c.parent, &c.depth
	leaf, inner := 0, 0
	take := func(into int) uint32 {
		if leaf < n && (inner >= len(c.nodes) || c.used[leaf]>>9 <= c.nodes[inner]) {
			parent[leaf] = uint16(into)
			leaf++
			return c.used[leaf-1] >> 9
		}
		parent[n+inner] = uint16(into)
		inner++
		return c.nodes[inner-1]
	}
	for i := range n - 1 {
		a := take(n + i)
		c.nodes = append(c.nodes, a+take(n+i))
	}
	depth[2*n-2] = 0
	for i := 2*n - 3; i >= 0; i-- {
		depth[i] = depth[parent[i]] + 1
		if i < n {
			counts[min(int(depth[i]), 32)]++
		}
	}
}

// shorten takes codes longer than limit to it, and makes room for them by making as
// few others as possible longer.
func shorten(counts *[33]int, limit int) {
	over := 0
	for l := limit + 1; l < len(counts); l++ {
		over += counts[l]
		counts[l] = 0
	}
	if over == 0 {
		return
	}
	counts[limit] += over
	sum := 0 // of 2^-length, in 2^-limit
	for l := 1; l <= limit; l++ {
		sum += counts[l] << (limit - l)
	}
	for ; sum > 1<<limit; sum-- {
		// A code of limit bits goes to become the brother of a shorter one, which is
		// one bit longer then.
		l := limit - 1
		for counts[l] == 0 {
			l--
		}
		counts[l]--
		counts[l+1] += 2
		counts[limit]--
	}
}

// assign gives codes in the order of RFC 1951, by length and symbol.
func (c *code) assign(n int) {
	var next [17]uint16
	var counts [17]uint16
	for s := range n {
		counts[c.size[s]]++
	}
	v := uint16(0)
	counts[0] = 0
	for l := 1; l < len(next); l++ {
		v = (v + counts[l-1]) << 1
		next[l] = v
	}
	for s := range n {
		if l := c.size[s]; l > 0 {
			c.bits[s] = bits.Reverse16(next[l]) >> (16 - l)
			next[l]++
		}
	}
}
