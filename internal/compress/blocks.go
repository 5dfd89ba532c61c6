package compress

import (
	"io"

	"github.com/klauspost/compress/flate"

	"github.com/okd-project/okd-streams/internal/deflate"
	"github.com/okd-project/okd-streams/internal/xz"
	"github.com/okd-project/okd-streams/internal/zstd"
)

// blockEncoder compresses blocks; each worker has its own.
type blockEncoder interface {
	// encode appends the compressed form of in to out; last ends the stream.
	encode(out, in []byte, last bool) ([]byte, error)
}

func (e Encoding) newBlockEncoder() (blockEncoder, error) {
	switch e.Codec {
	case Gzip:
		if e.Own {
			enc, err := deflate.NewEncoder(e.Level, deflate.MaxWindow)
			return ownDeflate{enc}, err
		}
		w, err := flate.NewWriter(io.Discard, e.Level)
		return &flateBlocks{w}, err
	case Zstd:
		enc, err := zstd.NewEncoder(e.Level)
		return &zstdBlocks{enc, e.Seekable}, err
	case XZ:
		enc, err := xz.NewEncoder(e.Level)
		return &xzBlocks{enc}, err
	default:
		return plainBlocks{}, nil
	}
}

// flateBlocks makes each block end on a byte boundary ("sync flush") and refer
// to nothing before it, so that their concatenation is one deflate stream.
type flateBlocks struct{ w *flate.Writer }

func (f *flateBlocks) encode(out, in []byte, last bool) ([]byte, error) {
	to := appender{out}
	f.w.Reset(&to)
	if _, err := f.w.Write(in); err != nil {
		return out, err
	}
	end := f.w.Flush
	if last {
		end = f.w.Close
	}
	err := end()
	return to.b, err
}

// ownDeflate does the same by our own encoder.
type ownDeflate struct{ e *deflate.Encoder }

func (d ownDeflate) encode(out, in []byte, last bool) ([]byte, error) {
	return d.e.Append(room(out, len(in)), in, last)
}

// zstdBlocks makes each block a frame; a stream may have any number of them.
// Without content there is none, but where the file must be told by its first
// bytes.
type zstdBlocks struct {
	e     *zstd.Encoder
	empty bool
}

func (z *zstdBlocks) encode(out, in []byte, last bool) ([]byte, error) {
	if len(in) == 0 && !z.empty {
		return out, nil
	}
	out = room(out, len(in))
	return z.e.Append(out, in)
}

// xzBlocks makes each block one of xz; a file without content has none.
type xzBlocks struct{ e *xz.Encoder }

func (x *xzBlocks) encode(out, in []byte, last bool) ([]byte, error) {
	if len(in) == 0 {
		return out, nil
	}
	return x.e.AppendBlock(room(out, len(in)), in)
}

// room makes out at once with room for n bytes that do not compress: growing it would
// leave garbage as large again.
func room(out []byte, n int) []byte {
	if out == nil {
		out = make([]byte, 0, n+n/64+1024)
	}
	return out
}

type plainBlocks struct{}

func (plainBlocks) encode(out, in []byte, last bool) ([]byte, error) { return append(out, in...), nil }

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}
