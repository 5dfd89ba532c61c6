package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
)

// ReexportOptions are for [Reexport]; see [EncapsulateOptions].
type ReexportOptions struct {
	Codec         Codec
	Level         int
	FormatVersion int
	Workers       int
	Progress      func(ostree.Event)
}

// Reexport makes an image again of one that was imported into repo, with the
// same commit in the same layers; what its manifest and configuration say
// is kept as far as [Encapsulate] can say it. Images that Encapsulate or current
// bootc made come out with the same configuration and diff IDs, for the same
// format version; those that older ones made get the present dialect. A layer
// reserved for new components is there in any case.
//
// Layers that were added to the commit are kept as trees, not as what they were
// read from: such an image, one without a commit, and one whose layers share
// content wrap [errors.ErrUnsupported]; see [Rechunk]. One whose layers are no
// longer named in the repository wraps [fs.ErrNotExist].
func Reexport(ctx context.Context, cache *Cache, repo *ostree.Repo, image *StoredImage, opts *ReexportOptions) (v1.Image, error) {
	if opts == nil {
		opts = &ReexportOptions{}
	}
	out, err := reexport(ctx, cache, repo, image, opts)
	if err != nil {
		return nil, &Error{"reexport", image.Digest.String(), err}
	}
	return out, nil
}

func reexport(ctx context.Context, cache *Cache, repo *ostree.Repo, image *StoredImage, opts *ReexportOptions) (v1.Image, error) {
	layers, last, err := describeLayers(image.Manifest, image.Config)
	if err != nil {
		return nil, err
	}
	if last < 0 {
		return nil, fmt.Errorf("it has no commit: %w", errors.ErrUnsupported)
	}
	if last < len(layers)-1 {
		return nil, fmt.Errorf("%d layers were added to its commit: %w", len(layers)-1-last, errors.ErrUnsupported)
	}
	config := &image.Config.Config
	commit, err := ostree.ParseChecksum(config.Labels[LabelCommit])
	if err != nil {
		return nil, fmt.Errorf("label %s: %w", LabelCommit, err)
	}
	labels := maps.Clone(config.Labels)
	delete(labels, LabelCommit)
	delete(labels, LabelFinalDiffID)
	e := &EncapsulateOptions{
		Codec: opts.Codec, Level: opts.Level, FormatVersion: opts.FormatVersion, Workers: opts.Workers, Progress: opts.Progress,
		Labels: labels, Cmd: config.Cmd, Created: image.Config.Created.Time, Architecture: image.Config.Architecture,
	}
	if len(layers) > 1 {
		r := &reexporter{repo: repo, objects: map[ostree.Checksum]int{}, ids: map[string]bool{}}
		for i := range layers[1:] {
			if err := r.layer(ctx, i+1, &layers[i+1]); err != nil {
				return nil, fmt.Errorf("layer %d: %w", i+1, err)
			}
		}
		e.Components, e.Planner, e.MaxLayers = r.components, r.layout, max(len(r.layout)+1, 2)
		if e.Components == nil {
			e.Components = []Component{}
		}
	}
	return Encapsulate(ctx, cache, repo, commit, e)
}

// reexporter finds the components of stored layers.
type reexporter struct {
	repo       *ostree.Repo
	components []Component
	layout     Layout
	objects    map[ostree.Checksum]int // layers by content
	ids        map[string]bool
}

func (r *reexporter) layer(ctx context.Context, i int, l *Layer) error {
	objects, err := storedObjects(ctx, r.repo, l.Digest)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if other, ok := r.objects[o]; ok {
			return fmt.Errorf("object %s is in layer %d too: %w", o, other, errors.ErrUnsupported)
		}
		r.objects[o] = i
	}
	if len(objects) == 0 {
		return nil // Encapsulate reserves one itself
	}
	names := l.Components
	if len(names) == 0 {
		names = []string{fmt.Sprintf("layer %d", i)}
	}
	// The history has the components in the order of the plan, with versions,
	// if there are few. Which content was whose is not known, nor needed.
	ids := strings.Split(l.CreatedBy, " and ")
	if len(ids) != len(names) {
		ids = names
	}
	var chunk Chunk
	for k, id := range ids {
		for r.ids[id] {
			id += "'"
		}
		r.ids[id] = true
		c := Component{ID: id, Name: names[k]}
		if k == 0 {
			c.Objects = objects
		}
		r.components = append(r.components, c)
		chunk.Components = append(chunk.Components, id)
	}
	r.layout = append(r.layout, chunk)
	return nil
}

// storedObjects gives the content objects of a layer that was imported.
func storedObjects(ctx context.Context, repo *ostree.Repo, digest v1.Hash) ([]ostree.Checksum, error) {
	ref, err := layerRef(digest)
	if err != nil {
		return nil, err
	}
	c, err := repo.Resolve(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no ref %s: %w", ref, err)
	} else if err != nil {
		return nil, err
	}
	commit, err := repo.ReadCommit(ctx, c)
	if err != nil {
		return nil, err
	}
	tree, err := repo.ReadDirTree(ctx, commit.RootTree)
	if err != nil {
		return nil, err
	}
	var objects []ostree.Checksum
	for _, f := range tree.Files {
		if f.Name != f.Object.String() {
			return nil, fmt.Errorf("commit %s of ref %s has a file %.80q, not only objects: %w", c, ref, f.Name, ostree.ErrCorrupt)
		}
		objects = append(objects, f.Object)
	}
	return slices.Clip(objects), nil
}
