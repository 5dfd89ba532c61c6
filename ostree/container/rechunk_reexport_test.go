package container_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// stored imports an image under a name and finds it again.
func stored(t testing.TB, repo *ostree.Repo, img v1.Image) *container.StoredImage {
	t.Helper()
	_, err := container.Import(t.Context(), repo, img, &container.ImportOptions{Name: "oci:sample:" + digest(t, img)[7:20]})
	require.NoError(t, err)
	for s, err := range container.ListImages(t.Context(), repo) {
		require.NoError(t, err)
		if s.Digest.String() == digest(t, img) {
			return s
		}
	}
	require.Fail(t, "not there")
	return nil
}

func TestReexport(t *testing.T) {
	img := inspectImage(t, "bash 5.2-1", "sed 4.9-1", "grep 3.8-1", "nano 7.2-1", "less 5-1", "vim 9-1", "git 2-1")
	r := newRepo(t)
	single := encapsulate(t, openCache(t, t.TempDir()), r, inspectCommit(t, r, inspectSystem("bash 5.2-1")), &container.EncapsulateOptions{Architecture: "arm64", Cmd: []string{"/sbin/init"}})
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser} {
		repo := importRepo(t, mode)
		for _, img := range []v1.Image{img, single} {
			out, err := container.Reexport(t.Context(), openCache(t, t.TempDir()), repo, stored(t, repo, img), nil)
			require.NoError(t, err)
			require.Equal(t, digest(t, img), digest(t, out), "the same manifest")
		}
	}
	out, err := container.Reexport(t.Context(), openCache(t, t.TempDir()), func() *ostree.Repo {
		repo := importRepo(t, ostree.ModeArchive)
		stored(t, repo, img)
		return repo
	}(), stored(t, importRepo(t, ostree.ModeArchive), img), &container.ReexportOptions{Codec: container.Zstd})
	require.NoError(t, err)
	c, err := container.Compare(t.Context(), img, out, nil)
	require.NoError(t, err)
	require.Equal(t, c.Added, c.Recompressed)
	require.Empty(t, c.Kept)
}

func TestReexportRefuses(t *testing.T) {
	base := inspectImage(t, "bash 5.2-1")
	cache := openCache(t, t.TempDir())
	repo := importRepo(t, ostree.ModeBareUser)
	for text, img := range map[string]v1.Image{
		"1 layers were added": derive(t, base, "usr/bin/x=1"),
		"it has no commit":    withPlatform(t, relabel(t, imageOf(t, layerOf(t, archive(t, "usr/bin/x=1"))), map[string]string{container.LabelBootc: "1"}), "amd64"),
	} {
		_, err := container.Reexport(t.Context(), cache, repo, stored(t, repo, img), nil)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, text)
	}
	// In a repository that does not have it.
	_, err := container.Reexport(t.Context(), cache, importRepo(t, ostree.ModeBareUser), stored(t, repo, base), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "layer 1: no ref ostree/container/blob/")
}

// What current bootc made comes out with the same configuration, and so the
// same tar streams.
func TestReexportRecorded(t *testing.T) {
	interop.Peer(t, "ostree")
	for _, name := range []string{"image-v1b-1-pack8", "image-v1b-edge"} {
		img := golden(t, "v1b", name+".tar.zst")
		repo := importRepo(t, ostree.ModeArchive)
		out, err := container.Reexport(t.Context(), openCache(t, t.TempDir()), repo, stored(t, repo, img), nil)
		require.NoError(t, err)
		want, err := img.RawConfigFile()
		require.NoError(t, err)
		got, err := out.RawConfigFile()
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), name)
	}
}

func ExampleReexport() {
	ctx, dir, img, err := exampleBaseImage()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cache, err := container.OpenCache(ctx, filepath.Join(dir, "cache"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()
	repo, err := ostree.Init(ctx, filepath.Join(dir, "images"), ostree.ModeArchive, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer repo.Close()
	if _, err := container.Import(ctx, repo, img, &container.ImportOptions{Name: "oci:images:sample"}); err != nil {
		fmt.Println(err)
		return
	}
	for stored, err := range container.ListImages(ctx, repo) {
		if err != nil {
			fmt.Println(err)
			return
		}
		again, err := container.Reexport(ctx, cache, repo, stored, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		digest, err := again.Digest()
		fmt.Println(stored.Name, digest == stored.Digest, err)
	}
	// Output: oci:images:sample true <nil>
}
