package open

import (
	"context"
	"errors"
	"fmt"
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

// StoreOptions of [Store]. The zero value is the default of each field.
type StoreOptions struct {
	// ReadOnly opens a folder that is not changed, and must exist.
	ReadOnly bool
	// NoSync leaves out fsync in folders.
	NoSync bool
	// S3 are the options of a bucket, HTTP those of a web server.
	S3   s3store.Options
	HTTP httpstore.Options
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
		s, err := s3store.Open(ctx, config, &opts.S3)
		if err != nil {
			return nil, err
		}
		return s, nil
	case ok && (scheme == "http" || scheme == "https"):
		s, err := httpstore.New(url, &opts.HTTP)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, fail("open store", url, unknown(scheme, ok, "dir:PATH, mem:, s3://BUCKET/PREFIX, https://HOST/PATH"))
}

// RegistryOptions of [Registry]. The zero value is the default of each field.
type RegistryOptions struct {
	// Remote are the options of a registry over HTTP. Of a folder Concurrency
	// and Logger count. A program passes [remoteregistry.AuthFiles],
	// [remoteregistry.CertDirs] and [remoteregistry.MirrorFiles] to find what
	// podman and skopeo find.
	Remote remoteregistry.Options
	// NoSync leaves out fsync in folders.
	NoSync bool
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
		if place != "" {
			if _, err := base(kind, place); err != nil {
				return nil, fail("open registry", url, err)
			}
		}
		r, err := remoteregistry.Open(ctx, &opts.Remote)
		if err != nil {
			return nil, err
		}
		return r, nil
	}
	r, err := layoutregistry.Open(ctx, place, &layoutregistry.Options{NoSync: opts.NoSync, Concurrency: opts.Remote.Concurrency, Logger: opts.Remote.Logger})
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
		if !ok {
			return "", "", errors.New("want docker:// before the host")
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
	if place == "" {
		return "", errors.New("no registry is named")
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
