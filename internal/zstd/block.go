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

// appendBlock writes content, which the sequences and literals behind them stand for,
// as a block.
func (e *Encoder) appendBlock(out, content []byte, sequences []sequence, last bool) []byte {
	if len(content) > 3 && extend(content, 0, 1) == len(content)-1 {
		return append(appendBlockHeader(out, runBlock, len(content), last), content[0])
	}
	begin := len(out)
	out = append(out, 0, 0, 0)
	latest, kinds, hadCode := e.latest, e.kinds, e.hasCode
	code := e.code
	out = e.appendLiterals(out, e.gather(content, sequences))
	out = e.appendSequences(out, sequences, &latest)
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
	e.latest = latest
	appendBlockHeader(out[:begin], packedBlock, size, last)
	return out
}

// gather gives the literals between matches.
func (e *Encoder) gather(content []byte, sequences []sequence) []byte {
	to, n := e.literals[:], 0
	at := 0
	for _, s := range sequences {
		k := int(s.literals)
		if k <= 16 && at+16 <= len(content) {
			copy(to[n:n+16], content[at:at+16])
		} else {
			copy(to[n:], content[at:at+k])
		}
		n += k
		at += k + int(s.length)
	}
	n += copy(to[n:], content[at:])
	return to[:n]
}
