package ostree

import (
	"fmt"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// DirTree is a dirtree object: the names in a directory. The serialized form is
// the GVariant type (a(say)a(sayay)): files with the checksum of their content
// object, then directories with those of their dirtree and dirmeta. Each list
// is sorted by name, bytewise. The source is libostree's ostree-core.h,
// OSTREE_TREE_GVARIANT_FORMAT.
type DirTree struct {
	Files []DirTreeFile
	Dirs  []DirTreeDir
}

// DirTreeFile is a regular file or symbolic link of a directory.
type DirTreeFile struct {
	Name   string
	Object Checksum
}

// DirTreeDir is a directory of a directory.
type DirTreeDir struct {
	Name       string
	Tree, Meta Checksum
}

// Marshal serializes d, which must be as [DecodeDirTree] gives it.
func (d *DirTree) Marshal() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	var e dirTreeEncoder
	e.reset()
	for i := range d.Files {
		e.file(d.Files[i].Name, &d.Files[i].Object)
	}
	for i := range d.Dirs {
		e.dir(d.Dirs[i].Name, &d.Dirs[i].Tree, &d.Dirs[i].Meta)
	}
	return e.bytes(nil), nil
}

// check checks names and their order.
func (d *DirTree) check() error {
	f := 0
	for i := range d.Files {
		if err := checkName(d.Files[i].Name); err != nil {
			return err
		}
		if i > 0 && d.Files[i-1].Name >= d.Files[i].Name {
			return fmt.Errorf("file %.80q comes after %.80q", d.Files[i].Name, d.Files[i-1].Name)
		}
	}
	for i := range d.Dirs {
		name := d.Dirs[i].Name
		if err := checkName(name); err != nil {
			return err
		}
		if i > 0 && d.Dirs[i-1].Name >= name {
			return fmt.Errorf("directory %.80q comes after %.80q", name, d.Dirs[i-1].Name)
		}
		for f < len(d.Files) && d.Files[f].Name < name {
			f++
		}
		if f < len(d.Files) && d.Files[f].Name == name {
			return fmt.Errorf("%.80q is a file and a directory", name)
		}
	}
	return nil
}

// DecodeDirTree reads a dirtree object. Names that are unsafe, out of order or
// not unique are faults; every fault wraps [ErrCorrupt].
func DecodeDirTree(data []byte) (*DirTree, error) {
	var room [3][]byte
	lists, err := gvariant.AppendMembers(room[:0], typeDirTree, data)
	if err != nil {
		return nil, corrupt(err)
	}
	files, err := gvariant.OpenArray(typeDirFiles, lists[0])
	if err != nil {
		return nil, corrupt(err)
	}
	dirs, err := gvariant.OpenArray(typeDirDirs, lists[1])
	if err != nil {
		return nil, corrupt(err)
	}
	// An element holds at least one checksum, so that what is allocated is
	// bounded by the data.
	if files.Len() > len(lists[0])/ChecksumSize || dirs.Len() > len(lists[1])/(2*ChecksumSize) {
		return nil, corruptf("%d files and %d directories in %d bytes", files.Len(), dirs.Len(), len(data))
	}
	d := &DirTree{Files: make([]DirTreeFile, files.Len()), Dirs: make([]DirTreeDir, dirs.Len())}
	member := func(a gvariant.Array, t *gvariant.Type, i int) (string, [][]byte, error) {
		elem, err := a.At(i)
		if err != nil {
			return "", nil, err
		}
		m, err := gvariant.AppendMembers(room[:0], t.Elem(), elem)
		if err != nil {
			return "", nil, err
		}
		name, err := gvariant.DecodeString(m[0])
		return name, m[1:], err
	}
	for i := range d.Files {
		name, sums, err := member(files, typeDirFiles, i)
		if err != nil {
			return nil, corrupt(err)
		}
		d.Files[i].Name = name
		if d.Files[i].Object, err = decodeChecksum(sums[0]); err != nil {
			return nil, err
		}
	}
	for i := range d.Dirs {
		name, sums, err := member(dirs, typeDirDirs, i)
		if err != nil {
			return nil, corrupt(err)
		}
		d.Dirs[i].Name = name
		if d.Dirs[i].Tree, err = decodeChecksum(sums[0]); err != nil {
			return nil, err
		}
		if d.Dirs[i].Meta, err = decodeChecksum(sums[1]); err != nil {
			return nil, err
		}
	}
	if err := d.check(); err != nil {
		return nil, corrupt(err)
	}
	return d, nil
}

// dirTreeEncoder serializes dirtrees with memory that it keeps.
type dirTreeEncoder struct {
	files, dirs gvariant.ArrayBuilder
	name        []byte
}

func (e *dirTreeEncoder) reset() {
	e.files.Reset(typeDirFiles)
	e.dirs.Reset(typeDirDirs)
}

// The members always fit their types, so that AddTuple can't fail.

func (e *dirTreeEncoder) file(name string, object *Checksum) {
	e.name = gvariant.AppendString(e.name[:0], name)
	_ = e.files.AddTuple(e.name, object[:])
}

func (e *dirTreeEncoder) dir(name string, tree, meta *Checksum) {
	e.name = gvariant.AppendString(e.name[:0], name)
	_ = e.dirs.AddTuple(e.name, tree[:], meta[:])
}

func (e *dirTreeEncoder) bytes(dst []byte) []byte {
	dst, _ = gvariant.AppendTuple(dst, typeDirTree, e.files.Bytes(), e.dirs.Bytes())
	return dst
}
