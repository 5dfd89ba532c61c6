package bootimage_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/stretchr/testify/require"
)

func entry(id string, arches ...string) bootimage.BuildEntry {
	return bootimage.BuildEntry{ID: id, Arches: arches}
}

// TestEditLayout changes the list of builds in documents of several layouts,
// with keys that the view does not know.
func TestEditLayout(t *testing.T) {
	prepend := func(b *bootimage.Builds) error {
		b.Builds = append([]bootimage.BuildEntry{entry("2", "x86_64", "aarch64")}, b.Builds...)
		return nil
	}
	drop := func(b *bootimage.Builds) error { b.Builds = nil; return nil }
	for _, tt := range []struct {
		name     string
		fn       func(*bootimage.Builds) error
		old, new string
	}{
		{
			"two spaces", prepend,
			"{\n  \"schema-version\": \"1.0.0\",\n  \"builds\": [\n    {\n      \"own\": 1.50,\n      \"id\": \"1\",\n      \"arches\": [\n        \"x86_64\"\n      ]\n    }\n  ]\n}\n",
			"{\n  \"schema-version\": \"1.0.0\",\n  \"builds\": [\n    {\n      \"id\": \"2\",\n      \"arches\": [\n        \"x86_64\",\n        \"aarch64\"\n      ]\n    },\n    {\n      \"own\": 1.50,\n      \"id\": \"1\",\n      \"arches\": [\n        \"x86_64\"\n      ]\n    }\n  ]\n}\n",
		},
		{
			"tabs, empty list, no newline at the end", prepend,
			"{\n\t\"builds\": [],\n\t\"schema-version\": \"1.0.0\"\n}",
			"{\n\t\"builds\": [\n\t\t{\n\t\t\t\"id\": \"2\",\n\t\t\t\"arches\": [\n\t\t\t\t\"x86_64\",\n\t\t\t\t\"aarch64\"\n\t\t\t]\n\t\t}\n\t],\n\t\"schema-version\": \"1.0.0\"\n}",
		},
		{
			"one line", prepend,
			`{"schema-version": "1.0.0", "builds": [{"id": "1", "arches": ["x86_64"], "own": null}], "x": 1e3}`,
			`{"schema-version": "1.0.0", "builds": [{"id": "2", "arches": ["x86_64", "aarch64"]}, {"id": "1", "arches": ["x86_64"], "own": null}], "x": 1e3}`,
		},
		{
			"compact", prepend,
			`{"schema-version":"1.0.0","builds":[{"id":"1","arches":["x86_64"]}]}`,
			`{"schema-version":"1.0.0","builds":[{"id":"2","arches":["x86_64","aarch64"]},{"id":"1","arches":["x86_64"]}]}`,
		},
		{
			"lists in one line stay so", func(b *bootimage.Builds) error {
				b.Builds[0].Arches = append(b.Builds[0].Arches, "s390x")
				b.Builds[1].Arches = []string{"ppc64le", "aarch64"}
				return nil
			},
			"{\n    \"schema-version\": \"1.0.0\",\n    \"builds\": [\n        {\"id\": \"2\", \"arches\": [ \"x86_64\" ]},\n        {\"id\": \"1\", \"arches\": [\"x86_64\", \"aarch64\"]}\n    ]\n}\n",
			"{\n    \"schema-version\": \"1.0.0\",\n    \"builds\": [\n        {\"id\": \"2\", \"arches\": [ \"x86_64\", \"s390x\" ]},\n        {\"id\": \"1\", \"arches\": [\"ppc64le\", \"aarch64\"]}\n    ]\n}\n",
		},
		{
			"remove the middle and change the last", func(b *bootimage.Builds) error {
				b.Builds = append(b.Builds[:1], entry("0", "s390x"))
				return nil
			},
			"{\"schema-version\": \"1.0.0\", \"builds\": [\n {\"id\": \"2\", \"arches\": [], \"own\": 2},\n {\"id\": \"1\", \"arches\": [], \"own\": 1},\n {\"id\": \"0\", \"arches\": [], \"own\": 0}\n]}",
			"{\"schema-version\": \"1.0.0\", \"builds\": [\n {\"id\": \"2\", \"arches\": [], \"own\": 2},\n {\n  \"id\": \"0\",\n  \"arches\": [\n   \"s390x\"\n  ]\n }\n]}",
		},
		{
			"remove the first", func(b *bootimage.Builds) error { b.Builds = b.Builds[1:]; return nil },
			`{ "schema-version": "1.0.0", "builds": [ {"id": "2", "arches": []}, {"id": "1", "arches": [], "own": 1} ] }`,
			`{ "schema-version": "1.0.0", "builds": [ {"id": "1", "arches": [], "own": 1} ] }`,
		},
		{
			"remove the last", func(b *bootimage.Builds) error { b.Builds = b.Builds[:1]; return nil },
			"{\"schema-version\": \"1.0.0\", \"builds\": [\n {\"id\": \"2\", \"arches\": []},\n {\"id\": \"1\", \"arches\": []}\n]}",
			"{\"schema-version\": \"1.0.0\", \"builds\": [\n {\"id\": \"2\", \"arches\": []}\n]}",
		},
		{
			"list to null removes it", drop,
			"{\n  \"schema-version\": \"1.0.0\",\n  \"builds\": []\n}\n",
			"{\n  \"schema-version\": \"1.0.0\"\n}\n",
		},
		{
			"remove the first key", drop,
			`{"builds": [], "schema-version": "1.0.0"}`,
			`{"schema-version": "1.0.0"}`,
		},
		{
			"append", func(b *bootimage.Builds) error { b.Builds = append(b.Builds, entry("0", "x86_64")); return nil },
			"{\n  \"schema-version\": \"1.0.0\",\n  \"builds\": [\n    {\"id\": \"1\", \"arches\": []}\n  ]\n}\n",
			"{\n  \"schema-version\": \"1.0.0\",\n  \"builds\": [\n    {\"id\": \"1\", \"arches\": []},\n    {\n      \"id\": \"0\",\n      \"arches\": [\n        \"x86_64\"\n      ]\n    }\n  ]\n}\n",
		},
		{
			"change the last and append", func(b *bootimage.Builds) error {
				b.Builds[0].Arches = []string{"x86_64"}
				return nil
			},
			"{\n  \"schema-version\": \"1.0.0\",\n  \"builds\": [\n    {\"id\": \"1\", \"arches\": []}\n  ]\n}\n",
			"{\n  \"schema-version\": \"1.0.0\",\n  \"builds\": [\n    {\"id\": \"1\", \"arches\": [\n      \"x86_64\"\n    ]}\n  ]\n}\n",
		},
		{
			"new keys where the view has them", func(b *bootimage.Builds) error {
				b.Tags = []bootimage.BuildTag{{Name: "a", Target: "1"}}
				b.Timestamp = time.Date(2026, 11, 25, 20, 54, 7, 0, time.UTC)
				return nil
			},
			"{\n  \"own\": {},\n  \"schema-version\": \"1.0.0\",\n  \"builds\": [],\n  \"last\": 1\n}\n",
			"{\n  \"own\": {},\n  \"schema-version\": \"1.0.0\",\n  \"builds\": [],\n  \"tags\": [\n    {\n      \"name\": \"a\",\n      \"target\": \"1\"\n    }\n  ],\n  \"timestamp\": \"2026-11-25T20:54:07Z\",\n  \"last\": 1\n}\n",
		},
		{
			"keys in other case are those that Go reads", func(b *bootimage.Builds) error {
				b.Builds[0].ID, b.Builds[0].PolicyCleanup = "2", nil
				b.Timestamp = time.Date(2026, 11, 25, 20, 54, 7, 0, time.UTC)
				return nil
			},
			`{"schema-version": "1.0.0", "Timestamp": null, "BUILDS": [{"Id": "1", "ID": "1", "arches": ["x86_64"], "Policy-Cleanup": 1, "policy-cleanup": 2, "own": 3}]}`,
			`{"schema-version": "1.0.0", "Timestamp": "2026-11-25T20:54:07Z", "BUILDS": [{"Id": "2", "ID": "2", "arches": ["x86_64"], "own": 3}]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := bootimage.DecodeBuilds(strings.NewReader(tt.old))
			require.NoError(t, err)
			require.Equal(t, tt.old, string(d.Bytes()))
			require.NoError(t, d.Edit(tt.fn))
			require.Equal(t, tt.new, string(d.Bytes()))
		})
	}
}

func TestEditFails(t *testing.T) {
	const text = `{"schema-version": "1.0.0", "builds": []}`
	d, err := bootimage.DecodeBuilds(strings.NewReader(text))
	require.NoError(t, err)
	broken := errors.New("broken")
	require.ErrorIs(t, d.Edit(func(b *bootimage.Builds) error { b.SchemaVersion = "2"; return broken }), broken)
	require.ErrorContains(t, d.Edit(func(b *bootimage.Builds) error { b.SchemaVersion = "2"; return nil }), `builds.json: schema-version: "2" is not supported`)
	require.ErrorContains(t, d.Edit(func(b *bootimage.Builds) error {
		b.Builds = []bootimage.BuildEntry{{ID: "1", PolicyCleanup: json.RawMessage("{")}}
		return nil
	}), "builds.json")
	require.Equal(t, text, string(d.Bytes()))
	require.Equal(t, "1.0.0", d.Value().SchemaVersion)
}

func TestDecodeErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "bootimage: builds.json: line 1: unexpected end of JSON input"},
		{"{\n\n!}", "bootimage: builds.json: line 3: invalid character"},
		{"[]", "bootimage: builds.json: not an object"},
		{"null", "bootimage: builds.json: not an object"},
		{"{}", `bootimage: builds.json: schema-version: "" is not supported, want 1.x: unsupported operation`},
		{`{"schema-version": "0.0.1"}`, `"0.0.1" is not supported`},
		{`{"schema-version": 1}`, "bootimage: builds.json: schema-version: want string, got number"},
		{`{"schema-version": "1.0.0", "builds": [{"id": "a", "arches": "x86_64"}]}`, "builds.arches: want []string, got string"},
		{`{"schema-version": "1.0.0", "schema-version": "1.0.0"}`, "schema-version: key is there twice"},
		{`{"schema-version": "1.0.0", "builds": [], "Builds": []}`, "Builds: key is there twice"},
		{`{"schema-version": "1.0.0", "builds": [], "build\u017f": []}`, "key is there twice"},
		{`{"schema-version": "1.0.0", "x": {"a.b": {"c": 1, "\u0063": 2}}}`, `x["a.b"].c: key is there twice`},
		{`{"schema-version": "1.0.0", "builds": [{"id": "../a", "arches": ["x86_64", "X"]}, {"id": "b"}, {"id": "b"}]}`,
			"builds[0].id: \"../a\" is not a build id\nbootimage: builds.json: builds[0].arches[1]: \"X\" is not an architecture\nbootimage: builds.json: builds[2].id: build b is there twice"},
		{`{"schema-version": "1.0.0", "builds": [{"id": "b"}], "tombstone-builds": [{"id": "b"}]}`, "tombstone-builds[0].id: build b is there twice"},
		{"{\"\xff\": 1}", "not UTF-8"},
		{"{\"a\": " + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "}", "nested more than 64 deep"},
		{"{\"a\": [" + strings.Repeat("0,", 260_000) + "0]}", "more than 150000 values"},
		{"{\"a\": \"" + strings.Repeat("x", bootimage.MaxDocumentSize) + "\"}", "more than 8388608 bytes"},
	} {
		_, err := bootimage.DecodeBuilds(strings.NewReader(tt.text))
		require.ErrorContains(t, err, tt.want)
		f, ok := errors.AsType[*bootimage.FieldError](err)
		require.True(t, ok)
		require.Equal(t, "builds.json", f.Document)
	}
	_, err := bootimage.DecodeStream(iotest.ErrReader(io.ErrUnexpectedEOF))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = bootimage.DecodeStream(strings.NewReader(`{"stream": "", "architectures": {"X": {}, "a": {"artifacts": {"qemu": {"formats": {"qcow2": {"disk": {"sha256": "1"}}}}}}}}`))
	require.EqualError(t, err, `bootimage: stream: stream: missing
bootimage: stream: architectures.X: "X" is not an architecture
bootimage: stream: architectures.a.artifacts.qemu.formats.qcow2.disk.location: missing
bootimage: stream: architectures.a.artifacts.qemu.formats.qcow2.disk.sha256: "1" is not a SHA-256`)
	_, err = bootimage.DecodeRelease(strings.NewReader(`{"release": "a/b", "architectures": {"": {}}}`))
	require.EqualError(t, err, `bootimage: release.json: release: "a/b" is not a build id
bootimage: release.json: stream: missing
bootimage: release.json: architectures[""]: "" is not an architecture`)
	_, err = bootimage.DecodeMeta(strings.NewReader(`{"images": {"qemu": {"path": "../x", "sha256": "y", "uncompressed-sha256": "z", "size": -1}, "Q": {}}, "coreos-assembler.basearch": "-"}`))
	require.ErrorContains(t, err, `images.qemu.path: "../x" is not a file name`)
	require.ErrorContains(t, err, `images.Q: not the name of an artifact`)
	for _, name := range []string{bootimage.MetaFile, bootimage.ReleaseFile} {
		_, err = bootimage.DecodeMeta(strings.NewReader(`{"images": {"qemu": {"path": "` + name + `"}}}`))
		require.ErrorContains(t, err, "images.qemu.path: "+name+" is a kind of its own")
	}
	require.ErrorContains(t, err, `ostree-timestamp: missing`)
}

func TestDecodeBounded(t *testing.T) {
	for name, text := range map[string]string{
		"items":   "{\"a\": [" + strings.Repeat("0,", 4<<20-10) + "0]}",
		"objects": "{\"a\": [" + strings.Repeat("{},", 2<<20) + "0]}",
		"keys":    "{\"a\": {" + strings.Repeat("\"\":0,", 1<<20) + "\"b\":0}}",
		"deep":    strings.Repeat("[", 4<<20),
	} {
		alloc := fuzzbound.Allocated(func() {
			_, err := bootimage.DecodeBuilds(strings.NewReader(text))
			require.Error(t, err)
		})
		require.Less(t, alloc, 200<<20, name)
	}
}

// fuzzDocument: what is read is written back the same, an edit without change
// changes nothing, and one with a change reads as changed.
func fuzzDocument[T any](f *testing.F, decode func(io.Reader) (*bootimage.Document[T], error), change func(*T)) {
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := fuzzbound.Read(t, 500, decode, data)
		if err != nil {
			return
		}
		if !bytes.Equal(data, d.Bytes()) {
			t.Fatalf("%q written as %q", data, d.Bytes())
		}
		if err := d.Edit(func(*T) error { return nil }); err != nil || !bytes.Equal(data, d.Bytes()) {
			t.Fatalf("%v: %q edited to %q", err, data, d.Bytes())
		}
		var want T
		if err := d.Edit(func(v *T) error { change(v); want = *v; return nil }); err != nil {
			return
		}
		a, err := json.Marshal(want)
		require.NoError(t, err)
		b, err := json.Marshal(d.Value())
		require.NoError(t, err)
		sameJSON(t, a, b)
		require.True(t, json.Valid(d.Bytes()))
	})
}

// sameJSON is require.JSONEq for documents with numbers that no float64 holds.
func sameJSON(t *testing.T, want, have []byte) {
	t.Helper()
	var values [2]any
	for i, data := range [][]byte{want, have} {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		require.NoError(t, dec.Decode(&values[i]), "%s", data)
	}
	require.Equal(t, values[0], values[1])
}

func FuzzDecodeBuilds(f *testing.F) {
	mutants.Add(f,
		"{\n  \"schema-version\": \"1.0.0\",\n  \"builds\": [\n    {\"id\": \"1\", \"arches\": []}\n  ]\n}\n",
		`{"schema-version":"1.0.0","builds":[{"id":"2","arches":["x86_64","aarch64"],"policy-cleanup":{"a":1}}],"tags":[]}`,
		`{"schema-version":"1.0.0","builds":[{"id":"2","arches":["aarch64"],"policy-cleanup":1e400}],"TAGS":[]}`,
	)
	fuzzDocument(f, bootimage.DecodeBuilds, func(b *bootimage.Builds) {
		b.Builds = append([]bootimage.BuildEntry{entry("new", "x86_64")}, b.Builds...)
		b.Timestamp = time.Date(2026, 11, 25, 20, 54, 7, 0, time.UTC)
	})
}

func FuzzDecodeMeta(f *testing.F) {
	mutants.Add(f,
		string(mustMeta(sampleMeta())),
		`{"buildid":"b","name":"n","ostree-commit":"`+hash("c")+`","ostree-timestamp":"2026-11-25T20:54:07Z","ostree-version":"b","images":{"qemu":{"path":"p","sha256":"`+hash("i")+`","size":5,"own":1.0}}}`,
	)
	fuzzDocument(f, bootimage.DecodeMeta, func(m *bootimage.Meta) {
		if m.Images == nil {
			m.Images = map[string]bootimage.Image{}
		}
		m.Images["new"] = bootimage.Image{Path: "p", SHA256: strings.Repeat("0", 64), Size: 1 << 60}
		delete(m.Images, "qemu")
	})
}

func FuzzDecodeRelease(f *testing.F) {
	d, err := bootimage.ReleaseFor([]bootimage.Meta{sampleMeta()}, sampleOptions())
	require.NoError(f, err)
	mutants.Add(f,
		string(d.Bytes()),
		`{"release":"b","stream":"s","architectures":{"x86_64":{"media":{"metal":{"artifacts":{}}}}}}`,
	)
	fuzzDocument(f, bootimage.DecodeRelease, func(r *releasemd.Release) {
		if r.Architectures == nil {
			r.Architectures = map[string]releasemd.Arch{}
		}
		r.Architectures["new"] = releasemd.Arch{Commit: "c"}
		delete(r.Architectures, "x86_64")
	})
}

func FuzzDecodeStream(f *testing.F) {
	d, err := bootimage.ReleaseFor([]bootimage.Meta{sampleMeta()}, sampleOptions())
	require.NoError(f, err)
	s, err := bootimage.StreamFor(d.Value(), &bootimage.StreamOptions{LastModified: sampleTime, Generator: "test"})
	require.NoError(f, err)
	mutants.Add(f,
		string(s.Bytes()),
		`{"stream":"s","metadata":{"last-modified":"x"},"architectures":{"x86_64":{"artifacts":{},"images":{}}}}`,
	)
	fuzzDocument(f, bootimage.DecodeStream, func(s *streammd.Stream) {
		s.Metadata.Generator = "x"
		for arch, a := range s.Architectures {
			a.RHELCoreOSExtensions = nil
			s.Architectures[arch] = a
		}
	})
}

func TestAddBuild(t *testing.T) {
	now := time.Date(2026, 11, 25, 21, 54, 7, 5, time.FixedZone("", 3600))
	build := func(id, arch string) bootimage.Build { return bootimage.Build{ID: id, Arch: arch, Time: now} }
	data, err := bootimage.AddBuild(build("9.0.20261125-0", "x86_64"))(nil)
	require.NoError(t, err)
	for _, b := range []bootimage.Build{build("9.0.20261125-1", "x86_64"), build("9.0.20261125-0", "aarch64")} {
		data, err = bootimage.AddBuild(b)(data)
		require.NoError(t, err)
	}
	golden(t, "builds.json", data)
	later := build("9.0.20261125-0", "aarch64")
	later.Time = now.Add(time.Hour)
	same, err := bootimage.AddBuild(later)(data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(same), "what is there already changes nothing")
	require.Equal(t, "9.0.20261125-0/aarch64", later.Dir())

	for _, b := range []bootimage.Build{build("", "x86_64"), build("..", "x86_64"), build("a/b", "x86_64"), build("a", "x/y"), build("a", "")} {
		_, err = bootimage.AddBuild(b)(data)
		require.Error(t, err)
		_, err = bootimage.AddBuild(b)(nil)
		require.Error(t, err)
	}
	_, err = bootimage.AddBuild(build("a", "x86_64"))([]byte("{"))
	require.Error(t, err)
	_, err = bootimage.AddBuild(build("gone", "x86_64"))([]byte(`{"schema-version":"1.0.0","builds":[],"tombstone-builds":[{"id":"gone","arches":[]}]}`))
	require.ErrorIs(t, err, fs.ErrExist)
}

func BenchmarkEdit(b *testing.B) {
	d, err := bootimage.ReleaseFor([]bootimage.Meta{sampleMeta()}, sampleOptions())
	require.NoError(b, err)
	s, err := bootimage.StreamFor(d.Value(), &bootimage.StreamOptions{LastModified: sampleTime})
	require.NoError(b, err)
	data := s.Bytes()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		d, err := bootimage.DecodeStream(bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Edit(func(s *streammd.Stream) error { s.Metadata.Generator = "x"; return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
