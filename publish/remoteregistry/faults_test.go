package remoteregistry_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// server runs a registry over an empty folder and gives its URL.
func server(t testing.TB) string {
	t.Helper()
	s, err := registryserver.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
		require.NoError(t, s.Close())
	})
	return h.URL
}

func content(seed uint64, size int) []byte {
	out := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(out) // never fails
	return out
}

// image makes an image of uncompressed layers of these sizes.
func image(t testing.TB, seed uint64, sizes ...int) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for i, size := range sizes {
		var err error
		img, err = mutate.AppendLayers(img, static.NewLayer(content(seed*100+uint64(i), size), types.OCIUncompressedLayer))
		require.NoError(t, err)
	}
	return img
}

func digest(t testing.TB, img v1.Image) v1.Hash {
	t.Helper()
	h, err := img.Digest()
	require.NoError(t, err)
	return h
}

// checkPushed reads img back from the server itself, past any proxy.
func checkPushed(t testing.TB, target string, path string, img v1.Image) {
	t.Helper()
	got, err := open(t, nil).Image(t.Context(), repository(t, host(target), path).Digest(digest(t, img).String()))
	require.NoError(t, err)
	want, err := img.Layers()
	require.NoError(t, err)
	layers, err := got.Layers()
	require.NoError(t, err)
	require.Len(t, layers, len(want))
	for i := range layers {
		a, b := read(t, layers[i]), read(t, want[i])
		require.True(t, bytes.Equal(a, b), "layer %d", i)
	}
}

func read(t testing.TB, l v1.Layer) []byte {
	t.Helper()
	rc, err := l.Compressed()
	require.NoError(t, err)
	defer rc.Close()
	data, err := io.ReadAll(rc)
	require.NoError(t, err)
	return data
}

func host(u string) string { return strings.TrimPrefix(u, "http://") }

func count(requests []string, method, part string) int {
	n := 0
	for _, r := range requests {
		if strings.HasPrefix(r, method+" ") && strings.Contains(r, part) {
			n++
		}
	}
	return n
}

const large = remoteregistry.MonolithicSize

func isPatch(r *http.Request) bool { return r.Method == http.MethodPatch }

func TestUploadIsContinued(t *testing.T) {
	t.Parallel()
	testContinued(t, server(t), true)
}

func TestUploadIsContinuedDockerRegistry(t *testing.T) {
	// It refuses an upload that broke off, so each cut costs a new beginning.
	testContinued(t, "http://"+interop.Registry(t), false)
}

func testContinued(t *testing.T, target string, continues bool) {
	for _, chunk := range []int64{0, 3 << 20} {
		proxy := interop.Proxy(t, target, interop.Fault{Match: isPatch, CutRequest: 2<<20 + 7, Times: 2})
		img := image(t, uint64(chunk)+1, 3*large)
		path := fmt.Sprintf("okd/c%d", chunk)
		var last, total int64
		// The wait lets the server store what was on its way when the request was
		// cut: bytes that it adds after it was asked spoil the upload.
		_, err := open(t, &remoteregistry.Options{ChunkSize: chunk, Delay: 200 * time.Millisecond}).WriteImage(t.Context(), repository(t, proxy.Host, path), img,
			&publish.WriteOptions{Progress: func(done, all int64) {
				if done < last {
					t.Errorf("progress went back from %d to %d", last, done)
				}
				last, total = done, all
			}})
		require.NoError(t, err)
		require.Equal(t, total, last)
		require.Equal(t, 2, proxy.Hits())
		checkPushed(t, target, path, img)
		if chunk == 0 && continues {
			// A server may still be busy with what it got before the cut, and refuse once.
			require.GreaterOrEqual(t, count(proxy.Requests(), http.MethodPatch, "/blobs/uploads/"), 3)
			require.Equal(t, 2, count(proxy.Requests(), http.MethodPost, "/blobs/uploads/"), "one for the layer, one for the config: nothing began anew")
		}
	}
}

// A server that forgets what it had gets the blob from the start, but not for ever.
func TestUploadIsForgotten(t *testing.T) {
	t.Parallel()
	target := server(t)
	gone := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/uploads/")
	}
	proxy := interop.Proxy(t, target,
		interop.Fault{Match: isPatch, CutRequest: 1 << 20, Times: 2},
		interop.Fault{Match: gone, Status: http.StatusNotFound})
	img := image(t, 2, 2*large)
	_, err := open(t, nil).WriteImage(t.Context(), repository(t, proxy.Host, "okd/a"), img, nil)
	require.NoError(t, err)
	checkPushed(t, target, "okd/a", img)

	proxy.Set(interop.Fault{Match: isPatch, CutRequest: 1 << 20}, interop.Fault{Match: gone, Status: http.StatusNotFound})
	_, err = open(t, &remoteregistry.Options{Attempts: 3}).WriteImage(t.Context(), repository(t, proxy.Host, "okd/b"), image(t, 3, 2*large), nil)
	require.ErrorContains(t, err, "after 3 attempts without progress")
	failed, ok := errors.AsType[*publish.Error](err)
	require.True(t, ok)
	require.True(t, failed.Retryable)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status    int
		body      string
		kind      error
		retryable bool
	}{
		{http.StatusUnauthorized, `{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}`, fs.ErrPermission, false},
		{http.StatusForbidden, ``, fs.ErrPermission, false},
		{http.StatusNotFound, `{"errors":[{"code":"NAME_UNKNOWN","message":"x"}]}`, fs.ErrNotExist, false},
		{http.StatusBadRequest, `{"errors":[{"code":"DENIED","message":"x"}]}`, fs.ErrPermission, false},
		{http.StatusBadRequest, `{"errors":[{"code":"UNSUPPORTED","message":"x"}]}`, errors.ErrUnsupported, false},
		{http.StatusMethodNotAllowed, `<html>`, errors.ErrUnsupported, false},
		{http.StatusTooManyRequests, ``, nil, true},
		{http.StatusBadGateway, `<html>`, nil, true},
		{http.StatusInternalServerError, strings.Repeat("x", 1<<20), nil, true},
		{http.StatusTeapot, `{"errors":[{"code":"X\u001b[31m","message":"a\nb` + strings.Repeat("y", 10000) + `"}]}`, nil, false},
	} {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				return
			}
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		}))
		t.Cleanup(h.Close)
		repo := repository(t, host(h.URL), "okd/a")
		r := open(t, &remoteregistry.Options{Attempts: 2})
		_, imageErr := r.Image(t.Context(), repo.Tag("t"))
		tagErr := r.Tag(t.Context(), repo.Tag("t"), digest(t, empty.Image))
		var tagsErr error
		for _, err := range r.Tags(t.Context(), repo) {
			tagsErr = err
		}
		for _, err := range []error{imageErr, tagErr, tagsErr} {
			failed, ok := errors.AsType[*publish.Error](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, tc.retryable, failed.Retryable, "%v", err)
			if tc.kind != nil {
				require.ErrorIs(t, err, tc.kind)
			}
			require.ErrorContains(t, err, fmt.Sprint(tc.status))
			require.ErrorContains(t, err, "okd/a")
			require.Less(t, len(err.Error()), 700)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "\x1b")
		}
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = open(t, &remoteregistry.Options{Attempts: 2}).Head(t.Context(), repository(t, l.Addr().String(), "okd/a").Tag("t"))
	failed, ok := errors.AsType[*publish.Error](err)
	require.True(t, ok)
	require.True(t, failed.Retryable, "%v", err)
}

// tokenServer puts bearer authentication before a registry. Tokens are good
// for a few requests only.
type tokenServer struct {
	next     http.Handler
	uses     int
	password string

	mu     sync.Mutex
	url    string
	tokens map[string]int
	issued int
	scopes []string
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		user, password, _ := r.BasicAuth()
		if user != "core" || password != s.password {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong password %s"}]}`, password)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.issued++
		s.scopes = append(s.scopes, strings.Join(r.URL.Query()["scope"], " "))
		token := fmt.Sprintf("token-%d-abcdefgh", s.issued)
		s.tokens[token] = s.uses
		fmt.Fprintf(w, `{"token":%q}`, token)
		return
	}
	s.mu.Lock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	ok := s.tokens[token] > 0
	s.tokens[token]--
	s.mu.Unlock()
	if !ok {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="sample",scope="repository:okd/a:pull,push"`, s.url))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.next.ServeHTTP(w, r)
}

func authFile(t testing.TB, registry, user, password string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "auth.json")
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	require.NoError(t, os.WriteFile(file, []byte(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, registry+"/okd", auth)), 0o600))
	return file
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s, err := registryserver.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	auth := &tokenServer{next: s, uses: 5, password: "open-sesame", tokens: map[string]int{}}
	h := httptest.NewServer(auth)
	auth.url = h.URL
	t.Cleanup(func() { h.Close(); require.NoError(t, s.Close()) })
	repo := repository(t, host(h.URL), "okd/a")
	img := image(t, 5, 100, large+5, 200)

	r := open(t, &remoteregistry.Options{AuthFiles: []string{authFile(t, host(h.URL), "core", "open-sesame")}})
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err, "tokens run out in the middle")
	require.NoError(t, r.Tag(t.Context(), repo.Tag("t"), desc.Digest))
	got, err := r.Image(t.Context(), repo.Tag("t"))
	require.NoError(t, err)
	_, err = got.RawConfigFile()
	require.NoError(t, err)
	require.Greater(t, auth.issued, 3)
	require.Contains(t, auth.scopes[0], "repository:okd/a:push,pull")

	for what, opts := range map[string]*remoteregistry.Options{
		"anonymous":      nil,
		"wrong password": {AuthFile: authFile(t, host(h.URL), "core", "open-barley")},
		"other key":      {AuthFile: authFile(t, "quay.example", "core", "open-sesame")},
	} {
		_, err = open(t, opts).Head(t.Context(), repo.Tag("t"))
		require.ErrorIs(t, err, fs.ErrPermission, what)
		require.NotContains(t, err.Error(), "open-")
		require.NotContains(t, err.Error(), base64.StdEncoding.EncodeToString([]byte("core:open-barley")))
	}
	_, err = open(t, &remoteregistry.Options{AuthFile: filepath.Join(t.TempDir(), "missing")}).Head(t.Context(), repo.Tag("t"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A server that is never content must not keep us busy.
func TestEndless401(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	var h *httptest.Server
	h = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.URL.Path == "/token" {
			_, _ = io.WriteString(w, `{"token":"secret-token"}`)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+h.URL+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":"not %s"}]}`, r.Header.Get("Authorization"))
	}))
	t.Cleanup(h.Close)
	r := open(t, nil)
	repo := repository(t, host(h.URL), "okd/a")
	_, err := r.WriteImage(t.Context(), repo, image(t, 6, 10), nil)
	require.ErrorIs(t, err, fs.ErrPermission)
	_, err = r.Image(t.Context(), repo.Tag("t"))
	require.ErrorIs(t, err, fs.ErrPermission)
	require.NotContains(t, err.Error(), "secret-token")
	require.Less(t, requests.Load(), int64(20))
}

// lie answers some requests itself.
func lie(t testing.TB, target string, answer func(w http.ResponseWriter, r *http.Request, ask func() *http.Response) bool) string {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ask := func() *http.Response {
			req, err := http.NewRequestWithContext(r.Context(), r.Method, target+r.URL.RequestURI(), r.Body)
			if err != nil {
				panic(err)
			}
			req.Header, req.ContentLength, req.Host = r.Header, r.ContentLength, r.Host
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			return resp
		}
		if answer(w, r, ask) {
			return
		}
		resp := ask()
		defer resp.Body.Close()
		for key, values := range resp.Header {
			w.Header()[key] = values
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	return host(h.URL)
}

func TestLies(t *testing.T) {
	t.Parallel()
	target := server(t)
	img := image(t, 7, 1000)
	honest := open(t, nil)
	desc, err := honest.WriteImage(t.Context(), repository(t, host(target), "okd/a"), img, nil)
	require.NoError(t, err)
	require.NoError(t, honest.Tag(t.Context(), repository(t, host(target), "okd/a").Tag("t"), desc.Digest))
	raw, err := img.RawManifest()
	require.NoError(t, err)
	other, err := image(t, 8, 10).RawManifest()
	require.NoError(t, err)
	is := func(r *http.Request, method, part string) bool {
		return r.Method == method && strings.Contains(r.URL.Path, part)
	}
	send := func(w http.ResponseWriter, body []byte, header ...string) bool {
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, _ = w.Write(body)
		return true
	}
	byDigest := func(t *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
		got, err := r.Image(t.Context(), repo.Digest(desc.Digest.String()))
		if err != nil {
			return err
		}
		return errors.Join(validate.Image(got, validate.Fast))
	}
	byTag := func(t *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
		_, err := r.Image(t.Context(), repo.Tag("t"))
		return err
	}
	readLayer := func(t *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
		got, err := r.Image(t.Context(), repo.Digest(desc.Digest.String()))
		require.NoError(t, err)
		layers, err := got.Layers()
		require.NoError(t, err)
		rc, err := layers[0].Compressed()
		if err != nil {
			return err
		}
		defer rc.Close()
		_, err = io.Copy(io.Discard, rc)
		return err
	}
	tags := func(t *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
		for _, err := range r.Tags(t.Context(), repo) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	push := func(t *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
		_, err := r.WriteImage(t.Context(), repo.Registry.Repo("okd/new/"+strings.ToLower(strings.ReplaceAll(filepath.Base(t.Name()), "_", "-"))), image(t, 9, 100, large+1), nil)
		return err
	}
	for what, tc := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, ask func() *http.Response) bool
		do     func(*testing.T, *remoteregistry.Registry, name.Repository) error
		kind   error  // or
		text   string // part of the error
	}{
		"another manifest for a digest": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			return is(r, http.MethodGet, "/manifests/") && send(w, other)
		}, byDigest, publish.ErrDigest, ""},
		"another digest in the header": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			return is(r, http.MethodGet, "/manifests/") && send(w, raw, "Docker-Content-Digest", digest(t, empty.Image).String())
		}, byTag, publish.ErrDigest, ""},
		"nonsense in the digest header": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			return is(r, http.MethodGet, "/manifests/") && send(w, raw, "Docker-Content-Digest", "sha256:../../x")
		}, byTag, nil, "Docker-Content-Digest"},
		"another media type": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			return is(r, http.MethodGet, "/manifests/") && send(w, raw, "Content-Type", string(types.OCIImageIndex))
		}, byTag, nil, "says it is"},
		"not a manifest": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			return is(r, http.MethodGet, "/manifests/") && send(w, []byte("<html>"))
		}, byTag, nil, "manifest"},
		"endless manifest": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodGet, "/manifests/") {
				return false
			}
			for range 100 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					break
				}
			}
			return true
		}, byTag, errors.ErrUnsupported, ""},
		"negative size in a manifest": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			return is(r, http.MethodGet, "/manifests/") && send(w, bytes.Replace(raw, []byte(`"size":1000`), []byte(`"size":-1`), 1))
		}, byTag, publish.ErrDigest, ""},
		"blob of the right length": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			return is(r, http.MethodGet, "/blobs/") && send(w, make([]byte, 1000))
		}, readLayer, publish.ErrDigest, ""},
		"blob that is too long": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			return is(r, http.MethodGet, "/blobs/") && send(w, make([]byte, 1001))
		}, readLayer, publish.ErrDigest, ""},
		"blob without length that is too long": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodGet, "/blobs/") {
				return false
			}
			_, _ = w.Write(content(700, 1000))
			w.(http.Flusher).Flush()
			_, _ = w.Write([]byte("more"))
			return true
		}, readLayer, publish.ErrDigest, ""},
		"blob that breaks off": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodGet, "/blobs/") {
				return false
			}
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(content(700, 500))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, readLayer, nil, "unexpected EOF"},
		"tags without end": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodGet, "/tags/list") {
				return false
			}
			w.Header().Set("Link", `</v2/okd/a/tags/list?n=1&last=x>; rel="next"`)
			_, _ = io.WriteString(w, `{"tags":["x"]}`)
			return true
		}, tags, nil, "does not end"},
		"tags elsewhere": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodGet, "/tags/list") {
				return false
			}
			w.Header().Set("Link", `<https://elsewhere.example/v2/okd/a/tags/list?n=1>; rel=next`)
			_, _ = io.WriteString(w, `{"tags":["x"]}`)
			return true
		}, tags, nil, "another server"},
		"tags that are paths": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			return is(r, http.MethodGet, "/tags/list") && send(w, []byte(`{"tags":["../../etc"]}`))
		}, tags, nil, "is not a tag"},
		"blob said to be there in another size": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodHead, "/blobs/") {
				return false
			}
			w.Header().Set("Content-Length", "3")
			return true
		}, push, publish.ErrDigest, ""},
		"upload without address": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodPost, "/blobs/uploads/") {
				return false
			}
			w.WriteHeader(http.StatusAccepted)
			return true
		}, push, nil, "no address"},
		"upload to a file": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodPost, "/blobs/uploads/") {
				return false
			}
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusAccepted)
			return true
		}, push, nil, "address"},
		"upload over plain http elsewhere": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodPost, "/blobs/uploads/") {
				return false
			}
			w.Header().Set("Location", "http://elsewhere.example/x?secret=abcdefghij")
			w.WriteHeader(http.StatusAccepted)
			return true
		}, push, nil, "not allowed"},
		"upload that keeps half": {func(w http.ResponseWriter, r *http.Request, ask func() *http.Response) bool {
			if is(r, http.MethodGet, "/blobs/uploads/") {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			if r.Method != http.MethodPatch {
				return false
			}
			resp := ask()
			defer resp.Body.Close()
			w.Header().Set("Location", resp.Header.Get("Location"))
			w.Header().Set("Range", "0-99")
			w.WriteHeader(http.StatusAccepted)
			return true
		}, push, nil, "did not keep"},
		"manifest stored as another": {func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if !is(r, http.MethodPut, "/manifests/") {
				return false
			}
			w.Header().Set("Docker-Content-Digest", digest(t, empty.Image).String())
			w.WriteHeader(http.StatusCreated)
			return true
		}, push, publish.ErrDigest, ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			repo := repository(t, lie(t, target, tc.answer), "okd/a")
			err := tc.do(t, open(t, &remoteregistry.Options{Attempts: 2}), repo)
			require.Error(t, err)
			if tc.kind != nil {
				require.ErrorIs(t, err, tc.kind)
			}
			require.ErrorContains(t, err, tc.text)
			require.NotContains(t, err.Error(), "abcdefghij")
		})
	}
}

// A blob that breaks off is continued, by a range or by skipping what came.
func TestDownloadIsContinued(t *testing.T) {
	t.Parallel()
	target := server(t)
	img := image(t, 11, 3<<20)
	desc, err := open(t, nil).WriteImage(t.Context(), repository(t, host(target), "okd/a"), img, nil)
	require.NoError(t, err)
	blob := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
	}
	proxy := interop.Proxy(t, target, interop.Fault{Match: blob, CutResponse: 1 << 20, Times: 2})
	got, err := open(t, nil).Image(t.Context(), repository(t, proxy.Host, "okd/a").Digest(desc.Digest.String()))
	require.NoError(t, err)
	layers, err := got.Layers()
	require.NoError(t, err)
	require.Equal(t, content(1100, 3<<20), read(t, layers[0]))
	require.Equal(t, 2, proxy.Hits())

	var sent atomic.Int64
	front := lie(t, target, func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
		if !blob(r) {
			return false
		}
		// It knows no ranges and gets one MiB further each time.
		w.Header().Set("Content-Length", fmt.Sprint(3<<20))
		_, _ = w.Write(content(1100, 3<<20)[:min(sent.Add(1)<<20, 3<<20)])
		if sent.Load() < 3 {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		return true
	})
	got, err = open(t, nil).Image(t.Context(), repository(t, front, "okd/a").Digest(desc.Digest.String()))
	require.NoError(t, err)
	layers, err = got.Layers()
	require.NoError(t, err)
	require.Equal(t, content(1100, 3<<20), read(t, layers[0]))
	require.EqualValues(t, 3, sent.Load())
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	target := server(t)
	img := image(t, 10, 1000)
	desc, err := open(t, nil).WriteImage(t.Context(), repository(t, host(target), "okd/a"), img, nil)
	require.NoError(t, err)
	var leaked atomic.Bool
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		http.Redirect(w, r, target+r.URL.Path, http.StatusFound)
	}))
	t.Cleanup(storage.Close)
	to := storage.URL
	var authorized atomic.Int64
	front := lie(t, target, func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		authorized.Add(1)
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, to+r.URL.Path+"?signature=abcdefghij", http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	r := open(t, &remoteregistry.Options{AuthFile: authFile(t, front, "core", "open-sesame")})
	got, err := r.Image(t.Context(), repository(t, front, "okd/a").Digest(desc.Digest.String()))
	require.NoError(t, err)
	layers, err := got.Layers()
	require.NoError(t, err)
	require.Len(t, read(t, layers[0]), 1000)
	require.False(t, leaked.Load(), "credentials went to another host")
	require.Positive(t, authorized.Load())

	to = "http://elsewhere.example"
	_, err = layers[0].Compressed()
	require.ErrorContains(t, err, "not allowed")
	require.NotContains(t, err.Error(), "abcdefghij")

	to = "http://" + front // round and round
	before := authorized.Load()
	_, err = layers[0].Compressed()
	require.ErrorContains(t, err, "redirect")
	require.NotContains(t, err.Error(), "abcdefghij")
	require.Less(t, authorized.Load()-before, int64(20))
}

// An upload may lead to another host, as with storage services that take the
// bytes themselves: they get no credentials, wherever the next address leads.
func TestUploadElsewhere(t *testing.T) {
	t.Parallel()
	target := server(t)
	var leaked atomic.Bool
	var seen atomic.Int64
	storage := lie(t, target, func(_ http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
		seen.Add(1)
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		return false
	})
	front := lie(t, target, func(w http.ResponseWriter, r *http.Request, ask func() *http.Response) bool {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if r.Method != http.MethodPost {
			return false
		}
		resp := ask()
		defer resp.Body.Close()
		at, err := url.Parse(resp.Header.Get("Location"))
		if err != nil {
			t.Error(err)
		}
		at.Scheme, at.Host = "http", storage
		w.Header().Set("Location", at.String())
		w.WriteHeader(resp.StatusCode)
		return true
	})
	r := open(t, &remoteregistry.Options{AuthFile: authFile(t, front, "core", "open-sesame")})
	img := image(t, 32, 100, large+1)
	_, err := r.WriteImage(t.Context(), repository(t, front, "okd/a"), img, nil)
	require.NoError(t, err)
	_, err = r.WriteStream(t.Context(), repository(t, front, "okd/a"), bytes.NewReader(content(33, 9<<20)))
	require.NoError(t, err)
	checkPushed(t, target, "okd/a", img)
	require.Greater(t, seen.Load(), int64(5))
	require.False(t, leaked.Load(), "credentials went to another host")
}

// dialTo leads every name to one place.
func dialTo(target string) func(ctx context.Context, network, _ string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, target)
	}
}

func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	target := server(t)
	tr := &http.Transport{DialContext: dialTo(host(target))}
	t.Cleanup(tr.CloseIdleConnections)
	for _, tc := range []struct {
		host     string
		insecure []string
		ok       bool
	}{
		{"registry.example", nil, false},
		{"registry.example", []string{"registry.example"}, true},
		{"registry.example:5000", []string{"registry.example"}, true},
		{"registry.example:5000", []string{"registry.example:5000"}, true},
		{"registry.example:5000", []string{"registry.example:5001"}, false},
		{"10.1.2.3:5000", nil, false},
		{"10.1.2.3:5000", []string{"10.1.2.3:5000"}, true},
		{"localhost:5000", nil, true},
		{"x.localhost:5000", nil, true},
		{"127.0.0.1:5000", nil, true},
	} {
		_, err := open(t, &remoteregistry.Options{Transport: tr, Insecure: tc.insecure}).WriteImage(t.Context(), repository(t, tc.host, "okd/a"), empty.Image, nil)
		if tc.ok {
			require.NoError(t, err, "%s %q", tc.host, tc.insecure)
		} else {
			require.Error(t, err, "%s %q", tc.host, tc.insecure)
		}
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	front := lie(t, server(t), func(_ http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/") {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(10 * time.Millisecond)
		}
		return false
	})
	r := open(t, &remoteregistry.Options{Concurrency: 2})
	var wg sync.WaitGroup
	for i := range uint64(3) {
		wg.Go(func() {
			_, err := r.WriteImage(t.Context(), repository(t, front, "okd/a"), image(t, 20+i, 1, 2, 3, 4), nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(2))
}

// A mount moves nothing.
func TestMountMovesNothing(t *testing.T) {
	t.Parallel()
	target := server(t)
	img := image(t, 30, large+1, 10)
	r := open(t, nil)
	from := repository(t, host(target), "okd/a")
	_, err := r.WriteImage(t.Context(), from, img, nil)
	require.NoError(t, err)
	proxy := interop.Proxy(t, target)
	var reused atomic.Int64
	_, err = r.WriteImage(t.Context(), repository(t, proxy.Host, "okd/b"), img, &publish.WriteOptions{
		From: []name.Repository{repository(t, proxy.Host, "okd/a")}, Reused: func(v1.Descriptor) { reused.Add(1) },
	})
	require.NoError(t, err)
	require.Zero(t, count(proxy.Requests(), http.MethodPatch, ""))
	require.Zero(t, count(proxy.Requests(), http.MethodPut, "/blobs/"))
	require.EqualValues(t, 3, reused.Load())
	checkPushed(t, target, "okd/b", img)

	again := len(proxy.Requests())
	_, err = r.WriteImage(t.Context(), repository(t, proxy.Host, "okd/b"), img, &publish.WriteOptions{From: []name.Repository{repository(t, proxy.Host, "okd/a")}})
	require.NoError(t, err)
	require.Len(t, proxy.Requests()[again:], 1, "one request says that all is there")
}

func TestCancelWhileServerSleeps(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}), make(chan struct{})
	var once sync.Once
	front := lie(t, server(t), func(_ http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
		if r.Method == http.MethodPatch {
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
			once.Do(func() { close(began) })
			<-ended // with half a body unread, the server does not see that the client left
			return true
		}
		return false
	})
	defer close(ended)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	_, err := open(t, nil).WriteImage(ctx, repository(t, front, "okd/a"), image(t, 31, large*4), nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := remoteregistry.Open(t.Context(), &remoteregistry.Options{Concurrency: -1})
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = remoteregistry.Open(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"/x"}, remoteregistry.AuthFiles(func(key string) string {
		return url.PathEscape(map[string]string{"REGISTRY_AUTH_FILE": ""}[key]) + map[string]string{"REGISTRY_AUTH_FILE": "/x"}[key]
	}))
}
