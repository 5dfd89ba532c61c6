package httpx_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// busyHost answers each request after a second, by status, and remembers how
// many were under way when each began.
type busyHost struct {
	answer func(n int) (code int, retryAfter string) // n: requests so far, from 1

	mu    sync.Mutex
	n     int
	busy  int
	began []time.Time
	peaks []int
}

func (h *busyHost) RoundTrip(req *http.Request) (*http.Response, error) {
	h.mu.Lock()
	h.n++
	h.busy++
	h.began = append(h.began, time.Now())
	h.peaks = append(h.peaks, h.busy)
	code, after := h.answer(h.n)
	h.mu.Unlock()
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	time.Sleep(time.Second)
	h.mu.Lock()
	h.busy--
	h.mu.Unlock()
	header := http.Header{}
	if after != "" {
		header.Set("Retry-After", after)
	}
	return &http.Response{StatusCode: code, Header: header, Body: http.NoBody, Request: req}, nil
}

func send(ctx context.Context, t *httpx.Transport, url string, body io.Reader) (*http.Response, error) {
	method := "GET"
	if body != nil {
		method = "PUT"
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

// sendAll sends n requests at once and waits for all.
func sendAll(t *testing.T, tr *httpx.Transport, n int) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { _, errs[i] = send(t.Context(), tr, "http://host.example/x", nil) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func ok(int) (int, string) { return 200, "" }

func TestPaceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &busyHost{answer: ok}
		tr := httpx.NewTransport(h, &httpx.Options{MaxPerHost: 4})
		start := time.Now()
		sendAll(t, tr, 12)
		require.Equal(t, 4, maxOf(h.peaks))
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestPaceHalvesOnceARoundAndGrowsByOne(t *testing.T) {
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		synctest.Test(t, func(t *testing.T) {
			// All eight of the first round are refused: eight becomes four, not one.
			h := &busyHost{answer: func(n int) (int, string) {
				if n <= 8 {
					return code, ""
				}
				return 200, ""
			}}
			tr := httpx.NewTransport(h, &httpx.Options{MaxPerHost: 8, Attempts: 2, BaseDelay: 10 * time.Second})
			sendAll(t, tr, 8)
			require.Equal(t, 8, maxOf(h.peaks[:8]))
			require.Equal(t, 4, maxOf(h.peaks[8:]))
			// Eight good answers later there is room for five, then six, …
			for want := 5; want <= 8; want++ {
				h.peaks = nil
				sendAll(t, tr, 8)
				require.Equal(t, want, h.peaks[want-1])
				require.LessOrEqual(t, h.peaks[0], 1)
			}
			h.peaks = nil
			sendAll(t, tr, 30)
			require.Equal(t, 8, maxOf(h.peaks), "never beyond the bound")
		})
	}
}

func TestPaceGoesDownToOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &busyHost{answer: func(int) (int, string) { return 429, "" }}
		tr := httpx.NewTransport(h, &httpx.Options{MaxPerHost: 8, Attempts: 1})
		for range 5 {
			_, err := send(t.Context(), tr, "http://host.example/x", nil)
			require.NoError(t, err)
		}
		h.peaks = nil
		sendAll(t, tr, 5)
		require.Equal(t, []int{1, 1, 1, 1, 1}, h.peaks)
	})
}

func TestRetryAfterHoldsBackTheWholeHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &busyHost{answer: func(n int) (int, string) {
			if n == 1 {
				return 429, "60"
			}
			return 200, ""
		}}
		tr := httpx.NewTransport(h, &httpx.Options{Attempts: 1})
		start := time.Now()
		resp, err := send(t.Context(), tr, "http://host.example/x", nil)
		require.NoError(t, err)
		require.Equal(t, 429, resp.StatusCode)
		// Another host, and another port, are not meant.
		for _, url := range []string{"http://other.example/x", "http://host.example:81/x", "https://host.example/x"} {
			before := time.Now()
			_, err = send(t.Context(), tr, url, nil)
			require.NoError(t, err)
			require.Equal(t, time.Second, time.Since(before), url)
		}
		// Who can't wait gives up without having been sent.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = send(ctx, tr, "http://HOST.example:80/x", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Len(t, h.began, 4)
		_, err = send(t.Context(), tr, "http://host.example/x", nil)
		require.NoError(t, err)
		require.Equal(t, 61*time.Second, h.began[4].Sub(start))
	})
}

func TestPaceGivesUpItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &busyHost{answer: ok}
		tr := httpx.NewTransport(h, &httpx.Options{MaxPerHost: 1})
		var wg sync.WaitGroup
		for i := range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				_, err := send(ctx, tr, "http://host.example/x", nil)
				if i == 1 {
					require.ErrorIs(t, err, context.Canceled)
				} else {
					require.NoError(t, err)
				}
			})
			if i == 1 {
				time.AfterFunc(500*time.Millisecond, cancel)
			}
		}
		start := time.Now()
		wg.Wait()
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, []int{1, 1}, h.peaks)
	})
}

func TestBodyFromTheSameHostNeedsNoSecondPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &busyHost{answer: ok}
		tr := httpx.NewTransport(h, &httpx.Options{MaxPerHost: 1})
		fetched := false
		body := readerFunc(func(p []byte) (int, error) {
			if fetched {
				return 0, io.EOF
			}
			fetched = true
			_, err := send(t.Context(), tr, "http://host.example/source", nil)
			return copy(p, "x"), err
		})
		_, err := send(t.Context(), tr, "http://host.example/x", body)
		require.NoError(t, err)
		require.True(t, fetched)
		// The place came back once, not twice.
		h.peaks = nil
		sendAll(t, tr, 3)
		require.Equal(t, []int{1, 1, 1}, h.peaks)
	})
}

func TestNoPaceWhereNoneIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &busyHost{answer: func(int) (int, string) { return 503, "60" }}
		tr := httpx.NewTransport(h, &httpx.Options{MaxPerHost: -1, Attempts: 1})
		start := time.Now()
		sendAll(t, tr, 100)
		sendAll(t, tr, 1)
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, 100, maxOf(h.peaks))
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func maxOf(list []int) int {
	out := 0
	for _, n := range list {
		out = max(out, n)
	}
	return out
}

func BenchmarkTransport(b *testing.B) {
	tr := httpx.NewTransport(answers{}, nil)
	data := strings.Repeat("x", 1<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		resp, err := send(b.Context(), tr, "http://host.example/x", strings.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}

type answers struct{}

func (answers) RoundTrip(req *http.Request) (*http.Response, error) {
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, req.Body, make([]byte, 32<<10))
	req.Body.Close()
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, err
}
