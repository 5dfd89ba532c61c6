package ostree

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
)

// Large files are compressed in pieces that refer to nothing before them. Workers
// that have nothing else to do any more compress pieces for others: otherwise
// the last large file of a tree would keep one of them busy alone.

const (
	// pieceSize is long enough that what a piece can't refer to does not matter.
	pieceSize = 1 << 20
	// maxPieces is how many of one file wait to be written.
	maxPieces = 4
)

// piece is a part of a file's content.
type piece struct {
	data []byte
	last bool
	out  bytes.Buffer
	err  error
	done chan struct{} // holds one value once out is there
}

var piecePool = sync.Pool{New: func() any { return &piece{data: make([]byte, 0, pieceSize), done: make(chan struct{}, 1)} }}

func newPiece() *piece {
	p := piecePool.Get().(*piece)
	p.data, p.last, p.err = p.data[:0], false, nil
	p.out.Reset()
	return p
}

// spare hands pieces to workers that are through. The zero value has none.
type spare struct {
	working atomic.Int32
	queue   chan *piece
}

// expect says how many workers there are.
func (s *spare) expect(workers int) {
	s.working.Store(int32(workers))
	s.queue = make(chan *piece)
}

// help compresses pieces for others until all are through. Each worker that ends
// without an error calls it.
func (s *spare) help(ctx context.Context, w *contentWriter) error {
	if s.working.Add(-1) == 0 {
		close(s.queue)
	}
	for {
		select {
		case p, ok := <-s.queue:
			if !ok {
				return nil
			}
			w.compress(p)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compress compresses one piece.
func (w *contentWriter) compress(p *piece) {
	zw, err := w.deflater(&p.out)
	if err == nil {
		_, err = zw.Write(p.data)
	}
	if err == nil && p.last {
		err = zw.Close()
	} else if err == nil {
		err = zw.Flush()
	}
	p.err = err
	p.done <- struct{}{}
}

// pieceWriter compresses what is written to it.
type pieceWriter struct {
	w       *contentWriter
	out     *stored
	next    *piece
	waiting []*piece // to be written, in this order
}

func (z *pieceWriter) Write(data []byte) (int, error) {
	n := len(data)
	for len(data) > 0 {
		if z.next == nil {
			z.next = newPiece()
		}
		room := min(pieceSize-len(z.next.data), len(data))
		z.next.data, data = append(z.next.data, data[:room]...), data[room:]
		if len(z.next.data) == pieceSize && len(data) > 0 {
			if err := z.end(false); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// Close writes the rest.
func (z *pieceWriter) Close() error {
	if z.next == nil {
		z.next = newPiece()
	}
	return z.end(true)
}

// end has the piece that is there compressed, and writes those that are.
func (z *pieceWriter) end(last bool) error {
	p := z.next
	z.next, p.last = nil, last
	select {
	case z.w.spare.queue <- p:
	default:
		z.w.compress(p)
	}
	z.waiting = append(z.waiting, p)
	for len(z.waiting) > 0 && (last || len(z.waiting) >= maxPieces || len(z.waiting[0].done) > 0) {
		first := z.waiting[0]
		z.waiting = z.waiting[1:]
		<-first.done
		err := first.err
		if err == nil {
			_, err = z.out.Write(first.out.Bytes())
		}
		if err != nil {
			return err
		}
		piecePool.Put(first)
	}
	return nil
}
