package container

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// Codec says how layers are compressed.
type Codec string

// Codecs.
const (
	Gzip Codec = "gzip" // the default: every tool reads it
	Zstd Codec = "zstd" // smaller and faster to read; needs tools of 2021 or later
	None Codec = "none" // plain tar, for registries that compress on their own
)

// Levels of [EncapsulateOptions].
const (
	defaultGzipLevel = 6
	defaultZstdLevel = 3
)

// blockSize is how much of a layer's tar stream is compressed at a time,
// independently of what comes before, in bytes. It is part of what a
// compressed digest is a function of, like the encoders: see encoding.
const blockSize = 1 << 20

// encoding is a codec with its level: all that turns a tar stream into a blob.
type encoding struct {
	codec Codec
	level int
}

func newEncoding(codec Codec, level int) (encoding, error) {
	e := encoding{codec, level}
	most := 0
	switch codec {
	case "", Gzip:
		e.codec, most = Gzip, 9
		if level == 0 {
			e.level = defaultGzipLevel
		}
	case Zstd:
		most = 22
		if level == 0 {
			e.level = defaultZstdLevel
		}
	case None:
	default:
		return e, fmt.Errorf("codec %q: %w", codec, errors.ErrUnsupported)
	}
	if level < 0 || level > most {
		return e, fmt.Errorf("codec %q: level %d is not within 0 to %d: %w", e.codec, level, most, errors.ErrUnsupported)
	}
	return e, nil
}

// String names the encoding for cache keys. The numbers after the encoder's
// name go up whenever its output changes, which TestEncodingIsPinned notices.
func (e encoding) String() string {
	switch e.codec {
	case Gzip:
		return fmt.Sprintf("gzip/%d/flate.1/%d", e.level, blockSize)
	case Zstd:
		return fmt.Sprintf("zstd/%d/zstd.1/%d", e.level, blockSize)
	default:
		return string(e.codec)
	}
}

// workers bounds how many blocks are compressed at a time, so that the encoders'
// tables, up to 80 MiB each, don't take the process over 300 MiB.
func (e encoding) workers(n int) int {
	most := maxWorkers
	if e.codec == Zstd {
		switch {
		case e.level >= 10:
			most = 2
		case e.level >= 6:
			most = 4
		default:
			most = 8
		}
	}
	return min(workers(n), most)
}

func (e encoding) mediaType() types.MediaType {
	switch e.codec {
	case Gzip:
		return types.OCILayer
	case Zstd:
		return types.OCILayerZStd
	default:
		return types.OCIUncompressedLayer
	}
}

// head is what a blob begins with. The gzip header is that of the reference:
// no name, no time, XFL 0, OS unknown.
func (e encoding) head() []byte {
	if e.codec == Gzip {
		return []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}
	}
	return nil
}

// tail is what a blob ends with; crc and size are of the whole tar stream.
func (e encoding) tail(crc uint32, size int64) []byte {
	if e.codec == Gzip {
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, crc), uint32(size))
	}
	return nil
}

// blockEncoder compresses blocks; each worker has its own.
type blockEncoder interface {
	// encode appends the compressed form of in to out; last ends the stream.
	encode(out, in []byte, last bool) ([]byte, error)
}

func (e encoding) newBlockEncoder() (blockEncoder, error) {
	switch e.codec {
	case Gzip:
		w, err := flate.NewWriter(io.Discard, e.level)
		return &flateBlocks{w}, err
	case Zstd:
		w, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(e.level)),
			zstd.WithWindowSize(blockSize), // a frame has no more
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true))
		return zstdBlocks{w}, err
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

// zstdBlocks makes each block a frame; a stream may have any number of them.
type zstdBlocks struct{ w *zstd.Encoder }

func (z zstdBlocks) encode(out, in []byte, last bool) ([]byte, error) {
	if len(in) == 0 {
		return out, nil
	}
	return z.w.EncodeAll(in, out), nil
}

type plainBlocks struct{}

func (plainBlocks) encode(out, in []byte, last bool) ([]byte, error) { return append(out, in...), nil }

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}
