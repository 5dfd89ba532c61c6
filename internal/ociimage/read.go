package ociimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/internal/verify"
)

// Limits of what is read whole.
const (
	// MaxManifestSize is what the distribution specification asks every
	// registry to accept, and what most refuse to exceed, bytes.
	MaxManifestSize = 4 << 20
	// MaxConfigSize bounds an image configuration, bytes.
	MaxConfigSize = 16 << 20
	// MaxDepth bounds how deep indexes nest.
	MaxDepth = 4
	// MaxTreeSize bounds the manifests under one index together, bytes.
	MaxTreeSize = 64 << 20
)

// Repository fetches by digest. Both methods verify digest and size, and
// answer [io/fs.ErrNotExist] for what is missing.
type Repository interface {
	Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error)
	Blob(ctx context.Context, desc v1.Descriptor) (io.ReadCloser, error)
}

// CheckManifestSize refuses what is not read whole.
func CheckManifestSize(size int64) error {
	if size < 0 || size > MaxManifestSize {
		return fmt.Errorf("manifest of %d bytes, limit %d: %w", size, MaxManifestSize, errors.ErrUnsupported)
	}
	return nil
}

// manifest is what all kinds have, to tell them apart.
type manifest struct {
	SchemaVersion int64           `json:"schemaVersion"`
	MediaType     types.MediaType `json:"mediaType"`
	Config        json.RawMessage `json:"config"`
	Layers        entries         `json:"layers"`
	Manifests     entries         `json:"manifests"`
}

// entries is a list of descriptors: whether it is there, be it null, and how many it has.
type entries struct {
	there bool
	count int
}

// UnmarshalJSON counts without making room for anything.
func (e *entries) UnmarshalJSON(data []byte) error {
	var list []struct{}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	e.there, e.count = true, max(e.count, len(list))
	return nil
}

// minDescriptor is less than a descriptor's digest alone has in a manifest, bytes.
const minDescriptor = 64

// MediaType is the media type of a manifest: what it says itself or, where it
// is silent, what was said about it. Two different answers are an error, for
// the same bytes would mean two things. said may be empty.
func MediaType(raw []byte, said types.MediaType) (types.MediaType, error) {
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", fmt.Errorf("manifest: %w", err)
	}
	if m.SchemaVersion == 1 {
		return "", fmt.Errorf("manifest of schema version 1: %w", errors.ErrUnsupported)
	}
	if m.Manifests.there && (m.Config != nil || m.Layers.there) {
		return "", errors.New("manifest is an index and an image at once")
	}
	// The smallest entry has two bytes, and takes a hundred times as many.
	if n := max(m.Layers.count, m.Manifests.count); n > len(raw)/minDescriptor {
		return "", fmt.Errorf("manifest of %d bytes with %d entries, which cannot all have a digest", len(raw), n)
	}
	switch {
	case m.MediaType != "" && said != "" && m.MediaType != said:
		return "", fmt.Errorf("manifest says it is %.100q but was given as %.100q", m.MediaType, said)
	case m.MediaType != "":
		said = m.MediaType
	case said != "":
	case m.Manifests.there:
		said = types.OCIImageIndex
	default:
		said = types.OCIManifestSchema1
	}
	if said.IsIndex() != m.Manifests.there {
		return "", fmt.Errorf("manifest given as %.100q has the content of another type", said)
	}
	return said, nil
}

// decodeImage parses an image manifest and checks its descriptors.
func decodeImage(raw []byte, said types.MediaType) (*v1.Manifest, types.MediaType, error) {
	mt, err := MediaType(raw, said)
	if err != nil {
		return nil, "", err
	}
	if !mt.IsImage() {
		return nil, "", fmt.Errorf("%.100q is not an image: %w", mt, errors.ErrUnsupported)
	}
	m := new(v1.Manifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, "", fmt.Errorf("image manifest: %w", err)
	}
	sizes := map[v1.Hash]int64{}
	for i, desc := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		where := "config"
		if i > 0 {
			where = fmt.Sprintf("layer %d", i)
		}
		if err := checkDescriptor(desc); err != nil {
			return nil, "", fmt.Errorf("image manifest: %s: %w", where, err)
		}
		if size, ok := sizes[desc.Digest]; ok && size != desc.Size {
			return nil, "", fmt.Errorf("image manifest: %s: %s has %d bytes here and %d elsewhere: %w", where, desc.Digest, desc.Size, size, verify.ErrDigest)
		}
		sizes[desc.Digest] = desc.Size
	}
	return m, mt, nil
}

// decodeIndex parses an index manifest and checks its descriptors.
func decodeIndex(raw []byte, said types.MediaType) (*v1.IndexManifest, types.MediaType, error) {
	mt, err := MediaType(raw, said)
	if err != nil {
		return nil, "", err
	}
	if !mt.IsIndex() {
		return nil, "", fmt.Errorf("%.100q is not an index: %w", mt, errors.ErrUnsupported)
	}
	m := new(v1.IndexManifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, "", fmt.Errorf("index manifest: %w", err)
	}
	for i, desc := range m.Manifests {
		if err := checkDescriptor(desc); err != nil {
			return nil, "", fmt.Errorf("index manifest: entry %d: %w", i+1, err)
		}
	}
	return m, mt, nil
}

func checkDescriptor(desc v1.Descriptor) error {
	if err := CheckDigest(desc.Digest); err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("%s has %d bytes: %w", desc.Digest, desc.Size, verify.ErrDigest)
	}
	return nil
}

// tagPattern is a tag in the distribution specification.
var tagPattern = lazyregexp.New(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// CheckTag refuses what no registry takes for a tag.
func CheckTag(tag string) error {
	if !tagPattern.MatchString(tag) {
		return fmt.Errorf("%.140q is not a tag", tag)
	}
	return nil
}

// CheckDigest refuses digests that were not made by [v1.NewHash], for they
// become parts of paths and URLs.
func CheckDigest(h v1.Hash) error {
	if h == (v1.Hash{}) {
		return errors.New("digest is missing")
	}
	got, err := v1.NewHash(h.String())
	if err != nil || got != h {
		return fmt.Errorf("digest %.100q is not one of sha256 or sha512: %w", h.String(), errors.ErrUnsupported)
	}
	return nil
}

// NewImage gives the image whose manifest is raw, its bytes verified already.
// ctx governs the reads that the image's methods make.
func NewImage(ctx context.Context, repo Repository, desc v1.Descriptor, raw []byte) (v1.Image, error) {
	m, mt, err := decodeImage(raw, desc.MediaType)
	if err != nil {
		return nil, err
	}
	core := &image{ctx: ctx, repo: repo, raw: raw, manifest: m, desc: desc}
	core.desc.MediaType = mt
	full, err := partial.CompressedToImage(core)
	if err != nil {
		return nil, err
	}
	return described{full, core}, nil
}

// described adds what the extender hides.
type described struct {
	v1.Image
	core *image
}

// Descriptor is [partial.Descriptor]'s source.
func (d described) Descriptor() (*v1.Descriptor, error) { return d.core.desc.DeepCopy(), nil }

type image struct {
	ctx      context.Context // v1.Image's methods take none
	repo     Repository
	raw      []byte
	manifest *v1.Manifest
	desc     v1.Descriptor

	mu     sync.Mutex
	config []byte
}

func (i *image) MediaType() (types.MediaType, error) { return i.desc.MediaType, nil }
func (i *image) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i *image) Manifest() (*v1.Manifest, error)     { return i.manifest.DeepCopy(), nil }

// ConfigFile completes what [partial.BlobToDiffID] needs.
func (i *image) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(i) }

func (i *image) RawConfigFile() ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.config != nil {
		return i.config, nil
	}
	desc := i.manifest.Config
	if desc.Size > MaxConfigSize {
		return nil, fmt.Errorf("image config %s of %d bytes, limit %d: %w", desc.Digest, desc.Size, MaxConfigSize, errors.ErrUnsupported)
	}
	rc, err := i.repo.Blob(i.ctx, desc)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	i.config = data
	return data, nil
}

func (i *image) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if h == i.manifest.Config.Digest {
		return partial.ConfigLayer(i)
	}
	for _, desc := range i.manifest.Layers {
		if desc.Digest == h {
			return &layer{image: i, desc: desc}, nil
		}
	}
	return nil, fmt.Errorf("image %s has no layer %s: %w", i.desc.Digest, h, fs.ErrNotExist)
}

type layer struct {
	image *image
	desc  v1.Descriptor
}

func (l *layer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *layer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return partial.BlobToDiffID(l.image, l.desc.Digest) }
func (l *layer) Descriptor() (*v1.Descriptor, error) { return l.desc.DeepCopy(), nil }
func (l *layer) Compressed() (io.ReadCloser, error)  { return l.image.repo.Blob(l.image.ctx, l.desc) }

// NewIndex gives the index whose manifest is raw, its bytes verified already.
// ctx governs the reads that its methods, and those of its children, make.
func NewIndex(ctx context.Context, repo Repository, desc v1.Descriptor, raw []byte) (v1.ImageIndex, error) {
	m, mt, err := decodeIndex(raw, desc.MediaType)
	if err != nil {
		return nil, err
	}
	desc.MediaType = mt
	return &index{ctx: ctx, repo: repo, raw: raw, manifest: m, desc: desc}, nil
}

type index struct {
	ctx      context.Context // v1.ImageIndex's methods take none
	repo     Repository
	raw      []byte
	manifest *v1.IndexManifest
	desc     v1.Descriptor
}

func (x *index) MediaType() (types.MediaType, error)       { return x.desc.MediaType, nil }
func (x *index) Digest() (v1.Hash, error)                  { return x.desc.Digest, nil }
func (x *index) Size() (int64, error)                      { return x.desc.Size, nil }
func (x *index) RawManifest() ([]byte, error)              { return x.raw, nil }
func (x *index) IndexManifest() (*v1.IndexManifest, error) { return x.manifest.DeepCopy(), nil }
func (x *index) Descriptor() (*v1.Descriptor, error)       { return x.desc.DeepCopy(), nil }

// child finds an entry and fetches its manifest.
func (x *index) child(h v1.Hash) (v1.Descriptor, []byte, error) {
	for _, desc := range x.manifest.Manifests {
		if desc.Digest != h {
			continue
		}
		if err := CheckManifestSize(desc.Size); err != nil {
			return desc, nil, fmt.Errorf("index %s: %s: %w", x.desc.Digest, h, err)
		}
		raw, err := x.repo.Manifest(x.ctx, desc)
		return desc, raw, err
	}
	return v1.Descriptor{}, nil, fmt.Errorf("index %s has no entry %s: %w", x.desc.Digest, h, fs.ErrNotExist)
}

func (x *index) Image(h v1.Hash) (v1.Image, error) {
	desc, raw, err := x.child(h)
	if err != nil {
		return nil, err
	}
	return NewImage(x.ctx, x.repo, desc, raw)
}

func (x *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	desc, raw, err := x.child(h)
	if err != nil {
		return nil, err
	}
	return NewIndex(x.ctx, x.repo, desc, raw)
}
