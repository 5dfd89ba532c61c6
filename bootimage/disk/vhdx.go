package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The format is Microsoft's MS-VHDX. All numbers are little-endian.
const (
	vhdxSignature    = "vhdxfile"
	vhdxHeader1      = 64 << 10
	vhdxHeader2      = 128 << 10
	vhdxRegions1     = 192 << 10
	vhdxRegions2     = 256 << 10
	vhdxHeaderSize   = 4096
	vhdxTableSize    = 64 << 10
	vhdxMaxEntries   = 2047
	vhdxMaxSize      = 64 << 40 // bytes
	vhdxMiB          = 1 << 20
	vhdxFullyPresent = 6
	vhdxPartly       = 7
)

// Regions and metadata items by GUID.
const (
	vhdxBAT          = "2DC27766-F623-4200-9D64-115E9BFD4A08"
	vhdxMetadata     = "8B7CA206-4790-4B9A-B8FE-575F050F886E"
	vhdxFileParams   = "CAA16737-FA36-4D43-B3B6-33F0AA44E76B"
	vhdxDiskSize     = "2FA54224-CD1B-4876-B211-5DBED83BF4B8"
	vhdxDiskID       = "BECA12AB-B2E6-4523-93EF-C309E000C746"
	vhdxLogicalSize  = "8141BF1D-A96F-4709-BA47-F233A8FAAB5F"
	vhdxPhysicalSize = "CDA348C7-445D-4471-9CC9-E9885251C556"
	vhdxParent       = "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// vhdx reads a disk without a parent.
type vhdx struct {
	r        io.ReaderAt
	fileSize int64
	size     int64
	block    int64
	ratio    int64 // blocks between the entries of sector bitmaps
	bat      []byte
}

func parseVHDX(s *source) (*opened, error) {
	if s.size < 8 {
		return nil, nil
	}
	id, err := s.bytes(0, 8)
	if err != nil || string(id) != vhdxSignature {
		return nil, err
	}
	le := binary.LittleEndian
	var header []byte
	for _, at := range []int64{vhdxHeader1, vhdxHeader2} {
		h, err := s.bytes(at, vhdxHeaderSize)
		if err != nil {
			return nil, err
		}
		if string(h[:4]) == "head" && vhdxChecksum(h) && (header == nil || le.Uint64(h[8:]) > le.Uint64(header[8:])) {
			header = h
		}
	}
	if header == nil {
		return nil, fmt.Errorf("no header with a right checksum: %w", ErrCorrupt)
	}
	if version := le.Uint16(header[66:]); version != 1 {
		return nil, fmt.Errorf("version %d: %w", version, errors.ErrUnsupported)
	}
	regions, err := vhdxRegions(s)
	if err != nil {
		return nil, err
	}
	bat, ok := regions[vhdxBAT]
	meta, ok2 := regions[vhdxMetadata]
	if !ok || !ok2 {
		return nil, fmt.Errorf("no block allocation table or no metadata: %w", ErrCorrupt)
	}
	items, err := vhdxItems(s, meta)
	if err != nil {
		return nil, err
	}
	block, flags := uint64(le.Uint32(items[vhdxFileParams])), le.Uint32(items[vhdxFileParams][4:])
	size, sector := le.Uint64(items[vhdxDiskSize]), uint64(le.Uint32(items[vhdxLogicalSize]))
	switch {
	case flags&2 != 0:
		return nil, fmt.Errorf("it has a parent: %w", errors.ErrUnsupported)
	case block < vhdxMiB || block > 256*vhdxMiB || block&(block-1) != 0:
		return nil, fmt.Errorf("blocks of %d bytes: %w", block, ErrCorrupt)
	case sector != 512 && sector != 4096:
		return nil, fmt.Errorf("sectors of %d bytes: %w", sector, ErrCorrupt)
	case size == 0 || size > vhdxMaxSize || size%sector != 0:
		return nil, fmt.Errorf("disk of %d bytes: %w", size, ErrCorrupt)
	}
	found := &opened{info: Info{VirtualSize: int64(size), BlockSize: int64(block)}}
	found.info.feature(flags&1 != 0, "subformat=fixed")
	found.info.feature(flags&1 == 0, "subformat=dynamic")
	found.info.feature(sector == 4096, "sectors of 4096 bytes")
	for i := 48; i < 64; i++ {
		if header[i] != 0 {
			found.info.Faults = append(found.info.Faults, "its log has not been replayed")
			found.why = fmt.Errorf("a log that has to be replayed: %w", errors.ErrUnsupported)
			return found, nil
		}
	}
	v := &vhdx{r: s.r, fileSize: s.size, size: int64(size), block: int64(block), ratio: int64(1 << 23 * sector / block)}
	blocks := (v.size + v.block - 1) / v.block
	entries := blocks + (blocks-1)/v.ratio
	if entries*8 > bat[1] {
		return nil, fmt.Errorf("block allocation table of %d bytes for a disk of %d: %w", bat[1], size, ErrCorrupt)
	}
	if entries*8 > maxTable {
		return nil, fmt.Errorf("%d blocks: %w", entries, errors.ErrUnsupported)
	}
	if v.bat, err = s.bytes(bat[0], entries*8); err != nil {
		return nil, err
	}
	found.content = v
	return found, nil
}

// vhdxChecksum checks the CRC-32C at byte 4 of a header or table.
func vhdxChecksum(p []byte) bool {
	return vhdxSum(p) == binary.LittleEndian.Uint32(p[4:])
}

func vhdxSum(p []byte) uint32 {
	sum := crc32.Update(0, castagnoli, p[:4])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	return crc32.Update(sum, castagnoli, p[8:])
}

// vhdxRegions gives the places of regions by GUID, from the first of two tables that
// is right: offset and size in bytes.
func vhdxRegions(s *source) (map[string][2]int64, error) {
	le := binary.LittleEndian
	for _, at := range []int64{vhdxRegions1, vhdxRegions2} {
		p, err := s.bytes(at, vhdxTableSize)
		if err != nil {
			return nil, err
		}
		if string(p[:4]) != "regi" || !vhdxChecksum(p) {
			continue
		}
		count := le.Uint32(p[8:])
		if count > vhdxMaxEntries {
			return nil, fmt.Errorf("%d regions: %w", count, ErrCorrupt)
		}
		regions := make(map[string][2]int64)
		for i := range int(count) {
			e := p[16+32*i:][:32]
			id, off, n := guid(e), le.Uint64(e[16:]), int64(le.Uint32(e[24:]))
			if off < vhdxMiB || off > uint64(s.size) || n > s.size-int64(off) {
				return nil, fmt.Errorf("region %s of %d bytes at %d, in %d: %w", id, n, off, s.size, ErrCorrupt)
			}
			if id != vhdxBAT && id != vhdxMetadata && le.Uint32(e[28:])&1 != 0 {
				return nil, fmt.Errorf("region %s is required: %w", id, errors.ErrUnsupported)
			}
			regions[id] = [2]int64{int64(off), n}
		}
		return regions, nil
	}
	return nil, fmt.Errorf("no region table with a right checksum: %w", ErrCorrupt)
}

// vhdxItems reads the metadata items that a disk must have, by GUID.
func vhdxItems(s *source, region [2]int64) (map[string][]byte, error) {
	le := binary.LittleEndian
	if region[1] < vhdxTableSize {
		return nil, fmt.Errorf("metadata of %d bytes: %w", region[1], ErrCorrupt)
	}
	p, err := s.bytes(region[0], vhdxTableSize)
	if err != nil {
		return nil, err
	}
	count := int(le.Uint16(p[10:]))
	if string(p[:8]) != "metadata" || count > vhdxMaxEntries {
		return nil, fmt.Errorf("no metadata, or %d items: %w", count, ErrCorrupt)
	}
	wanted := map[string]int64{vhdxFileParams: 8, vhdxDiskSize: 8, vhdxDiskID: 16, vhdxLogicalSize: 4, vhdxPhysicalSize: 4}
	items := make(map[string][]byte)
	for i := range count {
		e := p[32+32*i:][:32]
		id, off, n, flags := guid(e), int64(le.Uint32(e[16:])), int64(le.Uint32(e[20:])), le.Uint32(e[24:])
		want, known := wanted[id]
		switch {
		case id == vhdxParent:
			return nil, fmt.Errorf("it has a parent: %w", errors.ErrUnsupported)
		case !known && flags&4 != 0:
			return nil, fmt.Errorf("metadata %s is required: %w", id, errors.ErrUnsupported)
		case !known:
			continue
		case n != want || off < vhdxTableSize || off > region[1]-n:
			return nil, fmt.Errorf("metadata %s of %d bytes at %d: %w", id, n, off, ErrCorrupt)
		}
		if items[id], err = s.bytes(region[0]+off, n); err != nil {
			return nil, err
		}
	}
	for id := range wanted {
		if items[id] == nil {
			return nil, fmt.Errorf("no metadata %s: %w", id, ErrCorrupt)
		}
	}
	return items, nil
}

// entry gives the state and place of a block.
func (v *vhdx) entry(i int64) (state uint64, at int64) {
	e := binary.LittleEndian.Uint64(v.bat[8*(i+i/v.ratio):])
	return e & 7, int64(e >> 20 << 20)
}

func (v *vhdx) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		within := off % v.block
		n := min(int64(len(p)), v.block-within)
		state, at := v.entry(off / v.block)
		switch {
		case state == vhdxPartly:
			return fmt.Errorf("block at %d is partly a parent's: %w", off-within, errors.ErrUnsupported)
		case state != vhdxFullyPresent:
			clear(p[:n])
		case at < vhdxMiB || at > v.fileSize:
			return fmt.Errorf("block at %d is at %d of %d bytes: %w", off-within, at, v.fileSize, ErrCorrupt)
		default:
			have := min(n, max(0, v.fileSize-at-within))
			clear(p[have:n])
			if err := readFull(v.r, p[:have], at+within); err != nil {
				return err
			}
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (v *vhdx) next(off int64) (int64, int64, error) {
	return nextOf(off, v.size, v.block, v.block,
		func(i int64) bool { state, _ := v.entry(i); return state >= vhdxFullyPresent },
		func(int64) (bool, error) { return true, nil })
}
