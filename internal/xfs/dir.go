package xfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/okd-project/okd-streams/internal/pathwalk"
)

const (
	dirBlockV4, dirBlockV5 = "XD2B", "XDB3" // the only block of entries, with its index
	dirDataV4, dirDataV5   = "XD2D", "XDD3" // one of several, or with its index elsewhere
	dirV4, dirV5           = 16, 64         // bytes of the header
	dirAlign               = 8
	dirTail                = 8 // behind the index: how many entries it has
	dirIndexed             = 8
	freeTag                = 0xffff
)

var dirHeader = header{sum: 4, place: 8, uuid: 24, owner: 40}

// ReadFile gives the content of a file, at most [MaxFileSize] bytes. Names are
// paths from the root of the file system; symbolic links are followed within it.
func (f *FS) ReadFile(name string) ([]byte, error) {
	data, err := f.readFile(name)
	if err != nil {
		return nil, fmt.Errorf("xfs: %s: %w", name, err)
	}
	return data, nil
}

func (f *FS) readFile(name string) ([]byte, error) {
	root, err := f.inode(f.root)
	if err != nil {
		return nil, err
	}
	in, err := pathwalk.Walk(root, name, f.child, func(in *inode) (string, bool, error) {
		if in.kind() != modeLink {
			return "", false, nil
		}
		target, err := f.link(in)
		if err != nil {
			return "", true, in.wrong(err)
		}
		return target, true, nil
	})
	if err != nil {
		return nil, err
	}
	if in.kind() != modeFile {
		return nil, fmt.Errorf("not a file: %w", fs.ErrInvalid)
	}
	data, err := f.content(in)
	if err != nil {
		return nil, in.wrong(err)
	}
	return data, nil
}

// child finds a name in a directory.
func (f *FS) child(dir *inode, name string) (*inode, error) {
	if dir.kind() != modeDir {
		return nil, fmt.Errorf("not a directory: %w", fs.ErrInvalid)
	}
	find := f.findInBlocks
	if dir.format() == formatLocal {
		find = f.findInInode
	}
	number, err := find(dir, name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("directory: %w", dir.wrong(err))
	case number == 0:
		return nil, fs.ErrNotExist
	}
	return f.inode(number)
}

// findInInode looks for a name in a directory that is within its inode: how many
// entries, how many of them need wide numbers (all are wide then), the parent; and of
// each entry the length of its name, its place if it were in a block, name, type and
// inode.
func (f *FS) findInInode(dir *inode, name string) (uint64, error) {
	size := dir.size()
	if size > uint64(len(dir.fork)) || size < 6 {
		return 0, fmt.Errorf("%d bytes in %d: %w", size, len(dir.fork), ErrCorrupt)
	}
	b := dir.fork[:size]
	entries, wide := int(b[0]), 4
	if b[1] > 0 {
		wide = 8
	}
	behind := wide
	if f.fileType {
		behind++
	}
	if len(b) < 2+wide {
		return 0, fmt.Errorf("%d bytes: %w", len(b), ErrCorrupt)
	}
	found := uint64(0)
	for b = b[2+wide:]; entries > 0; entries-- {
		if len(b) < 3 || len(b) < 3+int(b[0])+behind {
			return 0, fmt.Errorf("%d entries more in %d bytes: %w", entries, len(b), ErrCorrupt)
		}
		end := 3 + int(b[0]) + behind
		if string(b[3:end-behind]) == name { // the number is last
			found = uint64(binary.BigEndian.Uint32(b[end-4:]))
			if wide == 8 {
				found = binary.BigEndian.Uint64(b[end-8:])
			}
			if found == 0 {
				return 0, fmt.Errorf("entry without inode: %w", ErrCorrupt)
			}
		}
		b = b[end:]
	}
	if len(b) > 0 {
		return 0, fmt.Errorf("%d bytes behind the last entry: %w", len(b), ErrCorrupt)
	}
	return found, nil
}

// findInBlocks looks for a name in the blocks of entries of a directory, one after the
// other; their index, which is elsewhere in the directory, isn't needed for it.
func (f *FS) findInBlocks(dir *inode, name string) (uint64, error) {
	each := uint64(1) << f.dirLog
	size, whole := dir.size(), each<<f.blockLog
	switch {
	case size > MaxDirSize:
		return 0, fmt.Errorf("%d bytes, more than %d: %w", size, MaxDirSize, errors.ErrUnsupported)
	case size == 0 || size%whole != 0:
		return 0, fmt.Errorf("%d bytes in blocks of %d: %w", size, whole, ErrCorrupt)
	}
	runs, err := f.runs(dir, size>>f.blockLog)
	if err != nil {
		return 0, err
	}
	b := make([]byte, whole)
	for first := uint64(0); first < size>>f.blockLog; first += each {
		for len(runs) > 0 && runs[0].logical+runs[0].count <= first {
			runs = runs[1:]
		}
		at, err := f.gather(b, runs, first)
		switch {
		case err != nil:
			return 0, err
		case at < 0:
			continue
		}
		if found, err := f.findInBlock(dir, b, at, name, size == whole); found != 0 || err != nil {
			return found, err
		}
	}
	return 0, nil
}

// gather reads a block of a directory, which may be in several runs, and tells where it
// begins. All of it may be a hole: -1.
func (f *FS) gather(b []byte, runs []run, first uint64) (int64, error) {
	start, next := int64(-1), first
	for _, r := range runs {
		if r.logical > next || len(b) == 0 {
			break
		}
		skip := next - r.logical
		at, count := r.at+int64(skip<<f.blockLog), min(r.count-skip, uint64(len(b))>>f.blockLog)
		if r.zero {
			return 0, fmt.Errorf("block %d was never written: %w", next, ErrCorrupt)
		}
		if err := f.read(b[:count<<f.blockLog], at); err != nil {
			return 0, err
		}
		if next == first {
			start = at
		}
		b, next = b[count<<f.blockLog:], next+count
	}
	if start >= 0 && len(b) > 0 || start < 0 && len(runs) > 0 && runs[0].logical < first+uint64(len(b))>>f.blockLog {
		return 0, fmt.Errorf("hole within the block at %d: %w", first, ErrCorrupt)
	}
	return start, nil
}

// findInBlock looks for a name in a block that was read at a place.
func (f *FS) findInBlock(dir *inode, b []byte, at int64, name string, only bool) (uint64, error) {
	single, several, from, kind := dirBlockV4, dirDataV4, dirV4, 0
	if f.sums {
		single, several, from = dirBlockV5, dirDataV5, dirV5
	}
	if f.fileType {
		kind = 1
	}
	wrong := func(what string, args ...any) error {
		return fmt.Errorf("block at %d: %s: %w", at, fmt.Sprintf(what, args...), ErrCorrupt)
	}
	magic := string(b[:4])
	if magic != several && (magic != single || !only) {
		return 0, wrong("begins with %q", magic)
	}
	if err := f.checkBlock(b, at, dir, dirHeader); err != nil {
		return 0, err
	}
	be := binary.BigEndian
	end := len(b)
	if magic == single {
		indexed := be.Uint32(b[end-dirTail:])
		if indexed > uint32((end-dirTail-from)/dirIndexed) {
			return 0, wrong("an index of %d entries", indexed)
		}
		end -= dirTail + dirIndexed*int(indexed)
	}
	for place := from; place < end; { // both are multiples of 8
		e := b[place:end]
		length, free := 0, be.Uint16(e) == freeTag
		if free {
			length = int(be.Uint16(e[2:]))
		} else if len(e) > 2*dirAlign-1 {
			length = (8 + 1 + int(e[8]) + kind + 2 + dirAlign - 1) &^ (dirAlign - 1)
		}
		// Each ends with its place in the block.
		if length < dirAlign || length%dirAlign != 0 || length > len(e) || int(be.Uint16(e[length-2:])) != place {
			return 0, wrong("entry of %d bytes at %d", length, place)
		}
		if !free && (e[8] == 0 || be.Uint64(e) == 0) {
			return 0, wrong("entry at %d without a name or inode", place)
		}
		if !free && string(e[9:9+int(e[8])]) == name {
			return be.Uint64(e), nil
		}
		place += length
	}
	return 0, nil
}
