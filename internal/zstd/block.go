package zstd

// Of the format: the most content of a block.
const maxBlock = 1 << 17

// Types of blocks.
const (
	rawBlock = iota
	runBlock
	packedBlock
)

func appendBlockHeader(out []byte, kind, size int, last bool) []byte {
	v := kind<<1 | size<<3
	if last {
		v |= 1
	}
	return append(out, byte(v), byte(v>>8), byte(v>>16))
}

// appendBlock writes content, which the part with its literals and sequences stands for, as
// a block.
func (e *Encoder) appendBlock(out, content []byte, p *part, literals []byte, sequences []sequence, list []coded, last bool) []byte {
	if len(content) > 3 && extend(content, 0, 1) == len(content)-1 {
		return append(appendBlockHeader(out, runBlock, len(content), last), content[0])
	}
	if e.latest != p.before {
		// A block before it is not what was thought of when distances got their numbers.
		p.after, p.codes = e.latest, [3][64]uint32{}
		encode(list, sequences, &p.after, &p.codes)
	}
	begin := len(out)
	out = append(out, 0, 0, 0)
	kinds, hadCode, code := e.kinds, e.hasCode, e.code
	out = e.appendLiterals(out, literals, &p.literals)
	out = e.appendSequences(out, list, &p.codes)
	size := len(out) - begin - 3
	if size >= len(content) {
		// Of what was written the reader does not hear.
		if e.code != code {
			e.code, e.spare = code, e.code
		}
		e.hasCode = hadCode
		e.kinds = kinds
		return append(appendBlockHeader(out[:begin], rawBlock, len(content), last), content...)
	}
	e.latest = p.after
	appendBlockHeader(out[:begin], packedBlock, size, last)
	return out
}
