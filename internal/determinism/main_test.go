package main_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestSameDigestsEverywhere(t *testing.T) {
	program := filepath.Join(t.TempDir(), "determinism")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)

	golden := filepath.Join("testdata", "digests.golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, digests(t, program, "022"), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)

	for _, tc := range []struct {
		name, umask string
		env         []string
	}{
		{"one processor", "022", []string{"GOMAXPROCS=1"}},
		{"seven processors", "022", []string{"GOMAXPROCS=7"}},
		{"Kathmandu, Turkish, private files", "077", []string{"GOMAXPROCS=3", "TZ=Asia/Kathmandu", "LANG=tr_TR.UTF-8", "LC_ALL=tr_TR.UTF-8"}},
		{"open files, other HOME", "000", []string{"TZ=America/St_Johns", "LANG=C", "LC_ALL=C", "HOME=/nonexistent", "USER=nobody"}},
		{"collecting all the time", "027", []string{"GOGC=10", "GODEBUG=randautoseed=0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Empty(t, cmp.Diff(string(want), string(digests(t, program, tc.umask, tc.env...))))
		})
	}
}

// digests runs the program in a temporary folder of its own.
func digests(t *testing.T, program, umask string, env ...string) []byte {
	t.Helper()
	cmd := exec.Command("sh", "-c", `umask "$1" && exec "$2"`, "sh", umask, program)
	cmd.Dir = t.TempDir()
	cmd.Env = append(append(os.Environ(), "TMPDIR="+t.TempDir()), env...)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	require.NoError(t, err)
	return out
}
