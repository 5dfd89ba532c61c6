package xfs_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/xfs"
)

var update = flag.Bool("update", false, "make the file systems in testdata anew: needs xfsprogs and root")

// image is a disk of which only those sectors are kept that are not zeros, and that
// may be changed without what it was made from.
type image struct {
	size    int64
	sectors map[int64][]byte
	changed map[int64][]byte
	seen    map[int64]bool // if it isn't nil: what was read
}

func (i *image) sector(n int64) []byte {
	if s := i.changed[n]; s != nil {
		return s
	}
	return i.sectors[n]
}

func (i *image) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at := off + int64(n)
		if at >= i.size {
			return n, io.EOF
		}
		if i.seen != nil {
			i.seen[at/512] = true
		}
		part := p[n:min(len(p), n+int(512-at%512))]
		if s := i.sector(at / 512); s != nil {
			copy(part, s[at%512:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	return len(p), nil
}

// clone gives one to change.
func (i *image) clone() *image {
	return &image{size: i.size, sectors: i.sectors, changed: map[int64][]byte{}}
}

// set changes bytes.
func (i *image) set(at int64, data ...byte) {
	for _, b := range data {
		s := bytes.Clone(i.sector(at / 512))
		if s == nil {
			s = make([]byte, 512)
		}
		s[at%512] = b
		i.changed[at/512] = s
		at++
	}
}

func (i *image) bytes(at int64, n int) []byte {
	p := make([]byte, n)
	_, _ = i.ReadAt(p, at)
	return p
}

func (i *image) u16(at int64) uint16 { return binary.BigEndian.Uint16(i.bytes(at, 2)) }
func (i *image) u32(at int64) uint32 { return binary.BigEndian.Uint32(i.bytes(at, 4)) }
func (i *image) u64(at int64) uint64 { return binary.BigEndian.Uint64(i.bytes(at, 8)) }

// resum sets the checksum of n bytes, which is in them at a place.
func (i *image) resum(at int64, n, sum int) {
	i.set(at+int64(sum), 0, 0, 0, 0)
	var le [4]byte
	binary.LittleEndian.PutUint32(le[:], crc32.Checksum(i.bytes(at, n), crc32.MakeTable(crc32.Castagnoli)))
	i.set(at+int64(sum), le[:]...)
}

// change sets bytes, and then the checksums of the structures that have the first, if
// they are known.
func (i *image) change(at int64, data ...byte) {
	sums := i.sumsOf(at)
	i.set(at, data...)
	for _, s := range sums {
		i.resum(s.at, int(s.size), s.sum)
	}
}

type summed struct {
	at, size int64
	sum      int
}

// sumsOf finds the structures that have a byte.
func (i *image) sumsOf(at int64) (all []summed) {
	block := int64(i.u32(4))
	if block < 512 || block > 1<<16 || i.u16(100)&0xf != 5 {
		return nil
	}
	inode := int64(512)
	if string(i.bytes(at/inode*inode, 2)) == "IN" {
		all = append(all, summed{at / inode * inode, inode, 100})
	}
	dir := block << min(i.bytes(192, 1)[0], 7)
	for size, sums := range map[int64]map[string]int{512: {"XFSB": 224}, block: {"BMA3": 64, "XSLM": 12}, dir: {"XDB3": 4, "XDD3": 4}} {
		for magic, sum := range sums {
			if start := at / size * size; string(i.bytes(start, 4)) == magic {
				all = append(all, summed{start, size, sum})
			}
		}
	}
	return all
}

// inodeAt tells where an inode is.
func (i *image) inodeAt(number uint64) int64 {
	geometry := i.bytes(120, 8) // logarithms
	block, inode, group := geometry[0], geometry[2], geometry[4]
	n := number >> (block - inode)
	fsBlock := n>>group*uint64(i.u32(84)) + n&(1<<group-1)
	return int64(fsBlock<<block + number&(1<<(block-inode)-1)<<inode)
}

// inodeOf finds the inode of so many bytes and a mode: the first.
func (i *image) inodeOf(t testing.TB, mode uint16, size int) int64 {
	t.Helper()
	for _, n := range slices.Sorted(maps.Keys(i.sectors)) {
		for at := n * 512; at < n*512+512; at += 256 {
			if string(i.bytes(at, 2)) == "IN" && i.u16(at+2)&0xf000 == mode && i.u64(at+56) == uint64(size) {
				return at
			}
		}
	}
	require.Fail(t, "no such inode")
	return 0
}

// load reads what save wrote.
func load(t testing.TB, name string) *image {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(z)
	require.NoError(t, err)
	i := &image{size: int64(binary.BigEndian.Uint32(data)), sectors: map[int64][]byte{}}
	for s := range slices.Chunk(data[4:], 516) {
		i.sectors[int64(binary.BigEndian.Uint32(s))] = s[4:]
	}
	return i
}

// save writes a size and, of a disk, the sectors that are not zeros, each behind its number.
func save(t testing.TB, name, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	zeros := make([]byte, 512)
	for n := 0; n < len(data)/512; n++ {
		if s := data[n*512:][:512]; !bytes.Equal(s, zeros) {
			out = append(binary.BigEndian.AppendUint32(out, uint32(n)), s...)
		}
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	require.NoError(t, err)
	_, err = z.Write(out)
	require.NoError(t, errors.Join(err, z.Close()))
	require.NoError(t, os.MkdirAll("testdata", 0o755))
	require.NoError(t, os.WriteFile(filepath.Join("testdata", name+".gz"), packed.Bytes(), 0o644))
}

// read opens a file system and reads a file.
func read(r io.ReaderAt, size int64, name string) ([]byte, error) {
	f, err := xfs.Open(r, size)
	if err != nil {
		return nil, err
	}
	return f.ReadFile(name)
}
