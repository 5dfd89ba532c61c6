package payload_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
)

// remotes reads with go-containerregistry's own client and keeps a list of its
// requests.
type remotes struct {
	mu   sync.Mutex
	list []string
}

func (r *remotes) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	if req.URL.Path != "/v2/" {
		r.list = append(r.list, req.Method+" "+req.URL.Path)
	}
	r.mu.Unlock()
	return http.DefaultTransport.RoundTrip(req)
}

func (r *remotes) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = nil
}

func (r *remotes) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(r)}
}

func found[T any](value T, err error) (T, error) {
	if e, ok := errors.AsType[*transport.Error](err); ok && e.StatusCode == http.StatusNotFound {
		err = errors.Join(err, fs.ErrNotExist)
	}
	return value, err
}

func (r *remotes) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	return found(remote.Head(ref, r.options(ctx)...))
}

func (r *remotes) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	return found(remote.Image(ref, r.options(ctx)...))
}

func (r *remotes) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	return found(remote.Index(ref, r.options(ctx)...))
}

// operatorFiles is the cluster-version operator's own manifests folder.
func operatorFiles(t *testing.T) []entry {
	t.Helper()
	dir := interop.SharedData(t, "payload", "cvo", "install")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	entries := []entry{{name: "manifests/"}}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(t, err)
		entries = append(entries, entry{name: "manifests/" + f.Name(), data: string(data)})
	}
	return entries
}

// The real operator's manifests as the base component: where they are in
// reality, in its lower layers, and where they would be, if it were labelled.
func TestOperatorInstall(t *testing.T) {
	files := operatorFiles(t)
	build := func(t *testing.T, labels map[string]string, opts *payload.AssembleOptions) (*world, *payload.Release, error) {
		w := newWorld(t)
		w.put(t, payload.BaseTag, imageSpec{labels: labels, layers: [][]byte{tarOf(t, entry{name: "usr/"}), tarOf(t, files...)}})
		w.plain(t, "cluster-update-console-plugin", nil)
		_, r, err := w.assemble(t, w.spec(), opts)
		return w, r, err
	}
	both(t, func(t *testing.T, compat bool) {
		opts := &payload.AssembleOptions{Compatible: compat}
		_, r, err := build(t, nil, opts)
		require.NoError(t, err)
		require.Empty(t, filesOf(r))

		w, r, err := build(t, map[string]string{payload.LabelOperator: "true"}, opts)
		require.NoError(t, err)
		got := filesOf(r)
		require.Len(t, got, len(files)-2, "all but the folder and image-references")
		require.Contains(t, got["0000_00_cluster-version-operator_30_deployment.yaml"], `value: "4.20.0-test.1"`)
		require.Contains(t, got["0000_00_cluster-version-operator_30_deployment.yaml"], `image: '{{.ReleaseImage}}'`)
		for _, text := range got {
			require.NotContains(t, text, "0.0.1-snapshot")
		}
		require.Equal(t, w.components["cluster-update-console-plugin"].Name(), r.References.Tag("cluster-update-console-plugin").Pullspec)
	})
}

// Through a real registry: components pushed, a release assembled from what is
// there, pushed, read back, and looked at with skopeo.
func TestRegistry(t *testing.T) {
	interop.Peer(t, "skopeo")
	host := interop.Registry(t)
	content, releases := host+"/okd/content", host+"/okd/release"
	r := &remotes{}
	push := func(repo string, img v1.Image) name.Digest {
		h, err := img.Digest()
		require.NoError(t, err)
		ref := digestRef(t, repo, h)
		require.NoError(t, remote.Write(ref, img, remote.WithContext(t.Context())))
		return ref
	}
	for _, oci := range []bool{false, true} {
		cvo := imageSpec{oci: oci, layers: [][]byte{tarOf(t, entry{name: "usr/"}), tarOf(t, operatorFiles(t)...)}}
		op := operatorSpec(t, "image-references", references("op", "q.io/o/op"), "a.yaml", namespace("a")+"# q.io/o/op:v1\n")
		op.oci = oci
		spec := &payload.Spec{Version: "4.20.0-test.1", Created: testTime, Components: map[string]name.Reference{
			payload.BaseTag: push(content, makeImage(t, cvo)),
			"op":            push(content, makeImage(t, op)),
		}}
		r.reset()
		built, err := payload.Assemble(t.Context(), r, spec, nil)
		require.NoError(t, err)
		require.Len(t, r.list, 5, "two manifests, two configurations, one layer: %v", r.list)
		ref := push(releases, built.Image)
		require.Equal(t, built.Digest.String(), ref.DigestStr())
		tag := mustTag(t, releases+":latest")
		require.NoError(t, remote.Tag(tag, built.Image, remote.WithContext(t.Context())))

		r.reset()
		opened, err := payload.Open(t.Context(), r, tag, nil)
		require.NoError(t, err)
		require.Len(t, r.list, 4, "%v", r.list)
		require.Equal(t, built.Digest, opened.Digest)
		require.Contains(t, filesOf(opened)["0000_50_op_a.yaml"], "# "+spec.Components["op"].Name())
		img, err := r.Image(t.Context(), ref)
		require.NoError(t, err)
		require.NoError(t, validate.Image(img))

		dir := t.TempDir()
		skopeo(t, "copy", "--src-tls-verify=false", "docker://"+tag.Name(), "oci:"+filepath.Join(dir, "copy:x"))
		skopeo(t, "copy", "--src-tls-verify=false", "docker://"+tag.Name(), "dir:"+filepath.Join(dir, "dir"))
		require.Equal(t, built.Digest.String(), strings.TrimSpace(skopeo(t, "manifest-digest", filepath.Join(dir, "dir", "manifest.json"))))
		require.Contains(t, skopeo(t, "inspect", "--tls-verify=false", "docker://"+tag.Name()), `"io.openshift.release": "4.20.0-test.1"`)

		again, err := payload.Assemble(t.Context(), r, &payload.Spec{FromRelease: ref}, nil)
		require.NoError(t, err)
		require.Equal(t, built.Digest, again.Digest)
	}
	_, err := payload.Open(t.Context(), r, mustTag(t, releases+":missing"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "policy.json")
	require.NoError(t, os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600))
	cmd := exec.CommandContext(t.Context(), "skopeo", append([]string{"--policy", policy}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "skopeo %v", args)
	return string(out)
}
