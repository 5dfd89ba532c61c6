package disk_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/interop"
)

// TestPowerVS makes the archive that PowerVC imports: coreos-assembler's descriptor and
// the disk as it is.
func TestPowerVS(t *testing.T) {
	raw := newGPT(512, 4<<20, gptPart{64, 127, "boot"}, gptPart{4096, 8000, "root"})
	copy(raw[3<<20:], "data behind a hole")
	root := openRoot(t)
	made := func(ovf *disk.OVF, size int64) (string, []byte, disk.Result) {
		results, err := disk.Convert(t.Context(), root, openRaw(t, bytes.NewReader(raw), len(raw)),
			[]disk.Target{{Name: "a.ova", Format: disk.PowerVS, OVF: ovf, Size: size}, {Name: "a.raw", Format: disk.Raw}}, &disk.ConvertOptions{NoSync: true, Hash: true})
		require.NoError(t, err)
		data, err := root.ReadFile("a.ova")
		require.NoError(t, err)
		require.Equal(t, int64(len(data)), results[0].Size)
		require.Equal(t, fmt.Sprintf("%x", sha256.Sum256(data)), results[0].SHA256)
		require.Zero(t, len(data)%10240)
		require.True(t, bytes.Equal(raw, content(t, filepath.Join(root.Name(), "a.raw"))))
		archive := tar.NewReader(bytes.NewReader(data))
		h, err := archive.Next()
		require.NoError(t, err)
		require.Equal(t, "coreos.ovf", h.Name)
		text, err := io.ReadAll(archive)
		require.NoError(t, err)
		h, err = archive.Next()
		require.NoError(t, err)
		require.Equal(t, int64(0o644), h.Mode)
		got, err := io.ReadAll(archive)
		require.NoError(t, err)
		require.Contains(t, string(text), `<ovf:File href="`+h.Name+`" id="file1" size="`+strconv.Itoa(len(got))+`"/>`)
		_, err = archive.Next()
		require.ErrorIs(t, err, io.EOF)
		var any struct{}
		require.NoError(t, xml.Unmarshal(text, &any))
		return string(text), got, results[0]
	}
	text, got, _ := made(&disk.OVF{Name: "scos", Version: "10.0.20261125-0", Product: "SCOS <10>"}, 0)
	require.True(t, bytes.Equal(raw, got))
	require.Contains(t, text, "<ovf:Name>scos-10.0.20261125-0</ovf:Name>")
	require.Contains(t, text, "<ovf:Description>SCOS &lt;10&gt;</ovf:Description>")
	file, err := root.ReadFile("a.ova")
	require.NoError(t, err)
	info, err := disk.Probe(t.Context(), bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	require.Equal(t, disk.OVA, info.Format)

	text, got, _ = made(nil, 8<<20)
	require.True(t, bytes.Equal(append(bytes.Clone(raw), make([]byte, 4<<20)...), got))
	template, err := os.ReadFile(interop.SharedData(t, "bootimage", "cosa", "powervs-template.xml"))
	require.NoError(t, err)
	require.Equal(t, strings.NewReplacer("{image}", "coreos", "{image_description}", "coreos", "{image_size}", "8388608").Replace(string(template)), text)

	_, err = disk.Convert(t.Context(), root, openRaw(t, bytes.NewReader(raw), len(raw)), []disk.Target{{Name: "b", Format: disk.PowerVS, OVF: &disk.OVF{Template: "{vmdk_size} disk.vmdk"}}}, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	for _, name := range []string{strings.Repeat("n", 81), "../a", "."} {
		_, err = disk.Convert(t.Context(), root, openRaw(t, bytes.NewReader(raw), len(raw)), []disk.Target{{Name: "b", Format: disk.PowerVS, OVF: &disk.OVF{Name: name}}}, nil)
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, "no name of a file in an archive")
	}
}
