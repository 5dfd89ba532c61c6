package composefs_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/composefs"
)

// random is a tree of about n files with all that is odd.
func random(seed uint64, n int) []file {
	r := rand.New(rand.NewPCG(seed, 1))
	bytes := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(1 + r.IntN(255))
		}
		return string(b)
	}
	oneOf := func(list ...string) string { return list[r.IntN(len(list))] }
	xattrs := func() (list []composefs.Xattr) {
		names := map[string]bool{}
		count := r.IntN(4)
		switch r.IntN(30) {
		case 0:
			count = 200
		case 1, 2, 3:
			return nil
		}
		for range count {
			name := oneOf("user.", "user.mime", "security.selinux", "security.capability", "trusted.overlay.metacopy", "trusted.overlay.opaque",
				"trusted.overlay.overlay.opaque", "trusted.zz", "trusted.overlay.origin", "system.posix_acl_access", "system.posix_acl_default",
				"system.posix_acl_accessory", "other", "user.a.name.that.is.longer.than.sixteen.bytes", "user."+bytes(1+r.IntN(60)))
			if count == 200 {
				name = fmt.Sprintf("user.%03d", r.IntN(300))
			}
			if names[name] || strings.ContainsAny(name, "=") {
				continue
			}
			names[name] = true
			value := oneOf("", "a", "b", "system_u:object_r:usr_t:s0\x00", bytes(r.IntN(20)))
			if r.IntN(100) == 0 && count < 200 {
				value = bytes(r.IntN(7000))
			}
			list = append(list, composefs.Xattr{Name: name, Value: []byte(value)})
		}
		return list
	}
	owner := func() uint32 {
		return []uint32{0, 0, 0, 0, 1000, 65535, 65536, 4294967294}[r.IntN(8)]
	}
	files := []file{{path: "/", inode: composefs.Inode{Mode: 0o040755, UID: owner(), GID: owner(), Xattrs: xattrs()}}}
	dirs := []string{""}
	seen := map[string]bool{}
	var contents []composefs.Inode
	for range n {
		dir := dirs[len(dirs)-1-min(r.IntN(len(dirs)), r.IntN(len(dirs)))]
		if r.IntN(3) == 0 {
			dir = dirs[len(dirs)/2] // that gets many
		}
		name := oneOf("00", "ff", "7f", "!", "-", ".hidden", "..x", "...", "a", "\xff", strings.Repeat("n", 255), bytes(1+r.IntN(8)), bytes(1+r.IntN(80)))
		name = strings.ReplaceAll(name, "/", "_")
		path := dir + "/" + name
		if name == "." || name == ".." || seen[path] || strings.Count(path, "/") > 12 {
			continue
		}
		seen[path] = true
		in := composefs.Inode{UID: owner(), GID: owner(), Xattrs: xattrs()}
		if r.IntN(2) == 0 {
			in.UID, in.GID = 0, 0
		}
		switch r.IntN(8) {
		case 0, 1:
			in.Mode = 0o040000 | uint32(r.IntN(0o10000))
			dirs = append(dirs, path)
		case 2, 3:
			in.Mode = 0o120777
			in.Target = bytes(1 + r.IntN(30))
			if r.IntN(4) == 0 {
				in.Target = bytes(1 + r.IntN(4095))
			}
			in.Target = strings.ReplaceAll(in.Target, "\x00", "0")
		default:
			if len(contents) > 0 && r.IntN(3) == 0 {
				if in = contents[r.IntN(len(contents))]; r.IntN(3) == 0 {
					in.Object[0]++ // as with another owner
				}
				break
			}
			in.Mode = 0o100000 | uint32(r.IntN(0o10000))
			if r.IntN(6) > 0 {
				in.Size = 1 + r.Int64N(1<<r.IntN(44))
				for i := range in.Object {
					in.Object[i], in.Verity[i] = byte(r.Uint32()), byte(r.Uint32())
				}
				if seed%5 == 0 {
					in.Verity = composefs.Digest{}
				}
			}
			contents = append(contents, in)
		}
		files = append(files, file{path: path, inode: in})
	}
	return slices.Clip(files)
}
