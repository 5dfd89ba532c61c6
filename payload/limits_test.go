package payload_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/payload"
)

// Each limit of a document, at the limit and above it.
func TestDocumentLimits(t *testing.T) {
	streamOf := func(spec, status string) string {
		return `{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","spec":{` + spec + `},"status":{` + status + `}}`
	}
	pad := func(text string, size int) string { return text + strings.Repeat(" ", size-len(text)) }
	list := func(n int, element func(i int) string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = element(i)
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	tag := func(key string) func(int) string {
		return func(i int) string { return fmt.Sprintf(`{"%s":"t%d"}`, key, i) }
	}
	stream := func(data string) error { _, err := payload.DecodeImageStream([]byte(data)); return err }
	metadata := func(data string) error { _, err := payload.DecodeMetadata([]byte(data)); return err }
	cases := []struct {
		name   string
		decode func(string) error
		make   func(n int) string
		limit  int
		want   string
	}{
		{"references", stream, func(n int) string { return pad(streamOf("", ""), n) }, payload.MaxReferencesSize, "limit 4194304"},
		{"YAML", stream, func(n int) string {
			return references() + strings.Repeat("#", n-len(references()))
		}, payload.MaxYAMLSize, "YAML document of"},
		{"metadata", metadata, func(n int) string { return pad(goodMetadata, n) }, payload.MaxMetadataSize, "limit 1048576"},
		{"tags", stream, func(n int) string { return streamOf(`"tags":`+list(n, tag("name")), "") }, payload.MaxTags, "4097 elements, limit 4096"},
		{"status tags", stream, func(n int) string { return streamOf("", `"tags":`+list(n, tag("tag"))) }, payload.MaxTags, "4097 elements, limit 4096"},
		{"tag items", stream, func(n int) string {
			return streamOf("", `"tags":[{"tag":"a","items":`+list(n, func(int) string { return "{}" })+`}]`)
		}, payload.MaxTagItems, "1025 elements, limit 1024"},
		{"tag name", stream, func(n int) string { return streamOf(`"tags":[{"name":"`+strings.Repeat("n", n)+`"}]`, "") }, payload.MaxNameLength, "tag name of 256 bytes"},
		{"label", func(s string) error { _, err := payload.ParseVersions(s, ""); return err }, func(n int) string { return pad("kernel=6.1.0", n) }, payload.MaxLabelSize, "limit 65536"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, c.decode(c.make(c.limit)))
			require.ErrorContains(t, c.decode(c.make(c.limit+1)), c.want)
		})
	}
}

// What is written is not larger than what is read: indentation of what is nested
// grows with the square of its depth.
func TestEncodedSize(t *testing.T) {
	stream := func(more string) ([]byte, error) {
		s, err := payload.DecodeImageStream([]byte(`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","x":` + more + `}`))
		require.NoError(t, err)
		return s.Encode()
	}
	metadata := func(more string) ([]byte, error) {
		m, err := payload.DecodeMetadata([]byte(`{"kind":"cincinnati-metadata-v0","version":"1.0.0","x":` + more + `}`))
		require.NoError(t, err)
		return m.Encode()
	}
	for name, c := range map[string]struct {
		encode func(more string) ([]byte, error)
		limit  int
	}{"references": {stream, payload.MaxReferencesSize}, "metadata": {metadata, payload.MaxMetadataSize}} {
		t.Run(name, func(t *testing.T) {
			const part = `{"a\\\"[":[{},[]," ,:{"],"b":[[1,2],{"c":-1.5e2}]}`
			one, err := c.encode(`[` + part + `]`)
			require.NoError(t, err)
			two, err := c.encode(`[` + part + `,` + part + `]`)
			require.NoError(t, err)
			// As many parts as there is room for, and the rest in a string.
			n := (c.limit - len(one)) / (len(two) - len(one))
			rest := c.limit - len(one) - (n-1)*(len(two)-len(one)) - len(`,    ""`) - 1
			for more, bad := range []bool{false, true} {
				text := `[` + strings.Repeat(part+`,`, n) + `"` + strings.Repeat("x", rest+more) + `"]`
				out, err := c.encode(text)
				if bad {
					require.ErrorContains(t, err, fmt.Sprintf("%d bytes, limit %d", c.limit+1, c.limit))
					continue
				}
				require.NoError(t, err)
				require.Len(t, out, c.limit)
			}
			fuzzbound.Within(t, 2<<20, func() {
				_, err = c.encode(strings.Repeat("[", 9000) + strings.Repeat("]", 9000))
			})
			require.ErrorContains(t, err, fmt.Sprintf("limit %d", c.limit))
		})
	}
}

// Limits of what components bring, at the limit and above it.
func TestComponentLimits(t *testing.T) {
	cases := []struct {
		name string
		make func(n int) []entry // at and above the limit for n 0 and 1
		want string
	}{
		{"whiteouts", func(n int) []entry {
			entries := []entry{{name: "manifests/a.txt", data: "x"}}
			for i := range payload.MaxManifests + n {
				entries = append(entries, entry{name: fmt.Sprintf("manifests/.wh.%d", i)})
			}
			return append(entries, entry{name: "usr/"})
		}, "entries in manifests that are not files"},
		{"documents", func(n int) []entry {
			return []entry{{name: "manifests/a.yaml", data: namespace("a") + strings.Repeat("---\n", payload.MaxDocuments-1+n)}}
		}, "more than 4096 documents"},
		{"nodes", func(n int) []entry {
			// Four lines with a colon each and the flow sequence's own bytes.
			head := namespace("a") + "x: ["
			count := strings.Count(head, "\n") + strings.Count(head, ":") + strings.Count(head, "[") + 2
			return []entry{{name: "manifests/a.yaml", data: head + strings.Repeat("1,", payload.MaxYAMLNodes-count+n) + "1]\n"}}
		}, "YAML document of up to 262145 nodes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for n, bad := range []bool{false, true} {
				w := newWorld(t)
				w.put(t, "op", imageSpec{labels: map[string]string{payload.LabelOperator: "true"}, layers: [][]byte{tarOf(t, c.make(n)...)}})
				_, _, err := w.assemble(t, w.spec(), nil)
				if bad {
					require.ErrorContains(t, err, c.want)
				} else {
					require.NoError(t, err)
				}
			}
		})
	}
}

func TestFindingsLimit(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "a.txt", strings.Repeat("v0.0.1-snapshot\n", 3*payload.MaxFindings))
	_, _, err := w.assemble(t, w.spec(), nil)
	require.Len(t, checksOf(t, err), payload.MaxFindings)
	require.ErrorContains(t, err, "a.txt:1000: version placeholder cannot be replaced: \"v0.0.1-snapshot\"")
}

// Unknown fields, at every level, outlive decoding and encoding.
func TestUnknownFields(t *testing.T) {
	const in = `{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"n","creationTimestamp":null,"labels":{"l":"1"}},` +
		`"spec":{"lookupPolicy":{"local":false,"x":1},"tags":[{"name":"a","annotations":null,"from":{"kind":"DockerImage","name":"q.io/a","uid":"u"},"generation":null,"importPolicy":{"y":[1.50]},"referencePolicy":{"type":"","z":1e3},"w":{}}],"v":null},` +
		`"status":{"dockerImageRepository":"","s":true},"r":"\u003c"}`
	s, err := payload.DecodeImageStream([]byte(in))
	require.NoError(t, err)
	out, err := json.Marshal(s)
	require.NoError(t, err)
	require.Equal(t, in, string(out))

	const meta = `{"kind":"cincinnati-metadata-v0","version":"1.0.0","previous":[],"metadata":{"n":1.50},"x":{"y":1.0}}`
	m, err := payload.DecodeMetadata([]byte(meta))
	require.NoError(t, err)
	out, err = json.Marshal(m)
	require.NoError(t, err)
	require.Equal(t, meta, string(out))
}

// padded is an image whose configuration and manifest have these sizes.
func padded(t *testing.T, config, manifest int) v1.Image {
	t.Helper()
	img := makeImage(t, imageSpec{layers: [][]byte{tarOf(t, releaseEntries()...)}, labels: map[string]string{payload.LabelRelease: "4.20.0-test.1"}})
	text, err := img.RawConfigFile()
	require.NoError(t, err)
	if config > 0 {
		text = append(text, bytes.Repeat([]byte(" "), config-len(text))...)
	}
	m, err := img.Manifest()
	require.NoError(t, err)
	m.Config.Digest, m.Config.Size = hashOf(text), int64(len(text))
	data, err := json.Marshal(m)
	require.NoError(t, err)
	if manifest > 0 {
		data = append(data, bytes.Repeat([]byte(" "), manifest-len(data))...)
	}
	layers, err := img.Layers()
	require.NoError(t, err)
	out, err := partial.CompressedToImage(&raw{manifest: data, config: text, layers: layers})
	require.NoError(t, err)
	return out
}

func hashOf(data []byte) v1.Hash {
	h, _, _ := v1.SHA256(bytes.NewReader(data)) // of memory, which can be read
	return h
}

// Limits of an image's documents, at the limit and above it, whichever way the
// image is read.
func TestImageLimits(t *testing.T) {
	open := func(t *testing.T, img v1.Image) []error {
		m := newMemory()
		ref := m.add(t, "x.test/openshift/release", img)
		_, one := payload.Open(t.Context(), m, ref, nil)
		src, err := payload.Folder(rootOf(t, writeMirror(t, map[v1.Hash]v1.Image{mustHash(t, ref.DigestStr()): img}, "latest", mustHash(t, ref.DigestStr()))))
		require.NoError(t, err)
		_, two := payload.Open(t.Context(), src, ref, nil)
		return []error{one, two}
	}
	for _, err := range append(open(t, padded(t, payload.MaxConfigSize, 0)), open(t, padded(t, 0, payload.MaxImageManifestSize))...) {
		require.NoError(t, err)
	}
	for _, err := range open(t, padded(t, payload.MaxConfigSize+1, 0)) {
		require.ErrorContains(t, err, "of 16777217 bytes, limit 16777216")
	}
	for _, err := range open(t, padded(t, 0, payload.MaxImageManifestSize+1)) {
		require.ErrorContains(t, err, "4194305 bytes, limit 4194304")
	}

	// A layer's size is looked at before it is read.
	img := makeImage(t, imageSpec{layers: [][]byte{tarOf(t, releaseEntries()...)}})
	text, err := img.RawConfigFile()
	require.NoError(t, err)
	for n := range int64(2) {
		m, err := img.Manifest()
		require.NoError(t, err)
		m.Layers[0].Size = payload.MaxLayerSize + n
		data, err := json.Marshal(m)
		require.NoError(t, err)
		layers, err := img.Layers()
		require.NoError(t, err)
		forged, err := partial.CompressedToImage(&raw{manifest: data, config: text, layers: layers})
		require.NoError(t, err)
		mem := newMemory()
		_, err = payload.Open(t.Context(), mem, mem.add(t, repo, forged), nil)
		if n == 0 {
			require.ErrorIs(t, err, payload.ErrDigest, "it is read, and not so long")
		} else {
			require.ErrorContains(t, err, "of 8589934593 bytes, limit 8589934592")
		}
	}

	// So is what comes out of it.
	content := tarOf(t, entry{name: "manifests/a", data: strings.Repeat("x", 5000)})
	for n := range int64(2) {
		_, _, _, err := payload.ScanLayer(gzipped(t, content), int64(len(content))-n)
		if n == 0 {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, fmt.Sprintf("content of more than %d bytes", len(content)-1))
		}
	}
}

// One manifest of the largest size is read, one of a byte more is not; so with
// names.
func TestFileLimits(t *testing.T) {
	for n, bad := range []bool{false, true} {
		_, err := openEntries(t, releaseEntries(entry{name: "release-manifests/a", data: strings.Repeat("x", payload.MaxManifestSize+n)})...)
		require.Equal(t, bad, err != nil)
		_, err = openEntries(t, releaseEntries(entry{name: "release-manifests/" + strings.Repeat("n", payload.MaxNameLength+n), data: "x"})...)
		require.Equal(t, bad, err != nil)
	}
}

// The files of all components together, at the limit and above it.
func TestPayloadFilesLimit(t *testing.T) {
	for n, bad := range []bool{false, true} {
		w := newWorld(t)
		for c := range payload.MaxPayloadFiles / payload.MaxManifests {
			w.put(t, fmt.Sprintf("op%d", c), imageSpec{labels: map[string]string{payload.LabelOperator: "true"}, layers: [][]byte{manyFiles(t, c, payload.MaxManifests)}})
		}
		if n > 0 {
			w.operator(t, "zz", "a.txt", "x")
		}
		_, err := payload.Assemble(t.Context(), w, w.spec(), nil)
		if bad {
			require.ErrorContains(t, err, "or 16384 files")
		} else {
			require.NoError(t, err)
		}
	}
}

func manyFiles(t *testing.T, seed, n int) []byte {
	t.Helper()
	entries := make([]entry, n)
	for i := range entries {
		entries[i] = entry{name: fmt.Sprintf("manifests/f%d-%d.txt", seed, i)}
	}
	return tarOf(t, entries...)
}

// The images of a spec, at the limit and above it.
func TestSpecLimits(t *testing.T) {
	w := newWorld(t)
	ref := w.components[payload.BaseTag]
	for n, bad := range []bool{false, true} {
		components := map[string]name.Reference{payload.BaseTag: ref}
		for i := range payload.MaxTags - 1 + n {
			components[fmt.Sprintf("t%d", i)] = ref
		}
		_, err := payload.Assemble(t.Context(), w, &payload.Spec{Version: "1.0.0", Created: testTime, Components: components}, nil)
		if bad {
			require.ErrorContains(t, err, "4097 images, limit 4096")
		} else {
			require.NoError(t, err)
		}
	}
}

// One program, and all of a release together: a header is enough to be refused,
// and at the limit what it promises is waited for.
func TestToolLimits(t *testing.T) {
	header := func(size int64) []byte {
		var buf bytes.Buffer
		require.NoError(t, tar.NewWriter(&buf).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/oc", Size: size, Format: tar.FormatGNU}))
		return buf.Bytes()
	}
	for n, want := range []string{"unexpected EOF", "usr/bin/oc of 4294967297 bytes, limit 4294967296"} {
		_, err := payload.KeepFile(t.TempDir(), "usr/bin/oc", header(payload.MaxToolSize+int64(n)), payload.MaxToolsSize)
		require.ErrorContains(t, err, want)
		w := newWorld(t)
		w.put(t, "cli", imageSpec{layers: [][]byte{header(payload.MaxToolSize + int64(n))}})
		_, r := w.must(t, w.spec(), nil)
		_, err = r.Tools(t.Context(), w, t.TempDir(), nil)
		require.ErrorContains(t, err, want)
	}
	layer := tarOf(t, entry{name: "usr/bin/other", data: "not kept"}, entry{name: "usr/bin/oc", data: "12345"})
	size, err := payload.KeepFile(t.TempDir(), "usr/bin/oc", layer, 5)
	require.NoError(t, err)
	require.EqualValues(t, 5, size)
	_, err = payload.KeepFile(t.TempDir(), "usr/bin/oc", layer, 4)
	require.ErrorContains(t, err, "usr/bin/oc of 5 bytes, limit 4")
	require.EqualValues(t, 32<<30, int64(payload.MaxToolsSize), "what Tools gives them")
}
