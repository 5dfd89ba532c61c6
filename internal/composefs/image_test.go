package composefs_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/composefs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func image(t testing.TB, files []file, unite bool) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, build(t, files, unite).Write(t.Context(), &b))
	return b.Bytes()
}

// TestGolden makes images of which libcomposefs' `mkcomposefs --from-file
// --max-version=0` made the same bytes.
func TestGolden(t *testing.T) {
	trees := map[string][]file{}
	paths, err := filepath.Glob("testdata/*.dump")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		trees[filepath.Base(path)] = parse(t, string(text))
		require.Equal(t, string(text), dump(trees[filepath.Base(path)]))
	}
	for seed, n := range []int{0, 1, 30, 300, 2000, 300} {
		trees[fmt.Sprintf("random-%d", seed)] = random(uint64(seed), n)
	}
	trees["many-directories"] = []file{{path: "/", inode: composefs.Inode{Mode: 0o040755}}}
	for i := range 66000 { // more links than the small inode can say
		trees["many-directories"] = append(trees["many-directories"], file{path: "/d" + strconv.Itoa(100000+i), inode: composefs.Inode{Mode: 0o040755}})
	}
	var got strings.Builder
	for _, name := range slices.Sorted(maps.Keys(trees)) {
		made := image(t, trees[name], false)
		require.True(t, bytes.Equal(made, image(t, trees[name], true)), "%s: united inodes", name)
		digest, err := build(t, trees[name], true).Digest(t.Context())
		require.NoError(t, err)
		require.Equal(t, verity(made), digest)
		fmt.Fprintf(&got, "%s\t%d\t%x\t%s\n", name, len(made), sha256.Sum256(made), hex.EncodeToString(digest[:]))
	}
	const golden = "testdata/images.tsv"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}

// FuzzImage reads back what was written.
func FuzzImage(f *testing.F) {
	for seed := range uint64(6) {
		f.Add(seed, uint16(100*seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) {
		files := random(seed, int(n)%1000)
		got := read(t, image(t, files, seed%2 == 0))
		stubs := len(got) - len(files)
		for i := range files {
			want := &files[i]
			have, ok := got[want.path]
			require.True(t, ok, "%q", want.path)
			stubs -= check(t, want, have)
		}
		require.Zero(t, stubs)
	})
}

// check compares a file with what the image has, and gives the number of
// stubs that were left out for it.
func check(t *testing.T, want *file, have stored) (stubs int) {
	in := want.inode
	in.Xattrs = slices.Clone(in.Xattrs)
	for i, x := range in.Xattrs {
		if rest, ok := strings.CutPrefix(x.Name, "trusted.overlay."); ok {
			in.Xattrs[i].Name = "trusted.overlay.overlay." + rest
		}
	}
	links := uint32(1)
	switch in.Mode & 0o170000 {
	case 0o040000:
		links = 2
		for _, sub := range want.sub {
			if sub.inode.Mode&0o170000 == 0o040000 {
				links++
			}
		}
		if want.path == "/" {
			in.Xattrs = append(in.Xattrs, composefs.Xattr{Name: "trusted.overlay.opaque", Value: []byte("y")})
			stubs = 256
			for _, sub := range want.sub {
				if b, err := hex.DecodeString(sub.path[1:]); err == nil && len(b) == 1 && strings.ToLower(sub.path) == sub.path {
					stubs--
				}
			}
		} else {
			require.Len(t, have.children, len(want.sub))
		}
	case 0o100000:
		if in.Size > 0 {
			metacopy := composefs.Xattr{Name: "trusted.overlay.metacopy", Value: []byte{}}
			if in.Verity != (composefs.Digest{}) {
				metacopy.Value = append([]byte{0, 36, 0, 1}, in.Verity[:]...)
			}
			name := hex.EncodeToString(in.Object[:])
			in.Xattrs = append(in.Xattrs, metacopy, composefs.Xattr{Name: "trusted.overlay.redirect", Value: []byte("/" + name[:2] + "/" + name[2:] + ".file")})
		}
	}
	require.Equal(t, links, have.links)
	byName := func(a, b composefs.Xattr) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(in.Xattrs, byName)
	slices.SortFunc(have.Xattrs, byName)
	require.Len(t, have.Xattrs, len(in.Xattrs))
	for i := range in.Xattrs {
		require.Equal(t, in.Xattrs[i].Name, have.Xattrs[i].Name)
		require.True(t, bytes.Equal(in.Xattrs[i].Value, have.Xattrs[i].Value))
	}
	in.Xattrs, in.Object, in.Verity, have.Xattrs = nil, [32]byte{}, composefs.Digest{}, nil
	require.Equal(t, in, have.Inode)
	return stubs
}

func TestSetRefuses(t *testing.T) {
	long := func(n int) []byte { return make([]byte, n) }
	for name, in := range map[string]composefs.Inode{
		"no type":        {Mode: 0o644},
		"device":         {Mode: 0o020644},
		"mode":           {Mode: 1<<16 | 0o100644},
		"size":           {Mode: 0o100644, Size: 1<<43 + 1},
		"negative":       {Mode: 0o100644, Size: -1},
		"sized link":     {Mode: 0o120777, Target: "a", Size: 1},
		"no target":      {Mode: 0o120777},
		"NUL":            {Mode: 0o120777, Target: "a\x00b"},
		"long target":    {Mode: 0o120777, Target: strings.Repeat("a", 4096)},
		"target of file": {Mode: 0o100644, Target: "a"},
		"no name":        {Mode: 0o040755, Xattrs: []composefs.Xattr{{}}},
		"long name":      {Mode: 0o040755, Xattrs: []composefs.Xattr{{Name: strings.Repeat("a", 256)}}},
		"long value":     {Mode: 0o040755, Xattrs: []composefs.Xattr{{Name: "a", Value: long(1 << 16)}}},
		"long in all":    {Mode: 0o040755, Xattrs: []composefs.Xattr{{Name: "a", Value: long(20000)}, {Name: "b", Value: long(20000)}}},
		"twice":          {Mode: 0o040755, Xattrs: []composefs.Xattr{{Name: "a"}, {Name: "b"}, {Name: "a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := composefs.NewBuilder()
			require.ErrorIs(t, b.Set(b.Reserve(), in), fs.ErrInvalid)
		})
	}
}

func TestNamesRefused(t *testing.T) {
	for _, names := range [][]string{{""}, {"."}, {".."}, {"a/b"}, {"a\x00"}, {strings.Repeat("a", 256)}, {"a", "a"}, {"b", "a"}} {
		b := composefs.NewBuilder()
		dir, empty := b.Reserve(), b.Reserve()
		require.NoError(t, b.Set(dir, composefs.Inode{Mode: 0o040755}))
		require.NoError(t, b.Set(empty, composefs.Inode{Mode: 0o100644}))
		b.Root(dir)
		require.NoError(t, b.Children([]composefs.Entry{{Name: "sub", Inode: dir, Dir: true}}))
		var entries []composefs.Entry
		for _, name := range names {
			entries = append(entries, composefs.Entry{Name: name, Inode: empty})
		}
		require.ErrorIs(t, b.Children(entries), fs.ErrInvalid, "%q", names)
	}
}

type brokenWriter struct{ left int }

var errBroken = errors.New("broken")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestWriteFaults(t *testing.T) {
	require.ErrorIs(t, composefs.NewBuilder().Write(t.Context(), &bytes.Buffer{}), fs.ErrInvalid)

	b := composefs.NewBuilder()
	dir, unset := b.Reserve(), b.Reserve()
	require.NoError(t, b.Set(dir, composefs.Inode{Mode: 0o040755}))
	b.Root(dir)
	require.ErrorIs(t, b.Write(t.Context(), &bytes.Buffer{}), fs.ErrInvalid, "no children")
	require.NoError(t, b.Children([]composefs.Entry{{Name: "a", Inode: unset}}))
	require.ErrorIs(t, b.Children(nil), fs.ErrInvalid, "no more directories")
	require.ErrorIs(t, b.Write(t.Context(), &bytes.Buffer{}), fs.ErrInvalid, "inode not set")
	require.NoError(t, b.Set(unset, composefs.Inode{Mode: 0o040755}))
	require.ErrorIs(t, b.Write(t.Context(), &bytes.Buffer{}), fs.ErrInvalid, "a directory that is none")

	b = build(t, random(3, 2000), true)
	require.ErrorIs(t, b.Write(t.Context(), &brokenWriter{left: 300 << 10}), errBroken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.Write(ctx, &bytes.Buffer{}), context.Canceled)
	var once, again bytes.Buffer
	require.NoError(t, b.Write(t.Context(), &once))
	require.NoError(t, b.Write(t.Context(), &again))
	require.True(t, bytes.Equal(once.Bytes(), again.Bytes()))
}

func BenchmarkWrite(b *testing.B) {
	files := []file{{path: "/", inode: composefs.Inode{Mode: 0o040755}}}
	label := []composefs.Xattr{{Name: "security.selinux", Value: []byte("system_u:object_r:usr_t:s0\x00")}}
	for i := range 50000 {
		if i%50 == 0 {
			files = append(files, file{path: fmt.Sprintf("/dir%d", i/50), inode: composefs.Inode{Mode: 0o040755, Xattrs: label}})
		}
		in := composefs.Inode{Mode: 0o100644, Size: 1000, Xattrs: label}
		le.PutUint32(in.Object[:], uint32(i))
		le.PutUint32(in.Verity[:], uint32(i+1))
		files = append(files, file{path: fmt.Sprintf("/dir%d/file%d", i/50, i), inode: in})
	}
	tree := build(b, files, false)
	b.ReportAllocs()
	var n int64
	for b.Loop() {
		w := &brokenWriter{left: 1 << 40}
		require.NoError(b, tree.Write(b.Context(), w))
		n = 1<<40 - int64(w.left)
	}
	b.SetBytes(n)
	b.ReportMetric(float64(len(files))*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
