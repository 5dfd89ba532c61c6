package main_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// TestDailyBuildIsTheSame runs the main job for the same time on unlike
// machines: what it publishes has the same names and bytes.
func TestDailyBuildIsTheSame(t *testing.T) {
	program := filepath.Join(t.TempDir(), "dailybuild")
	out, err := exec.Command("go", "build", "-o", program, "../../examples/dailybuild").CombinedOutput()
	require.NoError(t, err, "%s", out)

	// The folder is the same each time: documents have its URL in them.
	dir := filepath.Join(t.TempDir(), "published")
	build := func(umask string, env ...string) []string {
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.Mkdir(dir, 0o755))
		cmd := exec.Command("sh", "-c", `umask "$1" && shift && exec "$@"`, "sh", umask, program, "--quiet",
			"--state", filepath.Join(dir, "state"), "--store", "dir:"+filepath.Join(dir, "store"), "--registry", "dir:"+filepath.Join(dir, "registry"))
		cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH=1793534400", "TMPDIR="+t.TempDir()), env...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		var files []string
		for _, top := range []string{"store", "registry"} {
			require.NoError(t, filepath.WalkDir(filepath.Join(dir, top), func(path string, e fs.DirEntry, err error) error {
				if err != nil || !e.Type().IsRegular() {
					return err
				}
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				name, err := filepath.Rel(dir, path)
				files = append(files, fmt.Sprintf("%x %s", sha256.Sum256(content), name))
				return err
			}))
		}
		return files
	}
	want := build("022", "GOMAXPROCS=1")
	require.Greater(t, len(want), 5)
	got := build("077", "GOMAXPROCS=5", "TZ=Asia/Kathmandu", "LANG=tr_TR.UTF-8", "LC_ALL=tr_TR.UTF-8")
	require.Empty(t, cmp.Diff(want, got))
}
