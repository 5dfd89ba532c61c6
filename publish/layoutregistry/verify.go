package layoutregistry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/publish"
)

// VerifyOptions say what [Registry.Verify] takes for a fault.
type VerifyOptions struct {
	// Sparse allows indexes whose children are not all there, as a mirror of
	// some architectures leaves them.
	Sparse bool
	// Quick leaves the bytes of blobs unread: only their sizes are checked.
	Quick bool
}

// maxFaults bounds what Verify reports of one repository.
const maxFaults = 1000

// Verify reads a repository's layout whole and reports every fault, joined, at
// most 1000: files of the layout that cannot be read, manifests and blobs that
// are missing or have another digest or size than what names them says, files
// among the blobs that have no digest's name. Each is a [*publish.Error] that
// names the file. It changes nothing and takes no lock: something that a garbage
// collection removes meanwhile may be reported as missing. opts may be nil.
func (r *Registry) Verify(ctx context.Context, repo name.Repository, opts *VerifyOptions) error {
	if opts == nil {
		opts = &VerifyOptions{}
	}
	l, err := r.open(ctx, repo)
	if err != nil {
		return fail("verify", repo, err)
	}
	defer l.close()
	v := &verification{layout: l, repo: repo, opts: opts, sizes: map[v1.Hash]int64{}}
	x, err := l.sharedIndex()
	if err != nil {
		return fail("verify", repo, err)
	}
	if err := v.manifests(ctx, x); err != nil {
		return fail("verify", repo, err)
	}
	if err := v.blobs(ctx); err != nil {
		return fail("verify", repo, err)
	}
	return errors.Join(v.faults...)
}

type verification struct {
	*layout
	repo   name.Repository
	opts   *VerifyOptions
	sizes  map[v1.Hash]int64 // of blobs, as manifests say
	faults []error
}

func (v *verification) fault(file string, err error) {
	if len(v.faults) < maxFaults {
		v.faults = append(v.faults, &publish.Error{Op: "verify", Target: v.repo.String() + ": " + file, Err: err})
	}
}

// manifests reads everything that index.json reaches.
func (v *verification) manifests(ctx context.Context, x *index) error {
	type node struct {
		desc  v1.Descriptor
		child bool
	}
	var level []node
	for _, e := range x.entries {
		level = append(level, node{desc: e.desc})
	}
	seen := map[v1.Hash]bool{}
	for depth := 1; len(level) > 0; depth++ {
		var next []node
		for _, n := range level {
			if err := ctx.Err(); err != nil {
				return err
			}
			if seen[n.desc.Digest] {
				continue
			}
			seen[n.desc.Digest] = true
			file := blobPath(n.desc.Digest)
			if depth > ociimage.MaxDepth+1 {
				v.fault(file, fmt.Errorf("indexes nested more than %d deep", ociimage.MaxDepth))
				continue
			}
			if mt := n.desc.MediaType; mt != "" && !mt.IsIndex() && !mt.IsImage() {
				v.need(n.desc)
				continue
			}
			raw, err := v.manifest(n.desc)
			if errors.Is(err, fs.ErrNotExist) && n.child && v.opts.Sparse {
				continue
			}
			if err != nil {
				v.fault(file, err)
				continue
			}
			c, err := ociimage.Decode(raw, n.desc.MediaType)
			if err != nil {
				v.fault(file, err)
				continue
			}
			for _, b := range c.Blobs {
				v.need(b)
			}
			for _, child := range c.Children {
				next = append(next, node{child, true})
			}
		}
		level = next
	}
	return nil
}

// need notes a blob, and that it is there.
func (v *verification) need(d v1.Descriptor) {
	if size, ok := v.sizes[d.Digest]; ok && size == d.Size {
		return
	}
	v.sizes[d.Digest] = d.Size
	if err := v.stat(d); err != nil {
		v.fault(blobPath(d.Digest), err)
		v.sizes[d.Digest] = -1 // reported
	}
}

// blobs reads every file among the blobs.
func (v *verification) blobs(ctx context.Context) error {
	algorithms, err := v.names(blobsDir)
	if err != nil {
		return err
	}
	for _, algorithm := range algorithms {
		names, err := v.names(filepath.Join(blobsDir, algorithm))
		if err != nil {
			v.fault(filepath.Join(blobsDir, algorithm), err)
			continue
		}
		for _, text := range names {
			file := filepath.Join(blobsDir, algorithm, text)
			h, err := v1.NewHash(algorithm + ":" + text)
			if err != nil {
				v.fault(file, errors.New("not the name of a digest"))
				continue
			}
			if size, ok := v.sizes[h]; v.opts.Quick || ok && size < 0 {
				continue
			}
			if err := v.blobFile(ctx, h); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				v.fault(file, err)
			}
		}
	}
	return nil
}

func (v *verification) blobFile(ctx context.Context, h v1.Hash) error {
	f, err := v.blob(h)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return check(ctx, f, v1.Descriptor{Digest: h, Size: info.Size()})
}
