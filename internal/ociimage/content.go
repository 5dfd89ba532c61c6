package ociimage

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Content is what a manifest names, each digest once.
type Content struct {
	MediaType types.MediaType
	// Blobs are an image's config and layers, without the layers that are
	// fetched from elsewhere (foreign layers with URLs).
	Blobs    []v1.Descriptor
	Children []v1.Descriptor // of an index
	Subject  *v1.Descriptor  // what a referrer refers to; else nil
	// ArtifactType is the manifest's own or, as the distribution specification
	// has it for image manifests without one, its config's media type.
	ArtifactType string
	Annotations  map[string]string
}

// Decode reads what a manifest names, and refuses what [NewImage] and
// [NewIndex] refuse. said is the media type given for it; it may be empty.
func Decode(raw []byte, said types.MediaType) (*Content, error) {
	mt, err := MediaType(raw, said)
	if err != nil {
		return nil, err
	}
	c := new(Content)
	seen := map[v1.Hash]bool{}
	once := func(list []v1.Descriptor, d v1.Descriptor) []v1.Descriptor {
		if seen[d.Digest] {
			return list
		}
		seen[d.Digest] = true
		return append(list, d)
	}
	if mt.IsIndex() {
		m, mt, err := decodeIndex(raw, mt)
		if err != nil {
			return nil, err
		}
		c.MediaType, c.Subject, c.ArtifactType, c.Annotations = mt, m.Subject, m.ArtifactType, m.Annotations
		for _, d := range m.Manifests {
			c.Children = once(c.Children, d)
		}
	} else {
		m, mt, err := decodeImage(raw, mt)
		if err != nil {
			return nil, err
		}
		c.MediaType, c.Subject, c.ArtifactType, c.Annotations = mt, m.Subject, m.ArtifactType, m.Annotations
		if c.ArtifactType == "" {
			c.ArtifactType = string(m.Config.MediaType)
		}
		c.Blobs = once(nil, m.Config)
		for _, d := range m.Layers {
			if !isForeign(d) {
				c.Blobs = once(c.Blobs, d)
			}
		}
	}
	if c.Subject != nil {
		if err := checkDescriptor(*c.Subject); err != nil {
			return nil, fmt.Errorf("manifest: subject: %w", err)
		}
	}
	return c, nil
}

// isForeign says that a layer is fetched from elsewhere.
func isForeign(d v1.Descriptor) bool { return !d.MediaType.IsDistributable() && len(d.URLs) > 0 }
