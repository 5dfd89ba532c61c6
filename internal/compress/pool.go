package compress

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"

	"github.com/okd-project/okd-streams/internal/hugepages"
)

// Pool is a set of workers that compress the blocks of any number of streams at
// once. What is in flight is bounded by the number of blocks.
type Pool struct {
	encoding Encoding
	jobs     chan *block // to compress
	free     chan *block // to fill
	wg       sync.WaitGroup
}

// block is a piece of a stream on its way into a file.
type block struct {
	in, out []byte
	last    bool
	err     error
	done    chan struct{} // has room for one
}

// NewPool starts workers; streams is how many streams may be open at a time.
// Call Close when all of them have ended.
func NewPool(e Encoding, workers, streams int) (*Pool, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	total := e.blocks(workers, streams)
	p := &Pool{encoding: e, jobs: make(chan *block, total), free: make(chan *block, total)}
	for range total {
		p.free <- &block{done: make(chan struct{}, 1)}
	}
	for range workers {
		enc, err := e.newBlockEncoder()
		if err != nil {
			p.Close()
			return nil, err
		}
		p.wg.Go(func() {
			for b := range p.jobs {
				b.out, b.err = enc.encode(b.out[:0], b.in, b.last)
				b.done <- struct{}{}
			}
		})
	}
	return p, nil
}

// Close ends the workers.
func (p *Pool) Close() {
	close(p.jobs)
	p.wg.Wait()
}

// Result is what a stream became.
type Result struct {
	ContentSize, Size     int64 // bytes
	ContentSHA256, SHA256 [sha256.Size]byte
}

// Writer compresses what is written to it. It is for one goroutine.
type Writer struct {
	ctx     context.Context
	p       *Pool
	current *block
	queue   chan *block // in stream order
	content hash.Hash
	size    int64

	failed chan struct{} // closed when err is set before the end

	// Owned by collect until its end.
	to         io.Writer
	framing    framing
	packed     hash.Hash
	packedSize int64
	err        error
	ended      chan struct{}
}

// NewWriter starts a stream that is written to to, by another goroutine, until
// Finish or Abort, exactly one of which must follow. ctx governs it.
func (p *Pool) NewWriter(ctx context.Context, to io.Writer) *Writer {
	w := &Writer{
		ctx: ctx, p: p, queue: make(chan *block, cap(p.free)), content: sha256.New(),
		failed: make(chan struct{}), to: to, framing: p.encoding.newFraming(), packed: sha256.New(), ended: make(chan struct{}),
	}
	go w.collect()
	return w
}

// collect writes compressed blocks in order.
func (w *Writer) collect() {
	defer close(w.ended)
	w.put(w.framing.head())
	for b := range w.queue {
		<-b.done
		if w.err == nil && b.err != nil {
			w.fail(b.err)
		}
		w.framing.add(b.in, b.out)
		w.put(b.out)
		w.p.free <- b
	}
}

func (w *Writer) fail(err error) {
	w.err = err
	close(w.failed)
}

func (w *Writer) put(data []byte) {
	if w.err != nil || len(data) == 0 {
		return
	}
	w.packed.Write(data)
	w.packedSize += int64(len(data))
	if _, err := w.to.Write(data); err != nil {
		w.fail(err)
	}
}

// take gets a block to fill.
func (w *Writer) take() error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	select {
	case w.current = <-w.p.free:
	case <-w.failed:
		return w.err
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
	if w.current.in == nil {
		w.current.in = hugepages.Make[byte](w.p.encoding.BlockSize)
	}
	w.current.in = w.current.in[:0]
	return nil
}

// Write takes more content. Its errors are those of the file written to and of
// the context, as soon as they are known.
func (w *Writer) Write(data []byte) (int, error) {
	n, size := len(data), w.p.encoding.BlockSize
	for len(data) > 0 {
		if w.current == nil {
			if err := w.take(); err != nil {
				return n - len(data), err
			}
		}
		b := w.current
		k := copy(b.in[len(b.in):size], data)
		b.in = b.in[:len(b.in)+k]
		data = data[k:]
		// A full block goes when more comes: the last one must know that it is.
		if len(b.in) == size && len(data) > 0 {
			w.submit(false)
		}
	}
	return n, nil
}

// ReadFrom takes all content of r. Its errors are those of r, too.
func (w *Writer) ReadFrom(r io.Reader) (n int64, err error) {
	size := w.p.encoding.BlockSize
	for {
		if w.current != nil && len(w.current.in) == size {
			// A full block goes when more comes: the last one must know that it is.
			var more [1]byte
			k, err := io.ReadFull(r, more[:])
			if k == 0 {
				return n, notEOF(err)
			}
			if _, err := w.Write(more[:]); err != nil {
				return n, err
			}
			n++
		}
		if w.current == nil {
			if err := w.take(); err != nil {
				return n, err
			}
		}
		b := w.current
		k, err := r.Read(b.in[len(b.in):size])
		b.in = b.in[:len(b.in)+k]
		n += int64(k)
		if err != nil {
			return n, notEOF(err)
		}
	}
}

// notEOF is err, or nil where it only says that there is no more.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (w *Writer) submit(last bool) {
	b := w.current
	w.current = nil
	b.last = last
	w.p.jobs <- b // has room for all blocks, as has the queue
	w.content.Write(b.in)
	w.size += int64(len(b.in))
	w.queue <- b
}

// Finish ends the stream and says what was written.
func (w *Writer) Finish() (Result, error) {
	if w.current == nil { // nothing was written, or it failed
		if err := w.take(); err != nil {
			w.Abort()
			return Result{}, err
		}
	}
	w.submit(true)
	close(w.queue)
	<-w.ended
	w.put(w.framing.tail())
	if w.err != nil {
		return Result{}, w.err
	}
	return Result{
		ContentSize: w.size, Size: w.packedSize,
		ContentSHA256: [sha256.Size]byte(w.content.Sum(nil)), SHA256: [sha256.Size]byte(w.packed.Sum(nil)),
	}, nil
}

// Abort gives up: what was written so far is of no use.
func (w *Writer) Abort() {
	if w.current != nil {
		w.p.free <- w.current
		w.current = nil
	}
	close(w.queue)
	<-w.ended
}
