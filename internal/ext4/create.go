package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
)

// More offsets in the superblock, in group descriptors and in inodes.
const (
	superFreeInodes = 0x10
	superFirstInode = 0x54

	descInodeBitmap, descInodeBitmapHi         = 0x4, 0x24
	descFreeInodes, descFreeInodesHi           = 0xe, 0x2e
	descInodeBitmapCsum, descInodeBitmapCsumHi = 0x1a, 0x3a
	descInodesUnused, descInodesUnusedHi       = 0x1c, 0x32
	groupInodeUninit                           = 0x1

	inodeLinks = 0x1a
	flagIndex  = 0x1000
)

// CreateFile makes a file that there is not yet, with content, in a directory
// that there is. All but its content is like another file of the same directory:
// owner, mode, times and extended attributes. The error wraps [ErrFull] where there is
// no room, also in the directory's own blocks, which stay as many, and
// [errors.ErrUnsupported] for directories with an index or within their inode.
func (f *FS) CreateFile(name, like string, data []byte) error {
	dir, err := f.lookup(path.Dir(path.Clean("/" + name)))
	if err != nil {
		return err
	}
	base := path.Base(path.Clean("/" + name))
	switch _, err := f.child(dir, base); {
	case err == nil:
		return fmt.Errorf("ext4: %s: %w", name, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("ext4: %s: %w", name, err)
	case base == "/" || len(base) > 255:
		return fmt.Errorf("ext4: %s: not a name: %w", name, fs.ErrInvalid)
	}
	model, err := f.child(dir, like)
	if err != nil {
		return fmt.Errorf("ext4: %s: %w", like, err)
	}
	if model.kind() != modeFile {
		return fmt.Errorf("ext4: %s: not a file: %w", like, fs.ErrInvalid)
	}
	sb, changed, steps := slices.Clone(f.sb), maps.Clone(f.changed), len(f.steps)
	if err := f.create(dir, base, model, data); err != nil {
		f.sb, f.changed, f.steps = sb, changed, f.steps[:steps]
		return fmt.Errorf("ext4: %s: %w", name, err)
	}
	return nil
}

// create writes content and inode first; the name comes last.
func (f *FS) create(dir *inode, name string, model *inode, data []byte) error {
	if model.flags()&(flagVerity|flagHugeFile|flagEncrypted) != 0 {
		return fmt.Errorf("like a file that is sealed, huge or encrypted: %w", errors.ErrUnsupported)
	}
	number, err := f.freeInode(uint64((dir.number - 1) / f.inodesPerGroup))
	if err != nil {
		return err
	}
	need := uint64(len(data)+f.blockSize-1) / uint64(f.blockSize)
	runs, err := f.allocate(need, uint64((number-1)/f.inodesPerGroup))
	if err != nil {
		return err
	}
	if err := f.step(f.writeData(runs, data)); err != nil {
		return err
	}
	in := &inode{number: number, raw: slices.Clone(model.raw)}
	le := binary.LittleEndian
	le.PutUint16(in.raw[inodeLinks:], 1)
	le.PutUint32(in.raw[inodeSizeLo:], uint32(len(data)))
	le.PutUint32(in.raw[inodeSizeHi:], 0)
	le.PutUint32(in.raw[inodeBlocksLo:], 0)
	le.PutUint16(in.raw[inodeBlocksHi:], 0)
	le.PutUint32(in.raw[inodeGeneration:], 0)
	le.PutUint32(in.raw[inodeFileACL:], 0) // a block of attributes belongs to the other file
	le.PutUint16(in.raw[inodeFileACLHi:], 0)
	if err := f.point(in, &blockMap{}, runs, need); err != nil {
		return err
	}
	if err := f.step(f.mark(runs, true)); err != nil {
		return err
	}
	patches, err := f.takeInode(number)
	if err != nil {
		return err
	}
	last, err := f.writeInode(in)
	if err := f.step(slices.Concat(patches, last), err); err != nil {
		return err
	}
	return f.step(f.addEntry(dir, name, number))
}

// inodeBitmap reads a copy of a group's inode bitmap and its descriptor. A group
// that never had inodes gives none.
func (f *FS) inodeBitmap(g uint64) (bitmap, desc []byte, err error) {
	d, err := f.desc(g)
	if err != nil {
		return nil, nil, err
	}
	if f.has(roGDTChecksum|roMetadataCsum) && binary.LittleEndian.Uint16(d[descFlags:])&groupInodeUninit != 0 {
		return nil, d, nil
	}
	b, err := f.block(f.wide(d, descInodeBitmap, descInodeBitmapHi))
	if err != nil {
		return nil, nil, err
	}
	b = slices.Clone(b)
	if was := slices.Clone(d); f.has(roMetadataCsum) {
		if f.sumInodes(d, b); !bytes.Equal(was, d) {
			return nil, nil, fmt.Errorf("inode bitmap of group %d: checksum: %w", g, ErrCorrupt)
		}
	}
	return b, d, nil
}

// sumInodes sets the checksum of an inode bitmap in its descriptor.
func (f *FS) sumInodes(d, bitmap []byte) {
	sum := crc32c(f.seed, bitmap[:(f.inodesPerGroup+7)/8])
	binary.LittleEndian.PutUint16(d[descInodeBitmapCsum:], uint16(sum))
	if f.descSize >= 64 {
		binary.LittleEndian.PutUint16(d[descInodeBitmapCsumHi:], uint16(sum>>16))
	}
}

// freeInode finds the first that is free, in a group or those after it.
func (f *FS) freeInode(group uint64) (uint32, error) {
	first := f.u32(superFirstInode)
	if f.u32(0x4c) == 0 {
		first = 11
	}
	for i := range f.groups {
		g := (group + i) % f.groups
		bitmap, _, err := f.inodeBitmap(g)
		if err != nil {
			return 0, err
		}
		if bitmap == nil {
			continue
		}
		for from, count := range freeRuns(bitmap, uint64(f.inodesPerGroup)) {
			for at := from; at < from+count; at++ {
				if number := g*uint64(f.inodesPerGroup) + at + 1; number >= uint64(first) && number <= uint64(f.inodes) {
					return uint32(number), nil
				}
			}
		}
	}
	return 0, fmt.Errorf("no free inode: %w", ErrFull)
}

// takeInode marks an inode as used.
func (f *FS) takeInode(number uint32) ([]Patch, error) {
	g, index := uint64((number-1)/f.inodesPerGroup), (number-1)%f.inodesPerGroup
	bitmap, d, err := f.inodeBitmap(g)
	if err != nil {
		return nil, err
	}
	if bitmap == nil {
		return nil, fmt.Errorf("inode %d is in a group without any: %w", number, ErrCorrupt)
	}
	bitmap[index/8] |= 1 << (index % 8)
	le := binary.LittleEndian
	half := func(lo, hi int) uint64 {
		v := uint64(le.Uint16(d[lo:]))
		if f.descSize >= 64 {
			v |= uint64(le.Uint16(d[hi:])) << 16
		}
		return v
	}
	put := func(lo, hi int, v uint64) {
		le.PutUint16(d[lo:], uint16(v))
		if f.descSize >= 64 {
			le.PutUint16(d[hi:], uint16(v>>16))
		}
	}
	free, err := moved(half(descFreeInodes, descFreeInodesHi), 1, true, uint64(f.inodesPerGroup))
	if err != nil {
		return nil, fmt.Errorf("group %d: inodes: %w", g, err)
	}
	put(descFreeInodes, descFreeInodesHi, free)
	if f.has(roGDTChecksum | roMetadataCsum) { // how many at the end of the table were never used
		if after := uint64(f.inodesPerGroup - index - 1); half(descInodesUnused, descInodesUnusedHi) > after {
			put(descInodesUnused, descInodesUnusedHi, after)
		}
	}
	if f.has(roMetadataCsum) {
		f.sumInodes(d, bitmap)
	}
	if sum, ok := f.descSum(g, d); ok {
		le.PutUint16(d[descChecksum:], sum)
	}
	patches, err := f.set(f.wide(d, descInodeBitmap, descInodeBitmapHi), bitmap)
	if err != nil {
		return nil, err
	}
	at, in := f.descAt(g)
	b, err := f.block(at)
	if err != nil {
		return nil, err
	}
	b = slices.Clone(b)
	copy(b[in:], d)
	more, err := f.set(at, b)
	if err != nil {
		return nil, err
	}
	sb := slices.Clone(f.sb)
	left, err := moved(uint64(f.u32(superFreeInodes)), 1, true, uint64(f.inodes))
	if err != nil {
		return nil, fmt.Errorf("superblock: inodes: %w", err)
	}
	le.PutUint32(f.sb[superFreeInodes:], uint32(left))
	if f.has(roMetadataCsum) {
		le.PutUint32(f.sb[0x3fc:], crc32c(^uint32(0), f.sb[:0x3fc]))
	}
	return slices.Concat(patches, more, diff(superblockAt, sb, f.sb)), nil
}

// addEntry puts a name into the first room of a directory that is large enough.
func (f *FS) addEntry(dir *inode, name string, number uint32) ([]Patch, error) {
	if dir.flags()&(flagIndex|flagInline) != 0 {
		return nil, fmt.Errorf("directory with an index, or within its inode: %w", errors.ErrUnsupported)
	}
	m, err := f.blockMap(dir)
	if err != nil {
		return nil, err
	}
	want := (8 + len(name) + 3) &^ 3
	blocks := dir.size() / uint64(f.blockSize) // behind them may be anything
	for _, r := range m.runs {
		for i := uint64(0); i < r.count && r.logical+i < blocks && !r.zero; i++ {
			b, err := f.block(r.start + i)
			if err != nil {
				return nil, err
			}
			b = slices.Clone(b)
			entries := b
			if f.has(roMetadataCsum) {
				if entries = b[:len(b)-12]; !isTail(b[len(entries):]) {
					continue
				}
			}
			// Where the bitmap lies, the block has become one of the new file's.
			if _, err := f.blockEntries(nil, entries); err != nil {
				return nil, err
			}
			if !f.insert(entries, name, want, number) {
				continue
			}
			if f.has(roMetadataCsum) {
				binary.LittleEndian.PutUint32(b[len(entries)+8:], crc32c(f.seedOf(dir), entries))
			}
			return f.set(r.start+i, b)
		}
	}
	return nil, fmt.Errorf("no room in the directory: %w", ErrFull)
}

// insert puts an entry of so many bytes behind another one that has them left.
// [FS.blockEntries] has checked those that there are.
func (f *FS) insert(b []byte, name string, want int, number uint32) bool {
	le := binary.LittleEndian
	for at := 0; at < len(b); {
		length := int(le.Uint16(b[at+4:]))
		if len(b) == 1<<16 && (length == 1<<16-1 || length == 0) {
			length = 1 << 16
		}
		used := 0
		if le.Uint32(b[at:]) != 0 {
			nameLen := int(b[at+6])
			if f.incompat&incompatFiletype == 0 {
				nameLen = int(le.Uint16(b[at+6:]))
			}
			used = (8 + nameLen + 3) &^ 3
		}
		if room := length - used; room >= want && length < 1<<16-1 {
			if used > 0 {
				le.PutUint16(b[at+4:], uint16(used))
			}
			e := b[at+used:]
			le.PutUint32(e, number)
			le.PutUint16(e[4:], uint16(room))
			le.PutUint16(e[6:], uint16(len(name)))
			if f.incompat&incompatFiletype != 0 {
				e[7] = 1 // a file
			}
			clear(e[8:want])
			copy(e[8:], name)
			return true
		}
		at += length
	}
	return false
}
