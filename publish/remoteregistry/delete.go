package remoteregistry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/okd-project/okd-streams/internal/ociimage"
)

// Untag removes a tag; [io/fs.ErrNotExist] if there is none. What it points at
// stays. With servers that cannot do that, such as Docker's before version 3, it
// is [errors.ErrUnsupported], for deleting the manifest would take its other
// tags along. A tag that [Options.ImmutableTags] names is
// [io/fs.ErrPermission].
func (r *Registry) Untag(ctx context.Context, tag name.Tag) error {
	if err := r.untag(ctx, tag); err != nil {
		return fail("untag", tag, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "untagged", slog.String("tag", tag.String()))
	return nil
}

func (r *Registry) untag(ctx context.Context, tag name.Tag) error {
	if err := ociimage.CheckTag(tag.TagStr()); err != nil {
		return err
	}
	if r.immutable(tag) {
		return fmt.Errorf("it must not move: %w", fs.ErrPermission)
	}
	c, err := r.deleter(ctx, tag.Context())
	if err != nil {
		return err
	}
	if _, err := c.head(ctx, tag.TagStr()); err != nil {
		return err
	}
	err = c.remove(ctx, tag.TagStr())
	if e, ok := errors.AsType[*statusError](err); ok && e.status == http.StatusBadRequest {
		// Servers that know digests alone say that this is none.
		return fmt.Errorf("server does not delete tags: %w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// Delete removes a manifest and, with most servers, all of its tags, whatever
// [Options.ImmutableTags] says; [io/fs.ErrNotExist] if it is not there. If it
// had a subject it is no longer one of its referrers. An index that names it
// has a hole then. Its blobs are for the server to collect. Servers that do not
// let it happen give [errors.ErrUnsupported] or [io/fs.ErrPermission].
func (r *Registry) Delete(ctx context.Context, ref name.Digest) error {
	if err := r.delete(ctx, ref); err != nil {
		return fail("delete", ref, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "deleted", slog.String("image", ref.String()))
	return nil
}

func (r *Registry) delete(ctx context.Context, ref name.Digest) error {
	id, err := identifier(ref)
	if err != nil {
		return err
	}
	c, err := r.deleter(ctx, ref.Context())
	if err != nil {
		return err
	}
	_, raw, err := c.manifest(ctx, id, v1.Descriptor{})
	if err != nil {
		return err
	}
	l, err := linkOf(raw)
	if err != nil {
		return err
	}
	if err := c.remove(ctx, id); err != nil {
		return err
	}
	if l.subject == (v1.Hash{}) {
		return nil
	}
	return c.dropReferrer(ctx, l.subject, id)
}

// deleter prepares deleting from repo.
func (r *Registry) deleter(ctx context.Context, repo name.Repository) (*client, error) {
	if err := r.checkDestination(repo); err != nil {
		return nil, err
	}
	return r.client(ctx, repo, transport.DeleteScope)
}

// remove deletes a tag or digest that was there. That it is missing now may be
// the doing of this request, whose first answer was lost.
func (c *client) remove(ctx context.Context, id string) error {
	resp, err := c.do(ctx, http.MethodDelete, c.url("manifests", id), nil, nil, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	resp.Body.Close()
	return nil
}
