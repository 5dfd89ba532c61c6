package payload

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// releaseImage is a [v1.Image] all of whose digests are known; bytes of the
// base's layers are read from the base when they are asked for.
type releaseImage struct {
	raw       []byte
	rawConfig []byte
	manifest  v1.Manifest
	layers    []v1.Layer
	diffIDs   []v1.Hash
}

// blobManifest and blobDescriptor write a manifest as registries' own
// libraries do, which is what oc uses.
type blobManifest struct {
	SchemaVersion int64            `json:"schemaVersion"`
	MediaType     types.MediaType  `json:"mediaType"`
	Config        blobDescriptor   `json:"config"`
	Layers        []blobDescriptor `json:"layers"`
}

type blobDescriptor struct {
	MediaType types.MediaType `json:"mediaType"`
	Digest    v1.Hash         `json:"digest"`
	Size      int64           `json:"size"`
	URLs      []string        `json:"urls,omitempty"`
}

func digestOf(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// newReleaseImage puts layer on top of base.
func newReleaseImage(base *fetched, layer v1.Layer, desc v1.Descriptor, diffID v1.Hash, rawConfig []byte, mediaTypes []types.MediaType) (*releaseImage, error) {
	img := &releaseImage{rawConfig: rawConfig, diffIDs: append(slices.Clone(base.config.RootFS.DiffIDs), diffID)}
	m := blobManifest{
		SchemaVersion: 2,
		MediaType:     types.DockerManifestSchema2,
		Config:        blobDescriptor{MediaType: types.DockerConfigJSON, Digest: digestOf(rawConfig), Size: int64(len(rawConfig))},
		Layers:        make([]blobDescriptor, 0, len(base.manifest.Layers)+1),
	}
	for i, d := range base.manifest.Layers {
		m.Layers = append(m.Layers, blobDescriptor{mediaTypes[i], d.Digest, d.Size, d.URLs})
		img.layers = append(img.layers, baseLayer{
			desc:   v1.Descriptor{MediaType: mediaTypes[i], Digest: d.Digest, Size: d.Size, URLs: d.URLs},
			diffID: base.config.RootFS.DiffIDs[i],
			img:    base.img,
		})
	}
	m.Layers = append(m.Layers, blobDescriptor{desc.MediaType, desc.Digest, desc.Size, nil})
	img.layers = append(img.layers, layer)
	raw, err := json.MarshalIndent(m, "", "   ")
	if err != nil {
		return nil, err
	}
	img.raw = raw
	return img, json.Unmarshal(raw, &img.manifest)
}

func (i *releaseImage) Layers() ([]v1.Layer, error)         { return slices.Clone(i.layers), nil }
func (i *releaseImage) MediaType() (types.MediaType, error) { return i.manifest.MediaType, nil }
func (i *releaseImage) Size() (int64, error)                { return int64(len(i.raw)), nil }
func (i *releaseImage) ConfigName() (v1.Hash, error)        { return i.manifest.Config.Digest, nil }
func (i *releaseImage) RawConfigFile() ([]byte, error)      { return bytes.Clone(i.rawConfig), nil }
func (i *releaseImage) Digest() (v1.Hash, error)            { return digestOf(i.raw), nil }
func (i *releaseImage) Manifest() (*v1.Manifest, error)     { return i.manifest.DeepCopy(), nil }
func (i *releaseImage) RawManifest() ([]byte, error)        { return bytes.Clone(i.raw), nil }
func (i *releaseImage) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	if n := slices.Index(i.diffIDs, h); n >= 0 {
		return i.layers[n], nil
	}
	return nil, fmt.Errorf("payload: layer with diff ID %s: %w", h, fs.ErrNotExist)
}

func (i *releaseImage) ConfigFile() (*v1.ConfigFile, error) {
	return v1.ParseConfigFile(bytes.NewReader(i.rawConfig))
}

func (i *releaseImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	for n, d := range i.manifest.Layers {
		if d.Digest == h {
			return i.layers[n], nil
		}
	}
	return nil, fmt.Errorf("payload: layer %s: %w", h, fs.ErrNotExist)
}

// baseLayer is a layer of another image under a media type of our own.
type baseLayer struct {
	desc   v1.Descriptor
	diffID v1.Hash
	img    v1.Image
}

func (l baseLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l baseLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l baseLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l baseLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l baseLayer) Descriptor() (*v1.Descriptor, error) { return l.desc.DeepCopy(), nil }
func (l baseLayer) Compressed() (io.ReadCloser, error) {
	layer, err := l.img.LayerByDigest(l.desc.Digest)
	if err != nil {
		return nil, err
	}
	return layer.Compressed()
}

func (l baseLayer) Uncompressed() (io.ReadCloser, error) {
	layer, err := l.img.LayerByDigest(l.desc.Digest)
	if err != nil {
		return nil, err
	}
	return layer.Uncompressed()
}

// memoryLayer is the layer that was made here.
type memoryLayer struct {
	data   []byte
	desc   v1.Descriptor
	diffID v1.Hash
}

func (l memoryLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l memoryLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l memoryLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l memoryLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l memoryLayer) Descriptor() (*v1.Descriptor, error) { return l.desc.DeepCopy(), nil }
func (l memoryLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.data)), nil
}
func (l memoryLayer) Uncompressed() (io.ReadCloser, error) {
	return gzip.NewReader(bytes.NewReader(l.data))
}

// dockerTypes gives for each layer of the base the media type that a Docker
// manifest has for it. Of a layer without one it gives an error beside the
// type that it has.
func dockerTypes(base *fetched, compatible bool) ([]types.MediaType, error) {
	out := make([]types.MediaType, len(base.manifest.Layers))
	var errs []error
	for i, d := range base.manifest.Layers {
		out[i] = d.MediaType
		if compatible {
			continue
		}
		switch d.MediaType {
		case types.DockerLayer, types.DockerUncompressedLayer, types.DockerForeignLayer:
		case types.OCILayer:
			out[i] = types.DockerLayer
		case types.OCIUncompressedLayer:
			out[i] = types.DockerUncompressedLayer
		case types.OCIRestrictedLayer:
			out[i] = types.DockerForeignLayer
		default:
			errs = append(errs, fmt.Errorf("layer %d of the base image is %.100q, which a Docker manifest cannot have", i+1, d.MediaType))
		}
	}
	return out, errors.Join(errs...)
}
