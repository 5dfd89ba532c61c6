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

// Open reads an object. A transfer that breaks off goes on where it stopped,
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
	if r.info.SHA256 != "" {
		r.hash.Write(p[:n])
	}
	if err == io.EOF && r.read < r.info.Size {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case r.read > r.info.Size:
		err = fmt.Errorf("server sends more than the promised %d bytes: %w", r.info.Size, publish.ErrDigest)
	case err == io.EOF:
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
