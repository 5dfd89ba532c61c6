package remoteregistry_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// A registries.conf may name a helper for every registry, before or instead of
// the credentials files.
func TestHelpersOfRegistriesConf(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, secret, ok := r.BasicAuth(); !ok || user != "helped" || secret != "open-sesame" {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		w.Header().Set("Content-Length", "2")
		w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 64))
	}))
	t.Cleanup(server.Close)
	for helpers, works := range map[string]bool{`"ours", "containers-auth.json"`: true, `"ours"`: true, `"containers-auth.json", "ours"`: false, `"containers-auth.json"`: false} {
		conf := filepath.Join(t.TempDir(), "registries.conf")
		require.NoError(t, os.WriteFile(conf, []byte("credential-helpers = ["+helpers+"]\n"), 0o600))
		r := open(t, &remoteregistry.Options{
			Attempts: 1, AuthFile: authFile(t, host(server.URL), "core", "wrong"), Mirrors: &remoteregistry.Mirrors{File: conf},
			CredentialHelper: func(_ context.Context, name, registry string) (string, string, error) {
				if name != "ours" || registry != host(server.URL) {
					return "", "", fmt.Errorf("helper %q is asked for %q", name, registry)
				}
				return "helped", "open-sesame", nil
			},
		})
		_, err := r.Head(t.Context(), repository(t, host(server.URL), "okd/a").Tag("t"))
		require.Equal(t, works, err == nil, "%s: %v", helpers, err)
	}
}

// What a registry and its token server say about authentication is not trusted.
func TestBadTokenServers(t *testing.T) {
	t.Parallel()
	token := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
	}
	for what, tc := range map[string]struct {
		challenge string // SERVER is replaced
		token     http.HandlerFunc
	}{
		"no realm":         {challenge: `Bearer service="x"`},
		"realm is a file":  {challenge: `Bearer realm="file:///etc/passwd",service="x"`},
		"realm is nothing": {challenge: `Bearer realm="",service="x"`},
		"realm elsewhere":  {challenge: `Bearer realm="http://192.0.2.1/token",service="x"`},
		"cloud metadata":   {challenge: `Bearer realm="http://169.254.169.254/latest",service="x"`},
		"not HTTP":         {challenge: `Bearer realm="` + "http://[::1/token" + `",service="x"`},
		"unknown scheme":   {challenge: `Digest realm="SERVER/token"`},
		"broken challenge": {challenge: `Bearer realm="SERVER/token`},
		"no challenge":     {},
		"not JSON":         {challenge: `Bearer realm="SERVER/token"`, token: token("<html>open-sesame")},
		"no token":         {challenge: `Bearer realm="SERVER/token"`, token: token(`{"issued_at": "open-sesame"}`)},
		"empty token":      {challenge: `Bearer realm="SERVER/token"`, token: token(`{"token": ""}`)},
		"token with lines": {challenge: `Bearer realm="SERVER/token"`, token: token(`{"token": "open-sesame\r\nX-Other: y"}`)},
		"wrong type":       {challenge: `Bearer realm="SERVER/token"`, token: token(`{"token": ["open-sesame"]}`)},
		"endless token": {challenge: `Bearer realm="SERVER/token"`, token: func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"token": "`)
			for range 100 {
				if _, err := fmt.Fprint(w, strings.Repeat("open-sesame", 100_000)); err != nil {
					return
				}
			}
		}},
		"redirects for ever": {challenge: `Bearer realm="SERVER/token"`, token: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/token?again", http.StatusFound)
		}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			var server *httptest.Server
			server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if r.URL.Path == "/token" && tc.token != nil {
					tc.token(w, r)
					return
				}
				if tc.challenge != "" {
					w.Header().Set("WWW-Authenticate", strings.ReplaceAll(tc.challenge, "SERVER", server.URL))
				}
				w.WriteHeader(http.StatusUnauthorized)
			}))
			t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
			r := open(t, &remoteregistry.Options{Attempts: 2, AuthFile: authFile(t, host(server.URL), "core", "open-sesame")})
			_, err := r.Head(t.Context(), repository(t, host(server.URL), "okd/a").Tag("t"))
			require.Error(t, err)
			require.ErrorContains(t, err, host(server.URL)+"/okd/a:t")
			require.NotContains(t, err.Error(), "sesame")
			require.Less(t, len(err.Error()), 500)
			require.LessOrEqual(t, requests.Load(), int64(30))
		})
	}
}
