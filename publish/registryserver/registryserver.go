package registryserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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
	root    *os.Root

	// The server behind keeps a note of each repository that it reads and
	// writes without a lock; requests that touch the note go one by one.
	notes sync.Mutex

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
	root, err := os.OpenRoot(abs)
	if err != nil {
		return fail(err)
	}
	return &Server{root: root, handler: olareg.New(config.Config{
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
	repo, kind, rest := split(req.URL.Path)
	switch {
	case kind == "blobs" && (req.Method == http.MethodGet || req.Method == http.MethodHead) && !strings.HasPrefix(rest, "uploads/"):
		s.blob(w, req, repo, rest)
	case kind == "blobs" && req.Method != http.MethodPost:
		s.handler.ServeHTTP(w, req) // the bytes of an upload
	default:
		if kind == "manifests" && req.Method == http.MethodPut {
			// A slow client must not keep the others waiting.
			data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifest))
			if err != nil {
				http.Error(w, "manifest cannot be read", http.StatusRequestEntityTooLarge)
				return
			}
			req.Body = io.NopCloser(bytes.NewReader(data))
		}
		s.notes.Lock()
		defer s.notes.Unlock()
		s.handler.ServeHTTP(w, req)
	}
}

// maxManifest bounds a manifest, bytes.
const maxManifest = 8 << 20

// split takes /v2/REPOSITORY/KIND/REST apart, where KIND is the last of the
// protocol's words.
func split(path string) (repo, kind, rest string) {
	path, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", "", ""
	}
	at := -1
	for _, word := range []string{"blobs", "manifests", "tags", "referrers"} {
		if i := strings.LastIndex(path, "/"+word+"/"); i > at {
			at, repo, kind, rest = i, path[:i], word, path[i+len(word)+2:]
		}
	}
	return repo, kind, rest
}

// blob serves a blob's file, with ranges.
func (s *Server) blob(w http.ResponseWriter, req *http.Request, repo, text string) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	digest, err := v1.NewHash(text)
	if err != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID")
		return
	}
	f, err := s.root.Open(filepath.Join(filepath.FromSlash(repo), "blobs", digest.Algorithm, digest.Hex))
	if err != nil {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest.String())
	w.Header().Set("ETag", `"`+digest.String()+`"`)
	http.ServeContent(w, req, "", time.Time{}, f)
}

// refuse answers with an error of the protocol.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that left does not need it.
	_, _ = io.WriteString(w, `{"errors":[{"code":"`+code+`"}]}`)
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
	return errors.Join(withoutMissing(s.handler.Close()), s.root.Close())
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
