package zstd

import "math/bits"

const (
	minMatch   = 4
	shortPrime = 889523592379 << 24 // of the lower five bytes
	longPrime  = 0xcf1bbcdcb7a56463
	// longEnough is from which length on longer matches are looked for by eight bytes only.
	longEnough = 16
	// Places in a match that is longer are noted at its ends alone.
	longMatch, longBegin, longEnd = 384, 96, 32
)

// buckets find places by what follows: all by five bytes, and a share of them by eight,
// which goes farther back.
type buckets struct {
	short, long           []bucket
	shortShift, longShift uint
	share                 uint64 // these bits of a hash are 0
}

// bucket has the four latest places with a hash, the latest lowest. Each is a place<<8 and
// a tag, which is more of the hash: most others are not looked at.
type bucket struct{ a, b uint64 }

// start forgets everything.
func (q *buckets) start(size int, l level) {
	most := max(bits.Len(uint(size)), 8)
	q.short, q.shortShift = emptied(q.short, min(l.short, most)-2)
	q.long, q.longShift = emptied(q.long, min(l.long, most)-2)
	q.share = (1<<l.sample - 1) << 20
}

func emptied(list []bucket, bits int) ([]bucket, uint) {
	if cap(list) < 1<<bits {
		list = make([]bucket, 1<<bits)
	}
	list = list[:1<<bits]
	clear(list)
	return list, uint(64 - bits)
}

// add notes a place and gives what was there.
func (b *bucket) add(place int, hash uint64) (was bucket) {
	was = *b
	b.b = was.b<<32 | was.a>>32
	b.a = was.a<<32 | uint64(uint32(place)<<8) | hash>>24&255
	return was
}

// next removes the latest place.
func (b *bucket) next() {
	b.a = b.a>>32 | b.b<<32
	b.b >>= 32
}

// insert notes the places from at to to, which 8 bytes follow.
func (q *buckets) insert(content []byte, at, to int) {
	for ; at < to; at++ {
		v := load64(content, at)
		h := v * shortPrime
		q.short[h>>q.shortShift].add(at, h)
		h = v * longPrime
		if h&q.share == 0 {
			q.long[h>>q.longShift].add(at, h)
		}
	}
}

// found is a match.
type found struct{ n, dist, start int }

// longest gives the longest match for at that is longer than best, if there is one, and
// notes the place, which 8 bytes follow. It may begin sooner, but not before from.
func (q *buckets) longest(content []byte, from, at, best int) (f found) {
	own := load64(content, at)
	hash := own * shortPrime
	short := q.short[hash>>q.shortShift].add(at, hash)
	if h := own * longPrime; h&q.share == 0 {
		for b := q.long[h>>q.longShift].add(at, h); b.a != 0; b.next() {
			place := int(uint32(b.a) >> 8)
			if uint8(b.a) != uint8(h>>24) || load64(content, place) != own {
				continue
			}
			n, start := 8+extend(content, place+8, at+8), at
			for start > from && start > at-place && content[start-1] == content[start-1-at+place] {
				start--
				n++
			}
			if n > best {
				f, best = found{n, at - place, start}, n
			}
		}
	}
	if best > longEnough {
		return f
	}
	for ; short.a != 0; short.next() {
		place := int(uint32(short.a) >> 8)
		if uint8(short.a) != uint8(hash>>24) || at+best >= len(content) || load32(content, place+best-3) != load32(content, at+best-3) {
			continue
		}
		n := 8
		if x := load64(content, place) ^ own; x != 0 {
			n = bits.TrailingZeros64(x) >> 3
		} else {
			n += extend(content, place+8, at+8)
		}
		if n > best {
			f, best = found{n, at - place, at}, n
		}
	}
	return f
}
