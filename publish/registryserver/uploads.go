package registryserver

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/unix"
)

// uploadsDir has the files of uploads that are not finished, in each
// repository's folder. Each file is locked (flock) by the server that writes it.
const uploadsDir = "_uploads"

// maxUploads bounds the uploads of a server, each an open file. One more takes
// the place of the one that has been idle for longest.
const maxUploads = 256

type uploads struct {
	mu       sync.Mutex
	sessions map[string]*session // by path, /REPOSITORY/ID
	next     int64               // names of files
	clock    int64               // requests so far
}

// session is one upload. Whoever has the turn at its path may use it.
type session struct {
	repo, id string
	name     string // of file
	file     *os.File
	size     int64
	hash     hash.Hash // SHA-256 of what came
	used     int64     // by the clock
	busy     bool
}

func (u *session) location() string { return "/v2/" + u.repo + "/blobs/uploads/" + u.id }

// upload answers what concerns the upload id; "": a new one.
func (s *Server) upload(w http.ResponseWriter, req *http.Request, repo, id string) {
	if id == "" {
		if req.Method != http.MethodPost {
			refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "")
			return
		}
		s.begin(w, req, repo)
		return
	}
	done, err := s.turns.take(req.Context(), repo+"/"+id)
	if err != nil {
		return // the client has left
	}
	defer done()
	u := s.use(repo, id)
	if u == nil {
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "")
		return
	}
	defer s.leave(u)
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		u.status(w, http.StatusNoContent)
	case http.MethodPatch:
		if s.receive(w, req, u) {
			u.status(w, http.StatusAccepted)
		}
	case http.MethodPut:
		digest, err := v1.NewHash(req.URL.Query().Get("digest"))
		if err != nil {
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "")
			return
		}
		if s.receive(w, req, u) {
			s.finish(w, req, u, digest)
		}
	case http.MethodDelete:
		if err := s.forget(u); err != nil {
			s.failed(w, req, err, "BLOB_UPLOAD_UNKNOWN")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "")
	}
}

// begin answers POST: a mount, a whole blob, or a new upload.
func (s *Server) begin(w http.ResponseWriter, req *http.Request, repo string) {
	if s.mount(w, req, repo) {
		return
	}
	whole := req.URL.Query().Has("digest")
	digest, err := v1.NewHash(req.URL.Query().Get("digest"))
	if whole && err != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "")
		return
	}
	u, err := s.create(repo)
	if err != nil {
		s.failed(w, req, err, "NAME_UNKNOWN")
		return
	}
	defer s.leave(u)
	if !whole {
		u.status(w, http.StatusAccepted)
		return
	}
	if s.receive(w, req, u) {
		s.finish(w, req, u, digest)
	} else {
		_ = s.forget(u) // nobody knows its name
	}
}

func (u *session) status(w http.ResponseWriter, code int) {
	u.describe(w.Header())
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(code)
}

func (u *session) describe(h http.Header) {
	h.Set("Location", u.location())
	h.Set("Docker-Upload-UUID", u.id)
	// There is no way to say that nothing came; 0-0 is what others say.
	h.Set("Range", fmt.Sprintf("0-%d", max(u.size-1, 0)))
}

// parseRange reads the Content-Range of a chunk, START-END without a unit.
func parseRange(text string) (start, end int64, ok bool) {
	a, b, found := strings.Cut(text, "-")
	if !found || a == "" || b == "" || strings.Trim(a+b, "0123456789") != "" {
		return 0, 0, false
	}
	start, err := strconv.ParseInt(a, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	end, err = strconv.ParseInt(b, 10, 64)
	return start, end, err == nil && start <= end && end-start+1 > 0
}

// receive appends the body of a request. Where it reports false it has
// answered. What came before a client left is kept.
func (s *Server) receive(w http.ResponseWriter, req *http.Request, u *session) bool {
	want := int64(-1)
	if text := req.Header.Get("Content-Range"); text != "" {
		start, end, ok := parseRange(text)
		if !ok || start != u.size {
			u.describe(w.Header())
			refuse(w, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "")
			return false
		}
		want = end - start + 1
		if req.ContentLength >= 0 && req.ContentLength != want {
			refuse(w, http.StatusBadRequest, "SIZE_INVALID", "")
			return false
		}
	}
	body := io.Reader(req.Body)
	if want >= 0 {
		body = io.LimitReader(body, want)
	}
	n, err := io.Copy(sink{s, u}, body)
	if _, ours := errors.AsType[*fs.PathError](err); ours {
		// What is in the file is not known any more.
		s.failed(w, req, errors.Join(err, s.forget(u)), "BLOB_UPLOAD_UNKNOWN")
		return false
	}
	if err != nil {
		u.describe(w.Header())
		refuse(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "")
		return false
	}
	if want >= 0 {
		if extra, _ := io.CopyN(io.Discard, req.Body, 1); n != want || extra > 0 {
			u.describe(w.Header())
			refuse(w, http.StatusBadRequest, "SIZE_INVALID", "")
			return false
		}
	}
	return true
}

// sink writes to an upload's file and reckons its digest.
type sink struct {
	server *Server
	upload *session
}

func (k sink) Write(p []byte) (int, error) {
	n, err := k.upload.file.Write(p)
	k.upload.hash.Write(p[:n])
	k.upload.size += int64(n)
	return n, err
}

// finish gives an upload its name, if it has the digest.
func (s *Server) finish(w http.ResponseWriter, req *http.Request, u *session, digest v1.Hash) {
	got := fmt.Sprintf("%x", u.hash.Sum(nil))
	if digest.Algorithm != "sha256" {
		h, err := v1.Hasher(digest.Algorithm)
		if err == nil {
			_, err = io.Copy(h, io.NewSectionReader(u.file, 0, u.size))
		}
		if err != nil {
			s.failed(w, req, err, "BLOB_UPLOAD_UNKNOWN")
			return
		}
		got = fmt.Sprintf("%x", h.Sum(nil))
	}
	if got != digest.Hex {
		_ = s.forget(u) // its bytes are wrong, so nothing can make it right
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "")
		return
	}
	// What is left of a push that ends here belongs to a layout, so that garbage
	// collection finds it.
	err := s.layouts.Begin(req.Context(), s.host.Repo(u.repo))
	if err == nil {
		err = s.rename(u, digest)
	}
	if err != nil {
		s.failed(w, req, errors.Join(err, s.forget(u)), "BLOB_UPLOAD_UNKNOWN")
		return
	}
	created(w, "/v2/"+u.repo+"/blobs/"+digest.String(), digest)
}

func (s *Server) rename(u *session, digest v1.Hash) error {
	name := blobPath(u.repo, digest)
	if info, err := s.root.Lstat(name); err == nil && info.Mode().IsRegular() && info.Size() == u.size {
		s.touch(name) // for readers that have it open, and for links
		return s.forget(u)
	}
	if err := s.root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	if err := s.root.Rename(u.name, name); err != nil {
		return err
	}
	_ = s.root.Remove(filepath.Dir(u.name)) // in use by others
	return s.remove(u).file.Close()
}

// create begins an upload, in use by the caller.
func (s *Server) create(repo string) (*session, error) {
	dir := filepath.Join(filepath.FromSlash(repo), uploadsDir)
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	if err := s.makeRoom(); err != nil {
		return nil, err
	}
	for range 1000 {
		s.uploads.next++
		id := strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(s.uploads.next, 10)
		name := filepath.Join(dir, "upload."+id)
		if err := s.root.MkdirAll(dir, 0o777); err != nil {
			return nil, err
		}
		// Read-only for all, as layoutregistry's: such a blob can be linked.
		f, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o444)
		if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if ociimage.TryLock(f) == nil {
			// One that cleans up may have been faster.
			if info, err := f.Stat(); err == nil {
				if sys, ok := unix.InfoOf(info); !ok || sys.Nlink > 0 {
					h, err := v1.Hasher("sha256")
					if err != nil {
						return nil, errors.Join(err, s.root.Remove(name), f.Close())
					}
					// Nor may a client of a server that is gone go on with it.
					id += "-" + strconv.FormatInt(info.ModTime().UnixNano(), 36)
					s.uploads.clock++
					u := &session{repo: repo, id: id, name: name, file: f, hash: h, busy: true, used: s.uploads.clock}
					if s.uploads.sessions == nil {
						s.uploads.sessions = map[string]*session{}
					}
					s.uploads.sessions[repo+"/"+id] = u
					return u, nil
				}
			}
		}
		f.Close()
	}
	return nil, fmt.Errorf("%s: no free name", dir)
}

// makeRoom drops the upload that has been idle for longest where there are too
// many. The caller holds the lock.
func (s *Server) makeRoom() error {
	if len(s.uploads.sessions) < maxUploads {
		return nil
	}
	var oldest *session
	for _, u := range s.uploads.sessions {
		if !u.busy && (oldest == nil || u.used < oldest.used) {
			oldest = u
		}
	}
	if oldest == nil {
		return fmt.Errorf("%d uploads are going on", len(s.uploads.sessions))
	}
	delete(s.uploads.sessions, oldest.repo+"/"+oldest.id)
	return s.discard(oldest)
}

// use finds an upload and keeps it from being dropped.
func (s *Server) use(repo, id string) *session {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	u := s.uploads.sessions[repo+"/"+id]
	if u != nil {
		s.uploads.clock++
		u.busy, u.used = true, s.uploads.clock
	}
	return u
}

func (s *Server) leave(u *session) {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	u.busy = false
}

func (s *Server) remove(u *session) *session {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	delete(s.uploads.sessions, u.repo+"/"+u.id)
	return u
}

// forget ends an upload that gets no name.
func (s *Server) forget(u *session) error { return s.discard(s.remove(u)) }

func (s *Server) discard(u *session) error {
	err := s.root.Remove(u.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // garbage collection found it old enough
	}
	_ = s.root.Remove(filepath.Dir(u.name)) // in use, or gone
	return errors.Join(err, u.file.Close())
}

// removeLeftovers removes the files of uploads whose server is gone.
func (s *Server) removeLeftovers(ctx context.Context) error {
	return fs.WalkDir(s.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil // gone meanwhile, or not for us to see
		}
		if !d.IsDir() {
			return nil
		}
		switch part := path.Base(name); {
		case part == "blobs", name != "." && strings.HasPrefix(part, "."):
			return fs.SkipDir
		case part != uploadsDir:
			return nil
		}
		entries, err := fs.ReadDir(s.root.FS(), name)
		if err != nil {
			return fs.SkipDir
		}
		for _, e := range entries {
			if e.Type().IsRegular() && strings.HasPrefix(e.Name(), "upload.") {
				s.removeLeftover(path.Join(name, e.Name()))
			}
		}
		_ = s.root.Remove(name) // in use by another server
		return fs.SkipDir
	})
}

// removeLeftover removes a file that no server holds. What cannot be removed is
// left to garbage collection.
func (s *Server) removeLeftover(name string) {
	f, err := s.root.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	if ociimage.TryLock(f) != nil {
		return
	}
	held, err := f.Stat()
	named, err2 := s.root.Lstat(name)
	if err == nil && err2 == nil && os.SameFile(held, named) {
		_ = s.root.Remove(name)
	}
}
