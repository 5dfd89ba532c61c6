package xz

import "math/bits"

// Of LZMA with lc=3, lp=0, pb=2, as xz has by default.
const (
	literalContexts = 8 // by the upper 3 bits of the byte before
	posStates       = 4 // by the lower 2 bits of the place
	states          = 12
	properties      = (2*5+0)*9 + 3

	minMatch = 2
	maxMatch = 273
	lenCount = maxMatch - minMatch + 1

	lenStates     = 4 // of distances, by the match's length
	slots         = 64
	fullDistances = 128 // those below have probabilities for all their bits
	alignBits     = 4
)

// State after each kind of packet: what the last ones were.
func afterLiteral(s uint8) uint8 {
	switch {
	case s < 4:
		return 0
	case s < 10:
		return s - 3
	default:
		return s - 6
	}
}

func after(s, ifLiteral, ifMatch uint8) uint8 {
	if s < 7 {
		return ifLiteral
	}
	return ifMatch
}

func afterMatch(s uint8) uint8    { return after(s, 7, 10) }
func afterRep(s uint8) uint8      { return after(s, 8, 11) }
func afterShortRep(s uint8) uint8 { return after(s, 9, 11) }

// slotOf is a distance's highest two bits and their place.
func slotOf(dist uint32) uint32 {
	if dist < 4 {
		return dist
	}
	n := uint32(bits.Len32(dist) - 1)
	return n<<1 | dist>>(n-1)&1
}

// lenStateOf is by which probabilities the distance of a match of length n is
// written.
func lenStateOf(n int) int { return min(n-minMatch, lenStates-1) }

type lenModel struct {
	choice, choice2 uint16
	low, mid        [posStates][8]uint16
	high            [256]uint16
	// prices by place and length, kept for a while.
	prices [posStates][lenCount]uint32
	uses   [posStates]int // until they are counted anew
}

// lengthUses is for how many lengths prices are kept.
const lengthUses = 64

func (m *lenModel) reset() {
	m.choice, m.choice2 = probInit, probInit
	for i := range posStates {
		initProbs(m.low[i][:])
		initProbs(m.mid[i][:])
	}
	initProbs(m.high[:])
	for i := range posStates {
		m.count(i)
	}
}

func initProbs(p []uint16) {
	for i := range p {
		p[i] = probInit
	}
}

func (m *lenModel) count(posState int) {
	m.uses[posState] = lengthUses
	to := &m.prices[posState]
	low := price0(m.choice)
	mid := price1(m.choice) + price0(m.choice2)
	high := price1(m.choice) + price1(m.choice2)
	for i := range uint32(8) {
		to[i] = low + treePrice(m.low[posState][:], 3, i)
		to[8+i] = mid + treePrice(m.mid[posState][:], 3, i)
	}
	for i := range uint32(256) {
		to[16+i] = high + treePrice(m.high[:], 8, i)
	}
}

func (m *lenModel) encode(r *rangeEncoder, n, posState int) {
	v := uint32(n - minMatch)
	switch {
	case v < 8:
		r.bit(&m.choice, 0)
		r.tree(m.low[posState][:], 3, v)
	case v < 16:
		r.bit(&m.choice, 1)
		r.bit(&m.choice2, 0)
		r.tree(m.mid[posState][:], 3, v-8)
	default:
		r.bit(&m.choice, 1)
		r.bit(&m.choice2, 1)
		r.tree(m.high[:], 8, v-16)
	}
	if m.uses[posState]--; m.uses[posState] <= 0 {
		m.count(posState)
	}
}

// model is all that LZMA adapts.
type model struct {
	state uint8
	reps  [4]uint32 // the last distances, less 1

	literal  [literalContexts][0x300]uint16
	match    [states][posStates]uint16
	rep      [states]uint16
	rep0     [states]uint16
	rep1     [states]uint16
	rep2     [states]uint16
	rep0Long [states][posStates]uint16
	slot     [lenStates][slots]uint16
	special  [fullDistances - 14]uint16
	align    [1<<alignBits - 1]uint16
	matchLen lenModel
	repLen   lenModel

	// Prices of distances, kept for a while.
	slotPrices  [lenStates][slots]uint32
	distPrices  [lenStates][fullDistances]uint32
	alignPrices [1 << alignBits]uint32
	distUses    int
	alignUses   int
}

const (
	distanceUses = 128
	alignUses    = 16
)

func (m *model) reset() {
	m.state, m.reps = 0, [4]uint32{}
	for i := range m.literal {
		initProbs(m.literal[i][:])
	}
	for i := range states {
		initProbs(m.match[i][:])
		initProbs(m.rep0Long[i][:])
	}
	initProbs(m.rep[:])
	initProbs(m.rep0[:])
	initProbs(m.rep1[:])
	initProbs(m.rep2[:])
	for i := range lenStates {
		initProbs(m.slot[i][:])
	}
	initProbs(m.special[:])
	initProbs(m.align[:])
	m.matchLen.reset()
	m.repLen.reset()
	m.countDistances()
	m.countAlign()
}

func (m *model) countAlign() {
	m.alignUses = alignUses
	for i := range m.alignPrices {
		m.alignPrices[i] = reverseTreePrice(m.align[:], alignBits, uint32(i))
	}
}

func (m *model) countDistances() {
	m.distUses = distanceUses
	for l := range lenStates {
		for s := range uint32(slots) {
			price := treePrice(m.slot[l][:], 6, s)
			if s >= 14 { // its direct bits, but for the lowest four
				price += (s>>1 - 1 - alignBits) << priceBits
			}
			m.slotPrices[l][s] = price
		}
	}
	for d := range uint32(fullDistances) {
		s, special := slotOf(d), uint32(0)
		if s >= 4 {
			footer := int(s>>1 - 1)
			base := (2 | s&1) << footer
			special = reverseTreePrice(m.special[base-s:], footer, d-base)
		}
		for l := range lenStates {
			m.distPrices[l][d] = m.slotPrices[l][s] + special
		}
	}
}

func (m *model) distPrice(dist uint32, lenState int) uint32 {
	if dist < fullDistances {
		return m.distPrices[lenState][dist]
	}
	return m.slotPrices[lenState][slotOf(dist)] + m.alignPrices[dist&(1<<alignBits-1)]
}

// literalPrice is of a literal after before, where the last distance gives
// matched.
func (m *model) literalPrice(state uint8, b, before, matched byte) (price uint32) {
	probs := &m.literal[before>>5]
	at := uint32(b) | 0x100
	if state < 7 {
		for at > 1 {
			price += bitPrice(probs[at>>1], at&1)
			at >>= 1
		}
		return price
	}
	offset, other := uint32(0x100), uint32(matched)
	for at < 0x10000 {
		other <<= 1
		price += bitPrice(probs[offset+other&offset+at>>8], at>>7&1)
		at <<= 1
		offset &^= other ^ at
	}
	return price
}

func (m *model) encodeLiteral(r *rangeEncoder, posState int, b, before, matched byte) {
	r.bit(&m.match[m.state][posState], 0)
	probs := &m.literal[before>>5]
	if m.state < 7 {
		r.tree(probs[:], 8, uint32(b))
	} else {
		at, offset, other := uint32(b)|0x100, uint32(0x100), uint32(matched)
		for at < 0x10000 {
			other <<= 1
			r.bit(&probs[offset+other&offset+at>>8], at>>7&1)
			at <<= 1
			offset &^= other ^ at
		}
	}
	m.state = afterLiteral(m.state)
}

func (m *model) encodeMatch(r *rangeEncoder, posState, n int, dist uint32) {
	r.bit(&m.match[m.state][posState], 1)
	r.bit(&m.rep[m.state], 0)
	m.state = afterMatch(m.state)
	m.matchLen.encode(r, n, posState)
	l, s := lenStateOf(n), slotOf(dist)
	r.tree(m.slot[l][:], 6, s)
	if s >= 4 {
		footer := int(s>>1 - 1)
		base := (2 | s&1) << footer
		rest := dist - base
		if s < 14 {
			r.reverseTree(m.special[base-s:], footer, rest)
		} else {
			r.direct(rest>>alignBits, footer-alignBits)
			r.reverseTree(m.align[:], alignBits, rest&(1<<alignBits-1))
			if m.alignUses--; m.alignUses <= 0 {
				m.countAlign()
			}
		}
	}
	m.reps = [4]uint32{dist, m.reps[0], m.reps[1], m.reps[2]}
	if m.distUses--; m.distUses <= 0 {
		m.countDistances()
	}
}

// encodeRep writes a match at the distance reps[i]; n 1 is the short one, of i 0.
func (m *model) encodeRep(r *rangeEncoder, posState, n, i int) {
	s := m.state
	r.bit(&m.match[s][posState], 1)
	r.bit(&m.rep[s], 1)
	if i == 0 {
		r.bit(&m.rep0[s], 0)
		long := uint32(1)
		if n == 1 {
			long = 0
		}
		r.bit(&m.rep0Long[s][posState], long)
	} else {
		r.bit(&m.rep0[s], 1)
		if i == 1 {
			r.bit(&m.rep1[s], 0)
		} else {
			r.bit(&m.rep1[s], 1)
			r.bit(&m.rep2[s], uint32(i-2))
		}
		m.reps = rotated(m.reps, i)
	}
	if n == 1 {
		m.state = afterShortRep(s)
		return
	}
	m.repLen.encode(r, n, posState)
	m.state = afterRep(s)
}

// rotated has the distance i first.
func rotated(reps [4]uint32, i int) [4]uint32 {
	d := reps[i]
	copy(reps[1:], reps[:i])
	reps[0] = d
	return reps
}

// repPrice is of saying that a match is at reps[i] and longer than 1.
func (m *model) repPrice(i int, s uint8, posState int) uint32 {
	switch i {
	case 0:
		return price0(m.rep0[s]) + price1(m.rep0Long[s][posState])
	case 1:
		return price1(m.rep0[s]) + price0(m.rep1[s])
	default:
		return price1(m.rep0[s]) + price1(m.rep1[s]) + bitPrice(m.rep2[s], uint32(i-2))
	}
}
