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
	// xzCheckSizes are of the kinds of checks.
	xzCheckSizes = map[byte]int{0: 0, 1: crc32.Size, 4: crc64.Size, 10: sha256.Size}
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

	ahead   xzAhead
	content []byte // decoded ahead
	waiting *xzJob // the next block, whose header was read
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

// Close waits for what is being decoded.
func (x *xzReader) Close() error {
	x.ahead.wg.Wait()
	return nil
}

func (x *xzReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for x.err == nil {
		if len(x.content) > 0 {
			n := copy(p, x.content)
			x.content = x.content[n:]
			return n, nil
		}
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
	a := &x.ahead
	a.release()
	for a.later == nil {
		if x.waiting == nil {
			if a.later = x.element(); x.waiting == nil {
				continue
			}
		}
		if j := x.waiting; a.fits(j) {
			x.waiting = nil
			a.later = x.fetch(j)
		} else if len(a.queue) == 0 {
			x.waiting = nil
			return x.open(j)
		} else {
			break
		}
	}
	if len(a.queue) > 0 {
		var err error
		x.content, err = a.take()
		return err
	}
	return a.later
}

// element reads the next of the stream: a header of a block, which is waiting then, or all
// that is between the last block of a stream and the next stream's first.
func (x *xzReader) element() error {
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

// block reads a block's header.
func (x *xzReader) block(header []byte) error {
	flags := header[0]
	if flags&0x3c != 0 {
		return fmt.Errorf("block flags %#x: %w", flags, errors.ErrUnsupported)
	}
	r := bytes.NewReader(header[1:])
	j := &xzJob{block: xzBlock{-1, -1}, kind: x.flags[1]}
	for _, size := range []struct {
		bit byte
		to  *int64
	}{{0x40, &j.block.packed}, {0x80, &j.block.size}} {
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
	j.window = window
	x.waiting = j
	return nil
}

// open starts on a block that is decoded as it is read.
func (x *xzReader) open(j *xzJob) error {
	x.want = j.block
	x.in = countReader{r: x.r}
	x.size = 0
	x.check = newXZCheck(j.kind)
	window, err := usable(j.window, x.r.Peek)
	if err != nil {
		return err
	}
	x.data, err = newLZMA2(&x.in, window)
	return notEOF(err)
}

func newLZMA2(r io.Reader, window int64) (io.Reader, error) {
	return lzma.Reader2Config{DictCap: int(max(window, lzma.MinDictCap))}.NewReader2(r)
}

// usable is how much of its window a block can use: no more than its content, which the
// heads of its chunks tell. The decoder allocates a window at once, and twenty bytes can
// ask for the largest, again and again. peek is as [bufio.Reader.Peek]; a block whose end
// it does not show may use the whole window.
func usable(window int64, peek func(n int) ([]byte, error)) (int64, error) {
	content := int64(0)
	for at := 0; content < window; {
		b, err := peek(at + 5)
		head := b[min(at, len(b)):]
		switch {
		case len(head) > 0 && head[0] == 0: // the end
			return content, nil
		case len(head) >= 5 && head[0] >= 0x80: // a compressed chunk
			content += int64(head[0]&0x1f)<<16 + int64(binary.BigEndian.Uint16(head[1:])) + 1
			at += 5 + int(binary.BigEndian.Uint16(head[3:])) + 1
			if head[0] >= 0xc0 { // with properties
				at++
			}
		case len(head) >= 3 && head[0] < 0x80: // a stored chunk
			n := int(binary.BigEndian.Uint16(head[1:])) + 1
			content += int64(n)
			at += 3 + n
		case errors.Is(err, io.EOF): // too early, which the decoder tells
			return content, nil
		case errors.Is(err, bufio.ErrBufferFull):
			return window, nil
		default:
			return 0, err
		}
	}
	return window, nil
}

// fetch reads a block whole and has it decoded.
func (x *xzReader) fetch(j *xzJob) (err error) {
	if j.packed, err = appendAll(x.ahead.buffer(j.block.packed+1), io.LimitReader(x.r, j.block.packed), 1<<20, j.block.packed); err != nil {
		return err
	}
	if int64(len(j.packed)) < j.block.packed {
		return io.ErrUnexpectedEOF
	}
	if j.sum, err = x.endOfBlock(j.block.packed); err != nil {
		return err
	}
	x.record(j.block, len(j.sum))
	x.ahead.start(j)
	return nil
}

// endOfBlock reads what follows a block's data and gives the check that is stored.
func (x *xzReader) endOfBlock(packed int64) (sum []byte, err error) {
	for range -packed & 3 {
		if b, err := x.r.ReadByte(); err != nil || b != 0 {
			return nil, cmpErr(notEOF(err), "block padding")
		}
	}
	sum = make([]byte, xzCheckSizes[x.flags[1]])
	_, err = io.ReadFull(x.r, sum)
	return sum, notEOF(err)
}

// endBlock checks what follows the data of a block that was decoded as it was read.
func (x *xzReader) endBlock() error {
	x.data = nil
	packed := x.in.n
	stored, err := x.endOfBlock(packed)
	if err != nil {
		return err
	}
	if !bytes.Equal(stored, xzSum(x.check, x.flags[1])) {
		return fmt.Errorf("content checksum: %w", errXZ)
	}
	if x.want.packed >= 0 && x.want.packed != packed || x.want.size >= 0 && x.want.size != x.size {
		return fmt.Errorf("block size: %w", errXZ)
	}
	x.record(xzBlock{packed, x.size}, len(stored))
	return nil
}

// record notes a block, as the index must list it.
func (x *xzReader) record(block xzBlock, check int) {
	x.blocks++
	x.list(uint64(x.head)+uint64(block.packed)+uint64(check), uint64(block.size))
}

func (x *xzReader) list(unpadded, size uint64) {
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
		x.list(unpadded, size)
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
