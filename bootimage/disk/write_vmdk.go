package disk

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Sizes of what vmdkSink writes, whose grains are blocks.
const (
	vmdkGrain    = blockSize / vmdkSector    // sectors
	vmdkPerTable = vmdkTableSize * blockSize // bytes of the disk that a grain table is of
	vmdkOverhead = 128                       // sectors in front of the first grain
	vmdkDescSize = 20                        // sectors
)

// Kinds of markers.
const (
	vmdkMarkEnd = iota
	vmdkMarkTable
	vmdkMarkDirectory
	vmdkMarkFooter
)

// vmdkSink writes a streamOptimized VMDK from start to end: a header, compressed grains
// with a table behind each 512, the directory of the tables, and a footer, which is the
// header with the place of the directory.
type vmdkSink struct {
	f         *output
	base      int64 // where the VMDK begins in the file
	size      int64
	at        int64 // bytes behind base
	table     int64 // the grain table that is being made
	grains    []byte
	used      bool // grains has entries
	directory []byte
	buffer    []byte // a chunk's grains, which are written together
}

func newVMDKSink(f *output, base, size int64) *vmdkSink {
	tables := (size + vmdkPerTable - 1) / vmdkPerTable
	return &vmdkSink{f: f, base: base, size: size, grains: make([]byte, 4*vmdkTableSize), directory: make([]byte, sectorsOf(4*tables))}
}

// sectorsOf rounds bytes up to sectors of 512.
func sectorsOf(n int64) int64 { return (n + 511) &^ 511 }

func (s *vmdkSink) codec() codec { return zlibbed }

// put writes p and fills its last sector.
func (s *vmdkSink) put(p []byte) error {
	_, err := s.f.WriteAt(p, s.base+s.at)
	s.at += sectorsOf(int64(len(p)))
	return err
}

// mark writes what has a marker, sectors of metadata.
func (s *vmdkSink) mark(kind uint32, p []byte) error {
	m := make([]byte, vmdkSector, vmdkSector+len(p))
	binary.LittleEndian.PutUint64(m, uint64(len(p)/vmdkSector))
	binary.LittleEndian.PutUint32(m[12:], kind)
	return s.put(append(m, p...))
}

// header is that of the file; as the footer, it has the sector of the directory.
func (s *vmdkSink) header(directory uint64) []byte {
	le := binary.LittleEndian
	h := make([]byte, vmdkSector)
	copy(h, vmdkMagic)
	le.PutUint32(h[4:], 3)
	le.PutUint32(h[8:], vmdkNewLineTest|vmdkHasPacked|vmdkMarkers)
	le.PutUint64(h[12:], uint64(s.size/vmdkSector))
	le.PutUint64(h[20:], vmdkGrain)
	le.PutUint64(h[28:], 1)
	le.PutUint64(h[36:], vmdkDescSize)
	le.PutUint32(h[44:], vmdkTableSize)
	le.PutUint64(h[56:], directory)
	le.PutUint64(h[64:], vmdkOverhead)
	copy(h[73:], "\n \r\n")
	le.PutUint16(h[77:], 1) // deflate
	return h
}

// begin writes the header and the descriptor. Its content identifier, which tells
// states of a disk apart, is taken from the first data of the disk.
func (s *vmdkSink) begin(first []byte) error {
	id := crc32.Update(crc32.Checksum(fmt.Append(nil, s.size), castagnoli), castagnoli, first)
	if id >= 1<<32-2 {
		id = 0 // the others mean that there is none
	}
	text := fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=%s
createType="streamOptimized"

# Extent description
RW %d SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "6"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.adapterType = "lsilogic"
`, id, vmdkNoParent, s.size/vmdkSector, min(65535, s.size/vmdkSector/255/63))
	p := make([]byte, vmdkOverhead*vmdkSector)
	copy(p, s.header(vmdkGDAtEnd))
	copy(p[vmdkSector:], text)
	return s.put(p)
}

func (s *vmdkSink) write(c *chunk) error {
	if s.at == 0 {
		if err := s.begin(c.data); err != nil {
			return err
		}
	}
	if err := s.turn(c.off / vmdkPerTable); err != nil {
		return err
	}
	le := binary.LittleEndian
	p := s.buffer[:0]
	start := s.at
	for i, zero := range c.zero {
		if zero {
			continue
		}
		off := c.off + int64(i)*blockSize
		le.PutUint32(s.grains[off%vmdkPerTable/blockSize*4:], uint32((start+int64(len(p)))/vmdkSector))
		s.used = true
		data := c.packed[zlibbed].block[i]
		p = le.AppendUint64(p, uint64(off/vmdkSector))
		p = le.AppendUint32(p, uint32(len(data)))
		p = append(p, data...)
		p = append(p, zeros[:sectorsOf(int64(len(p)))-int64(len(p))]...)
	}
	if (start+int64(len(p)))/vmdkSector >= 1<<32 {
		return fmt.Errorf("more than %d bytes", int64(vmdkSector)<<32)
	}
	s.buffer = p
	return s.put(p)
}

// turn makes another grain table the one that is filled.
func (s *vmdkSink) turn(table int64) error {
	if table == s.table {
		return nil
	}
	if s.used {
		binary.LittleEndian.PutUint32(s.directory[4*s.table:], uint32(s.at/vmdkSector)+1) // behind the marker
		if err := s.mark(vmdkMarkTable, s.grains); err != nil {
			return err
		}
		clear(s.grains)
		s.used = false
	}
	s.table = table
	return nil
}

func (s *vmdkSink) finish(context.Context, [32]byte) (int64, error) {
	if s.at == 0 {
		if err := s.begin(nil); err != nil {
			return 0, err
		}
	}
	if err := s.turn(-1); err != nil {
		return 0, err
	}
	directory := uint64(s.at/vmdkSector) + 1
	if err := s.mark(vmdkMarkDirectory, s.directory); err != nil {
		return 0, err
	}
	if err := s.mark(vmdkMarkFooter, s.header(directory)); err != nil {
		return 0, err
	}
	err := s.mark(vmdkMarkEnd, nil)
	return s.at, err
}
