package registryserver_test

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/publish/registryserver"
)

// client speaks to a server without a network.
type client struct {
	t testing.TB
	s *registryserver.Server
}

func open(t testing.TB, dir string, opts *registryserver.Options) client {
	t.Helper()
	s, err := registryserver.Open(t.Context(), dir, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return client{t, s}
}

// do sends a request; header are pairs.
func (c client) do(method, target string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	c.t.Helper()
	req := httptest.NewRequestWithContext(c.t.Context(), method, target, body)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.s.ServeHTTP(w, req)
	return w
}

func (c client) begin(repo string) string {
	c.t.Helper()
	w := c.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil)
	require.Equal(c.t, http.StatusAccepted, w.Code)
	require.Equal(c.t, "0-0", w.Header().Get("Range"))
	require.NotEmpty(c.t, w.Header().Get("Docker-Upload-UUID"))
	return w.Header().Get("Location")
}

// refused makes sure of an error in the protocol's form.
func refused(t testing.TB, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body.String())
	var got struct {
		Errors []struct{ Code, Message string }
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got), w.Body.String())
	require.Len(t, got.Errors, 1)
	require.Equal(t, code, got.Errors[0].Code)
	require.NotEmpty(t, got.Errors[0].Message, code)
}

func digestOf(t testing.TB, text string) v1.Hash {
	t.Helper()
	h, _, err := v1.SHA256(strings.NewReader(text))
	require.NoError(t, err)
	return h
}

func leftovers(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*/*/_uploads/*"))
	require.NoError(t, err)
	return list
}

func TestUploadInChunks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, nil)
	at := c.begin("okd/a")
	require.Equal(t, "0-0", c.do(http.MethodGet, at, nil).Header().Get("Range"))
	w := c.do(http.MethodPatch, at, strings.NewReader("abc"), "Content-Range", "0-2")
	require.Equal(t, http.StatusAccepted, w.Code)
	require.Equal(t, "0-2", w.Header().Get("Range"))
	for _, bad := range []string{"0-2", "2-4", "4-6", "3", "-", "3-", "-5", "5-3", "bytes 3-5/9", "+3-5", "3-9223372036854775808", "0-9223372036854775807"} {
		w := c.do(http.MethodPatch, at, strings.NewReader("def"), "Content-Range", bad)
		refused(t, w, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID")
		require.Equal(t, "0-2", w.Header().Get("Range"), bad)
		require.Equal(t, at, w.Header().Get("Location"), bad)
	}
	refused(t, c.do(http.MethodPatch, at, strings.NewReader("def"), "Content-Range", "3-9"), http.StatusBadRequest, "SIZE_INVALID")
	refused(t, c.do(http.MethodPut, at+"?digest=sha256:short", strings.NewReader("def")), http.StatusBadRequest, "DIGEST_INVALID")
	refused(t, c.do(http.MethodPut, at, strings.NewReader("def")), http.StatusBadRequest, "DIGEST_INVALID")
	w = c.do(http.MethodGet, at, nil)
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Equal(t, "0-2", w.Header().Get("Range"), "nothing that was refused counts")
	require.Equal(t, http.StatusAccepted, c.do(http.MethodPatch, at, strings.NewReader("def")).Code)
	h := digestOf(t, "abcdefghi")
	w = c.do(http.MethodPut, at+"?digest="+h.String(), strings.NewReader("ghi"), "Content-Range", "6-8")
	require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
	require.Equal(t, "/v2/okd/a/blobs/"+h.String(), w.Header().Get("Location"))
	require.Equal(t, h.String(), w.Header().Get("Docker-Content-Digest"))
	require.Equal(t, "abcdefghi", c.do(http.MethodGet, w.Header().Get("Location"), nil).Body.String())
	refused(t, c.do(http.MethodGet, at, nil), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	info, err := os.Stat(filepath.Join(dir, "okd/a/blobs/sha256", h.Hex))
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o222)
	require.Empty(t, leftovers(t, dir))
	require.FileExists(t, filepath.Join(dir, "okd/a/index.json"), "garbage collection finds what never gets a manifest")
}

func TestUploadEnds(t *testing.T) {
	t.Parallel()
	text := "all of it"
	h := digestOf(t, text)
	h512, err := v1.NewHash("sha512:" + fmt.Sprintf("%0128x", 1))
	require.NoError(t, err)
	for _, test := range []struct {
		name string
		run  func(c client) (*httptest.ResponseRecorder, int, string)
	}{
		{"whole", func(c client) (*httptest.ResponseRecorder, int, string) {
			return c.do(http.MethodPost, "/v2/okd/a/blobs/uploads/?digest="+h.String(), strings.NewReader(text)), http.StatusCreated, ""
		}},
		{"whole, wrong digest", func(c client) (*httptest.ResponseRecorder, int, string) {
			return c.do(http.MethodPost, "/v2/okd/a/blobs/uploads/?digest="+h.String(), strings.NewReader("other")), http.StatusBadRequest, "DIGEST_INVALID"
		}},
		{"whole, no digest", func(c client) (*httptest.ResponseRecorder, int, string) {
			return c.do(http.MethodPost, "/v2/okd/a/blobs/uploads/?digest=md5:0", strings.NewReader(text)), http.StatusBadRequest, "DIGEST_INVALID"
		}},
		{"whole, cut off", func(c client) (*httptest.ResponseRecorder, int, string) {
			return c.do(http.MethodPost, "/v2/okd/a/blobs/uploads/?digest="+h.String(), io.MultiReader(strings.NewReader("all"), broken{})), http.StatusBadRequest, "BLOB_UPLOAD_INVALID"
		}},
		{"PUT alone", func(c client) (*httptest.ResponseRecorder, int, string) {
			return c.do(http.MethodPut, c.begin("okd/a")+"?digest="+h.String(), strings.NewReader(text)), http.StatusCreated, ""
		}},
		{"wrong digest", func(c client) (*httptest.ResponseRecorder, int, string) {
			return c.do(http.MethodPut, c.begin("okd/a")+"?digest="+h.String(), strings.NewReader("other")), http.StatusBadRequest, "DIGEST_INVALID"
		}},
		{"wrong digest, sha512", func(c client) (*httptest.ResponseRecorder, int, string) {
			return c.do(http.MethodPut, c.begin("okd/a")+"?digest="+h512.String(), strings.NewReader(text)), http.StatusBadRequest, "DIGEST_INVALID"
		}},
		{"cancelled", func(c client) (*httptest.ResponseRecorder, int, string) {
			at := c.begin("okd/a")
			require.Equal(t, http.StatusNoContent, c.do(http.MethodDelete, at, nil).Code)
			return c.do(http.MethodPatch, at, strings.NewReader(text)), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN"
		}},
		{"another repository", func(c client) (*httptest.ResponseRecorder, int, string) {
			at := c.begin("okd/a")
			w := c.do(http.MethodPatch, strings.Replace(at, "okd/a", "okd/b", 1), strings.NewReader(text))
			require.Equal(t, http.StatusNoContent, c.do(http.MethodDelete, at, nil).Code)
			return w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN"
		}},
		{"no such upload", func(c client) (*httptest.ResponseRecorder, int, string) {
			return c.do(http.MethodPatch, "/v2/okd/a/blobs/uploads/..%2f..%2findex.json", strings.NewReader(text)), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN"
		}},
		{"mount of what is there", func(c client) (*httptest.ResponseRecorder, int, string) {
			require.Equal(t, http.StatusCreated, c.do(http.MethodPut, c.begin("okd/a")+"?digest="+h.String(), strings.NewReader(text)).Code)
			return c.do(http.MethodPost, "/v2/okd/a/blobs/uploads/?mount="+h.String(), nil), http.StatusCreated, ""
		}},
		{"nothing to mount", func(c client) (*httptest.ResponseRecorder, int, string) {
			w := c.do(http.MethodPost, "/v2/okd/a/blobs/uploads/?from=okd/none&mount="+h.String(), nil)
			require.Equal(t, http.StatusNoContent, c.do(http.MethodDelete, w.Header().Get("Location"), nil).Code)
			return w, http.StatusAccepted, ""
		}},
		{"chunk longer than it says", func(c client) (*httptest.ResponseRecorder, int, string) {
			at := c.begin("okd/a")
			w := c.do(http.MethodPatch, at, io.MultiReader(strings.NewReader(text)), "Content-Range", "0-2")
			require.Equal(t, "0-2", c.do(http.MethodGet, at, nil).Header().Get("Range"))
			require.Equal(t, http.StatusNoContent, c.do(http.MethodDelete, at, nil).Code)
			return w, http.StatusBadRequest, "SIZE_INVALID"
		}},
		{"wrong method", func(c client) (*httptest.ResponseRecorder, int, string) {
			return c.do(http.MethodPut, "/v2/okd/a/blobs/uploads/", strings.NewReader(text)), http.StatusMethodNotAllowed, "UNSUPPORTED"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := open(t, dir, nil)
			w, status, code := test.run(c)
			if code == "" {
				require.Equal(t, status, w.Code, w.Body.String())
			} else {
				refused(t, w, status, code)
			}
			_, err := os.Stat(filepath.Join(dir, "okd/a/blobs/sha256", h.Hex))
			require.Equal(t, status == http.StatusCreated, err == nil)
			require.Empty(t, leftovers(t, dir))
		})
	}
}

// broken is the body of a client that leaves.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestReadOnlyRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, &registryserver.Options{ReadOnly: true, AllowDelete: true})
	for _, r := range [][2]string{
		{http.MethodPost, "/v2/okd/a/blobs/uploads/"}, {http.MethodPatch, "/v2/okd/a/blobs/uploads/1"}, {http.MethodPut, "/v2/okd/a/manifests/t"},
		{http.MethodDelete, "/v2/okd/a/manifests/t"}, {http.MethodDelete, "/v2/okd/a/blobs/" + digestOf(t, "").String()},
	} {
		refused(t, c.do(r[0], r[1], strings.NewReader("x")), http.StatusMethodNotAllowed, "UNSUPPORTED")
	}
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, list)
}

// Files of a server that was killed go when the next one is opened; those of
// one that works do not, and go when it is closed.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dead := filepath.Join(dir, "okd/a/_uploads/upload.1234567") // olareg's name, unlocked as a killed server's
	require.NoError(t, os.MkdirAll(filepath.Dir(dead), 0o777))
	require.NoError(t, os.WriteFile(dead, []byte("half"), 0o600))
	mine := filepath.Join(dir, "okd/a/_uploads/notes")
	require.NoError(t, os.WriteFile(mine, []byte("mine"), 0o600))
	readOnly := open(t, dir, &registryserver.Options{ReadOnly: true})
	require.FileExists(t, dead)
	_ = readOnly
	s, err := registryserver.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	require.NoFileExists(t, dead)
	require.FileExists(t, mine)
	require.NoError(t, os.Remove(mine))
	c := client{t, s}
	at := c.begin("okd/a")
	require.Equal(t, http.StatusAccepted, c.do(http.MethodPatch, at, strings.NewReader("half")).Code)
	open(t, dir, nil)
	require.Len(t, leftovers(t, dir), 1)
	require.Equal(t, http.StatusAccepted, c.do(http.MethodPatch, at, strings.NewReader("more")).Code)
	require.NoError(t, s.Close())
	require.NoDirExists(t, filepath.Join(dir, "okd/a/_uploads"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = registryserver.Open(ctx, dir, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// One upload too many takes the place of the one that was idle for longest.
func TestUploadsAreBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, nil)
	first, second := c.begin("okd/a"), c.begin("okd/a")
	require.Equal(t, http.StatusNoContent, c.do(http.MethodGet, first, nil).Code)
	for range 255 {
		c.begin("okd/b")
	}
	require.Len(t, leftovers(t, dir), 256)
	refused(t, c.do(http.MethodGet, second, nil), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	require.Equal(t, http.StatusNoContent, c.do(http.MethodGet, first, nil).Code)
}

func TestManifestEdges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, &registryserver.Options{AllowDelete: true})
	config := "{}"
	h := digestOf(t, config)
	const oci = "application/vnd.oci.image.manifest.v1+json"
	manifest := func(size int, more string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/x","digest":%q,"size":%d},"layers":[]%s}`, oci, h, size, more)
	}
	put := func(ref, text string, header ...string) *httptest.ResponseRecorder {
		return c.do(http.MethodPut, "/v2/okd/a/manifests/"+ref, strings.NewReader(text), header...)
	}
	refused(t, put("t", manifest(2, ""), "Content-Type", oci), http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	require.Equal(t, http.StatusCreated, c.do(http.MethodPost, "/v2/okd/a/blobs/uploads/?digest="+h.String(), strings.NewReader(config)).Code)
	refused(t, put("t", manifest(3, "")), http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	refused(t, put("t", manifest(2, ""), "Content-Type", "application/vnd.oci.image.index.v1+json"), http.StatusBadRequest, "MANIFEST_INVALID")
	refused(t, put("t", manifest(2, ""), "Content-Type", "%"), http.StatusBadRequest, "MANIFEST_INVALID")
	refused(t, put("t", "no JSON", "Content-Type", oci), http.StatusBadRequest, "MANIFEST_INVALID")
	refused(t, put(h.String(), manifest(2, "")), http.StatusBadRequest, "DIGEST_INVALID")
	refused(t, put("no:tag", manifest(2, "")), http.StatusBadRequest, "DIGEST_INVALID")
	refused(t, put("t", strings.Repeat(" ", ociimage.MaxManifestSize+1)), http.StatusRequestEntityTooLarge, "MANIFEST_INVALID")
	refused(t, c.do(http.MethodGet, "/v2/okd/none/tags/list", nil), http.StatusNotFound, "NAME_UNKNOWN")
	require.Contains(t, put("t", manifest(3, "")).Body.String(), h.Hex, "it says which blob")
	require.NotContains(t, put("t", manifest(3, "")).Body.String(), dir, "not where it looked")

	text := manifest(2, "")
	d := digestOf(t, text)
	w := put(d.String()+"?tag=b&tag=a", text, "Content-Type", oci+"; charset=utf-8")
	require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
	require.Equal(t, []string{"b", "a"}, w.Header().Values("OCI-Tag"))
	require.Equal(t, "/v2/okd/a/manifests/"+d.String(), w.Header().Get("Location"))
	signed := manifest(2, fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":%d}`, oci, d, len(text)))
	w = put("sig", signed)
	require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
	require.Equal(t, d.String(), w.Header().Get("OCI-Subject"))
	w = c.do(http.MethodGet, "/v2/okd/a/referrers/"+d.String()+"?artifactType=application/x", nil)
	require.Equal(t, "artifactType", w.Header().Get("OCI-Filters-Applied"))
	require.Contains(t, w.Body.String(), digestOf(t, signed).String())
	w = c.do(http.MethodGet, "/v2/okd/a/tags/list?n=2", nil)
	require.JSONEq(t, `{"name":"okd/a","tags":["a","b"]}`, w.Body.String())
	require.Equal(t, `</v2/okd/a/tags/list?last=b&n=2>; rel="next"`, w.Header().Get("Link"))
	w = c.do(http.MethodGet, "/v2/okd/a/tags/list?n=2&last=b", nil)
	require.JSONEq(t, `{"name":"okd/a","tags":["sig"]}`, w.Body.String())
	require.Empty(t, w.Header().Get("Link"))
	refused(t, c.do(http.MethodGet, "/v2/okd/a/tags/list?n=-1", nil), http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, oci, d, len(text))
	require.Equal(t, http.StatusCreated, put("multi", index).Code)
	w = c.do(http.MethodGet, "/v2/okd/a/manifests/multi", nil, "Accept", oci+", text/html;q=0.1")
	require.Equal(t, oci, w.Header().Get("Content-Type"))
	require.Equal(t, text, w.Body.String())
	require.Equal(t, index, c.do(http.MethodGet, "/v2/okd/a/manifests/multi", nil, "Accept", "application/*").Body.String())
	refused(t, c.do(http.MethodGet, "/v2/okd/a/manifests/multi", nil, "Accept", "text/html"), http.StatusNotFound, "MANIFEST_UNKNOWN")
	lost := strings.Replace(index, d.Hex, h.Hex, 1)
	refused(t, put("lost", lost), http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN") // of another size
	refused(t, put("lost", strings.Replace(index, d.Hex, digestOf(t, "lost").Hex, 1)), http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	refused(t, c.do(http.MethodDelete, "/v2/okd/a/manifests/"+d.String(), nil), http.StatusForbidden, "DENIED")
}

// Manifests by digests of SHA-512, as the specification has them.
func TestManifestSHA512(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), nil)
	text := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	digest := fmt.Sprintf("sha512:%x", sha512.Sum512([]byte(text)))
	w := c.do(http.MethodPut, "/v2/okd/a/manifests/"+digest+"?tag=long", strings.NewReader(text))
	require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
	require.Equal(t, digest, w.Header().Get("Docker-Content-Digest"))
	for _, ref := range []string{"long", digest} {
		w = c.do(http.MethodGet, "/v2/okd/a/manifests/"+ref, nil)
		require.Equal(t, text, w.Body.String())
		require.Equal(t, digest, w.Header().Get("Docker-Content-Digest"))
	}
	refused(t, c.do(http.MethodPut, "/v2/okd/a/manifests/"+digest, strings.NewReader(text+"\n")), http.StatusBadRequest, "DIGEST_INVALID")
}

// What does not fit leaves nothing, says so, and there is room afterwards.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("needs to mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	c := open(t, dir, nil)
	large := strings.Repeat("x", 8<<20)
	at := c.begin("okd/a")
	w := c.do(http.MethodPatch, at, strings.NewReader(large))
	refused(t, w, http.StatusInsufficientStorage, "UNKNOWN")
	require.Contains(t, w.Body.String(), "the disk is full")
	refused(t, c.do(http.MethodGet, at, nil), http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	require.Empty(t, leftovers(t, dir))
	refused(t, c.do(http.MethodPost, "/v2/okd/a/blobs/uploads/?digest="+digestOf(t, large).String(), strings.NewReader(large)), http.StatusInsufficientStorage, "UNKNOWN")
	require.Empty(t, leftovers(t, dir))
	require.Equal(t, http.StatusCreated, c.do(http.MethodPost, "/v2/okd/a/blobs/uploads/?digest="+digestOf(t, large[:2<<20]).String(), strings.NewReader(large[:2<<20])).Code)
	// A manifest that does not fit: what is there stays.
	index := func(fill int) string {
		return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"a":"` + strings.Repeat("x", fill) + `"}}`
	}
	require.Equal(t, http.StatusCreated, c.do(http.MethodPut, "/v2/okd/a/manifests/small", strings.NewReader(index(9))).Code)
	refused(t, c.do(http.MethodPut, "/v2/okd/a/manifests/large", strings.NewReader(index(3<<20))), http.StatusInsufficientStorage, "UNKNOWN")
	require.Equal(t, index(9), c.do(http.MethodGet, "/v2/okd/a/manifests/small", nil).Body.String())
	refused(t, c.do(http.MethodGet, "/v2/okd/a/manifests/large", nil), http.StatusNotFound, "MANIFEST_UNKNOWN")
}

func TestGreeting(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), nil)
	w := c.do(http.MethodGet, "/v2/", nil)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "registry/2.0", w.Header().Get("Docker-Distribution-API-Version"))
	refused(t, c.do(http.MethodPost, "/v2/", nil), http.StatusMethodNotAllowed, "UNSUPPORTED")
	refused(t, c.do(http.MethodGet, "/v1/", nil), http.StatusNotFound, "UNSUPPORTED")
}

// Whatever a client says of a chunk and wherever it sends it: the size never
// tells of more than came, and nothing is written outside the repository.
func FuzzUpload(f *testing.F) {
	for _, r := range []string{"0-2", "0-", "-", "1-3", "0-9223372036854775807", "bytes 0-2/3", "00-02", "0-2-3"} {
		f.Add(r, "abc", "")
	}
	f.Add("", "abc", "/../x")
	f.Add("", "", "?digest=sha256:x")
	dir := f.TempDir()
	c := open(f, dir, nil)
	f.Fuzz(func(t *testing.T, contentRange, body, suffix string) {
		c := client{t, c.s}
		at := c.begin("okd/a")
		send := func(at string) *httptest.ResponseRecorder {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPatch, "/v2/", strings.NewReader(body))
			req.URL.Path = at
			req.Header.Set("Content-Range", contentRange)
			w := httptest.NewRecorder()
			c.s.ServeHTTP(w, req)
			return w
		}
		if suffix != "" {
			require.GreaterOrEqual(t, send(at+suffix).Code, 400)
		}
		var w *httptest.ResponseRecorder
		fuzzbound.Linear(t, len(contentRange)+len(body)+len(suffix), 64, func() { w = send(at) })
		came := 0
		if w.Code == http.StatusAccepted {
			came = len(body)
			if contentRange != "" {
				require.Regexp(t, fmt.Sprintf("^0+-0*%d$", len(body)-1), contentRange)
			}
		} else {
			require.GreaterOrEqual(t, w.Code, 400)
			require.Less(t, w.Code, 500)
		}
		w = c.do(http.MethodGet, at, nil)
		require.Equal(t, fmt.Sprintf("0-%d", max(came-1, 0)), w.Header().Get("Range"))
		require.Equal(t, http.StatusNoContent, c.do(http.MethodDelete, at, nil).Code)
		list, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, list, 1)
	})
}
