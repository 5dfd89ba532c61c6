package ostree_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

// TestKilledAtCalls kills a process that commits before its Nth call of each kind
// that writes: nothing that is named is incomplete, and the next commit cleans up.
func TestKilledAtCalls(t *testing.T) {
	interop.Peer(t, "strace", "ostree")
	exe, err := os.Executable()
	require.NoError(t, err)
	for i, mode := range modes {
		left := 0
		for j, call := range []string{"mkdirat", "openat", "write", "fchmod", "renameat", "renameat2", "unlinkat", "fsetxattr", "utimensat"} {
			if mode != modes[1] && (call == "fsetxattr" || call == "utimensat") {
				continue // archive repositories do without
			}
			for _, n := range []int{1, 2 + (i+j)%4} {
				// A new repository, for only the first commit moves whole folders. Calls
				// are counted in each thread.
				r := newRepo(t, mode)
				cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), exe)
				cmd.Env = append(os.Environ(), crashVariable+"="+r.Path())
				out, err := cmd.CombinedOutput()
				require.Error(t, err, "%s", out)
				require.NotContains(t, string(out), "ostree", "it failed by itself") // errors begin so
				left += len(staging(t, r))
				require.NoError(t, r.Fsck(t.Context(), nil), "%s %s %d", mode, call, n)
				run(t, "ostree", "--repo="+r.Path(), "fsck")
				_, err = r.Commit(t.Context(), literal(dir(".")), nil)
				require.NoError(t, err)
				requireClean(t, r)
			}
		}
		require.NotZero(t, left, "no kill hit a transaction")
	}
}
