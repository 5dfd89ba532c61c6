package composefs

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Attributes that overlayfs, which the image is mounted under, reads.
const (
	overlayPrefix = "trusted.overlay."
	nameMetacopy  = overlayPrefix + "metacopy" // the backing file's digest
	nameRedirect  = overlayPrefix + "redirect" // the backing file's path
	nameOpaque    = overlayPrefix + "opaque"
)

// What an inode's attributes may be, as libcomposefs limits it.
const (
	maxXattrName  = 255
	maxXattrValue = 1<<16 - 1
	maxXattrs     = 1<<15 - 1 // bytes in all
	xattrOverhead = 7         // bytes that an attribute counts beside name and value
)

// maxShared is how many of an inode's attributes refer to the shared ones.
const maxShared = 128

// xattrHeader and xattrEntry are lengths of struct erofs_xattr_ibody_header and
// struct erofs_xattr_entry.
const (
	xattrHeader = 12
	xattrEntry  = 4
)

// pair is a name and value that an inode has.
type pair struct {
	name, value string
	count       int   // how many inodes have it
	shared      int64 // its place among the shared ones in bytes; -1: it isn't there
}

// xattrTable has every pair and every list of pairs once.
type xattrTable struct {
	pairs   []pair
	pairIDs map[string]uint32
	lists   [][]uint32 // sorted by name; the first is empty
	listIDs map[string]uint32
}

// intern gives the number of a list. Names that overlayfs would take for its own
// are escaped.
func (t *xattrTable) intern(xattrs []Xattr) (uint32, error) {
	size := xattrHeader
	for _, x := range xattrs {
		if x.Name == "" || len(x.Name) > maxXattrName || len(x.Value) > maxXattrValue {
			return 0, fmt.Errorf("extended attribute %.80q: name of %d bytes, value of %d", x.Name, len(x.Name), len(x.Value))
		}
		size += xattrOverhead + len(x.Name) + len(x.Value)
	}
	if size > maxXattrs {
		return 0, fmt.Errorf("extended attributes take %d bytes, at most %d", size, maxXattrs)
	}
	list := make([]uint32, len(xattrs))
	for i, x := range xattrs {
		name := x.Name
		if rest, ok := strings.CutPrefix(name, overlayPrefix); ok {
			name = overlayPrefix + "overlay." + rest
		}
		list[i] = t.pair(name, x.Value)
	}
	return t.list(list)
}

func (t *xattrTable) pair(name string, value []byte) uint32 {
	key := name + "\x00" + string(value)
	id, ok := t.pairIDs[key]
	if !ok {
		id = uint32(len(t.pairs))
		t.pairs = append(t.pairs, pair{name: key[:len(name)], value: key[len(name)+1:]})
		t.pairIDs[key] = id
	}
	return id
}

// list takes its argument.
func (t *xattrTable) list(list []uint32) (uint32, error) {
	slices.SortFunc(list, func(a, b uint32) int { return strings.Compare(t.pairs[a].name, t.pairs[b].name) })
	key := make([]byte, 0, 4*len(list))
	for i, id := range list {
		if i > 0 && t.pairs[list[i-1]].name == t.pairs[id].name {
			return 0, fmt.Errorf("extended attribute %.80q comes twice", t.pairs[id].name)
		}
		key = binary.LittleEndian.AppendUint32(key, id)
	}
	n, ok := t.listIDs[string(key)]
	if !ok {
		n = uint32(len(t.lists))
		t.lists = append(t.lists, list)
		t.listIDs[string(key)] = n
	}
	return n, nil
}

// attr is an attribute of an inode.
type attr struct {
	name, value string
	shared      int64 // as in pair
}

// compareShared is the order of the shared attributes.
func compareShared(a, b attr) int {
	return cmp.Or(strings.Compare(b.name, a.name), cmp.Compare(len(b.value), len(a.value)), strings.Compare(b.value, a.value))
}

// metacopy is the value of [nameMetacopy]: version, length, flags, algorithm
// (SHA-256), digest; or nothing if the digest is not known.
func (in *inode) metacopy() string {
	if in.verity == (Digest{}) {
		return ""
	}
	return "\x00\x24\x00\x01" + string(in.verity[:])
}

// redirect is the value of [nameRedirect], in the layout of a bare OSTree
// repository's objects folder.
func (in *inode) redirect() string {
	name := hex.EncodeToString(in.object[:])
	return "/" + name[:2] + "/" + name[2:] + ".file"
}

// attrs appends an inode's attributes, sorted by name.
func (b *Builder) attrs(dst []attr, in *inode) []attr {
	for _, id := range b.xattrs.lists[in.xattrs] {
		p := &b.xattrs.pairs[id]
		dst = append(dst, attr{p.name, p.value, p.shared})
	}
	if in.backed() {
		dst = append(dst, attr{nameMetacopy, in.metacopy(), in.sharedMetacopy}, attr{nameRedirect, in.redirect(), in.sharedRedirect})
		slices.SortFunc(dst, func(a, b attr) int { return strings.Compare(a.name, b.name) })
	}
	shared := 0
	for i := range dst {
		if dst[i].shared < 0 {
			continue
		}
		if shared++; shared > maxShared {
			dst[i].shared = -1
		}
	}
	return dst
}

// prefixes are the beginnings of names that the format has numbers for.
var prefixes = []struct {
	text  string
	index uint8
}{
	{"user.", 1},
	{"system.posix_acl_access", 2},
	{"system.posix_acl_default", 3},
	{"trusted.", 4},
	{"security.", 6},
}

// split gives the number of a name's beginning, 0 for none, and the rest.
func split(name string) (uint8, string) {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(name, p.text); ok {
			return p.index, rest
		}
	}
	return 0, name
}

// size is what the attribute takes where it stands.
func (a attr) size() int {
	_, rest := split(a.name)
	return align(xattrEntry+len(rest)+len(a.value), 4)
}

func (a attr) append(dst []byte) []byte {
	index, rest := split(a.name)
	start := len(dst)
	dst = append(dst, uint8(len(rest)), index)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(a.value)))
	dst = append(append(dst, rest...), a.value...)
	return append(dst, make([]byte, align(len(dst)-start, 4)-(len(dst)-start))...)
}

// inlineSize is what attributes take behind an inode.
func inlineSize(attrs []attr) int {
	if len(attrs) == 0 {
		return 0
	}
	size := xattrHeader
	for _, a := range attrs {
		if a.shared >= 0 {
			size += 4
		} else {
			size += a.size()
		}
	}
	return size
}

// appendInline appends what stands behind an inode: header, places of the shared
// attributes, counted in 4 bytes from the block that base is in, and the others.
func appendInline(dst []byte, attrs []attr, base int64) []byte {
	if len(attrs) == 0 {
		return dst
	}
	filter, shared := ^uint32(0), 0
	for _, a := range attrs {
		index, rest := split(a.name)
		filter &^= 1 << (xxh32(rest, filterSeed+uint32(index)) % 32)
		if a.shared >= 0 {
			shared++
		}
	}
	dst = binary.LittleEndian.AppendUint32(dst, filter)
	dst = append(dst, uint8(shared), 0, 0, 0, 0, 0, 0, 0)
	for _, a := range attrs {
		if a.shared >= 0 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32((base%blockSize+a.shared)/4))
		}
	}
	for _, a := range attrs {
		if a.shared < 0 {
			dst = a.append(dst)
		}
	}
	return dst
}

// filterSeed is added to a name's number for the filter, in which the bit of a
// name that the inode has is 0.
const filterSeed = 0x25BBE08F
