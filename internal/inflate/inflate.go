package inflate

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// ErrCorrupt is the error of data that is no DEFLATE or gzip stream, or a damaged
// one; early ends are [io.ErrUnexpectedEOF].
var ErrCorrupt = errors.New("inflate: corrupt data")

const (
	window  = 32 << 10
	inSize  = 64 << 10
	outSize = window + 96<<10
	// inSlack is what may be read beyond what is looked at, thrice eight bytes.
	inSlack = 24
	// outSlack is what one round of the loop may write: three literals, the
	// longest match, and what its copy writes too much.
	outSlack = 3 + 258 + 16
)

// Reader reads one stream of DEFLATE. It holds about 210 KiB.
type Reader struct {
	src    io.Reader
	in     [inSize + 4*inSlack]byte
	pos    int // in[pos:end] is not in hold yet
	end    int
	atEOF  bool   // zeros follow in[:end]
	hold   uint64 // bits that are not used yet, and perhaps some of in[pos:]
	held   uint   // how many there are, in the first sense
	err    error  // after what out has
	final  bool   // the block is the last
	left   int    // bytes of a stored block that are to come
	coded  bool   // within a block of codes
	out    [outSize]byte
	r, w   int     // out[r:w] is to be given
	codes  *tables // of the block: own, or those of the fixed codes
	own    tables
	lens   [numLit + numDist]uint8
	gunzip *gzipState // nil: the stream is alone
}

// NewReader reads r, at most 64 KiB ahead.
func NewReader(r io.Reader) *Reader { return &Reader{src: r} }

// Reset makes z read another stream.
func (z *Reader) Reset(r io.Reader) {
	z.src, z.pos, z.end, z.atEOF = r, 0, 0, false
	z.hold, z.held, z.err, z.final, z.left, z.coded, z.r, z.w = 0, 0, nil, false, 0, false, 0, 0
	if z.gunzip != nil {
		*z.gunzip = gzipState{}
	}
}

// Read gives what the stream has; [io.EOF] once all was given, and only if it was
// whole.
func (z *Reader) Read(p []byte) (int, error) {
	for z.r == z.w {
		if z.err != nil {
			return 0, z.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		z.more()
	}
	n := copy(p, z.out[z.r:z.w])
	z.r += n
	return n, nil
}

// more fills out, all of which was given.
func (z *Reader) more() {
	if z.w > outSize-outSlack {
		copy(z.out[:window], z.out[z.w-window:z.w])
		z.w = window
	}
	z.r = z.w
	err := z.step()
	if z.atEOF && z.pos-int(z.held/8) > z.end {
		err = io.ErrUnexpectedEOF // what was decoded is of zeros that are not there
	}
	switch {
	case z.gunzip != nil:
		z.gunzip.add(z.out[z.r:z.w])
	case err == nil && z.ended():
		err = io.EOF
	}
	if err != nil && err != io.EOF {
		z.w = z.r
	}
	z.err = err
}

// ended reports whether the last block was read.
func (z *Reader) ended() bool { return z.final && !z.coded && z.left == 0 }

// step decodes some of the stream.
func (z *Reader) step() error {
	if z.gunzip != nil {
		if again, err := z.member(); !again || err != nil {
			return err
		}
	}
	for !z.ended() && z.w <= outSize-outSlack {
		var err error
		switch {
		case z.coded:
			err = z.decode()
		case z.left > 0:
			err = z.stored()
		default:
			err = z.header()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fill reads more into in, of which at least inSlack bytes are there then; at the
// end of the source they are zeros.
func (z *Reader) fill() error {
	if z.atEOF {
		if z.pos > z.end+2*inSlack {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	// The bytes that are held may have to be given back.
	keep := int(z.held / 8)
	z.end = copy(z.in[:], z.in[z.pos-keep:z.end])
	z.pos = keep
	for empty := 0; z.end < z.pos+inSlack; {
		n, err := z.src.Read(z.in[z.end:inSize])
		z.end += n
		switch {
		case err == io.EOF:
			z.atEOF = true
			clear(z.in[z.end : z.end+4*inSlack])
			return nil
		case err != nil:
			return err
		case n > 0:
			empty = 0
		default:
			if empty++; empty == 100 {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

// limit is up to where in may be read.
func (z *Reader) limit() int {
	if z.atEOF {
		return z.end + 4*inSlack
	}
	return z.end
}

// need makes n bits be held, at most 32.
func (z *Reader) need(n uint) error {
	if z.held >= n {
		return nil
	}
	if z.pos+inSlack > z.limit() {
		if err := z.fill(); err != nil {
			return err
		}
	}
	z.hold |= binary.LittleEndian.Uint64(z.in[z.pos:]) << (z.held & 63)
	z.pos += int((63 - z.held) >> 3)
	z.held |= 56
	z.hold &= 1<<z.held - 1
	return nil
}

// take gives the next n bits, at most 32.
func (z *Reader) take(n uint) (uint32, error) {
	if err := z.need(n); err != nil {
		return 0, err
	}
	v := uint32(z.hold & (1<<n - 1))
	z.drop(n)
	return v, nil
}

func (z *Reader) drop(n uint) {
	z.hold >>= n
	z.held -= n
	// What the loop holds beyond held would be counted twice.
	z.hold &= 1<<z.held - 1
}

// align goes to the next whole byte, and gives back what is held.
func (z *Reader) align() {
	z.pos -= int(z.held / 8)
	z.hold, z.held = 0, 0
}

// header reads the header of a block.
func (z *Reader) header() error {
	v, err := z.take(3)
	if err != nil {
		return err
	}
	z.final = v&1 != 0
	switch v >> 1 {
	case 0:
		z.align()
		n, err := z.take(32)
		if err != nil {
			return err
		}
		if n>>16 != ^n&0xffff {
			return ErrCorrupt
		}
		z.left = int(n & 0xffff)
		z.align()
		return nil
	case 1:
		z.codes = fixed()
	case 2:
		if err := z.dynamic(); err != nil {
			return err
		}
		z.codes = &z.own
	default:
		return ErrCorrupt
	}
	z.coded = true
	return nil
}

// fixed gives the tables of the fixed codes, which many small streams have.
var fixed = sync.OnceValue(func() *tables {
	t := new(tables)
	var l [numLit]uint8
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	build(t.lit[:], litBits, l[:], litEntries[:])
	var d [numDist]uint8
	for i := range d {
		d[i] = 5
	}
	build(t.dist[:], distBits, d[:], distEntries[:])
	return t
})

// lengthOrder is the order in which the lengths of the code for lengths come.
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// lengthEntries are the entries of the code for lengths.
var lengthEntries = func() (e [19]uint32) {
	for i := range e {
		e[i] = uint32(i) << 16
	}
	return e
}()

// dynamic reads the codes of a block.
func (z *Reader) dynamic() error {
	v, err := z.take(14)
	if err != nil {
		return err
	}
	lits, dists, lengths := int(v&31)+257, int(v>>5&31)+1, int(v>>10)+4
	if lits > 286 || dists > 30 {
		return ErrCorrupt
	}
	var order [19]uint8
	for _, i := range lengthOrder[:lengths] {
		n, err := z.take(3)
		if err != nil {
			return err
		}
		order[i] = uint8(n)
	}
	const orderBits = 7
	var table [1 << orderBits]uint32
	if !build(table[:], orderBits, order[:], lengthEntries[:]) {
		return ErrCorrupt
	}
	all := z.lens[:lits+dists]
	for i := 0; i < len(all); {
		if err := z.need(orderBits + 7); err != nil {
			return err
		}
		e := table[z.hold&(1<<orderBits-1)]
		if e&oddFlag != 0 {
			return ErrCorrupt
		}
		z.drop(uint(e & dropMask))
		v := uint8(e >> 16)
		if v < 16 {
			all[i] = v
			i++
			continue
		}
		var repeated uint8
		var n uint32
		switch v {
		case 16:
			if i == 0 {
				return ErrCorrupt
			}
			repeated = all[i-1]
			n, err = z.take(2)
			n += 3
		case 17:
			n, err = z.take(3)
			n += 3
		default:
			n, err = z.take(7)
			n += 11
		}
		if err != nil {
			return err
		}
		if int(n) > len(all)-i {
			return ErrCorrupt
		}
		for range n {
			all[i] = repeated
			i++
		}
	}
	if !build(z.own.lit[:], litBits, all[:lits], litEntries[:]) || !build(z.own.dist[:], distBits, all[lits:], distEntries[:]) {
		return ErrCorrupt
	}
	return nil
}

// stored copies some of a stored block.
func (z *Reader) stored() error {
	if z.pos >= z.end && !z.atEOF {
		if err := z.fill(); err != nil {
			return err
		}
	}
	if z.pos >= z.end {
		return io.ErrUnexpectedEOF
	}
	n := copy(z.out[z.w:outSize-outSlack+1], z.in[z.pos:min(z.end, z.pos+z.left)])
	z.pos += n
	z.w += n
	z.left -= n
	return nil
}

// decode decodes until the block ends or out is full.
func (z *Reader) decode() error {
	for z.coded && z.w <= outSize-outSlack {
		if z.pos+inSlack > z.limit() {
			if err := z.fill(); err != nil {
				return err
			}
		}
		if err := z.loop(z.limit() - inSlack); err != nil {
			return err
		}
	}
	return nil
}

// loop decodes until the block ends, out is full or pos is behind last, up to where
// three times eight bytes can be read. Indexes have no sign, so that the compiler sees
// that they are within bounds, and does not check each. Under the
// race detector it would take a hundred times as long, and all tests that read
// something compressed with it; what it touches is touched by its callers as well.
//
//go:norace
func (z *Reader) loop(last int) error {
	in, out := &z.in, &z.out
	lit, dist := &z.codes.lit, &z.codes.dist
	if last < 0 {
		return nil
	}
	pos, w, end := uint(z.pos), uint(z.w), min(uint(last), uint(len(in)-inSlack))
	hold, held := z.hold, z.held
	if pos > end || w > outSize-outSlack {
		return nil
	}
	// Of the eight bytes those count that fit; of the next some bits are in
	// hold as well, where the same bits will come.
	hold |= binary.LittleEndian.Uint64(in[pos:]) << (held & 63)
	pos += 7 - held>>3&7
	held |= 56
	e := lit[hold&(1<<litBits-1)]
	var err error
loop:
	for pos <= end && w <= outSize-outSlack {
		// Three codes of the first table have at most 33 bits. Of held the lower six
		// bits count: what is above them in an entry is taken off with the rest.
		if e&litFlag != 0 {
			hold >>= e & dropMask
			held -= uint(e)
			out[w] = byte(e >> 16)
			w++
			e = lit[hold&(1<<litBits-1)]
			if e&litFlag != 0 {
				hold >>= e & dropMask
				held -= uint(e)
				out[w] = byte(e >> 16)
				w++
				e = lit[hold&(1<<litBits-1)]
				if e&litFlag != 0 {
					hold >>= e & dropMask
					held -= uint(e)
					out[w] = byte(e >> 16)
					w++
					e = lit[hold&(1<<litBits-1)]
					hold |= binary.LittleEndian.Uint64(in[pos:]) << (held & 63)
					pos += 7 - held>>3&7
					held |= 56
					continue
				}
			}
		}
		if e&oddFlag != 0 {
			if e&(endFlag|dropMask) > dropMask {
				hold >>= e & dropMask
				held -= uint(e)
				z.coded = false
				break
			}
			if e&dropMask == 0 {
				err = ErrCorrupt
				break
			}
			e = lit[(uint64(e>>16)+hold>>litBits&(1<<(e&dropMask)-1))&(litSize-1)]
			if e&(litFlag|oddFlag) != 0 {
				switch {
				case e&litFlag != 0:
					hold >>= e & dropMask
					held -= uint(e)
					out[w] = byte(e >> 16)
					w++
					hold |= binary.LittleEndian.Uint64(in[pos:]) << (held & 63)
					pos += 7 - held>>3&7
					held |= 56
					e = lit[hold&(1<<litBits-1)]
					continue
				case e&endFlag != 0:
					hold >>= e & dropMask
					held -= uint(e)
					z.coded = false
				default:
					err = ErrCorrupt
				}
				break loop
			}
		}
		length := uint(e>>16) + uint(hold&(1<<(e&dropMask)-1)>>(e>>8&15))
		hold >>= e & dropMask
		held -= uint(e)

		hold |= binary.LittleEndian.Uint64(in[pos:]) << (held & 63)
		pos += 7 - held>>3&7
		held |= 56
		e = dist[hold&(1<<distBits-1)]
		if e&oddFlag != 0 {
			if e&dropMask != 0 {
				e = dist[(uint64(e>>16)+hold>>distBits&(1<<(e&dropMask)-1))&(distSize-1)]
			}
			if e&oddFlag != 0 {
				err = ErrCorrupt
				break
			}
		}
		distance := uint(e>>16) + uint(hold&(1<<(e&dropMask)-1)>>(e>>8&15))
		hold >>= e & dropMask
		held -= uint(e)
		// The next code is looked up while this is copied.
		e = lit[hold&(1<<litBits-1)]
		hold |= binary.LittleEndian.Uint64(in[pos:]) << (held & 63)
		pos += 7 - held>>3&7
		held |= 56

		if distance > w {
			err = ErrCorrupt
			break
		}
		from := w - distance
		// Most matches are short: what is copied too much is written again.
		next := w + length
		switch {
		case distance >= 16:
			*(*[16]byte)(out[w:]) = *(*[16]byte)(out[from:])
			for n := uint(16); n < length; n += 16 {
				*(*[16]byte)(out[w+n:]) = *(*[16]byte)(out[from+n:])
			}
		case distance >= 8:
			for n := uint(0); n < length; n += 8 {
				*(*[8]byte)(out[w+n:]) = *(*[8]byte)(out[from+n:])
			}
		case distance == 1:
			v := uint64(out[from]) * 0x0101010101010101
			for n := uint(0); n < length; n += 8 {
				binary.LittleEndian.PutUint64(out[w+n:], v)
			}
		default:
			for n := range length {
				out[w+n] = out[from+n]
			}
		}
		w = next
	}
	z.pos, z.w = int(pos), int(w)
	z.held = held & 63
	z.hold = hold & (1<<z.held - 1)
	return err
}
