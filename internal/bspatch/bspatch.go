package bspatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrPatch is wrapped by every error that says a patch is not what it should be.
var ErrPatch = errors.New("damaged patch")

// Reader gives new content. It holds a few kilobytes, whatever the sizes.
type Reader struct {
	old     io.ReaderAt
	oldSize int64
	at      int64 // in the old content
	patch   io.Reader
	left    int64 // of the new content
	diff    int64 // left of this step's first string
	extra   int64 // and of its second
	seek    int64
	buf     []byte
	err     error
}

// NewReader makes newSize bytes of new content from the oldSize bytes of old
// and of patch, which should be buffered. What the patch has beyond that is not
// read.
func NewReader(old io.ReaderAt, oldSize int64, patch io.Reader, newSize int64) *Reader {
	return &Reader{old: old, oldSize: oldSize, patch: patch, left: newSize}
}

// Read implements [io.Reader].
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.err == nil && r.diff == 0 && r.extra == 0 {
		r.err = r.step()
	}
	if r.err != nil {
		return 0, r.err
	}
	var n int
	if r.diff > 0 {
		n, r.err = r.add(p[:min(int64(len(p)), r.diff)])
		r.diff -= int64(n)
	} else {
		n, r.err = io.ReadFull(r.patch, p[:min(int64(len(p)), r.extra)])
		r.err = early(r.err)
		r.extra -= int64(n)
	}
	r.left -= int64(n)
	if r.diff == 0 && r.extra == 0 {
		r.at += r.seek
	}
	return n, r.err
}

// maxPosition is where positions in the old content end.
const maxPosition = 1 << 62

// step begins the next step; io.EOF: there is none.
func (r *Reader) step() error {
	if r.left <= 0 {
		return io.EOF
	}
	var b [24]byte
	if _, err := io.ReadFull(r.patch, b[:]); err != nil {
		return early(err)
	}
	r.diff, r.extra, r.seek = number(b[:]), number(b[8:]), number(b[16:])
	switch {
	case r.diff < 0 || r.extra < 0 || r.diff > r.left || r.extra > r.left-r.diff:
		return fmt.Errorf("step of %d and %d bytes where %d are left: %w", r.diff, r.extra, r.left, ErrPatch)
	case r.seek > maxPosition || r.seek < -maxPosition || r.at+r.diff+r.seek > maxPosition || r.at+r.diff+r.seek < -maxPosition:
		return fmt.Errorf("step by %d in the old content: %w", r.seek, ErrPatch)
	case r.diff == 0 && r.extra == 0:
		r.at += r.seek
	}
	return nil
}

func number(b []byte) int64 {
	v := binary.LittleEndian.Uint64(b)
	n := int64(v &^ (1 << 63))
	if v>>63 != 0 {
		n = -n
	}
	return n
}

// early makes the end of the patch, where more must come, an early end.
func early(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("ends early: %w", ErrPatch)
	}
	return err
}

// add fills p with sums.
func (r *Reader) add(p []byte) (int, error) {
	const piece = 32 << 10
	if len(p) > piece {
		p = p[:piece]
	}
	if _, err := io.ReadFull(r.patch, p); err != nil {
		return 0, early(err)
	}
	// The part of p that lies within the old content.
	from := min(max(-r.at, 0), int64(len(p)))
	to := max(min(r.oldSize-r.at, int64(len(p))), from)
	if to > from {
		if r.buf == nil {
			r.buf = make([]byte, piece)
		}
		old := r.buf[:to-from]
		if n, err := r.old.ReadAt(old, r.at+from); n < len(old) {
			return 0, fmt.Errorf("old content: %w", noEOF(err))
		}
		for i, b := range old {
			p[from+int64(i)] += b
		}
	}
	r.at += int64(len(p))
	return len(p), nil
}

func noEOF(err error) error {
	if err == io.EOF || err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
