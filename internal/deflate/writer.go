package deflate

import (
	"encoding/binary"
	"slices"
)

// bitWriter writes bits, the lowest first.
type bitWriter struct {
	out  []byte
	acc  uint64
	have uint // bits in acc, below 32 between calls
}

func (w *bitWriter) bits(v uint64, n uint) {
	w.acc |= v << w.have
	w.have += n
	if w.have >= 32 {
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(w.acc))
		w.acc >>= 32
		w.have -= 32
	}
}

// align fills the byte.
func (w *bitWriter) align() {
	for w.have > 0 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
		w.have -= min(w.have, 8)
	}
	w.acc = 0
}

// stored writes data as it is, in blocks of at most 65,535 bytes.
func (w *bitWriter) stored(data []byte, last bool) {
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), 65535)
		final := uint64(0)
		if last && n == len(data) {
			final = 1
		}
		w.bits(final, 3)
		w.align()
		w.out = binary.LittleEndian.AppendUint16(w.out, uint16(n))
		w.out = binary.LittleEndian.AppendUint16(w.out, ^uint16(n))
		w.out = append(w.out, data[:n]...)
		data = data[n:]
	}
}

// lengthOrder is in which order the lengths of the code of lengths are written.
var lengthOrder = [19]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// coder has what writing a block needs.
type coder struct {
	literals, distances, lengths code
	runs                         []run
	// What is written for tokens' indexes, a literal or a length with its extra bits,
	// and below 5 bits how many bits that is.
	indexes [indexes]uint32
	places  [32]place // by symbols of distances
}

// place is what is written for a distance: a code and what it is above base, and how
// many bits the code and both have.
type place struct {
	base        uint32
	code        uint16
	size, whole uint8
}

// run is an item of the list of code lengths: a symbol and its extra bits.
type run struct{ symbol, extra uint8 }

var fixedCoder = func() *coder {
	c := new(coder)
	for s := range 288 {
		switch {
		case s < 144:
			c.literals.size[s] = 8
		case s < 256:
			c.literals.size[s] = 9
		case s < 280:
			c.literals.size[s] = 7
		default:
			c.literals.size[s] = 8
		}
	}
	for s := range 30 {
		c.distances.size[s] = 5
	}
	c.literals.assign(288)
	c.distances.assign(30)
	c.join()
	return c
}()

// join makes the tables of what is written.
func (c *coder) join() {
	for s := range 256 {
		c.indexes[firstLiteral+s] = uint32(c.literals.bits[s])<<5 | uint32(c.literals.size[s])
	}
	for n := minMatch; n <= maxMatch; n++ {
		s := int(lengthSymbols[n])
		size := c.literals.size[257+s]
		c.indexes[n] = (uint32(c.literals.bits[257+s])|uint32(n-int(lengthBases[s]))<<size)<<5 | uint32(size+uint8(lengthExtra(s)))
	}
	for s := range distanceBases {
		size := c.distances.size[s]
		c.places[s] = place{distanceBases[s], c.distances.bits[s], size, size + uint8(distanceExtra(s))}
	}
	c.places[31] = place{base: noDistance}
}

// cost is how many bits the tokens need.
func (c *coder) cost(b *block) (n int) {
	for s, f := range b.literals {
		size := int(c.literals.size[s])
		if s > 256 {
			size += lengthExtra(s - 257)
		}
		n += int(f) * size
	}
	for s, f := range b.distances[:30] {
		n += int(f) * (int(c.distances.size[s]) + distanceExtra(s))
	}
	return n
}

// endBlock writes the tokens that there are, which stand for the content up to at, in
// whichever way is shortest.
func (e *Encoder) endBlock(at int, last bool) {
	e.count()
	e.block.literals[256]++ // its end
	final := uint64(0)
	if last {
		final = 1
	}
	c := &e.coder
	c.literals.make(e.block.literals[:], 15)
	c.distances.make(e.block.distances[:30], 15)
	header := c.planHeader()
	dynamic, fixed := header+c.cost(&e.block), fixedCoder.cost(&e.block)
	stored := 8*(at-e.begin) + 40*((at-e.begin)/65535+1)
	switch {
	case stored <= min(dynamic, fixed):
		e.w.stored(e.content[e.begin:at], last)
	case fixed <= dynamic:
		e.w.bits(final|1<<1, 3)
		e.writeTokens(fixedCoder)
	default:
		e.w.bits(final|2<<1, 3)
		c.writeHeader(&e.w)
		c.join()
		e.writeTokens(c)
	}
	e.begin = at
	e.startBlock()
}

// counts are how many lengths of both codes are written.
func (c *coder) counts() (literals, distances int) {
	literals, distances = 286, 30
	for literals > 257 && c.literals.size[literals-1] == 0 {
		literals--
	}
	for distances > 1 && c.distances.size[distances-1] == 0 {
		distances--
	}
	return literals, distances
}

// planHeader makes the list of code lengths and the code for it, and gives the bits
// that the header needs.
func (c *coder) planHeader() (size int) {
	literals, distances := c.counts()
	var list [286 + 30]uint8
	all := append(append(list[:0], c.literals.size[:literals]...), c.distances.size[:distances]...)
	c.runs = c.runs[:0]
	var frequencies [19]uint32
	add := func(symbol, extra uint8) {
		c.runs = append(c.runs, run{symbol, extra})
		frequencies[symbol]++
	}
	for i := 0; i < len(all); {
		v, n := all[i], 1
		for i+n < len(all) && all[i+n] == v {
			n++
		}
		i += n
		if v != 0 {
			add(v, 0)
			n--
		}
		for n > 0 {
			switch {
			case v == 0 && n >= 11:
				k := min(n, 138)
				add(18, uint8(k-11))
				n -= k
			case v == 0 && n >= 3:
				add(17, uint8(n-3))
				n = 0
			case v != 0 && n >= 3:
				k := min(n, 6)
				add(16, uint8(k-3))
				n -= k
			default:
				add(v, 0)
				n--
			}
		}
	}
	c.lengths.make(frequencies[:], 7)
	size = 3 + 14 + 3*c.lengthCount()
	for s, f := range frequencies {
		size += int(f) * (int(c.lengths.size[s]) + runExtra(s))
	}
	return size
}

func runExtra(symbol int) int {
	switch symbol {
	case 16:
		return 2
	case 17:
		return 3
	case 18:
		return 7
	}
	return 0
}

// lengthCount is how many lengths of the code of lengths are written.
func (c *coder) lengthCount() int {
	n := len(lengthOrder)
	for n > 4 && c.lengths.size[lengthOrder[n-1]] == 0 {
		n--
	}
	return n
}

func (c *coder) writeHeader(w *bitWriter) {
	literals, distances := c.counts()
	n := c.lengthCount()
	w.bits(uint64(literals-257)|uint64(distances-1)<<5|uint64(n-4)<<10, 14)
	for _, s := range lengthOrder[:n] {
		w.bits(uint64(c.lengths.size[s]), 3)
	}
	for _, r := range c.runs {
		w.bits(uint64(c.lengths.bits[r.symbol]), uint(c.lengths.size[r.symbol]))
		w.bits(uint64(r.extra), uint(runExtra(int(r.symbol))))
	}
}

// writeTokens writes the block's tokens and its end.
func (e *Encoder) writeTokens(c *coder) {
	w := &e.w
	w.out = slices.Grow(w.out, e.n*6+16) // at most 48 bits each
	buf, at := w.out[len(w.out):cap(w.out)], 0
	acc, have := w.acc, w.have
	for _, t := range e.tokens[:e.n] {
		i := c.indexes[t>>16&(indexes-1)]
		acc |= uint64(i>>5) << (have & 63)
		have += uint(i & 31)
		d := uint32(t & 0xffff)
		p := &c.places[distanceSymbol(d)&31]
		acc |= (uint64(d-p.base)<<(p.size&63) | uint64(p.code)) << (have & 63)
		have += uint(p.whole)
		binary.LittleEndian.PutUint64(buf[at:], acc)
		at += int(have >> 3)
		acc >>= have &^ 7 & 63
		have &= 7
	}
	w.acc, w.have = acc, have
	w.out = w.out[:len(w.out)+at]
	w.bits(uint64(c.literals.bits[256]), uint(c.literals.size[256]))
}
