package zstd

import (
	"math/bits"

	"github.com/okd-project/okd-streams/internal/hugepages"
)

const (
	minMatch   = 4
	shortPrime = 889523592379 << 24 // of the lower five bytes
	longPrime  = 0xcf1bbcdcb7a56463
	// longEnough is from which length on longer matches are looked for by eight bytes only.
	longEnough = 16
	// Places in a match that is longer are noted at its ends alone.
	longMatch, longBegin, longEnd = 384, 96, 32
)

// ahead is how many places are noted at a time.
const ahead = 256

// buckets find places by what follows: all by five bytes, and a share of them by eight,
// which goes farther back.
type buckets struct {
	short, long           []bucket
	shortShift, longShift uint
	share                 uint64 // these bits of a hash are 0

	// Places before end are noted; of those from begin on is here what was there before.
	begin, end          int
	seenShort, seenLong [ahead]bucket // the latter of the share only
	sampled             [ahead]sampled
	fetched             int // buckets of places before it are under way
}

// sampled is a place of the share.
type sampled struct {
	at   int // from the begin of the batch
	hash uint64
}

// bucket has the four latest places with a hash, the latest lowest. Each is a place<<8 and
// a tag, which is more of the hash: most others are not looked at.
type bucket struct{ a, b uint64 }

// start forgets everything.
func (q *buckets) start(size int, l level) {
	most := bits.Len(uint(max(size-1, 128)))
	q.short, q.shortShift = emptied(q.short, min(l.short, most)-2)
	q.long, q.longShift = emptied(q.long, min(l.long, most)-2)
	q.begin, q.end, q.fetched = 0, 0, 0
	q.share = (1<<l.sample - 1) << 20
}

func emptied(list []bucket, bits int) ([]bucket, uint) {
	if cap(list) < 1<<bits {
		list = hugepages.Make[bucket](1 << bits)
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

// note notes the places before at, and some from there on, which 8 bytes follow.
func (q *buckets) note(content []byte, at int) {
	if at-q.end > longMatch {
		q.insert(content, q.end, q.end+longBegin)
		q.end = at - longEnd
	}
	q.insert(content, q.end, at)
	q.batch(content, at, min(at+ahead, len(content)-7))
	q.fetched = max(q.fetched, q.end)
}

// insert notes the places from at to to.
func (q *buckets) insert(content []byte, at, to int) {
	for at < to {
		next := min(to, at+ahead)
		q.batch(content, at, next)
		at = next
	}
}

// fetch has some buckets on their way that will be needed when places behind at are noted:
// a few at each search, as more than the processor can have under way would wait.
func (q *buckets) fetch(content []byte, at int) {
	if q.fetched < at+ahead+32 && q.fetched+16 <= len(content) {
		fetchPlaces(&q.short[0], &content[q.fetched], q.shortShift)
		q.fetched += 8
	}
}

// expect has on its way what longest will read for at.
func (q *buckets) expect(content []byte, at int) {
	if q.begin <= at && at < q.end {
		fetchContent(&content[0], &q.seenShort[(at-q.begin)&(ahead-1)])
	}
}

// batch notes the places from at to to, at most as many as ahead, and keeps what was
// there. Nothing in it is decided by what is read from the tables, so that where fetch did
// nothing the processor has many reads under way at once: most are of memory that is in no
// cache near it.
func (q *buckets) batch(content []byte, at, to int) {
	part := content[at : to+7]
	table, shift, share := q.short, q.shortShift&63, q.share
	n := 0
	for i := range q.seenShort[:to-at] {
		v := load64(part, i)
		h := v * shortPrime
		b := &table[h>>shift] // as add does
		a, c := b.a, b.b
		q.seenShort[i] = bucket{a, c}
		b.b = c<<32 | a>>32
		b.a = a<<32 | uint64(uint32(at+i)<<8) | h>>24&255
		h = v * longPrime
		q.sampled[n&(ahead-1)] = sampled{i, h}
		n += int((h&share - 1) >> 63)
	}
	for _, s := range q.sampled[:n] {
		q.seenLong[s.at&(ahead-1)] = q.long[s.hash>>q.longShift].add(at+s.at, s.hash)
	}
	q.begin, q.end = at, to
}

// found is a match.
type found struct{ n, dist, start int }

// longest gives the match for at that is longer than best and pays most, if there is one.
// It may begin sooner, but not before from, and ends with content, which all begins with.
// Calls are in order of at, which 8 bytes follow.
func (q *buckets) longest(all, content []byte, from, at, best int) (f found) {
	q.fetch(all, at)
	if at >= q.end {
		q.note(all, at)
	}
	own := load64(content, at)
	hash := own * shortPrime
	i := (at - q.begin) & (ahead - 1)
	short := q.seenShort[i]
	if h := own * longPrime; h&q.share == 0 {
		for b := q.seenLong[i]; b.a != 0; b.next() {
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
	if best > longEnough || at+best >= len(content) {
		return f
	}
	tag, ending := uint8(hash>>24), load32(content, at+best-3)
	for a, b := short.a, short.b; a != 0; a, b = a>>32|b<<32, b>>32 {
		place := int(uint32(a) >> 8)
		if uint8(a) != tag || load32(content, place+best-3) != ending {
			continue
		}
		n := 8
		if x := load64(content, place) ^ own; x != 0 {
			n = bits.TrailingZeros64(x) >> 3
		} else {
			n += extend(content, place+8, at+8)
		}
		if n > best && (f.n == 0 || 4*(n-f.n) > offsetCost(at-place)-offsetCost(f.dist)) {
			f, best = found{n, at - place, at}, n
			if at+best >= len(content) {
				break
			}
			ending = load32(content, at+best-3)
		}
	}
	return f
}
