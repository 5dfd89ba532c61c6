package payload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// ComponentImage is the image of a component, its manifest and configuration
// verified.
type ComponentImage struct {
	Tag    string
	Ref    name.Digest
	Digest v1.Hash // of its manifest
	// ListDigest is of the index that Digest was chosen from, zero if none.
	ListDigest v1.Hash
	MediaType  types.MediaType
	Layers     []v1.Descriptor
	Labels     map[string]string
	RawConfig  []byte

	config imageConfig
}

// MarshalJSON writes the members that oc writes of an image.
func (c ComponentImage) MarshalJSON() ([]byte, error) {
	config, err := json.Marshal(c.config)
	if err != nil {
		return nil, err
	}
	layers := make([]blobDescriptor, len(c.Layers))
	for i, d := range c.Layers {
		layers[i] = blobDescriptor{d.MediaType, d.Digest, d.Size, d.URLs}
	}
	digest := c.Digest
	list := ""
	if c.ListDigest != (v1.Hash{}) {
		digest, list = c.ListDigest, c.ListDigest.String()
	}
	var o object
	o.put("name", c.Ref.Name())
	o.put("digest", digest)
	o.put("contentDigest", c.Digest)
	o.put("listDigest", list)
	o.put("mediaType", c.MediaType)
	o.put("layers", layers)
	o.put("config", json.RawMessage(config))
	return o.bytes()
}

// ComponentsOptions say how [Release.Components] reads. Nil is the default.
type ComponentsOptions struct {
	// Platform to choose from indexes. Default linux/amd64.
	Platform v1.Platform
	// Workers is how many images are read at one time. Default 32, limit 64.
	Workers int
}

// Components reads manifest and configuration of every component, by tag,
// which shows that they are all there and what their digests promise. Of those
// that are not, it names all in one error.
func (r *Release) Components(ctx context.Context, src Images, opts *ComponentsOptions) ([]ComponentImage, error) {
	if opts == nil {
		opts = &ComponentsOptions{}
	}
	fetched, err := r.fetchComponents(ctx, src, nil, opts.Platform, opts.Workers)
	if err != nil {
		return nil, err
	}
	out := make([]ComponentImage, 0, len(fetched))
	for _, tag := range slices.Sorted(maps.Keys(fetched)) {
		f := fetched[tag]
		out = append(out, ComponentImage{
			Tag: tag, Ref: f.ref.(name.Digest), Digest: f.digest, ListDigest: f.listDigest, MediaType: f.mediaType,
			Layers: f.manifest.Layers, Labels: f.labels(), RawConfig: f.rawConfig, config: f.config,
		})
	}
	return out, nil
}

// fetchComponents reads the images with these tags, nil: of all. An image that
// several tags name is read once.
func (r *Release) fetchComponents(ctx context.Context, src Images, tags []string, platform v1.Platform, workers int) (map[string]*fetched, error) {
	if platform.Equals(v1.Platform{}) {
		platform = defaultPlatform
	}
	if workers <= 0 {
		workers = defaultWorkers
	}
	if tags == nil {
		for _, t := range r.References.Tags {
			if t.Kind == dockerImage {
				tags = append(tags, t.Name)
			}
		}
	}
	byPullspec := map[string][]string{}
	for _, tag := range tags {
		ref, err := r.Image(tag)
		if err != nil {
			return nil, err
		}
		byPullspec[ref.Name()] = append(byPullspec[ref.Name()], tag)
	}
	var mu sync.Mutex
	out := make(map[string]*fetched, len(tags))
	faults := map[string]error{}
	var g errgroup.Group // ctx is not to end with it, for images are read later
	g.SetLimit(min(workers, 64))
	for _, spec := range slices.Sorted(maps.Keys(byPullspec)) {
		g.Go(func() error {
			ref, err := name.NewDigest(spec)
			if err != nil {
				return err
			}
			f, err := fetch(ctx, src, ref, platform)
			mu.Lock()
			defer mu.Unlock()
			for _, tag := range byPullspec[spec] {
				out[tag] = f
				if err != nil {
					faults[tag] = &Error{Op: "read", Target: "component " + tag, Err: err}
				}
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var errs []error
	for _, tag := range slices.Sorted(maps.Keys(faults)) {
		errs = append(errs, faults[tag])
	}
	return out, errors.Join(errs...)
}

// Size is what a component takes in a registry.
type Size struct {
	Tag string
	// Total are the bytes of its compressed layers, Unique of those that no
	// other component has.
	Total, Unique int64
	Layers        int // how many
	// Base numbers the first layer, from 1, in the order in which components
	// have it; components with the same base share its layer. 0: no layer.
	Base int
}

// Sizes says how components share layers: for each, in the order given, its
// size and what of it is its own, and the bytes and number of all distinct
// layers.
func Sizes(components []ComponentImage) (sizes []Size, total int64, layers int) {
	users := map[v1.Hash]int{}
	bases := map[v1.Hash]int{}
	for _, c := range components {
		seen := map[v1.Hash]bool{}
		for i, l := range c.Layers {
			if i == 0 && bases[l.Digest] == 0 {
				bases[l.Digest] = len(bases) + 1
			}
			if seen[l.Digest] {
				continue
			}
			seen[l.Digest] = true
			if users[l.Digest]++; users[l.Digest] == 1 {
				total += l.Size
			}
		}
	}
	for _, c := range components {
		s := Size{Tag: c.Tag, Layers: len(c.Layers)}
		seen := map[v1.Hash]bool{}
		for i, l := range c.Layers {
			if i == 0 {
				s.Base = bases[l.Digest]
			}
			s.Total += l.Size
			if users[l.Digest] == 1 && !seen[l.Digest] {
				s.Unique += l.Size
			}
			seen[l.Digest] = true
		}
		sizes = append(sizes, s)
	}
	return sizes, total, len(users)
}

// baseName is the letter or, where there are many, the number of a base.
func baseName(base, bases int) string {
	switch {
	case base == 0 || bases < 2:
		return ""
	case bases <= 5:
		return string(rune('A' + base - 1))
	}
	return fmt.Sprint(base)
}
