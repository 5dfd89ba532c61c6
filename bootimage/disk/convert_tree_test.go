package disk_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/interop"
)

const (
	mib            = 1 << 20
	bootAt, rootAt = 129, 229 // MiB
)

// debianDisk makes a raw disk of so many MiB as CoreOS has it, without mounts: with the
// kernel of a tree of Debian in /boot, and a folder of the tree as its root.
func debianDisk(t *testing.T, tree, folder string, size int) (dir, path string, file *os.File) {
	t.Helper()
	dir = t.TempDir()
	boot := bootFolder(t, coreosFiles()) // boot entries
	for _, pattern := range []string{"vmlinuz-*", "initrd.img-*"} {
		files, err := filepath.Glob(filepath.Join(tree, "boot", pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		tool(t, dir, "cp", append(files, boot)...)
	}
	tool(t, dir, "truncate", "-s", fmt.Sprint(size, "M"), "disk.raw")
	tool(t, dir, "sgdisk", "-n1:1M:+1M", "-t1:21686148-6449-6E6F-744E-656564454649", "-c1:BIOS-BOOT", "-n2:2M:+127M", "-t2:ef00", "-c2:EFI-SYSTEM",
		"-n3:129M:+100M", "-t3:BC13C2FF-59E6-4262-A352-B275FD6F7172", "-c3:boot", "-n4:229M:0", "-t4:4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "-c4:root", "disk.raw")
	path = filepath.Join(dir, "disk.raw")
	mke2fs(t, boot, path, "100M", "-E", fmt.Sprintf("offset=%d", bootAt*mib))
	tool(t, dir, "mke2fs", "-q", "-F", "-t", "ext4", "-E", fmt.Sprintf("offset=%d", rootAt*mib), "-d", folder, "disk.raw", fmt.Sprint(size-rootAt-1, "M"))

	file, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	info, err := disk.Probe(t.Context(), file, int64(size)*mib)
	require.NoError(t, err)
	require.Len(t, info.Table.Partitions, 4)
	require.Empty(t, info.Table.Faults)
	return dir, path, file
}

// TestConvertDebian makes images of every format of a disk with the kernel and
// programs of Debian, stamped and not, and lets the tools of the formats compare
// them. The file systems in a result are clean.
func TestConvertDebian(t *testing.T) {
	interop.Peer(t, "qemu-img", "tar", "skopeo", "sgdisk", "mke2fs", "e2fsck", "truncate")
	tree := interop.DebianTree(t)
	const size = 320
	dir, path, file := debianDisk(t, tree, filepath.Join(tree, "usr", "sbin"), size)
	targets := everyTarget()[1:] // qemu-img has the raw disk
	stamped := stampFile(t, file, size*mib, "vmware")
	targets = append(targets, disk.Target{Name: "vmware.vmdk", Format: disk.VMDK, Stamp: stamped})
	results := convertFile(t, dir, path, targets, &disk.ConvertOptions{Hash: true, NoSync: true})
	checkResults(t, dir, path, results[:len(results)-1])

	// The stamped one is the disk with the stamp, and the file systems are clean.
	require.Equal(t, "vmware", results[len(results)-1].Platform)
	tool(t, dir, "qemu-img", "check", "-f", "vmdk", "vmware.vmdk")
	tool(t, dir, "qemu-img", "convert", "-f", "vmdk", "-O", "raw", "vmware.vmdk", "vmware.raw")
	for _, at := range []int{bootAt, rootAt} {
		tool(t, dir, "e2fsck", "-fn", fmt.Sprintf("vmware.raw?offset=%d", at*mib))
	}
	made, err := os.Open(filepath.Join(dir, "vmware.raw"))
	require.NoError(t, err)
	defer made.Close()
	platform, err := disk.PlatformOf(t.Context(), made, size*mib)
	require.NoError(t, err)
	require.Equal(t, "vmware", platform)
}

// TestRealInputWholeDisk does so with all of Debian, in one format of each way that disks
// are written.
func TestRealInputWholeDisk(t *testing.T) {
	interop.Peer(t, "qemu-img", "tar", "sgdisk", "mke2fs", "truncate")
	tree := interop.DebianTree(t)
	dir, path, _ := debianDisk(t, tree, tree, 2304)
	var sum string
	results := convertFile(t, dir, path, []disk.Target{
		{Name: "a.qcow2", Format: disk.QCOW2},
		{Name: "a-zstd.qcow2", Format: disk.QCOW2, Compression: "zstd"},
		{Name: "a.vmdk", Format: disk.VMDK},
		{Name: "a.vhd", Format: disk.VHD},
		{Name: "a.vhdx", Format: disk.VHDX},
		{Name: "a.tar.gz", Format: disk.GCP},
	}, &disk.ConvertOptions{NoSync: true, Verify: func(got string) error { sum = got; return nil }})
	require.Equal(t, fileSum(t, path), sum)
	checkResults(t, dir, path, results)
}

func stampFile(t testing.TB, file *os.File, size int64, platform string) *disk.Stamped {
	t.Helper()
	s, err := disk.Stamp(t.Context(), file, size, platform, nil)
	require.NoError(t, err)
	return s
}
