package remoteregistry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/verify"
)

// pending is an upload at the server that has no digest yet.
type pending struct {
	*client
	location *url.URL // nil: none begun
	minChunk int64    // OCI-Chunk-Min-Length
	offset   int64    // bytes that the server has
}

// mountQuery asks for a blob of another repository.
func mountQuery(digest v1.Hash, from name.Repository) string {
	return "?mount=" + url.QueryEscape(digest.String()) + "&from=" + url.QueryEscape(from.RepositoryStr())
}

// start begins an upload. query may ask for a mount, and then the answer may be
// that nothing is left to do.
func (p *pending) start(ctx context.Context, query string) (mounted bool, err error) {
	if query == "" { // see upload.run; nobody repeats a mount
		ctx = httpx.Once(ctx)
	}
	resp, err := p.do(ctx, http.MethodPost, p.url("blobs", "uploads", query), http.Header{"Content-Length": {"0"}}, nil, http.StatusAccepted, http.StatusCreated)
	if err != nil {
		return false, withRetryAfter(resp, err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		if query == "" {
			return false, errors.New("server finished an upload that was not begun")
		}
		return true, nil
	}
	p.offset = 0
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 {
		p.minChunk = n
	}
	return false, p.follow(resp)
}

// follow takes the address of the next request from a response.
func (p *pending) follow(resp *http.Response) error {
	text := resp.Header.Get("Location")
	if text == "" {
		return errors.New("server sent no address for the upload")
	}
	location, err := resolve(resp, text)
	if err != nil {
		return err
	}
	p.location = location
	return nil
}

// ask finds out how far the upload is. One that cannot be asked cannot be
// continued.
func (p *pending) ask(ctx context.Context) (known bool, err error) {
	resp, err := p.do(ctx, http.MethodGet, p.location.String(), nil, nil, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		p.location = nil
		return false, nil
	}
	resp.Body.Close()
	offset, ok := uploaded(resp.Header.Get("Range"))
	if !ok {
		return false, nil
	}
	if resp.Header.Get("Location") != "" {
		if err := p.follow(resp); err != nil {
			return false, err
		}
	}
	p.offset = offset
	return true, nil
}

// chunk sends the next length bytes, which b holds, of an upload that goes on
// after them if more is set.
func (p *pending) chunk(ctx context.Context, b *body, more bool) error {
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	if more || p.offset > 0 {
		header.Set("Content-Range", fmt.Sprintf("%d-%d", p.offset, p.offset+b.size-1))
	}
	resp, err := p.do(httpx.Once(ctx), http.MethodPatch, p.location.String(), header, b, http.StatusAccepted, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return withRetryAfter(resp, err)
	}
	resp.Body.Close()
	if err := p.follow(resp); err != nil {
		return err
	}
	p.offset += b.size
	if text := resp.Header.Get("Range"); text != "" {
		if got, ok := uploaded(text); ok && got != p.offset {
			return errPartly
		}
	}
	return nil
}

// finish gives the upload its digest; data, if any, are its last bytes.
func (p *pending) finish(ctx context.Context, digest v1.Hash, data []byte) error {
	target := *p.location
	if target.RawQuery != "" {
		target.RawQuery += "&"
	}
	target.RawQuery += "digest=" + url.QueryEscape(digest.String())
	resp, err := p.do(httpx.Once(ctx), http.MethodPut, target.String(), http.Header{"Content-Type": {"application/octet-stream"}}, bytesBody(data), http.StatusCreated, http.StatusNoContent, http.StatusOK)
	if err != nil {
		return withRetryAfter(resp, err)
	}
	resp.Body.Close()
	p.location = nil
	if err := stored(resp, digest); err != nil {
		return &sourceError{err}
	}
	return nil
}

// withRetryAfter keeps how long the server wants to be left alone.
func withRetryAfter(resp *http.Response, err error) error {
	if resp == nil {
		return err
	}
	if after, ok := httpx.RetryAfter(resp.Header); ok {
		return &waitError{err, after}
	}
	return err
}

// uploaded reads the Range of an upload's state, "0-" and the last byte's
// position. "0-0" is said by some for nothing and by others for one byte.
func uploaded(text string) (int64, bool) {
	text = strings.TrimPrefix(text, "bytes=")
	if text == "" || text == "0--1" {
		return 0, true
	}
	first, last, ok := strings.Cut(text, "-")
	if !ok || first != "0" {
		return 0, false
	}
	n, err := strconv.ParseInt(last, 10, 63)
	if err != nil || n < 1 {
		return 0, false
	}
	return n + 1, true
}

// cancel ends an upload that will not be finished, so that the server need not
// keep it. It is tried once; the upload would expire anyway.
func (p *pending) cancel(ctx context.Context) {
	if p.location == nil {
		return
	}
	location := p.location
	p.location = nil
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	if resp, err := p.do(httpx.Once(ctx), http.MethodDelete, location.String(), nil, nil, http.StatusNoContent, http.StatusOK, http.StatusAccepted); err == nil {
		resp.Body.Close()
	}
}

// waitError carries the Retry-After of a refusal.
type waitError struct {
	error
	after time.Duration
}

func (e *waitError) Unwrap() error { return e.error }

// errPartly says that a server accepted a request but kept another part of it.
var errPartly = errors.New("server did not keep all of a request that it accepted")

// worthwhile says whether going on may help after err.
func (p *pending) worthwhile(err error) bool {
	if _, ok := errors.AsType[*sourceError](err); ok {
		return false
	}
	e, ok := errors.AsType[*statusError](err)
	if !ok {
		return httpx.Temporary(err) || errors.Is(err, errPartly)
	}
	switch e.status {
	case http.StatusRequestedRangeNotSatisfiable, http.StatusNotFound, http.StatusUnauthorized:
		// The upload stands elsewhere, is forgotten, or the token ran out
		// while a body was on its way.
		return p.location != nil
	case http.StatusBadRequest:
		return p.location != nil && !errors.Is(err, verify.ErrDigest)
	}
	return httpx.TemporaryStatus(e.status)
}

// isBusy says that the server was too busy to look at the request.
func isBusy(err error) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && httpx.BusyStatus(e.status)
}

// wait pauses before the next attempt.
func (r *Registry) wait(ctx context.Context, attempt int, err error) error {
	o := r.opts
	delay := o.Delay
	for i := 1; i < attempt && delay < httpx.DefaultMaxDelay; i++ {
		delay *= 2
	}
	delay = min(delay, httpx.DefaultMaxDelay)
	if o.Jitter != nil {
		delay = delay/2 + time.Duration(o.Jitter()*float64(delay/2))
	}
	if w, ok := errors.AsType[*waitError](err); ok {
		if w.after > httpx.DefaultMaxRetryAfter {
			return err
		}
		delay = max(delay, w.after)
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
