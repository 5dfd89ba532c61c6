package open_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
	"github.com/okd-project/okd-streams/publish/s3store"
)

func TestStore(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "key")
	for url, want := range map[string]publish.Store{
		"dir:" + t.TempDir(): (*dirstore.Store)(nil),
		"mem:":               (*memstore.Store)(nil),
	} {
		store, err := open.Store(t.Context(), url, nil)
		require.NoError(t, err, url)
		require.IsType(t, want, store)
	}
	// A bucket is asked for when it is opened.
	asked := make(chan string, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.URL.Path:
		default:
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	store, err := open.Store(t.Context(), "s3://bucket/prefix?endpoint="+server.URL+"&path-style=true", nil)
	require.NoError(t, err)
	require.IsType(t, (*s3store.Store)(nil), store)
	require.Contains(t, <-asked, "/bucket")
	for _, url := range []string{"", "dir:", "/path", "mem:x", "gs://bucket", "s3://", "s3://b?x=y"} {
		_, err := open.Store(t.Context(), url, nil)
		require.ErrorIs(t, err, fs.ErrInvalid, url)
	}
}

func TestRegistry(t *testing.T) {
	for url, want := range map[string]publish.Registry{
		"dir:" + t.TempDir():            (*layoutregistry.Registry)(nil),
		"oci:" + t.TempDir():            (*layoutregistry.Registry)(nil),
		"docker://registry.example.org": (*remoteregistry.Registry)(nil),
	} {
		registry, err := open.Registry(t.Context(), url, nil)
		require.NoError(t, err, url)
		require.IsType(t, want, registry)
	}
	for _, url := range []string{"", "dir:", "http://x", "docker"} {
		_, err := open.Registry(t.Context(), url, &open.Options{})
		if url == "docker" {
			require.NoError(t, err) // references name the host
			continue
		}
		require.ErrorIs(t, err, fs.ErrInvalid, url)
	}
}

func TestErrorsHoldNoSecrets(t *testing.T) {
	_, err := open.Store(t.Context(), "ftp://user:hunter2@example.org/x", nil)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

func ExampleStore() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	_, err = open.Store(context.Background(), "dir:"+dir, nil)
	fmt.Println(err)
	_, err = open.Store(context.Background(), "ftp://example.org", nil)
	fmt.Println(err)
	// Output:
	// <nil>
	// publish: open ftp://example.org: the scheme of a store is one of dir:, mem: and s3://: invalid argument
}

func ExampleRegistry() {
	_, err := open.Registry(context.Background(), "docker://quay.io/okd", nil)
	fmt.Println(err)
	// Output: <nil>
}
