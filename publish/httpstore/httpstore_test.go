package httpstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/httpstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// content is size bytes that do not repeat.
func content(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// serve is a store over handler, and the requests it got.
func serve(t *testing.T, handler http.HandlerFunc, opts *httpstore.Options) (*httpstore.Store, *requests) {
	t.Helper()
	seen := &requests{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.add(r)
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	if opts == nil {
		opts = &httpstore.Options{}
	}
	opts.Delay = time.Millisecond
	s, err := httpstore.New(server.URL+"/base/", opts)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s, seen
}

type requests struct {
	mu   sync.Mutex
	list []string
}

func (r *requests) add(req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, strings.TrimSpace(req.Method+" "+req.Header.Get("Range")))
}

func (r *requests) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// object serves data as a good server does.
func object(data []byte, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		http.ServeContent(w, r, "key.bin", time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), bytes.NewReader(data))
	}
}

// cutting breaks off the body of each of the first n answers after at bytes.
func cutting(n, at int, next http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n--
		cut := n >= 0
		mu.Unlock()
		if cut {
			w = &cutWriter{ResponseWriter: w, left: at}
		}
		next(w, r)
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		_, _ = w.ResponseWriter.Write(p[:w.left])
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

func read(t *testing.T, s *httpstore.Store, key string) ([]byte, publish.Info, error) {
	t.Helper()
	return readRange(t, s, key, 0, -1)
}

func readRange(t *testing.T, s *httpstore.Store, key string, off, n int64) ([]byte, publish.Info, error) {
	t.Helper()
	body, info, err := s.OpenRange(t.Context(), key, off, n)
	if err != nil {
		return nil, info, err
	}
	data, err := io.ReadAll(body)
	require.NoError(t, body.Close())
	return data, info, err
}

// requireError checks for a typed error with the cause.
func requireError(t *testing.T, err, want error) {
	t.Helper()
	require.ErrorIs(t, err, want)
	_, ok := errors.AsType[*publish.Error](err)
	require.True(t, ok, "%T", err)
}

func TestFileServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := []string{
		"streams/stable.json", "index.html", "sub/index.html", "a b/ü%2F?x#y&z+;'.txt", "100%", "..dots", "empty", "~t", "a:b@c",
	}
	for _, key := range keys {
		path := filepath.Join(dir, "base", filepath.FromSlash(key))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		text := "at " + key
		if key == "empty" {
			text = ""
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	s, _ := serve(t, http.FileServer(http.Dir(dir)).ServeHTTP, nil)
	for _, key := range keys {
		want := "at " + key
		if key == "empty" {
			want = ""
		}
		data, opened, err := read(t, s, key)
		require.NoError(t, err, key)
		require.Equal(t, want, string(data))
		stat, err := s.Stat(t.Context(), key)
		require.NoError(t, err)
		for _, info := range []publish.Info{opened, stat} {
			require.Equal(t, key, info.Key)
			require.EqualValues(t, len(want), info.Size)
			require.Equal(t, opened.Revision, info.Revision)
			require.NotEmpty(t, info.Revision)
			require.False(t, info.Modified.IsZero())
		}
	}
	data, info, err := readRange(t, s, "streams/stable.json", 3, 4)
	require.NoError(t, err)
	require.Equal(t, "stre", string(data))
	require.EqualValues(t, len("at streams/stable.json"), info.Size)
	s2, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			w.WriteHeader(http.StatusConflict)
			return
		}
		http.Redirect(w, r, r.URL.Path+"/", http.StatusMovedPermanently)
	}, nil)
	_, _, err = s2.Open(t.Context(), "key")
	require.ErrorContains(t, err, "409 Conflict")
	for _, key := range []string{"missing", "streams", "streams/missing"} {
		_, err := s.Stat(t.Context(), key)
		requireError(t, err, fs.ErrNotExist)
		_, _, err = s.Open(t.Context(), key)
		requireError(t, err, fs.ErrNotExist)
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	s, seen := serve(t, http.NotFound, nil)
	_, err := s.Put(t.Context(), "key", publish.BytesSource(nil), nil)
	requireError(t, err, errors.ErrUnsupported)
	requireError(t, s.Delete(t.Context(), "key"), errors.ErrUnsupported)
	for _, err := range s.List(t.Context(), "") {
		requireError(t, err, errors.ErrUnsupported)
	}
	for _, key := range []string{"", "/etc/passwd", "../x", "a/../../x", "a//b", "back\\slash", "line\nbreak", "\xff"} {
		_, _, err := s.Open(t.Context(), key)
		requireError(t, err, fs.ErrInvalid)
		_, err = s.Stat(t.Context(), key)
		requireError(t, err, fs.ErrInvalid)
		_, err = s.Put(t.Context(), key, publish.BytesSource(nil), nil)
		requireError(t, err, fs.ErrInvalid)
		requireError(t, s.Delete(t.Context(), key), fs.ErrInvalid)
	}
	_, err = s.Put(t.Context(), "key", nil, nil)
	requireError(t, err, fs.ErrInvalid)
	_, _, err = s.OpenRange(t.Context(), "key", -1, 1)
	requireError(t, err, fs.ErrInvalid)
	require.Empty(t, seen.all())
}

func TestRanges(t *testing.T) {
	t.Parallel()
	data := content(1000)
	ignoring := func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		object(data, `"v1"`)(w, r)
	}
	for name, handler := range map[string]http.HandlerFunc{"served": object(data, `"v1"`), "ignored": ignoring} {
		s, _ := serve(t, handler, nil)
		for _, test := range []struct{ off, n, from, to int64 }{
			{0, -1, 0, 1000}, {0, 10, 0, 10}, {10, 10, 10, 20}, {990, 10, 990, 1000}, {990, 99, 990, 1000}, {990, -1, 990, 1000},
			{0, 0, 0, 0}, {5, 0, 5, 5}, {1000, 0, 1000, 1000}, {1000, -1, 1000, 1000}, {1, 1<<63 - 1, 1, 1000},
		} {
			got, info, err := readRange(t, s, "key", test.off, test.n)
			require.NoError(t, err, "%s: %v", name, test)
			require.True(t, bytes.Equal(data[test.from:test.to], got), "%s: %v", name, test)
			require.EqualValues(t, 1000, info.Size)
			if test.off < 1000 { // without a byte, net/http sends no tag
				require.Equal(t, `"v1"`, info.Revision)
			}
		}
		_, _, err := readRange(t, s, "key", 1001, 1)
		requireError(t, err, fs.ErrInvalid)
	}
}

func TestTransferIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	data := content(300 << 10)
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		resumes int
		want    []string
		err     error
	}{
		{name: "by ranges", handler: cutting(2, 100<<10, object(data, `"v1"`)), want: []string{"GET", "GET bytes=102400-307199", "GET bytes=204800-307199"}},
		{name: "by date", handler: cutting(1, 100<<10, object(data, "")), want: []string{"GET", "GET bytes=102400-307199"}},
		{name: "from the beginning", handler: cutting(1, 100<<10, func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			object(data, `"v1"`)(w, r)
		}), want: []string{"GET", "GET bytes=102400-307199"}},
		{name: "nothing gained", handler: cutting(99, 10, object(data, `"v1"`)), resumes: 2, err: io.ErrUnexpectedEOF,
			want: []string{"GET", "GET bytes=10-307199", "GET bytes=20-307199"}},
		{name: "not wanted", handler: cutting(1, 100<<10, object(data, `"v1"`)), resumes: -1, err: io.ErrUnexpectedEOF, want: []string{"GET"}},
		{name: "weak tag", handler: cutting(1, 100<<10, object(data, `W/"v1"`)), err: io.ErrUnexpectedEOF, want: []string{"GET"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, seen := serve(t, test.handler, &httpstore.Options{Resumes: test.resumes})
			got, _, err := read(t, s, "key")
			require.Equal(t, test.want, seen.all())
			if test.err != nil {
				requireError(t, err, test.err)
				require.True(t, bytes.Equal(data[:len(got)], got))
				return
			}
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
		})
	}
}

func TestTransferIsTakenUpAgainOverHTTP2(t *testing.T) {
	t.Parallel()
	data := content(300 << 10)
	handler := cutting(2, 100<<10, object(data, `"v1"`))
	var protocols []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocols = append(protocols, r.Proto)
		handler(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	s, err := httpstore.New(server.URL, &httpstore.Options{Transport: server.Client().Transport})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	got, _, err := read(t, s, "key")
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	require.Equal(t, []string{"HTTP/2.0", "HTTP/2.0", "HTTP/2.0"}, protocols)
}

func TestNeverFromHTTPSToHTTP(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(object([]byte("x"), `"v1"`))
	t.Cleanup(plain.Close)
	server := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/key?sig=s3cr3t", http.StatusFound))
	t.Cleanup(server.Close)
	s, err := httpstore.New(server.URL, &httpstore.Options{Transport: server.Client().Transport})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	_, _, err = s.Open(t.Context(), "key")
	require.ErrorContains(t, err, "/key: redirect refused: from https to http")
	require.NotContains(t, err.Error(), "s3cr3t")
	_, err = s.Stat(t.Context(), "key")
	require.ErrorContains(t, err, "redirect refused")
}

func TestStalledTransferIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	data := content(1000)
	first := true
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(data[:300])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		object(data, `"v1"`)(w, r)
	}, &httpstore.Options{StallTimeout: 100 * time.Millisecond})
	got, _, err := read(t, s, "key")
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}

// TestServersThatLie reads an object whose first answer breaks off; the second
// one is what the case says.
func TestServersThatLie(t *testing.T) {
	t.Parallel()
	data := content(1000)
	answer := func(code int, body []byte, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = w.Write(body)
		}
	}
	for _, test := range []struct {
		name   string
		second http.HandlerFunc
		err    error
	}{
		{"changed, whole", object(content(1000), `"v2"`), publish.ErrConflict},
		{"changed, other size", object(content(999), `"v1"`), publish.ErrConflict},
		{"changed, shorter than what was read", object(content(10), `"v2"`), publish.ErrConflict},
		{"changed, as a range", answer(206, data[500:], "ETag", `"v2"`, "Content-Range", "bytes 500-999/1000"), publish.ErrConflict},
		{"no tag any more", answer(206, data[500:], "Content-Range", "bytes 500-999/1000"), publish.ErrConflict},
		{"other total", answer(206, data[500:], "ETag", `"v1"`, "Content-Range", "bytes 500-999/1001"), publish.ErrConflict},
		{"gone", http.NotFound, publish.ErrConflict},
		{"beyond the end", answer(416, nil, "ETag", `"v2"`, "Content-Range", "bytes */10"), publish.ErrConflict},
		{"other offset", answer(206, data[400:], "ETag", `"v1"`, "Content-Range", "bytes 400-999/1000"), publish.ErrDigest},
		{"no range told", answer(206, data[500:], "ETag", `"v1"`), publish.ErrDigest},
		{"nonsense range", answer(206, data[500:], "ETag", `"v1"`, "Content-Range", "bytes 500-99999999999999999999/1000"), publish.ErrDigest},
		{"length and range disagree", answer(206, data[500:900], "ETag", `"v1"`, "Content-Range", "bytes 500-999/1000", "Content-Length", "400"), publish.ErrDigest},
		{"several ranges", answer(206, data[500:], "ETag", `"v1"`, "Content-Type", "multipart/byteranges; boundary=x"), publish.ErrDigest},
		{"forbidden now", answer(403, nil), fs.ErrPermission},
		{"a redirect to a file", answer(302, nil, "Location", "file:///etc/passwd"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := true
			s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if !first {
					test.second(w, r)
					return
				}
				first = false
				cutting(1, 500, object(data, `"v1"`))(w, r)
			}, nil)
			got, _, err := read(t, s, "key")
			require.Error(t, err)
			if test.err != nil {
				requireError(t, err, test.err)
			}
			require.ErrorContains(t, err, "publish: read http://127.0.0.1:")
			require.True(t, bytes.Equal(data[:500], got))
		})
	}
}

func TestShortRangesArePutTogether(t *testing.T) {
	t.Parallel()
	data := content(1000)
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		// At most 300 bytes an answer, whatever was asked for.
		var off int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &off); err != nil {
			off = 0
		}
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+299))
		object(data, `"v1"`)(w, r)
	}, nil)
	got, info, err := read(t, s, "key")
	require.NoError(t, err)
	require.EqualValues(t, 1000, info.Size)
	require.True(t, bytes.Equal(data, got))
}

func TestDigestIsChecked(t *testing.T) {
	t.Parallel()
	data := content(1000)
	sum := sha256.Sum256(data)
	for name, value := range map[string]string{
		"X-Amz-Meta-Sha256": hex.EncodeToString(sum[:]),
		"Repr-Digest":       "sha-512=:AAAA:, sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":",
	} {
		// Across an answer that broke off, too.
		handler := cutting(1, 300, object(data, `"v1"`))
		good, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(name, value)
			handler(w, r)
		}, nil)
		got, info, err := read(t, good, "key")
		require.NoError(t, err)
		require.Equal(t, hex.EncodeToString(sum[:]), info.SHA256)
		require.True(t, bytes.Equal(data, got))
		wrong, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(name, value)
			object(append(bytes.Clone(data[:999]), data[999]+1), `"v1"`)(w, r)
		}, nil)
		_, _, err = read(t, wrong, "key")
		requireError(t, err, publish.ErrDigest)
		// A part says nothing of the whole.
		_, _, err = readRange(t, wrong, "key", 10, 10)
		require.NoError(t, err)
	}
}

func TestStatWithoutHead(t *testing.T) {
	t.Parallel()
	data := content(1000)
	for _, code := range []int{400, 403, 405, 501} {
		for _, body := range [][]byte{data, nil} {
			s, seen := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					w.WriteHeader(code)
					return
				}
				object(body, `"v1"`)(w, r)
			}, nil)
			info, err := s.Stat(t.Context(), "key")
			require.NoError(t, err)
			require.EqualValues(t, len(body), info.Size)
			require.Equal(t, `"v1"`, info.Revision)
			require.Equal(t, []string{"HEAD", "GET bytes=0-0"}, seen.all())
		}
	}
}

func TestSizeThatIsNotTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		size int
		err  error
	}{{0, nil}, {1000, nil}, {1 << 20, nil}, {1<<20 + 1, errors.ErrUnsupported}} {
		data := content(test.size)
		s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush() // no length any more
			_, _ = w.Write(data)
		}, nil)
		got, opened, err := read(t, s, "key")
		stat, statErr := s.Stat(t.Context(), "key")
		if test.err != nil {
			requireError(t, err, test.err)
			requireError(t, statErr, test.err)
			continue
		}
		require.NoError(t, errors.Join(err, statErr))
		require.True(t, bytes.Equal(data, got))
		require.EqualValues(t, test.size, opened.Size)
		require.EqualValues(t, test.size, stat.Size)
		// Nothing tells two versions apart, so no two are the same.
		require.NotEqual(t, opened.Revision, stat.Revision)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code      int
		err       error
		retryable bool
	}{
		{401, fs.ErrPermission, false}, {403, fs.ErrPermission, false}, {404, fs.ErrNotExist, false}, {410, fs.ErrNotExist, false},
		{418, nil, false}, {204, nil, false}, {429, nil, true}, {500, nil, true}, {503, nil, true},
	} {
		s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(test.code) }, &httpstore.Options{Attempts: 2})
		_, statErr := s.Stat(t.Context(), "key")
		_, _, openErr := s.Open(t.Context(), "key")
		for _, err := range []error{statErr, openErr} {
			pe, ok := errors.AsType[*publish.Error](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, test.retryable, pe.Retryable, "%v", err)
			require.ErrorContains(t, err, fmt.Sprint(test.code))
			if test.err != nil {
				require.ErrorIs(t, err, test.err)
			} else {
				require.NotErrorIs(t, err, fs.ErrNotExist)
			}
		}
	}
}

func TestRetriesOfRequests(t *testing.T) {
	t.Parallel()
	n := 0
	s, seen := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; n < 4 {
			w.WriteHeader([]int{503, 429, 500}[n-1])
			return
		}
		object([]byte("x"), `"v1"`)(w, r)
	}, nil)
	data, _, err := read(t, s, "key")
	require.NoError(t, err)
	require.Equal(t, "x", string(data))
	require.Len(t, seen.all(), 4)
}

func TestCredentialsStayWithTheHost(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3ts3cr3t"
	var got http.Header
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		if r.URL.Path == "/missing" {
			http.NotFound(w, r)
			return
		}
		object([]byte("x"), `"v1"`)(w, r)
	}))
	t.Cleanup(other.Close)
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+secret {
			w.WriteHeader(401)
			return
		}
		http.Redirect(w, r, other.URL+strings.TrimPrefix(r.URL.Path, "/base")+"?X-Amz-Signature="+secret, http.StatusTemporaryRedirect)
	}, &httpstore.Options{Header: http.Header{"authorization": {"Bearer " + secret}}})
	data, _, err := readRange(t, s, "key", 0, 1)
	require.NoError(t, err)
	require.Equal(t, "x", string(data))
	require.Equal(t, "bytes=0-0", got.Get("Range"))
	require.NotContains(t, fmt.Sprint(got), secret)
	_, err = s.Stat(t.Context(), "missing")
	requireError(t, err, fs.ErrNotExist)
	require.NotContains(t, err.Error(), secret)
	other.Close()
	_, err = s.Stat(t.Context(), "key")
	require.Error(t, err)
	require.NotContains(t, err.Error(), secret)
}

func TestContext(t *testing.T) {
	t.Parallel()
	data := content(4 << 20)
	s, _ := serve(t, object(data, `"v1"`), nil)
	ctx, cancel := context.WithCancel(t.Context())
	body, _, err := s.Open(ctx, "key")
	require.NoError(t, err)
	_, err = io.ReadFull(body, make([]byte, 10))
	require.NoError(t, err)
	cancel()
	_, err = io.Copy(io.Discard, body)
	requireError(t, err, context.Canceled)
	require.NoError(t, body.Close())
	_, _, err = s.Open(ctx, "key")
	requireError(t, err, context.Canceled)
	_, err = s.Stat(ctx, "key")
	requireError(t, err, context.Canceled)
	// A reader may be left early.
	body, _, err = s.Open(t.Context(), "key")
	require.NoError(t, err)
	require.NoError(t, body.Close())
}

func TestBadBase(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "host/path", "ftp://host.example/", "http://", "https:///x", "https://u:s3cr3t@host.example/", "https://host.example/?token=s3cr3t", "https://host.example/#x", "https://host.example/?", "http://%zz:s3cr3t@h"} {
		_, err := httpstore.New(base, nil)
		requireError(t, err, fs.ErrInvalid)
		require.NotContains(t, err.Error(), "s3cr3t")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(uint16(206), "bytes 0-0/1", `"v"`, "1", "sha-256=:AA==:")
	f.Add(uint16(416), "bytes */0", "", "", "")
	f.Add(uint16(200), "", `W/"x"`, "Mon, 02 Jan 2006 15:04:05 GMT", "")
	f.Fuzz(func(t *testing.T, code uint16, contentRange, etag, modified, digest string) {
		rt := roundTrip(func(req *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: int(code), ContentLength: 3, Request: req, Body: io.NopCloser(strings.NewReader("abc")),
				Header: http.Header{"Content-Range": {contentRange}, "Etag": {etag}, "Last-Modified": {modified}, "Repr-Digest": {digest}},
			}, nil
		})
		s, err := httpstore.New("http://host.example/", &httpstore.Options{Transport: rt, Attempts: 1, Resumes: 1})
		if err != nil {
			t.Fatal(err)
		}
		var data []byte
		var info publish.Info
		var readErr error
		fuzzbound.Linear(t, len(contentRange)+len(etag)+len(modified)+len(digest), 512, func() {
			var body io.ReadCloser
			if body, info, err = s.OpenRange(t.Context(), "key", 1, -1); err == nil {
				data, readErr = io.ReadAll(body)
			}
		})
		if err != nil {
			return
		}
		if readErr == nil && int64(len(data)) != info.Size-1 {
			t.Fatalf("%d bytes of %d are no error", len(data), info.Size)
		}
		if info.Revision == "" {
			t.Fatal("no revision")
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func BenchmarkOpen(b *testing.B) {
	data := content(8 << 20)
	server := httptest.NewServer(object(data, `"v1"`))
	defer server.Close()
	s, err := httpstore.New(server.URL, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		body, _, err := s.Open(b.Context(), "key")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			b.Fatal(err)
		}
		body.Close()
	}
}
