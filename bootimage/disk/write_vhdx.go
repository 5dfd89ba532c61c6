package disk

import (
	"context"
	"encoding/binary"
	"unicode/utf16"
)

// Places in what vhdxSink writes, in bytes.
const (
	vhdxLogAt    = 1 * vhdxMiB
	vhdxMetaAt   = 2 * vhdxMiB
	vhdxBATAt    = 3 * vhdxMiB
	vhdxBATEntry = 8
)

// vhdxSink writes a dynamic VHDX whose blocks are chunks: they go into the file in the
// order of the disk, and last what is in front of them.
type vhdxSink struct {
	f      *output
	size   int64
	sector int64
	at     int64 // the next block
	ratio  int64
	bat    []byte
}

func newVHDXSink(f *output, size, sector int64) *vhdxSink {
	s := &vhdxSink{f: f, size: size, sector: sector, ratio: 1 << 23 * sector / chunkSize}
	blocks := (size + chunkSize - 1) / chunkSize
	entries := blocks + (blocks-1)/s.ratio
	s.bat = make([]byte, (entries*vhdxBATEntry+vhdxMiB-1)/vhdxMiB*vhdxMiB)
	s.at = vhdxBATAt + int64(len(s.bat))
	return s
}

func (s *vhdxSink) codec() codec { return plain }

func (s *vhdxSink) write(c *chunk) error {
	at, block := s.at, c.off/chunkSize
	s.at += chunkSize
	binary.LittleEndian.PutUint64(s.bat[(block+block/s.ratio)*vhdxBATEntry:], uint64(at)|vhdxFullyPresent)
	return c.runs(func(first, last int) error {
		_, err := s.f.WriteAt(c.data[first*blockSize:last*blockSize], at+int64(first)*blockSize)
		return err
	})
}

func (s *vhdxSink) finish(_ context.Context, id [32]byte) (int64, error) {
	le := binary.LittleEndian
	p := make([]byte, vhdxMetaAt)
	copy(p, vhdxSignature)
	for i, u := range utf16.Encode([]rune("okd-streams")) {
		le.PutUint16(p[8+2*i:], u)
	}
	for i, at := range []int{vhdxHeader1, vhdxHeader2} {
		h := p[at:][:vhdxHeaderSize]
		copy(h, "head")
		le.PutUint64(h[8:], uint64(i+1)) // the second is the current one
		copy(h[16:32], uuid(id[:16]))    // of writes to the file
		copy(h[32:48], uuid(id[:16]))    // of writes to the disk
		le.PutUint16(h[66:], 1)          // version
		le.PutUint32(h[68:], vhdxMiB)
		le.PutUint64(h[72:], vhdxLogAt)
		le.PutUint32(h[4:], vhdxSum(h))
	}
	for _, at := range []int{vhdxRegions1, vhdxRegions2} {
		r := p[at:][:vhdxTableSize]
		copy(r, "regi")
		le.PutUint32(r[8:], 2)
		for i, region := range []struct {
			id    string
			at, n int64
		}{{vhdxBAT, vhdxBATAt, int64(len(s.bat))}, {vhdxMetadata, vhdxMetaAt, vhdxMiB}} {
			e := r[16+32*i:][:32]
			putGUID(e, region.id)
			le.PutUint64(e[16:], uint64(region.at))
			le.PutUint32(e[24:], uint32(region.n))
			e[28] = 1 // required
		}
		le.PutUint32(r[4:], vhdxSum(r))
	}
	if _, err := s.f.WriteAt(p, 0); err != nil {
		return 0, err
	}
	if _, err := s.f.WriteAt(s.metadata(id), vhdxMetaAt); err != nil {
		return 0, err
	}
	_, err := s.f.WriteAt(s.bat, vhdxBATAt)
	return s.at, err
}

func (s *vhdxSink) metadata(id [32]byte) []byte {
	le := binary.LittleEndian
	p := make([]byte, vhdxTableSize, 2*vhdxTableSize)
	copy(p, "metadata")
	const disk, required = 2, 4
	items := []struct {
		id    string
		flags byte
		data  []byte
	}{
		{vhdxFileParams, required, le.AppendUint32(le.AppendUint32(nil, chunkSize), 0)},
		{vhdxDiskSize, required | disk, le.AppendUint64(nil, uint64(s.size))},
		{vhdxDiskID, required | disk, uuid(id[16:])},
		{vhdxLogicalSize, required | disk, le.AppendUint32(nil, uint32(s.sector))},
		{vhdxPhysicalSize, required | disk, le.AppendUint32(nil, 4096)},
	}
	le.PutUint16(p[10:], uint16(len(items)))
	for i, item := range items {
		e := p[32+32*i:][:32]
		putGUID(e, item.id)
		le.PutUint32(e[16:], uint32(len(p)))
		le.PutUint32(e[20:], uint32(len(item.data)))
		e[24] = item.flags
		p = append(p, item.data...)
	}
	return p
}

// putGUID writes a GUID of our own constants, the other way round than guid reads it.
func putGUID(p []byte, text string) {
	var raw [16]byte
	n := 0
	for i := 0; i < len(text) && n < 32; i++ {
		if c := text[i]; c != '-' {
			digit := c - '0'
			if c >= 'A' {
				digit = c - 'A' + 10
			}
			raw[n/2] = raw[n/2]<<4 | digit
			n++
		}
	}
	for i, from := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		p[i] = raw[from]
	}
}
