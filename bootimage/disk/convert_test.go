package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
)

// counted counts how often each MiB of a disk is read.
type counted struct {
	io.ReaderAt
	mu    sync.Mutex
	reads map[int64]int
	bytes int64
	fail  int64 // an offset that cannot be read; 0: none
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail > 0 && off <= c.fail && c.fail < off+int64(len(p)) {
		return 0, errors.New("bad sector")
	}
	c.reads[off]++
	c.bytes += int64(len(p))
	return c.ReaderAt.ReadAt(p, off)
}

func openRaw(t testing.TB, r io.ReaderAt, size int) *disk.Image {
	t.Helper()
	image, err := disk.Open(t.Context(), r, int64(size), &disk.OpenOptions{Format: disk.Raw})
	require.NoError(t, err)
	return image
}

func openRoot(t testing.TB) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// TestConvertReadsOnce makes every format of a disk that is read once.
func TestConvertReadsOnce(t *testing.T) {
	raw := newDisk()
	r := &counted{ReaderAt: bytes.NewReader(raw), reads: make(map[int64]int)}
	root := openRoot(t)
	var last int64
	results, err := disk.Convert(t.Context(), root, openRaw(t, r, len(raw)), everyTarget(), &disk.ConvertOptions{
		Hash: true, NoSync: true, Progress: func(done, total int64) { require.Equal(t, int64(len(raw)), total); last = done },
	})
	require.NoError(t, err)
	require.Len(t, results, len(everyTarget()))
	require.Equal(t, int64(len(raw)), r.bytes)
	require.Equal(t, int64(len(raw)), last)
	for off, n := range r.reads {
		require.Equal(t, 1, n, off)
	}
	entries, err := os.ReadDir(root.Name())
	require.NoError(t, err)
	require.Len(t, entries, len(results), "nothing else is left")
	for _, result := range results {
		path := filepath.Join(root.Name(), result.Name)
		require.Equal(t, result.SHA256, fileSum(t, path), result.Name)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, info.Size(), result.Size)
		require.Equal(t, fs.FileMode(0o644), info.Mode())
		switch result.Format {
		case disk.OVA, disk.GCP, disk.KubeVirt:
		default:
			require.True(t, bytes.Equal(raw, content(t, path)), result.Name)
			info, err := probeFile(t, path)
			require.NoError(t, err)
			require.Equal(t, result.Format, info.Format)
			require.Empty(t, info.Faults)
			require.Len(t, info.Table.Partitions, 2)
		}
	}
}

// TestConvertDeterministic makes the same bytes with one worker and with many, of a
// file with holes, of one without, and of another image of the same disk.
func TestConvertDeterministic(t *testing.T) {
	raw := newDisk()
	dir := t.TempDir()
	full, holes := filepath.Join(dir, "full"), filepath.Join(dir, "holes")
	require.NoError(t, os.WriteFile(full, raw, 0o600))
	file, err := os.Create(holes)
	require.NoError(t, err)
	for off := 0; off < len(raw); off += 4096 {
		piece := raw[off:min(off+4096, len(raw))]
		if len(bytes.Trim(piece, "\x00")) > 0 {
			_, err := file.WriteAt(piece, int64(off))
			require.NoError(t, err)
		}
	}
	require.NoError(t, file.Truncate(int64(len(raw))))
	require.NoError(t, file.Close())

	want := convertFile(t, t.TempDir(), full, everyTarget(), &disk.ConvertOptions{Hash: true, NoSync: true, Workers: 1})
	got := convertFile(t, dir, holes, everyTarget(), &disk.ConvertOptions{Hash: true, NoSync: true, Workers: 7})
	require.Equal(t, want, got)
	again := everyTarget()[1:3]
	for _, name := range []string{"a.qcow2", "a-zlib.qcow2", "a-zstd.qcow2", "a.vmdk", "a.vhdx"} {
		file, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		info, err := file.Stat()
		require.NoError(t, err)
		image, err := disk.Open(t.Context(), file, info.Size(), nil)
		require.NoError(t, err)
		got, err := disk.Convert(t.Context(), openRoot(t), image, again, &disk.ConvertOptions{Hash: true, NoSync: true})
		require.NoError(t, err)
		require.Equal(t, want[1:3], got, name)
		require.NoError(t, file.Close())
	}

	raw[1<<20+5]++
	require.NoError(t, os.WriteFile(full, raw, 0o600))
	other := convertFile(t, t.TempDir(), full, []disk.Target{{Name: "a.vhd", Format: disk.VHD}}, nil)
	require.NotEqual(t, want[5].SHA256, other[0].SHA256)
}

func TestConvertGrown(t *testing.T) {
	raw := newDisk()
	root := openRoot(t)
	const size = 3 << 30
	targets := []disk.Target{{Name: "a.raw", Format: disk.Raw, Size: size}, {Name: "a.qcow2", Format: disk.QCOW2, Size: size}, {Name: "a.vmdk", Format: disk.VMDK, Size: size}, {Name: "a.vhdx", Format: disk.VHDX, Size: size, SectorSize: 4096}}
	results, err := disk.Convert(t.Context(), root, openRaw(t, bytes.NewReader(raw), len(raw)), targets, &disk.ConvertOptions{NoSync: true})
	require.NoError(t, err)
	for _, r := range results {
		require.Equal(t, int64(size), r.VirtualSize)
		info, err := probeFile(t, filepath.Join(root.Name(), r.Name))
		require.NoError(t, err)
		require.Equal(t, int64(size), info.VirtualSize)
		require.Equal(t, []string{"the backup table is in sector 24578, the disk ends with sector 6291455"}, info.Table.Faults)
	}
}

// TestConvertFails leaves what was there as it was, and nothing else.
func TestConvertFails(t *testing.T) {
	raw := newDisk()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx     context.Context
		fail    int64
		targets []disk.Target
		is      error
		want    string
	}{
		"source":      {fail: 7 << 20, targets: everyTarget(), want: "disk: read raw: read 1048576 bytes at 7340032: bad sector"},
		"cancelled":   {ctx: cancelled, targets: everyTarget(), is: context.Canceled},
		"twice":       {targets: []disk.Target{{Name: "a.vmdk", Format: disk.VMDK}, {Name: "a.vmdk", Format: disk.VMDK}}, is: fs.ErrInvalid, want: "a.vmdk: it is there twice"},
		"folder":      {targets: []disk.Target{{Name: "../a.vmdk", Format: disk.VMDK}}, is: fs.ErrInvalid, want: "not the name of a file"},
		"no name":     {targets: []disk.Target{{Format: disk.VMDK}}, is: fs.ErrInvalid},
		"format":      {targets: []disk.Target{{Name: "a.iso", Format: disk.ISO}}, is: errors.ErrUnsupported, want: `format "iso" cannot be written`},
		"compression": {targets: []disk.Target{{Name: "a", Format: disk.QCOW2, Compression: "xz"}}, is: errors.ErrUnsupported},
		"of vmdk":     {targets: []disk.Target{{Name: "a", Format: disk.VMDK, Compression: "zlib"}}, is: errors.ErrUnsupported},
		"smaller":     {targets: []disk.Target{{Name: "a", Format: disk.Raw, Size: 512}}, is: fs.ErrInvalid, want: "less than the source's"},
		"too large":   {targets: []disk.Target{{Name: "a", Format: disk.VHD, Size: 4 << 40}}, is: errors.ErrUnsupported},
		"sectors":     {targets: []disk.Target{{Name: "a", Format: disk.VHDX, SectorSize: 4096}}, is: errors.ErrUnsupported, want: "not whole sectors"},
		"ovf":         {targets: []disk.Target{{Name: "a", Format: disk.OVA, OVF: &disk.OVF{Template: "x"}}}, is: fs.ErrInvalid},
		"a folder":    {targets: []disk.Target{{Name: "there", Format: disk.Raw}}, is: fs.ErrExist},
	} {
		t.Run(name, func(t *testing.T) {
			root := openRoot(t)
			require.NoError(t, root.WriteFile("a.vmdk", []byte("old"), 0o600))
			require.NoError(t, root.Mkdir("there", 0o700))
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			r := &counted{ReaderAt: bytes.NewReader(raw), reads: make(map[int64]int), fail: tt.fail}
			_, err := disk.Convert(ctx, root, openRaw(t, r, len(raw)), tt.targets, nil)
			require.ErrorContains(t, err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			old, err := root.ReadFile("a.vmdk")
			require.NoError(t, err)
			require.Equal(t, "old", string(old))
			entries, err := os.ReadDir(root.Name())
			require.NoError(t, err)
			require.Len(t, entries, 2)
		})
	}
}

// TestConvertVerify: the disk is hashed in the one read, wherever its holes are, and before
// files have their names.
func TestConvertVerify(t *testing.T) {
	zero := make([]byte, 3<<20+512)
	for name, raw := range map[string][]byte{"disk": newDisk(), "zero": zero, "sector": append([]byte("x"), zero[:511]...)} {
		sum := sha256.Sum256(raw)
		for _, targets := range [][]disk.Target{everyTarget(), nil} {
			r := &counted{ReaderAt: bytes.NewReader(raw), reads: make(map[int64]int)}
			root := openRoot(t)
			calls := 0
			opts := &disk.ConvertOptions{NoSync: true, Verify: func(got string) error {
				require.Equal(t, hex.EncodeToString(sum[:]), got, name)
				for _, target := range targets {
					_, err := root.Lstat(target.Name)
					require.ErrorIs(t, err, fs.ErrNotExist)
				}
				calls++
				return nil
			}}
			_, err := disk.Convert(t.Context(), root, openRaw(t, r, len(raw)), targets, opts)
			require.NoError(t, err)
			require.Equal(t, 1, calls)
			require.Equal(t, int64(len(raw)), r.bytes)

			root = openRoot(t)
			opts.Verify = func(string) error { return io.ErrClosedPipe }
			_, err = disk.Convert(t.Context(), root, openRaw(t, r, len(raw)), targets, opts)
			require.ErrorIs(t, err, io.ErrClosedPipe)
			entries, err := os.ReadDir(root.Name())
			require.NoError(t, err)
			require.Empty(t, entries)
		}
	}
	// Of a file with holes, at its start and its end, too.
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	file, err := os.Create(path)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("data"), 9<<20+5)
	require.NoError(t, errors.Join(err, file.Truncate(20<<20), file.Close()))
	want := fileSum(t, path)
	convertFile(t, dir, path, []disk.Target{{Name: "a.qcow2", Format: disk.QCOW2}}, &disk.ConvertOptions{Verify: func(got string) error {
		require.Equal(t, want, got)
		return nil
	}})
}

// TestConvertLeftover takes the file that a killed conversion left, and refuses to
// share one with a conversion that runs.
func TestConvertLeftover(t *testing.T) {
	raw := newDisk()
	root := openRoot(t)
	target := []disk.Target{{Name: "a.raw", Format: disk.Raw}}
	require.NoError(t, root.WriteFile(".a.raw.part", bytes.Repeat([]byte("old"), 5<<20), 0o600))
	image := openRaw(t, bytes.NewReader(raw), len(raw))
	_, err := disk.Convert(t.Context(), root, image, target, &disk.ConvertOptions{NoSync: true, Progress: func(done, _ int64) {
		if done == 1<<20 {
			_, err := disk.Convert(t.Context(), root, image, target, nil)
			require.ErrorIs(t, err, fs.ErrExist)
		}
	}})
	require.NoError(t, err)
	got, err := root.ReadFile("a.raw")
	require.NoError(t, err)
	require.True(t, bytes.Equal(raw, got))
	_, err = root.Lstat(".a.raw.part")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, root.Symlink("/etc/passwd", ".b.raw.part"))
	_, err = disk.Convert(t.Context(), root, image, []disk.Target{{Name: "b.raw", Format: disk.Raw}}, nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
}

// TestConvertHoles does not read the holes of a file: it would take hours.
func TestConvertHoles(t *testing.T) {
	const size = 4 << 40
	path := filepath.Join(t.TempDir(), "disk.raw")
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		t.Skipf("the file system has no files of this size: %v", err)
	}
	places := []int64{0, 5 << 30, 1<<40 + 12345, size - 3}
	for _, off := range places {
		_, err := file.WriteAt([]byte("xyz"), off)
		require.NoError(t, err)
	}
	image, err := disk.Open(t.Context(), file, size, nil)
	require.NoError(t, err)
	root := openRoot(t)
	calls := 0
	results, err := disk.Convert(t.Context(), root, image, []disk.Target{{Name: "a.qcow2", Format: disk.QCOW2}, {Name: "a.vmdk", Format: disk.VMDK}, {Name: "a.vhdx", Format: disk.VHDX}, {Name: "a.raw", Format: disk.Raw}},
		&disk.ConvertOptions{NoSync: true, Progress: func(int64, int64) { calls++ }})
	require.NoError(t, err)
	require.LessOrEqual(t, calls, len(places)+1)
	for _, r := range results[:3] {
		require.Less(t, r.Size, int64(64<<20))
		file, err := root.Open(r.Name)
		require.NoError(t, err)
		defer file.Close()
		image, err := disk.Open(t.Context(), file, r.Size, nil)
		require.NoError(t, err)
		for _, off := range places {
			var got [3]byte
			_, err := image.ReadAt(got[:], off)
			require.NoError(t, err)
			require.Equal(t, "xyz", string(got[:]), r.Name)
		}
		again, err := disk.Convert(t.Context(), root, image, []disk.Target{{Name: "b.qcow2", Format: disk.QCOW2}}, &disk.ConvertOptions{NoSync: true})
		require.NoError(t, err)
		require.Equal(t, results[0].Size, again[0].Size)
	}
}
