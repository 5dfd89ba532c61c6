package zstd

import "encoding/binary"

// Types of a block's literals.
const (
	rawLiterals = iota
	runLiterals
	packedLiterals
	repeatLiterals // by the code before
)

// appendLiterals writes the section of a block's literals, which occur so often, in
// whichever way is shortest.
func (e *Encoder) appendLiterals(out, literals []byte, counts *[256]uint32) []byte {
	if len(literals) < 2 {
		return appendPlain(out, rawLiterals, len(literals), literals)
	}
	most, least := uint32(0), 0 // how often the most frequent, and what
	for s, n := range counts {
		if n > most {
			most, least = n, s
		}
	}
	if int(most) == len(literals) {
		return appendPlain(out, runLiterals, len(literals), []byte{byte(least)})
	}
	begin := len(out)
	plain := len(literals) + 3
	// Hardly anything can be gained from what is that even.
	if int(most) <= len(literals)>>7+4 && len(literals) > 64 {
		return appendPlain(out, rawLiterals, len(literals), literals)
	}
	kind := packedLiterals
	old, possible := e.code.cost(counts)
	possible = possible && e.hasCode
	if possible && len(literals) < 1<<10 && old/8+16 < plain && len(literals) < 64 {
		kind = repeatLiterals // not worth a look for another
	} else {
		next := e.spare
		next.make(counts)
		cost, _ := next.cost(counts)
		table, ok := next.appendTable(e.table[:0])
		e.table = table
		switch {
		case possible && (!ok || old <= cost+8*len(table)):
			kind = repeatLiterals
		case !ok || cost/8+len(table)+11 >= plain:
			return appendPlain(out, rawLiterals, len(literals), literals)
		default:
			e.code, e.spare, e.hasCode = next, e.code, true
		}
	}
	if kind == repeatLiterals && old/8+11 >= plain {
		return appendPlain(out, rawLiterals, len(literals), literals)
	}
	// The header has the sizes, with which one stream or four follow.
	head, width, format := 3, 10, 0
	switch n := len(literals); {
	case n >= 1<<14:
		head, width, format = 5, 18, 3
	case n >= 1<<10:
		head, width, format = 4, 14, 2
	case n >= 256:
		format = 1
	}
	out = append(out, make([]byte, head)...)
	if kind == packedLiterals {
		out = append(out, e.table...)
	}
	if format == 0 {
		n := e.code.stream(e.buf[:], literals)
		out = append(out, e.buf[:n]...)
	} else {
		sizes := len(out)
		out = append(out, 0, 0, 0, 0, 0, 0)
		part := (len(literals) + 3) / 4
		for i := range 4 {
			n := e.code.stream(e.buf[:], literals[i*part:min((i+1)*part, len(literals))])
			if i < 3 {
				binary.LittleEndian.PutUint16(out[sizes+2*i:], uint16(n))
			}
			out = append(out, e.buf[:n]...)
		}
	}
	var header [8]byte
	v := uint64(kind) | uint64(format)<<2 | uint64(len(literals))<<4 | uint64(len(out)-begin-head)<<(4+width)
	binary.LittleEndian.PutUint64(header[:], v)
	copy(out[begin:], header[:head])
	return out
}

// appendPlain writes literals without a code.
func appendPlain(out []byte, kind, n int, data []byte) []byte {
	switch {
	case n < 32:
		out = append(out, byte(kind|n<<3))
	case n < 1<<12:
		out = binary.LittleEndian.AppendUint16(out, uint16(kind|1<<2|n<<4))
	default:
		v := uint32(kind | 3<<2 | n<<4)
		out = append(out, byte(v), byte(v>>8), byte(v>>16))
	}
	return append(out, data...)
}

// count counts bytes.
func count(counts *[256]uint32, content []byte) {
	*counts = [256]uint32{}
	var other [256]uint32 // so that no count waits for the one before
	for ; len(content) >= 4; content = content[4:] {
		counts[content[0]]++
		other[content[1]]++
		counts[content[2]]++
		other[content[3]]++
	}
	for _, c := range content {
		counts[c]++
	}
	for s, n := range other {
		counts[s] += n
	}
}
