package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// write brings a job's blobs, then its manifests in order.
func (t *transfer) write(ctx context.Context, j *job) error {
	if t.blobs == nil {
		return t.writeValues(ctx, j)
	}
	if err := t.gather(ctx, j.to, j.items, false); err != nil {
		return err
	}
	for _, it := range j.items {
		if it.there {
			continue
		}
		err := t.put(ctx, j.to, it)
		if errors.Is(err, fs.ErrNotExist) {
			// Something that was found is not there (any more).
			if err = t.gather(ctx, j.to, []*item{it}, true); err == nil {
				err = t.put(ctx, j.to, it)
			}
		}
		if err != nil {
			return fmt.Errorf("manifest %s: %w", it.desc.Digest, err)
		}
		t.wrote(j.to, it)
	}
	return nil
}

// gather makes sure that the blobs of all items are in the repository. Requests
// wait for their turn in [limits]; how many wait is bounded by the number of
// blobs in an image.
func (t *transfer) gather(ctx context.Context, repo name.Repository, items []*item, doubt bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group errgroup.Group
	group.SetLimit(2 * t.opts.PerHost)
	run := func(fn func() error) {
		group.Go(func() error {
			err := ctx.Err()
			if err == nil {
				err = fn()
			}
			if err != nil {
				cancel(err)
			}
			return err
		})
	}
	for _, it := range items {
		if !it.absent && !it.there && len(items) > 1 {
			desc, err := t.head(ctx, repo.Digest(it.desc.Digest.String()))
			if err != nil {
				cancel(err)
				break
			}
			it.there, it.absent = desc != nil, desc == nil
		}
		if it.there {
			t.skipped(repo, it)
			continue
		}
		for _, blob := range it.blobs {
			run(func() error {
				if err := t.ensure(ctx, repo, blob, doubt); err != nil {
					return fmt.Errorf("blob %s: %w", blob.Digest, err)
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (t *transfer) step(repo name.Repository, action TransferAction, desc v1.Descriptor) TransferStep {
	return TransferStep{Action: action, Target: repo.Digest(desc.Digest.String()).String(), Digest: desc.Digest.String(), Size: desc.Size}
}

func (t *transfer) skipped(repo name.Repository, it *item) {
	t.event(t.step(repo, ActionReuse, it.desc), PhaseDone, 0, func(s *TransferTotals) { s.Manifests-- })
}

func (t *transfer) wrote(repo name.Repository, it *item) {
	t.event(t.step(repo, ActionWrite, it.desc), PhaseDone, 0, func(s *TransferTotals) { s.Written++ })
}

func (t *transfer) put(ctx context.Context, repo name.Repository, it *item) error {
	return t.ask(ctx, repo, func() error {
		got, err := t.blobs.WriteManifest(ctx, repo, it.desc.MediaType, it.raw)
		if err == nil && got.Digest != it.desc.Digest {
			err = fmt.Errorf("registry wrote %s: %w", got.Digest, ErrDigest)
		}
		return err
	})
}

// writeValues writes a job into a registry that takes whole images.
func (t *transfer) writeValues(ctx context.Context, j *job) error {
	for _, it := range j.items {
		if it.sparse {
			return errSparse
		}
		if it.child || it.there {
			continue
		}
		err := t.again(ctx, func(int) error {
			return t.limits.do(ctx, func() error { return t.writeValue(ctx, j.to, it.manifest) }, j.to.RegistryStr(), j.from.Context().RegistryStr())
		})
		if err != nil {
			return err
		}
		t.wrote(j.to, it)
	}
	return nil
}

// tags points the tags of all jobs, cosign's first.
func (t *transfer) tags(ctx context.Context, jobs []*job) error {
	for _, of := range []func(*job) []tagging{
		func(j *job) []tagging { return j.signed },
		func(j *job) []tagging { return j.tags },
	} {
		err := each(ctx, t, jobs, func(j *job) error {
			for _, tag := range of(j) {
				if err := t.tag(ctx, tag); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *transfer) tag(ctx context.Context, tag tagging) error {
	if err := t.ask(ctx, tag.tag.Repository, func() error { return t.to.Tag(ctx, tag.tag, tag.desc.Digest) }); err != nil {
		return err
	}
	t.event(tag.step(), PhaseDone, 0, func(s *TransferTotals) { s.Tagged++ })
	return nil
}

func (t tagging) step() TransferStep {
	return TransferStep{Action: ActionTag, Target: t.tag.String(), Digest: t.desc.Digest.String(), Size: t.desc.Size}
}
