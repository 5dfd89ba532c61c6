package bootimage_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
)

func TestMergeBuilds(t *testing.T) {
	const have = `{"schema-version": "1.0.0", "mine": 1.0, "builds": [
  {"id": "2", "arches": ["x86_64"], "policy-cleanup": {"containers": true}}],
 "tags": [{"name": "last", "target": "2"}], "tombstone-builds": [{"id": "0", "arches": ["x86_64"]}], "timestamp": "2026-01-01T00:00:00Z"}`
	const other = `{"schema-version": "1.0.0", "theirs": 2.0, "builds": [
  {"id": "4", "arches": ["x86_64"], "own.key": 4.0, "policy-cleanup": {"images": true}}, {"id": "3", "arches": ["aarch64"]},
  {"id": "2", "arches": ["x86_64", "aarch64"], "own.key": 2.50, "policy-cleanup": {"images": true}}],
 "tags": [{"name": "last", "target": "4"}, {"name": "next", "target": "4", "own.key": 1.50}, {"name": "of-nothing", "target": "9"}],
 "tombstone-builds": [{"id": "1", "arches": ["x86_64"], "own.key": 1.50}, {"id": "0", "arches": []}], "timestamp": "2026-02-01T00:00:00Z"}`
	data, err := bootimage.MergeBuilds([]byte(other), later)([]byte(have))
	require.NoError(t, err)
	require.JSONEq(t, `{"schema-version": "1.0.0", "mine": 1.0, "theirs": 2.0, "builds": [
  {"id": "4", "arches": ["x86_64"], "own.key": 4.0, "policy-cleanup": {"images": true}}, {"id": "3", "arches": ["aarch64"]},
  {"id": "2", "arches": ["x86_64", "aarch64"], "own.key": 2.50, "policy-cleanup": {"containers": true}}],
 "tags": [{"name": "last", "target": "2"}, {"name": "next", "target": "4", "own.key": 1.50}],
 "tombstone-builds": [{"id": "0", "arches": ["x86_64"]}, {"id": "1", "arches": ["x86_64"], "own.key": 1.50}], "timestamp": "2026-11-25T20:54:07Z"}`, string(data))
	for _, kept := range []string{`"mine": 1.0,`, `"own.key": 2.50`, `"own.key": 1.50`, ` "tags": [{"name": "last", "target": "2"}`} {
		require.Contains(t, string(data), kept)
	}
	again, err := bootimage.MergeBuilds([]byte(other), later.Add(time.Hour))(data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(again))

	// Keys in other case are the same to Go's readers.
	upper := strings.NewReplacer(`"id"`, `"ID"`, `"arches"`, `"Arches"`, `"target"`, `"TARGET"`)
	shouted, err := bootimage.MergeBuilds([]byte(upper.Replace(other)), later)([]byte(upper.Replace(have)))
	require.NoError(t, err)
	var want, got bootimage.Builds
	require.NoError(t, json.Unmarshal(data, &want))
	require.NoError(t, json.Unmarshal(shouted, &got))
	require.Equal(t, want, got)

	// Without an old one it is the other, which has a time.
	first, err := bootimage.MergeBuilds([]byte(other), later)(nil)
	require.NoError(t, err)
	require.Equal(t, other, string(first))
	first, err = bootimage.MergeBuilds([]byte(`{"schema-version": "1.0.0", "builds": []}`), later)(nil)
	require.NoError(t, err)
	require.Contains(t, string(first), `"timestamp": "2026-11-25T20:54:07Z"`)

	// A build that was deleted stays so; one whose tombstone the other has stays, too.
	_, err = bootimage.MergeBuilds([]byte(have), later)([]byte(strings.Replace(have, `"id": "2"`, `"id": "5"`, 1) + "\n"))
	require.NoError(t, err)
	_, err = bootimage.MergeBuilds([]byte(have), later)([]byte(strings.Replace(strings.Replace(have, `"id": "2"`, `"id": "5"`, 1), `"id": "0"`, `"id": "2"`, 1)))
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "build 2 was deleted")
	kept, err := bootimage.MergeBuilds([]byte(`{"schema-version": "1.0.0", "builds": [], "tombstone-builds": [{"id": "2", "arches": []}]}`), later)([]byte(have))
	require.NoError(t, err)
	require.Equal(t, have, string(kept))
	_, err = bootimage.MergeBuilds([]byte(`{"schema-version": "2.0.0"}`), later)([]byte(have))
	require.ErrorContains(t, err, "schema-version")
}

// TestMergeMetaOfOlderFile: a record of other bytes that is older is not half taken.
func TestMergeMetaOfOlderFile(t *testing.T) {
	old := mustMeta(sampleMeta())
	d, err := bootimage.DecodeMeta(bytes.NewReader(old))
	require.NoError(t, err)
	require.NoError(t, d.Edit(func(m *bootimage.Meta) error {
		m.Images["qemu"] = bootimage.Image{Path: "before.qcow2", SHA256: hash("before"), SkipCompression: true}
		return nil
	}))
	data, err := bootimage.MergeMeta(d.Bytes())(old)
	require.NoError(t, err)
	require.Equal(t, string(old), string(data))
}

// releaseOf is a release.json of one architecture.
func releaseOf(id, arch string) string {
	return `{"release": "` + id + `", "stream": "own", "metadata": {}, "architectures": {"` + arch + `": {"commit": "` + hash(arch) + `", "own.key": 1.50, "media": {"newcloud": {"a": 1.0}}}}}`
}

func TestReadRelease(t *testing.T) {
	const id = "9.0.20250222-0"
	of := func(arch string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(releaseOf(id, arch))} }
	for name, tt := range map[string]struct {
		files fstest.MapFS
		arch  string
		want  string // the architecture of what is read; "": nothing
		text  string
	}{
		"of the build":           {fstest.MapFS{id + "/release.json": of("x86_64"), id + "/x86_64/release.json": {Data: []byte("{")}}, "x86_64", "x86_64", ""},
		"of the architecture":    {fstest.MapFS{id + "/x86_64/release.json": of("x86_64")}, "x86_64", "x86_64", ""},
		"a late architecture":    {fstest.MapFS{id + "/release.json": of("x86_64"), id + "/aarch64/release.json": of("aarch64")}, "aarch64", "aarch64", ""},
		"none":                   {fstest.MapFS{}, "x86_64", "", "at [9.0.20250222-0 9.0.20250222-0/x86_64]: file does not exist"},
		"of another":             {fstest.MapFS{id + "/release.json": of("x86_64")}, "s390x", "", "file does not exist"},
		"of all":                 {fstest.MapFS{id + "/release.json": of("x86_64")}, "", "x86_64", ""},
		"of all, not of the one": {fstest.MapFS{id + "/x86_64/release.json": of("x86_64")}, "", "", "file does not exist"},
		"of another release":     {fstest.MapFS{id + "/x86_64/release.json": {Data: []byte(releaseOf("8", "x86_64"))}}, "x86_64", "", "9.0.20250222-0/x86_64/release.json is of release 8"},
		"no JSON":                {fstest.MapFS{id + "/x86_64/release.json": {Data: []byte("{")}}, "x86_64", "", "x86_64/release.json: "},
		"no architecture":        {fstest.MapFS{}, "../x", "", "not an architecture"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := bootimage.ReadRelease(tt.files, id, tt.arch)
			if tt.want == "" {
				require.ErrorContains(t, err, tt.text)
				return
			}
			require.NoError(t, err)
			require.Equal(t, releaseOf(id, tt.want), string(d.Bytes()))
		})
	}
	_, err := bootimage.ReadRelease(fstest.MapFS{}, id, "x86_64")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = bootimage.ReadRelease(fstest.MapFS{}, "../x", "x86_64")
	require.ErrorContains(t, err, "not a build id")
}

func TestMergeRelease(t *testing.T) {
	first, err := bootimage.MergeRelease([]byte(releaseOf("1", "x86_64")))(nil)
	require.NoError(t, err)
	require.Equal(t, releaseOf("1", "x86_64"), string(first))
	both, err := bootimage.MergeRelease([]byte(releaseOf("1", "aarch64")))(first)
	require.NoError(t, err)
	for _, arch := range []string{"x86_64", "aarch64"} {
		require.Contains(t, string(both), `"`+arch+`": {"commit": "`+hash(arch)+`", "own.key": 1.50, "media": {"newcloud": {"a": 1.0}}}`)
	}
	same, err := bootimage.MergeRelease(first)(both)
	require.NoError(t, err)
	require.Equal(t, string(both), string(same))
	_, err = bootimage.MergeRelease([]byte(releaseOf("2", "x86_64")))(first)
	require.ErrorContains(t, err, "is of own 1, not own 2")
	_, err = bootimage.MergeRelease([]byte(strings.Replace(releaseOf("1", "x86_64"), hash("x86_64"), hash("y"), 1)))(first)
	require.ErrorContains(t, err, "x86_64 is there with other content")
	_, err = bootimage.MergeRelease([]byte(`{"release": "1", "stream": "own"}`))(first)
	require.NoError(t, err)
}

// A catalogue takes in what another says of its builds.
func ExampleMergeBuilds() {
	theirs := `{"schema-version": "1.0.0", "builds": [{"id": "2", "arches": ["x86_64"]}], "tags": [{"name": "5.0", "target": "2"}]}`
	data, err := bootimage.AddBuild(bootimage.Build{ID: "1", Arch: "x86_64", Time: later})(nil)
	if err == nil {
		data, err = bootimage.MergeBuilds([]byte(theirs), later)(data)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	builds, err := bootimage.DecodeBuilds(bytes.NewReader(data))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, b := range builds.Value().Builds {
		fmt.Println(b.ID, b.Arches)
	}
	fmt.Println(builds.Value().Tags[0].Name)
	// Output:
	// 2 [x86_64]
	// 1 [x86_64]
	// 5.0
}

// Of a build whose pipeline wrote one release.json an architecture there is one.
func ExampleMergeRelease() {
	fsys := fstest.MapFS{
		"1/x86_64/release.json":  {Data: []byte(`{"release": "1", "stream": "own", "architectures": {"x86_64": {"media": {}}}}`)},
		"1/aarch64/release.json": {Data: []byte(`{"release": "1", "stream": "own", "architectures": {"aarch64": {"media": {}}}}`)},
	}
	var data []byte
	for _, arch := range []string{"x86_64", "aarch64"} {
		d, err := bootimage.ReadRelease(fsys, "1", arch)
		if err == nil {
			data, err = bootimage.MergeRelease(d.Bytes())(data)
		}
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(string(data))
	// Output: {"release": "1", "stream": "own", "architectures": {"x86_64": {"media": {}}, "aarch64": {"media": {}}}}
}
