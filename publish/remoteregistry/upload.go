package remoteregistry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
)

// upload moves one blob.
type upload struct {
	*pending
	blob     ociimage.Blob
	progress func(n int64) // hears of bytes that moved, each once however often it is sent
	resumed  bool          // the upload was continued after it broke off
	damaged  int           // how often the server found other bytes than were sent
	reported int64         // bytes that progress heard of

	source   io.ReadCloser
	verified *verify.Reader
}

// upload brings a blob to the repository. begun is an upload that the server
// began already, or nil.
func (c *client) upload(ctx context.Context, b ociimage.Blob, begun *pending, progress func(n int64)) error {
	if begun == nil {
		begun = &pending{client: c}
	}
	u := &upload{pending: begun, blob: b, progress: progress}
	return u.run(ctx)
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
		if e, ok := errors.AsType[*statusError](err); ok && e.method == http.MethodPut && errors.Is(e, verify.ErrDigest) && u.damaged < maxDamaged {
			// What was sent is right, so it was damaged on its way, or the
			// server joined the parts wrongly.
			u.damaged++
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

// recover finds out where the upload stands: done, at an offset, or gone.
func (u *upload) recover(ctx context.Context) (done bool, err error) {
	if there, err := u.hasBlob(ctx, u.blob.Desc); there || err != nil {
		return there, err
	}
	if u.location == nil {
		return false, nil
	}
	known, err := u.ask(ctx)
	if err != nil {
		return false, err
	}
	if !known || u.offset > u.blob.Desc.Size {
		u.restart(ctx)
		return false, nil
	}
	u.resumed = u.offset > 0
	return false, nil
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
	return u.finish(ctx, u.blob.Desc.Digest, nil)
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
	return u.finish(ctx, u.blob.Desc.Digest, data)
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
		checked, err := verify.NewReader(rc, u.blob.Desc.Digest, u.blob.Desc.Size)
		if err != nil {
			return &sourceError{err}
		}
		u.verified = checked
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
	if chunk := u.registry.opts.ChunkSize; chunk > 0 {
		length = min(length, max(chunk, u.minChunk))
	}
	content := &content{upload: u, left: length}
	err := u.chunk(ctx, &body{reader: content, size: length}, u.offset+length < u.blob.Desc.Size)
	// The transport may still be reading when a server answers early.
	left, again, fault := content.end()
	switch {
	case fault != nil:
		return &sourceError{fault}
	case err != nil && again:
		return fmt.Errorf("%w: %w", errPartly, err)
	case err == nil && left > 0:
		return fmt.Errorf("server accepted a request of which %d bytes were not sent", left)
	}
	return err
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
		u.progress(at - u.reported)
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
