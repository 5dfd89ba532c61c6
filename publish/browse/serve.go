package browse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/okd-project/okd-streams/publish"
)

// ServeHTTP answers GET and HEAD for the pages, each made anew from the store,
// with an ETag. The request's path is that of the page without anything before
// it (see [http.StripPrefix]); a folder is its index.html.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	if path == "" || strings.HasSuffix(path, "/") {
		path += "index.html"
	}
	if isFolder(path) { // its pages' links are relative
		w.Header().Set("Location", path+"/")
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	data, err := s.page(r.Context(), path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, "no such page", http.StatusNotFound)
		return
	case err != nil: // what it says may name what others should not know
		http.Error(w, "the store cannot be read", http.StatusBadGateway)
		return
	}
	sum := sha256.Sum256(data)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", tag)
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(data) // the reader went away
	}
}

const contentType = "text/html; charset=utf-8"

// WriteOptions say how a site is written; nil is the zero value.
type WriteOptions struct {
	// Prefix goes before the path of each page, "" or ending in "/".
	Prefix string
	// CacheControl is that of the pages; "": the store's default.
	CacheControl string
}

// Written counts the pages of a site.
type Written struct {
	Pages int `json:"pages"` // all
	New   int `json:"new"`   // those that were not there as they are
}

// Write writes all pages to a store, which may be another one. Pages that are
// there as they are, by their SHA-256, are not written again. Pages of builds
// that are gone stay. The pages that name others come last.
func (s *Site) Write(ctx context.Context, dst publish.Store, opts *WriteOptions) (Written, error) {
	var o WriteOptions
	if opts != nil {
		o = *opts
	}
	var done Written
	var later []Page
	put := func(p Page) error {
		done.Pages++
		sum := sha256.Sum256(p.Data)
		digest := hex.EncodeToString(sum[:])
		if info, err := dst.Stat(ctx, o.Prefix+p.Path); err == nil && info.SHA256 == digest {
			return nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		done.New++
		_, err := dst.Put(ctx, o.Prefix+p.Path, publish.BytesSource(p.Data), &publish.PutOptions{SHA256: digest, ContentType: contentType, CacheControl: o.CacheControl})
		return err
	}
	for p, err := range s.Pages(ctx) {
		if err != nil {
			return done, err
		}
		if strings.HasSuffix(p.Path, "index.html") {
			later = append(later, p)
			continue
		}
		if err := put(p); err != nil {
			return done, err
		}
	}
	for i := len(later) - 1; i >= 0; i-- { // the site's own is the last
		if err := put(later[i]); err != nil {
			return done, err
		}
	}
	return done, nil
}
