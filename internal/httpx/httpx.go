package httpx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Defaults of [Options], and limits of this package.
const (
	DefaultAttempts      = 6
	DefaultBaseDelay     = 500 * time.Millisecond
	DefaultMaxDelay      = 30 * time.Second
	DefaultMaxRetryAfter = 5 * time.Minute
	DefaultHeaderTimeout = 2 * time.Minute
	DefaultStallTimeout  = time.Minute

	// drainLimit is how much of a body that is thrown away is read so that
	// its connection can be used again, bytes.
	drainLimit = 64 << 10
)

// Options of [NewTransport]. The zero value is the default of each field.
type Options struct {
	// Attempts is how often a request is sent at most; 0: [DefaultAttempts],
	// 1: never repeated.
	Attempts int
	// BaseDelay is the wait before the second attempt, doubled for each later
	// one up to MaxDelay. 0: [DefaultBaseDelay], [DefaultMaxDelay].
	BaseDelay, MaxDelay time.Duration
	// MaxRetryAfter is the longest Retry-After that is waited for; a response
	// that asks for more is returned as it is. 0: [DefaultMaxRetryAfter].
	MaxRetryAfter time.Duration
	// Jitter gives values in [0,1), such as [math/rand/v2.Float64]; called from
	// any goroutine. A wait lies between half the delay and the delay; nil:
	// the whole delay each time.
	Jitter func() float64
	// HeaderTimeout bounds the time between the end of a request and the
	// beginning of its response. 0: [DefaultHeaderTimeout], negative: none.
	HeaderTimeout time.Duration
	// StallTimeout bounds the time in which not a single byte of a body moves,
	// in either direction, while this side is ready. It says nothing about
	// how long a transfer takes. 0: [DefaultStallTimeout], negative: none.
	StallTimeout time.Duration
	// MaxPerHost is how many requests to one host may be under way at most,
	// from sending them until their response begins. The host makes it fewer,
	// down to one, by answering 429 or 503, and more again by answering well;
	// its Retry-After holds back every request to it. 0: [DefaultMaxPerHost],
	// negative: neither bound nor held back.
	MaxPerHost int
	// Repeatable says which requests may be sent twice; nil: [Repeatable].
	Repeatable func(*http.Request) bool
	// Logger gets each attempt at debug level, URLs redacted; nil: silent.
	Logger *slog.Logger
}

// Transport is an [http.RoundTripper] with the retry and time-out rules of this
// package. It may be used from any goroutine.
type Transport struct {
	base http.RoundTripper
	opts Options
	pace *pacer // nil: none
}

// NewTransport wraps base, which should not repeat requests itself; nil: a new
// [BaseTransport]. opts may be nil.
func NewTransport(base http.RoundTripper, opts *Options) *Transport {
	t := &Transport{base: base}
	if base == nil {
		t.base = BaseTransport()
	}
	if opts != nil {
		t.opts = *opts
	}
	o := &t.opts
	o.Attempts = or(o.Attempts, DefaultAttempts)
	o.BaseDelay = or(o.BaseDelay, DefaultBaseDelay)
	o.MaxDelay = or(o.MaxDelay, DefaultMaxDelay)
	o.MaxRetryAfter = or(o.MaxRetryAfter, DefaultMaxRetryAfter)
	o.HeaderTimeout = or(o.HeaderTimeout, DefaultHeaderTimeout)
	o.StallTimeout = or(o.StallTimeout, DefaultStallTimeout)
	if o.MaxPerHost = or(o.MaxPerHost, DefaultMaxPerHost); o.MaxPerHost > 0 {
		t.pace = &pacer{max: o.MaxPerHost, hosts: map[string]*host{}}
	}
	if o.Repeatable == nil {
		o.Repeatable = Repeatable
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return t
}

// or gives value, or def where value is zero.
func or[T comparable](value, def T) T {
	var zero T
	if value == zero {
		return def
	}
	return value
}

// CloseIdleConnections closes the base transport's.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip sends req, repeatedly where the package comment allows it. After
// the last attempt it returns what that one gave: a response, or an error that
// says how many attempts were made.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body := req.Body
	for attempt := 1; ; attempt++ {
		place, err := t.pace.take(req.Context(), origin(req.URL))
		if err != nil {
			if body != nil {
				body.Close()
			}
			return nil, err
		}
		resp, sent, err := t.send(req, body, place, attempt)
		place.leave(resp, t.pause(resp))
		wait, again := t.again(req, resp, sent, err, attempt)
		if !again {
			if err != nil && attempt > 1 {
				err = fmt.Errorf("after %d attempts: %w", attempt, err)
			}
			return resp, err
		}
		if req.Body != nil && req.Body != http.NoBody {
			var bodyErr error
			if body, bodyErr = req.GetBody(); bodyErr != nil {
				discard(resp)
				return nil, fmt.Errorf("open request body again: %w", bodyErr)
			}
		}
		discard(resp)
		if err := sleep(req.Context(), wait); err != nil {
			if body != nil {
				body.Close()
			}
			return nil, err
		}
	}
}

// send makes one attempt. sent is false only if it is certain that no byte of
// the request reached a server.
func (t *Transport) send(req *http.Request, body io.ReadCloser, place *place, attempt int) (_ *http.Response, sent bool, _ error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{cancel: cancel}
	trace := &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			w.sent()
			w.start(sending, t.opts.HeaderTimeout, "response header")
		},
		WroteRequest:         func(httptrace.WroteRequestInfo) { w.start(sending, t.opts.HeaderTimeout, "response header") },
		GotFirstResponseByte: func() { w.start(sending, t.opts.StallTimeout, "data") },
	}
	out := req.Clone(httptrace.WithClientTrace(ctx, trace))
	ups := &uploads{place: place}
	if body != nil && body != http.NoBody {
		out.Body = ups.add(body, w, t.opts.StallTimeout)
		// net/http takes a new body by itself where a connection it kept
		// turns out to be closed before anything was written to it.
		out.GetBody = nil
		if req.GetBody != nil {
			out.GetBody = func() (io.ReadCloser, error) {
				again, err := req.GetBody()
				if err != nil {
					return nil, err
				}
				return ups.add(again, w, t.opts.StallTimeout), nil
			}
		}
	}
	resp, err := t.base.RoundTrip(out)
	w.answered()
	if err != nil {
		// The base may still be reading the body; the next attempt must not
		// share it.
		if bodyErr := ups.close(); bodyErr != nil {
			err = &bodyError{err: bodyErr}
		}
		err = w.cause(ctx, req.Context(), err)
		cancel(nil)
		t.log(req, attempt, 0, err)
		return nil, w.wasSent(), err
	}
	t.log(req, attempt, resp.StatusCode, nil)
	resp.Request = req
	if resp.Body == nil || resp.Body == http.NoBody {
		cancel(nil)
		return resp, true, nil
	}
	if _, ok := resp.Body.(io.Writer); ok { // switched protocols
		return resp, true, nil
	}
	resp.Body = &download{body: resp.Body, watch: w, timeout: t.opts.StallTimeout, ctx: ctx, outer: req.Context()}
	return resp, true, nil
}

func (t *Transport) log(req *http.Request, attempt, status int, err error) {
	if !t.opts.Logger.Enabled(req.Context(), slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", req.Method), slog.String("url", RedactURL(req.URL)),
		slog.Int("attempt", attempt), slog.Int("status", status),
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", Redact(err).Error()))
	}
	t.opts.Logger.LogAttrs(req.Context(), slog.LevelDebug, "http request", attrs...)
}

// onceKey marks the context of requests that are not to be repeated.
type onceKey struct{}

// Once gives a context whose requests a [Transport] sends a single time, whatever
// comes of them. It is for a caller who repeats by itself, as it alone knows how
// to find out what arrived: the attempts of both would multiply.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// again decides whether and when to send req once more.
func (t *Transport) again(req *http.Request, resp *http.Response, sent bool, err error, attempt int) (time.Duration, bool) {
	if attempt >= t.opts.Attempts || req.Context().Err() != nil || req.Context().Value(onceKey{}) != nil {
		return 0, false
	}
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return 0, false
	}
	repeatable := t.opts.Repeatable(req)
	if err != nil {
		if !(repeatable || !sent) || !Temporary(err) {
			return 0, false
		}
		return t.delay(attempt), true
	}
	if !TemporaryStatus(resp.StatusCode) {
		return 0, false
	}
	if !repeatable && !refused(resp) {
		return 0, false
	}
	wait := t.delay(attempt)
	if after, ok := RetryAfter(resp.Header); ok {
		if after > t.opts.MaxRetryAfter {
			return 0, false
		}
		wait = max(wait, after)
	}
	return wait, true
}

// pause is how long the host that answered resp wants to be left alone.
func (t *Transport) pause(resp *http.Response) time.Duration {
	if resp == nil || !refused(resp) {
		return 0
	}
	after, ok := RetryAfter(resp.Header)
	if !ok || after > t.opts.MaxRetryAfter {
		return 0
	}
	return after
}

// delay is the back-off after the given attempt.
func (t *Transport) delay(attempt int) time.Duration {
	d := t.opts.BaseDelay
	for i := 1; i < attempt && d < t.opts.MaxDelay; i++ {
		d *= 2
	}
	d = min(d, t.opts.MaxDelay)
	if t.opts.Jitter != nil {
		d = d/2 + time.Duration(t.opts.Jitter()*float64(d/2))
	}
	return d
}

// Repeatable reports whether req has the same effect and answer when it is
// sent twice, as the package comment defines it.
func Repeatable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	case http.MethodPut, http.MethodDelete:
		return req.Header.Get("If-Match") == "" && req.Header.Get("If-None-Match") == ""
	}
	return false
}

// TemporaryStatus reports whether a response of this status may be followed by
// a better one: 408, 429 and 5xx, but not 501 and 505.
func TemporaryStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= 500 && status <= 599
}

// Temporary reports whether err is a fault of the connection that a new one
// may not have: reset, refused, closed early, timed out. Faults of a request
// body, of certificates and of a caller's context are not.
func Temporary(err error) bool {
	if err == nil {
		return false
	}
	if _, ok := errors.AsType[*bodyError](err); ok {
		return false
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	if _, ok := errors.AsType[*TimeoutError](err); ok {
		return true
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	for _, target := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE,
		syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsTemporary || dns.IsTimeout
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return true
	}
	// net/http has no values for these.
	text := err.Error()
	for _, part := range []string{
		"http: server closed idle connection", "http2: server sent GOAWAY",
		"http2: client connection lost", "stream error: stream ID",
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// RetryAfter reads the Retry-After header: seconds, or a date, which is taken
// relative to the response's own Date so that clocks need not agree.
func RetryAfter(h http.Header) (time.Duration, bool) {
	value := h.Get("Retry-After")
	if value == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		if seconds < 0 {
			return 0, false
		}
		return time.Duration(min(seconds, 1<<32)) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(now)), true
}

// TimeoutError says that a server stopped talking.
type TimeoutError struct {
	What  string        // "response header" or "data"
	After time.Duration // how long nothing came
}

func (e *TimeoutError) Error() string { return "no " + e.What + " for " + e.After.String() }

// Timeout reports true, as [net.Error] has it.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary reports true, as [net.Error] has it.
func (e *TimeoutError) Temporary() bool { return true }

// bodyError marks a fault of the request's own body, which no repetition cures.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read request body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// watch cancels an attempt when a timer that progress pushes on runs out.
type watch struct {
	cancel context.CancelCauseFunc

	mu        sync.Mutex
	timer     *time.Timer
	what      *TimeoutError
	connected bool
	phase     phase
}

// phase of an attempt: what is late from an earlier one must not start timers.
type phase bool

const (
	sending   phase = false
	receiving phase = true
)

func (w *watch) sent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connected = true
}

func (w *watch) wasSent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.connected
}

// answered ends the sending phase.
func (w *watch) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = receiving
	if w.timer != nil {
		w.timer.Stop()
	}
}

// start (re)starts the timer if the attempt is in the given phase; after <= 0
// stops it.
func (w *watch) start(in phase, after time.Duration, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if in != w.phase {
		return
	}
	if after <= 0 {
		if w.timer != nil {
			w.timer.Stop()
		}
		return
	}
	if w.what == nil || w.what.What != what || w.what.After != after {
		w.what = &TimeoutError{What: what, After: after}
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(after, w.fire)
		return
	}
	w.timer.Reset(after)
}

func (w *watch) fire() {
	w.mu.Lock()
	cause := w.what
	w.mu.Unlock()
	w.cancel(cause)
}

func (w *watch) stop(in phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil && in == w.phase {
		w.timer.Stop()
	}
}

// cause replaces err by the time-out that brought it about, if it was one.
func (w *watch) cause(ctx, outer context.Context, err error) error {
	if outer.Err() != nil {
		return err
	}
	if timeout, ok := errors.AsType[*TimeoutError](context.Cause(ctx)); ok {
		return timeout
	}
	return err
}

// upload is a request body whose reader is watched: the time between two
// reads is the network's, the time inside one is the source's.
type upload struct {
	watch   *watch
	timeout time.Duration
	place   *place

	mu     sync.Mutex
	body   io.ReadCloser
	closed bool
	fault  error
}

func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return 0, net.ErrClosed
	}
	u.watch.stop(sending)
	n, err := u.place.read(u.body, p)
	u.watch.start(sending, u.timeout, "data")
	if err != nil && err != io.EOF {
		u.fault = err
	}
	return n, err
}

func (u *upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil
	}
	u.closed = true
	return u.body.Close()
}

// uploads are the bodies that one attempt used.
type uploads struct {
	place *place

	mu   sync.Mutex
	list []*upload
}

func (u *uploads) add(body io.ReadCloser, w *watch, timeout time.Duration) *upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	up := &upload{body: body, watch: w, timeout: timeout, place: u.place}
	u.list = append(u.list, up)
	return up
}

// close ends all reading and gives the first fault of a source.
func (u *uploads) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var fault error
	for _, up := range u.list {
		up.Close()
		up.mu.Lock()
		if fault == nil {
			fault = up.fault
		}
		up.mu.Unlock()
	}
	return fault
}

// download is a response body: a read that gets nothing for too long fails.
type download struct {
	body       io.ReadCloser
	watch      *watch
	timeout    time.Duration
	ctx, outer context.Context // of this response only
}

func (d *download) Read(p []byte) (int, error) {
	d.watch.start(receiving, d.timeout, "data")
	n, err := d.body.Read(p)
	d.watch.stop(receiving)
	if err != nil && err != io.EOF {
		err = d.watch.cause(d.ctx, d.outer, err)
	}
	return n, err
}

func (d *download) Close() error {
	d.watch.stop(receiving)
	err := d.body.Close()
	d.watch.cancel(nil)
	return err
}

// discard reads a little of a body that nobody wants and closes it.
func discard(resp *http.Response) {
	if resp == nil || resp.Body == nil {
		return
	}
	// The outcome does not matter: at worst a new connection is made.
	_, _ = io.CopyN(io.Discard, resp.Body, drainLimit)
	resp.Body.Close()
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// ErrTooLarge says that a document is longer than its reader accepts.
var ErrTooLarge = errors.New("document too large")

// ReadBody reads a document of at most limit bytes ([ErrTooLarge]).
func ReadBody(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return data, nil
}
