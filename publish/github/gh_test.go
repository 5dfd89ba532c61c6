package github_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/interop/githubserver"
	"github.com/okd-project/okd-streams/publish/github"
)

// TestGH holds the stand-in to Debian's gh, so that it is no fake of our own:
// what one of the two clients begins the other one ends, and sees as its own.
func TestGH(t *testing.T) {
	interop.Peer(t, "gh")
	server := githubserver.New(githubserver.Options{Repository: repository, Tokens: []string{token}, Prefix: "/api/v3", Now: time.Now})
	d, err := description()
	require.NoError(t, err)
	listening := httptest.NewTLSServer(d.Handler(server, server.Path, func(err error) { t.Errorf("against the description: %v", err) }))
	defer listening.Close()
	home := t.TempDir()
	ca := filepath.Join(home, "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: listening.Certificate().Raw}), 0o600))
	host := strings.TrimPrefix(listening.URL, "https://")
	gh := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "gh", append([]string{"release"}, append(args, "-R", host+"/"+repository)...)...)
		cmd.Dir = home
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GH_HOST=" + host, "GH_ENTERPRISE_TOKEN=" + token, "SSL_CERT_FILE=" + ca, "GH_NO_UPDATE_NOTIFIER=1", "NO_COLOR=1"}
		var diag bytes.Buffer
		cmd.Stderr = &diag
		out, err := cmd.Output()
		require.NoError(t, err, "gh %v: %s", args, diag.String())
		return string(out)
	}
	client, err := github.NewClient(repository, &github.ClientOptions{API: listening.URL + "/api/v3", Token: token, Transport: listening.Client().Transport})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(home, "sha256sum.txt"), []byte("0 x\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(home, "half.txt"), []byte("not wanted"), 0o600))

	// gh's draft is taken on: its asset stays, what is not wanted goes.
	gh("create", tag, "--draft", "-t", "a draft", "-n", "notes", "sha256sum.txt")
	gh("upload", tag, "half.txt")
	server.Requests()
	r, err := client.Publish(t.Context(), spec())
	require.NoError(t, err)
	for _, request := range server.Requests() {
		require.NotContains(t, request, "POST /api/v3", "no second draft")
	}
	requireDone(t, server, "gh's draft, published")

	// gh sees and downloads it.
	var seen struct {
		TagName, Name, Body   string
		IsDraft, IsPrerelease bool
		Assets                []struct {
			Name, State string
			Size        int64
		}
	}
	require.NoError(t, json.Unmarshal([]byte(gh("view", tag, "--json", "tagName,name,body,isDraft,isPrerelease,assets")), &seen))
	require.Equal(t, tag, seen.TagName)
	require.Equal(t, "OKD "+tag, seen.Name)
	require.Equal(t, "# Notes\n", seen.Body)
	require.False(t, seen.IsDraft)
	require.Len(t, seen.Assets, len(r.Assets))
	gh("download", tag, "-D", "down")
	for _, a := range spec().Assets {
		want, err := a.Source.Open(t.Context())
		require.NoError(t, err)
		wantData, err := io.ReadAll(want)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(home, "down", a.Name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(wantData, got), a.Name)
	}

	// gh publishes our draft, as a pre-release; we then change nothing of it.
	early := &github.Spec{Tag: "4.22.0-okd-scos.ec.0", Body: "early", Prerelease: true, Assets: spec().Assets}
	_, err = client.Prepare(t.Context(), early)
	require.NoError(t, err)
	gh("edit", early.Tag, "--draft=false")
	server.Requests()
	r, err = client.Publish(t.Context(), early)
	require.NoError(t, err)
	require.True(t, r.Prerelease)
	require.Empty(t, writes(server.Requests()))
	require.Equal(t, tag, server.Latest())

	// One that gh made whole is ours, too.
	gh("create", "v1", "-t", "v1", "-n", "one", "sha256sum.txt")
	server.Requests()
	_, err = client.Publish(t.Context(), &github.Spec{Tag: "v1", Body: "one", Assets: spec().Assets[1:]})
	require.NoError(t, err)
	require.Empty(t, writes(server.Requests()))
	gh("delete", "v1", "--yes")
	require.Len(t, server.Releases(), 2)
}
