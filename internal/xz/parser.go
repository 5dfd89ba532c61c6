package xz

import "math"

// stretch is the most places that are planned at a time.
const stretch = 2048

// Ways to write something, beside a match at dist, which is match+dist.
const (
	literal = math.MaxUint32
	match   = 4 // below are the repeated distances
)

// node is a place in a stretch, with the cheapest way to it.
type node struct {
	price uint32
	from  int32  // where the last packet of the way begins
	how   uint32 // what the packet is
	// then is 0, or the length of a packet how that a literal and a match at its
	// distance follow, up to here.
	then  int32
	state uint8
	reps  [4]uint32
}

// packet is a step of the way that was chosen.
type packet struct {
	n   int
	how uint32
}

// parser plans how content is written.
type parser struct {
	*model
	finder *finder
	saved  bool // finder's matches are those at the place to go on
	nodes  [stretch + maxMatch + 2]node
	plan   []packet // backwards
}

func (p *parser) reset(content []byte) {
	p.model.reset()
	p.finder.reset(content)
	p.saved = false
}

// matches gives those at the place that is to be planned, the longest at its whole
// length.
func (p *parser) matches() []found {
	if p.saved {
		p.saved = false
		return p.finder.matches
	}
	return p.finder.next()
}

// lengthAt is how long a match is at dist, up to limit.
func (p *parser) lengthAt(at int, dist uint32, limit int) int {
	if uint64(dist) >= uint64(at) {
		return 0
	}
	content := p.finder.content
	return common(content[at-int(dist)-1:], content[at:at+limit])
}

// next plans the packets from at on, and gives them in reverse order.
func (p *parser) next(at int) []packet {
	content := p.finder.content
	p.plan = p.plan[:0]
	left := len(content) - at
	nice := p.finder.nice

	matches := p.matches()
	// What is long enough needs no plan.
	rep, repLen := 0, 0
	for i, d := range p.reps {
		if n := p.lengthAt(at, d, min(left, maxMatch)); n > repLen {
			rep, repLen = i, n
		}
	}
	if repLen >= nice {
		p.finder.skip(repLen - 1)
		return append(p.plan, packet{repLen, uint32(rep)})
	}
	if len(matches) > 0 {
		if m := matches[len(matches)-1]; m.n >= nice {
			n := m.n + p.extend(at+m.n, m.dist, min(left, maxMatch)-m.n)
			p.finder.skip(n - 1)
			return append(p.plan, packet{n, match + m.dist})
		}
	}

	size := min(left, stretch)
	p.nodes[0] = node{state: p.state, reps: p.reps}
	end, cur := 0, 0
	for {
		end = p.relax(at, cur, end, matches)
		if cur++; cur == end || cur >= size {
			break
		}
		p.arrive(cur)
		matches = p.matches()
		if len(matches) > 0 && matches[len(matches)-1].n >= nice {
			p.saved = true
			break
		}
	}
	for cur > 0 {
		n := &p.nodes[cur]
		from := int(n.from)
		if n.then > 0 {
			// how, a literal, and the match at the same distance.
			rest := cur - from - int(n.then) - 1
			p.plan = append(p.plan, packet{rest, 0}, packet{1, literal})
			p.plan = append(p.plan, packet{int(n.then), n.how})
		} else {
			p.plan = append(p.plan, packet{cur - from, n.how})
		}
		cur = from
	}
	return p.plan
}

// extend is how much longer a match at dist is from at on.
func (p *parser) extend(at int, dist uint32, limit int) int {
	content := p.finder.content
	return common(content[at-int(dist)-1:], content[at:at+limit])
}

// arrive settles what is known of a place when no better way to it can come.
func (p *parser) arrive(cur int) {
	n := &p.nodes[cur]
	prev := &p.nodes[n.from]
	n.state, n.reps = prev.state, prev.reps
	switch {
	case n.how == literal:
		n.state = afterLiteral(n.state)
	case n.how >= match:
		n.state = afterMatch(n.state)
		n.reps = [4]uint32{n.how - match, n.reps[0], n.reps[1], n.reps[2]}
	case n.how == 0 && int(n.from) == cur-1:
		n.state = afterShortRep(n.state)
	default:
		n.state = afterRep(n.state)
		n.reps = rotated(n.reps, int(n.how))
	}
	if n.then > 0 {
		n.state = afterRep(afterLiteral(n.state))
	}
}

// relax tries all packets from cur on and gives the last place that is reached.
func (p *parser) relax(start, cur, end int, matches []found) int {
	content := p.finder.content
	at := start + cur
	here := p.nodes[cur]
	posState := at & (posStates - 1)
	left := len(content) - at
	limit := min(left, p.finder.nice)
	b, before, matched := content[at], byte(0), byte(0)
	if at > 0 {
		before = content[at-1]
	}
	if int(here.reps[0]) < at {
		matched = content[at-int(here.reps[0])-1]
	}
	reach := func(to int) {
		for ; end < to; end++ {
			p.nodes[end+1].price = math.MaxUint32
		}
	}
	reach(cur + 1)

	isMatch := p.match[here.state][posState]
	byLiteral := here.price + price0(isMatch) + p.literalPrice(here.state, b, before, matched)
	if n := &p.nodes[cur+1]; byLiteral < n.price {
		n.price, n.from, n.how, n.then = byLiteral, int32(cur), literal, 0
	}
	byMatch := here.price + price1(isMatch)
	byRep := byMatch + price1(p.rep[here.state])
	byMatch += price0(p.rep[here.state])
	if b == matched && int(here.reps[0]) < at {
		price := byRep + price0(p.rep0[here.state]) + price0(p.rep0Long[here.state][posState])
		if n := &p.nodes[cur+1]; price < n.price {
			n.price, n.from, n.how, n.then = price, int32(cur), 0, 0
		}
	}
	if left < minMatch {
		return end
	}

	first := minMatch // lengths below are cheaper at the last distance
	for i, dist := range here.reps {
		n := p.lengthAt(at, dist, limit)
		if n < minMatch {
			continue
		}
		reach(cur + n)
		price := byRep + p.repPrice(i, here.state, posState)
		lengths := &p.repLen.prices[posState]
		for l := n; l >= minMatch; l-- {
			if to, price := &p.nodes[cur+l], price+lengths[l-minMatch]; price < to.price {
				to.price, to.from, to.how, to.then = price, int32(cur), uint32(i), 0
			}
		}
		if i == 0 {
			first = n + 1
		}
		end = p.thenLiteral(at, cur, end, n, uint32(i), dist, price+lengths[n-minMatch], afterRep(here.state))
	}

	l := first
	lengths := &p.matchLen.prices[posState]
	for _, m := range matches {
		n := min(m.n, limit)
		if n < l {
			continue
		}
		reach(cur + n)
		price := uint32(0)
		for ; l <= n; l++ {
			price = byMatch + lengths[l-minMatch] + p.distPrice(m.dist, lenStateOf(l))
			if to := &p.nodes[cur+l]; price < to.price {
				to.price, to.from, to.how, to.then = price, int32(cur), match+m.dist, 0
			}
		}
		end = p.thenLiteral(at, cur, end, n, match+m.dist, m.dist, price, afterMatch(here.state))
	}
	return end
}

// thenLiteral tries a literal after a match of length n at dist, and the match going
// on behind it.
func (p *parser) thenLiteral(at, cur, end, n int, how, dist uint32, price uint32, state uint8) int {
	content := p.finder.content
	next := at + n + 1
	limit := min(len(content)-next, p.finder.nice)
	if limit < minMatch {
		return end
	}
	more := p.lengthAt(next, dist, limit)
	if more < minMatch {
		return end
	}
	price += price0(p.match[state][(next-1)&(posStates-1)])
	price += p.literalPrice(state, content[next-1], content[next-2], content[next-2-int(dist)])
	state = afterLiteral(state)
	posState := next & (posStates - 1)
	price += price1(p.match[state][posState]) + price1(p.rep[state]) + p.repPrice(0, state, posState) + p.repLen.prices[posState][more-minMatch]
	to := cur + n + 1 + more
	if to >= len(p.nodes) {
		return end
	}
	for ; end < to; end++ {
		p.nodes[end+1].price = math.MaxUint32
	}
	if node := &p.nodes[to]; price < node.price {
		node.price, node.from, node.how, node.then = price, int32(cur), how, int32(n)
	}
	return end
}
