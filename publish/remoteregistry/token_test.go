package remoteregistry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// A token server that gives a refresh token with each token is asked by the credentials
// of the user every time: go-containerregistry would ask by the refresh token, and changes
// to it while other requests read what they ask by.
func TestOneLogin(t *testing.T) {
	const tokens = 4 // the first three run out at once
	var mu sync.Mutex
	var logins []string
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.URL.Path == "/token":
			logins = append(logins, r.PostFormValue("refresh_token"))
			fmt.Fprintf(w, `{"access_token": "token%d", "Refresh_Token": "another"}`, len(logins))
		case r.Header.Get("Authorization") == fmt.Sprint("Bearer token", tokens) && strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			w.Header().Set("Content-Length", "2")
		default:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="x",scope="repository:a:pull"`, server.URL))
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	r := open(t, &remoteregistry.Options{AuthFile: login(t, map[string]string{host: `{"auth": "Og==", "identitytoken": "mine"}`})})
	for len(logins) < tokens {
		before := len(logins)
		_, err := r.Head(t.Context(), repository(t, host, "a").Tag("t"))
		if len(logins) == tokens {
			require.NoError(t, err)
		}
		require.Greater(t, len(logins), before)
	}
	require.Equal(t, strings.Split(strings.Repeat(" mine", tokens)[1:], " "), logins)
}

// A token server that fails while an upload needs a new token is asked again, although the
// transport repeats no request of an upload.
func TestTokenForUpload(t *testing.T) {
	var logins, failures atomic.Int64
	registry, err := registryserver.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("Authorization")
		switch {
		case r.URL.Path == "/token" && logins.Load() == 1 && failures.Add(1) <= 2:
			w.WriteHeader(http.StatusInternalServerError)
		case r.URL.Path == "/token":
			fmt.Fprintf(w, `{"token": "token%d"}`, logins.Add(1))
		case token == "" || token == "Bearer token1" && r.Method == http.MethodPost:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="x",scope="repository:a:pull,push"`, server.URL))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			registry.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() { server.Close(); require.NoError(t, registry.Close()) })
	_, err = open(t, nil).WriteStream(t.Context(), repository(t, strings.TrimPrefix(server.URL, "http://"), "a"), strings.NewReader("content"))
	require.NoError(t, err)
	require.EqualValues(t, 2, logins.Load())
	require.EqualValues(t, 3, failures.Load())
}
