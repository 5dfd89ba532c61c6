package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/daily"
)

func readResults(t *testing.T, dir string) map[string]string {
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		all[e.Name()] = string(data)
	}
	return all
}

// TestResultFiles: a pipeline gets from the walk, step by step, what the next
// task needs, and hands it on.
func TestResultFiles(t *testing.T) {
	state := t.TempDir()
	var got map[string]string
	for _, step := range append(daily.Steps(), "") {
		dir := t.TempDir()
		args := []string{"build"}
		if step != "" {
			args = append(args, step)
			if got != nil {
				args = append(args, "--build", got["build"])
			}
		}
		code, _, stderr := call(t, append(args, "--state", state, "--quiet", "--results-dir", dir)...)
		require.Zero(t, code, stderr)
		got = readResults(t, dir)
		require.Len(t, got, len(building), "every result is there, empty or not")
		require.Equal(t, "OK", got["output"])
		require.Equal(t, step != daily.StepInputs, got["commit"] != "")
		require.Equal(t, step == daily.StepPublish || step == "", got["published"] == "true", step)
		require.Equal(t, step != "", got["changed"] == "true", step)
	}
	require.Equal(t, "sample", got["stream"])
	require.Regexp(t, `^[0-9a-f]{64}$`, got["commit"])
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, got["release-digest"])
	require.True(t, strings.HasSuffix(got["release-pullspec"], "@"+got["release-digest"]))
	require.True(t, strings.HasSuffix(got["node-image"], "@"+got["node-digest"]))
	require.Equal(t, "passed", got["gates"])
	require.NotEmpty(t, got["tags"])

	// The next task reads the release by it, the folder from the environment.
	dir := t.TempDir()
	t.Setenv("OKD_STREAMS_RESULTS_DIR", dir)
	code, _, stderr := call(t, "payload", "info", "--from", "dir:"+filepath.Join(state, "registry"), got["release-pullspec"])
	require.Zero(t, code, stderr)
	info := readResults(t, dir)
	for _, name := range []string{"release-name", "release-digest", "release-pullspec"} {
		require.Equal(t, got[name], info[name], name)
	}

	// A command that fails leaves them too; one without results has no folder.
	code, _, stderr = call(t, "payload", "info", "--from", "dir:"+filepath.Join(state, "registry"), "localhost/sample/release:none")
	require.Equal(t, ui.ExitFailed, code, stderr)
	require.Empty(t, readResults(t, dir)["release-name"])
	code, _, stderr = call(t, "stream", "list")
	require.Zero(t, code, stderr)
	require.NoError(t, os.Unsetenv("OKD_STREAMS_RESULTS_DIR"))
	code, _, _ = call(t, "stream", "list", "--results-dir", dir)
	require.Equal(t, ui.ExitUsage, code)
	code, _, stderr = call(t, "build", "--results-dir", filepath.Join(dir, "none"))
	require.Equal(t, ui.ExitUsage, code)
	require.Contains(t, stderr, "want a folder")
}

// TestResultNames: the table names commands that are there, and results by names
// that Tekton takes.
func TestResultNames(t *testing.T) {
	root := newRoot()
	for path, declared := range resultsOf {
		cmd, rest, err := root.Find(strings.Fields(path))
		require.NoError(t, err, path)
		require.Empty(t, rest, path)
		require.Equal(t, "okd-streams "+path, cmd.CommandPath())
		seen := []string{}
		for _, r := range declared {
			require.Regexp(t, regexp.MustCompile(`^[a-z][a-z-]*$`), r.Name)
			require.NotContains(t, seen, r.Name)
			require.NotEmpty(t, r.Means)
			seen = append(seen, r.Name)
		}
		require.NotNil(t, cmd.Flags().Lookup("results-dir"), path)
	}
}
