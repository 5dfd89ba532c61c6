package registryserver

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/olareg/olareg/types"

	"github.com/okd-project/okd-streams/publish"
)

// Options of [Open]. The zero value is the default of each field.
type Options struct {
	// ReadOnly refuses every write, and changes nothing in the folder. Without
	// it the server keeps its own annotation in each index.json, and no other
	// writer may work on the folder while it runs: the server takes no lock.
	ReadOnly bool
	// AllowDelete lets clients delete manifests and tags. Blobs are never
	// removed.
	AllowDelete bool
	// Logger gets the server's log; nil: silent.
	Logger *slog.Logger
}

// Server is an [http.Handler]. Tags and images that another process writes into
// the folder of a read-only server appear within about a second.
type Server struct {
	handler *olareg.Server

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// Open serves dir, which is made where it is missing unless
// [Options.ReadOnly] is set. opts may be nil. The caller closes the server.
func Open(ctx context.Context, dir string, opts *Options) (*Server, error) {
	if opts == nil {
		opts = &Options{}
	}
	fail := func(err error) (*Server, error) {
		return nil, &publish.Error{Op: "serve", Target: dir, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if dir == "" {
		return fail(errors.New("no folder is named"))
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fail(err)
	}
	if !opts.ReadOnly {
		if err := os.MkdirAll(abs, 0o777); err != nil {
			return fail(err)
		}
	}
	if info, err := os.Stat(abs); err != nil {
		return fail(err)
	} else if !info.IsDir() {
		return fail(errors.New("not a folder"))
	}
	yes, no := true, false
	logger := opts.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Server{handler: olareg.New(config.Config{
		Storage: config.ConfigStorage{
			StoreType: config.StoreDir, RootDir: abs, ReadOnly: &opts.ReadOnly,
			// Collecting garbage would need the lock of layoutregistry, and
			// would take what is written but not named yet. It also happens
			// when the server is closed, so nothing may ever be old enough.
			GC: config.ConfigGC{Frequency: -1, GracePeriod: math.MaxInt64, Untagged: &no, EmptyRepo: &no, ReferrersDangling: &no, ReferrersWithSubj: &no},
		},
		API: config.ConfigAPI{PushEnabled: ptr(!opts.ReadOnly), DeleteEnabled: &opts.AllowDelete, Blob: config.ConfigAPIBlob{DeleteEnabled: &no}, Referrer: config.ConfigAPIReferrer{Enabled: &yes}},
		Log: logger,
	})}, nil
}

func ptr[T any](v T) *T { return &v }

// ServeHTTP answers a request of the distribution protocol; 503 after Close.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		http.Error(w, "closed", http.StatusServiceUnavailable)
		return
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	s.handler.ServeHTTP(w, req)
}

// Close waits for the requests that are running and releases the folder.
// Uploads that are not finished are removed.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
	return withoutMissing(s.handler.Close())
}

// withoutMissing drops the complaints about repositories that were asked for but never
// written: they have no index to close.
func withoutMissing(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if errors.Is(err, types.ErrNotFound) {
			return nil
		}
		return err
	}
	var kept []error
	for _, err := range joined.Unwrap() {
		if err = withoutMissing(err); err != nil {
			kept = append(kept, err)
		}
	}
	return errors.Join(kept...)
}
