package github

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Spec is what a release shall be.
type Spec struct {
	Tag    string // of git; it is made when the release is published, if it is not there
	Target string // branch or commit that the tag is made of; "": the default branch
	Name   string // title; "": Tag
	Body   string // Markdown, at most MaxBodySize characters

	Prerelease bool
	// Latest says whether publishing makes the release the repository's latest.
	// A release that is published already stays what it is.
	Latest Latest

	Assets []Upload // at most MaxAssets, in this order
}

// Latest is how GitHub's "latest" is decided.
type Latest string

// The choices.
const (
	LatestByVersion Latest = ""      // GitHub decides by date and semantic version; a pre-release never
	IsLatest        Latest = "true"  // this release; not with Prerelease
	NotLatest       Latest = "false" // what was the latest stays
)

// makeLatest is the word of the API.
func (s *Spec) makeLatest() string {
	switch {
	case s.Prerelease:
		return string(NotLatest)
	case s.Latest == LatestByVersion:
		return "legacy"
	}
	return string(s.Latest)
}

// reAsset are names that GitHub keeps as they are; in others it puts dots.
var reAsset = lazyregexp.New(`^[A-Za-z0-9_-]([A-Za-z0-9._-]{0,253}[A-Za-z0-9_-])?$`)

// check finds what GitHub would refuse or change.
func (s *Spec) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := checkTag(s.Tag); err != nil {
		faults = append(faults, err)
	}
	if n := utf8.RuneCountInString(s.Body); n > MaxBodySize || !utf8.ValidString(s.Body) || !utf8.ValidString(s.Name) {
		fault("the text has %d characters, limit %d, or is not UTF-8: %w", n, MaxBodySize, fs.ErrInvalid)
	}
	switch s.Latest {
	case LatestByVersion, NotLatest:
	case IsLatest:
		if s.Prerelease {
			fault("a pre-release cannot be the latest: %w", fs.ErrInvalid)
		}
	default:
		fault("latest %q: %w", s.Latest, fs.ErrInvalid)
	}
	if len(s.Assets) > MaxAssets {
		fault("%d assets, limit %d: %w", len(s.Assets), MaxAssets, fs.ErrInvalid)
	}
	seen := map[string]bool{}
	for _, a := range s.Assets {
		if !reAsset.MatchString(a.Name) {
			fault("asset %q: GitHub would rename it: %w", httpx.Printable(a.Name), fs.ErrInvalid)
		}
		if key := strings.ToLower(a.Name); seen[key] {
			fault("asset %q is there twice: %w", a.Name, fs.ErrInvalid)
		} else {
			seen[key] = true
		}
		switch {
		case a.Source == nil:
			fault("asset %q has no source: %w", a.Name, fs.ErrInvalid)
		case a.Source.Size() <= 0 || a.Source.Size() > MaxAssetSize:
			fault("asset %q has %d bytes; GitHub takes 1 to %d: %w", a.Name, a.Source.Size(), MaxAssetSize, fs.ErrInvalid)
		}
		if a.SHA256 != "" && !reSHA256.MatchString(a.SHA256) {
			fault("asset %q: sha256 %q: %w", a.Name, httpx.Printable(a.SHA256), fs.ErrInvalid)
		}
	}
	return errors.Join(faults...)
}

func (s *Spec) name() string {
	if s.Name == "" {
		return s.Tag
	}
	return s.Name
}

// Prepare makes the draft of a release, or goes on with the one that is there:
// its texts are what spec says, its assets those of spec and no others, each
// whole and checked. A release that is published already keeps its other assets.
//
// Bytes of spec that are not what its sizes and digests promise wrap
// publish.ErrDigest; a published asset that would become another one wraps
// [fs.ErrExist]; a client that may not write gets [fs.ErrPermission] or, for
// GitHub hides what one may not see, [fs.ErrNotExist].
func (c *Client) Prepare(ctx context.Context, spec *Spec) (*Release, error) {
	r, err := c.prepare(ctx, spec)
	if err != nil {
		return nil, c.wrap("prepare", spec.Tag, err)
	}
	return r, nil
}

// Publish prepares a release as [Client.Prepare] does and then shows it to the
// world. For one that is published already only what differs is changed.
func (c *Client) Publish(ctx context.Context, spec *Spec) (*Release, error) {
	r, err := c.prepare(ctx, spec)
	if err == nil && r.Draft {
		r, err = c.edit(ctx, r, map[string]any{"draft": false, "make_latest": spec.makeLatest()})
		if err == nil && r.Draft {
			err = errors.New("GitHub did as told, but it is a draft still")
		}
	}
	if err != nil {
		return nil, c.wrap("publish", spec.Tag, err)
	}
	return r, nil
}

// Discard deletes the drafts of a tag; where there are none it does nothing. A
// published release is not touched: its error wraps [fs.ErrExist].
func (c *Client) Discard(ctx context.Context, tag string) error {
	r, spare, err := c.find(ctx, tag)
	switch {
	case err != nil || r == nil:
	case !r.Draft:
		err = fmt.Errorf("it is published: %w", fs.ErrExist)
	default:
		for _, d := range append(spare, r) { // the one that a later run takes on goes last
			if err = c.delete(ctx, d.ID); err != nil {
				break
			}
		}
	}
	return c.wrap("discard", tag, err)
}

func (c *Client) prepare(ctx context.Context, spec *Spec) (*Release, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	if _, ok := c.auth.(anonymous); ok {
		return nil, fmt.Errorf("neither a token nor an App is given: %w", fs.ErrPermission)
	}
	assets, err := digests(ctx, spec.Assets)
	if err != nil {
		return nil, err
	}
	r, err := c.draft(ctx, spec)
	if err != nil {
		return nil, err
	}
	if r, err = c.texts(ctx, r, spec); err != nil {
		return nil, err
	}
	if r.Draft {
		for _, a := range r.Assets {
			if !slices.ContainsFunc(assets, func(u Upload) bool { return u.Name == a.Name }) {
				if err := c.deleteAsset(ctx, a.ID); err != nil {
					return nil, fmt.Errorf("delete asset %s: %w", httpx.Printable(a.Name), err)
				}
			}
		}
	}
	checked := map[int64]bool{} // assets whose bytes were read back
	for _, a := range assets {
		if err := c.upload(ctx, r, a, checked); err != nil {
			return nil, fmt.Errorf("asset %s: %w", a.Name, err)
		}
	}
	// What counts is what the release has now, not what was answered on the way.
	if r, err = c.byID(ctx, r.ID); err != nil {
		return nil, err
	}
	if r.Tag != spec.Tag {
		return nil, fmt.Errorf("the release has become that of tag %q", httpx.Printable(r.Tag))
	}
	for _, a := range assets {
		if err := c.verify(ctx, r.asset(a.Name), a, checked); err != nil {
			return nil, fmt.Errorf("asset %s: %w", a.Name, err)
		}
	}
	return r, nil
}

// draft finds the release or makes a draft.
func (c *Client) draft(ctx context.Context, spec *Spec) (*Release, error) {
	r, spare, err := c.find(ctx, spec.Tag)
	if err != nil {
		return nil, err
	}
	if r == nil {
		values := map[string]any{"tag_name": spec.Tag, "name": spec.name(), "body": spec.Body, "draft": true, "prerelease": spec.Prerelease}
		if spec.Target != "" {
			values["target_commitish"] = spec.Target
		}
		req := &request{method: http.MethodPost, url: c.path("releases"), want: http.StatusCreated}
		if err := req.json(values); err != nil {
			return nil, err
		}
		made := &Release{}
		_, createErr := c.send(ctx, req, made)
		if createErr != nil && !errors.Is(createErr, fs.ErrExist) && !uncertain(createErr) {
			return nil, fmt.Errorf("create draft: %w", createErr)
		}
		// GitHub lets two make a draft of one tag each, and an answer may be
		// lost on its way. All who look see the same oldest one.
		if r, spare, err = c.find(ctx, spec.Tag); err != nil {
			return nil, err
		}
		switch {
		case createErr != nil && r == nil:
			return nil, fmt.Errorf("create draft: %w", createErr)
		case createErr != nil:
		case r == nil:
			r = made // the list lags behind
		case r.ID != made.ID && !slices.ContainsFunc(spare, func(d *Release) bool { return d.ID == made.ID }):
			spare = append(spare, made)
		}
	}
	for _, d := range spare {
		if err := c.delete(ctx, d.ID); err != nil {
			return nil, fmt.Errorf("delete second draft %d: %w", d.ID, err)
		}
	}
	return r, nil
}

// texts changes what differs of a release beside its assets.
func (c *Client) texts(ctx context.Context, r *Release, spec *Spec) (*Release, error) {
	values := map[string]any{}
	if r.Name != spec.name() {
		values["name"] = spec.name()
	}
	if normal(r.Body) != normal(spec.Body) {
		values["body"] = spec.Body
	}
	if r.Prerelease != spec.Prerelease {
		values["prerelease"] = spec.Prerelease
	}
	if r.Draft && spec.Target != "" && r.Target != spec.Target {
		values["target_commitish"] = spec.Target
	}
	if len(values) == 0 {
		return r, nil
	}
	return c.edit(ctx, r, values)
}

// normal is a text as GitHub may give it back.
func normal(body string) string {
	return strings.TrimRight(strings.ReplaceAll(body, "\r\n", "\n"), "\n ")
}

func (c *Client) edit(ctx context.Context, r *Release, values map[string]any) (*Release, error) {
	req := &request{method: http.MethodPatch, url: c.releasePath(r.ID), want: http.StatusOK}
	if err := req.json(values); err != nil {
		return nil, err
	}
	out := &Release{}
	_, err := c.send(ctx, req, out)
	if err == nil && out.ID != r.ID {
		err = fmt.Errorf("the answer is about release %d, not %d", out.ID, r.ID)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Client) byID(ctx context.Context, id int64) (*Release, error) {
	r := &Release{}
	_, err := c.send(ctx, &request{method: http.MethodGet, url: c.releasePath(id), want: http.StatusOK}, r)
	return r, err
}

func (c *Client) delete(ctx context.Context, id int64) error {
	_, err := c.send(ctx, &request{method: http.MethodDelete, url: c.releasePath(id), want: http.StatusNoContent}, nil)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // by somebody else, or by an earlier attempt of this request
	}
	return err
}

// releasePath is the address of a release.
func (c *Client) releasePath(id int64, elem ...string) *url.URL {
	return c.path(append([]string{"releases", strconv.FormatInt(id, 10)}, elem...)...)
}
