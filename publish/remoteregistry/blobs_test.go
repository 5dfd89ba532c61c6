package remoteregistry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// The seams fit.
var (
	_ publish.Registry  = (*remoteregistry.Registry)(nil)
	_ publish.Blobs     = (*remoteregistry.Registry)(nil)
	_ publish.Referrers = (*remoteregistry.Registry)(nil)
)

func blobOf(t testing.TB, data []byte) v1.Descriptor {
	t.Helper()
	h, size, err := v1.SHA256(bytes.NewReader(data))
	require.NoError(t, err)
	return v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: h, Size: size}
}

func readBlob(t testing.TB, r *remoteregistry.Registry, repo name.Repository, blob v1.Descriptor) []byte {
	t.Helper()
	rc, err := r.OpenBlob(t.Context(), repo, blob)
	require.NoError(t, err)
	defer rc.Close()
	data, err := io.ReadAll(rc)
	require.NoError(t, err)
	return data
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	testBlobs(t, host(server(t)))
}

func TestBlobsDockerRegistry(t *testing.T) { testBlobs(t, interop.Registry(t)) }

func testBlobs(t *testing.T, target string) {
	r := open(t, nil)
	from, to := repository(t, target, "okd/from"), repository(t, target, "okd/to")
	for _, size := range []int{0, 100, large + 7} {
		data := content(80, size)
		blob := blobOf(t, data)
		_, err := r.StatBlob(t.Context(), from, blob.Digest)
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = r.OpenBlob(t.Context(), from, blob)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.NoError(t, r.WriteBlob(t.Context(), from, blob, publish.BytesSource(data)))
		require.NoError(t, r.WriteBlob(t.Context(), from, blob, publish.BytesSource(data)), "again")
		got, err := r.StatBlob(t.Context(), from, blob.Digest)
		require.NoError(t, err)
		require.EqualValues(t, size, got)
		require.Equal(t, data, readBlob(t, r, from, blob))
		require.NoError(t, r.MountBlob(t.Context(), to, blob.Digest, from))
		require.Equal(t, data, readBlob(t, r, to, blob))
	}
	missing := blobOf(t, []byte("missing"))
	proxy := interop.Proxy(t, "http://"+target)
	err := r.MountBlob(t.Context(), repository(t, proxy.Host, "okd/to"), missing.Digest, repository(t, proxy.Host, "okd/from"))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Equal(t, 1, count(proxy.Requests(), http.MethodDelete, "/blobs/uploads/"), "nothing is left behind")
	require.ErrorIs(t, r.MountBlob(t.Context(), to, missing.Digest, repository(t, "registry.example", "okd/from")), errors.ErrUnsupported)

	// Bytes that are others than promised are not stored.
	data := content(81, 100)
	for what, tc := range map[string]struct {
		blob v1.Descriptor
		src  []byte
	}{
		"wrong bytes": {blobOf(t, data), content(82, 100)},
		"too short":   {blobOf(t, data), data[:99]},
		"no digest":   {v1.Descriptor{Size: 100}, data},
		"a path":      {v1.Descriptor{Size: 100, Digest: v1.Hash{Algorithm: "sha256", Hex: "../../x"}}, data},
	} {
		err := r.WriteBlob(t.Context(), from, tc.blob, publish.BytesSource(tc.src))
		require.Error(t, err, what)
		if tc.blob.Digest.Algorithm != "" && len(tc.blob.Digest.Hex) == 64 {
			require.ErrorIs(t, err, publish.ErrDigest, what)
		}
		_, err = r.StatBlob(t.Context(), from, blobOf(t, data).Digest)
		require.ErrorIs(t, err, fs.ErrNotExist, what)
	}
}

func TestManifests(t *testing.T) {
	t.Parallel()
	testManifests(t, host(server(t)))
}

func TestManifestsDockerRegistry(t *testing.T) { testManifests(t, interop.Registry(t)) }

func testManifests(t *testing.T, target string) {
	r := open(t, nil)
	repo := repository(t, target, "okd/a")
	img := image(t, 83, 10)
	raw, err := img.RawManifest()
	require.NoError(t, err)
	_, err = r.WriteManifest(t.Context(), repo, types.OCIManifestSchema1, raw)
	require.Error(t, err, "what it names is missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = r.Manifest(t.Context(), repo.Digest(digest(t, img).String()))
	require.ErrorIs(t, err, fs.ErrNotExist)

	layers, err := img.Layers()
	require.NoError(t, err)
	config, err := img.RawConfigFile()
	require.NoError(t, err)
	for _, data := range [][]byte{read(t, layers[0]), config} {
		require.NoError(t, r.WriteBlob(t.Context(), repo, blobOf(t, data), publish.BytesSource(data)))
	}
	want := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digest(t, img), Size: int64(len(raw))}
	for _, mt := range []types.MediaType{types.OCIManifestSchema1, ""} {
		desc, err := r.WriteManifest(t.Context(), repo, mt, raw)
		require.NoError(t, err)
		require.Equal(t, want, desc)
	}
	require.NoError(t, r.Tag(t.Context(), repo.Tag("t"), want.Digest))
	for _, ref := range []name.Reference{repo.Tag("t"), repo.Digest(want.Digest.String())} {
		desc, got, err := r.Manifest(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, want, desc)
		require.Equal(t, string(raw), string(got))
	}
	for _, bad := range []string{"", "{", `{"schemaVersion":2,"manifests":[]}`, strings.Repeat(" ", 5<<20)} {
		_, err := r.WriteManifest(t.Context(), repo, types.OCIManifestSchema1, []byte(bad))
		require.Error(t, err)
	}
}

// slowSource counts how often it is opened, and is slow so that others come by.
type slowSource struct {
	data   []byte
	opened *atomic.Int64
	gate   <-chan struct{}
	err    error
}

func (s slowSource) Size() int64 { return int64(len(s.data)) }
func (s slowSource) Open(context.Context) (io.ReadCloser, error) {
	s.opened.Add(1)
	<-s.gate
	if s.err != nil {
		return nil, s.err
	}
	return io.NopCloser(bytes.NewReader(s.data)), nil
}

// Writers that want the same blob at the same time move it once.
func TestBlobsAreSharedInFlight(t *testing.T) {
	t.Parallel()
	proxy := interop.Proxy(t, server(t))
	repo := repository(t, proxy.Host, "okd/a")
	r := open(t, &remoteregistry.Options{Concurrency: 2})
	img := image(t, 84, 3000, large+1)
	errs := make([]error, 8)
	var reused atomic.Int64
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = r.WriteImage(t.Context(), repo, img, &publish.WriteOptions{Reused: func(v1.Descriptor) { reused.Add(1) }})
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, 3, count(proxy.Requests(), http.MethodPost, "/blobs/uploads/"), "two layers and the config, once each")
	require.Equal(t, 1, count(proxy.Requests(), http.MethodPatch, "/blobs/uploads/"))
	require.GreaterOrEqual(t, reused.Load(), int64(7*3))

	// A failure is its owner's alone.
	data := content(85, 100)
	blob := blobOf(t, data)
	gate := make(chan struct{})
	var opened, good atomic.Int64
	broken := slowSource{data: data, opened: &opened, gate: gate, err: errors.New("disk on fire")}
	first := make(chan error)
	go func() { first <- r.WriteBlob(t.Context(), repo, blob, broken) }()
	require.Eventually(t, func() bool { return opened.Load() == 1 }, waitLong, waitShort)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.WriteBlob(cancelled, repo, blob, broken), context.Canceled)
	open := make(chan struct{})
	close(open)
	second := make(chan error)
	go func() {
		second <- r.WriteBlob(t.Context(), repo, blob, slowSource{data: data, opened: &good, gate: open})
	}()
	close(gate)
	require.ErrorContains(t, <-first, "disk on fire")
	require.NoError(t, <-second)
	require.EqualValues(t, 1, good.Load())
	require.Equal(t, data, readBlob(t, r, repo, blob))
}
