package bootimage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/okd-project/okd-streams/internal/compress"
)

// Compressor is a format that artifacts are compressed to, by the name that
// coreos-assembler has for it.
type Compressor string

// Compressors.
const (
	CompressGzip Compressor = "gzip" // one member, as every tool reads it
	CompressZstd Compressor = "zstd" // frames with a table of them at the end ("seekable")
	CompressXZ   Compressor = "xz"   // blocks with their sizes, so that readers use all processors, too
)

// Defaults and limits of [CompressOptions].
const (
	// DefaultCompressMemory is how many bytes of memory compressing may need,
	// whatever the size of artifacts and the number of processors: two workers of xz at
	// level 6, and with what a program has beside them less than 200 MiB.
	DefaultCompressMemory = 195 << 20

	maxCompressWorkers = 64
)

// CompressOptions are options of [Compress] and [CompressBuild].
type CompressOptions struct {
	// Compressor is the format; "": [CompressGzip].
	Compressor Compressor
	// Level is how much time is given for size: of gzip 1 to 9, 0: 3, which is within
	// 3 per cent of gzip -6 in less than a third of its time; of zstd 1 to 22, 0: 10,
	// with four strengths that begin at 1, 3, 6 and 10; of xz 1 to 9, 0: 6. The bytes
	// of a level change with versions of this module only.
	Level int
	// Workers is how many blocks are compressed at once, if Memory suffices for them;
	// 0: as many as there are processors, at most 64. It changes no byte.
	Workers int
	// Memory is how many bytes all workers may need together; 0:
	// [DefaultCompressMemory], 195 MiB. One worker needs some 6 MiB for gzip, 50 MiB
	// for zstd, and for xz 25 MiB at level 1, 100 at 6 and 7, 210 at 8 and 350 at 9. Where
	// Memory is less than that, one works nevertheless. For three workers of xz at level
	// 6, or two above it, it must be raised.
	Memory int64
}

// compressors are the formats with what differs between them.
var compressors = map[Compressor]struct {
	extension string
	level     int // by default
	encoding  compress.Encoding
}{
	CompressGzip: {"gz", 3, compress.Encoding{Codec: compress.Gzip, BlockSize: 1 << 20, Own: true}},
	CompressZstd: {"zst", 10, compress.Encoding{Codec: compress.Zstd, BlockSize: 16 << 20, Seekable: true}},
	CompressXZ:   {"xz", 6, compress.Encoding{Codec: compress.XZ, BlockSize: 12 << 20}},
}

// extension is what file names of the format end with.
func (c Compressor) extension() string { return compressors[c].extension }

// compressor is the format of o.
func (o CompressOptions) compressor() Compressor {
	if o.Compressor == "" {
		return CompressGzip
	}
	return o.Compressor
}

// encoding is what o asks for.
func (o CompressOptions) encoding() (compress.Encoding, error) {
	format, ok := compressors[o.compressor()]
	if !ok {
		return compress.Encoding{}, fmt.Errorf("compressor %.40q: %w", o.Compressor, errors.ErrUnsupported)
	}
	e := format.encoding
	if e.Level = o.Level; e.Level == 0 {
		e.Level = format.level
	}
	if e.Codec == compress.XZ && e.Level > 7 { // as large as the window is
		e.BlockSize = 32 << 20
	}
	return e, e.Check()
}

// fit is how many workers o allows, and for how many streams at a time, at most those
// that are wanted: each has a block of its own.
func (o CompressOptions) fit(e compress.Encoding, streams int) (workers, fitting int) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = DefaultCompressMemory
	}
	for streams > 1 && e.Memory(1, streams) > o.Memory {
		streams--
	}
	return e.Workers(min(o.Workers, maxCompressWorkers), streams, o.Memory), streams
}

// pool starts the workers that o asks for, and says for how many streams at a time.
func (o CompressOptions) pool(streams int) (*compress.Pool, int, error) {
	e, err := o.encoding()
	if err != nil {
		return nil, 0, err
	}
	workers, streams := o.fit(e, streams)
	pool, err := compress.NewPool(e, workers, streams)
	return pool, streams, err
}

// Compress reads src to its end and writes it to dst, compressed on several
// cores, and measures both in the same pass. The bytes depend on the content, the
// format and the level alone. Memory is bounded whatever the size. ctx is looked
// at with every block; of what was written before an error nothing is of use.
func Compress(ctx context.Context, dst io.Writer, src io.Reader, opts *CompressOptions) (Measurement, error) {
	var o CompressOptions
	if opts != nil {
		o = *opts
	}
	pool, _, err := o.pool(1)
	if err != nil {
		return Measurement{}, fmt.Errorf("bootimage: compress: %w", err)
	}
	defer pool.Close()
	m, err := compressStream(ctx, pool, o.compressor().extension(), dst, src)
	if err != nil {
		return Measurement{}, fmt.Errorf("bootimage: compress: %w", err)
	}
	return m, nil
}

func compressStream(ctx context.Context, pool *compress.Pool, extension string, dst io.Writer, src io.Reader) (Measurement, error) {
	w := pool.NewWriter(ctx, dst)
	if _, err := w.ReadFrom(src); err != nil {
		w.Abort()
		return Measurement{}, err
	}
	r, err := w.Finish()
	if err != nil {
		return Measurement{}, err
	}
	return Measurement{
		Size: r.Size, SHA256: hex.EncodeToString(r.SHA256[:]), Compression: extension,
		UncompressedSize: r.ContentSize, UncompressedSHA256: hex.EncodeToString(r.ContentSHA256[:]),
	}, nil
}
