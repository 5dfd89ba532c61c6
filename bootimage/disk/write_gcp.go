package disk

import (
	"context"
	"encoding/hex"

	"github.com/okd-project/okd-streams/internal/compress"
)

// gzipped is how archives are compressed.
var gzipped = compress.Encoding{Codec: compress.Gzip, Level: 6, BlockSize: chunkSize / 4}

// newGzip starts what compresses an archive, within 20 MB of memory.
func newGzip(workers int) (*compress.Pool, error) {
	return compress.NewPool(gzipped, gzipped.Workers(workers, 1, 20e6), 1)
}

// gcpSink writes a gzipped tar archive with the sparse file disk.raw. The header names all
// data, so the data waits in a temporary file for it.
type gcpSink struct {
	f, data *output
	size    int64
	workers int
	at      int64 // bytes of data
	ranges  []sparseRange
}

func (s *gcpSink) codec() codec { return plain }

func (s *gcpSink) write(c *chunk) error {
	return c.runs(func(first, last int) error {
		off := c.off + int64(first)*blockSize
		n := min(int64(last-first)*blockSize, s.size-off)
		if _, err := s.data.WriteAt(c.data[first*blockSize:][:n], s.at); err != nil {
			return err
		}
		s.at += n
		if i := len(s.ranges) - 1; i >= 0 && s.ranges[i].off+s.ranges[i].n == off {
			s.ranges[i].n += n
		} else {
			s.ranges = append(s.ranges, sparseRange{off, n})
		}
		return nil
	})
}

func (s *gcpSink) finish(ctx context.Context, _ [32]byte) (int64, error) {
	defer s.data.abort()
	pool, err := newGzip(s.workers)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	w := pool.NewWriter(ctx, &atWriter{s.f, 0})
	header := sparseHeader("disk.raw", s.size, s.ranges)
	_, err = w.Write(header)
	if err == nil {
		err = s.data.copyTo(w, s.at)
	}
	if err == nil {
		padding := -s.at & (tarBlock - 1)
		_, err = w.Write(append(make([]byte, padding), tarEnd(int64(len(header))+s.at+padding)...))
	}
	if err != nil {
		w.Abort()
		return 0, err
	}
	done, err := w.Finish()
	s.f.known = hex.EncodeToString(done.SHA256[:])
	return done.Size, err
}
