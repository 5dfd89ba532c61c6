package zstd

import "encoding/binary"

// sequence is a run of literals and a match behind it.
type sequence struct{ literals, length, dist uint32 }

// recent are the distances of the latest matches, which are written as numbers.
type recent [3]uint32

// number gives how a distance is written, behind literals or not, and notes it.
func (r *recent) number(dist, literals uint32) uint32 {
	a, b, c := r[0], r[1], r[2]
	if literals > 0 {
		switch dist {
		case a:
			return 1
		case b:
			r[0], r[1] = b, a
			return 2
		case c:
			r[0], r[1], r[2] = c, a, b
			return 3
		}
	} else {
		switch dist {
		case b:
			r[0], r[1] = b, a
			return 1
		case c:
			r[0], r[1], r[2] = c, a, b
			return 2
		case a - 1:
			r[0], r[1], r[2] = a-1, a, b
			return 3
		}
	}
	r[0], r[1], r[2] = dist, a, b
	return dist + 3
}

// Kinds of codes.
const (
	ofLiterals = iota
	ofOffsets
	ofMatches
)

// symbols are how many codes of a kind there are.
var symbols = [3]int{36, 32, 53}

// Of codes above those that stand for one number: how many bits follow.
var (
	literalBits = [36]uint8{16: 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	matchBits   = [53]uint8{32: 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

// literalCodes and matchCodes are the codes of small numbers.
var literalCodes, matchCodes = func() (literals [64]uint8, matches [128]uint8) {
	fill := func(codes, bits []uint8) {
		n := 0
		for c := 0; n < len(codes); c++ {
			for range 1 << bits[c] {
				if n < len(codes) {
					codes[n] = uint8(c)
				}
				n++
			}
		}
	}
	fill(literals[:], literalBits[:])
	fill(matches[:], matchBits[:])
	return literals, matches
}()

func literalCode(n uint32) uint8 {
	if n < 64 {
		return literalCodes[n]
	}
	return uint8(high(n) + 19)
}

// matchCode is of a length less 3.
func matchCode(n uint32) uint8 {
	if n < 128 {
		return matchCodes[n]
	}
	return uint8(high(n) + 36)
}

// coded is a sequence as it is written.
type coded struct {
	literals, length, offset uint32 // numbers of which the lower bits follow the codes
	codes                    [3]uint8
}

// encode fills list with the sequences behind those whose distances are in latest, and
// counts their codes.
func encode(list []coded, sequences []sequence, latest *recent, counts *[3][64]uint32) {
	near := *latest
	for i, s := range sequences {
		offset := near.number(s.dist, s.literals)
		l, o, m := literalCode(s.literals), uint8(high(offset)), matchCode(s.length-3)
		list[i] = coded{s.literals, s.length - 3, offset, [3]uint8{l, o, m}}
		counts[ofLiterals][l&63]++
		counts[ofOffsets][o&63]++
		counts[ofMatches][m&63]++
	}
	*latest = near
}

// appendSequences writes the section of sequences, with counts of their codes.
func (e *Encoder) appendSequences(out []byte, list []coded, counts *[3][64]uint32) []byte {
	n := len(list)
	switch {
	case n < 128:
		out = append(out, byte(n))
	case n < 0x7f00:
		out = append(out, byte(n>>8+128), byte(n))
	default:
		out = append(out, 255, byte(n-0x7f00), byte((n-0x7f00)>>8))
	}
	if n == 0 {
		return out
	}
	modes := len(out)
	out = append(out, 0)
	var tables [3]*fse
	for kind := range tables {
		var mode byte
		out, tables[kind], mode = e.chooseTable(out, kind, counts[kind][:symbols[kind]], uint32(n), list)
		out[modes] |= mode << (6 - 2*kind)
	}
	if cap(out)-len(out) < 16*n+16 { // at most 128 bits each
		out = append(out, make([]byte, 16*n+16)...)[:len(out)]
	}
	size := writeSequences(out[len(out):cap(out)], list, tables[ofLiterals], tables[ofOffsets], tables[ofMatches])
	return out[:len(out)+size]
}

// Modes of tables.
const (
	fixedTable = iota
	runTable
	ownTable
	repeatTable
)

// chooseTable decides about the table of codes of a kind, and writes it.
func (e *Encoder) chooseTable(out []byte, kind int, counts []uint32, total uint32, list []coded) ([]byte, *fse, byte) {
	k := &e.kinds[kind]
	if s := list[0].codes[kind]; counts[s] == total {
		k.known = false
		if total <= 2 { // hardly shorter in the fixed table, if at all
			if cost, ok := k.fixed.cost(counts); ok && cost < 8*bit {
				return out, k.fixed, fixedTable
			}
		}
		return append(out, s), &noChoice, runTable
	}
	none := 1 << 62
	known, ok := k.current.cost(counts)
	if !k.known || !ok {
		known = none
	}
	fixed, ok := k.fixed.cost(counts)
	if !ok {
		fixed = none
	}
	own := none
	begin := len(out)
	if total > 8 || min(known, fixed) == none {
		k.spare.normalize(counts, total, k.limit)
		out = k.spare.appendTable(out)
		own, _ = k.spare.cost(counts)
		own += (len(out) - begin) * 8 * bit
	}
	switch {
	case known <= min(own, fixed) && known < none:
		return out[:begin], k.current, repeatTable
	case fixed <= own:
		k.known = false
		return out[:begin], k.fixed, fixedTable
	}
	k.current, k.spare, k.known = k.spare, k.current, true
	k.current.build()
	return out, k.current, ownTable
}

// kind is the tables of a kind of codes.
type kind struct {
	fixed, current, spare *fse
	known                 bool // current was written before
	limit                 uint
}

// noChoice is the table of a kind of which there is one code only: no bits are written.
var noChoice fse

// writeSequences writes from the last to the first, into a buffer that is large enough.
func writeSequences(buf []byte, list []coded, literals, offsets, matches *fse) int {
	last := &list[len(list)-1]
	l, o, m := literals.start(last.codes[ofLiterals]), offsets.start(last.codes[ofOffsets]), matches.start(last.codes[ofMatches])
	// A bitWriter in registers.
	var acc uint64
	var have uint
	at := 0
	for i := len(list) - 1; i >= 0; i-- {
		s := &list[i]
		if i < len(list)-1 {
			var n uint
			o, n = offsets.step(o, s.codes[ofOffsets], &acc, have)
			have += n
			m, n = matches.step(m, s.codes[ofMatches], &acc, have)
			have += n
			l, n = literals.step(l, s.codes[ofLiterals], &acc, have)
			have += n
		}
		n := uint(literalBits[s.codes[ofLiterals]%36])
		acc |= uint64(s.literals) & (1<<n - 1) << (have & 63)
		have += n
		binary.LittleEndian.PutUint64(buf[at:], acc)
		at += int(have >> 3)
		acc >>= have &^ 7 & 63
		have &= 7
		n = uint(matchBits[s.codes[ofMatches]%53])
		acc |= uint64(s.length) & (1<<n - 1) << (have & 63)
		have += n
		n = uint(s.codes[ofOffsets]) & 31
		acc |= uint64(s.offset) & (1<<n - 1) << (have & 63)
		have += n
		binary.LittleEndian.PutUint64(buf[at:], acc)
		at += int(have >> 3)
		acc >>= have &^ 7 & 63
		have &= 7
	}
	w := bitWriter{buf, at, acc, have}
	w.add(uint64(m)&(1<<matches.log-1), matches.log)
	w.add(uint64(o)&(1<<offsets.log-1), offsets.log)
	w.add(uint64(l)&(1<<literals.log-1), literals.log)
	return w.end()
}

// step does what encode does, with bits behind those in acc, and gives how many.
func (t *fse) step(state uint32, s uint8, acc *uint64, have uint) (next uint32, n uint) {
	m := t.moves[s&63]
	n = uint((state+m.bits)>>16) & 15
	*acc |= uint64(state&(1<<n-1)) << (have & 63)
	return uint32(t.next[(state>>n+uint32(m.find))&(1<<maxTableLog-1)]), n
}
