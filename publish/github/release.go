package github

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Release is a release as GitHub has it.
type Release struct {
	ID         int64      `json:"id"`
	Tag        string     `json:"tag_name"`
	Target     string     `json:"target_commitish"` // branch or commit that the tag is, or will be, made of
	Name       string     `json:"name"`             // title
	Body       string     `json:"body"`             // Markdown
	Draft      bool       `json:"draft"`            // not to be seen by the public
	Prerelease bool       `json:"prerelease"`
	Immutable  bool       `json:"immutable"` // neither tag nor assets can change
	URL        string     `json:"html_url"`  // of the page for people
	Created    time.Time  `json:"created_at"`
	Published  *time.Time `json:"published_at"` // nil: a draft
	Assets     []Asset    `json:"assets"`

	UploadURL string `json:"upload_url"` // where assets go, a template of RFC 6570
}

// Asset is a file of a release.
type Asset struct {
	ID          int64  `json:"id"`
	Name        string `json:"name"`
	Label       string `json:"label"` // shown in place of Name
	State       string `json:"state"` // "uploaded", or while it is not whole "starter"
	ContentType string `json:"content_type"`
	Size        int64  `json:"size"`                 // bytes
	Digest      string `json:"digest"`               // "sha256:" and hexadecimal; "" where the server keeps none
	URL         string `json:"browser_download_url"` // for everybody, once the release is published
}

// Refs of git, of those characters that need no care in an address.
var reTag = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*$`)

func checkTag(tag string) error {
	if len(tag) > 255 || !reTag.MatchString(tag) || strings.Contains(tag, "..") || strings.HasSuffix(tag, ".") || strings.HasSuffix(tag, ".lock") {
		return fmt.Errorf("tag %q: %w", httpx.Printable(tag), fs.ErrInvalid)
	}
	return nil
}

// check refuses answers that are no release.
func (r *Release) check() error {
	if r.ID <= 0 || r.Tag == "" {
		return errors.New("the answer is no release: id or tag is missing")
	}
	for _, a := range r.Assets {
		if err := a.check(); err != nil {
			return err
		}
	}
	return nil
}

// releases are a page of the list.
type releases []*Release

func (l releases) check() error {
	for _, r := range l {
		if r == nil {
			return errors.New("the answer lists what is no release")
		}
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

// asset finds an asset by name; nil: there is none.
func (r *Release) asset(name string) *Asset {
	for i := range r.Assets {
		if r.Assets[i].Name == name {
			return &r.Assets[i]
		}
	}
	return nil
}

// Release gives the release of a tag, the published one or else, if the client
// may see it, the oldest draft. That there is none is an error that wraps
// [fs.ErrNotExist].
func (c *Client) Release(ctx context.Context, tag string) (*Release, error) {
	r, _, err := c.find(ctx, tag)
	if err == nil && r == nil {
		err = fmt.Errorf("no release and no draft of this tag: %w", fs.ErrNotExist)
	}
	if err != nil {
		return nil, c.wrap("find", tag, err)
	}
	return r, nil
}

// Latest gives the release that GitHub shows as the repository's latest. That
// there is none is an error that wraps [fs.ErrNotExist].
func (c *Client) Latest(ctx context.Context) (*Release, error) {
	r := &Release{}
	_, err := c.send(ctx, &request{method: http.MethodGet, url: c.path("releases", "latest"), want: http.StatusOK}, r)
	if err != nil {
		return nil, c.wrap("find", "", fmt.Errorf("latest release: %w", err))
	}
	return r, nil
}

// Releases lists the releases, newest first, and the drafts among them that the
// client may see; at most [MaxReleases]. It ends after an error.
func (c *Client) Releases(ctx context.Context) iter.Seq2[*Release, error] {
	return func(yield func(*Release, error) bool) {
		for r, err := range c.list(ctx) {
			if !yield(r, c.wrap("list", "", err)) {
				return
			}
		}
	}
}

// pageSize is how many releases are asked for at once: an answer of a hundred
// with many assets has several MB.
const pageSize = 50

func (c *Client) list(ctx context.Context) iter.Seq2[*Release, error] {
	return func(yield func(*Release, error) bool) {
		first := c.path("releases")
		first.RawQuery = url.Values{"per_page": {strconv.Itoa(pageSize)}}.Encode()
		count := 0
		for page := first; page != nil; {
			var found releases
			header, err := c.send(ctx, &request{method: http.MethodGet, url: page, want: http.StatusOK}, &found)
			next := (*url.URL)(nil)
			if err == nil {
				next, err = nextPage(page, header)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for _, r := range found {
				if count++; count > MaxReleases || !yield(r, nil) {
					return
				}
			}
			if len(found) == 0 {
				return // whatever is said to be next: pages without end
			}
			page = next
		}
	}
}

// nextPage gives the next page of a list; nil: there is none. It is believed
// only to be of the same list.
func nextPage(page *url.URL, header http.Header) (*url.URL, error) {
	text := nextLink(header)
	if text == "" {
		return nil, nil
	}
	next, err := page.Parse(text)
	if err == nil && (next.Scheme != page.Scheme || next.Host != page.Host || next.User != nil) {
		err = fmt.Errorf("the next page is on another host, %s", httpx.RedactURL(next))
	}
	if err != nil {
		return nil, fmt.Errorf("list of %s: %w", httpx.RedactURL(page), err)
	}
	return next, nil
}

// find looks for the release of a tag: published, or the oldest draft; spare
// are further drafts. All nil: there is none.
func (c *Client) find(ctx context.Context, tag string) (found *Release, spare []*Release, err error) {
	if err := checkTag(tag); err != nil {
		return nil, nil, err
	}
	r := &Release{}
	elem := append([]string{"releases", "tags"}, strings.Split(tag, "/")...)
	_, err = c.send(ctx, &request{method: http.MethodGet, url: c.path(elem...), want: http.StatusOK}, r)
	switch {
	case err == nil:
		if r.Tag != tag {
			return nil, nil, fmt.Errorf("asked for by its tag, the release is that of %q", httpx.Printable(r.Tag))
		}
		return r, nil, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	}
	// Drafts have no tag yet: only the list has them.
	for r, err := range c.list(ctx) {
		switch {
		case err != nil:
			return nil, nil, err
		case r.Tag != tag:
		case found == nil:
			found = r
		case r.ID < found.ID:
			found, spare = r, append(spare, found)
		default:
			spare = append(spare, r)
		}
	}
	return found, spare, nil
}
