package httpstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
)

// answer is a response whose body begins at the offset that was asked for.
type answer struct {
	info      publish.Info
	validator string // for If-Range; "": none
	body      io.ReadCloser
}

// httpError is an answer that is none.
type httpError struct{ code int }

func (e *httpError) Error() string {
	text := "server answered " + strconv.Itoa(e.code)
	if name := http.StatusText(e.code); name != "" {
		text += " " + name
	}
	return text
}

func (e *httpError) Is(target error) bool {
	switch e.code {
	case http.StatusNotFound, http.StatusGone:
		return target == fs.ErrNotExist
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == fs.ErrPermission
	}
	return false
}

func statusError(resp *http.Response) error { return &httpError{code: resp.StatusCode} }

// send makes one request of key.
func (s *Store) send(ctx context.Context, method, key string, header map[string]string) (*http.Response, error) {
	u := s.url(key)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for name, values := range s.header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	// The sizes and ranges of what is stored, not of a compressed form of it.
	req.Header.Set("Accept-Encoding", "identity")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	// A redirect to a folder leads to its listing, which is no object.
	if resp.StatusCode < 300 && strings.HasSuffix(resp.Request.URL.Path, "/") && path.Base(key) != "index.html" {
		resp.Body.Close()
		return nil, fmt.Errorf("a folder: %w", fs.ErrNotExist)
	}
	return resp, nil
}

// get asks for the bytes of key from off on, up to end if that is not
// negative. Those of a reader that goes on must be of the object that old is.
func (s *Store) get(ctx context.Context, key string, off, end int64, old *answer) (*answer, error) {
	header := map[string]string{}
	switch {
	case end >= 0:
		header["Range"] = fmt.Sprintf("bytes=%d-%d", off, max(off, end-1))
	case off > 0:
		header["Range"] = fmt.Sprintf("bytes=%d-", off)
	}
	if old != nil && header["Range"] != "" {
		header["If-Range"] = old.validator
	}
	resp, err := s.send(ctx, http.MethodGet, key, header)
	if err != nil {
		return nil, err
	}
	a, err := s.answer(key, resp, off, old)
	if err != nil {
		resp.Body.Close()
	}
	return a, err
}

// first asks for the first byte of key.
func (s *Store) first(ctx context.Context, key string) (*answer, error) {
	resp, err := s.send(ctx, http.MethodGet, key, map[string]string{"Range": "bytes=0-0"})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && resp.Header.Get("Content-Range") == "bytes */0" {
		return &answer{info: s.info(key, resp, 0), body: resp.Body}, nil
	}
	a, err := s.answer(key, resp, 0, nil)
	if err != nil {
		resp.Body.Close()
	}
	return a, err
}

// answer checks a response and moves its body to off.
func (s *Store) answer(key string, resp *http.Response, off int64, old *answer) (*answer, error) {
	a := &answer{body: resp.Body, validator: validator(resp.Header)}
	switch resp.StatusCode {
	case http.StatusOK:
		size := resp.ContentLength
		if size < 0 {
			data, err := httpx.ReadBody(resp.Body, maxUnsized)
			if errors.Is(err, httpx.ErrTooLarge) {
				return nil, fmt.Errorf("server does not tell the size of more than %d bytes: %w", maxUnsized, errors.ErrUnsupported)
			}
			if err != nil {
				return nil, err
			}
			size = int64(len(data))
			a.body = body{Reader: bytes.NewReader(data), Closer: resp.Body}
		}
		a.info = s.info(key, resp, size)
		if err := a.same(old); err != nil {
			return nil, err
		}
		if off > size {
			return nil, beyond(off, size)
		}
		// A server that ignores ranges sends everything.
		if _, err := io.CopyN(io.Discard, a.body, off); err != nil {
			return nil, unexpected(err)
		}
		return a, nil
	case http.StatusPartialContent:
		first, last, size, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return nil, err
		}
		if first != off {
			return nil, fmt.Errorf("server sent bytes from %d on, asked was for %d: %w", first, off, publish.ErrDigest)
		}
		if resp.ContentLength >= 0 && resp.ContentLength != last-first+1 {
			return nil, fmt.Errorf("server sent %d bytes as range %d-%d: %w", resp.ContentLength, first, last, publish.ErrDigest)
		}
		// A range that is shorter than asked for ends like a transfer that
		// broke off, and is taken up like one.
		a.info = s.info(key, resp, size)
		return a, a.same(old)
	case http.StatusRequestedRangeNotSatisfiable:
		size, err := strconv.ParseUint(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes */"), 10, 63)
		if err != nil {
			return nil, statusError(resp)
		}
		if old == nil && off > int64(size) {
			return nil, beyond(off, int64(size))
		}
		a.info = s.info(key, resp, int64(size))
		a.body = body{Reader: bytes.NewReader(nil), Closer: resp.Body}
		return a, a.same(old)
	}
	return nil, statusError(resp)
}

// same reports an answer that is not about the object of an earlier one.
func (a *answer) same(old *answer) error {
	if old == nil || a.info.Size == old.info.Size && a.info.Revision == old.info.Revision {
		return nil
	}
	return fmt.Errorf("was %.80s of %d bytes, is %.80s of %d: %w",
		old.info.Revision, old.info.Size, a.info.Revision, a.info.Size, publish.ErrConflict)
}

type body struct {
	io.Reader
	io.Closer
}

func beyond(off, size int64) error {
	return fmt.Errorf("offset %d of %d bytes: %w", off, size, fs.ErrInvalid)
}

// unexpected is err of a body that has not reached its end.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// info reads what a response tells about the object.
func (s *Store) info(key string, resp *http.Response, size int64) publish.Info {
	h := resp.Header
	info := publish.Info{Key: key, Size: size, ContentType: h.Get("Content-Type"), SHA256: digest(h)}
	if t, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
		info.Modified = t.UTC()
	}
	tag := h.Get("ETag")
	switch {
	case strings.HasPrefix(tag, `"`):
		info.Revision = tag
	case tag != "":
		info.Revision = fmt.Sprintf("%s %d", tag, size)
	case !info.Modified.IsZero():
		info.Revision = fmt.Sprintf("%d %d", info.Modified.Unix(), size)
	default:
		info.Revision = fmt.Sprintf("unknown %d", s.unknown.Add(1))
	}
	return info
}

// validator is what If-Range takes: a strong ETag, or else a date.
func validator(h http.Header) string {
	tag := h.Get("ETag")
	if strings.HasPrefix(tag, `"`) {
		return tag
	}
	if _, err := http.ParseTime(h.Get("Last-Modified")); err == nil && tag == "" {
		return h.Get("Last-Modified")
	}
	return ""
}

// digest is the SHA-256 that a server tells of the whole object, or "".
func digest(h http.Header) string {
	if value := h.Get("X-Amz-Meta-Sha256"); len(value) == 64 {
		if _, err := hex.DecodeString(value); err == nil {
			return strings.ToLower(value)
		}
	}
	for field := range strings.SplitSeq(strings.Join(h.Values("Repr-Digest"), ","), ",") {
		value, ok := strings.CutPrefix(strings.TrimSpace(field), "sha-256=:")
		if !ok {
			continue
		}
		if sum, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(value, ":")); err == nil && len(sum) == 32 {
			return hex.EncodeToString(sum)
		}
	}
	return ""
}

// parseContentRange reads "bytes FIRST-LAST/SIZE" (RFC 9110, 14.4).
func parseContentRange(text string) (first, last, size int64, err error) {
	fault := func(why string) (int64, int64, int64, error) {
		return 0, 0, 0, fmt.Errorf("server sent the range %.80q: %s: %w", text, why, publish.ErrDigest)
	}
	value, ok := strings.CutPrefix(text, "bytes ")
	if !ok {
		return fault("not in bytes")
	}
	positions, total, ok := strings.Cut(value, "/")
	from, to, ok2 := strings.Cut(positions, "-")
	if !ok || !ok2 {
		return fault("not FIRST-LAST/SIZE")
	}
	if total == "*" {
		return fault("no size")
	}
	var numbers [3]int64
	for i, part := range []string{from, to, total} {
		n, err := strconv.ParseUint(part, 10, 63)
		if err != nil {
			return fault("not a number")
		}
		numbers[i] = int64(n)
	}
	first, last, size = numbers[0], numbers[1], numbers[2]
	if first > last || last >= size {
		return fault("impossible")
	}
	return first, last, size, nil
}
