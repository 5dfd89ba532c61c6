package open_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/registryserver"
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
		r, err := open.Registry(t.Context(), url, &open.RegistryOptions{Transport: tr})
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
	for _, url := range []string{"", "x", "/folder", "ftp://x/y", "https://bucket", "dir:", "mem:x", "s3:", "s3://", "s3://b?secret=abcdefgh"} {
		_, err := open.Store(t.Context(), url, nil)
		require.Error(t, err, url)
		_, ok := errors.AsType[*publish.Error](err)
		require.True(t, ok, "%v", err)
		require.NotContains(t, err.Error(), "abcdefgh")
	}
	for _, url := range []string{"", "x", "quay.io/okd", "dir:", "oci:", "docker:", "docker://", "docker:quay.io/okd", "s3://b", "docker://quay.io/okd:tag", "docker://user:abcdefgh@quay.io/okd", "docker://quay.io/../x", "docker://quay.io/a//b", "docker:///x"} {
		_, err := open.Registry(t.Context(), url, nil)
		require.Error(t, err, url)
		_, ok := errors.AsType[*publish.Error](err)
		require.True(t, ok, "%v", err)
		_, err = open.Repository(url, "okd")
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "abcdefgh")
	}
	_, err := open.Store(t.Context(), "gs://bucket", nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "dir:PATH, mem:, s3://BUCKET/PREFIX")
	_, err = open.Registry(t.Context(), "gs://bucket", nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "docker://HOST/PATH")
}

func ExampleStore() {
	_, err := open.Store(context.Background(), "ftp://mirror.example/okd", nil)
	fmt.Println(err)
	// Output:
	// publish: open store ftp://mirror.example/okd: unknown scheme "ftp", want one of dir:PATH, mem:, s3://BUCKET/PREFIX: unsupported operation
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
