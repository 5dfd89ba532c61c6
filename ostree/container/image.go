package container

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/verify"
)

// image is a [v1.Image] whose documents are in memory and whose layers are in
// the cache or in the prior image.
type image struct {
	config, manifest []byte
	layers           []builtLayer
}

func (i *image) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, len(i.layers))
	for k := range i.layers {
		layers[k] = i.layers[k].Layer
	}
	return layers, nil
}

func (i *image) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (i *image) Size() (int64, error)                { return int64(len(i.manifest)), nil }
func (i *image) RawManifest() ([]byte, error)        { return bytes.Clone(i.manifest), nil }
func (i *image) RawConfigFile() ([]byte, error)      { return bytes.Clone(i.config), nil }
func (i *image) Manifest() (*v1.Manifest, error) {
	return v1.ParseManifest(bytes.NewReader(i.manifest))
}
func (i *image) ConfigFile() (*v1.ConfigFile, error) {
	return v1.ParseConfigFile(bytes.NewReader(i.config))
}

func (i *image) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(i.manifest))
	return h, err
}

func (i *image) ConfigName() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(i.config))
	return h, err
}

func (i *image) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	for _, l := range i.layers {
		if l.descriptor.Digest == h {
			return l.Layer, nil
		}
	}
	if config, err := i.ConfigName(); err == nil && config == h {
		return configLayer{i.config, h}, nil
	}
	return nil, &Error{"read", h.String(), fmt.Errorf("no such layer: %w", fs.ErrNotExist)}
}

func (i *image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	for _, l := range i.layers {
		if l.diffID == h {
			return l.Layer, nil
		}
	}
	return nil, &Error{"read", h.String(), fmt.Errorf("no such layer: %w", fs.ErrNotExist)}
}

// cachedLayer is a layer whose blob is in the cache: opening it is opening a
// file.
type cachedLayer struct {
	cache     *Cache
	record    layerRecord
	mediaType types.MediaType
}

func (l *cachedLayer) Digest() (v1.Hash, error)             { return l.record.Digest, nil }
func (l *cachedLayer) DiffID() (v1.Hash, error)             { return l.record.DiffID, nil }
func (l *cachedLayer) Size() (int64, error)                 { return l.record.Size, nil }
func (l *cachedLayer) MediaType() (types.MediaType, error)  { return l.mediaType, nil }
func (l *cachedLayer) Compressed() (io.ReadCloser, error)   { return l.cache.openBlob(l.record) }
func (l *cachedLayer) Uncompressed() (io.ReadCloser, error) { return uncompressed(l) }

// priorLayer is a layer of the prior image, with its digests at hand.
type priorLayer struct {
	v1.Layer
	diffID     v1.Hash
	descriptor v1.Descriptor
}

func (l *priorLayer) Digest() (v1.Hash, error)            { return l.descriptor.Digest, nil }
func (l *priorLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *priorLayer) Size() (int64, error)                { return l.descriptor.Size, nil }
func (l *priorLayer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }

// Compressed gives the prior image's bytes, checked at their end.
func (l *priorLayer) Compressed() (io.ReadCloser, error) {
	return openChecked(l.Layer, l.descriptor.Digest, l.descriptor.Size)
}

func (l *priorLayer) Uncompressed() (io.ReadCloser, error) { return uncompressed(l) }

// openChecked opens a layer's blob; at its end digest and size are verified.
func openChecked(l v1.Layer, digest v1.Hash, size int64) (io.ReadCloser, error) {
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	checked, err := verify.NewReader(rc, digest, size)
	if err != nil {
		rc.Close()
		return nil, err
	}
	return readCloser{checked, rc}, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// uncompressed decompresses a layer by what its bytes say they are.
func uncompressed(l interface {
	Compressed() (io.ReadCloser, error)
}) (io.ReadCloser, error) {
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	plain, err := decompress.NewReader(rc)
	if err != nil {
		rc.Close()
		return nil, err
	}
	return readCloser{plain, closers{plain, rc}}, nil
}

type closers []io.Closer

func (c closers) Close() error {
	var first error
	for _, one := range c {
		if err := one.Close(); first == nil {
			first = err
		}
	}
	return first
}

// configLayer serves the config as a blob, as go-containerregistry expects.
type configLayer struct {
	data   []byte
	digest v1.Hash
}

func (c configLayer) Digest() (v1.Hash, error)            { return c.digest, nil }
func (c configLayer) DiffID() (v1.Hash, error)            { return c.digest, nil }
func (c configLayer) Size() (int64, error)                { return int64(len(c.data)), nil }
func (c configLayer) MediaType() (types.MediaType, error) { return types.OCIConfigJSON, nil }

func (c configLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(c.data)), nil
}

func (c configLayer) Uncompressed() (io.ReadCloser, error) { return c.Compressed() }
