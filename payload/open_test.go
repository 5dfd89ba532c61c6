package payload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
)

const (
	goodReferences = `{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"4.20.0-test.1"}}`
	goodMetadata   = `{"kind":"cincinnati-metadata-v0","version":"4.20.0-test.1","previous":[]}`
)

func releaseEntries(more ...entry) []entry {
	return append([]entry{{name: "release-manifests", kind: '5'}, {name: "release-manifests/image-references", data: goodReferences}, {name: "release-manifests/release-metadata", data: goodMetadata}}, more...)
}

func openEntries(t *testing.T, entries ...entry) (*payload.Release, error) {
	t.Helper()
	size := 0
	for _, e := range entries {
		size += len(e.data)
	}
	m := newMemory()
	img := makeImage(t, imageSpec{plain: size > 1<<20, labels: map[string]string{payload.LabelRelease: "4.20.0-test.1"}, layers: [][]byte{tarOf(t, entry{name: "x"}), tarOf(t, entries...)}})
	return payload.Open(t.Context(), m, m.add(t, "registry.test/release", img), nil)
}

func TestOpen(t *testing.T) {
	r, err := openEntries(t, releaseEntries(entry{name: "release-manifests/0000_10_b.yaml", data: "b"}, entry{name: "release-manifests/0000_10_a"}, entry{name: "elsewhere/x", data: "x"})...)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"0000_10_a": "", "0000_10_b.yaml": "b"}, filesOf(r))
	require.Empty(t, r.Warnings)
	_, err = r.Image("nothing")
	require.ErrorIs(t, err, fs.ErrNotExist)
	for range r.Manifests() {
		break // may be left early
	}

	m := newMemory()
	_, err = payload.Open(t.Context(), m, digestRef(t, repo, mustHash(t, "sha256:"+strings.Repeat("1", 64))), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = payload.Open(t.Context(), m, nil, nil)
	require.Error(t, err)
	var e *payload.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "open", e.Op)
}

func TestOpenRefuses(t *testing.T) {
	big := strings.Repeat("x", payload.MaxManifestSize+1)
	cases := []struct {
		name    string
		entries []entry
		want    string
		is      error
	}{
		{name: "not a release", entries: []entry{{name: "etc/passwd", data: "x"}}, want: "not a release image", is: fs.ErrNotExist},
		{name: "no metadata", entries: releaseEntries()[:2], want: "no release-manifests/release-metadata", is: fs.ErrNotExist},
		{name: "escape", entries: releaseEntries(entry{name: "release-manifests/../../etc/x", data: "x"}), want: "leaves its folder"},
		{name: "references twice", entries: releaseEntries(entry{name: "release-manifests/image-references", data: goodReferences}), want: "image-references is there twice"},
		{name: "manifest twice", entries: releaseEntries(entry{name: "release-manifests/a", data: "x"}, entry{name: "./release-manifests/a", data: "x"}), want: "a is there twice"},
		{name: "references are a link", entries: []entry{{name: "release-manifests/image-references", kind: '2', link: "/etc/passwd"}}, want: "not a release image"},
		{name: "huge manifest", entries: releaseEntries(entry{name: "release-manifests/a", data: big}), want: "limit 8388608"},
		{name: "control character", entries: releaseEntries(entry{name: "release-manifests/a\nb"}), want: "characters that it cannot have"},
		{name: "not UTF-8", entries: releaseEntries(entry{name: "release-manifests/a\xff"}), want: "characters that it cannot have"},
		{name: "backslash", entries: releaseEntries(entry{name: `release-manifests/..\a`}), want: "characters that it cannot have"},
		{name: "long name", entries: releaseEntries(entry{name: "release-manifests/" + strings.Repeat("n", 256)}), want: "limit 255"},
		{name: "metadata of another kind", entries: []entry{releaseEntries()[1], {name: "release-manifests/release-metadata", data: `{"kind":"x"}`}}, want: `kind "x"`},
		{name: "metadata is not JSON", entries: []entry{releaseEntries()[1], {name: "release-manifests/release-metadata", data: `kind: cincinnati-metadata-v0`}}, want: "release-metadata"},
		{name: "bad version", entries: []entry{releaseEntries()[1], {name: "release-manifests/release-metadata", data: `{"kind":"cincinnati-metadata-v0","version":"1"}`}}, want: `version "1"`},
		{name: "references of another kind", entries: []entry{{name: "release-manifests/image-references", data: namespace("x")}, releaseEntries()[2]}, want: "want ImageStream"},
		{name: "a tag twice", entries: []entry{{name: "release-manifests/image-references", data: strings.Replace(goodReferences, `"metadata"`, `"spec":{"tags":[{"name":"a"},{"name":"a"}]},"metadata"`, 1)}, releaseEntries()[2]}, want: `tag "a" is there twice`},
		{name: "a tag out of its folder", entries: []entry{{name: "release-manifests/image-references", data: strings.Replace(goodReferences, `"metadata"`, `"spec":{"tags":[{"name":"../a"}]},"metadata"`, 1)}, releaseEntries()[2]}, want: `tag name "../a"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := openEntries(t, c.entries...)
			require.ErrorContains(t, err, c.want)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
		})
	}
}

func TestOpenLimits(t *testing.T) {
	for _, c := range []struct {
		name string
		n    int
		size int
		want string
	}{
		{"files at the limit", payload.MaxManifests, 0, ""},
		{"files above the limit", payload.MaxManifests + 1, 0, "more than 4096 files"},
		{"bytes at the limit", payload.MaxPayloadSize / payload.MaxManifestSize, payload.MaxManifestSize, ""},
		{"bytes above the limit", payload.MaxPayloadSize/payload.MaxManifestSize + 1, payload.MaxManifestSize, "files of more than 67108864 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The two documents count too.
			n, entries := c.n-2, releaseEntries()
			if c.size > 0 {
				n = c.n
			}
			data := strings.Repeat("\n", c.size)
			for i := range n {
				e := entry{name: fmt.Sprintf("release-manifests/f%04d", i), data: data}
				if i == 0 && c.size > 0 {
					e.data = data[len(goodReferences)+len(goodMetadata):]
				}
				entries = append(entries, e)
			}
			r, err := openEntries(t, entries...)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			require.Len(t, filesOf(r), n)
		})
	}
}

func TestOpenWarns(t *testing.T) {
	entries := releaseEntries()
	entries[2].data = strings.Replace(goodMetadata, "test.1", "test.2", 1)
	r, err := openEntries(t, entries...)
	require.NoError(t, err)
	require.Len(t, r.Warnings, 2)
}

// liar is an image that hands out other bytes than its digests promise.
type liar struct {
	v1.Image
	manifest, config []byte
	layer            v1.Layer
}

func (l liar) RawManifest() ([]byte, error) {
	if l.manifest != nil {
		return l.manifest, nil
	}
	return l.Image.RawManifest()
}

func (l liar) RawConfigFile() ([]byte, error) {
	if l.config != nil {
		return l.config, nil
	}
	return l.Image.RawConfigFile()
}

func (l liar) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if l.layer != nil {
		return l.layer, nil
	}
	return l.Image.LayerByDigest(h)
}

// A registry that serves forged bytes under the right digest.
func TestForged(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "a.yaml", namespace("a"))
	good, r := w.must(t, w.spec(), nil)
	forgedLayer := func(t *testing.T, img v1.Image, entries ...entry) v1.Layer {
		layers, err := makeImage(t, imageSpec{layers: [][]byte{tarOf(t, entries...)}}).Layers()
		require.NoError(t, err)
		return layers[0]
	}
	other := makeImage(t, imageSpec{layers: [][]byte{tarOf(t, releaseEntries()...)}})
	otherManifest, err := other.RawManifest()
	require.NoError(t, err)
	otherConfig, err := other.RawConfigFile()
	require.NoError(t, err)
	layers, err := good.Image.Layers()
	require.NoError(t, err)
	last := layers[len(layers)-1]
	rc, err := last.Compressed()
	whole := readAll(t, rc, err)
	raw := func(data []byte) v1.Layer { return static.NewLayer(data, types.DockerLayer) }

	cases := map[string]func(img v1.Image) v1.Image{
		"manifest":              func(img v1.Image) v1.Image { return liar{Image: img, manifest: otherManifest} },
		"whole image":           func(v1.Image) v1.Image { return other },
		"configuration":         func(img v1.Image) v1.Image { return liar{Image: img, config: otherConfig} },
		"layer":                 func(img v1.Image) v1.Image { return liar{Image: img, layer: forgedLayer(t, img, releaseEntries()...)} },
		"layer of another kind": func(img v1.Image) v1.Image { return liar{Image: img, layer: raw([]byte("not a layer"))} },
		"layer cut short":       func(img v1.Image) v1.Image { return liar{Image: img, layer: raw(whole[:len(whole)-1])} },
		"layer with more": func(img v1.Image) v1.Image {
			return liar{Image: img, layer: raw(append(whole[:len(whole):len(whole)], 0))}
		},
		"layer with a flipped bit": func(img v1.Image) v1.Image {
			flipped := bytes.Clone(whole)
			flipped[len(flipped)/2] ^= 1
			return liar{Image: img, layer: raw(flipped)}
		},
		"empty layer": func(img v1.Image) v1.Image { return liar{Image: img, layer: raw(nil)} },
	}
	for name, forge := range cases {
		t.Run("open/"+name, func(t *testing.T) {
			m := newMemory()
			m.images[r.Digest] = forge(good.Image)
			got, err := payload.Open(t.Context(), m, r.Pullspec(), nil)
			require.ErrorIs(t, err, payload.ErrDigest)
			require.Nil(t, got)
		})
		t.Run("assemble/"+name, func(t *testing.T) {
			w := newWorld(t)
			ref := w.operator(t, "op", "a.yaml", namespace("a"))
			h := mustHash(t, ref.DigestStr())
			w.images[h] = forge(w.images[h])
			_, _, err := w.assemble(t, w.spec(), nil)
			require.ErrorIs(t, err, payload.ErrDigest)
			require.ErrorContains(t, err, "component op")
		})
	}
	t.Run("diff ID", func(t *testing.T) {
		// Digest and size are right, but the configuration, right too, says that
		// something else is in the layer.
		img := makeImage(t, imageSpec{layers: [][]byte{tarOf(t, releaseEntries()...)}})
		m := newMemory()
		_, err := payload.Open(t.Context(), m, m.add(t, repo, wrongDiffID(t, img)), nil)
		require.ErrorIs(t, err, payload.ErrDigest)
		require.ErrorContains(t, err, "diff ID")
	})
	t.Run("index", func(t *testing.T) {
		w := newWorld(t)
		list := w.addIndex(t, repo, map[string]v1.Image{"amd64": good.Image})
		h := mustHash(t, list.DigestStr())
		other := w.addIndex(t, repo, map[string]v1.Image{"amd64": other})
		w.indexes[h] = w.indexes[mustHash(t, other.DigestStr())]
		_, err := payload.Open(t.Context(), w, list, nil)
		require.ErrorIs(t, err, payload.ErrDigest)
	})
}

// wrongDiffID gives img with a configuration that has other diff IDs.
func wrongDiffID(t testing.TB, img v1.Image) v1.Image {
	t.Helper()
	config := configOf(t, img).DeepCopy()
	layers, err := img.Layers()
	require.NoError(t, err)
	for i := range config.RootFS.DiffIDs {
		config.RootFS.DiffIDs[i].Hex = strings.Repeat("0", 64)
	}
	return rawImage(t, config, layers)
}

// An image whose layer breaks off while it is read.
func TestLayerReadError(t *testing.T) {
	w := newWorld(t)
	ref := w.operator(t, "op", "a.yaml", namespace("a"))
	h := mustHash(t, ref.DigestStr())
	broken := errors.New("connection reset")
	w.images[h] = liar{Image: w.images[h], layer: failing{err: broken}}
	_, _, err := w.assemble(t, w.spec(), nil)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "component op: layer 2 of 2")
}

type failing struct {
	v1.Layer
	err error
}

func (f failing) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(bytes.NewReader([]byte{0x1f, 0x8b, 8, 0}), failReader(f))), nil
}

type failReader failing

func (f failReader) Read([]byte) (int, error) { return 0, f.err }

// A layer that unpacks to far more than it has: nothing of it is kept, and the
// reading stops at the limit of a file.
func TestBomb(t *testing.T) {
	zeros := strings.Repeat("\x00", payload.MaxManifestSize+1)
	w := newWorld(t)
	w.put(t, "op", imageSpec{labels: map[string]string{payload.LabelOperator: "true"}, layers: [][]byte{tarOf(t, entry{name: "manifests/bomb.yaml", data: zeros})}})
	_, _, err := w.assemble(t, w.spec(), nil)
	require.ErrorContains(t, err, "manifests/bomb.yaml has 8388609 bytes, limit 8388608")
	require.ErrorContains(t, err, "component op")

	// Aliases that unfold to billions.
	bomb := "kind: A\napiVersion: v1\na0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [", i, i) + strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ",") + "]\n"
	}
	w = newWorld(t)
	w.operator(t, "op", "bomb.yaml", bomb)
	_, _, err = w.assemble(t, w.spec(), nil)
	require.Equal(t, []payload.Check{payload.CheckManifest}, checksOf(t, err))
	_, _, err = w.assemble(t, w.spec(), compatible)
	require.ErrorContains(t, err, "aliases repeat too much")
}

func TestOpenRequests(t *testing.T) {
	w := newWorld(t)
	_, r := w.must(t, w.spec(), nil)
	ref := mustTag(t, "registry.test/okd/release:latest")
	w.tags[ref.Name()] = r.Digest
	for _, c := range []struct {
		ref  name.Reference
		want int64
	}{{r.Pullspec(), 1}, {ref, 2}} {
		before, counted := w.requests.Load(), &counting{memory: w.memory}
		got, err := payload.Open(t.Context(), counted, c.ref, nil)
		require.NoError(t, err)
		require.Equal(t, r.Digest, got.Digest)
		require.Equal(t, r.Pullspec().Name(), got.Pullspec().Name())
		require.Equal(t, c.want+2, w.requests.Load()-before+counted.blobs, "manifest, configuration, last layer and, for a tag, its digest")
	}
}

// Where manifests and blobs can be asked for one by one, an index costs one
// request more than an image, and a tag none.
func TestOpenRequestsDirect(t *testing.T) {
	w := newWorld(t)
	_, r := w.must(t, w.spec(), nil)
	list := w.addIndex(t, "registry.test/okd/release", map[string]v1.Image{"amd64": w.images[r.Digest], "arm64": w.images[r.Digest]})
	for _, tagged := range []v1.Hash{r.Digest, mustHash(t, list.DigestStr())} {
		ref := mustTag(t, "registry.test/okd/release:latest")
		w.tags[ref.Name()] = tagged
		for _, ref := range []name.Reference{ref, ref.Digest(tagged.String())} {
			d := &direct{memory: w.memory}
			got, err := payload.Open(t.Context(), d, ref, nil)
			require.NoError(t, err)
			require.Equal(t, r.Digest, got.Digest)
			want := 3
			if tagged != r.Digest {
				want = 4
				require.Equal(t, tagged, got.ListDigest)
			}
			require.EqualValues(t, want, d.requests.Load(), ref)
		}
	}
}

// direct is a memory that gives manifests and blobs one by one, and counts.
type direct struct {
	*memory
	requests atomic.Int64
}

func (d *direct) Manifest(_ context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	d.requests.Add(1)
	h, err := d.find(ref)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	var from interface{ RawManifest() ([]byte, error) } = d.images[h]
	if idx, ok := d.indexes[h]; ok {
		from = idx
	}
	raw, err := from.RawManifest()
	return v1.Descriptor{Digest: h}, raw, err
}

func (d *direct) OpenBlob(_ context.Context, _ name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	d.requests.Add(1)
	for _, img := range d.images {
		if h, err := img.ConfigName(); err == nil && h == blob.Digest {
			data, err := img.RawConfigFile()
			return io.NopCloser(bytes.NewReader(data)), err
		}
		if l, err := img.LayerByDigest(blob.Digest); err == nil {
			return l.Compressed()
		}
	}
	return nil, fs.ErrNotExist
}

// counting counts what a registry would have to serve: the memory's requests
// and those that images make later.
type counting struct {
	*memory
	blobs int64
}

func (c *counting) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	img, err := c.memory.Image(ctx, ref)
	return countedImage{img, &c.blobs}, err
}

type countedImage struct {
	v1.Image
	blobs *int64
}

func (i countedImage) RawConfigFile() ([]byte, error) {
	*i.blobs++
	return i.Image.RawConfigFile()
}

func (i countedImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	*i.blobs++
	return i.Image.LayerByDigest(h)
}

// The payloads that the cluster-version operator is tested with can be read.
func TestOperatorPayloads(t *testing.T) {
	root := interop.SharedData(t, "payload", "cvo", "testdata")
	dirs, err := filepath.Glob(filepath.Join(root, "*", "release-manifests"))
	require.NoError(t, err)
	require.Len(t, dirs, 5)
	for _, dir := range dirs {
		t.Run(filepath.Base(filepath.Dir(dir)), func(t *testing.T) {
			files, err := os.ReadDir(dir)
			require.NoError(t, err)
			var entries []entry
			for _, f := range files {
				data, err := os.ReadFile(filepath.Join(dir, f.Name()))
				require.NoError(t, err)
				entries = append(entries, entry{name: "release-manifests/" + f.Name(), data: string(data)})
			}
			r, err := openEntries(t, entries...)
			require.NoError(t, err)
			require.Len(t, filesOf(r), len(files)-2)
			require.Equal(t, r.References.Name, r.Version())
			if strings.HasSuffix(filepath.Dir(dir), "arch") {
				require.Equal(t, "multi", r.Metadata.Metadata[payload.MetadataArchitecture])
			}
		})
	}
}
