package container

import (
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/compress"
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
	defaultZstdLevel = 1 // at four fifths of the time, 3 per cent larger than 3
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
		return fmt.Sprintf("zstd/%d/own.5/%d", e.level, blockSize)
	default:
		return string(e.codec)
	}
}

// workers bounds how many blocks are compressed at a time, so that the encoders' tables,
// up to 7 MiB each with zstd, don't take the process over 250 MiB.
func (e encoding) workers(n int) int {
	most := maxWorkers
	if e.codec == Zstd {
		most = 8
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

// engine is the encoding as the engine has it.
func (e encoding) engine() compress.Encoding {
	return compress.Encoding{Codec: compress.Codec(e.codec), Level: e.level, BlockSize: blockSize}
}
