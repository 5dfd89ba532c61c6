package remoteregistry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// WriteImage uploads what of img is not there yet, its manifest last and by
// digest, and returns the manifest's descriptor. Bytes that do not have the
// digest that the manifest gives them are refused with [publish.ErrDigest].
func (r *Registry) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	m, err := ociimage.FromImage(img)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	return r.write(ctx, repo, []ociimage.Manifest{m}, opts)
}

// WriteIndex uploads idx and everything under it, children first.
func (r *Registry) WriteIndex(ctx context.Context, repo name.Repository, idx v1.ImageIndex, opts *publish.WriteOptions) (v1.Descriptor, error) {
	list, err := ociimage.FromIndex(idx)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	return r.write(ctx, repo, list, opts)
}

func (r *Registry) write(ctx context.Context, repo name.Repository, list []ociimage.Manifest, opts *publish.WriteOptions) (v1.Descriptor, error) {
	if opts == nil {
		opts = &publish.WriteOptions{}
	}
	top := list[len(list)-1].Desc
	target := repo.Digest(top.Digest.String())
	var from []name.Repository
	for _, f := range opts.From {
		if f.RegistryStr() == repo.RegistryStr() && f.RepositoryStr() != repo.RepositoryStr() && checkRepository(f) == nil {
			from = append(from, f)
		}
	}
	c, err := r.client(ctx, repo, transport.PushScope, from)
	if err != nil {
		return v1.Descriptor{}, fail("write", target, err)
	}
	w := &writer{client: c, from: from, reused: opts.Reused, progress: progress{fn: opts.Progress, total: ociimage.Size(list)}, done: map[v1.Hash]bool{}}
	if err := w.write(ctx, list); err != nil {
		return v1.Descriptor{}, fail("write", target, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "wrote", slog.String("image", target.String()), slog.Int64("bytes", w.progress.total))
	return top, nil
}

// writer uploads one image or index.
type writer struct {
	*client
	from     []name.Repository
	reused   func(v1.Descriptor)
	progress progress
	done     map[v1.Hash]bool // blobs and manifests of this write
}

func (w *writer) write(ctx context.Context, list []ociimage.Manifest) error {
	// What is under a manifest that is there is there too: servers refuse
	// manifests with holes.
	there, err := w.hasManifest(ctx, list[len(list)-1].Desc)
	if err != nil {
		return err
	}
	if there {
		for _, m := range list {
			w.skip(m)
		}
		return nil
	}
	for i, m := range list {
		if i < len(list)-1 {
			if there, err = w.hasManifest(ctx, m.Desc); err != nil {
				return err
			}
			if there {
				w.skip(m)
				continue
			}
		}
		if err := w.blobs(ctx, m.Blobs); err != nil {
			return err
		}
		if err := w.putManifest(ctx, m.Desc.Digest.String(), m.Desc, m.Raw); err != nil {
			return fmt.Errorf("manifest %s: %w", m.Desc.Digest, err)
		}
		w.progress.add(m.Desc.Size)
	}
	return nil
}

func (w *writer) hasManifest(ctx context.Context, desc v1.Descriptor) (bool, error) {
	_, err := w.head(ctx, desc.Digest.String())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// skip reports a manifest and its blobs as there already.
func (w *writer) skip(m ociimage.Manifest) {
	for _, b := range m.Blobs {
		if !w.done[b.Desc.Digest] {
			w.done[b.Desc.Digest] = true
			w.reuse(b.Desc)
		}
	}
	w.reuse(m.Desc)
}

func (w *writer) reuse(desc v1.Descriptor) {
	w.progress.add(desc.Size)
	if w.reused != nil {
		w.reused(desc)
	}
}

// blobs brings blobs to the registry, a few at once over all calls.
func (w *writer) blobs(ctx context.Context, blobs []ociimage.Blob) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cap(w.registry.slots))
	for _, b := range blobs {
		if w.done[b.Desc.Digest] {
			continue
		}
		w.done[b.Desc.Digest] = true
		group.Go(func() error {
			select {
			case w.registry.slots <- struct{}{}:
				defer func() { <-w.registry.slots }()
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := w.blob(ctx, b); err != nil {
				return fmt.Errorf("blob %s: %w", b.Desc.Digest, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// blob makes sure that b is in the repository.
func (w *writer) blob(ctx context.Context, b ociimage.Blob) error {
	there, err := w.hasBlob(ctx, b.Desc)
	if err != nil {
		return err
	}
	if there {
		w.reuse(b.Desc)
		return nil
	}
	u := &upload{writer: w, blob: b}
	for _, f := range w.from {
		mounted, err := u.start(ctx, "?mount="+url.QueryEscape(b.Desc.Digest.String())+"&from="+url.QueryEscape(f.RepositoryStr()))
		if mounted {
			w.reuse(b.Desc)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			break // an upload was begun instead
		}
		// Whatever speaks against mounting does not speak against uploading.
	}
	return u.run(ctx)
}

func (w *writer) hasBlob(ctx context.Context, desc v1.Descriptor) (bool, error) {
	resp, err := w.do(ctx, http.MethodHead, w.url("blobs", desc.Digest.String()), nil, nil, http.StatusOK)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	if resp.ContentLength >= 0 && resp.ContentLength != desc.Size {
		return false, fmt.Errorf("server has it with %d bytes, want %d: %w", resp.ContentLength, desc.Size, verify.ErrDigest)
	}
	return true, nil
}

// upload moves one blob.
type upload struct {
	*writer
	blob     ociimage.Blob
	location *url.URL // of the upload; nil: none begun
	minChunk int64    // OCI-Chunk-Min-Length
	offset   int64    // bytes that the server has
	resumed  bool     // the upload was continued after it broke off
	reported int64    // bytes that progress heard of

	source   io.ReadCloser
	verified *verify.Reader
}

// start opens an upload. query may ask for a mount, and then the answer may be
// that nothing is left to do.
func (u *upload) start(ctx context.Context, query string) (mounted bool, err error) {
	resp, err := u.do(once(ctx), http.MethodPost, u.url("blobs", "uploads", query), http.Header{"Content-Length": {"0"}}, nil, http.StatusAccepted, http.StatusCreated)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		if query == "" {
			return false, errors.New("server finished an upload that was not begun")
		}
		return true, nil
	}
	u.offset = 0
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 {
		u.minChunk = n
	}
	return false, u.follow(resp)
}

// follow takes the address of the next request from a response.
func (u *upload) follow(resp *http.Response) error {
	text := resp.Header.Get("Location")
	if text == "" {
		return errors.New("server sent no address for the upload")
	}
	location, err := resolve(resp, text)
	if err != nil {
		return err
	}
	u.location = location
	return nil
}

// run uploads until the server has the blob, or until nothing moved for as many
// attempts as a request has. It is the one place above internal/httpx that
// repeats something: how to go on is known only here.
func (u *upload) run(ctx context.Context) (err error) {
	defer func() {
		u.closeSource()
		if err != nil {
			u.cancel(ctx)
		}
	}()
	var best int64 // the furthest that the server ever was
	for attempt := 1; ; attempt++ {
		err := u.once(ctx)
		if err == nil {
			u.report(u.blob.Desc.Size)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if u.resumed && errors.Is(err, verify.ErrDigest) && u.verified != nil && u.verified.Err() == io.EOF {
			// All that was sent is right, so the server joined it wrongly.
			u.restart(ctx)
		} else if !u.worthwhile(err) {
			return err
		}
		if attempt >= u.registry.opts.Attempts {
			return fmt.Errorf("after %d attempts without progress: %w", attempt, err)
		}
		u.registry.log.LogAttrs(ctx, slog.LevelDebug, "upload broke off", slog.String("blob", u.blob.Desc.Digest.String()),
			slog.Int64("offset", u.offset), slog.Int("attempt", attempt), slog.String("error", httpx.Redact(err).Error()))
		if err := u.registry.wait(ctx, attempt, err); err != nil {
			return err
		}
		done, err := u.recover(ctx)
		if err != nil {
			return err
		}
		if done {
			u.report(u.blob.Desc.Size)
			return nil
		}
		if u.offset > best {
			best, attempt = u.offset, 0
		}
	}
}

// restart forgets the upload, so that the next attempt begins another.
func (u *upload) restart(ctx context.Context) {
	u.cancel(ctx)
	u.offset, u.resumed = 0, false
}

// sourceError is a fault of the image, which no repetition cures.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// waitError carries the Retry-After of a refusal.
type waitError struct {
	error
	after time.Duration
}

func (e *waitError) Unwrap() error { return e.error }

// errPartly says that a server accepted a request but kept another part of it.
var errPartly = errors.New("server did not keep all of a request that it accepted")

// worthwhile says whether going on may help after err.
func (u *upload) worthwhile(err error) bool {
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
		return u.location != nil
	case http.StatusBadRequest:
		return u.location != nil && !errors.Is(err, verify.ErrDigest)
	}
	return httpx.TemporaryStatus(e.status)
}

// wait pauses before the next attempt.
func (r *Registry) wait(ctx context.Context, attempt int, err error) error {
	o := r.opts
	delay := o.BaseDelay
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

// recover finds out where the upload stands: done, at an offset, or gone.
func (u *upload) recover(ctx context.Context) (done bool, err error) {
	if there, err := u.hasBlob(ctx, u.blob.Desc); there || err != nil {
		return there, err
	}
	if u.location == nil {
		return false, nil
	}
	resp, err := u.do(ctx, http.MethodGet, u.location.String(), nil, nil, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		// It cannot be asked, so it cannot be continued.
		u.location, u.offset = nil, 0
		return false, nil
	}
	resp.Body.Close()
	offset, ok := uploaded(resp.Header.Get("Range"))
	if !ok || offset > u.blob.Desc.Size {
		u.restart(ctx)
		return false, nil
	}
	if resp.Header.Get("Location") != "" {
		if err := u.follow(resp); err != nil {
			return false, err
		}
	}
	u.offset, u.resumed = offset, offset > 0
	return false, nil
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
func (u *upload) cancel(ctx context.Context) {
	if u.location == nil {
		return
	}
	location := u.location
	u.location = nil
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	if resp, err := u.do(once(ctx), http.MethodDelete, location.String(), nil, nil, http.StatusNoContent, http.StatusOK, http.StatusAccepted); err == nil {
		resp.Body.Close()
	}
}

// once sends what is missing, as far as it gets.
func (u *upload) once(ctx context.Context) error {
	if u.location == nil {
		if _, err := u.start(ctx, ""); err != nil {
			return err
		}
	}
	size := u.blob.Desc.Size
	if size <= MonolithicSize && u.offset == 0 {
		return u.whole(ctx)
	}
	if err := u.seek(); err != nil {
		return err
	}
	for u.offset < size {
		if err := u.patch(ctx); err != nil {
			return err
		}
	}
	if err := u.end(); err != nil {
		return err
	}
	return u.finish(ctx, nil)
}

// whole sends a small blob in the request that finishes the upload.
func (u *upload) whole(ctx context.Context) error {
	rc, err := u.blob.Open()
	if err != nil {
		return &sourceError{err}
	}
	verified, err := verify.NewReader(rc, u.blob.Desc.Digest, u.blob.Desc.Size)
	var data []byte
	if err == nil {
		// With less room than that ReadFrom would move everything.
		data = make([]byte, 0, u.blob.Desc.Size+bytes.MinRead)
		buf := bytes.NewBuffer(data)
		_, err = buf.ReadFrom(verified)
		data = buf.Bytes()
	}
	if err = errors.Join(err, rc.Close()); err != nil {
		return &sourceError{err}
	}
	return u.finish(ctx, data)
}

// finish gives the upload its digest; data, if any, are its last bytes.
func (u *upload) finish(ctx context.Context, data []byte) error {
	target := *u.location
	if target.RawQuery != "" {
		target.RawQuery += "&"
	}
	target.RawQuery += "digest=" + url.QueryEscape(u.blob.Desc.Digest.String())
	b := &body{size: int64(len(data)), again: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
	b.reader, _ = b.again()
	resp, err := u.do(once(ctx), http.MethodPut, target.String(), http.Header{"Content-Type": {"application/octet-stream"}}, b, http.StatusCreated, http.StatusNoContent, http.StatusOK)
	if err != nil {
		return withRetryAfter(resp, err)
	}
	resp.Body.Close()
	u.location = nil
	if text := resp.Header.Get("Docker-Content-Digest"); text != "" && strings.HasPrefix(text, u.blob.Desc.Digest.Algorithm+":") && text != u.blob.Desc.Digest.String() {
		return &sourceError{fmt.Errorf("server stored %.100q: %w", text, verify.ErrDigest)}
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

// seek brings the source to the server's offset. What lies before is read
// again, for the digest is of everything.
func (u *upload) seek() error {
	if u.verified != nil && u.verified.Count() != u.offset {
		u.closeSource()
	}
	if u.verified == nil {
		rc, err := u.blob.Open()
		if err != nil {
			return &sourceError{err}
		}
		u.source = rc
		if u.verified, err = verify.NewReader(rc, u.blob.Desc.Digest, u.blob.Desc.Size); err != nil {
			return &sourceError{err}
		}
	}
	if _, err := io.CopyN(io.Discard, u.verified, u.offset-u.verified.Count()); err != nil {
		return &sourceError{err}
	}
	return nil
}

func (u *upload) closeSource() {
	if u.source != nil {
		u.source.Close()
	}
	u.source, u.verified = nil, nil
}

// patch sends the next chunk.
func (u *upload) patch(ctx context.Context) error {
	length := u.blob.Desc.Size - u.offset
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	if chunk := u.registry.opts.ChunkSize; chunk > 0 {
		length = min(length, max(chunk, u.minChunk))
	}
	if length < u.blob.Desc.Size {
		header.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, u.offset+length-1))
	}
	content := &content{upload: u, left: length}
	resp, err := u.do(once(ctx), http.MethodPatch, u.location.String(), header, &body{reader: content, size: length}, http.StatusAccepted, http.StatusCreated, http.StatusNoContent)
	// The transport may still be reading when a server answers early.
	left, again, fault := content.end()
	if fault != nil {
		if err == nil {
			resp.Body.Close()
		}
		return &sourceError{fault}
	}
	if err != nil && again {
		return fmt.Errorf("%w: %w", errPartly, err)
	}
	if err != nil {
		return withRetryAfter(resp, err)
	}
	resp.Body.Close()
	if left > 0 {
		return fmt.Errorf("server accepted a request of which %d bytes were not sent", left)
	}
	if err := u.follow(resp); err != nil {
		return err
	}
	u.offset += length
	if text := resp.Header.Get("Range"); text != "" {
		if got, ok := uploaded(text); ok && got != u.offset {
			return errPartly
		}
	}
	return nil
}

// end makes sure that the source ends where the blob does.
func (u *upload) end() error {
	if n, err := u.verified.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return &sourceError{err}
	}
	return nil
}

// report counts progress, each byte once however often it is sent.
func (u *upload) report(at int64) {
	if at > u.reported {
		u.progress.add(at - u.reported)
		u.reported = at
	}
}

// content is the body of a PATCH: the next bytes of the verified source.
type content struct {
	upload *upload

	mu     sync.Mutex
	left   int64
	closed bool
	again  bool  // asked for after Close: the request was sent twice, for a new token
	fault  error // of the source
}

func (c *content) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.again = true
		return 0, net.ErrClosed
	}
	if c.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), c.left)]
	n, err := c.upload.verified.Read(p)
	c.left -= int64(n)
	c.upload.report(c.upload.verified.Count())
	if err != nil && (err != io.EOF || c.left > 0) {
		c.fault = err
		return n, err
	}
	return n, nil
}

// Close ends reading; a Read that is under way is waited for.
func (c *content) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// end closes c and says how far it got.
func (c *content) end() (left int64, again bool, fault error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.left, c.again, c.fault
}

// progress counts bytes and reports them one call at a time.
type progress struct {
	fn    func(done, total int64)
	total int64

	mu   sync.Mutex
	done int64
}

func (p *progress) add(n int64) {
	if p.fn == nil || n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.fn(p.done, p.total)
}
