package bootimage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	releasemd "github.com/coreos/stream-metadata-go/release"
	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/stretchr/testify/require"
)

func origin(t testing.TB, elem ...string) *bootimage.Origin {
	t.Helper()
	file, err := os.Open(filepath.Join(append([]string{interop.SharedData(t, "bootimage")}, elem...)...))
	require.NoError(t, err)
	defer file.Close()
	o, err := bootimage.ReadOrigin(file, nil)
	require.NoError(t, err)
	return o
}

func TestReadRealOrigins(t *testing.T) {
	for _, tt := range []struct {
		file    string
		kind    bootimage.OriginKind
		stream  string
		entries int
	}{
		{"fcos/streams/stable.json", bootimage.OriginStream, "stable", 128},
		{"installer/main/scos.json", bootimage.OriginStream, "c10s", 58},
		{"configmap/derived-scos-coreos-bootimages.yaml", bootimage.OriginConfigMap, "c10s", 58},
		{"stream-metadata-go/fcos-release.json", bootimage.OriginRelease, "stable", 40},
		{"cosa/meta-fcos.json", bootimage.OriginMeta, "", 14},
		{"cosa/meta-rhcos.json", bootimage.OriginMeta, "", 17},
		{"installer/legacy/release-4.7-rhcos-amd64.json", bootimage.OriginPin, "", 36},
		{"installer/legacy/release-4.6-rhcos-s390x.json", bootimage.OriginPin, "", 0},
		{"installer/legacy/release-4.2-rhcos.json", bootimage.OriginPin, "", 0},
	} {
		t.Run(tt.file, func(t *testing.T) {
			o := origin(t, tt.file)
			require.Equal(t, tt.kind, o.Kind)
			require.Equal(t, tt.stream, o.Stream)
			if tt.entries != 0 {
				require.Len(t, o.Entries, tt.entries)
			}
			require.NotEmpty(t, o.Entries)
			for _, e := range o.Entries {
				require.NotEmpty(t, e.Path)
				if e.File != "" {
					require.NotEmpty(t, e.Format, e.Path)
					require.Regexp(t, "^[0-9a-f]{64}$", e.SHA256)
					if tt.kind == bootimage.OriginPin {
						require.Contains(t, e.URL, "https://")
					}
				}
			}
		})
	}
	found, err := bootimage.Find(t.Context(), origin(t, "installer/legacy/release-4.7-rhcos-amd64.json").Entries, &bootimage.FindOptions{Platform: "vsphere"})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "ova", found[0].Format)
	require.Positive(t, found[0].Size)
}

// TestFindInEveryStream asks every published stream for what the installer wants.
func TestFindInEveryStream(t *testing.T) {
	answers := map[string]int{}
	for _, file := range sharedFiles(t, streamFiles...) {
		entries := bootimage.Entries(streamOf(t, file).Value())
		for _, platform := range []string{"baremetal", "vsphere", "azure", "aws", "gcp", "openstack", "qemu", "nutanix"} {
			found, err := bootimage.Find(t.Context(), entries, &bootimage.FindOptions{Arch: "amd64", Platform: platform, Region: "eu-west-1"})
			if err != nil {
				require.ErrorIs(t, err, fs.ErrNotExist)
				continue
			}
			for _, f := range found {
				require.Equal(t, "x86_64", f.Arch)
				require.NotEmpty(t, f.Reason)
				require.NotEmpty(t, f.URL+f.Image)
			}
			answers[platform]++
		}
	}
	require.Equal(t, 80, answers["openstack"])
	require.Equal(t, 80, answers["vsphere"])
	require.Greater(t, answers["aws"], 70)
	require.Greater(t, answers["baremetal"], 75)
}

func sampleEntries(t testing.TB) []bootimage.Entry { return bootimage.Entries(small(t).Value()) }

func TestFind(t *testing.T) {
	entries := append(sampleEntries(t),
		bootimage.Entry{Arch: "x86_64", Platform: "azure-disk", Release: "1.2", URL: "https://blob.example/d.vhd"},
		bootimage.Entry{Arch: "x86_64", Platform: "vmware", Format: "ova", File: "disk", Release: "1.2", URL: "https://a.example/1.2.ova", Size: 5},
		bootimage.Entry{Arch: "x86_64", Platform: "powervs", Region: "us-east", Release: "1.2", Image: "b/o"},
	)
	for _, tt := range []struct {
		name   string
		opts   *bootimage.FindOptions
		want   []string // the images' paths or addresses
		reason string
		fault  string
	}{
		{"Go's spelling", &bootimage.FindOptions{Arch: "amd64", Platform: "metal", File: "disk"}, []string{"https://a.example/own/1.2/x86_64/d.raw.gz"}, "named by the document", ""},
		{"no live ISO", &bootimage.FindOptions{Platform: "none", Format: "raw.gz"}, []string{"https://a.example/own/1.2/x86_64/d.raw.gz"}, "none: machines that are made by hand boot the live ISO", ""},
		{"azure falls back", &bootimage.FindOptions{Platform: "azure"}, []string{"https://blob.example/d.vhd"}, "azure: Azure copies the disk into a gallery: the marketplace has no image", ""},
		{"vsphere", &bootimage.FindOptions{Platform: "vsphere"}, []string{"https://a.example/1.2.ova"}, "vsphere: vSphere imports the OVA as a template", ""},
		{"region", &bootimage.FindOptions{Platform: "aws", Region: "us-east-1"}, []string{"ami-1"}, "named by the document", ""},
		{"region without", &bootimage.FindOptions{Platform: "aws", Region: "eu-west-1"}, []string{"ami-1"}, "eu-west-1 has none: installers copy the AMI of us-east-1 into it; machine sets of the region get no boot image updates", ""},
		{"everywhere", &bootimage.FindOptions{Platform: "kubevirt", Region: "x"}, []string{"q.example/v@sha256:aa"}, "named by the document; the same in every region", ""},
		{"no region", &bootimage.FindOptions{Platform: "powervs", Region: "osa"}, nil, "", `no region "osa": file does not exist; there are us-east`},
		{"arch", &bootimage.FindOptions{Arch: "s390x"}, nil, "", `no architecture "s390x": file does not exist; there are x86_64`},
		{"platform", &bootimage.FindOptions{Platform: "vultr"}, nil, "", `no platform "vultr": file does not exist; there are aws, azure-disk, kubevirt, metal, powervs, vmware`},
		{"format", &bootimage.FindOptions{Platform: "metal", Format: "iso"}, nil, "", `no format "iso": file does not exist; there are pxe, raw.gz`},
		{"nothing", &bootimage.FindOptions{Platform: "aws", Format: "x"}, nil, "", `no format "x": file does not exist`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, err := bootimage.Find(t.Context(), entries, tt.opts)
			if tt.fault != "" {
				require.ErrorIs(t, err, fs.ErrNotExist)
				require.EqualError(t, err, "bootimage: find: "+tt.fault)
				return
			}
			require.NoError(t, err)
			var got []string
			for _, f := range found {
				got = append(got, f.URL+f.Image)
				require.Equal(t, tt.reason, f.Reason)
			}
			require.Equal(t, tt.want, got)
		})
	}
	all, err := bootimage.Find(t.Context(), entries, nil)
	require.NoError(t, err)
	require.Len(t, all, len(entries))
}

func TestFindProbes(t *testing.T) {
	entries := []bootimage.Entry{
		{URL: "https://a.example/alive"}, {URL: "https://a.example/dead"}, {URL: "https://a.example/other", Size: 5},
		{URL: "https://a.example/down"}, {URL: "s3://b/o"}, {Image: "ami-1"}, {URL: "https://a.example/mute", Size: 7},
	}
	sizes := map[string]int64{"alive": 10, "other": 6, "mute": -1}
	probe := func(_ context.Context, url string) (int64, error) {
		switch name := filepath.Base(url); name {
		case "dead":
			return 0, fmt.Errorf("%s: %w", url, fs.ErrNotExist)
		case "down":
			return 0, errors.New("no route")
		default:
			return sizes[name], nil
		}
	}
	found, err := bootimage.Find(t.Context(), entries, &bootimage.FindOptions{Probe: probe})
	require.NoError(t, err)
	var got []string
	for _, f := range found {
		got = append(got, fmt.Sprintf("%s %d %s", f.State, f.Size, f.Fault))
	}
	require.Equal(t, []string{
		"alive 10 ", "dead 0 https://a.example/dead: file does not exist", "wrong 5 has 6 bytes, the document says 5",
		"unknown 0 no route", " 0 ", " 0 ", "alive 7 ",
	}, got)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = bootimage.Find(ctx, entries, &bootimage.FindOptions{Probe: probe})
	require.ErrorIs(t, err, context.Canceled)
}

func TestReadOriginFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "coreos-bootimages: not an object",
		"{}":                          "none of stream metadata",
		"[]":                          "not an object",
		`{"a":`:                       "line 1",
		`{"stream":"x"}`:              "none of stream metadata",
		`{"buildid":"1"}`:             "meta.json: name",
		`{"buildid":"1","baseURI":1}`: "rhcos.json: baseURI: want string",
		`{"buildid":"1","baseURI":"x","images":{"a":{"path":"../x","sha256":"y"}}}`: "rhcos.json: baseURI: not an address",
	} {
		_, err := bootimage.ReadOrigin(strings.NewReader(text), nil)
		require.ErrorContains(t, err, want, text)
	}
	_, err := bootimage.ReadOrigin(strings.NewReader(smallConfigMap), &bootimage.OriginOptions{Stream: "rhel-9"})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = bootimage.ReadOrigin(bytes.NewReader(mustMeta(sampleMeta())), &bootimage.OriginOptions{BaseURL: "x"})
	require.ErrorIs(t, err, fs.ErrInvalid)
	o, err := bootimage.ReadOrigin(bytes.NewReader(mustMeta(sampleMeta())), &bootimage.OriginOptions{BaseURL: "https://e.example/builds"})
	require.NoError(t, err)
	for _, e := range o.Entries {
		if e.File != "" {
			require.Contains(t, e.URL, "https://e.example/builds/")
		}
	}
}

func TestParseOSVersion(t *testing.T) {
	for text, want := range map[string]string{
		"418.94.202410090804-0":        "EL 9.4 4.18 2024-10-09",
		"48.84.202109241901-0":         "EL 8.4 4.8 2021-09-24",
		"410.84.202111111403-0":        "EL 8.4 4.10 2021-11-11",
		"44devel.81.202001151926.0":    "EL 8.1 4.4 2020-01-15",
		"414.9.202306050735-0":         "EL 9 4.14 2023-06-05",
		"42.80.20191002.0":             "EL 8.0 4.2 2019-10-02",
		"9.6.20250402-0":               "EL 9.6  2025-04-02",
		"10.0.20251103-0":              "EL 10  2025-11-03",
		"9.6.2026030314":               "EL 9.6  2026-03-03",
		"39.20231101.3.0":              "Fedora 39  2023-11-01",
		"":                             "",
		"10.0":                         "",
		"9.6.20259999-0":               "",
		"ami-1":                        "",
		"9.6.00010101-0":               "",
		"39.19991231.3.0":              "",
		"00.20231101.3.0":              "",
		"0.6.20250402-0":               "",
		strings.Repeat("1", 1000):      "",
		"39.20231101.3.0\n":            "",
		"9.6.20250402" + "/../../etc":  "",
		"4.19.0-okd-scos.0":            "",
		"419.9.202503010101-0-okd.1":   "EL 9 4.19 2025-03-01",
		"9.0.20250222-0.x86_64-qemu.1": "EL 9  2025-02-22",
	} {
		v, err := bootimage.ParseOSVersion(text)
		if want == "" {
			require.ErrorIs(t, err, fs.ErrInvalid, text)
			continue
		}
		require.NoError(t, err, text)
		if text == "42.80.20191002.0" {
			require.Equal(t, 8, v.Major)
			continue
		}
		require.Equal(t, want, v.System()+" "+v.OpenShift+" "+v.Date.Format("2006-01-02"), text)
	}
}

// TestRealVersions reads the release of every image that was ever published.
func TestRealVersions(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range sharedFiles(t, streamFiles...) {
		for _, e := range bootimage.Entries(streamOf(t, file).Value()) {
			if e.Release == "" || seen[e.Release] || e.Platform == "azure-marketplace" {
				continue
			}
			seen[e.Release] = true
			_, err := bootimage.ParseOSVersion(e.Release)
			require.NoError(t, err, file)
		}
	}
	require.Greater(t, len(seen), 80)
}

func TestSkewOf(t *testing.T) {
	for _, tt := range []struct {
		boot, node string
		opts       *bootimage.SkewOptions
		days       int
		fault      string
	}{
		{"9.6.20250402-0", "9.6.20250502-0", nil, 30, ""},
		{"39.20231101.3.0", "10.0.20251103-0", nil, 733, "machines boot Fedora 39 and change to EL 10 on first boot"},
		{"48.84.202109241901-0", "9.6.20250502-0", nil, 1316, "the boot image is of EL 8.4, older than 9.2"},
		{"412.90.202301010000-0", "9.6.20250502-0", nil, 852, ""}, // minor 0: not known
		{"413.91.202301010000-0", "9.6.20250502-0", nil, 852, "older than 9.2"},
		{"10.0.20251103-0", "9.6.20250502-0", nil, -185, "go back to EL 9.6"},
		{"9.6.20250402-0", "9.6.20250502-0", &bootimage.SkewOptions{MaxDays: 29}, 30, "30 days older than the node image, at most 29 are allowed"},
		{"9.6.20250402-0", "10.0.20250502-0", &bootimage.SkewOptions{Oldest: "10"}, 30, "older than 10"},
	} {
		s, err := bootimage.SkewOf(tt.boot, tt.node, tt.opts)
		require.NoError(t, err)
		require.Equal(t, tt.days, s.Days)
		if tt.fault == "" {
			require.Empty(t, s.Faults)
			continue
		}
		require.Len(t, s.Faults, 1)
		require.Contains(t, s.Faults[0], tt.fault)
	}
	_, err := bootimage.SkewOf("x", "y", nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = bootimage.SkewOf("9.6.20250402-0", "9.6.20250402-0", &bootimage.SkewOptions{Oldest: "nine"})
	require.ErrorContains(t, err, `oldest version "nine"`)
}

// TestDriftOfOKD compares the ConfigMap of a cluster with the pins before it.
func TestDriftOfOKD(t *testing.T) {
	have := origin(t, "configmap/derived-scos-coreos-bootimages.yaml").Entries
	want := origin(t, "installer/main/scos.json").Entries
	require.Nil(t, bootimage.DriftOf(have, want))
	files := sharedFiles(t, "installer/scos-history/*.json")
	old := bootimage.Entries(streamOf(t, files[0]).Value())
	drift := bootimage.DriftOf(old, want)
	require.NotEmpty(t, drift)
	require.Equal(t, "aarch64", drift[0].Arch)
	for _, d := range drift {
		require.NotEmpty(t, d.Changes)
		if d.Have != "" && d.Want != "" {
			require.Positive(t, d.Days, d.Have+" "+d.Want)
		}
	}
}

// TestDriftOfRegionsTwice: the first of two images of a region is compared with
// the first, the second with the second.
func TestDriftOfRegionsTwice(t *testing.T) {
	images := func(names ...string) []bootimage.Entry {
		var list []bootimage.Entry
		for _, name := range names {
			list = append(list, bootimage.Entry{Arch: "x86_64", Platform: "aws", Region: "us-east-1", Image: name})
		}
		return list
	}
	changes := func(have, want []bootimage.Entry) (text []string) {
		for _, d := range bootimage.DriftOf(have, want) {
			for _, c := range d.Changes {
				text = append(text, c.String()+" "+c.Entry.Image)
			}
		}
		return text
	}
	require.Empty(t, changes(images("a", "b"), images("a", "b")))
	require.Equal(t, []string{"x86_64 aws us-east-1: image: b -> c c", "x86_64 aws us-east-1: added d"}, changes(images("a", "b"), images("a", "c", "d")))
	require.Equal(t, []string{"x86_64 aws us-east-1: removed b"}, changes(images("a", "b"), images("a")))
}

func TestCheckAleph(t *testing.T) {
	release := indexRelease("x86_64")
	commit, digest := strings.Repeat("ab", 32), "sha256:"+strings.Repeat("cd", 32)
	for _, tt := range []struct{ aleph, want string }{
		{`{"build": "1.2", "ref": "r", "ostree-commit": "` + commit + `", "imgid": "own-1.2-qemu.x86_64.qcow2"}`, ""},
		{`{"version": "1.2", "ostree-commit": "` + commit + `", "container-image": {"image-name": "x", "image-digest": "` + digest + `", "image-labels": {"a": "b"}}}`, ""},
		{`{"version": "1.3", "ostree-commit": "` + digest + `", "imgid": "own-qemu.aarch64.qcow2", "container-image": {"image-digest": "sha256:00"}}`,
			`bootimage: .coreos-aleph-version.json: container-image.image-digest: is sha256:00, that of the release ` + digest + `
bootimage: .coreos-aleph-version.json: imgid: own-qemu.aarch64.qcow2 is not of x86_64
bootimage: .coreos-aleph-version.json: ostree-commit: is ` + digest + `, that of the release ` + commit + `
bootimage: .coreos-aleph-version.json: version: is 1.3, the release is 1.2`},
	} {
		d, err := bootimage.DecodeAleph(strings.NewReader(tt.aleph))
		require.NoError(t, err)
		require.Equal(t, tt.want, errorText(bootimage.CheckAleph(d.Value(), release, "x86_64")))
		require.ErrorContains(t, bootimage.CheckAleph(d.Value(), release, "s390x"), "release 1.2 has nothing for s390x")
	}
	release.Architectures["x86_64"] = releasemd.Arch{OciImage: release.Architectures["x86_64"].OciImage}
	require.ErrorContains(t, bootimage.CheckAleph(&bootimage.Aleph{Build: "1.2"}, release, "x86_64"), "container-image: missing")
	_, err := bootimage.DecodeAleph(strings.NewReader("{}"))
	require.ErrorContains(t, err, "says nothing")
}

func ExampleFind() {
	document, err := bootimage.ReadOrigin(strings.NewReader(published), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	found, err := bootimage.Find(context.Background(), document.Entries, &bootimage.FindOptions{Arch: "x86_64", Platform: "baremetal"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(found[0].URL)
	fmt.Println(found[0].Reason)
	// Output:
	// https://example.org/own/builds/10.0.20261125-0/x86_64/live.iso
	// baremetal: installs on bare metal boot the live ISO
}

// Nodes that boot Fedora and run CentOS Stream are the defect most reported.
func ExampleSkewOf() {
	skew, err := bootimage.SkewOf("39.20231101.3.0", "10.0.20251103-0", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(skew.Days, skew.Boot.System(), skew.Node.System(), len(skew.Faults))
	boot, err := bootimage.ParseOSVersion("418.94.202410090804-0")
	fmt.Println(boot.System(), boot.OpenShift, err)
	// Output:
	// 733 Fedora 39 EL 10 1
	// EL 9.4 4.18 <nil>
}

func ExampleDriftOf() {
	stream, err := bootimage.DecodeStream(strings.NewReader(published))
	if err != nil {
		fmt.Println(err)
		return
	}
	cluster := bootimage.Entries(stream.Value())
	if err := stream.Override([]byte(`{"architectures": {"x86_64": {"images": {"aws": {"regions": {"us-east-1": {"release": "10.0.20261202-0", "image": "ami-4567"}}}}}}}`)); err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range bootimage.DriftOf(cluster, bootimage.Entries(stream.Value())) {
		fmt.Println(d.Platform, d.Have, d.Want, d.Days)
	}
	// Output: aws 10.0.20261125-0 10.0.20261202-0 7
}

func ExampleCheckAleph() {
	aleph, err := bootimage.DecodeAleph(strings.NewReader(`{"version": "1.2", "container-image": {"image-digest": "sha256:00"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	release := &releasemd.Release{Release: "1.2", Architectures: map[string]releasemd.Arch{
		"x86_64": {OciImage: &releasemd.ContainerImage{DigestRef: "example.org/os@sha256:11"}},
	}}
	fmt.Println(bootimage.CheckAleph(aleph.Value(), release, "x86_64"))
	// Output: bootimage: .coreos-aleph-version.json: container-image.image-digest: is sha256:00, that of the release sha256:11
}

func ExampleMetaEntries() {
	meta := archMeta("x86_64")
	entries, err := bootimage.MetaEntries(&meta, "https://example.org/c9s/builds")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(entries[0].Platform, entries[0].Format, entries[0].URL)
	// Output: metal raw.gz https://example.org/c9s/builds/9.0.20250222-0/x86_64/scos-9.0.20250222-0-metal.x86_64.raw.gz
}

func FuzzReadOrigin(f *testing.F) {
	mutants.Add(f,
		published,
		smallConfigMap,
		string(mustMeta(sampleMeta())),
		`{"buildid":"1","baseURI":"https://x/s390x/","images":{"qemu":{"path":"a-qemu.qcow2","sha256":"`+strings.Repeat("0", 64)+`"}},"amis":{"x":{"hvm":"y"}}}`,
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := fuzzbound.Read(t, 4096, func(r io.Reader) (*bootimage.Origin, error) { return bootimage.ReadOrigin(r, nil) }, data)
		if err != nil {
			return
		}
		for _, e := range o.Entries {
			_, _ = bootimage.ParseOSVersion(e.Release)
		}
		require.Nil(t, bootimage.DriftOf(o.Entries, o.Entries))
		_, _ = bootimage.Find(t.Context(), o.Entries, &bootimage.FindOptions{Platform: "azure", Region: "x"})
	})
}

func FuzzDecodeAleph(f *testing.F) {
	mutants.Add(f, `{"build": "1", "own": 1.0, "container-image": {"image-digest": "x"}}`)
	fuzzDocument(f, bootimage.DecodeAleph, func(a *bootimage.Aleph) { a.Version = "2" })
}
