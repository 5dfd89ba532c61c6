package container_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// What is done with a layer that is complete does not hold up the next ones.
func TestMadeLayers(t *testing.T) {
	repoDir := t.TempDir()
	repo, err := ostree.Init(t.Context(), repoDir, ostree.ModeBareUser, nil)
	require.NoError(t, err)
	defer repo.Close()
	c := commit(t, repo, sample)
	cache := openCache(t, t.TempDir())
	all := make(chan struct{}) // closed once no layer is left to be made
	var last sync.Once         // the last layers have no content
	var mu sync.Mutex
	given := map[v1.Hash]int{}
	opts := &container.EncapsulateOptions{Components: split(t, repo, c), Planner: container.Separate{}, Workers: 1}
	opts.Progress = func(e ostree.Event) {
		if e.Done == e.Total {
			last.Do(func() { close(all) })
		}
	}
	opts.Made = func(ctx context.Context, layer v1.Layer) error {
		select {
		case <-all:
		case <-time.After(time.Minute):
			return errors.New("the next layers are not made")
		}
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		rc, err := layer.Compressed()
		if err != nil {
			return err
		}
		defer rc.Close()
		if _, err := io.Copy(io.Discard, rc); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		given[digest]++
		return ctx.Err()
	}
	img := encapsulate(t, cache, repo, c, opts)
	layers, err := img.Layers()
	require.NoError(t, err)
	require.Len(t, given, len(layers))
	for _, l := range layers {
		digest, err := l.Digest()
		require.NoError(t, err)
		require.Equal(t, 1, given[digest])
	}

	// What is at hand, in the cache or in the image before, is not made.
	opts.Progress = nil
	opts.Made = func(context.Context, v1.Layer) error { return errors.New("nothing was made") }
	require.Equal(t, digest(t, img), digest(t, encapsulate(t, cache, repo, c, opts)))
	opts.Prior = img
	require.Equal(t, digest(t, img), digest(t, encapsulate(t, openCache(t, t.TempDir()), repo, c, opts)))

	// Its failure is Encapsulate's, and names the layer.
	opts.Prior = nil
	gone := errors.New("registry is gone")
	opts.Made = func(context.Context, v1.Layer) error { return gone }
	_, err = container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, c, opts)
	require.ErrorIs(t, err, gone)
	require.ErrorContains(t, err, "layer ")

	// A failure to make a layer ends it.
	var object ostree.Checksum
	for e, err := range repo.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		if e.Path == "usr/share/empty" {
			object = e.Object
		}
	}
	require.NoError(t, os.Remove(filepath.Join(repoDir, "objects", object.String()[:2], object.String()[2:]+".file")))
	opts.Made = func(ctx context.Context, _ v1.Layer) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Minute):
			return errors.New("not told of the failure")
		}
	}
	_, err = container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, c, opts)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// Bytes are hashed once on their way: a reader that checks them takes that over
// from the cache. What it finds damaged is made again all the same.
func TestCacheDamageFoundByTheReader(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	dir := t.TempDir()
	cache := openCache(t, dir)
	img := encapsulate(t, cache, repo, c, nil)
	layers, err := img.Layers()
	require.NoError(t, err)
	read := func(want func(v1.Hash) v1.Hash) error {
		digest, err := layers[0].Digest()
		require.NoError(t, err)
		size, err := layers[0].Size()
		require.NoError(t, err)
		rc, err := layers[0].Compressed()
		require.NoError(t, err)
		defer rc.Close()
		checked, err := verify.NewReader(rc, want(digest), size)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, checked)
		return err
	}
	same := func(h v1.Hash) v1.Hash { return h }
	require.NoError(t, read(same))
	other := v1.Hash{Algorithm: "sha256", Hex: "0000000000000000000000000000000000000000000000000000000000000000"}
	require.ErrorIs(t, read(func(v1.Hash) v1.Hash { return other }), verify.ErrDigest)
	blob := files(t, dir, "blobs/sha256")[0]
	require.FileExists(t, blob, "that reader wanted something else")

	stat, err := os.Stat(blob)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(blob, 0o644))
	data, err := os.ReadFile(blob)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.WriteFile(blob, data, 0o644))
	require.NoError(t, os.Chtimes(blob, time.Time{}, stat.ModTime()))
	require.ErrorIs(t, read(same), verify.ErrDigest)
	require.NoFileExists(t, blob)
	require.NoError(t, readAll(encapsulate(t, cache, repo, c, nil)))
}
