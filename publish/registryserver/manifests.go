package registryserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/publish"
)

// reference is what the last part of a manifest's path names.
func (s *Server) reference(repo, text string) (name.Reference, error) {
	if ociimage.CheckTag(text) == nil {
		return s.host.Repo(repo).Tag(text), nil
	}
	digest, err := v1.NewHash(text)
	if err != nil {
		return nil, err
	}
	return s.host.Repo(repo).Digest(digest.String()), nil
}

// maxRounds bounds how often garbage collection or another writer may take away
// what index.json named a moment before.
const maxRounds = 3

// manifest serves a manifest. Of an index asked for by tag a client that takes
// images alone gets the first image that it takes.
func (s *Server) manifest(w http.ResponseWriter, req *http.Request, repo, text string) {
	ref, err := s.reference(repo, text)
	if err != nil {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "")
		return
	}
	var desc *v1.Descriptor
	var raw []byte
	for range maxRounds {
		if desc, err = s.layouts.Head(req.Context(), ref); err != nil {
			break
		}
		if raw, err = s.readManifest(repo, *desc); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		s.failed(w, req, err, "MANIFEST_UNKNOWN")
		return
	}
	if accept := req.Header.Values("Accept"); !accepts(accept, desc.MediaType) {
		at := -1
		var list v1.IndexManifest
		if _, isTag := ref.(name.Tag); isTag && desc.MediaType.IsIndex() && json.Unmarshal(raw, &list) == nil {
			at = slices.IndexFunc(list.Manifests, func(d v1.Descriptor) bool { return accepts(accept, d.MediaType) })
		}
		if at < 0 {
			refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "")
			return
		}
		desc = &list.Manifests[at]
		if raw, err = s.readManifest(repo, *desc); err != nil {
			s.failed(w, req, err, "MANIFEST_UNKNOWN")
			return
		}
	}
	w.Header().Set("Content-Type", string(desc.MediaType))
	w.Header().Set("Docker-Content-Digest", desc.Digest.String())
	w.Header().Set("ETag", `"`+desc.Digest.String()+`"`)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(raw))
}

// readManifest reads a manifest's bytes, whose digest is for the client to check.
func (s *Server) readManifest(repo string, desc v1.Descriptor) ([]byte, error) {
	if err := errors.Join(ociimage.CheckDigest(desc.Digest), ociimage.CheckManifestSize(desc.Size)); err != nil {
		return nil, err
	}
	file := blobPath(repo, desc.Digest)
	if info, err := s.root.Stat(file); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() { // a pipe must not block
		return nil, fmt.Errorf("%s is not a regular file", file)
	}
	f, err := s.root.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, desc.Size))
}

// accepts reports whether the lines of an Accept header take a media type.
func accepts(lines []string, mediaType types.MediaType) bool {
	for _, line := range lines {
		for entry := range strings.SplitSeq(line, ",") {
			entry, _, _ = strings.Cut(entry, ";")
			entry = strings.ToLower(strings.TrimSpace(entry))
			kind, all := strings.CutSuffix(entry, "/*")
			if entry == string(mediaType) || entry == "*/*" || all && strings.HasPrefix(string(mediaType), kind+"/") {
				return true
			}
		}
	}
	return len(lines) == 0
}

// tags lists tags, a page at a time where the client asks for that.
func (s *Server) tags(w http.ResponseWriter, req *http.Request, repo string) {
	q := req.URL.Query()
	limit, last := -1, q.Get("last")
	if text := q.Get("n"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			refuse(w, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "")
			return
		}
		limit = int(n)
	}
	list := struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{repo, []string{}}
	more := false
	for tag, err := range s.layouts.Tags(req.Context(), s.host.Repo(repo)) {
		if err != nil {
			s.failed(w, req, err, "NAME_UNKNOWN")
			return
		}
		if tag <= last {
			continue
		}
		if more = len(list.Tags) == limit; more {
			break
		}
		list.Tags = append(list.Tags, tag)
	}
	if more && limit > 0 {
		next := url.Values{"n": {strconv.Itoa(limit)}, "last": {list.Tags[limit-1]}}
		w.Header().Set("Link", "</v2/"+repo+"/tags/list?"+next.Encode()+`>; rel="next"`)
	}
	sendJSON(w, "application/json", list)
}

// referrers lists what refers to a manifest.
func (s *Server) referrers(w http.ResponseWriter, req *http.Request, repo, text string) {
	digest, err := v1.NewHash(text)
	if err != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "")
		return
	}
	filter := req.URL.Query().Get("artifactType")
	list := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	for d, err := range s.layouts.Referrers(req.Context(), s.host.Repo(repo).Digest(digest.String()), filter) {
		if err != nil {
			s.failed(w, req, err, "NAME_UNKNOWN")
			return
		}
		list.Manifests = append(list.Manifests, d)
	}
	if filter != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	sendJSON(w, string(types.OCIImageIndex), list)
}

func sendJSON(w http.ResponseWriter, contentType string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", "")
		return
	}
	send(w, http.StatusOK, contentType, raw)
}

// putManifest takes a manifest, by digest or with a tag. What it names must be
// there already.
func (s *Server) putManifest(w http.ResponseWriter, req *http.Request, repo, text string) {
	ref, err := s.reference(repo, text)
	if err != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "")
		return
	}
	said := ""
	if header := req.Header.Get("Content-Type"); header != "" {
		if said, _, err = mime.ParseMediaType(header); err != nil {
			refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "")
			return
		}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, req.Body, ociimage.MaxManifestSize))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		refuse(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "")
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "")
		return
	}
	digest := sum("sha256", raw)
	tags := req.URL.Query()["tag"]
	if t, ok := ref.(name.Tag); ok {
		if len(tags) > 0 {
			refuse(w, http.StatusBadRequest, "UNSUPPORTED", "")
			return
		}
		tags = []string{t.TagStr()}
	} else {
		want, _ := v1.NewHash(text) // checked above
		if digest = sum(want.Algorithm, raw); digest != want {
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "")
			return
		}
	}
	for _, tag := range tags {
		if ociimage.CheckTag(tag) != nil {
			refuse(w, http.StatusBadRequest, "TAG_INVALID", "")
			return
		}
	}
	content, err := ociimage.Decode(raw, types.MediaType(said))
	if err == nil {
		_, err = s.layouts.WriteManifestAs(req.Context(), s.host.Repo(repo), digest, content.MediaType, raw)
	}
	if err != nil {
		s.invalid(w, req, err)
		return
	}
	for _, tag := range tags {
		if err := s.layouts.Tag(req.Context(), s.host.Repo(repo).Tag(tag), digest); err != nil {
			s.failed(w, req, err, "MANIFEST_UNKNOWN")
			return
		}
		w.Header().Add("OCI-Tag", tag)
	}
	if content.Subject != nil {
		w.Header().Set("OCI-Subject", content.Subject.Digest.String())
	}
	created(w, "/v2/"+repo+"/manifests/"+digest.String(), digest)
}

// invalid answers for a manifest that is not taken.
func (s *Server) invalid(w http.ResponseWriter, req *http.Request, err error) {
	pathErr, isPath := errors.AsType[*fs.PathError](err)
	switch {
	case req.Context().Err() != nil:
		refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE", "")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, publish.ErrDigest): // another size
		refuse(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", reason(err))
	case isPath: // the folder's fault, not the manifest's
		s.failed(w, req, pathErr, "UNKNOWN")
	default:
		s.log.LogAttrs(req.Context(), slog.LevelDebug, "manifest refused", slog.String("path", req.URL.Path), slog.Any("error", err))
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", reason(err))
	}
}

// sum is the digest of small data; algorithm is one that [v1.NewHash] took.
func sum(algorithm string, data []byte) v1.Hash {
	h, err := v1.Hasher(algorithm)
	if err != nil {
		return v1.Hash{}
	}
	h.Write(data)
	return v1.Hash{Algorithm: algorithm, Hex: fmt.Sprintf("%x", h.Sum(nil))}
}

func (s *Server) deleteManifest(w http.ResponseWriter, req *http.Request, repo, text string) {
	ref, err := s.reference(repo, text)
	if err != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "")
		return
	}
	if tag, ok := ref.(name.Tag); ok {
		err = s.layouts.Untag(req.Context(), tag)
	} else {
		err = s.layouts.Delete(req.Context(), ref.(name.Digest))
	}
	if err != nil {
		s.failed(w, req, err, "MANIFEST_UNKNOWN")
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
