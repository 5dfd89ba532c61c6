package githubcmd_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/githubcmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop/githubserver"
	"github.com/okd-project/okd-streams/publish/github"
	"github.com/okd-project/okd-streams/stream"
)

const tag = "4.21.0-okd-scos.3"

// call runs `okd-streams github` as a shell would.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := githubcmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetFlagErrorFunc(nil)
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	require.NotContains(t, out.String()+diagnostics.String(), "hunter2")
	return code, out.String(), diagnostics.String()
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := call(t, args...)
	require.Zero(t, code, stderr)
	return stdout
}

func start(t *testing.T, app *githubserver.App) (*githubserver.Server, string) {
	t.Helper()
	server := githubserver.New(githubserver.Options{Repository: "okd-project/okd", Tokens: []string{"hunter2"}, App: app, Now: time.Now})
	listening := httptest.NewServer(server)
	t.Cleanup(listening.Close)
	t.Cleanup(func() { require.Empty(t, server.Faults()) })
	return server, listening.URL
}

// files writes files into a new folder.
func files(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func TestRelease(t *testing.T) {
	server, url := start(t, nil)
	t.Setenv("GITHUB_TOKEN", "hunter2")
	tools := files(t, map[string]string{
		"openshift-client-linux-" + tag + ".tar.gz": "client", "openshift-client-linux-s390x-" + tag + ".tar.gz": "of no payload",
		"sha256sum.txt": "0 x\n", "sha256sum.txt.asc": "signed", "ccoctl": "no asset", "sub/x.txt": "not looked into",
	})
	notes := filepath.Join(files(t, map[string]string{"notes.md": "# Notes\n"}), "notes.md")
	base := []string{"--api", url, "--stream", "okd-scos-stable"}
	args := append([]string{"prepare", tag, tools, "--notes", notes}, base...)
	stdout := must(t, args...)
	require.Contains(t, stdout, tag)
	require.Contains(t, stdout, "draft")
	require.Len(t, server.Releases()[0].Assets, 3)
	require.Empty(t, server.Latest())

	args[0] = "publish"
	stdout = must(t, append(args, "--json")...)
	var made github.Release
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	require.False(t, made.Draft)
	require.Equal(t, tag, server.Latest())
	require.Equal(t, "# Notes\n", server.Releases()[0].Body)
	stdout = must(t, args...)
	require.Regexp(t, `sha256sum\.txt\.asc +6 B +[0-9a-f]{64}\n`, stdout)

	// A next stream's are pre-releases.
	must(t, "publish", "4.22.0-okd-scos.ec.0", "--api", url, "--stream", "okd-scos-next")
	require.True(t, server.Releases()[1].Prerelease)
	require.Equal(t, tag, server.Latest())
	require.Equal(t, "4.22.0-okd-scos.ec.0  pre-release  0 assets\n"+tag+"     release      3 assets\n", must(t, "list", "--api", url, "--repository", "okd-project/okd"))
	require.Equal(t, "4.22.0-okd-scos.ec.0  pre-release  0 assets\n", must(t, append([]string{"list", "--limit", "1"}, base...)...))
	require.Contains(t, must(t, append([]string{"list", "--json"}, base...)...), `"tag_name": "4.22.0-okd-scos.ec.0"`)
	require.Contains(t, must(t, append([]string{"view"}, base...)...), tag+"  ")
	require.Contains(t, must(t, append([]string{"view", "4.22.0-okd-scos.ec.0"}, base...)...), "pre-release")

	must(t, append([]string{"prepare", "v1", "--latest", "false", "--title", "One"}, base...)...)
	must(t, append([]string{"discard", "v1"}, base...)...)
	require.Len(t, server.Releases(), 2)

	// Other bytes under a published name.
	require.NoError(t, os.WriteFile(filepath.Join(tools, "sha256sum.txt"), []byte("1 x\n"), 0o600))
	code, _, stderr := call(t, args...)
	require.Equal(t, ui.ExitVerification, code)
	require.Contains(t, stderr, "asset sha256sum.txt: it was published with other bytes")
}

func TestCredentials(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	server, url := start(t, &githubserver.App{ID: "309584", Installation: 35633111, Key: &key.PublicKey, Lifetime: time.Hour})
	t.Setenv("GITHUB_TOKEN", "")
	t.Setenv("GH_TOKEN", "")
	secrets := files(t, map[string]string{"okd-githubapp-auth/githubapp-private-key": text, "token": "hunter2\n", "wrong": "hunter22"})
	stable := []string{"--api", url, "--stream", "okd-scos-stable"}
	for i, more := range [][]string{
		{"--secrets", secrets, "--app", "309584"},
		{"--app", "309584", "--app-key", filepath.Join(secrets, "okd-githubapp-auth", "githubapp-private-key"), "--installation", "35633111"},
		{"--token-file", filepath.Join(secrets, "token")},
	} {
		must(t, append(append([]string{"publish", fmt.Sprint("v", i)}, stable...), more...)...)
	}
	require.Len(t, server.Releases(), 3)
	require.Equal(t, 2, server.TokensIssued())
	t.Setenv("GH_TOKEN", "hunter2")
	must(t, append([]string{"publish", "v9"}, stable...)...)
	t.Setenv("GH_TOKEN", "")

	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nobody":         {append([]string{"publish", "v10"}, stable...), ui.ExitFailed, "neither a token nor an App is given: permission denied\n  give a token, or an App, that has"},
		"wrong":          {append([]string{"publish", "v10", "--token-file", filepath.Join(secrets, "wrong")}, stable...), ui.ExitFailed, "401 Unauthorized: Bad credentials"},
		"no file":        {append([]string{"publish", "v10", "--token-file", "none"}, stable...), ui.ExitFailed, "none"},
		"no id":          {append([]string{"publish", "v10", "--secrets", secrets}, stable...), ui.ExitUsage, "give --app ID"},
		"half an App":    {[]string{"view", "--repository", "okd-project/okd", "--app", "1"}, ui.ExitUsage, "--app-key"},
		"no repository":  {[]string{"view"}, ui.ExitUsage, "--repository"},
		"repository":     {[]string{"view", "--repository", "okd"}, ui.ExitUsage, "OWNER/NAME"},
		"no releases":    {[]string{"view", "--stream", plainStream(t)}, ui.ExitUsage, "no releases on GitHub"},
		"latest":         {append([]string{"publish", "v10", "--latest", "x"}, stable...), ui.ExitUsage, "true, false or auto"},
		"no notes":       {append([]string{"publish", "v10", "--notes", "none"}, stable...), ui.ExitFailed, "none"},
		"no asset":       {append([]string{"publish", "v10", "none"}, stable...), ui.ExitFailed, "none"},
		"not there":      {append([]string{"view", "v10"}, stable...), ui.ExitFailed, "no release and no draft of this tag: file does not exist\n  check the names; GitHub also"},
		"subcommand":     {[]string{"delete"}, ui.ExitUsage, "unknown command"},
		"stay published": {append([]string{"discard", "v9", "--token-file", filepath.Join(secrets, "token")}, stable...), ui.ExitFailed, "it is published: file already exists\n  what is published stays"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := call(t, test.args...)
			require.Equal(t, test.code, code, stderr)
			require.Contains(t, stderr, test.want)
		})
	}
}

// plainStream is a definition without GitHub.
func plainStream(t *testing.T) string {
	t.Helper()
	source := string(stream.BuiltinSource("okd-scos-stable"))
	before, rest, ok := strings.Cut(source, "\ngithub:\n")
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, "\ntrust:")
	require.True(t, ok)
	return filepath.Join(files(t, map[string]string{"stream.yaml": before + "\ntrust:" + after}), "stream.yaml")
}
