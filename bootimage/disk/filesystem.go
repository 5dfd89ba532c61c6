package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// fileSystem is a found file system, which is read as the raw disk it is.
func (s *source) fileSystem(info Info) *opened {
	return &opened{info: info, content: &rawContent{s.r, s.size}}
}

// parseISO reads the volume descriptors of ECMA-119, chapter 8.
func parseISO(s *source) (*opened, error) {
	const sector, first, most = 2048, 16, 64
	if s.size < (first+1)*sector {
		return nil, nil
	}
	d, err := s.bytes(first*sector, sector)
	if err != nil || string(d[1:6]) != "CD001" {
		return nil, err
	}
	if d[0] != 1 || d[6] != 1 {
		return nil, fmt.Errorf("first volume descriptor of type %d, version %d: %w", d[0], d[6], errors.ErrUnsupported)
	}
	le := binary.LittleEndian
	blocks, block := int64(le.Uint32(d[80:])), int64(le.Uint16(d[128:]))
	if block < 512 || block > 2048 || block&(block-1) != 0 {
		return nil, fmt.Errorf("blocks of %d bytes: %w", block, ErrCorrupt)
	}
	found := s.fileSystem(Info{VirtualSize: s.size, BlockSize: block, Label: text(d[40:72])})
	if blocks*block > s.size {
		found.info.Faults = append(found.info.Faults, fmt.Sprintf("the volume has %d bytes, the file only %d", blocks*block, s.size))
	}
	for i := int64(first + 1); i < first+most && d[0] != 255; i++ {
		if (i+1)*sector > s.size {
			break
		}
		if d, err = s.bytes(i*sector, sector); err != nil {
			return nil, err
		}
		if string(d[1:6]) != "CD001" {
			break
		}
		found.info.feature(d[0] == 0 && strings.HasPrefix(string(d[7:39]), "EL TORITO SPECIFICATION"), "el-torito")
		found.info.feature(d[0] == 2 && d[88] == '%' && d[89] == '/', "joliet")
	}
	return found, nil
}

// text is a padded name.
func text(p []byte) string {
	name, _, _ := strings.Cut(string(p), "\x00")
	return strings.ToValidUTF8(strings.TrimRight(name, " "), "�")
}

// parseSquashFS reads the superblock of Linux's fs/squashfs/squashfs_fs.h.
func parseSquashFS(s *source) (*opened, error) {
	if s.size < 96 {
		return nil, nil
	}
	h, err := s.bytes(0, 96)
	if err != nil || string(h[:4]) != "hsqs" {
		return nil, err
	}
	le := binary.LittleEndian
	block, method, log, flags := int64(le.Uint32(h[12:])), le.Uint16(h[20:]), le.Uint16(h[22:]), le.Uint16(h[24:])
	major, minor, used := le.Uint16(h[28:]), le.Uint16(h[30:]), le.Uint64(h[40:])
	switch {
	case major != 4:
		return nil, fmt.Errorf("version %d.%d: %w", major, minor, errors.ErrUnsupported)
	case block < 4<<10 || block > 1<<20 || log > 20 || block != 1<<log:
		return nil, fmt.Errorf("blocks of %d bytes, 2^%d: %w", block, log, ErrCorrupt)
	case used < 96 || used > uint64(s.size):
		return nil, fmt.Errorf("%d bytes in a file of %d: %w", used, s.size, ErrCorrupt)
	}
	methods := []string{"", "gzip", "lzma", "lzo", "xz", "lz4", "zstd"}
	if method == 0 || int(method) >= len(methods) {
		return nil, fmt.Errorf("compression %d: %w", method, errors.ErrUnsupported)
	}
	found := s.fileSystem(Info{VirtualSize: s.size, BlockSize: block})
	found.info.feature(true, "compression="+methods[method])
	found.info.feature(flags&0x80 != 0, "exportable")
	found.info.feature(flags&0x200 == 0, "xattrs")
	return found, nil
}

// parseEROFS reads the superblock of Linux's fs/erofs/erofs_fs.h.
func parseEROFS(s *source) (*opened, error) {
	const at, size = 1024, 128
	if s.size < at+size {
		return nil, nil
	}
	h, err := s.bytes(at, size)
	le := binary.LittleEndian
	if err != nil || le.Uint32(h) != 0xe0f5e1e2 {
		return nil, err
	}
	bits, compatible, incompatible := h[12], le.Uint32(h[8:]), le.Uint32(h[80:])
	blocks, devices := uint64(le.Uint32(h[36:])), le.Uint16(h[86:])
	if bits < 9 || bits > 16 {
		return nil, fmt.Errorf("blocks of 2^%d bytes: %w", bits, ErrCorrupt)
	}
	block := int64(1) << bits
	switch {
	case incompatible&8 != 0 && devices > 0:
		return nil, fmt.Errorf("its data is on %d other devices: %w", devices, errors.ErrUnsupported)
	case blocks > uint64(s.size)>>bits:
		return nil, fmt.Errorf("%d blocks of %d bytes in a file of %d: %w", blocks, block, s.size, ErrCorrupt)
	}
	if compatible&1 != 0 && block > at {
		super, err := s.bytes(at, min(block, s.size)-at)
		if err != nil {
			return nil, err
		}
		sum := le.Uint32(super[4:])
		clear(super[4:8])
		if ^crc32.Checksum(super, castagnoli) != sum {
			return nil, fmt.Errorf("checksum of the superblock: %w", ErrCorrupt)
		}
	}
	found := s.fileSystem(Info{VirtualSize: s.size, BlockSize: block, Label: text(h[64:80])})
	for bit, word := range []string{"lz4-0padding", "big-pcluster", "chunked-file", "device-table", "compr-head2", "fragments", "xattr-prefixes"} {
		found.info.feature(incompatible&(1<<bit) != 0, word)
	}
	return found, nil
}
