package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
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
		"xfs":      {[]byte("XFSB" + string(make([]byte, 1<<16))), "root", errors.ErrUnsupported, "disk: read .coreos-aleph-version.json: its root file system is xfs, and only ext4 is read"},
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
	copy(raw, "XFSB")
	_, err := disk.RootFile(context.Background(), bytes.NewReader(raw), int64(len(raw)), ".coreos-aleph-version.json")
	fmt.Println(err, errors.Is(err, errors.ErrUnsupported))
	// Output: disk: read .coreos-aleph-version.json: its root file system is xfs, and only ext4 is read: unsupported operation true
}
