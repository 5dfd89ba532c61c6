package bootimagecmd_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
)

// diskBuild is plainBuild with a disk that is a boot file system, and an empty one.
func diskBuild(t *testing.T) (dir string) {
	t.Helper()
	packed, err := os.Open(filepath.Join("..", "..", "..", "bootimage", "disk", "testdata", "boot.gz"))
	require.NoError(t, err)
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	require.NoError(t, err)
	raw, err := io.ReadAll(unpacked)
	require.NoError(t, err)
	dir = plainBuild(t)
	file, err := os.Open(filepath.Join(dir, bootimage.MetaFile))
	require.NoError(t, err)
	defer file.Close()
	d, err := bootimage.DecodeMeta(file)
	require.NoError(t, err)
	require.NoError(t, d.Edit(func(m *bootimage.Meta) error {
		for artifact, content := range map[string][]byte{"metal": raw, "qemu": make([]byte, 64<<10)} {
			sum := sha256.Sum256(content)
			m.Images[artifact] = bootimage.Image{Path: artifact + ".raw", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}
			require.NoError(t, os.WriteFile(filepath.Join(dir, artifact+".raw"), content, 0o644))
		}
		return nil
	}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, bootimage.MetaFile), d.Bytes(), 0o644))
	return dir
}

func TestConvert(t *testing.T) {
	dir := diskBuild(t)
	code, stdout, stderr := call(t.Context(), "", "convert", "--size=aws=1G", "--compressor=gzip", dir, "aws", "openstack")
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "convert")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], filepath.Join(dir, "own-10.0.20261125-0-aws.x86_64.vmdk.gz"))
	require.Contains(t, lines[1], "own-10.0.20261125-0-openstack.x86_64.qcow2.gz")
	for _, line := range lines {
		require.Contains(t, line, "  stamped  ")
	}
	code, stdout, stderr = call(t.Context(), "", "convert", "-q", "-o=json", dir, "aws", "qemu", "metal")
	require.Zero(t, code, stderr)
	require.Equal(t, "[]\n", stdout)
	require.Empty(t, stderr)

	descriptor := filepath.Join(t.TempDir(), "vmware.xml")
	require.NoError(t, os.WriteFile(descriptor, []byte("own disk.vmdk {vmdk_size}"), 0o644))
	code, _, stderr = call(t.Context(), "", "convert", "-q", "--ovf="+descriptor, dir, "vmware")
	require.Zero(t, code, stderr)
	ova, err := os.ReadFile(filepath.Join(dir, "own-10.0.20261125-0-vmware.x86_64.ova"))
	require.NoError(t, err)
	require.Contains(t, string(ova[:2048]), "own disk.vmdk")

	// Of a disk that boots nothing, which is said and recorded.
	code, stdout, stderr = call(t.Context(), "", "convert", "-q", "--from=qemu", dir, "hetzner")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "  unstamped  ")
	require.Contains(t, stderr, "warning: hetzner is not stamped: ")
	code, stdout, stderr = call(t.Context(), "", "convert", "-q", "-o=json", "--from=qemu", dir, "vultr")
	require.Zero(t, code, stderr)
	var made []struct {
		Platform, Why string
		Image         bootimage.Image
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	require.Len(t, made, 1)
	require.True(t, made[0].Image.Unstamped)
	require.Contains(t, made[0].Why, "no ext4 file system")
	require.Empty(t, stderr)
}

func TestConvertFails(t *testing.T) {
	dir, none := diskBuild(t), t.TempDir()
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{dir}, 2, "1 argument"},
		{[]string{"--compressor=zip", dir, "aws"}, 2, "none of gzip"},
		{[]string{"--size=qemu=1G", dir, "aws"}, 2, "not among the platforms"},
		{[]string{"--size=aws=1M", dir, "aws"}, 2, "not a size such as 100G"},
		{[]string{"--size=aws=99999999999G", dir, "aws"}, 2, "not a size such as 100G"},
		{[]string{"--ovf=" + filepath.Join(none, "x.xml"), dir, "vmware"}, 1, "--ovf"},
		{[]string{filepath.Join(none, "x"), "aws"}, 1, "name the folder of the build"},
		{[]string{none, "aws"}, 1, "with meta.json and a raw disk"},
		{[]string{dir, "asw"}, 1, "--help lists the platforms"},
	} {
		code, stdout, stderr := call(t.Context(), "", append([]string{"convert", "-q"}, tt.args...)...)
		require.Equal(t, tt.code, code, stderr)
		require.Empty(t, stdout)
		require.Contains(t, stderr, tt.want)
	}
	file, err := os.OpenFile(filepath.Join(dir, "metal.raw"), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte{1}, 500<<10)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	code, _, stderr := call(t.Context(), "", "convert", "-q", dir, "gcp")
	require.Equal(t, 3, code)
	require.Contains(t, stderr, "nothing was made of it")
	require.NoFileExists(t, filepath.Join(dir, "own-10.0.20261125-0-gcp.x86_64.tar.gz"))
}
