package deflate

import (
	"encoding/binary"
	"math/bits"
)

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
	// The content around the place that is looked at, by the lower 16 bits of places, and
	// behind its end its first bytes again.
	ring   [1<<16 + 8]byte
	filled int
	// The lower 16 bits of places with a hash of four bytes, the latest lowest. That
	// they may be of another place 65,536 bytes away is found out when bytes are compared.
	places [1 << bucketBits]uint64
	near   [1 << nearBits]uint16 // the same of the latest place that was looked at with three bytes
}

// start begins another piece.
func (b *buckets) start() {
	clear(b.places[:])
	clear(b.near[:])
	b.filled = 0
}

// fill copies the next bytes of the content. A window before the place that is looked at
// stays.
func (b *buckets) fill(content []byte) {
	const piece = window / 2 // divides the ring
	b.filled += copy(b.ring[b.filled&(1<<16-1):1<<16], content[b.filled:min(b.filled+piece, len(content))])
	copy(b.ring[1<<16:], b.ring[:8])
}

func (b *buckets) load32(place uint16) uint32 { return binary.LittleEndian.Uint32(b.ring[place:][:4]) }
func (b *buckets) load64(place uint16) uint64 { return binary.LittleEndian.Uint64(b.ring[place:][:8]) }

// add notes a place with these four bytes and gives those that were there.
func (b *buckets) add(v uint32, place uint16) uint64 {
	p := &b.places[v*0x9e3779b1>>(32-bucketBits)]
	old := *p
	*p = old<<16 | uint64(place)
	return old
}

// addNear is the same with three bytes. It gives how far behind the place is.
func (b *buckets) addNear(v uint32, place uint16) uint16 {
	p := &b.near[v<<8*0x9e3779b1>>(32-nearBits)]
	dist := place - *p
	*p = place
	return dist
}

// insert notes the places from at to to, which 8 bytes follow.
func (b *buckets) insert(at, to int) {
	for ; at+4 <= to; at += 4 {
		here := uint16(at)
		v := b.load64(here)
		b.add(uint32(v), here)
		b.add(uint32(v>>8), here+1)
		b.add(uint32(v>>16), here+2)
		b.add(uint32(v>>24), here+3)
	}
	for ; at < to; at++ {
		b.add(b.load32(uint16(at)), uint16(at))
	}
}

// reaching gives how far behind at the place with these lower 16 bits is, or 0 if that is
// farther than reach.
func reaching(at uint16, reach uint32, place uint16) uint16 {
	dist := at - place
	if uint32(dist) > reach {
		dist = 0
	}
	return dist
}

// longest gives the longest match at the places within reach, of those the nearest. One of
// less than 4 bytes is none. left bytes of the content follow.
func (b *buckets) longest(at uint16, left int, reach uint32, places uint64) (n, dist int) {
	own := b.load64(at)
	d0, d1 := reaching(at, reach, uint16(places)), reaching(at, reach, uint16(places>>16))
	d2, d3 := reaching(at, reach, uint16(places>>32)), reaching(at, reach, uint16(places>>48))
	// Most matches have less than 8 bytes: which one is longest takes no decisions, whose
	// outcome a processor cannot tell in advance.
	best := max(b.same(at, own, d0), b.same(at, own, d1), b.same(at, own, d2), b.same(at, own, d3))
	if n, dist = best>>19, window-best&(1<<16-1); n < 8 {
		return n, dist
	}
	n = 0
	limit := min(maxMatch, left)
	for _, d := range [4]uint16{d0, d1, d2, d3} {
		if d == 0 || b.load64(at-d) != own {
			continue
		}
		if k := b.extend(at-d, at, limit); k > n {
			n, dist = k, int(d)
		}
	}
	return n, dist
}

// same gives how many of the first 8 bytes, own, are the same, above 19 bits, and below
// 16 bits the less the farther they are behind.
func (b *buckets) same(at uint16, own uint64, dist uint16) int {
	k := bits.TrailingZeros64(b.load64(at-dist)^own) << 16
	if dist == 0 {
		k = 0
	}
	return k&^(7<<16) | (window - int(dist))
}

// extend is how many bytes, at most limit, are the same at a place and at, where the
// first 8 are.
func (b *buckets) extend(place, at uint16, limit int) int {
	n := 8
	for n < limit {
		if x := b.load64(place+uint16(n)) ^ b.load64(at+uint16(n)); x != 0 {
			n += bits.TrailingZeros64(x) >> 3
			break
		}
		n += 8
	}
	return min(n, limit)
}

// parseQuickly does what parse does, by buckets.
func (e *Encoder) parseQuickly() {
	q, content := e.buckets, e.content
	q.start()
	end := len(content) - 8 // places behind it are not looked at
	at := 0
	for at < end {
		if e.n >= e.look {
			e.check(at)
		}
		for q.filled < min(at+ahead, len(content)) {
			q.fill(content)
		}
		here := uint16(at)
		v := q.load32(here)
		places := q.add(v, here)
		near := q.addNear(v, here)
		// Most often none of the places has the same four bytes, in reach or not.
		n, dist := 0, 0
		if min(q.load32(uint16(places))^v, q.load32(uint16(places>>16))^v, q.load32(uint16(places>>32))^v, q.load32(uint16(places>>48))^v) == 0 {
			n, dist = q.longest(here, len(content)-at, uint32(min(at, e.window)), places)
		}
		if n < 4 {
			if uint(near-1) >= uint(min(at, farShort)) || (q.load32(here-near)^v)<<8 != 0 {
				e.literal(byte(v))
				at++
				continue
			}
			n, dist = minMatch, int(near)
		}
		// As long as the next place has a better match, a literal comes first.
		next := at + 1
		for n < e.lazy && next < end && next+n <= len(content) {
			here := uint16(next)
			places := q.add(q.load32(here), here)
			// One that is as long has the same bytes where the other ends. Only the
			// latest two places are worth the time.
			last := uint16(max(n-4, 0))
			v := q.load32(here + last)
			if min(q.load32(uint16(places)+last)^v, q.load32(uint16(places>>16)+last)^v) != 0 {
				next++
				break
			}
			n2, dist2 := q.longest(here, len(content)-next, uint32(min(next, e.window)), places)
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
		q.insert(next, stop)
	}
	for ; at < len(content); at++ {
		e.literal(content[at])
	}
}
