package xz

import "encoding/binary"

// Limits of LZMA2's chunks, in bytes.
const (
	maxChunk       = 1 << 16 // packed, and of stored ones
	maxChunkUnpack = 1 << 21
	// A stretch of plan is written whole: at worst a literal is 9 bits of the least
	// probability, which are 6.1 bits each.
	stretchMargin = (stretch + 1) * 7
)

// Control bytes.
const (
	chunkEnd    = 0
	storedFirst = 1 // the first chunk
	storedNext  = 2
	packedNext  = 0x80
	packedReset = 0xa0 // of the state
	packedProps = 0xc0 // and with the properties
	packedFirst = 0xe0 // and of the dictionary
)

// chunker writes LZMA2.
type chunker struct {
	parser parser
	model  model
	rc     rangeEncoder
}

// append writes content as LZMA2 behind dst.
func (c *chunker) append(dst, content []byte) []byte {
	c.parser.model = &c.model
	c.parser.reset(content)
	control, stored := byte(packedFirst), byte(storedFirst)
	for at := 0; at < len(content); {
		begin := at
		c.rc.reset()
		for at < len(content) && c.rc.size() < maxChunk-stretchMargin && at-begin < maxChunkUnpack-stretch-maxMatch {
			at = c.packets(content, at)
		}
		c.rc.flush()
		if len(c.rc.out) < at-begin {
			dst = append(dst, control|byte((at-begin-1)>>16), byte((at-begin-1)>>8), byte(at-begin-1), byte((len(c.rc.out)-1)>>8), byte(len(c.rc.out)-1))
			if control >= packedProps {
				dst = append(dst, properties)
			}
			dst = append(dst, c.rc.out...)
			control, stored = packedNext, storedNext
			continue
		}
		for begin < at {
			n := min(at-begin, maxChunk)
			dst = binary.BigEndian.AppendUint16(append(dst, stored), uint16(n-1))
			dst = append(dst, content[begin:begin+n]...)
			begin, stored = begin+n, storedNext
		}
		c.model.reset()
		switch control {
		case packedNext:
			control = packedReset
		case packedFirst: // the stored chunk began the dictionary
			control = packedProps
		}
	}
	return append(dst, chunkEnd)
}

// packets writes the next stretch and gives where it ends.
func (c *chunker) packets(content []byte, at int) int {
	plan := c.parser.next(at)
	for i := len(plan) - 1; i >= 0; i-- {
		n, how, posState := plan[i].n, plan[i].how, at&(posStates-1)
		switch {
		case how == literal:
			var before, matched byte
			if at > 0 {
				before = content[at-1]
			}
			if int(c.model.reps[0]) < at {
				matched = content[at-int(c.model.reps[0])-1]
			}
			c.model.encodeLiteral(&c.rc, posState, content[at], before, matched)
		case how >= match:
			c.model.encodeMatch(&c.rc, posState, n, how-match)
		default:
			c.model.encodeRep(&c.rc, posState, n, int(how))
		}
		at += n
	}
	return at
}
