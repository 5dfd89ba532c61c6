package disk

import (
	"context"
	"fmt"
	"io"
)

// source is the bytes of an image as parsers read them: cancelled with a
// context, and never past the end.
type source struct {
	ctx  context.Context
	r    io.ReaderAt
	size int64 // bytes
}

// bytes reads n bytes at off, which callers have limited. Past the end is corrupt.
func (s *source) bytes(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > s.size || n > s.size-off {
		return nil, fmt.Errorf("%d bytes at %d, past the end at %d: %w", n, off, s.size, ErrCorrupt)
	}
	p := make([]byte, n)
	return p, s.read(p, off)
}

func (s *source) read(p []byte, off int64) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	return readFull(s.r, p, off)
}

// readFull fills p. The end of what is read is an error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
}
