package ostree_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// TestBareObjects: what a bare repository's objects are on disk.
func TestBareObjects(t *testing.T) {
	if !isRoot() {
		t.Skip("owners need root")
	}
	r := newRepo(t, ostree.ModeBare)
	setuid := file("su", "1")
	setuid.Mode, setuid.UID, setuid.GID = ostree.ModeRegular|0o6711, 12, 34
	setuid.Xattrs = []ostree.Xattr{{Name: "user.b", Value: []byte("2")}, {Name: "trusted.a", Value: []byte("1")}}
	l := link("l", "su")
	l.UID, l.GID, l.Xattrs = 56, 78, []ostree.Xattr{{Name: "trusted.x", Value: []byte{0, 1}}}
	_, commit := commitTree(t, r, dir("."), setuid, l)
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	var st unix.Stat_t
	require.NoError(t, unix.Lstat(objectFile(r, tree.Files[0].Object, "file"), &st))
	require.Equal(t, "120777 56:78", fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid))
	su := objectFile(r, tree.Files[1].Object, "file")
	require.NoError(t, unix.Lstat(su, &st))
	require.Equal(t, "106711 12:34 0", fmt.Sprintf("%o %d:%d %d", st.Mode, st.Uid, st.Gid, st.Mtim.Nano()))
	f, err := r.ReadFile(t.Context(), tree.Files[0].Object)
	require.NoError(t, err)
	require.Equal(t, l.Xattrs, f.Xattrs)
	// Every fact counts.
	for _, damage := range []func() error{
		func() error { return os.Chown(su, 13, 34) },
		func() error { return os.Chmod(su, 0o755) },
		func() error { return unix.Setxattr(su, "user.b", []byte("3"), 0) },
	} {
		require.NoError(t, r.Fsck(t.Context(), nil))
		require.NoError(t, damage())
		require.ErrorIs(t, r.Fsck(t.Context(), nil), ostree.ErrCorrupt)
		require.NoError(t, os.Chown(su, 12, 34))
		require.NoError(t, unix.Setxattr(su, "user.b", []byte("2"), 0))
		require.NoError(t, unix.Chmod(su, 0o6711))
	}
	empty := file("e", "1")
	empty.Xattrs = []ostree.Xattr{{Name: "user.empty"}}
	_, err = r.Commit(t.Context(), literal(dir("."), empty), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	requireClean(t, r)
}

// unprivilegedVariable makes the test's process commit to the repository that it
// names, as nobody.
const unprivilegedVariable = "OKD_STREAMS_TEST_UNPRIVILEGED"

// TestBareNeedsRoot: without privileges a bare repository can't be written to,
// which is a clear error that leaves nothing.
func TestBareNeedsRoot(t *testing.T) {
	if path := os.Getenv(unprivilegedVariable); path != "" {
		r, err := ostree.Open(t.Context(), path, nil)
		require.NoError(t, err)
		defer r.Close()
		_, err = r.Commit(t.Context(), literal(dir("."), file("f", "1")), nil)
		require.ErrorIs(t, err, os.ErrPermission)
		require.ErrorContains(t, err, "chown to 0:0, as a bare repository has to")
		require.Empty(t, objectNames(t, path))
		requireClean(t, r)
		return
	}
	if !isRoot() {
		t.Skip("becoming somebody else needs root")
	}
	base, err := os.MkdirTemp("", "bare")
	require.NoError(t, err)
	defer os.RemoveAll(base)
	require.NoError(t, os.Chmod(base, 0o755))
	repo := filepath.Join(base, "repo")
	r, err := ostree.Init(t.Context(), repo, ostree.ModeBare, nil)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, filepath.WalkDir(repo, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, 65534, 65534))
	}))
	exe, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(base+"/test", exe, 0o755))
	cmd := exec.CommandContext(t.Context(), base+"/test", "-test.run=^TestBareNeedsRoot$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), unprivilegedVariable+"="+repo)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: TestBareNeedsRoot")
}

func TestBareUserOnlyIsCanonical(t *testing.T) {
	r := newRepo(t, ostree.ModeBareUserOnly)
	odd := file("f", "1")
	odd.Mode, odd.UID, odd.Xattrs = ostree.ModeRegular|0o4777, 5, []ostree.Xattr{{Name: "user.a", Value: []byte("1")}}
	top := dir(".")
	top.Mode, top.GID = ostree.ModeDir|0o1777, 6
	got, commit := commitTree(t, r, top, odd, link("l", "f"))
	want, err := newRepo(t, ostree.ModeArchive).Commit(t.Context(), literal(top, odd, link("l", "f")), &ostree.CommitOptions{CanonicalPermissions: true})
	require.NoError(t, err)
	require.Equal(t, want, got)
	tree, err := r.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	object := objectFile(r, tree.Files[0].Object, "file")
	st, err := os.Lstat(object)
	require.NoError(t, err)
	require.EqualValues(t, 0o755, st.Mode())
	st, err = os.Lstat(objectFile(r, tree.Files[1].Object, "file"))
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, st.Mode().Type())
	require.NoError(t, r.Fsck(t.Context(), nil))
	require.NoError(t, os.Chmod(object, 0o700))
	require.ErrorIs(t, r.Fsck(t.Context(), nil), ostree.ErrCorrupt)
}

// TestSplitXattrs reads a repository that libostree's tests have.
func TestSplitXattrs(t *testing.T) {
	interop.Peer(t, "ostree", "tar", "xz")
	archive := interop.SharedData(t, "ostree", "upstream", "bare-split-xattrs-basic.tar.xz")
	base := t.TempDir()
	run(t, "tar", "-xJpf", archive, "-C", base)
	entries, err := os.ReadDir(base)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	repo := filepath.Join(base, entries[0].Name())
	for _, dir := range []string{"tmp", "tmp/cache", "refs/remotes", "refs/mirrors", "state"} { // which the archive lacks
		require.NoError(t, os.MkdirAll(filepath.Join(repo, dir), 0o755))
	}
	r, err := ostree.Open(t.Context(), repo, nil)
	require.NoError(t, err)
	defer r.Close()
	require.Equal(t, ostree.ModeBareSplitXattrs, r.Mode())
	require.NoError(t, r.Fsck(t.Context(), nil))
	_, err = r.Commit(t.Context(), literal(dir(".")), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = r.Prune(t.Context(), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	names, err := filepath.Glob(repo + "/objects/*/*.commit")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		c, err := ostree.ParseChecksum(filepath.Base(filepath.Dir(name)) + strings.TrimSuffix(filepath.Base(name), ".commit"))
		require.NoError(t, err)
		dst := newRepo(t, ostree.ModeArchive)
		require.NoError(t, dst.PullLocal(t.Context(), r, &ostree.PullLocalOptions{Revs: []string{c.String()}}))
		require.NoError(t, dst.SetRef(t.Context(), "x", c))
		run(t, "ostree", "--repo="+dst.Path(), "fsck")
		same(t, run(t, "ostree", "--repo="+repo, "ls", "-RCX", c.String()), run(t, "ostree", "--repo="+dst.Path(), "ls", "-RCX", c.String()))
		files, err := filepath.Glob(repo + "/objects/*/*.file-xattrs-link")
		require.NoError(t, err)
		require.NoError(t, os.Remove(files[0]))
		require.ErrorContains(t, r.Fsck(t.Context(), nil), "has no file-xattrs-link")
	}
}
