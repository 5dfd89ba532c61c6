package layoutregistry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/publish"
)

// WriteImage writes img's blobs and then its manifest into repo's layout and
// returns the manifest's descriptor. What is there already in the right size
// is not written again. Bytes that do not have the digest that the manifest
// gives them are refused with [publish.ErrDigest], and the manifest does not
// appear then.
func (r *Registry) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	m, err := ociimage.FromImage(img)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	return r.write(ctx, repo, []ociimage.Manifest{m}, opts)
}

// WriteIndex writes idx and everything under it, children first.
func (r *Registry) WriteIndex(ctx context.Context, repo name.Repository, idx v1.ImageIndex, opts *publish.WriteOptions) (v1.Descriptor, error) {
	list, err := ociimage.FromIndex(idx)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	return r.write(ctx, repo, list, opts)
}

func (r *Registry) write(ctx context.Context, repo name.Repository, list []ociimage.Manifest, opts *publish.WriteOptions) (v1.Descriptor, error) {
	if opts == nil {
		opts = &publish.WriteOptions{}
	}
	f, err := r.folder(ctx, repo)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	defer f.close()
	w := &writer{folder: f, opts: opts, progress: &progress{fn: opts.Progress, total: ociimage.Size(list)}}
	for _, from := range opts.From {
		if from.RepositoryStr() == repo.RepositoryStr() {
			continue
		}
		// A source that is not there is none.
		if src, err := r.open(ctx, from); err == nil {
			defer src.close()
			w.from = append(w.from, src)
		}
	}
	desc := list[len(list)-1].Desc
	if err := w.write(ctx, list, r.opts.Concurrency); err != nil {
		return v1.Descriptor{}, fail("write", repo.Digest(desc.Digest.String()), err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "wrote", slog.String("image", repo.Digest(desc.Digest.String()).String()), slog.Int64("bytes", w.progress.total))
	return desc, nil
}

// writer writes one image or index.
type writer struct {
	*folder
	opts     *publish.WriteOptions
	from     []*layout
	progress *progress
}

// maxRounds bounds how often a garbage collection may take blobs away that
// were found there, before the manifest that names them is written.
const maxRounds = 3

func (w *writer) write(ctx context.Context, list []ociimage.Manifest, concurrency int) error {
	todo := map[v1.Hash]bool{} // blobs, each once for all images that share it
	for _, m := range list {
		for _, b := range m.Blobs {
			todo[b.Desc.Digest] = true
		}
	}
	for round := 1; ; round++ {
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(concurrency)
		for _, m := range list {
			for _, b := range m.Blobs {
				if !todo[b.Desc.Digest] {
					continue
				}
				delete(todo, b.Desc.Digest)
				group.Go(func() error {
					if err := w.blob(gctx, b, round == 1); err != nil {
						return fmt.Errorf("blob %s: %w", b.Desc.Digest, err)
					}
					return nil
				})
			}
		}
		if err := group.Wait(); err != nil {
			return err
		}
		lost, there, err := w.commit(ctx, list)
		if err == nil {
			for _, m := range list {
				w.progress.add(m.Desc.Size)
			}
			for _, d := range there {
				w.reused(d)
			}
			return nil
		}
		if len(lost) == 0 || round == maxRounds {
			return err
		}
		todo = lost
	}
}

// blob makes sure that b is in the layout.
func (w *writer) blob(ctx context.Context, b ociimage.Blob, report bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	count := w.progress.add
	if !report {
		count = func(int64) {}
	}
	reused := func() {
		count(b.Desc.Size)
		if report {
			w.reused(b.Desc)
		}
	}
	if w.stat(b.Desc) == nil {
		w.touch(b.Desc.Digest)
		reused()
		return nil
	}
	for _, src := range w.from {
		f, err := src.blob(b.Desc.Digest)
		if err != nil {
			continue
		}
		// A copy that is damaged there, or cannot be linked, is no reason to
		// fail: the image has the bytes.
		linked, err := w.link(ctx, f, b.Desc)
		f.Close()
		if err := ctx.Err(); err != nil {
			return err
		}
		if err == nil && linked {
			reused()
			return nil
		}
	}
	rc, err := b.Open()
	if err != nil {
		return err
	}
	err = w.put(ctx, rc, b.Desc, count)
	return errors.Join(err, rc.Close())
}

func (w *writer) reused(desc v1.Descriptor) {
	if w.opts.Reused != nil {
		w.opts.Reused(desc)
	}
}

// commit writes manifests, children first, and makes the last one findable.
// Everything that they name must be there: lost says which blobs are not. there
// are the manifests that were. It takes the lock.
func (w *folder) commit(ctx context.Context, list []ociimage.Manifest) (lost map[v1.Hash]bool, there []v1.Descriptor, err error) {
	unlock, err := w.lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	x, err := w.initialise()
	if err != nil {
		return nil, nil, err
	}
	var contents []*ociimage.Content
	written := map[v1.Hash]bool{}
	for _, m := range list {
		c, err := ociimage.Decode(m.Raw, m.Desc.MediaType)
		if err != nil {
			return nil, nil, err
		}
		contents = append(contents, c)
		written[m.Desc.Digest] = true
		for i, d := range append(c.Blobs, c.Children...) {
			if i >= len(c.Blobs) && written[d.Digest] {
				continue
			}
			if bad := w.stat(d); bad != nil {
				if lost == nil {
					lost = map[v1.Hash]bool{}
				}
				lost[d.Digest] = true
				err = errors.Join(err, fmt.Errorf("manifest %s names %s: %w", m.Desc.Digest, d.Digest, bad))
			}
		}
		if err != nil {
			return lost, nil, err
		}
	}
	for _, m := range list {
		if w.stat(m.Desc) == nil {
			there = append(there, m.Desc)
			w.touch(m.Desc.Digest)
		} else if err := w.replace(blobPath(m.Desc.Digest), m.Raw, 0o444); err != nil {
			return nil, nil, fmt.Errorf("manifest %s: %w", m.Desc.Digest, err)
		}
	}
	changed := false
	top := len(list) - 1
	if _, err := w.find(ctx, x, list[top].Desc.Digest); errors.Is(err, fs.ErrNotExist) {
		changed = x.add(list[top].Desc)
		x.adopt(contents[top].Children)
	} else if err != nil {
		return nil, nil, err
	}
	for i, c := range contents {
		if c.Subject == nil {
			continue
		}
		d := list[i].Desc
		d.ArtifactType, d.Annotations = c.ArtifactType, c.Annotations
		listed, err := w.addReferrer(x, c.Subject.Digest, d)
		if err != nil {
			return nil, nil, err
		}
		changed = changed || listed
	}
	if !changed {
		return nil, there, nil
	}
	for _, algorithm := range []string{"sha256", "sha512"} {
		if err := w.syncDir(filepath.Join(blobsDir, algorithm)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
	}
	return nil, there, w.writeIndex(x)
}

// progress counts bytes and reports them one call at a time.
type progress struct {
	fn    func(done, total int64)
	total int64

	mu   sync.Mutex
	done int64
}

func (p *progress) add(n int64) {
	if p.fn == nil || n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.fn(p.done, p.total)
}
