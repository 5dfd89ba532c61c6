package httpx

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ErrUnusual is the error of an answer that [Kept] leaves to a general client:
// any but a 200 whose length is told.
var ErrUnusual = errors.New("not a plain answer")

// Bounds of [Kept].
const (
	keptBuffer = 16 << 10 // for reading; the longest line of a header
	keptHeader = 64 << 10 // the longest header
)

// KeptOptions of [NewKept]. The zero value is the default of each field.
type KeptOptions struct {
	// Header is sent with each request.
	Header http.Header
	// HeaderTimeout and StallTimeout are as in [Options].
	HeaderTimeout, StallTimeout time.Duration
	// Logger gets each request at debug level; nil: silent.
	Logger *slog.Logger
}

// Kept is one connection for many small files of one HTTP/1.1 server, asked for
// one after the other: all is done by the caller's goroutine, and next to nothing
// is allocated, so that a file costs a third of what net/http needs for it. It
// never repeats a request, but for a connection that the server closed before it
// answered anything; after any error the caller asks again with a client over
// [Transport]. It belongs to one goroutine.
type Kept struct {
	dial           func(ctx context.Context, network, addr string) (net.Conn, error)
	addr           string
	host           string // redacted base of URLs, for the log
	tail           []byte // of a request, behind the path
	header, stall  time.Duration
	log            *slog.Logger
	conn           *patientConn // nil: none
	in             *bufio.Reader
	out            []byte
	left           int64 // of the body
	last           bool  // the server closes the connection after it
	stopCancelling func() bool
}

// NewKept makes a connection, dialled when it is needed, to the server of a URL.
// It is nil where only net/http will do: another scheme than http, a proxy,
// credentials in the URL, headers that say something about the connection.
func NewKept(base *http.Transport, u *url.URL, opts *KeptOptions) *Kept {
	if opts == nil {
		opts = &KeptOptions{}
	}
	host := u.Hostname()
	if u.Scheme != "http" || u.User != nil || host == "" || base.DialContext == nil || strings.Trim(u.Host, hostBytes) != "" {
		return nil
	}
	if base.Proxy != nil {
		if proxy, err := base.Proxy(&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}); proxy != nil || err != nil {
			return nil
		}
	}
	k := &Kept{
		dial: base.DialContext, addr: net.JoinHostPort(host, or(u.Port(), "80")), host: u.Scheme + "://" + u.Host,
		header: or(opts.HeaderTimeout, DefaultHeaderTimeout), stall: or(opts.StallTimeout, DefaultStallTimeout), log: opts.Logger,
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	var tail bytes.Buffer
	fmt.Fprintf(&tail, " HTTP/1.1\r\nHost: %s\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: identity\r\n", u.Host)
	for name, values := range opts.Header {
		switch textproto.CanonicalMIMEHeaderKey(name) {
		case "Accept-Encoding":
			continue
		case "Host", "User-Agent", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Content-Length", "Upgrade", "Expect", "Range", "If-Range":
			return nil
		}
		for _, v := range values {
			if !validField(name, v) {
				return nil
			}
			fmt.Fprintf(&tail, "%s: %s\r\n", name, v)
		}
	}
	tail.WriteString("\r\n")
	k.tail = tail.Bytes()
	return k
}

// hostBytes are those of hosts that are sent as they are.
const hostBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]"

// validField reports whether a header field can't be taken for another.
func validField[T string | []byte](name, value T) bool {
	for i := range len(name) {
		if c := name[i]; !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return len(name) > 0
}

// Get asks for the file of an escaped path, which begins with a slash, and gives
// its length and its strong validator, "" for none. The body is read from k until
// [Kept.Done], and ctx governs it.
func (k *Kept) Get(ctx context.Context, path string) (size int64, validator string, err error) {
	k.Done()
	if k.conn != nil && k.in.Buffered() > 0 {
		k.hangUp() // nobody asked for that
	}
	for {
		fresh := k.conn == nil
		if fresh {
			if err := k.connect(ctx); err != nil {
				return 0, "", err
			}
		}
		conn := k.conn
		k.stopCancelling = context.AfterFunc(ctx, func() { conn.Close() })
		var answered bool
		size, validator, answered, err = k.ask(path)
		if err == nil {
			k.left = size
			k.logged(ctx, path, http.StatusOK, nil)
			return size, validator, nil
		}
		k.hangUp()
		if ctx.Err() != nil {
			return 0, "", ctx.Err()
		}
		// A connection that was idle may have been closed at the other end.
		if fresh || answered || conn.late.Load() {
			k.logged(ctx, path, 0, err)
			return 0, "", err
		}
	}
}

func (k *Kept) logged(ctx context.Context, path string, status int, err error) {
	if !k.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{slog.String("method", http.MethodGet), slog.String("url", k.host+path), slog.Int("attempt", 1), slog.Int("status", status)}
	if err != nil {
		attrs = append(attrs, slog.String("error", Redact(err).Error()))
	}
	k.log.LogAttrs(ctx, slog.LevelDebug, "http request", attrs...)
}

func (k *Kept) connect(ctx context.Context) error {
	conn, err := k.dial(ctx, "tcp", k.addr)
	if err != nil {
		return err
	}
	k.conn = &patientConn{Conn: conn}
	k.conn.timer = time.AfterFunc(time.Hour, k.conn.expire)
	k.conn.timer.Stop()
	if k.in == nil {
		k.in = bufio.NewReaderSize(nil, keptBuffer)
	}
	k.in.Reset(k.conn)
	return nil
}

// ask sends a request and reads the header of its answer. answered is true if
// anything came back.
func (k *Kept) ask(path string) (size int64, validator string, answered bool, err error) {
	k.out = append(append(append(k.out[:0], "GET "...), path...), k.tail...)
	k.conn.expect(k.header, "response header")
	if _, err := k.conn.Write(k.out); err != nil {
		return 0, "", false, err
	}
	if _, err := k.in.Peek(1); err != nil {
		return 0, "", false, k.conn.cause(err)
	}
	k.conn.expect(k.stall, "data")
	h, err := readKeptAnswer(k.in)
	if err != nil {
		return 0, "", true, k.conn.cause(err)
	}
	k.last = h.last
	return h.size, h.validator, true, nil
}

// keptAnswer is what counts in the header of an answer.
type keptAnswer struct {
	size      int64
	validator string
	last      bool // the connection ends with it
}

// readKeptAnswer reads the header of an answer of 200 whose body is so many bytes
// as they are; any other is [ErrUnusual].
func readKeptAnswer(in *bufio.Reader) (h keptAnswer, err error) {
	h.size = -1
	line, err := in.ReadSlice('\n')
	if err != nil {
		return h, headerError(err)
	}
	total := len(line)
	rest, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 200"))
	if rest = trimEOL(rest); !ok || len(rest) > 0 && rest[0] != ' ' {
		return h, fmt.Errorf("server says %.100q: %w", trimEOL(line), ErrUnusual)
	}
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return h, headerError(err)
		}
		if total += len(line); total > keptHeader {
			return h, fmt.Errorf("header of more than %d bytes: %w", keptHeader, ErrUnusual)
		}
		if line = trimEOL(line); len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t")
		if !ok || !validField(name, value) {
			return h, fmt.Errorf("header line %.100q: %w", line, ErrUnusual)
		}
		switch {
		case isField(name, "content-length"):
			n, err := strconv.ParseUint(string(value), 10, 63)
			if err != nil || h.size >= 0 {
				return h, fmt.Errorf("length %.40q: %w", value, ErrUnusual)
			}
			h.size = int64(n)
		case isField(name, "transfer-encoding"), isField(name, "content-encoding") && !bytes.EqualFold(value, []byte("identity")), isField(name, "content-range"):
			return h, fmt.Errorf("header line %.100q: %w", line, ErrUnusual)
		case isField(name, "connection"):
			if !bytes.EqualFold(value, []byte("keep-alive")) {
				h.last = true
			}
		case isField(name, "etag"):
			if len(value) > 0 && value[0] == '"' {
				h.validator = string(value)
			}
		}
	}
	if h.size < 0 {
		return h, fmt.Errorf("no length is told: %w", ErrUnusual)
	}
	return h, nil
}

// headerError is that of a header that ends early.
func headerError(err error) error {
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("header line of more than %d bytes: %w", keptBuffer, ErrUnusual)
	}
	return err
}

func trimEOL(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// isField compares a field's name with one in small letters.
func isField(name []byte, lower string) bool {
	return len(name) == len(lower) && bytes.EqualFold(name, []byte(lower))
}

// Read gives the body of the last answer.
func (k *Kept) Read(p []byte) (int, error) {
	if k.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > k.left {
		p = p[:k.left]
	}
	n, err := k.in.Read(p)
	k.left -= int64(n)
	if err != nil && n > 0 {
		err = nil // it comes again
	}
	if err != nil {
		err = k.conn.cause(err)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// Done ends the reading of a body. What was not read is not waited for: the next
// request gets a new connection.
func (k *Kept) Done() {
	if k.stopCancelling == nil {
		return
	}
	if !k.stopCancelling() || k.left > 0 || k.last {
		k.hangUp()
	}
	k.stopCancelling, k.left = nil, 0
}

// Close closes the connection.
func (k *Kept) Close() {
	k.Done()
	k.hangUp()
}

func (k *Kept) hangUp() {
	if k.stopCancelling != nil {
		k.stopCancelling()
		k.stopCancelling = nil
	}
	k.left, k.last = 0, false
	if k.conn != nil {
		k.conn.timer.Stop()
		k.conn.Close()
		k.conn = nil
	}
}

// patientConn is a connection that is closed when nothing moves for too long.
type patientConn struct {
	net.Conn
	timer    *time.Timer
	late     atomic.Bool
	patience time.Duration // 0 or less: without end
	what     string        // is waited for
}

// expect says what comes next, and for how long it is waited for.
func (c *patientConn) expect(what time.Duration, name string) { c.patience, c.what = what, name }

func (c *patientConn) expire() {
	c.late.Store(true)
	c.Conn.Close()
}

func (c *patientConn) Read(p []byte) (int, error) {
	if c.patience > 0 {
		c.timer.Reset(c.patience)
		defer c.timer.Stop()
	}
	return c.Conn.Read(p)
}

// cause replaces an error by the time-out that brought it about, if it was one.
func (c *patientConn) cause(err error) error {
	if c.late.Load() {
		return &TimeoutError{What: c.what, After: c.patience}
	}
	return err
}
