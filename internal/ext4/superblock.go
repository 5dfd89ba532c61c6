package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrCorrupt is wrapped by errors that say a file system is damaged, or none.
var ErrCorrupt = errors.New("damaged file system")

// Features, by the words of the superblock that have them.
const (
	compatHasJournal = 0x4

	incompatFiletype = 0x2
	incompatRecover  = 0x4
	incompatMetaBG   = 0x10
	incompatExtents  = 0x40
	incompat64Bit    = 0x80
	incompatFlexBG   = 0x200
	incompatEAInode  = 0x400
	incompatCsumSeed = 0x2000
	incompatLargeDir = 0x4000
	incompatInline   = 0x8000
	incompatKnown    = incompatFiletype | incompatMetaBG | incompatExtents | incompat64Bit | incompatFlexBG |
		incompatEAInode | incompatCsumSeed | incompatLargeDir | incompatInline

	roSparseSuper   = 0x1
	roLargeFile     = 0x2
	roBtreeDir      = 0x4
	roHugeFile      = 0x8
	roGDTChecksum   = 0x10
	roDirNlink      = 0x20
	roExtraIsize    = 0x40
	roMetadataCsum  = 0x400
	roVerity        = 0x8000
	roOrphanPresent = 0x10000
	roKnown         = roSparseSuper | roLargeFile | roBtreeDir | roHugeFile | roGDTChecksum | roDirNlink | roExtraIsize |
		roMetadataCsum | roVerity
)

// names of the features that are refused.
var (
	incompatNames = []feature{
		{0x1, "compression"}, {0x8, "journal_dev"}, {0x100, "mmp"}, {0x1000, "dirdata"}, {0x10000, "encrypt"}, {0x20000, "casefold"},
	}
	roNames = []feature{
		{0x80, "snapshot"}, {0x100, "quota"}, {0x200, "bigalloc"}, {0x800, "replica"}, {0x1000, "read-only"}, {0x2000, "project"}, {0x4000, "shared_blocks"},
	}
)

type feature struct {
	bit  uint32
	name string
}

const (
	superblockAt   = 1024
	superblockSize = 1024

	// maxGroups is how many groups a file system may have, 8 TiB of blocks of 4096
	// bytes, as looking for a free block may have to read the bitmap of each.
	maxGroups = 1 << 16
)

// FS is a file system that is open. It is not safe for use by several
// goroutines.
type FS struct {
	r  io.ReaderAt
	sb []byte // the superblock with what was changed

	blockSize      int
	blocks         uint64
	firstDataBlock uint64
	blocksPerGroup uint64
	inodesPerGroup uint32
	inodes         uint32
	groups         uint64
	inodeSize      int
	descSize       int
	incompat, ro   uint32
	seed           uint32 // of checksums

	changed map[uint64][]byte // blocks, as they are to be
	steps   []Step
}

// Probe reports whether r has the magic number of a file system that [Open]
// may read.
func Probe(r io.ReaderAt) bool {
	var magic [2]byte
	_, err := r.ReadAt(magic[:], superblockAt+0x38)
	return err == nil && magic == [2]byte{0x53, 0xef}
}

// Open reads the superblock of the file system that r has from its start, in
// size bytes.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	if size < superblockAt+superblockSize {
		return nil, fmt.Errorf("ext4: %d bytes: %w", size, ErrCorrupt)
	}
	f := &FS{r: r, sb: make([]byte, superblockSize), changed: map[uint64][]byte{}}
	if err := f.readAt(f.sb, superblockAt); err != nil {
		return nil, err
	}
	if f.u16(0x38) != 0xef53 {
		return nil, fmt.Errorf("ext4: no superblock: %w", ErrCorrupt)
	}
	f.incompat, f.ro = f.u32(0x60), f.u32(0x64)
	if f.u32(0x4c) == 0 { // the first revision has no features and fixed sizes
		f.incompat, f.ro = 0, 0
	}
	if err := f.features(); err != nil {
		return nil, err
	}
	if f.has(roMetadataCsum) {
		if got := crc32c(^uint32(0), f.sb[:0x3fc]); got != f.u32(0x3fc) {
			return nil, fmt.Errorf("ext4: superblock: checksum is %08x, computed %08x: %w", f.u32(0x3fc), got, ErrCorrupt)
		}
	}
	if err := f.geometry(size); err != nil {
		return nil, err
	}
	f.seed = crc32c(^uint32(0), f.uuid())
	if f.incompat&incompatCsumSeed != 0 {
		f.seed = f.u32(0x270)
	}
	return f, f.quiet()
}

func (f *FS) u16(at int) uint16 { return binary.LittleEndian.Uint16(f.sb[at:]) }
func (f *FS) u32(at int) uint32 { return binary.LittleEndian.Uint32(f.sb[at:]) }
func (f *FS) uuid() []byte      { return f.sb[0x68:0x78] }

// has reports whether a read-only compatible feature is on.
func (f *FS) has(ro uint32) bool { return f.ro&ro != 0 }

// features refuses what is not known here.
func (f *FS) features() error {
	if f.incompat&incompatRecover != 0 || f.has(roOrphanPresent) || f.u32(0xe8) != 0 {
		return fmt.Errorf("ext4: was not unmounted cleanly, its journal or orphans must be processed first (e2fsck -p): %w", errors.ErrUnsupported)
	}
	if state := f.u16(0x3a); state&1 == 0 || state&2 != 0 {
		return fmt.Errorf("ext4: is marked as not clean (e2fsck -p): %w", errors.ErrUnsupported)
	}
	if left := f.incompat &^ incompatKnown; left != 0 {
		return fmt.Errorf("ext4: feature %s: %w", called(left, incompatNames), errors.ErrUnsupported)
	}
	if left := f.ro &^ roKnown; left != 0 {
		return fmt.Errorf("ext4: feature %s: %w", called(left, roNames), errors.ErrUnsupported)
	}
	if f.has(roMetadataCsum) && f.sb[0x175] != 1 {
		return fmt.Errorf("ext4: checksums of type %d: %w", f.sb[0x175], errors.ErrUnsupported)
	}
	return nil
}

func called(bits uint32, names []feature) string {
	for _, n := range names {
		if bits&n.bit != 0 {
			return n.name
		}
	}
	return fmt.Sprintf("%#x", bits)
}

// geometry reads and checks sizes.
func (f *FS) geometry(size int64) error {
	wrong := func(what string, value any) error {
		return fmt.Errorf("ext4: superblock: %s %v: %w", what, value, ErrCorrupt)
	}
	log := f.u32(0x18)
	if log > 6 {
		return wrong("block size 2^10+", log)
	}
	f.blockSize = 1024 << log
	f.blocks, f.inodes = uint64(f.u32(4)), f.u32(0)
	f.firstDataBlock, f.blocksPerGroup, f.inodesPerGroup = uint64(f.u32(0x14)), uint64(f.u32(0x20)), f.u32(0x28)
	f.inodeSize, f.descSize = 128, 32
	if f.u32(0x4c) > 0 {
		f.inodeSize = int(f.u16(0x58))
	}
	if f.incompat&incompat64Bit != 0 {
		f.blocks |= uint64(f.u32(0x150)) << 32
		f.descSize = int(f.u16(0xfe))
	}
	first := uint64(0)
	if log == 0 {
		first = 1
	}
	switch {
	case f.firstDataBlock != first:
		return wrong("first data block", f.firstDataBlock)
	case f.blocks <= first || f.blocks > uint64(size)/uint64(f.blockSize):
		return fmt.Errorf("ext4: says it has %d blocks of %d bytes, there are %d bytes: %w", f.blocks, f.blockSize, size, ErrCorrupt)
	case f.blocksPerGroup == 0 || f.blocksPerGroup%8 != 0 || f.blocksPerGroup > 8*uint64(f.blockSize):
		return wrong("blocks per group", f.blocksPerGroup)
	case f.inodeSize < 128 || f.inodeSize > f.blockSize || f.inodeSize&(f.inodeSize-1) != 0:
		return wrong("inode size", f.inodeSize)
	case f.descSize < 32 || f.descSize > f.blockSize || f.descSize&(f.descSize-1) != 0 || f.incompat&incompat64Bit != 0 && f.descSize < 64:
		return wrong("descriptor size", f.descSize)
	case f.inodesPerGroup == 0 || f.inodesPerGroup > 8*uint32(f.blockSize):
		return wrong("inodes per group", f.inodesPerGroup)
	}
	f.groups = (f.blocks - first + f.blocksPerGroup - 1) / f.blocksPerGroup
	switch {
	case uint64(f.inodes) > f.groups*uint64(f.inodesPerGroup):
		return wrong("inodes", f.inodes)
	case f.groups > maxGroups:
		return fmt.Errorf("ext4: %d groups of blocks, more than %d: %w", f.groups, maxGroups, errors.ErrUnsupported)
	}
	return nil
}

// quiet checks that the journal has nothing to be replayed.
func (f *FS) quiet() error {
	if f.u32(0x5c)&compatHasJournal == 0 {
		return nil
	}
	number := f.u32(0xe0)
	if number == 0 {
		return fmt.Errorf("ext4: external journal: %w", errors.ErrUnsupported)
	}
	in, err := f.inode(number)
	if err != nil {
		return fmt.Errorf("ext4: journal: %w", err)
	}
	head, err := f.head(in)
	if err != nil {
		return fmt.Errorf("ext4: journal: %w", err)
	}
	if magic := binary.BigEndian.Uint32(head); magic != 0xc03b3998 {
		return fmt.Errorf("ext4: journal begins with %08x: %w", magic, ErrCorrupt)
	}
	if binary.BigEndian.Uint32(head[0x1c:]) != 0 {
		return fmt.Errorf("ext4: was not unmounted cleanly, its journal must be replayed first (e2fsck -p): %w", errors.ErrUnsupported)
	}
	return nil
}

// readAt fills p.
func (f *FS) readAt(p []byte, at int64) error {
	if n, err := f.r.ReadAt(p, at); n < len(p) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("ext4: read at %d: %w", at, err)
	}
	return nil
}

// block reads a block, as it is to be; it may not be changed.
func (f *FS) block(n uint64) ([]byte, error) {
	if b, ok := f.changed[n]; ok {
		return b, nil
	}
	if n >= f.blocks {
		return nil, fmt.Errorf("ext4: block %d of %d: %w", n, f.blocks, ErrCorrupt)
	}
	b := make([]byte, f.blockSize)
	return b, f.fill(b, n)
}

// fill reads the beginning of a block that there is, as it is to be.
func (f *FS) fill(p []byte, n uint64) error {
	if b, ok := f.changed[n]; ok {
		copy(p, b)
		return nil
	}
	return f.readAt(p, int64(n)*int64(f.blockSize))
}

// groupStart is the first block of a group, groupBlocks how many it has.
func (f *FS) groupStart(g uint64) uint64 { return f.firstDataBlock + g*f.blocksPerGroup }
func (f *FS) groupBlocks(g uint64) uint64 {
	return min(f.blocksPerGroup, f.blocks-f.groupStart(g))
}

// Offsets in a group descriptor: the low half, and the high one where
// descriptors have 64 bytes.
const (
	descBlockBitmap, descBlockBitmapHi         = 0x0, 0x20
	descInodeTable, descInodeTableHi           = 0x8, 0x28
	descFreeBlocks, descFreeBlocksHi           = 0xc, 0x2c
	descFlags                                  = 0x12
	descBlockBitmapCsum, descBlockBitmapCsumHi = 0x18, 0x38
	descChecksum                               = 0x1e

	groupBlockUninit = 0x2
)

// descAt tells the block and the place in it of a group's descriptor.
func (f *FS) descAt(g uint64) (block uint64, at int) {
	each := uint64(f.blockSize / f.descSize)
	meta := g / each
	at = int(g%each) * f.descSize
	if f.incompat&incompatMetaBG == 0 || meta < uint64(f.u32(0x104)) {
		return f.firstDataBlock + 1 + meta, at
	}
	first := meta * each
	block = f.groupStart(first)
	if f.superblockIn(first) {
		block++
	}
	return block, at
}

// superblockIn reports whether a group begins with a copy of the superblock.
func (f *FS) superblockIn(g uint64) bool {
	const compatSparseSuper2 = 0x200
	switch {
	case g == 0:
		return true
	case f.u32(0x5c)&compatSparseSuper2 != 0:
		return g == uint64(f.u32(0x24c)) || g == uint64(f.u32(0x250))
	case g == 1 || !f.has(roSparseSuper):
		return true
	}
	return slices.ContainsFunc([]uint64{3, 5, 7}, func(base uint64) bool {
		n := base
		for n < g {
			n *= base
		}
		return n == g
	})
}

// desc reads a copy of a group's descriptor.
func (f *FS) desc(g uint64) ([]byte, error) {
	if g >= f.groups {
		return nil, fmt.Errorf("ext4: group %d of %d: %w", g, f.groups, ErrCorrupt)
	}
	n, at := f.descAt(g)
	b, err := f.block(n)
	if err != nil {
		return nil, err
	}
	d := slices.Clone(b[at : at+f.descSize])
	if got, ok := f.descSum(g, d); ok && got != binary.LittleEndian.Uint16(d[descChecksum:]) {
		return nil, fmt.Errorf("ext4: descriptor of group %d: checksum: %w", g, ErrCorrupt)
	}
	return d, nil
}

// descSum computes the checksum of a descriptor, if there are any.
func (f *FS) descSum(g uint64, d []byte) (uint16, bool) {
	switch {
	case f.has(roMetadataCsum):
		return uint16(crc32c(f.seed, le32(uint32(g)), without(d, descChecksum, 2))), true
	case f.has(roGDTChecksum):
		return crc16(0xffff, f.uuid(), le32(uint32(g)), d[:descChecksum], d[descChecksum+2:]), true
	}
	return 0, false
}

// wide reads a number in two halves.
func (f *FS) wide(d []byte, lo, hi int) uint64 {
	v := uint64(binary.LittleEndian.Uint32(d[lo:]))
	if f.descSize >= 64 {
		v |= uint64(binary.LittleEndian.Uint32(d[hi:])) << 32
	}
	return v
}
