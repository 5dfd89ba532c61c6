package registryserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ocitypes "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/publishtest"
	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// serve starts a server over dir and gives its host:port.
func serve(t testing.TB, dir string, opts *registryserver.Options) string {
	t.Helper()
	s, err := registryserver.Open(t.Context(), dir, opts)
	require.NoError(t, err)
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		require.NoError(t, s.Close())
	})
	return strings.TrimPrefix(h.URL, "http://")
}

func repository(t testing.TB, host, path string) name.Repository {
	t.Helper()
	repo, err := name.NewRepository(host + "/" + path)
	require.NoError(t, err)
	return repo
}

func remote(t testing.TB) *remoteregistry.Registry {
	t.Helper()
	tr := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(tr.CloseIdleConnections)
	r, err := remoteregistry.Open(t.Context(), &remoteregistry.Options{Transport: tr, PageSize: 50})
	require.NoError(t, err)
	return r
}

func TestConformance(t *testing.T) {
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		return remote(t), repository(t, serve(t, t.TempDir(), &registryserver.Options{AllowDelete: true}), "okd/release")
	}, publishtest.ClaimBlobs, publishtest.ClaimReferrers, publishtest.ClaimDelete)
}

// What goes in on one side comes out on the other.
func TestSameFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local, err := layoutregistry.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	a, err := random.Image(1000, 2)
	require.NoError(t, err)
	multi, err := random.Index(1000, 1, 2)
	require.NoError(t, err)
	repo := repository(t, "registry.example", "okd/release")
	ad, err := local.WriteImage(t.Context(), repo, a, nil)
	require.NoError(t, err)
	require.NoError(t, local.Tag(t.Context(), repo.Tag("a"), ad.Digest))
	md, err := local.WriteIndex(t.Context(), repo, multi, nil)
	require.NoError(t, err)

	before, err := os.ReadFile(filepath.Join(dir, "okd/release/index.json"))
	require.NoError(t, err)
	readOnly := repository(t, serve(t, dir, &registryserver.Options{ReadOnly: true}), "okd/release")
	r := remote(t)
	got, err := r.Head(t.Context(), readOnly.Tag("a"))
	require.NoError(t, err)
	require.Equal(t, ad, *got)
	idx, err := r.Index(t.Context(), readOnly.Digest(md.Digest.String()))
	require.NoError(t, err, "an untagged index is found")
	children, err := idx.IndexManifest()
	require.NoError(t, err)
	_, err = r.Image(t.Context(), readOnly.Digest(children.Manifests[0].Digest.String()))
	require.NoError(t, err, "so is its child")
	_, err = r.WriteImage(t.Context(), readOnly, mustImage(t), nil)
	require.Error(t, err)
	after, err := os.ReadFile(filepath.Join(dir, "okd/release/index.json"))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), "reading changes nothing")

	h := repository(t, serve(t, dir, nil), "okd/release")
	b := mustImage(t)
	bd, err := r.WriteImage(t.Context(), h, b, nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), h.Tag("b"), bd.Digest))
	for tag, want := range map[string]string{"a": ad.Digest.String(), "b": bd.Digest.String()} {
		head, err := local.Head(t.Context(), repo.Tag(tag))
		require.NoError(t, err)
		require.Equal(t, want, head.Digest.String())
	}
}

// Pushes through servers and writes into the folder interleave, and garbage is
// collected meanwhile: every tag is there in the end.
func TestInterleaved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const writers, images = 4, 12
	r := remote(t)
	var wg sync.WaitGroup
	errs := make(chan error, writers+1)
	hosts := []string{serve(t, dir, nil), serve(t, dir, nil)}
	for w := range writers {
		local, err := layoutregistry.Open(t.Context(), dir, &layoutregistry.Options{NoSync: true})
		require.NoError(t, err)
		var reg publish.Registry = local
		repo := repository(t, "registry.example", "okd/release")
		if w%2 == 1 {
			reg, repo = r, repository(t, hosts[w/2], "okd/release")
		}
		wg.Go(func() {
			for i := range images {
				img, err := random.Image(200, 1)
				if err != nil {
					errs <- err
					return
				}
				desc, err := reg.WriteImage(t.Context(), repo, img, nil)
				if err == nil {
					err = reg.Tag(t.Context(), repo.Tag(fmt.Sprintf("w%d-%d", w, i)), desc.Digest)
				}
				if err != nil {
					errs <- fmt.Errorf("writer %d, image %d: %w", w, i, err)
					return
				}
			}
		})
	}
	local, err := layoutregistry.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	done := make(chan struct{})
	collected := make(chan error, 1)
	go func() {
		defer close(collected)
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if _, err := local.GC(t.Context(), &layoutregistry.GCOptions{Now: time.Now(), Grace: time.Minute}); err != nil && !errors.Is(err, os.ErrNotExist) {
				collected <- err
				return
			}
		}
	}()
	wg.Wait()
	close(done)
	require.NoError(t, <-collected)
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	repo := repository(t, "registry.example", "okd/release")
	for _, ref := range []name.Repository{repo, repository(t, hosts[0], "okd/release"), repository(t, hosts[1], "okd/release")} {
		var reg publish.Registry = r
		if ref == repo {
			reg = local
		}
		n := 0
		for tag, err := range reg.Tags(t.Context(), ref) {
			require.NoError(t, err)
			img, err := reg.Image(t.Context(), ref.Tag(tag))
			require.NoError(t, err)
			_, err = img.RawConfigFile()
			require.NoError(t, err)
			n++
		}
		require.Equal(t, writers*images, n, ref.String())
	}
	require.NoError(t, local.Verify(t.Context(), repo, nil))
}

// What one side lists as referrers the other lists too.
func TestReferrersAgree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local, err := layoutregistry.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	repo := repository(t, "registry.example", "okd/release")
	img := mutate.MediaType(mustImage(t), ocitypes.OCIManifestSchema1)
	desc, err := local.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	host := serve(t, dir, nil)
	served := func(filter string) []string {
		t.Helper()
		u := "http://" + host + "/v2/okd/release/referrers/" + desc.Digest.String()
		if filter != "" {
			u += "?artifactType=" + url.QueryEscape(filter)
		}
		resp, err := http.Get(u)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, string(ocitypes.OCIImageIndex), resp.Header.Get("Content-Type"))
		var got v1.IndexManifest
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
		out := []string{}
		for _, d := range got.Manifests {
			out = append(out, d.Digest.String()+" "+d.ArtifactType)
		}
		slices.Sort(out)
		return out
	}
	both := func(filter string) []string {
		t.Helper()
		out := []string{}
		for d, err := range local.Referrers(t.Context(), repo.Digest(desc.Digest.String()), filter) {
			require.NoError(t, err)
			out = append(out, d.Digest.String()+" "+d.ArtifactType)
		}
		slices.Sort(out)
		require.Equal(t, out, served(filter))
		return out
	}
	require.Empty(t, both(""))
	r := remote(t)
	for i, artifactType := range []string{"application/a", "application/b", "application/a", "application/c"} {
		sig := mutate.Subject(mutate.ConfigMediaType(mutate.MediaType(mustImage(t), ocitypes.OCIManifestSchema1), ocitypes.MediaType(artifactType)), desc).(v1.Image)
		if i%2 == 0 {
			_, err = local.WriteImage(t.Context(), repo, sig, nil)
		} else {
			_, err = r.WriteImage(t.Context(), repository(t, host, "okd/release"), sig, nil)
		}
		require.NoError(t, err)
		require.Len(t, both(""), i+1)
	}
	require.Len(t, both("application/a"), 2)
	require.Len(t, both("application/b"), 1)
	require.Empty(t, both("application/none"))
	require.NoError(t, local.Tag(t.Context(), repo.Tag("kept"), desc.Digest))
	report, err := local.GC(t.Context(), &layoutregistry.GCOptions{Now: time.Now().Add(48 * time.Hour)})
	require.NoError(t, err)
	require.Zero(t, report.Manifests)
	require.Len(t, both(""), 4, "signatures stay with what they sign")
	require.NoError(t, local.Untag(t.Context(), repo.Tag("kept")))
	report, err = local.GC(t.Context(), &layoutregistry.GCOptions{Now: time.Now().Add(48 * time.Hour)})
	require.NoError(t, err)
	require.Equal(t, 5, report.Manifests)
	require.Empty(t, both(""))
}

// Lists that another tool tagged, in a layout that no server wrote to.
func TestForeignReferrers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local, err := layoutregistry.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	repo := repository(t, "registry.example", "okd/release")
	img := mustImage(t)
	desc, err := local.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	p := layout.Path(filepath.Join(dir, "okd/release"))
	sig := mutate.Subject(mutate.MediaType(mustImage(t), ocitypes.OCIManifestSchema1), desc).(v1.Image)
	sigDigest, err := sig.Digest()
	require.NoError(t, err)
	list := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: sig}), ocitypes.OCIImageIndex)
	require.NoError(t, p.AppendIndex(list, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "sha256-" + desc.Digest.Hex})))
	for _, opts := range []*registryserver.Options{{ReadOnly: true}, nil} {
		resp, err := http.Get("http://" + serve(t, dir, opts) + "/v2/okd/release/referrers/" + desc.Digest.String())
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Contains(t, string(body), sigDigest.String())
	}
	list2 := func() (n int) {
		for d, err := range local.Referrers(t.Context(), repo.Digest(desc.Digest.String()), "") {
			require.NoError(t, err)
			_ = d
			n++
		}
		return n
	}
	require.Equal(t, 1, list2())
	// Ours joins theirs, for the server too.
	other := mutate.Subject(mutate.Annotations(mutate.MediaType(mustImage(t), ocitypes.OCIManifestSchema1), map[string]string{"a": "b"}).(v1.Image), desc).(v1.Image)
	_, err = local.WriteImage(t.Context(), repo, other, nil)
	require.NoError(t, err)
	require.Equal(t, 2, list2())
	resp, err := http.Get("http://" + serve(t, dir, nil) + "/v2/okd/release/referrers/" + desc.Digest.String())
	require.NoError(t, err)
	var got v1.IndexManifest
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
	require.NoError(t, resp.Body.Close())
	require.Len(t, got.Manifests, 2)
}

func TestMountLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	host := serve(t, dir, nil)
	r := remote(t)
	img := mustImage(t)
	from, to := repository(t, host, "okd/from"), repository(t, host, "okd/to")
	_, err := r.WriteImage(t.Context(), from, img, nil)
	require.NoError(t, err)
	_, err = r.WriteImage(t.Context(), to, img, &publish.WriteOptions{From: []name.Repository{from}})
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	h, err := layers[0].Digest()
	require.NoError(t, err)
	a, err := os.Stat(filepath.Join(dir, "okd/from/blobs/sha256", h.Hex))
	require.NoError(t, err)
	b, err := os.Stat(filepath.Join(dir, "okd/to/blobs/sha256", h.Hex))
	require.NoError(t, err)
	require.True(t, os.SameFile(a, b), "no byte was copied")
}

func TestDeleteThroughServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local, err := layoutregistry.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	repo := repository(t, "registry.example", "okd/release")
	desc, err := local.WriteImage(t.Context(), repo, mustImage(t), nil)
	require.NoError(t, err)
	require.NoError(t, local.Tag(t.Context(), repo.Tag("a"), desc.Digest))
	remove := func(host, ref string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+host+"/v2/okd/release/manifests/"+ref, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, http.StatusMethodNotAllowed, remove(serve(t, dir, nil), "a"))
	host := serve(t, dir, &registryserver.Options{AllowDelete: true})
	require.Equal(t, http.StatusAccepted, remove(host, "a"))
	_, err = local.Head(t.Context(), repo.Tag("a"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = local.Head(t.Context(), repo.Digest(desc.Digest.String()))
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, remove(host, desc.Digest.String()))
	_, err = local.Head(t.Context(), repo.Digest(desc.Digest.String()))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, http.StatusNotFound, remove(host, desc.Digest.String()))
}

// A request that runs when the server is stopped is finished.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := registryserver.Open(t.Context(), dir, &registryserver.Options{ShutdownTimeout: time.Minute})
	require.NoError(t, err)
	for _, address := range []string{"0.0.0.0:0", ":0"} {
		_, err := s.Listen(t.Context(), address)
		require.ErrorIs(t, err, os.ErrPermission, address)
	}
	l, err := s.Listen(t.Context(), "")
	require.NoError(t, err)
	require.True(t, l.Addr().(*net.TCPAddr).IP.IsLoopback())
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	base := "http://" + l.Addr().String()
	resp, err := http.Post(base+"/v2/okd/a/blobs/uploads/", "", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	body, feed := io.Pipe()
	half := strings.Repeat("half of it ", 50_000)
	h, _, err := v1.SHA256(strings.NewReader(half + half))
	require.NoError(t, err)
	location, err := resp.Location()
	require.NoError(t, err)
	q := location.Query()
	q.Set("digest", h.String())
	location.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, location.String(), body)
	require.NoError(t, err)
	req.ContentLength = int64(2 * len(half))
	answered := make(chan int, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	_, err = io.WriteString(feed, half)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		uploads, err := filepath.Glob(filepath.Join(dir, "okd/a/_uploads/upload.*"))
		require.NoError(t, err)
		info, err := os.Stat(uploads[0])
		return err == nil && info.Size() > 0
	}, 10*time.Second, time.Millisecond)
	stop()
	require.Eventually(t, func() bool {
		resp, err := http.Get(base + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond, "nobody new gets in")
	_, err = io.WriteString(feed, half)
	require.NoError(t, err)
	require.NoError(t, feed.Close())
	require.Equal(t, http.StatusCreated, <-answered)
	require.NoError(t, <-served)
}

func TestHostileRequests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	host := serve(t, dir, nil)
	for _, path := range []string{
		"/v2/a/../../etc/blobs/sha256:" + strings.Repeat("0", 64), "/v2/../x/manifests/t", "/v2/okd/blobs/x/manifests/t", "/v2/index.json/tags/list",
		"/v2/UPPER/manifests/t", "/v2//manifests/t", "/v2/a%2f..%2fb/tags/list", "/v2/.tmp/tags/list", "/v2/" + strings.Repeat("a/", 200) + "a/tags/list",
		"/v2/a/blobs/sha256:..", "/v2/a/manifests/sha256:..", "/v2/a/referrers/sha256:..",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch} {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+path, strings.NewReader("{}"))
			require.NoError(t, err)
			resp, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			if strings.Contains(path, "/referrers/") && method == http.MethodGet {
				continue // an empty list
			}
			require.GreaterOrEqual(t, resp.StatusCode, 300, "%s %s", method, path)
			require.Less(t, resp.StatusCode, 500, "%s %s", method, path)
		}
	}
}

func TestSkopeo(t *testing.T) {
	interop.Peer(t, "skopeo")
	skopeo := func(args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "skopeo", append([]string{"--insecure-policy"}, args...)...).CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
	}
	dir := t.TempDir()
	host := serve(t, dir, nil)
	local, err := layoutregistry.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	repo := repository(t, "registry.example", "okd/a")
	idx, err := random.Index(5000, 2, 2)
	require.NoError(t, err)
	desc, err := local.WriteIndex(t.Context(), repo, idx, nil)
	require.NoError(t, err)
	require.NoError(t, local.Tag(t.Context(), repo.Tag("v1"), desc.Digest))
	skopeo("copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+host+"/okd/a:v1", "docker://"+host+"/okd/b:v2")
	got, err := local.Index(t.Context(), repository(t, "registry.example", "okd/b").Tag("v2"))
	require.NoError(t, err)
	require.NoError(t, validate.Index(got))
	skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "oci:"+filepath.Join(dir, "okd/b")+":v2", "docker://"+host+"/okd/c:v3")
	_, err = local.GC(t.Context(), &layoutregistry.GCOptions{Now: time.Now().Add(48 * time.Hour)})
	require.NoError(t, err)
	for _, p := range []string{"okd/a", "okd/b", "okd/c"} {
		require.NoError(t, local.Verify(t.Context(), repository(t, "registry.example", p), nil))
	}
	skopeo("copy", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+host+"/okd/c:v3", "oci:"+filepath.Join(dir, "okd/d")+":v4")
	require.NoError(t, local.Verify(t.Context(), repository(t, "registry.example", "okd/d"), nil))
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s, err := registryserver.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	_, err = registryserver.Open(t.Context(), filepath.Join(t.TempDir(), "missing"), &registryserver.Options{ReadOnly: true})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func mustImage(t testing.TB) v1.Image {
	t.Helper()
	img, err := random.Image(2000, 1)
	require.NoError(t, err)
	return img
}

// A client that was cut off asks how far it came, and is not told before the
// server is done with what it got: what it is told stays true.
func TestUploadsTakeTurns(t *testing.T) {
	s, err := registryserver.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	begun := make(chan struct{}, 1)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPatch {
			begun <- struct{}{}
		}
		s.ServeHTTP(w, req)
	}))
	t.Cleanup(h.Close)
	do := func(method, target string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, target, nil)
		require.NoError(t, err)
		resp, err := h.Client().Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		return resp
	}
	location, err := do(http.MethodPost, h.URL+"/v2/a/b/blobs/uploads/").Location()
	require.NoError(t, err)
	body, feed := io.Pipe()
	patched := make(chan struct{})
	go func() {
		defer close(patched)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, location.String(), body)
		if err != nil {
			return
		}
		if resp, err := h.Client().Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	part := make([]byte, 1<<20)
	_, err = feed.Write(part)
	require.NoError(t, err)
	<-begun
	asked := make(chan string, 1)
	go func() { asked <- do(http.MethodGet, location.String()).Header.Get("Range") }()
	told := ""
	select {
	case told = <-asked: // too early
	case <-time.After(50 * time.Millisecond):
	}
	_, err = feed.Write(part)
	require.NoError(t, err)
	require.NoError(t, feed.CloseWithError(io.ErrUnexpectedEOF)) // the client is gone
	<-patched
	if told == "" {
		told = <-asked
	}
	require.Equal(t, told, do(http.MethodGet, location.String()).Header.Get("Range"))
}
