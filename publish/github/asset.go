package github

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/publish"
)

// Upload is a file that a release shall have.
type Upload struct {
	Name        string // letters, digits, ".", "_" and "-": GitHub renames others
	Label       string // shown in place of Name; "": Name
	ContentType string // "": by the end of Name
	// SHA256 of the bytes, hexadecimal; "": Source is read once more for it.
	SHA256 string
	Source publish.Source // of 1 to [MaxAssetSize] bytes
}

var reSHA256 = lazyregexp.New(`^[0-9a-f]{64}$`)

// digests fills in what is not known of the bytes.
func digests(ctx context.Context, uploads []Upload) ([]Upload, error) {
	out := make([]Upload, len(uploads))
	for i, u := range uploads {
		if u.SHA256 == "" {
			sum, err := digest(ctx, u)
			if err != nil {
				return nil, fmt.Errorf("asset %s: %w", u.Name, err)
			}
			u.SHA256 = sum
		}
		if u.ContentType == "" {
			u.ContentType = contentType(u.Name)
		}
		out[i] = u
	}
	return out, nil
}

func digest(ctx context.Context, u Upload) (string, error) {
	r, err := publish.OpenSource(ctx, u.Source, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", err
	}
	return r.SHA256(), nil
}

// contentType goes by the file's name, and not by the machine's tables.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".gz", ".tgz":
		return "application/gzip"
	case ".zip":
		return "application/zip"
	case ".xz":
		return "application/x-xz"
	case ".zst":
		return "application/zstd"
	case ".json":
		return "application/json"
	case ".asc":
		return "application/pgp-signature"
	case ".txt", ".md":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// upload sees to it that the release has the asset.
func (c *Client) upload(ctx context.Context, r *Release, u Upload, checked map[int64]bool) error {
	if done, err := c.settle(ctx, r, r.asset(u.Name), u, checked); done || err != nil {
		return err
	}
	made, err := c.post(ctx, r, u)
	for attempt := 1; err != nil; attempt++ {
		// Half of it, or all, may be there, and then the name is taken: for
		// the next attempt, too, which the transport makes by itself.
		if attempt == uploadAttempts || !errors.Is(err, fs.ErrExist) && !uncertain(err) {
			return err
		}
		now, readErr := c.byID(ctx, r.ID)
		if readErr != nil {
			return errors.Join(err, readErr)
		}
		if done, err := c.settle(ctx, now, now.asset(u.Name), u, checked); done || err != nil {
			return err
		}
		made, err = c.post(ctx, r, u)
	}
	if err := c.verify(ctx, made, u, checked); err != nil {
		// Wrong bytes must not stay where somebody could publish them.
		if r.Draft {
			err = errors.Join(err, c.deleteAsset(ctx, made.ID))
		}
		return err
	}
	return nil
}

// settle looks at the asset that is there under the name, nil for none. It
// reports whether that is the right one; a wrong one in a draft, and one that is
// not whole, is deleted.
func (c *Client) settle(ctx context.Context, r *Release, there *Asset, u Upload, checked map[int64]bool) (bool, error) {
	if there == nil {
		return false, nil
	}
	err := c.verify(ctx, there, u, checked)
	switch {
	case err == nil:
		return true, nil
	case !errors.Is(err, publish.ErrDigest) && !errors.Is(err, errNotWhole):
		return false, err
	case !r.Draft && !errors.Is(err, errNotWhole):
		return false, fmt.Errorf("it was published with other bytes, which are not replaced: %w: %w", fs.ErrExist, err)
	}
	return false, c.deleteAsset(ctx, there.ID)
}

// uploadAttempts is how often a name is cleared for an upload.
const uploadAttempts = 3

var errNotWhole = errors.New("not whole")

// verify compares an asset with what it shall be.
func (c *Client) verify(ctx context.Context, a *Asset, u Upload, checked map[int64]bool) error {
	switch {
	case a == nil:
		return fmt.Errorf("is missing: %w", fs.ErrNotExist)
	case a.Name != u.Name:
		return fmt.Errorf("GitHub calls it %q", httpx.Printable(a.Name))
	case a.State != "uploaded":
		return fmt.Errorf("is %w: state %q", errNotWhole, httpx.Printable(a.State))
	case a.Size != u.Source.Size():
		return fmt.Errorf("GitHub has %d bytes, not %d: %w", a.Size, u.Source.Size(), publish.ErrDigest)
	case checked[a.ID]:
		return nil
	}
	got, ok := strings.CutPrefix(a.Digest, "sha256:")
	if !ok || !reSHA256.MatchString(got) {
		var err error
		if got, err = c.readBack(ctx, a); err != nil {
			return fmt.Errorf("read it back: %w", err)
		}
	}
	if got != u.SHA256 {
		return fmt.Errorf("GitHub has sha256 %s, not %s: %w", got, u.SHA256, publish.ErrDigest)
	}
	checked[a.ID] = true
	return nil
}

// readBack gives the SHA-256 of what a download gives.
func (c *Client) readBack(ctx context.Context, a *Asset) (string, error) {
	resp, err := c.open(ctx, &request{method: http.MethodGet, url: c.assetPath(a.ID), accept: "application/octet-stream", want: http.StatusOK})
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(resp.Body, a.Size+1))
	switch {
	case err != nil:
		return "", err
	case n != a.Size:
		return "", fmt.Errorf("a download does not give the %d bytes that GitHub says it has: %w", a.Size, publish.ErrDigest)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// post sends the bytes.
func (c *Client) post(ctx context.Context, r *Release, u Upload) (*Asset, error) {
	target, err := c.uploadURL(r)
	if err != nil {
		return nil, err
	}
	query := url.Values{"name": {u.Name}}
	if u.Label != "" {
		query.Set("label", u.Label)
	}
	target.RawQuery = query.Encode()
	opts := &publish.PutOptions{SHA256: u.SHA256}
	if c.progress != nil {
		opts.Progress = func(done, total int64) { c.progress(u.Name, done, total) }
	}
	req := &request{
		method: http.MethodPost, url: target, want: http.StatusCreated, contentType: u.ContentType, size: u.Source.Size(),
		body: func() (io.ReadCloser, error) { return publish.OpenSource(ctx, u.Source, opts) },
	}
	made := &Asset{}
	if _, err = c.send(ctx, req, made); err != nil {
		return nil, err
	}
	return made, nil
}

// check refuses answers that are no asset.
func (a *Asset) check() error {
	if a.ID <= 0 || a.Name == "" || a.Size < 0 {
		return fmt.Errorf("the answer is no asset: %q has no id, name or size", httpx.Printable(a.Name))
	}
	return nil
}

// uploadURL is where the release wants its assets. Credentials go only to the
// API's host and the one that belongs to it.
func (c *Client) uploadURL(r *Release) (*url.URL, error) {
	text, _, _ := strings.Cut(r.UploadURL, "{")
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("the release has no address for uploads: %q", httpx.Printable(httpx.RedactText(text)))
	}
	host := c.api.Host
	if rest, ok := strings.CutPrefix(host, "api."); ok { // api.github.com, api.NAME.ghe.com
		host = "uploads." + rest
	}
	hosts := []string{c.api.Host, host, "uploads." + c.api.Host}
	if u.Scheme != c.api.Scheme || !slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, u.Host) }) {
		return nil, fmt.Errorf("the release wants its assets at %s, which does not belong to the API at %s", httpx.Printable(httpx.RedactURL(u)), httpx.RedactURL(c.api))
	}
	return u, nil
}

func (c *Client) assetPath(id int64) *url.URL {
	return c.path("releases", "assets", strconv.FormatInt(id, 10))
}

func (c *Client) deleteAsset(ctx context.Context, id int64) error {
	_, err := c.send(ctx, &request{method: http.MethodDelete, url: c.assetPath(id), want: http.StatusNoContent}, nil)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}
