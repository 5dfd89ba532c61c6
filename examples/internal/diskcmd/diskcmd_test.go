package diskcmd_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/examples/internal/diskcmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// call runs a command as the program does.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	root := &cobra.Command{Use: "okd-streams", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(diskcmd.Command())
	var out, diagnostics bytes.Buffer
	root.SetArgs(append([]string{"disk"}, args...))
	root.SetOut(&out)
	root.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", root.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

// newDisk makes a disk with a partition.
func newDisk(t *testing.T) string {
	t.Helper()
	raw := make([]byte, 4<<20)
	copy(raw[446:], "\x80\x00\x00\x00\x83\x00\x00\x00\x00\x08\x00\x00\x00\x10\x00\x00")
	raw[510], raw[511] = 0x55, 0xaa
	path := filepath.Join(t.TempDir(), "disk.raw")
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	return path
}

// bootDisk is the boot file system of the room's tests, which is a disk, too.
func bootDisk(t *testing.T) string {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "..", "bootimage", "disk", "testdata", "boot.gz"))
	require.NoError(t, err)
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	require.NoError(t, err)
	raw, err := io.ReadAll(unpacked)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "boot.raw")
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	return path
}

func TestProbe(t *testing.T) {
	path := newDisk(t)
	code, stdout, stderr := call(t, "probe", path)
	require.Zero(t, code, stderr)
	require.Equal(t, `format      raw
file        4194304 (4.0 MiB)
disk        4194304 (4.0 MiB)
partitions  mbr, sectors of 512 bytes
NUMBER  START    SIZE     TYPE  NAME
1       1048576  2.0 MiB  83    ""
`, stdout)
	code, stdout, _ = call(t, "probe", "-o", "json", path)
	require.Zero(t, code)
	var info disk.Info
	require.NoError(t, json.Unmarshal([]byte(stdout), &info))
	require.Equal(t, disk.Raw, info.Format)
}

func TestProbeFails(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, data string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
		return path
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "0 arguments"},
		{[]string{"a", "b"}, 2, "2 arguments"},
		{[]string{"-o", "xml", "a"}, 2, "it is one of text, json, yaml"},
		{[]string{filepath.Join(dir, "absent")}, 1, "no such file"},
		{[]string{dir}, 1, "is a directory"},
		{[]string{file("packed", "\x1f\x8b\x08 packed")}, 1, "unpack it first"},
		{[]string{file("flat", "# Disk DescriptorFile\nversion=1\n")}, 1, "names other files"},
		{[]string{file("cut", "conectix"+string(make([]byte, 600)))}, 3, "a transfer was cut"},
	} {
		code, _, stderr := call(t, append([]string{"probe"}, tt.args...)...)
		require.Equal(t, tt.code, code, stderr)
		require.Contains(t, stderr, tt.want)
	}
}

func TestConvert(t *testing.T) {
	path, dir := bootDisk(t), t.TempDir()
	code, stdout, stderr := call(t, "convert", "--no-sync", "-q", "-f", "raw", "--dir", dir, path, "qcow2,compression=zstd:a.qcow2", "platform=aws,arch=x86_64,size=1M:a.vmdk", "ova,platform=vmware,arch=x86_64:a.ova")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "a.qcow2  qcow2   unstamped")
	require.Contains(t, stdout, "a.vmdk   vmdk    aws")
	require.Contains(t, stdout, "a.ova    ova     vmware")

	file, err := os.Open(filepath.Join(dir, "a.vmdk"))
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	image, err := disk.Open(t.Context(), file, info.Size(), nil)
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), image.Size())

	code, stdout, stderr = call(t, "convert", "--no-sync", "-q", "-o", "json", "--no-hash", "--dir", dir, filepath.Join(dir, "a.qcow2"), "raw:b.raw")
	require.Zero(t, code, stderr)
	require.NotContains(t, stdout, "sha256")
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(dir, "b.raw"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

func TestConvertFails(t *testing.T) {
	path, dir := newDisk(t), t.TempDir()
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{path}, 2, "1 argument"},
		{[]string{path, "qcow2"}, 2, "is not FORMAT:FILE"},
		{[]string{path, "qcow2,vmdk:a"}, 2, "two formats"},
		{[]string{path, "qcow2,size=1X:a"}, 2, "not a size"},
		{[]string{path, "qcow2,size=9999999999T:a"}, 2, "too large"},
		{[]string{path, "qcow2,color=red:a"}, 2, "no such option"},
		{[]string{path, "iso:a"}, 1, "cannot be written"},
		{[]string{path, "platform=aws:a"}, 1, "disk: stamp aws"},
		{[]string{path, "platform=nvidiabluefield:a"}, 1, "raw,platform=nvidiabluefield:FILE makes the raw disk alone"},
		{[]string{"-f", "qcow2", path, "raw:a"}, 1, "not of this format"},
		{[]string{"--dir", filepath.Join(dir, "absent"), path, "raw:a"}, 1, "make the folder"},
	} {
		code, _, stderr := call(t, append([]string{"convert", "-q", "--no-sync", "--dir", dir}, tt.args...)...)
		require.Equal(t, tt.code, code, stderr)
		require.Contains(t, stderr, tt.want)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
