package compress

import (
	"errors"
	"fmt"

	"github.com/okd-project/okd-streams/internal/xz"
	"github.com/okd-project/okd-streams/internal/zstd"
)

// Codec says how content is compressed.
type Codec string

// Codecs, by the names that coreos-assembler and OCI have for them.
const (
	None Codec = "none" // blocks pass as they are
	Gzip Codec = "gzip"
	Zstd Codec = "zstd"
	XZ   Codec = "xz"
)

// Encoding is all that the bytes of a compressed stream depend on, beside the
// content and the encoders' versions.
type Encoding struct {
	Codec Codec
	// Level is what is traded for size: 1 to 9 of gzip, 1 to 22 of zstd, whose
	// encoder has four strengths: up to 2, 5, 9 and 22; 1 to 9 of xz, see
	// internal/zstd and internal/xz.
	Level int
	// BlockSize is how many bytes are compressed at a time; 1 to [MaxBlockSize], of zstd
	// to [zstd.MaxSize].
	BlockSize int
	// Own is for gzip by the encoder of internal/deflate: smaller, at more time.
	Own bool
	// Seekable ends zstd with a table of its frames, by which readers find the
	// one with an offset.
	Seekable bool
}

// MaxBlockSize is the most bytes that a block may have.
const MaxBlockSize = xz.MaxBlockSize

// Check says what is wrong with e, wrapping [errors.ErrUnsupported].
func (e Encoding) Check() error {
	most, ok := map[Codec]int{None: 0, Gzip: 9, Zstd: 22, XZ: 9}[e.Codec]
	switch {
	case !ok:
		return fmt.Errorf("codec %q: %w", e.Codec, errors.ErrUnsupported)
	case e.Level > most, e.Level < min(most, 1):
		return fmt.Errorf("codec %q: level %d is not within %d to %d: %w", e.Codec, e.Level, min(most, 1), most, errors.ErrUnsupported)
	case e.BlockSize < 1 || e.BlockSize > MaxBlockSize:
		return fmt.Errorf("blocks of %d bytes: %w", e.BlockSize, errors.ErrUnsupported)
	case e.Codec == Zstd && e.BlockSize > zstd.MaxSize:
		return fmt.Errorf("frames of %d bytes: %w", e.BlockSize, errors.ErrUnsupported)
	case e.Own && e.Codec != Gzip:
		return fmt.Errorf("codec %q has no encoder of ours: %w", e.Codec, errors.ErrUnsupported)
	case e.Seekable && e.Codec != Zstd:
		return fmt.Errorf("codec %q is not seekable: %w", e.Codec, errors.ErrUnsupported)
	}
	return nil
}

// Memory is about how many bytes n workers need for streams streams at a time:
// the tables of their encoders and all blocks that are under way.
func (e Encoding) Memory(n, streams int) int64 {
	var encoder int64
	switch e.Codec {
	case Gzip:
		encoder = 2 << 20
	case Zstd:
		encoder = zstd.Memory(e.Level)
	case XZ:
		encoder = xz.Memory(e.Level)
	}
	return int64(n)*encoder + 2*int64(e.blocks(n, streams))*int64(e.BlockSize)
}

// Workers is how many workers, at least one and at most n, fit into so many bytes
// of memory.
func (e Encoding) Workers(n, streams int, memory int64) int {
	for n > 1 && e.Memory(n, streams) > memory {
		n--
	}
	return max(n, 1)
}

// largeBlock is from where on a block is so much work that filling one takes no time
// beside it: none waits for a worker to become free.
const largeBlock = 4 << 20

// blocks is how many may be under way: each stream may hold one that is not
// full yet.
func (e Encoding) blocks(workers, streams int) int {
	if e.BlockSize < largeBlock {
		return 2*workers + streams
	}
	return workers + streams - 1
}
