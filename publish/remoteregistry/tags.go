package remoteregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Limits of a list of tags.
const (
	maxTags     = 1_000_000
	maxPages    = 100_000
	maxPageBody = 8 << 20 // bytes
)

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
	c, err := r.client(ctx, repo, transport.PullScope, nil)
	if err != nil {
		return nil, err
	}
	var tags []string
	seen := map[string]bool{}
	for page := c.url("tags", "list") + pageSize(r.opts.PageSize); page != ""; {
		if seen[page] || len(seen) >= maxPages {
			return nil, errors.New("the list of tags does not end")
		}
		seen[page] = true
		got, next, err := c.tagPage(ctx, page)
		if err != nil {
			return nil, err
		}
		tags = append(tags, got...)
		if len(tags) > maxTags {
			return nil, fmt.Errorf("more than %d tags: %w", maxTags, errors.ErrUnsupported)
		}
		page = next
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// tagPage gets one page and the address of the next, "" at the end.
func (c *client) tagPage(ctx context.Context, page string) ([]string, string, error) {
	resp, data, err := c.document(ctx, page, nil, maxPageBody)
	if err != nil {
		return nil, "", fmt.Errorf("list of tags: %w", err)
	}
	var doc struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, "", fmt.Errorf("list of tags: %w", err)
	}
	for _, tag := range doc.Tags {
		if err := checkTag(tag); err != nil {
			return nil, "", fmt.Errorf("list of tags: %w", err)
		}
	}
	next := nextLink(resp.Header.Values("Link"))
	if next == "" {
		return doc.Tags, "", nil
	}
	u, err := resolve(resp, next)
	if err != nil {
		return nil, "", err
	}
	// The next page is on the same server: credentials go with the request.
	if first := resp.Request.URL; u.Scheme != first.Scheme || u.Host != first.Host {
		return nil, "", fmt.Errorf("the next page of tags is on another server, %.100q", u.Host)
	}
	return doc.Tags, u.String(), nil
}

// nextLink finds the target of rel="next" in Link headers, RFC 8288; "" if
// there is none.
func nextLink(headers []string) string {
	for _, h := range headers {
		for h != "" {
			_, rest, ok := strings.Cut(h, "<")
			if !ok {
				break
			}
			target, rest, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			// Parameters reach to the comma outside of quotes.
			var param string
			for next := byte(';'); next == ';'; {
				param, rest, next = cutUnquoted(rest)
				key, value, _ := strings.Cut(param, "=")
				if strings.EqualFold(strings.TrimSpace(key), "rel") && slices.Contains(strings.Fields(strings.Trim(strings.TrimSpace(value), `"`)), "next") {
					return target
				}
			}
			h = rest
		}
	}
	return ""
}

// cutUnquoted cuts s at the first ';' or ',' outside of quotes and says which it
// was; 0 at the end.
func cutUnquoted(s string) (before, after string, at byte) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case !quoted && (s[i] == ';' || s[i] == ','):
			return s[:i], s[i+1:], s[i]
		}
	}
	return s, "", 0
}

// Tag points tag at a manifest of its repository: the manifest's bytes are
// fetched, verified and written under the tag. A missing one gives
// [io/fs.ErrNotExist].
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
	if _, err := v1.NewHash(digest.String()); err != nil {
		return err
	}
	c, err := r.client(ctx, tag.Context(), transport.PushScope, nil)
	if err != nil {
		return err
	}
	desc, raw, err := c.manifest(ctx, digest.String(), v1.Descriptor{})
	if err != nil {
		return err
	}
	if now, err := c.head(ctx, tag.TagStr()); err == nil && now.Digest == digest {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.putManifest(ctx, tag.TagStr(), desc, raw)
}
