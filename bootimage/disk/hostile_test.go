package disk_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
)

// small makes a disk of 2 MiB, and images of it in every format.
func small(t testing.TB) (raw []byte, images map[string][]byte) {
	t.Helper()
	raw = newGPT(512, 2<<20, gptPart{64, 127, "boot"})
	copy(raw[1<<20:], "content")
	root := openRoot(t)
	_, err := disk.Convert(t.Context(), root, openRaw(t, bytes.NewReader(raw), len(raw)), everyTarget(), &disk.ConvertOptions{NoSync: true})
	require.NoError(t, err)
	images = make(map[string][]byte)
	for _, target := range everyTarget() {
		images[target.Name], err = os.ReadFile(filepath.Join(root.Name(), target.Name))
		require.NoError(t, err)
	}
	return raw, images
}

var (
	be = binary.BigEndian
	le = binary.LittleEndian
)

// fixVHD and fixVHDX make checksums right again.
func fixVHD(p []byte) {
	f := p[len(p)-512:]
	be.PutUint32(f[64:], 0)
	var sum uint32
	for _, b := range f {
		sum += uint32(b)
	}
	be.PutUint32(f[64:], ^sum)
}

func fixVHDX(p []byte) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for at, n := range map[int]int{64 << 10: 4096, 128 << 10: 4096, 192 << 10: 64 << 10, 256 << 10: 64 << 10} {
		if at+n <= len(p) {
			le.PutUint32(p[at+4:], 0)
			le.PutUint32(p[at+4:], crc32.Checksum(p[at:at+n], table))
		}
	}
}

// TestLyingHeaders probes images of which one number lies.
func TestLyingHeaders(t *testing.T) {
	_, images := small(t)
	const item = 2<<20 + 64<<10 // VHDX's metadata items: parameters, size, identifier, sectors
	for name, tt := range map[string]struct {
		image  string
		change func(p []byte) []byte
		is     error
		want   string
	}{
		"qcow2 version":         {"a.qcow2", func(p []byte) []byte { be.PutUint32(p[4:], 4); return p }, errors.ErrUnsupported, "version 4"},
		"qcow2 backing":         {"a.qcow2", func(p []byte) []byte { be.PutUint64(p[8:], 512); return p }, errors.ErrUnsupported, "backing file"},
		"qcow2 external":        {"a.qcow2", func(p []byte) []byte { p[79] |= 4; return p }, errors.ErrUnsupported, "in another file"},
		"qcow2 external name":   {"a.qcow2", func(p []byte) []byte { be.PutUint64(p[112:], 0x44415441_00000004); return p }, errors.ErrUnsupported, "in another file"},
		"qcow2 feature":         {"a.qcow2", func(p []byte) []byte { p[72] = 1; return p }, errors.ErrUnsupported, "incompatible features"},
		"qcow2 clusters":        {"a.qcow2", func(p []byte) []byte { be.PutUint32(p[20:], 63); return p }, disk.ErrCorrupt, ""},
		"qcow2 tiny clusters":   {"a.qcow2", func(p []byte) []byte { be.PutUint32(p[20:], 8); return p }, disk.ErrCorrupt, "clusters of 2^8"},
		"qcow2 size":            {"a.qcow2", func(p []byte) []byte { be.PutUint64(p[24:], 1<<63); return p }, disk.ErrCorrupt, "disk of 9223372036854775808 bytes"},
		"qcow2 larger":          {"a.qcow2", func(p []byte) []byte { be.PutUint64(p[24:], 1<<40); return p }, disk.ErrCorrupt, "1 L1 entries for a disk"},
		"qcow2 L1 size":         {"a.qcow2", func(p []byte) []byte { be.PutUint32(p[36:], 1<<31); return p }, disk.ErrCorrupt, "L1 entries"},
		"qcow2 L1 place":        {"a.qcow2", func(p []byte) []byte { be.PutUint64(p[40:], 1<<50); return p }, disk.ErrCorrupt, "L1 table"},
		"qcow2 L1 in a cluster": {"a.qcow2", func(p []byte) []byte { p[47]++; return p }, disk.ErrCorrupt, "not at a cluster"},
		"qcow2 counts":          {"a.qcow2", func(p []byte) []byte { be.PutUint64(p[48:], 1<<50); return p }, disk.ErrCorrupt, "reference count table"},
		"qcow2 count bits":      {"a.qcow2", func(p []byte) []byte { be.PutUint32(p[96:], 7); return p }, disk.ErrCorrupt, "2^7 bits"},
		"qcow2 header":          {"a.qcow2", func(p []byte) []byte { be.PutUint32(p[100:], 1<<20); return p }, disk.ErrCorrupt, "header of"},
		"qcow2 compression":     {"a-zstd.qcow2", func(p []byte) []byte { p[104] = 9; return p }, errors.ErrUnsupported, "compression type 9"},
		"qcow2 no compression":  {"a.qcow2", func(p []byte) []byte { p[104] = 1; return p }, disk.ErrCorrupt, "without its feature bit"},
		"qcow2 extension":       {"a.qcow2", func(p []byte) []byte { be.PutUint64(p[112:], 0x11223344_7fffffff); return p }, disk.ErrCorrupt, "header extension"},
		"qcow2 cut":             {"a.qcow2", func(p []byte) []byte { return p[:80] }, disk.ErrCorrupt, ""},

		"vmdk version":     {"a.vmdk", func(p []byte) []byte { le.PutUint32(p[len(p)-1024+4:], 9); return p }, errors.ErrUnsupported, "version 9"},
		"vmdk as text":     {"a.vmdk", func(p []byte) []byte { p[len(p)-1024+75] = '\n'; return p }, disk.ErrCorrupt, "line ends"},
		"vmdk tables":      {"a.vmdk", func(p []byte) []byte { le.PutUint32(p[len(p)-1024+44:], 1<<30); return p }, disk.ErrCorrupt, "grain tables"},
		"vmdk grains":      {"a.vmdk", func(p []byte) []byte { le.PutUint64(p[len(p)-1024+20:], 1<<40); return p }, disk.ErrCorrupt, "grains of"},
		"vmdk size":        {"a.vmdk", func(p []byte) []byte { le.PutUint64(p[len(p)-1024+12:], 1<<63); return p }, disk.ErrCorrupt, "disk of"},
		"vmdk larger":      {"a.vmdk", func(p []byte) []byte { le.PutUint64(p[len(p)-1024+12:], 1<<32); return p }, disk.ErrCorrupt, "grain directory"},
		"vmdk directory":   {"a.vmdk", func(p []byte) []byte { le.PutUint64(p[len(p)-1024+56:], 1<<60); return p }, disk.ErrCorrupt, "grain directory"},
		"vmdk descriptor":  {"a.vmdk", func(p []byte) []byte { le.PutUint64(p[len(p)-1024+28:], 1<<60); return p }, disk.ErrCorrupt, "descriptor"},
		"vmdk compression": {"a.vmdk", func(p []byte) []byte { p[len(p)-1024+77] = 7; return p }, errors.ErrUnsupported, "compression 7"},
		"vmdk cut":         {"a.vmdk", func(p []byte) []byte { return p[:len(p)-4096] }, disk.ErrCorrupt, "a transfer was cut"},
		"vmdk short":       {"a.vmdk", func(p []byte) []byte { return p[:1024] }, disk.ErrCorrupt, "no room"},
		"vmdk parent":      {"a.vmdk", func(p []byte) []byte { return bytes.Replace(p, []byte("ffffffff"), []byte("12345678"), 1) }, errors.ErrUnsupported, "parent"},
		"vmdk flat":        {"a.vmdk", func(p []byte) []byte { return bytes.Replace(p, []byte(" SPARSE "), []byte(" FLAT   "), 1) }, errors.ErrUnsupported, "other files"},
		"vmdk kind": {"a.vmdk", func(p []byte) []byte {
			return bytes.Replace(p, []byte("streamOptimized"), []byte("vmfsSparseThere"), 1)
		}, errors.ErrUnsupported, "vmfsSparseThere"},

		"vhd checksum":     {"a.vhd", func(p []byte) []byte { p[len(p)-1]++; return p }, disk.ErrCorrupt, "footer checksum"},
		"vhd version":      {"a.vhd", func(p []byte) []byte { be.PutUint32(p[len(p)-500:], 2<<16); fixVHD(p); return p }, errors.ErrUnsupported, "version"},
		"vhd size":         {"a.vhd", func(p []byte) []byte { be.PutUint64(p[len(p)-512+48:], 1<<62); fixVHD(p); return p }, disk.ErrCorrupt, "disk of"},
		"vhd larger":       {"a.vhd", func(p []byte) []byte { be.PutUint64(p[len(p)-512+48:], 3<<20); fixVHD(p); return p }, disk.ErrCorrupt, "disk of 3145728 bytes in"},
		"vhd parent":       {"a.vhd", func(p []byte) []byte { p[len(p)-512+63] = 4; fixVHD(p); return p }, errors.ErrUnsupported, "parent"},
		"vhd kind":         {"a.vhd", func(p []byte) []byte { p[len(p)-512+63] = 9; fixVHD(p); return p }, errors.ErrUnsupported, "disk type 9"},
		"vhd dynamic":      {"a.vhd", func(p []byte) []byte { p[len(p)-512+63] = 3; fixVHD(p); return p }, disk.ErrCorrupt, "header at"},
		"vhd no header":    {"a.vhd", func(p []byte) []byte { p[len(p)-512+63] = 3; be.PutUint64(p[len(p)-512+16:], 512); fixVHD(p); return p }, disk.ErrCorrupt, "no header at"},
		"vhdx headers":     {"a.vhdx", func(p []byte) []byte { clear(p[64<<10 : 192<<10]); return p }, disk.ErrCorrupt, "no header"},
		"vhdx version":     {"a.vhdx", func(p []byte) []byte { p[128<<10+66] = 2; fixVHDX(p); return p }, errors.ErrUnsupported, "version 2"},
		"vhdx regions":     {"a.vhdx", func(p []byte) []byte { clear(p[192<<10 : 320<<10]); return p }, disk.ErrCorrupt, "no region table"},
		"vhdx many":        {"a.vhdx", func(p []byte) []byte { le.PutUint32(p[192<<10+8:], 1<<31); fixVHDX(p); return p }, disk.ErrCorrupt, "regions"},
		"vhdx region":      {"a.vhdx", func(p []byte) []byte { le.PutUint64(p[192<<10+32:], 1<<60); fixVHDX(p); return p }, disk.ErrCorrupt, "region"},
		"vhdx required":    {"a.vhdx", func(p []byte) []byte { p[192<<10+16]++; fixVHDX(p); return p }, errors.ErrUnsupported, "is required"},
		"vhdx blocks":      {"a.vhdx", func(p []byte) []byte { le.PutUint32(p[item:], 1<<31); return p }, disk.ErrCorrupt, "blocks of"},
		"vhdx parent":      {"a.vhdx", func(p []byte) []byte { p[item+4] = 2; return p }, errors.ErrUnsupported, "parent"},
		"vhdx size":        {"a.vhdx", func(p []byte) []byte { le.PutUint64(p[item+8:], 1<<63); return p }, disk.ErrCorrupt, "disk of"},
		"vhdx larger":      {"a.vhdx", func(p []byte) []byte { le.PutUint64(p[item+8:], 1<<40); return p }, disk.ErrCorrupt, "block allocation table"},
		"vhdx sectors":     {"a.vhdx", func(p []byte) []byte { p[item+32] = 1; return p }, disk.ErrCorrupt, "sectors of"},
		"vhdx items":       {"a.vhdx", func(p []byte) []byte { p[2<<20+10] = 2; return p }, disk.ErrCorrupt, "no metadata"},
		"vhdx item":        {"a.vhdx", func(p []byte) []byte { le.PutUint32(p[2<<20+32+16:], 1<<31); return p }, disk.ErrCorrupt, "metadata"},
		"vhdx cut":         {"a.vhdx", func(p []byte) []byte { return p[:300<<10] }, disk.ErrCorrupt, ""},
		"tar":              {"a.ova", func(p []byte) []byte { return p[:len(p)/2] }, disk.ErrCorrupt, "unexpected EOF"},
		"gzip":             {"a.tar.gz", func(p []byte) []byte { return p }, errors.ErrUnsupported, "unpack it first"},
		"only a signature": {"a.qcow2", func(p []byte) []byte { return append([]byte("QFI\xfb"), make([]byte, 100)...) }, errors.ErrUnsupported, "version 0"},
	} {
		t.Run(name, func(t *testing.T) {
			p := tt.change(bytes.Clone(images[tt.image]))
			_, err := disk.Probe(t.Context(), bytes.NewReader(p), int64(len(p)))
			require.ErrorIs(t, err, tt.is)
			require.ErrorContains(t, err, tt.want)
			_, ok := errors.AsType[*disk.Error](err)
			require.True(t, ok)
		})
	}
}

// TestLyingTables reads disks whose tables lead past the end or to what is no data.
func TestLyingTables(t *testing.T) {
	_, images := small(t)
	for name, tt := range map[string]struct {
		image  string
		change func(p []byte)
		want   string
	}{
		"qcow2 L2":         {"a.qcow2", func(p []byte) { be.PutUint64(p[be.Uint64(p[40:]):], 1<<40) }, "L2 table at"},
		"qcow2 L2 inside":  {"a.qcow2", func(p []byte) { be.PutUint64(p[be.Uint64(p[40:]):], 512) }, "L2 table at"},
		"qcow2 cluster":    {"a.qcow2", func(p []byte) { be.PutUint64(l2(p), 1<<50) }, "cluster at 0 is at"},
		"qcow2 packed":     {"a-zlib.qcow2", func(p []byte) { be.PutUint64(l2(p), 1<<62|1<<53) }, "cluster at 0: it is at"},
		"qcow2 no deflate": {"a-zlib.qcow2", func(p []byte) { be.PutUint64(l2(p), 1<<62) }, "decompress"},
		"qcow2 no zstd":    {"a-zstd.qcow2", func(p []byte) { be.PutUint64(l2(p), 1<<62) }, "decompress"},
		"vmdk table":       {"a.vmdk", func(p []byte) { le.PutUint32(p[le.Uint64(p[len(p)-1024+56:])*512:], 1<<31) }, "grain table at sector"},
		"vmdk grain":       {"a.vmdk", func(p []byte) { le.PutUint32(grains(p), 1<<31) }, "grain at 0: it is at"},
		"vmdk other grain": {"a.vmdk", func(p []byte) { copy(grains(p), grains(p)[16*4:][:4]) }, "its marker says sector 2048"},
		"vmdk huge grain":  {"a.vmdk", func(p []byte) { le.PutUint32(p[128*512+8:], 1<<31) }, "compressed bytes"},
		"vmdk no zlib":     {"a.vmdk", func(p []byte) { p[128*512+12] = 0 }, "decompress"},
		"vmdk checksum":    {"a.vmdk", func(p []byte) { p[128*512+12+le.Uint32(p[128*512+8:])-1]++ }, "decompress"},
		"vhdx block":       {"a.vhdx", func(p []byte) { le.PutUint64(p[3<<20:], 1<<50|6) }, "block at 0 is at"},
		"vhdx low block":   {"a.vhdx", func(p []byte) { le.PutUint64(p[3<<20:], 6) }, "block at 0 is at"},
		"vhdx parent's":    {"a.vhdx", func(p []byte) { p[3<<20] |= 7 }, "partly a parent's"},
	} {
		t.Run(name, func(t *testing.T) {
			p := bytes.Clone(images[tt.image])
			tt.change(p)
			image, err := disk.Open(t.Context(), bytes.NewReader(p), int64(len(p)), nil)
			require.NoError(t, err)
			_, err = image.ReadAt(make([]byte, 4096), 0)
			require.ErrorContains(t, err, tt.want)
			_, err = disk.Convert(t.Context(), openRoot(t), image, []disk.Target{{Name: "a", Format: disk.Raw}}, &disk.ConvertOptions{NoSync: true})
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// l2 is the first L2 table of a qcow2, grains the first grain table of a vmdk.
func l2(p []byte) []byte { return p[be.Uint64(p[be.Uint64(p[40:]):])&(1<<56-1):] }

func grains(p []byte) []byte {
	return p[int64(le.Uint32(p[le.Uint64(p[len(p)-1024+56:])*512:]))*512:]
}

// TestLog opens no disk whose log has not been replayed.
func TestLog(t *testing.T) {
	_, images := small(t)
	p := images["a.vhdx"]
	p[128<<10+50] = 1
	fixVHDX(p)
	info, err := disk.Probe(t.Context(), bytes.NewReader(p), int64(len(p)))
	require.NoError(t, err)
	require.Equal(t, []string{"its log has not been replayed"}, info.Faults)
	_, err = disk.Open(t.Context(), bytes.NewReader(p), int64(len(p)), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// TestOpenAs opens a raw disk that looks like another format, as the raw disk it is known
// to be.
func TestOpenAs(t *testing.T) {
	raw := append([]byte("QFI\xfb"), make([]byte, 2044)...)
	_, err := disk.Open(t.Context(), bytes.NewReader(raw), 2048, nil)
	require.Error(t, err)
	image, err := disk.Open(t.Context(), bytes.NewReader(raw), 2048, &disk.OpenOptions{Format: disk.Raw})
	require.NoError(t, err)
	got := make([]byte, 3000)
	n, err := image.ReadAt(got, 0)
	require.Equal(t, io.EOF, err)
	require.True(t, bytes.Equal(raw, got[:n]))
	_, err = image.ReadAt(got, -1)
	require.Error(t, err)
	_, err = image.ReadAt(got, 1<<40)
	require.Equal(t, io.EOF, err)
	for _, format := range []disk.Format{disk.VMDK, disk.Tar, disk.GCP, "x"} {
		_, err = disk.Open(t.Context(), bytes.NewReader(raw), 2048, &disk.OpenOptions{Format: format})
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
}

// newISO, newSquashFS, newEROFS and newTar make what a prober looks at.
func newISO() []byte {
	p := make([]byte, 20*2048)
	copy(p[16*2048:], "\x01CD001\x01")
	copy(p[16*2048+40:], "LABEL                           ")
	le.PutUint32(p[16*2048+80:], 20)
	le.PutUint16(p[16*2048+128:], 2048)
	copy(p[17*2048:], "\x00CD001\x01EL TORITO SPECIFICATION")
	copy(p[18*2048:], "\x02CD001\x01")
	copy(p[18*2048+88:], "%/E")
	copy(p[19*2048:], "\xffCD001\x01")
	return p
}

func newSquashFS() []byte {
	p := make([]byte, 4096)
	copy(p, "hsqs")
	le.PutUint32(p[12:], 128<<10)
	le.PutUint16(p[20:], 4)
	le.PutUint16(p[22:], 17)
	le.PutUint16(p[28:], 4)
	le.PutUint64(p[40:], 4000)
	return p
}

func newEROFS() []byte {
	p := make([]byte, 8192)
	le.PutUint32(p[1024:], 0xe0f5e1e2)
	le.PutUint32(p[1024+8:], 1)
	p[1024+12] = 12
	le.PutUint32(p[1024+36:], 2)
	copy(p[1024+64:], "name")
	fixEROFS(p)
	return p
}

func fixEROFS(p []byte) {
	le.PutUint32(p[1024+4:], 0)
	le.PutUint32(p[1024+4:], ^crc32.Checksum(p[1024:4096], crc32.MakeTable(crc32.Castagnoli)))
}

func newTar(t testing.TB, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Size: 3, Mode: 0o644}))
		_, err := w.Write([]byte("abc"))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestProbeOthers(t *testing.T) {
	many := make([]string, disk.MaxFiles+1)
	for i := range many {
		many[i] = "file"
	}
	for name, tt := range map[string]struct {
		image []byte
		want  disk.Info
	}{
		"nothing":  {nil, disk.Info{Format: disk.Raw}},
		"bytes":    {[]byte("x"), disk.Info{Format: disk.Raw, VirtualSize: 1}},
		"iso":      {newISO(), disk.Info{Format: disk.ISO, VirtualSize: 20 * 2048, BlockSize: 2048, Label: "LABEL", Features: []string{"el-torito", "joliet"}}},
		"iso, cut": {newISO()[:19*2048], disk.Info{Format: disk.ISO, VirtualSize: 19 * 2048, BlockSize: 2048, Label: "LABEL", Features: []string{"el-torito", "joliet"}, Faults: []string{"the volume has 40960 bytes, the file only 38912"}}},
		"squashfs": {newSquashFS(), disk.Info{Format: disk.SquashFS, VirtualSize: 4096, BlockSize: 128 << 10, Features: []string{"compression=xz", "xattrs"}}},
		"erofs":    {newEROFS(), disk.Info{Format: disk.EROFS, VirtualSize: 8192, BlockSize: 4096, Label: "name"}},
		"tar":      {newTar(t, "a", "b"), disk.Info{Format: disk.Tar, VirtualSize: 6, Files: []disk.File{{Name: "a", Size: 3}, {Name: "b", Size: 3}}}},
		"ova":      {newTar(t, "a.ovf", "b.vmdk"), disk.Info{Format: disk.OVA, VirtualSize: 6, Files: []disk.File{{Name: "a.ovf", Size: 3}, {Name: "b.vmdk", Size: 3}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := disk.Probe(t.Context(), bytes.NewReader(tt.image), int64(len(tt.image)))
			require.NoError(t, err)
			tt.want.Size = int64(len(tt.image))
			require.Equal(t, &tt.want, got)
		})
	}
	p := newTar(t, many...)
	got, err := disk.Probe(t.Context(), bytes.NewReader(p), int64(len(p)))
	require.NoError(t, err)
	require.Len(t, got.Files, disk.MaxFiles)
	require.Len(t, got.Faults, 1)
}

func TestLyingFileSystems(t *testing.T) {
	for name, tt := range map[string]struct {
		image  []byte
		change func(p []byte)
		is     error
		want   string
	}{
		"iso":               {newISO(), func(p []byte) { p[16*2048] = 0 }, errors.ErrUnsupported, "first volume descriptor"},
		"iso blocks":        {newISO(), func(p []byte) { le.PutUint16(p[16*2048+128:], 0xffff) }, disk.ErrCorrupt, "blocks of"},
		"squashfs 3":        {newSquashFS(), func(p []byte) { p[28] = 3 }, errors.ErrUnsupported, "version 3"},
		"squashfs blocks":   {newSquashFS(), func(p []byte) { p[22] = 200 }, disk.ErrCorrupt, "blocks of"},
		"squashfs size":     {newSquashFS(), func(p []byte) { le.PutUint64(p[40:], 1<<63) }, disk.ErrCorrupt, "in a file of"},
		"squashfs packing":  {newSquashFS(), func(p []byte) { p[20] = 99 }, errors.ErrUnsupported, "compression 99"},
		"erofs checksum":    {newEROFS(), func(p []byte) { p[1024+70]++ }, disk.ErrCorrupt, "checksum"},
		"erofs blocks":      {newEROFS(), func(p []byte) { p[1024+12] = 99; fixEROFS(p) }, disk.ErrCorrupt, "blocks of 2^99"},
		"erofs size":        {newEROFS(), func(p []byte) { le.PutUint32(p[1024+36:], 1<<31); fixEROFS(p) }, disk.ErrCorrupt, "in a file of"},
		"erofs devices":     {newEROFS(), func(p []byte) { p[1024+80], p[1024+86] = 8, 1; fixEROFS(p) }, errors.ErrUnsupported, "other devices"},
		"tar, not a number": {newTar(t, "a"), func(p []byte) { p[124] = 'x' }, disk.ErrCorrupt, ""},
		"tar, cut":          {newTar(t, "a")[:514], func([]byte) {}, disk.ErrCorrupt, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tt.change(tt.image)
			_, err := disk.Probe(t.Context(), bytes.NewReader(tt.image), int64(len(tt.image)))
			require.ErrorIs(t, err, tt.is)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// fuzzImages probes, opens and reads images of which a fuzzer changes some bytes: edits
// are records of an offset and eight bytes; what is left of less than a record cuts the
// end. fix sets checksums right. What is allocated stays within what the file and the
// limits allow.
func fuzzImages(f *testing.F, fix func([]byte), images ...[]byte) {
	for i := range images {
		f.Add(uint8(i), []byte(nil))
		f.Add(uint8(i), []byte("\x18\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xffcut"))
	}
	f.Fuzz(func(t *testing.T, which uint8, edits []byte) {
		p := bytes.Clone(images[int(which)%len(images)])
		for len(edits) >= 12 && len(p) > 0 {
			copy(p[int(le.Uint32(edits))%len(p):], edits[4:12])
			edits = edits[12:]
		}
		for _, b := range edits {
			p = p[:max(0, len(p)-int(b)*97)]
		}
		fix(p)
		var image *disk.Image
		var probeErr, err error
		fuzzbound.Within(t, 16*len(p)+64<<20, func() {
			_, probeErr = disk.Probe(t.Context(), bytes.NewReader(p), int64(len(p)))
			image, err = disk.Open(t.Context(), bytes.NewReader(p), int64(len(p)), nil)
		})
		if probeErr != nil {
			require.Error(t, err)
		}
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, image.Size(), int64(0))
		buffer := make([]byte, 10000)
		for _, off := range []int64{0, 777, image.Size()/2 - 5000, image.Size() - 5000} {
			n, err := image.ReadAt(buffer, max(0, off))
			if n < len(buffer) {
				require.Error(t, err)
			}
		}
		if image.Size() < 1<<40 {
			// To nowhere: all is read.
			_, _ = disk.Convert(t.Context(), nil, image, nil, nil)
		}
	})
}

func FuzzQCOW2(f *testing.F) {
	_, images := small(f)
	fuzzImages(f, func([]byte) {}, images["a.qcow2"], images["a-zlib.qcow2"], images["a-zstd.qcow2"])
}

func FuzzVMDK(f *testing.F) {
	_, images := small(f)
	fuzzImages(f, func([]byte) {}, images["a.vmdk"], []byte("# Disk DescriptorFile\n"))
}

// newVHD makes a dynamic disk of 4096 bytes.
func newVHD(fixed []byte) []byte {
	p := make([]byte, 8192)
	copy(p[512:], "cxsparse")
	be.PutUint64(p[512+16:], 1536)
	be.PutUint32(p[512+28:], 1)
	be.PutUint32(p[512+32:], 4096)
	be.PutUint32(p[1536:], 4)
	p[2048] = 0xf0 // the first four sectors have data
	footer := p[len(p)-512:]
	copy(footer, fixed[len(fixed)-512:])
	be.PutUint64(footer[16:], 512)
	be.PutUint64(footer[48:], 4096)
	footer[63] = 3
	fixDynamicVHD(p)
	return p
}

func fixDynamicVHD(p []byte) {
	if len(p) < 2048 {
		return
	}
	be.PutUint32(p[512+36:], 0)
	var sum uint32
	for _, b := range p[512:1536] {
		sum += uint32(b)
	}
	be.PutUint32(p[512+36:], ^sum)
	fixVHD(p)
}

func TestVHDBitmap(t *testing.T) {
	_, images := small(t)
	p := newVHD(images["a.vhd"])
	for i := 2560; i < 2560+4096; i++ {
		p[i] = 1
	}
	image, err := disk.Open(t.Context(), bytes.NewReader(p), int64(len(p)), nil)
	require.NoError(t, err)
	got, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
	require.NoError(t, err)
	require.Equal(t, append(bytes.Repeat([]byte{1}, 2048), make([]byte, 2048)...), got)
	info, err := disk.Probe(t.Context(), bytes.NewReader(p), int64(len(p)))
	require.NoError(t, err)
	require.Equal(t, []string{"subformat=dynamic"}, info.Features)
}

func FuzzVHD(f *testing.F) {
	_, images := small(f)
	fixed := images["a.vhd"]
	fuzzImages(f, fixDynamicVHD, newVHD(fixed), fixed[len(fixed)-4096:])
}

func FuzzVHDX(f *testing.F) {
	_, images := small(f)
	fuzzImages(f, fixVHDX, images["a.vhdx"])
}

func FuzzOthers(f *testing.F) {
	fuzzImages(f, func(p []byte) {
		if len(p) >= 4096 && le.Uint32(p[1024:]) == 0xe0f5e1e2 {
			fixEROFS(p)
		}
	}, newISO(), newSquashFS(), newEROFS(), newTar(f, "a"), []byte("\x1f\x8b\x08"))
}
