package deflate

import "math/bits"

const (
	hashBits  = 15
	hash3Bits = 12
)

// chains find the longest of many matches.
type chains struct {
	// The lower 16 bits of places: the latest with a hash, of four bytes and of three,
	// and by place the one with its hash before it. That they may be of another place
	// 65,536 bytes away is found out when bytes are compared.
	head  [1 << hashBits]uint16
	head3 [1 << hash3Bits]uint16
	back  [window]uint16
}

// parse finds matches and writes all blocks but the last.
func (e *Encoder) parse() {
	c, content := e.chains, e.content
	clear(c.head[:])
	clear(c.head3[:])
	end := len(content) - 8 // places behind it are not looked at
	at := 0
	for at < end {
		if e.n >= e.look {
			e.check(at)
		}
		n, dist := c.find(content, at, min(e.window, window-1), minMatch-1, e.depth, e.nice)
		if n < minMatch {
			e.literal(content[at])
			at++
			continue
		}
		// As long as the next place has a better match, a literal comes first.
		next := at + 1
		for n < e.lazy && next < end {
			n2, dist2 := c.find(content, next, min(e.window, window-1), n-1, e.depth/2+1, e.nice)
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
		c.insert(content, next, min(at, end))
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
func (c *chains) insert(content []byte, at, to int) {
	if at >= to {
		return
	}
	content = content[:to+3]
	for ; at < to; at++ {
		v := load32(content, at)
		h := &c.head[hash4(v)]
		c.back[at&(window-1)] = *h
		*h = uint16(at)
		c.head3[hash3(v)] = uint16(at)
	}
}

// find notes a place and gives the longest match there, if it is longer than
// best; else 0. At least 8 bytes follow.
func (c *chains) find(content []byte, at, reach, best, depth, nice int) (n, dist int) {
	limit := min(len(content)-at, maxMatch)
	own := content[at : at+limit]
	first := load32(own, 0)
	h := &c.head[hash4(first)]
	place := *h
	*h = uint16(at)
	c.back[at&(window-1)] = place
	h3 := &c.head3[hash3(first)]
	d3 := int(uint16(at) - *h3)
	*h3 = uint16(at)
	if best < minMatch && d3 <= farShort && d3 <= at && d3 > 0 && (load32(content, at-d3)^first)<<8 == 0 {
		n, dist, best = minMatch, d3, minMatch
	}
	best = max(best, minMatch)
	if best >= limit {
		return n, dist
	}
	tail := load32(own, best-3)
	for last := 0; depth > 0; depth-- {
		d := int(uint16(at) - place)
		if d <= last || d > reach || d > at { // the chain ends
			break
		}
		last = d
		place = c.back[(at-d)&(window-1)]
		other := content[at-d:]
		if load32(other, best-3) != tail || load32(other, 0) != first {
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
			if x := load64(other, k) ^ load64(own, k); x != 0 {
				k += bits.TrailingZeros64(x) >> 3
				break
			}
			k += 8
		}
		if k > best {
			n, dist, best = k, d, k
			if k >= nice || k == limit {
				break
			}
			tail = load32(own, best-3)
		}
	}
	return n, dist
}
