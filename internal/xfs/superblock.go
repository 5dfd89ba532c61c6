package xfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrCorrupt is wrapped by errors that say a file system is damaged, or none.
var ErrCorrupt = errors.New("damaged file system")

// Features, by the words of the superblock that have them.
const (
	versionShared   = 0x200
	versionDirV2    = 0x2000
	versionMoreBits = 0x8000

	features2LazyCount = 0x2
	features2Attr2     = 0x8
	features2ProjID32  = 0x80
	features2FileType  = 0x200
	features2Known     = features2LazyCount | features2Attr2 | features2ProjID32 | features2FileType

	incompatFileType      = 0x1
	incompatSparseInodes  = 0x2
	incompatMetaUUID      = 0x4
	incompatBigTime       = 0x8
	incompatNeedsRepair   = 0x10
	incompatLargeCounters = 0x20 // nrext64
	incompatExchange      = 0x40
	incompatParent        = 0x80
	incompatKnown         = incompatFileType | incompatSparseInodes | incompatMetaUUID | incompatBigTime | incompatLargeCounters |
		incompatExchange | incompatParent
)

const (
	magic       = "XFSB"
	sectorSize  = 512 // of addresses and of the log, whatever the disk has
	superSize   = 264 // what has fields
	superSum    = 224
	maxBlockLog = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FS is a file system that is open. It may be used by several goroutines, if what it
// reads from may.
type FS struct {
	r io.ReaderAt

	sums     bool // version 5: structures have checksums
	fileType bool // entries of directories tell the type of file
	uuid     []byte

	blockLog, inodeLog, agLog, dirLog uint // dirLog: blocks of a block of a directory
	blocks, agBlocks, ags             uint64
	root                              uint64
	logStart, logBlocks               uint64
}

// Probe reports whether r has the magic number of a file system that [Open] may read.
func Probe(r io.ReaderAt) bool {
	got := make([]byte, len(magic))
	_, err := r.ReadAt(got, 0)
	return err == nil && string(got) == magic
}

// Open reads the superblock of the file system that r has from its start, in size
// bytes, and looks whether its log has anything to be replayed.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	f := &FS{r: r}
	if err := f.open(size); err != nil {
		return nil, fmt.Errorf("xfs: %w", err)
	}
	return f, nil
}

func (f *FS) open(size int64) error {
	if size < sectorSize {
		return fmt.Errorf("%d bytes: %w", size, ErrCorrupt)
	}
	sb := make([]byte, sectorSize)
	if err := f.read(sb, 0); err != nil {
		return err
	}
	if string(sb[:len(magic)]) != magic {
		return fmt.Errorf("no superblock: %w", ErrCorrupt)
	}
	if err := f.features(sb); err != nil {
		return err
	}
	if f.sums {
		sector := int64(binary.BigEndian.Uint16(sb[102:]))
		if sector < sectorSize || sector > 1<<15 || sector > size {
			return fmt.Errorf("superblock: sectors of %d bytes: %w", sector, ErrCorrupt)
		}
		whole := make([]byte, sector)
		if err := f.read(whole, 0); err != nil {
			return err
		}
		if err := checkSum(whole, superSum); err != nil {
			return fmt.Errorf("superblock: %w", err)
		}
	}
	if err := f.geometry(sb, size); err != nil {
		return err
	}
	return f.clean()
}

// features refuses what is not known here.
func (f *FS) features(sb []byte) error {
	be := binary.BigEndian
	version, features2, incompat := be.Uint16(sb[100:]), be.Uint32(sb[200:]), be.Uint32(sb[216:])
	f.uuid = bytes.Clone(sb[32:48])
	if sb[126] != 0 {
		return fmt.Errorf("superblock: mkfs.xfs has not finished it: %w", ErrCorrupt)
	}
	switch version & 0xf {
	case 4:
		if version&versionMoreBits == 0 {
			features2 = 0
		}
		f.fileType = features2&features2FileType != 0
		switch {
		case version&versionDirV2 == 0:
			return fmt.Errorf("directories of version 1: %w", errors.ErrUnsupported)
		case version&versionShared != 0:
			return fmt.Errorf("feature shared: %w", errors.ErrUnsupported)
		case features2&^features2Known != 0:
			return fmt.Errorf("feature %#x of version 4: %w", features2&^features2Known, errors.ErrUnsupported)
		}
	case 5:
		f.sums, f.fileType = true, incompat&incompatFileType != 0
		if incompat&incompatMetaUUID != 0 {
			f.uuid = bytes.Clone(sb[248:superSize])
		}
		if incompat&incompatNeedsRepair != 0 {
			return fmt.Errorf("is marked as in need of repair (xfs_repair): %w", errors.ErrUnsupported)
		}
		if left := incompat &^ incompatKnown; left != 0 {
			return fmt.Errorf("feature %s: %w", called(left), errors.ErrUnsupported)
		}
	default:
		return fmt.Errorf("version %d: %w", version&0xf, errors.ErrUnsupported)
	}
	return nil
}

// called names a feature that is refused.
func called(incompat uint32) string {
	switch incompat {
	case 0x100:
		return "metadir"
	case 0x200:
		return "zoned"
	}
	return fmt.Sprintf("%#x", incompat)
}

// geometry reads and checks sizes.
func (f *FS) geometry(sb []byte, size int64) error {
	be := binary.BigEndian
	wrong := func(what string, value any) error {
		return fmt.Errorf("superblock: %s %v: %w", what, value, ErrCorrupt)
	}
	block, sector, inode := uint64(be.Uint32(sb[4:])), uint64(be.Uint16(sb[102:])), uint64(be.Uint16(sb[104:]))
	f.blocks, f.root = be.Uint64(sb[8:]), be.Uint64(sb[56:])
	f.agBlocks, f.ags = uint64(be.Uint32(sb[84:])), uint64(be.Uint32(sb[88:]))
	f.logStart, f.logBlocks = be.Uint64(sb[48:]), uint64(be.Uint32(sb[96:]))
	f.blockLog, f.inodeLog, f.agLog, f.dirLog = uint(sb[120]), uint(sb[122]), uint(sb[124]), uint(sb[192])
	sectorLog, inodesLog := uint(sb[121]), uint(sb[123])
	switch {
	case f.blockLog < 9 || f.blockLog > maxBlockLog || block != 1<<f.blockLog:
		return wrong("block size", block)
	case sectorLog < 9 || sectorLog > f.blockLog || sector != 1<<sectorLog:
		return wrong("sector size", sector)
	case f.inodeLog < 8 || f.inodeLog > 11 || f.inodeLog > f.blockLog || inode != 1<<f.inodeLog || inodesLog != f.blockLog-f.inodeLog:
		return wrong("inode size", inode)
	case f.dirLog > maxBlockLog-f.blockLog:
		return wrong("directory block size", fmt.Sprint("2^", f.blockLog+f.dirLog))
	case f.sums && f.inodeLog < 9:
		return wrong("inode size", inode)
	case f.agBlocks > 1<<f.agLog || f.agBlocks <= 1<<f.agLog>>1:
		return wrong("blocks of an allocation group", f.agBlocks)
	case f.blocks <= (f.ags-1)*f.agBlocks || f.blocks > f.ags*f.agBlocks:
		return wrong("allocation groups", f.ags)
	case f.blocks > uint64(size)>>f.blockLog:
		return fmt.Errorf("says it has %d blocks of %d bytes, there are %d bytes: %w", f.blocks, block, size, ErrCorrupt)
	}
	return nil
}

// at tells where so many blocks are, by the number that has the allocation group in its
// high bits. They must be within that group.
func (f *FS) at(block, count uint64) (int64, error) {
	group, in := block>>f.agLog, block&(1<<f.agLog-1)
	if group < f.ags {
		if start, have := group*f.agBlocks, min(f.agBlocks, f.blocks-group*f.agBlocks); in < have && count <= have-in {
			return int64((start + in) << f.blockLog), nil
		}
	}
	return 0, fmt.Errorf("%d blocks at %d of allocation group %d, of %d with %d blocks: %w", count, in, group, f.ags, f.agBlocks, ErrCorrupt)
}

// read fills p.
func (f *FS) read(p []byte, at int64) error {
	if n, err := f.r.ReadAt(p, at); n < len(p) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %d bytes at %d: %w", len(p), at, err)
	}
	return nil
}

// checkSum compares the CRC-32C of b, which it has at sum, counted there as zeros.
func checkSum(b []byte, sum int) error {
	got := crc32.Update(0, castagnoli, b[:sum])
	got = crc32.Update(got, castagnoli, make([]byte, 4))
	got = crc32.Update(got, castagnoli, b[sum+4:])
	if want := binary.LittleEndian.Uint32(b[sum:]); got != want {
		return fmt.Errorf("checksum is %08x, computed %08x: %w", want, got, ErrCorrupt)
	}
	return nil
}

// header is where a block has what version 5 says of it.
type header struct{ sum, place, uuid, owner int }

// checkBlock compares what a block that was read at a place says of itself, which it
// does in version 5 alone: its checksum, its place, its file system and its inode.
func (f *FS) checkBlock(b []byte, at int64, in *inode, h header) error {
	if !f.sums {
		return nil
	}
	if err := checkSum(b, h.sum); err != nil {
		return fmt.Errorf("block at %d: %w", at, err)
	}
	be := binary.BigEndian
	place, owner := be.Uint64(b[h.place:]), be.Uint64(b[h.owner:])
	switch {
	case !bytes.Equal(b[h.uuid:h.uuid+16], f.uuid):
		return fmt.Errorf("block at %d: of another file system: %w", at, ErrCorrupt)
	case place != uint64(at/sectorSize):
		return fmt.Errorf("block at %d: says it is at sector %d: %w", at, place, ErrCorrupt)
	case owner != in.number:
		return fmt.Errorf("block at %d: says it is of inode %d: %w", at, owner, ErrCorrupt)
	}
	return nil
}
