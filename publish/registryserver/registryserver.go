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
	"regexp"
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
	// it the server keeps its own annotation in each index.json.
	ReadOnly bool
	// AllowDelete lets clients delete manifests and tags. Blobs are never
	// removed.
	AllowDelete bool
	// Public lets [Server.Listen] open addresses other than loopback. The
	// server asks nobody who they are and speaks no TLS.
	Public bool
	// ShutdownTimeout is how long [Server.Serve] waits for requests that are
	// running when its context ends; 0: 30 s.
	ShutdownTimeout time.Duration
	// Logger gets the server's log; nil: silent.
	Logger *slog.Logger
}

const defaultShutdownTimeout = 30 * time.Second

// Server is an [http.Handler]. Tags and images that another process writes into
// the folder appear at once.
type Server struct {
	conf     config.Config
	shutdown time.Duration
	public   bool
	root     *os.Root
	log      *slog.Logger

	// uploads has the uploads that are going on. It is not asked for anything
	// that is in index.json: what it knows of that would be old.
	uploads *olareg.Server
	posts   sync.Mutex // it keeps a note of each repository without a lock
	turns   turns      // at each upload, by path

	mu      sync.Mutex
	closed  bool
	repos   map[string]*repository // that exist
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
	logger := opts.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return fail(err)
	}
	yes, no := true, false
	s := &Server{root: root, log: logger, shutdown: opts.ShutdownTimeout, public: opts.Public, repos: map[string]*repository{}, conf: config.Config{
		Storage: config.ConfigStorage{
			StoreType: config.StoreDir, RootDir: abs, ReadOnly: &opts.ReadOnly,
			// Garbage is layoutregistry's to collect. The server behind would
			// also do so when it is closed, so nothing may ever be old enough.
			GC: config.ConfigGC{Frequency: -1, GracePeriod: math.MaxInt64, Untagged: &no, EmptyRepo: &no, ReferrersDangling: &no, ReferrersWithSubj: &no},
		},
		API: config.ConfigAPI{PushEnabled: ptr(!opts.ReadOnly), DeleteEnabled: &opts.AllowDelete, Blob: config.ConfigAPIBlob{DeleteEnabled: &no}, Referrer: config.ConfigAPIReferrer{Enabled: &yes}},
		Log: logger,
	}}
	if s.shutdown <= 0 {
		s.shutdown = defaultShutdownTimeout
	}
	s.uploads = olareg.New(s.conf)
	return s, nil
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
	if kind == "" { // the greeting, or nothing
		s.uploads.ServeHTTP(w, req)
		return
	}
	if !isRepository(repo) {
		refuse(w, http.StatusBadRequest, "NAME_INVALID")
		return
	}
	read := req.Method == http.MethodGet || req.Method == http.MethodHead
	switch {
	case kind == "blobs" && read && !strings.HasPrefix(rest, "uploads/"):
		s.blob(w, req, repo, rest)
	case kind == "blobs":
		s.upload(w, req, repo)
	case read:
		s.read(w, req, repo, kind, rest)
	default:
		s.write(w, req, repo, kind, rest)
	}
}

// maxManifest bounds a manifest, bytes.
const maxManifest = 8 << 20

// pathPattern is the path of a repository in the distribution specification.
var pathPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// isRepository refuses what is no repository's path, and files of a layout.
func isRepository(repo string) bool {
	if len(repo) > 255 || !pathPattern.MatchString(repo) {
		return false
	}
	for part := range strings.SplitSeq(repo, "/") {
		if part == "index.json" || part == "oci-layout" || part == "blobs" {
			return false
		}
	}
	return true
}

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
	name := blobPath(repo, digest)
	info, err := s.root.Stat(name)
	if err != nil || !info.Mode().IsRegular() { // a pipe must not block
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	f, err := s.root.Open(name)
	if err != nil {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	defer f.Close()
	if req.Method == http.MethodHead {
		s.touch(name) // who asks may count on it
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest.String())
	w.Header().Set("ETag", `"`+digest.String()+`"`)
	http.ServeContent(w, req, "", time.Time{}, f)
}

func blobPath(repo string, h v1.Hash) string {
	return filepath.Join(filepath.FromSlash(repo), "blobs", h.Algorithm, h.Hex)
}

// touch makes a file young for garbage collection, as layoutregistry does.
func (s *Server) touch(name string) {
	if *s.conf.Storage.ReadOnly {
		return
	}
	if info, err := s.root.Lstat(name); err == nil && info.Mode().IsRegular() {
		_ = s.root.Chmod(name, info.Mode().Perm())
	}
}

// upload passes on the bytes of an upload.
func (s *Server) upload(w http.ResponseWriter, req *http.Request, repo string) {
	if req.Method != http.MethodPost {
		done, err := s.turns.take(req.Context(), req.URL.Path)
		if err != nil {
			return // the client has left
		}
		defer done()
		s.uploads.ServeHTTP(w, req)
		return
	}
	if !*s.conf.Storage.ReadOnly {
		// The server behind would begin the layout too, but knows no lock.
		if err := s.initialise(req.Context(), repo); err != nil {
			s.unavailable(w, req, err)
			return
		}
		s.repository(repo) // to be closed
		if s.mount(w, req, repo) {
			return
		}
	}
	s.posts.Lock()
	defer s.posts.Unlock()
	s.uploads.ServeHTTP(w, req)
}

// mount links a blob from another repository; the server behind would copy it.
func (s *Server) mount(w http.ResponseWriter, req *http.Request, repo string) bool {
	from := req.URL.Query().Get("from")
	digest, err := v1.NewHash(req.URL.Query().Get("mount"))
	if err != nil || !isRepository(from) {
		return false
	}
	name := blobPath(repo, digest)
	if info, err := s.root.Lstat(name); err == nil && info.Mode().IsRegular() {
		s.touch(name)
	} else {
		if info, err := s.root.Lstat(blobPath(from, digest)); err != nil || !info.Mode().IsRegular() {
			return false
		}
		if s.root.MkdirAll(filepath.Dir(name), 0o777) != nil {
			return false
		}
		if err := s.root.Link(blobPath(from, digest), name); err != nil && !errors.Is(err, os.ErrExist) {
			return false
		}
	}
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+digest.String())
	w.Header().Set("Docker-Content-Digest", digest.String())
	w.WriteHeader(http.StatusCreated)
	return true
}

// unavailable answers when the lock cannot be had.
func (s *Server) unavailable(w http.ResponseWriter, req *http.Request, err error) {
	s.log.LogAttrs(req.Context(), slog.LevelWarn, "repository is not available", slog.String("path", req.URL.Path), slog.Any("error", err))
	refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE")
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
	return errors.Join(s.closeUploads(), s.root.Close())
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

// buffered keeps an answer until the lock under which it was made is free: a
// slow client must not keep others waiting. Answers are manifests and lists.
type buffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *buffered) Header() http.Header { return b.header }

func (b *buffered) WriteHeader(status int) {
	if b.status == 0 {
		b.status = status
	}
}

func (b *buffered) Write(p []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	return b.body.Write(p)
}

func (b *buffered) send(w http.ResponseWriter) {
	for key, values := range b.header {
		w.Header()[key] = values
	}
	w.WriteHeader(max(b.status, http.StatusOK))
	// A client that left does not need it.
	_, _ = w.Write(b.body.Bytes())
}
