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
			if err := ociimage.CheckTag(tag); err != nil {
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
	if err := ociimage.CheckTag(tag.TagStr()); err != nil {
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
