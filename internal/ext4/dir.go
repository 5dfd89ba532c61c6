package ext4

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/pathwalk"
)

const rootInode = 2

// ReadFile gives the content of a file, at most [MaxFileSize] bytes. Names are
// paths from the root of the file system; symbolic links are followed within it.
func (f *FS) ReadFile(name string) ([]byte, error) {
	in, err := f.lookup(name)
	if err != nil {
		return nil, err
	}
	if in.kind() != modeFile {
		return nil, fmt.Errorf("ext4: %s: not a file: %w", name, fs.ErrInvalid)
	}
	return f.content(in, MaxFileSize)
}

// ReadDir gives the names in a directory, sorted, without "." and "..".
func (f *FS) ReadDir(name string) ([]string, error) {
	in, err := f.lookup(name)
	if err != nil {
		return nil, err
	}
	entries, err := f.entries(in)
	if err != nil {
		return nil, fmt.Errorf("ext4: %s: %w", name, err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.name)
	}
	slices.Sort(names)
	return names, nil
}

// lookup finds the inode of a path.
func (f *FS) lookup(name string) (*inode, error) {
	root, err := f.inode(rootInode)
	if err != nil {
		return nil, err
	}
	in, err := pathwalk.Walk(root, name, f.child, func(in *inode) (string, bool, error) {
		if in.kind() != modeLink {
			return "", false, nil
		}
		target, err := f.content(in, 4095)
		return string(target), true, err
	})
	if err != nil {
		return nil, fmt.Errorf("ext4: %s: %w", name, err)
	}
	return in, nil
}

// child finds an entry of a directory.
func (f *FS) child(dir *inode, name string) (*inode, error) {
	entries, err := f.entries(dir)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(entries, func(e entry) bool { return e.name == name })
	if i < 0 {
		return nil, fs.ErrNotExist
	}
	return f.inode(entries[i].inode)
}

type entry struct {
	name  string
	inode uint32
}

// entries reads a directory block by block. The blocks of its index, if it has
// one, look like blocks with nothing in them.
func (f *FS) entries(dir *inode) (all []entry, err error) {
	if dir.kind() != modeDir {
		return nil, fmt.Errorf("not a directory: %w", fs.ErrInvalid)
	}
	if size := dir.size(); size > f.blocks*uint64(f.blockSize) { // it has no holes, as files may
		return nil, fmt.Errorf("directory of %d bytes in a file system of %d blocks of %d: %w", size, f.blocks, f.blockSize, ErrCorrupt)
	}
	data, err := f.content(dir, MaxDirSize)
	if err != nil {
		return nil, err
	}
	if dir.flags()&flagInline != 0 { // the parent's number, then entries in two regions
		split := min(inlineSize, len(data))
		if len(data) < 4 {
			return nil, fmt.Errorf("directory of %d bytes: %w", len(data), ErrCorrupt)
		}
		if all, err = f.blockEntries(all, data[4:split]); err != nil {
			return nil, err
		}
		return f.blockEntries(all, data[split:])
	}
	if len(data)%f.blockSize != 0 {
		return nil, fmt.Errorf("directory of %d bytes: %w", len(data), ErrCorrupt)
	}
	for b := range slices.Chunk(data, f.blockSize) {
		if f.has(roMetadataCsum) {
			if tail := b[len(b)-12:]; isTail(tail) && crc32c(f.seedOf(dir), b[:len(b)-12]) != binary.LittleEndian.Uint32(tail[8:]) {
				return nil, fmt.Errorf("directory: checksum: %w", ErrCorrupt)
			}
		}
		if all, err = f.blockEntries(all, b); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// isTail reports whether the end of a block holds its checksum: it looks like an
// entry without a name, of a type that there is not.
func isTail(b []byte) bool {
	return binary.LittleEndian.Uint32(b) == 0 && binary.LittleEndian.Uint16(b[4:]) == 12 && b[6] == 0 && b[7] == 0xde
}

func (f *FS) blockEntries(all []entry, b []byte) ([]entry, error) {
	le := binary.LittleEndian
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, fmt.Errorf("directory: %d bytes left: %w", len(b), ErrCorrupt)
		}
		number, length, name := le.Uint32(b), int(le.Uint16(b[4:])), int(b[6])
		if f.incompat&incompatFiletype == 0 {
			name = int(le.Uint16(b[6:]))
		}
		if f.blockSize == 1<<16 && (length == 1<<16-1 || length == 0) {
			length = 1 << 16
		}
		if length < 8 || length%4 != 0 || length > len(b) || 8+name > length {
			return nil, fmt.Errorf("directory: entry of %d bytes: %w", length, ErrCorrupt)
		}
		if text := string(b[8 : 8+name]); number != 0 && text != "." && text != ".." {
			if text == "" || strings.ContainsAny(text, "/\x00") {
				return nil, fmt.Errorf("directory: name %q: %w", text, ErrCorrupt)
			}
			all = append(all, entry{text, number})
		}
		b = b[length:]
	}
	return all, nil
}
