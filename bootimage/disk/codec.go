package disk

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// codec is how a block is compressed.
type codec int

const (
	plain   codec = iota
	deflate       // RFC 1951 with a window of 4 KiB, as qcow2 has it
	zlibbed       // RFC 1950, as vmdk has it
	zstdFrame
	codecs = iota
)

// qcow2Window is the window of QEMU's inflate.
const qcow2Window = 4 << 10

// encoders compress blocks one after another, each independently of the others.
type encoders struct {
	deflate *flate.Writer
	zlib    *zlib.Writer
	zstd    *zstd.Encoder
	buffer  bytes.Buffer
}

// encode appends a compressed block to out. Blocks of qcow2 that do not get smaller
// are empty: they are stored as they are.
func (e *encoders) encode(k codec, out, block []byte) ([]byte, error) {
	var err error
	e.buffer.Reset()
	switch k {
	case deflate:
		if e.deflate == nil {
			if e.deflate, err = flate.NewWriterWindow(&e.buffer, qcow2Window); err != nil {
				return nil, err
			}
		}
		e.deflate.Reset(&e.buffer)
		if _, err = e.deflate.Write(block); err == nil {
			err = e.deflate.Close()
		}
		out = append(out, e.buffer.Bytes()...)
	case zlibbed:
		if e.zlib == nil {
			if e.zlib, err = zlib.NewWriterLevel(&e.buffer, 6); err != nil {
				return nil, err
			}
		}
		e.zlib.Reset(&e.buffer)
		if _, err = e.zlib.Write(block); err == nil {
			err = e.zlib.Close()
		}
		return append(out, e.buffer.Bytes()...), err
	case zstdFrame:
		if e.zstd == nil {
			e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(blockSize), zstd.WithEncoderCRC(false), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return nil, err
			}
		}
		out = e.zstd.EncodeAll(block, out)
	default:
		return nil, fmt.Errorf("codec %d", k)
	}
	if len(out) >= len(block) {
		out = out[:0]
	}
	return out, err
}
