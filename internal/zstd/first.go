package zstd

const (
	firstBits  = 17
	firstPrime = 227718039650203 << 16 // of the lower six bytes
	firstHurry = 5                     // see hurry
)

// first has the latest place by the next six bytes.
type first [1 << firstBits]uint32

func firstHash(v uint64) uint64 { return v * firstPrime >> (64 - firstBits) }

// parseFirst does what parse does, and takes the first match that it finds. It looks at two
// places at a time.
func (e *Encoder) parseFirst(begin, end int) {
	q := e.first
	all, content := e.content, e.content[:end]
	last := end - 9 // the last place that is looked at
	near := &e.guess
	for from, at := begin, max(begin, 1); at <= last; {
		v := load64(content, at)
		a, b := &q[firstHash(v)], &q[firstHash(v>>8)]
		place, second := int(*a), int(*b)
		*a, *b = uint32(at), uint32(at+1)
		start := at
		if d := int(near[0]); d <= at && load32(content, at+2-d) == uint32(v>>16) {
			start, place = at+2, at+2-d
		} else if load32(content, place) == uint32(v) {
		} else if load32(content, second) == uint32(v>>8) {
			start, place = at+1, second
		} else {
			at += 2 + (at-from)>>firstHurry
			continue
		}
		n := 4 + extend(content, place+4, start+4)
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
		q[firstHash(load64(all, start+2))] = uint32(start + 2)
		q[firstHash(load64(all, at-2))] = uint32(at - 2)
		// The distance before is written without literals between.
		for at <= last {
			d := int(near[1])
			if d > at || load32(content, at) != load32(content, at-d) {
				break
			}
			n := 4 + extend(content, at+4-d, at+4)
			q[firstHash(load64(content, at))] = uint32(at)
			e.match(0, n, d)
			at += n
			from = at
		}
	}
}
