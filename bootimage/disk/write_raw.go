package disk

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// rawSink writes a disk as it is, with holes.
type rawSink struct {
	f    *output
	size int64
	base int64 // where the disk is in the file
}

func (s *rawSink) codec() codec { return plain }

func (s *rawSink) write(c *chunk) error {
	return c.runs(func(first, last int) error {
		off := c.off + int64(first)*blockSize
		end := min(c.off+int64(last)*blockSize, s.size)
		_, err := s.f.WriteAt(c.data[first*blockSize:][:end-off], s.base+off)
		return err
	})
}

func (s *rawSink) finish(context.Context, [32]byte) (int64, error) { return s.size, nil }

// hashSink hashes a disk and writes nothing.
type hashSink struct {
	hash       hash.Hash
	done, size int64 // bytes
}

func (s *hashSink) codec() codec { return plain }

func (s *hashSink) write(c *chunk) error {
	s.zeros(c.off)
	end := min(c.off+chunkSize, s.size)
	s.hash.Write(c.data[:end-c.off])
	s.done = end
	return nil
}

// zeros hashes what is not there up to an offset.
func (s *hashSink) zeros(to int64) {
	for s.done < to {
		n := min(to-s.done, blockSize)
		s.hash.Write(zeros[:n])
		s.done += n
	}
}

func (s *hashSink) finish(context.Context, [32]byte) (int64, error) { return s.size, nil }

// sum gives the hash of all of it, hexadecimal.
func (s *hashSink) sum() string {
	s.zeros(s.size)
	return hex.EncodeToString(s.hash.Sum(nil))
}

// runs calls fn with each run of blocks that are not zero: the first, and the one
// after the last.
func (c *chunk) runs(fn func(first, last int) error) error {
	for first := 0; first < chunkBlocks; first++ {
		if c.zero[first] {
			continue
		}
		last := first + 1
		for last < chunkBlocks && !c.zero[last] {
			last++
		}
		if err := fn(first, last); err != nil {
			return err
		}
		first = last
	}
	return nil
}

// vhdSink writes a fixed VHD: the disk, and a footer.
type vhdSink struct{ rawSink }

func (s *vhdSink) finish(_ context.Context, id [32]byte) (int64, error) {
	be := binary.BigEndian
	f := make([]byte, vhdFooterSize)
	copy(f, vhdCookie)
	be.PutUint32(f[8:], 2)        // a feature bit that is always set
	be.PutUint32(f[12:], 0x10000) // version
	be.PutUint64(f[16:], 1<<64-1) // no header
	// Readers take the size from the footer, rather than from the geometry, where
	// they know who made the disk: as qemu-img with force_size.
	copy(f[28:], "qem2")
	be.PutUint32(f[32:], 0x50003)
	copy(f[36:], "Wi2k")
	be.PutUint64(f[40:], uint64(s.size))
	be.PutUint64(f[48:], uint64(s.size))
	be.PutUint16(f[56:], 65535)
	f[58], f[59] = 16, 255
	be.PutUint32(f[60:], vhdFixed)
	copy(f[68:84], uuid(id[:16]))
	be.PutUint32(f[64:], vhdChecksum(f, 64))
	_, err := s.f.WriteAt(f, s.size)
	return s.size + vhdFooterSize, err
}

// uuid makes 16 bytes a UUID of version 8, RFC 9562's for own uses.
func uuid(p []byte) []byte {
	u := append([]byte(nil), p[:16]...)
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}
