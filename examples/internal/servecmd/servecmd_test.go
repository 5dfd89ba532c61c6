package servecmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/examples/internal/servecmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/httpstore"
)

func execute(ctx context.Context, stdout io.Writer, args ...string) error {
	root := &cobra.Command{Use: "okd-streams", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(servecmd.Command())
	root.SetArgs(append([]string{"serve"}, args...))
	root.SetOut(stdout)
	root.SetErr(io.Discard)
	return root.ExecuteContext(ctx)
}

// serve runs the command until the test ends and gives where each service is;
// "" is the base.
func serve(t *testing.T, args ...string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := execute(ctx, w, append(args, "--listen", "127.0.0.1:0", "--json")...)
		w.CloseWithError(err)
		done <- err
	}()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		require.NoError(t, <-done)
	})
	var out struct {
		URL      string
		Services []struct{ Name, URL string }
	}
	require.NoError(t, json.NewDecoder(r).Decode(&out))
	go func() { _, _ = io.Copy(io.Discard, r) }()
	urls := map[string]string{"": out.URL}
	for _, s := range out.Services {
		urls[s.Name] = s.URL
	}
	return urls
}

func get(t *testing.T, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	store, err := dirstore.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	for _, key := range []string{"a/one.txt", "a/b/two.bin", "a/b/<three>", "empty"} {
		content := key
		if key == "empty" {
			content = ""
		}
		_, err := store.Put(t.Context(), key, publish.BytesSource([]byte(content)), &publish.PutOptions{ContentType: "text/plain"})
		require.NoError(t, err)
	}
	url := serve(t, "--store", "dir:"+dir)["store"]

	resp, body := get(t, http.MethodGet, url+"a/one.txt")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "a/one.txt", body)
	require.Equal(t, "text/plain", resp.Header.Get("Content-Type"))
	tag := resp.Header.Get("ETag")

	for _, tc := range []struct {
		header        []string
		status        int
		body, content string
	}{
		{[]string{"Range", "bytes=2-4"}, 206, "one", "bytes 2-4/9"},
		{[]string{"Range", "bytes=6-"}, 206, "txt", "bytes 6-8/9"},
		{[]string{"Range", "bytes=6-100"}, 206, "txt", "bytes 6-8/9"},
		{[]string{"Range", "bytes=-3"}, 206, "txt", "bytes 6-8/9"},
		{[]string{"Range", "bytes=-100"}, 206, "a/one.txt", "bytes 0-8/9"},
		{[]string{"Range", "bytes=0-1,3-4"}, 200, "a/one.txt", ""},
		{[]string{"Range", "lines=1-2"}, 200, "a/one.txt", ""},
		{[]string{"Range", "bytes=4-2"}, 200, "a/one.txt", ""},
		{[]string{"Range", "bytes=9-"}, 416, "the object is shorter\n", "bytes */9"},
		{[]string{"Range", "bytes=-0"}, 416, "the object is shorter\n", "bytes */9"},
		{[]string{"Range", "bytes=2-4", "If-Range", tag}, 206, "one", "bytes 2-4/9"},
		{[]string{"Range", "bytes=2-4", "If-Range", `"other"`}, 200, "a/one.txt", ""},
		{[]string{"If-None-Match", tag}, 304, "", ""},
		{[]string{"If-None-Match", `"x", ` + tag}, 304, "", ""},
		{[]string{"If-None-Match", `"x"`}, 200, "a/one.txt", ""},
	} {
		resp, body := get(t, http.MethodGet, url+"a/one.txt", tc.header...)
		require.Equal(t, tc.status, resp.StatusCode, "%v", tc.header)
		require.Equal(t, tc.body, body, "%v", tc.header)
		require.Equal(t, tc.content, resp.Header.Get("Content-Range"), "%v", tc.header)
	}
	resp, body = get(t, http.MethodHead, url+"a/one.txt")
	require.Equal(t, int64(9), resp.ContentLength)
	require.Empty(t, body)
	resp, body = get(t, http.MethodGet, url+"empty")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Empty(t, body)

	for _, path := range []string{"a/none", "none/", "%2e%2e/x", ".okd-streams/lock"} {
		resp, _ := get(t, http.MethodGet, url+path)
		require.Equal(t, http.StatusNotFound, resp.StatusCode, path)
	}
	resp, _ = get(t, http.MethodPut, url+"a/one.txt")
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)

	_, body = get(t, http.MethodGet, url)
	require.Contains(t, body, `<a href="./a/">a/</a>`)
	require.Contains(t, body, `<a href="./empty">empty</a>`)
	_, body = get(t, http.MethodGet, url+"a/b/")
	require.Contains(t, body, `<a href="./%3cthree%3e">&lt;three&gt;</a>`)
	require.NotContains(t, body, "one.txt")

	// The library's own reader, which checks digests and lengths.
	client, err := httpstore.New(url, nil)
	require.NoError(t, err)
	r, info, err := client.OpenRange(t.Context(), "a/b/two.bin", 4, 3)
	require.NoError(t, err)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Equal(t, "two", string(data))
	require.NotEmpty(t, info.SHA256)
}

func TestRegistry(t *testing.T) {
	img, err := random.Image(1024, 2)
	require.NoError(t, err)
	dir := t.TempDir()
	writable := serve(t, "--registry", "dir:"+dir, "--push")
	host := strings.TrimPrefix(writable[""], "http://")
	ref, err := name.ParseReference(host + "/some/image:v1")
	require.NoError(t, err)
	require.NoError(t, remote.Write(ref, img, remote.WithContext(t.Context())))

	readable := strings.TrimPrefix(serve(t, "--registry", "dir:"+dir)[""], "http://")
	ref, err = name.ParseReference(readable + "/some/image:v1")
	require.NoError(t, err)
	got, err := remote.Image(ref, remote.WithContext(t.Context()))
	require.NoError(t, err)
	require.NoError(t, validate.Image(got))
	ref, err = name.ParseReference(readable + "/other/image:v1")
	require.NoError(t, err)
	require.Error(t, remote.Write(ref, img, remote.WithContext(t.Context())))
}

func TestOSTree(t *testing.T) {
	dir := t.TempDir()
	repo, err := ostree.Init(t.Context(), dir, ostree.ModeArchive, nil)
	require.NoError(t, err)
	commit, err := repo.Commit(t.Context(), sample.Tree(), &ostree.CommitOptions{Ref: "os"})
	require.NoError(t, err)
	require.NoError(t, repo.Close())
	url := serve(t, "--ostree", dir)["ostree"]
	_, body := get(t, http.MethodGet, url+"refs/heads/os")
	require.Equal(t, commit.String()+"\n", body)
}

func TestOSTreePulls(t *testing.T) {
	interop.Peer(t, "ostree")
	dir := t.TempDir()
	repo, err := ostree.Init(t.Context(), dir, ostree.ModeArchive, nil)
	require.NoError(t, err)
	_, err = repo.Commit(t.Context(), sample.Tree(), &ostree.CommitOptions{Ref: "os"})
	require.NoError(t, err)
	require.NoError(t, repo.Close())
	url := serve(t, "--ostree", dir)["ostree"]
	to := t.TempDir()
	for _, args := range [][]string{
		{"init", "--mode=bare-user"}, {"remote", "add", "--no-gpg-verify", "origin", url}, {"pull", "origin", "os"}, {"fsck"},
	} {
		out, err := exec.CommandContext(t.Context(), "ostree", append([]string{"--repo=" + to}, args...)...).CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
	}
}

func TestGraph(t *testing.T) {
	channels := map[string]string{graph.KeyChannels: "stable-4", graph.KeyArch: graph.DefaultArch}
	g := &graph.Graph{
		Nodes: []graph.Node{{Version: "4.22.0-okd-scos.0", Payload: "x", Metadata: channels}, {Version: "4.22.0-okd-scos.1", Payload: "y", Metadata: channels}},
		Edges: [][2]int{{0, 1}},
	}
	data, err := json.Marshal(g)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "graph.json")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	urls := serve(t, "--graph", file)
	for _, path := range []string{"/graph", "/api/upgrades_info/v1/graph"} {
		resp, body := get(t, http.MethodGet, urls[""]+path+"?channel=stable-4", "Accept", "application/json")
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Contains(t, body, "4.22.0-okd-scos.1")
	}
}

// TestState serves what a daily build leaves behind.
func TestState(t *testing.T) {
	state := t.TempDir()
	for _, dir := range []string{"registry", "store", "repo", "0.0.1-0"} {
		require.NoError(t, os.Mkdir(filepath.Join(state, dir), 0o755))
	}
	for _, file := range []string{"0.0.1-0/report.html", "repo/config", ".hidden"} {
		require.NoError(t, os.WriteFile(filepath.Join(state, file), []byte("<p>"+file), 0o600))
	}
	for file, text := range map[string]string{
		"0.0.1-0/inputs.json":        `{"arch": "x86_64"}`,
		"store/streams/s.json":       "{}",
		"store/s/builds/builds.json": `{"schema-version": "1.0.0", "builds": [{"id": "0.0.1-0", "arches": ["x86_64"]}]}`,
		"graph.json":                 `{"nodes": [{"version": "1.0.0", "payload": "x@sha256:1", "metadata": {}}], "edges": []}`,
		"status.json":                `{"made": "2026-11-26T12:00:00Z", "level": "ok", "streams": []}`,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(state, file)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(state, file), []byte(text), 0o600))
	}
	urls := serve(t, "--state", state, "--graph", filepath.Join(state, "graph.json"), "--status", filepath.Join(state, "status.json"))
	require.Len(t, urls, 6)
	_, page := get(t, http.MethodGet, urls["browse"])
	require.Contains(t, page, `<a href="s/index.html">s</a>`)
	_, page = get(t, http.MethodGet, urls["browse"]+"s/builds/0.0.1-0.html")
	require.Contains(t, page, `<a href="/pages/0.0.1-0/report.html">`)
	_, page = get(t, http.MethodGet, urls["browse"]+"graph.html")
	require.Contains(t, page, "<svg")
	_, page = get(t, http.MethodGet, urls["browse"]+"readiness.html")
	require.Contains(t, page, "Readiness")
	// A report in the state folder names files of the store beside it.
	_, page = get(t, http.MethodGet, urls["pages"]+"store/streams/s.json")
	require.Equal(t, "{}", page)
	_, body := get(t, http.MethodGet, urls["pages"]+"0.0.1-0/report.html")
	require.Equal(t, "<p>0.0.1-0/report.html", body)
	for _, path := range []string{"repo/config", "repo/", ".hidden"} {
		resp, _ := get(t, http.MethodGet, urls["pages"]+path)
		require.Equal(t, http.StatusNotFound, resp.StatusCode, path)
	}
	_, body = get(t, http.MethodGet, urls[""]+"/")
	require.Contains(t, body, `<a href="/pages/">pages</a>`)
	_, body = get(t, http.MethodGet, urls[""]+"/healthz")
	require.Equal(t, "ok\n", body)
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "nothing to serve"},
		{[]string{"--state", filepath.Join(dir, "none")}, "no such file"},
		{[]string{"--pages", dir, "--listen", "0.0.0.0:0"}, "give --public"},
		{[]string{"--pages", dir, "--listen", "example.com:80"}, "give --public"},
		{[]string{"--pages", dir, "--listen", "8080"}, "missing port"},
		{[]string{"--registry", "docker://x"}, "want dir:PATH"},
		{[]string{"--pages", dir, "--status", "x"}, "pages of a store"},
	} {
		var out bytes.Buffer
		err := execute(t.Context(), &out, tc.args...)
		require.ErrorContains(t, err, tc.want, "%v", tc.args)
		if tc.want != "no such file" {
			usage := (*ui.UsageError)(nil)
			require.ErrorAs(t, err, &usage)
		}
	}
	// A bare-user repository can't be pulled from over HTTP.
	repo, err := ostree.Init(t.Context(), filepath.Join(dir, "repo"), ostree.ModeBareUser, nil)
	require.NoError(t, err)
	require.NoError(t, repo.Close())
	require.ErrorContains(t, execute(t.Context(), io.Discard, "--ostree", filepath.Join(dir, "repo"), "--listen", "127.0.0.1:0"), "unsupported")
	bad := filepath.Join(dir, "graph.json")
	require.NoError(t, os.WriteFile(bad, []byte(`{"nodes": 1}`), 0o600))
	require.ErrorContains(t, execute(t.Context(), io.Discard, "--graph", bad, "--listen", "127.0.0.1:0"), bad)
}
