package diskcmd_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
)

func TestStamp(t *testing.T) {
	path := bootDisk(t)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	code, stdout, stderr := call(t, "stamp", path)
	require.Zero(t, code, stderr)
	require.Equal(t, "metal\n", stdout)

	const aws = `platform   aws
was        metal
arguments  rw $ignition_firstboot mitigations=auto,nosmt ostree=/ostree/boot.1/fedora-coreos/0f/0 ignition.platform.id=aws console=tty0 console=ttyS0,115200n8 quiet
changed    /loader/entries/ostree-1.conf
changed    /grub2/console.cfg
`
	code, stdout, stderr = call(t, "stamp", "--arch", "x86_64", "--karg", "quiet", "--dry-run", path, "aws")
	require.Zero(t, code, stderr)
	require.Equal(t, aws, stdout)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)

	code, stdout, stderr = call(t, "stamp", "--arch", "x86_64", "--karg", "quiet", path, "aws")
	require.Zero(t, code, stderr)
	require.Equal(t, aws, stdout)
	code, stdout, _ = call(t, "stamp", "-o", "json", path)
	require.Zero(t, code)
	require.JSONEq(t, `{"platform": "aws"}`, stdout)
	code, stdout, _ = call(t, "stamp", "--arch", "x86_64", "-o", "json", path, "nutanix")
	require.Zero(t, code)
	var s disk.Stamped
	require.NoError(t, json.Unmarshal([]byte(stdout), &s))
	require.Equal(t, "aws", s.Was)
	code, stdout, _ = call(t, "stamp", "--arch", "x86_64", path, "nutanix")
	require.Zero(t, code)
	require.Contains(t, stdout, "changed    nothing")
}

func TestStampFails(t *testing.T) {
	path, dir := bootDisk(t), t.TempDir()
	code, _, stderr := call(t, "convert", "--no-sync", "-q", "-f", "raw", "--dir", dir, path, "qcow2:a.qcow2")
	require.Zero(t, code, stderr)
	qcow2 := filepath.Join(dir, "a.qcow2")
	dirty, err := os.ReadFile(path)
	require.NoError(t, err)
	dirty[1024+0x60] |= 4
	unclean := filepath.Join(dir, "unclean.raw")
	require.NoError(t, os.WriteFile(unclean, dirty, 0o600))
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "0 arguments"},
		{[]string{"a", "b", "c"}, 2, "3 arguments"},
		{[]string{path, "aws"}, 1, "--arch"},
		{[]string{"--arch", "x86_64", path, "asw"}, 1, "there are aliyun"},
		{[]string{"--arch", "x86_64", qcow2, "aws"}, 2, "platform=aws:FILE makes a new image"},
		{[]string{"--arch", "x86_64", unclean, "aws"}, 1, "e2fsck -p IMAGE"},
		{[]string{filepath.Join(dir, "absent"), "aws"}, 1, "no such file"},
		{[]string{newDisk(t), "aws"}, 1, "no ext4 file system"},
	} {
		code, _, stderr := call(t, append([]string{"stamp"}, tt.args...)...)
		require.Equal(t, tt.code, code, stderr)
		require.Contains(t, stderr, tt.want)
	}
	code, stdout, stderr := call(t, "stamp", qcow2)
	require.Zero(t, code, stderr)
	require.Equal(t, "metal\n", stdout)
}
