package ociimage

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/verify"
)

// Manifest is one manifest to write, with the blobs that must be there before.
type Manifest struct {
	Desc  v1.Descriptor // media type, digest and size
	Raw   []byte
	Blobs []Blob // each digest once; none for an index
}

// Blob is a blob to write. The bytes that Open gives are not verified.
type Blob struct {
	Desc v1.Descriptor
	Open func() (io.ReadCloser, error)
}

// FromImage lists what has to be written for img. Layers that are fetched from
// elsewhere (foreign layers with URLs) are left out, as every registry client
// does. An image whose manifest does not have the digest that the image claims
// gives [verify.ErrDigest]; one whose layers are not computed yet,
// [errors.ErrUnsupported].
func FromImage(img v1.Image) (Manifest, error) {
	raw, err := img.RawManifest()
	if err != nil {
		return Manifest{}, fmt.Errorf("image manifest: %w", err)
	}
	mt, err := img.MediaType()
	if err != nil {
		return Manifest{}, fmt.Errorf("image media type: %w", err)
	}
	m, mt, err := decodeImage(raw, mt)
	if err != nil {
		return Manifest{}, err
	}
	desc, err := describe(img, raw)
	if err != nil {
		return Manifest{}, err
	}
	desc.MediaType = mt
	out := Manifest{Desc: desc, Raw: raw}
	seen := map[v1.Hash]bool{}
	add := func(d v1.Descriptor, open func() (io.ReadCloser, error)) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			out.Blobs = append(out.Blobs, Blob{Desc: d, Open: open})
		}
	}
	add(m.Config, func() (io.ReadCloser, error) {
		config, err := img.RawConfigFile()
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(config)), nil
	})
	for _, d := range m.Layers {
		if isForeign(d) {
			continue
		}
		add(d, func() (io.ReadCloser, error) {
			l, err := img.LayerByDigest(d.Digest)
			if err != nil {
				return nil, err
			}
			return l.Compressed()
		})
	}
	return out, nil
}

// FromIndex lists what has to be written for idx, children before what names
// them, each digest once. Entries that are neither images nor indexes give
// [errors.ErrUnsupported].
func FromIndex(idx v1.ImageIndex) ([]Manifest, error) {
	w := walk{seen: map[v1.Hash]bool{}}
	if err := w.index(idx, nil, 1); err != nil {
		return nil, err
	}
	return w.out, nil
}

type walk struct {
	out  []Manifest
	seen map[v1.Hash]bool
	size int64
}

func (w *walk) add(m Manifest, want *v1.Descriptor) error {
	if want != nil && (m.Desc.Digest != want.Digest || m.Desc.Size != want.Size || want.MediaType != "" && m.Desc.MediaType != want.MediaType) {
		return fmt.Errorf("child is %s (%.100q, %d bytes), its index says %s (%.100q, %d bytes): %w",
			m.Desc.Digest, m.Desc.MediaType, m.Desc.Size, want.Digest, want.MediaType, want.Size, verify.ErrDigest)
	}
	if w.seen[m.Desc.Digest] {
		return nil
	}
	w.seen[m.Desc.Digest] = true
	if w.size += m.Desc.Size; w.size > MaxTreeSize {
		return fmt.Errorf("index with manifests of more than %d bytes: %w", MaxTreeSize, errors.ErrUnsupported)
	}
	w.out = append(w.out, m)
	return nil
}

func (w *walk) index(idx v1.ImageIndex, want *v1.Descriptor, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("indexes nested more than %d deep: %w", MaxDepth, errors.ErrUnsupported)
	}
	raw, err := idx.RawManifest()
	if err != nil {
		return fmt.Errorf("index manifest: %w", err)
	}
	mt, err := idx.MediaType()
	if err != nil {
		return fmt.Errorf("index media type: %w", err)
	}
	m, mt, err := decodeIndex(raw, mt)
	if err != nil {
		return err
	}
	desc, err := describe(idx, raw)
	if err != nil {
		return err
	}
	desc.MediaType = mt
	for i, child := range m.Manifests {
		if w.seen[child.Digest] {
			continue
		}
		switch {
		case child.MediaType.IsIndex():
			sub, err := idx.ImageIndex(child.Digest)
			if err == nil {
				err = w.index(sub, &child, depth+1)
			}
			if err != nil {
				return fmt.Errorf("index entry %d: %w", i+1, err)
			}
		case child.MediaType.IsImage():
			img, err := idx.Image(child.Digest)
			if err != nil {
				return fmt.Errorf("index entry %d: %w", i+1, err)
			}
			sub, err := FromImage(img)
			if err == nil {
				err = w.add(sub, &child)
			}
			if err != nil {
				return fmt.Errorf("index entry %d: %w", i+1, err)
			}
		default:
			return fmt.Errorf("index entry %d is %.100q: %w", i+1, child.MediaType, errors.ErrUnsupported)
		}
	}
	return w.add(Manifest{Desc: desc, Raw: raw}, want)
}

// describe computes the descriptor of raw and holds it against the value's own.
func describe(value interface{ Digest() (v1.Hash, error) }, raw []byte) (v1.Descriptor, error) {
	if err := CheckManifestSize(int64(len(raw))); err != nil {
		return v1.Descriptor{}, err
	}
	claimed, err := value.Digest()
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("manifest digest: %w", err)
	}
	if err := verify.Bytes(raw, claimed, verify.SizeUnknown); err != nil {
		return v1.Descriptor{}, fmt.Errorf("manifest: %w", err)
	}
	return v1.Descriptor{Digest: claimed, Size: int64(len(raw))}, nil
}

// Size is the number of bytes of all manifests and blobs, each digest once.
func Size(list []Manifest) int64 {
	var total int64
	seen := map[v1.Hash]bool{}
	add := func(d v1.Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			total += d.Size
		}
	}
	for _, m := range list {
		add(m.Desc)
		for _, b := range m.Blobs {
			add(b.Desc)
		}
	}
	return total
}
