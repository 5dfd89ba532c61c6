package graph

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// ContentType is the media type of a graph.
const ContentType = "application/vnd.redhat.cincinnati.v1+json"

// paths are where the cluster-version operator is told to look, where
// Cincinnati's own installation has it, and where a release controller has it.
var paths = []string{"/api/upgrades_info/v1/graph", "/api/upgrades_info/graph", "/graph"}

// HandlerOptions are options of NewHandler; the zero value is useful.
type HandlerOptions struct {
	// Logger gets what is refused; nil: silent.
	Logger *slog.Logger
}

// Handler serves a graph to clusters as Cincinnati does, at
// /api/upgrades_info/v1/graph, /api/upgrades_info/graph and /graph: GET with
// the parameters channel (which must be there), arch, version and id (of which
// the last two change nothing). Errors are JSON with kind and value, and have
// Cincinnati's status codes.
//
// Answers are made once for each channel and architecture that the graph has,
// and carry an ETag. It may be used from any goroutine.
type Handler struct {
	log   *slog.Logger
	state atomic.Pointer[served]
}

// served is a graph with the answers that were made of it.
type served struct {
	graph   *Graph
	known   map[view]bool
	answers sync.Map // view to *answer
}

type view struct{ channel, arch string }

type answer struct {
	once          sync.Once
	plain, zipped []byte
	etag          string
	plainN, zipN  string
	notServed     error
}

// NewHandler serves g, a graph for several architectures, which must not be
// changed any more. opts may be nil.
func NewHandler(g *Graph, opts *HandlerOptions) *Handler {
	h := &Handler{log: slog.New(slog.DiscardHandler)}
	if opts != nil && opts.Logger != nil {
		h.log = opts.Logger
	}
	h.Set(g)
	return h
}

// Set serves another graph from now on.
func (h *Handler) Set(g *Graph) {
	h.state.Store(&served{graph: g, known: g.views()})
}

// views are the channels and architectures that have nodes.
func (g *Graph) views() map[view]bool {
	known := map[view]bool{}
	for i := range g.Nodes {
		for arch := range strings.SplitSeq(g.Nodes[i].Metadata[KeyArch], ",") {
			for _, channel := range g.Nodes[i].Channels() {
				if arch = strings.TrimSpace(arch); only(channel, "-.") && only(arch, "") {
					known[view{channel, arch}] = true
				}
			}
		}
	}
	return known
}

// refusal is an error as Cincinnati's clients know it.
type refusal struct {
	status int
	Kind   string `json:"kind"`
	Value  string `json:"value"`
}

func (r *refusal) Error() string { return r.Value }

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	err := h.serve(w, req)
	if err == nil {
		return
	}
	r := &refusal{status: http.StatusInternalServerError, Kind: "failed_plugin_execution", Value: "the graph cannot be served"}
	if !errors.As(err, &r) {
		h.log.ErrorContext(req.Context(), "graph not served", "error", err)
	} else {
		h.log.DebugContext(req.Context(), "request refused", "kind", r.Kind, "value", r.Value)
	}
	body, err := json.Marshal(r)
	if err != nil {
		http.Error(w, r.Kind, r.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.status)
	if req.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

func (h *Handler) serve(w http.ResponseWriter, req *http.Request) error {
	if !slices.Contains(paths, req.URL.Path) {
		return &refusal{http.StatusNotFound, "does_not_exist", "does not exist: ask for " + paths[0]}
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return &refusal{http.StatusMethodNotAllowed, "invalid_params", "invalid client parameters: method " + req.Method}
	}
	contentType, ok := accepted(req.Header)
	if !ok {
		return &refusal{http.StatusNotAcceptable, "invalid_content_type", "invalid Content-Type requested"}
	}
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return &refusal{http.StatusBadRequest, "invalid_params", "invalid client parameters: " + err.Error()}
	}
	if !query.Has("channel") {
		return &refusal{http.StatusBadRequest, "missing_params", "mandatory client parameters missing: channel"}
	}
	v := view{query.Get("channel"), DefaultArch}
	if query.Has("arch") {
		v.arch = query.Get("arch")
	}
	if !only(v.channel, "-.") {
		return &refusal{http.StatusBadRequest, "invalid_params", fmt.Sprintf(`invalid client parameters: channel '%.80s' does not match regex '^[0-9a-z\-\.]+$'`, v.channel)}
	}
	if !only(v.arch, "") {
		return &refusal{http.StatusBadRequest, "invalid_params", fmt.Sprintf("invalid client parameters: arch '%.80s' does not match regex '^[0-9a-z]+$'", v.arch)}
	}
	a := h.state.Load().answer(v)
	if a.notServed != nil {
		return a.notServed
	}
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("ETag", a.etag)
	header.Set("Vary", "Accept, Accept-Encoding")
	header.Set("Cache-Control", "no-cache") // ask again, with the ETag
	if slices.ContainsFunc(strings.Split(req.Header.Get("If-None-Match"), ","), func(tag string) bool {
		return strings.TrimPrefix(strings.TrimSpace(tag), "W/") == a.etag
	}) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body, length := a.plain, a.plainN
	if acceptsGzip(req.Header.Get("Accept-Encoding")) {
		body, length = a.zipped, a.zipN
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Length", length)
	if req.Method != http.MethodHead {
		_, _ = w.Write(body) // who went away is not told
	}
	return nil
}

// accepted gives the media type of the answer. Cincinnati compares the whole
// header; lists and weights are read here too, as other servers do.
func accepted(h http.Header) (string, bool) {
	accept := strings.Join(h.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return ContentType, true
	}
	for part := range strings.SplitSeq(accept, ",") {
		kind, params, _ := strings.Cut(part, ";")
		if params = strings.ReplaceAll(params, " ", ""); params == "q=0" {
			continue
		}
		switch kind = strings.ToLower(strings.TrimSpace(kind)); kind {
		case ContentType, "*", "*/*", "application/*":
			return ContentType, true
		case "application/json":
			return kind, true
		}
	}
	return "", false
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(part, ";")
		if c := strings.TrimSpace(coding); (c == "gzip" || c == "*") && !strings.HasPrefix(strings.ReplaceAll(params, " ", ""), "q=0") {
			return true
		}
	}
	return false
}

// answer gives the answer for a view, made once. Views without nodes share one,
// so that requests for names that are not there cost no memory.
func (s *served) answer(v view) *answer {
	if !s.known[v] {
		v = view{}
	}
	got, ok := s.answers.Load(v)
	if !ok {
		got, _ = s.answers.LoadOrStore(v, &answer{})
	}
	a := got.(*answer)
	a.once.Do(func() {
		var plain, zipped bytes.Buffer
		if a.notServed = s.graph.selected(v.channel, v.arch).Encode(&plain); a.notServed != nil {
			return
		}
		zip, err := gzip.NewWriterLevel(&zipped, gzip.BestSpeed)
		if err == nil {
			_, err = zip.Write(plain.Bytes())
		}
		if err = errors.Join(err, zip.Close()); err != nil {
			a.notServed = err
			return
		}
		a.plain, a.zipped = plain.Bytes(), zipped.Bytes()
		a.plainN, a.zipN = strconv.Itoa(len(a.plain)), strconv.Itoa(len(a.zipped))
		a.etag = fmt.Sprintf(`"%x"`, sha256.Sum256(a.plain))
	})
	return a
}

// File is an answer as a file.
type File struct {
	Path string // CHANNEL/ARCH/graph
	Data []byte
}

// Files are the answers for all channels and architectures as files for a plain
// web server, in the order of their paths. Clusters that follow one are told
// its address as their upstream; a plain server passes over the parameters that
// they add. The sequence ends after an error.
func (g *Graph) Files() iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		views := slices.SortedFunc(maps.Keys(g.views()), func(a, b view) int {
			return cmp.Or(strings.Compare(a.channel, b.channel), strings.Compare(a.arch, b.arch))
		})
		for _, v := range views {
			f := File{Path: v.channel + "/" + v.arch + "/graph"}
			var body bytes.Buffer
			if err := g.selected(v.channel, v.arch).Encode(&body); err != nil {
				yield(File{}, err)
				return
			}
			f.Data = body.Bytes()
			if !yield(f, nil) {
				return
			}
		}
	}
}
