package httpx_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/httpx"
)

func TestCheckRedirect(t *testing.T) {
	const secret = "s3cr3t"
	for _, test := range []struct {
		name   string
		method string
		hops   []string // the last one is asked about
		kept   bool     // credentials
		err    error
	}{
		{name: "same origin", hops: []string{"https://a.example/x", "https://a.example:443/y"}, kept: true},
		{name: "case of the host", hops: []string{"https://a.example/x", "https://A.example/y"}, kept: true},
		{name: "other host", hops: []string{"https://a.example/x", "https://b.example/y"}},
		{name: "host below", hops: []string{"https://a.example/x", "https://sub.a.example/y"}},
		{name: "other port", hops: []string{"https://a.example/x", "https://a.example:8443/y"}},
		{name: "to https", hops: []string{"http://a.example/x", "https://a.example/y"}},
		{name: "there and back", hops: []string{"https://a.example/x", "https://b.example/y", "https://a.example/z"}},
		{name: "to http", hops: []string{"https://a.example/x", "http://a.example/y"}, err: httpx.ErrRedirect},
		{name: "to https and back to http", hops: []string{"http://a.example/x", "https://a.example/y", "http://a.example/z"}, err: httpx.ErrRedirect},
		{name: "to a file", hops: []string{"https://a.example/x", "file:///etc/passwd"}, err: httpx.ErrRedirect},
		{name: "to nowhere", hops: []string{"https://a.example/x", "https:///y"}, err: httpx.ErrRedirect},
		{name: "put within", method: "PUT", hops: []string{"https://a.example/x", "https://a.example/y"}, kept: true},
		{name: "put elsewhere", method: "PUT", hops: []string{"https://a.example/x", "https://b.example/y"}, err: httpx.ErrRedirect},
		{name: "ten", hops: strings.Split(strings.Repeat("https://a.example/x ", 11), " ")[:11], kept: true},
		{name: "eleven", hops: strings.Split(strings.Repeat("https://a.example/x ", 12), " ")[:12], err: httpx.ErrRedirect},
	} {
		t.Run(test.name, func(t *testing.T) {
			var via []*http.Request
			for i, hop := range test.hops {
				req, err := http.NewRequestWithContext(t.Context(), test.method, hop, nil)
				require.NoError(t, err)
				if i == 0 {
					req.URL.User = url.UserPassword("me", "mine")
				} else {
					req.URL.User = url.UserPassword("you", secret)
				}
				req.Header = http.Header{"Range": {"bytes=0-1"}, "Accept": {"x"}}
				for _, name := range []string{"Authorization", "Cookie", "Referer", "X-Auth-Token", "Private-Token", "X-Amz-Security-Token"} {
					req.Header.Set(name, secret)
				}
				via = append(via, req)
			}
			req := via[len(via)-1]
			err := httpx.CheckRedirect(req, via[:len(via)-1])
			if test.err != nil {
				require.ErrorIs(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "bytes=0-1", req.Header.Get("Range"))
			require.NotContains(t, req.URL.String(), secret)
			if test.kept {
				require.Equal(t, secret, req.Header.Get("Authorization"))
				require.Equal(t, "me:mine", req.URL.User.String())
				return
			}
			require.Len(t, req.Header, 2)
			require.Nil(t, req.URL.User)
		})
	}
}

func TestClientTakesNoCredentialsAlong(t *testing.T) {
	var got http.Header
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }))
	t.Cleanup(other.Close)
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/loop" {
			http.Redirect(w, r, "/loop?X-Amz-Signature=s3cr3t", http.StatusTemporaryRedirect)
			return
		}
		if _, _, ok := r.BasicAuth(); !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, strings.Replace(other.URL, "http://", "http://u:s3cr3t@", 1)+"/x?sig=s3cr3t", http.StatusFound)
	}))
	t.Cleanup(first.Close)
	transport := httpx.NewTransport(nil, nil)
	t.Cleanup(transport.CloseIdleConnections)
	c := httpx.NewClient(transport)
	_, err := get(t, c, strings.Replace(first.URL, "http://", "http://me:mine@", 1)+"/x?token=mine")
	require.NoError(t, err)
	for name := range got {
		require.Contains(t, []string{"User-Agent", "Accept-Encoding"}, name)
	}
	// What a redirect was about is not told.
	_, err = get(t, c, first.URL+"/loop")
	require.ErrorIs(t, err, httpx.ErrRedirect)
	require.ErrorContains(t, err, "s3cr3t")
	require.NotContains(t, httpx.Redact(err).Error(), "s3cr3t")
}

func TestRedactAddresses(t *testing.T) {
	for in, want := range map[string]string{
		`failed to parse Location header "/x?sig=s3cr3t&n=2%zz": bad`:   `failed to parse Location header "/x?sig=REDACTED&n=2%zz": bad`,
		`Get "https://h.example/k?X-Amz-Signature=s3cr3t&n=5": EOF`:     `Get "https://h.example/k?X-Amz-Signature=REDACTED&n=5": EOF`,
		`to //h.example/k?se=2026&sig=s3cr3t%2Fx%3D, it said`:           `to //h.example/k?se=REDACTED&sig=REDACTED it said`,
		`a?b: x=y & z=w is no address`:                                  `a?b: x=y & z=w is no address`,
		`https://h.example/?from=repo@s3cr3t and /y?from=repo@s3cr3t`:   `https://h.example/?from=REDACTED and /y?from=REDACTED`,
		`parse "http://h.example/?a=s3cr3t%zz\x7f": invalid control`:    `parse "http://h.example/?a=REDACTED": invalid control`,
		`https://h.example/1?digest=sha256:ab and ?digest=sha256:ab ok`: `https://h.example/1?digest=sha256:ab and ?digest=sha256:ab ok`,
	} {
		got := httpx.RedactText(in)
		require.Equal(t, want, got)
		require.Equal(t, got, httpx.RedactText(got))
	}
}

func ExampleNewClient() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "ftp://elsewhere.example/", http.StatusFound)
	}))
	defer server.Close()
	_, err := httpx.NewClient(nil).Get(server.URL)
	fmt.Println(errors.Is(err, httpx.ErrRedirect))
	// Output: true
}
