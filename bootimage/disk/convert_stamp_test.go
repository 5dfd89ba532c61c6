package disk_test

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
)

// TestConvertStamped makes disks of several platforms of one that is read once: each is
// the source with its own stamp over it.
func TestConvertStamped(t *testing.T) {
	raw := bootDisk(t, 512, rootType)
	r := &counted{ReaderAt: bytes.NewReader(raw), reads: make(map[int64]int)}
	root := openRoot(t)
	aws, azure := stamp(t, raw, "aws", nil), stamp(t, raw, "azure", nil)
	targets := []disk.Target{
		{Name: "metal.raw", Format: disk.Raw},
		{Name: "aws.vmdk", Format: disk.VMDK, Stamp: aws},
		{Name: "aws.raw", Format: disk.Raw, Stamp: aws},
		{Name: "azure.vhd", Format: disk.VHD, Stamp: azure},
		{Name: "azure.vhdx", Format: disk.VHDX, Stamp: azure},
		{Name: "azure.qcow2", Format: disk.QCOW2, Stamp: azure},
		{Name: "azure-zlib.qcow2", Format: disk.QCOW2, Stamp: azure, Compression: "zlib"},
		{Name: "metal-zlib.qcow2", Format: disk.QCOW2, Compression: "zlib"},
		{Name: "metal.vhd", Format: disk.VHD},
	}
	results, err := disk.Convert(t.Context(), root, openRaw(t, r, len(raw)), targets, &disk.ConvertOptions{Hash: true, NoSync: true})
	require.NoError(t, err)
	require.Equal(t, int64(len(raw)), r.bytes)
	for i, result := range results {
		path := filepath.Join(root.Name(), result.Name)
		want, platform := raw, ""
		if s := targets[i].Stamp; s != nil {
			want, platform = over(t, s, raw), s.Platform
		}
		require.Equal(t, platform, result.Platform)
		require.True(t, bytes.Equal(want, content(t, path)), result.Name)
		// Stamps of others change nothing, and one is as if it had been in the source.
		target := targets[i]
		target.Stamp = nil
		got, err := disk.Convert(t.Context(), openRoot(t), openRaw(t, bytes.NewReader(want), len(want)), []disk.Target{target}, &disk.ConvertOptions{Hash: true, NoSync: true})
		require.NoError(t, err)
		if target.Format != disk.VHD && target.Format != disk.VHDX || platform == "" { // those have identifiers
			require.Equal(t, got[0].SHA256, result.SHA256, result.Name)
		}
	}
	require.NotEqual(t, results[3].SHA256, results[8].SHA256)

	// A stamp of a larger disk.
	_, err = disk.Convert(t.Context(), root, openRaw(t, bytes.NewReader(raw[:1<<20]), 1<<20), targets[1:2], nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
}
