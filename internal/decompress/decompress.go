package decompress

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/okd-project/okd-streams/internal/inflate"
)

// Largest window of earlier data that a stream may need. They are what the
// highest ordinary settings of the tools use: zstd -22, xz -9.
const (
	MaxZstdWindow = 128 << 20
	MaxXZWindow   = 64 << 20
)

// NewReader gives the content of r: of one or several gzip members, zstd
// frames or xz streams in a row, or r's own bytes if it is none of these, an
// empty stream too. Damage and early ends are errors of the reader, as are
// windows above the Max… constants (wrapping [errors.ErrUnsupported] for xz)
// and xz filters other than LZMA2. Close does not close r.
func NewReader(r io.Reader) (io.ReadCloser, error) { return NewParallelReader(r, 0, 0) }

// NewParallelReader is [NewReader] that decodes so many blocks of xz at once as there are
// workers, if their headers say how large they are, as those of `xz -T` and of this module
// do, and if they fit into so many bytes of memory, see [MaxXZAhead]. No byte of a block is
// given before the block's check was verified. Close waits for the workers; r is read by who
// reads.
func NewParallelReader(r io.Reader, workers int, memory int64) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b, 8}):
		return io.NopCloser(inflate.NewGzipReader(br)), nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18}):
		d, err := zstd.NewReader(br, zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(MaxZstdWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(magic, xzMagic):
		return &xzReader{r: br, ahead: xzAhead{workers: workers, memory: memory}}, nil
	}
	return io.NopCloser(br), nil
}
