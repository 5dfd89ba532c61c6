package ostree

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/gvariant"
	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/unix"
)

// A part of a static delta is a byte, 0 or 'x', and the GVariant type
// (a(uuu)aa(ayay)ayay), as it is or compressed with xz:
//
//	a(uuu)     owners and modes, big-endian, which operations refer to by number
//	aa(ayay)   sets of extended attributes, likewise
//	ay         bytes of content, which operations refer to by offset
//	ay         operations, in the order of the part's objects
//
// An operation is a byte and numbers of 7 bits a byte, lowest first, the highest
// bit set but in the last:
//
//	S  length offset                a whole metadata object
//	S  mode attributes length offset  a whole content object
//	o  mode attributes length       begins a regular file of that length
//	w  length offset                adds bytes, of the source if there is one
//	r  offset                       a content object whose checksum lies there,
//	                                32 bytes, is the source
//	R                               there is no source any more
//	B  offset length                adds what a patch (see package bspatch) makes
//	                                of the source
//	c                               ends the file; there is no source any more
//
// The source is libostree's ostree-repo-static-delta-processing.c.

// Limits of a part. Its content is not held in memory.
const (
	maxDeltaPart  = 8 << 30   // bytes, not compressed
	maxDeltaTable = 32 << 20  // bytes of modes, of attributes and of operations
	maxDeltaShow  = 128 << 20 // bytes, not compressed, where it is held in memory
)

// spool holds bytes that were streamed: in memory, and from a limit on in a
// file without name.
type spool struct {
	mem  []byte
	file *rawFile
	size int64
	// create makes the file when mem is to become larger than limit, and
	// account is asked before n bytes are written to it.
	create  func() (*rawFile, error)
	account func(n int64) error
	limit   int
}

func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil {
		if len(s.mem)+len(p) <= s.limit {
			s.mem = append(s.mem, p...)
			s.size += int64(len(p))
			return len(p), nil
		}
		if s.create == nil {
			return 0, fmt.Errorf("more than %d bytes: %w", s.limit, errUnsupported)
		}
		var err error
		if s.file, err = s.create(); err != nil {
			return 0, err
		}
		head := s.mem
		s.mem, s.size = nil, 0
		if _, err := s.Write(head); err != nil {
			return 0, err
		}
	}
	if err := s.account(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

// ReadAt implements [io.ReaderAt].
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	return bytes.NewReader(s.mem).ReadAt(p, off)
}

func (s *spool) Close() error {
	s.mem = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// ReadAt implements [io.ReaderAt].
func (f *rawFile) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return done, pathError("read", f.name, err)
		case n == 0:
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

// unpackPart streams a part into s and verifies the checksum of what it read.
func unpackPart(ctx context.Context, s *spool, part *deltaPart, r io.Reader) error {
	size := min(part.size, math.MaxInt64-1)
	h := sha256.New()
	in := &io.LimitedReader{R: io.TeeReader(readers.Context{Ctx: ctx, R: r}, h), N: int64(size) + 1}
	err := unpack(s, bufio.NewReaderSize(in, 64<<10))
	// What follows the compressed bytes counts, too.
	if _, e := io.Copy(io.Discard, in); err == nil {
		err = e
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if in.N == 0 {
		return corruptf("is longer than %d bytes", part.size)
	}
	if got := Checksum(h.Sum(nil)); got != part.checksum && (err == nil || isPartFault(err)) {
		return corruptf("checksum is %s", got)
	}
	return err
}

// partFault is a fault of a part's bytes, not of reading or keeping them.
type partFault struct{ error }

func (f partFault) Unwrap() error { return f.error }

func isPartFault(err error) bool {
	_, ok := err.(partFault)
	return ok
}

// unpack writes what the part r holds to s.
func unpack(s *spool, r *bufio.Reader) error {
	kind, err := r.ReadByte()
	if err != nil {
		return partFault{short(err)}
	}
	var body io.Reader = r
	switch kind {
	case 0:
	case 'x':
		if magic, _ := r.Peek(6); string(magic) != "\xfd7zXZ\x00" {
			return partFault{corruptf("is not compressed with xz")}
		}
		d, err := decompress.NewReader(r)
		if err != nil {
			return err
		}
		defer d.Close()
		body = &faultReader{d}
	default:
		return partFault{corruptf("compression %q", kind)}
	}
	n, err := io.Copy(s, io.LimitReader(body, maxDeltaPart+1))
	if err == nil && n > maxDeltaPart {
		err = fmt.Errorf("more than %d bytes: %w", int64(maxDeltaPart), errUnsupported)
	}
	return err
}

// faultReader makes every error of a decompressor a fault of the part.
type faultReader struct{ r io.Reader }

func (f *faultReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		err = partFault{corrupt(err)}
	}
	return n, err
}

// deltaPayload is an unpacked part.
type deltaPayload struct {
	modes  []byte
	xattrs gvariant.Array
	ops    []byte
	blob   *io.SectionReader
	// sets are those of xattrs that were read: some bytes of an operation name one
	// of any size.
	sets map[uint64][]Xattr
}

const deltaModeSize = 12

var (
	typeDeltaModes  = gvariant.ArrayOf(gvariant.TupleOf(gvariant.Uint32, gvariant.Uint32, gvariant.Uint32))
	typeDeltaXattrs = gvariant.ArrayOf(typeXattrs)
)

// decodePayload reads the tables of an unpacked part. All members of the tuple
// but the last have a framing offset, and none needs padding.
func decodePayload(r io.ReaderAt, size int64) (*deltaPayload, error) {
	width := int64(8)
	switch {
	case size <= math.MaxUint8:
		width = 1
	case size <= math.MaxUint16:
		width = 2
	case size <= math.MaxUint32:
		width = 4
	}
	if size < 3*width {
		return nil, corruptf("%d bytes can't hold 3 framing offsets", size)
	}
	body := size - 3*width
	var tail [24]byte
	if _, err := r.ReadAt(tail[:3*width], body); err != nil {
		return nil, short(err)
	}
	// The ends of the first three members, and the fourth's.
	ends := [4]int64{3: body}
	for i := range 3 {
		var b [8]byte
		copy(b[:], tail[int64(2-i)*width:int64(3-i)*width])
		end := binary.LittleEndian.Uint64(b[:])
		if end > uint64(body) || i > 0 && int64(end) < ends[i-1] {
			return nil, corruptf("member %d ends at %d of %d", i, end, body)
		}
		ends[i] = int64(end)
	}
	table := func(what string, from, to int64) ([]byte, error) {
		if to-from > maxDeltaTable {
			return nil, fmt.Errorf("%d bytes of %s, at most %d: %w", to-from, what, maxDeltaTable, errUnsupported)
		}
		data := make([]byte, to-from)
		if _, err := r.ReadAt(data, from); err != nil {
			return nil, short(err)
		}
		return data, nil
	}
	p := &deltaPayload{blob: io.NewSectionReader(r, ends[1], ends[2]-ends[1])}
	var err error
	if p.modes, err = table("modes", 0, ends[0]); err != nil {
		return nil, err
	}
	if err := gvariant.Check(typeDeltaModes, p.modes); err != nil {
		return nil, corrupt(err)
	}
	xattrs, err := table("attributes", ends[0], ends[1])
	if err != nil {
		return nil, err
	}
	if p.xattrs, err = gvariant.OpenArray(typeDeltaXattrs, xattrs); err != nil {
		return nil, corrupt(err)
	}
	p.ops, err = table("operations", ends[2], ends[3])
	return p, err
}

// deltaOp is an operation with its numbers.
type deltaOp struct {
	code byte
	args [4]uint64
}

// nextOp reads an operation.
func nextOp(ops []byte, meta bool) (op deltaOp, rest []byte, err error) {
	op.code, rest = ops[0], ops[1:]
	n := 0
	switch op.code {
	case 'S':
		if n = 4; meta {
			n = 2
		}
	case 'o':
		n = 3
	case 'w', 'B':
		n = 2
	case 'r':
		n = 1
	case 'R', 'c':
	default:
		return op, nil, corruptf("operation %q", op.code)
	}
	for i := range n {
		v, k := binary.Uvarint(rest)
		if k <= 0 {
			return op, nil, corruptf("operation %c has no number %d", op.code, i)
		}
		op.args[i], rest = v, rest[k:]
	}
	return op, rest, nil
}

// deltaObject says how an object is made.
type deltaObject struct {
	claimKey
	at, size int64 // where it lies whole
	// Of a content object:
	header File
	// If it does not lie there whole: the operations from its beginning to its
	// end, and where the checksum of the source that it begins with lies.
	ops    []byte
	source int64 // -1: none
}

// eachObject gives the part's objects in order. What fn is given is valid until
// it returns. count is called for each operation.
func (p *deltaPayload) eachObject(part *deltaPart, count func(code byte), fn func(*deltaObject) error) error {
	ops := p.ops
	done := 0
	source := int64(-1)
	for len(ops) > 0 {
		meta := done < part.count() && part.object(done).kind != TypeFile
		op, rest, err := nextOp(ops, meta)
		if err != nil {
			return err
		}
		count(op.code)
		o := deltaObject{source: -1}
		switch op.code {
		case 'S', 'o':
			if done == part.count() {
				return corruptf("makes more than %d objects", done)
			}
			o.claimKey = part.object(done)
			if meta && op.code == 'o' {
				return corruptf("%s %s is made like a file", o.kind, o.sum)
			}
			err = p.object(&o, op)
		case 'r':
			source, err = p.within(op.args[0], ChecksumSize)
		case 'R':
			source = -1
		default:
			err = corruptf("operation %c outside of a file", op.code)
		}
		if err == nil && op.code == 'o' {
			o.ops, o.source, source = rest, source, -1
			rest, err = p.program(&o, count)
		}
		if err == nil && (op.code == 'S' || op.code == 'o') {
			source = -1
			done++
			if err = fn(&o); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		ops = rest
	}
	if done < part.count() {
		return corruptf("makes %d objects, not %d", done, part.count())
	}
	return nil
}

// within checks that bytes lie in the content and gives their offset.
func (p *deltaPayload) within(offset, length uint64) (int64, error) {
	if size := uint64(p.blob.Size()); offset > size || length > size-offset {
		return 0, corruptf("%d bytes at %d of %d", length, offset, size)
	}
	return int64(offset), nil
}

// object reads the numbers of S and o.
func (p *deltaPayload) object(o *deltaObject, op deltaOp) (err error) {
	if o.kind != TypeFile {
		o.size = int64(op.args[0])
		o.at, err = p.within(op.args[1], op.args[0])
		return err
	}
	mode, xattrs, size := op.args[0], op.args[1], op.args[2]
	if mode >= uint64(len(p.modes)/deltaModeSize) || xattrs >= uint64(p.xattrs.Len()) {
		return corruptf("mode %d of %d, attributes %d of %d", mode, len(p.modes)/deltaModeSize, xattrs, p.xattrs.Len())
	}
	if size > math.MaxInt64 {
		return corruptf("%s of %d bytes", objectName(o.kind, o.sum), size)
	}
	o.size = int64(size)
	m := p.modes[mode*deltaModeSize:]
	o.header = File{UID: binary.BigEndian.Uint32(m), GID: binary.BigEndian.Uint32(m[4:]), Mode: binary.BigEndian.Uint32(m[8:])}
	if o.header.Xattrs, err = p.attributes(xattrs); err != nil {
		return err
	}
	if op.code == 'o' {
		if o.header.Mode&ModeType != ModeRegular {
			return corruptf("%s of mode %#o is made like a regular file", objectName(o.kind, o.sum), o.header.Mode)
		}
		o.header.Size = o.size
		return nil
	}
	if o.at, err = p.within(op.args[3], size); err != nil {
		return err
	}
	if o.header.Mode&ModeType == ModeSymlink {
		if o.size > maxTarget {
			return corruptf("link target of %d bytes, at most %d", o.size, maxTarget)
		}
		target := make([]byte, o.size)
		if _, err := p.blob.ReadAt(target, o.at); err != nil {
			return short(err)
		}
		o.header.Target = string(target)
		return nil
	}
	o.header.Size = o.size
	return nil
}

// attributes gives a set of attributes.
func (p *deltaPayload) attributes(number uint64) ([]Xattr, error) {
	if set, ok := p.sets[number]; ok {
		return set, nil
	}
	data, err := p.xattrs.At(int(number))
	if err != nil {
		return nil, corrupt(err)
	}
	set, err := decodeXattrs(data)
	if err != nil {
		return nil, err
	}
	if p.sets == nil {
		p.sets = map[uint64][]Xattr{}
	}
	p.sets[number] = set
	return set, nil
}

// program checks the operations of a file, cuts o's off behind the last and
// gives what follows.
func (p *deltaPayload) program(o *deltaObject, count func(code byte)) ([]byte, error) {
	hasSource := o.source >= 0
	left := uint64(o.size)
	for rest := o.ops; len(rest) > 0; {
		op, next, err := nextOp(rest, false)
		if err != nil {
			return nil, err
		}
		count(op.code)
		made := uint64(0)
		switch op.code {
		case 'w':
			made = op.args[0]
			if !hasSource {
				_, err = p.within(op.args[1], made)
			}
		case 'B':
			if !hasSource {
				return nil, corruptf("patch without a source")
			}
			made = uint64(o.size)
			_, err = p.within(op.args[0], op.args[1])
		case 'r':
			hasSource = true
			_, err = p.within(op.args[0], ChecksumSize)
		case 'R':
			hasSource = false
		case 'c':
			if left != 0 {
				return nil, corruptf("%s lacks %d bytes", objectName(o.kind, o.sum), left)
			}
			o.ops = o.ops[:len(o.ops)-len(next)]
			return next, nil
		default:
			return nil, corruptf("operation %c within a file", op.code)
		}
		if err != nil {
			return nil, err
		}
		if made > left {
			return nil, corruptf("%s gets more than %d bytes", objectName(o.kind, o.sum), o.size)
		}
		left -= made
		rest = next
	}
	return nil, corruptf("%s has no end", objectName(o.kind, o.sum))
}
