package controller

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/okd-project/okd-streams/payload/graph"
)

// Handler serves the flows of engines at a release controller's addresses, so
// that what reads a controller ([Client], status pages, scripts) reads them too:
// /api/v1/releasestreams/{all,accepted,rejected,ready} and, below
// /api/v1/releasestream/NAME, tags, latest (json, name, pullSpec; rel, prefix),
// config and release/TAG (the short form).
//
// The newest release of a stream is the newest as OKD orders versions, which a
// release controller gets wrong for early candidates. There is no change log,
// no candidate and no graph: payload, publish/promotion and payload/graph make
// those.
func Handler(engines ...*Engine) http.Handler {
	h := &handler{engines: engines}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/releasestreams/{phase}", h.streams)
	mux.HandleFunc("GET /api/v1/releasestream/{stream}/tags", h.stream(tagsOf))
	mux.HandleFunc("GET /api/v1/releasestream/{stream}/latest", h.stream(latestOf))
	mux.HandleFunc("GET /api/v1/releasestream/{stream}/config", h.stream(configOf))
	mux.HandleFunc("GET /api/v1/releasestream/{stream}/release/{tag}", h.stream(releaseOf))
	return mux
}

type handler struct{ engines []*Engine }

// failure is an answer that is none.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

// load reads a flow with the newest version first.
func load(ctx context.Context, e *Engine) (*Flow, error) {
	f, err := e.Load(ctx)
	if err != nil {
		return nil, &failure{http.StatusInternalServerError, "the state of " + e.Config.Name + " cannot be read"}
	}
	slices.SortStableFunc(f.Releases, func(a, b FlowRelease) int { return graph.Compare(b.Name, a.Name) })
	return f, nil
}

func (h *handler) streams(w http.ResponseWriter, req *http.Request) {
	phase := map[string]Phase{"all": "", "accepted": Accepted, "rejected": Rejected, "ready": Ready}
	want, ok := phase[req.PathValue("phase")]
	if !ok {
		http.NotFound(w, req)
		return
	}
	out := map[string][]string{}
	for _, e := range h.engines {
		f, err := load(req.Context(), e)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		names := []string{}
		for _, r := range f.Releases {
			if want == "" || r.Phase == want {
				names = append(names, r.Name)
			}
		}
		out[e.Config.Name] = names
	}
	answerJSON(w, out)
}

// stream answers for one stream.
func (h *handler) stream(answer func(*Engine, *Flow, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		name := req.PathValue("stream")
		i := slices.IndexFunc(h.engines, func(e *Engine) bool { return e.Config.Name == name })
		if i < 0 {
			http.Error(w, "Unable to find release "+printName(name), http.StatusNotFound)
			return
		}
		f, err := load(req.Context(), h.engines[i])
		var out any
		if err == nil {
			out, err = answer(h.engines[i], f, req)
		}
		if fail, ok := err.(*failure); ok {
			http.Error(w, fail.text, fail.status)
			return
		}
		if err != nil {
			http.Error(w, "the answer cannot be made", http.StatusInternalServerError)
			return
		}
		if text, ok := out.(string); ok {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte(text + "\n"))
			return
		}
		answerJSON(w, out)
	}
}

func printName(name string) string { return strconv.QuoteToASCII(name[:min(len(name), 100)]) }

func answerJSON(w http.ResponseWriter, value any) {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		http.Error(w, "the answer cannot be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n'))
}

func (r *FlowRelease) tag() Tag { return Tag{Name: r.Name, Phase: r.Phase, PullSpec: r.PullSpec} }

func tagsOf(e *Engine, f *Flow, req *http.Request) (any, error) {
	phases := req.URL.Query()["phase"]
	tags := []Tag{}
	for _, r := range f.Releases {
		if len(phases) == 0 || slices.Contains(phases, string(r.Phase)) {
			tags = append(tags, r.tag())
		}
	}
	return map[string]any{"name": e.Config.Name, "tags": tags}, nil
}

func latestOf(_ *Engine, f *Flow, req *http.Request) (any, error) {
	query := req.URL.Query()
	skip := 0
	if text := query.Get("rel"); text != "" {
		var err error
		if skip, err = strconv.Atoi(text); err != nil || skip < 0 {
			return nil, &failure{http.StatusBadRequest, "error: ?rel must be non-negative integer"}
		}
	}
	if query.Has("in") {
		return nil, &failure{http.StatusNotImplemented, "error: ?in is not supported"}
	}
	for _, r := range f.Releases {
		if r.Phase != Accepted || !strings.HasPrefix(r.Name, query.Get("prefix")) {
			continue
		}
		if skip--; skip >= 0 {
			continue
		}
		switch query.Get("format") {
		case "", "json":
			return r.tag(), nil
		case "name":
			return r.Name, nil
		case "pullSpec":
			return r.PullSpec, nil
		}
		return nil, &failure{http.StatusBadRequest, "error: Must specify one of '', 'json', 'pullSpec' or 'name'"}
	}
	return nil, &failure{http.StatusNotFound, "no accepted release"}
}

func configOf(e *Engine, _ *Flow, _ *http.Request) (any, error) { return e.Config, nil }

func releaseOf(e *Engine, f *Flow, req *http.Request) (any, error) {
	r := f.Release(req.PathValue("tag"))
	if r == nil {
		return nil, &failure{http.StatusNotFound, "Unable to find release tag"}
	}
	out := &Release{Name: r.Name, Phase: r.Phase, Results: &Results{Blocking: map[string]Job{}, Informing: map[string]Job{}, Async: map[string]Job{}, Pending: map[string]Job{}}}
	for name, v := range e.Config.Verify {
		j, ok := r.Jobs[name]
		if v.Disabled || !ok && r.Phase != Ready {
			continue
		}
		if !ok {
			j.State = JobPending
		}
		switch {
		case v.Async:
			out.Results.Async[name] = j
		case v.Optional:
			out.Results.Informing[name] = j
		default:
			out.Results.Blocking[name] = j
		}
		if j.State == JobPending {
			out.Results.Pending[name] = j
		}
	}
	return out, nil
}
