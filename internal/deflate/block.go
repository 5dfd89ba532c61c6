package deflate

import "math/bits"

// Blocks end at the latest with so many tokens; from leastBytes on they end where what
// they hold changes, which is looked at with every level.observations tokens.
const (
	maxTokens       = 1 << 15
	leastBytes      = 5000
	maxObservations = 1024
	// slack is by how many tokens a block may become longer until it is looked at:
	// literals before a match, which are fewer than its length and bits of its distance
	// can get better by (see better), or the last ones.
	slack = maxObservations + 2*maxMatch
)

// token is a literal or a match: an index into the tables below, and below 16 bits a
// distance less 1. Literals have the one that has no bits.
type token uint32

const (
	firstLiteral = 512 // literals' first index; a match's is its length
	indexes      = 1 << 10
	noDistance   = 1<<16 - 1
)

// kinds are what tokens are told apart by, to see changes: literals by their upper and
// lowest bits, and short and long matches.
const kinds = 10

// symbols and kindsOf are of tokens' indexes.
var symbols, kindsOf = func() (symbols [indexes]uint16, kinds [indexes]uint8) {
	for c := range 256 {
		symbols[firstLiteral+c], kinds[firstLiteral+c] = uint16(c), uint8(c>>5&6|c&1)
	}
	for n := minMatch; n <= maxMatch; n++ {
		symbols[n], kinds[n] = 257+uint16(lengthSymbols[n]), 8
		if n >= 9 {
			kinds[n] = 9
		}
	}
	return symbols, kinds
}()

// block is what is counted of the tokens of a block.
type block struct {
	literals  [286]uint32   // and lengths
	distances [32]uint32    // the last is of no distance
	old, new  [kinds]uint32 // kinds of tokens before the last look, and since
	seen      int           // tokens that are counted
}

func (e *Encoder) startBlock() {
	e.block, e.n, e.look = block{}, 0, e.observations
}

func (e *Encoder) literal(c byte) {
	e.tokens[e.n] = (firstLiteral+token(c))<<16 | noDistance
	e.n++
}

func (e *Encoder) match(n, dist int) {
	e.tokens[e.n] = token(n)<<16 | token(dist-1)
	e.n++
}

// count counts the tokens that were not counted yet, and gives how many they are.
func (e *Encoder) count() (n uint32) {
	b := &e.block
	for _, t := range e.tokens[b.seen:e.n] {
		i := t >> 16 & (indexes - 1)
		b.literals[symbols[i]]++
		b.distances[distanceSymbol(uint32(t&0xffff))&31]++
		b.new[kindsOf[i]]++
	}
	n = uint32(e.n - b.seen)
	b.seen = e.n
	return n
}

// check ends the block before the place at, where it is time.
func (e *Encoder) check(at int) {
	b := &e.block
	before := uint32(b.seen)
	n := e.count()
	if e.n < maxTokens && (at-e.begin < leastBytes || !b.changed(before, n, at-e.begin)) {
		for i := range b.new {
			b.old[i] += b.new[i]
			b.new[i] = 0
		}
		e.look = e.n + e.observations
		return
	}
	e.endBlock(at, false)
}

// changed reports whether the newest n tokens are of other kinds than those before them;
// the longer a block is, the sooner.
func (b *block) changed(before, n uint32, size int) bool {
	if before == 0 {
		return false
	}
	delta := uint64(0)
	for i := range b.new {
		expected, actual := uint64(b.old[i])*uint64(n), uint64(b.new[i])*uint64(before)
		delta += max(expected, actual) - min(expected, actual)
	}
	cutoff := uint64(n) * 200 / 512 * uint64(before)
	return delta+uint64(size>>12)*cutoff/64 >= cutoff
}

// lengthSymbols, lengthBases and the like are RFC 1951's tables.
var (
	lengthSymbols, lengthBases = func() (symbols [maxMatch + 1]uint8, bases [29]uint16) {
		n := minMatch
		for s := range 28 {
			bases[s] = uint16(n)
			for range 1 << lengthExtra(s) {
				if n < maxMatch {
					symbols[n] = uint8(s)
				}
				n++
			}
		}
		bases[28], symbols[maxMatch] = maxMatch, 28
		return symbols, bases
	}()
	distanceBases = func() (bases [30]uint32) {
		d := uint32(0)
		for s := range bases {
			bases[s] = d
			d += 1 << distanceExtra(s)
		}
		return bases
	}()
)

// lengthExtra and distanceExtra are how many bits follow a symbol.
func lengthExtra(s int) int {
	if s < 8 || s == 28 {
		return 0
	}
	return s/4 - 1
}

func distanceExtra(s int) int { return max(s/2-1, 0) }

// distanceSymbol is of a distance less 1.
func distanceSymbol(d uint32) uint32 {
	if d < 4 {
		return d
	}
	n := uint32(bits.Len32(d) - 1)
	return n<<1 | d>>(n-1)&1
}
