package deflate

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Alphabets of RFC 1951, 3.2.5 to 3.2.7.
const (
	endOfBlock = 256
	litSymbols = 286
	dstSymbols = 30
	preSymbols = 19
	maxBits    = 15
	maxPreBits = 7
)

// Kinds of blocks.
const (
	stored = iota
	static
	dynamic
)

// maxStored is the size of the largest stored block.
const maxStored = 1<<16 - 1

// preOrder is the order of the lengths of the code for code lengths.
var preOrder = [preSymbols]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// preExtra is how many extra bits its symbols have.
var preExtra = [preSymbols]uint8{16: 2, 17: 3, 18: 7}

// lengthSymbols gives for each length its symbol, and above 9 bits how many extra bits
// follow: the low bits of what it is above three.
var lengthSymbols = func() (t [maxMatch + 1]uint16) {
	length := minMatch
	for symbol := 257; symbol < 285; symbol++ {
		extra := max(0, (symbol-261)/4)
		for range 1 << extra {
			t[length] = uint16(symbol | extra<<9)
			length++
		}
	}
	t[maxMatch] = 285
	return t
}()

// distSymbol gives the symbol of a distance, and how many extra bits follow: the low bits
// of what it is above one.
func distSymbol(dist uint32) (symbol, extra uint32) {
	d := dist - 1
	if d < 2 {
		return d, 0
	}
	extra = uint32(bits.Len32(d)) - 2
	return 2*extra + d>>extra, extra
}

// The codes of static blocks.
var staticLit, staticDst = func() (lit, dst code) {
	lit, dst = newCode(maxSymbols), newCode(32)
	for i := range lit.lens {
		switch {
		case i < 144, i >= 280:
			lit.lens[i] = 8
		case i < 256:
			lit.lens[i] = 9
		default:
			lit.lens[i] = 7
		}
	}
	for i := range dst.lens {
		dst.lens[i] = 5
	}
	lit.assign()
	dst.assign()
	return lit, dst
}()

// blockWriter writes blocks.
type blockWriter struct {
	out []byte // with room for all there may be
	at  int
	acc uint64
	n   uint // bits in acc

	build         builder
	lit, dst, pre code
	litFreq       [litSymbols]uint32
	dstFreq       [dstSymbols]uint32
	preFreq       [preSymbols]uint32
	lens          []uint8  // of lit and dst, one after the other
	runs          []uint16 // lens by symbols of pre, extra bits above 5 bits
}

// begin starts an output behind dst, of an input of n bytes. No block is larger than
// when it is stored.
func (w *blockWriter) begin(dst []byte, n int) {
	w.at = len(dst)
	w.out = slices.Grow(dst, n+n/64+64)
	w.out = w.out[:cap(w.out)]
	w.acc, w.n = 0, 0
	if w.lit.bits == nil {
		w.lit, w.dst, w.pre = newCode(litSymbols), newCode(dstSymbols), newCode(preSymbols)
	}
}

// put adds bits, of which there may be 56 between flushes.
func (w *blockWriter) put(v uint64, n uint) {
	w.acc |= v << w.n
	w.n += n
}

func (w *blockWriter) flush() {
	binary.LittleEndian.PutUint64(w.out[w.at:], w.acc)
	k := w.n >> 3
	w.at += int(k)
	w.acc >>= k * 8
	w.n &= 7
}

// write writes the tokens of raw as the kind of block that is smallest.
func (w *blockWriter) write(tokens []token, raw []byte, last bool) {
	extra := w.count(tokens)
	w.build.build(w.lit, w.litFreq[:], maxBits)
	w.build.build(w.dst, w.dstFreq[:], maxBits)
	headerBits, nLit, nDst, nPre := w.header()
	cost := func(lit, dst code) (bits uint64) {
		for i, f := range w.litFreq {
			bits += uint64(f) * uint64(lit.lens[i])
		}
		for i, f := range w.dstFreq {
			bits += uint64(f) * uint64(dst.lens[i])
		}
		return bits + extra
	}
	kind, best := stored, 8*uint64(len(raw))+40*uint64(len(raw)/maxStored+1)
	if c := cost(staticLit, staticDst); c < best {
		kind, best = static, c
	}
	if c := cost(w.lit, w.dst) + headerBits; c < best {
		kind = dynamic
	}
	var final uint64
	if last {
		final = 1
	}
	switch kind {
	case stored:
		w.writeStored(raw, final)
	case static:
		w.put(final|static<<1, 3)
		w.writeTokens(tokens, staticLit, staticDst)
	default:
		w.put(final|dynamic<<1, 3)
		w.put(uint64(nLit-257)|uint64(nDst-1)<<5|uint64(nPre-4)<<10, 14)
		w.flush()
		for _, symbol := range preOrder[:nPre] {
			w.put(uint64(w.pre.lens[symbol]), 3)
			w.flush()
		}
		for _, r := range w.runs {
			symbol := r & 31
			w.put(uint64(w.pre.bits[symbol]), uint(w.pre.lens[symbol]))
			w.put(uint64(r>>5), uint(preExtra[symbol]))
			w.flush()
		}
		w.writeTokens(tokens, w.lit, w.dst)
	}
	if last {
		w.n = (w.n + 7) &^ 7
		w.flush()
		w.out = w.out[:w.at]
	}
}

// count counts symbols and gives the number of extra bits.
func (w *blockWriter) count(tokens []token) (extra uint64) {
	clear(w.litFreq[:])
	clear(w.dstFreq[:])
	w.litFreq[endOfBlock] = 1
	for _, t := range tokens {
		length := t >> 16
		if length == 0 {
			w.litFreq[t&0xff]++
			continue
		}
		l := lengthSymbols[length]
		w.litFreq[l&511]++
		symbol, n := distSymbol(uint32(t & 0xffff))
		w.dstFreq[symbol]++
		extra += uint64(l>>9) + uint64(n)
	}
	return extra
}

// header makes the code for the lengths of the codes, and says how large the header of
// a dynamic block is and how many lengths of each code are in it.
func (w *blockWriter) header() (size uint64, nLit, nDst, nPre int) {
	trim := func(lens []uint8, least int) int {
		n := len(lens)
		for n > least && lens[n-1] == 0 {
			n--
		}
		return n
	}
	nLit, nDst = trim(w.lit.lens, 257), trim(w.dst.lens, 1)
	w.lens = append(append(w.lens[:0], w.lit.lens[:nLit]...), w.dst.lens[:nDst]...)
	w.runs = w.runs[:0]
	clear(w.preFreq[:])
	add := func(symbol, extra int) {
		w.runs = append(w.runs, uint16(symbol|extra<<5))
		w.preFreq[symbol]++
	}
	for i := 0; i < len(w.lens); {
		length, n := int(w.lens[i]), 1
		for i+n < len(w.lens) && int(w.lens[i+n]) == length {
			n++
		}
		i += n
		if length == 0 {
			for n >= 11 {
				add(18, min(n, 138)-11)
				n -= min(n, 138)
			}
			if n >= 3 {
				add(17, n-3)
				n = 0
			}
		} else if n >= 4 {
			add(length, 0)
			for n--; n >= 3; n -= min(n, 6) {
				add(16, min(n, 6)-3)
			}
		}
		for range n {
			add(length, 0)
		}
	}
	w.build.build(w.pre, w.preFreq[:], maxPreBits)
	nPre = preSymbols
	for nPre > 4 && w.pre.lens[preOrder[nPre-1]] == 0 {
		nPre--
	}
	size = 14 + 3*uint64(nPre)
	for symbol, f := range w.preFreq {
		size += uint64(f) * uint64(w.pre.lens[symbol]+preExtra[symbol])
	}
	return size, nLit, nDst, nPre
}

func (w *blockWriter) writeStored(raw []byte, final uint64) {
	for {
		n := min(len(raw), maxStored)
		bit := final
		if n < len(raw) {
			bit = 0
		}
		w.put(bit|stored<<1, 3)
		w.n = (w.n + 7) &^ 7
		w.flush()
		w.put(uint64(n)|uint64(n^0xffff)<<16, 32)
		w.flush()
		w.at += copy(w.out[w.at:], raw[:n])
		if raw = raw[n:]; len(raw) == 0 {
			return
		}
	}
}

func (w *blockWriter) writeTokens(tokens []token, lit, dst code) {
	litBits, litLens := (*[litSymbols]uint16)(lit.bits), (*[litSymbols]uint8)(lit.lens)
	dstBits, dstLens := (*[dstSymbols]uint16)(dst.bits), (*[dstSymbols]uint8)(dst.lens)
	out, at, acc, n := w.out, w.at, w.acc, w.n
	for _, t := range tokens {
		length := t >> 16
		if length == 0 {
			b := t & 0xff
			acc |= uint64(litBits[b]) << (n & 63)
			n += uint(litLens[b])
			if n < 32 {
				continue
			}
		} else {
			if n >= 16 { // a match has up to 48 bits
				binary.LittleEndian.PutUint64(out[at:], acc)
				k := n >> 3
				at += int(k)
				acc >>= k * 8 & 63
				n &= 7
			}
			l := lengthSymbols[length]
			symbol := l & 511
			acc |= uint64(litBits[symbol]) << (n & 63)
			n += uint(litLens[symbol])
			extra := uint(l >> 9)
			acc |= uint64(length-minMatch) & (1<<(extra&63) - 1) << (n & 63)
			n += extra
			dist := uint32(t & 0xffff)
			d, more := distSymbol(dist)
			acc |= uint64(dstBits[d]) << (n & 63)
			n += uint(dstLens[d])
			acc |= uint64(dist-1) & (1<<(more&63) - 1) << (n & 63)
			n += uint(more)
		}
		binary.LittleEndian.PutUint64(out[at:], acc)
		k := n >> 3
		at += int(k)
		acc >>= k * 8 & 63
		n &= 7
	}
	acc |= uint64(litBits[endOfBlock]) << (n & 63)
	w.at, w.acc, w.n = at, acc, n+uint(litLens[endOfBlock])
	w.flush()
}
