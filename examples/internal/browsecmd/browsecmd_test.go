package browsecmd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/browsecmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// call runs `okd-streams browse` as a shell would.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := browsecmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
}

// TestBrowse writes pages beside the state of a build, with links to its files
// and its report.
func TestBrowse(t *testing.T) {
	state := t.TempDir()
	const commit = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
	write(t, filepath.Join(state, "store/streams/sample.json"), "{}")
	write(t, filepath.Join(state, "store/sample/builds/builds.json"), `{"schema-version": "1.0.0", "builds": [{"id": "0.0.1-0", "arches": ["x86_64", "aarch64"]}]}`)
	for _, arch := range []string{"x86_64", "aarch64"} {
		write(t, filepath.Join(state, "store/sample/builds/0.0.1-0", arch, "meta.json"), `{"buildid": "0.0.1-0", "name": "sample", "ostree-commit": "`+commit+`", "ostree-version": "0.0.1-0", "ostree-timestamp": "2026-11-25T00:00:00Z",
			"images": {"qemu": {"path": "disk.qcow2", "sha256": "`+commit+`", "size": 4}}}`)
		write(t, filepath.Join(state, "store/sample/builds/0.0.1-0", arch, "disk.qcow2"), "disk")
	}
	write(t, filepath.Join(state, "0.0.1-0/inputs.json"), `{"arch": "x86_64"}`)
	write(t, filepath.Join(state, "0.0.1-0/report.html"), "report")
	out := filepath.Join(state, "pages")
	code, stdout, stderr := call(t, "--state", state, "--out", "dir:"+out, "--title", "Mine")
	require.Zero(t, code, stderr)
	require.Equal(t, "3 pages, 3 written\n", stdout)
	data, err := os.ReadFile(filepath.Join(out, "sample/builds/0.0.1-0.html"))
	require.NoError(t, err)
	require.Contains(t, string(data), `<a href="../../../store/sample/builds/0.0.1-0/x86_64/disk.qcow2">`)
	require.Contains(t, string(data), `<a href="../../../0.0.1-0/report.html">`)
	require.Equal(t, 1, bytes.Count(data, []byte("report.html")), "of the architecture that was built here")

	// The same again, of a definition, which has a title and an address.
	code, stdout, stderr = call(t, "--state", state, "--out", "dir:"+out, "--files", "https://files.example.org", "--json", "sample")
	require.Zero(t, code, stderr)
	require.JSONEq(t, `{"pages": 3, "new": 3}`, stdout)
	data, err = os.ReadFile(filepath.Join(out, "sample/builds/0.0.1-0.html"))
	require.NoError(t, err)
	require.Contains(t, string(data), `<a href="https://files.example.org/sample/builds/0.0.1-0/x86_64/disk.qcow2">`)

	write(t, filepath.Join(state, "graph.json"), `{"nodes": [{"version": "1.0.0", "payload": "x@sha256:1", "metadata": {}}], "edges": []}`)
	write(t, filepath.Join(state, "status.json"), `{"made": "2026-11-26T12:00:00Z", "level": "ok", "streams": []}`)
	code, _, stderr = call(t, "--state", state, "--out", "dir:"+out, "--graph", filepath.Join(state, "graph.json"), "--status", filepath.Join(state, "status.json"), "--results", "dir:"+filepath.Join(state, "store"))
	require.Zero(t, code, stderr)
	require.FileExists(t, filepath.Join(out, "graph.html"))
	require.FileExists(t, filepath.Join(out, "readiness.html"))
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk")
	write(t, junk, "{")
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no store": {nil, 2, "give --state FOLDER"},
		"no out":   {[]string{"--store", "dir:" + dir}, 2, "give --out"},
		"missing":  {[]string{"--state", filepath.Join(dir, "none"), "--out", "dir:" + dir}, 1, "no such file"},
		"store":    {[]string{"--store", "ftp://x", "--out", "dir:" + dir}, 2, "--store"},
		"out":      {[]string{"--store", "dir:" + dir, "--out", "ftp://x"}, 2, "--out"},
		"results":  {[]string{"--store", "dir:" + dir, "--out", "dir:" + dir, "--results", "ftp://x"}, 2, "--results"},
		"per page": {[]string{"--store", "dir:" + dir, "--out", "dir:" + dir, "--per-page", "0"}, 2, "--per-page"},
		"graph":    {[]string{"--store", "dir:" + dir, "--out", "dir:" + dir, "--graph", junk}, 1, junk},
		"status":   {[]string{"--store", "dir:" + dir, "--out", "dir:" + dir, "--status", junk}, 1, junk},
		"stream":   {[]string{"--store", "dir:" + dir, "--out", "dir:" + dir, "no-such-stream"}, 2, "no-such-stream"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := call(t, test.args...)
			require.Equal(t, test.code, code, stderr)
			require.Contains(t, stderr, test.want)
			require.Empty(t, stdout)
		})
	}
}
