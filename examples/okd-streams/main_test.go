package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/daily"
)

func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1795608000")
	var out, diagnostics bytes.Buffer
	code = ui.Exit(&diagnostics, "okd-streams", run(t.Context(), args, &out, &diagnostics))
	return code, out.String(), diagnostics.String()
}

func TestStepsOneByOne(t *testing.T) {
	state := t.TempDir()
	build := ""
	for _, step := range daily.Steps() {
		args := []string{"build", step, "--state", state, "--json", "--quiet"}
		if build != "" {
			args = append(args, "--build", build)
		}
		code, stdout, stderr := call(t, args...)
		require.Zero(t, code, "%s: %s", step, stderr)
		var s daily.Summary
		require.NoError(t, json.Unmarshal([]byte(stdout), &s))
		build = s.Build
	}
	code, stdout, stderr := call(t, "build", "--state", state, "--quiet")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "Nothing changed since build "+build)
	code, stdout, stderr = call(t, "build", "--state", state, "--quiet", "--detailed-exit-code")
	require.Equal(t, ui.ExitNothing, code)
	require.Contains(t, stdout, "Nothing changed since build "+build)
	require.Empty(t, stderr)
}

func TestFlagsFromEnvironment(t *testing.T) {
	t.Setenv("OKD_STREAMS_PLAN", "true")
	t.Setenv("OKD_STREAMS_STATE", t.TempDir())
	code, stdout, stderr := call(t, "build")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "build next of scheme")
	require.NoDirExists(t, filepath.Join(os.Getenv("OKD_STREAMS_STATE"), "repo"))

	// The command line counts more, and nothing is said by nothing.
	t.Setenv("OKD_STREAMS_JSON", "")
	code, stdout, stderr = call(t, "build", "--plan=false", "--quiet")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "base image")

	t.Setenv("OKD_STREAMS_MAX_LAYERS", "many")
	code, _, stderr = call(t, "build")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "OKD_STREAMS_MAX_LAYERS: ")
}

func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	code, _, stderr := call(t, "man", dir)
	require.Zero(t, code, stderr)
	page, err := os.ReadFile(filepath.Join(dir, "okd-streams-ostree-commit.1"))
	require.NoError(t, err)
	require.Contains(t, string(page), "--owner-uid")
	page, err = os.ReadFile(filepath.Join(dir, "okd-streams.1"))
	require.NoError(t, err)
	require.Contains(t, string(page), "Exit codes")
	require.NotContains(t, string(page), "Auto generated")
}

func TestStreams(t *testing.T) {
	code, stdout, _ := call(t, "stream", "list")
	require.Zero(t, code)
	require.Contains(t, stdout, "okd-scos-next")
	require.Contains(t, stdout, "ends with 4.15")

	code, stdout, _ = call(t, "stream", "show", "okd-scos-stable")
	require.Zero(t, code)
	file := filepath.Join(t.TempDir(), "own.yaml")
	require.NoError(t, os.WriteFile(file, []byte(stdout), 0o600))
	code, stdout, _ = call(t, "stream", "lint", file)
	require.Zero(t, code)
	require.Contains(t, stdout, "no faults")

	require.NoError(t, os.WriteFile(file, []byte("kind: Stream\nkynd: x\n"), 0o600))
	code, _, stderr := call(t, "stream", "lint", file)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "line 2")
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"nonsense"}, {"build", "nonsense"}, {"build", "--nonsense"}, {"stream", "show", "nonsense"}, {"stream", "show"}, {"version", "x"},
		{"completion", "bash", "x"}, {"ostree", "nonsense"}, {"ostree", "ls"}, {"ostree", "ls", "--nonsense"}, {"ostree", "--repo", "x", "commit", "--editor"}} {
		code, stdout, stderr := call(t, args...)
		require.Equal(t, 2, code, "%v: %s", args, stderr)
		require.Empty(t, stdout)
	}
	_, _, stderr := call(t, "strem")
	require.Contains(t, stderr, "did you mean ostree or stream?")
}

func TestVersion(t *testing.T) {
	code, stdout, _ := call(t, "version")
	require.Zero(t, code)
	require.Contains(t, stdout, "okd-streams ")
}
