package zstd

const (
	quickShort, quickLong = 15, 16 // logarithms of how many places are noted
	// hurry is after how many bytes without a match each second place is looked at, then
	// each third.
	hurry = 7
)

// quick has the latest places by what follows: five bytes, and eight.
type quick struct {
	short [1 << quickShort]uint32
	long  [1 << quickLong]uint32
}

func shortHash(v uint64) uint64 { return v * shortPrime >> (64 - quickShort) }
func longHash(v uint64) uint64  { return v * longPrime >> (64 - quickLong) }

// parseQuickly does what parse does, and takes the first match that it finds.
func (e *Encoder) parseQuickly(begin, end int) {
	q := e.quick
	all, content := e.content, e.content[:end]
	last := end - 9 // the last place that is looked at
	near := &e.guess
	for from, at := begin, max(begin, 1); at <= last; {
		v := load64(content, at)
		short, long := &q.short[shortHash(v)], &q.long[longHash(v)]
		place, far := int(*short), int(*long)
		*short, *long = uint32(at), uint32(at)
		start, n := at, 0
		if d := int(near[0]); d <= at && load32(content, at+1-d) == uint32(v>>8) {
			start, place, n = at+1, at+1-d, 4
		} else if x := load64(content, far) ^ v; x == 0 {
			place, n = far, 8
		} else if uint32(load64(content, place)^v) == 0 {
			n = 4
			// The next place may have a long one.
			w := load64(content, at+1)
			long := &q.long[longHash(w)]
			if next := int(*long); load64(content, next) == w {
				start, place, n = at+1, next, 8
			}
			*long = uint32(at + 1)
		} else {
			at += 1 + (at-from)>>hurry
			continue
		}
		n += extend(content, place+n, start+n)
		for start > from && place > 0 && content[start-1] == content[place-1] {
			start--
			place--
			n++
		}
		e.match(start-from, n, start-place)
		at, from = start+n, start+n
		if at > last {
			break
		}
		// Places in a match are noted at its ends.
		w := load64(all, start+2)
		q.short[shortHash(w)], q.long[longHash(w)] = uint32(start+2), uint32(start+2)
		w = load64(all, at-2)
		q.short[shortHash(w)], q.long[longHash(w)] = uint32(at-2), uint32(at-2)
		// The distance before is written without literals between.
		for at <= last {
			d := int(near[1])
			if d > at || load32(content, at) != load32(content, at-d) {
				break
			}
			n := 4 + extend(content, at+4-d, at+4)
			w := load64(content, at)
			q.short[shortHash(w)], q.long[longHash(w)] = uint32(at), uint32(at)
			e.match(0, n, d)
			at += n
			from = at
		}
	}
}
