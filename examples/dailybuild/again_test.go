package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish/daily"
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

// TestUnreadFiles: with -devino-cache the second day's run reads what changed, and gets
// what a run that reads everything gets.
func TestUnreadFiles(t *testing.T) {
	tree, dir := smallSystem(t, 40), t.TempDir()
	run := func(state string, more ...string) *daily.Summary {
		code, stdout, stderr := call(t, append([]string{"-state", filepath.Join(dir, state), "-source", "dir:" + tree, "-json", "-quiet"}, more...)...)
		require.Zero(t, code, stderr)
		return decode(t, stdout)
	}
	time.Sleep(50 * time.Millisecond) // a file is not known before the clock has moved on
	const files, links = 45, 7        // that the tree has, and that every system has besides
	require.Equal(t, daily.Reuse{OfItems: files + links}, run("state", "-devino-cache").Steps[0].Reuse["unread"])
	require.NoError(t, os.WriteFile(filepath.Join(tree, "usr/share/data/7/7"), []byte("another day"), 0o644))
	second := run("state", "-devino-cache")
	require.Equal(t, daily.Reuse{Items: files - 1, OfItems: files + links}, second.Steps[0].Reuse["unread"])
	all := run("fresh")
	require.Equal(t, all.Commit.Content, second.Commit.Content)
	require.Equal(t, all.Commit.Bytes, second.Commit.Bytes)
}
