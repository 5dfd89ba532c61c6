package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// The format is described in QEMU's docs/interop/qcow2.txt. All numbers are
// big-endian.
const (
	qcow2Magic        = "QFI\xfb"
	qcow2HeaderSize   = 104 // of version 3, without extensions
	qcow2Copied       = 1 << 63
	qcow2Compressed   = 1 << 62
	qcow2AllZero      = 1
	qcow2OffsetMask   = 1<<56 - 1<<9
	qcow2MaxExtension = 64 << 10 // bytes, of one header extension
)

// Incompatible features, by bit.
const (
	qcow2Dirty = 1 << iota
	qcow2CorruptBit
	qcow2ExternalData
	qcow2CompressionType
	qcow2ExtendedL2
	qcow2KnownBits = iota
)

// qcow2 reads the disk of an image.
type qcow2 struct {
	r           io.ReaderAt
	fileSize    int64
	size        int64
	clusterBits uint
	zstd        bool
	l1          []uint64

	mu       sync.Mutex
	l2       map[int64][]uint64 // by offset; the last ones used
	unpacked map[uint64][]byte  // by L2 entry; the last ones used
	inflate  io.ReadCloser
	decoder  *zstd.Decoder
}

// What is kept of an image that is read.
const (
	qcow2KeptTables   = 4 << 20 // bytes
	qcow2KeptClusters = 4 << 20 // bytes
)

func parseQCOW2(s *source) (*opened, error) {
	if s.size < 72 {
		return nil, nil
	}
	h, err := s.bytes(0, min(s.size, qcow2HeaderSize+8))
	if err != nil || string(h[:4]) != qcow2Magic {
		return nil, err
	}
	be := binary.BigEndian
	corrupt := func(format string, args ...any) (*opened, error) {
		return nil, fmt.Errorf(format+": %w", append(args, ErrCorrupt)...)
	}
	version, size := be.Uint32(h[4:]), be.Uint64(h[24:])
	backing, bits := be.Uint64(h[8:]), uint(be.Uint32(h[20:]))
	crypt, l1Size, l1At := be.Uint32(h[32:]), int64(be.Uint32(h[36:])), be.Uint64(h[40:])
	refAt, refClusters, snapshots := be.Uint64(h[48:]), int64(be.Uint32(h[56:])), be.Uint32(h[60:])
	if version != 2 && version != 3 {
		return nil, fmt.Errorf("version %d: %w", version, errors.ErrUnsupported)
	}
	if backing != 0 {
		return nil, fmt.Errorf("it has a backing file: %w", errors.ErrUnsupported)
	}
	var incompatible, compatible, autoclear uint64
	headerLength := int64(72)
	compression := byte(0)
	if version == 3 {
		if len(h) < qcow2HeaderSize {
			return corrupt("header of %d bytes", len(h))
		}
		incompatible, compatible, autoclear = be.Uint64(h[72:]), be.Uint64(h[80:]), be.Uint64(h[88:])
		headerLength = int64(be.Uint32(h[100:]))
		if headerLength < qcow2HeaderSize || headerLength%8 != 0 || headerLength > min(s.size, 1<<bits) {
			return corrupt("header of %d bytes", headerLength)
		}
		if headerLength > qcow2HeaderSize && len(h) > qcow2HeaderSize {
			compression = h[qcow2HeaderSize]
		}
		if order := be.Uint32(h[96:]); order > 6 {
			return corrupt("reference counts of 2^%d bits", order)
		}
	}
	if incompatible>>qcow2KnownBits != 0 {
		return nil, fmt.Errorf("incompatible features %#x: %w", incompatible, errors.ErrUnsupported)
	}
	if incompatible&qcow2ExternalData != 0 {
		return nil, fmt.Errorf("its data is in another file: %w", errors.ErrUnsupported)
	}
	if incompatible&qcow2CompressionType == 0 {
		if compression != 0 {
			return corrupt("compression type %d without its feature bit", compression)
		}
	} else if compression > 1 {
		return nil, fmt.Errorf("compression type %d: %w", compression, errors.ErrUnsupported)
	}
	if bits < 9 || bits > 21 {
		return corrupt("clusters of 2^%d bytes", bits)
	}
	cluster := int64(1) << bits
	switch {
	case size > 1<<62:
		return corrupt("disk of %d bytes", size)
	case l1Size*8 > maxTable:
		return corrupt("%d L1 entries", l1Size)
	case l1At%uint64(cluster) != 0 || refAt%uint64(cluster) != 0:
		return corrupt("tables that are not at a cluster: %d, %d", l1At, refAt)
	case l1Size > 0 && (l1At == 0 || l1At > uint64(s.size) || l1Size*8 > s.size-int64(l1At)):
		return corrupt("L1 table of %d entries at %d, in %d bytes", l1Size, l1At, s.size)
	case refAt == 0 || refAt > uint64(s.size) || refClusters > s.size>>bits:
		return corrupt("reference count table of %d clusters at %d, in %d bytes", refClusters, refAt, s.size)
	}
	entry := int64(8)
	if incompatible&qcow2ExtendedL2 != 0 {
		entry = 16
	}
	if perTable := uint64(cluster / entry * cluster); (size+perTable-1)/perTable > uint64(l1Size) {
		return corrupt("%d L1 entries for a disk of %d bytes", l1Size, size)
	}
	found := &opened{info: Info{VirtualSize: int64(size), BlockSize: cluster}}
	found.info.feature(version == 2, "compat=0.10")
	found.info.feature(version == 3, "compat=1.1")
	if incompatible&qcow2CompressionType != 0 && compression == 1 {
		found.info.feature(true, "compression_type=zstd")
	}
	found.info.feature(compatible&1 != 0, "lazy_refcounts")
	found.info.feature(autoclear&1 != 0, "bitmaps")
	found.info.feature(autoclear&2 != 0, "data_file_raw")
	found.info.feature(incompatible&qcow2ExtendedL2 != 0, "extended_l2")
	found.info.feature(crypt != 0, "encrypted")
	found.info.feature(snapshots != 0, "snapshots")
	if incompatible&qcow2Dirty != 0 {
		found.info.Faults = append(found.info.Faults, "reference counts are dirty")
	}
	if incompatible&qcow2CorruptBit != 0 {
		found.info.Faults = append(found.info.Faults, "it is marked as corrupt")
	}
	if err := qcow2Extensions(s, headerLength, cluster); err != nil {
		return nil, err
	}
	switch {
	case crypt != 0:
		found.why = fmt.Errorf("it is encrypted: %w", errors.ErrUnsupported)
		return found, nil
	case incompatible&qcow2ExtendedL2 != 0:
		found.why = fmt.Errorf("extended L2 entries: %w", errors.ErrUnsupported)
		return found, nil
	}
	q := &qcow2{
		r: s.r, fileSize: s.size, size: int64(size), clusterBits: bits, zstd: compression == 1,
		l2: make(map[int64][]uint64), unpacked: make(map[uint64][]byte),
	}
	if q.l1, err = qcow2Table(s.r, int64(l1At), l1Size); err != nil {
		return nil, err
	}
	found.content = q
	return found, nil
}

// qcow2Extensions looks for header extensions that lead to other files.
func qcow2Extensions(s *source, off, cluster int64) error {
	for {
		if off+8 > min(s.size, cluster) {
			return nil
		}
		h, err := s.bytes(off, 8)
		if err != nil {
			return err
		}
		kind, n := binary.BigEndian.Uint32(h), int64(binary.BigEndian.Uint32(h[4:]))
		switch {
		case kind == 0:
			return nil
		case n > qcow2MaxExtension || n > cluster-off-8:
			return fmt.Errorf("header extension %#x of %d bytes: %w", kind, n, ErrCorrupt)
		case kind == 0xe2792aca: // of a backing format, without a backing file: nothing to read
		case kind == 0x44415441:
			return fmt.Errorf("its data is in another file: %w", errors.ErrUnsupported)
		}
		off += 8 + (n+7)&^7
	}
}

func qcow2Table(r io.ReaderAt, off, n int64) ([]uint64, error) {
	p := make([]byte, n*8)
	if err := readFull(r, p, off); err != nil {
		return nil, err
	}
	table := make([]uint64, n)
	for i := range table {
		table[i] = binary.BigEndian.Uint64(p[8*i:])
	}
	return table, nil
}

// table gives an L2 table; nil for one that is all zero.
func (q *qcow2) table(i int64) ([]uint64, error) {
	at := int64(q.l1[i] & qcow2OffsetMask)
	if at == 0 {
		return nil, nil
	}
	if t := q.l2[at]; t != nil {
		return t, nil
	}
	cluster := int64(1) << q.clusterBits
	if at%cluster != 0 || at > q.fileSize-cluster {
		return nil, fmt.Errorf("L2 table at %d of %d bytes: %w", at, q.fileSize, ErrCorrupt)
	}
	if int64(len(q.l2)) >= max(2, qcow2KeptTables/cluster) {
		clear(q.l2)
	}
	t, err := qcow2Table(q.r, at, cluster/8)
	if err == nil {
		q.l2[at] = t
	}
	return t, err
}

// entry gives the L2 entry of the cluster that has a byte of the disk; 0: it is zero.
func (q *qcow2) entry(off int64) (uint64, error) {
	perTable := uint(q.clusterBits - 3)
	t, err := q.table(off >> q.clusterBits >> perTable)
	if t == nil || err != nil {
		return 0, err
	}
	e := t[off>>q.clusterBits&(1<<perTable-1)]
	if e&qcow2Compressed == 0 && (e&qcow2AllZero != 0 || e&qcow2OffsetMask == 0) {
		return 0, nil
	}
	return e, nil
}

func (q *qcow2) readAt(p []byte, off int64) error {
	cluster := int64(1) << q.clusterBits
	for len(p) > 0 {
		within := off & (cluster - 1)
		n := min(int64(len(p)), cluster-within)
		if err := q.readCluster(p[:n], off, within); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (q *qcow2) readCluster(p []byte, off, within int64) error {
	q.mu.Lock()
	e, err := q.entry(off)
	if err != nil || e == 0 {
		q.mu.Unlock()
		clear(p)
		return err
	}
	if e&qcow2Compressed != 0 {
		defer q.mu.Unlock()
		data, err := q.unpack(e &^ qcow2Copied)
		if err != nil {
			return fmt.Errorf("cluster at %d: %w", off-within, err)
		}
		copy(p, data[within:])
		return nil
	}
	q.mu.Unlock()
	at, cluster := int64(e&qcow2OffsetMask), int64(1)<<q.clusterBits
	if at%cluster != 0 || at > q.fileSize {
		return fmt.Errorf("cluster at %d is at %d of %d bytes: %w", off-within, at, q.fileSize, ErrCorrupt)
	}
	// The last cluster of a file may be cut where it is zero.
	n := min(int64(len(p)), max(0, q.fileSize-at-within))
	clear(p[n:])
	return readFull(q.r, p[:n], at+within)
}

// unpack decompresses a cluster.
func (q *qcow2) unpack(e uint64) ([]byte, error) {
	if data := q.unpacked[e]; data != nil {
		return data, nil
	}
	cluster := int64(1) << q.clusterBits
	shift := 62 - (q.clusterBits - 8)
	at := int64(e & (1<<shift - 1))
	n := int64(e&(qcow2Compressed-1)>>shift+1)*512 - at&511
	if at >= q.fileSize {
		return nil, fmt.Errorf("it is at %d of %d bytes: %w", at, q.fileSize, ErrCorrupt)
	}
	packed := make([]byte, min(n, q.fileSize-at))
	if err := readFull(q.r, packed, at); err != nil {
		return nil, err
	}
	data := make([]byte, cluster)
	if err := q.decompress(data, packed); err != nil {
		return nil, fmt.Errorf("decompress: %w: %w", ErrCorrupt, err)
	}
	if int64(len(q.unpacked)) >= max(2, qcow2KeptClusters/cluster) {
		clear(q.unpacked)
	}
	q.unpacked[e] = data
	return data, nil
}

// decompress fills data. What follows the compressed data is of the next cluster.
func (q *qcow2) decompress(data, packed []byte) error {
	in := bytes.NewReader(packed)
	if q.zstd {
		if q.decoder == nil {
			var err error
			if q.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true)); err != nil {
				return err
			}
		}
		if err := q.decoder.Reset(in); err != nil {
			return err
		}
		_, err := io.ReadFull(q.decoder, data)
		return err
	}
	if q.inflate == nil {
		q.inflate = flate.NewReader(in)
	} else if err := q.inflate.(flate.Resetter).Reset(in, nil); err != nil {
		return err
	}
	_, err := io.ReadFull(q.inflate, data)
	return err
}

func (q *qcow2) next(off int64) (int64, int64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	cluster := int64(1) << q.clusterBits
	return nextOf(off, q.size, cluster, cluster/8*cluster,
		func(i int64) bool { return q.l1[i]&qcow2OffsetMask != 0 },
		func(off int64) (bool, error) { e, err := q.entry(off); return e != 0, err })
}
