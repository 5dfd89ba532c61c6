package github_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/interop/githubserver"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/github"
)

const (
	repository = "okd-project/okd"
	token      = "ghp_hunter2hunter2hunter2"
	tag        = "4.21.0-okd-scos.3"
)

var day = time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC)

// standIn is GitHub as a test has it.
type standIn struct {
	*githubserver.Server
	url    string
	before func(w http.ResponseWriter, r *http.Request) bool // answers in its place, if it wants
}

// description is GitHub's own, where interop tests are on; else nil.
var description = sync.OnceValues(func() (*githubserver.Description, error) {
	if !interop.Enabled() {
		return nil, nil
	}
	path, err := interop.FetchGitHubOpenAPI(context.Background())
	if err != nil {
		return nil, err
	}
	return githubserver.Load(path)
})

// start gives a stand-in and a client of it. What either says against the rules
// fails the test, and so does, where there is GitHub's description, what is not
// in that.
func start(t *testing.T, opts githubserver.Options, change func(*github.ClientOptions)) (*standIn, *github.Client) {
	t.Helper()
	opts.Repository = repository
	opts.Tokens = []string{token}
	if opts.Now == nil {
		opts.Now = func() time.Time { return day }
	}
	s := &standIn{Server: githubserver.New(opts)}
	handler := http.Handler(s.Server)
	d, err := description()
	require.NoError(t, err)
	if d != nil {
		handler = d.Handler(handler, s.Path, func(err error) { t.Errorf("against the description: %v", err) })
	}
	listening := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.before == nil || !s.before(w, r) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(listening.Close)
	t.Cleanup(func() { require.Empty(t, s.Faults()) })
	s.url = listening.URL + opts.Prefix
	clientOpts := &github.ClientOptions{API: s.url, Token: token, Transport: listening.Client().Transport}
	if change != nil {
		change(clientOpts)
	}
	client, err := github.NewClient(repository, clientOpts)
	require.NoError(t, err)
	return s, client
}

func spec() *github.Spec {
	return &github.Spec{
		Tag: tag, Name: "OKD " + tag, Body: "# Notes\n", Latest: github.IsLatest,
		Assets: []github.Upload{
			{Name: "openshift-client-linux-" + tag + ".tar.gz", Source: publish.BytesSource([]byte(strings.Repeat("client", 50_000)))},
			{Name: "sha256sum.txt", Source: publish.BytesSource([]byte("0 x\n"))},
		},
	}
}

// writes are the requests that change something.
func writes(requests []string) []string {
	return slices.DeleteFunc(requests, func(r string) bool { return strings.HasPrefix(r, "GET ") })
}

func TestPublish(t *testing.T) {
	for name, opts := range map[string]githubserver.Options{
		"github.com": {}, "enterprise": {Prefix: "/api/v3"}, "without digests": {Prefix: "/api/v3", NoDigests: true},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := start(t, opts, nil)
			s := spec()
			r, err := client.Publish(t.Context(), s)
			require.NoError(t, err)
			require.False(t, r.Draft)
			require.Equal(t, tag, r.Tag)
			require.Len(t, r.Assets, 2)
			require.Equal(t, tag, server.Latest())
			kept := server.Releases()
			require.Len(t, kept, 1)
			require.Equal(t, "application/gzip", kept[0].Assets[0].ContentType)
			require.Equal(t, strings.Repeat("client", 50_000), string(kept[0].Assets[0].Data))
			require.Equal(t, "# Notes\n", kept[0].Body)
			requests := writes(server.Requests())
			require.Len(t, requests, 4, "draft, two assets, publish: %v", requests)
			require.Equal(t, "PATCH", requests[3][:5])

			// Again: nothing changes.
			r, err = client.Publish(t.Context(), s)
			require.NoError(t, err)
			require.False(t, r.Draft)
			require.Empty(t, writes(server.Requests()))

			// Another text is changed; the assets of others stay.
			s.Body, s.Assets = "# Better notes\n", s.Assets[1:]
			_, err = client.Publish(t.Context(), s)
			require.NoError(t, err)
			require.Len(t, writes(server.Requests()), 1)
			require.Equal(t, "# Better notes\n", server.Releases()[0].Body)
			require.Len(t, server.Releases()[0].Assets, 2)

			// Other bytes are refused.
			s.Assets[0].Source = publish.BytesSource([]byte("1 x\n"))
			_, err = client.Publish(t.Context(), s)
			require.ErrorIs(t, err, fs.ErrExist)
			require.ErrorIs(t, err, publish.ErrDigest)
			require.ErrorContains(t, err, "publish/github: publish okd-project/okd 4.21.0-okd-scos.3: asset sha256sum.txt: it was published with other bytes")
			require.Empty(t, writes(server.Requests()))
		})
	}
}

func TestPrepareAndDiscard(t *testing.T) {
	server, client := start(t, githubserver.Options{}, nil)
	r, err := client.Prepare(t.Context(), spec())
	require.NoError(t, err)
	require.True(t, r.Draft)
	require.Empty(t, server.Latest())
	found, err := client.Release(t.Context(), tag)
	require.NoError(t, err)
	require.Equal(t, r.ID, found.ID)
	_, err = client.Latest(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)

	// A reader without credentials sees no draft.
	_, public := start(t, githubserver.Options{}, func(o *github.ClientOptions) { o.Token = "" })
	_, err = public.Release(t.Context(), tag)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = public.Prepare(t.Context(), spec())
	require.ErrorIs(t, err, fs.ErrPermission)

	require.NoError(t, client.Discard(t.Context(), tag))
	require.Empty(t, server.Releases())
	require.NoError(t, client.Discard(t.Context(), tag))

	_, err = client.Publish(t.Context(), spec())
	require.NoError(t, err)
	require.ErrorIs(t, client.Discard(t.Context(), tag), fs.ErrExist)
	require.Len(t, server.Releases(), 1)
}

func TestLatest(t *testing.T) {
	server, client := start(t, githubserver.Options{}, nil)
	for _, test := range []struct {
		tag        string
		latest     github.Latest
		prerelease bool
		want       string
	}{
		{"4.21.0-okd-scos.0", github.IsLatest, false, "4.21.0-okd-scos.0"},
		{"4.22.0-okd-scos.ec.0", "", true, "4.21.0-okd-scos.0"},
		{"4.20.0-okd-scos.9", github.NotLatest, false, "4.21.0-okd-scos.0"},
		{"4.21.0-okd-scos.1", "", false, "4.21.0-okd-scos.1"},
	} {
		_, err := client.Publish(t.Context(), &github.Spec{Tag: test.tag, Latest: test.latest, Prerelease: test.prerelease})
		require.NoError(t, err)
		require.Equal(t, test.want, server.Latest(), test.tag)
		r, err := client.Latest(t.Context())
		require.NoError(t, err)
		require.Equal(t, test.want, r.Tag)
	}
	var tags []string
	for r, err := range client.Releases(t.Context()) {
		require.NoError(t, err)
		tags = append(tags, r.Tag)
	}
	require.Equal(t, []string{"4.21.0-okd-scos.1", "4.20.0-okd-scos.9", "4.22.0-okd-scos.ec.0", "4.21.0-okd-scos.0"}, tags)
}

func testKey(t *testing.T) (*rsa.PrivateKey, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return key, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

func TestApp(t *testing.T) {
	key, text := testKey(t)
	for name, skew := range map[string]time.Duration{"same clock": 0, "behind": -3 * time.Hour, "ahead": 40 * time.Minute, "a little ahead": 45 * time.Second, "hardly ahead": 15 * time.Second} {
		for _, installation := range []int64{0, 35633111} {
			t.Run(fmt.Sprint(name, " ", installation), func(t *testing.T) {
				now := day
				app := &githubserver.App{ID: "Iv1.app", Installation: 35633111, Key: &key.PublicKey, Lifetime: time.Hour}
				server, client := start(t, githubserver.Options{App: app, Now: func() time.Time { return now }}, func(o *github.ClientOptions) {
					o.Token, o.App, o.Now = "", &github.App{ID: "Iv1.app", Installation: installation, Key: text}, func() time.Time { return now.Add(skew) }
				})
				_, err := client.Publish(t.Context(), spec())
				require.NoError(t, err)
				require.Equal(t, 1, server.TokensIssued())
				now = now.Add(54 * time.Minute)
				_, err = client.Publish(t.Context(), spec())
				require.NoError(t, err)
				require.Equal(t, 1, server.TokensIssued())
				now = now.Add(2 * time.Minute)
				_, err = client.Publish(t.Context(), spec())
				require.NoError(t, err)
				require.Equal(t, 2, server.TokensIssued(), "renewed before its end")
			})
		}
	}
}

// No way of printing a client, and no error, shows a secret.
func TestNoSecretIsShown(t *testing.T) {
	_, client := start(t, githubserver.Options{}, nil)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, client), "hunter2")
	}
	// A server that says what it was sent.
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"message":"no %s or %s"}`, r.Header.Get("Authorization"), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	}))
	defer echo.Close()
	client, err := github.NewClient(repository, &github.ClientOptions{API: echo.URL, Token: token + "\n"})
	require.NoError(t, err)
	_, err = client.Publish(t.Context(), spec())
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorContains(t, err, "REDACTED")
	require.NotContains(t, err.Error(), "hunter2")
}
