package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// releaseIndex is a [v1.ImageIndex] of release images.
type releaseIndex struct {
	raw      []byte
	manifest v1.IndexManifest
	images   map[v1.Hash]*releaseImage
}

type blobIndex struct {
	SchemaVersion int64           `json:"schemaVersion"`
	MediaType     types.MediaType `json:"mediaType"`
	Manifests     []blobChild     `json:"manifests"`
}

type blobChild struct {
	MediaType types.MediaType `json:"mediaType"`
	Digest    v1.Hash         `json:"digest"`
	Size      int64           `json:"size"`
	Platform  *v1.Platform    `json:"platform"`
}

// newReleaseIndex lists images, made from bases, as base's index lists those.
// The images are Docker's, so the index is too. oc keeps the base's types,
// which is wrong where those are OCI's.
func newReleaseIndex(base *fetched, bases []*fetched, images []*releaseImage, compatible bool) (*releaseIndex, error) {
	x := &releaseIndex{images: map[v1.Hash]*releaseImage{}}
	m := blobIndex{SchemaVersion: 2, MediaType: types.DockerManifestList}
	if compatible && base.list.MediaType != "" {
		m.MediaType = base.list.MediaType
	}
	for i, b := range bases {
		child := blobChild{MediaType: types.DockerManifestSchema2, Digest: digestOf(images[i].raw), Size: int64(len(images[i].raw))}
		for _, desc := range base.list.Manifests {
			if desc.Digest == b.digest {
				child.Platform = desc.Platform
				if compatible {
					child.MediaType = desc.MediaType
				}
			}
		}
		m.Manifests = append(m.Manifests, child)
		x.images[child.Digest] = images[i]
	}
	raw, err := json.MarshalIndent(m, "", "   ")
	if err != nil {
		return nil, err
	}
	x.raw = raw
	return x, json.Unmarshal(raw, &x.manifest)
}

func (x *releaseIndex) MediaType() (types.MediaType, error)       { return x.manifest.MediaType, nil }
func (x *releaseIndex) Digest() (v1.Hash, error)                  { return digestOf(x.raw), nil }
func (x *releaseIndex) Size() (int64, error)                      { return int64(len(x.raw)), nil }
func (x *releaseIndex) IndexManifest() (*v1.IndexManifest, error) { return x.manifest.DeepCopy(), nil }
func (x *releaseIndex) RawManifest() ([]byte, error)              { return bytes.Clone(x.raw), nil }

func (x *releaseIndex) Image(h v1.Hash) (v1.Image, error) {
	if img, ok := x.images[h]; ok {
		return img, nil
	}
	return nil, fmt.Errorf("payload: image %s: %w", h, fs.ErrNotExist)
}

func (x *releaseIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("payload: index %s: %w", h, fs.ErrNotExist)
}
