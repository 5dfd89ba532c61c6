package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// MaxFileSize is how many bytes a file may have that is read or written whole,
// and MaxDirSize a directory.
const (
	MaxFileSize = 4 << 20
	MaxDirSize  = 16 << 20
)

// Types in the mode of an inode.
const (
	modeType = 0xf000
	modeDir  = 0x4000
	modeFile = 0x8000
	modeLink = 0xa000
)

// Flags of an inode.
const (
	flagCompressed = 0x4
	flagEncrypted  = 0x800
	flagHugeFile   = 0x40000
	flagExtents    = 0x80000
	flagVerity     = 0x100000
	flagInline     = 0x10000000
)

// Offsets in an inode.
const (
	inodeMode       = 0x0
	inodeSizeLo     = 0x4
	inodeBlocksLo   = 0x1c
	inodeFlags      = 0x20
	inodeBlock      = 0x28 // 60 bytes: extents, block numbers or content
	inodeGeneration = 0x64
	inodeFileACL    = 0x68
	inodeSizeHi     = 0x6c
	inodeBlocksHi   = 0x74
	inodeFileACLHi  = 0x76
	inodeCsumLo     = 0x7c
	inodeExtraSize  = 0x80
	inodeCsumHi     = 0x82

	inlineSize = 60
)

// inode is a copy of one, with its number.
type inode struct {
	number uint32
	raw    []byte
}

func (in *inode) u16(at int) uint16 { return binary.LittleEndian.Uint16(in.raw[at:]) }
func (in *inode) u32(at int) uint32 { return binary.LittleEndian.Uint32(in.raw[at:]) }
func (in *inode) kind() uint16      { return in.u16(inodeMode) & modeType }
func (in *inode) flags() uint32     { return in.u32(inodeFlags) }
func (in *inode) size() uint64 {
	return uint64(in.u32(inodeSizeLo)) | uint64(in.u32(inodeSizeHi))<<32
}

// extra is how many bytes beyond the first 128 have fields.
func (in *inode) extra() int {
	if len(in.raw) == 128 {
		return 0
	}
	return int(in.u16(inodeExtraSize))
}

// inodeAt tells where an inode is.
func (f *FS) inodeAt(number uint32) (block uint64, at int, err error) {
	if number == 0 || number > f.inodes {
		return 0, 0, fmt.Errorf("ext4: inode %d of %d: %w", number, f.inodes, ErrCorrupt)
	}
	group, index := uint64((number-1)/f.inodesPerGroup), uint64((number-1)%f.inodesPerGroup)
	d, err := f.desc(group)
	if err != nil {
		return 0, 0, err
	}
	at = int(index%uint64(f.blockSize/f.inodeSize)) * f.inodeSize
	return f.wide(d, descInodeTable, descInodeTableHi) + index/uint64(f.blockSize/f.inodeSize), at, nil
}

// inode reads one.
func (f *FS) inode(number uint32) (*inode, error) {
	n, at, err := f.inodeAt(number)
	if err != nil {
		return nil, err
	}
	b, err := f.block(n)
	if err != nil {
		return nil, err
	}
	in := &inode{number: number, raw: slices.Clone(b[at : at+f.inodeSize])}
	if 128+in.extra() > f.inodeSize {
		return nil, fmt.Errorf("ext4: inode %d: %d bytes of fields: %w", number, 128+in.extra(), ErrCorrupt)
	}
	if f.has(roMetadataCsum) {
		was := slices.Clone(in.raw)
		f.sumInode(in)
		if !slices.Equal(was, in.raw) {
			return nil, fmt.Errorf("ext4: inode %d: checksum: %w", number, ErrCorrupt)
		}
	}
	return in, nil
}

// seedOf is the seed of checksums of what belongs to an inode.
func (f *FS) seedOf(in *inode) uint32 {
	return crc32c(f.seed, le32(in.number), in.raw[inodeGeneration:inodeGeneration+4])
}

// sumInode sets the checksum of an inode, if there are any.
func (f *FS) sumInode(in *inode) {
	if !f.has(roMetadataCsum) {
		return
	}
	wide := in.extra() >= inodeCsumHi+2-128
	binary.LittleEndian.PutUint16(in.raw[inodeCsumLo:], 0)
	if wide {
		binary.LittleEndian.PutUint16(in.raw[inodeCsumHi:], 0)
	}
	sum := crc32c(f.seedOf(in), in.raw)
	binary.LittleEndian.PutUint16(in.raw[inodeCsumLo:], uint16(sum))
	if wide {
		binary.LittleEndian.PutUint16(in.raw[inodeCsumHi:], uint16(sum>>16))
	}
}

// run is consecutive blocks of a file; zero: they were never written.
type run struct {
	logical uint64
	start   uint64
	count   uint64
	zero    bool
}

// blockMap is where the content of a file is.
type blockMap struct {
	runs  []run    // ascending
	nodes []uint64 // blocks that hold the map itself
}

// maxNodes is how many blocks may hold the map of one file, maxRuns how many
// runs: more than files have that may be read whole.
const (
	maxNodes = 1 << 10
	maxRuns  = MaxDirSize / 1024
)

// blockMap reads where the content of an inode is.
func (f *FS) blockMap(in *inode) (*blockMap, error) {
	m := &blockMap{}
	root := in.raw[inodeBlock : inodeBlock+inlineSize]
	var err error
	if in.flags()&flagExtents != 0 {
		err = f.extents(in, m, root, -1)
	} else {
		err = f.indirect(m, root, f.perBlock(in))
	}
	if err != nil {
		return nil, fmt.Errorf("ext4: inode %d: %w", in.number, err)
	}
	return m, nil
}

// perBlock is how many blocks the content has, at most those that are read.
func (f *FS) perBlock(in *inode) uint64 {
	return (min(in.size(), MaxDirSize) + uint64(f.blockSize) - 1) / uint64(f.blockSize)
}

func (m *blockMap) node(n uint64) error {
	if m.nodes = append(m.nodes, n); len(m.nodes) > maxNodes {
		return fmt.Errorf("more than %d blocks of its map: %w", maxNodes, ErrCorrupt)
	}
	return nil
}

func (m *blockMap) add(f *FS, r run) error {
	if end := r.start + r.count; r.start <= f.firstDataBlock || end < r.start || end > f.blocks {
		return fmt.Errorf("blocks %d and %d more of %d: %w", r.start, r.count, f.blocks, ErrCorrupt)
	}
	if n := len(m.runs); n > 0 && r.logical < m.runs[n-1].logical+m.runs[n-1].count {
		return fmt.Errorf("its blocks are out of order: %w", ErrCorrupt)
	}
	if m.runs = append(m.runs, r); len(m.runs) > maxRuns {
		return fmt.Errorf("more than %d runs of blocks: %w", maxRuns, ErrCorrupt)
	}
	return nil
}

// extents reads a node of an extent tree; depth is what it must be, -1: any.
func (f *FS) extents(in *inode, m *blockMap, node []byte, depth int) error {
	const entry = 12
	le := binary.LittleEndian
	count, most, level := int(le.Uint16(node[2:])), int(le.Uint16(node[4:])), int(le.Uint16(node[6:]))
	if le.Uint16(node) != 0xf30a || count > most || entry*(most+1) > len(node) || level > 5 || depth >= 0 && level != depth {
		return fmt.Errorf("extent tree: header: %w", ErrCorrupt)
	}
	if depth >= 0 && f.has(roMetadataCsum) { // the root is under the inode's checksum
		tail := entry * (most + 1)
		if tail+4 > len(node) || crc32c(f.seedOf(in), node[:tail]) != le.Uint32(node[tail:]) {
			return fmt.Errorf("extent tree: checksum: %w", ErrCorrupt)
		}
	}
	for e := range slices.Chunk(node[entry:entry*(count+1)], entry) {
		if level == 0 {
			r := run{logical: uint64(le.Uint32(e)), count: uint64(le.Uint16(e[4:])), start: uint64(le.Uint16(e[6:]))<<32 | uint64(le.Uint32(e[8:]))}
			if r.count > 1<<15 {
				r.count, r.zero = r.count-1<<15, true
			}
			if err := m.add(f, r); err != nil {
				return err
			}
			continue
		}
		n := uint64(le.Uint16(e[8:]))<<32 | uint64(le.Uint32(e[4:]))
		if err := m.node(n); err != nil {
			return err
		}
		b, err := f.block(n)
		if err != nil {
			return err
		}
		if err := f.extents(in, m, b, level-1); err != nil {
			return err
		}
	}
	return nil
}

// indirect reads a map of block numbers for so many blocks: 12 that are direct,
// then those that blocks hold, in up to three levels.
func (f *FS) indirect(m *blockMap, root []byte, blocks uint64) error {
	logical := uint64(0)
	for i := range 15 {
		if err := f.pointer(m, binary.LittleEndian.Uint32(root[4*i:]), max(0, i-11), &logical, blocks); err != nil {
			return err
		}
	}
	return nil
}

// pointer follows a block number; 0 is a hole.
func (f *FS) pointer(m *blockMap, n uint32, level int, logical *uint64, blocks uint64) error {
	covers := uint64(1)
	for range level {
		covers *= uint64(f.blockSize / 4)
	}
	if n == 0 || *logical >= blocks {
		*logical += covers
		return nil
	}
	if level == 0 {
		if last := len(m.runs) - 1; last >= 0 && m.runs[last].logical+m.runs[last].count == *logical && m.runs[last].start+m.runs[last].count == uint64(n) {
			m.runs[last].count++
		} else if err := m.add(f, run{logical: *logical, start: uint64(n), count: 1}); err != nil {
			return err
		}
		*logical++
		if uint64(n) >= f.blocks {
			return fmt.Errorf("block %d of %d: %w", n, f.blocks, ErrCorrupt)
		}
		return nil
	}
	if err := m.node(uint64(n)); err != nil {
		return err
	}
	b, err := f.block(uint64(n))
	if err != nil {
		return err
	}
	for e := range slices.Chunk(b, 4) {
		if err := f.pointer(m, binary.LittleEndian.Uint32(e), level-1, logical, blocks); err != nil {
			return err
		}
	}
	return nil
}

// head reads the first block of an inode's content.
func (f *FS) head(in *inode) ([]byte, error) {
	m, err := f.blockMap(in)
	if err != nil {
		return nil, err
	}
	if len(m.runs) == 0 || m.runs[0].logical != 0 || m.runs[0].zero {
		return nil, fmt.Errorf("ext4: inode %d: no content: %w", in.number, ErrCorrupt)
	}
	return f.block(m.runs[0].start)
}

// content reads what an inode holds, of at most so many bytes.
func (f *FS) content(in *inode, limit uint64) ([]byte, error) {
	size := in.size()
	switch flags := in.flags(); {
	case size > limit:
		return nil, fmt.Errorf("ext4: inode %d: %d bytes, more than %d: %w", in.number, size, limit, errors.ErrUnsupported)
	case flags&(flagEncrypted|flagCompressed) != 0:
		return nil, fmt.Errorf("ext4: inode %d: encrypted or compressed: %w", in.number, errors.ErrUnsupported)
	case flags&flagInline != 0:
		return f.inline(in)
	case in.kind() == modeLink && flags&flagExtents == 0 && size < inlineSize:
		return in.raw[inodeBlock : inodeBlock+int(size)], nil
	}
	m, err := f.blockMap(in)
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	bs := uint64(f.blockSize)
	for _, r := range m.runs {
		for i := range r.count {
			at := (r.logical + i) * bs
			if r.zero || at >= size {
				break
			}
			if err := f.fill(data[at:min(at+bs, size)], r.start+i); err != nil {
				return nil, err
			}
		}
	}
	return data, nil
}

// inline reads content that is in the inode: the first 60 bytes in place of the
// block map, the rest in the extended attribute system.data.
func (f *FS) inline(in *inode) ([]byte, error) {
	size := in.size()
	data := slices.Clone(in.raw[inodeBlock : inodeBlock+inlineSize])
	if size > inlineSize {
		attrs, err := in.attributes()
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			if a.isInlineData() {
				data = append(data, a.value...)
			}
		}
	}
	if uint64(len(data)) < size {
		return nil, fmt.Errorf("ext4: inode %d: has %d bytes, says %d: %w", in.number, len(data), size, ErrCorrupt)
	}
	return data[:size], nil
}

// attribute is an extended attribute in an inode.
type attribute struct {
	head  []byte // entry without its name
	name  []byte
	value []byte // none: it is in an inode of its own
}

func (a *attribute) isInlineData() bool { return a.head[1] == 7 && string(a.name) == "data" }

const (
	attributeMagic = 0xea020000
	attributeHead  = 16
)

// attributes reads the extended attributes that are in an inode.
func (in *inode) attributes() (all []attribute, err error) {
	wrong := func() error { return fmt.Errorf("ext4: inode %d: extended attributes: %w", in.number, ErrCorrupt) }
	le := binary.LittleEndian
	start := 128 + in.extra()
	if len(in.raw) == 128 || start+8 > len(in.raw) || le.Uint32(in.raw[start:]) != attributeMagic {
		return nil, nil
	}
	body := in.raw[start+4:]
	for at := 0; ; {
		if at+4 > len(body) {
			return nil, wrong()
		}
		if le.Uint32(body[at:]) == 0 {
			return all, nil
		}
		if at+attributeHead > len(body) || at+attributeHead+int(body[at]) > len(body) {
			return nil, wrong()
		}
		a := attribute{head: body[at : at+attributeHead], name: body[at+attributeHead : at+attributeHead+int(body[at])]}
		if le.Uint32(a.head[4:]) == 0 {
			from, size := uint64(le.Uint16(a.head[2:])), uint64(le.Uint32(a.head[8:]))
			if from+size > uint64(len(body)) {
				return nil, wrong()
			}
			a.value = body[from : from+size]
		}
		all = append(all, a)
		at += (attributeHead + len(a.name) + 3) &^ 3
	}
}
