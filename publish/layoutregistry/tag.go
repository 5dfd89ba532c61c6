package layoutregistry

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
)

// Tag points tag at a manifest that its repository holds, also as the child of
// an index; [io/fs.ErrNotExist] otherwise.
func (r *Registry) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if err := ociimage.CheckTag(tag.TagStr()); err != nil {
		return fail("tag", tag, err)
	}
	changed := false
	err := r.change(ctx, tag.Context(), func(w *folder, x *index) error {
		desc, err := w.find(ctx, x, digest)
		if err != nil {
			return err
		}
		if err := w.stat(desc); err != nil {
			return err
		}
		old := x.holders(tag.TagStr())
		if changed = x.setTag(tag.TagStr(), desc); !changed {
			return nil
		}
		w.touchAll(old)
		return w.writeIndex(x)
	})
	if err != nil {
		return fail("tag", tag, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "tagged", slog.String("tag", tag.String()), slog.String("digest", digest.String()), slog.Bool("changed", changed))
	return nil
}

// Untag removes a tag; [io/fs.ErrNotExist] if there is none. The manifest stays
// and can be had by digest until [Registry.GC] finds it old enough.
func (r *Registry) Untag(ctx context.Context, tag name.Tag) error {
	if err := ociimage.CheckTag(tag.TagStr()); err != nil {
		return fail("untag", tag, err)
	}
	err := r.change(ctx, tag.Context(), func(w *folder, x *index) error {
		old := x.holders(tag.TagStr())
		if len(old) == 0 {
			return fmt.Errorf("no tag %q: %w", tag.TagStr(), fs.ErrNotExist)
		}
		x.removeTag(tag.TagStr())
		w.touchAll(old)
		return w.writeIndex(x)
	})
	if err != nil {
		return fail("untag", tag, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "untagged", slog.String("tag", tag.String()))
	return nil
}

// Delete removes a manifest with all its tags, and from the list of referrers
// it was on; [io/fs.ErrNotExist] if it is not there. It is gone for readers at
// once; its bytes, and those of blobs that nothing else names, go with the next
// [Registry.GC] that finds them old enough. A manifest that an index of the
// repository names is refused: delete the index first.
func (r *Registry) Delete(ctx context.Context, ref name.Digest) error {
	digest, err := v1.NewHash(ref.DigestStr())
	if err != nil {
		return fail("delete", ref, err)
	}
	err = r.change(ctx, ref.Context(), func(w *folder, x *index) error {
		desc, err := w.find(ctx, x, digest)
		if err != nil {
			return err
		}
		if raw, err := w.manifest(desc); err == nil {
			if c, err := ociimage.Decode(raw, desc.MediaType); err == nil && c.Subject != nil {
				if err := w.removeReferrers(x, func(h v1.Hash) bool { return h == digest }); err != nil {
					return err
				}
			}
		}
		x.remove(digest)
		if _, err := w.find(ctx, x, digest); err == nil {
			return fmt.Errorf("an index of the repository names it: %w", fs.ErrPermission)
		}
		w.touch(digest)
		return w.writeIndex(x)
	})
	if err != nil {
		return fail("delete", ref, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "deleted", slog.String("manifest", ref.String()))
	return nil
}

// change runs fn on the index of a repository that exists, under its lock.
func (r *Registry) change(ctx context.Context, repo name.Repository, fn func(w *folder, x *index) error) error {
	w, err := r.existing(ctx, repo)
	if err != nil {
		return err
	}
	defer w.close()
	unlock, err := w.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	x, err := w.readIndex()
	if err != nil {
		return err
	}
	if err := w.clean(); err != nil {
		return err
	}
	return fn(w, x)
}

func (w *folder) touchAll(list []v1.Hash) {
	for _, h := range list {
		w.touch(h)
	}
}
