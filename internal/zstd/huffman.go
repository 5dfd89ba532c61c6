package zstd

import (
	"encoding/binary"
	"slices"
)

const maxHuffmanBits = 11

// huffman is a Huffman code of bytes: codes<<4 | bits of each; 0 has none.
type huffman struct {
	codes [256]uint16
	last  int // the highest byte with a code
	most  int // bits of the longest

	// For making it.
	used   []uint32 // frequency<<8 | symbol
	nodes  []uint32
	parent [2 * 256]uint16
	depth  [2 * 256]uint8
	size   [256]uint8
	table  fse // for the weights
}

// make makes the code for bytes of these frequencies, of which at least two are not 0.
func (h *huffman) make(counts *[256]uint32) {
	h.size = [256]uint8{}
	h.used = h.used[:0]
	for s, n := range counts {
		if n > 0 {
			h.used = append(h.used, n<<8|uint32(s))
			h.last = s
		}
	}
	slices.Sort(h.used)
	var lengths [33]int // of codes by bits
	h.measure(&lengths)
	shorten(&lengths, maxHuffmanBits)
	// The most frequent get the shortest codes.
	at := 0
	h.most = 0
	for n := maxHuffmanBits; n > 0; n-- {
		if lengths[n] > 0 && h.most == 0 {
			h.most = n
		}
		for range lengths[n] {
			h.size[h.used[at]&255] = uint8(n)
			at++
		}
	}
	// Codes ascend by symbol, and the longest have the lowest.
	var next [maxHuffmanBits + 2]uint16
	for n, v := h.most, uint16(0); n > 0; n-- {
		next[n] = v
		v = (v + uint16(lengths[n])) >> 1
	}
	h.codes = [256]uint16{}
	for s, n := range h.size[:h.last+1] {
		if n > 0 {
			h.codes[s] = next[n]<<4 | uint16(n)
			next[n]++
		}
	}
}

// measure counts how long the codes of the used symbols are. Frequencies are joined two
// at a time, the smallest first; what is joined is in ascending order, too, so that two
// queues do.
func (h *huffman) measure(lengths *[33]int) {
	n := len(h.used)
	h.nodes = h.nodes[:0]
	leaf, inner := 0, 0
	take := func(into int) uint32 {
		if leaf < n && (inner >= len(h.nodes) || h.used[leaf]>>8 <= h.nodes[inner]) {
			h.parent[leaf] = uint16(into)
			leaf++
			return h.used[leaf-1] >> 8
		}
		h.parent[n+inner] = uint16(into)
		inner++
		return h.nodes[inner-1]
	}
	for i := range n - 1 {
		a := take(n + i)
		h.nodes = append(h.nodes, a+take(n+i))
	}
	h.depth[2*n-2] = 0
	for i := 2*n - 3; i >= 0; i-- {
		h.depth[i] = h.depth[h.parent[i]] + 1
		if i < n {
			lengths[min(int(h.depth[i]), 32)]++
		}
	}
}

// shorten takes codes longer than limit to it, and makes room for them by making as
// few others as possible longer.
func shorten(lengths *[33]int, limit int) {
	over := 0
	for l := limit + 1; l < len(lengths); l++ {
		over += lengths[l]
		lengths[l] = 0
	}
	if over == 0 {
		return
	}
	lengths[limit] += over
	sum := 0 // of 2^-length, in 2^-limit
	for l := 1; l <= limit; l++ {
		sum += lengths[l] << (limit - l)
	}
	for ; sum > 1<<limit; sum-- {
		// A code of limit bits goes to become the brother of a shorter one, which is
		// one bit longer then.
		l := limit - 1
		for lengths[l] == 0 {
			l--
		}
		lengths[l]--
		lengths[l+1] += 2
		lengths[limit]--
	}
}

// cost is how many bits the bytes need, or false if one of them has no code.
func (h *huffman) cost(counts *[256]uint32) (sum int, ok bool) {
	for s, n := range counts {
		size := int(h.codes[s] & 15)
		if n > 0 && size == 0 {
			return 0, false
		}
		sum += int(n) * size
	}
	return sum, true
}

// appendTable writes the code: of each byte but the last its weight, by which it is
// the longer the less bits it has. It is false if that is not possible.
func (h *huffman) appendTable(out []byte) ([]byte, bool) {
	var weights [256]uint8
	var counts [maxHuffmanBits + 2]uint32
	n := h.last
	for s, size := range h.size[:n] {
		if size > 0 {
			weights[s] = uint8(h.most) + 1 - size
		}
		counts[weights[s]]++
	}
	begin := len(out)
	kinds := 0
	for _, n := range counts {
		kinds += int(min(n, 1))
	}
	if n > 2 && kinds > 1 {
		t := &h.table
		t.normalize(counts[:], uint32(n), 6)
		t.build()
		out = t.appendTable(append(out, 0))
		var buf [256 + 16]byte
		w := bitWriter{buf: buf[:]}
		// Two states in turn, the first of which has the first.
		var states [2]uint32
		for i := n - 1; i >= 0; i-- {
			if i >= n-2 {
				states[i&1] = t.start(weights[i])
				continue
			}
			t.encode(&w, &states[i&1], weights[i])
			w.flush()
		}
		w.add(uint64(states[1])&(1<<t.log-1), t.log)
		w.add(uint64(states[0])&(1<<t.log-1), t.log)
		out = append(out, buf[:w.end()]...)
		size := len(out) - begin - 1
		if size < 128 && (n > 128 || size < (n+1)/2) {
			out[begin] = byte(size)
			return out, true
		}
		out = out[:begin]
	}
	if n > 128 {
		return out, false
	}
	out = append(out, byte(127+n))
	for i := 0; i < n; i += 2 {
		out = append(out, weights[i]<<4|weights[i+1])
	}
	return out, true
}

// encode writes what leads from the state to one that stands for s.
func (t *fse) encode(w *bitWriter, state *uint32, s uint8) {
	m := t.moves[s&63]
	n := (*state + m.bits) >> 16
	w.add(uint64(*state)&(1<<n-1), uint(n))
	*state = uint32(t.next[(*state>>n+uint32(m.find))&(1<<maxTableLog-1)])
}

// stream writes bytes from the last to the first into buf, which has 8 bytes more than
// are needed, and gives how many there are.
func (h *huffman) stream(buf, content []byte) int {
	codes := &h.codes
	acc, have, at := uint64(0), uint(0), 0
	i := len(content)
	for ; i&3 != 0; i-- {
		c := codes[content[i-1]]
		acc |= uint64(c>>4) << have
		have += uint(c & 15)
	}
	for ; i >= 4; i -= 4 {
		b := content[i-4 : i : i]
		c0, c1, c2, c3 := codes[b[3]], codes[b[2]], codes[b[1]], codes[b[0]]
		// At most 22 bits at a time, so that two chains are short.
		low := uint64(c0>>4) | uint64(c1>>4)<<(c0&15)
		lows := uint(c0&15) + uint(c1&15)
		up := uint64(c2>>4) | uint64(c3>>4)<<(c2&15)
		binary.LittleEndian.PutUint64(buf[at:], acc)
		at += int(have >> 3)
		acc >>= have &^ 7 & 63
		have &= 7
		acc |= (low | up<<(lows&63)) << have
		have += lows + uint(c2&15) + uint(c3&15)
	}
	w := bitWriter{buf, at, acc, have}
	w.flush()
	return w.end()
}
