package container_test

import (
	"archive/tar"
	"errors"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// FuzzImportLayer imports any bytes as the layer of a commit, as one of its
// content and as one above it: nothing panics, memory is bounded by the input, and
// what is taken is whole.
func FuzzImportLayer(f *testing.F) {
	img, c := importChunked(f)
	single, _, _ := importBase(f, map[string]string{"usr/x": "x", "usr/l": "->x"}, &container.EncapsulateOptions{FormatVersion: 2})
	seeds := [][]byte{archive(f, "usr/x=1", "usr/y=>usr/x", "etc/.wh.z=", "usr/.wh..wh..opq=", "usr/l->x", "sysroot/ostree/repo/objects/00/x.file=1")}
	for _, l := range append(importEntries(f, img), importEntries(f, single)...) {
		// Small, so that what is changed matters.
		seeds = append(seeds, importTar(f, slices.DeleteFunc(l, func(e tarEntry) bool { return e.Typeflag == tar.TypeDir || len(e.data) > 4096 })))
	}
	mutants.AddTars(f, seeds...)
	f.Add([]byte{})
	dir := f.TempDir()
	repo, err := ostree.Init(f.Context(), dir, ostree.ModeArchive, nil)
	require.NoError(f, err)
	require.NoError(f, repo.SetConfig(f.Context(), "core", "fsync", "false"))
	require.NoError(f, repo.Close())
	repo, err = ostree.Open(f.Context(), dir, nil)
	require.NoError(f, err)
	f.Cleanup(func() { repo.Close() })
	chunked := map[string]string{"ostree.commit": c.String(), "ostree.final-diffid": "layer 1"}
	f.Fuzz(func(t *testing.T, data []byte) {
		layer := layerOf(t, data)
		first, err := img.Layers()
		require.NoError(t, err)
		for _, made := range []v1.Image{
			importLabelled(t, imageOf(t, layer), map[string]string{"ostree.final-diffid": "layer 0"}),
			importLabelled(t, imageOf(t, first[0], layer), chunked),
			imageOf(t, layer),
		} {
			var got *container.Imported
			fuzzbound.Within(t, 48<<20+64*len(data), func() {
				got, err = container.Import(t.Context(), repo, made, &container.ImportOptions{Workers: 1, MaxSize: 1 << 26})
			})
			if err == nil {
				_, err = repo.ReadCommit(t.Context(), got.Commit)
				require.NoError(t, err)
				_, err := list(t, repo.Tree(got.Commit))
				require.NoError(t, err)
				continue
			}
			if _, ok := errors.AsType[*container.Error](err); !ok {
				t.Errorf("%T: %v", err, err)
			}
		}
	})
}
