package xfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

// run runs a program that must succeed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %q: %s", name, args, out)
	return string(out)
}

// mkfs makes a file system of files, by what mkfs.xfs calls a prototype: it mounts
// nothing. Besides the files there are so many entries.
func mkfs(t testing.TB, size string, entries int, files map[string][]byte, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "image")
	proto := &strings.Builder{}
	proto.WriteString("/\n0 0\nd--755 0 0\n")
	n := 0
	add := func(name string, data []byte) {
		from := filepath.Join(dir, fmt.Sprint("content", n))
		n++
		require.NoError(t, os.WriteFile(from, data, 0o600))
		fmt.Fprintf(proto, "%s ---644 0 0 %s\n", name, from)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		add(name, files[name])
	}
	proto.WriteString("link l--777 0 0 sub/../" + alephName + "\n")
	if slices.Contains(args, "crc=0") { // in version 5 mkfs.xfs 6.1 leaves out the header of the block
		proto.WriteString("far l--777 0 0 " + strings.Repeat("./", 200) + alephName + "\n")
	}
	proto.WriteString("sub d--755 0 0\n")
	add("below", []byte("content below"))
	proto.WriteString("$\n")
	for i := range entries {
		fmt.Fprintf(proto, "e%05d---------a-longer-name ---644 0 0 /dev/null\n", i)
	}
	proto.WriteString("$\n")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "proto"), []byte(proto.String()), 0o600))
	run(t, "truncate", "-s", size, file)
	run(t, "mkfs.xfs", append([]string{"--unsupported", "-q", "-p", filepath.Join(dir, "proto"), file}, args...)...)
	return file
}

// readFrom reads a file of a file system that is a file.
func readFrom(t testing.TB, image, name string) ([]byte, error) {
	t.Helper()
	f, err := os.Open(image)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	return read(f, info.Size(), name)
}

// TestMkfs reads file systems as mkfs.xfs makes and fills them.
func TestMkfs(t *testing.T) {
	interop.Peer(t, "mkfs.xfs")
	v4 := []string{"-m", "crc=0"}
	for name, args := range map[string][]string{
		"today's default":             nil,
		"of CentOS Stream 10":         {"-m", "rmapbt=1,bigtime=1,inobtcount=1,reflink=1", "-i", "nrext64=1"},
		"old version 5":               {"-m", "finobt=0,reflink=0,bigtime=0,inobtcount=0", "-i", "sparse=0"},
		"blocks of 1 KiB":             {"-b", "size=1024"},
		"blocks of 2 KiB":             {"-b", "size=2048", "-i", "size=1024"},
		"blocks of 16 KiB":            {"-b", "size=16384"},
		"blocks of 64 KiB":            {"-b", "size=65536"},
		"inodes of 1 KiB":             {"-i", "size=1024"},
		"inodes of 2 KiB":             {"-i", "size=2048"},
		"directories of 8 KiB":        {"-n", "size=8192"},
		"directories of 64 KiB":       {"-n", "size=65536"},
		"64 KiB in small blocks":      {"-b", "size=1024", "-n", "size=65536"},
		"sectors of 4 KiB":            {"-s", "size=4096"},
		"striped log":                 {"-l", "su=65536"},
		"log in the last group":       {"-d", "agcount=5", "-l", "agnum=4"},
		"version 4":                   v4,
		"version 4, blocks of 512":    append([]string{"-b", "size=512", "-n", "size=4096", "-i", "size=256"}, v4...),
		"version 4, blocks of 1 KiB":  append([]string{"-b", "size=1024", "-i", "size=256"}, v4...),
		"version 4, types in entries": append([]string{"-n", "ftype=1"}, v4...),
		"version 4, no types":         append([]string{"-n", "ftype=0,size=65536"}, v4...),
		"version 4, log of version 1": append([]string{"-n", "ftype=0", "-l", "version=1"}, v4...),
	} {
		t.Run(name, func(t *testing.T) {
			for _, entries := range []int{0, 20, 500, 5000} {
				long := strings.Repeat("n", 255)
				files := map[string][]byte{"empty": {}, "large": pattern(64<<10 + 1), "limit": pattern(4 << 20), "more": pattern(4<<20 + 1)}
				if entries > 0 {
					files[long] = []byte("long")
				}
				files[alephName] = []byte(alephText)
				image := mkfs(t, "320M", entries, files, args...)
				files["link"], files["sub/below"], files["/sub/../link"] = files[alephName], []byte("content below"), files[alephName]
				if slices.Contains(args, "crc=0") {
					files["far"] = files[alephName]
				}
				delete(files, "more")
				for i := range entries {
					if i < 3 || i > entries-3 || i%97 == 0 {
						files[fmt.Sprintf("e%05d---------a-longer-name", i)] = []byte{}
					}
				}
				for name, want := range files {
					got, err := readFrom(t, image, name)
					require.NoError(t, err, name)
					require.True(t, bytes.Equal(want, got), name)
				}
				_, err := readFrom(t, image, "more")
				require.ErrorIs(t, err, errors.ErrUnsupported)
				for name, want := range map[string]error{"none": fs.ErrNotExist, "sub/none": fs.ErrNotExist, "sub": fs.ErrInvalid, "empty/x": fs.ErrInvalid, fmt.Sprintf("e%05d---------a-longer-name", entries): fs.ErrNotExist} {
					_, err := readFrom(t, image, name)
					require.ErrorIs(t, err, want, name)
				}
			}
		})
	}
}
