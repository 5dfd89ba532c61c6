package ext4_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/ext4"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
)

var update = flag.Bool("update", false, "make the file systems in testdata anew, with mke2fs")

const entryText = "title OS\noptions root=UUID=1 ignition.platform.id=metal\nlinux /ostree/x/vmlinuz\n"

// bootTree makes a folder like a /boot in dir; many is how many files its largest
// directory has.
func bootTree(t testing.TB, dir string, many int) {
	t.Helper()
	long := strings.Repeat("long/../", 20) + "loader.1"
	for _, d := range []string{"loader.1/entries", "grub2", "many", "long"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for name, content := range map[string]string{
		"loader.1/entries/ostree-1.conf": entryText,
		"grub2/grub.cfg":                 strings.Repeat("# a line of the configuration\n", 400),
		"tiny":                           "x",
		"empty":                          "",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	for i := range many {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "many", strings.Repeat("n", 60)+string(rune('a'+i%26))+strings.Repeat("m", i/26)), nil, 0o644))
	}
	for name, target := range map[string]string{"loader": "loader.1", "boot": ".", "far": long, "absolute": "/loader.1", "loop": "loop", "out": "../../../../etc"} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, name)))
	}
}

// mke2fs makes a file system of a folder and gives its path. All that is random
// is fixed.
func mke2fs(t testing.TB, tree, size string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fs")
	args = append([]string{
		"-q", "-F", "-L", "boot", "-U", "96d15588-3596-4b3c-adca-a2ff7279ea63", "-E", "hash_seed=96d15588-3596-4b3c-adca-a2ff7279ea64",
		"-d", tree,
	}, append(args, file, size)...)
	cmd := exec.CommandContext(t.Context(), "mke2fs", args...)
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME=1700000000", "MKE2FS_CONFIG=/dev/null")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return file
}

func open(t testing.TB, data []byte) *ext4.FS {
	t.Helper()
	f, err := ext4.Open(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	return f
}

// apply writes steps in place.
func apply(data []byte, steps []ext4.Step) []byte {
	data = bytes.Clone(data)
	for _, step := range steps {
		for _, p := range step {
			copy(data[p.Offset:], p.Data)
		}
	}
	return data
}

// fixtures are small file systems in testdata, so that no tool is needed.
var fixtures = map[string][]string{
	"modern": {"-t", "ext4", "-b", "1024", "-I", "256", "-N", "64", "-O", "metadata_csum,64bit,inline_data,flex_bg,extent,^has_journal,^resize_inode"},
	"coreos": {"-t", "ext4", "-b", "1024", "-I", "256", "-N", "64", "-J", "size=1", "-O", "metadata_csum,64bit,flex_bg,extent,has_journal,^resize_inode"},
	"plain":  {"-t", "ext4", "-b", "1024", "-I", "256", "-N", "64", "-O", "^metadata_csum,^64bit,extent,^has_journal,^resize_inode,inline_data"},
	"old":    {"-t", "ext2", "-b", "1024", "-I", "128", "-N", "64", "-O", "^resize_inode,^dir_index"},
}

// fixture reads one; with -update it is made anew first.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	file := filepath.Join("testdata", name+".gz")
	if *update {
		tree, size := t.TempDir(), "256"
		bootTree(t, tree, 20)
		if name == "coreos" {
			size = "1536"
		}
		data, err := os.ReadFile(mke2fs(t, tree, size, fixtures[name]...))
		require.NoError(t, err)
		var out bytes.Buffer
		z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
		require.NoError(t, err)
		_, err = z.Write(data)
		require.NoError(t, errors.Join(err, z.Close()))
		require.NoError(t, os.WriteFile(file, out.Bytes(), 0o644))
	}
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(z)
	require.NoError(t, err)
	return data
}

func TestRead(t *testing.T) {
	for name := range fixtures {
		t.Run(name, func(t *testing.T) {
			data := fixture(t, name)
			require.True(t, ext4.Probe(bytes.NewReader(data)))
			f := open(t, data)
			for _, path := range []string{
				"/loader.1/entries/ostree-1.conf", "loader/entries/ostree-1.conf", "/boot/boot/loader/entries/ostree-1.conf",
				"/far/entries/ostree-1.conf", "/absolute/entries/../entries/./ostree-1.conf", "/../..//loader/entries/ostree-1.conf",
			} {
				got, err := f.ReadFile(path)
				require.NoError(t, err, path)
				require.Equal(t, entryText, string(got), path)
			}
			for path, want := range map[string]int{"/tiny": 1, "/empty": 0, "/grub2/grub.cfg": 12000} {
				got, err := f.ReadFile(path)
				require.NoError(t, err, path)
				require.Len(t, got, want, path)
			}
			names, err := f.ReadDir("/loader/entries")
			require.NoError(t, err)
			require.Equal(t, []string{"ostree-1.conf"}, names)
			names, err = f.ReadDir("/many")
			require.NoError(t, err)
			require.Len(t, names, 20)
			for path, want := range map[string]error{
				"/loader/absent": fs.ErrNotExist, "/out/passwd": fs.ErrNotExist, "/loop/x": fs.ErrInvalid, "/grub2": fs.ErrInvalid,
				"/tiny/x": fs.ErrInvalid,
			} {
				_, err := f.ReadFile(path)
				require.ErrorIs(t, err, want, path)
			}
			_, err = f.ReadDir("/tiny")
			require.ErrorIs(t, err, fs.ErrInvalid)
		})
	}
}

func TestWrite(t *testing.T) {
	longer := strings.ReplaceAll(entryText, "metal", "aws console=tty0 console=ttyS0,115200n8")
	for name := range fixtures {
		t.Run(name, func(t *testing.T) {
			data := fixture(t, name)
			for what, content := range map[string]string{
				"longer": longer, "shorter": "x", "none": "", "more blocks": strings.Repeat(longer, 40), "same": entryText,
			} {
				t.Run(what, func(t *testing.T) {
					f := open(t, data)
					require.NoError(t, f.WriteFile("/loader/entries/ostree-1.conf", []byte(content)))
					got, err := f.ReadFile("/loader/entries/ostree-1.conf")
					require.NoError(t, err)
					require.Equal(t, content, string(got))
					require.Equal(t, what == "same", len(f.Steps()) == 0)
					inAnyOrder(t, f.Steps())

					after := open(t, apply(data, f.Steps()))
					got, err = after.ReadFile("/loader/entries/ostree-1.conf")
					require.NoError(t, err)
					require.Equal(t, content, string(got))
					got, err = after.ReadFile("/grub2/grub.cfg")
					require.NoError(t, err)
					require.Len(t, got, 12000)
					// Written back, the file system has the room again that it had.
					require.NoError(t, after.WriteFile("/loader/entries/ostree-1.conf", []byte(strings.Repeat(longer, 41))))
				})
			}
		})
	}
}

func TestWriteTwice(t *testing.T) {
	data := fixture(t, "coreos")
	f := open(t, data)
	require.NoError(t, f.WriteFile("/grub2/grub.cfg", []byte("1")))
	require.NoError(t, f.WriteFile("/tiny", bytes.Repeat([]byte("2"), 5000)))
	require.NoError(t, f.WriteFile("/grub2/grub.cfg", []byte("3")))
	after := open(t, apply(data, f.Steps()))
	for path, want := range map[string]string{"/grub2/grub.cfg": "3", "/tiny": strings.Repeat("2", 5000)} {
		got, err := after.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// inAnyOrder checks that no two patches of a step are of the same bytes.
func inAnyOrder(t *testing.T, steps []ext4.Step) {
	t.Helper()
	for i, step := range steps {
		step = slices.SortedFunc(slices.Values(step), func(a, b ext4.Patch) int { return cmp.Compare(a.Offset, b.Offset) })
		for j, p := range step[1:] {
			require.LessOrEqual(t, step[j].Offset+int64(len(step[j].Data)), p.Offset, "step %d", i)
		}
	}
}

func TestCreate(t *testing.T) {
	for _, name := range []string{"coreos", "old"} {
		t.Run(name, func(t *testing.T) {
			data := fixture(t, name)
			f := open(t, data)
			const text = "# new\n"
			require.NoError(t, f.CreateFile("/boot/grub2/console.cfg", "grub.cfg", []byte(text)))
			got, err := f.ReadFile("/grub2/console.cfg")
			require.NoError(t, err)
			require.Equal(t, text, string(got))
			require.Len(t, f.Steps(), 4, "content, its blocks, inode, name")
			inAnyOrder(t, f.Steps())
			before := f.Steps()
			require.ErrorIs(t, f.CreateFile("/grub2/console.cfg", "grub.cfg", nil), fs.ErrExist)
			require.ErrorIs(t, f.CreateFile("/grub2/x", "absent", nil), fs.ErrNotExist)
			require.ErrorIs(t, f.CreateFile("/absent/x", "grub.cfg", nil), fs.ErrNotExist)
			require.ErrorIs(t, f.CreateFile("/tiny/x", "grub.cfg", nil), fs.ErrInvalid)
			require.ErrorIs(t, f.CreateFile("/", "tiny", nil), fs.ErrInvalid)
			require.ErrorIs(t, f.CreateFile("/x", "grub2", nil), fs.ErrInvalid)
			require.ErrorIs(t, f.CreateFile("/"+strings.Repeat("x", 256), "tiny", nil), fs.ErrInvalid)
			require.ErrorIs(t, f.CreateFile("/x", "tiny", make([]byte, 4<<20)), ext4.ErrFull)
			require.Equal(t, before, f.Steps())
			for i := 0; ; i++ { // until the directory's block is full
				if err := f.CreateFile(fmt.Sprintf("/grub2/%d-%s", i, strings.Repeat("y", 200)), "grub.cfg", nil); err != nil {
					require.ErrorIs(t, err, ext4.ErrFull)
					require.Greater(t, i, 1)
					break
				}
			}
			names, err := open(t, apply(data, f.Steps())).ReadDir("/grub2")
			require.NoError(t, err)
			require.Contains(t, names, "console.cfg")
		})
	}
}

// A write that fails leaves nothing to be written, and the view as it was.
func TestWriteRefused(t *testing.T) {
	data := fixture(t, "plain")
	f := open(t, data)
	require.NoError(t, f.WriteFile("/tiny", []byte("y")))
	before := f.Steps()
	require.ErrorIs(t, f.WriteFile("/empty", bytes.Repeat([]byte("full"), 1<<16)), ext4.ErrFull)
	require.ErrorIs(t, f.WriteFile("/empty", make([]byte, ext4.MaxFileSize+1)), errors.ErrUnsupported)
	require.ErrorIs(t, f.WriteFile("/grub2", nil), fs.ErrInvalid)
	require.ErrorIs(t, f.WriteFile("/absent", nil), fs.ErrNotExist)
	require.Equal(t, before, f.Steps())
	got, err := f.ReadFile("/empty")
	require.NoError(t, err)
	require.Empty(t, got)

	old := open(t, fixture(t, "old"))
	require.ErrorIs(t, old.WriteFile("/tiny", make([]byte, 13<<10)), errors.ErrUnsupported, "more than 12 blocks without extents")
}

// A file system without a free block gets what fits into the blocks there are.
func TestFull(t *testing.T) {
	data := fixture(t, "coreos")
	f := open(t, data)
	names, err := f.ReadDir("/many")
	require.NoError(t, err)
	for _, name := range names {
		for size := 1 << 20; size > 0; size /= 2 {
			err := f.WriteFile("/many/"+name, bytes.Repeat([]byte("#"), size))
			if err == nil {
				break
			}
			require.ErrorIs(t, err, ext4.ErrFull)
		}
	}
	full := open(t, apply(data, f.Steps()))
	require.ErrorIs(t, full.WriteFile("/empty", []byte("1")), ext4.ErrFull)
	changed := strings.ReplaceAll(entryText, "metal", "azure")
	require.NoError(t, full.WriteFile("/loader/entries/ostree-1.conf", []byte(changed)))
	require.Len(t, full.Steps(), 1, "the same size: the inode stays")
	require.NoError(t, full.WriteFile("/loader/entries/ostree-1.conf", []byte(changed+"# longer\n")))
	require.Len(t, full.Steps(), 3, "and once more with the size")
	require.ErrorIs(t, full.WriteFile("/loader/entries/ostree-1.conf", make([]byte, 1025)), ext4.ErrFull)
	got, err := full.ReadFile("/loader/entries/ostree-1.conf")
	require.NoError(t, err)
	require.Equal(t, changed+"# longer\n", string(got))
}

func TestRefused(t *testing.T) {
	base := fixture(t, "plain")
	for _, tc := range []struct {
		name string
		at   int
		data []byte
		want error
		text string
	}{
		{"journal to replay", 1024 + 0x60, []byte{0x46}, errors.ErrUnsupported, "not unmounted cleanly"},
		{"orphans", 1024 + 0xe8, []byte{12}, errors.ErrUnsupported, "not unmounted cleanly"},
		{"orphan file in use", 1024 + 0x66, []byte{1}, errors.ErrUnsupported, "not unmounted cleanly"},
		{"errors", 1024 + 0x3a, []byte{3}, errors.ErrUnsupported, "not clean"},
		{"in use", 1024 + 0x3a, []byte{0}, errors.ErrUnsupported, "not clean"},
		{"encryption", 1024 + 0x62, []byte{1}, errors.ErrUnsupported, "feature encrypt"},
		{"case folding", 1024 + 0x62, []byte{2}, errors.ErrUnsupported, "feature casefold"},
		{"mounts", 1024 + 0x61, []byte{0x83}, errors.ErrUnsupported, "feature mmp"},
		{"quota", 1024 + 0x65, []byte{1}, errors.ErrUnsupported, "feature quota"},
		{"clusters", 1024 + 0x65, []byte{2}, errors.ErrUnsupported, "feature bigalloc"},
		{"unknown", 1024 + 0x63, []byte{0x80}, errors.ErrUnsupported, "feature 0x80000000"},
		{"external journal", 1024 + 0x5c, []byte{0x3c}, errors.ErrUnsupported, "external journal"},
		{"magic", 1024 + 0x38, []byte{0}, ext4.ErrCorrupt, "no superblock"},
		{"block size", 1024 + 0x18, []byte{7}, ext4.ErrCorrupt, "block size"},
		{"more blocks than there are", 1024 + 4, []byte{0, 0, 1}, ext4.ErrCorrupt, "says it has 65536 blocks"},
		{"blocks per group", 1024 + 0x20, []byte{1, 0}, ext4.ErrCorrupt, "blocks per group"},
		{"inodes per group", 1024 + 0x28, []byte{0, 0}, ext4.ErrCorrupt, "inodes per group"},
		{"inode size", 1024 + 0x58, []byte{3}, ext4.ErrCorrupt, "inode size"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := bytes.Clone(base)
			copy(data[tc.at:], tc.data)
			_, err := ext4.Open(bytes.NewReader(data), int64(len(data)))
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.text)
		})
	}
	_, err := ext4.Open(bytes.NewReader(base[:2000]), 2000)
	require.ErrorIs(t, err, ext4.ErrCorrupt)
	_, err = ext4.Open(bytes.NewReader(base[:100<<10]), int64(len(base)))
	require.NoError(t, err, "what is missing is not read")
}

// Every byte of metadata that is read is under a checksum: with any of them wrong
// the file is refused or has its content.
func TestChecksums(t *testing.T) {
	base := fixture(t, "coreos")
	open(t, base)
	data := bytes.Clone(base)
	wrong := 0
	for at := 1024; at < len(base); at += 5 {
		if base[at] == 0 {
			continue // most of it
		}
		data[at] ^= 0x10
		f, err := ext4.Open(bytes.NewReader(data), int64(len(data)))
		if err == nil {
			err = f.WriteFile("/loader/entries/ostree-1.conf", []byte("new"))
		}
		if err != nil {
			wrong++
		} else {
			got, err := open(t, apply(data, f.Steps())).ReadFile("/loader/entries/ostree-1.conf")
			require.NoError(t, err, "byte %d", at)
			require.Equal(t, "new", string(got))
		}
		data[at] ^= 0x10
	}
	require.Greater(t, wrong, 200)
}

// A directory has no holes, so that it is no larger than its file system.
func TestLyingDirectory(t *testing.T) {
	data := fixture(t, "old")
	sb := data[1024:]
	require.EqualValues(t, 0, binary.LittleEndian.Uint32(sb[0x18:]), "blocks of 1024 bytes")
	table := binary.LittleEndian.Uint32(data[2048+8:]) // of the first group
	root := int(table)*1024 + int(binary.LittleEndian.Uint16(sb[0x58:]))
	_, err := open(t, data).ReadDir("/")
	require.NoError(t, err)
	binary.LittleEndian.PutUint32(data[root+4:], ext4.MaxDirSize)
	require.Less(t, fuzzbound.Allocated(func() { _, err = open(t, data).ReadDir("/") }), 1<<20)
	require.ErrorIs(t, err, ext4.ErrCorrupt)
	require.ErrorContains(t, err, "directory of 16777216 bytes in a file system of 256 blocks of 1024")
}

// TestLyingMap: a map that leads to itself makes a large file of a small file system, which
// takes the memory of its content alone.
func TestLyingMap(t *testing.T) {
	const block = 100 // that is free
	data := fixture(t, "old")
	le := binary.LittleEndian
	entry := bytes.Index(data, []byte("\x0d\x01ostree-1.conf")) - 6
	table := int(le.Uint32(data[2048+8:])) * 1024
	inode := data[table+int(le.Uint32(data[entry:])-1)*int(le.Uint16(data[1024+0x58:])):]
	le.PutUint32(inode[4:], ext4.MaxFileSize)
	le.PutUint32(inode[0x28+4*13:], block)
	for i := range 256 {
		le.PutUint32(data[block*1024+4*i:], block)
	}
	f := open(t, data)
	var content []byte
	var err error
	require.Less(t, fuzzbound.Allocated(func() { content, err = f.ReadFile("/loader/entries/ostree-1.conf") }), ext4.MaxFileSize+2<<20)
	require.NoError(t, err)
	require.Equal(t, data[block*1024:][:1024], content[ext4.MaxFileSize-1024:])
}

// lyingBitmap is edits of the file system "old", as FuzzFS has them, after which its
// bitmap says that only the blocks in free are free.
func lyingBitmap(free ...int) (edits []byte) {
	const bitmap = 3 * 1024 // it has 256 blocks of 1024 bytes, numbered from 1
	for i := range 32 {
		used := byte(0xff)
		for _, n := range free {
			if (n-1)/8 == i {
				used &^= 1 << ((n - 1) % 8)
			}
		}
		at := bitmap + i
		edits = append(edits, byte(at), byte(at>>8), byte(at>>16), used)
	}
	return edits
}

func edited(data, edits []byte) []byte {
	for e := range slices.Chunk(edits[:len(edits)&^3], 4) {
		data[(int(e[0])|int(e[1])<<8|int(e[2])<<16)%len(data)] = e[3]
	}
	return data
}

// TestLyingBitmap: what is written where something else is already does no harm but to
// that.
func TestLyingBitmap(t *testing.T) {
	const grub = 27 // the block of the folder grub2
	data := fixture(t, "old")
	require.Contains(t, string(data[grub*1024:][:1024]), "grub.cfg")
	f := open(t, edited(data, lyingBitmap(grub-1, grub)))
	for _, content := range [][]byte{make([]byte, 5), bytes.Repeat([]byte("\xfc\xff"), 512)} {
		require.NoError(t, f.WriteFile("/loader/entries/ostree-1.conf", []byte("new")))
		steps := len(f.Steps())
		require.ErrorIs(t, f.CreateFile("/grub2/new", "grub.cfg", content), ext4.ErrCorrupt)
		require.Len(t, f.Steps(), steps)
	}

	f = open(t, edited(fixture(t, "old"), lyingBitmap(1)))
	err := f.WriteFile("/loader/entries/ostree-1.conf", []byte("new"))
	require.ErrorIs(t, err, ext4.ErrCorrupt)
	require.ErrorContains(t, err, "block 1, which has the superblock")
	require.Empty(t, f.Steps())
}

// FuzzFS changes bytes of a file system: edits are four bytes each, an offset of
// three and what is to be there.
func FuzzFS(f *testing.F) {
	names := []string{"old", "plain", "modern", "coreos"}
	var bases [][]byte
	for i, name := range names {
		bases = append(bases, fixture(f, name))
		f.Add(uint8(i), []byte{}, []byte("new content"))
		f.Add(uint8(i), []byte{0x18, 4, 0, 1, 0x20, 4, 0, 0x10, 0, 0x14, 0, 2}, bytes.Repeat([]byte("long"), 1000))
	}
	f.Add(uint8(0), lyingBitmap(26, 27), make([]byte, 5))
	f.Fuzz(func(t *testing.T, base uint8, edits, content []byte) {
		data := edited(bytes.Clone(bases[int(base)%len(bases)]), edits)
		// Reading first, of what the image claims; the writing below is of what we have.
		// A file may be one hole.
		fuzzbound.Within(t, ext4.MaxFileSize+1<<20+8*len(data), func() {
			if fsys, err := ext4.Open(bytes.NewReader(data), int64(len(data))); err == nil {
				names, _ := fsys.ReadDir("/loader/entries")
				for _, name := range names[:min(1, len(names))] {
					_, _ = fsys.ReadFile("/loader/entries/" + name)
				}
			}
		})
		fsys, err := ext4.Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		names, err := fsys.ReadDir("/loader/entries")
		if err != nil || len(names) == 0 {
			return
		}
		name := "/loader/entries/" + names[0]
		if fsys.WriteFile(name, content) != nil {
			require.Empty(t, fsys.Steps())
			return
		}
		if steps := len(fsys.Steps()); fsys.CreateFile("/grub2/new", "grub.cfg", content) != nil {
			require.Len(t, fsys.Steps(), steps)
		}
		got, err := fsys.ReadFile(name)
		if err != nil { // a file system whose blocks overlap
			return
		}
		for _, step := range fsys.Steps() {
			for _, p := range step {
				require.LessOrEqual(t, p.Offset+int64(len(p.Data)), int64(len(data)))
			}
		}
		after, err := ext4.Open(bytes.NewReader(apply(data, fsys.Steps())), int64(len(data)))
		if err != nil {
			return
		}
		if again, err := after.ReadFile(name); err == nil {
			require.Equal(t, got, again)
		}
	})
}

func BenchmarkWriteFile(b *testing.B) {
	data := fixture(b, "coreos")
	content := []byte(strings.ReplaceAll(entryText, "metal", "aws"))
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, open(b, data).WriteFile("/loader/entries/ostree-1.conf", content))
	}
}
