package disk_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
)

// gptPart is a partition of [newGPT], in sectors.
type gptPart struct {
	first, last uint64
	name        string
}

const entriesSize = 128 * 128

// newGPT makes a disk with both tables as UEFI describes them.
func newGPT(sector, size int64, parts ...gptPart) []byte {
	le := binary.LittleEndian
	raw := make([]byte, size)
	sectors := uint64(size / sector)
	raw[446+4], raw[510], raw[511] = 0xee, 0x55, 0xaa
	entries := make([]byte, entriesSize)
	for i, p := range parts {
		e := entries[128*i:][:128]
		copy(e, "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4") // Linux filesystem data
		e[16] = byte(i + 1)
		le.PutUint64(e[32:], p.first)
		le.PutUint64(e[40:], p.last)
		for j, u := range utf16.Encode([]rune(p.name)) {
			le.PutUint16(e[56+2*j:], u)
		}
	}
	list := uint64(entriesSize / sector)
	header := func(mine, other, entriesAt uint64) {
		h := raw[int64(mine)*sector:][:92]
		copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
		le.PutUint64(h[24:], mine)
		le.PutUint64(h[32:], other)
		le.PutUint64(h[40:], 2+list)
		le.PutUint64(h[48:], sectors-2-list)
		copy(h[56:], "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10")
		le.PutUint64(h[72:], entriesAt)
		le.PutUint32(h[80:], 128)
		le.PutUint32(h[84:], 128)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(h[16:], 0)
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		copy(raw[int64(entriesAt)*sector:], entries)
	}
	header(1, sectors-1, 2)
	header(sectors-1, 1, sectors-1-list)
	return raw
}

// resum makes the checksums of the primary table right again.
func resum(raw []byte, sector int64) {
	le := binary.LittleEndian
	h := raw[sector:]
	if count, at := int64(le.Uint32(h[80:])), int64(le.Uint64(h[72:]))*sector; at > 0 && at < int64(len(raw)) && at+count*128 <= int64(len(raw)) {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(raw[at:][:count*128]))
	}
	le.PutUint32(h[16:], 0)
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
}

func TestPartitionsGPT(t *testing.T) {
	for _, sector := range []int64{512, 4096} {
		raw := newGPT(sector, 4<<20, gptPart{64, 127, "boot"}, gptPart{128, 300, "root ☃"})
		got, err := disk.Partitions(t.Context(), bytes.NewReader(raw), int64(len(raw)))
		require.NoError(t, err)
		require.Equal(t, &disk.Table{
			Kind: "gpt", SectorSize: sector, GUID: "04030201-0605-0807-090A-0B0C0D0E0F10",
			Partitions: []disk.Partition{
				{Number: 1, Start: 64 * sector, Size: 64 * sector, Type: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", GUID: "00000001-0000-0000-0000-000000000000", Name: "boot"},
				{Number: 2, Start: 128 * sector, Size: 173 * sector, Type: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", GUID: "00000002-0000-0000-0000-000000000000", Name: "root ☃"},
			},
		}, got)
	}
}

// TestPartitionsFaults reads tables of which one of two is not as it should be.
func TestPartitionsFaults(t *testing.T) {
	const size, end = 1 << 20, 1<<20 - 512
	for name, tt := range map[string]struct {
		change func(raw []byte) []byte
		want   []string
	}{
		"grown":                 {func(raw []byte) []byte { return append(raw, make([]byte, 1<<20)...) }, []string{"the backup table is in sector 2047, the disk ends with sector 4095"}},
		"no backup":             {func(raw []byte) []byte { clear(raw[end:]); return raw }, []string{"there is no backup table in sector 2047"}},
		"damaged backup":        {func(raw []byte) []byte { raw[end+60]++; return raw }, []string{"backup table: header checksum: corrupt image"}},
		"damaged list":          {func(raw []byte) []byte { raw[end-entriesSize+1]++; return raw }, []string{"backup table: checksum of the entries: corrupt image"}},
		"other partitions":      {func(raw []byte) []byte { raw[1024+16]++; resum(raw, 512); return raw }, []string{"the backup table differs from the primary one"}},
		"no primary":            {func(raw []byte) []byte { clear(raw[512:1024]); return raw }, []string{"there is no primary table"}},
		"damaged primary":       {func(raw []byte) []byte { raw[512+60]++; return raw }, []string{"primary table, sectors of 512 bytes: header checksum: corrupt image"}},
		"damaged primary, list": {func(raw []byte) []byte { raw[1024]++; return raw }, []string{"primary table, sectors of 512 bytes: checksum of the entries: corrupt image"}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := tt.change(newGPT(512, size, gptPart{64, 127, "boot"}))
			got, err := disk.Partitions(t.Context(), bytes.NewReader(raw), int64(len(raw)))
			require.NoError(t, err)
			require.Equal(t, tt.want, got.Faults)
			require.Len(t, got.Partitions, 1)
			require.Equal(t, "boot", got.Partitions[0].Name)
		})
	}
}

// TestPartitionsLie reads tables whose checksums are right and which lie.
func TestPartitionsLie(t *testing.T) {
	le := binary.LittleEndian
	for name, tt := range map[string]struct {
		change func(h, entries []byte)
		want   string
		is     error
	}{
		"many entries":     {func(h, _ []byte) { le.PutUint32(h[80:], 1<<31) }, "entries, of at most", disk.ErrCorrupt},
		"no entries":       {func(h, _ []byte) { le.PutUint32(h[80:], 0) }, "0 entries", disk.ErrCorrupt},
		"huge entries":     {func(h, _ []byte) { le.PutUint32(h[84:], 1<<30) }, "entries of 1073741824 bytes", disk.ErrCorrupt},
		"odd entries":      {func(h, _ []byte) { le.PutUint32(h[84:], 129) }, "entries of 129 bytes", disk.ErrCorrupt},
		"entries far away": {func(h, _ []byte) { le.PutUint64(h[72:], 1<<60) }, "entries in sector", disk.ErrCorrupt},
		"entries in front": {func(h, _ []byte) { le.PutUint64(h[72:], 1) }, "entries in sector 1", disk.ErrCorrupt},
		"elsewhere":        {func(h, _ []byte) { le.PutUint64(h[24:], 7) }, "header in sector 1 says it is in sector 7", disk.ErrCorrupt},
		"long header":      {func(h, _ []byte) { le.PutUint32(h[12:], 1<<31) }, "header of 2147483648 bytes", disk.ErrCorrupt},
		"past the end":     {func(_, e []byte) { le.PutUint64(e[40:], 1<<50) }, "partition 1 from sector 64 to 1125899906842624 of 2048", disk.ErrCorrupt},
		"ends before":      {func(_, e []byte) { le.PutUint64(e[40:], 63) }, "partition 1 from sector 64 to 63", disk.ErrCorrupt},
		"over the table":   {func(_, e []byte) { le.PutUint64(e[32:], 1) }, "partition 1 from sector 1", disk.ErrCorrupt},
		"overlap":          {func(_, e []byte) { le.PutUint64(e[128+32:], 100) }, "partitions 1 and 2 overlap", disk.ErrCorrupt},
		"future":           {func(h, _ []byte) { le.PutUint32(h[8:], 2<<16) }, "revision 0x20000", nil},
	} {
		t.Run(name, func(t *testing.T) {
			raw := newGPT(512, 1<<20, gptPart{64, 127, "a"}, gptPart{128, 200, "b"})
			clear(raw[len(raw)-512:])
			tt.change(raw[512:], raw[1024:])
			resum(raw, 512)
			if name == "long header" {
				le.PutUint32(raw[512+12:], 1<<31)
			}
			_, err := disk.Partitions(t.Context(), bytes.NewReader(raw), int64(len(raw)))
			require.ErrorContains(t, err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
		})
	}
}

func TestPartitionsMBR(t *testing.T) {
	raw := make([]byte, 1<<20)
	read := func() (*disk.Table, error) {
		return disk.Partitions(t.Context(), bytes.NewReader(raw), int64(len(raw)))
	}
	_, err := read()
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = disk.Partitions(t.Context(), bytes.NewReader(nil), 0)
	require.ErrorIs(t, err, fs.ErrNotExist)

	raw[510], raw[511] = 0x55, 0xaa
	_, err = read()
	require.ErrorIs(t, err, fs.ErrNotExist)

	copy(raw[446+16:], "\x80\x00\x00\x00\x83\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00")
	got, err := read()
	require.NoError(t, err)
	require.Equal(t, &disk.Table{Kind: "mbr", SectorSize: 512, Partitions: []disk.Partition{{Number: 2, Start: 256 * 512, Size: 512 * 512, Type: "83", Active: true}}}, got)

	raw[446+16+14] = 1
	_, err = read()
	require.ErrorIs(t, err, disk.ErrCorrupt)
	raw[446+16+4] = 5
	_, err = read()
	require.Error(t, err)
}

// TestPartitionsHeads reads the heads of disks that coreos-installer tests with.
func TestPartitionsHeads(t *testing.T) {
	dir := interop.SharedData(t, "bootimage", "coreos-installer", "gpt")
	for _, tt := range []struct {
		file   string
		sector int64
	}{{"gpt-512.xz", 512}, {"gpt-4096.xz", 4096}, {"gpt-512-duplicate-partition-guids.xz", 512}} {
		file, err := os.Open(filepath.Join(dir, tt.file))
		require.NoError(t, err)
		defer file.Close()
		unpacked, err := xz.NewReader(file)
		require.NoError(t, err)
		head, err := io.ReadAll(unpacked)
		require.NoError(t, err)
		size := int64(binary.LittleEndian.Uint64(head[tt.sector+32:])+1) * tt.sector
		got, err := disk.Partitions(t.Context(), sparse(head), size)
		require.NoError(t, err)
		require.Equal(t, tt.sector, got.SectorSize)
		require.Equal(t, "Linux filesystem", got.Partitions[0].Name)
		require.Empty(t, got.Faults)
	}
}

// sparse is a disk of which everything past a head is zero.
type sparse []byte

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s)) {
		copy(p, s[off:])
	}
	return len(p), nil
}

// TestPartitionsInterop reads what sgdisk makes.
func TestPartitionsInterop(t *testing.T) {
	interop.Peer(t, "sgdisk")
	path := filepath.Join(t.TempDir(), "disk.raw")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, 64<<20))
	out, err := exec.Command("sgdisk", "-n1:2048:+1M", "-t1:EF02", "-c1:BIOS-BOOT", "-n2:0:+8M", "-t2:EF00", "-c2:EFI-SYSTEM", "-A2:set:2", "-n5:0:0", "-c5:root", path).CombinedOutput()
	require.NoError(t, err, string(out))
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	got, err := disk.Partitions(t.Context(), file, 64<<20)
	require.NoError(t, err)
	require.Empty(t, got.Faults)
	require.Len(t, got.Partitions, 3)
	require.Equal(t, disk.Partition{Number: 2, Start: 2 << 20, Size: 8 << 20, Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", GUID: got.Partitions[1].GUID, Name: "EFI-SYSTEM", Attributes: 4}, got.Partitions[1])
	require.Equal(t, 5, got.Partitions[2].Number)
}

func FuzzPartitions(f *testing.F) {
	f.Add(newGPT(512, 64<<10, gptPart{40, 50, "a"}))
	f.Add(newGPT(4096, 128<<10, gptPart{8, 9, "a"}))
	f.Add([]byte("EFI PART"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		// Else nothing gets past the checksums. Those for sectors of 4096 bytes lie within the
		// entries of a table for 512.
		for _, sector := range []int64{4096, 512} {
			if int64(len(raw)) > 2*sector {
				resum(raw, sector)
			}
		}
		table, err := fuzzbound.Parse(t, 16, func(raw []byte) (*disk.Table, error) {
			return disk.Partitions(t.Context(), bytes.NewReader(raw), int64(len(raw)))
		}, raw)
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			require.Positive(t, p.Start)
			require.Positive(t, p.Size)
			require.LessOrEqual(t, p.Start+p.Size, int64(len(raw)))
		}
	})
}
