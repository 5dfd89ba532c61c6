package verify

import "io"

// Sizes of what [Ahead] reads at a time and how much it keeps.
const (
	aheadBlock  = 256 << 10
	aheadBlocks = 4
)

// Ahead reads, and what it reads from checks or decodes, ahead of whoever reads from it,
// so that bytes are hashed while others are being sent. It holds a mebibyte.
type Ahead struct {
	full  chan block
	empty chan []byte
	stop  chan struct{}
	done  chan struct{}
	rest  []byte // of the block that is being given out
	last  block
	count int64
}

type block struct {
	buf  []byte
	data []byte // of buf
	err  error  // after data
}

// NewAhead begins to read from r, which belongs to it until Close returned.
func NewAhead(r io.Reader) *Ahead {
	a := &Ahead{full: make(chan block, aheadBlocks), empty: make(chan []byte, aheadBlocks), stop: make(chan struct{}), done: make(chan struct{})}
	for range aheadBlocks {
		a.empty <- nil
	}
	go a.run(r)
	return a
}

func (a *Ahead) run(r io.Reader) {
	defer close(a.done)
	for {
		var buf []byte
		select {
		case buf = <-a.empty:
		case <-a.stop:
			return
		}
		if buf == nil {
			buf = make([]byte, aheadBlock)
		}
		n, err := r.Read(buf)
		a.full <- block{buf, buf[:n], err}
		if err != nil {
			return
		}
	}
}

// Read gives what was read, in order, and then the error that ended it.
func (a *Ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.last.err != nil {
			return 0, a.last.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		if a.last.buf != nil {
			a.empty <- a.last.buf
		}
		a.last = <-a.full
		a.rest = a.last.data
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	a.count += int64(n)
	if len(a.rest) == 0 && a.last.err != nil && a.last.err != io.EOF {
		// Told with the last bytes, as [Reader] does: they must not pass for good.
		return n, a.last.err
	}
	return n, nil
}

// WriteTo writes all that is left to w, in the pieces in which it was read.
func (a *Ahead) WriteTo(w io.Writer) (int64, error) {
	begin := a.count
	for {
		if len(a.rest) > 0 {
			n, err := w.Write(a.rest)
			a.rest = a.rest[n:]
			a.count += int64(n)
			if err != nil {
				return a.count - begin, err
			}
		}
		if err := a.last.err; err != nil {
			if err == io.EOF {
				err = nil
			}
			return a.count - begin, err
		}
		if a.last.buf != nil {
			a.empty <- a.last.buf
		}
		a.last = <-a.full
		a.rest = a.last.data
	}
}

// Count is the number of bytes given out so far.
func (a *Ahead) Count() int64 { return a.count }

// Close ends reading ahead. A read of the source that is under way is waited
// for. Read must not be called any more.
func (a *Ahead) Close() {
	close(a.stop)
	<-a.done
}
