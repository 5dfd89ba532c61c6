package zstd

// level is what is traded for time: logarithms of how many places are noted by their next
// five and eight bytes, and of what share of the latter; how many places are tried for a
// better match.
type level struct{ short, long, sample, wait int }

// strengths are levels by the number from which on they are.
var strengths = [...]struct {
	from int
	level
}{{10, level{22, 18, 3, 2}}, {6, level{19, 16, 5, 2}}}

func levelOf(number int) level {
	for _, s := range strengths {
		if number >= s.from {
			return s.level
		}
	}
	return level{}
}

// startFrame prepares for e.content.
func (e *Encoder) startFrame() {
	switch {
	case e.first != nil:
		*e.first = first{}
	case e.quick != nil:
		*e.quick = quick{}
	default:
		e.buckets.start(len(e.content), e.level)
	}
	e.guess = recent{1, 4, 8}
}

// parse finds the sequences that stand for the content from begin to end, but for
// literals behind them.
func (e *Encoder) parse(begin, end int) {
	content := e.content[:end]
	last := end - 8 // the last place that is looked at
	q := &e.buckets
	near := &e.guess
	from, at := begin, max(begin, 1) // the first literal, the place
	for at <= last {
		// A distance again costs least: one byte on it is tried at once.
		f := found{n: minMatch - 1}
		if d := int(near[0]); at+1 <= last && d <= at+1 && load32(content, at+1) == load32(content, at+1-d) {
			f = found{4 + extend(content, at+5-d, at+5), d, at + 1}
		}
		if g := q.longest(e.content, content, from, at, f.n); g.n > 0 {
			f = g
		}
		if f.n < minMatch {
			q.expect(content, at+3)
			at += 1 + (at-from)>>8 // the faster, the longer there was none
			continue
		}
		q.expect(content, f.start+f.n)
		for wait := 0; wait < e.wait && at < last; wait++ {
			at++
			better := false
			if d := int(near[0]); d != f.dist && d <= at && load32(content, at) == load32(content, at-d) {
				n := 4 + extend(content, at+4-d, at+4)
				if (3+wait)*n > (3+wait)*f.n-offsetCost(f.dist)+1 {
					f, better = found{n, d, at}, true
				}
			}
			g := q.longest(e.content, content, from, at, max(f.n-3, minMatch-1))
			if g.n > 0 && 4*g.n-offsetCost(g.dist) > 4*f.n-near.cost(f.dist)+4+3*wait {
				f, better = g, true
			}
			if better {
				wait = -1
			}
		}
		for f.start > from && f.start > f.dist && content[f.start-1] == content[f.start-1-f.dist] {
			f.start--
			f.n++
		}
		e.match(f.start-from, f.n, f.dist)
		at = f.start + f.n
		from = at
		// The distance before is written without literals between.
		for at <= last {
			d := int(near[1])
			if d > at || load32(content, at) != load32(content, at-d) {
				break
			}
			n := 4 + extend(content, at+4-d, at+4)
			e.match(0, n, d)
			at += n
			from = at
		}
	}
}

func (e *Encoder) match(literals, n, dist int) {
	e.sequences = append(e.sequences, sequence{uint32(literals), uint32(n), uint32(dist)})
	e.guess.number(uint32(dist), uint32(literals))
}

// offsetCost is about how many bits a distance needs.
func offsetCost(dist int) int { return int(high(uint32(dist) + 3)) }

// cost is the same, less for the latest.
func (r *recent) cost(dist int) int {
	if uint32(dist) == r[0] {
		return 0
	}
	return offsetCost(dist)
}
