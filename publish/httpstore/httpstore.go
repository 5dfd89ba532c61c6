package httpstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
)

const (
	// DefaultResumes is the default of [Options.Resumes].
	DefaultResumes = 5

	// maxUnsized is the longest object that a server may send without
	// telling its size, bytes: it is read into memory.
	maxUnsized = 1 << 20
)

// Options of [New]. The zero value is the default of each field.
type Options struct {
	// Header is sent with each request to the host of the base URL, and to no
	// other: perhaps Authorization. nil: none.
	Header http.Header
	// Transport sends requests, once each; retries are made here. nil: a new
	// transport with the proxies of the environment.
	Transport http.RoundTripper
	// Attempts is how often a request is sent at most; 0: 6. Delay is the wait
	// before the second time, then doubled; 0: half a second.
	Attempts int
	Delay    time.Duration
	// Resumes is how often in turn a transfer that broke off is taken up again
	// with less than 64 KiB gained. 0: [DefaultResumes], negative: never taken up.
	Resumes int
	// HeaderTimeout and StallTimeout bound how long the server is silent before
	// an answer (0: two minutes) and within one (0: one minute); negative: not.
	HeaderTimeout, StallTimeout time.Duration
	// Jitter gives values in [0,1) to spread the waits between attempts; nil:
	// they are not spread.
	Jitter func() float64
	// Logger gets each request at debug level; nil: silent.
	Logger *slog.Logger
}

// Store is what is below a base URL. It may be used from any goroutine; make
// one with [New].
type Store struct {
	base      *url.URL
	header    http.Header
	resumes   int
	transport *httpx.Transport
	client    *http.Client
	unknown   atomic.Int64 // revisions made up
}

var _ publish.Store = (*Store)(nil)

// New makes a store of what is below base, an http or https URL without
// credentials, query and fragment. It sends nothing. opts may be nil.
func New(base string, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	u, err := parseBase(base)
	if err != nil {
		return nil, &publish.Error{Op: "open store", Target: httpx.RedactText(base), Err: err}
	}
	s := &Store{base: u, header: o.Header.Clone(), resumes: o.Resumes}
	switch {
	case s.resumes == 0:
		s.resumes = DefaultResumes
	case s.resumes < 0:
		s.resumes = 0
	}
	s.transport = httpx.NewTransport(o.Transport, &httpx.Options{
		Attempts: o.Attempts, BaseDelay: o.Delay, Jitter: o.Jitter, Logger: o.Logger,
		HeaderTimeout: o.HeaderTimeout, StallTimeout: o.StallTimeout,
	})
	s.client = httpx.NewClient(s.transport)
	return s, nil
}

func parseBase(base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("not a URL: %w", fs.ErrInvalid) // its text may hold credentials
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("not an http or https URL with a host: %w", fs.ErrInvalid)
	case u.User != nil:
		return nil, fmt.Errorf("credentials do not belong into the URL: %w", fs.ErrInvalid)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("query or fragment: %w", fs.ErrInvalid)
	}
	return u, nil
}

// Close gives idle connections back.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// url is where the object at key is.
func (s *Store) url(key string) *url.URL {
	u := *s.base
	segments := strings.Split(key, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	u.RawPath = strings.TrimSuffix(s.base.EscapedPath(), "/") + "/" + strings.Join(segments, "/")
	u.Path = strings.TrimSuffix(s.base.Path, "/") + "/" + key
	return &u
}

// Open reads an object.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	return s.open(ctx, key, 0, -1)
}

// OpenRange reads n bytes of an object from offset off on; n < 0 or beyond the
// end: up to the end. An offset beyond the end gives [fs.ErrInvalid]. info
// describes the whole object: ranges of one object belong together only if
// they have the same Revision.
func (s *Store) OpenRange(ctx context.Context, key string, off, n int64) (body io.ReadCloser, info publish.Info, err error) {
	if off < 0 {
		return nil, publish.Info{}, s.fail("open", key, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid))
	}
	return s.open(ctx, key, off, n)
}

func (s *Store) open(ctx context.Context, key string, off, n int64) (io.ReadCloser, publish.Info, error) {
	if err := publish.CheckKey(key); err != nil {
		return nil, publish.Info{}, s.fail("open", key, err)
	}
	end := int64(-1)
	if n >= 0 && n <= math.MaxInt64-off {
		end = off + n
	}
	a, err := s.get(ctx, key, off, end, nil)
	if err != nil {
		return nil, publish.Info{}, s.fail("open", key, err)
	}
	r := &reader{ctx: ctx, s: s, answer: a, key: key, at: off, end: a.info.Size}
	if end >= 0 {
		r.end = min(end, r.end)
	}
	if off == 0 && r.end == a.info.Size && a.info.SHA256 != "" {
		r.hash = newHash()
	}
	return r, a.info, nil
}

// Stat describes an object. It asks by HEAD, or where that is refused or does
// not tell the size by the first byte.
func (s *Store) Stat(ctx context.Context, key string) (publish.Info, error) {
	if err := publish.CheckKey(key); err != nil {
		return publish.Info{}, s.fail("stat", key, err)
	}
	resp, err := s.send(ctx, http.MethodHead, key, nil)
	if err != nil {
		return publish.Info{}, s.fail("stat", key, err)
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength >= 0 {
			return s.info(key, resp, resp.ContentLength), nil
		}
	case http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest:
		// HEAD alone may be refused: signatures and gateways are for one method.
	default:
		return publish.Info{}, s.fail("stat", key, statusError(resp))
	}
	a, err := s.first(ctx, key)
	if err != nil {
		return publish.Info{}, s.fail("stat", key, err)
	}
	a.body.Close()
	return a.info, nil
}

// Put answers [errors.ErrUnsupported].
func (s *Store) Put(_ context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	if _, err := publish.CheckPut(key, src, opts); err != nil {
		return publish.Info{}, s.fail("put", key, err)
	}
	return publish.Info{}, s.fail("put", key, errReadOnly)
}

// Delete answers [errors.ErrUnsupported].
func (s *Store) Delete(_ context.Context, key string) error {
	if err := publish.CheckKey(key); err != nil {
		return s.fail("delete", key, err)
	}
	return s.fail("delete", key, errReadOnly)
}

// List answers [errors.ErrUnsupported].
func (s *Store) List(_ context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		yield(publish.Info{}, s.fail("list", prefix, fmt.Errorf("a web server has no listing: %w", errors.ErrUnsupported)))
	}
}

var errReadOnly = fmt.Errorf("a web server is only read: %w", errors.ErrUnsupported)

// fail makes the error of a method; the target is where the object is.
func (s *Store) fail(op, key string, err error) error {
	if _, ok := errors.AsType[*publish.Error](err); ok {
		return err
	}
	target := httpx.RedactURL(s.base) + " " + fmt.Sprintf("%.200q", key)
	if publish.CheckKey(key) == nil {
		target = httpx.RedactURL(s.url(key))
	}
	retryable := errors.Is(err, publish.ErrConflict)
	if status, ok := errors.AsType[*httpError](err); ok {
		retryable = httpx.TemporaryStatus(status.code)
	} else if httpx.Temporary(err) {
		retryable = true
	}
	// net/http repeats the address, which may be one that we were sent to.
	if wrapped, ok := errors.AsType[*url.Error](err); ok && err == error(wrapped) {
		err = wrapped.Err
	}
	return &publish.Error{Op: op, Target: target, Err: httpx.Redact(err), Retryable: retryable}
}
