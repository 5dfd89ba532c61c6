package xfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxFileSize is how many bytes a file may have that is read whole, and MaxDirSize
// the entries of a directory that is searched.
const (
	MaxFileSize = 4 << 20
	MaxDirSize  = 16 << 20
)

// Types in the mode of an inode.
const (
	modeType = 0xf000
	modeDir  = 0x4000
	modeFile = 0x8000
	modeLink = 0xa000
)

// Where the content of an inode is.
const (
	formatLocal   = 1 // in the inode
	formatExtents = 2
	formatBtree   = 3
)

const (
	flagRealtime       = 0x1
	flag2LargeCounters = 0x10

	inodeSum          = 100
	inodeV2, inodeV3  = 100, 176 // bytes of fields
	maxLinkSize       = 1024
	extentSize        = 16
	pointerSize       = 8
	maxLevel          = 8
	unwritten         = 1 << 63
	nodeV4, nodeV5    = 24, 72 // bytes of the header of a node
	linkHeaderSize    = 56
	nodeMagicV4       = "BMAP"
	nodeMagicV5       = "BMA3"
	linkMagic         = "XSLM"
	maxNodes, maxRuns = 1 << 12, 1 << 16
)

var (
	nodeHeader = header{sum: 64, place: 24, uuid: 40, owner: 56}
	linkHeader = header{sum: 12, place: 40, uuid: 16, owner: 32}
)

// inode is a copy of one, with its number and what of it is content or tells where
// that is: the data fork.
type inode struct {
	number uint64
	raw    []byte
	fork   []byte
}

func (in *inode) kind() uint16 { return binary.BigEndian.Uint16(in.raw[2:]) & modeType }
func (in *inode) format() byte { return in.raw[5] }
func (in *inode) size() uint64 { return binary.BigEndian.Uint64(in.raw[56:]) }

// extents is how many the data fork has.
func (in *inode) extents() uint64 {
	if in.raw[4] == 3 && binary.BigEndian.Uint64(in.raw[120:])&flag2LargeCounters != 0 {
		return binary.BigEndian.Uint64(in.raw[24:])
	}
	return uint64(binary.BigEndian.Uint32(in.raw[76:]))
}

// wrong is an error about an inode.
func (in *inode) wrong(err error) error { return fmt.Errorf("inode %d: %w", in.number, err) }

// inode reads one. Its number is its allocation group, its block in it, and its place in
// that block.
func (f *FS) inode(number uint64) (*inode, error) {
	in := &inode{number: number, raw: make([]byte, 1<<f.inodeLog)}
	each := f.blockLog - f.inodeLog
	at, err := f.at(number>>each, 1)
	if err != nil {
		return nil, in.wrong(err)
	}
	at += int64(number&(1<<each-1)) << f.inodeLog
	if err := f.read(in.raw, at); err != nil {
		return nil, in.wrong(err)
	}
	if err := f.checkInode(in); err != nil {
		return nil, fmt.Errorf("inode %d at %d: %w", number, at, err)
	}
	in.fork = in.raw[inodeV2:]
	if f.sums {
		in.fork = in.raw[inodeV3:]
	}
	if attributes := int(in.raw[82]) * 8; attributes > 0 {
		if attributes > len(in.fork) {
			return nil, fmt.Errorf("inode %d at %d: attributes at %d of %d bytes: %w", number, at, attributes, len(in.fork), ErrCorrupt)
		}
		in.fork = in.fork[:attributes]
	}
	return in, nil
}

func (f *FS) checkInode(in *inode) error {
	version := in.raw[4]
	if string(in.raw[:2]) != "IN" || (version == 3) != f.sums || version == 0 || version > 3 {
		return fmt.Errorf("begins with %x, version %d: %w", in.raw[:2], version, ErrCorrupt)
	}
	if f.sums {
		if err := checkSum(in.raw, inodeSum); err != nil {
			return err
		}
		if is := binary.BigEndian.Uint64(in.raw[152:]); is != in.number || !bytes.Equal(in.raw[160:176], f.uuid) {
			return fmt.Errorf("says it is inode %d, or of another file system: %w", is, ErrCorrupt)
		}
	}
	if in.kind() == 0 {
		return fmt.Errorf("is not in use: %w", ErrCorrupt)
	}
	return nil
}

// run is consecutive blocks of a file; zero: they were never written.
type run struct {
	logical uint64
	at      int64
	count   uint64
	zero    bool
}

// blockMap is where the content of a file is.
type blockMap struct {
	limit uint64 // blocks of the file that are asked for
	runs  []run  // ascending
	end   uint64 // of those so far, also of those that are not asked for
	count uint64
	nodes int
	node  [maxLevel][]byte // the one of each level that is being read
}

// runs reads where the first blocks of an inode's content are, up to limit.
func (f *FS) runs(in *inode, limit uint64) ([]run, error) {
	m := &blockMap{limit: limit}
	var err error
	switch in.format() {
	case formatExtents:
		n := in.extents()
		if n > uint64(len(in.fork)/extentSize) {
			return nil, fmt.Errorf("%d extents in %d bytes: %w", n, len(in.fork), ErrCorrupt)
		}
		err = f.leaf(m, in.fork[:n*extentSize])
	case formatBtree:
		be := binary.BigEndian
		level, n := int(be.Uint16(in.fork)), int(be.Uint16(in.fork[2:]))
		if level == 0 || level > maxLevel {
			return nil, fmt.Errorf("tree of extents: level %d: %w", level, ErrCorrupt)
		}
		err = f.children(in, m, in.fork[4:], n, level-1)
	default:
		return nil, fmt.Errorf("content of format %d: %w", in.format(), ErrCorrupt)
	}
	if err == nil && m.count != in.extents() {
		err = fmt.Errorf("%d extents, not %d: %w", m.count, in.extents(), ErrCorrupt)
	}
	return m.runs, err
}

// leaf reads extents: 1 bit that they were never written, 54 of where in the file they
// are, 52 of where on the disk, 21 of how many blocks.
func (f *FS) leaf(m *blockMap, records []byte) error {
	be := binary.BigEndian
	for ; len(records) > 0; records = records[extentSize:] {
		high, low := be.Uint64(records), be.Uint64(records[8:])
		r := run{logical: high &^ unwritten >> 9, count: low & (1<<21 - 1), zero: high&unwritten != 0}
		block := high&(1<<9-1)<<43 | low>>21
		if r.count == 0 || m.count > 0 && r.logical < m.end {
			return fmt.Errorf("extent of %d blocks at %d after one to %d: %w", r.count, r.logical, m.end, ErrCorrupt)
		}
		m.count, m.end = m.count+1, r.logical+r.count
		var err error
		if r.at, err = f.at(block, r.count); err != nil {
			return fmt.Errorf("extent: %w", err)
		}
		if r.logical >= m.limit {
			continue
		}
		if len(m.runs) == maxRuns {
			return fmt.Errorf("more than %d extents: %w", maxRuns, errors.ErrUnsupported)
		}
		m.runs = append(m.runs, r)
	}
	return nil
}

// children reads the nodes below one, whose body has n keys and behind room for more of
// them as many pointers. They are of the level given.
func (f *FS) children(in *inode, m *blockMap, body []byte, n, level int) error {
	most := len(body) / (2 * pointerSize)
	if n == 0 || n > most {
		return fmt.Errorf("tree of extents: %d pointers in %d bytes: %w", n, len(body), ErrCorrupt)
	}
	name, size := nodeMagicV4, nodeV4
	if f.sums {
		name, size = nodeMagicV5, nodeV5
	}
	be := binary.BigEndian
	if m.node[level] == nil {
		m.node[level] = make([]byte, 1<<f.blockLog)
	}
	b := m.node[level]
	for pointers := body[most*pointerSize:][:n*pointerSize]; len(pointers) > 0; pointers = pointers[pointerSize:] {
		if m.nodes++; m.nodes > maxNodes {
			return fmt.Errorf("tree of extents: more than %d nodes: %w", maxNodes, errors.ErrUnsupported)
		}
		at, err := f.at(be.Uint64(pointers), 1)
		if err != nil {
			return fmt.Errorf("tree of extents: %w", err)
		}
		if err := f.read(b, at); err != nil {
			return err
		}
		if string(b[:4]) != name || int(be.Uint16(b[4:])) != level {
			return fmt.Errorf("tree of extents: block at %d begins with %x, not %x and level %d: %w", at, b[:6], name, level, ErrCorrupt)
		}
		if err := f.checkBlock(b, at, in, nodeHeader); err != nil {
			return fmt.Errorf("tree of extents: %w", err)
		}
		records := int(be.Uint16(b[6:]))
		switch {
		case level > 0:
			err = f.children(in, m, b[size:], records, level-1)
		case records == 0 || records > (len(b)-size)/extentSize:
			err = fmt.Errorf("tree of extents: block at %d has %d: %w", at, records, ErrCorrupt)
		default:
			err = f.leaf(m, b[size:][:records*extentSize])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// blocksOf is how many blocks have so many bytes.
func (f *FS) blocksOf(size uint64) uint64 { return (size + 1<<f.blockLog - 1) >> f.blockLog }

// content reads a file.
func (f *FS) content(in *inode) ([]byte, error) {
	size := in.size()
	switch {
	case size > MaxFileSize:
		return nil, fmt.Errorf("%d bytes, more than %d: %w", size, MaxFileSize, errors.ErrUnsupported)
	case binary.BigEndian.Uint16(in.raw[90:])&flagRealtime != 0:
		return nil, fmt.Errorf("is on the realtime device: %w", errors.ErrUnsupported)
	}
	runs, err := f.runs(in, f.blocksOf(size))
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	for _, r := range runs {
		if r.zero {
			continue
		}
		p := data[r.logical<<f.blockLog:]
		if err := f.read(p[:min(uint64(len(p)), r.count<<f.blockLog)], r.at); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// link reads where a symbolic link leads.
func (f *FS) link(in *inode) (string, error) {
	size := in.size()
	switch {
	case size == 0 || size > maxLinkSize:
		return "", fmt.Errorf("symbolic link of %d bytes: %w", size, ErrCorrupt)
	case in.format() == formatLocal:
		if size > uint64(len(in.fork)) {
			return "", fmt.Errorf("symbolic link of %d bytes in %d: %w", size, len(in.fork), ErrCorrupt)
		}
		return string(in.fork[:size]), nil
	case !f.sums:
		data, err := f.content(in)
		return string(data), err
	}
	runs, err := f.runs(in, maxLinkSize)
	if err != nil {
		return "", err
	}
	var target []byte
	for _, r := range runs { // each has a header and a part
		if r.zero || r.count > f.blocksOf(maxLinkSize+linkHeaderSize) {
			return "", fmt.Errorf("symbolic link in %d blocks: %w", r.count, ErrCorrupt)
		}
		b := make([]byte, r.count<<f.blockLog)
		if err := f.read(b, r.at); err != nil {
			return "", err
		}
		if err := f.checkBlock(b, r.at, in, linkHeader); err != nil {
			return "", fmt.Errorf("symbolic link: %w", err)
		}
		from, n := uint64(binary.BigEndian.Uint32(b[4:])), uint64(binary.BigEndian.Uint32(b[8:]))
		if string(b[:4]) != linkMagic || from != uint64(len(target)) || n == 0 || n > uint64(len(b)-linkHeaderSize) || n > size-from {
			return "", fmt.Errorf("symbolic link: block at %d begins with %x: %w", r.at, b[:12], ErrCorrupt)
		}
		target = append(target, b[linkHeaderSize:][:n]...)
	}
	if uint64(len(target)) != size {
		return "", fmt.Errorf("symbolic link of %d bytes has %d: %w", size, len(target), ErrCorrupt)
	}
	return string(target), nil
}
