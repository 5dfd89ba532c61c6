package ostree_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// handlerServer serves a repository and gives its address.
func handlerServer(t testing.TB, r *ostree.Repo) string {
	t.Helper()
	h, err := ostree.Handler(r)
	require.NoError(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// get asks for a URL and gives the answer with its body.
func get(t testing.TB, url string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, body
}

// servedRepo is an archive repository with everything that is served.
func servedRepo(t testing.TB) (*ostree.Repo, ostree.Checksum) {
	r, c := summaryRepo(t)
	require.NoError(t, r.UpdateSummary(t.Context(), &ostree.SummaryOptions{Sign: []ostree.SummarySigner{{Kind: ostree.SignatureEd25519, Signer: edKey(t, 1)}}}))
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 1)))
	delta := filepath.Join(r.Path(), "deltas", "vC", "eB_jp4xHKsp5AKav7T+WM3B4jTb5EG45a2z5zNxTc")
	require.NoError(t, os.MkdirAll(delta, 0o755))
	for _, name := range []string{"superblock", "0", "12"} {
		require.NoError(t, os.WriteFile(filepath.Join(delta, name), []byte("delta "+name), 0o644))
	}
	index := filepath.Join(r.Path(), "delta-indexes", "vC")
	require.NoError(t, os.MkdirAll(index, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(index, "eB_jp4xHKsp5AKav7T+WM3B4jTb5EG45a2z5zNxTc.index"), []byte("index"), 0o644))
	return r, c
}

// TestHandlerConformance compares the handler with a plain file server over the
// same repository: what it serves is the same, and what it does not serve is
// named here.
func TestHandlerConformance(t *testing.T) {
	r, _ := servedRepo(t)
	ours, plain := handlerServer(t, r), staticServer(t, r.Path())
	served := make(map[string]int)
	err := filepath.WalkDir(r.Path(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(r.Path(), path)
		require.NoError(t, err)
		kind, _, _ := strings.Cut(name, "/")
		resp, body := get(t, ours+"/"+name)
		if kind == ".lock" || kind == "tmp" || strings.HasPrefix(name, "refs/remotes") {
			require.Equal(t, http.StatusNotFound, resp.StatusCode, name)
			return nil
		}
		require.Equal(t, http.StatusOK, resp.StatusCode, name)
		served[kind]++
		if name == "config" {
			require.Equal(t, "[core]\nrepo_version=1\nmode=archive-z2\nindexed-deltas=true\n", string(body))
			return nil
		}
		want, wantBody := get(t, plain+"/"+name)
		require.Equal(t, wantBody, body, name)
		require.Equal(t, want.ContentLength, resp.ContentLength, name)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"config": 1, "summary": 1, "summary.sig": 1, "refs": 3, "deltas": 3, "delta-indexes": 1, "objects": 8}, served)
}

func TestHandlerHeaders(t *testing.T) {
	r, c := servedRepo(t)
	server := handlerServer(t, r)
	commit := server + "/objects/" + c.String()[:2] + "/" + c.String()[2:] + ".commit"
	content, err := filepath.Glob(filepath.Join(r.Path(), "objects", "*", "*.filez"))
	require.NoError(t, err)
	filez := server + strings.TrimPrefix(content[0], r.Path())

	resp, body := get(t, commit)
	require.Equal(t, "public, max-age=31536000, immutable", resp.Header.Get("Cache-Control"))
	require.Equal(t, `"`+c.String()+`"`, resp.Header.Get("ETag"))
	require.Equal(t, "application/octet-stream", resp.Header.Get("Content-Type"))
	require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))
	require.Equal(t, c, ostree.Checksum(sha(body)))

	resp, whole := get(t, filez)
	require.Equal(t, "public, max-age=31536000, immutable", resp.Header.Get("Cache-Control"))
	tag := resp.Header.Get("ETag")
	resp, part := get(t, filez, "Range", "bytes=10-19", "If-Range", tag)
	require.Equal(t, http.StatusPartialContent, resp.StatusCode)
	require.Equal(t, whole[10:20], part)
	resp, body = get(t, filez, "Range", "bytes=10-19", "If-Range", `"other"`)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, whole, body)
	resp, _ = get(t, filez, "Range", "bytes=100000-")
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, resp.StatusCode)

	// Changing files must be asked for again, and cost nothing if they did not.
	for _, name := range []string{"summary", "summary.sig", "config", "refs/heads/os/stable", strings.TrimPrefix(commit, server+"/") + "meta"} {
		resp, _ := get(t, server+"/"+name)
		require.Equal(t, "no-cache", resp.Header.Get("Cache-Control"), name)
		tag := resp.Header.Get("ETag")
		require.NotEmpty(t, tag, name)
		resp, body := get(t, server+"/"+name, "If-None-Match", tag)
		require.Equal(t, http.StatusNotModified, resp.StatusCode, name)
		require.Empty(t, body)
	}
	resp, _ = get(t, server+"/summary")
	tag = resp.Header.Get("ETag")
	require.NoError(t, r.UpdateSummary(t.Context(), &ostree.SummaryOptions{LastModified: time.Unix(2, 0)}))
	resp, _ = get(t, server+"/summary", "If-None-Match", tag)
	require.Equal(t, http.StatusOK, resp.StatusCode)

	head, err := http.Head(commit)
	require.NoError(t, err)
	head.Body.Close()
	require.Equal(t, http.StatusOK, head.StatusCode)
	post, err := http.Post(commit, "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	post.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, post.StatusCode)
	require.Equal(t, "GET, HEAD", post.Header.Get("Allow"))
}

// TestHandlerHides asks for what is not served, in every spelling.
func TestHandlerHides(t *testing.T) {
	r, c := servedRepo(t)
	require.NoError(t, r.SetConfig(t.Context(), `remote "origin"`, "url", "https://user:secret@example.com"))
	require.NoError(t, r.SetConfig(t.Context(), "core", "parent-password", "secret"))
	hex := c.String()
	folder := filepath.Join(r.Path(), "objects", hex[:2])
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o644))
	zeros := strings.Repeat("0", 62)
	require.NoError(t, os.Symlink(secret, filepath.Join(folder, zeros+".filez")))
	require.NoError(t, os.Symlink(hex[2:]+".commit", filepath.Join(folder, zeros+".commit")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(folder, zeros+".dirtree"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(folder, zeros+".dirmeta"), 0o755))
	other := "00"
	if hex[:2] == other {
		other = "01"
	}
	require.NoError(t, os.RemoveAll(filepath.Join(r.Path(), "objects", other)))
	require.NoError(t, os.Symlink(hex[:2], filepath.Join(r.Path(), "objects", other)))
	require.NoError(t, os.Symlink(secret, filepath.Join(r.Path(), "refs", "heads", "secret")))
	require.NoError(t, os.Symlink("../../config", filepath.Join(r.Path(), "refs", "heads", "config")))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "new-1"), []byte("half"), 0o644))
	require.NoError(t, os.Remove(filepath.Join(r.Path(), "summary.sig")))
	require.NoError(t, os.Symlink(secret, filepath.Join(r.Path(), "summary.sig")))
	h, err := ostree.Handler(r)
	require.NoError(t, err)
	good := "/objects/" + hex[:2] + "/" + hex[2:] + ".commit"
	for _, path := range []string{"", "/", "/objects", "/objects/", "/objects/" + hex[:2], "/objects/" + hex[:2] + "/", "/tmp/x", "/.lock", "/state/" + hex + ".commitpartial", "/extensions/a",
		"/objects/" + hex[:2] + "/new-1", "/objects/" + hex[:2] + "/" + zeros + ".filez", "/objects/" + hex[:2] + "/" + zeros + ".commit", "/objects/" + hex[:2] + "/" + zeros + ".dirtree",
		"/objects/" + hex[:2] + "/" + zeros + ".dirmeta", "/objects/" + other + "/" + hex[2:] + ".commit", "/objects/../config", "/objects/" + hex[:2] + "/../../config",
		"/refs/heads", "/refs/heads/", "/refs/heads/os", "/refs/heads/os/", "/refs/heads/../../config", "/refs/heads/secret", "/refs/heads/config", "/refs/remotes/origin/os/stable", "/refs/heads/origin:os/stable",
		"/refs/heads/" + strings.Repeat("a", 300), "/refs/heads/" + strings.Repeat("a/", 600) + "a", "/refs/heads/" + hex, "/refs/heads/nothing", "/summary.sig", "/summary/", "//summary", "/./summary", "/config/x", "/summary.bak",
		"//" + good, good + "/", strings.ToUpper(good), "/objects/" + hex[:2] + "/" + hex[2:] + ".file", "/objects/" + hex[:2] + "/" + hex[2:] + ".commit.tmp",
		"/deltas/vC/eB_jp4xHKsp5AKav7T+WM3B4jTb5EG45a2z5zNxTc/", "/deltas/vC/eB_jp4xHKsp5AKav7T+WM3B4jTb5EG45a2z5zNxTc/00", "/deltas/vC/eB_jp4xHKsp5AKav7T+WM3B4jTb5EG45a2z5zNxTc/../../../config",
		"/deltas/vC/x/superblock", "/delta-indexes/vC/x.index", "/delta-indexes/vC/", "/objects/" + hex[:2] + "/" + hex[2:] + ".commit\x00"} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://host/", nil)
		req.URL.Path = path
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		require.Equal(t, http.StatusNotFound, w.Code, "%q: %s", path, w.Body)
		require.Equal(t, "no-cache", w.Header().Get("Cache-Control"), path)
		require.NotContains(t, w.Body.String(), "secret", path)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://host/config", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	require.Equal(t, http.StatusOK, w.Code)
	require.NotContains(t, w.Body.String(), "secret")
	require.NotContains(t, w.Body.String(), "remote")
}

// TestHandlerModes refuses what nobody can pull from.
func TestHandlerModes(t *testing.T) {
	_, err := ostree.Handler(newRepo(t, ostree.ModeBareUser))
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// TestHandlerParent serves a parent's objects and refs, too.
func TestHandlerParent(t *testing.T) {
	parent, c := summaryRepo(t)
	r := newRepo(t, ostree.ModeArchive)
	require.NoError(t, r.SetConfig(t.Context(), "core", "parent", parent.Path()))
	child, err := ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { child.Close() })
	server := handlerServer(t, child)
	resp, body := get(t, server+"/refs/heads/os/stable")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, c.String()+"\n", string(body))
	resp, body = get(t, server+"/objects/"+c.String()[:2]+"/"+c.String()[2:]+".commit")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, c, ostree.Checksum(sha(body)))
}

// TestPeerPullsFromHandler has `ostree` pull from the handler, over HTTP/1.1 and
// HTTP/2.
func TestPeerPullsFromHandler(t *testing.T) {
	interop.Peer(t, "ostree")
	r := newRepo(t, ostree.ModeArchive)
	c, err := r.Commit(t.Context(), treegen.Tree(1, &treegen.Options{Files: 300, MaxSize: 1 << 18}), &ostree.CommitOptions{Ref: "os/stable", Edit: withoutEmpty, Metadata: []ostree.MetadataItem{ostree.RefBinding("os/stable")}})
	require.NoError(t, err)
	require.NoError(t, r.UpdateSummary(t.Context(), nil))
	h, err := ostree.Handler(r)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/some/where/", http.StripPrefix("/some/where", h))
	secure := httptest.NewUnstartedServer(mux)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, url := range map[string]string{"1.1": handlerServer(t, r), "2": secure.URL + "/some/where"} {
		for _, mode := range faithful() {
			client := peerRepo(t, mode)
			run(t, "ostree", "--repo="+client, "remote", "add", "--no-gpg-verify", "--set=tls-permissive=true", "origin", url)
			run(t, "ostree", "--repo="+client, "pull", "--mirror", "origin")
			require.Equal(t, c.String()+"\n", run(t, "ostree", "--repo="+client, "rev-parse", "os/stable"), name)
			run(t, "ostree", "--repo="+client, "fsck")
		}
	}
}

func ExampleHandler() {
	r, c, done := exampleRepo()
	defer done()
	h, err := ostree.Handler(r)
	if err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/refs/heads/os/x86_64/base", nil))
	os.Stdout.Write(bytes.Replace(w.Body.Bytes(), []byte(c.String()), []byte("the commit"), 1))
	// Output: the commit
}

func BenchmarkHandler(b *testing.B) {
	r, c := summaryRepo(b)
	h, err := ostree.Handler(r)
	require.NoError(b, err)
	req := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/objects/"+c.String()[:2]+"/"+c.String()[2:]+".commit", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	b.SetBytes(int64(w.Body.Len()))
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
}
