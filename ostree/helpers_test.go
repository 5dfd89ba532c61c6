package ostree_test

import (
	"bytes"
	"context"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

func dir(path string) ostree.Entry { return ostree.Entry{Path: path, Mode: ostree.ModeDir | 0o755} }

func file(path, content string) ostree.Entry {
	return ostree.Entry{Path: path, Mode: ostree.ModeRegular | 0o644, Size: int64(len(content)), Detached: true,
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

func link(path, target string) ostree.Entry {
	return ostree.Entry{Path: path, Mode: ostree.ModeSymlink | 0o777, Target: target}
}

// literal is entries as a tree.
func literal(entries ...ostree.Entry) ostree.Tree {
	return ostree.TreeFunc(func(context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
	})
}

func newRepo(t testing.TB, mode ostree.Mode) *ostree.Repo {
	t.Helper()
	r, err := ostree.Init(t.Context(), filepath.Join(t.TempDir(), "repo"), mode, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// openDir is the folder path as a tree.
func openDir(t testing.TB, path string) ostree.Tree {
	t.Helper()
	root, err := os.OpenRoot(path)
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	return ostree.Dir(root)
}

// run runs a peer and gives its output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	require.NoError(t, cmd.Run(), "%s %v: %s", name, args, errs.String())
	return out.String()
}

// unpack unpacks a shared repository or tree and gives its folder.
func unpack(t testing.TB, name string) string {
	t.Helper()
	archive := interop.SharedData(t, "ostree", name+".tar.zst")
	dir := t.TempDir()
	run(t, "tar", "--xattrs", "--xattrs-include=*", "--zstd", "-xpf", archive, "-C", dir)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	return filepath.Join(dir, entries[0].Name())
}
