package interop_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

func ask(t *testing.T, method, url string, edit func(*http.Request)) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	edit(req)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestPasswordRegistry(t *testing.T) {
	url := "http://" + interop.PasswordRegistry(t) + "/v2/"
	for user, password := range map[string]string{interop.CoreUser: interop.CorePassword, interop.BuilderUser: interop.BuilderPassword} {
		require.Equal(t, http.StatusOK, ask(t, http.MethodGet, url, func(r *http.Request) { r.SetBasicAuth(user, password) }).StatusCode)
		require.Equal(t, http.StatusUnauthorized, ask(t, http.MethodGet, url, func(r *http.Request) { r.SetBasicAuth(user, password+"x") }).StatusCode)
	}
	resp := ask(t, http.MethodGet, url, func(*http.Request) {})
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	require.Contains(t, resp.Header.Get("WWW-Authenticate"), "Basic")
}

// The registry judges tokens: it takes ours, and neither a changed nor an old one.
func TestTokenRegistry(t *testing.T) {
	host, issuer := interop.TokenRegistry(t)
	upload := "http://" + host + "/v2/build/a/blobs/uploads/"
	resp := ask(t, http.MethodPost, upload, func(*http.Request) {})
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	require.Contains(t, resp.Header.Get("WWW-Authenticate"), `realm="`+issuer.URL+`"`)

	token := func(user, password, scope string) string {
		resp := ask(t, http.MethodGet, issuer.URL+"?service=sample-registry&scope="+scope, func(r *http.Request) {
			if user != "" {
				r.SetBasicAuth(user, password)
			}
		})
		if resp.StatusCode != http.StatusOK {
			return ""
		}
		var answer struct{ Token string }
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
		return answer.Token
	}
	push := func(token string) int {
		return ask(t, http.MethodPost, upload, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }).StatusCode
	}
	const scope = "repository:build/a:pull,push"
	good := token(interop.BuilderUser, interop.BuilderPassword, scope)
	require.Equal(t, http.StatusAccepted, push(good))
	head, rest, _ := strings.Cut(good, ".")
	require.Equal(t, http.StatusUnauthorized, push(head+"."+strings.ToUpper(rest)))
	require.Equal(t, http.StatusUnauthorized, push(token("", "", scope)))
	require.Equal(t, http.StatusUnauthorized, push(token(interop.BuilderUser, interop.BuilderPassword, "repository:other/a:pull,push")))
	require.Empty(t, token(interop.BuilderUser, "wrong", scope))
	issuer.Set(interop.Rules{Lifetime: -time.Second})
	require.Equal(t, http.StatusUnauthorized, push(token(interop.BuilderUser, interop.BuilderPassword, scope)))
	require.Len(t, issuer.Requests(), 5)
}

// The distribution project's own pair of servers.
func TestTokenServerRegistry(t *testing.T) {
	host, realm := interop.TokenServerRegistry(t)
	for user, password := range map[string]string{interop.CoreUser: interop.CorePassword, interop.BuilderUser: interop.BuilderPassword} {
		for _, path := range []string{"core", "builder"} {
			url := realm + "?service=sample-registry&scope=repository:" + path + "/a:pull,push"
			resp := ask(t, http.MethodGet, url, func(r *http.Request) { r.SetBasicAuth(user, password) })
			require.Equal(t, http.StatusOK, resp.StatusCode)
			var answer struct {
				Token string `json:"access_token"`
			}
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
			want := http.StatusUnauthorized
			if user == path {
				want = http.StatusAccepted
			}
			got := ask(t, http.MethodPost, "http://"+host+"/v2/"+path+"/a/blobs/uploads/", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+answer.Token) })
			require.Equal(t, want, got.StatusCode, "%s in %s", user, path)
		}
		require.Equal(t, http.StatusUnauthorized, ask(t, http.MethodGet, realm, func(r *http.Request) { r.SetBasicAuth(user, "wrong") }).StatusCode)
	}
}
