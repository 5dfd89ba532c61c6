package atomicfile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/atomicfile"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

func names(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, atomicfile.Write(path, text("one")))
	require.NoError(t, atomicfile.Write(path, text("two")))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "two", string(data))

	broken := errors.New("broken")
	err = atomicfile.Write(path, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, broken)
	})
	require.ErrorIs(t, err, broken)
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "two", string(data))
	require.Equal(t, []string{"file"}, names(t, dir))
}

func TestWriteAfterAKilledWriter(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".file.tmp"), []byte("a long rest of a killed writer"), 0o600))
	require.NoError(t, atomicfile.Write(filepath.Join(dir, "file"), text("new")))
	require.Equal(t, []string{"file"}, names(t, dir))
	data, err := os.ReadFile(filepath.Join(dir, "file"))
	require.NoError(t, err)
	require.Equal(t, "new", string(data))
}

func TestWriteDoesNotFollowLinks(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	require.NoError(t, os.WriteFile(target, []byte("kept"), 0o600))
	require.NoError(t, os.Symlink(target, filepath.Join(dir, ".file.tmp")))
	require.Error(t, atomicfile.Write(filepath.Join(dir, "file"), text("new")))
	require.NoError(t, os.Remove(filepath.Join(dir, ".file.tmp")))
	require.NoError(t, os.Symlink(target, filepath.Join(dir, "file")))
	require.NoError(t, atomicfile.Write(filepath.Join(dir, "file"), text("new")))
	data, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Equal(t, "kept", string(data))
	require.Error(t, atomicfile.Write(dir+"/", text("new")))
}
