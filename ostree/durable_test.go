package ostree_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

const durableVariable = "OSTREE_TEST_DURABLE_REPO"

// durableChild is the traced process of TestDurable.
func durableChild(repo string) error {
	r, err := ostree.Open(context.Background(), repo, nil)
	if err != nil {
		return err
	}
	_, err = r.Commit(context.Background(), treegen.Tree(1, &treegen.Options{Files: 60}), &ostree.CommitOptions{Ref: "durable"})
	return err
}

// TestDurable: objects are on the disk before a ref names them, and the ref is
// when Commit returns; nothing is waited for where the repository says so.
func TestDurable(t *testing.T) {
	interop.Peer(t, "strace")
	exe, err := os.Executable()
	require.NoError(t, err)
	ref := regexp.MustCompile(`renameat2?\(.*"(refs/heads/)?durable"`)
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser} {
		for _, tc := range []struct {
			name, key, value string
			least, most      int // calls before the ref has its name
		}{
			{"default", "fsync", "true", 2, 100}, // syncfs, and folders of objects
			{"per object", "per-object-fsync", "true", 101, 1000},
			{"off", "fsync", "false", 0, 0},
		} {
			t.Run(string(mode)+" "+tc.name, func(t *testing.T) {
				r := newRepo(t, mode)
				require.NoError(t, r.SetConfig(t.Context(), "core", "fsync", "true"))
				require.NoError(t, r.SetConfig(t.Context(), "core", tc.key, tc.value))
				trace := filepath.Join(t.TempDir(), "trace")
				cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-o", trace, "-e", "trace=fsync,fdatasync,syncfs,renameat,renameat2", exe)
				cmd.Env = append(os.Environ(), durableVariable+"="+r.Path())
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", out)
				text, err := os.ReadFile(trace)
				require.NoError(t, err)
				at := ref.FindIndex(text)
				require.NotNil(t, at, "%s", text)
				require.Equal(t, tc.least > 0, bytes.Contains(text[:at[0]], []byte("syncfs(")))
				before, after := syncs(text[:at[0]]), syncs(text[at[1]:])
				t.Logf("%d calls before the ref, %d after", before, after)
				require.GreaterOrEqual(t, before, tc.least)
				require.LessOrEqual(t, before, tc.most)
				if tc.least > 0 {
					require.NotZero(t, after, "the ref's folder")
				} else {
					require.Zero(t, after)
				}
			})
		}
	}
}

// syncs counts the calls that wait for the disk.
func syncs(trace []byte) int {
	n := 0
	for line := range strings.Lines(string(trace)) {
		if strings.Contains(line, "sync(") || strings.Contains(line, "syncfs(") {
			n++
		}
	}
	return n
}
