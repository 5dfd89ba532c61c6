package bootimage_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

var sampleTime = time.Date(2026, 11, 25, 20, 54, 7, 0, time.UTC)

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// sampleMeta is a build with something of everything.
func sampleMeta() bootimage.Meta {
	const id = "9.0.20261125-0"
	m := bootimage.Meta{
		BuildID: id, Name: "scos", Summary: "SCOS", OSTreeCommit: hash("commit"), OSTreeContentChecksum: hash("content"),
		OSTreeTimestamp: sampleTime, OSTreeVersion: id, Arch: "x86_64", BuildTimestamp: sampleTime.Add(time.Minute),
		ConfigGit: &bootimage.Git{Origin: "https://github.com/openshift/os", Commit: strings.Repeat("ab", 20), Branch: "next"},
		BaseImage: &bootimage.ContainerImage{Image: "quay.io/okd/scos", Digest: "sha256:" + hash("image"), Tags: []string{id + "-x86_64", "next"}},
		KubeVirt:  &bootimage.ContainerImage{Image: "quay.io/okd/scos-kubevirt", Digest: "sha256:" + hash("kubevirt"), Tags: []string{id}},
		AMIs:      []bootimage.AMI{{Region: "us-east-1", AMI: "ami-1", Snapshot: "snap-1"}, {Region: "eu-north-1", AMI: "ami-2"}},
		AWSWinLI:  []bootimage.AMI{{Region: "us-east-1", AMI: "ami-3"}},
		Aliyun:    []bootimage.RegionID{{Region: "cn-beijing", ID: "m-1"}},
		GCP:       &bootimage.GCPImage{Image: "scos-9", URL: "https://example.com/scos.tar.gz", Project: "okd", Family: "scos-next"},
		Azure:     &bootimage.CloudObject{Image: "scos.vhd", URL: "https://example.com/scos.vhd"},
		IBMCloud:  []bootimage.CloudObject{{Region: "us-east", Object: "o", Bucket: "b", URL: "https://example.com/o"}},
		PowerVS:   []bootimage.CloudObject{{Region: "us-south", Object: "p", Bucket: "b", URL: "https://example.com/p"}},
		Images:    map[string]bootimage.Image{},
	}
	for artifact, ext := range map[string]string{
		"ostree": "ociarchive", "qemu": "qcow2.gz", "metal": "raw.gz", "metal4k": "raw.gz", "openstack": "qcow2.gz", "gcp": "tar.gz",
		"kubevirt": "ociarchive", "live-iso": "iso", "live-kernel": "", "live-initramfs": "img", "live-rootfs": "img", "newcloud": "img.zst",
	} {
		i := bootimage.Image{Path: bootimage.ArtifactPath("scos", id, artifact, "x86_64", ext), SHA256: hash(artifact), Size: int64(1000 + len(artifact))}
		if strings.HasSuffix(ext, "qcow2.gz") || strings.HasSuffix(ext, "raw.gz") {
			i.UncompressedSHA256, i.UncompressedSize = hash(artifact+" content"), 1<<40
		}
		m.Images[artifact] = i
	}
	return m
}

func sampleOptions() *bootimage.ReleaseOptions {
	return &bootimage.ReleaseOptions{BaseURL: "https://example.com/next/builds", LastModified: sampleTime}
}

func mustMeta(m bootimage.Meta) []byte {
	data, err := bootimage.PutMeta(m)(nil)
	if err != nil {
		panic(err)
	}
	return data
}

func TestArtifactPath(t *testing.T) {
	for want, in := range map[string][3]string{
		"scos-9.0.20250222-0-live-kernel.x86_64":        {"live-kernel", ""},
		"scos-9.0.20250222-0-live-initramfs.x86_64.img": {"live-initramfs", "img"},
		"scos-9.0.20250222-0-metal4k.x86_64.raw.xz":     {"metal4k", "raw.xz"},
	} {
		require.Equal(t, want, bootimage.ArtifactPath("scos", "9.0.20250222-0", in[0], "x86_64", in[1]))
	}
}

func TestPutMeta(t *testing.T) {
	data := mustMeta(sampleMeta())
	golden(t, "meta.json", data)

	again := sampleMeta()
	again.BuildTimestamp = again.BuildTimestamp.Add(time.Hour)
	same, err := bootimage.PutMeta(again)(data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(same), "a second run changes nothing")
	plain := again.Images["qemu"]
	plain.UncompressedSHA256, plain.UncompressedSize = "", 0
	again.Images["qemu"] = plain
	same, err = bootimage.PutMeta(again)(data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(same), "nor does one that measured less")

	// What only the old document has stays, known to us or not.
	withOwn := bytes.Replace(data, []byte("{\n"), []byte("{\n    \"own\": 1.50,\n"), 1)
	little := sampleMeta()
	little.Images = map[string]bootimage.Image{"vmware": {Path: "v.ova", SHA256: hash("v"), Size: 5}}
	little.GCP, little.AMIs, little.Summary, little.BaseImage = nil, nil, "", nil
	more, err := bootimage.PutMeta(little)(withOwn)
	require.NoError(t, err)
	require.Contains(t, string(more), `"own": 1.50,`)
	d, err := bootimage.DecodeMeta(bytes.NewReader(more))
	require.NoError(t, err)
	want := sampleMeta()
	want.Images["vmware"] = little.Images["vmware"]
	require.Equal(t, &want, d.Value())

	for name, change := range map[string]func(*bootimage.Meta){
		"build":         func(m *bootimage.Meta) { m.BuildID = "other" },
		"commit":        func(m *bootimage.Meta) { m.OSTreeCommit = hash("other") },
		"architecture":  func(m *bootimage.Meta) { m.Arch = "aarch64" },
		"name":          func(m *bootimage.Meta) { m.Name = "other" },
		"artifact qemu": func(m *bootimage.Meta) { m.Images["qemu"] = bootimage.Image{Path: "q", SHA256: hash("other")} },
	} {
		m := sampleMeta()
		change(&m)
		_, err := bootimage.PutMeta(m)(data)
		require.ErrorContains(t, err, "meta.json of build 9.0.20261125-0: "+name+" is ")
	}
	_, err = bootimage.PutMeta(bootimage.Meta{})(nil)
	require.ErrorContains(t, err, "buildid")
}

// TestUnstamped: the record of a disk that was converted without a stamp says so, whoever
// writes it next.
func TestUnstamped(t *testing.T) {
	m := sampleMeta()
	plain := m.Images["qemu"]
	converted := plain
	converted.Unstamped = true
	m.Images["qemu"] = converted
	data := mustMeta(m)
	require.Equal(t, 1, strings.Count(string(data), `"unstamped": true`))
	m.Images["qemu"] = plain // by who measured the same bytes and knows nothing of stamps
	again, err := bootimage.PutMeta(m)(data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(again))
	again, err = bootimage.MergeMeta(mustMeta(m))(data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(again))
	again, err = bootimage.MergeMeta(data)(mustMeta(m))
	require.NoError(t, err)
	require.Equal(t, string(data), string(again))

	// It stays when the disk is compressed and uncompressed.
	disk := []byte("disk")
	m.Images = map[string]bootimage.Image{"qemu": {Path: "q.qcow2", SHA256: sum256(disk), Size: 4, Unstamped: true}}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "q.qcow2"), disk, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "meta.json"), mustMeta(m), 0o644))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	read := func() bootimage.Image {
		data, err := os.ReadFile(filepath.Join(dir, "meta.json"))
		require.NoError(t, err)
		d, err := bootimage.DecodeMeta(bytes.NewReader(data))
		require.NoError(t, err)
		return d.Value().Images["qemu"]
	}
	_, err = bootimage.CompressBuild(t.Context(), root, nil)
	require.NoError(t, err)
	require.Equal(t, "q.qcow2.gz", read().Path)
	require.True(t, read().Unstamped)
	_, err = bootimage.UncompressBuild(t.Context(), root, nil)
	require.NoError(t, err)
	require.Equal(t, "q.qcow2", read().Path)
	require.True(t, read().Unstamped)
}

// TestMetaSchema holds what we write against coreos-assembler's schema.
func TestMetaSchema(t *testing.T) {
	var schema struct {
		Required   []string                   `json:"required"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	data, err := os.ReadFile(interop.SharedData(t, "bootimage", "cosa", "schema-v1.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &schema))
	var doc map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(mustMeta(sampleMeta()), &doc))
	for key := range doc {
		require.Contains(t, schema.Properties, key)
	}
	for _, key := range schema.Required {
		require.Contains(t, doc, key)
	}
	require.True(t, slices.Contains(schema.Required, "ostree-version"))
}

func TestReleaseFor(t *testing.T) {
	other := sampleMeta()
	other.Arch, other.OCIImported = "aarch64", true
	other.Images = map[string]bootimage.Image{"live-kernel": {Path: "k", SHA256: hash("k")}}
	other.AMIs, other.AWSWinLI, other.Aliyun, other.GCP, other.Azure, other.IBMCloud, other.PowerVS, other.KubeVirt = nil, nil, nil, nil, nil, nil, nil, nil
	d, err := bootimage.ReleaseFor([]bootimage.Meta{sampleMeta(), other}, sampleOptions())
	require.NoError(t, err)
	golden(t, "release.json", d.Bytes())
	require.Equal(t, "next", d.Value().Stream)

	// The same, one architecture after the other.
	first, err := bootimage.UpdateRelease([]bootimage.Meta{sampleMeta()}, sampleOptions())(nil)
	require.NoError(t, err)
	both, err := bootimage.UpdateRelease([]bootimage.Meta{other}, sampleOptions())(first)
	require.NoError(t, err)
	require.JSONEq(t, string(d.Bytes()), string(both))
	later := sampleOptions()
	later.LastModified = sampleTime.Add(time.Hour)
	same, err := bootimage.UpdateRelease([]bootimage.Meta{other, sampleMeta()}, later)(both)
	require.NoError(t, err)
	require.Equal(t, string(both), string(same))
	signed := sampleOptions()
	signed.Signatures = true
	_, err = bootimage.UpdateRelease([]bootimage.Meta{sampleMeta()}, signed)(both)
	require.ErrorContains(t, err, "x86_64 is there with other content")

	s, err := bootimage.ReleaseFor([]bootimage.Meta{sampleMeta()}, signed)
	require.NoError(t, err)
	disk := s.Value().Architectures["x86_64"].Media.Metal.Artifacts["4k.raw.gz"].Disk
	require.Equal(t, disk.Location+".sig", disk.Signature)
	require.Equal(t, "https://example.com/next/builds/9.0.20261125-0/x86_64/scos-9.0.20261125-0-metal4k.x86_64.raw.gz", disk.Location)
}

func TestReleaseForErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*bootimage.Meta, *bootimage.ReleaseOptions)
		want   string
	}{
		"no base URL":  {func(_ *bootimage.Meta, o *bootimage.ReleaseOptions) { o.BaseURL = "" }, "base URL"},
		"slash at end": {func(_ *bootimage.Meta, o *bootimage.ReleaseOptions) { o.BaseURL += "/" }, "base URL"},
		"password":     {func(_ *bootimage.Meta, o *bootimage.ReleaseOptions) { o.BaseURL = "https://a:b@c" }, "base URL"},
		"no arch":      {func(m *bootimage.Meta, _ *bootimage.ReleaseOptions) { m.Arch = "" }, "names no architecture"},
		"no stream":    {func(m *bootimage.Meta, _ *bootimage.ReleaseOptions) { m.ConfigGit = nil }, "no name of a stream"},
		"other stream": {func(m *bootimage.Meta, _ *bootimage.ReleaseOptions) {
			m.OCILabels = map[string]string{"com.coreos.stream": "x"}
		}, "stream x, and the release is of next"},
		"other build": {func(m *bootimage.Meta, _ *bootimage.ReleaseOptions) { m.BuildID = "x" }, "the release is 9.0.20261125-0"},
		"same arch":   {func(m *bootimage.Meta, _ *bootimage.ReleaseOptions) { m.Arch = "x86_64" }, "architecture is there twice"},
		"bad record":  {func(m *bootimage.Meta, _ *bootimage.ReleaseOptions) { m.OSTreeCommit = "" }, "ostree-commit"},
		"odd file names": {func(m *bootimage.Meta, _ *bootimage.ReleaseOptions) {
			m.Images["qemu"] = bootimage.Image{Path: "disk", SHA256: hash("")}
		}, `no "qemu.aarch64." in file name disk`},
	} {
		t.Run(name, func(t *testing.T) {
			m, o := sampleMeta(), sampleOptions()
			m.Arch, m.Images = "aarch64", map[string]bootimage.Image{}
			tt.change(&m, o)
			_, err := bootimage.ReleaseFor([]bootimage.Meta{sampleMeta(), m}, o)
			require.ErrorContains(t, err, tt.want)
		})
	}
	_, err := bootimage.ReleaseFor(nil, sampleOptions())
	require.Error(t, err)
	_, err = bootimage.ReleaseFor([]bootimage.Meta{sampleMeta()}, nil)
	require.Error(t, err)
	_, err = bootimage.UpdateRelease([]bootimage.Meta{sampleMeta()}, sampleOptions())([]byte(`{"release": "x", "stream": "next"}`))
	require.ErrorContains(t, err, "release.json is of next x, not next 9.0.20261125-0")
}

// TestReleaseForRealMeta maps real records.
func TestReleaseForRealMeta(t *testing.T) {
	for _, file := range sharedFiles(t, metaFiles...) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		m, err := bootimage.DecodeMeta(bytes.NewReader(data))
		require.NoError(t, err)
		d, err := bootimage.ReleaseFor([]bootimage.Meta{*m.Value()}, &bootimage.ReleaseOptions{Stream: "s", BaseURL: "https://example.com/builds"})
		require.NoError(t, err)
		media := d.Value().Architectures["x86_64"].Media
		require.NotEmpty(t, media.Metal.Artifacts)
		require.NotEmpty(t, media.Aws.Images["us-east-1"].Image)
		require.NotNil(t, media.Qemu)
		s, err := bootimage.StreamFor(d.Value(), &bootimage.StreamOptions{LastModified: sampleTime})
		require.NoError(t, err)
		require.NotEmpty(t, s.Value().Architectures["x86_64"].Images.Aws.Regions)
	}
}

func TestStreamFor(t *testing.T) {
	r, err := bootimage.ReleaseFor([]bootimage.Meta{sampleMeta()}, sampleOptions())
	require.NoError(t, err)
	opts := &bootimage.StreamOptions{LastModified: sampleTime, Generator: "okd-streams"}
	s, err := bootimage.StreamFor(r.Value(), opts)
	require.NoError(t, err)
	golden(t, "stream.json", s.Bytes())

	// Another run with nothing new, later.
	later := &bootimage.StreamOptions{LastModified: sampleTime.Add(time.Hour), Generator: "okd-streams"}
	same, err := bootimage.UpdateStream(r.Value(), later)(s.Bytes())
	require.NoError(t, err)
	require.Equal(t, string(s.Bytes()), string(same))

	// A new build, and one more architecture that someone else published.
	m := sampleMeta()
	m.BuildID = "9.0.20261126-0"
	next, err := bootimage.ReleaseFor([]bootimage.Meta{m}, sampleOptions())
	require.NoError(t, err)
	old := bytes.Replace(s.Bytes(), []byte(`"architectures": {`), []byte(`"architectures": {"s390x": {"artifacts": {}, "own": 1},`), 1)
	updated, err := bootimage.UpdateStream(next.Value(), later)(old)
	require.NoError(t, err)
	require.Contains(t, string(updated), `{"s390x": {"artifacts": {}, "own": 1}`)
	require.Contains(t, string(updated), `"release": "9.0.20261126-0"`)
	require.NotContains(t, string(updated), `"release": "9.0.20261125-0"`)
	require.Contains(t, string(updated), `"last-modified": "2026-11-25T21:54:07Z"`)

	_, err = bootimage.StreamFor(r.Value(), nil)
	require.ErrorContains(t, err, "last modification")
	_, err = bootimage.UpdateStream(r.Value(), opts)([]byte(`{"stream": "other"}`))
	require.EqualError(t, err, "bootimage: stream is other, not next")
}

func TestMeasure(t *testing.T) {
	content := bytes.Repeat([]byte("some content of a disk\n"), 50_000)
	pack := map[string]func(io.Writer) (io.WriteCloser, error){
		"gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		"zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	}
	packed := func(codec string) []byte {
		var b bytes.Buffer
		w, err := pack[codec](&b)
		require.NoError(t, err)
		_, err = w.Write(content)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return b.Bytes()
	}
	plain, err := bootimage.Measure(t.Context(), bytes.NewReader(content), nil)
	require.NoError(t, err)
	require.Equal(t, bootimage.Measurement{Size: int64(len(content)), SHA256: hash(string(content))}, plain)
	empty, err := bootimage.Measure(t.Context(), strings.NewReader(""), nil)
	require.NoError(t, err)
	require.Equal(t, bootimage.Measurement{SHA256: hash("")}, empty)

	for codec := range pack {
		t.Run(codec, func(t *testing.T) {
			data := packed(codec)
			want := bootimage.Measurement{
				Size: int64(len(data)), SHA256: hash(string(data)), Compression: codec,
				UncompressedSize: plain.Size, UncompressedSHA256: plain.SHA256,
			}
			for name, r := range map[string]io.Reader{"whole": bytes.NewReader(data), "halves": iotest.HalfReader(bytes.NewReader(data)), "error with data": iotest.DataErrReader(bytes.NewReader(data))} {
				got, err := bootimage.Measure(t.Context(), r, nil)
				require.NoError(t, err, name)
				require.Equal(t, want, got, name)
			}
			got, err := bootimage.Measure(t.Context(), bytes.NewReader(data), &bootimage.MeasureOptions{Plain: true})
			require.NoError(t, err)
			require.Equal(t, bootimage.Measurement{Size: want.Size, SHA256: want.SHA256}, got)
			require.Equal(t, bootimage.Image{Path: "p", SHA256: want.SHA256, Size: want.Size, UncompressedSHA256: plain.SHA256, UncompressedSize: plain.Size}, want.Image("p"))

			// Two files in a row are one content.
			got, err = bootimage.Measure(t.Context(), bytes.NewReader(append(bytes.Clone(data), data...)), nil)
			require.NoError(t, err)
			require.Equal(t, 2*plain.Size, got.UncompressedSize)
			require.Equal(t, 2*want.Size, got.Size)

			_, err = bootimage.Measure(t.Context(), bytes.NewReader(data[:len(data)-5]), nil)
			require.ErrorContains(t, err, "measure "+codec+" content", "cut short")
			damaged := bytes.Clone(data)
			damaged[len(damaged)/2] ^= 0xff
			_, err = bootimage.Measure(t.Context(), bytes.NewReader(damaged), nil)
			require.Error(t, err, "damaged")
			_, err = bootimage.Measure(t.Context(), bytes.NewReader(data), &bootimage.MeasureOptions{MaxUncompressed: plain.Size - 1})
			require.ErrorContains(t, err, fmt.Sprintf("more than %d bytes", plain.Size-1))
			_, err = bootimage.Measure(t.Context(), bytes.NewReader(data), &bootimage.MeasureOptions{MaxUncompressed: plain.Size})
			require.NoError(t, err)
		})
	}

	_, err = bootimage.Measure(t.Context(), iotest.ErrReader(io.ErrClosedPipe), nil)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	_, err = bootimage.Measure(t.Context(), io.MultiReader(bytes.NewReader(content), iotest.ErrReader(io.ErrClosedPipe)), nil)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = bootimage.Measure(ctx, bytes.NewReader(content), nil)
	require.ErrorIs(t, err, context.Canceled)
}

// TestMeasureFixtures measures coreos-installer's, which all hold 1 MiB.
func TestMeasureFixtures(t *testing.T) {
	var contents []string
	for _, ext := range []string{"gz", "xz", "zst"} {
		f, err := os.Open(interop.SharedData(t, "bootimage", "coreos-installer", "verify", "1M."+ext))
		require.NoError(t, err)
		m, err := bootimage.Measure(t.Context(), f, nil)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, ext, m.Compression)
		require.EqualValues(t, 1<<20, m.UncompressedSize)
		contents = append(contents, m.UncompressedSHA256)
	}
	require.Equal(t, contents[0], contents[1])
	require.Equal(t, contents[0], contents[2])
}

func FuzzMeasure(f *testing.F) {
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0})
	f.Add([]byte{0xfd, '7', 'z', 'X', 'Z', 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, data []byte) {
		var m bootimage.Measurement
		var err error
		fuzzbound.Within(t, unpackBound(data), func() {
			m, err = bootimage.Measure(t.Context(), bytes.NewReader(data), &bootimage.MeasureOptions{MaxUncompressed: 1 << 20})
		})
		if err == nil && (m.Size != int64(len(data)) || m.SHA256 != hash(string(data))) {
			t.Fatalf("%d bytes measured as %+v", len(data), m)
		}
	})
}

func BenchmarkMeasure(b *testing.B) {
	content := bytes.Repeat([]byte("some content of a disk\n"), 1<<20)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write(content)
	require.NoError(b, err)
	require.NoError(b, w.Close())
	for name, data := range map[string][]byte{"plain": content, "gzip": packed.Bytes()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bootimage.Measure(b.Context(), bytes.NewReader(data), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
