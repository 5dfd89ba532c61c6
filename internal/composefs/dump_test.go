package composefs_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/composefs"
)

// The tests' trees are in the text form that `mkcomposefs --from-file` reads: a
// line for each path, parents first, with
//
//	path size mode links uid gid device time payload content digest [name=value…]
//
// where mode is octal, "-" is nothing and odd bytes are \x and two digits.

// file is a line of it.
type file struct {
	path  string
	inode composefs.Inode
	sub   []*file
}

func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '=' {
			fmt.Fprintf(&b, "\\x%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	if b.String() == "-" {
		return "\\x2d"
	}
	return b.String()
}

func unescape(t testing.TB, s string) string {
	var b []byte
	for len(s) > 0 {
		if s[0] != '\\' {
			b, s = append(b, s[0]), s[1:]
			continue
		}
		require.True(t, len(s) >= 4 && s[1] == 'x', "%q", s)
		c, err := hex.DecodeString(s[2:4])
		require.NoError(t, err)
		b, s = append(b, c...), s[4:]
	}
	return string(b)
}

// dump writes files, whose paths are those of "/" and what is below it.
func dump(files []file) string {
	var b strings.Builder
	for _, f := range files {
		in := f.inode
		payload, digest, links := "-", "-", 1
		size := in.Size
		switch in.Mode & 0o170000 {
		case 0o040000:
			links = 2
		case 0o120000:
			payload, size = escape(in.Target), int64(len(in.Target))
		default:
			if in.Size > 0 {
				name := hex.EncodeToString(in.Object[:])
				payload = name[:2] + "/" + name[2:] + ".file"
				if in.Verity != (composefs.Digest{}) {
					digest = hex.EncodeToString(in.Verity[:])
				}
			}
		}
		fmt.Fprintf(&b, "%s %d %o %d %d %d 0 0.0 %s - %s", escape(f.path), size, in.Mode, links, in.UID, in.GID, payload, digest)
		for _, x := range in.Xattrs {
			fmt.Fprintf(&b, " %s=%s", escape(x.Name), escape(string(x.Value)))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// parse reads what dump writes.
func parse(t testing.TB, text string) []file {
	t.Helper()
	var files []file
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		require.GreaterOrEqual(t, len(fields), 11)
		number := func(i, base int) uint64 {
			n, err := strconv.ParseUint(fields[i], base, 64)
			require.NoError(t, err)
			return n
		}
		in := composefs.Inode{Mode: uint32(number(2, 8)), UID: uint32(number(4, 10)), GID: uint32(number(5, 10))}
		switch payload := unescape(t, fields[8]); in.Mode & 0o170000 {
		case 0o120000:
			in.Target = payload
		case 0o100000:
			if in.Size = int64(number(1, 10)); in.Size > 0 {
				object, err := hex.DecodeString(strings.TrimSuffix(strings.ReplaceAll(payload, "/", ""), ".file"))
				require.NoError(t, err)
				in.Object = [32]byte(object)
				if fields[10] != "-" {
					digest, err := hex.DecodeString(fields[10])
					require.NoError(t, err)
					in.Verity = composefs.Digest(digest)
				}
			}
		}
		for _, x := range fields[11:] {
			name, value, ok := strings.Cut(x, "=")
			require.True(t, ok)
			in.Xattrs = append(in.Xattrs, composefs.Xattr{Name: unescape(t, name), Value: []byte(unescape(t, value))})
		}
		files = append(files, file{path: unescape(t, fields[0]), inode: in})
	}
	return files
}

// build hands files to a Builder; of equal files the second and later are names
// for the first one's inode if unite is set.
func build(t testing.TB, files []file, unite bool) *composefs.Builder {
	t.Helper()
	b := composefs.NewBuilder()
	known := map[string]composefs.ID{}
	id := func(f *file) composefs.ID {
		key := ""
		if unite {
			key = fmt.Sprint(f.inode)
		}
		id, ok := known[key]
		if !ok || !unite {
			id = b.Reserve()
			require.NoError(t, b.Set(id, f.inode))
			known[key] = id
		}
		return id
	}
	paths := map[string]*file{}
	for i := range files {
		f := &files[i]
		f.sub = nil
		paths[f.path] = f
		if f.path != "/" {
			dir := f.path[:strings.LastIndexByte(f.path, '/')]
			if dir == "" {
				dir = "/"
			}
			require.NotNil(t, paths[dir], "%q", dir)
			paths[dir].sub = append(paths[dir].sub, f)
		}
	}
	b.Root(id(paths["/"]))
	for queue := []*file{paths["/"]}; len(queue) > 0; queue = queue[1:] {
		slices.SortFunc(queue[0].sub, func(x, y *file) int { return strings.Compare(x.path, y.path) })
		var entries []composefs.Entry
		for _, f := range queue[0].sub {
			dir := f.inode.Mode&0o170000 == 0o040000
			entries = append(entries, composefs.Entry{Name: f.path[strings.LastIndexByte(f.path, '/')+1:], Inode: id(f), Dir: dir})
			if dir {
				queue = append(queue, f)
			}
		}
		require.NoError(t, b.Children(entries))
	}
	return b
}
