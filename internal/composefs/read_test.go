package composefs_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/composefs"
)

// reader reads an image as the kernel does, to see that it says what it should.
type reader struct {
	t     testing.TB
	image []byte
}

var le = binary.LittleEndian

// stored is an inode as it is in the image.
type stored struct {
	composefs.Inode
	links    uint32
	children []string
}

// read gives the image's inodes by path.
func read(t testing.TB, image []byte) map[string]stored {
	t.Helper()
	r := reader{t, image}
	require.Zero(t, len(image)%4096)
	super := image[1024:]
	require.EqualValues(t, 0xe0f5e1e2, le.Uint32(super))
	require.EqualValues(t, len(image)/4096, le.Uint32(super[36:]))
	all := map[string]stored{}
	root := uint64(le.Uint16(super[14:]))
	r.inode(all, "/", root, root)
	require.EqualValues(t, len(all), le.Uint64(super[16:]))
	return all
}

func (r *reader) inode(all map[string]stored, path string, nid, parent uint64) {
	t := r.t
	p := r.image[nid*32:]
	format, xattrCount := le.Uint16(p), int(le.Uint16(p[2:]))
	s := stored{Inode: composefs.Inode{Mode: uint32(le.Uint16(p[4:]))}}
	info := le.Uint32(p[16:])
	size, head := int(le.Uint32(p[8:])), 32
	if format&1 == 1 {
		size, head = int(le.Uint64(p[8:])), 64
		s.UID, s.GID, s.links = le.Uint32(p[24:]), le.Uint32(p[28:]), le.Uint32(p[44:])
	} else {
		s.links, s.UID, s.GID = uint32(le.Uint16(p[6:])), uint32(le.Uint16(p[24:])), uint32(le.Uint16(p[26:]))
	}
	pos := nid*32 + uint64(head)
	if xattrCount > 0 {
		end := pos + 12 + uint64(xattrCount-1)*4
		shared := int(r.image[pos+4])
		area := uint64(le.Uint32(r.image[1024+44:])) * 4096
		for i := range shared {
			x, _ := r.xattr(area + uint64(le.Uint32(r.image[pos+12+uint64(i)*4:]))*4)
			s.Xattrs = append(s.Xattrs, x)
		}
		for at := pos + 12 + uint64(shared)*4; at < end; {
			var x composefs.Xattr
			x, at = r.xattr(at)
			s.Xattrs = append(s.Xattrs, x)
		}
		pos = end
	}
	// The kernel reads blocks, then the tail, which has to be in one block.
	var blocks, tail []byte
	switch format >> 1 {
	case 0, 2:
		full := size / 4096 * 4096
		if format>>1 == 0 {
			full = (size + 4095) / 4096 * 4096
		} else {
			tail = r.image[pos : pos+uint64(size-full)]
			require.Equal(t, pos/4096, (pos+uint64(len(tail))-1)/4096, "%q", path)
		}
		if full > 0 {
			blocks = r.image[int(info)*4096 : int(info)*4096+full]
		}
	case 4:
		require.EqualValues(t, 0xffffffff, le.Uint32(r.image[pos:]), "%q", path)
		require.GreaterOrEqual(t, 1<<(12+info), size)
		s.Size = int64(size)
	default:
		require.Fail(t, "layout", "%q: %d", path, format)
	}
	switch s.Mode & 0o170000 {
	case 0o120000:
		s.Target = string(append(blocks, tail...)[:size])
	case 0o040000:
		last := ""
		for data := append(blocks[:len(blocks):len(blocks)], tail...); len(data) > 0; data = data[min(4096, len(data)):] {
			block := data[:min(4096, len(data))]
			count := int(le.Uint16(block[8:])) / 12
			for i := range count {
				start, end := int(le.Uint16(block[12*i+8:])), len(block)
				if i+1 < count {
					end = int(le.Uint16(block[12*i+20:]))
				}
				name := strings.TrimRight(string(block[start:end]), "\x00")
				require.Less(t, last, name)
				last = name
				child := le.Uint64(block[12*i:])
				switch name {
				case ".":
					require.Equal(t, nid, child)
				case "..":
					require.Equal(t, parent, child)
				default:
					s.children = append(s.children, name)
					r.inode(all, strings.TrimSuffix(path, "/")+"/"+name, child, nid)
				}
			}
		}
	}
	all[path] = s
}

func (r *reader) xattr(at uint64) (composefs.Xattr, uint64) {
	name, value := uint64(r.image[at]), uint64(le.Uint16(r.image[at+2:]))
	prefix := []string{"", "user.", "system.posix_acl_access", "system.posix_acl_default", "trusted.", "", "security."}[r.image[at+1]]
	x := composefs.Xattr{Name: prefix + string(r.image[at+4:at+4+name]), Value: r.image[at+4+name : at+4+name+value]}
	return x, at + (4+name+value+3)/4*4
}
