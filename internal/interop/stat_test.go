package interop_test

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// measure counts the regular files below dir and their bytes, and lists their
// inodes.
func measure(t *testing.T, dir string) (files int, bytes int64, inodes map[uint64]int64) {
	t.Helper()
	inodes = make(map[uint64]int64)
	require.NoError(t, filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files++
		bytes += info.Size()
		inodes[info.Sys().(*syscall.Stat_t).Ino] = info.Size()
		return nil
	}))
	return files, bytes, inodes
}
