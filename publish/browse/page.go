package browse

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/page"
	"github.com/okd-project/okd-streams/payload/graph"
)

// Page is a file of the site.
type Page struct {
	Path string // from the site's root: "index.html"
	Data []byte
}

//go:embed pages.html.tmpl
var text string

var templates = page.Parse("pages", text, template.FuncMap{
	"date": func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format("2006-01-02 15:04 UTC")
	},
	"url": func(text string) template.URL { return template.URL(text) }, // made by address, or vetted by its scheme
})

// frame is what every page has.
type frame struct {
	Title, Site       string
	Root              string // from the page to the site's root: "", "../"
	Readiness, Update bool   // there is such a page
}

func (s *Site) frame(title string, depth int) frame {
	return frame{Title: title, Site: s.opts.Title, Root: strings.Repeat("../", depth), Readiness: s.opts.Status != nil, Update: s.opts.Graph != nil}
}

func render(name string, v any) ([]byte, error) {
	var buf bytes.Buffer
	if err := templates().ExecuteTemplate(&buf, name, v); err != nil {
		return nil, fmt.Errorf("browse: %w", err)
	}
	return buf.Bytes(), nil
}

// Pages gives every page: the site's own, then those of each stream in turn,
// newest builds first. The order is stable. Pages are made one by one; an error,
// of the store or the context, ends the sequence.
func (s *Site) Pages(ctx context.Context) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		give := func(path string, data []byte, err error) bool {
			if err != nil {
				yield(Page{}, err)
				return false
			}
			return yield(Page{path, data}, nil)
		}
		streams, err := s.streams(ctx)
		if err != nil {
			yield(Page{}, err)
			return
		}
		data, err := s.index(ctx, streams)
		if !give("index.html", data, err) {
			return
		}
		for _, name := range []string{"readiness.html", "graph.html"} {
			if data, err = s.own(name); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if !give(name, data, err) {
				return
			}
		}
		for _, stream := range streams {
			folder := stream.Bucket.Stream + "/"
			all, err := s.catalogue(ctx, stream)
			if outage(err) {
				yield(Page{}, err)
				return
			}
			if err != nil {
				continue // the index says so
			}
			for n := 1; n <= s.pages(all); n++ {
				data, err := s.stream(ctx, stream, all, n)
				if !give(folder+pageName(n), data, err) {
					return
				}
			}
			for _, entry := range all.Builds {
				data, err := s.build(ctx, stream, all, entry.ID)
				if !give(folder+"builds/"+entry.ID+".html", data, err) {
					return
				}
			}
		}
	}
}

// Page makes one page. Without one of that path the error wraps
// [fs.ErrNotExist].
func (s *Site) Page(ctx context.Context, path string) (*Page, error) {
	data, err := s.page(ctx, path)
	if err != nil {
		return nil, err
	}
	return &Page{path, data}, nil
}

func (s *Site) page(ctx context.Context, path string) ([]byte, error) {
	missing := fmt.Errorf("browse: page %.200q: %w", path, fs.ErrNotExist)
	parts := strings.Split(path, "/")
	if len(parts) == 1 && path != "index.html" {
		return s.own(path)
	}
	streams, err := s.streams(ctx)
	if err != nil {
		return nil, err
	}
	if path == "index.html" {
		return s.index(ctx, streams)
	}
	i := slices.IndexFunc(streams, func(t Stream) bool { return t.Bucket.Stream == parts[0] })
	if i < 0 {
		return nil, missing
	}
	all, err := s.catalogue(ctx, streams[i])
	if err != nil {
		return nil, err
	}
	switch {
	case len(parts) == 2:
		n := 1
		if parts[1] != "index.html" {
			number, ok := strings.CutPrefix(strings.TrimSuffix(parts[1], ".html"), "page-")
			if n, err = strconv.Atoi(number); !ok || err != nil {
				return nil, missing
			}
		}
		if n < 1 || n > s.pages(all) || parts[1] != pageName(n) {
			return nil, missing
		}
		return s.stream(ctx, streams[i], all, n)
	case len(parts) == 3 && parts[1] == "builds":
		id, ok := strings.CutSuffix(parts[2], ".html")
		if !ok || !slices.ContainsFunc(all.Builds, func(e bootimage.BuildEntry) bool { return e.ID == id }) {
			return nil, missing
		}
		return s.build(ctx, streams[i], all, id)
	}
	return nil, missing
}

// own makes the pages that are not of the store.
func (s *Site) own(name string) ([]byte, error) {
	switch {
	case name == "readiness.html" && s.opts.Status != nil:
		var buf bytes.Buffer
		err := s.opts.Status.WriteHTML(&buf)
		return buf.Bytes(), err
	case name == "graph.html" && s.opts.Graph != nil:
		return s.graph()
	}
	return nil, fmt.Errorf("browse: page %.200q: %w", name, fs.ErrNotExist)
}

func pageName(n int) string {
	if n == 1 {
		return "index.html"
	}
	return fmt.Sprintf("page-%d.html", n)
}

// pages is how many pages the builds of a stream take.
func (s *Site) pages(all *bootimage.Builds) int {
	return max(1, (len(all.Builds)+s.opts.PerPage-1)/s.opts.PerPage)
}

// index is the page of all streams.
func (s *Site) index(ctx context.Context, streams []Stream) ([]byte, error) {
	type entry struct {
		Name, Title string
		Builds      int
		Newest      *row
		Fault       string
	}
	view := struct {
		frame
		Streams []entry
	}{frame: s.frame(s.opts.Title, 0)}
	for _, stream := range streams {
		e := entry{Name: stream.Bucket.Stream, Title: stream.title()}
		all, err := s.catalogue(ctx, stream)
		switch {
		case outage(err):
			return nil, err
		case errors.Is(err, fs.ErrNotExist):
			e.Fault = "There are no builds."
		case err != nil:
			e.Fault = "The builds cannot be read: " + err.Error()
		default:
			if e.Builds = len(all.Builds); e.Builds > 0 {
				rows, err := s.rows(ctx, stream, all, all.Builds[:1])
				if err != nil {
					return nil, err
				}
				e.Newest = &rows[0]
			}
		}
		view.Streams = append(view.Streams, e)
	}
	return render("index", view)
}

// maxTombstones is how many deleted builds a page lists.
const maxTombstones = 500

// stream is one page of a stream's builds.
func (s *Site) stream(ctx context.Context, stream Stream, all *bootimage.Builds, n int) ([]byte, error) {
	from := (n - 1) * s.opts.PerPage
	rows, err := s.rows(ctx, stream, all, all.Builds[from:min(len(all.Builds), from+s.opts.PerPage)])
	if err != nil {
		return nil, err
	}
	view := struct {
		frame
		Name            string
		Pages           []pager
		Number          int
		Builds, Deleted int
		Rows            []row
		Tags            []bootimage.BuildTag
		There           map[string]bool // the builds that Tags name
		Tombstones      []string
		Metadata        string
	}{frame: s.frame(stream.title(), 1), Name: stream.Bucket.Stream, Number: n, Builds: len(all.Builds), Rows: rows, Deleted: len(all.Tombstones)}
	if n > 1 {
		view.Title += fmt.Sprintf(", page %d", n)
	}
	view.Pages = pagers(n, s.pages(all))
	if n == 1 {
		view.Tags, view.There = all.Tags, map[string]bool{}
		for _, entry := range all.Builds {
			if slices.ContainsFunc(all.Tags, func(t bootimage.BuildTag) bool { return t.Target == entry.ID }) {
				view.There[entry.ID] = true
			}
		}
		for _, t := range all.Tombstones[:min(len(all.Tombstones), maxTombstones)] {
			view.Tombstones = append(view.Tombstones, t.ID)
		}
		if key, err := stream.Bucket.Key(bootimage.BucketFile{Kind: bootimage.FileStream}); err == nil {
			view.Metadata = s.link(1, stream, key)
		}
	}
	return render("stream", view)
}

// pager is a link to a page of a list.
type pager struct {
	Name    string // of the file; "": a gap
	Number  int
	Current bool
}

// pagers are the first pages, the last ones and those around the current one.
func pagers(current, last int) (list []pager) {
	if last == 1 {
		return nil
	}
	for n := 1; n <= last; n++ {
		switch {
		case n <= 2, n >= last-1, n >= current-2 && n <= current+2:
			list = append(list, pager{pageName(n), n, n == current})
		case list[len(list)-1].Name != "":
			list = append(list, pager{})
		}
	}
	return list
}

// build is the page of a build.
func (s *Site) build(ctx context.Context, stream Stream, all *bootimage.Builds, id string) ([]byte, error) {
	i := slices.IndexFunc(all.Builds, func(e bootimage.BuildEntry) bool { return e.ID == id })
	r, metas, err := s.row(ctx, stream, all, all.Builds[i])
	if err != nil {
		return nil, err
	}
	view := struct {
		frame
		row
		Name, StreamTitle string
		Number            int
		Newer, Older      string
		Archs             []arch
	}{frame: s.frame(cmp.Or(r.Release, r.ID), 2), row: r, Name: stream.Bucket.Stream, StreamTitle: stream.title()}
	view.Number = i/s.opts.PerPage + 1
	if i > 0 {
		view.Newer = all.Builds[i-1].ID
	}
	if i+1 < len(all.Builds) {
		view.Older = all.Builds[i+1].ID
	}
	for i, name := range r.Arches {
		a, err := s.arch(ctx, 2, stream, id, name, metas[i])
		if err != nil {
			return nil, err
		}
		view.Archs = append(view.Archs, a)
	}
	return render("build", view)
}

// PageName is the page of the stream's list that a build is on.
func (v row) PageName(n int) string { return pageName(n) }

// The graph's picture is left out where it would be too much for a browser.
const (
	maxDrawnNodes = 2000
	maxDrawnEdges = 20_000
)

// graph is the page of the update graph: a picture, and the same in words.
func (s *Site) graph() ([]byte, error) {
	g := s.opts.Graph
	type version struct {
		Version, Payload string
		To               []string
		Risks            []string
	}
	view := struct {
		frame
		Nodes, Edges, Conditional int
		Picture                   template.HTML
		Versions                  []version
	}{frame: s.frame("Update graph", 0), Nodes: len(g.Nodes), Edges: len(g.Edges)}
	to, risks := map[string]map[string]bool{}, map[string]map[string]bool{}
	add := func(m map[string]map[string]bool, from, to string) {
		if m[from] == nil {
			m[from] = map[string]bool{}
		}
		m[from][to] = true
	}
	for _, c := range g.Conditional {
		for _, e := range c.Edges {
			view.Conditional++
			for _, r := range c.Risks {
				add(risks, e.From, e.To+" ("+r.Name+": "+r.Message+")")
			}
		}
	}
	for _, e := range g.Edges {
		if e[0] < 0 || e[1] < 0 || max(e[0], e[1]) >= len(g.Nodes) {
			return nil, fmt.Errorf("browse: update graph: an edge to a node that is not there: %w", fs.ErrInvalid)
		}
		add(to, g.Nodes[e[0]].Version, g.Nodes[e[1]].Version)
	}
	nodes := slices.Clone(g.Nodes)
	slices.SortFunc(nodes, func(a, b graph.Node) int {
		return cmp.Or(graph.Compare(b.Version, a.Version), strings.Compare(a.Version, b.Version))
	})
	for _, n := range nodes {
		view.Versions = append(view.Versions, version{
			n.Version, n.Payload,
			slices.SortedFunc(maps.Keys(to[n.Version]), func(a, b string) int { return graph.Compare(b, a) }),
			slices.Sorted(maps.Keys(risks[n.Version])),
		})
	}
	if len(g.Nodes) <= maxDrawnNodes && len(g.Edges) <= maxDrawnEdges {
		var buf bytes.Buffer
		if err := g.WriteSVG(&buf, nil); err != nil {
			return nil, err
		}
		view.Picture = template.HTML(buf.String()) // which escapes what it holds
	}
	return render("graph", view)
}
