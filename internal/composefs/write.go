package composefs

import (
	"context"
	"encoding/binary"
	"io"
)

// output keeps count and the first error.
type output struct {
	ctx context.Context
	w   io.Writer
	buf []byte
	pos int64 // of buf's end
	err error
}

const outputSize = 256 << 10

func (o *output) flush() {
	if o.err == nil {
		o.err = o.ctx.Err()
	}
	if o.err == nil {
		_, o.err = o.w.Write(o.buf)
	}
	o.buf = o.buf[:0]
}

// add makes f append to the output.
func (o *output) add(f func(dst []byte) []byte) {
	before := len(o.buf)
	o.buf = f(o.buf)
	o.pos += int64(len(o.buf) - before)
	if len(o.buf) >= outputSize {
		o.flush()
	}
}

// to fills up with zeros.
func (o *output) to(pos int64) {
	o.add(func(dst []byte) []byte { return append(dst, make([]byte, pos-o.pos)...) })
}

// Write writes the image. The same tree always gives the same bytes, whatever
// the order in which its inodes came. An error is w's, that of ctx, or wraps
// [io/fs.ErrInvalid]: directories or inodes are missing, or the image gets too
// large. The Builder may not be used by others meanwhile.
func (b *Builder) Write(ctx context.Context, w io.Writer) error {
	l, err := b.layout()
	if err != nil {
		return err
	}
	o := &output{ctx: ctx, w: w}
	o.add(func(dst []byte) []byte { return b.appendSuper(dst, l) })
	data := l.dataStart
	var attrs []attr
	for i := range b.nodes {
		n := &b.nodes[i]
		in := &b.inodes[n.inode]
		o.to(int64(n.nid) * slot)
		attrs = b.attrs(attrs[:0], in)
		o.add(func(dst []byte) []byte {
			dst = n.append(dst, in, uint32(i), inlineSize(attrs), data)
			dst = appendInline(dst, attrs, l.inodesEnd)
			switch {
			case n.tail == 0:
			case in.mode&typeMask == typeDir:
				return b.appendNames(dst, uint32(i), false)
			case in.mode&typeMask == typeSymlink:
				return append(dst, in.target...)
			default:
				return append(dst, 0xff, 0xff, 0xff, 0xff) // no block
			}
			return dst
		})
		data += int64(n.blocks) * blockSize
	}
	o.to(l.inodesEnd)
	for _, a := range l.shared {
		o.add(a.append)
	}
	o.to(l.dataStart)
	for i := range b.nodes {
		n := &b.nodes[i]
		if n.blocks == 0 {
			continue
		}
		o.add(func(dst []byte) []byte {
			if in := &b.inodes[n.inode]; in.mode&typeMask == typeSymlink {
				return append(dst, in.target...)
			}
			return b.appendNames(dst, uint32(i), true)
		})
		o.to(align(o.pos, blockSize))
	}
	o.flush()
	return o.err
}

// Digest gives the image's fs-verity digest. See [Builder.Write].
func (b *Builder) Digest(ctx context.Context) (Digest, error) {
	var v Verity
	if err := b.Write(ctx, &v); err != nil {
		return Digest{}, err
	}
	return v.Sum(), nil
}

// The header and the superblock's fields that are not always 0.
const (
	headerMagic   = 0xd078629a
	headerVersion = 1
	flagACL       = 1

	superMagic = 0xe0f5e1e2
	compat     = 2 | 4 // modification times, filter of attribute names
)

func (b *Builder) appendSuper(dst []byte, l *layout) []byte {
	le := binary.LittleEndian
	head := make([]byte, superOffset+superSize)
	le.PutUint32(head, headerMagic)
	le.PutUint32(head[4:], headerVersion)
	if l.acl {
		le.PutUint32(head[8:], flagACL)
	}
	super := head[superOffset:]
	le.PutUint32(super, superMagic)
	le.PutUint32(super[8:], compat)
	super[12] = blockBits
	le.PutUint16(super[14:], uint16(b.nodes[0].nid))
	le.PutUint64(super[16:], uint64(len(b.nodes)))
	le.PutUint32(super[36:], uint32(l.dataStart/blockSize+l.dataBlocks))
	le.PutUint32(super[44:], uint32(l.inodesEnd/blockSize)) // where the shared attributes are
	return append(dst, head...)
}

// The layouts of an inode's data.
const (
	dataPlain  = 0 // blocks
	dataInline = 2 // blocks and a tail
	dataChunks = 4 // block addresses
)

// append appends the inode itself; number is its place in breadth-first order,
// size the length of its attributes and data where its blocks start.
func (n *node) append(dst []byte, in *inode, number uint32, size int, data int64) []byte {
	le := binary.LittleEndian
	layout, info := uint16(dataPlain), uint32(0)
	switch {
	case in.backed():
		layout, info = dataChunks, uint32(in.chunkBits()-blockBits)
	case n.tail > 0:
		layout = dataInline
	}
	if n.blocks > 0 {
		info = uint32(data / blockSize)
	}
	attrs := uint16(0)
	if size > 0 {
		attrs = uint16((size-xattrHeader)/4 + 1)
	}
	version := uint16(0)
	if n.extended {
		version = 1
	}
	dst = le.AppendUint16(dst, layout<<1|version)
	dst = le.AppendUint16(dst, attrs)
	dst = le.AppendUint16(dst, uint16(in.mode))
	if !n.extended {
		dst = le.AppendUint16(dst, uint16(n.links(in)))
		dst = le.AppendUint32(dst, uint32(n.length(in)))
		dst = le.AppendUint32(dst, 0)
		dst = le.AppendUint32(dst, info)
		dst = le.AppendUint32(dst, number)
		dst = le.AppendUint16(dst, uint16(in.uid))
		dst = le.AppendUint16(dst, uint16(in.gid))
		return le.AppendUint32(dst, 0)
	}
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint64(dst, uint64(n.length(in)))
	dst = le.AppendUint32(dst, info)
	dst = le.AppendUint32(dst, number)
	dst = le.AppendUint32(dst, in.uid)
	dst = le.AppendUint32(dst, in.gid)
	dst = append(dst, make([]byte, 12)...) // time
	dst = le.AppendUint32(dst, n.links(in))
	return append(dst, make([]byte, 16)...)
}

// appendNames appends what stands in a directory's blocks or in its tail.
func (b *Builder) appendNames(dst []byte, i uint32, blocks bool) []byte {
	list := b.dirents(i)
	start := len(dst)
	for full := uint32(0); len(list) > 0; full++ {
		count, size := 0, 0
		for _, d := range list {
			if size += direntSize + len(d.name); size > blockSize {
				break
			}
			count++
		}
		switch inBlock := full < b.nodes[i].blocks; {
		case inBlock && blocks:
			dst = b.appendDirents(dst, list[:count])
			dst = append(dst, make([]byte, align(len(dst)-start, blockSize)-(len(dst)-start))...)
		case !inBlock && !blocks:
			dst = b.appendDirents(dst, list[:count])
		}
		list = list[count:]
	}
	return dst
}

// appendDirents appends entries and then their names.
func (b *Builder) appendDirents(dst []byte, list []dirent) []byte {
	offset := direntSize * len(list)
	for _, d := range list {
		n := &b.nodes[d.node]
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n.nid))
		dst = binary.LittleEndian.AppendUint16(dst, uint16(offset))
		dst = append(dst, fileType(b.inodes[n.inode].mode), 0)
		offset += len(d.name)
	}
	for _, d := range list {
		dst = append(dst, d.name...)
	}
	return dst
}

// fileType is the type in a directory entry.
func fileType(mode uint32) uint8 {
	switch mode & typeMask {
	case typeRegular:
		return 1
	case typeDir:
		return 2
	case typeChar:
		return 3
	default: // a symbolic link
		return 7
	}
}
