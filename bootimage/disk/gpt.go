package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"unicode/utf16"
)

// Table is the partition table of a disk.
type Table struct {
	Kind       string      `json:"kind"`           // gpt or mbr
	SectorSize int64       `json:"sectorSize"`     // bytes: 512 or 4096
	GUID       string      `json:"guid,omitempty"` // of the disk, in upper case; of gpt alone
	Partitions []Partition `json:"partitions"`     // by number
	// Faults are what is wrong without keeping the table from being used: a backup
	// that is not at the end of the disk, as on a disk that has grown, is damaged or
	// says something else than the primary table, or a primary table that is damaged
	// while the backup, which was read instead, is not.
	Faults []string `json:"faults,omitempty"`
}

// Partition is a part of a disk.
type Partition struct {
	Number     int    `json:"number"` // from 1
	Start      int64  `json:"start"`  // bytes
	Size       int64  `json:"size"`   // bytes
	Type       string `json:"type"`   // GUID in upper case; of mbr two hexadecimal digits
	GUID       string `json:"guid,omitempty"`
	Name       string `json:"name,omitempty"`
	Attributes uint64 `json:"attributes,omitempty"` // of gpt, as UEFI 2.10 table 5.7 has them
	Active     bool   `json:"active,omitempty"`     // the flag of mbr that says to boot from it
}

// Limits of partition tables. UEFI 2.10 sets none; Linux and sgdisk make 128 entries
// of 128 bytes.
const (
	maxEntries   = 1024
	maxEntrySize = 4096
)

// mbrProtective is the type of the entry that covers a disk with a GPT.
const mbrProtective = 0xee

var sectorSizes = []int64{512, 4096}

// Partitions reads the partition table, GPT (UEFI 2.10, chapter 5) or MBR with up to
// four partitions, of the raw disk of size bytes. GPT tables are found for sectors of
// 512 and of 4096 bytes. Both headers and their checksums are checked; if one of the
// two is not usable, [Table.Faults] say so. An error wraps [io/fs.ErrNotExist] where
// there is no table, [ErrCorrupt] where there is none that can be used, and
// [errors.ErrUnsupported] for an extended partition.
func Partitions(ctx context.Context, r io.ReaderAt, size int64) (*Table, error) {
	t, err := partitions(&source{ctx, r, size})
	if err != nil {
		return nil, &Error{Op: "read", Target: "partition table", Err: err}
	}
	return t, nil
}

func partitions(s *source) (*Table, error) {
	var mbr []byte
	if s.size >= 512 {
		var err error
		if mbr, err = s.bytes(0, 512); err != nil {
			return nil, err
		}
	}
	var primary, backup *gpt
	var faults []error
	for _, sector := range sectorSizes {
		g, err := readGPT(s, 1, sector)
		if err == nil {
			primary = g
			break
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, fmt.Errorf("primary table, sectors of %d bytes: %w", sector, err))
		}
	}
	if primary != nil {
		return primary.withBackup(s)
	}
	// Without a primary table, a backup counts that the protective entry or
	// a damaged primary table announces.
	if len(faults) > 0 || protective(mbr) {
		for _, sector := range sectorSizes {
			g, err := readGPT(s, s.size/sector-1, sector)
			if err == nil {
				backup = g
				break
			}
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if !errors.Is(err, fs.ErrNotExist) {
				faults = append(faults, fmt.Errorf("backup table, sectors of %d bytes: %w", sector, err))
			}
		}
		if backup == nil {
			return nil, errors.Join(append(faults, fmt.Errorf("no table can be used: %w", ErrCorrupt))...)
		}
		if len(faults) == 0 {
			backup.Faults = append(backup.Faults, "there is no primary table")
		}
		for _, err := range faults {
			backup.Faults = append(backup.Faults, err.Error())
		}
		return &backup.Table, nil
	}
	return readMBR(mbr, s.size)
}

// gpt is one of the two tables of a disk, with where it says the other one is.
type gpt struct {
	Table
	other, last int64 // sectors: the other header; the last usable one
	entries     []byte
}

// readGPT reads the table whose header is in a sector.
func readGPT(s *source, at, sector int64) (*gpt, error) {
	if at < 1 || (at+1)*sector > s.size {
		return nil, fs.ErrNotExist
	}
	h, err := s.bytes(at*sector, sector)
	if err != nil {
		return nil, err
	}
	if string(h[:8]) != "EFI PART" {
		return nil, fs.ErrNotExist
	}
	corrupt := func(format string, args ...any) (*gpt, error) {
		return nil, fmt.Errorf(format+": %w", append(args, ErrCorrupt)...)
	}
	le := binary.LittleEndian
	length := int64(le.Uint32(h[12:]))
	if length < 92 || length > sector {
		return corrupt("header of %d bytes", length)
	}
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	if crc32.ChecksumIEEE(h[:length]) != sum {
		return corrupt("header checksum")
	}
	if revision := le.Uint32(h[8:]); revision>>16 != 1 {
		return nil, fmt.Errorf("revision %#x: %w", revision, errors.ErrUnsupported)
	}
	sectors := uint64(s.size / sector)
	mine, other, first, last, list := le.Uint64(h[24:]), le.Uint64(h[32:]), le.Uint64(h[40:]), le.Uint64(h[48:]), le.Uint64(h[72:])
	count, entry := uint64(le.Uint32(h[80:])), uint64(le.Uint32(h[84:]))
	switch {
	case mine != uint64(at):
		return corrupt("header in sector %d says it is in sector %d", at, mine)
	case entry < 128 || entry > maxEntrySize || entry&(entry-1) != 0:
		return corrupt("entries of %d bytes", entry)
	case count == 0 || count > maxEntries:
		return corrupt("%d entries, of at most %d", count, maxEntries)
	case first < 2 || first > last || last >= 1<<54 || other >= 1<<54:
		return corrupt("usable sectors from %d to %d, other header in sector %d", first, last, other)
	case list < 2 || list >= sectors || list*uint64(sector)+count*entry > uint64(s.size):
		return corrupt("entries in sector %d of %d", list, sectors)
	}
	g := &gpt{other: int64(other), last: int64(last)}
	g.Kind, g.SectorSize, g.GUID = "gpt", sector, guid(h[56:72])
	if g.entries, err = s.bytes(int64(list)*sector, int64(count*entry)); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(g.entries) != le.Uint32(h[88:]) {
		return corrupt("checksum of the entries")
	}
	for i := range count {
		e := g.entries[i*entry:][:128]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		start, end := le.Uint64(e[32:]), le.Uint64(e[40:])
		if start < first || end > last || start > end || end >= sectors {
			return corrupt("partition %d from sector %d to %d of %d", i+1, start, end, sectors)
		}
		for _, p := range g.Partitions {
			if int64(start)*sector < p.Start+p.Size && int64(end+1)*sector > p.Start {
				return corrupt("partitions %d and %d overlap", p.Number, i+1)
			}
		}
		g.Partitions = append(g.Partitions, Partition{
			Number: int(i + 1), Start: int64(start) * sector, Size: int64(end-start+1) * sector,
			Type: guid(e[:16]), GUID: guid(e[16:32]), Attributes: le.Uint64(e[48:]), Name: utf16Text(e[56:128]),
		})
	}
	return g, nil
}

// withBackup checks the backup of a primary table.
func (g *gpt) withBackup(s *source) (*Table, error) {
	fault := func(format string, args ...any) { g.Faults = append(g.Faults, fmt.Sprintf(format, args...)) }
	if end := s.size/g.SectorSize - 1; g.other != end {
		fault("the backup table is in sector %d, the disk ends with sector %d", g.other, end)
	}
	backup, err := readGPT(s, g.other, g.SectorSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fault("there is no backup table in sector %d", g.other)
	case errors.Is(err, ErrCorrupt), errors.Is(err, errors.ErrUnsupported):
		fault("backup table: %v", err)
	case err != nil:
		return nil, err
	case backup.other != 1:
		fault("the backup table says that the primary one is in sector %d", backup.other)
	case backup.GUID != g.GUID, backup.last != g.last, !bytes.Equal(backup.entries, g.entries):
		fault("the backup table differs from the primary one")
	}
	return &g.Table, nil
}

// protective reports a master boot record that says that the disk has a GPT.
func protective(mbr []byte) bool {
	if len(mbr) < 512 || mbr[510] != 0x55 || mbr[511] != 0xaa {
		return false
	}
	for i := range 4 {
		if mbr[446+16*i+4] == mbrProtective {
			return true
		}
	}
	return false
}

// readMBR reads a master boot record, whose sectors have 512 bytes. One that has the
// signature and no partitions, such as that of a file system one boots from, is none.
func readMBR(mbr []byte, size int64) (*Table, error) {
	if len(mbr) < 512 || mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil, fs.ErrNotExist
	}
	t := &Table{Kind: "mbr", SectorSize: 512}
	for i := range 4 {
		e := mbr[446+16*i:][:16]
		start, count := int64(binary.LittleEndian.Uint32(e[8:]))*512, int64(binary.LittleEndian.Uint32(e[12:]))*512
		switch {
		case e[0]&0x7f != 0: // boot code, or text
			return nil, fs.ErrNotExist
		case e[4] == 0 || count == 0:
			continue
		case e[4] == 0x05 || e[4] == 0x0f || e[4] == 0x85:
			return nil, fmt.Errorf("extended partition %d: %w", i+1, errors.ErrUnsupported)
		case start == 0 || start+count > size:
			return nil, fmt.Errorf("partition %d of %d bytes at %d, of a disk of %d: %w", i+1, count, start, size, ErrCorrupt)
		}
		t.Partitions = append(t.Partitions, Partition{Number: i + 1, Start: start, Size: count, Type: fmt.Sprintf("%02x", e[4]), Active: e[0] != 0})
	}
	if t.Partitions == nil {
		return nil, fs.ErrNotExist
	}
	return t, nil
}

// guid is the text of a GUID whose first three parts are little-endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// utf16Text is the text of UTF-16LE that ends with a zero or with b.
func utf16Text(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return strings.ToValidUTF8(string(utf16.Decode(units)), "�")
}
