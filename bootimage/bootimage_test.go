package bootimage_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	releasemd "github.com/coreos/stream-metadata-go/release"
	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write golden files")

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// sharedFiles lists the real documents of one kind.
func sharedFiles(t testing.TB, patterns ...string) (files []string) {
	t.Helper()
	root := interop.SharedData(t, "bootimage")
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(root, p))
		require.NoError(t, err)
		require.NotEmpty(t, found, p)
		files = append(files, found...)
	}
	return files
}

var (
	streamFiles = []string{
		"fcos/streams/*.json", "fcos/streams-history/*/*.json", "stream-generator/stream.json", "tracker-metadata/stream/sample.json",
		"stream-metadata-go/fcos-stream.json", "stream-metadata-rust/fcos-stream.json",
		"installer/main/*.json", "installer/rhcos/*.json", "installer/fcos-history/*.json", "installer/scos-history/*.json",
	}
	releaseFiles = []string{"stream-metadata-go/fcos-release.json", "tracker-metadata/release/*.json"}
	metaFiles    = []string{"cosa/meta-*.json"}
	buildsFiles  = []string{"cosa/okd-scos-builds.json"}
)

// roundTrip reads a real document, writes it back, changes a value and
// changes it back; all but the change stays byte for byte.
func roundTrip[T any](t *testing.T, file string, decode func(io.Reader) (*bootimage.Document[T], error), field func(*T) *string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	d, err := decode(bytes.NewReader(data))
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, d.Bytes()), "not the same bytes")
	var b bytes.Buffer
	require.NoError(t, d.Encode(&b))
	require.True(t, bytes.Equal(data, b.Bytes()))

	require.NoError(t, d.Edit(func(*T) error { return nil }))
	require.True(t, bytes.Equal(data, d.Bytes()), "an edit without change changes")
	old := *field(d.Value())
	require.NoError(t, d.Edit(func(v *T) error { *field(v) = "1.9<>&"; return nil }))
	require.Equal(t, 1, lineDiff(string(data), string(d.Bytes())))
	require.Contains(t, string(d.Bytes()), `"1.9<>&"`)
	require.NoError(t, d.Edit(func(v *T) error { *field(v) = old; return nil }))
	require.True(t, bytes.Equal(data, d.Bytes()), "an edit and its reverse change")
}

// edited reads a real document and changes a value; all else stays byte for byte.
func edited[T any](t *testing.T, file string, decode func(io.Reader) (*bootimage.Document[T], error), field func(*T) *string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	d, err := decode(bytes.NewReader(data))
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, d.Bytes()), "not the same bytes")
	require.NoError(t, d.Edit(func(v *T) error { *field(v) = "1.9<>&"; return nil }))
	require.Equal(t, 1, lineDiff(string(data), string(d.Bytes())))
}

// lineDiff counts lines that differ; texts have as many lines.
func lineDiff(a, b string) (n int) {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	if len(x) != len(y) {
		return -1
	}
	for i := range x {
		if x[i] != y[i] {
			n++
		}
	}
	return n
}

func TestRealStreams(t *testing.T) {
	for i, file := range sharedFiles(t, streamFiles...) {
		t.Run(filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), func(t *testing.T) {
			if i%4 != 0 { // one edit of each is enough; edits of all kinds cost time
				edited(t, file, bootimage.DecodeStream, func(s *streammd.Stream) *string { return &s.Stream })
				return
			}
			roundTrip(t, file, bootimage.DecodeStream, func(s *streammd.Stream) *string {
				if s.Metadata.LastModified == "" {
					return &s.Stream
				}
				return &s.Metadata.LastModified
			})
		})
	}
}

// TestRealOthers reads the documents that are only read: pins of installers before
// there were streams, offers of the marketplace, replies of the update service.
func TestRealOthers(t *testing.T) {
	for _, file := range sharedFiles(t, "installer/legacy/*.json", "installer/main/marketplace/*.json", "cincinnati/*.json") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			d, err := bootimage.DecodeAny(data)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, d.Bytes()), "not the same bytes")
			require.NoError(t, d.Edit(func(v *map[string]json.RawMessage) error { (*v)["own"] = json.RawMessage(`1.50`); return nil }))
			require.Contains(t, string(d.Bytes()), `"own": 1.50`)
			require.NoError(t, d.Edit(func(v *map[string]json.RawMessage) error { delete(*v, "own"); return nil }))
			require.True(t, bytes.Equal(data, d.Bytes()), "an edit and its reverse change")
		})
	}
}

func TestRealReleases(t *testing.T) {
	for _, file := range sharedFiles(t, releaseFiles...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			roundTrip(t, file, bootimage.DecodeRelease, func(r *releasemd.Release) *string { return &r.Stream })
		})
	}
}

func TestRealMeta(t *testing.T) {
	for _, file := range sharedFiles(t, metaFiles...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			roundTrip(t, file, bootimage.DecodeMeta, func(m *bootimage.Meta) *string { return &m.OSTreeVersion })
		})
	}
}

func TestRealBuilds(t *testing.T) {
	for _, file := range sharedFiles(t, buildsFiles...) {
		roundTrip(t, file, bootimage.DecodeBuilds, func(b *bootimage.Builds) *string { return &b.SchemaVersion })
	}
}
