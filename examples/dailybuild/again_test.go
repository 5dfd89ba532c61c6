package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// snapshot is everything below a folder: kinds, modes, sizes, content, and which
// file it is, as one that was written again is another.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		require.True(t, ok)
		text := fmt.Sprintf("%s inode %d", info.Mode(), stat.Ino)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d bytes %x of %s", info.Size(), sha256.Sum256(data), info.ModTime())
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " to " + target
		}
		out[rel] = text
		return nil
	}))
	return out
}

// TestSecondRunChangesNothing: not a file of the state, the store and the
// registry is another one after a run that had nothing to do.
func TestSecondRunChangesNothing(t *testing.T) {
	for _, args := range [][]string{nil, {"-source", "dir:" + smallSystem(t, 10)}, {"-source", "dir:" + smallSystem(t, 10), "-devino-cache"}} {
		dir := t.TempDir()
		args = append([]string{
			"-state", filepath.Join(dir, "state"), "-store", "dir:" + filepath.Join(dir, "store"), "-registry", "dir:" + filepath.Join(dir, "registry"), "-json", "-quiet",
		}, args...)
		code, _, stderr := call(t, args...)
		require.Zero(t, code, stderr)
		before := snapshot(t, dir)
		require.Greater(t, len(before), 100)
		code, stdout, stderr := call(t, args...)
		require.Zero(t, code, stderr)
		require.True(t, decode(t, stdout).Unchanged)
		require.Equal(t, before, snapshot(t, dir))
	}
}
