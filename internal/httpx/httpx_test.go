package httpx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/httpx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script answers each attempt by the next of its steps; the last one repeats.
type script struct {
	steps []func(*http.Request) (*http.Response, error)
	calls int
	body  []string
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	step := s.steps[min(s.calls, len(s.steps)-1)]
	s.calls++
	if req.Body != nil {
		data, err := io.ReadAll(req.Body)
		req.Body.Close()
		s.body = append(s.body, string(data))
		if err != nil {
			return nil, err
		}
	}
	return step(req)
}

func status(code int, header ...string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader("x"))}, nil
	}
}

func fault(err error) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

func TestRetryRules(t *testing.T) {
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	for _, test := range []struct {
		name   string
		method string
		header string // a condition
		steps  []func(*http.Request) (*http.Response, error)
		calls  int
		status int
		err    error
		waited time.Duration // without jitter: 1 s, 2 s, 4 s …
		once   bool
	}{
		{name: "fine", method: "GET", steps: []func(*http.Request) (*http.Response, error){status(200)}, calls: 1, status: 200},
		{name: "500 then fine", method: "GET", steps: []func(*http.Request) (*http.Response, error){status(500), status(200)}, calls: 2, status: 200, waited: time.Second},
		{name: "reset then fine", method: "PUT", steps: []func(*http.Request) (*http.Response, error){fault(reset), status(201)}, calls: 2, status: 201, waited: time.Second},
		{name: "unexpected EOF", method: "HEAD", steps: []func(*http.Request) (*http.Response, error){fault(fmt.Errorf("broken: %w", io.ErrUnexpectedEOF)), status(200)}, calls: 2, status: 200, waited: time.Second},
		{name: "always 503", method: "GET", steps: []func(*http.Request) (*http.Response, error){status(503)}, calls: 4, status: 503, waited: 7 * time.Second},
		{name: "always reset", method: "GET", steps: []func(*http.Request) (*http.Response, error){fault(reset)}, calls: 4, err: syscall.ECONNRESET, waited: 7 * time.Second},
		{name: "404 is an answer", method: "GET", steps: []func(*http.Request) (*http.Response, error){status(404)}, calls: 1, status: 404},
		{name: "501 is an answer", method: "GET", steps: []func(*http.Request) (*http.Response, error){status(501)}, calls: 1, status: 501},
		{name: "post is not repeated", method: "POST", steps: []func(*http.Request) (*http.Response, error){status(500), status(200)}, calls: 1, status: 500},
		{name: "post is repeated when refused", method: "POST", steps: []func(*http.Request) (*http.Response, error){status(429), status(503), status(200)}, calls: 3, status: 200, waited: 3 * time.Second},
		{name: "post is repeated when never sent", method: "POST", steps: []func(*http.Request) (*http.Response, error){fault(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), status(200)}, calls: 2, status: 200, waited: time.Second},
		{name: "conditional put is not repeated", method: "PUT", header: "If-Match", steps: []func(*http.Request) (*http.Response, error){status(500), status(200)}, calls: 1, status: 500},
		{name: "retry-after seconds", method: "GET", steps: []func(*http.Request) (*http.Response, error){status(429, "Retry-After", "20"), status(200)}, calls: 2, status: 200, waited: 20 * time.Second},
		{name: "retry-after date", method: "GET", steps: []func(*http.Request) (*http.Response, error){
			status(429, "Retry-After", "Wed, 25 Nov 2026 10:00:30 GMT", "Date", "Wed, 25 Nov 2026 10:00:00 GMT"), status(200)}, calls: 2, status: 200, waited: 30 * time.Second},
		{name: "retry-after sooner than back-off", method: "GET", steps: []func(*http.Request) (*http.Response, error){status(429, "Retry-After", "0"), status(200)}, calls: 2, status: 200, waited: time.Second},
		{name: "retry-after too long", method: "GET", steps: []func(*http.Request) (*http.Response, error){status(429, "Retry-After", "99999999999"), status(200)}, calls: 1, status: 429},
		{name: "retry-after nonsense", method: "GET", steps: []func(*http.Request) (*http.Response, error){status(429, "Retry-After", "soon"), status(200)}, calls: 2, status: 200, waited: time.Second},
		{name: "once, refused", method: "POST", once: true, steps: []func(*http.Request) (*http.Response, error){status(429), status(200)}, calls: 1, status: 429},
		{name: "once, broken", method: "PUT", once: true, steps: []func(*http.Request) (*http.Response, error){status(500), status(200)}, calls: 1, status: 500},
		{name: "once, never sent", method: "GET", once: true, steps: []func(*http.Request) (*http.Response, error){fault(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), status(200)}, calls: 1, err: syscall.ECONNREFUSED},
		{name: "certificate", method: "GET", steps: []func(*http.Request) (*http.Response, error){fault(errors.New("x509: unknown authority"))}, calls: 1, err: errors.New("x509: unknown authority")},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: test.steps}
				transport := httpx.NewTransport(s, &httpx.Options{Attempts: 4, BaseDelay: time.Second})
				ctx := t.Context()
				if test.once {
					ctx = httpx.Once(ctx)
				}
				req, err := http.NewRequestWithContext(ctx, test.method, "http://host.example/x", nil)
				require.NoError(t, err)
				if test.header != "" {
					req.Header.Set(test.header, "x")
				}
				start := time.Now()
				resp, err := transport.RoundTrip(req)
				require.Equal(t, test.waited, time.Since(start))
				require.Equal(t, test.calls, s.calls)
				if test.err != nil {
					require.ErrorContains(t, err, test.err.Error())
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.status, resp.StatusCode)
				require.NoError(t, resp.Body.Close())
			})
		})
	}
}

func TestRetrySendsTheWholeBodyAgain(t *testing.T) {
	s := &script{steps: []func(*http.Request) (*http.Response, error){status(500), status(502), status(200)}}
	transport := httpx.NewTransport(s, &httpx.Options{BaseDelay: time.Nanosecond})
	req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://host.example/x", strings.NewReader("content"))
	require.NoError(t, err)
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, []string{"content", "content", "content"}, s.body)

	// Without a second copy of the body there is one attempt.
	s.calls = 0
	req, err = http.NewRequestWithContext(t.Context(), "PUT", "http://host.example/x", io.NopCloser(strings.NewReader("content")))
	require.NoError(t, err)
	resp, err = transport.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 500, resp.StatusCode)
	require.Equal(t, 1, s.calls)
}

func TestFaultOfTheBodyIsNotRepeated(t *testing.T) {
	s := &script{steps: []func(*http.Request) (*http.Response, error){status(200)}}
	transport := httpx.NewTransport(s, &httpx.Options{BaseDelay: time.Nanosecond})
	opened := 0
	open := func() (io.ReadCloser, error) {
		opened++
		return io.NopCloser(io.MultiReader(strings.NewReader("con"), &faultyReader{err: io.ErrUnexpectedEOF})), nil
	}
	body, err := open()
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://host.example/x", body)
	require.NoError(t, err)
	req.GetBody = open
	_, err = transport.RoundTrip(req)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "read request body")
	require.Equal(t, 1, opened)
}

type faultyReader struct{ err error }

func (r *faultyReader) Read([]byte) (int, error) { return 0, r.err }

func TestJitterStaysWithinHalfAndWhole(t *testing.T) {
	for _, test := range []struct {
		jitter float64
		waited time.Duration
	}{{0, 500 * time.Millisecond}, {0.5, 750 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{steps: []func(*http.Request) (*http.Response, error){status(500), status(200)}}
			transport := httpx.NewTransport(s, &httpx.Options{BaseDelay: time.Second, Jitter: func() float64 { return test.jitter }})
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://host.example/x", nil)
			require.NoError(t, err)
			start := time.Now()
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, test.waited, time.Since(start))
		})
	}
}

func TestContextEndsTheWait(t *testing.T) {
	s := &script{steps: []func(*http.Request) (*http.Response, error){status(500)}}
	transport := httpx.NewTransport(s, &httpx.Options{BaseDelay: time.Hour, MaxDelay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://host.example/x", nil)
	require.NoError(t, err)
	_, err = transport.RoundTrip(req)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, s.calls)
}

// client is over a real connection to handler.
func client(t *testing.T, opts *httpx.Options, handler http.HandlerFunc) (*http.Client, string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	transport := httpx.NewTransport(nil, opts)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, server.URL
}

func get(t *testing.T, c *http.Client, url string) ([]byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func TestConnectionCutBeforeTheAnswerIsRepeated(t *testing.T) {
	var calls atomic.Int32
	c, url := client(t, &httpx.Options{BaseDelay: time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) < 3 {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
			return
		}
		fmt.Fprint(w, "fine")
	})
	data, err := get(t, c, url)
	require.NoError(t, err)
	require.Equal(t, "fine", string(data))
}

func TestSilentServerIsGivenUp(t *testing.T) {
	var calls atomic.Int32
	c, url := client(t, &httpx.Options{Attempts: 2, BaseDelay: time.Millisecond, HeaderTimeout: 50 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		<-r.Context().Done()
	})
	_, err := get(t, c, url)
	timeout, ok := errors.AsType[*httpx.TimeoutError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "response header", timeout.What)
	require.ErrorContains(t, err, "after 2 attempts: no response header for 50ms")
	require.EqualValues(t, 2, calls.Load())
}

func TestStalledDownloadIsGivenUp(t *testing.T) {
	c, url := client(t, &httpx.Options{StallTimeout: 100 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "some")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	data, err := get(t, c, url)
	require.Equal(t, "some", string(data))
	require.ErrorContains(t, err, "no data for 100ms")
}

func TestStalledUploadIsGivenUp(t *testing.T) {
	done := make(chan struct{})
	c, url := client(t, &httpx.Options{Attempts: 1, StallTimeout: 200 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		<-done // reads nothing
	})
	t.Cleanup(func() { close(done) })
	// More than both sockets' buffers hold.
	req, err := http.NewRequestWithContext(t.Context(), "PUT", url, bytes.NewReader(make([]byte, 64<<20)))
	require.NoError(t, err)
	_, err = c.Do(req)
	require.ErrorContains(t, err, "no data for 200ms")
}

func TestSlowButHealthyTransferLives(t *testing.T) {
	t.Parallel()
	// Each way takes longer than the time-outs, but never stands still.
	c, url := client(t, &httpx.Options{Attempts: 1, StallTimeout: time.Second, HeaderTimeout: time.Second}, func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		for _, b := range data {
			time.Sleep(100 * time.Millisecond)
			_, _ = w.Write([]byte{b})
			_ = http.NewResponseController(w).Flush()
		}
	})
	in, out := io.Pipe()
	go func() {
		for range 16 {
			time.Sleep(100 * time.Millisecond)
			_, _ = out.Write([]byte("x"))
		}
		// A source that takes its time is not the network's fault.
		time.Sleep(1500 * time.Millisecond)
		out.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", url, in)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	// A reader that takes its time is not, either.
	time.Sleep(1500 * time.Millisecond)
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("x", 16), string(data))
}

func TestAnswerBeforeTheUploadEnded(t *testing.T) {
	c, url := client(t, &httpx.Options{Attempts: 1, StallTimeout: 100 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "too big", http.StatusRequestEntityTooLarge)
	})
	req, err := http.NewRequestWithContext(t.Context(), "PUT", url, bytes.NewReader(make([]byte, 1<<20)))
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	time.Sleep(300 * time.Millisecond)
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "too big\n", string(data))
	require.NoError(t, resp.Body.Close())
}

func TestTruncatedBodyIsAnError(t *testing.T) {
	c, url := client(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "some")
	})
	_, err := get(t, c, url)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestBytesAreNotDecompressed(t *testing.T) {
	c, url := client(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		fmt.Fprint(w, "as it is; asked: "+r.Header.Get("Accept-Encoding"))
	})
	data, err := get(t, c, url)
	require.NoError(t, err)
	require.Equal(t, "as it is; asked: ", string(data))
}

func TestReadBody(t *testing.T) {
	data, err := httpx.ReadBody(strings.NewReader("12345"), 5)
	require.NoError(t, err)
	require.Equal(t, "12345", string(data))
	_, err = httpx.ReadBody(strings.NewReader("123456"), 5)
	require.ErrorIs(t, err, httpx.ErrTooLarge)
}

func TestRedactURL(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"https://host.example/v2/a/blobs/uploads/1?digest=sha256:ab&_state=secret", "https://host.example/v2/a/blobs/uploads/1?digest=sha256:ab&_state=REDACTED"},
		{"https://user:pw@host.example/x", "https://REDACTED@host.example/x"},
		{"https://bucket.example/k?X-Amz-Signature=abc&X-Amz-Credential=AK%2F1&partNumber=2", "https://bucket.example/k?X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&partNumber=2"},
		{"s3://b/?region=r&endpoint=http://u:secret@h.example", "s3://b/?region=r&endpoint=REDACTED"},
		{"https://host.example/x?flag", "https://host.example/x?flag"},
		{"https://host.example/x?%zz=secret", "https://host.example/x?%zz=REDACTED"},
	} {
		u, err := url.Parse(test.in)
		require.NoError(t, err)
		require.Equal(t, test.want, httpx.RedactURL(u))
	}
	require.Empty(t, httpx.RedactURL(nil))
}

func TestRedactKeepsTheChain(t *testing.T) {
	cause := &url.Error{Op: "Get", URL: "https://u:secret@host.example/?token=secret", Err: syscall.ECONNRESET}
	err := httpx.Redact(fmt.Errorf("pull: %w (Authorization: Bearer c2VjcmV0c2VjcmV0)", cause))
	require.NotContains(t, err.Error(), "secret")
	require.NotContains(t, err.Error(), "c2VjcmV0")
	require.Contains(t, err.Error(), "host.example")
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.NoError(t, httpx.Redact(nil))
	plain := errors.New("plain")
	require.Equal(t, plain, httpx.Redact(plain))
}

// TestAllocations has what is small in a text, often.
func TestAllocations(t *testing.T) {
	dots := "https://h" + strings.Repeat(".", 20_000)
	fuzzbound.Linear(t, len(dots), 512, func() { httpx.RedactText(dots) })
	for _, text := range []string{strings.Repeat("A,", 30_000), strings.Repeat(",", 30_000), strings.Repeat("0/1,", 30_000)} {
		_, err := fuzzbound.Parse(t, 256, func(no string) (func(*http.Request) (*url.URL, error), error) {
			return httpx.ProxyFromEnv(env(map[string]string{"NO_PROXY": no}))
		}, text)
		require.NoError(t, err)
	}
}

func FuzzRedactText(f *testing.F) {
	f.Add("https://u:pw@h/?token=x")
	f.Add("Get \"http://[::1%25zone]:80/\": bearer abcdefghij")
	f.Add("(https://h/), https://h...")
	f.Fuzz(func(t *testing.T, text string) {
		var once string
		fuzzbound.Linear(t, len(text), 512, func() { once = httpx.RedactText(text) })
		if len(once) > 16*len(text)+64 {
			t.Fatalf("%d bytes became %d", len(text), len(once))
		}
		secret := "s3cr3ts3cr3t"
		u := url.URL{Scheme: "https", Host: "h.example", User: url.UserPassword(secret, secret), RawQuery: "a=" + secret}
		if out := httpx.RedactText(text + " " + u.String()); strings.Contains(out, secret) && !strings.Contains(text, secret) {
			t.Fatalf("%q shows the secret", out)
		}
	})
}

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Attempt") == "" {
			fmt.Fprint(w, "served")
		}
	}))
	defer server.Close()
	transport := httpx.NewTransport(nil, &httpx.Options{Attempts: 3})
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	data, err := httpx.ReadBody(resp.Body, 1<<20)
	fmt.Println(string(data), err)
	// Output: served <nil>
}
