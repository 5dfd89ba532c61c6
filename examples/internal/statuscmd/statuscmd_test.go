package statuscmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/statuscmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/status"
)

// call runs `okd-streams status` as a shell would.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := statuscmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

// serve answers as a release controller for a stream with a green and a red
// build.
func serve(t *testing.T, requests *atomic.Int64) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		release := func(version, phase, state string) {
			_, _ = fmt.Fprintf(w, `{"name":%q,"phase":%q,"results":{"blockingJobs":{"aws":{"state":%q,"url":"https://example.com/aws"}}}}`, version, phase, state)
		}
		switch strings.TrimPrefix(req.URL.Path, "/api/v1/releasestream/4.22.0-0.okd-scos/") {
		case "tags":
			_, _ = fmt.Fprint(w, `{"name":"s","tags":[
				{"name":"4.22.0-0.okd-scos-2026-11-26-080000","phase":"Rejected","pullSpec":"registry.example.com/r:2"},
				{"name":"4.22.0-0.okd-scos-2026-11-25-080000","phase":"Accepted","pullSpec":"registry.example.com/r:1"}]}`)
		case "release/4.22.0-0.okd-scos-2026-11-26-080000":
			release("4.22.0-0.okd-scos-2026-11-26-080000", "Rejected", "Failed")
		case "release/4.22.0-0.okd-scos-2026-11-25-080000":
			release("4.22.0-0.okd-scos-2026-11-25-080000", "Accepted", "Succeeded")
		default:
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

const (
	name = "4.22.0-0.okd-scos"
	when = "2026-11-26T12:00:00Z"
)

func TestStatus(t *testing.T) {
	var requests atomic.Int64
	url, dir := serve(t, &requests), t.TempDir()
	args := []string{"--controller", url, "--now", when, "--cache", "dir:" + filepath.Join(dir, "cache"), name}
	code, stdout, stderr := call(t, args...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "not ready")
	require.Contains(t, stdout, "4.22.0-0.okd-scos: FAILING\n  failing: gate aws is red since 4.22.0-0.okd-scos-2026-11-26-080000; last green 4.22.0-0.okd-scos-2026-11-25-080000\n")
	require.EqualValues(t, 3, requests.Load())

	code, stdout, stderr = call(t, append(args, "-o", "json", "--exit-zero")...)
	require.Zero(t, code, stderr)
	var report status.Report
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.Equal(t, status.Failing, report.Level)
	require.EqualValues(t, 4, requests.Load(), "the builds are decided")

	page := filepath.Join(dir, "page.html")
	code, stdout, _ = call(t, append(args, "-o", "html", "--to", page)...)
	require.Equal(t, 1, code, "the page is written all the same")
	require.Empty(t, stdout)
	data, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(data), "<!doctype html>")
	_, stdout, _ = call(t, append(args, "-o", "prometheus")...)
	require.Contains(t, stdout, `okd_streams_level{stream="4.22.0-0.okd-scos"} 2`)

	// Payloads that are not there any more are said to be gone.
	code, stdout, _ = call(t, append(args, "--inside", "--from", "dir:"+filepath.Join(dir, "registry"))...)
	require.Equal(t, 1, code)
	require.Contains(t, stdout, "the payload is gone")
}

func TestFailures(t *testing.T) {
	var requests atomic.Int64
	url := serve(t, &requests)
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no stream":     {[]string{"--controller", url}, 2, "no stream, but it is status {--controller URL | --results STORE} STREAM..."},
		"no controller": {[]string{name}, 2, "give --controller URL"},
		"address":       {[]string{"--controller", "example.com", name}, 2, "an address such as"},
		"format":        {[]string{"--controller", url, "-o", "xml", name}, 2, "text, json, yaml, html, prometheus"},
		"time":          {[]string{"--controller", url, "--now", "today", name}, 2, "--now"},
		"cache":         {[]string{"--controller", url, "--cache", "ftp://x", name}, 2, "--cache"},
		"registry":      {[]string{"--controller", url, "--inside", "--from", "ftp://x", name}, 2, "--from"},
		"unknown":       {[]string{"--controller", url, "none"}, 1, "lists the streams"},
		"reference":     {[]string{"--controller", url, "--reference", "example.com/none:1", "--from", "dir:" + t.TempDir(), name}, 1, "example.com/none:1"},
		"output":        {[]string{"--controller", url, "--to", filepath.Join(t.TempDir(), "none", "x"), name}, 1, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := call(t, test.args...)
			require.Equal(t, test.code, code, stderr)
			require.Contains(t, stderr, test.want)
			require.Empty(t, stdout)
		})
	}
}

// TestStatusOfRecordedResults needs no release controller; beside one the later
// result counts.
func TestStatusOfRecordedResults(t *testing.T) {
	dir := t.TempDir()
	store, err := dirstore.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	at, err := time.Parse(time.RFC3339, when)
	require.NoError(t, err)
	book := gate.Book{Store: store}
	for release, state := range map[string]gate.State{"4.22.0-0.okd-scos-nightly-2026-11-26-080000": gate.Passed, "4.22.0-0.okd-scos-2026-11-26-080000": gate.Failed} {
		require.NoError(t, book.Record(t.Context(), gate.Result{
			Gate: "aws", Subject: gate.Subject{Release: release, Digest: "sha256:" + strings.Repeat("1", 63) + map[gate.State]string{gate.Passed: "1", gate.Failed: "2"}[state]},
			State: state, Reason: "so", At: at.Add(-time.Minute),
		}))
	}
	code, stdout, stderr := call(t, "--results", "dir:"+dir, "--now", when, "okd-scos-next")
	require.Equal(t, 1, code, stderr)
	require.Contains(t, stdout, "last build     4.22.0-0.okd-scos-nightly-2026-11-26-080000, 4 hours ago")
	require.Contains(t, stdout, "gate aws (blocking): succeeded, 1 of 1 passed")
	require.NotContains(t, stdout, "4.22.0-0.okd-scos-2026", "of another scheme")

	var requests atomic.Int64
	_, stdout, stderr = call(t, "--results", "dir:"+dir, "--controller", serve(t, &requests), "--now", when, name)
	require.Contains(t, stderr, "not ready")
	require.Contains(t, stdout, "gate aws (blocking): failed, 1 of 2 passed")
	require.Contains(t, stdout, "red since 4.22.0-0.okd-scos-2026-11-26-080000")

	code, _, stderr = call(t, "--results", "dir:"+dir, "no-such-stream")
	require.Equal(t, 2, code, stderr)
}
