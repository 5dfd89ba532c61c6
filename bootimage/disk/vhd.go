package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// The format is described in Microsoft's "Virtual Hard Disk Image Format
// Specification" 1.0. All numbers are big-endian.
const (
	vhdCookie     = "conectix"
	vhdFooterSize = 512
	vhdMaxSize    = 64 << 40 // bytes: what block tables of 2 MiB blocks reach on any system
	vhdNoBlock    = 1<<32 - 1
	vhdKept       = 1 << 20 // bytes of sector bitmaps
)

// Kinds of disks in the footer.
const (
	vhdFixed        = 2
	vhdDynamic      = 3
	vhdDifferencing = 4
)

// vhd reads a dynamic disk; a fixed one is raw.
type vhd struct {
	r        io.ReaderAt
	fileSize int64
	size     int64
	block    int64
	bitmap   int64 // bytes in front of each block, in whole sectors
	blocks   []uint32

	mu      sync.Mutex
	bitmaps map[uint32][]byte
}

func parseVHD(s *source) (*opened, error) {
	if s.size < vhdFooterSize {
		return nil, nil
	}
	f, err := s.bytes(s.size-vhdFooterSize, vhdFooterSize)
	if err != nil {
		return nil, err
	}
	if string(f[:8]) != vhdCookie {
		head, err := s.bytes(0, 8)
		if err == nil && string(head) == vhdCookie {
			return nil, fmt.Errorf("no footer, as where a transfer was cut: %w", ErrCorrupt)
		}
		return nil, err
	}
	be := binary.BigEndian
	if sum := be.Uint32(f[64:]); vhdChecksum(f, 64) != sum {
		return nil, fmt.Errorf("footer checksum: %w", ErrCorrupt)
	}
	if version := be.Uint32(f[12:]); version>>16 != 1 {
		return nil, fmt.Errorf("version %#x: %w", version, errors.ErrUnsupported)
	}
	size, kind := be.Uint64(f[48:]), be.Uint32(f[60:])
	// What made the disk says whether the geometry counts, which tools of old
	// rounded the size to: qemu-img without force_size, VirtualPC.
	cylinders, heads, sectors := uint64(be.Uint16(f[56:])), uint64(f[58]), uint64(f[59])
	if size == 0 || size%512 != 0 || size > vhdMaxSize {
		return nil, fmt.Errorf("disk of %d bytes: %w", size, ErrCorrupt)
	}
	found := &opened{info: Info{VirtualSize: int64(size)}}
	if chs := cylinders * heads * sectors * 512; chs < size && cylinders < 65535 && string(f[28:32]) == "vpc " {
		found.info.VirtualSize = int64(chs)
	}
	switch kind {
	case vhdFixed:
		found.info.feature(true, "subformat=fixed")
		if int64(size) > s.size-vhdFooterSize {
			return nil, fmt.Errorf("disk of %d bytes in %d: %w", size, s.size, ErrCorrupt)
		}
		found.content = &rawContent{s.r, found.info.VirtualSize}
		return found, nil
	case vhdDynamic:
		found.info.feature(true, "subformat=dynamic")
	case vhdDifferencing:
		return nil, fmt.Errorf("it has a parent: %w", errors.ErrUnsupported)
	default:
		return nil, fmt.Errorf("disk type %d: %w", kind, errors.ErrUnsupported)
	}
	at := be.Uint64(f[16:])
	if at > uint64(s.size)-1024 || s.size < 1024 {
		return nil, fmt.Errorf("header at %d of %d bytes: %w", at, s.size, ErrCorrupt)
	}
	h, err := s.bytes(int64(at), 1024)
	if err != nil {
		return nil, err
	}
	tableAt, entries, block := be.Uint64(h[16:]), uint64(be.Uint32(h[28:])), uint64(be.Uint32(h[32:]))
	switch {
	case string(h[:8]) != "cxsparse":
		return nil, fmt.Errorf("no header at %d: %w", at, ErrCorrupt)
	case vhdChecksum(h, 36) != be.Uint32(h[36:]):
		return nil, fmt.Errorf("header checksum: %w", ErrCorrupt)
	case block < 4096 || block > 256<<20 || block&(block-1) != 0:
		return nil, fmt.Errorf("blocks of %d bytes: %w", block, ErrCorrupt)
	case entries < (size+block-1)/block || tableAt > uint64(s.size) || entries*4 > uint64(s.size)-tableAt:
		return nil, fmt.Errorf("block table of %d entries at %d, for a disk of %d bytes in %d: %w", entries, tableAt, size, s.size, ErrCorrupt)
	}
	found.info.BlockSize = int64(block)
	v := &vhd{
		r: s.r, fileSize: s.size, size: found.info.VirtualSize, block: int64(block),
		bitmap: (int64(block)/512/8 + 511) / 512 * 512, bitmaps: make(map[uint32][]byte),
	}
	if (size+block-1)/block*4 > maxTable {
		return nil, fmt.Errorf("%d blocks: %w", (size+block-1)/block, errors.ErrUnsupported)
	}
	p, err := s.bytes(int64(tableAt), int64((size+block-1)/block*4))
	if err != nil {
		return nil, err
	}
	v.blocks = make([]uint32, len(p)/4)
	for i := range v.blocks {
		v.blocks[i] = be.Uint32(p[4*i:])
	}
	found.content = v
	return found, nil
}

// vhdChecksum is that of a footer or header without the checksum's own bytes.
func vhdChecksum(p []byte, at int) uint32 {
	var sum uint32
	for i, b := range p {
		if i < at || i >= at+4 {
			sum += uint32(b)
		}
	}
	return ^sum
}

func (v *vhd) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		within := off % v.block
		n := min(int64(len(p)), v.block-within)
		if err := v.readBlock(p[:n], v.blocks[off/v.block], within); err != nil {
			return fmt.Errorf("block at %d: %w", off-within, err)
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readBlock reads a part of a block. Sectors whose bit is not set are zero.
func (v *vhd) readBlock(p []byte, at uint32, within int64) error {
	if at == vhdNoBlock {
		clear(p)
		return nil
	}
	start := int64(at) * 512
	if start > v.fileSize-v.bitmap {
		return fmt.Errorf("it is at %d of %d bytes: %w", start, v.fileSize, ErrCorrupt)
	}
	bits, err := v.bits(at)
	if err != nil {
		return err
	}
	data := start + v.bitmap + within
	n := min(int64(len(p)), max(0, v.fileSize-data))
	clear(p[n:])
	if err := readFull(v.r, p[:n], data); err != nil {
		return err
	}
	for i := int64(0); i < int64(len(p)); {
		sector := (within + i) / 512
		end := min(int64(len(p)), (sector+1)*512-within)
		if bits[sector/8]&(0x80>>(sector%8)) == 0 {
			clear(p[i:end])
		}
		i = end
	}
	return nil
}

func (v *vhd) bits(at uint32) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if bits := v.bitmaps[at]; bits != nil {
		return bits, nil
	}
	bits := make([]byte, v.bitmap)
	if err := readFull(v.r, bits, int64(at)*512); err != nil {
		return nil, err
	}
	if int64(len(v.bitmaps)) >= max(2, vhdKept/v.bitmap) {
		clear(v.bitmaps)
	}
	v.bitmaps[at] = bits
	return bits, nil
}

func (v *vhd) next(off int64) (int64, int64, error) {
	return nextOf(off, v.size, v.block, v.block, func(i int64) bool { return v.blocks[i] != vhdNoBlock }, func(int64) (bool, error) { return true, nil })
}
