package registryserver_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

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
		return remote(t), repository(t, serve(t, t.TempDir(), nil), "okd/release")
	})
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
