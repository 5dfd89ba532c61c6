package composefs

import (
	"fmt"
	"io/fs"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// The types of inodes, as in st_mode.
const (
	typeMask    = 0o170000
	typeDir     = 0o040000
	typeRegular = 0o100000
	typeSymlink = 0o120000
	typeChar    = 0o020000
)

const (
	blockBits = 12
	blockSize = 1 << blockBits
	// maxName is the length of a file name, maxTarget that of a link's target
	// in bytes.
	maxName   = 255
	maxTarget = 4095
	// maxBits is the largest chunk, and so the largest file, in bits: 8 TiB.
	maxBits = 31 + blockBits
)

// Inode is what a name in a directory stands for.
type Inode struct {
	Mode     uint32 // of a directory, regular file or symbolic link, as in st_mode
	UID, GID uint32
	Xattrs   []Xattr // in any order, each name once
	Target   string  // of a symbolic link
	// Of a regular file: its length in bytes and, if it is not empty, what names
	// the backing file (object 1234… is /12/34….file) and its fs-verity digest,
	// zero if the image shall not have it.
	Size   int64
	Object [32]byte
	Verity Digest
}

// ID is an inode of a [Builder].
type ID uint32

// inode is an [Inode] as it is kept. Names that stand for the same ID are files
// of their own in the image.
type inode struct {
	mode, uid, gid uint32
	xattrs         uint32 // in xattrTable.lists
	target         string
	size           int64
	object         [32]byte
	verity         Digest

	refs                           int   // how many names stand for it
	sharedMetacopy, sharedRedirect int64 // as in pair
}

// backed says whether there is a backing file.
func (in *inode) backed() bool { return in.mode&typeMask == typeRegular && in.size > 0 }

// chunkBits is the length of the one chunk that holds the file.
func (in *inode) chunkBits() int { return max(bits.Len64(uint64(in.size-1)), blockBits) }

// Entry is a name in a directory. Dir says whether Inode is a directory's.
type Entry struct {
	Name  string
	Inode ID
	Dir   bool
}

// node is a name with what it stands for.
type node struct {
	name         string
	inode        ID
	parent       uint32
	first, count uint32 // a directory's children
	subdirs      uint32
	nid          uint32 // where it starts, counted in slots
	blocks       uint32 // beside the tail
	tail         uint16 // in bytes
	extended     bool   // 64 bytes
}

// Builder collects a tree. It takes inodes first and in any order, also from
// several goroutines, and then names, a directory at a time.
type Builder struct {
	mu     sync.Mutex // of inodes and xattrs
	inodes []inode
	xattrs xattrTable

	nodes []node   // breadth first
	dirs  []uint32 // directories whose children did not come yet

	scratch []dirent
}

// NewBuilder gives an empty Builder.
func NewBuilder() *Builder {
	b := &Builder{xattrs: xattrTable{pairIDs: make(map[string]uint32), listIDs: make(map[string]uint32)}}
	b.xattrs.lists, b.xattrs.listIDs[""] = [][]uint32{nil}, 0
	return b
}

// Reserve gives a new ID, whose inode [Builder.Set] has to say.
func (b *Builder) Reserve() ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inodes = append(b.inodes, inode{})
	return ID(len(b.inodes) - 1)
}

// Set says what id is. Errors wrap [fs.ErrInvalid]: the format can't hold it.
func (b *Builder) Set(id ID, in Inode) error {
	ok := false
	switch in.Mode & typeMask {
	case typeDir:
		ok = in.Target == "" && in.Size == 0
	case typeRegular:
		ok = in.Target == "" && in.Size >= 0 && in.Size <= 1<<maxBits
	case typeSymlink:
		ok = in.Target != "" && len(in.Target) <= maxTarget && strings.IndexByte(in.Target, 0) < 0 && in.Size == 0
	}
	if !ok || in.Mode > 1<<16-1 {
		return fmt.Errorf("composefs: inode of mode %#o with a target of %d bytes and size %d: %w", in.Mode, len(in.Target), in.Size, fs.ErrInvalid)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	list, err := b.xattrs.intern(in.Xattrs)
	if err != nil {
		return fmt.Errorf("composefs: %w: %w", fs.ErrInvalid, err)
	}
	b.inodes[id] = inode{mode: in.Mode, uid: in.UID, gid: in.GID, xattrs: list, target: in.Target, size: in.Size, object: in.Object, verity: in.Verity}
	return nil
}

// Root starts the tree. The root's inode must have been set.
func (b *Builder) Root(id ID) {
	b.nodes, b.dirs = []node{{inode: id}}, []uint32{0}
}

// Children says what the next directory has, in bytewise order of names. The
// root is the first, then come directories in the order in which they were
// named. Errors wrap [fs.ErrInvalid].
func (b *Builder) Children(entries []Entry) error {
	if len(b.dirs) == 0 {
		return fmt.Errorf("composefs: no directory lacks its children: %w", fs.ErrInvalid)
	}
	parent := b.dirs[0]
	b.dirs = b.dirs[1:]
	if parent == 0 {
		entries = b.addStubs(entries)
	}
	dir := &b.nodes[parent]
	dir.first, dir.count = uint32(len(b.nodes)), uint32(len(entries))
	last := ""
	for _, e := range entries {
		if e.Name <= last || len(e.Name) > maxName || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") {
			return fmt.Errorf("composefs: name %.300q behind %.300q: %w", e.Name, last, fs.ErrInvalid)
		}
		last = e.Name
		if e.Dir {
			b.nodes[parent].subdirs++
			b.dirs = append(b.dirs, uint32(len(b.nodes)))
		}
		b.nodes = append(b.nodes, node{name: e.Name, inode: e.Inode, parent: parent})
	}
	return nil
}

// addStubs gives the root what the mount needs. The backing files' folders 00 to
// ff must not show: the root is opaque, and a character device with number 0
// hides each of them that the tree has not itself.
func (b *Builder) addStubs(entries []Entry) []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	root := b.inodes[b.nodes[0].inode]
	stub := inode{mode: typeChar | 0o644, uid: root.uid, gid: root.gid}
	list := b.xattrs.lists[root.xattrs]
	for _, id := range list {
		if b.xattrs.pairs[id].name == "security.selinux" {
			stub.xattrs, _ = b.xattrs.list([]uint32{id})
		}
	}
	// The name never comes twice: what had it before is escaped.
	root.xattrs, _ = b.xattrs.list(append(slices.Clone(list), b.xattrs.pair(nameOpaque, []byte("y"))))
	b.inodes = append(b.inodes, root, stub)
	b.nodes[0].inode = ID(len(b.inodes) - 2)
	const digits = "0123456789abcdef"
	with := make([]Entry, 0, len(entries)+256)
	for i := range 256 {
		name := string([]byte{digits[i>>4], digits[i&15]})
		for len(entries) > 0 && entries[0].Name < name {
			with, entries = append(with, entries[0]), entries[1:]
		}
		if len(entries) == 0 || entries[0].Name != name {
			with = append(with, Entry{Name: name, Inode: ID(len(b.inodes) - 1)})
		}
	}
	return append(with, entries...)
}
