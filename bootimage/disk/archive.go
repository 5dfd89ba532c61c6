package disk

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
)

// parseTar lists a tar archive.
func parseTar(s *source) (*opened, error) {
	if s.size < 512 {
		return nil, nil
	}
	h, err := s.bytes(0, 512)
	if err != nil || string(h[257:262]) != "ustar" {
		return nil, err
	}
	found := &opened{info: Info{Format: Tar}, why: fmt.Errorf("an archive: %w", errors.ErrUnsupported)}
	archive := tar.NewReader(io.NewSectionReader(s.r, 0, s.size))
	for {
		if err := s.ctx.Err(); err != nil {
			return nil, err
		}
		member, err := archive.Next()
		if err == io.EOF {
			return found, nil
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if err != nil {
			return nil, err
		}
		if member.Typeflag != tar.TypeReg && member.Typeflag != tar.TypeGNUSparse {
			continue
		}
		if len(found.info.Files) == 0 && path.Ext(member.Name) == ".ovf" {
			found.info.Format = OVA
		}
		if member.Size > math.MaxInt64-found.info.VirtualSize {
			return nil, fmt.Errorf("%s of %d bytes: %w", member.Name, member.Size, ErrCorrupt)
		}
		found.info.VirtualSize += member.Size
		if len(found.info.Files) == MaxFiles {
			found.info.Faults = append(found.info.Faults, fmt.Sprintf("more than %d files", MaxFiles))
			return found, nil
		}
		found.info.Files = append(found.info.Files, File{member.Name, member.Size})
	}
}

// packed are formats that hide what is in them, by their first bytes.
var packed = []struct{ magic, name string }{
	{"\x1f\x8b\x08", "gzip"}, {"\xfd7zXZ\x00", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"BZh", "bzip2"}, {"PK\x03\x04", "zip"},
}

// parsePacked refuses what must be unpacked first, rather than call it a raw disk.
func parsePacked(s *source) (*opened, error) {
	h, err := s.bytes(0, min(s.size, 8))
	if err != nil {
		return nil, err
	}
	for _, p := range packed {
		if len(h) >= len(p.magic) && string(h[:len(p.magic)]) == p.magic {
			return nil, fmt.Errorf("it is packed with %s: unpack it first: %w", p.name, errors.ErrUnsupported)
		}
	}
	return nil, nil
}
