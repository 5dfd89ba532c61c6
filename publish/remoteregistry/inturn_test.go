package remoteregistry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// scenario is something that a client does, and what is so afterwards, however
// often it was done.
type scenario struct {
	// least is how many requests it takes at least.
	least int
	do    func(ctx context.Context, t *testing.T, r *remoteregistry.Registry, repo name.Repository) error
	check func(t *testing.T, r *remoteregistry.Registry, repo name.Repository)
}

// scenarios work on a server that has the image base in okd/base.
func scenarios(t *testing.T, base v1.Image) map[string]scenario {
	img := image(t, 4, 100, large+1000)
	data := content(410, 5<<20)
	subject := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digest(t, base), Size: 1}
	const kind = "application/vnd.example.note"
	note := referrer(t, 411, subject, kind)
	same := func(t *testing.T, r *remoteregistry.Registry, repo name.Repository, want v1.Image) {
		desc, raw, err := r.Manifest(t.Context(), repo.Tag("t"))
		require.NoError(t, err)
		expected, err := want.RawManifest()
		require.NoError(t, err)
		require.Equal(t, string(expected), string(raw))
		got, err := r.Image(t.Context(), repo.Digest(desc.Digest.String()))
		require.NoError(t, err)
		require.NoError(t, readAll(got))
	}
	push := func(ctx context.Context, r *remoteregistry.Registry, repo name.Repository, img v1.Image, opts *publish.WriteOptions) error {
		desc, err := r.WriteImage(ctx, repo, img, opts)
		if err != nil {
			return err
		}
		return r.Tag(ctx, repo.Tag("t"), desc.Digest)
	}
	return map[string]scenario{
		"upload": {10, func(ctx context.Context, _ *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
			return push(ctx, r, repo, img, nil)
		}, func(t *testing.T, r *remoteregistry.Registry, repo name.Repository) { same(t, r, repo, img) }},
		"mount": {8, func(ctx context.Context, _ *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
			return push(ctx, r, repo, base, &publish.WriteOptions{From: []name.Repository{repo.Registry.Repo("okd/base")}})
		}, func(t *testing.T, r *remoteregistry.Registry, repo name.Repository) { same(t, r, repo, base) }},
		"stream": {5, func(ctx context.Context, t *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
			desc, err := r.WriteStream(ctx, repo, bytes.NewReader(data))
			if err == nil {
				require.Equal(t, blobOf(t, data).Digest, desc.Digest)
			}
			return err
		}, func(t *testing.T, r *remoteregistry.Registry, repo name.Repository) {
			require.True(t, bytes.Equal(data, readBlob(t, r, repo, blobOf(t, data))))
		}},
		"referrers": {10, func(ctx context.Context, t *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
			desc, err := r.WriteImage(ctx, repo, note, nil)
			if err != nil {
				return err
			}
			for d, err := range r.Referrers(ctx, repo.Digest(subject.Digest.String()), kind) {
				if err != nil {
					return err
				}
				require.Equal(t, desc.Digest, d.Digest)
			}
			return nil
		}, func(t *testing.T, r *remoteregistry.Registry, repo name.Repository) {
			require.Len(t, listReferrers(t, r, repo.Digest(subject.Digest.String()), kind), 1)
			tag, err := remoteregistry.AttachedTag(repo.Digest(subject.Digest.String()), "")
			require.NoError(t, err)
			idx, err := r.Index(t.Context(), tag)
			require.NoError(t, err)
			m, err := idx.IndexManifest()
			require.NoError(t, err)
			require.Len(t, m.Manifests, 1, "entered once")
		}},
		"download": {4, func(ctx context.Context, _ *testing.T, r *remoteregistry.Registry, repo name.Repository) error {
			got, err := r.Image(ctx, repo.Registry.Repo("okd/base").Digest(digest(t, base).String()))
			if err != nil {
				return err
			}
			return readAll(got)
		}, func(*testing.T, *remoteregistry.Registry, name.Repository) {}},
	}
}

// readAll reads an image to the end, which verifies it.
func readAll(img v1.Image) error {
	if _, err := img.RawConfigFile(); err != nil {
		return err
	}
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

// Whatever happens to any one request, the outcome is the same. Where bytes
// come out wrong an error is allowed, and doing it again helps.
func TestEachRequestInTurn(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("hundreds of pushes")
	}
	modern := server(t)
	old := "http://" + lie(t, modern, noReferrers)
	base := image(t, 400, 100, 2000)
	_, err := open(t, nil).WriteImage(t.Context(), repository(t, host(modern), "okd/base"), base, nil)
	require.NoError(t, err)
	faults := map[string]struct {
		interop.Fault
		mayFail bool
	}{
		"503":         {interop.Fault{Status: http.StatusServiceUnavailable}, false},
		"429":         {interop.Fault{Status: http.StatusTooManyRequests}, false},
		"cut":         {interop.Fault{CutRequest: 50, CutResponse: 1}, false},
		"truncated":   {interop.Fault{CutResponse: 60}, false},
		"stalled":     {interop.Fault{Stall: 800 * time.Millisecond}, false},
		"wrong bytes": {interop.Fault{Corrupt: 30}, true},
	}
	for which, s := range scenarios(t, base) {
		target := modern
		if which == "referrers" {
			target = old
		}
		for what, fault := range faults {
			t.Run(which+"/"+what, func(t *testing.T) {
				t.Parallel()
				for n := 0; ; n++ {
					f := fault.Fault
					f.After, f.Times = n, 1
					proxy := interop.Proxy(t, target, f)
					repo := repository(t, proxy.Host, fmt.Sprintf("okd/%s-%s-%d", which, strings.ReplaceAll(what, " ", "-"), n))
					oneFault(t, s, repo, target, fault.mayFail, fault.Stall > 0, fmt.Sprintf("request %d", n))
					if proxy.Hits() == 0 {
						require.GreaterOrEqual(t, n, s.least, "requests")
						return
					}
				}
			})
		}
		t.Run(which+"/damaged requests", func(t *testing.T) {
			t.Parallel()
			for n := int64(1); ; n++ {
				front, hit := damage(t, target, n)
				repo := repository(t, front, fmt.Sprintf("okd/%s-damaged-%d", which, n))
				oneFault(t, s, repo, target, true, false, fmt.Sprintf("body %d", n))
				if !hit.Load() {
					return
				}
			}
		})
	}
}

func oneFault(t *testing.T, s scenario, repo name.Repository, target string, mayFail, stalls bool, what string) {
	t.Helper()
	opts := &remoteregistry.Options{ChunkSize: 3 << 20}
	if stalls {
		opts.HeaderTimeout, opts.StallTimeout = 400*time.Millisecond, 400*time.Millisecond
	}
	r := open(t, opts)
	err := s.do(t.Context(), t, r, repo)
	if !mayFail {
		require.NoError(t, err, what)
	}
	if err != nil {
		// The same client and a new one, as after a crash.
		require.NoError(t, s.do(t.Context(), t, r, repo), "%s: once more after %v", what, err)
		require.NoError(t, s.do(t.Context(), t, open(t, nil), repo), "%s: a new client after %v", what, err)
	}
	s.check(t, open(t, nil), repository(t, host(target), repo.RepositoryStr()))
}

// damage flips a bit in the nth request that has a body.
func damage(t *testing.T, target string, nth int64) (front string, hit *atomic.Bool) {
	t.Helper()
	var seen atomic.Int64
	hit = new(atomic.Bool)
	pass := lie(t, target, func(http.ResponseWriter, *http.Request, func() *http.Response) bool { return false })
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+pass+r.URL.RequestURI(), r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.ContentLength > 0 && seen.Add(1) == nth {
			hit.Store(true)
			req.Body = io.NopCloser(&flip{r: r.Body, at: min(40, r.ContentLength-1)})
		}
		req.Header, req.ContentLength, req.Host = r.Header, r.ContentLength, r.Host
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer resp.Body.Close()
		for key, values := range resp.Header {
			w.Header()[key] = values
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	return host(h.URL), hit
}

// flip changes the byte at an offset.
type flip struct {
	r  io.Reader
	at int64
}

func (f *flip) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.at >= 0 && f.at < int64(n) {
		p[f.at] ^= 0x01
	}
	f.at -= int64(n)
	return n, err
}

// What Retry-After says is waited for, by the transport and by the uploader.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	target := server(t)
	for _, method := range []string{http.MethodHead, http.MethodPatch} {
		proxy := interop.Proxy(t, target, interop.Fault{
			Match:  func(r *http.Request) bool { return r.Method == method },
			Status: http.StatusTooManyRequests, RetryAfter: 1, Times: 1,
		})
		before := time.Now()
		img := image(t, 420, large+1)
		_, err := open(t, nil).WriteImage(t.Context(), repository(t, proxy.Host, "okd/"+strings.ToLower(method)), img, nil)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(before), time.Second)
		checkPushed(t, target, "okd/"+strings.ToLower(method), img)
	}
}
