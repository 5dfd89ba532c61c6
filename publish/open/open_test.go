package open_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/httpstore"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func TestStore(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"dir:" + filepath.Join(t.TempDir(), "store"), "mem:"} {
		s, err := open.Store(t.Context(), url, nil)
		require.NoError(t, err, url)
		_, err = s.Put(t.Context(), "a/b", publish.BytesSource([]byte("x")), nil)
		require.NoError(t, err, url)
		if c, ok := s.(io.Closer); ok {
			require.NoError(t, c.Close())
		}
	}
}

func TestStoreOfAWebServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key"), []byte("x"), 0o644))
	h := httptest.NewTLSServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(h.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	tr, err := open.Transport(&open.TransportOptions{CABundle: authority})
	require.NoError(t, err)
	s, err := open.Store(t.Context(), h.URL, &open.StoreOptions{HTTP: httpstore.Options{Transport: tr}})
	require.NoError(t, err)
	info, err := s.Stat(t.Context(), "key")
	require.NoError(t, err)
	require.EqualValues(t, 1, info.Size)
	_, err = s.Put(t.Context(), "key", publish.BytesSource(nil), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.NoError(t, s.(io.Closer).Close())
	tr.(interface{ CloseIdleConnections() }).CloseIdleConnections()
}

func TestTransport(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL) }))
	t.Cleanup(proxy.Close)
	tr, err := open.Transport(&open.TransportOptions{Getenv: func(name string) string {
		return map[string]string{"HTTP_PROXY": proxy.URL}[name]
	}})
	require.NoError(t, err)
	s, err := open.Store(t.Context(), "http://host.example/base", &open.StoreOptions{HTTP: httpstore.Options{Transport: tr}})
	require.NoError(t, err)
	body, info, err := s.Open(t.Context(), "key")
	require.NoError(t, err)
	data, err := io.ReadAll(body)
	require.NoError(t, errors.Join(err, body.Close()))
	require.Equal(t, "http://host.example/base/key", string(data))
	require.EqualValues(t, len(data), info.Size)
	require.NoError(t, s.(io.Closer).Close())
	for _, opts := range []*open.TransportOptions{
		{CABundle: []byte("junk")},
		{Getenv: func(string) string { return "ftp://u:abcdefgh@h.example" }},
	} {
		_, err = open.Transport(opts)
		_, ok := errors.AsType[*publish.Error](err)
		require.True(t, ok, "%v", err)
		require.NotContains(t, err.Error(), "abcdefgh")
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	server, err := registryserver.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	h := httptest.NewServer(server)
	t.Cleanup(func() { h.Close(); require.NoError(t, server.Close()) })
	tr := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(tr.CloseIdleConnections)
	dir := t.TempDir()
	for _, url := range []string{"dir:" + dir, "oci:" + dir, "docker://" + strings.TrimPrefix(h.URL, "http://") + "/base/"} {
		r, err := open.Registry(t.Context(), url, &open.RegistryOptions{Remote: remoteregistry.Options{Transport: tr}})
		require.NoError(t, err, url)
		repo, err := open.Repository(url, "okd/release")
		require.NoError(t, err, url)
		desc, err := r.WriteImage(t.Context(), repo, empty.Image, nil)
		require.NoError(t, err, url)
		require.NoError(t, r.Tag(t.Context(), repo.Tag("t"), desc.Digest))
	}
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "x", "/folder", "ftp://x/y", "https:", "http://", "https://user:abcdefgh@host.example/", "https://host.example/?token=abcdefgh", "dir:", "mem:x", "s3:", "s3://", "s3://b?secret=abcdefgh"} {
		_, err := open.Store(t.Context(), url, nil)
		require.Error(t, err, url)
		_, ok := errors.AsType[*publish.Error](err)
		require.True(t, ok, "%v", err)
		require.NotContains(t, err.Error(), "abcdefgh")
	}
	for _, url := range []string{"", "x", "quay.io/okd", "dir:", "oci:", "docker:", "docker:quay.io/okd", "s3://b", "docker://quay.io/okd:tag", "docker://user:abcdefgh@quay.io/okd", "docker://quay.io/../x", "docker://quay.io/a//b", "docker:///x"} {
		_, err := open.Registry(t.Context(), url, nil)
		require.Error(t, err, url)
		_, ok := errors.AsType[*publish.Error](err)
		require.True(t, ok, "%v", err)
		_, err = open.Repository(url, "okd")
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "abcdefgh")
	}
	_, err := open.Registry(t.Context(), "docker://", nil) // whichever a reference names
	require.NoError(t, err)
	_, err = open.Repository("docker://", "okd")
	require.ErrorContains(t, err, "no registry is named")
	_, err = open.Store(t.Context(), "gs://bucket", nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "dir:PATH, mem:, s3://BUCKET/PREFIX, https://HOST/PATH")
	_, err = open.Registry(t.Context(), "gs://bucket", nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "docker://HOST/PATH")
}

func ExampleStore() {
	_, err := open.Store(context.Background(), "ftp://mirror.example/okd", nil)
	fmt.Println(err)
	// Output:
	// publish: open store ftp://mirror.example/okd: unknown scheme "ftp", want one of dir:PATH, mem:, s3://BUCKET/PREFIX, https://HOST/PATH: unsupported operation
}

func ExampleTransport() {
	_, err := open.Transport(&open.TransportOptions{
		Getenv:   os.Getenv,
		CertDirs: []string{"/etc/containers/certs.d", "/etc/docker/certs.d"},
		CABundle: []byte("not a certificate"),
	})
	fmt.Println(err)
	// Output:
	// publish: open transport: bundle of authorities holds no certificate in PEM
}

func ExampleRegistry() {
	_, err := open.Registry(context.Background(), "docker://quay.io/okd", nil)
	fmt.Println(err)
	// Output:
	// <nil>
}

func ExampleRepository() {
	for _, url := range []string{"docker://quay.io/okd", "dir:out/registry"} {
		repo, err := open.Repository(url, "scos-release")
		fmt.Println(repo, err)
	}
	// Output:
	// quay.io/okd/scos-release <nil>
	// localhost/scos-release <nil>
}
