package zstd

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/okd-project/okd-streams/internal/xxhash"
)

// MaxSize is the most bytes that a frame may hold: what all readers have memory for.
const MaxSize = 1 << 24

// maxSequences is how many a block has at most.
const maxSequences = maxBlock/minMatch + 1

// Encoder compresses frames, one at a time.
type Encoder struct {
	level
	content []byte
	first   *first  // of the lowest strength
	quick   *quick  // of the next
	buckets buckets // of the others
	guess   recent  // as the reader will have them unless a block is not compressed

	// Of the block that is being made.
	sequences []sequence
	parts     []part
	latest    recent // as the reader has them
	literals  [maxBlock + 16]byte
	coded     []coded
	table     []byte // of a Huffman code
	buf       [maxBlock/4*maxHuffmanBits/8 + 64]byte

	// What the next block may refer to.
	code, spare *huffman
	hasCode     bool
	kinds       [3]kind
}

// NewEncoder makes an encoder of a level, 1 to 22, with the strengths that begin at 1, 3,
// 6 and 10. See [Memory] for how much it needs.
func NewEncoder(number int) (*Encoder, error) {
	if number < 1 || number > 22 {
		return nil, fmt.Errorf("zstd: level %d is not within 1 to 22: %w", number, errors.ErrUnsupported)
	}
	e := &Encoder{level: levelOf(number), code: new(huffman), spare: new(huffman)}
	e.coded, e.parts = make([]coded, maxSequences), make([]part, maxParts)
	switch {
	case number < 3:
		e.first, e.parts = new(first), e.parts[:fewParts]
	case number < 6:
		e.quick = new(quick)
	}
	for k, fixed := range [3]*fse{fixedLits, fixedOffsets, fixedMatches} {
		e.kinds[k] = kind{fixed: fixed, current: new(fse), spare: new(fse), limit: maxTableLog}
	}
	e.kinds[ofOffsets].limit = 8
	return e, nil
}

// Memory is about how many bytes an encoder of a level needs.
func Memory(number int) int64 {
	const block = 2 << 20 // what is found, counted and written of one
	if l := levelOf(number); l.wait > 0 {
		return block + 4<<l.short + 4<<l.long
	}
	return block
}

// Append writes content, at most [MaxSize] bytes, as a frame behind dst.
func (e *Encoder) Append(dst, content []byte) ([]byte, error) {
	if len(content) > MaxSize {
		return dst, fmt.Errorf("zstd: a frame of %d bytes: %w", len(content), errors.ErrUnsupported)
	}
	out := appendHeader(dst, len(content))
	e.latest, e.hasCode = recent{1, 4, 8}, false
	for k := range e.kinds {
		e.kinds[k].known = false
	}
	if len(content) == 0 {
		out = appendBlockHeader(out, rawBlock, 0, true)
	}
	e.content = content
	e.startFrame()
	for begin := 0; begin < len(content); begin += maxBlock {
		end := min(begin+maxBlock, len(content))
		e.sequences = e.sequences[:0]
		switch {
		case e.first != nil:
			e.parseFirst(begin, end)
		case e.quick != nil:
			e.parseQuickly(begin, end)
		default:
			e.parse(begin, end)
		}
		out = e.appendBlocks(out, begin, end)
	}
	e.content = nil
	return binary.LittleEndian.AppendUint32(out, uint32(xxhash.Sum64(content))), nil
}

// appendHeader writes a frame's header: a single segment with its size and a checksum.
func appendHeader(out []byte, size int) []byte {
	out = append(out, 0x28, 0xb5, 0x2f, 0xfd)
	const flags = 1<<5 | 1<<2
	switch {
	case size < 256:
		return append(out, flags, byte(size))
	case size < 256+1<<16:
		return binary.LittleEndian.AppendUint16(append(out, flags|1<<6), uint16(size-256))
	default:
		return binary.LittleEndian.AppendUint32(append(out, flags|2<<6), uint32(size))
	}
}
