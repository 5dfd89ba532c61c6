package disk_test

import (
	"archive/tar"
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/interop"
)

// envelope is what tests read of a descriptor.
type envelope struct {
	File struct {
		Href string `xml:"href,attr"`
		Size int64  `xml:"size,attr"`
	} `xml:"References>File"`
	Disk struct {
		Capacity  int64 `xml:"capacity,attr"`
		Populated int64 `xml:"populatedSize,attr"`
	} `xml:"DiskSection>Disk"`
	System struct {
		Name string
		OS   struct {
			Type string `xml:"osType,attr"`
		} `xml:"OperatingSystemSection"`
		Hardware struct {
			Type  string `xml:"System>VirtualSystemType"`
			Items []struct {
				Kind     string `xml:"ResourceType"`
				Quantity string `xml:"VirtualQuantity"`
			} `xml:"Item"`
			Config []struct {
				Key   string `xml:"key,attr"`
				Value string `xml:"value,attr"`
			} `xml:"Config"`
		} `xml:"VirtualHardwareSection"`
		Product string `xml:"ProductSection>Product"`
		Version string `xml:"ProductSection>Version"`
	} `xml:"VirtualSystem"`
}

// ovaOf makes an OVA and gives its descriptor and the size of its VMDK.
func ovaOf(t *testing.T, ovf *disk.OVF) (text string, vmdk int64) {
	t.Helper()
	raw := newGPT(512, 2<<20, gptPart{64, 127, "boot"})
	root := openRoot(t)
	results, err := disk.Convert(t.Context(), root, openRaw(t, bytes.NewReader(raw), len(raw)), []disk.Target{{Name: "a.ova", Format: disk.OVA, OVF: ovf}}, &disk.ConvertOptions{NoSync: true})
	require.NoError(t, err)
	file, err := root.Open("a.ova")
	require.NoError(t, err)
	defer file.Close()
	archive := tar.NewReader(file)
	h, err := archive.Next()
	require.NoError(t, err)
	require.Equal(t, "coreos.ovf", h.Name)
	require.Equal(t, int64(0o644), h.Mode)
	require.Zero(t, h.ModTime.Unix())
	descriptor, err := io.ReadAll(archive)
	require.NoError(t, err)
	h, err = archive.Next()
	require.NoError(t, err)
	require.Equal(t, "disk.vmdk", h.Name)
	inner, err := io.ReadAll(archive)
	require.NoError(t, err)
	image, err := disk.Open(t.Context(), bytes.NewReader(inner), int64(len(inner)), &disk.OpenOptions{Format: disk.VMDK})
	require.NoError(t, err)
	got, err := io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
	require.NoError(t, err)
	require.True(t, bytes.Equal(raw, got))
	_, err = archive.Next()
	require.Equal(t, io.EOF, err)
	require.Zero(t, results[0].Size%10240)
	return string(descriptor), h.Size
}

func TestOVF(t *testing.T) {
	for name, tt := range map[string]struct {
		ovf                                       *disk.OVF
		system, product, kind, hardware, cpus, mb string
		secure                                    string
	}{
		"default": {nil, "coreos", "", "rhel9_64Guest", "vmx-17", "2", "4096", "false"},
		"given": {
			&disk.OVF{Name: "a <b> & {vmdk_size}", Product: "P", OSType: "other", Hardware: "vmx-20", CPUs: 8, MemoryMB: 1 << 15, Version: "1", SecureBoot: true},
			"a <b> & {vmdk_size}", "P", "other", "vmx-20", "8", "32768", "true",
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, size := ovaOf(t, tt.ovf)
			var e envelope
			require.NoError(t, xml.Unmarshal([]byte(text), &e))
			require.Equal(t, size, e.File.Size)
			require.Equal(t, size, e.Disk.Populated)
			require.Equal(t, int64(2<<20), e.Disk.Capacity)
			require.Equal(t, "disk.vmdk", e.File.Href)
			require.Equal(t, tt.system, e.System.Name)
			require.Equal(t, tt.product, e.System.Product)
			require.Equal(t, tt.kind, e.System.OS.Type)
			require.Equal(t, tt.hardware, e.System.Hardware.Type)
			require.Equal(t, tt.cpus, e.System.Hardware.Items[0].Quantity)
			require.Equal(t, tt.mb, e.System.Hardware.Items[1].Quantity)
			require.Equal(t, tt.secure, e.System.Hardware.Config[0].Value)
		})
	}
}

// TestOVFTemplates takes the templates of coreos-assembler, whose other braces image.yaml
// fills in.
func TestOVFTemplates(t *testing.T) {
	dir := interop.SharedData(t, "bootimage", "cosa")
	for _, name := range []string{"vmware-template.xml", "virtualbox-template.xml"} {
		template, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		text, size := ovaOf(t, &disk.OVF{Template: string(template)})
		var e envelope
		require.NoError(t, xml.Unmarshal([]byte(text), &e))
		require.Equal(t, size, e.File.Size)
		require.Equal(t, int64(2<<20), e.Disk.Capacity)
		// All else is the template's.
		back := strings.TrimRight(text, "\n")
		back = strings.ReplaceAll(back, `"`+strconv.FormatInt(size, 10)+`"`, `"{vmdk_size}"`)
		back = regexp.MustCompile(`ovf:capacity="\d+"`).ReplaceAllString(back, `ovf:capacity="{vmdk_capacity}"`)
		require.Equal(t, strings.TrimRight(string(template), "\n"), back)
	}
}
