package ostree

import (
	"encoding/binary"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// DirMeta is a dirmeta object: what a directory has besides its names. The
// serialized form is the GVariant type (uuua(ayay)): user, group and mode, all
// big-endian, and the extended attributes (see [MarshalXattrs]). The source is
// libostree's ostree-core.h, OSTREE_DIRMETA_GVARIANT_FORMAT.
type DirMeta struct {
	UID, GID uint32
	Mode     uint32 // with ModeDir
	Xattrs   []Xattr
}

// Marshal serializes m. The attributes are sorted.
func (m *DirMeta) Marshal() ([]byte, error) {
	if err := checkMode(m.Mode, ModeDir); err != nil {
		return nil, err
	}
	xattrs := sortedXattrs(m.Xattrs)
	if err := checkXattrs(xattrs); err != nil {
		return nil, err
	}
	return appendMeta(nil, m.UID, m.GID, m.Mode, marshalXattrs(xattrs)), nil
}

// DecodeDirMeta reads a dirmeta object. Every fault wraps [ErrCorrupt].
func DecodeDirMeta(data []byte) (*DirMeta, error) {
	uid, gid, mode, xattrs, err := decodeMeta(data)
	if err != nil {
		return nil, err
	}
	if err := checkMode(mode, ModeDir); err != nil {
		return nil, corrupt(err)
	}
	if err := requireSorted(xattrs); err != nil {
		return nil, err
	}
	return &DirMeta{UID: uid, GID: gid, Mode: mode, Xattrs: xattrs}, nil
}

// requireSorted refuses attributes that libostree would have written sorted.
func requireSorted(x []Xattr) error {
	for i := 1; i < len(x); i++ {
		if x[i-1].Name > x[i].Name {
			return corruptf("extended attribute %.80q comes after %.80q", x[i].Name, x[i-1].Name)
		}
	}
	return nil
}

// appendMeta appends (uuua(ayay)), the form of a dirmeta object and of the
// attribute user.ostreemeta. Its only member without fixed size is the last,
// so there are no framing offsets.
func appendMeta(dst []byte, uid, gid, mode uint32, xattrs []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uid)
	dst = binary.BigEndian.AppendUint32(dst, gid)
	dst = binary.BigEndian.AppendUint32(dst, mode)
	return append(dst, xattrs...)
}

func decodeMeta(data []byte) (uid, gid, mode uint32, xattrs []Xattr, err error) {
	var room [4][]byte
	m, err := gvariant.AppendMembers(room[:0], typeDirMeta, data)
	if err != nil {
		return 0, 0, 0, nil, corrupt(err)
	}
	xattrs, err = decodeXattrs(m[3])
	return binary.BigEndian.Uint32(m[0]), binary.BigEndian.Uint32(m[1]), binary.BigEndian.Uint32(m[2]), xattrs, err
}
