package deflate

import (
	"encoding/binary"
	"math/bits"
)

// MaxSize is the largest input, bytes.
const MaxSize = 64 << 10

const (
	minMatch = 3
	maxMatch = 258
	// slack is how many bytes past the input may be looked at.
	slack = maxMatch + 8
	// mask keeps positions, with slack, within data for the compiler to see.
	mask = 2*MaxSize - 1

	hash4Bits = 15
	hash3Bits = 12
	// far3 is from where on a match of three bytes costs more than literals.
	far3 = 4 << 10
)

// Strength: how many candidates are tried, and the length that is good enough.
const (
	depth      = 8
	lazyDepth  = depth / 2
	niceLength = 64
)

// token is a literal, or a length above 16 bits with a distance below.
type token uint32

// Encoder compresses inputs. It is for one goroutine.
type Encoder struct {
	window int // bytes: how far matches may reach
	n      int
	data   [mask + 8]byte
	// Chains of positions, plus one, that have the same four bytes; 0 ends them. Of
	// three bytes, the last position.
	head4 [1 << hash4Bits]uint16
	head3 [1 << hash3Bits]uint16
	prev  [MaxSize]uint16

	tokens []token
	block  blockWriter
}

// New makes an encoder whose matches reach back so many bytes, at most 32 KiB.
func New(window int) *Encoder {
	return &Encoder{window: min(window, 32<<10), tokens: make([]token, 0, MaxSize)}
}

// Encode appends the compressed form of src, at most [MaxSize] bytes, to dst. It depends
// on nothing that was encoded before.
func (e *Encoder) Encode(dst, src []byte) []byte {
	e.n = copy(e.data[:MaxSize], src)
	clear(e.data[e.n:][:slack])
	clear(e.head4[:])
	clear(e.head3[:])
	e.block.begin(dst, e.n)
	e.parse()
	return e.block.out
}

// load32 gives four bytes. Where they reach past the input, they are zero.
func (e *Encoder) load32(i int) uint32 { return binary.LittleEndian.Uint32(e.data[i&mask:][:4]) }
func (e *Encoder) load64(i int) uint64 { return binary.LittleEndian.Uint64(e.data[i&mask:][:8]) }

func hash4(v uint32) uint32 { return v * 0x9e3779b1 >> (32 - hash4Bits) }
func hash3(v uint32) uint32 { return v << 8 * 0x9e3779b1 >> (32 - hash3Bits) }

// insert adds positions to the chains without looking at them.
func (e *Encoder) insert(from, to int) {
	to = min(to, e.n-4)
	for i := from; i < to; i++ {
		v := e.load32(i)
		h := hash4(v)
		e.prev[i&(MaxSize-1)] = e.head4[h]
		e.head4[h] = uint16(i + 1)
		e.head3[hash3(v)] = uint16(i + 1)
	}
}

// find adds a position to the chains and gives the best match for it that is longer
// than best; a distance of 0 says that there is none.
func (e *Encoder) find(i, best, tries int) (length, dist int) {
	if i > e.n-4 {
		return 0, 0
	}
	v := e.load32(i)
	h4, h3 := hash4(v), hash3(v)
	candidate, near := int(e.head4[h4]), int(e.head3[h3])
	e.prev[i&(MaxSize-1)] = uint16(candidate)
	e.head4[h4] = uint16(i + 1)
	e.head3[h3] = uint16(i + 1)

	low := max(0, i-e.window) + 1 // the first position in reach, plus one
	most := min(maxMatch, e.n-i)
	if best < minMatch && near >= low && i+1-near <= far3 && (e.load32(near-1)^v)<<8 == 0 {
		dist = i + 1 - near
	}
	length = max(best, minMatch)
	nice := min(niceLength, most)
	tail := e.load32(i + length - 3)
	for ; candidate >= low && tries > 0; tries-- {
		at := candidate - 1
		candidate = int(e.prev[at&(MaxSize-1)])
		// The last byte is what makes a match longer.
		if e.load32(at+length-3) != tail || e.load32(at) != v {
			continue
		}
		l := 4
		for l < most {
			if x := e.load64(at+l) ^ e.load64(i+l); x != 0 {
				l += bits.TrailingZeros64(x) >> 3
				break
			}
			l += 8
		}
		if l = min(l, most); l > length {
			length, dist = l, i-at
			if l >= nice {
				break
			}
			tail = e.load32(i + length - 3)
		}
	}
	return length, dist
}

// parse turns the input into tokens.
func (e *Encoder) parse() {
	e.tokens = e.tokens[:0]
	var split splitter
	begin := 0 // of the block
	i := 0
	for i < e.n {
		length, dist := e.find(i, minMatch-1, depth)
		if dist == 0 {
			e.literal(&split, i)
			i++
		} else {
			for length < niceLength && i+1 < e.n {
				l, d := e.find(i+1, length-1, lazyDepth)
				if d == 0 || l < length || 4*(l-length)+bits.Len(uint(dist))-bits.Len(uint(d)) <= 2 {
					e.insert(i+2, i+length)
					break
				}
				e.literal(&split, i)
				i++
				length, dist = l, d
			}
			if length >= niceLength {
				e.insert(i+1, i+length)
			}
			e.tokens = append(e.tokens, token(length)<<16|token(dist))
			split.match(length)
			i += length
		}
		if split.enough(i-begin, e.n-i) {
			e.block.write(e.tokens, e.data[begin:i], false)
			e.tokens = e.tokens[:0]
			split = splitter{}
			begin = i
		}
	}
	e.block.write(e.tokens, e.data[begin:e.n], true)
}

func (e *Encoder) literal(s *splitter, i int) {
	e.tokens = append(e.tokens, token(e.data[i]))
	s.literal(e.data[i])
}
