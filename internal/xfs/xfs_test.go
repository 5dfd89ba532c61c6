package xfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/xfs"
)

const (
	alephName = ".coreos-aleph-version.json"
	alephText = `{"version": "10.0.20261125-0"}` + "\n"
)

// pattern is n bytes of which each 256 are others.
func pattern(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(1 + i>>8 + i>>16)
	}
	return data
}

func TestReadFile(t *testing.T) {
	broken := pattern(64 << 10)
	for at := 0; at < len(broken); at += 2048 {
		clear(broken[at : at+1024])
	}
	sparse := make([]byte, 1<<20+1)
	copy(sparse, "from the start")
	copy(sparse[600_001:], "in the middle")
	never := append([]byte("a few bytes"), make([]byte, 200_000-11)...)
	made := map[string][]byte{"empty": {}, "large": pattern(5000), "link": []byte(alephText), "sub/below": []byte("content below"), "./sub/..//link": []byte(alephText)}
	v4 := maps.Clone(made)
	v4["far"] = []byte(alephText)
	made[strings.Repeat("n", 255)] = []byte("long")
	for name, files := range map[string]map[string][]byte{"v4": v4, "v5": made, "kernel": {
		"broken": broken, "sparse": sparse, "never written": never,
		"link0": []byte(alephText), "link1": []byte(alephText), "link3": []byte(alephText), "link4": []byte(alephText),
		"names3/000002 of so many names": []byte(alephText), "names30/000029 of so many names": []byte(alephText), "names300/000299 of so many names": []byte(alephText),
	}} {
		t.Run(name, func(t *testing.T) {
			i := load(t, name)
			require.True(t, xfs.Probe(i))
			f, err := xfs.Open(i, i.size)
			require.NoError(t, err)
			files[alephName] = []byte(alephText)
			for name, want := range files {
				got, err := f.ReadFile(name)
				require.NoError(t, err, name)
				require.True(t, bytes.Equal(want, got), name)
			}
			for name, want := range map[string]error{"none": fs.ErrNotExist, "sub/none": fs.ErrNotExist, "/": fs.ErrInvalid, alephName + "/x": fs.ErrInvalid} {
				_, err := f.ReadFile(name)
				require.ErrorIs(t, err, want, name)
				require.ErrorContains(t, err, "xfs: "+name+": ")
			}
		})
	}
	_, err := read(load(t, "kernel"), 20<<20, "loop")
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.False(t, xfs.Probe(strings.NewReader("XFS")))
}

// What is wrong is refused and said, before anything is allocated for it.
func TestRefused(t *testing.T) {
	// Places in the fixtures, as offsets within what has them.
	super := func(*testing.T, *image) int64 { return 0 }
	root := func(_ *testing.T, i *image) int64 { return i.inodeAt(i.u64(56)) }
	aleph := func(t *testing.T, i *image) int64 { return i.inodeOf(t, 0x8000, len(alephText)) }
	file := func(size int) func(*testing.T, *image) int64 {
		return func(t *testing.T, i *image) int64 { return i.inodeOf(t, 0x8000, size) }
	}
	directory := func(size int) func(*testing.T, *image) int64 {
		return func(t *testing.T, i *image) int64 { return i.inodeOf(t, 0x4000, size) }
	}
	link := func(size int) func(*testing.T, *image) int64 {
		return func(t *testing.T, i *image) int64 { return i.inodeOf(t, 0xa000, size) }
	}
	block := func(magic string) func(*testing.T, *image) int64 {
		return func(t *testing.T, i *image) int64 {
			for _, n := range slices.Sorted(maps.Keys(i.sectors)) {
				if string(i.sectors[n][:4]) == magic {
					return n * 512
				}
			}
			require.Fail(t, "no "+magic)
			return 0
		}
	}
	linkBlock := func(t *testing.T, i *image) int64 {
		for n, s := range i.sectors {
			if string(s[:4]) == "XSLM" && i.u32(n*512+8) == 480+26 {
				return n * 512
			}
		}
		require.Fail(t, "no such link")
		return 0
	}
	near := link(len("sub/../" + alephName))
	few, many := "names30/000029 of so many names", "names300/000299 of so many names"
	unsupported := errors.ErrUnsupported
	for _, tc := range []struct {
		name    string
		base    string
		in      func(*testing.T, *image) int64
		at      int64
		data    []byte
		want    error
		text    string
		reading string // alephName
	}{
		{"magic", "v5", super, 0, []byte("X"), nil, "", ""},
		{"other magic", "v5", super, 0, []byte("Y"), xfs.ErrCorrupt, "xfs: no superblock", ""},
		{"mkfs has not finished", "v5", super, 126, []byte{1}, xfs.ErrCorrupt, "mkfs.xfs has not finished", ""},
		{"version 3", "v4", super, 101, []byte{0x93}, unsupported, "xfs: version 3", ""},
		{"version 6", "v5", super, 101, []byte{0xa6}, unsupported, "xfs: version 6", ""},
		{"old directories", "v4", super, 100, []byte{0x94}, unsupported, "directories of version 1", ""},
		{"shared", "v4", super, 100, []byte{0xb6}, unsupported, "feature shared", ""},
		{"unknown feature of version 4", "v4", super, 203, []byte{0x9a}, unsupported, "feature 0x10 of version 4", ""},
		{"no types in entries", "v4", super, 100, []byte{0x34}, xfs.ErrCorrupt, "directory: inode ", ""},
		{"in need of repair", "v5", super, 219, []byte{0x1b}, unsupported, "in need of repair", ""},
		{"metadata directory", "v5", super, 218, []byte{1}, unsupported, "feature metadir", ""},
		{"zoned", "v5", super, 218, []byte{2}, unsupported, "feature zoned", ""},
		{"unknown feature", "v5", super, 216, []byte{0x80}, unsupported, "feature 0x80000000", ""},
		{"compatible features", "v5", super, 208, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nil, "", ""},
		{"features of the log", "v5", super, 220, []byte{0xff}, nil, "", ""},
		{"parents and exchange", "v5", super, 219, []byte{0xeb}, nil, "", ""},
		{"another metadata UUID", "v5", super, 219, []byte{0xf}, xfs.ErrCorrupt, "of another file system", ""},
		{"another UUID", "v5", super, 32, []byte{1, 2}, xfs.ErrCorrupt, "of another file system", ""},
		{"sectors", "v5", super, 102, []byte{1, 0}, xfs.ErrCorrupt, "sectors of 256 bytes", ""},
		{"huge sectors", "v5", super, 102, []byte{0xff, 0xff}, xfs.ErrCorrupt, "sectors of 65535 bytes", ""},
		{"sector size", "v4", super, 121, []byte{10}, xfs.ErrCorrupt, "sector size", ""},
		{"sectors above blocks", "v4", super, 102, []byte{4, 0}, xfs.ErrCorrupt, "sector size", ""},
		{"sectors larger than blocks", "v4", super, 102, []byte{4, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 10}, xfs.ErrCorrupt, "sector size 1024", ""},
		{"block size", "v5", super, 120, []byte{13}, xfs.ErrCorrupt, "block size 4096", ""},
		{"blocks of 128 KiB", "v4", super, 4, []byte{0, 2, 0, 0}, xfs.ErrCorrupt, "block size 131072", ""},
		{"inode size", "v5", super, 104, []byte{4, 0}, xfs.ErrCorrupt, "inode size 1024", ""},
		{"inodes in a block", "v5", super, 123, []byte{4}, xfs.ErrCorrupt, "inode size", ""},
		{"small inodes", "v5", super, 104, []byte{1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 9, 8, 4}, xfs.ErrCorrupt, "inode size 256", ""},
		{"directory blocks", "v5", super, 192, []byte{5}, xfs.ErrCorrupt, "directory block size 2^17", ""},
		{"directory blocks of 2^264", "v5", super, 192, []byte{255}, xfs.ErrCorrupt, "directory block size", ""},
		{"no blocks in a group", "v5", super, 84, []byte{0, 0, 0, 0}, xfs.ErrCorrupt, "blocks of an allocation group 0", ""},
		{"blocks in a group", "v5", super, 84, []byte{0xff}, xfs.ErrCorrupt, "blocks of an allocation group", ""},
		{"bits of a group", "v5", super, 124, []byte{64}, xfs.ErrCorrupt, "blocks of an allocation group", ""},
		{"no groups", "v5", super, 88, []byte{0, 0, 0, 0}, xfs.ErrCorrupt, "allocation groups 0", ""},
		{"groups", "v5", super, 88, []byte{0xff}, xfs.ErrCorrupt, "allocation groups", ""},
		{"more blocks than there are", "kernel", super, 8, []byte{0, 0, 0, 0, 0, 0, 0x50, 1}, xfs.ErrCorrupt, "allocation groups", ""},
		{"external log", "v5", super, 48, make([]byte, 8), unsupported, "external log", ""},
		{"log elsewhere", "v5", super, 48, []byte{1}, xfs.ErrCorrupt, "log: ", ""},
		{"no log", "v5", super, 96, make([]byte, 4), xfs.ErrCorrupt, "log: 0 sectors", ""},
		{"log of all", "v5", super, 96, []byte{0xff}, xfs.ErrCorrupt, "log: ", ""},
		{"root is elsewhere", "v5", super, 56, []byte{0, 0, 1}, xfs.ErrCorrupt, " of allocation group 33554432, of 1 with 4096 blocks", ""},
		{"root is no inode", "v5", super, 56, make([]byte, 8), xfs.ErrCorrupt, "inode 0 at 0: begins with 5846", ""},
		{"root is another inode", "v5", super, 63, []byte{0x41}, fs.ErrInvalid, "not a directory", ""},

		{"no inode", "v5", root, 0, []byte("I?"), xfs.ErrCorrupt, "begins with 493f", ""},
		{"version of inode", "v5", root, 4, []byte{2}, xfs.ErrCorrupt, "version 2", ""},
		{"version of inode", "v4", root, 4, []byte{3}, xfs.ErrCorrupt, "version 3", ""},
		{"free inode", "v5", aleph, 2, []byte{0, 0}, xfs.ErrCorrupt, "is not in use", ""},
		{"other inode", "v5", aleph, 159, []byte{1}, xfs.ErrCorrupt, "or of another file system", ""},
		{"inode of another", "v5", aleph, 160, []byte{1, 2}, xfs.ErrCorrupt, "of another file system", ""},
		{"attributes", "v5", aleph, 82, []byte{255}, xfs.ErrCorrupt, "attributes at 2040 of 336 bytes", ""},
		{"too large", "v5", aleph, 60, []byte{0, 0x40, 0, 1}, unsupported, "4194305 bytes, more than 4194304", ""},
		{"of a negative size", "v5", aleph, 56, []byte{0xff}, unsupported, "more than 4194304", ""},
		{"realtime", "v5", aleph, 91, []byte{1}, unsupported, "realtime", ""},
		{"content in the inode", "v5", aleph, 5, []byte{1}, xfs.ErrCorrupt, "content of format 1", ""},
		{"content of a device", "v5", aleph, 5, []byte{0}, xfs.ErrCorrupt, "content of format 0", ""},
		{"many extents", "v5", aleph, 76, []byte{0xff}, xfs.ErrCorrupt, "extents in 336 bytes", ""},
		{"empty extent", "v4", aleph, 100 + 13, []byte{0, 0, 0}, xfs.ErrCorrupt, "extent of 0 blocks", ""},
		{"extent elsewhere", "v4", aleph, 100 + 8, []byte{0xff}, xfs.ErrCorrupt, "extent: 1 blocks at ", ""},
		{"long extent", "v5", aleph, 176 + 13, []byte{0x1f, 0xff, 0xff}, xfs.ErrCorrupt, "extent: 2097151 blocks at ", ""},
		{"extent behind the last group", "kernel", directory(4096), 176 + 8, []byte{0, 0, 0, 0x0e, 0, 0, 0, 4}, xfs.ErrCorrupt, "4 blocks at 28672 of allocation group 0, of 1 with 20480 blocks", few},
		{"extents out of order", "kernel", file(1<<20 + 1), 176 + 16, []byte{0, 0, 0, 0, 0, 0, 0, 0}, xfs.ErrCorrupt, "extent of 1 blocks at 0 after one to 1", "sparse"},
		{"level of a tree", "kernel", file(64 << 10), 176, []byte{0, 9}, xfs.ErrCorrupt, "tree of extents: level 9", "broken"},
		{"level 0 of a tree", "kernel", file(64 << 10), 176, []byte{0, 0}, xfs.ErrCorrupt, "tree of extents: level 0", "broken"},
		{"deeper tree", "kernel", file(64 << 10), 176, []byte{0, 2}, xfs.ErrCorrupt, "and level 1", "broken"},
		{"pointers of a tree", "kernel", file(64 << 10), 178, []byte{0, 21}, xfs.ErrCorrupt, "21 pointers in ", "broken"},
		{"no pointers", "kernel", file(64 << 10), 178, []byte{0, 0}, xfs.ErrCorrupt, "0 pointers in ", "broken"},
		{"extents of a tree", "kernel", file(64 << 10), 79, []byte{31}, xfs.ErrCorrupt, "32 extents, not 31", "broken"},
		{"magic of a node", "kernel", block("BMA3"), 0, []byte("BMAP"), xfs.ErrCorrupt, "begins with 424d4150", "broken"},
		{"extents of a node", "kernel", block("BMA3"), 6, []byte{0, 60}, xfs.ErrCorrupt, "has 60", "broken"},
		{"no extents of a node", "kernel", block("BMA3"), 6, []byte{0, 0}, xfs.ErrCorrupt, "has 0", "broken"},
		{"owner of a node", "kernel", block("BMA3"), 56, []byte{1}, xfs.ErrCorrupt, "says it is of inode", "broken"},
		{"place of a node", "kernel", block("BMA3"), 24, []byte{1}, xfs.ErrCorrupt, "says it is at sector", "broken"},

		{"long link", "v5", near, 62, []byte{4, 1}, xfs.ErrCorrupt, "symbolic link of 1025 bytes: ", "link"},
		{"empty link", "v5", near, 63, []byte{0}, xfs.ErrCorrupt, "symbolic link of 0 bytes: ", "link"},
		{"link longer than its inode", "v5", near, 62, []byte{1, 0x51}, xfs.ErrCorrupt, "symbolic link of 337 bytes in 336", "link"},
		{"link without blocks", "kernel", link(996 + 26), 76, []byte{0, 0, 0, 0}, xfs.ErrCorrupt, "symbolic link of 1022 bytes has 0", "link4"},
		{"size of a link", "kernel", link(996 + 26), 63, []byte{0xfd}, xfs.ErrCorrupt, "symbolic link", "link4"},
		{"magic of a link", "kernel", linkBlock, 0, []byte("x"), xfs.ErrCorrupt, "begins with 78534c4d", "link3"},
		{"part of a link", "kernel", linkBlock, 4, []byte{1}, xfs.ErrCorrupt, "symbolic link: block at ", "link3"},
		{"length of a link", "kernel", linkBlock, 8, []byte{0, 0, 1, 0xfb}, xfs.ErrCorrupt, "begins with 58534c4d", "link3"},
		{"empty part of a link", "kernel", linkBlock, 8, []byte{0, 0, 0, 0}, xfs.ErrCorrupt, "begins with 58534c4d", "link3"},
		{"link never written", "kernel", link(506), 176, []byte{0x80}, xfs.ErrCorrupt, "symbolic link in 1 blocks", "link3"},
		{"link of many blocks", "kernel", link(506), 176 + 15, []byte{3}, xfs.ErrCorrupt, "symbolic link in 3 blocks", "link3"},
		{"owner of a link", "kernel", linkBlock, 32, []byte{1}, xfs.ErrCorrupt, "says it is of inode", "link3"},

		{"size of entries in an inode", "v4", root, 62, []byte{1, 0}, xfs.ErrCorrupt, "256 bytes in 156", ""},
		{"no entries in an inode", "v4", root, 63, []byte{5}, xfs.ErrCorrupt, "5 bytes in 156", ""},
		{"number of entries in an inode", "v4", root, 100, []byte{200}, xfs.ErrCorrupt, "entries more in 0 bytes", ""},
		{"entries left over", "v4", root, 100, []byte{1}, xfs.ErrCorrupt, "bytes behind the last entry", ""},
		{"wide numbers", "v4", root, 101, []byte{1}, xfs.ErrCorrupt, "", ""},
		{"length of a name", "v4", root, 106, []byte{255}, xfs.ErrCorrupt, "entries more in", ""},
		{"empty name", "v4", root, 106, []byte{0}, xfs.ErrCorrupt, "entries more in", ""},

		{"no inode in an inode", "v4", root, 136, []byte{0, 0, 0, 0}, xfs.ErrCorrupt, "entry without inode", ""},
		{"size of a directory", "v5", root, 63, []byte{1}, xfs.ErrCorrupt, "4097 bytes in blocks of 4096", ""},
		{"empty directory", "v5", root, 62, []byte{0}, xfs.ErrCorrupt, "0 bytes in blocks of 4096", ""},
		{"large directory", "v5", root, 56, []byte{0x10}, unsupported, "more than 16777216", ""},
		{"larger directory", "v5", root, 62, []byte{0x20}, xfs.ErrCorrupt, `begins with "XDB3"`, ""},
		{"directory never written", "v5", root, 176, []byte{0x80}, xfs.ErrCorrupt, "block 0 was never written", ""},
		{"piece of a directory", "kernel", directory(12288), 176 + 15, []byte{3}, xfs.ErrCorrupt, "hole within the block at 0", many},
		{"begin of a directory", "kernel", directory(4096), 176 + 6, []byte{2}, xfs.ErrCorrupt, "hole within the block at 0", few},
		{"hole for a directory", "kernel", directory(4096), 176 + 6, []byte{8}, fs.ErrNotExist, "", few},
		{"magic of entries", "v5", block("XDB3"), 0, []byte("?"), xfs.ErrCorrupt, `begins with "?DB3"`, ""},
		{"place of entries", "v5", block("XDB3"), 8, []byte{1}, xfs.ErrCorrupt, "says it is at sector", ""},
		{"entries of another file system", "v5", block("XDB3"), 24, []byte{1, 2}, xfs.ErrCorrupt, "of another file system", ""},
		{"owner of entries", "v5", block("XDB3"), 40, []byte{1}, xfs.ErrCorrupt, "says it is of inode", ""},
		{"index of entries", "v5", block("XDB3"), 4096 - 8, []byte{1}, xfs.ErrCorrupt, "an index of 167", ""},
		{"name in a block", "v5", block("XDB3"), 64 + 8, []byte{200}, xfs.ErrCorrupt, "entry of 216 bytes at 64", ""},
		{"no name in a block", "v5", block("XDB3"), 64 + 8, []byte{0}, xfs.ErrCorrupt, "without a name or inode", ""},
		{"no inode in a block", "v5", block("XDB3"), 64, make([]byte, 8), xfs.ErrCorrupt, "without a name or inode", ""},
		{"free without length", "v5", block("XDB3"), 64, []byte{255, 255, 0, 0}, xfs.ErrCorrupt, "entry of 0 bytes at 64", ""},
		{"free beyond the end", "v5", block("XDB3"), 64, []byte{255, 255, 255, 248}, xfs.ErrCorrupt, "entry of 65528 bytes at 64", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := load(t, tc.base).clone()
			at := tc.in(t, i)
			i.change(at+tc.at, tc.data...)
			if tc.reading == "" {
				tc.reading = alephName
			}
			var data []byte
			var err error
			fuzzbound.Within(t, 256<<10, func() { data, err = read(i, i.size, tc.reading) })
			if tc.want == nil {
				require.NoError(t, err)
				require.Equal(t, alephText, string(data))
				return
			}
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.text)
		})
	}
}

// A link that says it has more than its block.
func TestLinkBeyondBlock(t *testing.T) {
	i := load(t, "kernel").clone()
	i.change(i.inodeOf(t, 0xa000, 506)+62, 3, 0xe8)
	for n, s := range i.sectors {
		if string(s[:4]) == "XSLM" && i.u32(n*512+8) == 506 {
			i.change(n*512+8, 0, 0, 3, 0xe8)
		}
	}
	_, err := read(i, i.size, "link3")
	require.ErrorIs(t, err, xfs.ErrCorrupt)
	require.ErrorContains(t, err, "begins with 58534c4d")
}

// What was never written is zeros, whatever is there, and what is behind the end isn't read.
func TestNeverWritten(t *testing.T) {
	i := load(t, "kernel").clone()
	at := i.inodeOf(t, 0x8000, 200_000)
	extent := i.u64(at + 176 + 24)
	require.True(t, i.u64(at+176+16)>>63 == 1, "the second extent")
	i.set(int64(extent>>21<<10), []byte("garbage")...)
	data, err := read(i, i.size, "never written")
	require.NoError(t, err)
	require.True(t, bytes.Equal(append([]byte("a few bytes"), make([]byte, 200_000-11)...), data))

	i.change(i.inodeOf(t, 0x8000, 1<<20+1)+60, 0, 0, 0, 20)
	data, err = read(i, i.size, "sparse")
	require.NoError(t, err)
	require.Equal(t, "from the start\x00\x00\x00\x00\x00\x00", string(data))
}

// TestChecksum: what has no other meaning here is under a checksum, too.
func TestChecksum(t *testing.T) {
	for magic, at := range map[string]int64{"XFSB": 144, "IN": 32, "XDB3": 16, "XDD3": 16, "BMA3": 32, "XSLM": 48} {
		base, changed := load(t, "kernel"), 0
		base.seen = map[int64]bool{}
		for _, file := range []string{"broken", "link3", "names30/000029 of so many names", "names300/000299 of so many names"} {
			_, err := read(base, base.size, file)
			require.NoError(t, err)
		}
		for n := range base.seen {
			if !strings.HasPrefix(string(base.sectors[n]), magic) {
				continue
			}
			i := base.clone()
			i.set(n*512+at, i.bytes(n*512+at, 1)[0]^1)
			var errs error
			for _, file := range []string{"broken", "link3", "names30/000029 of so many names", "names300/000299 of so many names"} {
				_, err := read(i, i.size, file)
				errs = errors.Join(errs, err)
			}
			require.ErrorContains(t, errs, "checksum is ", magic)
			changed++
		}
		require.Positive(t, changed, magic)
	}
}

func TestTruncated(t *testing.T) {
	i := load(t, "v5")
	for _, size := range []int64{0, 511} {
		_, err := xfs.Open(i, size)
		require.ErrorIs(t, err, xfs.ErrCorrupt)
	}
	for _, size := range []int64{512, 64 << 10, i.size - 1} {
		_, err := xfs.Open(i, size)
		require.ErrorIs(t, err, xfs.ErrCorrupt)
		require.ErrorContains(t, err, fmt.Sprintf("there are %d bytes", size))
		short := *i
		short.size = size
		_, err = read(&short, i.size, alephName)
		if size < i.size-1 {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.ErrorContains(t, err, "xfs: ")
		} else {
			require.NoError(t, err, "what is missing is not read")
		}
	}
}

// TestChecksums: with any byte of what is read wrong the file is refused or has its
// content. The content itself has no checksum.
func TestChecksums(t *testing.T) {
	for name, file := range map[string]string{"v5": "link", "kernel": "names300/000299 of so many names"} {
		base, wrong := load(t, name), 0
		base.seen = map[int64]bool{}
		_, err := read(base, base.size, file)
		require.NoError(t, err)
		for n := range base.seen {
			data := base.sectors[n]
			if data == nil || bytes.HasPrefix(data, []byte(alephText)) {
				continue
			}
			for at := n % 3; at < 512; at += 3 {
				i := base.clone()
				i.set(n*512+at, data[at]^0x10)
				got, err := read(i, i.size, file)
				if err != nil {
					wrong++
					continue
				}
				require.Equal(t, alephText, string(got), "byte %d of sector %d of %s", at, n, name)
			}
		}
		require.Greater(t, wrong, 300, name)
	}
}

// TestLogHead: the log is clean when its last record says so, wherever that is.
func TestLogHead(t *testing.T) {
	base := load(t, "v5")
	geometry := base.bytes(120, 8)
	logAt, sectors := base.u64(48), int64(base.u32(96))<<(geometry[0]-9)
	start := int64((logAt>>geometry[4]*uint64(base.u32(84)) + logAt&(1<<geometry[4]-1)) << geometry[0])
	record := base.bytes(start, 1024) // header and body, both of round 1
	be := func(n uint32) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }
	for name, tt := range map[string]struct {
		edit func(i *image)
		ok   bool
	}{
		"as mkfs.xfs made it": {func(*image) {}, true},
		"never written": {func(i *image) {
			i.set(start, make([]byte, 1024)...)
		}, true},
		"another operation": {func(i *image) { i.set(start+512+9, 0x10) }, false},
		"two operations":    {func(i *image) { i.set(start+40, be(2)...) }, false},
		"longer record":     {func(i *image) { i.set(start+12, be(1024)...) }, false},
		"more headers":      {func(i *image) { i.set(start+320, be(64<<10)...) }, false},
		"huge headers":      {func(i *image) { i.set(start+320, be(1<<32-1)...) }, false},
		"something behind":  {func(i *image) { i.set(start+1024, be(1)...) }, false},
		"no record":         {func(i *image) { i.set(start, be(1)...) }, false},
	} {
		i := base.clone()
		tt.edit(i)
		_, err := read(i, i.size, alephName)
		if tt.ok {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, errors.ErrUnsupported, name)
			require.ErrorContains(t, err, "not unmounted cleanly", name)
		}
	}

	// Written twice round, and the record at every place near both ends.
	i := base.clone()
	i.sectors = maps.Clone(i.sectors)
	put := func(sector int64, data []byte, round uint32) {
		data = bytes.Clone(data)
		if string(data[:4]) == "\xfe\xed\xba\xbe" {
			copy(data[4:], be(round))
		} else {
			copy(data, be(round))
		}
		i.sectors[start/512+sector] = data
	}
	for n := range sectors {
		put(n, make([]byte, 512), 7)
	}
	for _, at := range []int64{0, 1, 2, 500, sectors/2 - 1, sectors - 3, sectors - 2, sectors - 1} {
		old := maps.Clone(i.sectors)
		for n := range at {
			put(n, make([]byte, 512), 8)
		}
		put(at, record[:512], 8)
		body := at + 1
		round := uint32(8)
		if body == sectors {
			body, round = 0, 9
		}
		put(body, record[512:], round)
		_, err := read(i, i.size, alephName)
		require.NoError(t, err, at)
		put(body, make([]byte, 512), round)
		_, err = read(i, i.size, alephName)
		require.ErrorContains(t, err, "not unmounted cleanly", at)
		i.sectors = old
	}
}

// failing is a disk that fails at a read.
type failing struct {
	io.ReaderAt
	left int
	err  error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestReadError: whatever can't be read is told.
func TestReadError(t *testing.T) {
	lost := errors.New("lost")
	for _, name := range []string{"broken", "link3", "names30/000029 of so many names", "names300/000299 of so many names"} {
		i, n := load(t, "kernel"), 0
		for ; ; n++ {
			_, err := read(&failing{i, n, lost}, i.size, name)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, lost)
			require.Regexp(t, `^xfs: .*read \d+ bytes at \d+: lost$`, err.Error())
		}
		require.Greater(t, n, 7)
	}
}

// FuzzFS changes bytes of what a file system has: edits are five bytes each, which
// sector that is not zeros, where in it, and what is to be there. The checksums are set
// right again but where sums is off.
func FuzzFS(f *testing.F) {
	names := []string{"v4", "v5", "kernel"}
	files := []string{alephName, "link", "sub/below", "broken", "never written", "link4", "names30/000029 of so many names", "names300/000299 of so many names"}
	var bases []*image
	var sectors [][]int64
	for n, name := range names {
		i := load(f, name)
		bases, sectors = append(bases, i), append(sectors, slices.Sorted(maps.Keys(i.sectors)))
		for file := range files {
			f.Add(uint8(n), uint8(file), true, []byte{})
		}
		f.Add(uint8(n), uint8(3), true, []byte{0, 0, 0, 192, 3, 0, 0, 0, 7, 0xff})
		f.Add(uint8(n), uint8(0), false, []byte{0, 0, 1, 1, 3})
	}
	f.Fuzz(func(t *testing.T, base, file uint8, sums bool, edits []byte) {
		n := int(base) % len(bases)
		i := bases[n].clone()
		for e := range slices.Chunk(edits[:len(edits)/5*5], 5) {
			at := sectors[n][(int(e[0])<<8|int(e[1]))%len(sectors[n])]*512 + int64(int(e[2])<<8|int(e[3]))%512
			if sums {
				i.change(at, e[4])
			} else {
				i.set(at, e[4])
			}
		}
		var data []byte
		var err error
		name := files[int(file)%len(files)]
		// A file may be one hole; all else is in proportion to what there is, and what there is is small.
		fuzzbound.Within(t, xfs.MaxFileSize+2<<20, func() { data, err = read(i, i.size, name) })
		require.LessOrEqual(t, len(data), xfs.MaxFileSize)
		if err != nil {
			require.Contains(t, err.Error(), "xfs: ")
		}
	})
}

func BenchmarkReadFile(b *testing.B) {
	i := load(b, "kernel")
	b.ReportAllocs()
	for b.Loop() {
		_, err := read(i, i.size, "names300/000299 of so many names")
		require.NoError(b, err)
	}
}
