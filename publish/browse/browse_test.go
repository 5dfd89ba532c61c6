package browse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/browse"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/status"
)

var update = flag.Bool("update", false, "write golden files")

const hostile = `</title></style><script>alert(1)</script><img src=//example.org/x onerror=alert(1)>" onload="alert(1)`

var at = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func put(t *testing.T, store publish.Store, key string, v any) {
	data, ok := v.([]byte)
	if !ok {
		var err error
		data, err = json.MarshalIndent(v, "", "  ")
		require.NoError(t, err)
	}
	_, err := store.Put(t.Context(), key, publish.BytesSource(data), nil)
	require.NoError(t, err)
}

// world is a store with three streams: one with everything, one whose catalogue
// cannot be read, and one in Fedora's layout.
func world(t *testing.T) publish.Store {
	store := memstore.New()
	for _, name := range []string{"okd-scos-next", "broken", "stable", "empty"} {
		put(t, store, "streams/"+name+".json", map[string]any{"stream": name})
	}
	put(t, store, "streams/..json", map[string]any{})
	builds := bootimage.Builds{
		SchemaVersion: "1.0.0", Timestamp: at,
		Builds: []bootimage.BuildEntry{
			{ID: "9.0.20261125-0", Arches: []string{"x86_64", "aarch64"}},
			{ID: "9.0.20261124-0", Arches: []string{"x86_64"}},
			{ID: "9.0.20260801-0", Arches: []string{"x86_64"}, PolicyCleanup: json.RawMessage(`{"cloud-uploads": true, "images": true, "images-kept": ["qemu"]}`)},
		},
		Tags:       []bootimage.BuildTag{{Name: "ec.1", Target: "9.0.20261124-0", Created: "2026-11-24T12:00:00Z", Description: "early candidate " + hostile}, {Name: "old", Target: "9.0.20260101-0"}},
		Tombstones: []bootimage.BuildEntry{{ID: "9.0.20260101-0", Arches: []string{"x86_64"}}},
	}
	put(t, store, "okd-scos-next/builds/builds.json", builds)
	for i, entry := range builds.Builds {
		for _, arch := range entry.Arches {
			file := "scos-" + entry.ID + "-qemu." + arch + ".qcow2.gz"
			meta := bootimage.Meta{
				BuildID: entry.ID, Name: "scos", Ref: "okd-scos-next/" + arch + "/scos", Summary: "OKD next " + hostile, Arch: arch,
				OSTreeCommit: strings.Repeat("c", 64), OSTreeVersion: entry.ID, OSTreeTimestamp: at.AddDate(0, 0, -i), BuildTimestamp: at.AddDate(0, 0, -i),
				BaseImage:      &bootimage.ContainerImage{Image: "registry.example.org/okd/scos", Digest: digest("a")},
				ReleasePayload: &bootimage.ContainerImage{Image: "registry.example.org/okd/release", Digest: digest(string(rune('1' + i)))},
				Images: map[string]bootimage.Image{
					"qemu":     {Path: file, SHA256: strings.Repeat("1", 64), Size: 1 << 30, UncompressedSHA256: strings.Repeat("2", 64), UncompressedSize: 3 << 30},
					"live-iso": {Path: "scos-" + entry.ID + "-live-iso." + arch + ".iso", SHA256: strings.Repeat("3", 64), Size: 1 << 29},
				},
				AMIs: []bootimage.AMI{{Region: "us-east-1", AMI: "ami-0123456789abcdef0"}},
			}
			folder := "okd-scos-next/builds/" + entry.ID + "/" + arch + "/"
			put(t, store, folder+"meta.json", meta)
			put(t, store, folder+file, []byte("disk"))
			put(t, store, folder+file+".sig", []byte("signature"))
			if arch == "aarch64" {
				put(t, store, folder+"report.html", []byte("report"))
			}
			if i < 2 {
				put(t, store, folder+"scos-"+entry.ID+"-live-iso."+arch+".iso", []byte("iso"))
			}
		}
		put(t, store, "okd-scos-next/names/build-"+entry.ID+".json", daily.Claim{Build: entry.ID, Version: fmt.Sprintf("4.21.0-okd-scos.%d", 9-i), Arch: "x86_64", Time: at.AddDate(0, 0, -i)})
	}
	put(t, store, "broken/builds/builds.json", []byte(`{"builds": "`+hostile))
	put(t, store, "prod/streams/stable/builds/builds.json", bootimage.Builds{SchemaVersion: "1.0.0", Builds: []bootimage.BuildEntry{{ID: "42.20261101.3.0", Arches: []string{"s390x"}}}})
	put(t, store, "prod/streams/stable/builds/42.20261101.3.0/s390x/meta.json", []byte(hostile))
	put(t, store, "empty/builds/builds.json", bootimage.Builds{SchemaVersion: "1.0.0", Builds: []bootimage.BuildEntry{}})
	return store
}

func options(t *testing.T, store publish.Store) *browse.Options {
	book := gate.Book{Store: store, Prefix: "okd-scos-next/"}
	subject := gate.Subject{Release: "4.21.0-okd-scos.9", Digest: digest("1")}
	require.NoError(t, book.Record(t.Context(),
		gate.Result{Gate: "e2e-aws", Subject: subject, State: gate.Failed, Reason: "3 of 400 tests failed " + hostile, At: at, Evidence: []gate.Evidence{{URL: "https://prow.example.org/view/1"}}},
		gate.Result{Gate: "lint", Subject: subject, State: gate.Failed, At: at},
		gate.Result{Gate: "lint", Subject: subject, State: gate.Passed, At: at.Add(time.Hour)},
	))
	g := &graph.Graph{
		Nodes: []graph.Node{
			{Version: "4.20.0-okd-scos.17", Payload: "registry.example.org/okd/release@" + digest("7"), Metadata: map[string]string{}},
			{Version: "4.21.0-okd-scos.8", Payload: "registry.example.org/okd/release@" + digest("2"), Metadata: map[string]string{}},
			{Version: "4.21.0-okd-scos.9", Payload: "registry.example.org/okd/release@" + digest("1"), Metadata: map[string]string{}},
		},
		Edges: [][2]int{{0, 1}, {1, 2}},
		Conditional: []graph.ConditionalEdges{{Edges: []graph.Edge{{From: "4.20.0-okd-scos.17", To: "4.21.0-okd-scos.9"}}, Risks: []graph.Risk{{
			URL: "https://example.org/risk", Name: "SlowBoot", Message: "It boots slowly. " + hostile, Rules: []graph.Rule{{Type: "Always"}},
		}}}},
	}
	ready := status.New([]status.History{{Stream: "okd-scos-next", Builds: []status.Build{{Version: "4.21.0-okd-scos.9", Phase: controller.Accepted, Created: at}}}}, at.Add(time.Hour), nil)
	return &browse.Options{
		Title: "OKD streams", Files: "https://files.example.org/", Book: book, Status: ready, Graph: g,
		Reports: func(stream, build, arch string) string {
			if arch != "x86_64" {
				return ""
			}
			return "reports/" + build + ".html"
		},
	}
}

// TestSite is a golden of a whole site, whose contents may be hostile.
func TestSite(t *testing.T) {
	store := world(t)
	site, err := browse.New(store, options(t, store))
	require.NoError(t, err)
	golden := filepath.Join("testdata", "site")
	if *update {
		require.NoError(t, os.RemoveAll(golden))
	}
	var paths []string
	for p, err := range site.Pages(t.Context()) {
		require.NoError(t, err)
		paths = append(paths, p.Path)
		if p.Path != "graph.html" { // which has a style of its own
			require.Equal(t, 1, strings.Count(string(p.Data), "<style"), p.Path)
		}
		for _, bad := range []string{"<script", "<img", `href="javascript`, `" onload`} {
			require.NotContains(t, string(p.Data), bad, p.Path)
		}
		file := filepath.Join(golden, filepath.FromSlash(p.Path))
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, p.Data, 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, p.Data), "%s is another page; see the difference with -update", p.Path)
		alone, err := site.Page(t.Context(), p.Path)
		require.NoError(t, err)
		require.Equal(t, string(p.Data), string(alone.Data))
	}
	require.Equal(t, []string{
		"index.html", "readiness.html", "graph.html", "empty/index.html",
		"okd-scos-next/index.html", "okd-scos-next/builds/9.0.20261125-0.html", "okd-scos-next/builds/9.0.20261124-0.html", "okd-scos-next/builds/9.0.20260801-0.html",
		"stable/index.html", "stable/builds/42.20261101.3.0.html",
	}, paths)
}

// TestLinksLeadSomewhere follows every link of a site that is written to a
// folder.
func TestLinksLeadSomewhere(t *testing.T) {
	store := world(t)
	opts := options(t, store)
	opts.Files, opts.Reports = "../", nil
	dir := t.TempDir()
	for info, err := range store.List(t.Context(), "") {
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, info.Key)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, info.Key), nil, 0o644))
	}
	site, err := browse.New(store, opts)
	require.NoError(t, err)
	dst, err := dirstore.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	defer dst.Close()
	done, err := site.Write(t.Context(), dst, &browse.WriteOptions{Prefix: "pages/"})
	require.NoError(t, err)
	require.Equal(t, browse.Written{Pages: 10, New: 10}, done)
	links := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, "pages"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, part := range strings.Split(string(data), ` href="`)[1:] {
			to, _, _ := strings.Cut(part, `"`)
			if strings.HasPrefix(to, "https://") || to == "data:," || strings.HasPrefix(to, "#") {
				continue
			}
			links++
			require.FileExists(t, filepath.Join(filepath.Dir(path), filepath.FromSlash(to)), "%s: %s", path, to)
		}
		return nil
	}))
	require.Greater(t, links, 40)

	done, err = site.Write(t.Context(), dst, &browse.WriteOptions{Prefix: "pages/"})
	require.NoError(t, err)
	require.Equal(t, browse.Written{Pages: 10}, done, "what is there is not written again")
}

// counting counts what is opened.
type counting struct {
	publish.Store
	opened atomic.Int64
}

func (c *counting) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	c.opened.Add(1)
	return c.Store.Open(ctx, key)
}

// TestThousandsOfBuilds are as many pages; each costs what is on it.
func TestThousandsOfBuilds(t *testing.T) {
	store := &counting{Store: memstore.New()}
	builds := bootimage.Builds{SchemaVersion: "1.0.0"}
	for i := range 5000 {
		builds.Builds = append(builds.Builds, bootimage.BuildEntry{ID: fmt.Sprintf("9.0.%d-0", 5000-i), Arches: []string{"x86_64"}})
	}
	for i := range 2000 {
		builds.Tombstones = append(builds.Tombstones, bootimage.BuildEntry{ID: fmt.Sprintf("8.0.%d-0", i), Arches: []string{"x86_64"}})
	}
	put(t, store, "s/builds/builds.json", builds)
	site, err := browse.New(store, &browse.Options{Streams: []browse.Stream{{Bucket: bootimage.Bucket{Stream: "s", Prefix: "s"}, Title: "A stream"}}, PerPage: 100})
	require.NoError(t, err)
	for path, has := range map[string][]string{
		"s/index.html":             {"9.0.5000-0", "9.0.4901-0", `href="page-50.html"`, "2000 builds deleted", "Only the first 500"},
		"s/page-25.html":           {"9.0.2600-0", `aria-current="page"><strong>25</strong>`, `href="page-24.html"`, "page 25"},
		"s/page-50.html":           {"9.0.100-0", "9.0.1-0"},
		"s/builds/9.0.2600-0.html": {`href="../page-25.html"`, "9.0.2601-0.html", "9.0.2599-0.html", "the record is not there"},
	} {
		store.opened.Store(0)
		p, err := site.Page(t.Context(), path)
		require.NoError(t, err)
		for _, text := range has {
			require.Contains(t, string(p.Data), text, path)
		}
		require.LessOrEqual(t, store.opened.Load(), int64(201), path)
		require.Less(t, len(p.Data), 80<<10, path)
	}
	for _, path := range []string{"", "x", "s/page-1.html", "s/page-51.html", "s/page-0.html", "s/page-02.html", "s/page--1.html", "s/builds/9.0.5001-0.html", "s/builds/../index.html", "t/index.html", "readiness.html", "graph.html", "s/builds/9.0.1-0"} {
		_, err := site.Page(t.Context(), path)
		require.ErrorIs(t, err, fs.ErrNotExist, path)
	}
}

func TestServe(t *testing.T) {
	store := world(t)
	site, err := browse.New(store, options(t, store))
	require.NoError(t, err)
	server := httptest.NewServer(http.StripPrefix("/browse", site))
	defer server.Close()
	server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	get := func(method, path, none string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/browse/"+path, nil)
		require.NoError(t, err)
		req.Header.Set("If-None-Match", none)
		resp, err := server.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp, string(body)
	}
	resp, body := get("GET", "", "")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", resp.Header.Get("Content-Type"))
	require.Contains(t, body, "OKD streams")
	require.NotEmpty(t, resp.Header.Get("ETag"))
	resp, body = get("GET", "index.html", resp.Header.Get("ETag"))
	require.Equal(t, 304, resp.StatusCode)
	require.Empty(t, body)
	resp, body = get("HEAD", "okd-scos-next/", "")
	require.Equal(t, 200, resp.StatusCode)
	require.Empty(t, body)
	resp, _ = get("GET", "okd-scos-next", "")
	require.Equal(t, 301, resp.StatusCode)
	require.Equal(t, "okd-scos-next/", resp.Header.Get("Location"))
	resp, _ = get("GET", "okd-scos-next/builds/none.html", "")
	require.Equal(t, 404, resp.StatusCode)
	resp, _ = get("POST", "", "")
	require.Equal(t, 405, resp.StatusCode)
}

// down is a store that does not answer for some keys.
type down struct {
	publish.Store
	key string
}

func (d down) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	if strings.HasSuffix(key, d.key) {
		return nil, publish.Info{}, &publish.Error{Op: "open", Target: key, Err: errors.New("503"), Retryable: true}
	}
	return d.Store.Open(ctx, key)
}

// TestOutageIsNoPage: what the store holds is on a page, its faults are not.
func TestOutageIsNoPage(t *testing.T) {
	for _, key := range []string{"builds.json", "9.0.20261125-0/x86_64/meta.json", "build-9.0.20261124-0.json", strings.Repeat("1", 64) + ".json"} {
		store := world(t)
		opts := options(t, store)
		broken := down{store, key}
		opts.Book.Store = broken
		site, err := browse.New(broken, opts)
		require.NoError(t, err)
		_, err = site.Write(t.Context(), memstore.New(), nil)
		require.ErrorContains(t, err, "503", key)
		recorder := httptest.NewRecorder()
		site.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), "GET", "/okd-scos-next/", nil))
		require.Equal(t, 502, recorder.Code, key)
		require.NotContains(t, recorder.Body.String(), "503")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	store := world(t)
	site, err := browse.New(store, nil)
	require.NoError(t, err)
	_, err = site.Write(ctx, memstore.New(), nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestNewRefuses(t *testing.T) {
	stream := func(name string) browse.Stream { return browse.Stream{Bucket: bootimage.Bucket{Stream: name}} }
	for name, opts := range map[string]*browse.Options{
		"page":  {PerPage: browse.MaxPerPage + 1},
		"minus": {PerPage: -1},
		"name":  {Streams: []browse.Stream{stream("a/b")}},
		"empty": {Streams: []browse.Stream{stream("")}},
		"html":  {Streams: []browse.Stream{stream("index.html")}},
		"twice": {Streams: []browse.Stream{stream("a"), stream("a")}},
		"many":  {Streams: make([]browse.Stream, browse.MaxStreams+1)},
	} {
		_, err := browse.New(memstore.New(), opts)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
	}
}

// FuzzPage asks for any path: it is a page that the site has, or none.
func FuzzPage(f *testing.F) {
	store := memstore.New()
	for key, text := range map[string]string{
		"streams/s.json":       "{}",
		"s/builds/builds.json": `{"schema-version": "1.0.0", "builds": [{"id": "0.0.1-0", "arches": ["x86_64"]}]}`,
	} {
		if _, err := store.Put(f.Context(), key, publish.BytesSource([]byte(text)), nil); err != nil {
			f.Fatal(err)
		}
	}
	site, err := browse.New(store, nil)
	require.NoError(f, err)
	known := map[string]bool{}
	for p, err := range site.Pages(f.Context()) {
		require.NoError(f, err)
		known[p.Path] = true
		f.Add(p.Path)
	}
	for _, path := range []string{"", "/", "../s/index.html", "s/page-1.html", "s/page-99999999999999999999.html", "s/builds/..", "s//builds/0.0.1-0.html"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		var p *browse.Page
		var err error
		fuzzbound.Linear(t, len(path), 64, func() { p, err = site.Page(t.Context(), path) })
		if !known[path] {
			require.ErrorIs(t, err, fs.ErrNotExist)
			return
		}
		require.NoError(t, err)
		require.Equal(t, path, p.Path)
	})
}

func BenchmarkPages(b *testing.B) {
	store := memstore.New()
	builds := bootimage.Builds{SchemaVersion: "1.0.0"}
	for i := range 500 {
		builds.Builds = append(builds.Builds, bootimage.BuildEntry{ID: fmt.Sprintf("9.0.%d-0", 500-i), Arches: []string{"x86_64"}})
	}
	data, err := json.Marshal(builds)
	require.NoError(b, err)
	_, err = store.Put(b.Context(), "s/builds/builds.json", publish.BytesSource(data), nil)
	require.NoError(b, err)
	site, err := browse.New(store, &browse.Options{Streams: []browse.Stream{{Bucket: bootimage.Bucket{Stream: "s", Prefix: "s"}}}})
	require.NoError(b, err)
	var size int64
	for b.Loop() {
		size = 0
		for p, err := range site.Pages(b.Context()) {
			require.NoError(b, err)
			size += int64(len(p.Data))
		}
	}
	b.SetBytes(size)
}
