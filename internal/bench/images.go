package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// What a release payload's components look like to a registry: all have a base
// layer in common and a layer of their own, and each third a small one more.
const (
	components     = 190
	baseLayer      = 8 << 20 // bytes, as all of these incompressible
	componentLayer = 256 << 10
	manifestsLayer = 2 << 10
)

// pushComponents writes components to a repository and their pullspecs by
// digest to the file list.
func pushComponents(ctx context.Context, list, to string) error {
	repo, err := name.NewRepository(to)
	if err != nil {
		return err
	}
	registry, err := remoteregistry.Open(ctx, nil)
	if err != nil {
		return err
	}
	base, err := randomLayer(1, baseLayer)
	if err != nil {
		return err
	}
	specs := make([]string, components)
	var group errgroup.Group
	group.SetLimit(4)
	for i := range components {
		group.Go(func() error {
			layers := []v1.Layer{base}
			for k, size := range []int{componentLayer, manifestsLayer}[:1+min(1, (i+1)%3/2)] {
				l, err := randomLayer(uint64(1000*(k+1)+i), size)
				if err != nil {
					return err
				}
				layers = append(layers, l)
			}
			img, err := mutate.AppendLayers(empty.Image, layers...)
			if err != nil {
				return err
			}
			img, err = mutate.Config(img, v1.Config{Labels: map[string]string{"component": fmt.Sprint(i)}})
			if err != nil {
				return err
			}
			desc, err := registry.WriteImage(ctx, repo, img, nil)
			specs[i] = repo.Digest(desc.Digest.String()).String()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return writeSpecs(list, specs)
}

// randomLayer is a layer with one file of bytes made from a seed.
func randomLayer(seed uint64, size int) (v1.Layer, error) {
	content := make([]byte, size)
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	if _, err := rand.NewChaCha8(key).Read(content); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	if err := tw.WriteHeader(&tar.Header{Name: "content", Mode: 0o644, Size: int64(size)}); err != nil {
		return nil, err
	}
	if _, err := tw.Write(content); err != nil {
		return nil, err
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil })
}

// largeImage writes an image with one layer of size incompressible bytes to the
// layout of localLarge below dir.
func largeImage(ctx context.Context, dir string, size int64) error {
	path := filepath.Join(dir, "blob")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{7}), size); err != nil {
		return err
	}
	layer := &fileLayer{path: path}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if layer.digest, layer.size, err = v1.SHA256(f); err != nil {
		return err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.Append(img, mutate.Addendum{Layer: layer, MediaType: layer.media()})
	if err != nil {
		return err
	}
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	desc, err := registry.WriteImage(ctx, localLarge, img, nil)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return registry.Tag(ctx, localLarge.Tag("1"), desc.Digest)
}

// localLarge is where the large image is, and largePath its folder.
var localLarge = name.MustParseReference("localhost/" + largePath + ":1").Context()

const largePath = "large"

// fileLayer is a layer that is not compressed, in a file.
type fileLayer struct {
	path   string
	digest v1.Hash
	size   int64
}

func (l *fileLayer) media() types.MediaType               { return types.OCIUncompressedLayer }
func (l *fileLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *fileLayer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l *fileLayer) Size() (int64, error)                 { return l.size, nil }
func (l *fileLayer) MediaType() (types.MediaType, error)  { return l.media(), nil }
func (l *fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l *fileLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.path) }
