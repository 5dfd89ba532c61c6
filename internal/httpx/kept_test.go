package httpx_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/httpx"
)

// pipes gives a transport whose connections are pipes: the bytes that each answers
// with to its requests, one after the other; then it is closed. "" says nothing.
func pipes(conns ...[]string) (base *http.Transport, requests *[]string) {
	base, requests = &http.Transport{}, new([]string)
	base.DialContext = func(context.Context, string, string) (net.Conn, error) {
		if len(conns) == 0 {
			return nil, errors.New("no more connections")
		}
		answers := conns[0]
		conns = conns[1:]
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			in := bufio.NewReader(server)
			for _, answer := range answers {
				req, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				*requests = append(*requests, req.URL.Path)
				if answer == "" {
					_, _ = in.ReadByte() // until the client goes away
					return
				}
				if _, err := io.WriteString(server, answer); err != nil {
					return
				}
			}
		}()
		return client, nil
	}
	return base, requests
}

func keptURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u
}

func fetchKept(ctx context.Context, k *httpx.Kept, path string) (body, validator string, err error) {
	size, validator, err := k.Get(ctx, path)
	if err != nil {
		return "", "", err
	}
	defer k.Done()
	data, err := io.ReadAll(k)
	if err == nil && int64(len(data)) != size {
		err = fmt.Errorf("%d bytes, %d were told", len(data), size)
	}
	return string(data), validator, err
}

const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\nfirst"

func TestKeptAnswers(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		body         string
		validator    string
		err          error
	}{
		{name: "fine", answer: plainAnswer, body: "first", validator: `"x"`},
		{name: "empty", answer: "HTTP/1.1 200\r\ncontent-length:0\r\n\r\n"},
		{name: "weak validator", answer: "HTTP/1.1 200 OK\nContent-Length: 1\nETag: W/\"x\"\nConnection: Keep-Alive\nContent-Encoding: identity\n\nz", body: "z"},
		{name: "not there", answer: "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", err: httpx.ErrUnusual},
		{name: "redirect", answer: "HTTP/1.1 301 Moved\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n", err: httpx.ErrUnusual},
		{name: "hint first", answer: "HTTP/1.1 103 Early Hints\r\n\r\n" + plainAnswer, err: httpx.ErrUnusual},
		{name: "2000", answer: "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", err: httpx.ErrUnusual},
		{name: "old", answer: "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", err: httpx.ErrUnusual},
		{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", err: httpx.ErrUnusual},
		{name: "chunked and length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", err: httpx.ErrUnusual},
		{name: "compressed", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\n12345", err: httpx.ErrUnusual},
		{name: "until the end", answer: "HTTP/1.1 200 OK\r\n\r\nfirst", err: httpx.ErrUnusual},
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nfirst", err: httpx.ErrUnusual},
		{name: "signed length", answer: "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nfirst", err: httpx.ErrUnusual},
		{name: "length of 64 bits", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nfirst", err: httpx.ErrUnusual},
		{name: "folded line", answer: "HTTP/1.1 200 OK\r\nX: y\r\n Content-Length: 5\r\n\r\nfirst", err: httpx.ErrUnusual},
		{name: "space before the colon", answer: "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nfirst", err: httpx.ErrUnusual},
		{name: "long line", answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 20<<10) + "\r\nContent-Length: 5\r\n\r\nfirst", err: httpx.ErrUnusual},
		{name: "long header", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 20<<10) + "Content-Length: 5\r\n\r\nfirst", err: httpx.ErrUnusual},
		{name: "not HTTP", answer: "SSH-2.0-x\r\n", err: httpx.ErrUnusual},
		{name: "header cut", answer: "HTTP/1.1 200 OK\r\nContent-Le", err: io.ErrUnexpectedEOF},
		{name: "body cut", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfir", err: io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			base, _ := pipes([]string{test.answer})
			k := httpx.NewKept(base, keptURL(t, "http://server"), nil)
			defer k.Close()
			body, validator, err := fetchKept(t.Context(), k, "/a")
			if test.err != nil {
				require.ErrorIs(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.body, body)
			require.Equal(t, test.validator, validator)
		})
	}
}

// TestKeptConnections shows when a connection serves the next request.
func TestKeptConnections(t *testing.T) {
	second := strings.Replace(plainAnswer, "first", "other", 1)
	closing := strings.Replace(plainAnswer, "ETag", "Connection: close\r\nETag", 1)
	for _, test := range []struct {
		name     string
		conns    [][]string
		skip     bool // the first body is not read
		requests []string
		err      string // of the second
	}{
		{name: "kept", conns: [][]string{{plainAnswer, second}}, requests: []string{"/a", "/b"}},
		{name: "closed while idle", conns: [][]string{{plainAnswer}, {second}}, requests: []string{"/a", "/b"}},
		{name: "closed as told", conns: [][]string{{closing, plainAnswer}, {second}}, requests: []string{"/a", "/b"}},
		{name: "more than was asked for", conns: [][]string{{plainAnswer + plainAnswer}, {second}}, requests: []string{"/a", "/b"}},
		{name: "not read", conns: [][]string{{plainAnswer, plainAnswer}, {second}}, skip: true, requests: []string{"/a", "/b"}},
		{name: "closed always", conns: [][]string{{plainAnswer}, {}}, requests: []string{"/a"}, err: "closed pipe"},
		{name: "gone", conns: [][]string{{plainAnswer}}, requests: []string{"/a"}, err: "no more connections"},
		{name: "an error is not repeated", conns: [][]string{{plainAnswer, "HTTP/1.1 503 Busy\r\n\r\n"}, {second}}, requests: []string{"/a", "/b"}, err: "503"},
		{name: "nor is a broken header", conns: [][]string{{plainAnswer, "HTTP/1.1 200"}, {second}}, requests: []string{"/a", "/b"}, err: "unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base, requests := pipes(test.conns...)
				k := httpx.NewKept(base, keptURL(t, "http://server"), nil)
				if test.skip {
					_, _, err := k.Get(t.Context(), "/a")
					require.NoError(t, err)
				} else {
					body, _, err := fetchKept(t.Context(), k, "/a")
					require.NoError(t, err)
					require.Equal(t, "first", body)
				}
				synctest.Wait()
				body, _, err := fetchKept(t.Context(), k, "/b")
				if test.err != "" {
					require.ErrorContains(t, err, test.err)
				} else {
					require.NoError(t, err)
					require.Equal(t, "other", body)
				}
				k.Close()
				synctest.Wait()
				require.Equal(t, test.requests, *requests)
			})
		})
	}
}

func TestKeptSilence(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer string
		want   httpx.TimeoutError
		after  time.Duration
	}{
		{"no answer", "", httpx.TimeoutError{What: "response header", After: 3 * time.Second}, 3 * time.Second},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfi", httpx.TimeoutError{What: "data", After: time.Second}, time.Second},
		{"half a header", "HTTP/1.1 200 OK\r\nContent", httpx.TimeoutError{What: "data", After: time.Second}, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answers := []string{test.answer, ""} // waits for a request that does not come
				base, _ := pipes(answers)
				k := httpx.NewKept(base, keptURL(t, "http://server"), &httpx.KeptOptions{HeaderTimeout: 3 * time.Second, StallTimeout: time.Second})
				defer k.Close()
				begin := time.Now()
				_, _, err := fetchKept(t.Context(), k, "/a")
				var late *httpx.TimeoutError
				require.ErrorAs(t, err, &late)
				require.Equal(t, test.want, *late)
				require.True(t, httpx.Temporary(err))
				require.Equal(t, test.after, time.Since(begin))
			})
		})
	}
}

func TestKeptCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		base, _ := pipes([]string{""})
		k := httpx.NewKept(base, keptURL(t, "http://server"), nil)
		defer k.Close()
		_, _, err := fetchKept(ctx, k, "/a")
		require.ErrorIs(t, err, context.Canceled)
	})
}

// TestKeptAsNetHTTP asks a real server, which sees the same request as from
// net/http.
func TestKeptAsNetHTTP(t *testing.T) {
	var seen []http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		seen = append(seen, req.Header)
		fmt.Fprintf(w, "%s %s", req.Host, req.RequestURI)
	}))
	defer server.Close()
	u := keptURL(t, server.URL)
	header := http.Header{"Authorization": {"Bearer x"}, "X-Two": {"a", "b"}}
	k := httpx.NewKept(httpx.BaseTransport(), u, &httpx.KeptOptions{Header: header})
	defer k.Close()
	for range 2 {
		body, _, err := fetchKept(t.Context(), k, "/a%20b/c")
		require.NoError(t, err)
		require.Equal(t, u.Host+" /a%20b/c", body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/a%20b/c", nil)
	require.NoError(t, err)
	req.Header = header.Clone()
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := server.Client().Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Len(t, seen, 3)
	require.Equal(t, seen[2], seen[1])
}

// TestKeptNot shows where only net/http will do.
func TestKeptNot(t *testing.T) {
	proxied := &http.Transport{DialContext: httpx.BaseTransport().DialContext, Proxy: http.ProxyURL(keptURL(t, "http://proxy"))}
	plain := &http.Transport{DialContext: httpx.BaseTransport().DialContext}
	for _, test := range []struct {
		name   string
		base   *http.Transport
		url    string
		header http.Header
	}{
		{"TLS", plain, "https://server/", nil},
		{"proxy", proxied, "http://server/", nil},
		{"credentials", plain, "http://a:b@server/", nil},
		{"name not in ASCII", plain, "http://sérver/", nil},
		{"the caller's dialling", &http.Transport{}, "http://server/", nil},
		{"header of the connection", plain, "http://server/", http.Header{"Connection": {"close"}}},
		{"two fields in one", plain, "http://server/", http.Header{"X": {"a\r\nY: b"}}},
		{"bad name", plain, "http://server/", http.Header{"X: y\r\nZ": {"a"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Nil(t, httpx.NewKept(test.base, keptURL(t, test.url), &httpx.KeptOptions{Header: test.header}))
		})
	}
	require.NotNil(t, httpx.NewKept(plain, keptURL(t, "http://[::1]:80/"), &httpx.KeptOptions{Header: http.Header{"Authorization": {"Basic x"}}}))
}

// FuzzKeptAnswer wants what net/http makes of an answer, or nothing.
func FuzzKeptAnswer(f *testing.F) {
	f.Add([]byte(plainAnswer))
	f.Add([]byte("HTTP/1.1 200\nContent-Length: 1\nConnection: close\n\nz"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 5\r\n\r\nfirst"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		base, _ := pipes([]string{string(answer)})
		k := httpx.NewKept(base, keptURL(t, "http://server"), nil)
		defer k.Close()
		if len(answer) == 0 {
			return
		}
		var size int64
		var got []byte
		var err, readErr error
		fuzzbound.Linear(t, len(answer), 64, func() {
			if size, _, err = k.Get(t.Context(), "/a"); err == nil {
				got, readErr = io.ReadAll(k)
			}
		})
		if err != nil {
			return
		}
		require.LessOrEqual(t, int64(len(got)), size)
		resp, wantErr := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
		require.NoError(t, wantErr)
		defer resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, resp.ContentLength, size)
		want, wantErr := io.ReadAll(resp.Body)
		require.Equal(t, wantErr, readErr)
		require.Equal(t, string(want), string(got))
	})
}

func BenchmarkKept(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 4<<10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	}))
	defer server.Close()
	u, err := url.Parse(server.URL)
	require.NoError(b, err)
	k := httpx.NewKept(httpx.BaseTransport(), u, nil)
	defer k.Close()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := k.Get(b.Context(), "/a"); err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, k); err != nil {
			b.Fatal(err)
		}
	}
}
