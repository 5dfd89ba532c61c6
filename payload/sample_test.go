package payload_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
)

// The two payloads of the shared data, as oc made them.
var samples = []struct {
	name, version string
	previous      []string
	metadata      map[string]any
	digest        string // of the release image
	diffID        string // of its last layer
	layer         string // its compressed digest, as our encoder has it
}{
	{
		"a", "4.20.0-okd-scos.1", []string{"4.20.0-okd-scos.0", "4.19.0-okd-scos.9"}, map[string]any{"url": "https://example.invalid/e"},
		"sha256:8ad6d1ad8581a4087c42f3169a350deeb6e10ce71ff12e97cf42057886eaf63a",
		"sha256:fe18277a1c0340e8b934d565666419adc0466ba673735aa4eb613662215ccdfc",
		"sha256:787c8a24181be1f84fe055b82e1634f15df444d1fd16f6e1a8c4748f2e009451",
	},
	{
		"b", "4.20.0-okd-scos.2", []string{"4.20.0-okd-scos.1"}, nil,
		"sha256:6f34ecd43630a2f00eae562a3c1b0dfcb3de2e3e3a30a285e239cd9665f46261",
		"sha256:5370bfee73297457c1c3d26ea086000657f3c8a34d30886f1c1513ab4d25799c",
		"sha256:a48c5a2c320bb98e74778c25781f7a2ea72ea0851fcba99d5eb2f9939bdce709",
	},
}

var sampleTime = time.Date(2026, 11, 23, 9, 0, 23, 0, time.UTC)

func sampleImages(t testing.TB) *memory {
	t.Helper()
	m := newMemory()
	for _, dir := range []string{"components-a", "components-b", "release-images"} {
		m.addLayout(t, interop.SharedData(t, "payload", "sample", dir))
	}
	return m
}

func sampleStream(t testing.TB, which string) *payload.ImageStream {
	t.Helper()
	data, err := os.ReadFile(interop.SharedData(t, "payload", "sample", "is-"+which+".json"))
	require.NoError(t, err)
	s, err := payload.DecodeImageStream(data)
	require.NoError(t, err)
	return s
}

func TestSampleAssemble(t *testing.T) {
	for _, s := range samples {
		for _, compatible := range []bool{true, false} {
			t.Run(s.name+map[bool]string{true: "/compatible", false: "/strict"}[compatible], func(t *testing.T) {
				src := sampleImages(t)
				spec := &payload.Spec{
					Version: s.version, Created: sampleTime.Add(500 * time.Millisecond), Stream: sampleStream(t, s.name),
					Previous: s.previous, Metadata: s.metadata,
				}
				opts := &payload.AssembleOptions{Compatible: compatible, RequireOS: true, RequireExtensions: true}
				built, err := payload.Assemble(t.Context(), src, spec, opts)
				require.NoError(t, err)
				require.Equal(t, s.diffID, built.DiffID.String())
				require.Empty(t, built.Warnings)
				require.NoError(t, validate.Image(built.Image))
				require.Len(t, built.OS, 1)
				require.Equal(t, "stream-coreos", built.OS[0].Tag)
				require.Equal(t, "stream-coreos-extensions", built.OS[0].Extensions)
				require.NotEmpty(t, built.OS[0].Version)

				m, err := built.Image.Manifest()
				require.NoError(t, err)
				require.Equal(t, s.layer, m.Layers[len(m.Layers)-1].Digest.String(), "the encoder is pinned")

				// oc's own image of the same content differs in compressed bytes only.
				theirs, err := payload.Open(t.Context(), src, digestRef(t, "registry.test/release", mustHash(t, s.digest)), nil)
				require.NoError(t, err)
				require.Equal(t, string(theirs.References.Raw), string(built.References.Raw))
				require.Equal(t, string(theirs.Metadata.Raw), string(built.Metadata.Raw))
				ours, err := payload.Open(t.Context(), src, src.add(t, "registry.test/release", built.Image), nil)
				require.NoError(t, err)
				require.Equal(t, configWithoutSize(t, theirs.RawConfig), configWithoutSize(t, ours.RawConfig))
				require.Empty(t, ours.Warnings)

				again, err := payload.Assemble(t.Context(), src, spec, opts)
				require.NoError(t, err)
				require.Equal(t, built.Digest, again.Digest)
			})
		}
	}
}

func TestSampleFromRelease(t *testing.T) {
	for _, s := range samples {
		for _, compatible := range []bool{true, false} {
			t.Run(s.name+map[bool]string{true: "/compatible", false: "/strict"}[compatible], func(t *testing.T) {
				src := sampleImages(t)
				spec := &payload.Spec{FromRelease: digestRef(t, "127.0.0.1:25118/fake/release", mustHash(t, s.digest))}
				built, err := payload.Assemble(t.Context(), src, spec, &payload.AssembleOptions{Compatible: compatible})
				require.NoError(t, err)
				require.Equal(t, s.diffID, built.DiffID.String())
				require.True(t, built.Reused)
				require.Equal(t, s.digest, built.Digest.String())
				require.NoError(t, validate.Image(built.Image))
			})
		}
	}
}

func TestSampleInfo(t *testing.T) {
	src := sampleImages(t)
	ref, err := name.NewTag("127.0.0.1:25118/fake/release:4.20.0-okd-scos.1", name.Insecure)
	require.NoError(t, err)
	src.tags[ref.Name()] = mustHash(t, samples[0].digest)
	r, err := payload.Open(t.Context(), src, ref, nil)
	require.NoError(t, err)
	info, err := r.Info()
	require.NoError(t, err)
	got, err := json.MarshalIndent(info, "", "  ")
	require.NoError(t, err)
	want, err := os.ReadFile(interop.SharedData(t, "payload", "sample", "info.json"))
	require.NoError(t, err)
	require.Equal(t, string(want), string(got)+"\n")
	require.LessOrEqual(t, src.requests.Load(), int64(2), "beside configuration and layer")

	// The payload's files are the layer's.
	dir := interop.SharedData(t, "payload", "sample", "layer", "release-manifests")
	n := 0
	for file, data := range r.Manifests() {
		want, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		require.Equal(t, string(want), string(data))
		n++
	}
	require.Equal(t, 19, n)

	image, err := r.Image("stream-coreos")
	require.NoError(t, err)
	require.Equal(t, "sha256:a5aea5ab093566dca490a7648fffb9eb1d225f09f2ba58a26ff868381bed97f8", image.DigestStr())
}

func mustHash(t testing.TB, text string) v1.Hash {
	t.Helper()
	h, err := v1.NewHash(text)
	require.NoError(t, err)
	return h
}

func configWithoutSize(t testing.TB, raw []byte) string {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(raw, &m))
	require.NotZero(t, m["size"])
	m["size"] = 0
	out, err := json.Marshal(m)
	require.NoError(t, err)
	return string(out)
}

func readAll(t testing.TB, rc io.ReadCloser, err error) []byte {
	t.Helper()
	require.NoError(t, err)
	defer rc.Close()
	data, err := io.ReadAll(rc)
	require.NoError(t, err)
	return data
}
