package xfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
)

// mounted has the kernel mount a file system, write to it and unmount it.
// false: nothing can be mounted here, as in most containers.
func mounted(t testing.TB, image string, write func(dir string)) bool {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "xfs", "-o", "loop,nodiscard", image, dir).CombinedOutput(); err != nil {
		t.Logf("not tested: %v: %s", err, out)
		return false
	}
	defer func() { run(t, "umount", dir) }()
	write(dir)
	return true
}

// create writes a file and changes it.
func create(t testing.TB, path string, data []byte, change ...func(*os.File)) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(data)
	require.NoError(t, errors.Join(err, f.Sync()))
	for _, c := range change {
		c(f)
	}
	require.NoError(t, f.Sync())
}

func fallocate(t testing.TB, f *os.File, mode uint32, from, n int64) {
	t.Helper()
	require.NoError(t, unix.Fallocate(int(f.Fd()), mode, from, n))
}

// fill writes files as only a kernel does, and gives what they have.
func fill(t testing.TB, dir string, block, broken, names int) map[string][]byte {
	t.Helper()
	want := map[string][]byte{alephName: []byte(alephText)}
	create(t, filepath.Join(dir, alephName), []byte(alephText))

	// Blocks that are not zeros, for what must not be read of them.
	garbage := filepath.Join(dir, "garbage")
	create(t, garbage, bytes.Repeat([]byte("garbage."), 1<<17))
	require.NoError(t, os.Remove(garbage))
	run(t, "sync", "-f", dir)

	want["broken"] = pattern(broken)
	create(t, filepath.Join(dir, "broken"), want["broken"], func(f *os.File) {
		for at := 0; at < broken; at += 2 * block {
			fallocate(t, f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(block))
			clear(want["broken"][at : at+block])
		}
	})
	create(t, filepath.Join(dir, "sparse"), []byte("from the start"), func(f *os.File) {
		_, err := f.WriteAt([]byte("in the middle"), 600_001)
		require.NoError(t, errors.Join(err, f.Truncate(1<<20+1)))
	})
	want["sparse"] = make([]byte, 1<<20+1)
	copy(want["sparse"], "from the start")
	copy(want["sparse"][600_001:], "in the middle")

	create(t, filepath.Join(dir, "never written"), []byte("a few bytes"), func(f *os.File) {
		fallocate(t, f, 0, 0, 200_000)
		fallocate(t, f, unix.FALLOC_FL_KEEP_SIZE, 0, 400_000) // and more behind the end
	})
	want["never written"] = append([]byte("a few bytes"), make([]byte, 200_000-11)...)

	for i, target := range []string{alephName, "/" + alephName, strings.Repeat("./", 120) + alephName, strings.Repeat("./", 240) + alephName, strings.Repeat("./", 498) + alephName} {
		name := fmt.Sprint("link", i)
		require.NoError(t, os.Symlink(target, filepath.Join(dir, name)))
		want[name] = want[alephName]
	}
	require.NoError(t, os.Symlink("loop", filepath.Join(dir, "loop")))

	for _, many := range []int{3, 30, names} {
		sub := filepath.Join(dir, fmt.Sprint("names", many))
		require.NoError(t, os.Mkdir(sub, 0o755))
		for i := range many {
			require.NoError(t, os.Link(filepath.Join(dir, alephName), filepath.Join(sub, fmt.Sprintf("%06d of so many names", i))))
		}
		for i := range many { // blocks in the middle become holes
			if name := fmt.Sprintf("%06d of so many names", i); i > many/3 && i < many*2/3 {
				require.NoError(t, os.Remove(filepath.Join(sub, name)))
			} else if i < 3 || i%57 == 0 || i > many-3 {
				want[filepath.Base(sub)+"/"+name] = want[alephName]
			}
		}
	}
	return want
}

func requireFiles(t testing.TB, image string, want map[string][]byte) {
	t.Helper()
	for name, data := range want {
		got, err := readFrom(t, image, name)
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(data, got), name)
	}
	_, err := readFrom(t, image, "none")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestKernel reads what the kernel has written: trees of extents, holes, extents that
// were never written, links outside of their inode, large directories with holes.
func TestKernel(t *testing.T) {
	interop.Peer(t, "mkfs.xfs", "mount", "xfs_repair", "xfs_admin")
	for name, args := range map[string][]string{
		"today's default":   nil,
		"nrext64":           {"-i", "nrext64=1"},
		"blocks of 1 KiB":   {"-b", "size=1024", "-n", "size=8192"},
		"without features":  {"-m", "finobt=0,reflink=0,bigtime=0,inobtcount=0", "-i", "sparse=0"},
		"large directories": {"-n", "size=65536", "-i", "size=2048"},
	} {
		t.Run(name, func(t *testing.T) {
			image := mkfs(t, "320M", 0, nil, args...)
			var want map[string][]byte
			block := 4096
			if strings.Contains(name, "1 KiB") {
				block = 1024
			}
			if !mounted(t, image, func(dir string) { want = fill(t, dir, block, 4<<20, 20_000) }) {
				return
			}
			requireFiles(t, image, want)
			_, err := readFrom(t, image, "loop")
			require.ErrorIs(t, err, fs.ErrInvalid)
			run(t, "xfs_repair", "-n", image)

			// The same after the UUID that users see has become another.
			run(t, "xfs_admin", "-U", "generate", image)
			requireFiles(t, image, want)
		})
	}
}

// TestBrokenDirectory reads a directory whose blocks are in many pieces.
func TestBrokenDirectory(t *testing.T) {
	interop.Peer(t, "mkfs.xfs", "mount", "xfs_db")
	image := mkfs(t, "64M", 0, nil, "-b", "size=1024", "-n", "size=65536", "-m", "finobt=0,reflink=0,inobtcount=0", "-d", "agcount=1")
	want := map[string][]byte{}
	if !mounted(t, image, func(dir string) {
		create(t, filepath.Join(dir, alephName), []byte(alephText))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "names"), 0o755))
		take := func(f *os.File) (size int64) {
			for step := int64(1 << 20); step >= 1<<10; step /= 2 {
				for unix.Fallocate(int(f.Fd()), 0, size, step) == nil {
					size += step
				}
			}
			return size
		}
		free := func(f *os.File, from, to int64) {
			for at := from; at < to; at += 2048 {
				fallocate(t, f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, 1024)
			}
		}
		// The kernel keeps some blocks free. Those are single ones at last.
		create(t, filepath.Join(dir, "all"), nil, func(all *os.File) {
			size := take(all) &^ 4095
			free(all, 0, size/2)
			create(t, filepath.Join(dir, "rest"), nil, func(rest *os.File) { take(rest) })
			free(all, size/2, size)
		})
		for i := range 30_000 {
			name := fmt.Sprintf("names/%06d of so many names", i)
			require.NoError(t, os.Link(filepath.Join(dir, alephName), filepath.Join(dir, name)))
			if i%410 == 0 {
				want[name] = []byte(alephText)
			}
		}
	}) {
		return
	}
	requireFiles(t, image, want)
	extents := run(t, "xfs_db", "-r", "-c", "path /names", "-c", "print core.format core.nextents", image)
	require.Contains(t, extents, "(btree)")
}

// TestLargeNumbers reads inodes whose numbers have more than 32 bits.
func TestLargeNumbers(t *testing.T) {
	interop.Peer(t, "mkfs.xfs", "mount")
	image := mkfs(t, "12T", 0, nil, "-l", "size=64m", "-d", "agcount=16")
	want := map[string][]byte{}
	large := false
	if !mounted(t, image, func(dir string) {
		for i := range 16 {
			sub := fmt.Sprint("d", i)
			require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
			create(t, filepath.Join(dir, sub, "f"), []byte(sub))
			want[sub+"/f"] = []byte(sub)
			var st unix.Stat_t
			require.NoError(t, unix.Stat(filepath.Join(dir, sub), &st))
			large = large || st.Ino > 1<<32
		}
	}) {
		return
	}
	require.True(t, large)
	requireFiles(t, image, want)
}

// TestLog: what was not unmounted is refused, and read once that has been done; also when the
// log has gone round.
func TestLog(t *testing.T) {
	interop.Peer(t, "mkfs.xfs", "mount", "xfs_io", "xfs_logprint", "xfs_repair")
	image := mkfs(t, "64M", 0, nil)
	want := map[string][]byte{alephName: []byte(alephText)}
	if !mounted(t, image, func(dir string) {
		create(t, filepath.Join(dir, alephName), []byte(alephText))
		create(t, filepath.Join(dir, "more"), []byte("more"))
		run(t, "xfs_io", "-x", "-c", "shutdown -f", dir)
	}) {
		return
	}
	_, err := readFrom(t, image, alephName)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "not unmounted cleanly")
	require.True(t, mounted(t, image, func(string) {}))
	requireFiles(t, image, want)

	// While it is mounted it isn't clean either.
	require.True(t, mounted(t, image, func(dir string) {
		create(t, filepath.Join(dir, "more"), []byte("more"))
		_, err := readFrom(t, image, alephName)
		require.ErrorContains(t, err, "not unmounted cleanly")
	}))
	requireFiles(t, image, want)

	head := func() (n int) {
		_, rest, _ := strings.Cut(run(t, "xfs_logprint", "-t", image), "head: ")
		_, err := fmt.Sscan(rest, &n)
		require.NoError(t, err)
		return n
	}
	for last, i := 0, 0; last <= head(); i++ {
		last = head()
		require.True(t, mounted(t, image, func(dir string) {
			for n := range 300 {
				name := filepath.Join(dir, fmt.Sprintf("%s%d", strings.Repeat("x", 200), n))
				require.NoError(t, os.WriteFile(name, nil, 0o600))
				if i%2 == 0 {
					require.NoError(t, os.Remove(name))
				}
			}
			run(t, "sync", "-f", dir)
		}))
		requireFiles(t, image, want)
	}
	run(t, "xfs_repair", "-L", image)
	requireFiles(t, image, want)
}

// TestUpdate makes what the other tests read; it does nothing without -update.
func TestUpdate(t *testing.T) {
	if !*update {
		return
	}
	files := map[string][]byte{alephName: []byte(alephText), "empty": {}, "large": pattern(5000)}
	save(t, "v4", mkfs(t, "16M", 0, files, "-m", "crc=0", "-b", "size=512", "-n", "size=4096", "-i", "size=256", "-d", "agcount=1"))
	files[strings.Repeat("n", 255)] = []byte("long")
	save(t, "v5", mkfs(t, "16M", 20, files))
	image := mkfs(t, "20M", 0, nil, "-b", "size=1024", "-n", "size=4096")
	require.True(t, mounted(t, image, func(dir string) { fill(t, dir, 1024, 64<<10, 300) }))
	run(t, "xfs_repair", "-L", "-o", "force_geometry", image) // an empty log is small
	save(t, "kernel", image)
}
