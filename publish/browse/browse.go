package browse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/status"
)

// Limits and defaults of a site.
const (
	// DefaultPerPage is how many builds a page of a stream has.
	DefaultPerPage = 50
	// MaxPerPage bounds [Options.PerPage].
	MaxPerPage = 500
	// MaxStreams bounds the streams of a site.
	MaxStreams = 1000
)

// Stream is a stream and where it lies in the store.
type Stream struct {
	// Bucket names the stream and its folder. Its name is a folder of the site:
	// letters, digits and "._-", not ending in ".html".
	Bucket bootimage.Bucket
	// Title is its name for people; "": Bucket.Stream.
	Title string
}

// Options say what a site has; nil and the zero value are useful.
type Options struct {
	// Title heads the site; "": "Streams".
	Title string
	// Streams are those of the site, in this order; nil: what [Find] finds,
	// looked for again for each page.
	Streams []Stream
	// PerPage is how many builds a page has, at most [MaxPerPage]; 0:
	// [DefaultPerPage].
	PerPage int
	// Files is the address before the keys of the store, with its slash at the
	// end: absolute (https://…, /store/) or relative to the site's root
	// (../store/). "": the first of the bucket's Bases; without one files have
	// no links.
	Files string
	// Reports gives the address of a build's report, absolute or relative to the
	// site's root; "" or nil: of a report.html beside its meta.json, where
	// publish/daily puts it if told so, or there is none.
	Reports func(stream, build, arch string) string
	// Book has the results of gates; without a Store there are none.
	Book gate.Book
	// Status, if not nil, is the page readiness.html.
	Status *status.Report
	// Graph, if not nil, is the page graph.html.
	Graph *graph.Graph
}

// Site is the pages of a store. Its methods may be called from any goroutine.
type Site struct {
	store publish.Store
	opts  Options
}

// New makes the site of a store. It reads nothing yet. The error wraps
// [fs.ErrInvalid]; opts may be nil.
func New(store publish.Store, opts *Options) (*Site, error) {
	s := &Site{store: store}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Title == "" {
		s.opts.Title = "Streams"
	}
	if s.opts.PerPage == 0 {
		s.opts.PerPage = DefaultPerPage
	}
	if s.opts.PerPage < 1 || s.opts.PerPage > MaxPerPage {
		return nil, fmt.Errorf("browse: %d builds a page, limit %d: %w", s.opts.PerPage, MaxPerPage, fs.ErrInvalid)
	}
	if len(s.opts.Streams) > MaxStreams {
		return nil, fmt.Errorf("browse: %d streams, limit %d: %w", len(s.opts.Streams), MaxStreams, fs.ErrInvalid)
	}
	for i, stream := range s.opts.Streams {
		if !isFolder(stream.Bucket.Stream) {
			return nil, fmt.Errorf("browse: stream %.80q: not a name for a folder: %w", stream.Bucket.Stream, fs.ErrInvalid)
		}
		if slices.ContainsFunc(s.opts.Streams[:i], func(t Stream) bool { return t.Bucket.Stream == stream.Bucket.Stream }) {
			return nil, fmt.Errorf("browse: stream %s: it is there twice: %w", stream.Bucket.Stream, fs.ErrInvalid)
		}
	}
	return s, nil
}

var reFolder = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func isFolder(name string) bool {
	return reFolder.MatchString(name) && !strings.Contains(name, "..") && !strings.HasSuffix(name, ".html")
}

// Find finds the streams of a store by their metadata, streams/STREAM.json, and
// their catalogue, in STREAM/builds or prod/streams/STREAM/builds. They are in
// the order of their names, at most [MaxStreams]. bases are the addresses of the
// store (see [bootimage.Bucket]).
func Find(ctx context.Context, store publish.Store, bases ...string) ([]Stream, error) {
	var found []Stream
	for info, err := range store.List(ctx, "streams/") {
		if err != nil {
			return nil, fmt.Errorf("browse: find streams: %w", err)
		}
		name, ok := strings.CutSuffix(strings.TrimPrefix(info.Key, "streams/"), ".json")
		if !ok || !isFolder(name) {
			continue
		}
		for _, bucket := range []bootimage.Bucket{{Stream: name, Prefix: name, Bases: bases}, bootimage.StreamBucket(name, bases...)} {
			key, err := bucket.Key(bootimage.BucketFile{Kind: bootimage.FileBuilds})
			if err != nil {
				continue
			}
			if _, err := store.Stat(ctx, key); errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return nil, fmt.Errorf("browse: find streams: %w", err)
			}
			found = append(found, Stream{Bucket: bucket})
			break
		}
		if len(found) == MaxStreams {
			break
		}
	}
	return found, nil
}

func (s *Site) streams(ctx context.Context) ([]Stream, error) {
	if s.opts.Streams != nil {
		return s.opts.Streams, nil
	}
	return Find(ctx, s.store)
}

// title is a stream's name for people.
func (s Stream) title() string {
	if s.Title != "" {
		return s.Title
	}
	return s.Bucket.Stream
}

// catalogue reads builds.json.
func (s *Site) catalogue(ctx context.Context, stream Stream) (*bootimage.Builds, error) {
	key, err := stream.Bucket.Key(bootimage.BucketFile{Kind: bootimage.FileBuilds})
	if err != nil {
		return nil, err
	}
	body, _, err := s.store.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	document, err := bootimage.DecodeBuilds(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return document.Value(), nil
}

// address gives a link: of a path from the site's root, seen from a page at the
// depth, or an absolute address as it is.
func address(depth int, to string) string {
	if to == "" || strings.HasPrefix(to, "/") || reScheme.MatchString(to) {
		return to
	}
	return strings.Repeat("../", depth) + path.Clean(to) + slash(to)
}

var reScheme = lazyregexp.New(`^[A-Za-z][A-Za-z0-9+.-]*:`)

func slash(to string) string {
	if strings.HasSuffix(to, "/") {
		return "/"
	}
	return ""
}
