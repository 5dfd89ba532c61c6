package ostree_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// crashInitVariable makes the child of TestMain make a repository of this mode.
const crashInitVariable = "OSTREE_TEST_CRASH_INIT"

// TestInitKilledAtCalls kills a process that makes a repository before each of the
// calls that write. What is there is a repository or is not; the next Init makes
// one, or `ostree init` does and the next commit cleans up.
func TestInitKilledAtCalls(t *testing.T) {
	interop.Peer(t, "strace", "ostree")
	t.Parallel()
	exe, err := os.Executable()
	require.NoError(t, err)
	kills := 0
	for _, call := range []string{"mkdirat", "openat", "write", "fdatasync", "renameat", "unlinkat"} {
		// The runtime opens and writes files of its own first, by other calls but
		// for openat, of which ours are the last.
		for n := 1; n <= 24; n++ {
			path := filepath.Join(t.TempDir(), "repo")
			cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), exe)
			cmd.Env = append(os.Environ(), crashVariable+"="+path, crashInitVariable+"="+string(ostree.ModeArchive), "GOMAXPROCS=1")
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			require.Empty(t, out.String())
			require.Error(t, err)
			if ended, ok := errors.AsType[*exec.ExitError](err); ok && ended.ExitCode() == 4 {
				break // there are not so many calls
			}
			kills++
			other := filepath.Join(t.TempDir(), "repo")
			if _, err := os.Stat(path); err == nil {
				require.NoError(t, os.CopyFS(other, os.DirFS(path)))
			}
			run(t, "ostree", "--repo="+other, "init", "--mode=archive")
			for _, path := range []string{path, other} {
				r, err := ostree.Init(t.Context(), path, ostree.ModeArchive, nil)
				require.NoError(t, err, "%s %d", call, n)
				_, err = r.Commit(t.Context(), literal(dir(".")), nil)
				require.NoError(t, err, "%s %d", call, n)
				requireClean(t, r)
				require.NoError(t, r.Close())
			}
			run(t, "ostree", "--repo="+path, "fsck")
		}
	}
	require.Greater(t, kills, 12)
}

// TestInitTakesOver: what a killed Init left is used or removed.
func TestInitTakesOver(t *testing.T) {
	left := filepath.Join("tmp", "okd-config")
	for _, mode := range modes {
		path := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(path, "tmp", "cache"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(path, left), []byte("[core]\nrepo_ver"), 0o600))
		r, err := ostree.Init(t.Context(), path, mode, nil)
		require.NoError(t, err)
		require.NoFileExists(t, filepath.Join(path, left))
		// Another tool made the repository.
		require.NoError(t, os.WriteFile(filepath.Join(path, left), []byte("[core]\nrepo_ver"), 0o600))
		_, err = r.Commit(t.Context(), literal(dir(".")), nil)
		require.NoError(t, err)
		requireClean(t, r)
		require.NoError(t, r.Close())
	}
}
