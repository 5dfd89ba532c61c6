package payload_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
