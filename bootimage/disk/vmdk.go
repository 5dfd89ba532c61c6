package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// The format is described in VMware's "Virtual Disk Format 5.0". All numbers are
// little-endian, sizes and places in sectors of 512 bytes.
const (
	vmdkMagic       = "KDMV"
	vmdkSector      = 512
	vmdkGDAtEnd     = 1<<64 - 1
	vmdkTableSize   = 512 // entries of a grain table
	vmdkMaxGrains   = 1 << 28
	vmdkMaxDesc     = 64 << 10 // bytes
	vmdkKept        = 4 << 20  // bytes
	vmdkDescriptor  = "# Disk DescriptorFile"
	vmdkNoParent    = "ffffffff"
	vmdkMarkers     = 1 << 17
	vmdkHasPacked   = 1 << 16
	vmdkNewLineTest = 1 << 0
)

// vmdk reads a disk that is in one file.
type vmdk struct {
	r        io.ReaderAt
	fileSize int64
	size     int64
	grain    int64 // bytes
	packed   bool
	tables   []uint32 // where grain tables are; 0: nowhere

	mu     sync.Mutex
	lists  map[uint32][]uint32 // grain tables, the last ones used
	grains map[uint32][]byte   // unpacked, the last ones used
	zr     io.ReadCloser
}

func parseVMDK(s *source) (*opened, error) {
	h, err := s.bytes(0, min(s.size, vmdkSector))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(string(h), vmdkDescriptor) {
		return nil, fmt.Errorf("a descriptor that names other files: %w", errors.ErrUnsupported)
	}
	if len(h) < vmdkSector {
		return nil, nil
	}
	if string(h[:4]) == "COWD" {
		return nil, fmt.Errorf("an ESX sparse disk: %w", errors.ErrUnsupported)
	}
	if string(h[:4]) != vmdkMagic {
		return nil, nil
	}
	le := binary.LittleEndian
	if le.Uint64(h[56:]) == vmdkGDAtEnd {
		if h, err = vmdkFooter(s); err != nil {
			return nil, err
		}
	}
	corrupt := func(format string, args ...any) (*opened, error) {
		return nil, fmt.Errorf(format+": %w", append(args, ErrCorrupt)...)
	}
	version, flags := le.Uint32(h[4:]), le.Uint32(h[8:])
	capacity, grain := le.Uint64(h[12:]), le.Uint64(h[20:])
	descAt, descSize := le.Uint64(h[28:]), le.Uint64(h[36:])
	perTable, gdAt, compression := le.Uint32(h[44:]), le.Uint64(h[56:]), le.Uint16(h[77:])
	sectors := uint64(s.size / vmdkSector)
	switch {
	case version < 1 || version > 3:
		return nil, fmt.Errorf("version %d: %w", version, errors.ErrUnsupported)
	case flags&vmdkNewLineTest != 0 && string(h[73:77]) != "\n \r\n":
		return corrupt("line ends were changed, as by a transfer as text")
	case perTable != vmdkTableSize:
		return corrupt("grain tables of %d entries", perTable)
	case grain < 8 || grain > 4096 || grain&(grain-1) != 0:
		return corrupt("grains of %d sectors", grain)
	case capacity > vmdkMaxGrains*grain:
		return corrupt("disk of %d sectors", capacity)
	case compression > 1 || compression == 1 && flags&vmdkHasPacked == 0:
		return nil, fmt.Errorf("compression %d with flags %#x: %w", compression, flags, errors.ErrUnsupported)
	case descSize > vmdkMaxDesc/vmdkSector || descAt > sectors || descSize > sectors-descAt:
		return corrupt("descriptor of %d sectors at %d", descSize, descAt)
	}
	tables := (capacity + grain*vmdkTableSize - 1) / (grain * vmdkTableSize)
	if gdAt >= sectors || tables*4 > uint64(s.size)-gdAt*vmdkSector {
		return corrupt("grain directory of %d entries at sector %d of %d", tables, gdAt, sectors)
	}
	found := &opened{info: Info{VirtualSize: int64(capacity) * vmdkSector, BlockSize: int64(grain) * vmdkSector}}
	if descSize > 0 {
		text, err := s.bytes(int64(descAt)*vmdkSector, int64(descSize)*vmdkSector)
		if err != nil {
			return nil, err
		}
		kind, err := vmdkDescribed(text)
		if err != nil {
			return nil, err
		}
		found.info.feature(kind != "", "subformat="+kind)
	}
	found.info.feature(compression == 1, "compressed")
	found.info.feature(flags&vmdkMarkers != 0, "markers")
	v := &vmdk{
		r: s.r, fileSize: s.size, size: found.info.VirtualSize, grain: found.info.BlockSize, packed: compression == 1,
		lists: make(map[uint32][]uint32), grains: make(map[uint32][]byte),
	}
	if v.tables, err = vmdkTable(s.r, int64(gdAt)*vmdkSector, int64(tables)); err != nil {
		return nil, err
	}
	found.content = v
	return found, nil
}

// vmdkFooter gives the copy of the header that is in front of the end marker of a
// stream, with the place of the grain directory.
func vmdkFooter(s *source) ([]byte, error) {
	if s.size < 4*vmdkSector {
		return nil, fmt.Errorf("no room for a footer: %w", ErrCorrupt)
	}
	h, err := s.bytes(s.size/vmdkSector*vmdkSector-2*vmdkSector, vmdkSector)
	if err != nil {
		return nil, err
	}
	if string(h[:4]) != vmdkMagic || binary.LittleEndian.Uint64(h[56:]) == vmdkGDAtEnd {
		return nil, fmt.Errorf("no footer, as where a transfer was cut: %w", ErrCorrupt)
	}
	return h, nil
}

// vmdkDescribed gives what an embedded descriptor says the disk is, and refuses one
// with a parent or with data in other files.
func vmdkDescribed(text []byte) (kind string, err error) {
	text, _, _ = bytes.Cut(text, []byte{0})
	extents := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, "=")
		switch key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`); {
		case strings.EqualFold(key, "createType"):
			if kind = value; kind != "streamOptimized" && kind != "monolithicSparse" {
				return "", fmt.Errorf("createType %.40q: %w", kind, errors.ErrUnsupported)
			}
		case strings.EqualFold(key, "parentCID") && !strings.EqualFold(value, vmdkNoParent),
			strings.EqualFold(key, "parentFileNameHint"):
			return "", fmt.Errorf("it has a parent: %w", errors.ErrUnsupported)
		}
		// RW 20480 SPARSE "name.vmdk", where the name is that of this file.
		if fields := strings.Fields(line); len(fields) >= 3 && (fields[0] == "RW" || fields[0] == "RDONLY" || fields[0] == "NOACCESS") {
			if _, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
				if extents++; extents > 1 || fields[2] != "SPARSE" {
					return "", fmt.Errorf("its data is in other files: %w", errors.ErrUnsupported)
				}
			}
		}
	}
	return kind, nil
}

func vmdkTable(r io.ReaderAt, off, n int64) ([]uint32, error) {
	p := make([]byte, n*4)
	if err := readFull(r, p, off); err != nil {
		return nil, err
	}
	table := make([]uint32, n)
	for i := range table {
		table[i] = binary.LittleEndian.Uint32(p[4*i:])
	}
	return table, nil
}

// entry gives the sector of the grain with a byte of the disk; 0: it is zero.
func (v *vmdk) entry(off int64) (uint32, error) {
	i := off / v.grain
	at := v.tables[i/vmdkTableSize]
	if at == 0 {
		return 0, nil
	}
	list := v.lists[at]
	if list == nil {
		if int64(at)*vmdkSector > v.fileSize-4*vmdkTableSize {
			return 0, fmt.Errorf("grain table at sector %d, past the end: %w", at, ErrCorrupt)
		}
		if len(v.lists) >= vmdkKept/(4*vmdkTableSize) {
			clear(v.lists)
		}
		var err error
		if list, err = vmdkTable(v.r, int64(at)*vmdkSector, vmdkTableSize); err != nil {
			return 0, err
		}
		v.lists[at] = list
	}
	if e := list[i%vmdkTableSize]; e != 1 { // 1 is a grain that is zero
		return e, nil
	}
	return 0, nil
}

func (v *vmdk) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		within := off % v.grain
		n := min(int64(len(p)), v.grain-within)
		if err := v.readGrain(p[:n], off, within); err != nil {
			return fmt.Errorf("grain at %d: %w", off-within, err)
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (v *vmdk) readGrain(p []byte, off, within int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, err := v.entry(off)
	if err != nil || e == 0 {
		clear(p)
		return err
	}
	at := int64(e) * vmdkSector
	if at >= v.fileSize {
		return fmt.Errorf("it is at %d of %d bytes: %w", at, v.fileSize, ErrCorrupt)
	}
	if !v.packed {
		n := min(int64(len(p)), max(0, v.fileSize-at-within))
		clear(p[n:])
		return readFull(v.r, p[:n], at+within)
	}
	data := v.grains[e]
	if data == nil {
		if data, err = v.unpack(off-within, at); err != nil {
			return err
		}
		if int64(len(v.grains)) >= max(2, vmdkKept/v.grain) {
			clear(v.grains)
		}
		v.grains[e] = data
	}
	copy(p, data[within:])
	return nil
}

// unpack decompresses the grain of a part of the disk behind its marker.
func (v *vmdk) unpack(off, at int64) ([]byte, error) {
	var marker [12]byte
	if err := readFull(v.r, marker[:], at); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(marker[8:]))
	if lba := binary.LittleEndian.Uint64(marker[:]); lba != uint64(off/vmdkSector) {
		return nil, fmt.Errorf("its marker says sector %d: %w", lba, ErrCorrupt)
	}
	if n == 0 || n > 2*v.grain || n > v.fileSize-at-12 {
		return nil, fmt.Errorf("%d compressed bytes: %w", n, ErrCorrupt)
	}
	packed := make([]byte, n)
	if err := readFull(v.r, packed, at+12); err != nil {
		return nil, err
	}
	in := bytes.NewReader(packed)
	var err error
	if v.zr == nil {
		v.zr, err = zlib.NewReader(in)
	} else {
		err = v.zr.(zlib.Resetter).Reset(in, nil)
	}
	data := make([]byte, v.grain)
	if err == nil {
		// The last grain of a disk may be short. The end has the checksum.
		var got int
		got, err = io.ReadFull(v.zr, data)
		if err == io.ErrUnexpectedEOF && int64(got) >= v.size-off {
			err = nil
		} else if err == nil {
			if _, err = v.zr.Read(make([]byte, 1)); err == io.EOF {
				err = nil
			} else if err == nil {
				err = errors.New("more than a grain")
			}
		}
	}
	if err != nil {
		v.zr = nil
		return nil, fmt.Errorf("decompress: %w: %w", ErrCorrupt, err)
	}
	return data, nil
}

func (v *vmdk) next(off int64) (int64, int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return nextOf(off, v.size, v.grain, v.grain*vmdkTableSize,
		func(i int64) bool { return v.tables[i] != 0 },
		func(off int64) (bool, error) { e, err := v.entry(off); return e != 0, err })
}
