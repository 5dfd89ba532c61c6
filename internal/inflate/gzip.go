package inflate

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// gzipState is where a reader is between members.
type gzipState struct {
	sum    uint32
	size   uint32
	inside bool // within the DEFLATE stream of a member
	some   bool // there was a member
}

// NewGzipReader reads r, at most 64 KiB ahead: gzip members in a row, at least
// one. What names and comments they have is of no interest.
func NewGzipReader(r io.Reader) *Reader { return &Reader{src: r, gunzip: new(gzipState)} }

func (g *gzipState) add(p []byte) {
	g.sum = crc32.Update(g.sum, crc32.IEEETable, p)
	g.size += uint32(len(p))
}

// member goes on to where a DEFLATE stream is to be read, if again is true, or
// to the end.
func (z *Reader) member() (again bool, err error) {
	g := z.gunzip
	if g.inside {
		if !z.ended() {
			return true, nil
		}
		z.align()
		sum, err := z.take(32)
		if err != nil {
			return false, err
		}
		size, err := z.take(32)
		if err != nil {
			return false, err
		}
		if z.short() {
			return false, io.ErrUnexpectedEOF
		}
		if sum != g.sum || size != g.size {
			return false, ErrCorrupt
		}
		*g = gzipState{some: true}
		z.align()
		z.final = false
		// The next member can't refer to this one.
		z.r, z.w = 0, 0
	}
	if z.pos+inSlack > z.limit() {
		if err := z.fill(); err != nil {
			return false, err
		}
	}
	if z.pos == z.end && z.atEOF {
		if !g.some {
			return false, io.ErrUnexpectedEOF
		}
		return false, io.EOF
	}
	if err := z.gzipHeader(); err != nil {
		return false, err
	}
	g.inside = true
	return true, nil
}

// short reports whether more was read than there is.
func (z *Reader) short() bool { return z.atEOF && z.pos-int(z.held/8) > z.end }

// Flags of a member.
const (
	gzipHeaderSum = 1 << 1
	gzipExtra     = 1 << 2
	gzipName      = 1 << 3
	gzipComment   = 1 << 4
	gzipReserved  = 0xe0
)

// gzipHeader reads a member's header.
func (z *Reader) gzipHeader() error {
	sum := uint32(0)
	next := func() (byte, error) {
		v, err := z.take(8)
		if err == nil && z.short() {
			err = io.ErrUnexpectedEOF
		}
		sum = crc32.Update(sum, crc32.IEEETable, []byte{byte(v)})
		return byte(v), err
	}
	var head [10]byte
	for i := range head {
		var err error
		if head[i], err = next(); err != nil {
			return err
		}
	}
	flags := head[3]
	if head[0] != 0x1f || head[1] != 0x8b || head[2] != 8 || flags&gzipReserved != 0 {
		return ErrCorrupt
	}
	if flags&gzipExtra != 0 {
		var size [2]byte
		for i := range size {
			var err error
			if size[i], err = next(); err != nil {
				return err
			}
		}
		for range binary.LittleEndian.Uint16(size[:]) {
			if _, err := next(); err != nil {
				return err
			}
		}
	}
	for _, flag := range []byte{gzipName, gzipComment} {
		for more := flags&flag != 0; more; {
			b, err := next()
			if err != nil {
				return err
			}
			more = b != 0
		}
	}
	if flags&gzipHeaderSum != 0 {
		want := uint16(sum)
		v, err := z.take(16)
		if err != nil {
			return err
		}
		if z.short() {
			return io.ErrUnexpectedEOF
		}
		if uint16(v) != want {
			return ErrCorrupt
		}
	}
	return nil
}
