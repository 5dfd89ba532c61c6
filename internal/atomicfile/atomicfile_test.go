package atomicfile_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/atomicfile"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func requireOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	require.Equal(t, names, got)
}

func TestWrite(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	path := filepath.Join(dir, "record.json")
	require.NoError(t, atomicfile.Write(path, text("one")))
	require.NoError(t, atomicfile.Write(path, text("two")))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "two", string(data))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o644), info.Mode())
	requireOnly(t, dir, "record.json")

	fault := errors.New("on second thought")
	err = atomicfile.Write(path, func(w io.Writer) error {
		_ = text("three")(w)
		return fault
	})
	require.ErrorIs(t, err, fault)
	require.ErrorContains(t, err, path)
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "two", string(data))
	requireOnly(t, dir, "record.json")

	require.ErrorIs(t, atomicfile.Write(filepath.Join(dir, "missing", "x"), text("x")), fs.ErrNotExist)
	require.ErrorIs(t, atomicfile.Write(dir+"/", text("x")), fs.ErrInvalid)
}

func TestWriteDoesNotFollowLinks(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("kept"), 0o644))
	path := filepath.Join(dir, "record.json")
	require.NoError(t, os.Symlink(outside, path))
	require.NoError(t, atomicfile.Write(path, text("new")))
	data, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "kept", string(data))
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.True(t, info.Mode().IsRegular())
}

func TestConcurrentWritersAndClean(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "record.json")
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				want := strings.Repeat(fmt.Sprint(w), 1000)
				if err := atomicfile.Write(path, text(want)); err != nil {
					errs[w] = err
					return
				}
				if i%10 == 0 {
					if err := atomicfile.Clean(dir); err != nil {
						errs[w] = err
						return
					}
				}
				data, err := os.ReadFile(path)
				if err != nil || len(data) != 1000 || strings.Count(string(data), string(data[0])) != 1000 {
					errs[w] = fmt.Errorf("a reader saw %d bytes, %v", len(data), err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	requireOnly(t, dir, "record.json")
}

// TestKilledWriter is its own child: it writes half a file and waits for the end.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv("ATOMICFILE_CHILD"); path != "" {
		_ = atomicfile.Write(path, func(w io.Writer) error {
			_ = text("half")(w)
			fmt.Println("writing")
			select {}
		})
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "record.json")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".atomic-not-ours"), nil, 0o644))
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWriter$")
	child.Env = append(os.Environ(), "ATOMICFILE_CHILD="+path)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	_, err = io.ReadFull(out, make([]byte, len("writing")))
	require.NoError(t, err)
	// In use: kept.
	require.NoError(t, atomicfile.Clean(dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(data))
	require.NoError(t, atomicfile.Clean(dir))
	requireOnly(t, dir, ".atomic-not-ours", "record.json")
	require.NoError(t, atomicfile.Clean(filepath.Join(dir, "missing")))
}

func ExampleWrite() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "record.json")
	fmt.Println(atomicfile.Write(path, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, `{"step": "commit"}`)
		return err
	}))
	data, err := os.ReadFile(path)
	fmt.Print(string(data), err)
	// Output:
	// <nil>
	// {"step": "commit"}
	// <nil>
}
