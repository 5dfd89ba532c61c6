package notifycmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/notifycmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/stream"
)

// call runs `okd-streams notify` as a shell would.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := notifycmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

func TestNotify(t *testing.T) {
	var body, authorization string
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body, authorization = string(data), r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{"event_id":"$1"}`)
	}))
	defer home.Close()
	dir := t.TempDir()
	definition := filepath.Join(dir, "stream.yaml")
	source := string(stream.BuiltinSource("okd-scos-stable"))
	source = strings.Replace(source, "url: https://matrix.org", "url: "+home.URL, 1)
	require.NoError(t, os.WriteFile(definition, []byte(source), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "secrets", "okd-matrix-bot-auth"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secrets", "okd-matrix-bot-auth", "token"), []byte("hunter2\n"), 0o600))

	args := []string{"--stream", definition, "--occasion", "promotion", "--release", "4.21.0-okd-scos.3", "--secrets", filepath.Join(dir, "secrets"), "--at", "2026-11-26T05:00:00Z"}
	code, stdout, stderr := call(t, append(args, "--line", "kernel 6", "--link", "Notes=https://example.com/n")...)
	require.Zero(t, code, stderr)
	require.Equal(t, "matrix  !nStsazaBvZCZQHPWTY:fedoraproject.org  told $1\n", stdout)
	require.Equal(t, "Bearer hunter2", authorization)
	require.Contains(t, body, `"body":"okd-scos-stable: 4.21.0-okd-scos.3 is released\nkernel 6\nNotes: https://example.com/n"`)

	code, stdout, stderr = call(t, append(args, "--json", "--title", "${VERSION} of ${STREAM} is here")...)
	require.Zero(t, code, stderr)
	require.Contains(t, body, `"body":"4.21.0-okd-scos.3 of okd-scos-stable is here"`)
	var results []map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &results))
	require.Equal(t, "$1", results[0]["id"])

	// Nobody wants to know.
	code, stdout, stderr = call(t, "--stream", definition, "--occasion", "success")
	require.Zero(t, code)
	require.Empty(t, stdout)
	require.Equal(t, "nobody wants to know of success\n", stderr)

	// Somebody cannot be told: said, and no failure.
	args = args[:len(args)-4]
	code, stdout, stderr = call(t, args...)
	require.Zero(t, code)
	require.Contains(t, stdout, "not told")
	require.Contains(t, stderr, "warning: publish/notify: send matrix !nStsazaBvZCZQHPWTY:fedoraproject.org: get the token: no folder with the key token of secret okd-matrix-bot-auth")
	code, _, stderr = call(t, append(args, "--strict")...)
	require.Equal(t, ui.ExitFailed, code)
	require.Contains(t, stderr, "get the token")

	for _, bad := range [][]string{
		{}, {"--stream", definition}, {"--stream", definition, "--occasion", "x"}, {"--stream", "none", "--occasion", "stale"},
		{"--stream", definition, "--occasion", "stale", "--at", "x"}, {"--stream", definition, "--occasion", "stale", "--link", "x"},
		{"--stream", definition, "--occasion", "stale", "--title", "${X}"},
	} {
		code, _, stderr := call(t, bad...)
		require.Equal(t, ui.ExitUsage, code, fmt.Sprint(bad, stderr))
	}
}
