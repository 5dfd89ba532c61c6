package remoteregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/okd-project/okd-streams/internal/containersauth"
	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// Defaults and limits.
const (
	// MonolithicSize is the largest blob, in bytes, that is held in memory
	// and sent in one request.
	MonolithicSize = 4 << 20
	// DefaultConcurrency is the number of blobs that move at once.
	DefaultConcurrency = 4
	// DefaultPageSize is the number of tags asked for at a time.
	DefaultPageSize = 1000

	maxConcurrency = 64
)

// Options of [Open]. The zero value is the default of each field.
type Options struct {
	// AuthFile is a credentials file that must exist; no other is read then.
	AuthFile string
	// AuthFiles are credentials files in order of precedence; those that do
	// not exist are skipped. None: anonymous. See [AuthFiles].
	AuthFiles []string
	// CredentialHelper gets credentials from docker-credential-NAME, where a
	// credentials file names one for a registry; this package runs no
	// programs. It returns user name and secret; the user name "<token>" says
	// that the secret is an identity token. nil: [errors.ErrUnsupported] where
	// a helper is needed.
	CredentialHelper func(ctx context.Context, name, registry string) (username, secret string, err error)
	// Keychain finds credentials instead of all of the above.
	Keychain authn.Keychain
	// Insecure are hosts, as host or host:port, that may be spoken to over
	// plain HTTP when HTTPS fails. Loopback hosts always may.
	Insecure []string
	// Transport carries the requests; certificates and proxies are its affair,
	// repeating requests is not. nil: one like [net/http.DefaultTransport].
	Transport http.RoundTripper
	// Attempts is how often a request is sent, and how often an upload is
	// continued without a byte of progress; 0: 6.
	Attempts int
	// BaseDelay is the wait before the second attempt, doubled for each later
	// one; 0: half a second. A Retry-After header may ask for more.
	BaseDelay time.Duration
	// HeaderTimeout is how long the server may think before it answers; 0: two
	// minutes.
	HeaderTimeout time.Duration
	// StallTimeout is how long a transfer may stand still; 0: a minute.
	StallTimeout time.Duration
	// Jitter gives values in [0,1) to spread the waits; nil: they are not.
	Jitter func() float64
	// Concurrency is the number of blobs that move at once, over all calls;
	// 0: [DefaultConcurrency], at most 64.
	Concurrency int
	// ChunkSize cuts large blobs into PATCH requests of this many bytes; 0: a
	// blob is one request, which every registry understands. A server's
	// OCI-Chunk-Min-Length is honoured.
	ChunkSize int64
	// PageSize is the number of tags asked for at a time; 0: [DefaultPageSize].
	PageSize int
	// UserAgent goes before the protocol library's own; "": okd-streams.
	UserAgent string
	// Logger gets requests at debug and finished writes at info level, without
	// credentials; nil: silent.
	Logger *slog.Logger
}

// AuthFiles lists the credentials files that podman and oc read when no flag
// names one. getenv is [os.Getenv] of a program.
func AuthFiles(getenv func(string) string) []string { return containersauth.DefaultPaths(getenv) }

// Registry is every registry that can be reached. It may be used from any
// goroutine and holds nothing that needs closing.
type Registry struct {
	opts     Options
	log      *slog.Logger
	rt       http.RoundTripper
	keychain authn.Keychain
	slots    chan struct{}

	mu      sync.Mutex
	clients map[string]*session
}

var _ publish.Registry = (*Registry)(nil)

// Open makes a registry client. It sends nothing: that is done by the first
// call for a repository. opts may be nil.
func Open(ctx context.Context, opts *Options) (*Registry, error) {
	r := &Registry{log: slog.New(slog.DiscardHandler), clients: map[string]*session{}}
	if opts != nil {
		r.opts = *opts
	}
	o := &r.opts
	if err := ctx.Err(); err != nil {
		return nil, &publish.Error{Op: "open", Target: "remote registry", Err: err}
	}
	if o.Attempts < 0 || o.ChunkSize < 0 || o.PageSize < 0 || o.Concurrency < 0 {
		return nil, &publish.Error{Op: "open", Target: "remote registry", Err: errors.New("an option is negative")}
	}
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.PageSize == 0 {
		o.PageSize = DefaultPageSize
	}
	if o.Attempts == 0 {
		o.Attempts = httpx.DefaultAttempts
	}
	if o.BaseDelay == 0 {
		o.BaseDelay = httpx.DefaultBaseDelay
	}
	if o.UserAgent == "" {
		o.UserAgent = "okd-streams"
	}
	if o.Logger != nil {
		r.log = o.Logger
	}
	r.slots = make(chan struct{}, min(o.Concurrency, maxConcurrency))
	base := o.Transport
	if base == nil {
		base = httpx.BaseTransport()
	}
	r.rt = transport.NewUserAgent(&guard{
		insecure: o.Insecure,
		next: httpx.NewTransport(base, &httpx.Options{
			Attempts: o.Attempts, BaseDelay: o.BaseDelay, HeaderTimeout: o.HeaderTimeout, StallTimeout: o.StallTimeout, Jitter: o.Jitter,
			Repeatable: repeatable, Logger: o.Logger,
		}),
	}, o.UserAgent)
	r.keychain = o.Keychain
	if r.keychain == nil {
		r.keychain = containersauth.New(&containersauth.Options{File: o.AuthFile, Files: o.AuthFiles, Helper: o.CredentialHelper})
	}
	return r, nil
}

// onceKey marks the context of a request that changes an upload.
type onceKey struct{}

// once keeps the transport from repeating a request of which half may have
// arrived: only the uploader knows how to find out.
func once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

func repeatable(req *http.Request) bool {
	return req.Context().Value(onceKey{}) == nil && httpx.Repeatable(req)
}

// Head describes what ref names: media type, digest and size.
func (r *Registry) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	c, id, err := r.reader(ctx, ref)
	if err != nil {
		return nil, fail("head", ref, err)
	}
	desc, err := c.head(ctx, id)
	if err != nil {
		return nil, fail("head", ref, err)
	}
	return desc, nil
}

// Image gives the image that ref names. An index gives
// [errors.ErrUnsupported]: it is for the caller to choose from it.
func (r *Registry) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	c, id, err := r.reader(ctx, ref)
	if err != nil {
		return nil, fail("image", ref, err)
	}
	desc, raw, err := c.manifest(ctx, id, v1.Descriptor{})
	if err != nil {
		return nil, fail("image", ref, err)
	}
	img, err := ociimage.NewImage(ctx, (*repository)(c), desc, raw)
	if err != nil {
		return nil, fail("image", ref, err)
	}
	return img, nil
}

// Index gives the index that ref names. A plain image gives
// [errors.ErrUnsupported].
func (r *Registry) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	c, id, err := r.reader(ctx, ref)
	if err != nil {
		return nil, fail("index", ref, err)
	}
	desc, raw, err := c.manifest(ctx, id, v1.Descriptor{})
	if err != nil {
		return nil, fail("index", ref, err)
	}
	idx, err := ociimage.NewIndex(ctx, (*repository)(c), desc, raw)
	if err != nil {
		return nil, fail("index", ref, err)
	}
	return idx, nil
}

// reader prepares reading ref and gives its tag or digest.
func (r *Registry) reader(ctx context.Context, ref name.Reference) (*client, string, error) {
	if ref == nil {
		return nil, "", errors.New("no reference is given")
	}
	id := ref.Identifier()
	if strings.Contains(id, ":") {
		h, err := v1.NewHash(id)
		if err != nil {
			return nil, "", err
		}
		id = h.String()
	} else if err := checkTag(id); err != nil {
		return nil, "", err
	}
	c, err := r.client(ctx, ref.Context(), transport.PullScope, nil)
	return c, id, err
}

// What a tag and a component of a repository path may be. Servers are stricter
// about paths; this keeps them out of the rest of the URL.
var (
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	partPattern = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]*$`)
)

func checkTag(tag string) error {
	if !tagPattern.MatchString(tag) {
		return fmt.Errorf("%.140q is not a tag", tag)
	}
	return nil
}

func checkRepository(repo name.Repository) error {
	p := repo.RepositoryStr()
	if p == "" || len(p) > 255 {
		return fmt.Errorf("repository path %.300q: must have 1 to 255 characters", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if !partPattern.MatchString(part) {
			return fmt.Errorf("repository path %q: component %q is not allowed", p, part)
		}
	}
	return nil
}

// repository is a client as [ociimage.Repository].
type repository client

func (r *repository) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	c := (*client)(r)
	_, raw, err := c.manifest(ctx, desc.Digest.String(), desc)
	if err != nil {
		return nil, fail("manifest", c.repo.Digest(desc.Digest.String()), err)
	}
	return raw, nil
}

func (r *repository) Blob(ctx context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	c := (*client)(r)
	target := c.repo.Digest(desc.Digest.String())
	body := &download{ctx: ctx, client: c, desc: desc}
	if err := body.open(); err != nil {
		return nil, fail("blob", target, err)
	}
	verified, err := verify.ReadCloser(body, desc.Digest, desc.Size)
	if err != nil {
		return nil, fail("blob", target, err)
	}
	return &blobReader{verified, target}, nil
}

// download is a blob's bytes, not verified. When they break off it asks for the
// rest, as long as each answer brings something.
type download struct {
	ctx    context.Context // governs the reader until Close
	client *client
	desc   v1.Descriptor

	body    io.ReadCloser
	at      int64
	attempt int
}

// open asks for what is missing.
func (d *download) open() error {
	var header http.Header
	if d.at > 0 {
		header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", d.at)}}
	}
	resp, err := d.client.do(d.ctx, http.MethodGet, d.client.url("blobs", d.desc.Digest.String()), header, nil, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return err
	}
	want, skip := d.desc.Size-d.at, int64(0)
	if resp.StatusCode == http.StatusOK {
		want, skip = d.desc.Size, d.at
	} else if got := resp.Header.Get("Content-Range"); d.at == 0 || !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", d.at)) {
		resp.Body.Close()
		return fmt.Errorf("server answers with the range %.60q, want what follows byte %d: %w", got, d.at, verify.ErrDigest)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		resp.Body.Close()
		return fmt.Errorf("server sends %d bytes, want %d: %w", resp.ContentLength, want, verify.ErrDigest)
	}
	d.body = resp.Body
	if _, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
		// It broke off before the place: the next attempt tells.
		resp.Body.Close()
		d.body = io.NopCloser(failing{err})
	}
	return nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (d *download) Read(p []byte) (int, error) {
	for {
		n, err := d.body.Read(p)
		d.at += int64(n)
		if n > 0 {
			d.attempt = 0
			if err != nil && err != io.EOF {
				err = nil // the body gives it again at the next call
			}
		}
		if n > 0 || err == nil || err == io.EOF {
			return n, err
		}
		if d.ctx.Err() != nil {
			return 0, d.ctx.Err()
		}
		d.attempt++
		if !httpx.Temporary(err) || d.attempt >= d.client.registry.opts.Attempts {
			return 0, err
		}
		d.body.Close()
		d.body = io.NopCloser(failing{err})
		if err := d.client.registry.wait(d.ctx, d.attempt, err); err != nil {
			return 0, err
		}
		if err := d.open(); err != nil {
			return 0, err
		}
	}
}

func (d *download) Close() error { return d.body.Close() }

// blobReader names the blob in the errors of its reader.
type blobReader struct {
	io.ReadCloser
	target name.Digest
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fail("read", b.target, err)
	}
	return n, err
}
