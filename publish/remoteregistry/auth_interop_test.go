package remoteregistry_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// login writes a credentials file with entries by key.
func login(t testing.TB, entries map[string]string) string {
	t.Helper()
	var list []string
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for key := range entries {
			if !yield(key) {
				return
			}
		}
	}) {
		list = append(list, fmt.Sprintf("%q: %s", key, entries[key]))
	}
	file := filepath.Join(t.TempDir(), "auth.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"auths": {`+strings.Join(list, ", ")+`}}`), 0o600))
	return file
}

// account is an entry of a credentials file.
func account(user, password string) string {
	return fmt.Sprintf(`{"auth": %q}`, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

var (
	core    = account(interop.CoreUser, interop.CorePassword)
	builder = account(interop.BuilderUser, interop.BuilderPassword)
)

// secretless fails if an error shows what was given in confidence.
func secretless(t testing.TB, err error) {
	t.Helper()
	for _, secret := range []string{interop.CorePassword, interop.BuilderPassword, "open-wheat", "identity-of", "eyJ", core, builder} {
		require.NotContains(t, err.Error(), secret)
	}
}

// pulled reads an image back with another client and compares it.
func pulled(t testing.TB, opts *remoteregistry.Options, repo name.Repository, img v1.Image) {
	t.Helper()
	got, err := open(t, opts).Image(t.Context(), repo.Digest(digest(t, img).String()))
	require.NoError(t, err)
	want, err := img.Layers()
	require.NoError(t, err)
	layers, err := got.Layers()
	require.NoError(t, err)
	require.Len(t, layers, len(want))
	for i := range layers {
		require.True(t, bytes.Equal(read(t, layers[i]), read(t, want[i])), "layer %d", i)
	}
}

// drain reads the layers of an image, which verifies them.
func drain(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			return err
		}
	}
	return nil
}

func TestPasswords(t *testing.T) {
	host := interop.PasswordRegistry(t)
	proxy := interop.Proxy(t, "http://"+host)
	repo := repository(t, proxy.Host, "okd/a")
	img := image(t, 60, 100, large+1)
	good := &remoteregistry.Options{AuthFile: login(t, map[string]string{proxy.Host: account("core", "open-wheat"), proxy.Host + "/okd": core})}
	_, err := open(t, good).WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err, "the longest key counts")
	pulled(t, good, repo, img)

	for what, opts := range map[string]*remoteregistry.Options{
		"anonymous":      nil,
		"nothing for it": {AuthFile: login(t, map[string]string{"other.example": core})},
		"wrong password": {AuthFile: login(t, map[string]string{proxy.Host: account("core", "open-wheat")})},
	} {
		before := len(proxy.Requests())
		_, err := open(t, opts).WriteImage(t.Context(), repo, image(t, 61, 100, large+1), nil)
		require.ErrorIs(t, err, fs.ErrPermission, what)
		require.ErrorContains(t, err, proxy.Host, what)
		require.NotContains(t, err.Error(), "\n")
		if opts == nil {
			require.ErrorContains(t, err, "no credentials")
		} else {
			require.ErrorContains(t, err, opts.AuthFile, "it says where the credentials are from")
		}
		secretless(t, err)
		require.LessOrEqual(t, len(proxy.Requests())-before, 3, "%s: it is not asked again and again", what)
		require.NotContains(t, strings.Join(proxy.Requests()[before:], "\n"), "POST", what)
	}
}

// A copy within a registry needs two scopes in one token.
func TestTokenScopes(t *testing.T) {
	host, issuer := interop.TokenRegistry(t)
	proxy := interop.Proxy(t, "http://"+host)
	from, to := repository(t, proxy.Host, "okd/from"), repository(t, proxy.Host, "build/to")
	opts := &remoteregistry.Options{AuthFile: login(t, map[string]string{proxy.Host: core})}
	img := image(t, 62, 100, large+1)
	r := open(t, opts)
	_, err := r.WriteImage(t.Context(), from, img, nil)
	require.NoError(t, err)
	before, sent := len(issuer.Requests()), len(proxy.Requests())
	var mounted atomic.Int64
	_, err = r.WriteImage(t.Context(), to, img, &publish.WriteOptions{From: []name.Repository{from}, Reused: func(v1.Descriptor) { mounted.Add(1) }})
	require.NoError(t, err)
	require.EqualValues(t, 3, mounted.Load(), "two layers and the config")
	requests := proxy.Requests()[sent:]
	require.Zero(t, count(requests, http.MethodPatch, "/blobs/"))
	require.Zero(t, count(requests, http.MethodPut, "/blobs/"))
	both := slices.ContainsFunc(issuer.Requests()[before:], func(r interop.TokenRequest) bool {
		has := func(repo string, actions ...string) bool {
			return slices.ContainsFunc(r.Scopes, func(scope string) bool {
				list, ok := strings.CutPrefix(scope, "repository:"+repo+":")
				for _, action := range actions {
					ok = ok && slices.Contains(strings.Split(list, ","), action)
				}
				return ok
			})
		}
		return r.Status == http.StatusOK && has("okd/from", "pull") && has("build/to", "pull", "push")
	})
	require.True(t, both, "%+v", issuer.Requests()[before:])
	require.LessOrEqual(t, len(issuer.Requests())-before, 2, "a token is used for more than one request")
	pulled(t, opts, to, img)
}

// Source and destination have accounts of their own, on one host.
func TestTwoAccounts(t *testing.T) {
	host, issuer := interop.TokenRegistry(t)
	from, to := repository(t, host, "okd/from"), repository(t, host, "build/to")
	img := image(t, 63, 100, large+1)
	admin := &remoteregistry.Options{AuthFile: login(t, map[string]string{host: core})}
	_, err := open(t, admin).WriteImage(t.Context(), from, img, nil)
	require.NoError(t, err)

	issuer.Set(interop.Rules{Allow: func(user, repository, action string) bool {
		return user == interop.CoreUser && strings.HasPrefix(repository, "okd/") && action == "pull" ||
			user == interop.BuilderUser && strings.HasPrefix(repository, "build/")
	}})
	src := open(t, &remoteregistry.Options{AuthFile: login(t, map[string]string{host: core})})
	dst := open(t, &remoteregistry.Options{AuthFile: login(t, map[string]string{host: builder})})
	got, err := src.Image(t.Context(), from.Digest(digest(t, img).String()))
	require.NoError(t, err)
	_, err = src.WriteImage(t.Context(), to, got, nil)
	require.ErrorIs(t, err, fs.ErrPermission, "the reader may not write")
	secretless(t, err)
	_, err = dst.Image(t.Context(), from.Digest(digest(t, img).String()))
	require.ErrorIs(t, err, fs.ErrPermission, "the writer may not read")
	_, err = dst.WriteImage(t.Context(), to, got, nil)
	require.NoError(t, err)

	// One file can hold both, by namespace.
	one := &remoteregistry.Options{AuthFile: login(t, map[string]string{host + "/okd": core, host + "/build": builder})}
	r := open(t, one)
	got, err = r.Image(t.Context(), from.Digest(digest(t, img).String()))
	require.NoError(t, err)
	_, err = r.WriteImage(t.Context(), repository(t, host, "build/again"), got, nil)
	require.NoError(t, err)
	pulled(t, one, repository(t, host, "build/again"), img)
}

// A token that runs out in the middle of a copy is replaced, whatever request
// it hits, and if many find out at once.
func TestTokenRunsOut(t *testing.T) {
	host, issuer := interop.TokenRegistry(t)
	img, many := image(t, 64, large+1, 100), image(t, 72, 10, 20, 30, 40, 50, 60, 70, large+1)
	identity := fmt.Sprintf(`{"auth": "Og==", "identitytoken": %q}`, issuer.IdentityToken(interop.CoreUser))
	good := &remoteregistry.Options{AuthFile: login(t, map[string]string{host: core})}
	_, err := open(t, good).WriteImage(t.Context(), repository(t, host, "okd/there"), img, nil)
	require.NoError(t, err)

	issuer.Set(interop.Rules{FirstLifetime: time.Second})
	before := len(issuer.Requests())
	cases := []struct {
		path, method, part string
		entry              string
		img                v1.Image
		times              int
	}{
		{"look", http.MethodHead, "/blobs/", core, img, 1},
		{"begin", http.MethodPost, "/blobs/", core, img, 1},
		{"patch", http.MethodPatch, "/blobs/", core, img, 1},
		{"end", http.MethodPut, "/blobs/", core, img, 1},
		{"manifest", http.MethodPut, "/manifests/", core, img, 1},
		{"password", http.MethodHead, "/blobs/", core, many, 8},
		{"identity", http.MethodHead, "/blobs/", identity, many, 8},
		{"there", http.MethodGet, "/blobs/", core, img, 1}, // read, not written
	}
	var wg sync.WaitGroup
	errs := make([]error, len(cases))
	for i, tc := range cases {
		proxy := interop.Proxy(t, "http://"+host, interop.Fault{
			Match: func(r *http.Request) bool { return r.Method == tc.method && strings.Contains(r.URL.Path, tc.part) },
			Stall: 2200 * time.Millisecond, Times: tc.times, // lives are counted in whole seconds
		})
		r, repo := open(t, &remoteregistry.Options{AuthFile: login(t, map[string]string{proxy.Host: tc.entry}), Concurrency: tc.times}), repository(t, proxy.Host, "okd/"+tc.path)
		wg.Go(func() { // not t.Parallel, which would have them wait in turn
			if tc.path != "there" {
				_, errs[i] = r.WriteImage(t.Context(), repo, tc.img, nil)
			} else if got, err := r.Image(t.Context(), repo.Digest(digest(t, tc.img).String())); err != nil {
				errs[i] = err
			} else {
				errs[i] = drain(got)
			}
			if proxy.Hits() != tc.times && errs[i] == nil {
				errs[i] = fmt.Errorf("%d requests were held up", proxy.Hits())
			}
		})
	}
	wg.Wait()
	for i, tc := range cases {
		require.NoError(t, errs[i], tc.path)
	}
	require.GreaterOrEqual(t, len(issuer.Requests())-before, 2*len(cases), "each needed a second token")
	issuer.Set(interop.Rules{})
	for _, tc := range cases {
		pulled(t, good, repository(t, host, "okd/"+tc.path), tc.img)
	}
}

// A token server that gives tokens which are never enough does not keep us busy.
func TestTokensNeverEnough(t *testing.T) {
	host, issuer := interop.TokenRegistry(t)
	issuer.Set(interop.Rules{Allow: func(string, string, string) bool { return false }})
	proxy := interop.Proxy(t, "http://"+host)
	repo := repository(t, proxy.Host, "okd/a")
	opts := &remoteregistry.Options{AuthFile: login(t, map[string]string{proxy.Host: core})}
	for what, do := range map[string]func(context.Context, *remoteregistry.Registry) error{
		"write": func(ctx context.Context, r *remoteregistry.Registry) error {
			_, err := r.WriteImage(ctx, repo, image(t, 65, 100, large+1), nil)
			return err
		},
		"head": func(ctx context.Context, r *remoteregistry.Registry) error {
			_, err := r.Head(ctx, repo.Tag("t"))
			return err
		},
		"tags": func(ctx context.Context, r *remoteregistry.Registry) error {
			for _, err := range r.Tags(ctx, repo) {
				return err
			}
			return nil
		},
	} {
		tokens, requests := len(issuer.Requests()), len(proxy.Requests())
		err := do(t.Context(), open(t, opts))
		require.ErrorIs(t, err, fs.ErrPermission, what)
		require.ErrorContains(t, err, proxy.Host+"/okd/a")
		secretless(t, err)
		require.LessOrEqual(t, len(issuer.Requests())-tokens, 3, what)
		require.LessOrEqual(t, len(proxy.Requests())-requests, 6, what)
	}
}

func TestTokenServerRefuses(t *testing.T) {
	host, issuer := interop.TokenRegistry(t)
	repo := repository(t, host, "okd/a")
	for what, file := range map[string]string{
		"wrong password": login(t, map[string]string{host: account("core", "open-wheat")}),
		"wrong identity": login(t, map[string]string{host: `{"auth": "Og==", "identitytoken": "open-wheat"}`}),
	} {
		for _, tells := range []bool{false, true} {
			issuer.Set(interop.Rules{Secret: tells})
			before := len(issuer.Requests())
			_, err := open(t, &remoteregistry.Options{AuthFile: file}).WriteImage(t.Context(), repo, image(t, 66, 10), nil)
			require.ErrorIs(t, err, fs.ErrPermission, what)
			require.ErrorContains(t, err, repo.Name(), what)
			require.ErrorContains(t, err, fmt.Sprintf("auths %q of %s", host, file), "it says where the credentials are from")
			secretless(t, err)
			require.Len(t, issuer.Requests()[before:], 1, what)
		}
	}
	issuer.Set(interop.Rules{Refuse: http.StatusForbidden})
	_, err := open(t, &remoteregistry.Options{AuthFile: login(t, map[string]string{host: core})}).Head(t.Context(), repo.Tag("t"))
	require.ErrorIs(t, err, fs.ErrPermission)
}

// What is public can be read with no credentials, and with a file that has none
// for it; writing it cannot.
func TestAnonymousTokens(t *testing.T) {
	host, issuer := interop.TokenRegistry(t)
	repo := repository(t, host, "public/a")
	img := image(t, 67, 100)
	_, err := open(t, &remoteregistry.Options{AuthFile: login(t, map[string]string{host: core})}).WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	for what, opts := range map[string]*remoteregistry.Options{
		"no file":         nil,
		"other registry":  {AuthFile: login(t, map[string]string{"other.example": core})},
		"other namespace": {AuthFile: login(t, map[string]string{host + "/okd": core})},
		"empty entry":     {AuthFile: login(t, map[string]string{host: "{}"})},
		"missing file":    {AuthFiles: []string{filepath.Join(t.TempDir(), "missing")}},
	} {
		before := len(issuer.Requests())
		pulled(t, opts, repo, img)
		_, err := open(t, opts).WriteImage(t.Context(), repo, image(t, 68, 100), nil)
		require.ErrorIs(t, err, fs.ErrPermission, what)
		for _, r := range issuer.Requests()[before:] {
			require.Empty(t, r.User, what)
		}
	}
}

// Docker's identity tokens stand for a password that is not stored.
func TestIdentityTokens(t *testing.T) {
	host, issuer := interop.TokenRegistry(t)
	repo := repository(t, host, "build/a")
	opts := &remoteregistry.Options{AuthFile: login(t, map[string]string{
		host: fmt.Sprintf(`{"auth": "Og==", "identitytoken": %q}`, issuer.IdentityToken(interop.BuilderUser)),
	})}
	img := image(t, 69, 100)
	_, err := open(t, opts).WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	pulled(t, opts, repo, img)
	for _, r := range issuer.Requests() {
		require.True(t, r.Refresh)
		require.Equal(t, interop.BuilderUser, r.User)
	}
}

// A token goes to its registry alone, and credentials to the token server
// alone, wherever one of them points.
func TestTokenStaysHome(t *testing.T) {
	host, issuer := interop.TokenRegistry(t)
	var mu sync.Mutex
	var asked []string
	var leaked []string // Authorization headers and bodies
	target := "http://" + host
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		asked = append(asked, r.URL.Path)
		if text := r.Header.Get("Authorization") + r.Header.Get("Cookie") + string(body); text != "" {
			leaked = append(leaked, text)
		}
		mu.Unlock()
		switch {
		case strings.HasSuffix(r.URL.Path, "/token"):
			fmt.Fprint(w, `{"token": "theirs"}`)
		case r.URL.Query().Get("challenge") != "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+strings.Replace(r.Host, "127.0.0.1", "localhost", 1)+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Query().Get("basic") != "":
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = w.Write(content(7000, 100))
		}
	}))
	t.Cleanup(elsewhere.Close)
	query := ""
	front := lie(t, target, func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		http.Redirect(w, r, elsewhere.URL+"/blob"+query, http.StatusTemporaryRedirect)
		return true
	})
	opts := &remoteregistry.Options{AuthFile: login(t, map[string]string{front: core})}
	repo := repository(t, front, "okd/a")
	img := image(t, 70, 100)
	_, err := open(t, opts).WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	r := open(t, opts)
	for _, query = range []string{"", "?challenge=1", "?basic=1"} {
		got, err := r.Image(t.Context(), repo.Digest(digest(t, img).String()))
		require.NoError(t, err)
		layers, err := got.Layers()
		require.NoError(t, err)
		if query == "" {
			require.Len(t, read(t, layers[0]), 100)
			continue
		}
		_, err = layers[0].Compressed()
		require.Error(t, err)
		secretless(t, err)
	}
	mu.Lock()
	require.Contains(t, asked, "/blob")
	for _, text := range leaked {
		require.Equal(t, "Bearer theirs", text, "only what it gave itself")
	}
	mu.Unlock()

	// The token server sends us on to another.
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)+"/moved/token", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(moved.Close)
	realm := strings.Replace(moved.URL, "127.0.0.1", "localhost", 1)
	front = lie(t, target, func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`/token",service="sample-registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	for what, entry := range map[string]string{"password": core, "identity": fmt.Sprintf(`{"auth": "Og==", "identitytoken": %q}`, issuer.IdentityToken(interop.CoreUser))} {
		leaked = nil
		_, err = open(t, &remoteregistry.Options{AuthFile: login(t, map[string]string{front: entry})}).Head(t.Context(), repository(t, front, "okd/a").Tag("t"))
		require.ErrorIs(t, err, fs.ErrPermission, what)
		secretless(t, err)
		require.Empty(t, leaked, "%s: a redirect keeps the body of a POST, which here is a secret", what)
	}
}

// The distribution project's own token server and registry; skopeo does the
// same with the same file.
func TestTokenServer(t *testing.T) {
	interop.Peer(t, "skopeo")
	host, realm := interop.TokenServerRegistry(t)
	file := login(t, map[string]string{host: core, host + "/builder": builder})
	opts := &remoteregistry.Options{AuthFile: file}
	r := open(t, opts)
	img := mutate.ConfigMediaType(image(t, 71, 100, large+1), types.OCIConfigJSON)
	from, to, other := repository(t, host, "core/from"), repository(t, host, "core/to"), repository(t, host, "builder/to")
	desc, err := r.WriteImage(t.Context(), from, img, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), from.Tag("v1"), desc.Digest))
	var mounted atomic.Int64
	_, err = r.WriteImage(t.Context(), to, img, &publish.WriteOptions{From: []name.Repository{from}, Reused: func(v1.Descriptor) { mounted.Add(1) }})
	require.NoError(t, err)
	require.EqualValues(t, 3, mounted.Load())
	// From one account to the other: the writer may not mount what it cannot
	// read, and gets the bytes.
	got, err := r.Image(t.Context(), from.Tag("v1"))
	require.NoError(t, err)
	_, err = r.WriteImage(t.Context(), other, got, &publish.WriteOptions{From: []name.Repository{from}})
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), other.Tag("v1"), desc.Digest))
	pulled(t, opts, other, img)

	skopeo := func(args ...string) error {
		out, err := exec.CommandContext(t.Context(), "skopeo", append([]string{"--insecure-policy"}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	require.NoError(t, skopeo("inspect", "--tls-verify=false", "--authfile", file, "docker://"+other.Tag("v1").String()))
	require.NoError(t, skopeo("copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", "--authfile", file,
		"docker://"+from.Tag("v1").String(), "docker://"+repository(t, host, "builder/skopeo").Tag("v1").String()))
	pulled(t, opts, repository(t, host, "builder/skopeo"), img)

	swapped := login(t, map[string]string{host: builder, host + "/builder": core})
	wrong := login(t, map[string]string{host: account("core", "open-wheat")})
	for what, file := range map[string]string{"swapped": swapped, "wrong": wrong} {
		err := skopeo("inspect", "--tls-verify=false", "--authfile", file, "docker://"+from.Tag("v1").String())
		require.Error(t, err, "skopeo: %s", what)
		_, err = open(t, &remoteregistry.Options{AuthFile: file}).Image(t.Context(), from.Tag("v1"))
		require.ErrorIs(t, err, fs.ErrPermission, what)
		secretless(t, err)
	}

	// An identity token, as docker login stores it.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, realm+"?offline_token=true&service=sample-registry", nil)
	require.NoError(t, err)
	req.SetBasicAuth(interop.CoreUser, interop.CorePassword)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct {
		Refresh string `json:"refresh_token"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.NotEmpty(t, answer.Refresh)
	identity := &remoteregistry.Options{AuthFile: login(t, map[string]string{host: fmt.Sprintf(`{"auth": "Og==", "identitytoken": %q}`, answer.Refresh)})}
	_, err = open(t, identity).WriteImage(t.Context(), repository(t, host, "core/identity"), img, nil)
	require.NoError(t, err)
	pulled(t, identity, repository(t, host, "core/identity"), img)
}
