package container

import (
	"context"
	"crypto/sha256"
	"hash"
	"hash/crc32"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// compressor is a set of workers that compress the blocks of any number of
// layers at once. Blocks have a fixed size, so how many workers there are
// never changes a byte. What is in flight is bounded by the number of jobs.
type compressor struct {
	encoding encoding
	jobs     chan *block // to compress
	free     chan *block // to fill
	wg       sync.WaitGroup
}

// block is a piece of a tar stream on its way into a blob.
type block struct {
	in, out []byte
	last    bool
	err     error
	done    chan struct{} // has room for one
}

// newCompressor starts workers; layers is how many streams may be open at a
// time. Call stop when all of them are closed.
func newCompressor(e encoding, workers, layers int) (*compressor, error) {
	total := 2*workers + layers
	c := &compressor{encoding: e, jobs: make(chan *block, total), free: make(chan *block, total)}
	for range total {
		c.free <- &block{done: make(chan struct{}, 1)}
	}
	for range workers {
		enc, err := e.newBlockEncoder()
		if err != nil {
			c.stop()
			return nil, err
		}
		c.wg.Go(func() {
			for b := range c.jobs {
				b.out, b.err = enc.encode(b.out[:0], b.in, b.last)
				b.done <- struct{}{}
			}
		})
	}
	return c, nil
}

func (c *compressor) stop() {
	close(c.jobs)
	c.wg.Wait()
}

// blob is what a stream became.
type blob struct {
	diffID, digest v1.Hash
	tarSize, size  int64
}

// stream compresses what is written to it into to, and takes both digests on
// the way.
type stream struct {
	ctx     context.Context
	c       *compressor
	current *block
	queue   chan *block // in stream order
	tar     hash.Hash
	crc     uint32
	tarSize int64

	// Owned by collect until its end.
	to     io.Writer
	digest hash.Hash
	size   int64
	err    error
	ended  chan struct{}
}

// newStream starts a stream. Exactly one of finish and abort must follow.
func (c *compressor) newStream(ctx context.Context, to io.Writer) *stream {
	s := &stream{
		ctx: ctx, c: c, queue: make(chan *block, cap(c.free)), tar: sha256.New(),
		to: to, digest: sha256.New(), ended: make(chan struct{}),
	}
	go s.collect()
	return s
}

// collect writes compressed blocks in order.
func (s *stream) collect() {
	defer close(s.ended)
	s.put(s.c.encoding.head())
	for b := range s.queue {
		<-b.done
		if s.err == nil {
			s.err = b.err
		}
		s.put(b.out)
		s.c.free <- b
	}
}

func (s *stream) put(p []byte) {
	if s.err != nil || len(p) == 0 {
		return
	}
	s.digest.Write(p)
	s.size += int64(len(p))
	_, s.err = s.to.Write(p)
}

// Write takes more of the tar stream.
func (s *stream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if s.current == nil {
			select {
			case s.current = <-s.c.free:
			case <-s.ctx.Done():
				return n - len(p), context.Cause(s.ctx)
			}
			if s.current.in == nil {
				s.current.in = make([]byte, 0, blockSize)
			}
			s.current.in = s.current.in[:0]
		}
		b := s.current
		k := copy(b.in[len(b.in):blockSize], p)
		b.in = b.in[:len(b.in)+k]
		p = p[k:]
		// A full block goes when more comes: the last one must know that it is.
		if len(b.in) == blockSize && len(p) > 0 {
			s.submit(false)
		}
	}
	return n, nil
}

func (s *stream) submit(last bool) {
	b := s.current
	s.current = nil
	s.tar.Write(b.in)
	s.crc = crc32.Update(s.crc, crc32.IEEETable, b.in)
	s.tarSize += int64(len(b.in))
	b.last = last
	s.queue <- b
	s.c.jobs <- b
}

// finish ends the stream and gives its digests.
func (s *stream) finish() (blob, error) {
	if s.current == nil { // nothing was written
		select {
		case s.current = <-s.c.free:
			s.current.in = s.current.in[:0]
		case <-s.ctx.Done():
			s.abort()
			return blob{}, context.Cause(s.ctx)
		}
	}
	s.submit(true)
	close(s.queue)
	<-s.ended
	s.put(s.c.encoding.tail(s.crc, s.tarSize))
	return blob{
		diffID: sum256(s.tar), digest: sum256(s.digest), tarSize: s.tarSize, size: s.size,
	}, s.err
}

// abort gives up: what was written so far is of no use.
func (s *stream) abort() {
	if s.current != nil {
		s.c.free <- s.current
		s.current = nil
	}
	close(s.queue)
	<-s.ended
}

func sum256(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hexString(h.Sum(nil))}
}
