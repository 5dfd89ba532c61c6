package disk

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Sizes of what qcow2Sink writes, whose clusters are blocks.
const (
	qcow2PerTable = blockSize / 8 // entries of an L2 table
	qcow2PerRefs  = blockSize / 2 // reference counts of 16 bits in a cluster
)

// qcow2Sink writes version 3 (compat 1.1). Clusters go into the file in the order of the
// disk, L2 tables behind the clusters they name, and last the L1 table and the reference
// counts. Only the header, which names those, is written out of order.
type qcow2Sink struct {
	f      *output
	size   int64
	how    codec
	at     int64              // the next byte for compressed clusters; 0: there is no room
	next   int64              // clusters in the file
	counts map[int64][]uint16 // reference counts that are not written, by 2 GiB of the file
	refs   []uint64           // where reference counts are
	l1     []uint64
	table  int64 // the L2 table that is being made
	l2     []byte
	used   bool // l2 has entries
}

func newQCOW2Sink(f *output, size int64, compression string) *qcow2Sink {
	s := &qcow2Sink{
		f: f, size: size, how: map[string]codec{"": plain, "zlib": deflated, "zstd": zstdFrame}[compression],
		counts: make(map[int64][]uint16), l2: make([]byte, blockSize),
		l1: make([]uint64, (size+qcow2PerTable*blockSize-1)/(qcow2PerTable*blockSize)),
	}
	s.count(0)
	s.next = 1
	return s
}

func (s *qcow2Sink) codec() codec { return s.how }

// count adds a reference to a cluster of the file.
func (s *qcow2Sink) count(cluster int64) {
	i := cluster / qcow2PerRefs
	if s.counts[i] == nil {
		s.counts[i] = make([]uint16, qcow2PerRefs)
	}
	s.counts[i][cluster%qcow2PerRefs]++
}

// allocate gives n clusters at the end of the file.
func (s *qcow2Sink) allocate(n int64) int64 {
	first := s.next
	for i := range n {
		s.count(first + i)
	}
	s.next += n
	return first * blockSize
}

func (s *qcow2Sink) write(c *chunk) error {
	if err := s.turn(c.off / (qcow2PerTable * blockSize)); err != nil {
		return err
	}
	if s.how == plain {
		return c.runs(func(first, last int) error { return s.writePlain(c, first, last) })
	}
	packed := &c.packed[s.how]
	for i, zero := range c.zero {
		switch {
		case zero:
		case len(packed.block[i]) == 0:
			if err := s.writePlain(c, i, i+1); err != nil {
				return err
			}
		default:
			if err := s.writePacked(c, i, packed.block[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *qcow2Sink) writePlain(c *chunk, first, last int) error {
	at := s.allocate(int64(last - first))
	for i := first; i < last; i++ {
		s.enter(c, i, uint64(at+int64(i-first)*blockSize)|qcow2Copied)
	}
	_, err := s.f.WriteAt(c.data[first*blockSize:last*blockSize], at)
	return err
}

// writePacked puts a compressed cluster behind the one before, where it has room in the
// cluster of the file in which that ends, or may grow into the next.
func (s *qcow2Sink) writePacked(c *chunk, i int, data []byte) error {
	if room := -s.at & (blockSize - 1); s.at == 0 || int64(len(data)) > room && (s.at+room)/blockSize != s.next {
		s.at = s.next * blockSize
	}
	at, end := s.at, s.at+int64(len(data))
	for k := at / blockSize; k <= (end-1)/blockSize; k++ {
		s.count(k)
	}
	s.next = max(s.next, (end+blockSize-1)/blockSize)
	if s.at = end; end%blockSize == 0 {
		s.at = 0
	}
	const shift = 62 - 8 // 62 - (cluster bits - 8)
	more := (end-1)/512 - at/512
	s.enter(c, i, qcow2Compressed|uint64(more)<<shift|uint64(at))
	_, err := s.f.WriteAt(data, at)
	return err
}

// enter writes the L2 entry of a block.
func (s *qcow2Sink) enter(c *chunk, i int, entry uint64) {
	n := (c.off/blockSize + int64(i)) % qcow2PerTable
	binary.BigEndian.PutUint64(s.l2[8*n:], entry)
	s.used = true
}

// turn makes another L2 table the one that is filled.
func (s *qcow2Sink) turn(table int64) error {
	if table == s.table {
		return nil
	}
	if s.used {
		at := s.allocate(1)
		if _, err := s.f.WriteAt(s.l2, at); err != nil {
			return err
		}
		s.l1[s.table] = uint64(at) | qcow2Copied
		clear(s.l2)
		s.used = false
	}
	s.table = table
	// Counts that are final leave memory.
	s.at = 0
	return s.writeCounts(s.next/qcow2PerRefs - 1)
}

// writeCounts writes the reference counts of the first limit pieces of the file.
func (s *qcow2Sink) writeCounts(limit int64) error {
	for int64(len(s.refs)) < limit {
		i := int64(len(s.refs))
		at := s.allocate(1)
		p := make([]byte, blockSize)
		for j, n := range s.counts[i] {
			binary.BigEndian.PutUint16(p[2*j:], n)
		}
		if _, err := s.f.WriteAt(p, at); err != nil {
			return err
		}
		delete(s.counts, i)
		s.refs = append(s.refs, uint64(at))
	}
	return nil
}

func (s *qcow2Sink) finish(context.Context, [32]byte) (int64, error) {
	if err := s.turn(-1); err != nil {
		return 0, err
	}
	l1At, err := s.writeTable(s.l1)
	if err != nil {
		return 0, err
	}
	// The counts that are left count themselves and the table of all of them. It
	// is last, so room for both is found by trying.
	var pieces, tables int64
	for {
		end := s.next + pieces - int64(len(s.refs)) + tables
		n := (end + qcow2PerRefs - 1) / qcow2PerRefs
		t := (n*8 + blockSize - 1) / blockSize
		if n == pieces && t == tables {
			break
		}
		pieces, tables = n, t
	}
	left := pieces - int64(len(s.refs))
	refsAt := s.allocate(left)
	tableAt := s.allocate(tables)
	for i := range left {
		p := make([]byte, blockSize)
		for j, n := range s.counts[int64(len(s.refs))] {
			binary.BigEndian.PutUint16(p[2*j:], n)
		}
		if _, err := s.f.WriteAt(p, refsAt+i*blockSize); err != nil {
			return 0, err
		}
		s.refs = append(s.refs, uint64(refsAt+i*blockSize))
	}
	p := make([]byte, tables*blockSize)
	for i, at := range s.refs {
		binary.BigEndian.PutUint64(p[8*i:], at)
	}
	if _, err := s.f.WriteAt(p, tableAt); err != nil {
		return 0, err
	}
	if pieces*qcow2PerRefs < s.next {
		return 0, fmt.Errorf("reference counts of %d clusters for %d", pieces*qcow2PerRefs, s.next)
	}
	return s.next * blockSize, s.writeHeader(l1At, tableAt, tables)
}

// writeTable writes a table of its own clusters.
func (s *qcow2Sink) writeTable(table []uint64) (int64, error) {
	n := (int64(len(table))*8 + blockSize - 1) / blockSize
	at := s.allocate(n)
	p := make([]byte, n*blockSize)
	for i, e := range table {
		binary.BigEndian.PutUint64(p[8*i:], e)
	}
	_, err := s.f.WriteAt(p, at)
	return at, err
}

func (s *qcow2Sink) writeHeader(l1At, refsAt, refClusters int64) error {
	be := binary.BigEndian
	h := make([]byte, blockSize)
	copy(h, qcow2Magic)
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], 16) // clusters of 2^16 bytes
	be.PutUint64(h[24:], uint64(s.size))
	be.PutUint32(h[36:], uint32(len(s.l1)))
	be.PutUint64(h[40:], uint64(l1At))
	be.PutUint64(h[48:], uint64(refsAt))
	be.PutUint32(h[56:], uint32(refClusters))
	be.PutUint32(h[96:], 4) // reference counts of 2^4 bits
	be.PutUint32(h[100:], qcow2HeaderSize+8)
	if s.how == zstdFrame {
		be.PutUint64(h[72:], qcow2CompressionType)
		h[qcow2HeaderSize] = 1
	}
	_, err := s.f.WriteAt(h, 0)
	return err
}
