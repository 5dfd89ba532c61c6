package prowcmd_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/prowcmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/open"
)

func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{Use: "okd-streams", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(prowcmd.Command())
	var out bytes.Buffer
	root.SetArgs(append([]string{"prow"}, args...))
	root.SetOut(&out)
	root.SetErr(io.Discard)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// pushed puts an image into a folder, under localhost/okd/os:4.22.
func pushed(t *testing.T) (from, digest string) {
	t.Helper()
	from = "dir:" + t.TempDir()
	registry, err := open.Registry(t.Context(), from, nil)
	require.NoError(t, err)
	img, err := random.Image(64, 1)
	require.NoError(t, err)
	tag, err := name.NewTag("localhost/okd/os:4.22")
	require.NoError(t, err)
	d, err := registry.WriteImage(t.Context(), tag.Context(), img, nil)
	require.NoError(t, err)
	require.NoError(t, registry.Tag(t.Context(), tag, d.Digest))
	return from, d.Digest.String()
}

func TestHandOver(t *testing.T) {
	from, digest := pushed(t)
	out, err := run(t, "hand-over", "--from", from, "localhost/okd/os:4.22", digest)
	require.NoError(t, err)
	require.Equal(t, "localhost/okd/os:4.22 is "+digest+"\n", out)

	_, err = run(t, "hand-over", "--from", from, "localhost/okd/os:4.22", "sha256:"+strings.Repeat("0", 64))
	require.ErrorContains(t, err, digest)

	// The image stream has another image, and no time is left.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
		require.Equal(t, "/apis/image.openshift.io/v1/namespaces/origin/imagestreams/scos", r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": {"name": "scos", "namespace": "origin"},
			"status": {"tags": [{"tag": "os", "items": [{"image": "sha256:` + strings.Repeat("1", 64) + `"}]}]}}`))
	}))
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	_, err = run(t, "hand-over", "--from", from, "--api-server", server.URL, "--token-file", token, "--image-stream", "origin/scos:os", "--limit", "1ns", "--interval", "1ns", "localhost/okd/os:4.22", digest)
	require.ErrorContains(t, err, strings.Repeat("1", 64))
}

func TestWatch(t *testing.T) {
	from, digest := pushed(t)
	out, err := run(t, "watch", "--from", from, "--count", "1", "localhost/okd/os:4.22")
	require.NoError(t, err)
	require.Equal(t, digest+"\n", out)
}

func TestUsage(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	digest := "sha256:" + strings.Repeat("0", 64)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"x"}, "unknown command"},
		{[]string{"import", "origin/scos"}, "1 argument"},
		{[]string{"import", "origin/scos", "os"}, "want TAG=PULLSPEC"},
		{[]string{"import", "origin/scos", "os=localhost/okd/os:4.22"}, "--api-server URL"},
		{[]string{"import", "--api-server", "http://example.com", "origin/scos", "os=localhost/okd/os:4.22"}, "example.com"},
		{[]string{"tag", "origin/scos", "localhost/x@" + digest}, "want NAMESPACE/STREAM:TAG"},
		{[]string{"tag", "origin/scos:os", "localhost/x:y"}, "by digest"},
		{[]string{"hand-over", "localhost/x", digest}, "localhost/x"},
		{[]string{"hand-over", "localhost/x:y", "sha256:1"}, "sha256:1"},
		{[]string{"hand-over", "--image-stream", "origin/scos", "localhost/x:y", digest}, "want NAMESPACE/STREAM:TAG"},
		{[]string{"watch", "localhost/x@" + digest}, "localhost/x"},
	} {
		_, err := run(t, tc.args...)
		require.ErrorContains(t, err, tc.want, "%v", tc.args)
		_, ok := errors.AsType[*ui.UsageError](err)
		require.True(t, ok, "%v: %v", tc.args, err)
	}
}
