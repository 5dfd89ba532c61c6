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

// TestConvertDebian makes images of every format of a disk with the kernel and
// programs of Debian, made without mounts, stamped and not, and lets the tools of the
// formats compare them. The file systems in a result are clean.
func TestConvertDebian(t *testing.T) {
	interop.Peer(t, "qemu-img", "tar", "skopeo", "sgdisk", "mke2fs", "e2fsck", "truncate")
	tree := interop.DebianTree(t)
	dir := t.TempDir()
	// /boot as CoreOS has it: kernels, and boot entries.
	boot := bootFolder(t, coreosFiles())
	for _, pattern := range []string{"vmlinuz-*", "initrd.img-*"} {
		files, err := filepath.Glob(filepath.Join(tree, "boot", pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		tool(t, dir, "cp", append(files, boot)...)
	}
	const mib, size, bootAt, rootAt = 1 << 20, 320, 129, 229
	tool(t, dir, "truncate", "-s", fmt.Sprint(size, "M"), "disk.raw")
	tool(t, dir, "sgdisk", "-n1:1M:+1M", "-t1:21686148-6449-6E6F-744E-656564454649", "-c1:BIOS-BOOT", "-n2:2M:+127M", "-t2:ef00", "-c2:EFI-SYSTEM",
		"-n3:129M:+100M", "-t3:BC13C2FF-59E6-4262-A352-B275FD6F7172", "-c3:boot", "-n4:229M:0", "-t4:4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "-c4:root", "disk.raw")
	mke2fs(t, boot, filepath.Join(dir, "disk.raw"), "100M", "-E", fmt.Sprintf("offset=%d", bootAt*mib))
	tool(t, dir, "mke2fs", "-q", "-F", "-t", "ext4", "-E", fmt.Sprintf("offset=%d", rootAt*mib), "-d", filepath.Join(tree, "usr", "sbin"), "disk.raw", fmt.Sprint(size-rootAt-1, "M"))

	path := filepath.Join(dir, "disk.raw")
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	info, err := disk.Probe(t.Context(), file, size*mib)
	require.NoError(t, err)
	require.Len(t, info.Table.Partitions, 4)
	require.Empty(t, info.Table.Faults)

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

func stampFile(t testing.TB, file *os.File, size int64, platform string) *disk.Stamped {
	t.Helper()
	s, err := disk.Stamp(t.Context(), file, size, platform, nil)
	require.NoError(t, err)
	return s
}
