package ostree

import (
	"encoding/binary"
	"math"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// A content object in an archive repository is
//
//	length of the header  32 bits, big-endian
//	zero                  32 bits
//	header                the GVariant type (tuuuusa(ayay)): length of the
//	                      content, then as in [File], all big-endian
//	content               raw DEFLATE (RFC 1951); nothing for a symbolic link
//
// The compressed bytes are part of no checksum: encoders and levels may differ.
// The source is libostree's ostree-core.c, _ostree_zlib_file_header_new.

var typeFilezHeader = gvariant.TupleOf(gvariant.Uint64, gvariant.Uint32, gvariant.Uint32, gvariant.Uint32, gvariant.Uint32, gvariant.String, typeXattrs)

// appendFilezHeader appends prefix and header.
func appendFilezHeader(dst []byte, size int64, uid, gid, mode uint32, target string, xattrs []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(size))
	dst = appendHeaderTuple(dst, start+headerPrefix, uid, gid, mode, target, xattrs)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-headerPrefix))
	return dst
}

// decodeFilezPrefix reads the length of the header.
func decodeFilezPrefix(prefix []byte) (int, error) {
	n := binary.BigEndian.Uint32(prefix)
	if n > maxHeaderSize {
		return 0, corruptf("header of %d bytes, at most %d", n, maxHeaderSize)
	}
	if binary.BigEndian.Uint32(prefix[4:]) != 0 {
		return 0, corruptf("padding before the header is not zero")
	}
	return int(n), nil
}

// decodeFilezHeader reads the header behind the prefix.
func decodeFilezHeader(header []byte) (*File, error) {
	var room [7][]byte
	m, err := gvariant.AppendMembers(room[:0], typeFilezHeader, header)
	if err != nil {
		return nil, corrupt(err)
	}
	f, err := decodeFileHeader(m[1:])
	if err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint64(m[0])
	if size > math.MaxInt64 || f.Mode&ModeType == ModeSymlink && size != 0 {
		return nil, corruptf("content length %d is out of range", size)
	}
	f.Size = int64(size)
	return f, nil
}
