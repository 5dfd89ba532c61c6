package deflate

import (
	"encoding/binary"
	"math/bits"
)

const (
	hashBits  = 15
	hash3Bits = 12
	// ringSize is how much of the content is copied to where places need no check.
	ringSize = 4 * window
	ringMask = ringSize - 1
	// ahead is how many bytes from a place on may be looked at.
	ahead = 2*maxMatch + 8
)

// chains find the longest of many matches.
type chains struct {
	// The content around the place that is looked at, by the lower bits of places, and
	// behind its end its first bytes again.
	ring   [ringSize + 8]byte
	filled int
	// The lower 16 bits of places: the latest with a hash, of four bytes and of three,
	// and by place the one with its hash before it. That they may be of another place
	// 65,536 bytes away is found out when bytes are compared.
	head  [1 << hashBits]uint16
	head3 [1 << hash3Bits]uint16
	back  [window]uint16
}

// fill copies the next bytes of the content. A window before the place that is looked at
// stays.
func (c *chains) fill(content []byte) {
	n := copy(c.ring[c.filled&ringMask:ringSize], content[c.filled:min(c.filled+window, len(content))])
	c.filled += n
	copy(c.ring[ringSize:], c.ring[:8])
}

func (c *chains) load32(place int) uint32 {
	return binary.LittleEndian.Uint32(c.ring[place&ringMask:][:4])
}
func (c *chains) load64(place int) uint64 {
	return binary.LittleEndian.Uint64(c.ring[place&ringMask:][:8])
}

// parse finds matches and writes all blocks but the last.
func (e *Encoder) parse() {
	c, content := e.chains, e.content
	clear(c.head[:])
	clear(c.head3[:])
	c.filled = 0
	reach := min(e.window, window-1)
	end := len(content) - 8 // places behind it are not looked at
	at := 0
	for at < end {
		if e.n >= e.look {
			e.check(at)
		}
		for c.filled < min(at+ahead, len(content)) {
			c.fill(content)
		}
		n, dist := c.find(at, len(content), reach, minMatch-1, e.depth, e.nice)
		if n < minMatch {
			e.literal(content[at])
			at++
			continue
		}
		// As long as the next place has a better match, a literal comes first.
		next := at + 1
		for n < e.lazy && next < end {
			for c.filled < min(next+ahead, len(content)) {
				c.fill(content)
			}
			n2, dist2 := c.find(next, len(content), reach, n-1, e.depth/2, e.nice)
			if !better(n2, dist2, n, dist) {
				next++
				break
			}
			e.literal(content[at])
			at, n, dist = next, n2, dist2
			next++
		}
		e.match(n, dist)
		at += n
		c.insert(next, min(at, end))
	}
	for ; at < len(content); at++ {
		e.literal(content[at])
	}
}

// better reports whether a literal and a match of length n2 are worth more than a match
// of length n: a byte stands for four bits.
func better(n2, dist2, n, dist int) bool {
	return n2 >= n && 4*(n2-n)+bits.Len(uint(dist))-bits.Len(uint(dist2)) > 2
}

func hash4(v uint32) uint32 { return v * 0x9e3779b1 >> (32 - hashBits) }
func hash3(v uint32) uint32 { return v << 8 * 0x9e3779b1 >> (32 - hash3Bits) }

// insert notes the places from at to to.
func (c *chains) insert(at, to int) {
	for ; at < to; at++ {
		v := c.load32(at)
		h := &c.head[hash4(v)]
		c.back[at&(window-1)] = *h
		*h = uint16(at)
		c.head3[hash3(v)] = uint16(at)
	}
}

// find notes a place and gives the longest match there, if it is longer than
// best; else 0. At least 8 bytes follow up to size, where the content ends.
func (c *chains) find(at, size, reach, best, depth, nice int) (n, dist int) {
	limit := min(size-at, maxMatch)
	first := c.load32(at)
	h := &c.head[hash4(first)]
	place := *h
	*h = uint16(at)
	c.back[at&(window-1)] = place
	h3 := &c.head3[hash3(first)]
	d3 := int(uint16(at) - *h3)
	*h3 = uint16(at)
	if best < minMatch && d3 <= min(farShort, reach, at) && d3 > 0 && (c.load32(at-d3)^first)<<8 == 0 {
		n, dist, best = minMatch, d3, minMatch
	}
	best = max(best, minMatch)
	if best >= limit {
		return n, dist
	}
	nice = min(nice, limit)
	reach = min(reach, at)
	tail := c.load32(at + best - 3)
	for last := 0; depth > 0; depth-- {
		d := int(uint16(at) - place)
		if d <= last || d > reach { // the chain ends
			break
		}
		last = d
		other := at - d
		place = c.back[other&(window-1)]
		// The last byte is what makes a match longer.
		if c.load32(other+best-3) != tail || c.load32(other) != first {
			continue
		}
		k := 4
		for k < limit {
			if x := c.load64(other+k) ^ c.load64(at+k); x != 0 {
				k += bits.TrailingZeros64(x) >> 3
				break
			}
			k += 8
		}
		if k = min(k, limit); k > best {
			n, dist, best = k, d, k
			if k >= nice {
				break
			}
			tail = c.load32(at + best - 3)
		}
	}
	return n, dist
}
