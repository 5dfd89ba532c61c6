package graph_test

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload/graph"
)

var update = flag.Bool("update", false, "write golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// sampleGraph has the channels stable-4.20 and next-4.21 for two architectures.
func sampleGraph() *graph.Graph {
	g := versions("4.20.0-okd-scos.0", "4.20.0-okd-scos.1", "4.21.0-okd-scos.ec.0")
	for i := range g.Nodes {
		g.Nodes[i].Metadata[graph.KeyChannels] = "stable-4.20"
		if strings.HasPrefix(g.Nodes[i].Version, "4.21") {
			g.Nodes[i].Metadata[graph.KeyChannels] = "next-4.21"
		}
	}
	return g
}

func TestHandler(t *testing.T) {
	h := graph.NewHandler(sampleGraph(), nil)
	for _, test := range []struct {
		name, method, target, accept string
		status                       int
		contentType, body            string
	}{
		{"graph", "GET", "/graph?channel=stable-4.20", "", 200, graph.ContentType, `"version":"4.20.0-okd-scos.1"`},
		{"as the operator asks", "GET", "/api/upgrades_info/v1/graph?arch=arm64&channel=stable-4.20&id=x&version=4.20.0-okd-scos.0", "application/json", 200, "application/json", `"edges":[[0,1]]`},
		{"older path", "GET", "/api/upgrades_info/graph?channel=stable-4.20", "*/*", 200, graph.ContentType, `"version":1,`},
		{"several types", "GET", "/graph?channel=stable-4.20", "text/html, application/json;q=0.5", 200, "application/json", `"nodes"`},
		{"no such channel", "GET", "/graph?channel=stable-9.9", "", 200, graph.ContentType, `{"version":1,"nodes":[],"edges":[],"conditionalEdges":[]}`},
		{"no such architecture", "GET", "/graph?channel=stable-4.20&arch=riscv64", "", 200, graph.ContentType, `{"version":1,"nodes":[],"edges":[],"conditionalEdges":[]}`},
		{"HEAD", "HEAD", "/graph?channel=stable-4.20", "", 200, graph.ContentType, ""},
		{"no channel", "GET", "/graph", "", 400, "application/json", `{"kind":"missing_params","value":"mandatory client parameters missing: channel"}`},
		{"bad channel", "GET", "/graph?channel=a:b", "", 400, "application/json", `{"kind":"invalid_params","value":"invalid client parameters: channel 'a:b' does not match regex '^[0-9a-z\\-\\.]+$'"}`},
		{"bad architecture", "GET", "/graph?channel=a&arch=x86_64", "", 400, "application/json", `"kind":"invalid_params"`},
		{"bad query", "GET", "/graph?channel=%zz", "", 400, "application/json", `"kind":"invalid_params"`},
		{"type", "GET", "/graph?channel=a", "text/html", 406, "application/json", `{"kind":"invalid_content_type","value":"invalid Content-Type requested"}`},
		{"path", "GET", "/", "", 404, "application/json", `"kind":"does_not_exist"`},
		{"method", "POST", "/graph?channel=a", "", 405, "application/json", `"kind":"invalid_params"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := httptest.NewRequest(test.method, test.target, nil)
			if test.accept != "" {
				req.Header.Set("Accept", test.accept)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			require.Equal(t, test.status, w.Code)
			require.Equal(t, test.contentType, w.Header().Get("Content-Type"))
			require.Contains(t, w.Body.String(), test.body)
			require.NotContains(t, w.Body.String(), "+amd64")
			if test.method == http.MethodHead {
				require.Empty(t, w.Body.String())
				require.NotEqual(t, "0", w.Header().Get("Content-Length"))
			}
		})
	}
}

func TestHandlerCaches(t *testing.T) {
	h := graph.NewHandler(sampleGraph(), nil)
	ask := func(header ...string) *httptest.ResponseRecorder {
		req := httptest.NewRequest("GET", "/graph?channel=stable-4.20", nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w
	}
	plain := ask()
	tag := plain.Header().Get("ETag")
	require.NotEmpty(t, tag)
	same := ask("If-None-Match", `"x", W/`+tag)
	require.Equal(t, http.StatusNotModified, same.Code)
	require.Empty(t, same.Body.Bytes())
	zipped := ask("Accept-Encoding", "br, gzip")
	require.Equal(t, "gzip", zipped.Header().Get("Content-Encoding"))
	r, err := gzip.NewReader(zipped.Body)
	require.NoError(t, err)
	body, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, plain.Body.String(), string(body))
	require.Empty(t, ask("Accept-Encoding", "gzip;q=0").Header().Get("Content-Encoding"))

	smaller := sampleGraph()
	smaller.Edges = nil
	h.Set(smaller)
	changed := ask("If-None-Match", tag)
	require.Equal(t, http.StatusOK, changed.Code)
	require.NotEqual(t, tag, changed.Header().Get("ETag"))
}

// TestHandlerMemory asks for a great many channels that are not there.
func TestHandlerMemory(t *testing.T) {
	h := graph.NewHandler(sampleGraph(), nil)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	ask := func(i int) {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", fmt.Sprintf("/graph?channel=c%d&arch=a%d", i, i), nil))
	}
	ask(0)
	before := heap()
	for i := range 20_000 {
		ask(i)
	}
	require.Less(t, heap()-before, int64(1<<20))
	runtime.KeepAlive(h)
}

func TestHandlerAtOnce(t *testing.T) {
	h := graph.NewHandler(sampleGraph(), nil)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 50 {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/graph?channel=stable-4.20", nil))
				if w.Code != http.StatusOK {
					t.Error(w.Code)
				}
				if i == 0 {
					h.Set(sampleGraph())
				}
			}
		})
	}
	group.Wait()
}

func TestClient(t *testing.T) {
	g := sampleGraph()
	server := httptest.NewServer(graph.NewHandler(g, nil))
	defer server.Close()
	c, err := graph.NewClient(server.URL+"/graph", nil)
	require.NoError(t, err)
	got, err := c.Graph(t.Context(), graph.Query{Channel: "stable-4.20", Arch: "arm64", Version: "4.20.0-okd-scos.0"})
	require.NoError(t, err)
	want, err := g.Select("stable-4.20", "arm64")
	require.NoError(t, err)
	require.Equal(t, want.Nodes, got.Nodes)
	require.Equal(t, want.Edges, got.Edges)

	_, err = c.Graph(t.Context(), graph.Query{})
	require.ErrorContains(t, err, "missing_params: mandatory client parameters missing: channel")
	c, err = graph.NewClient("http://user:hunter2@"+strings.TrimPrefix(server.URL, "http://")+"/none", nil)
	require.NoError(t, err)
	_, err = c.Graph(t.Context(), graph.Query{Channel: "stable-4.20"})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotContains(t, err.Error(), "hunter2")
	for _, bad := range []string{"", "graph", "ftp://example.com/graph", "http://", "http://user:hunter2@[/"} {
		_, err := graph.NewClient(bad, nil)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// TestClientOfHostileServers asks servers that answer with something else.
func TestClientOfHostileServers(t *testing.T) {
	var answer http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { answer(w, req) }))
	defer server.Close()
	c, err := graph.NewClient(server.URL, nil)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"HTML": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "invalid character"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			_, _ = io.WriteString(w, "{")
		}, "EOF"},
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(zeros{}, graph.MaxGraphSize+2))
		}, "too large"},
		"refusal with control characters": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"kind":"a\u001b[2J","value":"`+strings.Repeat("x", 10_000)+`"}`)
		}, "400 Bad Request: a [2J: x"},
	} {
		t.Run(name, func(t *testing.T) {
			answer = test.answer
			_, err := c.Graph(t.Context(), graph.Query{Channel: "stable"})
			require.ErrorContains(t, err, test.want)
			require.Less(t, len(err.Error()), 1000)
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestFiles asks a plain file server.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for f, err := range sampleGraph().Files() {
		require.NoError(t, err)
		paths = append(paths, f.Path)
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, f.Data, 0o644))
	}
	require.Equal(t, []string{"next-4.21/amd64/graph", "next-4.21/arm64/graph", "stable-4.20/amd64/graph", "stable-4.20/arm64/graph"}, paths)
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	c, err := graph.NewClient(server.URL+"/stable-4.20/arm64/graph", nil)
	require.NoError(t, err)
	g, err := c.Graph(t.Context(), graph.Query{Channel: "stable-4.20", Arch: "arm64"})
	require.NoError(t, err)
	require.Len(t, g.Nodes, 2)

	twice := sampleGraph()
	twice.Nodes[0].Version = "4.20.0-okd-scos.1"
	for _, err := range twice.Files() {
		if err != nil {
			require.ErrorContains(t, err, "is there twice")
			return
		}
	}
	t.Fatal("one version twice in a channel")
}

// bigGraph has 1,000 nodes and 20,000 edges.
func bigGraph() *graph.Graph {
	g := &graph.Graph{}
	for i := range 1000 {
		g.Nodes = append(g.Nodes, graph.Node{
			Version: fmt.Sprintf("4.%d.%d+amd64", i/50, i%50), Payload: fmt.Sprintf("example.com/okd/release@sha256:%064x", i),
			Metadata: map[string]string{graph.KeyArch: "amd64", graph.KeyChannels: "candidate-4.20,fast-4.20,stable-4.20", "url": "https://example.com/errata", graph.KeyManifest: fmt.Sprintf("sha256:%064x", i)},
		})
		for j := max(0, i-20); j < i; j++ {
			g.Edges = append(g.Edges, [2]int{j, i})
		}
	}
	return g
}

type sink struct {
	header http.Header
	n      int64
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { s.n += int64(len(p)); return len(p), nil }

func BenchmarkHandler(b *testing.B) {
	g := bigGraph()
	for _, cold := range []bool{false, true} {
		b.Run(map[bool]string{false: "cached", true: "cold"}[cold], func(b *testing.B) {
			h := graph.NewHandler(g, nil)
			req := httptest.NewRequest("GET", "/graph?channel=stable-4.20", nil)
			one := &sink{header: http.Header{}}
			h.ServeHTTP(one, req)
			b.SetBytes(one.n)
			for b.Loop() {
				if cold {
					h.Set(g)
				}
				h.ServeHTTP(&sink{header: http.Header{}}, req)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	var data bytes.Buffer
	require.NoError(b, bigGraph().Encode(&data))
	b.SetBytes(int64(data.Len()))
	for b.Loop() {
		_, err := graph.Decode(bytes.NewReader(data.Bytes()))
		require.NoError(b, err)
	}
}

func BenchmarkApply(b *testing.B) {
	g := bigGraph()
	d := &graph.Data{}
	for i := range 1000 {
		d.Blocks = append(d.Blocks, graph.Block{To: fmt.Sprintf("4.%d.%d", i/50, i%50), From: `^4\.(1|3|5)\.[0-9]+[+]amd64$`, Risk: &graph.Risk{Name: "R"}})
	}
	var data bytes.Buffer
	require.NoError(b, g.Encode(&data))
	b.SetBytes(int64(data.Len()))
	for b.Loop() {
		_, err := d.Apply(g)
		require.NoError(b, err)
	}
}
