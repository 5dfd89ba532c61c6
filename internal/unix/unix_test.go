package unix_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/unix"
)

func TestInfoOf(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	require.NoError(t, os.WriteFile(one, []byte("x"), 0o600))
	require.NoError(t, os.Link(one, two))
	info := func(path string) unix.Info {
		st, err := os.Lstat(path)
		require.NoError(t, err)
		got, ok := unix.InfoOf(st)
		require.True(t, ok)
		return got
	}
	require.Equal(t, info(one), info(two))
	require.NotZero(t, info(one).Ino)
	require.EqualValues(t, 2, info(one).Nlink)
	require.EqualValues(t, os.Getuid(), info(one).UID)
	require.False(t, info(one).Ctime.IsZero())
	require.NotEqual(t, info(dir).Ino, info(one).Ino)
}

// What a system can't do is known by one error on all of them.
func TestUnsupported(t *testing.T) {
	for _, err := range []error{unix.ENOSYS, unix.ENOTSUP} {
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	require.NotErrorIs(t, syscall.ENOENT, errors.ErrUnsupported)
}

func TestNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte("content"), 0o600))
	fd, err := unix.Openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	f := unix.NewFile(fd, path)
	defer f.Close()
	data := make([]byte, 7)
	_, err = f.ReadAt(data, 0)
	require.NoError(t, err)
	require.Equal(t, "content", string(data))
}
