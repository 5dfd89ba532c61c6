package composefs

import (
	"fmt"
	"io/fs"
	"math"
	"slices"
)

// Lengths of the format's structs.
const (
	superOffset  = 1024
	superSize    = 128
	slot         = 32 // inodes start at multiples of it
	compactSize  = 32
	extendedSize = 64
	direntSize   = 12
)

func align[T int | int64](n, to T) T { return (n + to - 1) / to * to }

// layout is where things are, in bytes.
type layout struct {
	shared     []attr // in their order
	sharedSize int64
	inodesEnd  int64 // and where the shared attributes start
	dataStart  int64
	dataBlocks int64
	acl        bool // an inode has an access control list
}

// layout finds the place of everything. It changes nodes and inodes, but always
// in the same way.
func (b *Builder) layout() (*layout, error) {
	if len(b.nodes) == 0 || len(b.dirs) > 0 {
		return nil, fmt.Errorf("composefs: %d directories lack their children: %w", len(b.dirs), fs.ErrInvalid)
	}
	l := &layout{}
	b.share(l)
	pos := int64(superOffset + superSize)
	var attrs []attr
	for i := range b.nodes {
		n := &b.nodes[i]
		in := &b.inodes[n.inode]
		if in.mode == 0 || (in.mode&typeMask == typeDir) != (n.first > 0) {
			return nil, fmt.Errorf("composefs: %.300q: inode of mode %#o: %w", n.name, in.mode, fs.ErrInvalid)
		}
		attrs = b.attrs(attrs[:0], in)
		for _, a := range attrs {
			l.acl = l.acl || a.name == "system.posix_acl_access" || a.name == "system.posix_acl_default"
		}
		b.place(uint32(i), in, align(pos, slot), inlineSize(attrs))
		pos = int64(n.nid)*slot + int64(n.size()+inlineSize(attrs)+int(n.tail))
		l.dataBlocks += int64(n.blocks)
	}
	l.inodesEnd = align(pos, slot)
	l.dataStart = align(l.inodesEnd+l.sharedSize, blockSize)
	if l.dataStart/blockSize+l.dataBlocks > math.MaxUint32 {
		return nil, fmt.Errorf("composefs: image has more than %d blocks: %w", uint32(math.MaxUint32), fs.ErrInvalid)
	}
	return l, nil
}

// share finds the attributes that more than one inode has.
func (b *Builder) share(l *layout) {
	for i := range b.xattrs.pairs {
		b.xattrs.pairs[i].count, b.xattrs.pairs[i].shared = 0, -1
	}
	for i := range b.inodes {
		b.inodes[i].refs, b.inodes[i].sharedMetacopy, b.inodes[i].sharedRedirect = 0, -1, -1
	}
	for i := range b.nodes {
		b.inodes[b.nodes[i].inode].refs++
	}
	var files []*inode
	for i := range b.inodes {
		in := &b.inodes[i]
		for _, id := range b.xattrs.lists[in.xattrs] {
			b.xattrs.pairs[id].count += in.refs
		}
		if in.backed() && in.refs > 0 {
			files = append(files, in)
		}
	}
	// places are where an attribute's place is to be written to.
	type sharing struct {
		attr
		places []*int64
	}
	var all []sharing
	for i := range b.xattrs.pairs {
		if p := &b.xattrs.pairs[i]; p.count > 1 {
			all = append(all, sharing{attr{p.name, p.value, 0}, []*int64{&p.shared}})
		}
	}
	group := func(name string, key func(*inode) []byte, value func(*inode) string, place func(*inode) *int64) {
		slices.SortFunc(files, func(a, b *inode) int { return slices.Compare(key(a), key(b)) })
		for i := 0; i < len(files); {
			refs, end := 0, i
			for ; end < len(files) && slices.Equal(key(files[end]), key(files[i])); end++ {
				refs += files[end].refs
			}
			if refs > 1 {
				s := sharing{attr: attr{name, value(files[i]), 0}}
				for _, in := range files[i:end] {
					s.places = append(s.places, place(in))
				}
				all = append(all, s)
			}
			i = end
		}
	}
	group(nameMetacopy, func(in *inode) []byte { return in.verity[:] }, (*inode).metacopy, func(in *inode) *int64 { return &in.sharedMetacopy })
	group(nameRedirect, func(in *inode) []byte { return in.object[:] }, (*inode).redirect, func(in *inode) *int64 { return &in.sharedRedirect })
	slices.SortFunc(all, func(a, b sharing) int { return compareShared(a.attr, b.attr) })
	for _, s := range all {
		for _, p := range s.places {
			*p = l.sharedSize
		}
		l.shared = append(l.shared, s.attr)
		l.sharedSize += int64(s.size())
	}
}

// size is that of the inode itself.
func (n *node) size() int {
	if n.extended {
		return extendedSize
	}
	return compactSize
}

// links is how many hard links the inode has.
func (n *node) links(in *inode) uint32 {
	if in.mode&typeMask == typeDir {
		return 2 + n.subdirs
	}
	return 1
}

// length is the inode's size in bytes.
func (n *node) length(in *inode) int64 {
	switch in.mode & typeMask {
	case typeDir:
		return int64(n.blocks)*blockSize + int64(n.tail)
	case typeSymlink:
		return int64(len(in.target))
	default:
		return in.size
	}
}

// place finds a place for an inode with size bytes of attributes, at or behind
// pos, a multiple of slot.
func (b *Builder) place(i uint32, in *inode, pos int64, size int) {
	n := &b.nodes[i]
	n.blocks, n.tail = 0, 0
	switch in.mode & typeMask {
	case typeDir:
		blocks, rest := 0, 0
		for _, d := range b.dirents(i) {
			if rest+direntSize+len(d.name) > blockSize {
				blocks, rest = blocks+1, 0
			}
			rest += direntSize + len(d.name)
		}
		if rest > blockSize/2 { // libcomposefs' choice
			blocks, rest = blocks+1, 0
		}
		n.blocks, n.tail = uint32(blocks), uint16(rest)
	case typeSymlink:
		n.tail = uint16(len(in.target))
	case typeRegular:
		if in.backed() {
			n.tail = 4 // the chunk's block address
		}
	}
	n.extended = n.links(in) > math.MaxUint16 || in.uid > math.MaxUint16 || in.gid > math.MaxUint16 || n.length(in) > math.MaxUint32

	head := int64(n.size() + size)
	whole := head + int64(n.tail)
	if in.mode&typeMask == typeSymlink {
		// All of it shall be in one block, or the target has one for itself.
		if whole >= blockSize {
			n.blocks, n.tail = 1, 0
		}
		if pos/blockSize != (pos+whole-1)/blockSize {
			pos = align(pos, blockSize)
		}
	} else if room := blockSize - (pos+head)%blockSize; room < int64(n.tail) {
		// The tail alone shall be in one block. It is at most half of one, so
		// that it fits into the next.
		pos += align(room, slot)
	}
	n.nid = uint32(pos / slot)
}

// dirent is a name in a directory and what it stands for in nodes.
type dirent struct {
	name string
	node uint32
}

// dirents gives a directory's names, sorted; "." and ".." are among them. The
// next call overwrites them.
func (b *Builder) dirents(i uint32) []dirent {
	n := &b.nodes[i]
	list := b.scratch[:0]
	dots := []dirent{{".", i}, {"..", n.parent}}
	for k := range n.count {
		name := b.nodes[n.first+k].name
		for len(dots) > 0 && dots[0].name < name {
			list, dots = append(list, dots[0]), dots[1:]
		}
		list = append(list, dirent{name, n.first + k})
	}
	b.scratch = append(list, dots...)
	return b.scratch
}
