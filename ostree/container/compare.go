package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
)

// CompareOptions are for [Compare].
type CompareOptions struct {
	// Packages fills in Comparison.Packages: see [Packages] for what is read.
	Packages bool
	// Files fills in Comparison.Files, for which all layers are read.
	Files bool
	// TempDir is where layers are unpacked, at most 64 GiB of each image; "": the
	// system's.
	TempDir string
}

// Comparison is how one image differs from another.
type Comparison struct {
	// Layers of each, those of Added are only in the second, of Removed only in
	// the first, of Kept in both; in the order of the images.
	Added, Removed, Kept []Layer
	// Recompressed are layers of Added whose content, by diff ID, the first
	// image has in another form.
	Recompressed []Layer
	// Pull is how many bytes a machine that has the first image downloads to
	// have the second: manifest, config, and each blob of Added once. Size is
	// the same for a machine that has nothing.
	Pull, Size int64
	// Packages are those that differ; nil unless asked for, and if neither image
	// has any.
	Packages []ostree.PackageChange
	// Files are those that differ, as a container engine sees them, in the
	// order of paths; nil unless asked for.
	Files []ostree.Change
}

// Compare says what it takes to get from one image to another. Unless options
// ask for more it reads their documents only. Two images of which only one has
// packages wrap [fs.ErrNotExist] where packages are asked for.
func Compare(ctx context.Context, from, to v1.Image, opts *CompareOptions) (*Comparison, error) {
	if opts == nil {
		opts = &CompareOptions{}
	}
	c, err := compare(ctx, from, to, opts)
	if err != nil {
		return nil, &Error{"compare", "images", err}
	}
	return c, nil
}

func compare(ctx context.Context, from, to v1.Image, opts *CompareOptions) (*Comparison, error) {
	before, _, _, err := blobsOf(from)
	if err != nil {
		return nil, fmt.Errorf("first image: %w", err)
	}
	after, config, manifest, err := blobsOf(to)
	if err != nil {
		return nil, fmt.Errorf("second image: %w", err)
	}
	c := &Comparison{}
	have, content := map[v1.Hash]bool{}, map[v1.Hash]bool{}
	for _, l := range before {
		have[l.Digest], content[l.DiffID] = true, true
	}
	want := map[v1.Hash]bool{}
	for _, l := range after {
		if !want[l.Digest] {
			c.Size += l.Size
		}
		switch {
		case have[l.Digest]:
			c.Kept = append(c.Kept, l)
		default:
			if !want[l.Digest] {
				c.Pull += l.Size
			}
			c.Added = append(c.Added, l)
			if content[l.DiffID] {
				c.Recompressed = append(c.Recompressed, l)
			}
		}
		want[l.Digest] = true
	}
	for _, l := range before {
		if !want[l.Digest] {
			c.Removed = append(c.Removed, l)
		}
	}
	c.Size += config + manifest
	if err := c.addDocuments(from, to, config, manifest); err != nil {
		return nil, err
	}
	if opts.Packages {
		if err := c.comparePackages(ctx, from, to, opts); err != nil {
			return nil, err
		}
	}
	if opts.Files {
		a, b := &Flattened{Image: from, TempDir: opts.TempDir}, &Flattened{Image: to, TempDir: opts.TempDir}
		for change, err := range ostree.Diff(ctx, a, b) {
			if err != nil {
				return nil, err
			}
			c.Files = append(c.Files, change)
		}
	}
	return c, nil
}

// blobsOf gives the layers and the sizes of the documents.
func blobsOf(img v1.Image) (layers []Layer, config, manifest int64, err error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, 0, 0, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, 0, 0, err
	}
	if manifest, err = img.Size(); err != nil {
		return nil, 0, 0, err
	}
	layers, _, err = describeLayers(m, c)
	return layers, m.Config.Size, manifest, err
}

// addDocuments counts the documents that the second image does not share.
func (c *Comparison) addDocuments(from, to v1.Image, config, manifest int64) error {
	var digests [2][2]v1.Hash
	for i, img := range []v1.Image{from, to} {
		for k, digest := range []func() (v1.Hash, error){img.Digest, img.ConfigName} {
			var err error
			if digests[i][k], err = digest(); err != nil {
				return err
			}
		}
	}
	if digests[0][0] != digests[1][0] {
		c.Pull += manifest
	}
	if digests[0][1] != digests[1][1] {
		c.Pull += config
	}
	return nil
}

func (c *Comparison) comparePackages(ctx context.Context, from, to v1.Image, opts *CompareOptions) error {
	var lists [2][]ostree.Package
	var errs [2]error
	for i, img := range []v1.Image{from, to} {
		lists[i], errs[i] = Packages(ctx, img, &PackagesOptions{TempDir: opts.TempDir})
		if errs[i] != nil && !errors.Is(errs[i], fs.ErrNotExist) {
			return errs[i]
		}
	}
	switch {
	case errs[0] != nil && errs[1] != nil:
		return nil
	case errs[0] != nil:
		return fmt.Errorf("first image: %w", errs[0])
	case errs[1] != nil:
		return fmt.Errorf("second image: %w", errs[1])
	}
	c.Packages = slices.Clip(ostree.DiffPackages(lists[0], lists[1]))
	return nil
}
