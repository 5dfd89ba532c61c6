package open

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/httpstore"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
	"github.com/okd-project/okd-streams/publish/s3store"
)

// StoreOptions of [Store]. The zero value is the default of each field; what a
// backend does not know is not used.
type StoreOptions struct {
	// ReadOnly opens a folder that is not changed, and must exist.
	ReadOnly bool
	// NoSync leaves out fsync in folders.
	NoSync bool
	// AccessKey, SecretKey and SessionToken are for a bucket; "": as the AWS
	// SDK finds them.
	AccessKey, SecretKey, SessionToken string
	// Transport carries HTTP requests; nil: the backend's own.
	Transport http.RoundTripper
	// Jitter gives values in [0,1) to spread the waits between attempts; nil:
	// they are not spread.
	Jitter func() float64
	// Logger; nil: silent.
	Logger *slog.Logger
}

// Store opens the store that url names, see the package comment. The caller
// closes it if it is an [io.Closer]. A scheme that is not known gives
// [errors.ErrUnsupported] and a text that lists the known ones. opts may be
// nil.
func Store(ctx context.Context, url string, opts *StoreOptions) (publish.Store, error) {
	if opts == nil {
		opts = &StoreOptions{}
	}
	scheme, rest, ok := strings.Cut(url, ":")
	switch {
	case ok && scheme == "dir":
		if rest == "" {
			return nil, fail("open store", url, errors.New("no folder is named"))
		}
		s, err := dirstore.Open(ctx, rest, &dirstore.Options{ReadOnly: opts.ReadOnly, NoSync: opts.NoSync})
		if err != nil {
			return nil, err
		}
		return s, nil
	case ok && scheme == "mem":
		if rest != "" {
			return nil, fail("open store", url, errors.New("a store in memory has no name"))
		}
		return memstore.New(), nil
	case ok && scheme == "s3":
		config, err := s3store.ParseURL(url)
		if err != nil {
			return nil, err
		}
		s, err := s3store.Open(ctx, config, &s3store.Options{
			AccessKey: opts.AccessKey, SecretKey: opts.SecretKey, SessionToken: opts.SessionToken,
			Base: opts.Transport, Jitter: opts.Jitter, Logger: opts.Logger,
		})
		if err != nil {
			return nil, err
		}
		return s, nil
	case ok && (scheme == "http" || scheme == "https"):
		s, err := httpstore.New(url, &httpstore.Options{Transport: opts.Transport, Jitter: opts.Jitter, Logger: opts.Logger})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, fail("open store", url, unknown(scheme, ok, "dir:PATH, mem:, s3://BUCKET/PREFIX, https://HOST/PATH"))
}

// RegistryOptions of [Registry]. The zero value is the default of each field;
// what a backend does not know is not used.
type RegistryOptions struct {
	// AuthFile and AuthFiles are credentials files, see
	// [remoteregistry.Options]; a program passes [remoteregistry.AuthFiles].
	AuthFile  string
	AuthFiles []string
	// CredentialHelper runs docker-credential-NAME; nil: [errors.ErrUnsupported]
	// where a helper is needed.
	CredentialHelper func(ctx context.Context, name, registry string) (username, secret string, err error)
	// Insecure are hosts that may be spoken to over plain HTTP.
	Insecure []string
	// NoSync leaves out fsync in folders.
	NoSync bool
	// Concurrency is the number of blobs that move at once; 0: 4.
	Concurrency int
	// Transport carries HTTP requests; nil: the backend's own.
	Transport http.RoundTripper
	// Jitter gives values in [0,1) to spread the waits between attempts; nil:
	// they are not spread.
	Jitter func() float64
	// Logger; nil: silent.
	Logger *slog.Logger
}

// Registry opens the registry that url names, see the package comment. It
// connects to nothing yet. Errors are as those of [Store]. opts may be nil.
func Registry(ctx context.Context, url string, opts *RegistryOptions) (publish.Registry, error) {
	if opts == nil {
		opts = &RegistryOptions{}
	}
	kind, place, err := registry(url)
	if err != nil {
		return nil, fail("open registry", url, err)
	}
	if kind == "docker" {
		if _, err := base(kind, place); err != nil {
			return nil, fail("open registry", url, err)
		}
		r, err := remoteregistry.Open(ctx, &remoteregistry.Options{
			AuthFile: opts.AuthFile, AuthFiles: opts.AuthFiles, CredentialHelper: opts.CredentialHelper, Insecure: opts.Insecure,
			Concurrency: opts.Concurrency, Transport: opts.Transport, Jitter: opts.Jitter, Logger: opts.Logger,
		})
		if err != nil {
			return nil, err
		}
		return r, nil
	}
	r, err := layoutregistry.Open(ctx, place, &layoutregistry.Options{NoSync: opts.NoSync, Concurrency: opts.Concurrency, Logger: opts.Logger})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Repository is the repository at a path below the registry that url names:
// for docker://HOST/BASE it is HOST/BASE/PATH. In a folder there is no host
// and any would do; localhost stands for it.
func Repository(url, path string) (name.Repository, error) {
	kind, place, err := registry(url)
	if err != nil {
		return name.Repository{}, fail("name repository", url, err)
	}
	text, err := base(kind, place)
	if err != nil {
		return name.Repository{}, fail("name repository", url, err)
	}
	if path != "" {
		text += "/" + path
	}
	repo, err := name.NewRepository(text, name.StrictValidation)
	if err != nil {
		return name.Repository{}, fail("name repository", url, err)
	}
	return repo, nil
}

// registry splits the URL of a registry.
func registry(url string) (kind, place string, err error) {
	scheme, rest, ok := strings.Cut(url, ":")
	switch {
	case ok && (scheme == "dir" || scheme == "oci"):
		if rest == "" {
			return "", "", errors.New("no folder is named")
		}
		return "dir", rest, nil
	case ok && scheme == "docker":
		place, ok := strings.CutPrefix(rest, "//")
		if !ok || place == "" {
			return "", "", errors.New("want docker://HOST[:PORT][/PATH]")
		}
		return "docker", place, nil
	}
	return "", "", unknown(scheme, ok, "dir:PATH, oci:PATH, docker://HOST/PATH")
}

// base is what the names of a registry's repositories begin with.
func base(kind, place string) (string, error) {
	if kind == "dir" {
		return "localhost", nil
	}
	host, below, _ := strings.Cut(strings.TrimSuffix(place, "/"), "/")
	if strings.Contains(place, "@") {
		return "", errors.New("neither credentials nor a digest belong here")
	}
	if _, err := name.NewRegistry(host, name.StrictValidation); err != nil {
		return "", err
	}
	if below == "" {
		return host, nil
	}
	if strings.Contains(below, ":") {
		return "", errors.New("a tag does not belong here")
	}
	if path.Clean(below) != below || strings.HasPrefix(below, "..") {
		return "", fmt.Errorf("path %q is not clean", below)
	}
	return host + "/" + below, nil
}

func unknown(scheme string, ok bool, known string) error {
	if !ok {
		return fmt.Errorf("no scheme, want one of %s: %w", known, errors.ErrUnsupported)
	}
	return fmt.Errorf("unknown scheme %.40q, want one of %s: %w", scheme, known, errors.ErrUnsupported)
}

func fail(op, url string, err error) error {
	return &publish.Error{Op: op, Target: httpx.RedactText(url), Err: httpx.Redact(err)}
}
