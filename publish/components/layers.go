package components

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// keepLayers gives a built image with the layers that it has of an image it is built
// on as that image has them. Builders unpack images and pack them again, and their
// layers come back under other digests; a payload of two hundred images on one base
// would have that two hundred times.
func (r *runner) keepLayers(ctx context.Context, img v1.Image, in *input) (v1.Image, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%d layers with %d diff IDs", len(m.Layers), len(config.RootFS.DiffIDs))
	}
	var base v1.Image
	var ids []v1.Hash
	for _, local := range slices.Sorted(maps.Keys(in.bases)) {
		ref, err := name.NewDigest(in.bases[local])
		if err != nil {
			return nil, err
		}
		one, err := r.images.Image(ctx, ref)
		if err != nil {
			return nil, err
		}
		c, err := one.ConfigFile()
		if err != nil {
			return nil, err
		}
		if n := len(c.RootFS.DiffIDs); n > len(ids) && n <= len(config.RootFS.DiffIDs) && slices.Equal(c.RootFS.DiffIDs, config.RootFS.DiffIDs[:n]) {
			base, ids = one, c.RootFS.DiffIDs
		}
	}
	if base == nil {
		return img, nil
	}
	of, err := base.Manifest()
	if err != nil {
		return nil, err
	}
	if len(of.Layers) != len(ids) {
		return img, nil
	}
	out := &layered{built: img}
	for i, l := range m.Layers {
		if i >= len(ids) {
			out.from = append(out.from, img)
			continue
		}
		mediaType, ok := ociLayers[of.Layers[i].MediaType]
		if !ok {
			return img, nil
		}
		m.Layers[i] = v1.Descriptor{MediaType: mediaType, Digest: of.Layers[i].Digest, Size: of.Layers[i].Size, Annotations: l.Annotations}
		out.from = append(out.from, base)
	}
	out.manifest = m
	if out.raw, err = json.Marshal(m); err != nil {
		return nil, err
	}
	return partial.CompressedToImage(out)
}

// asOCI gives an image as an OCI layout has it: Docker's, and those of which the
// manifest is Docker's and a layer is not, are not read from there by all builders.
func asOCI(img v1.Image) (v1.Image, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	if m.MediaType == types.OCIManifestSchema1 {
		return img, nil
	}
	m.MediaType, m.Config.MediaType = types.OCIManifestSchema1, types.OCIConfigJSON
	out := &layered{built: img, manifest: m}
	for i := range m.Layers {
		mediaType, ok := ociLayers[m.Layers[i].MediaType]
		if !ok {
			return img, nil
		}
		m.Layers[i].MediaType = mediaType
		out.from = append(out.from, img)
	}
	if out.raw, err = json.Marshal(m); err != nil {
		return nil, err
	}
	return partial.CompressedToImage(out)
}

// ociLayers are the media types that layers have in an OCI manifest.
var ociLayers = map[types.MediaType]types.MediaType{
	types.OCILayer:                types.OCILayer,
	types.OCILayerZStd:            types.OCILayerZStd,
	types.OCIUncompressedLayer:    types.OCIUncompressedLayer,
	types.DockerLayer:             types.OCILayer,
	types.DockerUncompressedLayer: types.OCIUncompressedLayer,
}

// layered is an image with another manifest, whose layers are in others.
type layered struct {
	built    v1.Image
	manifest *v1.Manifest
	raw      []byte
	from     []v1.Image
}

func (l *layered) RawConfigFile() ([]byte, error)      { return l.built.RawConfigFile() }
func (l *layered) MediaType() (types.MediaType, error) { return l.manifest.MediaType, nil }
func (l *layered) RawManifest() ([]byte, error)        { return bytes.Clone(l.raw), nil }

func (l *layered) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	for i, d := range l.manifest.Layers {
		if d.Digest == digest {
			return l.from[i].LayerByDigest(digest)
		}
	}
	return nil, fmt.Errorf("publish/components: layer %s: %w", digest, fs.ErrNotExist)
}
