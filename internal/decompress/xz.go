package decompress

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

var (
	xzMagic  = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	xzFooter = []byte{'Y', 'Z'}
	xzCRC64  = crc64.MakeTable(crc64.ECMA)
)

// xzReader reads the .xz container (https://tukaani.org/xz/xz-file-format.txt).
// It is here because the decoder's own container allocates whatever window a
// block asks for, up to 4 GiB.
type xzReader struct {
	r      *bufio.Reader
	flags  [2]byte // of the stream; the second is the type of the checks
	within bool    // a stream
	data   io.Reader
	in     countReader
	check  hash.Hash
	size   int64 // of the block's content so far
	want   xzBlock
	head   int
	index  hash.Hash // over the sizes of the blocks, as the index must list them
	blocks uint64
	err    error
}

// xzBlock is what a block's header tells of its sizes; -1: nothing.
type xzBlock struct{ packed, size int64 }

// countReader counts the bytes and bytes only: the LZMA decoder must not read
// on beyond the block.
type countReader struct {
	r *bufio.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countReader) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func (x *xzReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for x.err == nil {
		if x.data == nil {
			if x.err = x.next(); x.err != nil && !errors.Is(x.err, io.EOF) {
				x.err = fmt.Errorf("xz: %w", x.err)
			}
			continue
		}
		n, err := x.data.Read(p)
		x.size += int64(n)
		if x.check != nil {
			x.check.Write(p[:n])
		}
		if errors.Is(err, io.EOF) {
			err = x.endBlock()
		}
		if err != nil {
			x.err = fmt.Errorf("xz: %w", notEOF(err))
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, x.err
}

// notEOF makes the end of the input, where more must come, an early end.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

var errXZ = errors.New("damaged")

// next goes to the next block's data; io.EOF at the end of the last stream.
func (x *xzReader) next() error {
	if !x.within {
		if err := x.stream(); err != nil {
			return err
		}
	}
	size, err := x.r.ReadByte()
	if err != nil {
		return notEOF(err)
	}
	if size == 0 {
		if err := x.endStream(); err != nil {
			return notEOF(err)
		}
		return x.padding()
	}
	head := make([]byte, (int(size)+1)*4)
	head[0] = size
	if _, err := io.ReadFull(x.r, head[1:]); err != nil {
		return notEOF(err)
	}
	body, sum := head[:len(head)-4], head[len(head)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return fmt.Errorf("block header: %w", errXZ)
	}
	x.head = len(head)
	return x.block(body[1:])
}

// stream reads a stream's header.
func (x *xzReader) stream() error {
	var b [12]byte
	if _, err := io.ReadFull(x.r, b[:]); err != nil {
		return notEOF(err)
	}
	if !bytes.Equal(b[:6], xzMagic) || crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) || b[6] != 0 || b[7] > 15 {
		return fmt.Errorf("stream header: %w", errXZ)
	}
	x.flags = [2]byte(b[6:8])
	switch x.flags[1] {
	case 0, 1, 4, 10:
	default:
		return fmt.Errorf("check of type %d: %w", x.flags[1], errors.ErrUnsupported)
	}
	x.within, x.blocks, x.index = true, 0, sha256.New()
	return nil
}

// padding reads what may come between streams; io.EOF at the end of the input.
func (x *xzReader) padding() error {
	for n := 0; ; n++ {
		b, err := x.r.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && n%4 != 0, err == nil && b != 0 && n%4 != 0:
			return fmt.Errorf("padding after the stream: %w", errXZ)
		case err != nil:
			return err
		case b != 0:
			return x.r.UnreadByte()
		}
	}
}

// block starts on the block that header describes.
func (x *xzReader) block(header []byte) error {
	flags := header[0]
	if flags&0x3c != 0 {
		return fmt.Errorf("block flags %#x: %w", flags, errors.ErrUnsupported)
	}
	r := bytes.NewReader(header[1:])
	x.want = xzBlock{-1, -1}
	for _, size := range []struct {
		bit byte
		to  *int64
	}{{0x40, &x.want.packed}, {0x80, &x.want.size}} {
		if flags&size.bit == 0 {
			continue
		}
		n, err := xzInt(r)
		if err != nil {
			return err
		}
		*size.to = int64(n)
	}
	var filter [3]byte
	if _, err := io.ReadFull(r, filter[:]); err != nil {
		return fmt.Errorf("block header: %w", errXZ)
	}
	if flags&3 != 0 || filter[0] != 0x21 || filter[1] != 1 {
		return fmt.Errorf("filters other than LZMA2: %w", errors.ErrUnsupported)
	}
	for r.Len() > 0 {
		if b, _ := r.ReadByte(); b != 0 {
			return fmt.Errorf("block header: %w", errXZ)
		}
	}
	window, err := lzma.DecodeDictCap(filter[2])
	if err != nil {
		return err
	}
	if window > MaxXZWindow {
		return fmt.Errorf("needs a window of %d bytes, at most %d are allowed: %w", window, MaxXZWindow, errors.ErrUnsupported)
	}
	x.in = countReader{r: x.r}
	x.size = 0
	switch x.flags[1] {
	case 0:
		x.check = nil
	case 1:
		x.check = crc32.NewIEEE()
	case 4:
		x.check = crc64.New(xzCRC64)
	case 10:
		x.check = sha256.New()
	}
	x.data, err = lzma.Reader2Config{DictCap: int(max(window, lzma.MinDictCap))}.NewReader2(&x.in)
	return err
}

// endBlock checks what follows a block's data.
func (x *xzReader) endBlock() error {
	x.data = nil
	packed := x.in.n
	for range -packed & 3 {
		if b, err := x.r.ReadByte(); err != nil || b != 0 {
			return cmpErr(err, "block padding")
		}
	}
	var sum []byte
	if x.check != nil {
		sum = x.check.Sum(nil)
		if x.flags[1] != 10 { // the others are stored in little endian
			for i, j := 0, len(sum)-1; i < j; i, j = i+1, j-1 {
				sum[i], sum[j] = sum[j], sum[i]
			}
		}
	}
	stored := make([]byte, len(sum))
	if _, err := io.ReadFull(x.r, stored); err != nil || !bytes.Equal(stored, sum) {
		return cmpErr(err, "content checksum")
	}
	if x.want.packed >= 0 && x.want.packed != packed || x.want.size >= 0 && x.want.size != x.size {
		return fmt.Errorf("block size: %w", errXZ)
	}
	x.blocks++
	x.record(uint64(x.head)+uint64(packed)+uint64(len(sum)), uint64(x.size))
	return nil
}

func (x *xzReader) record(unpadded, size uint64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], unpadded)
	binary.LittleEndian.PutUint64(b[8:], size)
	x.index.Write(b[:])
}

// cmpErr is err, or the damage that was found instead.
func cmpErr(err error, what string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", what, errXZ)
}

// endStream reads the index, whose first byte is read already, and the footer.
func (x *xzReader) endStream() error {
	blocks, listed := x.blocks, x.index.Sum(nil)
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	in := &countReader{r: x.r}
	r := &teeByteReader{in, sum}
	count, err := xzInt(r)
	if err != nil {
		return err
	}
	if count != blocks {
		return fmt.Errorf("index: %w", errXZ)
	}
	x.index.Reset()
	for range count {
		unpadded, err := xzInt(r)
		if err != nil {
			return err
		}
		size, err := xzInt(r)
		if err != nil {
			return err
		}
		x.record(unpadded, size)
	}
	if !bytes.Equal(x.index.Sum(nil), listed) {
		return fmt.Errorf("index: %w", errXZ)
	}
	for range -(in.n + 1) & 3 {
		if b, err := r.ReadByte(); err != nil || b != 0 {
			return cmpErr(err, "index padding")
		}
	}
	size := in.n + 1 + 4
	var b [16]byte
	if _, err := io.ReadFull(x.r, b[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b[:]) != sum.Sum32() {
		return fmt.Errorf("index checksum: %w", errXZ)
	}
	if crc32.ChecksumIEEE(b[8:14]) != binary.LittleEndian.Uint32(b[4:]) || !bytes.Equal(b[12:14], x.flags[:]) || !bytes.Equal(b[14:], xzFooter) ||
		(int64(binary.LittleEndian.Uint32(b[8:]))+1)*4 != size {
		return fmt.Errorf("stream footer: %w", errXZ)
	}
	x.within = false
	return nil
}

type teeByteReader struct {
	r *countReader
	w io.Writer
}

func (t *teeByteReader) ReadByte() (byte, error) {
	b, err := t.r.ReadByte()
	if err == nil {
		_, err = t.w.Write([]byte{b})
	}
	return b, err
}

// xzInt reads a variable-length integer of at most 63 bits.
func xzInt(r io.ByteReader) (uint64, error) {
	var n uint64
	for i := range 9 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				break
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("integer: %w", errXZ)
}
