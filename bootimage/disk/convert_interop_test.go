package disk_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/interop"
)

// everyTarget is a target of every format and kind.
func everyTarget() []disk.Target {
	return []disk.Target{
		{Name: "a.raw", Format: disk.Raw},
		{Name: "a.qcow2", Format: disk.QCOW2},
		{Name: "a-zlib.qcow2", Format: disk.QCOW2, Compression: "zlib"},
		{Name: "a-zstd.qcow2", Format: disk.QCOW2, Compression: "zstd"},
		{Name: "a.vmdk", Format: disk.VMDK},
		{Name: "a.vhd", Format: disk.VHD},
		{Name: "a.vhdx", Format: disk.VHDX},
		{Name: "a.ova", Format: disk.OVA},
		{Name: "a.tar.gz", Format: disk.GCP},
		{Name: "a.ociarchive", Format: disk.KubeVirt},
	}
}

// qemuFormats are the names that qemu-img has for formats.
var qemuFormats = map[disk.Format]string{disk.Raw: "raw", disk.QCOW2: "qcow2", disk.VMDK: "vmdk", disk.VHD: "vpc", disk.VHDX: "vhdx"}

// convertFile converts the raw disk at path.
func convertFile(t testing.TB, dir, path string, targets []disk.Target, opts *disk.ConvertOptions) []disk.Result {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	image, err := disk.Open(t.Context(), file, info.Size(), &disk.OpenOptions{Format: disk.Raw})
	require.NoError(t, err)
	results, err := disk.Convert(t.Context(), root, image, targets, opts)
	require.NoError(t, err)
	return results
}

// checkResults lets the tools of every format check results and compare them with
// the disk that they were made of.
func checkResults(t testing.TB, dir, raw string, results []disk.Result) {
	t.Helper()
	same := func(format, path string) {
		t.Helper()
		if format == "qcow2" || format == "vmdk" || format == "vhdx" {
			tool(t, dir, "qemu-img", "check", "-f", format, path)
		}
		tool(t, dir, "qemu-img", "compare", "-f", "raw", "-F", format, raw, path)
	}
	for _, r := range results {
		path := filepath.Join(dir, r.Name)
		if sum := r.SHA256; sum != "" {
			require.Equal(t, sum, fileSum(t, path), r.Name)
		}
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, info.Size(), r.Size)
		into := t.TempDir()
		switch r.Format {
		case disk.OVA:
			tool(t, into, "tar", "xf", path)
			same("vmdk", filepath.Join(into, "disk.vmdk"))
			got, err := probeFile(t, path)
			require.NoError(t, err)
			require.Equal(t, disk.OVA, got.Format)
		case disk.GCP:
			tool(t, into, "tar", "xzf", path)
			same("raw", filepath.Join(into, "disk.raw"))
		case disk.KubeVirt:
			tool(t, into, "skopeo", "--insecure-policy", "copy", "--quiet", "oci-archive:"+path, "dir:"+filepath.Join(into, "image"))
			out, err := exec.Command("skopeo", "inspect", "--format", "{{index .Layers 0}} {{.Architecture}}", "oci-archive:"+path).Output()
			require.NoError(t, err)
			require.Contains(t, string(out), " amd64")
			layer := string(out[len("sha256:"):][:64])
			tool(t, into, "tar", "xzf", filepath.Join(into, "image", layer))
			same("qcow2", filepath.Join(into, "disk", "a.qcow2"))
		default:
			same(qemuFormats[r.Format], path)
		}
	}
}

func fileSum(t testing.TB, path string) string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	h := sha256.New()
	_, err = io.Copy(h, file)
	require.NoError(t, err)
	return hex.EncodeToString(h.Sum(nil))
}

// TestConvertInterop has every result checked by QEMU, and those in archives by the
// tools of archives.
func TestConvertInterop(t *testing.T) {
	interop.Peer(t, "qemu-img", "tar", "skopeo")
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	for name, raw := range map[string][]byte{"disk": newDisk(), "zero": make([]byte, 3<<20), "sector": []byte("x" + string(make([]byte, 511)))} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, raw, 0o600))
			results := convertFile(t, dir, path, everyTarget(), &disk.ConvertOptions{Hash: true})
			checkResults(t, dir, path, results)
		})
	}
}

// TestConvertGrownInterop does so with disks that are larger than their source. VHDX with
// sectors of 4096 bytes, which TestConvertGrown reads, is none of QEMU's formats.
func TestConvertGrownInterop(t *testing.T) {
	interop.Peer(t, "qemu-img", "tar")
	dir := t.TempDir()
	path, grown := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "grown.raw")
	raw := newDisk()
	const size = 200 << 20
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	require.NoError(t, os.WriteFile(grown, raw, 0o600))
	require.NoError(t, os.Truncate(grown, size))
	var targets []disk.Target
	for _, target := range everyTarget() {
		if target.Format != disk.KubeVirt {
			target.Size = size
			targets = append(targets, target)
		}
	}
	checkResults(t, dir, grown, convertFile(t, dir, path, targets, &disk.ConvertOptions{Hash: true}))
}

// TestConvertStampedInterop does so with stamped disks, of which the source is not the same.
func TestConvertStampedInterop(t *testing.T) {
	interop.Peer(t, "qemu-img", "tar", "skopeo")
	dir := t.TempDir()
	path, stamped := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "stamped.raw")
	raw := bootDisk(t, 512, rootType)
	aws := stamp(t, raw, "aws", nil)
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	require.NoError(t, os.WriteFile(stamped, over(t, aws, raw), 0o600))
	targets := everyTarget()
	for i := range targets {
		targets[i].Stamp = aws
	}
	checkResults(t, dir, stamped, convertFile(t, dir, path, targets, &disk.ConvertOptions{Hash: true}))
	require.Error(t, exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", path, filepath.Join(dir, "a.qcow2")).Run(), "not the source")
}

// TestConvertSparseTar reads Google's archive with Go's reader, too.
func TestConvertSparseTar(t *testing.T) {
	dir := t.TempDir()
	raw := newDisk()
	path := filepath.Join(dir, "disk.raw")
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	convertFile(t, dir, path, []disk.Target{{Name: "a.tar.gz", Format: disk.GCP}}, nil)
	file, err := os.Open(filepath.Join(dir, "a.tar.gz"))
	require.NoError(t, err)
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	require.NoError(t, err)
	archive := tar.NewReader(unpacked)
	header, err := archive.Next()
	require.NoError(t, err)
	require.Equal(t, "disk.raw", header.Name)
	require.Equal(t, byte(tar.TypeGNUSparse), header.Typeflag)
	got, err := io.ReadAll(archive)
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(raw), sha256.Sum256(got))
	_, err = archive.Next()
	require.Equal(t, io.EOF, err)
	rest, err := io.ReadAll(unpacked)
	require.NoError(t, err)
	require.Empty(t, bytes.Trim(rest, "\x00"))
}
