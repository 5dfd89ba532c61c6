package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// DefaultAPI is the address of GitHub's API.
const DefaultAPI = "https://api.github.com"

// Limits.
const (
	// MaxAnswerSize bounds a document of the API, bytes.
	MaxAnswerSize = 32 << 20
	// MaxReleases is how many releases of a repository are looked at; GitHub
	// itself lists no more.
	MaxReleases = 10_000
	// MaxBodySize bounds the text of a release, characters, as GitHub does.
	MaxBodySize = 125_000
	// MaxAssets bounds the assets of a release, as GitHub does.
	MaxAssets = 1000
	// MaxAssetSize bounds an asset, bytes: GitHub wants less than 2 GiB.
	MaxAssetSize = 2<<30 - 1
)

// apiVersion is the version of the API that is asked for.
const apiVersion = "2022-11-28"

// ClientOptions are options of [NewClient]; nil and the zero value read what is
// public.
type ClientOptions struct {
	// API is the address of the API; "": [DefaultAPI]. That of an Enterprise
	// server is https://HOST/api/v3.
	API string
	// Token is a personal token or the one of a workflow, with the permission
	// "contents: write"; white space around it does not count.
	Token string
	// App gives tokens in place of Token.
	App *App
	// Now is the clock that tokens of an App are made by; needed with App.
	Now func() time.Time

	// Transport sends requests; nil: one with time limits and the
	// environment's proxies. Requests that failed are sent again.
	Transport http.RoundTripper
	// MaxWait is the longest wait that GitHub may ask for because of its
	// limits; a longer one is an error that names it. 0: 5 minutes.
	MaxWait time.Duration
	// Jitter gives values in [0,1) that spread repetitions; nil: none.
	Jitter func() float64
	// Progress is told how much of an asset is sent, in bytes; nil: nobody.
	Progress func(asset string, done, total int64)
	// Logger gets each request at debug level; nil: silent.
	Logger *slog.Logger
}

// Client works on the releases of one repository. It may be used from any
// goroutine.
type Client struct {
	repository string
	api        *url.URL
	http       *http.Client
	auth       credentials
	progress   func(asset string, done, total int64)
}

// Names as GitHub has them.
var reRepository = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$`)

// NewClient works on a repository, OWNER/NAME. It sends nothing. opts may be nil.
func NewClient(repository string, opts *ClientOptions) (*Client, error) {
	c, err := newClient(repository, opts)
	if err != nil {
		return nil, &Error{Op: "connect", Repository: httpx.Printable(repository), Err: httpx.Redact(err)}
	}
	return c, nil
}

func newClient(repository string, opts *ClientOptions) (*Client, error) {
	if opts == nil {
		opts = &ClientOptions{}
	}
	_, name, _ := strings.Cut(repository, "/")
	if !reRepository.MatchString(repository) || name == "." || name == ".." {
		return nil, fmt.Errorf("a repository is OWNER/NAME: %w", fs.ErrInvalid)
	}
	address := opts.API
	if address == "" {
		address = DefaultAPI
	}
	api, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if api.Scheme != "https" && api.Scheme != "http" || api.Host == "" || api.User != nil || api.RawQuery != "" || api.Fragment != "" {
		return nil, fmt.Errorf("address %s of the API: one such as https://HOST/api/v3 is needed: %w", httpx.RedactURL(api), fs.ErrInvalid)
	}
	c := &Client{repository: repository, api: api, auth: anonymous{}, progress: opts.Progress}
	switch {
	case opts.Token != "" && opts.App != nil:
		return nil, fmt.Errorf("a token and an App: only one is used: %w", fs.ErrInvalid)
	case opts.Token != "":
		c.auth, err = newFixed(opts.Token)
	case opts.App != nil:
		c.auth, err = newInstalled(opts.App, opts.Now)
	}
	if err != nil {
		return nil, err
	}
	base := opts.Transport
	if base == nil {
		base = httpx.BaseTransport()
	}
	c.http = httpx.NewClient(httpx.NewTransport(&limits{base}, &httpx.Options{
		MaxRetryAfter: opts.MaxWait, Jitter: opts.Jitter, Logger: opts.Logger, Repeatable: repeatable,
	}))
	c.http.CheckRedirect = httpx.CheckSameMethod
	return c, nil
}

// repeatable: what is sent here has the same effect twice, or is refused because
// of the first; but of a draft there would be a second one.
func repeatable(req *http.Request) bool {
	return req.Method != http.MethodPost || !strings.HasSuffix(req.URL.Path, "/releases")
}

// wrap names operation and release, and takes secrets out of what servers say.
func (c *Client) wrap(op, tag string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Repository: c.repository, Tag: httpx.Printable(tag), Err: httpx.RedactSecrets(err, c.auth.secrets()...)}
}

// path is an address below the repository's.
func (c *Client) path(elem ...string) *url.URL {
	for i, e := range elem {
		elem[i] = url.PathEscape(e)
	}
	owner, name, _ := strings.Cut(c.repository, "/")
	return c.api.JoinPath(append([]string{"repos", owner, name}, elem...)...)
}

// request is one of the API.
type request struct {
	method        string
	url           *url.URL
	want          int
	authorization string // "": the client's

	accept      string // "": JSON
	contentType string
	size        int64
	body        func() (io.ReadCloser, error) // each time from its beginning; nil: none
}

// json makes v the body.
func (r *request) json(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.contentType, r.size = "application/json", int64(len(data))
	r.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	return nil
}

// send sends a request and decodes the answer into out; nil: there is none.
func (c *Client) send(ctx context.Context, r *request, out any) (http.Header, error) {
	resp, err := c.open(ctx, r)
	if resp == nil {
		return http.Header{}, err
	}
	if err != nil {
		return resp.Header, err
	}
	defer func() { _ = resp.Body.Close() }()
	if out == nil {
		return resp.Header, nil
	}
	if err := decode(resp, out); err != nil {
		return resp.Header, fmt.Errorf("%s %s: %w", r.method, httpx.RedactURL(r.url), err)
	}
	return resp.Header, nil
}

// decode reads a document.
func decode(resp *http.Response, out any) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return fmt.Errorf("the answer is %q, not JSON: no GitHub API?", httpx.Printable(kind))
	}
	body, err := httpx.ReadBody(resp.Body, MaxAnswerSize)
	if err != nil {
		return fmt.Errorf("the answer: %.300w", err) // it quotes numbers of any length
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("the answer: %.300w", err) // it quotes numbers of any length
	}
	if v, ok := out.(interface{ check() error }); ok {
		return v.check()
	}
	return nil
}

// open sends a request; an answer that refuses is an error, its header is then
// in the response all the same.
func (c *Client) open(ctx context.Context, r *request) (*http.Response, error) {
	for again := true; ; again = false {
		req, err := c.request(ctx, r)
		if err != nil {
			return nil, err
		}
		resp, err := c.http.Do(req)
		if err != nil {
			if e, ok := errors.AsType[*url.Error](err); ok { // it has the address of the last redirect, not what was asked for
				err = fmt.Errorf("%s %s: %w", r.method, httpx.RedactURL(r.url), e.Err)
			}
			return nil, err
		}
		if resp.StatusCode == r.want {
			return resp, nil
		}
		f := fault(resp)
		if again && f.status == http.StatusUnauthorized && r.authorization == "" && c.auth.refused(req.Header.Get("Authorization")) {
			continue
		}
		if resp.StatusCode < 300 {
			f.text += fmt.Sprintf(" where %d was due", r.want)
		}
		return resp, fmt.Errorf("%s %s: %w", r.method, httpx.RedactURL(r.url), f)
	}
}

func (c *Client) request(ctx context.Context, r *request) (*http.Request, error) {
	authorization := r.authorization
	if authorization == "" {
		var err error
		if authorization, err = c.auth.header(ctx, c); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), nil)
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		if req.Body, err = r.body(); err != nil {
			return nil, err
		}
		req.ContentLength, req.GetBody = r.size, r.body
		req.Header.Set("Content-Type", r.contentType)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	accept := r.accept
	if accept == "" {
		accept = "application/vnd.github+json"
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("X-Github-Api-Version", apiVersion)
	req.Header.Set("User-Agent", "okd-streams") // GitHub refuses requests without one
	return req, nil
}
