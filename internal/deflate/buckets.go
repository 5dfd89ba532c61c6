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

// reaching gives how far behind at the place with these lower 16 bits is, or 0 if that is
// farther than reach.
func reaching(at int, reach uint, lower uint64) int {
	dist := int(uint16(at) - uint16(lower))
	if uint(dist) > reach {
		dist = 0
	}
	return dist
}

// longest gives the longest match at the places within reach, of those the nearest. One of
// less than 4 bytes is none.
func longest(content []byte, at int, reach uint, places uint64) (n, dist int) {
	own := load64(content, at)
	a, b, c, d := reaching(at, reach, places), reaching(at, reach, places>>16), reaching(at, reach, places>>32), reaching(at, reach, places>>48)
	// Most matches have less than 8 bytes: which one is longest takes no decisions, whose
	// outcome a processor cannot tell in advance.
	best := max(same(content, at, own, a), same(content, at, own, b), same(content, at, own, c), same(content, at, own, d))
	if n, dist = best>>19, window-best&(1<<16-1); n < 8 {
		return n, dist
	}
	n = 0
	for _, d := range [4]int{a, b, c, d} {
		if d == 0 || load64(content, at-d) != own {
			continue
		}
		if k := 8 + extend(content, at-d+8, at+8, maxMatch-8); k > n {
			n, dist = k, d
		}
	}
	return n, dist
}

// same gives how many of the first 8 bytes, own, are the same, above 19 bits, and below
// 16 bits the less the farther they are behind.
func same(content []byte, at int, own uint64, dist int) int {
	k := bits.TrailingZeros64(load64(content, at-dist)^own) << 16
	if dist == 0 {
		k = 0
	}
	return k&^(7<<16) | (window - dist)
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
			n, dist = longest(content, at, uint(min(at, e.window)), places)
		}
		if n < 4 {
			if uint(near-1) >= uint(min(at, farShort)) || (load32(content, at-near)^v)<<8 != 0 {
				e.literal(byte(v))
				at++
				continue
			}
			n, dist = minMatch, near
		}
		// As long as the next place has a better match, a literal comes first.
		next := at + 1
		for n < e.lazy && next < end && next+n <= len(content) {
			places := q.add(load32(content, next), next)
			// One that is as long has the same bytes where the other ends. Only the
			// latest two places are worth the time.
			last := max(n-4, 0)
			v := load32(content, next+last)
			a, b := behind(next, places), behind(next, places>>16)
			if min(load32(content, a+last)^v, load32(content, b+last)^v) != 0 {
				next++
				break
			}
			n2, dist2 := longest(content, next, uint(min(next, e.window)), places)
			if n2 < 4 || !better(n2, dist2, n, dist) {
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
