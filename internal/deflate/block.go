package deflate

import "math/bits"

// Blocks of the format end at the latest with so many tokens; from leastBytes on they
// end where what they hold changes, which is looked at with every observations tokens.
const (
	maxTokens    = 1 << 15
	leastBytes   = 6000
	observations = 512
)

// kinds are what tokens are told apart by, to see changes: literals by their upper and
// lowest bits, and short and long matches.
const kinds = 10

// block is what is counted of the tokens of a block.
type block struct {
	literals  [286]uint32 // and lengths
	distances [30]uint32
	old, new  [kinds]uint32 // kinds of tokens before the last look, and since
	oldCount  uint32
	newCount  uint32
}

func (b *block) reset() { *b = block{} }

func (e *Encoder) literal(c byte) {
	e.tokens = append(e.tokens, token(c))
	e.block.literals[c]++
	e.block.new[c>>5&6|c&1]++
	e.block.newCount++
}

func (e *Encoder) match(n, dist int) {
	e.tokens = append(e.tokens, tokenMatch|token(n)<<16|token(dist-1))
	e.block.literals[257+int(lengthSymbols[n])]++
	e.block.distances[distanceSymbol(uint32(dist-1))]++
	kind := 8
	if n >= 9 {
		kind = 9
	}
	e.block.new[kind]++
	e.block.newCount++
}

// check ends the block before the place at, where it is time.
func (e *Encoder) check(at int) {
	b := &e.block
	if len(e.tokens) < maxTokens {
		if b.newCount < observations {
			return
		}
		if at-e.begin < leastBytes || !b.changed(at-e.begin) {
			b.join()
			return
		}
	}
	if at < len(e.content) { // the last is ended by who knows whether the stream ends
		e.endBlock(at, false)
	}
}

func (b *block) join() {
	for i := range b.new {
		b.old[i] += b.new[i]
		b.new[i] = 0
	}
	b.oldCount += b.newCount
	b.newCount = 0
}

// changed reports whether the new tokens are of other kinds than the old ones; the
// longer a block is, the sooner.
func (b *block) changed(size int) bool {
	if b.oldCount == 0 {
		return false
	}
	delta := uint64(0)
	for i := range b.new {
		expected, actual := uint64(b.old[i])*uint64(b.newCount), uint64(b.new[i])*uint64(b.oldCount)
		delta += max(expected, actual) - min(expected, actual)
	}
	cutoff := uint64(b.newCount) * 200 / 512 * uint64(b.oldCount)
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
