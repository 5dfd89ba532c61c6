package ostree_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/gvariant"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// madeDelta is a static delta to be written, sound or not.
type madeDelta struct {
	order    byte // 'l' or 'B'; 0: not told, and little
	from, to ostree.Checksum
	commit   []byte
	meta     []byte // detached metadata; nil: none
	parents  []byte
	parts    []*madePart
	fallback []ostree.DeltaFallback
	inline   bool
}

type madePart struct {
	version          uint32
	objects          []byte
	modes            []byte
	xattrs           gvariant.ArrayBuilder
	blob, ops        []byte
	pack             byte                // 'x', or 0
	edit             func([]byte) []byte // changes the unpacked bytes
	repack           func([]byte) []byte // changes the file
	lie              func([]byte) []byte // changes the file but not its checksum
	addSize          int                 // to the size
	modeOf, xattrsOf map[string]int
}

func newPart() *madePart {
	p := &madePart{modeOf: map[string]int{}, xattrsOf: map[string]int{}}
	p.xattrs.Reset(parseType("aa(ayay)"))
	return p
}

func parseType(text string) *gvariant.Type {
	t, err := gvariant.ParseType(text)
	if err != nil {
		panic(err)
	}
	return t
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// op appends an operation.
func (p *madePart) op(code byte, numbers ...int) {
	p.ops = append(p.ops, code)
	for _, n := range numbers {
		p.ops = binary.AppendUvarint(p.ops, uint64(n))
	}
}

// put adds content and gives its offset.
func (p *madePart) put(data string) int {
	p.blob = append(p.blob, data...)
	return len(p.blob) - len(data)
}

// object says that the part makes an object.
func (p *madePart) object(kind ostree.ObjectType, c ostree.Checksum) {
	p.objects = append(append(p.objects, byte(kind)), c[:]...)
}

// owner gives the numbers of a file's mode and attributes.
func (p *madePart) owner(f *ostree.File) (mode, xattrs int) {
	var m []byte
	for _, v := range []uint32{f.UID, f.GID, f.Mode} {
		m = binary.BigEndian.AppendUint32(m, v)
	}
	mode, ok := p.modeOf[string(m)]
	if !ok {
		mode = len(p.modeOf)
		p.modes = append(p.modes, m...)
		p.modeOf[string(m)] = mode
	}
	x := ostree.MarshalXattrs(f.Xattrs)
	xattrs, ok = p.xattrsOf[string(x)]
	if !ok {
		xattrs = len(p.xattrsOf)
		p.xattrs.Add(x)
		p.xattrsOf[string(x)] = xattrs
	}
	return mode, xattrs
}

// whole adds an object of r as it is.
func (p *madePart) whole(t testing.TB, r *ostree.Repo, kind ostree.ObjectType, c ostree.Checksum) {
	t.Helper()
	p.object(kind, c)
	if kind != ostree.TypeFile {
		data, err := r.Object(t.Context(), kind, c)
		require.NoError(t, err)
		at := p.put(string(data))
		p.op('S', len(data), at)
		return
	}
	f, content := readObject(t, r, c)
	mode, xattrs := p.owner(f)
	at := p.put(content)
	p.op('S', mode, xattrs, len(content), at)
}

// readObject gives a content object; its target is its content.
func readObject(t testing.TB, r *ostree.Repo, c ostree.Checksum) (*ostree.File, string) {
	t.Helper()
	f, err := r.ReadFile(t.Context(), c)
	require.NoError(t, err)
	if f.Open == nil {
		return f, f.Target
	}
	body, err := f.Open(t.Context())
	require.NoError(t, err)
	defer body.Close()
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	return f, string(data)
}

// file gives what the part's file holds.
func (p *madePart) file() []byte {
	data := must(gvariant.AppendTuple(nil, parseType("(a(uuu)aa(ayay)ayay)"), p.modes, p.xattrs.Bytes(), p.blob, p.ops))
	if p.edit != nil {
		data = p.edit(data)
	}
	file := append([]byte{p.pack}, data...)
	if p.pack == 'x' {
		b := bytes.NewBuffer([]byte{'x'})
		w := must(xz.WriterConfig{DictCap: 1 << 20}.NewWriter(b))
		must(w.Write(data))
		if err := w.Close(); err != nil {
			panic(err)
		}
		file = b.Bytes()
	}
	if p.repack != nil {
		file = p.repack(file)
	}
	return file
}

// superblock gives the superblock and the parts' files.
func (d *madeDelta) superblock() ([]byte, [][]byte) {
	var swap binary.AppendByteOrder = binary.LittleEndian
	if d.order == 'B' {
		swap = binary.BigEndian
	}
	var metadata, parts, fallbacks gvariant.ArrayBuilder
	metadata.Reset(gvariant.Dict)
	parts.Reset(parseType("a(uayttay)"))
	fallbacks.Reset(parseType("a(yaytt)"))
	item := func(key, kind string, value []byte) {
		if err := metadata.AddTuple(gvariant.AppendString(nil, key), gvariant.AppendVariant(nil, kind, value)); err != nil {
			panic(err)
		}
	}
	if d.order != 0 {
		item("ostree.endianness", "y", []byte{d.order})
	}
	folder := ostree.DeltaPath(ostree.DeltaName{From: d.from, To: d.to})
	if d.meta != nil {
		item(folder+"commitmeta", "a{sv}", d.meta)
	}
	var files [][]byte
	for i, p := range d.parts {
		file := p.file()
		c := sha(file)
		if p.lie != nil {
			file = p.lie(file)
		}
		if err := parts.AddTuple(swap.AppendUint32(nil, p.version), c[:], swap.AppendUint64(nil, uint64(len(file)+p.addSize)), swap.AppendUint64(nil, uint64(len(file))), p.objects); err != nil {
			panic(err)
		}
		if d.inline {
			item(folder+strconv.Itoa(i), "(yay)", file)
		}
		files = append(files, file)
	}
	for _, f := range d.fallback {
		if err := fallbacks.AddTuple([]byte{byte(f.Type)}, f.Checksum[:], swap.AppendUint64(nil, f.Size), swap.AppendUint64(nil, f.UncompressedSize)); err != nil {
			panic(err)
		}
	}
	var from []byte
	if !d.from.IsZero() {
		from = d.from[:]
	}
	return must(gvariant.AppendTuple(nil, parseType("(a{sv}tayay(a{sv}aya(say)sstayay)aya(uayttay)a(yaytt))"), metadata.Bytes(), binary.BigEndian.AppendUint64(nil, 1_700_000_000),
		from, d.to[:], d.commit, d.parents, parts.Bytes(), fallbacks.Bytes())), files
}

// write writes the delta to a new folder and gives its path.
func (d *madeDelta) write(t testing.TB) string {
	t.Helper()
	superblock, files := d.superblock()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "superblock"), superblock, 0o644))
	for i, file := range files {
		if !d.inline {
			require.NoError(t, os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), file, 0o644))
		}
	}
	return dir
}

// wholeDelta is a commit from scratch, in parts of about so many bytes of
// content.
func wholeDelta(t testing.TB, r *ostree.Repo, c ostree.Checksum, size int) *madeDelta {
	t.Helper()
	data, err := r.Object(t.Context(), ostree.TypeCommit, c)
	require.NoError(t, err)
	d := &madeDelta{order: 'l', to: c, commit: data, parts: []*madePart{newPart()}}
	type object struct {
		kind ostree.ObjectType
		sum  ostree.Checksum
	}
	seen := map[object]bool{}
	add := func(kind ostree.ObjectType, c ostree.Checksum) bool {
		if seen[object{kind, c}] {
			return false
		}
		seen[object{kind, c}] = true
		p := d.parts[len(d.parts)-1]
		if len(p.blob) > size {
			p = newPart()
			d.parts = append(d.parts, p)
		}
		p.whole(t, r, kind, c)
		return true
	}
	var tree func(ostree.Checksum)
	tree = func(c ostree.Checksum) {
		if !add(ostree.TypeDirTree, c) {
			return
		}
		dir, err := r.ReadDirTree(t.Context(), c)
		require.NoError(t, err)
		for _, f := range dir.Files {
			add(ostree.TypeFile, f.Object)
		}
		for _, sub := range dir.Dirs {
			add(ostree.TypeDirMeta, sub.Meta)
			tree(sub.Tree)
		}
	}
	commit, err := r.ReadCommit(t.Context(), c)
	require.NoError(t, err)
	add(ostree.TypeDirMeta, commit.RootMeta)
	tree(commit.RootTree)
	return d
}

// TestApplyDelta makes deltas of seeded trees and applies them in every mode.
func TestApplyDelta(t *testing.T) {
	for _, mode := range allModes() {
		opts := &treegen.Options{Files: 20, MaxSize: 100_000, NoXattrs: mode == ostree.ModeBareUserOnly}
		src := newRepo(t, mode)
		c, err := src.Commit(t.Context(), treegen.Tree(31, opts), &ostree.CommitOptions{CanonicalPermissions: mode == ostree.ModeBareUserOnly, Edit: withoutEmpty,
			Detached: []ostree.MetadataItem{{Key: "note", Value: ostree.StringVariant("one")}}})
		require.NoError(t, err)
		meta, err := src.Object(t.Context(), ostree.TypeCommitMeta, c)
		require.NoError(t, err)
		for i, edit := range []func(*madeDelta){
			func(d *madeDelta) {},
			func(d *madeDelta) { d.order = 'B' },
			func(d *madeDelta) { d.order = 0 },
			func(d *madeDelta) { d.inline = true },
			func(d *madeDelta) { d.parents = make([]byte, 64) },
		} {
			d := wholeDelta(t, src, c, 15_000)
			d.meta = meta
			edit(d)
			require.Greater(t, len(d.parts), 1)
			if i == 0 {
				for _, p := range d.parts[1:] {
					p.pack = 'x'
				}
			}
			dir := d.write(t)
			r := newRepo(t, mode)
			got, err := r.ApplyDelta(t.Context(), dir, &ostree.ApplyDeltaOptions{Workers: []int{0, 1, 7}[i%3]})
			require.NoError(t, err)
			require.Equal(t, c, got)
			same(t, objectNames(t, src.Path()), objectNames(t, r.Path()))
			require.NoError(t, r.Fsck(t.Context(), nil))
			requireClean(t, r)
		}
	}
}

// TestDeltaOperations makes files by every operation, of old ones in the
// repository or in its parent.
func TestDeltaOperations(t *testing.T) {
	old := noise(1, 300_000)
	young := old[:100_000] + "new" + old[50:1_000] + "more" + old[200_000:]
	patched := []byte(old)
	patched[7]++
	src := newRepo(t, ostree.ModeArchive)
	from, err := src.Commit(t.Context(), literal(dir("."), file("old", old), file("small", "abc")), nil)
	require.NoError(t, err)
	to, err := src.Commit(t.Context(), literal(dir("."), file("young", young), file("patched", string(patched)), file("abc", "cba"), file("empty", ""), link("link", "abc"),
		file("old", old)), nil)
	require.NoError(t, err)
	commit, err := src.ReadCommit(t.Context(), to)
	require.NoError(t, err)
	tree, err := src.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	object := map[string]ostree.Checksum{}
	for _, f := range tree.Files {
		object[f.Name] = f.Object
	}
	small := fileObject(t, "abc")
	step := func(diff, extra string, seek int) string {
		var b []byte
		for _, n := range []int{len(diff), len(extra), seek} {
			b = binary.LittleEndian.AppendUint64(b, uint64(n))
		}
		return string(b) + diff + extra
	}
	d := &madeDelta{order: 'l', from: from, to: to, inline: true}
	d.commit, err = src.Object(t.Context(), ostree.TypeCommit, to)
	require.NoError(t, err)
	p := newPart()
	d.parts = []*madePart{p}
	p.whole(t, src, ostree.TypeDirTree, commit.RootTree)
	p.whole(t, src, ostree.TypeFile, object["link"])
	p.whole(t, src, ostree.TypeFile, object["empty"])
	mode, xattrs := p.owner(&ostree.File{Mode: ostree.ModeRegular | 0o644})
	oldSum, smallSum := object["old"], small
	oldAt, smallAt := p.put(string(oldSum[:])), p.put(string(smallSum[:]))
	p.object(ostree.TypeFile, object["young"])
	p.op('o', mode, xattrs, len(young))
	p.op('r', oldAt)
	p.op('w', 100_000, 0)
	p.op('R')
	p.op('w', 3, p.put("new"))
	p.op('r', smallAt)
	p.op('r', oldAt)
	p.op('w', 950, 50)
	p.op('R')
	p.op('w', 4, p.put("more"))
	p.op('w', 0, 0)
	p.op('r', oldAt)
	p.op('w', 100_000, 200_000)
	p.op('c')
	p.object(ostree.TypeFile, object["patched"])
	patch := step(strings.Repeat("\x00", 7)+"\x01"+strings.Repeat("\x00", 299_992), "", 0)
	p.op('r', oldAt) // before the file
	p.op('o', mode, xattrs, len(patched))
	p.op('B', p.put(patch), len(patch))
	p.op('c')
	p.object(ostree.TypeFile, object["abc"])
	p.op('o', mode, xattrs, 3)
	p.op('r', smallAt)
	p.op('w', 1, 2)
	p.op('w', 1, 1)
	p.op('w', 1, 0)
	p.op('R')
	p.op('c')

	for _, m := range faithful() {
		for _, withParent := range []bool{false, true} {
			r := newRepo(t, m)
			require.NoError(t, r.PullLocal(t.Context(), src, &ostree.PullLocalOptions{Revs: []string{from.String()}}))
			if withParent {
				parent := r
				r = newRepo(t, m)
				require.NoError(t, r.SetConfig(t.Context(), "core", "parent", parent.Path()))
				r, err = ostree.Open(t.Context(), r.Path(), nil)
				require.NoError(t, err)
				defer r.Close()
			}
			got, err := r.ApplyDelta(t.Context(), filepath.Join(d.write(t), "superblock"), nil)
			require.NoError(t, err)
			require.Equal(t, to, got)
			for name, c := range object {
				_, want := readObject(t, src, c)
				_, content := readObject(t, r, c)
				require.True(t, want == content, name)
			}
			require.NoError(t, r.Fsck(t.Context(), nil))
			requireClean(t, r)
		}
	}
}

// fileObject is the checksum of a root-owned file of mode 0644.
func fileObject(t testing.TB, content string) ostree.Checksum {
	t.Helper()
	r := newRepo(t, ostree.ModeArchive)
	c, err := r.Commit(t.Context(), literal(dir("."), file("f", content)), nil)
	require.NoError(t, err)
	commit, err := r.ReadCommit(t.Context(), c)
	require.NoError(t, err)
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	return tree.Files[0].Object
}

// TestBadDeltas: each fault is one clear error, and leaves nothing.
func TestBadDeltas(t *testing.T) {
	src := newRepo(t, ostree.ModeArchive)
	old := noise(9, 1000)
	from, err := src.Commit(t.Context(), literal(dir("."), file("old", old), link("link", "old")), nil)
	require.NoError(t, err)
	to, err := src.Commit(t.Context(), literal(dir("."), file("a", "content")), nil)
	require.NoError(t, err)
	oldSum, linkSum := fileObject(t, old), ostree.Checksum{}
	commit, err := src.ReadCommit(t.Context(), from)
	require.NoError(t, err)
	tree, err := src.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	for _, f := range tree.Files {
		if f.Name == "link" {
			linkSum = f.Object
		}
	}
	wanted := fileObject(t, "content")
	// made begins a delta whose file a is made by the operations of fn.
	made := func(fn func(p *madePart, mode, xattrs int)) func(*madeDelta) {
		return func(d *madeDelta) {
			p := newPart()
			p.object(ostree.TypeFile, wanted)
			mode, xattrs := p.owner(&ostree.File{Mode: ostree.ModeRegular | 0o644})
			fn(p, mode, xattrs)
			d.parts = append(d.parts, p)
		}
	}
	var into []*ostree.Repo
	var before []string
	for _, mode := range modes {
		r := newRepo(t, mode)
		require.NoError(t, r.PullLocal(t.Context(), src, &ostree.PullLocalOptions{Revs: []string{from.String()}}))
		into, before = append(into, r), append(before, snapshot(t, r.Path()))
	}
	huge := 1 << 62
	for _, c := range []struct {
		name string
		edit func(*madeDelta)
		want string
		is   error
	}{
		{"no part", func(d *madeDelta) {}, "which neither the delta nor the repository has", fs.ErrNotExist},
		{"other bytes", made(func(p *madePart, m, x int) { p.op('S', m, x, 7, p.put("CONTENT")) }), wanted.String() + ".file: corrupt: checksum is", ostree.ErrCorrupt},
		{"another object", func(d *madeDelta) { d.parts[0].object(ostree.TypeDirMeta, wanted); d.parts[0].op('S', 0, 0) }, "checksum is", ostree.ErrCorrupt},
		{"behind the content", made(func(p *madePart, m, x int) { p.op('S', m, x, 8, p.put("content")) }), "8 bytes at 0 of 7", ostree.ErrCorrupt},
		{"huge", made(func(p *madePart, m, x int) { p.op('S', m, x, huge, huge) }), "bytes at", ostree.ErrCorrupt},
		{"negative", made(func(p *madePart, m, x int) { p.op('S', m, x, -1, 0) }), "", ostree.ErrCorrupt},
		{"mode", made(func(p *madePart, m, x int) { p.op('S', m+1, x, 7, p.put("content")) }), "mode 1 of 1", ostree.ErrCorrupt},
		{"attributes", made(func(p *madePart, m, x int) { p.op('S', m, -1, 7, p.put("content")) }), "attributes", ostree.ErrCorrupt},
		{"a directory's mode", made(func(p *madePart, _, _ int) {
			m, x := p.owner(&ostree.File{Mode: ostree.ModeDir | 0o755})
			p.op('S', m, x, 7, p.put("content"))
		}), "mode", ostree.ErrCorrupt},
		{"a link in pieces", made(func(p *madePart, _, _ int) {
			m, x := p.owner(&ostree.File{Mode: ostree.ModeSymlink | 0o777})
			p.op('o', m, x, 7)
		}), "like a regular file", ostree.ErrCorrupt},
		{"long target", made(func(p *madePart, _, _ int) {
			m, x := p.owner(&ostree.File{Mode: ostree.ModeSymlink | 0o777})
			p.op('S', m, x, 1<<20, p.put(strings.Repeat("x", 1<<20)))
		}), "link target", ostree.ErrCorrupt},
		{"NUL in a target", made(func(p *madePart, _, _ int) {
			m, x := p.owner(&ostree.File{Mode: ostree.ModeSymlink | 0o777})
			p.op('S', m, x, 3, p.put("a\x00b"))
		}), "NUL", ostree.ErrCorrupt},
		{"unknown operation", made(func(p *madePart, m, x int) { p.op('q') }), "operation 'q'", ostree.ErrCorrupt},
		{"cut operation", made(func(p *madePart, m, x int) { p.ops = append(p.ops, 'S', 0x80) }), "no number", ostree.ErrCorrupt},
		{"number of 11 bytes", made(func(p *madePart, m, x int) { p.ops = append(append(p.ops, 'S'), bytes.Repeat([]byte{0x80}, 11)...) }), "no number", ostree.ErrCorrupt},
		{"no end", made(func(p *madePart, m, x int) { p.op('o', m, x, 0) }), "no end", ostree.ErrCorrupt},
		{"too short", made(func(p *madePart, m, x int) { p.op('o', m, x, 7); p.op('c') }), "lacks 7 bytes", ostree.ErrCorrupt},
		{"too long", made(func(p *madePart, m, x int) { p.op('o', m, x, 7); p.op('w', 8, p.put("content!")); p.op('c') }), "more than 7 bytes", ostree.ErrCorrupt},
		{"open twice", made(func(p *madePart, m, x int) { p.op('o', m, x, 7); p.op('o', m, x, 7) }), "within a file", ostree.ErrCorrupt},
		{"closed twice", made(func(p *madePart, m, x int) { p.op('S', m, x, 7, p.put("content")); p.op('c') }), "outside of a file", ostree.ErrCorrupt},
		{"one object too many", made(func(p *madePart, m, x int) { p.op('S', m, x, 7, p.put("content")); p.op('S', m, x, 7, 0) }), "more than 1 objects", ostree.ErrCorrupt},
		{"one object too few", made(func(p *madePart, m, x int) {}), "makes 0 objects, not 1", ostree.ErrCorrupt},
		{"patch without source", made(func(p *madePart, m, x int) { p.op('o', m, x, 7); p.op('B', 0, 0); p.op('c') }), "without a source", ostree.ErrCorrupt},
		{"no such source", made(func(p *madePart, m, x int) {
			p.op('o', m, x, 7)
			p.op('r', p.put(string(wanted[:])))
			p.op('w', 7, 0)
			p.op('c')
		}), "source " + wanted.String(), fs.ErrNotExist},
		{"source outside", made(func(p *madePart, m, x int) { p.op('o', m, x, 7); p.op('r', p.put("short")) }), "32 bytes at 0 of 5", ostree.ErrCorrupt},
		{"a link as source", made(func(p *madePart, m, x int) {
			p.op('o', m, x, 7)
			p.op('r', p.put(string(linkSum[:])))
			p.op('w', 7, 0)
			p.op('c')
		}), "no regular file", ostree.ErrCorrupt},
		{"behind the source", made(func(p *madePart, m, x int) {
			p.op('o', m, x, 7)
			p.op('r', p.put(string(oldSum[:])))
			p.op('w', 7, 994)
			p.op('c')
		}), "7 bytes at 994 of 1000 of source", ostree.ErrCorrupt},
		{"bad patch", made(func(p *madePart, m, x int) {
			p.op('o', m, x, 7)
			p.op('r', p.put(string(oldSum[:])))
			p.op('B', p.put(strings.Repeat("\xff", 24)), 24)
			p.op('c')
		}), "damaged patch", ostree.ErrCorrupt},
		{"short patch", made(func(p *madePart, m, x int) {
			p.op('o', m, x, 7)
			p.op('r', p.put(string(oldSum[:])))
			p.op('B', 0, 0)
			p.op('c')
		}), "ends early", ostree.ErrCorrupt},
		{"metadata made like a file", func(d *madeDelta) {
			p := newPart()
			p.object(ostree.TypeDirTree, wanted)
			p.op('o', 0, 0, 0)
			d.parts = append(d.parts, p)
		}, "made like a file", ostree.ErrCorrupt},
		{"a commit in a part", func(d *madeDelta) { d.parts[0].object(ostree.TypeCommit, to) }, "holds a commit", ostree.ErrCorrupt},
		{"names of objects", func(d *madeDelta) { d.parts[0].objects = append(d.parts[0].objects, 1) }, "names of objects", ostree.ErrCorrupt},
		{"newer version", func(d *madeDelta) { d.parts[0].version = 1 }, "version 1", errors.ErrUnsupported},
		{"part changed", func(d *madeDelta) { d.parts[0].lie = func(b []byte) []byte { b[len(b)-1]++; return b } }, "part 0: corrupt: checksum is", ostree.ErrCorrupt},
		{"part cut", func(d *madeDelta) { d.parts[0].lie = func(b []byte) []byte { return b[:len(b)-1] } }, "checksum is", ostree.ErrCorrupt},
		{"part longer than said", func(d *madeDelta) { d.parts[0].addSize = -1 }, "is longer than", ostree.ErrCorrupt},
		{"packed part changed", func(d *madeDelta) {
			d.parts[0].pack = 'x'
			d.parts[0].lie = func(b []byte) []byte { b[20] ^= 4; return b }
		}, "checksum is", ostree.ErrCorrupt},
		{"packed part damaged", func(d *madeDelta) {
			d.parts[0].pack = 'x'
			d.parts[0].repack = func(b []byte) []byte { b[len(b)/2] ^= 4; return b }
		}, "part 0: corrupt: xz", ostree.ErrCorrupt},
		{"packed part cut", func(d *madeDelta) {
			d.parts[0].pack = 'x'
			d.parts[0].repack = func(b []byte) []byte { return b[:len(b)-9] }
		}, "part 0: corrupt: xz", ostree.ErrCorrupt},
		{"compression", func(d *madeDelta) { d.parts[0].repack = func(b []byte) []byte { b[0] = 'y'; return b } }, "compression 'y'", ostree.ErrCorrupt},
		{"not xz", func(d *madeDelta) { d.parts[0].repack = func(b []byte) []byte { b[0] = 'x'; return b } }, "not compressed with xz", ostree.ErrCorrupt},
		{"no bytes", func(d *madeDelta) { d.parts[0].repack = func(b []byte) []byte { return nil } }, "ends early", ostree.ErrCorrupt},
		{"empty part", func(d *madeDelta) { d.parts[0].edit = func([]byte) []byte { return nil } }, "framing offsets", ostree.ErrCorrupt},
		{"short part", func(d *madeDelta) { d.parts[0].edit = func([]byte) []byte { return []byte{1, 2} } }, "framing offsets", ostree.ErrCorrupt},
		{"framing", func(d *madeDelta) { d.parts[0].edit = func([]byte) []byte { return []byte{9, 9, 9, 9} } }, "ends at 9 of 1", ostree.ErrCorrupt},
		{"framing backwards", func(d *madeDelta) { d.parts[0].edit = func([]byte) []byte { return []byte{0, 0, 0, 1, 0, 2} } }, "ends at", ostree.ErrCorrupt},
		{"byte order", func(d *madeDelta) { d.order = 'm' }, "byte order 'm'", ostree.ErrCorrupt},
		{"another commit", func(d *madeDelta) { d.to = from }, "leads to commit", ostree.ErrCorrupt},
		{"no commit", func(d *madeDelta) { d.commit = []byte{} }, "", ostree.ErrCorrupt},
		{"no start", func(d *madeDelta) { d.from = wanted }, "which the delta leads from", fs.ErrNotExist},
		{"names of deltas", func(d *madeDelta) { d.parents = []byte{1} }, "names of other deltas", ostree.ErrCorrupt},
		{"fallback", func(d *madeDelta) { d.fallback = []ostree.DeltaFallback{{Type: ostree.TypeFile, Checksum: wanted}} }, "which is not in the delta", fs.ErrNotExist},
		{"odd fallback", func(d *madeDelta) { d.fallback = []ostree.DeltaFallback{{Type: ostree.TypeCommit, Checksum: wanted}} }, "fallback 0 is a commit", ostree.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := wholeDelta(t, src, to, 1<<20)
			// The file is left to the case.
			d.from = from
			p := newPart()
			commit, err := src.ReadCommit(t.Context(), to)
			require.NoError(t, err)
			p.whole(t, src, ostree.TypeDirTree, commit.RootTree)
			d.parts = []*madePart{p}
			c.edit(d)
			for i, r := range into {
				_, err := r.ApplyDelta(t.Context(), d.write(t), nil)
				require.ErrorIs(t, err, c.is)
				require.ErrorContains(t, err, c.want)
				require.NotContains(t, err.Error(), "\n", "one error")
				require.Equal(t, before[i], snapshot(t, r.Path()))
				requireClean(t, r)
			}
		})
	}
}

// TestDeltaDamage flips bits of a delta and cuts it: each change is found, or
// the commit is the same.
func TestDeltaDamage(t *testing.T) {
	data, err := os.ReadFile("testdata/first.delta")
	require.NoError(t, err)
	want, err := ostree.ParseDeltaName("4fa391634ce4440d71a9ac6da9e7bb3dfa397c3e1e625c957a5687b2ffd72786")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "delta")
	r := newRepo(t, ostree.ModeArchive)
	harmless := 0
	try := func(what string, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o644))
		c, err := r.ApplyDelta(t.Context(), path, nil)
		if err == nil {
			require.Equal(t, want.To, c, what)
			require.NoError(t, r.Fsck(t.Context(), nil))
			harmless++
			r = newRepo(t, ostree.ModeArchive)
			return
		}
		if !errors.Is(err, ostree.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errors.ErrUnsupported) {
			t.Fatal(what, err)
		}
		require.NotContains(t, err.Error(), "\n", "one error")
		require.Empty(t, objectNames(t, r.Path()), what)
	}
	for cut := 0; cut < len(data); cut += 41 {
		try(fmt.Sprint("cut at ", cut), data[:cut])
	}
	require.Zero(t, harmless)
	step := 7
	if interop.Enabled() {
		step = 3
	}
	for i := 0; i < len(data); i += step {
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		try(fmt.Sprint("byte ", i), bad)
	}
	// Time, sizes, and what is in the metadata besides.
	require.Less(t, harmless, 60)
	requireClean(t, r)
}

// TestSignedDelta: signatures count where a verifier is given, and one has to be
// given where the config says so.
func TestSignedDelta(t *testing.T) {
	src := newRepo(t, ostree.ModeArchive)
	c, err := src.Commit(t.Context(), literal(dir("."), file("a", "content")), nil)
	require.NoError(t, err)
	d := wholeDelta(t, src, c, 1000)
	d.inline = true
	superblock, _ := d.superblock()
	key := exampleKey()
	sig, err := key.Sign(t.Context(), bytes.NewReader(superblock))
	require.NoError(t, err)
	sign := func(key string, sig []byte) string {
		var list gvariant.ArrayBuilder
		list.Reset(parseType("aay"))
		list.Add(sig)
		dict, err := ostree.MarshalMetadata([]ostree.MetadataItem{{Key: key, Value: ostree.Variant{Type: "aay", Data: list.Bytes()}}})
		require.NoError(t, err)
		data := must(gvariant.AppendTuple(nil, parseType("(taya{sv})"), []byte("OSTSGNDT"), superblock, dict))
		path := filepath.Join(t.TempDir(), "delta")
		require.NoError(t, os.WriteFile(path, data, 0o644))
		return path
	}
	good := sign("ostree.sign.ed25519", sig)
	trusted := verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(key.Public())}})
	stranger := verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(strings.Repeat("A", 43) + "=")}})
	strict := func(t testing.TB) *ostree.Repo {
		r := newRepo(t, ostree.ModeBareUser)
		require.NoError(t, r.SetConfig(t.Context(), "core", "sign-verify-deltas", "true"))
		r, err := ostree.Open(t.Context(), r.Path(), nil)
		require.NoError(t, err)
		t.Cleanup(func() { r.Close() })
		return r
	}
	for _, v := range []*ostree.Verifier{nil, trusted} {
		r := newRepo(t, ostree.ModeBareUser)
		if v != nil {
			r = strict(t)
		}
		got, err := r.ApplyDelta(t.Context(), good, &ostree.ApplyDeltaOptions{Verifier: v})
		require.NoError(t, err)
		require.Equal(t, c, got)
	}
	_, err = strict(t).ApplyDelta(t.Context(), good, nil)
	require.ErrorIs(t, err, ostree.ErrSignature)
	require.ErrorContains(t, err, "core.sign-verify-deltas")
	for _, path := range []string{d.write(t), sign("ostree.sign.ed25519", append([]byte{sig[0] ^ 1}, sig[1:]...)), sign("ostree.sign.dummy", sig)} {
		_, err = newRepo(t, ostree.ModeBareUser).ApplyDelta(t.Context(), path, &ostree.ApplyDeltaOptions{Verifier: trusted})
		require.ErrorIs(t, err, ostree.ErrSignature)
	}
	_, err = newRepo(t, ostree.ModeBareUser).ApplyDelta(t.Context(), good, &ostree.ApplyDeltaOptions{Verifier: stranger})
	require.ErrorIs(t, err, ostree.ErrSignature)
}

// TestDeltaPartial: a delta completes a commit that is marked partial, and does
// nothing where the commit is whole.
func TestDeltaPartial(t *testing.T) {
	src := newRepo(t, ostree.ModeArchive)
	c, err := src.Commit(t.Context(), treegen.Tree(2, &treegen.Options{Files: 20, MaxSize: 1000}), &ostree.CommitOptions{Ref: "x"})
	require.NoError(t, err)
	dir := wholeDelta(t, src, c, 1<<20).write(t)
	r := newRepo(t, ostree.ModeBareUser)
	require.NoError(t, r.PullLocal(t.Context(), src, &ostree.PullLocalOptions{CommitsOnly: true}))
	partial, err := r.Partial(t.Context(), c)
	require.NoError(t, err)
	require.True(t, partial)
	_, err = r.ApplyDelta(t.Context(), dir, nil)
	require.NoError(t, err)
	partial, err = r.Partial(t.Context(), c)
	require.NoError(t, err)
	require.False(t, partial)
	require.NoError(t, r.Fsck(t.Context(), nil))
	require.NoError(t, os.Remove(filepath.Join(dir, "0")))
	_, err = r.ApplyDelta(t.Context(), dir, nil)
	require.NoError(t, err, "the part is not needed")
	_, err = newRepo(t, ostree.ModeBareUser).ApplyDelta(t.Context(), dir, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "part 0: open 0")
	require.NoError(t, os.Symlink("superblock", filepath.Join(dir, "0")))
	_, err = newRepo(t, ostree.ModeBareUser).ApplyDelta(t.Context(), dir, nil)
	require.Error(t, err, "a part that is a link")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newRepo(t, ostree.ModeBareUser).ApplyDelta(ctx, dir, nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.ApplyDelta(t.Context(), filepath.Join(dir, "nothing"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = r.ApplyDelta(t.Context(), dir, &ostree.ApplyDeltaOptions{Workers: 65})
	require.ErrorContains(t, err, "65 workers")
}

// TestDeltaOnlyUser: a bare-user-only repository refuses what it can't keep.
func TestDeltaOnlyUser(t *testing.T) {
	src := newRepo(t, ostree.ModeArchive)
	e := file("a", "content")
	e.UID = 7
	c, err := src.Commit(t.Context(), literal(dir("."), e), nil)
	require.NoError(t, err)
	r := newRepo(t, ostree.ModeBareUserOnly)
	_, err = r.ApplyDelta(t.Context(), wholeDelta(t, src, c, 1000).write(t), nil)
	require.ErrorContains(t, err, "owner 7:0")
	require.Empty(t, objectNames(t, r.Path()))
}

func TestDeltaNames(t *testing.T) {
	for _, bad := range []string{"", "x", strings.Repeat("a", 64) + "-", strings.Repeat("a", 64) + "-x", "-" + strings.Repeat("a", 64), strings.Repeat("A", 64)} {
		_, err := ostree.ParseDeltaName(bad)
		require.Error(t, err, bad)
	}
	r := newRepo(t, ostree.ModeArchive)
	for _, err := range r.Deltas(t.Context()) {
		t.Fatal("there are none", err)
	}
	name, err := ostree.ParseDeltaName(strings.Repeat("ab", 32) + "-" + strings.Repeat("cd", 32))
	require.NoError(t, err)
	_, err = r.ReadDelta(t.Context(), name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	// What else may lie about is no delta.
	good := filepath.Join(r.Path(), filepath.FromSlash(ostree.DeltaPath(name)))
	for _, folder := range []string{good, good + "x", filepath.Join(r.Path(), "deltas", "ab", "c"), filepath.Join(r.Path(), "deltas", "long", "name")} {
		require.NoError(t, os.MkdirAll(folder, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "superblock"), nil, 0o644))
	}
	require.NoError(t, os.WriteFile(filepath.Join(r.Path(), "deltas", "file"), nil, 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(filepath.Dir(good), strings.Repeat("A", 41)), 0o755))
	var names []ostree.DeltaName
	for n, err := range r.Deltas(t.Context()) {
		require.NoError(t, err)
		names = append(names, n)
	}
	require.Equal(t, []ostree.DeltaName{name}, names)
	_, err = r.ReadDelta(t.Context(), name)
	require.ErrorIs(t, err, ostree.ErrCorrupt)
}

const crashDeltaVariable = "OSTREE_TEST_CRASH_DELTA"

// crashDelta is the child of TestDeltaKilled.
func crashDelta(repo, delta string) error {
	ctx := context.Background()
	r, err := ostree.Open(ctx, repo, nil)
	if err != nil {
		return err
	}
	fmt.Println("apply")
	_, err = r.ApplyDelta(ctx, delta, nil)
	fmt.Println("done", err)
	select {}
}

// TestDeltaKilled kills a process that applies a delta at many points: nothing of
// it is there, or all.
func TestDeltaKilled(t *testing.T) {
	src := newRepo(t, ostree.ModeArchive)
	c, err := src.Commit(t.Context(), treegen.Tree(5, &treegen.Options{Files: 100, MaxSize: 1 << 20}), nil)
	require.NoError(t, err)
	delta := wholeDelta(t, src, c, 200_000).write(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	killed := 0
	for i := range 6 {
		r := newRepo(t, modes[i%2])
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), crashVariable+"="+r.Path(), crashDeltaVariable+"="+delta)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan())
		time.Sleep(time.Duration(i) * 5 * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		killed += len(staging(t, r))
		require.NoError(t, r.Fsck(t.Context(), nil))
		if interop.Enabled() {
			run(t, "ostree", "--repo="+r.Path(), "fsck", "-q")
		}
		got, err := r.ApplyDelta(t.Context(), delta, nil)
		require.NoError(t, err)
		require.Equal(t, c, got)
		require.NoError(t, r.Fsck(t.Context(), nil))
	}
	require.NotZero(t, killed, "no kill hit a transaction")
}

func FuzzDelta(f *testing.F) {
	for _, name := range []string{"testdata/first.delta", "testdata/second.delta"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name, err := fuzzbound.Parse(t, 64, ostree.DecodeDelta, data)
		if err != nil {
			if !errors.Is(err, ostree.ErrCorrupt) && !errors.Is(err, errors.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		again, err := ostree.ParseDeltaName(name.String())
		if err != nil || again != name {
			t.Fatal(err, again, name)
		}
	})
}

// TestDeltaPartAttributes: objects of one set of attributes share what was read of it.
func TestDeltaPartAttributes(t *testing.T) {
	p := newPart()
	file := &ostree.File{Mode: ostree.ModeRegular | 0o644}
	for i := range 2000 {
		file.Xattrs = append(file.Xattrs, ostree.Xattr{Name: fmt.Sprintf("user.%04d", i), Value: []byte("v")})
	}
	mode, xattrs := p.owner(file)
	at := p.put("abc")
	for i := range 500 {
		p.object(ostree.TypeFile, ostree.Checksum{1, byte(i), byte(i >> 8)})
		p.op('S', mode, xattrs, 3, at)
	}
	data := p.file()
	fuzzbound.Within(t, 16<<20+64*(len(p.objects)+len(data)), func() {
		n, err := ostree.CountDeltaPart(t.Context(), p.objects, data)
		if err != nil || n != 500 {
			t.Fatal(n, err)
		}
	})
}

func FuzzDeltaPart(f *testing.F) {
	p := newPart()
	p.object(ostree.TypeDirTree, ostree.Checksum{1})
	p.object(ostree.TypeFile, ostree.Checksum{2})
	p.object(ostree.TypeFile, ostree.Checksum{3})
	mode, xattrs := p.owner(&ostree.File{Mode: ostree.ModeRegular | 0o644, Xattrs: []ostree.Xattr{{Name: "user.a", Value: []byte("b")}}})
	p.op('S', 3, p.put("abc"))
	p.op('S', mode, xattrs, 3, 0)
	p.op('o', mode, xattrs, 40)
	p.op('r', p.put(strings.Repeat("c", 32)))
	p.op('B', 0, 3)
	p.op('R')
	p.op('c')
	f.Add(p.objects, p.file())
	p.pack = 'x'
	f.Add(p.objects, p.file())
	f.Fuzz(func(t *testing.T, objects, data []byte) {
		var n int
		var err error
		// xz's dictionary and the spool of 8 MiB beside what the input is.
		fuzzbound.Within(t, 32<<20+64*(len(objects)+len(data)), func() { n, err = ostree.CountDeltaPart(t.Context(), objects, data) })
		if err != nil {
			if !errors.Is(err, ostree.ErrCorrupt) && !errors.Is(err, errors.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		if n != len(objects)/33 {
			t.Fatal(n, len(objects))
		}
	})
}

func BenchmarkApplyDelta(b *testing.B) {
	src := newRepo(b, ostree.ModeArchive)
	c, err := src.Commit(b.Context(), treegen.Tree(1, &treegen.Options{Files: 2000, MaxSize: 1 << 20}), nil)
	require.NoError(b, err)
	d := wholeDelta(b, src, c, 32<<20)
	size := 0
	for _, p := range d.parts {
		size += len(p.blob)
	}
	dir := d.write(b)
	for _, mode := range modes {
		b.Run(string(mode), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				r := newRepo(b, mode)
				_, err := r.ApplyDelta(b.Context(), dir, nil)
				require.NoError(b, err)
			}
		})
	}
}
