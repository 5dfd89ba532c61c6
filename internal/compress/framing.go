package compress

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/okd-project/okd-streams/internal/xz"
)

// framing is what a format has around its blocks.
type framing interface {
	head() []byte
	add(in, out []byte) // a block that was compressed, in order
	tail() []byte
}

func (e Encoding) newFraming() framing {
	switch {
	case e.Codec == Gzip:
		return &gzipMember{}
	case e.Seekable:
		return &seekTable{}
	case e.Codec == XZ:
		return &xzStream{}
	default:
		return bare{}
	}
}

type bare struct{}

func (bare) head() []byte       { return nil }
func (bare) add(in, out []byte) {}
func (bare) tail() []byte       { return nil }

// gzipMember is RFC 1952's header and trailer.
type gzipMember struct {
	crc  uint32
	size uint32 // modulo 2^32, as the trailer has it
}

// head is as Go's and the reference's: no name, no time, XFL 0, OS unknown.
func (g *gzipMember) head() []byte { return []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff} }

func (g *gzipMember) add(in, out []byte) {
	g.crc = crc32.Update(g.crc, crc32.IEEETable, in)
	g.size += uint32(len(in))
}

func (g *gzipMember) tail() []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, g.crc), g.size)
}

// Of the seekable format, version 0.1.0.
const (
	seekTableMagic = 0x184d2a5e // of a skippable frame
	seekableMagic  = 0x8f92eab1 // what a seekable file ends with
	seekChecksums  = 1 << 7     // entries have checksums
)

// seekTable lists the frames of a seekable zstd file: of each its size, its
// content's and its content's checksum.
type seekTable struct{ entries []byte }

func (s *seekTable) head() []byte { return nil }

func (s *seekTable) add(in, out []byte) {
	if len(out) < 4 {
		return // the block failed, and so does the stream
	}
	s.entries = binary.LittleEndian.AppendUint32(s.entries, uint32(len(out)))
	s.entries = binary.LittleEndian.AppendUint32(s.entries, uint32(len(in)))
	s.entries = append(s.entries, out[len(out)-4:]...) // the frame ends with the same checksum
}

func (s *seekTable) tail() []byte {
	out := binary.LittleEndian.AppendUint32(nil, seekTableMagic)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(s.entries)+9))
	out = append(out, s.entries...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(s.entries)/12))
	return binary.LittleEndian.AppendUint32(append(out, seekChecksums), seekableMagic)
}

// xzStream is xz's header and index.
type xzStream struct{ index xz.Index }

func (x *xzStream) head() []byte { return xz.AppendHeader(nil) }

func (x *xzStream) add(in, out []byte) { x.index.Add(out) }

func (x *xzStream) tail() []byte { return x.index.Append(nil) }
