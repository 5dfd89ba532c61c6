package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/stream"
)

// TestStreamStatus: one table says how a stream stands, before its first build,
// after it, and when something of it is gone.
func TestStreamStatus(t *testing.T) {
	dir := t.TempDir()
	text, err := stream.Edit(stream.BuiltinSource("sample"),
		stream.Set{Path: "cadences.daily.schedule", Value: "0 10 * * *"}, stream.Set{Path: "cadences.promotion.schedule", Value: "0 5 * * 1"})
	require.NoError(t, err)
	file := filepath.Join(dir, "own.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	state := filepath.Join(dir, "state")
	results := "dir:" + filepath.Join(dir, "results")
	look := func(now string, more ...string) (int, string) {
		code, stdout, stderr := call(t, append([]string{"stream", "status", file, "--state", state, "--results", results, "--now", now}, more...)...)
		if code == 0 {
			require.Empty(t, stderr)
		}
		return code, stdout
	}

	code, table := look("2026-11-25T12:00:00Z")
	require.Zero(t, code)
	require.Contains(t, table, "built      nothing")
	require.Contains(t, table, "build      due")
	require.NoDirExists(t, state, "looking makes nothing")
	code, _ = look("2026-11-25T12:00:00Z", "--exit-code")
	require.Equal(t, ui.ExitFailed, code)

	code, _, stderr := call(t, "build", "--stream", file, "--state", state, "--results", results, "--quiet")
	require.Zero(t, code, stderr)
	code, table = look("2026-11-25T12:30:00Z", "--exit-code")
	require.Zero(t, code, table)
	for _, want := range []string{
		"built      x86_64   0.0.20261125-0 0.0.0-sample.20261125", "2026-11-25T12:00:00Z, 30m0s ago", "announced  newest   0.0.20261125-0",
		"pointer    ok       localhost/sample/sample-coreos:latest ", "build      later", "on 2026-11-26T10:00:00Z", "promotion  due", "gate       ", "lint (blocks)", "readiness  ok",
	} {
		require.Contains(t, table, want)
	}

	_, table = look("2026-11-26T10:00:00Z")
	require.Contains(t, table, "build      due")
	require.Contains(t, table, "since 2026-11-26T10:00:00Z")

	// Nobody was told, an image is gone, and the catalogue is damaged.
	require.NoError(t, os.Remove(filepath.Join(state, "store", "sample", "releases.json")))
	require.NoError(t, os.RemoveAll(filepath.Join(state, "registry", "sample", "sample-coreos-extensions")))
	code, said := look("2026-11-25T12:30:00Z", "-o", "json")
	require.Zero(t, code)
	var got struct {
		Announced string
		Pointers  []struct{ Tag, State string }
		Gates     struct{ State string }
	}
	require.NoError(t, json.Unmarshal([]byte(said), &got))
	require.Empty(t, got.Announced)
	for _, p := range got.Pointers {
		require.Equal(t, strings.Contains(p.Tag, "extensions"), p.State == "missing", p.Tag)
	}
	require.Len(t, got.Pointers, 5)
	require.NoError(t, os.WriteFile(filepath.Join(state, "store", "sample", "builds", "builds.json"), []byte("junk"), 0o600))
	code, table = look("2026-11-25T12:30:00Z")
	require.Zero(t, code)
	require.Contains(t, table, "built      unknown")
	require.NotContains(t, table, "build      due")
	require.Regexp(t, `(?m)^fault +builds: `, table)
}
