package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/prow"
)

// kept reads what a Prow job keeps of a run.
func kept(t *testing.T, dir, name string) *prow.JUnit {
	file, err := os.Open(filepath.Join(dir, name))
	require.NoError(t, err)
	defer file.Close()
	j, err := prow.DecodeJUnit(file)
	require.NoError(t, err)
	return j
}

func names(j *prow.JUnit, of func(prow.Case) bool) (list []string) {
	for _, c := range j.Cases {
		if of(c) {
			list = append(list, c.Name)
		}
	}
	return list
}

func failed(c prow.Case) bool { return c.Failure != "" }
func passed(c prow.Case) bool { return c.Failure == "" && !c.Skipped }

// TestArtifacts: a Prow job keeps a case for each step and gate, and the report.
func TestArtifacts(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	t.Setenv("ARTIFACTS", dir)
	require.NoError(t, os.WriteFile(filepath.Join(state, "cache"), nil, 0o600)) // in the way
	code, _, stderr := call(t, "build", "--state", state, "--quiet")
	require.Equal(t, ui.ExitFailed, code)
	require.NotEmpty(t, stderr)
	j := kept(t, dir, "junit_okd-streams-build.xml")
	require.Equal(t, []string{"okd-streams build", daily.StepEncapsulate}, names(j, failed))
	require.Equal(t, []string{daily.StepInputs, daily.StepCommit}, names(j, passed))
	require.Contains(t, j.Cases[0].Failure, "cache")
	require.NoError(t, os.Remove(filepath.Join(state, "cache")))
	require.NoFileExists(t, filepath.Join(dir, "okd-streams-build-summary.html"))

	// Again, now well: the results of before stay.
	code, _, stderr = call(t, "build", "--state", state, "--quiet")
	require.Zero(t, code, stderr)
	require.NotEmpty(t, names(kept(t, dir, "junit_okd-streams-build.xml"), failed))
	j = kept(t, dir, "junit_okd-streams-build-2.xml")
	require.Equal(t, append(append([]string{"okd-streams build"}, daily.Steps()...), "links", "lint", "payload"), names(j, passed))
	require.Empty(t, names(j, failed))
	page, err := os.ReadFile(filepath.Join(dir, "okd-streams-build-2-summary.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "</html>")

	// Nothing to do is no failure.
	code, _, _ = call(t, "build", "--state", state, "--quiet", "--detailed-exit-code")
	require.Equal(t, ui.ExitNothing, code)
	require.Empty(t, names(kept(t, dir, "junit_okd-streams-build-3.xml"), failed))

	code, _, _ = call(t, "stream", "lint", "none.yaml")
	require.Equal(t, ui.ExitFailed, code)
	require.Equal(t, []string{"okd-streams stream lint"}, names(kept(t, dir, "junit_okd-streams-stream-lint.xml"), failed))
	code, _, _ = call(t, "version")
	require.Zero(t, code)
	require.NoFileExists(t, filepath.Join(dir, "junit_okd-streams-version.xml"))

	t.Setenv("ARTIFACTS", filepath.Join(dir, "none"))
	code, _, stderr = call(t, "stream", "lint", "none.yaml")
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "none.yaml", "what went wrong is said first")
}
