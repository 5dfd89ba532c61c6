package zstd

const (
	// maxParts is how many stretches may become blocks of their own, fewParts the same
	// where time counts.
	maxParts, fewParts = 16, 4
	// blockCost is about what a block costs by itself, in bits: headers, and states that
	// codes begin with.
	blockCost = 8 * 20
	// tableCost is about what an entry of a table costs.
	literalCost, sequenceCost = 4, 5
)

// part is a stretch of content with counts of what is to be written for it.
type part struct {
	sequences, size int    // how many there are, and how many bytes they stand for
	before, after   recent // as the reader has them
	literals        [256]uint32
	codes           [3][64]uint32
	totals          [2]uint32 // of literals and sequences
	cost            uint32    // in bits
}

// appendBlocks writes the sequences, which stand for the content from begin to end, as
// blocks that end where what they hold changes.
func (e *Encoder) appendBlocks(out []byte, begin, end int) []byte {
	parts := e.measure(begin, end)
	// Neighbours join as long as what one table for both costs is less than a second.
	var gains [maxParts]int
	for i := range len(parts) - 1 {
		gains[i] = gain(&parts[i], &parts[i+1])
	}
	for len(parts) > 1 {
		at := 0
		for i, g := range gains[:len(parts)-1] {
			if g > gains[at] {
				at = i
			}
		}
		if gains[at] < 0 {
			break
		}
		parts[at].join(&parts[at+1], uint32(gains[at]))
		copy(parts[at+1:], parts[at+2:])
		copy(gains[at+1:], gains[at+2:])
		parts = parts[:len(parts)-1]
		if at > 0 {
			gains[at-1] = gain(&parts[at-1], &parts[at])
		}
		if at+1 < len(parts) {
			gains[at] = gain(&parts[at], &parts[at+1])
		}
	}
	literals, sequences, list := e.literals[:], e.sequences, e.coded
	for i := range parts {
		p := &parts[i]
		next := begin + p.size
		if i == len(parts)-1 {
			next = end // literals behind the last sequence
		}
		l, n := p.totals[0], p.sequences
		out = e.appendBlock(out, e.content[begin:next], p, literals[:l], sequences[:n], list[:n], next == len(e.content))
		literals, sequences, list, begin = literals[l:], sequences[n:], list[n:], next
	}
	return out
}

// measure cuts the sequences into parts of some kilobytes, and gathers the literals.
func (e *Encoder) measure(begin, end int) []part {
	content := e.content[:end]
	least := maxBlock / len(e.parts)
	latest := e.latest
	sequences, list := e.sequences, e.coded
	at, all := begin, 0 // of the content and the literals
	for n := 0; ; n++ {
		p := &e.parts[n]
		*p = part{before: latest}
		first := at
		begin := all
		for p.sequences < len(sequences) && (at-first < least || n+1 == len(e.parts)) {
			s := &sequences[p.sequences]
			k := int(s.literals)
			if k <= 16 && at+16 <= len(content) {
				copy(e.literals[all:all+16], content[at:at+16])
			} else {
				copy(e.literals[all:], content[at:at+k])
			}
			all += k
			at += k + int(s.length)
			p.sequences++
		}
		encode(list, sequences[:p.sequences], &latest, &p.codes)
		sequences, list = sequences[p.sequences:], list[p.sequences:]
		p.size, p.after = at-first, latest
		if len(sequences) == 0 {
			all += copy(e.literals[all:], content[at:])
		}
		count(&p.literals, e.literals[begin:all])
		p.totals = [2]uint32{uint32(all - begin), uint32(p.sequences)}
		p.cost = cost(p, &none)
		if len(sequences) == 0 {
			return e.parts[:n+1]
		}
	}
}

// gain is how many bits are saved when two parts are one.
func gain(a, b *part) int { return int(a.cost) + int(b.cost) - int(cost(a, b)) }

// join adds b, by which so many bits are saved.
func (p *part) join(b *part, saved uint32) {
	p.sequences += b.sequences
	p.size += b.size
	p.after = b.after
	p.cost += b.cost - saved
	for i, n := range &b.literals {
		p.literals[i] += n
	}
	for kind := range p.codes {
		for i, n := range b.codes[kind][:56] {
			p.codes[kind][i] += n
		}
	}
	p.totals[0] += b.totals[0]
	p.totals[1] += b.totals[1]
}

// none has nothing.
var none part

// cost is about how many bits a block of both parts would have, but for those that are
// the same in any.
func cost(a, b *part) uint32 {
	literals := a.totals[0] + b.totals[0]
	bits := blockCost + min(entropy(a.literals[:], b.literals[:], literals, literalCost), 8*literals)
	for kind := range a.codes {
		bits += entropy(a.codes[kind][:56], b.codes[kind][:56], a.totals[1]+b.totals[1], sequenceCost)
	}
	return bits
}

// entropy is how many bits symbols need that occur as often as a and b say together, total
// times, with a table of them.
func entropy(a, b []uint32, total uint32, each uint32) uint32 {
	if total == 0 {
		return 0
	}
	sum, used := uint64(0), uint32(0)
	for i, n := range b[:len(a)] {
		n += a[i]
		used += min(n, 1)
		if n < logSize {
			sum += uint64(weighted[n])
		} else {
			sum += uint64(n) * uint64(log2(n))
		}
	}
	return uint32((uint64(total)*uint64(log2(total))-sum)>>costBits) + used*each
}
