package interop

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is one way in which a server behind [Proxy] misbehaves. The zero value
// passes everything on; several fields may be set.
type Fault struct {
	// Match chooses requests; nil: all.
	Match func(*http.Request) bool
	// After is how many matching requests pass unharmed first; Times how many
	// are hit then, 0: all.
	After, Times int

	// Stall is how long the answer is held back, or until Release is closed or the
	// client leaves.
	Stall   time.Duration
	Release <-chan struct{}
	// Status is answered without asking the server; 0: ask it.
	Status int
	// RetryAfter is sent with Status, in seconds; 0: not sent.
	RetryAfter int
	// Header is sent with Status.
	Header http.Header
	// CutRequest ends the connection after so many bytes of the request's body
	// reached the server; CutResponse, after so many of the answer's body
	// reached the client. Use 1 for "at once"; 0: not cut.
	CutRequest, CutResponse int64
	// Corrupt flips a bit of the so manieth byte of the answer's body, counted
	// from 1; 0: none.
	Corrupt int64

	seen int
}

// FaultProxy is a reverse proxy on the loopback interface.
type FaultProxy struct {
	URL  string // http://host:port
	Host string // host:port

	mu       sync.Mutex
	faults   []*Fault
	hits     int
	requests []string
}

// Proxy runs a reverse proxy to target ("http://host:port") with faults until t
// ends. The first fault that matches a request is applied. The client's Host
// header is kept, so that Location headers lead through the proxy and signed
// requests stay valid.
func Proxy(t testing.TB, target string, faults ...Fault) *FaultProxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &FaultProxy{}
	p.Set(faults...)
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // faults are meant
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // the client sees what the server did: a dead connection
		},
		ModifyResponse: func(resp *http.Response) error {
			if fault, ok := resp.Request.Context().Value(faultKey{}).(Fault); ok {
				resp.Body = &faultyBody{ReadCloser: resp.Body, cut: fault.CutResponse, corrupt: fault.Corrupt}
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault, hit := p.next(r)
		if !hit {
			forward.ServeHTTP(w, r)
			return
		}
		if fault.Stall > 0 {
			select {
			case <-time.After(fault.Stall):
			case <-fault.Release:
			case <-r.Context().Done():
				return
			}
		}
		if fault.Status != 0 {
			for name, values := range fault.Header {
				w.Header()[name] = values
			}
			if fault.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
			}
			w.WriteHeader(fault.Status)
			return
		}
		if fault.CutRequest > 0 && r.Body != nil {
			r.Body = &faultyBody{ReadCloser: r.Body, cut: fault.CutRequest}
		}
		forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), faultKey{}, fault)))
	}))
	// Connections that hang are part of the game: do not wait for them.
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	p.URL, p.Host = server.URL, strings.TrimPrefix(server.URL, "http://")
	return p
}

type faultKey struct{}

// Set replaces the faults; their counts start again.
func (p *FaultProxy) Set(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
	for _, f := range faults {
		f.seen = 0
		p.faults = append(p.faults, &f)
	}
}

// Hits is how many requests met a fault.
func (p *FaultProxy) Hits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits
}

// Requests are the methods and paths seen so far, "GET /v2/".
func (p *FaultProxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// next counts a request and finds the fault for it.
func (p *FaultProxy) next(r *http.Request) (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, r.Method+" "+r.URL.Path)
	for _, f := range p.faults {
		if f.Match != nil && !f.Match(r) {
			continue
		}
		f.seen++
		if f.seen <= f.After || f.Times > 0 && f.seen > f.After+f.Times {
			continue
		}
		p.hits++
		return *f, true
	}
	return Fault{}, false
}

// faultyBody ends with an error after cut bytes and flips a bit of the byte
// number corrupt.
type faultyBody struct {
	io.ReadCloser
	cut, corrupt int64
	at           int64
}

func (b *faultyBody) Read(p []byte) (int, error) {
	if b.cut > 0 {
		if b.at >= b.cut {
			return 0, io.ErrUnexpectedEOF
		}
		p = p[:min(int64(len(p)), b.cut-b.at)]
	}
	n, err := b.ReadCloser.Read(p)
	if i := b.corrupt - 1 - b.at; i >= 0 && i < int64(n) {
		p[i] ^= 0x10
	}
	b.at += int64(n)
	return n, err
}
