package remoteregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/okd-project/okd-streams/internal/ociimage"
)

// maxTags bounds a list of tags.
const maxTags = 1_000_000

// Tags lists the tags of repo in ascending order. All pages are read first, for
// servers order tags as they like.
func (r *Registry) Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		tags, err := r.tags(ctx, repo)
		if err != nil {
			yield("", fail("tags", repo, err))
			return
		}
		for _, tag := range tags {
			if !yield(tag, nil) {
				return
			}
		}
	}
}

func (r *Registry) tags(ctx context.Context, repo name.Repository) ([]string, error) {
	c, err := r.client(ctx, repo, transport.PullScope)
	if err != nil {
		return nil, err
	}
	var tags []string
	err = c.pages(ctx, c.url("tags", "list")+pageSize(r.opts.PageSize), nil, func(_ *http.Response, data []byte) (bool, error) {
		var page struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(data, &page); err != nil {
			return false, err
		}
		for _, tag := range page.Tags {
			if err := checkTag(tag); err != nil {
				return false, err
			}
		}
		if tags = append(tags, page.Tags...); len(tags) > maxTags {
			return false, fmt.Errorf("more than %d tags: %w", maxTags, errors.ErrUnsupported)
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list of tags: %w", err)
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// Tag points tag at a manifest of its repository: the manifest's bytes are
// fetched, verified and written under the tag. A missing one gives
// [io/fs.ErrNotExist].
//
// A tag that must not move, by [Options.ImmutableTags] or by the server's own
// rules, gives [io/fs.ErrExist] unless it is at digest already. The options'
// rule is checked before the tag is written: no registry offers to do both at
// once, so two writers at the same moment are not kept apart by it.
func (r *Registry) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if err := r.tag(ctx, tag, digest); err != nil {
		return fail("tag", tag, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "tagged", slog.String("tag", tag.String()), slog.String("digest", digest.String()))
	return nil
}

func (r *Registry) tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if err := checkTag(tag.TagStr()); err != nil {
		return err
	}
	if err := ociimage.CheckDigest(digest); err != nil {
		return err
	}
	c, err := r.writer(ctx, tag.Context())
	if err != nil {
		return err
	}
	desc, raw, err := c.manifest(ctx, digest.String(), v1.Descriptor{})
	if err != nil {
		return err
	}
	now, err := c.head(ctx, tag.TagStr())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case now.Digest == digest:
		return nil
	case r.immutable(tag):
		return fmt.Errorf("it is at %s and must not move: %w", now.Digest, fs.ErrExist)
	}
	_, err = c.putManifest(ctx, tag.TagStr(), desc, raw)
	if e, ok := errors.AsType[*statusError](err); ok && e.immutable() {
		return fmt.Errorf("server does not let it move: %w: %w", fs.ErrExist, err)
	}
	return err
}

// immutable says whether the options want tag to stay where it is.
func (r *Registry) immutable(tag name.Tag) bool {
	return slices.ContainsFunc(r.opts.ImmutableTags, func(pattern string) bool {
		ok, err := path.Match(pattern, tag.TagStr())
		return ok && err == nil
	})
}

// immutable says whether a refusal to write a tag is because the tag exists.
// There is no code for it: Harbor answers 412, Amazon's registry 400 and
// Quay 409, and all say why.
func (e *statusError) immutable() bool {
	switch e.status {
	case http.StatusConflict, http.StatusPreconditionFailed:
		return true
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed:
		text := strings.ToLower(e.message)
		return strings.Contains(text, "immutable") || strings.Contains(text, "overwrit") || strings.Contains(text, "already exists")
	}
	return false
}

// Delete removes a tag or a manifest; one that is missing is no error. A tag
// goes alone: what it points at stays. With servers that cannot do that, such
// as Docker's before version 3, it is [errors.ErrUnsupported], for deleting the
// manifest would take its other tags along. A digest removes the manifest and,
// with most servers, all of its tags; the blobs are for the server to collect.
// If it had a subject it is no longer one of its referrers.
//
// A tag that [Options.ImmutableTags] names is [io/fs.ErrPermission]; a digest is
// not held against them.
func (r *Registry) Delete(ctx context.Context, ref name.Reference) error {
	if err := r.delete(ctx, ref); err != nil {
		return fail("delete", ref, err)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "deleted", slog.String("reference", ref.String()))
	return nil
}

func (r *Registry) delete(ctx context.Context, ref name.Reference) error {
	id, err := identifier(ref)
	if err != nil {
		return err
	}
	if tag, ok := ref.(name.Tag); ok && r.immutable(tag) {
		return fmt.Errorf("it must not move: %w", fs.ErrPermission)
	}
	if err := r.checkDestination(ref.Context()); err != nil {
		return err
	}
	c, err := r.client(ctx, ref.Context(), transport.DeleteScope)
	if err != nil {
		return err
	}
	var l link
	if strings.Contains(id, ":") {
		_, raw, err := c.manifest(ctx, id, v1.Descriptor{})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if l, err = linkOf(raw); err != nil {
			return err
		}
	}
	resp, err := c.do(ctx, http.MethodDelete, c.url("manifests", id), nil, nil, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	if err == nil {
		resp.Body.Close()
	} else if e, ok := errors.AsType[*statusError](err); ok && e.status == http.StatusBadRequest && !strings.Contains(id, ":") {
		// Servers that know digests alone say that this is none.
		return fmt.Errorf("server does not delete tags: %w: %w", errors.ErrUnsupported, err)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if l.subject == (v1.Hash{}) {
		return nil
	}
	return c.dropReferrer(ctx, l.subject, id)
}
