package deflate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Of the format.
const (
	minMatch = 3
	maxMatch = 258
	window   = 1 << 15
)

const (
	hashBits  = 15
	hash3Bits = 12
	// farShort is how far behind a match of three bytes may be: farther ones cost
	// more than their literals.
	farShort = 4096
	// MaxSize is the most bytes that can be compressed at a time.
	MaxSize = 1 << 30
)

// Encoder compresses pieces, one at a time.
type Encoder struct {
	level
	content []byte
	// The lower 16 bits of places: the latest with a hash, of four bytes and of three,
	// and by place the one with its hash before it. That they may be of another place
	// 65,536 bytes away is found out when bytes are compared.
	head  [1 << hashBits]uint16
	head3 [1 << hash3Bits]uint16
	back  [window]uint16

	w      bitWriter
	block  block
	coder  coder
	tokens []token
	begin  int // of the block
}

// token is a literal, or match and a length shifted by 16 and a distance less 1.
type token uint32

const tokenMatch token = 1 << 31

// levels are what is traded for time.
var levels = [10]level{
	1: {2, 6, 12}, 2: {4, 6, 16}, 3: {6, 8, 20}, 4: {8, 12, 32}, 5: {12, 16, 32}, 6: {24, 24, 64}, 7: {48, 48, 96}, 8: {128, 160, 160}, 9: {600, maxMatch, maxMatch},
}

// level is how many places are looked at, from which length on no better match is
// waited for, and which ends the search.
type level struct{ depth, lazy, nice int }

// NewEncoder makes an encoder of a level by its number, 1 to 9. It has a third of a MiB of tables.
func NewEncoder(number int) (*Encoder, error) {
	if number < 1 || number >= len(levels) {
		return nil, fmt.Errorf("deflate: level %d is not within 1 to 9: %w", number, errors.ErrUnsupported)
	}
	l := levels[number]
	return &Encoder{level: l, tokens: make([]token, 0, maxTokens+2)}, nil
}

// Append writes content, at most [MaxSize] bytes, behind dst. What is written ends on
// the boundary of a byte; the last piece ends the stream.
func (e *Encoder) Append(dst, content []byte, last bool) ([]byte, error) {
	if len(content) > MaxSize {
		return dst, fmt.Errorf("deflate: %d bytes at a time: %w", len(content), errors.ErrUnsupported)
	}
	e.content, e.begin, e.tokens = content, 0, e.tokens[:0]
	clear(e.head[:])
	clear(e.head3[:])
	e.block.reset()
	e.w = bitWriter{out: dst}
	e.parse()
	if e.begin < len(content) || last && len(content) == 0 {
		e.endBlock(len(content), last)
	}
	if !last {
		e.w.stored(nil, false) // ends on a byte, as a "sync flush" does
	}
	e.w.align()
	e.content = nil
	return e.w.out, nil
}

// parse finds matches and writes all blocks but the last.
func (e *Encoder) parse() {
	content := e.content
	end := len(content) - 8 // places behind it are not looked at
	at := 0
	for at < end {
		n, dist := e.find(at, minMatch-1, e.depth)
		if n < minMatch {
			e.literal(content[at])
			at++
			e.check(at)
			continue
		}
		// As long as the next place has a better match, a literal comes first.
		next := at + 1
		for n < e.lazy && next < end {
			n2, dist2 := e.find(next, n-1, e.depth/2+1)
			if n2 < n || 4*(n2-n)+bits.Len(uint(dist))-bits.Len(uint(dist2)) <= 2 {
				next++
				break
			}
			e.literal(content[at])
			at, n, dist = next, n2, dist2
			next++
		}
		e.match(n, dist)
		at += n
		e.insert(next, min(at, end))
		e.check(at)
	}
	for ; at < len(content); at++ {
		e.literal(content[at])
	}
}

func hash4(v uint32) uint32 { return v * 0x9e3779b1 >> (32 - hashBits) }
func hash3(v uint32) uint32 { return v << 8 * 0x9e3779b1 >> (32 - hash3Bits) }

// insert notes the places from at to to.
func (e *Encoder) insert(at, to int) {
	if at >= to {
		return
	}
	content := e.content[:to+3]
	for ; at < to; at++ {
		v := binary.LittleEndian.Uint32(content[at:])
		h := &e.head[hash4(v)]
		e.back[at&(window-1)] = *h
		*h = uint16(at)
		e.head3[hash3(v)] = uint16(at)
	}
}

// find notes a place and gives the longest match there, if it is longer than
// best; else 0. At least 8 bytes follow.
func (e *Encoder) find(at, best, depth int) (n, dist int) {
	content := e.content
	limit := min(len(content)-at, maxMatch)
	own := content[at : at+limit]
	first := binary.LittleEndian.Uint32(own)
	h := &e.head[hash4(first)]
	place := *h
	*h = uint16(at)
	e.back[at&(window-1)] = place
	h3 := &e.head3[hash3(first)]
	d3 := int(uint16(at) - *h3)
	*h3 = uint16(at)
	if best < minMatch && d3 <= farShort && d3 <= at && d3 > 0 && (binary.LittleEndian.Uint32(content[at-d3:])^first)<<8 == 0 {
		n, dist, best = minMatch, d3, minMatch
	}
	best = max(best, minMatch)
	if best >= limit {
		return n, dist
	}
	tail := binary.LittleEndian.Uint32(own[best-3:])
	for last := 0; depth > 0; depth-- {
		d := int(uint16(at) - place)
		if d <= last || d >= window || d > at { // the chain ends
			break
		}
		last = d
		place = e.back[(at-d)&(window-1)]
		other := content[at-d:]
		if binary.LittleEndian.Uint32(other[best-3:]) != tail || binary.LittleEndian.Uint32(other) != first {
			continue
		}
		k := 4
		for {
			if k+8 > limit {
				for k < limit && other[k] == own[k] {
					k++
				}
				break
			}
			if x := binary.LittleEndian.Uint64(other[k:]) ^ binary.LittleEndian.Uint64(own[k:]); x != 0 {
				k += bits.TrailingZeros64(x) >> 3
				break
			}
			k += 8
		}
		if k > best {
			n, dist, best = k, d, k
			if k >= e.nice || k == limit {
				break
			}
			tail = binary.LittleEndian.Uint32(own[best-3:])
		}
	}
	return n, dist
}
