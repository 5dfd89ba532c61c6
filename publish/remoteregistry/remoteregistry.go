package remoteregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/okd-project/okd-streams/internal/containersauth"
	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/registriesconf"
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

// Options of [Open]; nil is the zero value, which is the default of each field.
type Options struct {
	// AuthFile is a credentials file that must exist; no other is read then.
	AuthFile string
	// AuthFiles are credentials files in order of precedence; those that do
	// not exist are skipped. None: anonymous. See [AuthFiles].
	AuthFiles []string
	// CredentialHelper gets credentials from docker-credential-NAME, where a
	// credentials file names one for a registry or the registries.conf of
	// Mirrors one for all; this package runs no programs. It returns user name and
	// secret; the user name "<token>" says that the secret is an identity token. nil: [errors.ErrUnsupported] where
	// a helper is needed.
	CredentialHelper func(ctx context.Context, name, registry string) (username, secret string, err error)
	// Keychain finds credentials instead of all of the above.
	Keychain authn.Keychain
	// Mirrors say from where to read instead, and what must not be used; nil:
	// each repository is read from where it is. See [MirrorFiles]. They count
	// for Head, Image, Index, Manifest, StatBlob and OpenBlob; a list of tags,
	// of referrers or of repositories is that of the registry named. The blobs
	// of an image come from where its manifest was found. A mirror that is called
	// insecure may use plain HTTP; certificates are verified all the same.
	Mirrors *Mirrors
	// ImmutableTags are patterns ([path.Match]) of tags that must not move once
	// they are there, such as "4.*"; none: all may. See [Registry.Tag].
	ImmutableTags []string
	// Insecure are hosts, as host or host:port, that may be spoken to over
	// plain HTTP when HTTPS fails. Loopback hosts always may.
	Insecure []string
	// CABundle holds certificates in PEM that are trusted beside the system's
	// for every host; nil: the system's alone.
	CABundle []byte
	// CertDirs are folders as containers-certs.d(5) has them, with a folder
	// HOST or HOST:PORT for each registry that has authorities or client
	// certificates of its own; those that do not exist are skipped. See
	// [CertDirs].
	CertDirs []string
	// Transport carries the requests; certificates and proxies are its affair,
	// repeating requests is not, and CABundle and CertDirs may not be set
	// beside it. nil: one like [net/http.DefaultTransport], with the proxies
	// of the environment.
	Transport http.RoundTripper
	// Attempts is how often a request is sent, and how often an upload is
	// continued without a byte of progress; 0: 6.
	Attempts int
	// Delay is the wait before the second attempt, doubled for each later
	// one; 0: half a second. A Retry-After header may ask for more.
	Delay time.Duration
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
	// PageSize is the number of tags or repositories asked for at a time; 0:
	// [DefaultPageSize].
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

// CertDirs lists the folders of certificates that podman and skopeo read. getenv
// is [os.Getenv] of a program.
func CertDirs(getenv func(string) string) []string {
	system := []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
	config := getenv("XDG_CONFIG_HOME")
	if home := getenv("HOME"); config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	if config == "" {
		return system
	}
	own := filepath.Join(config, "containers", "certs.d")
	if _, err := os.Stat(own); errors.Is(err, fs.ErrPermission) {
		return system // HOME is somebody else's, as in a container that runs as any user
	}
	return append([]string{own}, system...)
}

// transport is what carries the requests.
func (o *Options) transport() (http.RoundTripper, error) {
	switch {
	case o.Transport == nil && len(o.CABundle)+len(o.CertDirs) == 0:
		return httpx.BaseTransport(), nil
	case o.Transport == nil:
		return httpx.NewBase(&httpx.BaseOptions{Proxy: http.ProxyFromEnvironment, CABundle: o.CABundle, CertDirs: o.CertDirs})
	case len(o.CABundle)+len(o.CertDirs) > 0:
		return nil, errors.New("certificates are named beside a transport")
	}
	return o.Transport, nil
}

// Registry is every registry that can be reached. It may be used from any
// goroutine and holds nothing that needs closing.
type Registry struct {
	opts     Options
	log      *slog.Logger
	rt       http.RoundTripper
	keychain authn.Keychain
	slots    chan struct{}

	guard   *guard
	mirrors *registriesconf.Config
	flights flights

	mu        sync.Mutex
	sessions  map[string]*session
	greetings map[string]*greeting
}

var (
	_ publish.Registry  = (*Registry)(nil)
	_ publish.Blobs     = (*Registry)(nil)
	_ publish.Referrers = (*Registry)(nil)
)

// Open makes a registry client. It sends nothing: that is done by the first
// call for a repository. opts may be nil.
func Open(ctx context.Context, opts *Options) (*Registry, error) {
	r := &Registry{log: slog.New(slog.DiscardHandler), sessions: map[string]*session{}, greetings: map[string]*greeting{}}
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
	for _, pattern := range o.ImmutableTags {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, &publish.Error{Op: "open", Target: "remote registry", Err: fmt.Errorf("immutable tags: %q: %w", pattern, err)}
		}
	}
	mirrors, err := o.Mirrors.load()
	if err != nil {
		return nil, &publish.Error{Op: "open", Target: "remote registry", Err: err}
	}
	r.mirrors = mirrors
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.PageSize == 0 {
		o.PageSize = DefaultPageSize
	}
	if o.Attempts == 0 {
		o.Attempts = httpx.DefaultAttempts
	}
	if o.Delay == 0 {
		o.Delay = httpx.DefaultBaseDelay
	}
	if o.UserAgent == "" {
		o.UserAgent = "okd-streams"
	}
	if o.Logger != nil {
		r.log = o.Logger
	}
	r.slots = make(chan struct{}, min(o.Concurrency, maxConcurrency))
	base, err := o.transport()
	if err != nil {
		return nil, &publish.Error{Op: "open", Target: "remote registry", Err: err}
	}
	r.guard = &guard{
		insecure: slices.Clone(o.Insecure),
		next: httpx.NewTransport(base, &httpx.Options{
			Attempts: o.Attempts, BaseDelay: o.Delay, HeaderTimeout: o.HeaderTimeout, StallTimeout: o.StallTimeout, Jitter: o.Jitter,
			Logger: o.Logger,
		}),
	}
	r.rt = transport.NewUserAgent(r.guard, o.UserAgent)
	r.keychain = o.Keychain
	if r.keychain == nil {
		r.keychain = containersauth.New(&containersauth.Options{
			File: o.AuthFile, Files: o.AuthFiles, Helpers: r.mirrors.CredentialHelpers(), Helper: o.CredentialHelper,
		})
	}
	return r, nil
}

// Head describes what ref names: media type, digest and size.
func (r *Registry) Head(ctx context.Context, ref name.Reference) (desc *v1.Descriptor, err error) {
	err = r.read(ctx, ref, func(c *client, id string) error {
		desc, err = c.head(ctx, id)
		return err
	})
	if err != nil {
		return nil, fail("head", ref, err)
	}
	return desc, nil
}

// Image gives the image that ref names. An index gives
// [errors.ErrUnsupported]: it is for the caller to choose from it.
func (r *Registry) Image(ctx context.Context, ref name.Reference) (img v1.Image, err error) {
	err = r.read(ctx, ref, func(c *client, id string) error {
		desc, raw, err := c.manifest(ctx, id, v1.Descriptor{})
		if err == nil {
			img, err = ociimage.NewImage(ctx, (*repository)(c), desc, raw)
		}
		return err
	})
	if err != nil {
		return nil, fail("image", ref, err)
	}
	return img, nil
}

// Index gives the index that ref names. A plain image gives
// [errors.ErrUnsupported].
func (r *Registry) Index(ctx context.Context, ref name.Reference) (idx v1.ImageIndex, err error) {
	err = r.read(ctx, ref, func(c *client, id string) error {
		desc, raw, err := c.manifest(ctx, id, v1.Descriptor{})
		if err == nil {
			idx, err = ociimage.NewIndex(ctx, (*repository)(c), desc, raw)
		}
		return err
	})
	if err != nil {
		return nil, fail("index", ref, err)
	}
	return idx, nil
}

// partPattern is what a component of a repository path may be. Servers are
// stricter; this keeps paths out of the rest of the URL.
var partPattern = lazyregexp.New(`^[a-z0-9_-][a-z0-9._-]*$`)

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
	rc, err := c.blob(ctx, desc)
	if err != nil {
		return nil, fail("blob", c.repo.Digest(desc.Digest.String()), err)
	}
	return rc, nil
}
