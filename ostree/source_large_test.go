//go:build linux

package ostree_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A large directory is looked at in parts; the order is that of one.
func TestDirInParts(t *testing.T) {
	path := t.TempDir()
	for i := range 2200 {
		at := filepath.Join(path, fmt.Sprintf("%05d", i*7919%2200))
		if i%9 != 0 {
			require.NoError(t, os.WriteFile(at, nil, 0o644))
			continue
		}
		require.NoError(t, os.Mkdir(at, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(at, "x"), nil, 0o644))
	}
	var want, got []string
	require.NoError(t, fs.WalkDir(os.DirFS(path), ".", func(path string, _ fs.DirEntry, err error) error {
		want = append(want, path)
		return err
	}))
	tree := openDir(t, path)
	for e, err := range tree.Entries(t.Context()) {
		require.NoError(t, err)
		got = append(got, e.Path)
	}
	require.Equal(t, want, got)
	for e, err := range tree.Entries(t.Context()) { // ended in its second part
		require.NoError(t, err)
		if e.Path == "01500" {
			break
		}
	}
}
