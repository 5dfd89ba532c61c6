package remoteregistry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
)

// Limits of [Registry.WriteStream].
const (
	// StreamChunkSize is how much of a stream, in bytes, is held in memory and
	// sent at a time, where [Options.ChunkSize] does not say otherwise.
	StreamChunkSize = 16 << 20

	maxStreamChunk = 64 << 20
)

// WriteStream stores what src gives, to its end, as a blob, and returns its
// sha256 digest and size; the media type is the caller's to know. The stream is
// hashed while it moves and named at the end. A chunk that breaks off is sent
// again from memory. A server that loses what came before it, as Docker's
// registry does when a request breaks off, is an error after the first chunk:
// a stream cannot be read twice. It counts as one of [Options.Concurrency] from
// its beginning to its end.
func (r *Registry) WriteStream(ctx context.Context, repo name.Repository, src io.Reader) (v1.Descriptor, error) {
	desc, err := r.writeStream(ctx, repo, src)
	if err != nil {
		return v1.Descriptor{}, fail("write stream", repo, err)
	}
	return desc, nil
}

func (r *Registry) writeStream(ctx context.Context, repo name.Repository, src io.Reader) (v1.Descriptor, error) {
	c, err := r.writer(ctx, repo)
	if err != nil {
		return v1.Descriptor{}, err
	}
	release, err := r.slot(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer release()
	size := int64(StreamChunkSize)
	if r.opts.ChunkSize > 0 {
		size = min(r.opts.ChunkSize, maxStreamChunk)
	}
	s := &stream{pending: &pending{client: c}, src: src, hash: sha256.New(), size: size, chunk: make([]byte, 0, min(size, MonolithicSize+1))}
	desc, err := s.run(ctx)
	if err != nil {
		s.cancel(ctx)
	}
	return desc, err
}

// stream uploads what can be read once.
type stream struct {
	*pending
	src   io.Reader
	hash  hash.Hash
	size  int64  // of a chunk
	chunk []byte // what was read and not sent
	sent  int64
	ended bool
}

func (s *stream) run(ctx context.Context) (v1.Descriptor, error) {
	if err := s.fill(ctx); err != nil {
		return v1.Descriptor{}, err
	}
	if s.ended && len(s.chunk) <= MonolithicSize {
		// It is no longer a stream.
		return s.whole(ctx)
	}
	if err := s.enlarge(ctx, s.size); err != nil {
		return v1.Descriptor{}, err
	}
	for len(s.chunk) > 0 {
		if err := s.send(ctx); err != nil {
			return v1.Descriptor{}, err
		}
		s.sent += int64(len(s.chunk))
		s.chunk = s.chunk[:0]
		if err := s.fill(ctx); err != nil {
			return v1.Descriptor{}, err
		}
	}
	desc := s.describe()
	return desc, s.finishStream(ctx, desc)
}

// fill reads the next chunk.
func (s *stream) fill(ctx context.Context) error {
	if s.ended {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	at, idle := len(s.chunk), 0
	for len(s.chunk) < cap(s.chunk) && !s.ended {
		n, err := s.src.Read(s.chunk[len(s.chunk):cap(s.chunk)])
		s.chunk = s.chunk[:len(s.chunk)+n]
		if idle++; n > 0 {
			idle = 0
		}
		if err == nil && idle > 100 {
			err = io.ErrNoProgress
		}
		if err == io.EOF {
			s.ended = true
		} else if err != nil {
			return fmt.Errorf("read stream after %d bytes: %w", s.sent+int64(len(s.chunk)), err)
		}
	}
	s.hash.Write(s.chunk[at:])
	return nil
}

func (s *stream) describe() v1.Descriptor {
	return v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(s.hash.Sum(nil))}, Size: s.sent + int64(len(s.chunk))}
}

// whole stores a stream that turned out to be short.
func (s *stream) whole(ctx context.Context) (v1.Descriptor, error) {
	desc := s.describe()
	b := ociimage.Blob{Desc: desc, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(s.chunk)), nil }}
	_, err := s.registry.flights.do(ctx, blobKey(s.repo, desc.Digest), func() error {
		if there, err := s.hasBlob(ctx, desc); there || err != nil {
			return err
		}
		return s.client.upload(ctx, b, nil, func(int64) {})
	})
	return desc, err
}

// send brings the chunk to the server.
func (s *stream) send(ctx context.Context) error {
	best := s.sent
	for attempt := 1; ; attempt++ {
		err := s.sendOnce(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !s.worthwhile(err) {
			return err
		}
		if attempt >= s.registry.opts.Attempts {
			return fmt.Errorf("after %d attempts without progress: %w", attempt, err)
		}
		if err := s.registry.wait(ctx, attempt, err); err != nil {
			return err
		}
		if err := s.recover(ctx, err); err != nil {
			return err
		}
		if s.offset > best {
			best, attempt = s.offset, 0
		}
	}
}

// sendOnce sends what the server lacks of the chunk.
func (s *stream) sendOnce(ctx context.Context) error {
	if s.location == nil {
		if _, err := s.start(ctx, ""); err != nil {
			return err
		}
		if s.minChunk > maxStreamChunk {
			return &sourceError{fmt.Errorf("server wants chunks of %d bytes, limit %d: %w", s.minChunk, maxStreamChunk, errors.ErrUnsupported)}
		}
		if err := s.enlarge(ctx, s.minChunk); err != nil {
			return &sourceError{err}
		}
	}
	if rest := s.chunk[s.offset-s.sent:]; len(rest) > 0 {
		return s.pending.chunk(ctx, bytesBody(rest), true)
	}
	return nil
}

// enlarge makes the chunk size bytes long if the stream has as many.
func (s *stream) enlarge(ctx context.Context, size int64) error {
	if size <= int64(cap(s.chunk)) || s.ended {
		return nil
	}
	larger := make([]byte, len(s.chunk), size)
	copy(larger, s.chunk)
	s.chunk = larger
	return s.fill(ctx)
}

// askAfter is ask after a request that failed. Where a server was too busy for that and
// does not tell how far the upload is, it is taken to be where it was.
func (s *stream) askAfter(ctx context.Context, failed error) (known bool, err error) {
	at := s.location
	known, err = s.ask(ctx)
	if err == nil && !known && isBusy(failed) {
		s.location, known = at, true
	}
	return known, err
}

// recover finds out where the upload stands after err.
func (s *stream) recover(ctx context.Context, err error) error {
	known := false
	if s.location != nil {
		var askErr error
		if known, askErr = s.askAfter(ctx, err); askErr != nil {
			return askErr
		}
	}
	if known && s.offset >= s.sent && s.offset <= s.sent+int64(len(s.chunk)) {
		return nil
	}
	if s.sent > 0 {
		return fmt.Errorf("server lost the upload after %d bytes, and a stream cannot be sent again: %w", s.sent, err)
	}
	s.cancel(ctx)
	s.offset = 0
	return nil
}

// finishStream gives the upload its digest.
func (s *stream) finishStream(ctx context.Context, desc v1.Descriptor) error {
	for attempt := 1; ; attempt++ {
		err := s.finish(ctx, desc.Digest, nil)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !s.worthwhile(err) || attempt >= s.registry.opts.Attempts {
			return err
		}
		if err := s.registry.wait(ctx, attempt, err); err != nil {
			return err
		}
		// The answer may have been lost alone.
		there, statErr := s.hasBlob(ctx, desc)
		if there || statErr != nil {
			return statErr
		}
		if known, askErr := s.askAfter(ctx, err); askErr != nil || !known || s.offset != desc.Size {
			return errors.Join(err, askErr)
		}
	}
}
