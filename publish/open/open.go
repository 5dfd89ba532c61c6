package open

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
	"github.com/okd-project/okd-streams/publish/s3store"
)

// Options of [Store] and [Registry]; nil is the zero value. Each backend has
// more options of its own, for those who open it directly.
type Options struct {
	// AuthFile and AuthFiles are those of [remoteregistry.Options].
	AuthFile  string
	AuthFiles []string
	// Insecure are registry hosts that may be spoken to over plain HTTP.
	// Loopback hosts always may.
	Insecure []string
	// Jitter gives values in [0,1) to spread retries; nil: they are not.
	Jitter func() float64
	// NoSync leaves out fsync in folders: faster, and not safe against a power
	// failure.
	NoSync bool
	// Logger gets requests at debug level; nil: silent.
	Logger *slog.Logger
}

// Store opens a store by its URL:
//
//	dir:PATH     a folder (dirstore)
//	mem:         in memory, empty (memstore)
//	s3://BUCKET  an S3 bucket; parameters as of [s3store.ParseURL]
//
// A store that is an [io.Closer] is closed by the caller. Another scheme is an
// error that wraps [io/fs.ErrInvalid].
func Store(ctx context.Context, url string, opts *Options) (publish.Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "dir":
		if rest == "" {
			return nil, invalid(url, "no folder is named")
		}
		return dirstore.Open(ctx, rest, &dirstore.Options{NoSync: opts.NoSync})
	case "mem":
		if rest != "" {
			return nil, invalid(url, "nothing may follow mem:")
		}
		return memstore.New(), nil
	case "s3":
		config, err := s3store.ParseURL(url)
		if err != nil {
			return nil, err
		}
		return s3store.Open(ctx, config, &s3store.Options{Logger: opts.Logger, Jitter: opts.Jitter})
	}
	return nil, invalid(url, "the scheme of a store is one of dir:, mem: and s3://")
}

// Registry opens a registry by its URL:
//
//	dir:PATH          a folder of OCI layouts (layoutregistry), also oci:PATH
//	docker://HOST/…   registries over HTTP (remoteregistry)
//
// Of a docker URL only the scheme counts: references name their registry.
// Another scheme is an error that wraps [io/fs.ErrInvalid].
func Registry(ctx context.Context, url string, opts *Options) (publish.Registry, error) {
	if opts == nil {
		opts = &Options{}
	}
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case "dir", "oci":
		if rest == "" {
			return nil, invalid(url, "no folder is named")
		}
		return layoutregistry.Open(ctx, rest, &layoutregistry.Options{NoSync: opts.NoSync, Logger: opts.Logger})
	case "docker":
		return remoteregistry.Open(ctx, &remoteregistry.Options{
			AuthFile: opts.AuthFile, AuthFiles: opts.AuthFiles, Insecure: opts.Insecure, Jitter: opts.Jitter, Logger: opts.Logger,
		})
	}
	return nil, invalid(url, "the scheme of a registry is one of dir:, oci: and docker://")
}

func invalid(url, why string) error {
	return &publish.Error{Op: "open", Target: httpx.RedactText(url), Err: fmt.Errorf("%s: %w", why, fs.ErrInvalid)}
}
