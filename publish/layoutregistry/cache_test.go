package layoutregistry_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish"
)

// The layers of an encapsulated commit are files of the layer cache: in the
// registry they are further names of the same files, by whole images and by
// single blobs, in one repository and the next.
func TestLinksFromLayerCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo, err := ostree.Init(t.Context(), filepath.Join(dir, "repo"), ostree.ModeBareUser, nil)
	require.NoError(t, err)
	defer repo.Close()
	tree := fstest.MapFS{"usr/bin/hello": {Data: []byte("hello"), Mode: 0o755}}
	commit, err := repo.Commit(t.Context(), ostree.FS(tree), &ostree.CommitOptions{Ref: "sample", Timestamp: time.Unix(0, 0)})
	require.NoError(t, err)
	cache, err := container.OpenCache(t.Context(), filepath.Join(dir, "cache"), nil)
	require.NoError(t, err)
	defer cache.Close()
	img, err := container.Encapsulate(t.Context(), cache, repo, commit, &container.EncapsulateOptions{Architecture: "x86_64"})
	require.NoError(t, err)
	r := open(t, filepath.Join(dir, "registry"))
	a, b := testRepo(t, "okd/a"), testRepo(t, "okd/b")
	_, err = r.WriteImage(t.Context(), a, img, nil)
	require.NoError(t, err)
	_, err = r.WriteImage(t.Context(), b, img, &publish.WriteOptions{From: []name.Repository{a}})
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	require.NotEmpty(t, layers)
	for _, l := range layers {
		h, err := l.Digest()
		require.NoError(t, err)
		rc, err := l.Compressed()
		require.NoError(t, err)
		cached, err := rc.(interface{ File() *os.File }).File().Stat()
		require.NoError(t, err)
		require.NoError(t, rc.Close())
		for _, repository := range []string{"okd/a", "okd/b"} {
			stored, err := os.Stat(filepath.Join(dir, "registry", repository, "blobs/sha256", h.Hex))
			require.NoError(t, err)
			require.True(t, os.SameFile(cached, stored), repository)
		}
		require.EqualValues(t, 3, cached.Sys().(*syscall.Stat_t).Nlink)
	}
}
