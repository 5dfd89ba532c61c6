package ostree_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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
	// Tests don't outlive a crash of the machine.
	stored, _ := r.Config("core", "mode")
	config := "[core]\nrepo_version=1\nmode=" + stored + "\nfsync=false\n"
	require.NoError(t, os.WriteFile(filepath.Join(r.Path(), "config"), []byte(config), 0o644))
	require.NoError(t, r.Close())
	r, err = ostree.Open(t.Context(), r.Path(), nil)
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

func sha(data []byte) [32]byte { return sha256.Sum256(data) }

// inode tells files apart.
func inode(st os.FileInfo) uint64 { return st.Sys().(*syscall.Stat_t).Ino }

// same compares long texts line by line and shows only the first difference.
func same(t testing.TB, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			t.Fatalf("line %d:\nwant %.600q\ngot  %.600q", i+1, x, y)
		}
	}
}

type seq = iter.Seq2[ostree.Entry, error]

func nlink(st os.FileInfo) uint64 { return uint64(st.Sys().(*syscall.Stat_t).Nlink) }

// commitCached commits with the cache in the file path, and saves it.
func commitCached(t testing.TB, r *ostree.Repo, tree ostree.Tree, path string, opts ostree.CommitOptions) (ostree.Checksum, ostree.CommitStats) {
	t.Helper()
	cache, err := ostree.OpenDevInoCache(path)
	require.NoError(t, err)
	var stats ostree.CommitStats
	opts.Cache, opts.Stats = cache, &stats
	c, err := r.Commit(t.Context(), tree, &opts)
	require.NoError(t, err)
	require.NoError(t, cache.Save())
	return c, stats
}
