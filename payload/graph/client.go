package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// Query says which part of a graph is asked for.
type Query struct {
	// Channel; a release controller gives all releases for an empty one.
	Channel string
	// Arch is the architecture; empty: [DefaultArch]. A release controller
	// does not look at it.
	Arch string
	// Version is the cluster's, for statistics; may be empty.
	Version string
}

// ClientOptions are options of NewClient; the zero value is useful.
type ClientOptions struct {
	// Transport sends requests; nil: one with time limits and the
	// environment's proxies. Requests that failed are sent again, as far as
	// that is safe.
	Transport http.RoundTripper
}

// Client asks a server for graphs: a Cincinnati, [Handler], a release
// controller, or files that [Graph.Files] gave. It may be used from any
// goroutine.
type Client struct {
	url  *url.URL
	http *http.Client
}

// NewClient asks the server at an http or https address, which is that of the
// graph itself ("https://HOST/graph"). opts may be nil.
func NewClient(address string, opts *ClientOptions) (*Client, error) {
	u, err := url.Parse(address)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		err = fmt.Errorf("an address such as https://HOST/graph is needed: %w", fs.ErrInvalid)
	}
	if err != nil {
		return nil, &Error{Op: "fetch", Target: httpx.RedactText(address), Err: httpx.Redact(err)}
	}
	var base http.RoundTripper
	if opts != nil {
		base = opts.Transport
	}
	return &Client{url: u, http: httpx.NewClient(httpx.NewTransport(base, nil))}, nil
}

// Graph fetches a graph, at most [MaxGraphSize] bytes. What the server refuses
// is an error with its kind and words; 404 wraps [fs.ErrNotExist].
func (c *Client) Graph(ctx context.Context, q Query) (*Graph, error) {
	u := *c.url
	query := u.Query()
	for name, value := range map[string]string{"channel": q.Channel, "arch": q.Arch, "version": q.Version} {
		if value != "" {
			query.Set(name, value)
		}
	}
	u.RawQuery = query.Encode()
	g, err := c.fetch(ctx, &u)
	if err != nil {
		return nil, &Error{Op: "fetch", Target: httpx.RedactURL(&u), Err: httpx.Redact(err)}
	}
	return g, nil
}

func (c *Client) fetch(ctx context.Context, u *url.URL) (*Graph, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := httpx.ReadBody(resp.Body, MaxGraphSize)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return decode(bytes.NewReader(body))
	}
	err = errors.New(resp.Status)
	if resp.StatusCode == http.StatusNotFound {
		err = fmt.Errorf("%s: %w", resp.Status, fs.ErrNotExist)
	}
	var r refusal
	if json.Unmarshal(body, &r) == nil && r.Kind != "" {
		err = fmt.Errorf("%w: %s: %s", err, httpx.Printable(r.Kind), httpx.Printable(r.Value))
	}
	return nil, err
}
