package ostree

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// File is a content object: a regular file or symbolic link. Its checksum is
// the SHA-256 of
//
//	length of the header  32 bits, big-endian
//	zero                  32 bits
//	header                the GVariant type (uuuusa(ayay)): user, group, mode and
//	                      device (0), all big-endian, link target or "",
//	                      extended attributes
//	content               of a regular file
//
// The source is libostree's ostree-core.c, ostree_raw_file_to_content_stream.
type File struct {
	UID, GID uint32
	Mode     uint32 // with ModeRegular or ModeSymlink
	Target   string // a symbolic link's target
	Xattrs   []Xattr
	Size     int64 // a regular file's length in bytes
	// Open gives a regular file's content and is nil for a symbolic link. At the
	// end it reports [io.EOF] only if length and checksum are right, else an
	// error that wraps [ErrCorrupt]: bytes are to be trusted after EOF.
	Open func(context.Context) (io.ReadCloser, error)
}

// maxHeaderSize bounds the header of a content object, which holds a link
// target and extended attributes.
const maxHeaderSize = 8 << 20

// headerPrefix is the length before a header: of its size and four zero bytes.
const headerPrefix = 8

// appendFileHeader appends what is hashed before a file's content. xattrs are
// serialized.
func appendFileHeader(dst []byte, uid, gid, mode uint32, target string, xattrs []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = appendHeaderTuple(dst, start+headerPrefix, uid, gid, mode, target, xattrs)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-headerPrefix))
	return dst
}

// appendHeaderTuple appends the members of a header behind what it has already
// since base, and the one framing offset: the end of the target.
func appendHeaderTuple(dst []byte, base int, uid, gid, mode uint32, target string, xattrs []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uid)
	dst = binary.BigEndian.AppendUint32(dst, gid)
	dst = binary.BigEndian.AppendUint32(dst, mode)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = gvariant.AppendString(dst, target)
	end := len(dst) - base
	dst = append(dst, xattrs...)
	return gvariant.AppendOffset(dst, end, len(dst)-base, 1)
}

// headerChecksum is the checksum of a content object without content: a symbolic
// link, or a regular file of no bytes.
func (f *File) headerChecksum() Checksum {
	return sum(appendFileHeader(nil, f.UID, f.GID, f.Mode, f.Target, marshalXattrs(sortedXattrs(f.Xattrs))))
}

// checkFile checks what a header may hold. The attributes' order is not looked at.
func checkFile(mode uint32, target string, xattrs []Xattr) error {
	switch mode & ModeType {
	case ModeRegular:
		if target != "" {
			return fmt.Errorf("regular file has a link target")
		}
	case ModeSymlink:
		if target == "" {
			return fmt.Errorf("symbolic link has no target")
		}
	default:
		return fmt.Errorf("mode %#o is neither of a regular file nor of a symbolic link", mode)
	}
	if err := checkMode(mode, mode&ModeType); err != nil {
		return err
	}
	return checkXattrs(sortedXattrs(xattrs))
}

// checkTarget refuses link targets that the format can't hold.
func checkTarget(target string) error {
	if !utf8.ValidString(target) || strings.Contains(target, "\x00") {
		return fmt.Errorf("link target %.80q is not UTF-8 or contains NUL", target)
	}
	return nil
}

// decodeFileHeader reads the members of a header from its first, skip, on.
func decodeFileHeader(members [][]byte) (*File, error) {
	f := &File{UID: binary.BigEndian.Uint32(members[0]), GID: binary.BigEndian.Uint32(members[1]), Mode: binary.BigEndian.Uint32(members[2])}
	if rdev := binary.BigEndian.Uint32(members[3]); rdev != 0 {
		return nil, corruptf("content object has device number %d", rdev)
	}
	var err error
	if f.Target, err = gvariant.DecodeString(members[4]); err != nil {
		return nil, corrupt(err)
	}
	if f.Xattrs, err = decodeXattrs(members[5]); err != nil {
		return nil, err
	}
	if err := checkFile(f.Mode, f.Target, f.Xattrs); err != nil {
		return nil, corrupt(err)
	}
	return f, nil
}
