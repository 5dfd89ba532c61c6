package publishtest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/ociimage"
)

// testImage is an image of which every byte is known, and whose layers can be
// made to lie.
type testImage struct {
	desc     v1.Descriptor
	raw      []byte
	config   []byte
	layers   [][]byte
	children []v1.Descriptor // of an index
	open     map[v1.Hash]func() (io.ReadCloser, error)
}

func digestOf(data []byte) v1.Hash {
	h, _, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		panic(err) // a bytes.Reader does not fail
	}
	return h
}

// newImage makes an image of the given kind with these layers.
func newImage(t testing.TB, kind types.MediaType, layers ...string) *testImage {
	t.Helper()
	layerType := types.OCIUncompressedLayer
	if kind == types.DockerManifestSchema2 {
		layerType = types.DockerUncompressedLayer
	}
	var descs []v1.Descriptor
	for _, l := range layers {
		descs = append(descs, v1.Descriptor{MediaType: layerType, Digest: digestOf([]byte(l)), Size: int64(len(l))})
	}
	m := newImageOf(t, kind, descs...)
	for _, l := range layers {
		m.layers = append(m.layers, []byte(l))
		m.blob([]byte(l))
	}
	return m
}

// newImageOf makes an image of layers whose content is given with serve.
func newImageOf(t testing.TB, kind types.MediaType, layers ...v1.Descriptor) *testImage {
	t.Helper()
	config := v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	raw, err := json.Marshal(config)
	require.NoError(t, err)
	configType := types.OCIConfigJSON
	if kind == types.DockerManifestSchema2 {
		configType = types.DockerConfigJSON
	}
	m := &testImage{config: raw, open: map[v1.Hash]func() (io.ReadCloser, error){}}
	m.blob(raw)
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: kind,
		Config: v1.Descriptor{MediaType: configType, Digest: digestOf(raw), Size: int64(len(raw))},
		Layers: layers,
	})
	require.NoError(t, err)
	m.desc.MediaType = kind
	m.setManifest(t, manifest)
	return m
}

// newIndex makes an index of children, which may be indexes.
func newIndex(t testing.TB, kind types.MediaType, children ...*testImage) *testImage {
	t.Helper()
	m := &testImage{open: map[v1.Hash]func() (io.ReadCloser, error){}}
	manifest := v1.IndexManifest{SchemaVersion: 2, MediaType: kind}
	for i, c := range children {
		d := c.desc
		d.Platform = &v1.Platform{OS: "linux", Architecture: []string{"amd64", "arm64", "ppc64le"}[i%3]}
		manifest.Manifests = append(manifest.Manifests, d)
		m.children = append(m.children, d)
		for h, open := range c.open {
			m.open[h] = open
		}
		m.blob(c.raw)
	}
	raw, err := json.Marshal(manifest)
	require.NoError(t, err)
	m.desc.MediaType = kind
	m.setManifest(t, raw)
	return m
}

func (m *testImage) blob(data []byte) {
	m.open[digestOf(data)] = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// serve replaces what a blob's reader gives.
func (m *testImage) serve(h v1.Hash, open func() (io.ReadCloser, error)) { m.open[h] = open }

func (m *testImage) setManifest(t testing.TB, raw []byte) {
	t.Helper()
	require.NotEmpty(t, raw)
	m.raw = raw
	m.desc.Digest, m.desc.Size = digestOf(raw), int64(len(raw))
}

func (m *testImage) image(t testing.TB) v1.Image {
	t.Helper()
	img, err := ociimage.NewImage(t.Context(), unverified(m.open), m.desc, m.raw)
	require.NoError(t, err)
	return img
}

func (m *testImage) index(t testing.TB) v1.ImageIndex {
	t.Helper()
	idx, err := ociimage.NewIndex(t.Context(), unverified(m.open), m.desc, m.raw)
	require.NoError(t, err)
	return idx
}

// unverified serves blobs as they are: it is for the registry to find lies.
type unverified map[v1.Hash]func() (io.ReadCloser, error)

func (u unverified) Blob(_ context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	open, ok := u[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("test image has no blob %s: %w", desc.Digest, fs.ErrNotExist)
	}
	return open()
}

func (u unverified) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	rc, err := u.Blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// tarImage is an image as go-containerregistry makes it: gzip layers of tar.
func tarImage(t testing.TB) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "etc/motd", Mode: 0o644, Size: 5, Typeflag: tar.TypeReg}))
	_, err := w.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	require.NoError(t, err)
	img, err := mutate.AppendLayers(empty.Image, l)
	require.NoError(t, err)
	return mutate.MediaType(img, types.OCIManifestSchema1)
}
