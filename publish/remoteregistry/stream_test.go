package remoteregistry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func TestStream(t *testing.T) {
	t.Parallel()
	testStream(t, host(server(t)))
}

func TestStreamDockerRegistry(t *testing.T) { testStream(t, interop.Registry(t)) }

func testStream(t *testing.T, target string) {
	repo := repository(t, target, "okd/a")
	const chunk = 5 << 20
	r := open(t, &remoteregistry.Options{ChunkSize: chunk})
	for _, size := range []int{0, 1, large, large + 1, chunk, 2 * chunk, 2*chunk + 3} {
		data := content(90, size)
		for _, src := range []io.Reader{bytes.NewReader(data), iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(data)))} {
			desc, err := r.WriteStream(t.Context(), repo, src)
			require.NoError(t, err, size)
			want := blobOf(t, data)
			require.Equal(t, want.Digest, desc.Digest)
			require.Equal(t, want.Size, desc.Size)
			require.True(t, bytes.Equal(data, readBlob(t, r, repo, desc)))
		}
	}
}

// A stream that fails leaves nothing.
func TestStreamFails(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]error{"some error": errors.New("torn"), "short": io.ErrUnexpectedEOF} {
		for _, at := range []int{0, 1000, 17 << 20} {
			proxy := interop.Proxy(t, server(t))
			_, err := open(t, nil).WriteStream(t.Context(), repository(t, proxy.Host, "okd/a"),
				io.MultiReader(bytes.NewReader(content(91, at)), iotest.ErrReader(fault)))
			require.ErrorIs(t, err, fault, what)
			require.Zero(t, count(proxy.Requests(), http.MethodPut, ""), what)
			require.Equal(t, count(proxy.Requests(), http.MethodPost, ""), count(proxy.Requests(), http.MethodDelete, ""), "uploads are cancelled")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := open(t, nil).WriteStream(ctx, repository(t, "registry.example", "okd/a"), strings.NewReader("x"))
	require.ErrorIs(t, err, context.Canceled)
}

// Chunks that break off are sent again from memory.
func TestStreamIsContinued(t *testing.T) {
	t.Parallel()
	target := server(t)
	data := content(92, 10<<20)
	patches := 0
	for n := range 3 { // the third goes wrong in its answer
		fault := interop.Fault{Match: isPatch, CutRequest: 1<<20 + 5, After: n, Times: 2}
		if n == 2 {
			fault = interop.Fault{Match: isPatch, Status: http.StatusBadGateway, After: 1, Times: 2}
		}
		proxy := interop.Proxy(t, target, fault)
		r := open(t, &remoteregistry.Options{ChunkSize: 4 << 20})
		repo := repository(t, proxy.Host, "okd/a")
		desc, err := r.WriteStream(t.Context(), repo, bytes.NewReader(data))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, readBlob(t, r, repo, desc)))
		require.Equal(t, 2, proxy.Hits())
		patches += count(proxy.Requests(), http.MethodPatch, "")
	}
	require.GreaterOrEqual(t, patches, 3*3+3*2)

	// A server that forgets what it had cannot be helped after the first chunk.
	gone := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/uploads/")
	}
	for n := range 2 {
		proxy := interop.Proxy(t, target,
			interop.Fault{Match: isPatch, CutRequest: 1<<20 + 5, After: n, Times: 1},
			interop.Fault{Match: gone, Status: http.StatusNotFound})
		repo := repository(t, proxy.Host, "okd/b")
		desc, err := open(t, &remoteregistry.Options{ChunkSize: 4 << 20}).WriteStream(t.Context(), repo, bytes.NewReader(data))
		if n == 0 {
			require.NoError(t, err)
			require.Equal(t, blobOf(t, data).Digest, desc.Digest)
		} else {
			require.ErrorContains(t, err, "cannot be sent again")
		}
	}
}

// A server that is busy now and then, and does not tell how far an upload is,
// gets a stream nevertheless.
func TestStreamOfABusyServer(t *testing.T) {
	t.Parallel()
	target := server(t)
	asks := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/uploads/")
	}
	data := content(95, 10<<20)
	for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodPut} {
		for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
			after, uploads := 0, 1
			switch method {
			case http.MethodPatch:
				after = 1
			case http.MethodPost:
				uploads += 3
			}
			proxy := interop.Proxy(t, target,
				interop.Fault{Match: func(r *http.Request) bool { return r.Method == method }, Status: status, After: after, Times: 3},
				interop.Fault{Match: asks, Status: http.StatusNotFound})
			r := open(t, &remoteregistry.Options{ChunkSize: 4 << 20})
			repo := repository(t, proxy.Host, "okd/busy")
			desc, err := r.WriteStream(t.Context(), repo, bytes.NewReader(data))
			require.NoError(t, err, "%s %d", method, status)
			require.True(t, bytes.Equal(data, readBlob(t, r, repo, desc)))
			require.Equal(t, uploads, count(proxy.Requests(), http.MethodPost, ""), "it is not begun anew")
		}
	}
}

// What a registry refuses for good is asked for as often as the options say,
// not as often for each time.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	const attempts = 3
	for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodPut} {
		for _, size := range []int{1000, 9 << 20} { // in one request, and in several
			if method == http.MethodPatch && size == 1000 {
				continue
			}
			proxy := interop.Proxy(t, server(t), interop.Fault{
				Match:  func(r *http.Request) bool { return r.Method == method && strings.Contains(r.URL.Path, "/blobs/") },
				Status: http.StatusServiceUnavailable,
			})
			r := open(t, &remoteregistry.Options{Attempts: attempts, ChunkSize: 4 << 20, Concurrency: 1})
			repo := repository(t, proxy.Host, "okd/a")
			_, err := r.WriteStream(t.Context(), repo, bytes.NewReader(content(96, size)))
			require.ErrorContains(t, err, "503")
			require.Equal(t, attempts, proxy.Hits(), "stream of %d bytes: %s", size, method)
			_, err = r.WriteImage(t.Context(), repo, image(t, 97, size), nil)
			require.ErrorContains(t, err, "503")
			require.ErrorContains(t, err, "after 3 attempts")
			require.Equal(t, 2*attempts, proxy.Hits(), "blob of %d bytes: %s", size, method)
		}
	}
}

// The smallest chunk that a server wants is honoured.
func TestChunkMinLength(t *testing.T) {
	t.Parallel()
	var lengths []int64
	min := "3000000"
	front := lie(t, server(t), func(w http.ResponseWriter, r *http.Request, ask func() *http.Response) bool {
		if r.Method == http.MethodPatch {
			lengths = append(lengths, r.ContentLength)
		}
		if r.Method != http.MethodPost {
			return false
		}
		resp := ask()
		defer resp.Body.Close()
		w.Header().Set("Location", resp.Header.Get("Location"))
		w.Header().Set("OCI-Chunk-Min-Length", min)
		w.WriteHeader(resp.StatusCode)
		return true
	})
	r := open(t, &remoteregistry.Options{ChunkSize: 1 << 20})
	data := content(93, 7_000_000)
	desc, err := r.WriteStream(t.Context(), repository(t, front, "okd/a"), bytes.NewReader(data))
	require.NoError(t, err)
	require.Equal(t, blobOf(t, data).Digest, desc.Digest)
	require.Equal(t, []int64{3_000_000, 3_000_000, 1_000_000}, lengths)
	lengths = nil
	_, err = r.WriteImage(t.Context(), repository(t, front, "okd/a"), image(t, 94, 7_000_000), nil)
	require.NoError(t, err)
	require.Equal(t, []int64{3_000_000, 3_000_000, 1_000_000}, lengths)
	min = "99999999999"
	_, err = r.WriteStream(t.Context(), repository(t, front, "okd/a"), bytes.NewReader(data))
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
