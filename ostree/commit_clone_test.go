package ostree_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// largeFile writes a file that is too large to be held in memory.
func largeFile(t testing.TB, path string, size int, seed byte) {
	t.Helper()
	data := make([]byte, size)
	x := uint32(seed)
	for i := range data {
		x = x*1664525 + 1013904223
		data[i] = byte(x >> 24)
	}
	require.NoError(t, os.WriteFile(path, data, 0o644))
}

// TestLargeFilesFromHandles: a source that gives open files whose content does
// not begin where the file does, or ends elsewhere, is taken for what it gives.
func TestLargeFilesFromHandles(t *testing.T) {
	dirPath := t.TempDir()
	largeFile(t, filepath.Join(dirPath, "file"), 3<<20, 1)
	data, err := os.ReadFile(filepath.Join(dirPath, "file"))
	require.NoError(t, err)
	for name, at := range map[string]int64{"whole": 0, "part": 1 << 20} {
		open := func(context.Context) (io.ReadCloser, error) {
			f, err := os.Open(filepath.Join(dirPath, "file"))
			if err == nil {
				_, err = f.Seek(at, io.SeekStart)
			}
			return f, err
		}
		for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser, ostree.ModeBareUserOnly} {
			r := newRepo(t, mode)
			e := ostree.Entry{Path: "file", Mode: ostree.ModeRegular | 0o644, Size: int64(len(data)) - at, Detached: true, Open: open}
			c, err := r.Commit(t.Context(), literal(dir("."), e), nil)
			require.NoError(t, err, name)
			// Again, with objects there: content is then read before it is written.
			e2, other := e, dir("sub")
			e2.Path = "sub/more"
			e2.Mode |= 0o111
			_, err = r.Commit(t.Context(), literal(dir("."), other, e2), nil)
			require.NoError(t, err, name)
			require.NoError(t, r.Fsck(t.Context(), nil))
			got := entryOf(t, r.Tree(c), "file")
			body, err := got.Open(t.Context())
			require.NoError(t, err)
			all, err := io.ReadAll(body)
			require.NoError(t, err)
			require.NoError(t, body.Close())
			require.Equal(t, sha(data[at:]), sha(all), name)
		}
	}
}

// TestClonedObjects commits on a file system that can share blocks: objects need
// no room of their own, and are no less what they should be.
func TestClonedObjects(t *testing.T) {
	interop.Peer(t, "debootstrap", "ostree")
	if !isRoot() {
		t.Skip("mounts a file system")
	}
	disk := sharingDisk(t)
	if disk == "" {
		return
	}
	const size = 48 << 20
	tree := filepath.Join(disk, "tree")
	require.NoError(t, os.Mkdir(tree, 0o755))
	largeFile(t, filepath.Join(tree, "large"), size, 2)
	unix.Sync()
	want, err := newRepo(t, ostree.ModeArchive).Commit(t.Context(), openDir(t, tree), nil)
	require.NoError(t, err)
	for _, mode := range []ostree.Mode{ostree.ModeBare, ostree.ModeBareUser} {
		r, err := ostree.Init(t.Context(), filepath.Join(disk, string(mode)), mode, nil)
		require.NoError(t, err)
		defer r.Close()
		before := free(t, disk)
		c, err := r.Commit(t.Context(), openDir(t, tree), nil)
		require.NoError(t, err)
		require.Equal(t, want, c)
		// With objects there, content is read before it is written.
		require.NoError(t, os.Chmod(filepath.Join(tree, "large"), 0o600))
		_, err = r.Commit(t.Context(), openDir(t, tree), nil)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(filepath.Join(tree, "large"), 0o644))
		unix.Sync()
		require.Less(t, before-free(t, disk), int64(size/4), "bytes that two commits took")
		require.NoError(t, r.Fsck(t.Context(), nil))
		run(t, "ostree", "fsck", "--repo="+r.Path())
	}
}

func free(t testing.TB, path string) int64 {
	t.Helper()
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(path, &st))
	return int64(st.Bfree) * int64(st.Bsize)
}

// sharingDisk mounts an empty XFS, made with the program of the Debian tree.
// "": nothing can be mounted here, as in most containers.
func sharingDisk(t testing.TB) string {
	t.Helper()
	debian := interop.DebianTree(t)
	image, mount := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 400<<20))
	mkfs := exec.CommandContext(t.Context(), filepath.Join(debian, "usr/sbin/mkfs.xfs"), "-q", "-m", "reflink=1", image)
	mkfs.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(debian, "usr/lib/x86_64-linux-gnu"))
	out, err := mkfs.CombinedOutput()
	require.NoError(t, err, string(out))
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop", image, mount).CombinedOutput(); err != nil {
		t.Logf("not tested: %v: %s", err, out)
		return ""
	}
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", "-l", mount).Run()) })
	return mount
}
