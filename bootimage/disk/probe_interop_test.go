package disk_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/interop"
)

// newDisk makes a disk of 12 MiB with a GPT, text, noise, holes and a last block
// that is not whole.
func newDisk() []byte {
	raw := newGPT(512, 12<<20+1536, gptPart{2048, 4095, "BIOS-BOOT"}, gptPart{4096, 24000, "root"})
	noise := rand.NewChaCha8([32]byte{1})
	_, _ = noise.Read(raw[2<<20+100 : 2<<20+300077])
	for i := 4 << 20; i < 5<<20; i++ {
		raw[i] = "all work and no play "[i*i%(i%19+2)]
	}
	copy(raw[7<<20+65536-3:], "across two clusters")
	raw[10<<20] = 1
	raw[len(raw)-40000] = 2
	return raw
}

// tool runs a program in a folder.
func tool(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v\n%s", name, args, out)
}

// probeFile probes a file.
func probeFile(t testing.TB, path string) (*disk.Info, error) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	return disk.Probe(t.Context(), file, info.Size())
}

// content reads the disk in an image file.
func content(t testing.TB, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	image, err := disk.Open(t.Context(), file, info.Size(), nil)
	require.NoError(t, err)
	raw, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
	require.NoError(t, err)
	return raw
}

// TestQemuInterop probes and reads what qemu-img makes of a disk, in every format
// and kind.
func TestQemuInterop(t *testing.T) {
	interop.Peer(t, "qemu-img")
	dir := t.TempDir()
	raw := newDisk()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "disk.raw"), raw, 0o600))
	for name, tt := range map[string]struct {
		args     []string
		format   disk.Format
		block    int64
		features []string
	}{
		"raw":              {[]string{"raw"}, disk.Raw, 0, nil},
		"qcow2":            {[]string{"qcow2"}, disk.QCOW2, 65536, []string{"compat=1.1"}},
		"qcow2 0.10":       {[]string{"qcow2", "-o", "compat=0.10"}, disk.QCOW2, 65536, []string{"compat=0.10"}},
		"qcow2 packed":     {[]string{"qcow2", "-c"}, disk.QCOW2, 65536, []string{"compat=1.1"}},
		"qcow2 zstd":       {[]string{"qcow2", "-c", "-o", "compression_type=zstd"}, disk.QCOW2, 65536, []string{"compat=1.1", "compression_type=zstd"}},
		"qcow2 small":      {[]string{"qcow2", "-c", "-o", "cluster_size=512"}, disk.QCOW2, 512, []string{"compat=1.1"}},
		"qcow2 large":      {[]string{"qcow2", "-c", "-o", "cluster_size=2M,lazy_refcounts=on"}, disk.QCOW2, 2 << 20, []string{"compat=1.1", "lazy_refcounts"}},
		"vmdk":             {[]string{"vmdk"}, disk.VMDK, 65536, []string{"subformat=monolithicSparse"}},
		"vmdk stream":      {[]string{"vmdk", "-o", "subformat=streamOptimized"}, disk.VMDK, 65536, []string{"subformat=streamOptimized", "compressed", "markers"}},
		"vhd":              {[]string{"vpc", "-o", "force_size=on"}, disk.VHD, 2 << 20, []string{"subformat=dynamic"}},
		"vhd fixed":        {[]string{"vpc", "-o", "subformat=fixed,force_size=on"}, disk.VHD, 0, []string{"subformat=fixed"}},
		"vhdx":             {[]string{"vhdx"}, disk.VHDX, 8 << 20, []string{"subformat=dynamic"}},
		"vhdx, 1 MiB":      {[]string{"vhdx", "-o", "block_size=1M"}, disk.VHDX, 1 << 20, []string{"subformat=dynamic"}},
		"vhdx fixed":       {[]string{"vhdx", "-o", "subformat=fixed"}, disk.VHDX, 8 << 20, []string{"subformat=fixed"}},
		"vhd of its own C": {[]string{"vpc"}, disk.VHD, 2 << 20, []string{"subformat=dynamic"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			tool(t, dir, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O"}, tt.args...), "disk.raw", path)...)
			info, err := probeFile(t, path)
			require.NoError(t, err)
			stat, err := os.Stat(path)
			require.NoError(t, err)
			got := content(t, path)
			require.Equal(t, tt.format, info.Format)
			require.Equal(t, tt.block, info.BlockSize)
			require.Equal(t, tt.features, info.Features)
			require.Equal(t, stat.Size(), info.Size)
			require.Equal(t, info.VirtualSize, int64(len(got)))
			require.GreaterOrEqual(t, len(got), len(raw))
			require.True(t, bytes.Equal(raw, got[:len(raw)]))
			require.Equal(t, len(bytes.Trim(got[len(raw):], "\x00")), 0)
			require.Len(t, info.Table.Partitions, 2)
			if len(got) == len(raw) {
				require.Empty(t, info.Table.Faults)
			}

			// What is made of it is what QEMU finds in it.
			file, err := os.Open(path)
			require.NoError(t, err)
			defer file.Close()
			image, err := disk.Open(t.Context(), file, stat.Size(), nil)
			require.NoError(t, err)
			root := openRoot(t)
			_, err = disk.Convert(t.Context(), root, image, []disk.Target{{Name: "made.qcow2", Format: disk.QCOW2, Compression: "zstd"}}, &disk.ConvertOptions{NoSync: true})
			require.NoError(t, err)
			made := filepath.Join(root.Name(), "made.qcow2")
			tool(t, dir, "qemu-img", "check", "-f", "qcow2", made)
			tool(t, dir, "qemu-img", "compare", "-f", qemuFormats[tt.format], "-F", "qcow2", path, made)
		})
	}
}

// TestQemuRefusedInterop refuses images that lead to other files.
func TestQemuRefusedInterop(t *testing.T) {
	interop.Peer(t, "qemu-img")
	dir := t.TempDir()
	tool(t, dir, "qemu-img", "create", "-f", "qcow2", "base.qcow2", "8M")
	tool(t, dir, "qemu-img", "create", "-f", "vmdk", "base.vmdk", "8M")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"backing.qcow2":  {[]string{"-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2"}, "backing file"},
		"external.qcow2": {[]string{"-f", "qcow2", "-o", "data_file=x.raw", "-o", "data_file_raw=on"}, "in another file"},
		"flat.vmdk":      {[]string{"-f", "vmdk", "-o", "subformat=monolithicFlat"}, "names other files"},
		"split.vmdk":     {[]string{"-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"}, "names other files"},
		"parent.vmdk":    {[]string{"-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk"}, "parent"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(append([]string{"create"}, tt.args...), name)
			if tt.args[2] != "-b" {
				args = append(args, "8M")
			}
			tool(t, dir, "qemu-img", args...)
			_, err := probeFile(t, filepath.Join(dir, name))
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorContains(t, err, tt.want)
		})
	}
	t.Run("encrypted", func(t *testing.T) {
		path := filepath.Join(dir, "encrypted.qcow2")
		// Not LUKS: for that qemu-img measures the processor first, and it
		// gives up on a busy machine.
		tool(t, dir, "qemu-img", "create", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o", "encrypt.format=aes,encrypt.key-secret=s", path, "8M")
		info, err := probeFile(t, path)
		require.NoError(t, err)
		require.Contains(t, info.Features, "encrypted")
		file, err := os.Open(path)
		require.NoError(t, err)
		defer file.Close()
		_, err = disk.Open(t.Context(), file, info.Size, nil)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}

// TestFileSystemsInterop probes what the tools of other formats make.
func TestFileSystemsInterop(t *testing.T) {
	interop.Peer(t, "mksquashfs", "mkfs.erofs", "xorriso", "tar")
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tree"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tree", "file"), bytes.Repeat([]byte("content "), 9000), 0o600))
	tool(t, dir, "mksquashfs", "tree", "tree.squashfs", "-comp", "zstd", "-quiet", "-no-progress")
	tool(t, dir, "mkfs.erofs", "tree.erofs", "tree")
	tool(t, dir, "mkfs.erofs", "--blobdev=blobs", "--chunksize=4096", "split.erofs", "tree")
	_, err := probeFile(t, filepath.Join(dir, "split.erofs"))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "1 other devices")
	tool(t, dir, "xorriso", "-as", "mkisofs", "-J", "-V", "LABEL", "-o", "tree.iso", "tree")
	tool(t, dir, "tar", "cf", "tree.tar", "tree")
	for file, want := range map[string]disk.Info{
		"tree.squashfs": {Format: disk.SquashFS, BlockSize: 128 << 10, Features: []string{"compression=zstd", "exportable", "xattrs"}},
		"tree.erofs":    {Format: disk.EROFS, BlockSize: 4096},
		"tree.iso":      {Format: disk.ISO, BlockSize: 2048, Label: "LABEL", Features: []string{"joliet"}},
		"tree.tar":      {Format: disk.Tar, Files: []disk.File{{Name: "tree/file", Size: 72000}}},
	} {
		info, err := probeFile(t, filepath.Join(dir, file))
		require.NoError(t, err)
		require.Empty(t, info.Faults)
		want.Size, want.VirtualSize = info.Size, info.Size
		if want.Files != nil {
			want.VirtualSize = 72000
		}
		if want.Format == disk.EROFS {
			want.Features = info.Features // as the version of mkfs has them
		}
		require.Equal(t, &want, info)
	}
}
