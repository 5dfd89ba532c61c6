package deflate

import "math/bits"

const (
	bucketBits = 14
	nearBits   = 12
	// longMatch is from where on only the ends of a match are noted.
	longMatch, longEnd = 32, 8
)

// buckets find matches by looking at the four latest places with the same hash. That
// takes no longer for four than for one: none of them has to be known to look at the
// next, and most often a single comparison tells that none of them is of use.
type buckets struct {
	// The lower 16 bits of places with a hash of four bytes, the latest lowest. That
	// they may be of another place 65,536 bytes away is found out when bytes are compared.
	places [1 << bucketBits]uint64
	near   [1 << nearBits]uint16 // the same of the latest place that was looked at with three bytes
}

// add notes a place with these four bytes and gives those that were there.
func (b *buckets) add(v uint32, at int) uint64 {
	p := &b.places[v*0x9e3779b1>>(32-bucketBits)]
	old := *p
	*p = old<<16 | uint64(uint16(at))
	return old
}

// addNear is the same with three bytes. It gives how far behind the place is.
func (b *buckets) addNear(v uint32, at int) int {
	p := &b.near[v<<8*0x9e3779b1>>(32-nearBits)]
	dist := int(uint16(at) - *p)
	*p = uint16(at)
	return dist
}

// insert notes the places from at to to, which 8 bytes follow.
func (b *buckets) insert(content []byte, at, to int) {
	for ; at+4 <= to; at += 4 {
		v := load64(content, at)
		b.add(uint32(v), at)
		b.add(uint32(v>>8), at+1)
		b.add(uint32(v>>16), at+2)
		b.add(uint32(v>>24), at+3)
	}
	for ; at < to; at++ {
		b.add(load32(content, at), at)
	}
}

// behind gives the place that is, of those with these lower 16 bits, the nearest before
// at or at, or 0.
func behind(at int, lower uint64) int { return max(at-int(uint16(at)-uint16(lower)), 0) }

// longest gives the longest match at the places, if it is longer than best; else 0.
func longest(content []byte, at int, places uint64, best int) (n, dist int) {
	reach := uint(min(at, window))
	own := load64(content, at)
	for range 4 {
		d := int(uint16(at) - uint16(places))
		places >>= 16
		if uint(d-1) >= reach {
			continue
		}
		k := 8
		if x := load64(content, at-d) ^ own; x != 0 {
			k = bits.TrailingZeros64(x) >> 3
		} else {
			k += extend(content, at-d+8, at+8, maxMatch-8)
		}
		if k > best {
			n, dist, best = k, d, k
		}
	}
	return n, dist
}

// parseQuickly does what parse does, by buckets.
func (e *Encoder) parseQuickly() {
	q, content := e.buckets, e.content
	clear(q.places[:])
	clear(q.near[:])
	end := len(content) - 8 // places behind it are not looked at
	at := 0
	for at < end {
		if e.n >= e.look {
			e.check(at)
		}
		v := load32(content, at)
		places := q.add(v, at)
		near := q.addNear(v, at)
		// Most often none of the places has the same four bytes, in reach or not.
		a, b, c, d := behind(at, places), behind(at, places>>16), behind(at, places>>32), behind(at, places>>48)
		n, dist := 0, 0
		if min(load32(content, a)^v, load32(content, b)^v, load32(content, c)^v, load32(content, d)^v) == 0 {
			n, dist = longest(content, at, places, minMatch)
		}
		if n == 0 {
			if uint(near-1) >= uint(min(at, farShort)) || (load32(content, at-near)^v)<<8 != 0 {
				e.literal(byte(v))
				at++
				continue
			}
			n, dist = minMatch, near
		}
		// As long as the next place has a better match, a literal comes first.
		next := at + 1
		for n < e.lazy && next < end {
			v := load32(content, next)
			n2, dist2 := longest(content, next, q.add(v, next), max(n-1, minMatch))
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
		stop := min(at, end)
		if n > longMatch {
			next = max(next, stop-longEnd)
		}
		q.insert(content, next, stop)
	}
	for ; at < len(content); at++ {
		e.literal(content[at])
	}
}
