package ostree

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// ObjectType is the kind of an object, numbered as libostree does.
type ObjectType uint8

// The object types that this package knows.
const (
	TypeFile       ObjectType = 1 // content: a regular file or symbolic link
	TypeDirTree    ObjectType = 2 // the names in a directory
	TypeDirMeta    ObjectType = 3 // a directory's owner, mode and attributes
	TypeCommit     ObjectType = 4
	TypeTombstone  ObjectType = 5 // stands for a commit deleted on purpose; not content-addressed
	TypeCommitMeta ObjectType = 6 // a commit's detached metadata; not content-addressed

	// Of [ModeBareSplitXattrs]: attributes, and those of the content object with
	// the same checksum.
	TypeFileXattrs     ObjectType = 8
	TypeFileXattrsLink ObjectType = 9 // not content-addressed
)

// MaxMetadataSize is the length in bytes above which a metadata object is
// refused, as libostree does.
const MaxMetadataSize = 128 << 20

// String is the file name extension of the type's objects. Content objects in
// an archive repository have "filez" instead.
func (t ObjectType) String() string {
	switch t {
	case TypeFile:
		return "file"
	case TypeDirTree:
		return "dirtree"
	case TypeDirMeta:
		return "dirmeta"
	case TypeCommit:
		return "commit"
	case TypeTombstone:
		return "tombstone-commit"
	case TypeCommitMeta:
		return "commitmeta"
	case TypeFileXattrs:
		return "file-xattrs"
	case TypeFileXattrsLink:
		return "file-xattrs-link"
	default:
		return fmt.Sprintf("object-type-%d", uint8(t))
	}
}

// appendObjectPath appends an object's path below objects/: two hexadecimal
// digits, a slash, the other 62, a dot and the extension.
func appendObjectPath(dst []byte, c *Checksum, ext string) []byte {
	const digits = "0123456789abcdef"
	for i, b := range c {
		dst = append(dst, digits[b>>4], digits[b&15])
		if i == 0 {
			dst = append(dst, '/')
		}
	}
	return append(append(dst, '.'), ext...)
}

// objectName names an object in errors.
func objectName(t ObjectType, c Checksum) string { return c.String() + "." + t.String() }

// The types of the metadata objects' parts.
var (
	typeXattrs   = gvariant.ArrayOf(gvariant.TupleOf(gvariant.Bytes, gvariant.Bytes))
	typeDirTree  = gvariant.TupleOf(typeDirFiles, typeDirDirs)
	typeDirFiles = gvariant.ArrayOf(gvariant.TupleOf(gvariant.String, gvariant.Bytes))
	typeDirDirs  = gvariant.ArrayOf(gvariant.TupleOf(gvariant.String, gvariant.Bytes, gvariant.Bytes))
	typeDirMeta  = gvariant.TupleOf(gvariant.Uint32, gvariant.Uint32, gvariant.Uint32, typeXattrs)
	typeCommit   = gvariant.TupleOf(gvariant.Dict, gvariant.Bytes, typeDirFiles, gvariant.String, gvariant.String, gvariant.Uint64,
		gvariant.Bytes, gvariant.Bytes)
)

// corrupt is an error that wraps [ErrCorrupt] and, if it isn't nil, cause.
func corrupt(cause error) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, cause)
}

func corruptf(format string, args ...any) error { return corrupt(fmt.Errorf(format, args...)) }

// decodeChecksum reads the binary form of a checksum.
func decodeChecksum(data []byte) (c Checksum, err error) {
	if len(data) != ChecksumSize {
		return c, corruptf("checksum of %d bytes, want %d", len(data), ChecksumSize)
	}
	copy(c[:], data)
	return c, nil
}

// checkName refuses what can't be a name in a dirtree: libostree refuses the
// same.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("file name %q is not allowed", name)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("file name %.80q contains a slash or NUL", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("file name %.80q is not UTF-8", name)
	}
	return nil
}

// checkMode refuses modes with bits that no object may have.
func checkMode(mode, want uint32) error {
	if mode&ModeType != want || mode&^(ModeType|0o7777) != 0 {
		return fmt.Errorf("mode %#o is not of type %#o", mode, want)
	}
	return nil
}

func sum(data []byte) Checksum { return sha256.Sum256(data) }
