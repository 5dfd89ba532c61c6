package registryserver

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/internal/unix"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// Options of [Open]. The zero value is the default of each field.
type Options struct {
	// ReadOnly refuses every write, and changes nothing in the folder.
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
	opts     Options
	shutdown time.Duration
	root     *os.Root
	log      *slog.Logger
	layouts  *layoutregistry.Registry
	host     name.Registry // whatever: layouts looks at paths alone
	uploads  uploads
	turns    turns // at each upload, by path

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
	logger := opts.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return fail(err)
	}
	s := &Server{opts: *opts, root: root, log: logger, shutdown: opts.ShutdownTimeout}
	if s.shutdown <= 0 {
		s.shutdown = defaultShutdownTimeout
	}
	s.layouts, err = layoutregistry.Open(ctx, abs, &layoutregistry.Options{Logger: opts.Logger, NoSync: true})
	if err == nil {
		s.host, err = name.NewRegistry("folder.invalid")
	}
	if err == nil && !opts.ReadOnly {
		err = s.removeLeftovers(ctx)
	}
	if err != nil {
		return fail(errors.Join(err, root.Close()))
	}
	return s, nil
}

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
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	repo, kind, rest := split(req.URL.Path)
	read := req.Method == http.MethodGet || req.Method == http.MethodHead
	upload, isUpload := strings.CutPrefix(rest, "uploads/")
	isUpload = isUpload && kind == "blobs"
	switch {
	case kind == "" && req.URL.Path != "/v2/" && req.URL.Path != "/v2":
		refuse(w, http.StatusNotFound, "UNSUPPORTED", "")
	case kind == "" && !read:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "")
	case kind == "":
		send(w, http.StatusOK, "application/json", []byte("{}"))
	case !isRepository(repo):
		refuse(w, http.StatusBadRequest, "NAME_INVALID", "")
	case read && !isUpload:
		s.read(w, req, repo, kind, rest)
	case s.opts.ReadOnly:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "")
	case isUpload || kind == "blobs" && rest == "uploads":
		s.upload(w, req, repo, upload)
	case kind == "manifests" && req.Method == http.MethodPut:
		s.putManifest(w, req, repo, rest)
	case kind == "manifests" && req.Method == http.MethodDelete && s.opts.AllowDelete:
		s.deleteManifest(w, req, repo, rest)
	default:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "")
	}
}

func (s *Server) read(w http.ResponseWriter, req *http.Request, repo, kind, rest string) {
	switch {
	case kind == "blobs":
		s.blob(w, req, repo, rest)
	case kind == "manifests":
		s.manifest(w, req, repo, rest)
	case kind == "referrers":
		s.referrers(w, req, repo, rest)
	case rest == "list":
		s.tags(w, req, repo)
	default:
		refuse(w, http.StatusNotFound, "UNSUPPORTED", "")
	}
}

// pathPattern is the path of a repository in the distribution specification.
var pathPattern = lazyregexp.New(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

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
	digest, err := v1.NewHash(text)
	if err != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "")
		return
	}
	name := blobPath(repo, digest)
	info, err := s.root.Stat(name)
	if err != nil || !info.Mode().IsRegular() { // a pipe must not block
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "")
		return
	}
	f, err := s.root.Open(name)
	if err != nil {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "")
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
	if s.opts.ReadOnly {
		return
	}
	if info, err := s.root.Lstat(name); err == nil && info.Mode().IsRegular() {
		_ = s.root.Chmod(name, info.Mode().Perm())
	}
}

// mount makes a blob of the repository one of another, or finds it there.
func (s *Server) mount(w http.ResponseWriter, req *http.Request, repo string) bool {
	q := req.URL.Query()
	digest, err := v1.NewHash(q.Get("mount"))
	if err != nil {
		return false
	}
	target := s.host.Repo(repo)
	if _, err := s.layouts.StatBlob(req.Context(), target, digest); err != nil {
		from := q.Get("from")
		if !isRepository(from) || from == repo || s.layouts.MountBlob(req.Context(), target, digest, s.host.Repo(from)) != nil {
			return false // the client sends it then
		}
	}
	created(w, "/v2/"+repo+"/blobs/"+digest.String(), digest)
	return true
}

// failed answers what err means. missing is the code for what is not there.
func (s *Server) failed(w http.ResponseWriter, req *http.Request, err error, missing string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		refuse(w, http.StatusNotFound, missing, "")
		return
	case errors.Is(err, fs.ErrPermission):
		refuse(w, http.StatusForbidden, "DENIED", reason(err))
		return
	}
	s.log.LogAttrs(req.Context(), slog.LevelWarn, "request failed", slog.String("method", req.Method), slog.String("path", req.URL.Path), slog.Any("error", err))
	if errors.Is(err, unix.ENOSPC) {
		refuse(w, http.StatusInsufficientStorage, "UNKNOWN", "the disk is full")
		return
	}
	refuse(w, http.StatusInternalServerError, "UNKNOWN", "")
}

// reason is what a client is told of err: not the folder that is served.
func reason(err error) string {
	if e, ok := errors.AsType[*publish.Error](err); ok {
		err = e.Err
	}
	return err.Error()
}

func created(w http.ResponseWriter, location string, digest v1.Hash) {
	w.Header().Set("Location", location)
	w.Header().Set("Docker-Content-Digest", digest.String())
	w.WriteHeader(http.StatusCreated)
}

// send answers with a body that is small.
func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	// A client that left does not need it; for HEAD the body is dropped.
	_, _ = w.Write(body)
}

// refuse answers with an error of the protocol; detail may be "".
func refuse(w http.ResponseWriter, status int, code, detail string) {
	type fault struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  string `json:"detail,omitempty"`
	}
	raw, err := json.Marshal(map[string][]fault{"errors": {{code, messages[code], detail}}})
	if err != nil {
		w.WriteHeader(status)
		return
	}
	send(w, status, "application/json", raw)
}

// messages are what people are told by clients that do not know the codes.
var messages = map[string]string{
	"BLOB_UNKNOWN":              "the repository does not have the blob",
	"BLOB_UPLOAD_INVALID":       "the chunk is not the next one, or was cut off",
	"BLOB_UPLOAD_UNKNOWN":       "there is no such upload: begin it again",
	"DENIED":                    "not allowed",
	"DIGEST_INVALID":            "the digest is not that of the content, or is none",
	"MANIFEST_BLOB_UNKNOWN":     "the manifest names what the repository does not have",
	"MANIFEST_INVALID":          "not a manifest of an image or index",
	"MANIFEST_UNKNOWN":          "the repository does not have the manifest in a type that is accepted",
	"NAME_INVALID":              "not a path that a repository can have",
	"NAME_UNKNOWN":              "there is no such repository",
	"PAGINATION_NUMBER_INVALID": "n is not a number of tags",
	"SIZE_INVALID":              "the chunk has another size than its range",
	"TAG_INVALID":               "not a tag",
	"UNAVAILABLE":               "interrupted: try again",
	"UNKNOWN":                   "the server failed; its log says why",
	"UNSUPPORTED":               "this registry does not do that",
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
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	var errs []error
	for _, u := range s.uploads.sessions {
		errs = append(errs, s.discard(u))
	}
	clear(s.uploads.sessions)
	return errors.Join(append(errs, s.root.Close())...)
}
