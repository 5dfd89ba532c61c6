package registryserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocitypes "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/types"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/unix"
)

// repository is what is known of one repository. The server behind remembers
// index.json, for a second without even looking whether it changed, and writes
// what it remembers. So it is made anew whenever the file is another one than
// it left behind, and writes under the lock that layoutregistry takes too.
type repository struct {
	mu sync.Mutex // one request at a time: the server behind has no locks here

	read    version
	reader  *olareg.Server
	lists   bool // its index.json has lists of referrers
	written version
	writer  *olareg.Server
}

// version tells one index.json from the next.
type version struct {
	inode    uint64
	size     int64
	modified time.Time
}

func (s *Server) version(repo string) (version, error) {
	info, err := s.root.Lstat(filepath.Join(repo, "index.json"))
	if err != nil {
		return version{}, err
	}
	if !info.Mode().IsRegular() {
		return version{}, errors.New("index.json is not a regular file")
	}
	sys, _ := unix.InfoOf(info)
	return version{sys.Ino, info.Size(), info.ModTime()}, nil
}

// repository gives what is known of a repository that exists.
func (s *Server) repository(repo string) *repository {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[repo]
	if r == nil {
		r = &repository{}
		s.repos[repo] = r
	}
	return r
}

// read answers what asks for index.json or a manifest.
func (s *Server) read(w http.ResponseWriter, req *http.Request, repo, kind, rest string) {
	now, err := s.version(repo)
	if err != nil && kind == "tags" {
		w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN")
		return
	}
	if err != nil {
		// It knows best how to say that there is none, and must not remember.
		s.server(true, true).ServeHTTP(w, req)
		return
	}
	r := s.repository(repo)
	var answer *buffered
	for range 3 {
		answer = s.answer(r, now, req, repo, kind, rest)
		// A failure may come from index.json having changed in between.
		then, err := s.version(repo)
		if answer.status == http.StatusOK || err != nil || then == now {
			break
		}
		now = then
	}
	answer.send(w)
}

func (s *Server) answer(r *repository, now version, req *http.Request, repo, kind, rest string) *buffered {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reader == nil || r.read != now {
		x, err := s.index(repo)
		r.lists = err != nil || x.Annotations[types.AnnotReferrerConvert] == "true"
		r.reader, r.read = s.server(true, r.lists), now
	}
	answer := &buffered{header: http.Header{}}
	if kind != "referrers" || r.lists {
		r.reader.ServeHTTP(answer, req)
		return answer
	}
	// Nobody wrote a referrer through a server yet, but another tool may have by
	// the tag that stands in for the list.
	r.reader.ServeHTTP(answer, tagged(req, repo, rest))
	if answer.status != http.StatusOK {
		answer = &buffered{header: http.Header{"Content-Type": {types.MediaTypeOCI1ManifestList}}}
		_, _ = answer.Write([]byte(`{"schemaVersion":2,"mediaType":"` + types.MediaTypeOCI1ManifestList + `","manifests":[]}`)) // to memory
	}
	return answer
}

// tagged asks for the tag that stands in for a list of referrers.
func tagged(req *http.Request, repo, digest string) *http.Request {
	out := req.Clone(req.Context())
	out.URL = &url.URL{Path: path.Join("/v2", repo, "manifests", strings.Replace(digest, ":", "-", 1))}
	out.Header.Set("Accept", types.MediaTypeOCI1ManifestList)
	return out
}

// server makes one for a single repository. It holds nothing that needs closing.
func (s *Server) server(readOnly, lists bool) *olareg.Server {
	conf := s.conf
	readOnly = readOnly || *s.conf.Storage.ReadOnly
	conf.Storage.ReadOnly, conf.API.Referrer.Enabled = &readOnly, &lists
	return olareg.New(conf)
}

// maxIndex bounds index.json, bytes; layoutregistry's bound.
const maxIndex = 16 << 20

// index reads what the server has to know of index.json.
func (s *Server) index(repo string) (*v1.IndexManifest, error) {
	f, err := s.root.Open(filepath.Join(repo, "index.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err == nil && len(data) > maxIndex {
		err = fmt.Errorf("index.json has more than %d bytes: %w", maxIndex, errors.ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	x := new(v1.IndexManifest)
	return x, json.Unmarshal(data, x)
}

// write passes a change of index.json on, under the lock.
func (s *Server) write(w http.ResponseWriter, req *http.Request, repo, kind, rest string) {
	if *s.conf.Storage.ReadOnly || kind != "manifests" {
		s.server(true, true).ServeHTTP(w, req) // it refuses
		return
	}
	if req.Method == http.MethodPut {
		// A slow client must not keep the others waiting.
		data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifest))
		if err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID")
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(data))
		if err := s.initialise(req.Context(), repo); err != nil {
			s.unavailable(w, req, err)
			return
		}
	} else if _, err := s.version(repo); err != nil {
		s.server(true, true).ServeHTTP(w, req)
		return
	}
	answer := &buffered{header: http.Header{}}
	if err := s.change(answer, req, repo, rest); err != nil {
		s.unavailable(w, req, err)
		return
	}
	answer.send(w)
}

func (s *Server) change(w http.ResponseWriter, req *http.Request, repo, rest string) error {
	// First what may take long.
	unlock, err := s.lock(req.Context(), repo)
	if err != nil {
		return err
	}
	defer unlock()
	r := s.repository(repo)
	r.mu.Lock()
	defer r.mu.Unlock()
	x, err := s.index(repo)
	if err != nil {
		return err
	}
	for _, d := range x.Manifests {
		// What loses its tag, or goes, is young for garbage collection.
		if d.Digest.String() == rest || d.Annotations[types.AnnotRefName] == rest {
			s.touch(blobPath(repo, d.Digest))
		}
	}
	now, err := s.version(repo)
	if err != nil {
		return err
	}
	if r.writer == nil || r.written != now {
		r.writer = s.server(false, true)
	}
	r.writer.ServeHTTP(w, req)
	// What it remembers is in the file now.
	if r.written, err = s.version(repo); err != nil {
		r.writer = nil
	}
	return nil
}

// lock takes the lock of a repository's folder.
func (s *Server) lock(ctx context.Context, repo string) (func(), error) {
	f, err := s.root.Open(repo)
	if err != nil {
		return nil, err
	}
	if err := ociimage.Lock(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// initialise begins a repository's layout where there is none.
func (s *Server) initialise(ctx context.Context, repo string) error {
	complete := func() bool {
		for _, name := range []string{"index.json", "oci-layout"} {
			if _, err := s.root.Lstat(filepath.Join(repo, name)); err != nil {
				return false
			}
		}
		return true
	}
	if complete() {
		return nil
	}
	if err := s.root.MkdirAll(repo, 0o777); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, repo)
	if err != nil {
		return err
	}
	defer unlock()
	if complete() {
		return nil
	}
	if _, err := s.root.Lstat(filepath.Join(repo, "index.json")); errors.Is(err, fs.ErrNotExist) {
		x := `{"schemaVersion":2,"mediaType":"` + string(ocitypes.OCIImageIndex) + `","manifests":[],"annotations":{"` + types.AnnotReferrerConvert + `":"true"}}` + "\n"
		if err := s.put(filepath.Join(repo, "index.json"), x); err != nil {
			return err
		}
	}
	return s.put(filepath.Join(repo, "oci-layout"), `{"imageLayoutVersion":"`+types.LayoutVersion+`"}`)
}

// put writes a small file whole; the caller holds the lock. The temporary name
// is one that garbage collection knows.
func (s *Server) put(name, text string) error {
	temporary := filepath.Join(filepath.Dir(name), "index.json.new")
	err := s.root.WriteFile(temporary, []byte(text), 0o666)
	if err == nil {
		err = s.root.Rename(temporary, name)
	}
	return err
}

// closeUploads removes the uploads that are not finished. The server behind
// looks at index.json again then, and may leave out entries without a blob.
func (s *Server) closeUploads() error {
	if *s.conf.Storage.ReadOnly {
		return withoutMissing(s.uploads.Close())
	}
	s.mu.Lock()
	repos := make([]string, 0, len(s.repos))
	for repo := range s.repos {
		repos = append(repos, repo)
	}
	s.mu.Unlock()
	slices.Sort(repos)
	const wait = 20 * time.Millisecond
	tries := int(s.shutdown/wait) + 1
	for _, repo := range repos {
		f, err := s.root.Open(repo)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close()
		for ociimage.TryLock(f) != nil {
			if tries--; tries <= 0 {
				return fmt.Errorf("repository %s stays locked: unfinished uploads are left in it", repo)
			}
			time.Sleep(wait)
		}
	}
	return withoutMissing(s.uploads.Close())
}
