package xz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"math/bits"
)

var crc64Table = crc64.MakeTable(crc64.ECMA)

// What a stream begins and ends with, and its flags: CRC64 as check.
const (
	headMagic   = "\xfd7zXZ\x00"
	footMagic   = "YZ"
	streamFlags = "\x00\x04"
	checkSize   = 8
)

// blockHeader is how long our blocks' headers are: sizes of up to 28 bits.
const blockHeader = 20

// MaxBlockSize is the most bytes of content that a block may have.
const MaxBlockSize = 64 << 20

// Encoder compresses blocks, one at a time.
type Encoder struct {
	chunker chunker
	dict    byte
}

// levels are what is traded for time: how far back matches may be, which length is
// good enough, and how many places are looked at for one.
var levels = [10]struct{ window, nice, depth int }{
	1: {1 << 20, 16, 4}, 2: {1 << 20, 24, 8}, 3: {2 << 20, 32, 12}, 4: {2 << 20, 32, 24}, 5: {4 << 20, 48, 32},
	6: {8 << 20, 64, 48}, 7: {8 << 20, 64, 96}, 8: {16 << 20, 64, 48}, 9: {32 << 20, 64, 48},
}

// NewEncoder makes an encoder of a level, 1 to 9. It has [Memory] bytes of tables.
func NewEncoder(level int) (*Encoder, error) {
	if level < 1 || level >= len(levels) {
		return nil, fmt.Errorf("xz: level %d is not within 1 to 9: %w", level, errors.ErrUnsupported)
	}
	l := levels[level]
	e := &Encoder{dict: byte(2 * (bits.Len(uint(l.window)) - 1 - 12))}
	e.chunker.parser.finder = newFinder(l.window, l.nice, l.depth)
	return e, nil
}

// Memory is about how many bytes an encoder of a level has.
func Memory(level int) int64 {
	if level < 1 || level >= len(levels) {
		return 0
	}
	return int64(levels[level].window)*9 + 1<<20
}

// AppendHeader writes what a file begins with behind dst.
func AppendHeader(dst []byte) []byte {
	dst = append(dst, headMagic+streamFlags...)
	return binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE([]byte(streamFlags)))
}

// AppendBlock writes a block with content, at most [MaxBlockSize] bytes, behind
// dst. A file has no empty blocks.
func (e *Encoder) AppendBlock(dst, content []byte) ([]byte, error) {
	if len(content) > MaxBlockSize {
		return dst, fmt.Errorf("xz: a block of %d bytes: %w", len(content), errors.ErrUnsupported)
	}
	begin := len(dst)
	dst = append(dst, make([]byte, blockHeader)...)
	dst = e.chunker.append(dst, content)
	packed := len(dst) - begin - blockHeader
	h := append(dst[begin:begin], blockHeader/4-1, 0xc0) // both sizes, one filter
	h = binary.AppendUvarint(h, uint64(packed))
	h = binary.AppendUvarint(h, uint64(len(content)))
	_ = append(h, 0x21, 1, e.dict) // LZMA2
	binary.LittleEndian.PutUint32(dst[begin+blockHeader-4:], crc32.ChecksumIEEE(dst[begin:begin+blockHeader-4]))
	for range -packed & 3 {
		dst = append(dst, 0)
	}
	return binary.LittleEndian.AppendUint64(dst, crc64.Checksum(content, crc64Table)), nil
}

// Index is what a file ends with: a list of its blocks.
type Index struct {
	records []byte
	blocks  uint64
}

// Add notes the next block, as AppendBlock wrote it. Nothing else is one.
func (x *Index) Add(block []byte) {
	if len(block) < blockHeader+checkSize {
		return
	}
	packed, n := binary.Uvarint(block[2:blockHeader])
	if n <= 0 {
		return
	}
	size, n := binary.Uvarint(block[2+n : blockHeader])
	if n <= 0 {
		return
	}
	x.records = binary.AppendUvarint(x.records, blockHeader+packed+checkSize)
	x.records = binary.AppendUvarint(x.records, size)
	x.blocks++
}

// Append writes the index and the file's end behind dst.
func (x *Index) Append(dst []byte) []byte {
	begin := len(dst)
	dst = binary.AppendUvarint(append(dst, 0), x.blocks)
	dst = append(dst, x.records...)
	for range -(len(dst) - begin) & 3 {
		dst = append(dst, 0)
	}
	dst = binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[begin:]))
	foot := binary.LittleEndian.AppendUint32(nil, uint32((len(dst)-begin)/4-1))
	foot = append(foot, streamFlags...)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(foot))
	return append(append(dst, foot...), footMagic...)
}
