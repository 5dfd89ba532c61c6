package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
)

// Rechunk splits an image's content over layers anew: it imports the image into
// repo and encapsulates it again. repo may be a temporary one, of any mode that
// keeps owners and attributes.
//
// An image whose layers all belong to its commit comes out with the same
// commit. Of one with layers added to that, or without a commit, the files are
// what an importer makes of them (see [Import]), in a new commit with the
// image's time, and the version and the other metadata of its commit but for
// what describes the content.
//
// Where options leave them out, components are those of the package database
// ([Components]; without one all content is in one layer), and the command, time
// and architecture are the image's. The image's labels are kept; those of
// options win. Other parts of its configuration, environment and entry point
// for instance, are not. [EncapsulateOptions.Prior] is an image that was split
// before; it may be img.
func Rechunk(ctx context.Context, cache *Cache, repo *ostree.Repo, img v1.Image, opts *EncapsulateOptions) (v1.Image, error) {
	out, err := rechunk(ctx, cache, repo, img, opts)
	if err != nil {
		return nil, &Error{"rechunk", "image", err}
	}
	return out, nil
}

func rechunk(ctx context.Context, cache *Cache, repo *ostree.Repo, img v1.Image, opts *EncapsulateOptions) (v1.Image, error) {
	if mode := repo.Mode(); mode == ostree.ModeBareUserOnly {
		return nil, fmt.Errorf("a repository of mode %s loses owners and attributes: %w", mode, errors.ErrUnsupported)
	}
	var o EncapsulateOptions
	if opts != nil {
		o = *opts
	}
	i, err := inspect(ctx, img)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	whole := i.Head != nil && !i.Layers[len(i.Layers)-1].Derived
	done, err := Import(ctx, repo, img, &ImportOptions{CommitOnly: whole})
	if err != nil {
		return nil, err
	}
	commit := done.Commit
	if !whole {
		if commit, err = recommit(ctx, repo, done.Commit, i); err != nil {
			return nil, err
		}
	}
	if o.Components == nil {
		if o.Components, err = Components(ctx, cache, repo, commit, nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	labels := maps.Clone(i.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, o.Labels)
	// These two say what is in the image.
	delete(labels, LabelCommit)
	delete(labels, LabelFinalDiffID)
	o.Labels = labels
	if o.Cmd == nil {
		o.Cmd = config.Config.Cmd
	}
	if o.Created.IsZero() {
		o.Created = i.Created
	}
	if o.Architecture == "" {
		o.Architecture = i.Architecture
	}
	return Encapsulate(ctx, cache, repo, commit, &o)
}

// recommit makes a commit of the tree of an imported image that could have been
// made of that tree in the first place.
func recommit(ctx context.Context, repo *ostree.Repo, merged ostree.Checksum, i *Inspected) (ostree.Checksum, error) {
	opts := &ostree.CommitOptions{Timestamp: i.Created}
	seen := map[string]bool{}
	if i.Head != nil {
		opts.Subject, opts.Body = i.Head.Subject, i.Head.Body
		for _, item := range i.Head.Metadata {
			if !aboutContent[item.Key] {
				opts.Metadata = append(opts.Metadata, item)
				seen[item.Key] = true
			}
		}
	}
	if i.Version != "" && !seen["version"] {
		opts.Metadata = append(opts.Metadata, ostree.MetadataItem{Key: "version", Value: ostree.StringVariant(i.Version)})
	}
	if i.Bootable && !seen[LabelBootable] {
		opts.Metadata = append(opts.Metadata, ostree.MetadataItem{Key: LabelBootable, Value: ostree.BoolVariant(true)})
	}
	return repo.Commit(ctx, repo.Tree(merged), opts)
}

// aboutContent are the metadata keys of a commit that are wrong once files
// changed.
var aboutContent = map[string]bool{
	"ostree.composefs.digest.v0": true, "ostree.sizes": true, "ostree.ref-binding": true, "ostree.collection-binding": true,
	"rpmostree.rpmdb.pkglist": true, "rpmostree.inputhash": true, "rpmostree.state-sha512": true,
}
