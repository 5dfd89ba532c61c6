package payload_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/payload"
)

// sampleFiles seeds with files of the shared data, where it is.
func sampleFiles(f *testing.F, elem ...string) {
	paths, _ := filepath.Glob(filepath.Join(append([]string{"..", "..", "shared", "data", "payload"}, elem...)...))
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil {
			f.Add(data)
		}
	}
}

func FuzzImageStream(f *testing.F) {
	mutants.Add(f,
		goodReferences,
		references("a", "q.io/a", "b", "q.io/b"),
		`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","x":[1.50],"metadata":{"name":"\u003c","creationTimestamp":"2026-01-02T03:04:05Z","labels":{"a":"b"},"annotations":{"a":"b"}},
"spec":{"lookupPolicy":{"local":true,"y":1},"tags":[{"name":"a","annotations":null,"from":{"kind":"DockerImage","name":"q.io/a@sha256:1","uid":"u"},"generation":3,"importPolicy":{"importMode":"Legacy","scheduled":true},"referencePolicy":{"type":"Source"},"z":{}}]},
"status":{"dockerImageRepository":"r","publicDockerImageRepository":"p","tags":[{"tag":"a","items":[{"created":"2026-01-02T03:04:05Z","dockerImageReference":"r","image":"i","generation":2}],"conditions":[{"type":"ImportSuccess","status":"False","generation":2}]}]}}`,
		`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","status":{"tags":[{"tag":"a"},{"tag":"b","items":null},{"tag":"c","items":[]}]}}`,
	)
	f.Add([]byte(`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","x":` + strings.Repeat("[", 1500) + strings.Repeat("]", 1500) + `}`))
	sampleFiles(f, "sample", "is-*.json")
	sampleFiles(f, "sample", "layer", "release-manifests", "image-references")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := fuzzbound.Parse(t, 500, payload.DecodeImageStream, data)
		if err != nil {
			return
		}
		require.Equal(t, data, s.Raw)
		first, err := s.Encode()
		if err != nil { // it grows by indentation and escapes
			require.ErrorContains(t, err, "limit")
			return
		}
		again, err := payload.DecodeImageStream(first)
		require.NoError(t, err, "%s", first)
		second, err := again.Encode()
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
		for i := range s.Tags {
			require.Equal(t, s.Tags[i].Pullspec, again.Tag(s.Tags[i].Name).Pullspec)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	mutants.Add(f,
		goodMetadata,
		`{"kind":"cincinnati-metadata-v0","version":"4.1.0+b","previous":["4.0.1"],"next":["4.2.0"],"metadata":{"url":"<&>","n":1.50,"d":{"x":[1e400]}},"other":1.0}`,
	)
	sampleFiles(f, "sample", "layer", "release-manifests", "release-metadata")
	sampleFiles(f, "cvo", "testdata", "*", "release-manifests", "release-metadata")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := fuzzbound.Parse(t, 200, payload.DecodeMetadata, data)
		if err != nil {
			return
		}
		first, err := m.Encode()
		if err != nil { // it grows by indentation and escapes
			require.ErrorContains(t, err, "limit")
			return
		}
		again, err := payload.DecodeMetadata(first)
		require.NoError(t, err, "%s", first)
		second, err := again.Encode()
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
	})
}

func FuzzVersions(f *testing.F) {
	f.Add("kubernetes=1.33.4,machine-os=9.0.20260101-0+x", "machine-os=CentOS Stream CoreOS (9): a.b-c")
	f.Add(" kubectl=1.33.4 , kernel=6.12.0-1.el10 ", "")
	f.Add("a=1.0.0", "")
	f.Fuzz(func(t *testing.T, versions, names string) {
		var found map[string]payload.ComponentVersion
		var err error
		fuzzbound.Linear(t, len(versions)+len(names), 1000, func() { found, err = payload.ParseVersions(versions, names) })
		if err != nil {
			return
		}
		label, display := payload.FormatVersions(found)
		again, err := payload.ParseVersions(label, display)
		require.NoError(t, err, "%q %q", label, display)
		require.Equal(t, found, again)
	})
}

// Whatever stands around a placeholder: strict mode changes nothing but whole
// references, and leaves nothing that it does not tell of.
func FuzzImages(f *testing.F) {
	const text, digest = "q.io/o/repo", "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, s := range []string{text, `"` + text + `:v1"`, text + digest, text + ":v1" + digest, "a." + text, text + "-z", text + ":$(X)", text + ":v1 " + text + ":v2", "docker://" + text + ".", text + "/x:1", text + "--", text + "@" + text} {
		f.Add([]byte(s))
	}
	const spec = "r.test/x" + digest
	prefix := regexp.MustCompile(`[\w.\-@]$`)
	f.Fuzz(func(t *testing.T, data []byte) {
		var out []byte
		var left []int
		fuzzbound.Linear(t, len(data), 100, func() { out, left = payload.StrictImages(data, text, spec) })
		for _, at := range left {
			require.True(t, bytes.HasPrefix(data[at:], []byte(text)))
		}
		if len(left) == 0 && !bytes.Contains(data, []byte("r.test")) {
			require.Empty(t, payload.Unpinned(out, text), "%q became %q", data, out)
		}
		// What is not replaced is in place, in order.
		rest := out
		for {
			i := bytes.Index(rest, []byte(spec))
			if i < 0 {
				break
			}
			require.False(t, prefix.Match(rest[:i]) && !bytes.Contains(data, []byte(spec)), "%q became %q", data, out)
			rest = rest[i+len(spec):]
		}
		again, _ := payload.StrictImages(out, text, spec)
		if len(left) == 0 {
			require.Equal(t, string(out), string(again), "replacing again changes nothing")
		}
		_, err := payload.CompatibleImages(data, text, spec)
		require.NoError(t, err)
	})
}

// The grammar of versions against the regular expression that describes it.
func FuzzVersionPlaceholders(f *testing.F) {
	for _, s := range []string{"0.0.1-snapshot", "v0.0.1-snapshot", `"0.0.1-snapshot-kubernetes"`, "0.0.1-snapshot 0.0.1-snapshot", "0.0.1-snapshot-", "0.0.1-snapshot-x", "0.0.1-snapshotö0.0.1-snapshot", "0.0.1-snapshot-kubernetes0.0.1-snapshot"} {
		f.Add([]byte(s))
	}
	re := regexp.MustCompile(`(\W|^)0\.0\.1-snapshot(?:-([a-z0-9-]+)|(\W)|$)`)
	f.Fuzz(func(t *testing.T, data []byte) {
		var out []byte
		var err error
		fuzzbound.Linear(t, len(data), 100, func() { out, _, err = payload.SubstituteVersions(data, "4.20.7+b", true) })
		bad := false
		want := re.ReplaceAllFunc(data, func(in []byte) []byte {
			m := re.FindSubmatch(in)
			switch {
			case string(m[2]) == "kubernetes":
				return []byte(string(m[1]) + "1.33.4")
			case len(m[2]) > 0 || string(m[3]) == "-":
				bad = true
				return in
			}
			return []byte(string(m[1]) + "4.20.7" + string(m[3]))
		})
		require.Equal(t, bad, err != nil)
		if err == nil {
			require.Equal(t, string(want), string(out))
		}
		strict, left, err := payload.SubstituteVersions(data, "4.20.7+b", false)
		if err == nil && len(left) == 0 {
			require.NotContains(t, string(strict), "0.0.1-snapshot")
		}
	})
}

func FuzzLayer(f *testing.F) {
	plain := tarOf(f, entry{name: "manifests/"}, entry{name: "manifests/a.yaml", data: "a"}, entry{name: "./manifests/b", data: "b"}, entry{name: "manifests/.wh.c"}, entry{name: "manifests/../x", data: "x"}, entry{name: "manifests/l", kind: '2', link: "/x"})
	mutants.AddTars(f, plain)
	for _, c := range []compression.Compression{compression.GZip, compression.ZStd} {
		layer, err := tarball.LayerFromOpener(opener(plain), tarball.WithCompression(c))
		require.NoError(f, err)
		rc, err := layer.Compressed()
		f.Add(readAll(f, rc, err))
	}
	f.Add(gzipped(f, tarOf(f, entry{name: "manifests/a", data: strings.Repeat("a", 2<<20)})))
	sparse := sparseLayers(f, "manifests/a", payload.MaxManifestSize)
	f.Add(sparse["PAX"])
	f.Add(sparse["GNU"])
	const most = 64 << 20 // of the content, for the sake of time
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		var names []string
		var size int64
		var err error
		// What is kept is in proportion to the content. A decoder of zstd gives
		// each larger window, which may have 16 MiB, memory of its own.
		limit := 2<<20 + 64*payload.LayerContent(data, most)
		if bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			limit += 256 << 20
		}
		fuzzbound.Within(t, limit, func() { names, size, _, err = payload.ScanLayer(data, most) })
		if err != nil {
			return
		}
		require.LessOrEqual(t, size, int64(payload.MaxPayloadSize))
		for _, n := range names {
			require.Equal(t, n, filepath.Base(n))
			require.NotContains(t, []string{".", "..", ""}, n)
		}
	})
}

func FuzzDocuments(f *testing.F) {
	mutants.Add(f,
		namespace("a")+"---\n"+namespace("b"),
		"---\n---\r\n--- x\n----\n ---\n---",
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		var docs [][]byte
		fuzzbound.Linear(t, len(data), 64, func() { docs = payload.Documents(data) })
		require.Equal(t, string(data), string(bytes.Join(docs, nil)))
		for i, d := range docs {
			require.True(t, i == 0 || bytes.HasPrefix(d, []byte("---")))
		}
	})
}

// Pullspecs of a payload, good and bad, never get in the way of reading it.
func FuzzPullspec(f *testing.F) {
	f.Add("q.io/a@sha256:" + strings.Repeat("0", 64))
	f.Add("localhost:5000/a:b@sha256:" + strings.Repeat("a", 64))
	f.Add("a:b")
	f.Add("")
	f.Add("\xd2.io/a@sha256:" + strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, spec string) {
		w := newMemory()
		s := &payload.ImageStream{Name: "4.20.0-test.1", Tags: []payload.Tag{{Name: "a", Kind: "DockerImage", Pullspec: spec}}}
		references, err := s.Encode()
		if !utf8.ValidString(spec) {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		img := makeImage(t, imageSpec{layers: [][]byte{tarOf(t, entry{name: "release-manifests/image-references", data: string(references)}, releaseEntries()[2])}})
		ref := w.add(t, repo, img)
		var r *payload.Release
		fuzzbound.Within(t, 4<<20+512*len(spec), func() { r, err = payload.Open(t.Context(), w, ref, nil) })
		require.NoError(t, err)
		got, err := r.Image("a")
		if want, bad := name.NewDigest(spec); bad != nil {
			require.Error(t, err)
		} else {
			require.NoError(t, err)
			require.Equal(t, want.Name(), got.Name())
		}
	})
}

// openFuzzed opens a payload with one more file.
func openFuzzed(t *testing.T, name string, data []byte) (*payload.Release, error) {
	return payload.OpenFolder(t.Context(), fstest.MapFS{
		"release-manifests/image-references": {Data: []byte(goodReferences)}, "release-manifests/release-metadata": {Data: []byte(goodMetadata)},
		name: {Data: data},
	})
}
