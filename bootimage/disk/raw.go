package disk

import (
	"errors"
	"io"
	"os"

	"github.com/okd-project/okd-streams/internal/unix"
)

// rawContent is bytes that are the disk's own.
type rawContent struct {
	r    io.ReaderAt
	size int64
}

func parseRaw(s *source) (*opened, error) {
	return &opened{info: Info{VirtualSize: s.size}, content: &rawContent{s.r, s.size}}, nil
}

func (c *rawContent) readAt(p []byte, off int64) error { return readFull(c.r, p, off) }

// next asks the file system for holes where r is a file.
func (c *rawContent) next(off int64) (int64, int64, error) {
	file, ok := c.r.(*os.File)
	if !ok || off >= c.size {
		return min(off, c.size), c.size, nil
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return off, c.size, nil
	}
	start, end := off, c.size
	err = conn.Control(func(fd uintptr) { start, end, err = dataRange(int(fd), off, c.size) })
	return start, end, err
}

// dataRange gives the next range of a file that is no hole. A file system that knows
// no holes has one range.
func dataRange(fd int, off, size int64) (start, end int64, err error) {
	start, err = unix.Seek(fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size, nil
	}
	if err != nil {
		return off, size, nil
	}
	end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	if err != nil || end <= start {
		end = size
	}
	return min(start, size), min(end, size), nil
}
