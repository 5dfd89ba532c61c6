package s3store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
)

// Open reads an object; [io.Copy] is faster with its reader than reading oneself.
// A transfer that breaks off goes on where it stopped,
// with a range of the same revision; if the object was replaced meanwhile the
// reader fails with [publish.ErrConflict].
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	full, err := s.check(ctx, key)
	if err != nil {
		return nil, publish.Info{}, s.fail(ctx, "open", key, err)
	}
	out, err := s.client.GetObject(context.WithValue(ctx, streamKey{}, true), &s3.GetObjectInput{Bucket: &s.config.Bucket, Key: full})
	if err != nil {
		return nil, publish.Info{}, s.fail(ctx, "open", key, s.absent(err))
	}
	info, err := makeInfo(key, out.ContentLength, out.ETag, out.Metadata, out.ContentType, out.LastModified)
	if err != nil {
		out.Body.Close()
		return nil, publish.Info{}, s.fail(ctx, "open", key, err)
	}
	return &reader{s: s, ctx: ctx, full: full, tag: out.ETag, body: out.Body, info: info, hash: sha256.New()}, info, nil
}

// reader checks what comes.
type reader struct {
	s    *Store
	ctx  context.Context // of the Open that this reader serves
	full *string
	tag  *string
	body io.ReadCloser
	info publish.Info
	hash hash.Hash
	read int64
	err  error

	lag *lag // of WriteTo; nil: each byte is hashed at once

	breaks int   // since progress was made
	mark   int64 // read when breaks was 0 last
}

// progress is how many bytes make a broken transfer worth going on with for as
// often as a new one.
const progress = 1 << 20

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	// What the machine has received already would still come.
	if err := r.ctx.Err(); err != nil {
		r.err = r.s.fail(r.ctx, "read", r.info.Key, err)
		return 0, r.err
	}
	n, err := r.body.Read(p)
	r.read += int64(n)
	if r.lag != nil {
		r.lag.full <- p[:n]
	} else if r.info.SHA256 != "" {
		r.hash.Write(p[:n])
	}
	if err == io.EOF && r.read < r.info.Size {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case r.read > r.info.Size:
		err = fmt.Errorf("server sends more than the promised %d bytes: %w", r.info.Size, publish.ErrDigest)
	case err == io.EOF:
		if r.lag != nil {
			r.lag.wait()
		}
		if sum := hex.EncodeToString(r.hash.Sum(nil)); r.info.SHA256 != "" && sum != r.info.SHA256 {
			err = fmt.Errorf("content has sha256 %s, promised was %s: %w", sum, r.info.SHA256, publish.ErrDigest)
			break
		}
		r.err = io.EOF
		return n, io.EOF
	case err == nil:
		return n, nil
	default:
		if err = r.again(err); err == nil {
			return n, nil
		}
		err = fmt.Errorf("after %d of %d bytes: %w", r.read, r.info.Size, err)
	}
	r.err = r.s.fail(r.ctx, "read", r.info.Key, err)
	return 0, r.err
}

// Blocks of [reader.WriteTo], bytes, and how many there are.
const (
	lagBlock  = 256 << 10
	lagBlocks = 8
)

// lag hashes blocks while they are written and others are read.
type lag struct {
	full, empty chan []byte
	done        chan struct{}
	waited      bool
}

func newLag(add func([]byte)) *lag {
	l := &lag{full: make(chan []byte, lagBlocks), empty: make(chan []byte, lagBlocks), done: make(chan struct{})}
	for range lagBlocks {
		l.empty <- nil
	}
	go func() {
		defer close(l.done)
		for block := range l.full {
			add(block)
			l.empty <- block
		}
	}()
	return l
}

// wait waits until everything was hashed; nothing may follow.
func (l *lag) wait() {
	if !l.waited {
		l.waited = true
		close(l.full)
		<-l.done
	}
}

// WriteTo writes what is left to w, and hashes it beside. It says what Read says
// of it, at the latest when all was written.
func (r *reader) WriteTo(w io.Writer) (n int64, err error) {
	if r.err == nil && r.info.SHA256 != "" && r.info.Size-r.read > lagBlock {
		r.lag = newLag(func(block []byte) { r.hash.Write(block) })
		defer func() {
			r.lag.wait()
			r.lag = nil
		}()
	}
	var block []byte
	for {
		if r.lag != nil {
			// One that is hashed was written before, by this loop.
			block = <-r.lag.empty
		}
		if cap(block) == 0 {
			block = make([]byte, lagBlock)
		}
		count, err := r.Read(block[:cap(block)])
		if count > 0 {
			wrote, writeErr := w.Write(block[:count])
			n += int64(wrote)
			if writeErr == nil && wrote < count {
				writeErr = io.ErrShortWrite
			}
			if writeErr != nil {
				return n, writeErr
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// again opens the rest of the object after the body broke off with cause, or
// says why it does not.
func (r *reader) again(cause error) error {
	if r.ctx.Err() != nil || !httpx.Temporary(cause) {
		return cause
	}
	if r.read-r.mark >= progress {
		r.breaks, r.mark = 0, r.read
	}
	if r.breaks++; r.breaks >= r.s.attempts {
		return fmt.Errorf("broken off %d times: %w", r.breaks, cause)
	}
	if r.read == r.info.Size { // only the end itself is missing
		r.body.Close()
		r.body = http.NoBody
		return nil
	}
	timer := time.NewTimer(min(r.s.delay<<(r.breaks-1), httpx.DefaultMaxDelay))
	defer timer.Stop()
	select {
	case <-r.ctx.Done():
		return r.ctx.Err()
	case <-timer.C:
	}
	out, err := r.s.client.GetObject(context.WithValue(r.ctx, streamKey{}, true), &s3.GetObjectInput{
		Bucket: &r.s.config.Bucket, Key: r.full, IfMatch: r.tag, Range: aws.String(fmt.Sprintf("bytes=%d-", r.read)),
	})
	if statusOf(err) == http.StatusPreconditionFailed {
		return fmt.Errorf("object was replaced while it was read: %w", publish.ErrConflict)
	}
	if err != nil {
		return errors.Join(cause, err)
	}
	want := fmt.Sprintf("bytes %d-%d/%d", r.read, r.info.Size-1, r.info.Size)
	switch {
	case revision(out.ETag) != r.info.Revision:
		err = fmt.Errorf("object was replaced while it was read: %w", publish.ErrConflict)
	case aws.ToString(out.ContentRange) == "":
		err = fmt.Errorf("%w; server sends no ranges", cause)
	case aws.ToString(out.ContentRange) != want || out.ContentLength != nil && *out.ContentLength != r.info.Size-r.read:
		err = fmt.Errorf("server answers range %.80q, want %q: %w", aws.ToString(out.ContentRange), want, publish.ErrDigest)
	}
	if err != nil {
		out.Body.Close()
		return err
	}
	r.body.Close()
	r.body = out.Body
	return nil
}

func (r *reader) Close() error {
	if err := r.body.Close(); err != nil {
		return r.s.fail(r.ctx, "read", r.info.Key, err)
	}
	return nil
}
