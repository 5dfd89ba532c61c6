package payload_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

// memory is a set of images by digest, and tags of them.
type memory struct {
	images   map[v1.Hash]v1.Image
	indexes  map[v1.Hash]v1.ImageIndex
	tags     map[string]v1.Hash
	requests atomic.Int64 // Head, Image, Index
}

func newMemory() *memory {
	return &memory{images: map[v1.Hash]v1.Image{}, indexes: map[v1.Hash]v1.ImageIndex{}, tags: map[string]v1.Hash{}}
}

func (m *memory) find(ref name.Reference) (v1.Hash, error) {
	m.requests.Add(1)
	if d, ok := ref.(name.Digest); ok {
		return v1.NewHash(d.DigestStr())
	}
	if h, ok := m.tags[ref.Name()]; ok {
		return h, nil
	}
	return v1.Hash{}, &fs.PathError{Op: "find", Path: ref.Name(), Err: fs.ErrNotExist}
}

func (m *memory) Head(_ context.Context, ref name.Reference) (*v1.Descriptor, error) {
	h, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	return &v1.Descriptor{Digest: h}, nil
}

func (m *memory) Image(_ context.Context, ref name.Reference) (v1.Image, error) {
	h, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	if img, ok := m.images[h]; ok {
		return img, nil
	}
	if _, ok := m.indexes[h]; ok {
		return nil, &fs.PathError{Op: "image", Path: ref.Name(), Err: fs.ErrInvalid}
	}
	return nil, &fs.PathError{Op: "image", Path: ref.Name(), Err: fs.ErrNotExist}
}

func (m *memory) Index(_ context.Context, ref name.Reference) (v1.ImageIndex, error) {
	h, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	if idx, ok := m.indexes[h]; ok {
		return idx, nil
	}
	return nil, &fs.PathError{Op: "index", Path: ref.Name(), Err: fs.ErrNotExist}
}

// add stores an image and gives its reference in a repository.
func (m *memory) add(t testing.TB, repo string, img v1.Image) name.Digest {
	t.Helper()
	h, err := img.Digest()
	require.NoError(t, err)
	m.images[h] = img
	return digestRef(t, repo, h)
}

// addLayout stores the images of an OCI layout.
func (m *memory) addLayout(t testing.TB, dir string) []v1.Hash {
	t.Helper()
	idx, err := layout.ImageIndexFromPath(filepath.Clean(dir))
	require.NoError(t, err)
	list, err := idx.IndexManifest()
	require.NoError(t, err)
	var out []v1.Hash
	for _, d := range list.Manifests {
		img, err := idx.Image(d.Digest)
		require.NoError(t, err)
		m.images[d.Digest] = img
		out = append(out, d.Digest)
	}
	return out
}

func digestRef(t testing.TB, repo string, h v1.Hash) name.Digest {
	t.Helper()
	ref, err := name.NewDigest(repo + "@" + h.String())
	require.NoError(t, err)
	return ref
}

func mustTag(t testing.TB, text string) name.Tag {
	t.Helper()
	ref, err := name.NewTag(text)
	require.NoError(t, err)
	return ref
}

// listTar gives mode, type, name and time of each entry; anything that is not
// plain USTAR fails.
func listTar(t testing.TB, data []byte) []string {
	t.Helper()
	var out []string
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return out
		}
		require.NoError(t, err)
		require.Equal(t, tar.FormatUSTAR, hdr.Format)
		require.Empty(t, hdr.Uname+hdr.Gname)
		require.Zero(t, hdr.Uid+hdr.Gid)
		out = append(out, fmt.Sprintf("%04o %c %s %s", hdr.Mode, hdr.Typeflag, hdr.Name, hdr.ModTime.UTC().Format(time.RFC3339)))
	}
}

func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, err := z.Write(data)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return buf.Bytes()
}

// unpackManifests writes the manifests of an operator's last layer to a folder,
// with their times, as oc does; of another image it writes nothing.
func unpackManifests(t testing.TB, img v1.Image, dir string) {
	t.Helper()
	if configOf(t, img).Config.Labels[payload.LabelOperator] == "" {
		return
	}
	layers, err := img.Layers()
	require.NoError(t, err)
	rc, err := layers[len(layers)-1].Uncompressed()
	tr := tar.NewReader(bytes.NewReader(readAll(t, rc, err)))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		name, ok := strings.CutPrefix(hdr.Name, "manifests/")
		if !ok || hdr.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(tr)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), hdr.ModTime, hdr.ModTime))
	}
}
