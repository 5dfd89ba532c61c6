package controller

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
)

// Limits of answers.
const (
	// MaxAnswerSize bounds a document, bytes; a release with its change log has
	// some MB.
	MaxAnswerSize = 64 << 20
	// MaxTags bounds the releases of a stream.
	MaxTags = 100_000
)

// DefaultMaxAge is how long a release that is decided is not asked for again.
const DefaultMaxAge = 24 * time.Hour

// ClientOptions are options of [NewClient]; nil and the zero value are useful.
type ClientOptions struct {
	// Transport sends requests; nil: one with time limits and the
	// environment's proxies. Requests that failed are sent again.
	Transport http.RoundTripper

	// Cache keeps what is known of decided releases, so that a report of many
	// days need not ask for each; nil: none. A cache that cannot be read or
	// written costs time alone.
	Cache publish.Store
	// CachePrefix is put before the keys in Cache, "" or ending in "/".
	CachePrefix string
	// MaxAge is how old an entry may be, since people may still set a rejected
	// release back and upgrade jobs still end; 0: [DefaultMaxAge].
	MaxAge time.Duration
	// Now is the clock that MaxAge is measured with; it must be given with Cache.
	Now func() time.Time
}

// Client reads a release controller's API. It may be used from any goroutine.
type Client struct {
	base *url.URL
	http *http.Client
	opts ClientOptions
	// transport carries graphs too.
	transport http.RoundTripper
}

// NewClient speaks with the controller at an http or https address, the one of
// its start page. opts may be nil.
func NewClient(address string, opts *ClientOptions) (*Client, error) {
	u, err := url.Parse(address)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		err = fmt.Errorf("an address such as https://HOST is needed: %w", fs.ErrInvalid)
	}
	if err != nil {
		return nil, &Error{Op: "fetch", Target: httpx.RedactText(address), Err: httpx.Redact(err)}
	}
	c := &Client{base: u}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.Cache != nil && c.opts.Now == nil {
		return nil, &Error{Op: "fetch", Target: httpx.RedactURL(u), Err: errors.New("a cache needs a clock")}
	}
	if c.opts.MaxAge == 0 {
		c.opts.MaxAge = DefaultMaxAge
	}
	c.transport = httpx.NewTransport(c.opts.Transport, nil)
	c.http = httpx.NewClient(c.transport)
	return c, nil
}

// Streams lists the releases of each stream by its name, newest first by
// semantic version, those of one phase (Ready, Accepted, Rejected) or, for an
// empty one, all. Streams that are hidden or at their end may be missing.
func (c *Client) Streams(ctx context.Context, phase Phase) (map[string][]string, error) {
	var out map[string][]string
	name := "all"
	switch phase {
	case "":
	case Ready, Accepted, Rejected:
		name = strings.ToLower(string(phase))
	default:
		return nil, &Error{Op: "fetch", Target: "streams", Err: fmt.Errorf("phase %q: %w", phase, errors.ErrUnsupported)}
	}
	err := c.fetch(ctx, nil, &out, "api", "v1", "releasestreams", name)
	return out, err
}

// Tags lists the releases of a stream, newest first by semantic version (see
// payload/graph.Compare for a better order); with phases those alone.
func (c *Client) Tags(ctx context.Context, stream string, phases ...Phase) ([]Tag, error) {
	query := url.Values{}
	for _, p := range phases {
		query.Add("phase", string(p))
	}
	var out struct {
		Name string `json:"name"`
		Tags []Tag  `json:"tags"`
	}
	err := c.fetch(ctx, query, &out, "api", "v1", "releasestream", stream, "tags")
	if err == nil && len(out.Tags) > MaxTags {
		err = &Error{Op: "fetch", Target: stream, Err: fmt.Errorf("%d releases, limit %d", len(out.Tags), MaxTags)}
	}
	if err != nil {
		return nil, err
	}
	// A controller that does not know the parameter answers with all.
	if len(phases) > 0 {
		out.Tags = slices.DeleteFunc(out.Tags, func(t Tag) bool { return !slices.Contains(phases, t.Phase) })
	}
	return out.Tags, nil
}

// LatestOptions are options of [Client.Latest]; nil and the zero value are useful.
type LatestOptions struct {
	In     string // range of semantic versions: ">4.20.0-0 <4.21.0-0"
	Prefix string // of the version
	Before int    // 1: the release before the latest, and so on
}

// Latest gives the newest accepted release of a stream, by semantic version.
// That there is none is an error that wraps [fs.ErrNotExist].
func (c *Client) Latest(ctx context.Context, stream string, opts *LatestOptions) (*Tag, error) {
	query := url.Values{}
	if opts != nil {
		for name, value := range map[string]string{"in": opts.In, "prefix": opts.Prefix} {
			if value != "" {
				query.Set(name, value)
			}
		}
		if opts.Before != 0 {
			query.Set("rel", strconv.Itoa(opts.Before))
		}
	}
	var out Tag
	if err := c.fetch(ctx, query, &out, "api", "v1", "releasestream", stream, "latest"); err != nil {
		return nil, err
	}
	return &out, nil
}

// Candidate gives the release that may be promoted next, nil if there is none.
func (c *Client) Candidate(ctx context.Context, stream string) (*Candidate, error) {
	var out struct {
		Candidate *Candidate `json:"candidate"`
	}
	err := c.fetch(ctx, nil, &out, "api", "v1", "releasestream", stream, "candidate")
	return out.Candidate, err
}

// Config gives how a stream is configured.
func (c *Client) Config(ctx context.Context, stream string) (*Config, error) {
	var raw json.RawMessage
	if err := c.fetch(ctx, nil, &raw, "api", "v1", "releasestream", stream, "config"); err != nil {
		return nil, err
	}
	return DecodeConfig(raw)
}

// ReleaseOptions are options of [Client.Release]; nil and the zero value are useful.
type ReleaseOptions struct {
	// Log asks for the change log too, which takes a controller minutes the
	// first time.
	Log bool
}

// Release gives what is known of a release of a stream. Decided releases may
// come from the cache.
func (c *Client) Release(ctx context.Context, stream, tag string, opts *ReleaseOptions) (*Release, error) {
	query := url.Values{}
	if opts == nil || !opts.Log {
		query.Set("format", "short")
	}
	path := []string{"api", "v1", "releasestream", stream, "release", tag}
	key := c.cacheKey(query, path)
	if out := c.cached(ctx, key); out != nil {
		return out, nil
	}
	out := &Release{}
	if err := c.fetch(ctx, query, out, path...); err != nil {
		return nil, err
	}
	if out.Log != nil && out.Log.To.Name == "" {
		out.Log = nil // the short form has an empty one
	}
	if key != "" && (out.Phase == Accepted || out.Phase == Rejected || out.Phase == Failed) {
		c.keep(ctx, key, out)
	}
	return out, nil
}

// Graph gives the updates that were tested, which is all that clusters of OKD
// are offered. See graph.CheckChannel for the names that a controller knows.
func (c *Client) Graph(ctx context.Context, channel string) (*graph.Graph, error) {
	g, err := graph.NewClient(c.base.JoinPath("graph").String(), &graph.ClientOptions{Transport: c.transport})
	if err != nil {
		return nil, err
	}
	return g.Graph(ctx, graph.Query{Channel: channel})
}

func (c *Client) fetch(ctx context.Context, query url.Values, out any, path ...string) error {
	for i, p := range path {
		if p == "" || p == "." || p == ".." {
			return &Error{Op: "fetch", Target: strings.Join(path[:i], "/"), Err: fmt.Errorf("name %q: %w", p, fs.ErrInvalid)}
		}
		path[i] = url.PathEscape(p)
	}
	u := c.base.JoinPath(path...)
	u.RawQuery = query.Encode()
	err := c.get(ctx, u, out)
	if err != nil {
		return &Error{Op: "fetch", Target: httpx.RedactURL(u), Err: httpx.Redact(err)}
	}
	return nil
}

func (c *Client) get(ctx context.Context, u *url.URL, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	limit := int64(MaxAnswerSize)
	if resp.StatusCode != http.StatusOK {
		limit = 64 << 10
	}
	body, err := httpx.ReadBody(resp.Body, limit)
	if resp.StatusCode != http.StatusOK {
		text := ""
		if err == nil && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			text = ": " + firstLine(body)
		}
		// An unknown stream is 404 or, of its configuration, 400.
		if resp.StatusCode == http.StatusNotFound || bytes.Contains(body, []byte("unknown release stream")) {
			return fmt.Errorf("%s%s: %w", resp.Status, text, fs.ErrNotExist)
		}
		return errors.New(resp.Status + text)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, out)
}

// firstLine is what a server says, printable and short.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	return httpx.Printable(line)
}

// entry is a cached release.
type entry struct {
	Fetched time.Time `json:"fetched"`
	Release *Release  `json:"release"`
}

// cacheKey is "" without a cache.
func (c *Client) cacheKey(query url.Values, path []string) string {
	if c.opts.Cache == nil {
		return ""
	}
	id := sha256.Sum256([]byte(c.base.JoinPath(path...).Redacted() + "?" + query.Encode()))
	return fmt.Sprintf("%srelease-controller/%x.json", c.opts.CachePrefix, id)
}

func (c *Client) cached(ctx context.Context, key string) *Release {
	if key == "" {
		return nil
	}
	r, _, err := publish.ReadDocument(ctx, c.opts.Cache, key)
	if err != nil {
		return nil
	}
	var e entry
	if json.Unmarshal(r, &e) != nil || e.Release == nil {
		return nil
	}
	if age := c.opts.Now().Sub(e.Fetched); age < 0 || age > c.opts.MaxAge {
		return nil
	}
	return e.Release
}

func (c *Client) keep(ctx context.Context, key string, r *Release) {
	data, err := json.Marshal(entry{Fetched: c.opts.Now().UTC(), Release: r})
	if err == nil {
		_, _ = c.opts.Cache.Put(ctx, key, publish.BytesSource(data), nil)
	}
}
