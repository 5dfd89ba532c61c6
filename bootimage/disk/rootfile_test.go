package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/interop"
)

const (
	alephPath = ".coreos-aleph-version.json"
	alephText = `{"version": "10.0.20261125-0"}`
)

// rootSystem is an ext4 file system that says what it was made from.
func rootSystem(t testing.TB) []byte {
	t.Helper()
	return packedSystem(t, "testdata/root.gz", func() string {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, alephPath), []byte(alephText), 0o644))
		return dir
	})
}

// rootDisk is a disk whose second partition is root, with a system on it.
func rootDisk(system []byte, name string) []byte {
	last := uint64(4096 + len(system)/512 - 1)
	raw := newGPT(512, 4<<20, gptPart{2048, 4095, "boot"}, gptPart{4096, last, name})
	copy(raw[4096*512:], system)
	return raw
}

// coreosDisk is a disk with the partitions of one of Fedora CoreOS, and an XFS on the last.
func coreosDisk(t testing.TB) []byte {
	t.Helper()
	return packedFile(t, "testdata/coreos.gz", func() string {
		dir := t.TempDir()
		system, raw, proto := filepath.Join(dir, "system"), filepath.Join(dir, "raw"), filepath.Join(dir, "proto")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "aleph"), []byte(alephText), 0o644))
		require.NoError(t, os.WriteFile(proto, []byte("/\n0 0\nd--755 0 0\n.aleph-version.json ---644 0 0 "+dir+"/aleph\n"+alephPath+" l--777 0 0 .aleph-version.json\nboot d--755 0 0\n$\nostree d--755 0 0\n$\n$\n"), 0o644))
		for _, command := range [][]string{
			{"truncate", "-s", "21M", raw},
			{"truncate", "-s", "16M", system},
			{"mkfs.xfs", "-q", "--unsupported", "-L", "root", "-m", "uuid=910678ff-f77e-4a7d-8d53-86f2ac47a823", "-p", proto, system},
			{"sgdisk", "-U", "00000000-0000-4000-a000-000000000001", "-n", "1:0:+1M", "-c", "1:BIOS-BOOT", "-t", "1:ef02", "-n", "2:0:+1M", "-c", "2:EFI-SYSTEM", "-t", "2:ef00", "-n", "3:0:+1M", "-c", "3:boot", "-n", "4:0:+16M", "-c", "4:root", raw},
			{"dd", "if=" + system, "of=" + raw, "bs=1M", "seek=4", "conv=notrunc"},
		} {
			out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		return raw
	})
}

// TestRootFileXFS reads a file of a disk as CoreOS has it, in each format.
func TestRootFileXFS(t *testing.T) {
	raw := coreosDisk(t)
	root := openRoot(t)
	targets := []disk.Target{{Name: "a.raw", Format: disk.Raw}, {Name: "a.qcow2", Format: disk.QCOW2}, {Name: "a.vmdk", Format: disk.VMDK}, {Name: "a.vhdx", Format: disk.VHDX}}
	_, err := disk.Convert(t.Context(), root, openRaw(t, bytes.NewReader(raw), len(raw)), targets, &disk.ConvertOptions{NoSync: true})
	require.NoError(t, err)
	for _, target := range targets {
		file, err := root.Open(target.Name)
		require.NoError(t, err)
		defer file.Close()
		info, err := file.Stat()
		require.NoError(t, err)
		image, err := disk.Open(t.Context(), file, info.Size(), nil)
		require.NoError(t, err)
		data, err := disk.RootFile(t.Context(), image, image.Size(), alephPath)
		require.NoError(t, err, target.Name)
		require.Equal(t, alephText, string(data))
		_, err = disk.RootFile(t.Context(), image, image.Size(), "ostree/none")
		require.ErrorIs(t, err, fs.ErrNotExist)
	}

	const start = 4 << 20
	require.Equal(t, "XFSB", string(raw[start:start+4]))
	raw[start+32] ^= 1
	_, err = disk.RootFile(t.Context(), bytes.NewReader(raw), int64(len(raw)), alephPath)
	require.ErrorIs(t, err, disk.ErrCorrupt)
	require.ErrorContains(t, err, "disk: read "+alephPath+": xfs: superblock: checksum")
}

// TestRootFileQEMU reads it of what qemu-img makes of the disk.
func TestRootFileQEMU(t *testing.T) {
	interop.Peer(t, "qemu-img")
	raw := filepath.Join(t.TempDir(), "raw")
	require.NoError(t, os.WriteFile(raw, coreosDisk(t), 0o600))
	for _, args := range [][]string{{"-O", "qcow2"}, {"-O", "qcow2", "-c"}, {"-O", "vmdk", "-o", "subformat=streamOptimized"}, {"-O", "vpc"}, {"-O", "vhdx"}} {
		name := raw + "." + args[1]
		out, err := exec.CommandContext(t.Context(), "qemu-img", append(append([]string{"convert", "-f", "raw"}, args...), raw, name)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		file, err := os.ReadFile(name)
		require.NoError(t, err)
		image, err := disk.Open(t.Context(), bytes.NewReader(file), int64(len(file)), nil)
		require.NoError(t, err)
		data, err := disk.RootFile(t.Context(), image, image.Size(), alephPath)
		require.NoError(t, err, args)
		require.Equal(t, alephText, string(data))
	}
}

func TestRootFile(t *testing.T) {
	system := rootSystem(t)
	typed := rootDisk(system, "other")
	copy(typed[2*512+128:], rootType)
	resum(typed, 512)
	for name, raw := range map[string][]byte{"by name": rootDisk(system, "root"), "by type": typed, "whole disk": system} {
		t.Run(name, func(t *testing.T) {
			data, err := disk.RootFile(t.Context(), bytes.NewReader(raw), int64(len(raw)), alephPath)
			require.NoError(t, err)
			require.Equal(t, alephText, string(data))
			_, err = disk.RootFile(t.Context(), bytes.NewReader(raw), int64(len(raw)), "none")
			require.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
	btrfs := make([]byte, 1<<17)
	copy(btrfs[65536+64:], "_BHRfS_M")
	for name, tt := range map[string]struct {
		system []byte
		part   string
		is     error
		want   string
	}{
		"xfs":      {[]byte("XFSB" + string(make([]byte, 1<<16))), "root", errors.ErrUnsupported, "disk: read .coreos-aleph-version.json: xfs: version 0"},
		"btrfs":    {btrfs, "root", errors.ErrUnsupported, "its root file system is btrfs"},
		"luks":     {[]byte("LUKS\xba\xbe" + string(make([]byte, 1<<16))), "root", errors.ErrUnsupported, "is LUKS, encrypted"},
		"empty":    {make([]byte, 1<<16), "root", errors.ErrUnsupported, "its root file system is not known"},
		"no root":  {system, "data", fs.ErrNotExist, "no partition is root"},
		"damaged":  {append(append([]byte{}, system[:1024+4]...), append([]byte{1, 2, 3}, system[1024+7:]...)...), "root", disk.ErrCorrupt, ""},
		"is small": {[]byte("x"), "root", errors.ErrUnsupported, "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := rootDisk(append(tt.system, make([]byte, -len(tt.system)&511)...), tt.part)
			_, err := disk.RootFile(t.Context(), bytes.NewReader(raw), int64(len(raw)), alephPath)
			require.ErrorIs(t, err, tt.is)
			require.ErrorContains(t, err, tt.want)
		})
	}
	_, err := disk.RootFile(t.Context(), bytes.NewReader(nil), 0, alephPath)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = disk.RootFile(ctx, bytes.NewReader(typed), int64(len(typed)), alephPath)
	require.ErrorIs(t, err, context.Canceled)
}

// What a disk was made from is in its root file system.
func ExampleRootFile() {
	raw := make([]byte, 1<<20)
	copy(raw[65536+64:], "_BHRfS_M")
	_, err := disk.RootFile(context.Background(), bytes.NewReader(raw), int64(len(raw)), ".coreos-aleph-version.json")
	fmt.Println(err, errors.Is(err, errors.ErrUnsupported))
	// Output: disk: read .coreos-aleph-version.json: its root file system is btrfs, and only ext4 and xfs are read: unsupported operation true
}
