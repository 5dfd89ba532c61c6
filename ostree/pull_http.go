package ostree

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// pullServer is where a pull takes files from.
type pullServer struct {
	client    *http.Client
	transport *httpx.Transport
	header    http.Header
	attempts  int
	delay     time.Duration

	meta, content []*url.URL // tried in turn
	hosts         map[string]bool
	base          *http.Transport // nil: the caller's own
	keptOptions   *httpx.KeptOptions
	unusual       atomic.Bool // the server does not answer as connections of [httpx.Kept] want it
	requests      atomic.Int64
	received      atomic.Int64
}

// mirrorPrefix begins a URL of a list of URLs.
const mirrorPrefix = "mirrorlist="

// Limits of a list of mirrors.
const (
	maxMirrorList = 1 << 20
	maxMirrors    = 64
)

// pullAttempts and pullDelay are the defaults of [PullOptions].
const (
	pullAttempts = 6
	pullDelay    = 500 * time.Millisecond
)

// largeMetadata is the length in bytes up to which metadata objects are held in
// memory by all workers at once; longer ones come one after the other.
const largeMetadata = 1 << 20

func newPullServer(p *httpPull) (*pullServer, error) {
	o := p.opts
	base := o.Transport
	var own *http.Transport
	if base == nil {
		t := httpx.BaseTransport()
		t.MaxIdleConnsPerHost = p.workers
		if err := configureTransport(t, p.config); err != nil {
			return nil, err
		}
		base, own = t, t
	}
	s := &pullServer{header: o.Header, attempts: o.Attempts, delay: o.Delay, hosts: make(map[string]bool), base: own,
		keptOptions: &httpx.KeptOptions{Header: o.Header, HeaderTimeout: o.HeaderTimeout, StallTimeout: o.StallTimeout, Logger: p.repo.log}}
	if s.attempts <= 0 {
		s.attempts = pullAttempts
	}
	if s.delay <= 0 {
		s.delay = pullDelay
	}
	s.transport = httpx.NewTransport(base, &httpx.Options{Attempts: s.attempts, BaseDelay: s.delay, HeaderTimeout: o.HeaderTimeout, StallTimeout: o.StallTimeout,
		MaxPerHost: p.workers, Logger: p.repo.log})
	s.client = httpx.NewClient(s.transport)
	var err error
	text := o.URL
	if text == "" {
		text = p.config["url"]
	}
	if s.meta, err = s.parseURL(text); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	s.content = s.meta
	if text := p.config["contenturl"]; text != "" && o.URL == "" {
		if s.content, err = s.parseURL(text); err != nil {
			return nil, fmt.Errorf("contenturl: %w", err)
		}
	}
	return s, nil
}

// configureTransport obeys the keys of a remote's config that are about
// connections.
func configureTransport(t *http.Transport, config map[string]string) error {
	insecure, err := boolKey(config, "tls-permissive", false)
	if err != nil {
		return err
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if file := config["tls-ca-path"]; file != "" {
		data, err := readKeyFile(file, httpx.MaxCertSize)
		if err != nil {
			return fmt.Errorf("tls-ca-path: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(data) {
			return errors.New("tls-ca-path: no certificate in PEM")
		}
	}
	if cert, key := config["tls-client-cert-path"], config["tls-client-key-path"]; cert != "" || key != "" {
		certData, err := readKeyFile(cert, httpx.MaxCertSize)
		if err != nil {
			return fmt.Errorf("tls-client-cert-path: %w", err)
		}
		keyData, err := readKeyFile(key, httpx.MaxCertSize)
		if err != nil {
			return fmt.Errorf("tls-client-key-path: %w", err)
		}
		pair, err := tls.X509KeyPair(certData, keyData)
		if err != nil {
			return fmt.Errorf("tls-client-cert-path: %w", err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	if text := config["proxy"]; text != "" {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return errors.New("proxy: not a URL with a host")
		}
		t.Proxy = http.ProxyURL(u)
	}
	allow, err := boolKey(config, "http2", true)
	if err != nil {
		return err
	}
	t.ForceAttemptHTTP2 = allow
	if !allow {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	}
	return nil
}

// parseURL reads the URL of a repository, or of a list of mirrors, which keeps
// its prefix as its scheme for findMirrors.
func (s *pullServer) parseURL(text string) ([]*url.URL, error) {
	rest, isList := strings.CutPrefix(text, mirrorPrefix)
	u, err := url.Parse(rest)
	if err != nil {
		return nil, fmt.Errorf("not a URL: %w", fs.ErrInvalid) // its text may hold credentials
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("scheme %.20q, want http or https: %w", u.Scheme, errUnsupported)
	}
	if u.Host == "" || u.Fragment != "" || u.RawQuery != "" && !isList {
		return nil, fmt.Errorf("without host, or with query or fragment: %w", fs.ErrInvalid)
	}
	s.hosts[u.Host] = true
	if isList {
		u.Opaque = mirrorPrefix
	}
	return []*url.URL{u}, nil
}

// findMirrors replaces lists of mirrors by the mirrors.
func (s *pullServer) findMirrors(ctx context.Context) error {
	for _, list := range []*[]*url.URL{&s.meta, &s.content} {
		u := (*list)[0]
		if u.Opaque != mirrorPrefix {
			continue
		}
		at := *u
		at.Opaque = ""
		resp, err := s.send(ctx, at.String(), nil)
		if err != nil {
			return fmt.Errorf("list of mirrors: %w", err)
		}
		data, err := httpx.ReadBody(resp.Body, maxMirrorList)
		resp.Body.Close()
		if err == nil {
			*list, err = s.parseMirrors(data)
		}
		if err != nil {
			return fmt.Errorf("list of mirrors: %w", err)
		}
	}
	return nil
}

func (s *pullServer) parseMirrors(data []byte) ([]*url.URL, error) {
	var mirrors []*url.URL
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		if strings.HasPrefix(text, mirrorPrefix) || len(mirrors) == maxMirrors {
			return nil, fmt.Errorf("more than %d mirrors, or a list in a list", maxMirrors)
		}
		u, err := s.parseURL(text)
		if err != nil {
			return nil, err
		}
		mirrors = append(mirrors, u...)
	}
	if len(mirrors) == 0 || lines.Err() != nil {
		return nil, errors.Join(errors.New("no mirror in it"), lines.Err())
	}
	return mirrors, nil
}

func (s *pullServer) close() { s.transport.CloseIdleConnections() }

func (s *pullServer) name() string {
	u := *s.meta[0]
	u.Opaque = ""
	return httpx.RedactURL(&u)
}

// keep gives a connection for a worker's objects, or nil if only net/http will do,
// or a request is not to be repeated by another client.
func (s *pullServer) keep() *pullKept {
	if s.base == nil || s.attempts == 1 || s.unusual.Load() {
		return nil
	}
	u := s.content[0]
	conn := httpx.NewKept(s.base, u, s.keptOptions)
	if conn == nil {
		return nil
	}
	return &pullKept{Kept: conn, host: u.Host}
}

// pullKept is a worker's connection to a host.
type pullKept struct {
	*httpx.Kept
	host string
	path []byte
}

// Close ends the reading of a body.
func (k *pullKept) Close() error {
	k.Done()
	return nil
}

// send sends a GET and gives the answer if it is 200 or 206.
func (s *pullServer) send(ctx context.Context, target string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, httpx.Redact(err)
	}
	if s.hosts[req.URL.Host] {
		for name, values := range s.header {
			req.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	// The bytes as they are, not a compressed form of them.
	req.Header["Accept-Encoding"] = []string{"identity"}
	for name, values := range header {
		req.Header[name] = values
	}
	s.requests.Add(1)
	resp, err := s.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, httpx.Redact(err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return resp, nil
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusForbidden, http.StatusGone:
		// Stores that hide their listings answer 403 for what they don't have.
		return nil, fmt.Errorf("server says %s: %w", resp.Status, fs.ErrNotExist)
	}
	return nil, fmt.Errorf("server says %.100q", resp.Status)
}

// open asks one mirror after the other for a file, the first one by kept unless
// that is nil. The reader takes up a body that breaks off.
func (s *pullServer) open(ctx context.Context, mirrors []*url.URL, name string, kept *pullKept) (*pullBody, error) {
	var faults error
	for i, base := range mirrors {
		b := &pullBody{ctx: ctx, server: s, base: base, name: name}
		if i == 0 && kept != nil && base.Host == kept.host && base.Scheme == "http" && b.openKept(kept) {
			return b, nil
		}
		err := b.open()
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		faults = errors.Join(faults, err)
	}
	return nil, faults
}

// document gives a small file.
func (s *pullServer) document(ctx context.Context, name string, limit int64) ([]byte, error) {
	b, err := s.open(ctx, s.meta, name, nil)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	data, err := httpx.ReadBody(b, limit)
	if errors.Is(err, httpx.ErrTooLarge) {
		err = corruptf("more than %d bytes", limit)
	}
	return data, err
}

// optional gives a file, or nil if the server has none.
func (s *pullServer) optional(ctx context.Context, name string, limit int64) ([]byte, error) {
	data, err := s.document(ctx, name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Op: "pull", Target: name, Err: err}
	}
	return data, nil
}

// pullBody is a file's bytes, not verified. When they break off it asks for the
// rest, as long as each answer brings something.
type pullBody struct {
	ctx    context.Context // governs the reader until Close
	server *pullServer
	base   *url.URL
	name   string

	body      io.ReadCloser
	size      int64 // -1: not told
	validator string
	at        int64
	attempt   int
}

// openKept asks for the file by a worker's connection. Whatever is wrong is left
// to open.
func (b *pullBody) openKept(kept *pullKept) bool {
	if b.server.unusual.Load() {
		return false
	}
	kept.path = append(append(kept.path[:0], strings.TrimSuffix(b.base.EscapedPath(), "/")...), '/')
	kept.path = append(kept.path, b.name...)
	b.server.requests.Add(1)
	size, validator, err := kept.Get(b.ctx, string(kept.path))
	if err != nil {
		b.server.unusual.Store(true)
		return false
	}
	b.body, b.size, b.validator = kept, size, validator
	return true
}

func (b *pullBody) open() error {
	var header http.Header
	if b.at > 0 {
		header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", b.at)}}
		if b.validator != "" {
			header["If-Range"] = []string{b.validator}
		}
	}
	// What is behind the base needs no escapes.
	resp, err := b.server.send(b.ctx, strings.TrimSuffix(b.base.String(), "/")+"/"+b.name, header)
	if err != nil {
		return err
	}
	var skip int64
	switch {
	case b.at == 0 && resp.StatusCode == http.StatusOK:
		b.size = resp.ContentLength
		if tag := resp.Header.Get("Etag"); strings.HasPrefix(tag, `"`) {
			b.validator = tag
		}
	case resp.StatusCode == http.StatusOK:
		skip = b.at
	default:
		if got := resp.Header.Get("Content-Range"); b.at == 0 || !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", b.at)) {
			resp.Body.Close()
			return corruptf("server answers with the range %.60q, want what follows byte %d", got, b.at)
		}
	}
	b.body = resp.Body
	if n, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
		// It broke off before the place, or is shorter now.
		resp.Body.Close()
		b.server.received.Add(n)
		if err == io.EOF {
			return corruptf("server sent %d bytes at first, now %d", b.at, n)
		}
		b.body = io.NopCloser(brokenBody{err})
	}
	return nil
}

type brokenBody struct{ err error }

func (f brokenBody) Read([]byte) (int, error) { return 0, f.err }

func (b *pullBody) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.at += int64(n)
		if n > 0 {
			b.server.received.Add(int64(n))
			b.attempt = 0
			if err != nil && err != io.EOF {
				err = nil // the body gives it again at the next call
			}
		}
		if n > 0 || err == nil || err == io.EOF {
			return n, err
		}
		if b.ctx.Err() != nil {
			return 0, b.ctx.Err()
		}
		b.attempt++
		if !httpx.Temporary(err) || b.attempt >= b.server.attempts {
			return 0, httpx.Redact(err)
		}
		b.body.Close()
		b.body = io.NopCloser(brokenBody{err})
		select {
		case <-time.After(b.server.delay << (b.attempt - 1)):
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
		if err := b.open(); err != nil {
			return 0, err
		}
	}
}

func (b *pullBody) Close() error { return b.body.Close() }
