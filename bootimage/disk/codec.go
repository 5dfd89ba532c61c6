package disk

import (
	"encoding/binary"
	"fmt"
	"hash/adler32"

	"github.com/okd-project/okd-streams/internal/deflate"
	"github.com/okd-project/okd-streams/internal/zstd"
)

// codec is how a block is compressed.
type codec int

const (
	plain    codec = iota
	deflated       // RFC 1951 with a window of 4 KiB, as qcow2 has it
	zlibbed        // RFC 1950, as vmdk has it
	zstdFrame
	codecs = iota
)

const (
	// qcow2Window is the window of QEMU's inflate.
	qcow2Window = 4 << 10
	// deflateLevel is smaller than zlib at its default level, in half the time.
	deflateLevel = 4
	// zstdLevel is QEMU's.
	zstdLevel = 3
)

// encoders compress blocks one after another, each independently of the others.
type encoders struct {
	near, far *deflate.Encoder
	zstd      *zstd.Encoder
}

// zlibHeader says deflate with a window of 32 KiB, at the default level.
const zlibHeader = "\x78\x9c"

// encode appends a compressed block to out. Blocks of qcow2 that do not get smaller
// are empty: they are stored as they are.
func (e *encoders) encode(k codec, out, block []byte) ([]byte, error) {
	var err error
	switch k {
	case deflated:
		if e.near == nil {
			if e.near, err = deflate.NewEncoder(deflateLevel, qcow2Window); err != nil {
				return nil, err
			}
		}
		out, err = e.near.Append(out, block, true)
	case zlibbed:
		if e.far == nil {
			if e.far, err = deflate.NewEncoder(deflateLevel, deflate.MaxWindow); err != nil {
				return nil, err
			}
		}
		out, err = e.far.Append(append(out, zlibHeader...), block, true)
		return binary.BigEndian.AppendUint32(out, adler32.Checksum(block)), err
	case zstdFrame:
		if e.zstd == nil {
			if e.zstd, err = zstd.NewEncoder(zstdLevel); err != nil {
				return nil, err
			}
		}
		out, err = e.zstd.Append(out, block)
	default:
		return nil, fmt.Errorf("codec %d", k)
	}
	if len(out) >= len(block) {
		out = out[:0]
	}
	return out, err
}
