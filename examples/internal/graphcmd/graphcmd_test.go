package graphcmd_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/graphcmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

const raw = `{"nodes":[
	{"version":"4.17.0-okd-scos.0+amd64","payload":"example.com/r@sha256:0","metadata":{"io.openshift.upgrades.graph.release.arch":"amd64"}},
	{"version":"4.17.0-okd-scos.1+amd64","payload":"example.com/r@sha256:1","metadata":{"io.openshift.upgrades.graph.release.arch":"amd64"}},
	{"version":"4.17.0-okd-scos.2+amd64","payload":"example.com/r@sha256:2","metadata":{"io.openshift.upgrades.graph.release.arch":"amd64"}}],
	"edges":[[0,1],[1,2],[0,2]]}`

// call runs `okd-streams graph` as a shell would.
func call(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := graphcmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

func must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	code, stdout, stderr := call(t, stdin, args...)
	require.Zero(t, code, "%v: %s", args, stderr)
	return stdout
}

// files writes graph-data and evidence.
func files(t *testing.T) (data, evidence string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"data/version":                 "1.1.0\n",
		"data/channels/a.yaml":         "name: stable-4.17\nversions:\n- 4.17.0-okd-scos.0\n- 4.17.0-okd-scos.1\n- 4.17.0-okd-scos.2\n",
		"data/blocked-edges/etcd.yaml": "to: 4.17.0-okd-scos.2\nfrom: scos[.]0\nurl: https://example.com/1\nname: Etcd\nmessage: It waits.\nmatchingRules:\n- type: Always\n",
		"evidence.json": `[{"from":"4.17.0-okd-scos.0","to":"4.17.0-okd-scos.1","job":{"name":"upgrade","passed":true}},
			{"from":"4.17.0-okd-scos.0","to":"4.17.0-okd-scos.2","waiver":{"by":"Ann","reason":"x","expires":"2026-12-01T00:00:00Z"}}]`,
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return filepath.Join(dir, "data"), filepath.Join(dir, "evidence.json")
}

func TestCommands(t *testing.T) {
	data, evidence := files(t)
	code, applied, stderr := call(t, raw, "apply", "-", "--data", data, "--evidence", evidence, "--now", "2026-11-26T00:00:00Z")
	require.Zero(t, code, stderr)
	require.Equal(t, "not published: 4.17.0-okd-scos.1+amd64 to 4.17.0-okd-scos.2+amd64: no upgrade job has run\n", stderr)

	stable := []string{"--channel", "stable-4.17"}
	with := func(args ...string) []string { return append(args, stable...) }
	require.Contains(t, must(t, applied, with("show", "-")...), "4.17.0-okd-scos.2  example.com/r@sha256:2")
	require.Equal(t, `[
  {
    "version": "4.17.0-okd-scos.1",
    "payload": "example.com/r@sha256:1"
  },
  {
    "version": "4.17.0-okd-scos.2",
    "payload": "example.com/r@sha256:2",
    "risks": [
      "Etcd: It waits. https://example.com/1"
    ]
  }
]
`, must(t, applied, with("show", "-", "4.17.0-okd-scos.0", "--json")...))
	require.Equal(t, "4.17.0-okd-scos.0\n4.17.0-okd-scos.2\n", must(t, applied, with("path", "-", "4.17.0-okd-scos.0", "4.17.0-okd-scos.2", "--conditional")...))
	require.Contains(t, must(t, applied, with("draw", "-", "--title", "OKD")...), "OKD: 3 versions, 1 updates")
	require.Equal(t, "4.17.0-okd-scos.1  4.17.0-okd-scos.2\n4.17.0-okd-scos.0  4.17.0-okd-scos.2\n", must(t, "4.17.0-okd-scos.0\n# more\n4.17.0-okd-scos.1\n", "plan", "4.17.0-okd-scos.2", "--published", "-"))

	code, stdout, stderr := call(t, applied, with("gaps", "-", "4.17.0-okd-scos.0", "4.17.0-okd-scos.1", "4.17.0-okd-scos.2")...)
	require.Equal(t, 1, code)
	require.Equal(t, "no update from 4.17.0-okd-scos.1 to 4.17.0-okd-scos.2\nno update from 4.17.0-okd-scos.1 to any newer version\n", sorted(stdout))
	require.Contains(t, stderr, "2 gaps\n  run the upgrade jobs that")

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "in"), []byte(applied), 0o644))
	require.Equal(t, "stable-4.17/amd64/graph\n", must(t, "", "export", filepath.Join(dir, "in"), filepath.Join(dir, "out")))
	require.Contains(t, must(t, "", "show", filepath.Join(dir, "out", "stable-4.17", "amd64", "graph")), "4.17.0-okd-scos.1")
	must(t, applied, "draw", "-", "--to", filepath.Join(dir, "graph.svg"))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3, "no temporary file is left")
}

func sorted(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) > 1 && lines[0] > lines[1] {
		lines[0], lines[1] = lines[1], lines[0]
	}
	return strings.Join(lines, "")
}

func TestServe(t *testing.T) {
	data, _ := files(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	cmd := graphcmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"serve", "-", "--data", data, "--listen", "127.0.0.1:0"})
	cmd.SetIn(strings.NewReader(raw))
	cmd.SetOut(w)
	cmd.SetErr(io.Discard)
	done := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		_ = w.CloseWithError(io.EOF)
		done <- err
	}()
	address, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "4.17.0-okd-scos.0\n4.17.0-okd-scos.1\n4.17.0-okd-scos.2\n", must(t, "", "path", strings.TrimSpace(address), "4.17.0-okd-scos.0", "4.17.0-okd-scos.2", "--channel", "stable-4.17"))
	code, _, stderr := call(t, "", "show", strings.TrimSpace(address))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "missing_params")
	code, stdout, stderr := call(t, "", "gaps", strings.TrimSpace(address), "--channel", "stable-4-scos", "4.17.0-okd-scos.0")
	require.Equal(t, 1, code, stderr)
	require.Contains(t, stderr, "say stable-scos-4")
	require.Contains(t, stdout, "4.17.0-okd-scos.0 is published but not in the graph")
	stop()
	require.NoError(t, <-done)
}

func TestFailures(t *testing.T) {
	data, evidence := files(t)
	broken := filepath.Join(data, "blocked-edges", "b.yaml")
	for name, test := range map[string]struct {
		args  []string
		setup func()
		code  int
		want  string
	}{
		"no graph":            {args: []string{"show", "none.json"}, code: 1, want: "no such file"},
		"not a graph":         {args: []string{"show", evidence}, code: 1, want: "cannot unmarshal array"},
		"no arguments":        {args: []string{"show"}, code: 2, want: "0 arguments, but it is graph show GRAPH [VERSION]"},
		"no such command":     {args: []string{"shwo"}, code: 2, want: `unknown command "shwo"`},
		"no such version":     {args: []string{"show", "-", "9.9.9"}, code: 1, want: "okd-streams graph show - lists the versions"},
		"bad channel":         {args: []string{"show", "-", "--channel", "A"}, code: 2, want: "small letters"},
		"no channel":          {args: []string{"show", "-", "--arch", "arm64"}, code: 2, want: "channel"},
		"bad address":         {args: []string{"show", "http://"}, code: 2, want: "an address such as"},
		"nothing published":   {args: []string{"plan", "4.17.0-okd-scos.1"}, code: 2, want: "give --published FILE"},
		"plan for no version": {args: []string{"plan", "latest", "4.17.0"}, code: 2, want: "not a semantic version"},
		"no time":             {args: []string{"apply", "-", "--evidence", evidence, "--now", "today"}, code: 2, want: "--now"},
		"bad evidence":        {args: []string{"apply", "-", "--evidence", filepath.Join(data, "version")}, code: 1, want: "version: invalid character"},
		"no data":             {args: []string{"apply", "-", "--data", filepath.Join(data, "none")}, code: 1, want: "no such file"},
		"bad block": {args: []string{"apply", "-", "--data", data}, code: 1, want: "blocked-edges/b.yaml",
			setup: func() { require.NoError(t, os.WriteFile(broken, []byte("from: x"), 0o644)) }},
		"output": {args: []string{"apply", "-", "--to", filepath.Join(data, "none", "x")}, code: 1, want: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.setup != nil {
				test.setup()
				defer func() { _ = os.Remove(broken) }()
			}
			code, stdout, stderr := call(t, raw, test.args...)
			require.Equal(t, test.code, code, stderr)
			require.Contains(t, stderr, test.want)
			require.Empty(t, stdout)
		})
	}
	require.NoError(t, os.WriteFile(broken, []byte("from: x"), 0o644))
	code, _, stderr := call(t, raw, "apply", "-", "--data", data, "--lenient")
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "skipped: payload/graph: read blocked-edges/b.yaml")
}
