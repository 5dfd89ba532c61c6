package remoteregistry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/publish"
)

// WriteImage uploads what of img is not there yet, its manifest last and by
// digest, and returns the manifest's descriptor. Bytes that do not have the
// digest that the manifest gives them are refused with [publish.ErrDigest].
// Images written at the same time share what they have in common.
func (r *Registry) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	m, err := ociimage.FromImage(img)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	return r.write(ctx, repo, []ociimage.Manifest{m}, opts)
}

// WriteIndex uploads idx and everything under it, children first.
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
	top := list[len(list)-1].Desc
	target := repo.Digest(top.Digest.String())
	var from []name.Repository
	for _, f := range opts.From {
		if f.RegistryStr() == repo.RegistryStr() && f.RepositoryStr() != repo.RepositoryStr() && checkRepository(f) == nil {
			from = append(from, f)
		}
	}
	c, err := r.writer(ctx, repo)
	if err != nil {
		return v1.Descriptor{}, fail("write", target, err)
	}
	w := &writer{client: c, from: from, reused: opts.Reused, progress: progress{fn: opts.Progress, total: ociimage.Size(list)}, done: map[v1.Hash]bool{}}
	if err := w.write(ctx, list); err != nil {
		return v1.Descriptor{}, fail("write", target, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "wrote", slog.String("image", target.String()), slog.Int64("bytes", w.progress.total))
	return top, nil
}

// writer prepares writing to repo.
func (r *Registry) writer(ctx context.Context, repo name.Repository) (*client, error) {
	if err := r.checkDestination(repo); err != nil {
		return nil, err
	}
	return r.client(ctx, repo, transport.PushScope)
}

// writer uploads one image or index.
type writer struct {
	*client
	from     []name.Repository
	reused   func(v1.Descriptor)
	progress progress
	done     map[v1.Hash]bool // blobs and manifests of this write
}

func (w *writer) write(ctx context.Context, list []ociimage.Manifest) error {
	// What is under a manifest that is there is there too: servers refuse
	// manifests with holes.
	top := list[len(list)-1]
	there, err := w.hasManifest(ctx, top.Desc)
	if err != nil {
		return err
	}
	for i, m := range list {
		here := there
		if !there && i < len(list)-1 {
			if here, err = w.hasManifest(ctx, m.Desc); err != nil {
				return err
			}
		}
		if here {
			// Whoever wrote it may have been stopped before it was a referrer.
			if refersTo(m.Raw) {
				if err := w.storeManifest(ctx, m.Desc, m.Raw); err != nil {
					return fmt.Errorf("manifest %s: %w", m.Desc.Digest, err)
				}
			}
			w.skip(m)
			continue
		}
		if err := w.blobs(ctx, m.Blobs); err != nil {
			return err
		}
		if err := w.storeManifest(ctx, m.Desc, m.Raw); err != nil {
			return fmt.Errorf("manifest %s: %w", m.Desc.Digest, err)
		}
		w.progress.add(m.Desc.Size)
	}
	return nil
}

func (w *writer) hasManifest(ctx context.Context, desc v1.Descriptor) (bool, error) {
	_, err := w.head(ctx, desc.Digest.String())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// skip reports a manifest and its blobs as there already.
func (w *writer) skip(m ociimage.Manifest) {
	for _, b := range m.Blobs {
		if !w.done[b.Desc.Digest] {
			w.done[b.Desc.Digest] = true
			w.reuse(b.Desc)
		}
	}
	w.reuse(m.Desc)
}

func (w *writer) reuse(desc v1.Descriptor) {
	w.progress.add(desc.Size)
	if w.reused != nil {
		w.reused(desc)
	}
}

// blobs brings blobs to the registry, a few at once over all calls.
func (w *writer) blobs(ctx context.Context, blobs []ociimage.Blob) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cap(w.registry.slots))
	for _, b := range blobs {
		if w.done[b.Desc.Digest] {
			continue
		}
		w.done[b.Desc.Digest] = true
		group.Go(func() error {
			reused := false
			led, err := w.registry.flights.do(ctx, blobKey(w.repo, b.Desc.Digest), func() (err error) {
				reused, err = w.blob(ctx, b)
				return err
			})
			if err != nil {
				return fmt.Errorf("blob %s: %w", b.Desc.Digest, err)
			}
			if reused || !led {
				w.reuse(b.Desc)
			}
			return nil
		})
	}
	return group.Wait()
}

// blobKey names a blob among the flights.
func blobKey(repo name.Repository, digest v1.Hash) string { return repo.Name() + "@" + digest.String() }

// blob makes sure that b is in the repository, and says whether it was.
func (w *writer) blob(ctx context.Context, b ociimage.Blob) (reused bool, err error) {
	release, err := w.registry.slot(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	there, err := w.hasBlob(ctx, b.Desc)
	if there || err != nil {
		return there, err
	}
	begun, mounted := w.mountFrom(ctx, b.Desc.Digest)
	if mounted {
		return true, nil
	}
	return false, w.upload(ctx, b, begun, w.progress.add)
}

// mountFrom looks for a blob in the repositories that may have it. Whatever
// speaks against mounting does not speak against uploading; where the server
// began an upload instead, that is returned.
func (w *writer) mountFrom(ctx context.Context, digest v1.Hash) (begun *pending, mounted bool) {
	for _, f := range w.from {
		c, err := w.registry.client(ctx, w.repo, transport.PushScope, f)
		if err != nil {
			continue
		}
		if len(w.from) > 1 {
			// An upload is begun where it is not; asking is cheaper.
			at := *c
			at.repo = f
			if _, err := at.statBlob(ctx, digest); err != nil {
				continue
			}
		}
		begun, err = c.mount(ctx, digest, f)
		if err == nil && begun == nil {
			return nil, true
		}
		if begun != nil {
			return begun, false
		}
	}
	return nil, false
}

// slot waits until one more blob may move.
func (r *Registry) slot(ctx context.Context) (release func(), err error) {
	select {
	case r.slots <- struct{}{}:
		return func() { <-r.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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
