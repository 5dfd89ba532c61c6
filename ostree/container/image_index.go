package container

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Index joins the images of several architectures into one index, sorted by
// platform, so that the same images give the same digest. They must be of one
// version and each of another platform.
func Index(images ...v1.Image) (v1.ImageIndex, error) {
	idx, err := index(images)
	if err != nil {
		return nil, &Error{"index", "images", err}
	}
	return idx, nil
}

func index(images []v1.Image) (v1.ImageIndex, error) {
	if len(images) == 0 {
		return nil, errors.New("no images")
	}
	type member struct {
		mutate.IndexAddendum
		platform, version string
	}
	var members []member
	for i, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("image %d: %w", i, err)
		}
		p := config.Platform()
		if p == nil || p.OS == "" || p.Architecture == "" {
			return nil, fmt.Errorf("image %d names no platform", i)
		}
		p.OSFeatures, p.Features = nil, nil
		mediaType, err := img.MediaType()
		if err != nil {
			return nil, fmt.Errorf("image %d: %w", i, err)
		}
		// An image may leave the type to its descriptor.
		desc := v1.Descriptor{MediaType: cmp.Or(mediaType, types.OCIManifestSchema1), Platform: p}
		members = append(members, member{mutate.IndexAddendum{Add: img, Descriptor: desc}, p.String(), config.Config.Labels[LabelVersion]})
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.platform, b.platform) })
	var add []mutate.IndexAddendum
	for i, m := range members {
		if i > 0 && m.platform == members[i-1].platform {
			return nil, fmt.Errorf("two images for %s", m.platform)
		}
		if m.version != members[0].version {
			return nil, fmt.Errorf("the image for %s is version %q, that for %s %q", m.platform, m.version, members[0].platform, members[0].version)
		}
		add = append(add, m.IndexAddendum)
	}
	idx := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), add...)
	if v := members[0].version; v != "" {
		idx = mutate.Annotations(idx, map[string]string{LabelVersion: v}).(v1.ImageIndex)
	}
	return idx, nil
}
