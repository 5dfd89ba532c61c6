package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"slices"
)

// ErrFull is wrapped by errors that say a file system has no room left.
var ErrFull = errors.New("no free blocks")

// Patch is bytes and where in the file system they go.
type Patch struct {
	Offset int64
	Data   []byte
}

// Step is patches that may be written in any order. All of a step must be on the
// disk before the first of the next one is written.
type Step []Patch

// Steps gives all that there is to write since [Open]; nothing is written by
// this package.
func (f *FS) Steps() []Step { return f.steps }

// WriteFile replaces the content of a file that there is; whoever reads from f
// afterwards sees it. Times, owner, mode, links and extended attributes of the
// file stay. If the content is that already, there is nothing to write. At most
// [MaxFileSize] bytes. The error wraps [ErrFull] where there is no room.
func (f *FS) WriteFile(name string, data []byte) error {
	in, err := f.lookup(name)
	if err != nil {
		return err
	}
	if in.kind() != modeFile {
		return fmt.Errorf("ext4: %s: not a file: %w", name, fs.ErrInvalid)
	}
	if len(data) > MaxFileSize {
		return fmt.Errorf("ext4: %s: %d bytes, more than %d: %w", name, len(data), MaxFileSize, errors.ErrUnsupported)
	}
	if in.flags()&(flagVerity|flagHugeFile) != 0 {
		return fmt.Errorf("ext4: %s: sealed by verity, or a huge file: %w", name, errors.ErrUnsupported)
	}
	old, err := f.content(in, MaxFileSize)
	if err != nil {
		return err
	}
	if bytes.Equal(old, data) {
		return nil
	}
	sb, changed, steps := slices.Clone(f.sb), maps.Clone(f.changed), len(f.steps)
	if err := f.replace(in, data); err != nil {
		f.sb, f.changed, f.steps = sb, changed, f.steps[:steps]
		return fmt.Errorf("ext4: %s: %w", name, err)
	}
	return nil
}

// replace writes the content of an inode to new blocks and frees the old ones. A
// file system that is full gets it into the old blocks, if it fits.
func (f *FS) replace(in *inode, data []byte) error {
	was := &blockMap{}
	inline := in.flags()&flagInline != 0
	if !inline {
		var err error
		if was, err = f.blockMap(in); err != nil {
			return err
		}
	}
	need := uint64(len(data)+f.blockSize-1) / uint64(f.blockSize)
	runs, err := f.allocate(need, uint64((in.number-1)/f.inodesPerGroup))
	inPlace := errors.Is(err, ErrFull) && !inline && was.holds(need)
	if err != nil && !inPlace {
		return err
	}
	if inPlace {
		runs = was.runs
	}
	if err := f.step(f.writeData(runs, data)); err != nil {
		return err
	}
	if !inPlace {
		if err := f.step(f.mark(runs, true)); err != nil {
			return err
		}
	}
	binary.LittleEndian.PutUint32(in.raw[inodeSizeLo:], uint32(len(data)))
	binary.LittleEndian.PutUint32(in.raw[inodeSizeHi:], 0)
	if !inPlace {
		if err := f.point(in, was, runs, need); err != nil {
			return err
		}
	}
	if err := f.step(f.writeInode(in)); err != nil {
		return err
	}
	if !inPlace {
		free := slices.Clone(was.runs)
		for _, n := range was.nodes {
			free = append(free, run{start: n, count: 1})
		}
		return f.step(f.mark(free, false))
	}
	return nil
}

// holds reports whether a map has exactly so many blocks, all of them written.
func (m *blockMap) holds(need uint64) bool {
	at := uint64(0)
	for _, r := range m.runs {
		if r.zero || r.logical != at {
			return false
		}
		at += r.count
	}
	return at == need
}

// step ends a step of what was changed.
func (f *FS) step(patches []Patch, err error) error {
	if err == nil && len(patches) > 0 {
		f.steps = append(f.steps, patches)
	}
	return err
}

// writable is a block that is to be changed. The superblock's is not: [FS.mark] changes
// that, and what is written in its place is no file system any more.
func (f *FS) writable(n uint64) ([]byte, error) {
	if n <= f.firstDataBlock {
		return nil, fmt.Errorf("block %d, which has the superblock, is to be written: %w", n, ErrCorrupt)
	}
	return f.block(n)
}

// set changes a block and gives the patch, which has only what differs, nil if
// nothing does.
func (f *FS) set(n uint64, now []byte) ([]Patch, error) {
	was, err := f.writable(n)
	if err != nil {
		return nil, err
	}
	f.changed[n] = now
	return diff(int64(n)*int64(f.blockSize), was, now), nil
}

// diff is the patch at an offset that makes now of what was there.
func diff(at int64, was, now []byte) []Patch {
	from, to := 0, len(now)
	for from < to && was[from] == now[from] {
		from++
	}
	for to > from && was[to-1] == now[to-1] {
		to--
	}
	if from == to {
		return nil
	}
	return []Patch{{at + int64(from), slices.Clone(now[from:to])}}
}

// writeData fills blocks; the last one with zeros to its end.
func (f *FS) writeData(runs []run, data []byte) (patches []Patch, err error) {
	for _, r := range runs {
		for i := range r.count {
			b := make([]byte, f.blockSize)
			data = data[copy(b, data):]
			p, err := f.set(r.start+i, b)
			if err != nil {
				return nil, err
			}
			patches = append(patches, p...)
		}
	}
	return patches, nil
}

// writeInode puts an inode, with its checksum, into its table.
func (f *FS) writeInode(in *inode) ([]Patch, error) {
	f.sumInode(in)
	n, at, err := f.inodeAt(in.number)
	if err != nil {
		return nil, err
	}
	b, err := f.block(n)
	if err != nil {
		return nil, err
	}
	b = slices.Clone(b)
	copy(b[at:], in.raw)
	return f.set(n, b)
}

const (
	maxRootExtents = 4
	directBlocks   = 12
)

// point makes an inode point to runs instead of what it pointed to.
func (f *FS) point(in *inode, was *blockMap, runs []run, need uint64) error {
	le := binary.LittleEndian
	sectors := uint64(f.blockSize / 512)
	used := uint64(in.u32(inodeBlocksLo))
	if f.has(roHugeFile) {
		used |= uint64(in.u16(inodeBlocksHi)) << 32
	}
	had := uint64(len(was.nodes))
	for _, r := range was.runs {
		had += r.count
	}
	if used < had*sectors {
		return fmt.Errorf("inode says it has %d sectors, its blocks are %d: %w", used, had*sectors, ErrCorrupt)
	}
	used += (need - had) * sectors
	le.PutUint32(in.raw[inodeBlocksLo:], uint32(used))
	if f.has(roHugeFile) {
		le.PutUint16(in.raw[inodeBlocksHi:], uint16(used>>32))
	}
	flags := in.flags()
	if flags&flagInline != 0 {
		flags &^= flagInline
		if err := in.dropInlineData(); err != nil {
			return err
		}
	}
	root := in.raw[inodeBlock : inodeBlock+inlineSize]
	clear(root)
	if f.incompat&incompatExtents == 0 {
		if need > directBlocks {
			return fmt.Errorf("%d blocks without extents: %w", need, errors.ErrUnsupported)
		}
		for _, r := range runs {
			for i := range r.count {
				le.PutUint32(root[4*(r.logical+i):], uint32(r.start+i))
			}
		}
	} else {
		flags |= flagExtents
		le.PutUint16(root, 0xf30a)
		le.PutUint16(root[2:], uint16(len(runs)))
		le.PutUint16(root[4:], maxRootExtents)
		for i, r := range runs {
			e := root[12*(i+1):]
			le.PutUint32(e, uint32(r.logical))
			le.PutUint16(e[4:], uint16(r.count))
			le.PutUint16(e[6:], uint16(r.start>>32))
			le.PutUint32(e[8:], uint32(r.start))
		}
	}
	le.PutUint32(in.raw[inodeFlags:], flags)
	return nil
}

// dropInlineData removes the attribute that holds content from an inode; the
// values of the others move to the end, as the kernel has them.
func (in *inode) dropInlineData() error {
	attrs, err := in.attributes()
	if err != nil {
		return err
	}
	if len(attrs) == 0 {
		return nil
	}
	start := 128 + in.extra()
	body := make([]byte, len(in.raw)-start)
	at, end := 4, len(body)
	for _, a := range attrs {
		if a.isInlineData() {
			continue
		}
		size := (len(a.value) + 3) &^ 3
		if end-size < at+attributeHead+len(a.name)+4 {
			return fmt.Errorf("extended attributes: %w", ErrCorrupt)
		}
		binary.LittleEndian.PutUint32(body, attributeMagic)
		head := slices.Clone(a.head)
		if a.value != nil {
			end -= size
			copy(body[end:], a.value)
			binary.LittleEndian.PutUint16(head[2:], uint16(end-4))
		}
		copy(body[at:], head)
		copy(body[at+attributeHead:], a.name)
		at += (attributeHead + len(a.name) + 3) &^ 3
	}
	copy(in.raw[start:], body)
	return nil
}

// bitmap reads a copy of a group's block bitmap and its descriptor. A group
// whose bitmap was never written gives none.
func (f *FS) bitmap(g uint64) (bitmap, desc []byte, err error) {
	d, err := f.desc(g)
	if err != nil {
		return nil, nil, err
	}
	if f.has(roGDTChecksum|roMetadataCsum) && binary.LittleEndian.Uint16(d[descFlags:])&groupBlockUninit != 0 {
		return nil, d, nil
	}
	b, err := f.block(f.wide(d, descBlockBitmap, descBlockBitmapHi))
	if err != nil {
		return nil, nil, err
	}
	b = slices.Clone(b)
	if was := slices.Clone(d); f.has(roMetadataCsum) {
		if f.sumBitmap(d, b); !bytes.Equal(was, d) {
			return nil, nil, fmt.Errorf("block bitmap of group %d: checksum: %w", g, ErrCorrupt)
		}
	}
	return b, d, nil
}

// sumBitmap sets the checksum of a bitmap in its descriptor.
func (f *FS) sumBitmap(d, bitmap []byte) {
	sum := crc32c(f.seed, bitmap[:f.blocksPerGroup/8])
	binary.LittleEndian.PutUint16(d[descBlockBitmapCsum:], uint16(sum))
	if f.descSize >= 64 {
		binary.LittleEndian.PutUint16(d[descBlockBitmapCsumHi:], uint16(sum>>16))
	}
}

// allocate finds so many free blocks: the first run in the group, or one of those
// after it, that has them all, or else the first few runs that have them together.
// Groups whose bitmap was never written are passed over.
func (f *FS) allocate(need, group uint64) ([]run, error) {
	if need == 0 {
		return nil, nil
	}
	var pieces []run
	for i := range f.groups {
		g := (group + i) % f.groups
		bitmap, _, err := f.bitmap(g)
		if err != nil {
			return nil, err
		}
		if bitmap == nil {
			continue
		}
		for from, count := range freeRuns(bitmap, f.groupBlocks(g)) {
			if count >= need {
				return []run{{start: f.groupStart(g) + from, count: need}}, nil
			}
			if len(pieces) < maxRootExtents {
				pieces = append(pieces, run{start: f.groupStart(g) + from, count: count})
			}
		}
	}
	logical := uint64(0)
	for i := range pieces {
		pieces[i].logical = logical
		pieces[i].count = min(pieces[i].count, need-logical)
		if logical += pieces[i].count; logical == need {
			return pieces[:i+1], nil
		}
	}
	return nil, fmt.Errorf("%d blocks of %d bytes: %w", need, f.blockSize, ErrFull)
}

// freeRuns gives the runs of zero bits among the first n, each as long as it is.
func freeRuns(bitmap []byte, n uint64) func(yield func(from, count uint64) bool) {
	return func(yield func(from, count uint64) bool) {
		for at := uint64(0); at < n; {
			if b := bitmap[at/8] >> (at % 8); b&1 != 0 { // used: to the next bit of the byte that is not
				at += min(uint64(bits.TrailingZeros8(^b)), 8-at%8)
				continue
			}
			from := at
			for at < n && bitmap[at/8]>>(at%8)&1 == 0 {
				at++
			}
			if !yield(from, at-from) {
				return
			}
		}
	}
}

// mark marks blocks as used or as free, in bitmaps, descriptors and superblock.
func (f *FS) mark(runs []run, used bool) (patches []Patch, err error) {
	before := map[uint64][]byte{}
	count := uint64(0)
	for _, r := range runs {
		for n := r.start; n < r.start+r.count; {
			if n < f.firstDataBlock || n >= f.blocks {
				return nil, fmt.Errorf("block %d of %d: %w", n, f.blocks, ErrCorrupt)
			}
			g := (n - f.firstDataBlock) / f.blocksPerGroup
			end := min(r.start+r.count, f.groupStart(g)+f.groupBlocks(g))
			if err := f.markIn(g, n, end, used, before); err != nil {
				return nil, err
			}
			count += end - n
			n = end
		}
	}
	for _, n := range slices.Sorted(maps.Keys(before)) {
		patches = append(patches, diff(int64(n)*int64(f.blockSize), before[n], f.changed[n])...)
	}
	sb := slices.Clone(f.sb)
	free := uint64(f.u32(0xc))
	if f.incompat&incompat64Bit != 0 {
		free |= uint64(f.u32(0x158)) << 32
	}
	if free, err = moved(free, count, used, f.blocks); err != nil {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	binary.LittleEndian.PutUint32(f.sb[0xc:], uint32(free))
	if f.incompat&incompat64Bit != 0 {
		binary.LittleEndian.PutUint32(f.sb[0x158:], uint32(free>>32))
	}
	if f.has(roMetadataCsum) {
		binary.LittleEndian.PutUint32(f.sb[0x3fc:], crc32c(^uint32(0), f.sb[:0x3fc]))
	}
	return append(patches, diff(superblockAt, sb, f.sb)...), nil
}

// markIn marks the blocks from n to end, all of a group. What blocks held before
// their first change goes into before.
func (f *FS) markIn(g, n, end uint64, used bool, before map[uint64][]byte) error {
	bitmap, d, err := f.bitmap(g)
	if err != nil {
		return err
	}
	if bitmap == nil {
		return fmt.Errorf("block %d is in group %d, which has never been used: %w", n, g, ErrCorrupt)
	}
	for i := n; i < end; i++ {
		bit := i - f.groupStart(g)
		if is := bitmap[bit/8]>>(bit%8)&1 != 0; is == used {
			return fmt.Errorf("block %d is marked as used: %t, so it cannot become that: %w", i, is, ErrCorrupt)
		}
		bitmap[bit/8] ^= 1 << (bit % 8)
	}
	le := binary.LittleEndian
	free := uint64(le.Uint16(d[descFreeBlocks:]))
	if f.descSize >= 64 {
		free |= uint64(le.Uint16(d[descFreeBlocksHi:])) << 16
	}
	if free, err = moved(free, end-n, used, f.groupBlocks(g)); err != nil {
		return fmt.Errorf("group %d: %w", g, err)
	}
	le.PutUint16(d[descFreeBlocks:], uint16(free))
	if f.descSize >= 64 {
		le.PutUint16(d[descFreeBlocksHi:], uint16(free>>16))
	}
	if f.has(roMetadataCsum) {
		f.sumBitmap(d, bitmap)
	}
	if sum, ok := f.descSum(g, d); ok {
		le.PutUint16(d[descChecksum:], sum)
	}
	if err := f.change(f.wide(d, descBlockBitmap, descBlockBitmapHi), bitmap, before); err != nil {
		return err
	}
	at, in := f.descAt(g)
	b, err := f.block(at)
	if err != nil {
		return err
	}
	b = slices.Clone(b)
	copy(b[in:], d)
	return f.change(at, b, before)
}

func (f *FS) change(n uint64, now []byte, before map[uint64][]byte) error {
	was, err := f.writable(n)
	if err != nil {
		return err
	}
	if _, ok := before[n]; !ok {
		before[n] = was
	}
	f.changed[n] = now
	return nil
}

// moved is a count of free blocks after so many became used or free.
func moved(free, count uint64, used bool, most uint64) (uint64, error) {
	switch {
	case used && free < count, !used && free+count > most:
		return 0, fmt.Errorf("says %d blocks are free: %w", free, ErrCorrupt)
	case used:
		return free - count, nil
	}
	return free + count, nil
}
