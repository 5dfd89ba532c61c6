package bootimage_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/stretchr/testify/require"
)

var (
	indexFiles   = []string{"stream-generator/releases.json", "stream-metadata-go/fcos-releases.json", "tracker-metadata/release-index/sample.json"}
	updatesFiles = []string{"fcos/updates/*.json", "fcos/updates-history/*/*.json", "tracker-metadata/updates/sample.json"}
)

func streamOf(t testing.TB, file string) *bootimage.Document[streammd.Stream] {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	d, err := bootimage.DecodeStream(bytes.NewReader(data))
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, d.Bytes()), "not the same bytes")
	return d
}

func TestRealIndexes(t *testing.T) {
	for _, file := range sharedFiles(t, indexFiles...) {
		roundTrip(t, file, bootimage.DecodeIndex, func(i *releasemd.Index) *string { return &i.Note })
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		d, err := bootimage.DecodeIndex(bytes.NewReader(data))
		require.NoError(t, err)
		if err := bootimage.ValidateIndex(d.Value()); err != nil {
			require.Equal(t, "tracker-metadata", filepath.Base(filepath.Dir(filepath.Dir(file))), err)
		}
	}
}

// TestRealUpdates reads every updates document that Fedora CoreOS published.
func TestRealUpdates(t *testing.T) {
	faults := map[string]string{}
	for _, file := range sharedFiles(t, updatesFiles...) {
		name := filepath.Base(file)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		d, err := bootimage.DecodeUpdates(bytes.NewReader(data))
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(data, d.Bytes()), "%s: not the same bytes", name)
		if err := bootimage.ValidateUpdates(d.Value(), nil); err != nil {
			faults[name] = err.Error()
		}
		if d.Value().Old == nil {
			roundTrip(t, file, bootimage.DecodeUpdates, func(u *bootimage.Updates) *string { return &u.Metadata.LastModified })
		}
	}
	require.Equal(t, map[string]string{
		"20190805T145047-e4465e08.json": "bootimage: updates: updates: a shape of 2019: unsupported operation",
		"20191127T131510-35be95c1.json": "bootimage: updates: releases[1].metadata.rollout.start_percentage: 100 is not a part from 0 to 1",
	}, faults)
}

// TestValidateRealStreams checks every published stream, and asks it for disks.
func TestValidateRealStreams(t *testing.T) {
	faults := map[string]int{}
	files := 0
	for _, file := range sharedFiles(t, streamFiles...) {
		s := streamOf(t, file).Value()
		for line := range strings.Lines(errorText(bootimage.ValidateStream(s, nil))) {
			_, rest, _ := strings.Cut(strings.TrimSpace(line), "stream: ")
			faults[filepath.Base(file)+" "+rest]++
		}
		entries := bootimage.Entries(s)
		require.NotEmpty(t, entries)
		seen := map[string]bool{}
		for _, e := range entries {
			require.False(t, seen[e.Path], e.Path)
			seen[e.Path] = true
			if e.File != "" {
				files++
				got := s.Architectures[e.Arch].Artifacts[e.Platform].Formats[e.Format]
				require.Contains(t, []*streammd.Artifact{got.Disk, got.Kernel, got.Initramfs, got.Rootfs}, &streammd.Artifact{
					Location: e.URL, Signature: e.Signature, Sha256: e.SHA256, UncompressedSha256: e.UncompressedSHA256,
				})
			}
		}
	}
	require.Greater(t, files, 3000)
	require.Equal(t, map[string]int{"stream.json metadata.last-modified: missing": 1}, faults)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestReindentRealStreams(t *testing.T) {
	for i, file := range sharedFiles(t, streamFiles...) {
		if i%3 != 0 {
			continue
		}
		d := streamOf(t, file)
		was := string(d.Bytes())
		indent := len(was) - len(strings.TrimLeft(was[2:], " ")) - 2
		require.NoError(t, d.Reindent(6-indent))
		other := string(d.Bytes())
		require.NotEqual(t, was, other)
		require.JSONEq(t, was, other)
		require.NoError(t, d.Reindent(indent))
		if filepath.Base(filepath.Dir(file)) != "stream-metadata-rust" { // has a list of its own layout
			require.Equal(t, was, string(d.Bytes()), file)
		}
	}
}

func TestReindent(t *testing.T) {
	d, err := bootimage.DecodeBuilds(strings.NewReader("\n{\"schema-version\":\"1.0.0\" , \"x\":{},\"builds\":[ ],\"n\":[1.50,null]}\n\n"))
	require.NoError(t, err)
	require.NoError(t, d.Reindent(2))
	require.Equal(t, "{\n  \"schema-version\": \"1.0.0\",\n  \"x\": {},\n  \"builds\": [],\n  \"n\": [\n    1.50,\n    null\n  ]\n}\n\n", string(d.Bytes()))
	require.NoError(t, d.Reindent(0))
	require.Equal(t, "{\"schema-version\": \"1.0.0\", \"x\": {}, \"builds\": [], \"n\": [1.50, null]}\n\n", string(d.Bytes()))
	require.ErrorContains(t, d.Reindent(9), "more than 8 spaces")
	require.ErrorContains(t, d.Reindent(-1), "less than 0")
}

const smallStream = `{
  "stream": "own",
  "metadata": {
    "last-modified": "2026-11-25T20:54:07Z"
  },
  "own": [1, 2],
  "architectures": {
    "x86_64": {
      "artifacts": {
        "metal": {
          "release": "1.2",
          "formats": {
            "pxe": {
              "kernel": {"location": "https://a.example/own/1.2/x86_64/k", "sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
              "initramfs": {"location": "https://a.example/own/1.2/x86_64/i%20i", "sha256": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "x": 1.50}
            },
            "raw.gz": {
              "disk": {
                "location": "https://a.example/own/1.2/x86_64/d.raw.gz",
                "signature": "https://a.example/own/1.2/x86_64/d.raw.gz.sig",
                "sha256": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
                "uncompressed-sha256": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
              }
            }
          }
        }
      },
      "images": {
        "aws": {"regions": {"us-east-1": {"release": "1.2", "image": "ami-1"}}},
        "kubevirt": {"release": "1.2", "image": "q.example/v:1", "digest-ref": "q.example/v@sha256:aa"}
      }
    }
  }
}
`

func small(t testing.TB) *bootimage.Document[streammd.Stream] {
	t.Helper()
	d, err := bootimage.DecodeStream(strings.NewReader(smallStream))
	require.NoError(t, err)
	return d
}

func TestOverride(t *testing.T) {
	d := small(t)
	require.NoError(t, d.Override([]byte(`{"stream": null, "new": {"a": null, "b": [1.0]}, "own": [3],
		"architectures": {"x86_64": {"images": {"aws": {"regions": {"eu-west-1": {"release": "1.2", "image": "ami-2"}}}}}}}`)))
	got := string(d.Bytes())
	require.Contains(t, got, `"own": [3],`)
	require.Contains(t, got, `"aws": {"regions": {"us-east-1": {"release": "1.2", "image": "ami-1"}, "eu-west-1": {`)
	require.Contains(t, got, "\"new\": {\n    \"b\": [\n      1.0\n    ]\n  }\n}\n")
	require.Equal(t, "own", d.Value().Stream)
	was := got
	require.ErrorContains(t, d.Override([]byte(`{"stream": ""}`)), "stream: missing")
	require.ErrorContains(t, d.Override([]byte(`[]`)), "not an object")
	require.ErrorContains(t, d.Override([]byte(`{`)), "line 1")
	require.Equal(t, was, string(d.Bytes()))
	require.NoError(t, d.Override([]byte(`{}`)))
	require.Equal(t, was, string(d.Bytes()))
}

func TestValidateStream(t *testing.T) {
	for _, tt := range []struct {
		name string
		old  string // replaced in the small stream
		new  string
		want string // first fault
	}{
		{"good", "", "", ""},
		{"time", "2026-11-25T20:54:07Z", "25.11.2026", `metadata.last-modified: "25.11.2026" is not a time as in 2026-11-25T20:54:07Z`},
		{"architecture", `"x86_64": {`, `"amd64": {`, "architectures.amd64: not an architecture in RPM's spelling"},
		{"relative", "https://a.example/own/1.2/x86_64/k", "1.2/k", `architectures.x86_64.artifacts.metal.formats.pxe.kernel.location: "1.2/k" is not an address`},
		{"scheme", "https://a.example/own/1.2/x86_64/k", "ftp://a.example/1.2/k", "formats.pxe.kernel.location: address of scheme ftp, want https"},
		{"user", "https://a.example/own/1.2/x86_64/k", "https://u:p@a.example/1.2/k", "kernel.location: an address with a user"},
		{"release", "https://a.example/own/1.2/x86_64/k", "https://a.example/own/1.3/k", "kernel.location: does not have the release 1.2 in it"},
		{"no release", `"release": "1.2",
          "formats"`, `"release": "",
          "formats"`, "architectures.x86_64.artifacts.metal.release: missing"},
		{"signature", "d.raw.gz.sig", "d.raw.asc", `architectures.x86_64.artifacts.metal.formats["raw.gz"].disk.signature: is "https://a.example/own/1.2/x86_64/d.raw.asc", want location and .sig`},
		{"uncompressed", `"uncompressed-sha256": "dd`, `"uncompressed-sha256": "DD`, "uncompressed-sha256: \"DDdd"},
		{"ami", "ami-1", "img-1", `architectures.x86_64.images.aws.regions.us-east-1.image: "img-1" is not an AMI`},
		{"tag for digest", "q.example/v@sha256:aa", "q.example/v:1", `images.kubevirt.digest-ref: "q.example/v:1" has no digest`},
		{"half of pxe", `"initramfs":`, `"rootfs":`, "formats.pxe: neither a disk nor a kernel with its initramfs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(smallStream, tt.old, tt.new, 1)
			d, err := bootimage.DecodeStream(strings.NewReader(text))
			require.NoError(t, err)
			err = bootimage.ValidateStream(d.Value(), nil)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			fault, ok := errors.AsType[*bootimage.FieldError](err)
			require.True(t, ok)
			require.Equal(t, "stream", fault.Document)
		})
	}
	s := small(t).Value()
	err := bootimage.ValidateStream(s, &bootimage.ValidateOptions{Signatures: true})
	require.Equal(t, 2, strings.Count(err.Error(), "signature: missing"))

	was := small(t)
	require.NoError(t, was.Override([]byte(`{"stream": "other", "metadata": {"last-modified": "2027-01-01T00:00:00Z"},
		"architectures": {"s390x": {"artifacts": {}, "images": {}}, "x86_64": {"artifacts": {"qemu": {"release": "1", "formats": {}}}}}}`)))
	err = bootimage.ValidateStream(s, &bootimage.ValidateOptions{Previous: was.Value()})
	require.Equal(t, `bootimage: stream: architectures.s390x: missing, and was there before
bootimage: stream: architectures.x86_64.artifacts.qemu: missing, and was there before
bootimage: stream: metadata.last-modified: before that of the document it replaces, 2027-01-01T00:00:00Z
bootimage: stream: stream: is "own", was "other"`, err.Error())
	require.ErrorContains(t, bootimage.ValidateStream(&streammd.Stream{Stream: "x"}, nil), "architectures: none")
}

func TestCompareStreams(t *testing.T) {
	older, newer := small(t), small(t)
	require.Empty(t, bootimage.CompareStreams(older.Value(), newer.Value()))
	require.NoError(t, newer.Edit(func(s *streammd.Stream) error {
		x := s.Architectures["x86_64"]
		x.Artifacts["metal"].Formats["raw.gz"].Disk.Sha256 = strings.Repeat("e", 64)
		delete(x.Artifacts["metal"].Formats, "pxe")
		x.Images.Aws.Regions["eu-west-1"] = streammd.SingleImage{Release: "1.3", Image: "ami-2"}
		return nil
	}))
	var got []string
	for _, c := range bootimage.CompareStreams(older.Value(), newer.Value()) {
		got = append(got, c.String())
	}
	require.Equal(t, []string{
		"x86_64 metal raw.gz disk: sha256: " + strings.Repeat("c", 64) + " -> " + strings.Repeat("e", 64),
		"x86_64 aws eu-west-1: added",
		"x86_64 metal pxe kernel: removed",
		"x86_64 metal pxe initramfs: removed",
	}, got)
}

func TestMirrorStream(t *testing.T) {
	d := small(t)
	was := string(d.Bytes())
	m, err := bootimage.MirrorStream(d, &bootimage.MirrorOptions{BaseURL: "https://m.example/x"})
	require.NoError(t, err)
	require.Equal(t, was, string(d.Bytes()), "the original was changed")
	require.Equal(t, strings.ReplaceAll(was, "https://a.example/", "https://m.example/x/"), string(m.Document.Bytes()))
	require.Equal(t, []bootimage.MirrorCopy{
		{From: "https://a.example/own/1.2/x86_64/k", Key: "own/1.2/x86_64/k", SHA256: strings.Repeat("a", 64)},
		{From: "https://a.example/own/1.2/x86_64/i%20i", Key: "own/1.2/x86_64/i i", SHA256: strings.Repeat("b", 64)},
		{From: "https://a.example/own/1.2/x86_64/d.raw.gz", Key: "own/1.2/x86_64/d.raw.gz", SHA256: strings.Repeat("c", 64)},
		{From: "https://a.example/own/1.2/x86_64/d.raw.gz.sig", Key: "own/1.2/x86_64/d.raw.gz.sig", Signature: true},
	}, m.Copies)

	m, err = bootimage.MirrorStream(d, &bootimage.MirrorOptions{
		BaseURL: "file:///srv", Flat: true, Platforms: []string{"metal"}, Formats: []string{"pxe"}, DropImages: true, Signatures: true,
	})
	require.NoError(t, err)
	require.Len(t, m.Copies, 4)
	require.Equal(t, bootimage.MirrorCopy{From: "https://a.example/own/1.2/x86_64/i%20i.sig", Key: "i i.sig", Signature: true}, m.Copies[3])
	x := m.Document.Value().Architectures["x86_64"]
	require.Len(t, bootimage.Entries(m.Document.Value()), 2)
	require.Equal(t, "file:///srv/i%20i", x.Artifacts["metal"].Formats["pxe"].Initramfs.Location)
	require.Equal(t, "file:///srv/i%20i.sig", x.Artifacts["metal"].Formats["pxe"].Initramfs.Signature)
	require.Contains(t, string(m.Document.Bytes()), `"x": 1.50`)

	for _, tt := range []struct {
		old, new string
		opts     *bootimage.MirrorOptions
		is       error
		want     string
	}{
		{"", "", nil, fs.ErrInvalid, "base URL"},
		{"", "", &bootimage.MirrorOptions{BaseURL: "https://m.example/"}, fs.ErrInvalid, "base URL"},
		{"", "", &bootimage.MirrorOptions{BaseURL: "https://m.example", Arches: []string{"s390x"}}, fs.ErrNotExist, "no file of stream own is chosen"},
		{"x86_64/k", "../../k", &bootimage.MirrorOptions{BaseURL: "https://m.example"}, fs.ErrInvalid, "formats.pxe.kernel: \"https://a.example/own/1.2/../../k\" gives no file name"},
		{"https://a.example/own/1.2/x86_64/k", "k", &bootimage.MirrorOptions{BaseURL: "https://m.example"}, fs.ErrInvalid, "\"k\" is not an address"},
		{"own/1.2/x86_64/k", "own/1.2/d.raw.gz", &bootimage.MirrorOptions{BaseURL: "https://m.example", Flat: true}, fs.ErrExist, "d.raw.gz is there with other content"},
	} {
		d, err := bootimage.DecodeStream(strings.NewReader(strings.Replace(smallStream, tt.old, tt.new, 1)))
		require.NoError(t, err)
		_, err = bootimage.MirrorStream(d, tt.opts)
		require.ErrorIs(t, err, tt.is)
		require.ErrorContains(t, err, tt.want)
	}
}

func TestMirrorRealStreams(t *testing.T) {
	for i, file := range sharedFiles(t, streamFiles...) {
		if i%8 != 0 {
			continue
		}
		d := streamOf(t, file)
		m, err := bootimage.MirrorStream(d, &bootimage.MirrorOptions{BaseURL: "https://m.example/os", Signatures: true})
		require.NoError(t, err, file)
		files := 0
		for _, e := range bootimage.Entries(m.Document.Value()) {
			if e.File == "" {
				continue
			}
			files++
			require.True(t, strings.HasPrefix(e.URL, "https://m.example/os/"), e.URL)
			require.Equal(t, e.URL+".sig", e.Signature)
		}
		require.Len(t, m.Copies, 2*files)
		for _, c := range bootimage.CompareStreams(d.Value(), m.Document.Value()) {
			require.Contains(t, []string{"url", "signature"}, c.Field, c)
		}
	}
}

func indexRelease(arches ...string) *releasemd.Release {
	r := &releasemd.Release{Release: "1.2", Stream: "own", Architectures: map[string]releasemd.Arch{}}
	for _, arch := range arches {
		r.Architectures[arch] = releasemd.Arch{
			Commit:   strings.Repeat("ab", 32),
			OciImage: &releasemd.ContainerImage{Image: "q.example/os:own", DigestRef: "q.example/os@sha256:" + strings.Repeat("cd", 32)},
		}
	}
	return r
}

func TestUpdateIndex(t *testing.T) {
	opts := &bootimage.IndexOptions{URL: "https://a.example/own/builds/1.2/release.json", LastModified: time.Unix(1764100000, 0), Indent: 2}
	first, err := bootimage.UpdateIndex(indexRelease("x86_64"), opts)(nil)
	require.NoError(t, err)
	golden(t, "releases.json", first)
	d, err := bootimage.DecodeIndex(bytes.NewReader(first))
	require.NoError(t, err)
	require.NoError(t, bootimage.ValidateIndex(d.Value()))

	opts.LastModified = opts.LastModified.Add(time.Hour)
	again, err := bootimage.UpdateIndex(indexRelease("x86_64"), opts)(first)
	require.NoError(t, err)
	require.Equal(t, string(first), string(again))

	both, err := bootimage.UpdateIndex(indexRelease("x86_64", "s390x"), opts)(first)
	require.NoError(t, err)
	late, err := bootimage.UpdateIndex(indexRelease("s390x"), opts)(first)
	require.NoError(t, err)
	require.Equal(t, string(both), string(late))
	d, err = bootimage.DecodeIndex(bytes.NewReader(both))
	require.NoError(t, err)
	require.Len(t, d.Value().Releases, 1)
	require.Len(t, d.Value().Releases[0].Commits, 2)

	other := indexRelease("x86_64")
	other.Architectures["x86_64"] = releasemd.Arch{Commit: strings.Repeat("00", 32)}
	_, err = bootimage.UpdateIndex(other, opts)(first)
	require.ErrorIs(t, err, fs.ErrExist)

	next := indexRelease("x86_64")
	next.Release = "1.3"
	two, err := bootimage.UpdateIndex(next, &bootimage.IndexOptions{URL: "https://a.example/1.3/release.json", LastModified: time.Unix(1764200000, 0)})(first)
	require.NoError(t, err)
	_, err = bootimage.UpdateIndex(indexRelease("s390x"), opts)(two)
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "release 1.2 is not the last")
	same, err := bootimage.UpdateIndex(indexRelease("x86_64"), opts)(two)
	require.NoError(t, err)
	require.Equal(t, string(two), string(same))

	for name, tt := range map[string]struct {
		change func(*releasemd.Release, *bootimage.IndexOptions)
		want   string
	}{
		"no address": {func(_ *releasemd.Release, o *bootimage.IndexOptions) { o.URL = "" }, "are required"},
		"no time":    {func(_ *releasemd.Release, o *bootimage.IndexOptions) { o.LastModified = time.Time{} }, "are required"},
		"stream":     {func(r *releasemd.Release, _ *bootimage.IndexOptions) { r.Stream = "x" }, "of stream own, not x"},
		"nothing":    {func(r *releasemd.Release, _ *bootimage.IndexOptions) { r.Architectures = nil }, "neither commits nor images"},
		"id":         {func(r *releasemd.Release, _ *bootimage.IndexOptions) { r.Release = "../1" }, "not a build id"},
		"moved":      {func(_ *releasemd.Release, o *bootimage.IndexOptions) { o.URL += "x" }, "is at https://a.example/own/builds/1.2/release.json already"},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := indexRelease("x86_64"), *opts
			tt.change(r, &o)
			_, err := bootimage.UpdateIndex(r, &o)(first)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestDecodeIndexFaults(t *testing.T) {
	_, err := bootimage.DecodeIndex(strings.NewReader(`{"stream": "", "releases": [
		{"version": "1", "metadata": "m", "commits": [{"architecture": "a", "checksum": "x"}, {"architecture": "a", "checksum": "x"}]},
		{"version": "1", "oci-images": [{"architecture": "-"}, {"architecture": "-"}]}]}`))
	require.Equal(t, 9, len(slices.Collect(strings.Lines(err.Error()))), err)
	require.ErrorContains(t, err, "bootimage: releases.json: releases[0].commits[1].architecture: a is there twice")
}

// TestDecodeUpdatesFaults: what was in the shape of 2019 takes no check from what is in
// today's.
func TestDecodeUpdatesFaults(t *testing.T) {
	for text, want := range map[string]string{
		`{"updates": {"barriers": []}}`: "",
		`{"updates": null}`:             "stream: missing",
		`{"updates": {}, "stream": "s", "releases": [{"version": "../x"}]}`: `releases[0].version: "../x" is not a build id`,
		`{"updates": {}, "releases": [{"version": "1"}, {"version": "1"}]}`: "release 1 is there twice",
	} {
		_, err := bootimage.DecodeUpdates(strings.NewReader(text))
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}

func ExampleDocument_Reindent() {
	d, err := bootimage.DecodeBuilds(strings.NewReader(`{"schema-version":"1.0.0","builds":[]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := d.Reindent(2); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(d.Bytes()))
	// Output:
	// {
	//   "schema-version": "1.0.0",
	//   "builds": []
	// }
}

func FuzzStreamVerbs(f *testing.F) {
	f.Add([]byte(smallStream), []byte(`{"metadata": {"generator": "x"}}`))
	f.Add([]byte(`{"stream":"x","architectures":{}}`), []byte(`{"a":[null,{}]}`))
	for doc := range mutants.Of(smallStream) {
		f.Add([]byte(doc), []byte(`{"a":[null,{}]}`))
		f.Add([]byte(smallStream), []byte(doc))
	}
	f.Add([]byte(`{"stream":"x","architectures":{},"a":1e400}`), []byte(`{"a":[1e400]}`))
	f.Fuzz(func(t *testing.T, data, patch []byte) {
		d, err := fuzzbound.Read(t, 500, bootimage.DecodeStream, data)
		if err != nil {
			return
		}
		require.Equal(t, string(data), string(d.Bytes()))
		_ = bootimage.ValidateStream(d.Value(), nil)
		bootimage.Entries(d.Value())
		require.Empty(t, bootimage.CompareStreams(d.Value(), d.Value()))
		_, _ = bootimage.MirrorStream(d, &bootimage.MirrorOptions{BaseURL: "https://m.example", Signatures: true})
		if d.Override(patch) != nil {
			require.Equal(t, string(data), string(d.Bytes()))
		}
		before := d.Bytes()
		require.NoError(t, d.Reindent(2))
		require.True(t, json.Valid(d.Bytes()))
		sameJSON(t, before, d.Bytes())
	})
}
