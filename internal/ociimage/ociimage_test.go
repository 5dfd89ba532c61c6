package ociimage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
)

// memory is a repository of what was listed for writing.
type memory map[v1.Hash][]byte

func (m memory) add(t testing.TB, list ...ociimage.Manifest) {
	t.Helper()
	for _, manifest := range list {
		m[manifest.Desc.Digest] = manifest.Raw
		for _, b := range manifest.Blobs {
			rc, err := b.Open()
			require.NoError(t, err)
			data, err := io.ReadAll(rc)
			require.NoError(t, err)
			require.NoError(t, rc.Close())
			require.NoError(t, verify.Bytes(data, b.Desc.Digest, b.Desc.Size))
			m[b.Desc.Digest] = data
		}
	}
}

func (m memory) Manifest(_ context.Context, desc v1.Descriptor) ([]byte, error) {
	data, ok := m[desc.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, verify.Bytes(data, desc.Digest, desc.Size)
}

func (m memory) Blob(_ context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	data, ok := m[desc.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return verify.ReadCloser(io.NopCloser(bytes.NewReader(data)), desc.Digest, desc.Size)
}

// What is listed for writing reads back as the same image.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	img, err := random.Image(500, 3)
	require.NoError(t, err)
	m, err := ociimage.FromImage(img)
	require.NoError(t, err)
	require.Len(t, m.Blobs, 4)
	mem := memory{}
	mem.add(t, m)
	got, err := ociimage.NewImage(t.Context(), mem, m.Desc, m.Raw)
	require.NoError(t, err)
	require.NoError(t, validate.Image(got))
	desc, err := partial.Descriptor(got)
	require.NoError(t, err)
	require.Equal(t, m.Desc, *desc)

	idx, err := random.Index(500, 2, 3)
	require.NoError(t, err)
	list, err := ociimage.FromIndex(idx)
	require.NoError(t, err)
	require.Len(t, list, 4, "children, then the index")
	mem.add(t, list...)
	gotIndex, err := ociimage.NewIndex(t.Context(), mem, list[3].Desc, list[3].Raw)
	require.NoError(t, err)
	require.NoError(t, validate.Index(gotIndex))
	var total int64
	for _, b := range append(list[0].Blobs, append(list[1].Blobs, list[2].Blobs...)...) {
		total += b.Desc.Size
	}
	for _, m := range list {
		total += m.Desc.Size
	}
	require.Equal(t, total, ociimage.Size(list))
}

func TestForeignLayersAreLeftOut(t *testing.T) {
	t.Parallel()
	l := static.NewLayer([]byte("x"), types.OCIRestrictedLayer)
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: l, URLs: []string{"https://elsewhere.example/x"}, MediaType: types.OCIRestrictedLayer})
	require.NoError(t, err)
	m, err := ociimage.FromImage(img)
	require.NoError(t, err)
	require.Len(t, m.Blobs, 1, "the config alone")
	later, err := mutate.AppendLayers(empty.Image, stream.NewLayer(io.NopCloser(strings.NewReader("x"))))
	require.NoError(t, err)
	_, err = ociimage.FromImage(later)
	require.ErrorIs(t, err, stream.ErrNotComputed)
}

func TestHostileManifests(t *testing.T) {
	t.Parallel()
	h := "sha256:" + strings.Repeat("ab", 32)
	desc := func(size string) string { return fmt.Sprintf(`{"mediaType":"x","size":%s,"digest":%q}`, size, h) }
	for what, tc := range map[string]struct {
		raw  string
		said types.MediaType
		kind error
	}{
		"not JSON":                {`{`, "", nil},
		"schema version 1":        {`{"schemaVersion":1}`, "", errors.ErrUnsupported},
		"both kinds":              {`{"schemaVersion":2,"config":` + desc("1") + `,"manifests":[]}`, "", nil},
		"says another type":       {`{"schemaVersion":2,"mediaType":"` + string(types.OCIManifestSchema1) + `","config":` + desc("1") + `}`, types.DockerManifestSchema2, nil},
		"index given as image":    {`{"schemaVersion":2,"manifests":[]}`, types.OCIManifestSchema1, nil},
		"unknown type":            {`{"schemaVersion":2,"config":` + desc("1") + `}`, "application/x", errors.ErrUnsupported},
		"no config":               {`{"schemaVersion":2,"layers":[]}`, types.OCIManifestSchema1, nil},
		"negative size":           {`{"schemaVersion":2,"config":` + desc("-1") + `}`, types.OCIManifestSchema1, verify.ErrDigest},
		"two sizes of one digest": {`{"schemaVersion":2,"config":` + desc("1") + `,"layers":[` + desc("2") + `]}`, types.OCIManifestSchema1, verify.ErrDigest},
		"digest a path":           {`{"schemaVersion":2,"config":{"digest":"sha256:../x","size":1}}`, types.OCIManifestSchema1, nil},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			_, err := ociimage.NewImage(t.Context(), memory{}, v1.Descriptor{MediaType: tc.said}, []byte(tc.raw))
			require.Error(t, err)
			if tc.kind != nil {
				require.ErrorIs(t, err, tc.kind)
			}
		})
	}
	require.Error(t, ociimage.CheckDigest(v1.Hash{}))
	require.Error(t, ociimage.CheckDigest(v1.Hash{Algorithm: "sha256", Hex: "../../x"}))
	require.ErrorIs(t, ociimage.CheckManifestSize(ociimage.MaxManifestSize+1), errors.ErrUnsupported)
}

// TestAllocations has lists of next to nothing, which are refused before there is room for
// descriptors.
func TestAllocations(t *testing.T) {
	for _, list := range []string{"0,", "{},", "null,", `{"size":1},`} {
		for _, raw := range []string{
			`{"schemaVersion":2,"config":{},"layers":[` + strings.Repeat(list, 30_000) + "{}]}",
			`{"schemaVersion":2,"layers":[` + strings.Repeat(list, 30_000) + `{}],"LAYERS":[]}`,
			`{"schemaVersion":2,"manifests":[` + strings.Repeat(list, 30_000) + "{}]}",
		} {
			_, err := fuzzbound.Parse(t, 32, func(raw []byte) (*ociimage.Content, error) { return ociimage.Decode(raw, "") }, []byte(raw))
			require.Error(t, err)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	img, err := random.Image(100, 2)
	require.NoError(t, err)
	subject, err := partial.Descriptor(img)
	require.NoError(t, err)
	foreign, err := mutate.Append(mutate.MediaType(img, types.OCIManifestSchema1), mutate.Addendum{
		Layer: static.NewLayer([]byte("x"), types.OCIRestrictedLayer), URLs: []string{"https://elsewhere.example/x"}, MediaType: types.OCIRestrictedLayer,
	})
	require.NoError(t, err)
	about := mutate.Subject(mutate.ConfigMediaType(foreign, "application/x.config"), *subject)
	raw, err := about.RawManifest()
	require.NoError(t, err)
	c, err := ociimage.Decode(raw, "")
	require.NoError(t, err)
	require.Equal(t, types.OCIManifestSchema1, c.MediaType)
	require.Len(t, c.Blobs, 3, "config and two layers, without the foreign one")
	require.Equal(t, subject.Digest, c.Subject.Digest)
	require.Equal(t, "application/x.config", c.ArtifactType)
	c, err = ociimage.Decode([]byte(strings.Replace(string(raw), `{"schemaVersion"`, `{"artifactType":"application/y","schemaVersion"`, 1)), "")
	require.NoError(t, err)
	require.Equal(t, "application/y", c.ArtifactType)

	idx, err := random.Index(100, 1, 2)
	require.NoError(t, err)
	raw, err = idx.RawManifest()
	require.NoError(t, err)
	c, err = ociimage.Decode(raw, types.OCIImageIndex)
	require.NoError(t, err)
	require.Len(t, c.Children, 2)
	require.Empty(t, c.Blobs)
	for _, bad := range []string{"", "{", `{"schemaVersion":2,"manifests":[{}]}`, `{"schemaVersion":2,"manifests":[],"subject":{"digest":"sha256:../x","size":1}}`} {
		_, err = ociimage.Decode([]byte(bad), "")
		require.Error(t, err, bad)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := os.Open(dir)
	require.NoError(t, err)
	b, err := os.Open(dir)
	require.NoError(t, err)
	defer b.Close()
	require.NoError(t, ociimage.Lock(t.Context(), a))
	require.Error(t, ociimage.TryLock(b))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, ociimage.Lock(ctx, b), context.DeadlineExceeded)
	require.NoError(t, a.Close())
	require.NoError(t, ociimage.Lock(t.Context(), b))
}

func TestLargeConfigIsRefused(t *testing.T) {
	t.Parallel()
	raw := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x","size":%d,"digest":"sha256:%s"},"layers":[]}`, ociimage.MaxConfigSize+1, strings.Repeat("ab", 32))
	img, err := ociimage.NewImage(t.Context(), memory{}, v1.Descriptor{MediaType: types.OCIManifestSchema1}, []byte(raw))
	require.NoError(t, err)
	_, err = img.RawConfigFile()
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// matryoshka is an index that holds itself, as far as its methods say.
type matryoshka struct{ v1.Descriptor }

func (m matryoshka) raw() []byte {
	return []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":1,"digest":"sha256:%s"}]}`, types.OCIImageIndex, types.OCIImageIndex, strings.Repeat("ab", 32)))
}
func (m matryoshka) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }
func (m matryoshka) RawManifest() ([]byte, error)        { return m.raw(), nil }
func (m matryoshka) Size() (int64, error)                { return int64(len(m.raw())), nil }
func (m matryoshka) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(m.raw()))
	return h, err
}
func (m matryoshka) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(bytes.NewReader(m.raw()))
}
func (m matryoshka) Image(v1.Hash) (v1.Image, error)           { return empty.Image, nil }
func (m matryoshka) ImageIndex(v1.Hash) (v1.ImageIndex, error) { return m, nil }

func TestNestingIsBounded(t *testing.T) {
	t.Parallel()
	_, err := ociimage.FromIndex(matryoshka{})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "nested")
}

func FuzzManifest(f *testing.F) {
	img, err := random.Image(10, 2)
	require.NoError(f, err)
	raw, err := img.RawManifest()
	require.NoError(f, err)
	for doc := range mutants.Of(raw) {
		f.Add([]byte(doc), string(types.DockerManifestSchema2))
	}
	idx, err := random.Index(10, 1, 2)
	require.NoError(f, err)
	raw, err = idx.RawManifest()
	require.NoError(f, err)
	for doc := range mutants.Of(raw) {
		f.Add([]byte(doc), "")
	}
	f.Add([]byte(`{"schemaVersion":2,"layers":null,"config":{}}`), string(types.OCIManifestSchema1))
	f.Fuzz(func(t *testing.T, raw []byte, said string) {
		h, size, err := v1.SHA256(bytes.NewReader(raw))
		require.NoError(t, err)
		desc := v1.Descriptor{MediaType: types.MediaType(said), Digest: h, Size: size}
		fuzzbound.Linear(t, len(raw), 512, func() {
			_, _ = ociimage.Decode(raw, desc.MediaType)
			if img, err := ociimage.NewImage(t.Context(), memory{}, desc, raw); err == nil {
				_, _ = ociimage.FromImage(img)
			}
			if idx, err := ociimage.NewIndex(t.Context(), memory{}, desc, raw); err == nil {
				_, _ = idx.IndexManifest()
			}
		})
		mt, err := ociimage.MediaType(raw, desc.MediaType)
		if err != nil {
			return
		}
		require.True(t, said == "" || string(mt) == said)
		if c, err := ociimage.Decode(raw, desc.MediaType); err == nil {
			require.Equal(t, mt, c.MediaType)
			require.LessOrEqual(t, len(c.Blobs)+len(c.Children), 1+len(raw)/64, "what it names is bounded by the input")
			for _, d := range append(c.Blobs, c.Children...) {
				require.NoError(t, ociimage.CheckDigest(d.Digest))
				require.GreaterOrEqual(t, d.Size, int64(0))
			}
		}
		if img, err := ociimage.NewImage(t.Context(), memory{}, desc, raw); err == nil {
			m, err := ociimage.FromImage(img)
			require.NoError(t, err)
			require.Equal(t, desc.Digest, m.Desc.Digest)
			require.LessOrEqual(t, len(m.Blobs), 1+len(raw)/64, "blobs are bounded by the input")
			for _, b := range m.Blobs {
				require.NoError(t, ociimage.CheckDigest(b.Desc.Digest))
				require.GreaterOrEqual(t, b.Desc.Size, int64(0))
			}
		}
		if idx, err := ociimage.NewIndex(t.Context(), memory{}, desc, raw); err == nil {
			m, err := idx.IndexManifest()
			require.NoError(t, err)
			_, err = json.Marshal(m)
			require.NoError(t, err)
			_, _ = ociimage.FromIndex(idx) // children are missing; it must not panic
		}
	})
}
