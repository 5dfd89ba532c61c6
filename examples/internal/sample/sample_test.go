package sample_test

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

func TestTreeIsAnOperatingSystem(t *testing.T) {
	require.NoError(t, ostree.Lint(t.Context(), sample.Tree()))
	// Arranged already: nothing moves.
	want, got := map[string]uint32{}, map[string]uint32{}
	for e, err := range sample.Tree().Entries(t.Context()) {
		require.NoError(t, err)
		want[e.Path] = e.Mode
	}
	for e, err := range ostree.Postprocess(sample.Tree(), nil).Entries(t.Context()) {
		require.NoError(t, err)
		got[e.Path] = e.Mode
	}
	for path, mode := range want {
		if path == "tmp" { // gets its sticky bit
			continue
		}
		require.Equal(t, mode, got[path], path)
	}
}

func TestImages(t *testing.T) {
	registry, err := layoutregistry.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	repo, err := name.NewRepository("localhost/sample/content")
	require.NoError(t, err)
	first, err := sample.Components(t.Context(), registry, repo)
	require.NoError(t, err)
	second, err := sample.Components(t.Context(), registry, repo)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Contains(t, first, "cluster-version-operator")
	for _, ref := range first {
		img, err := registry.Image(t.Context(), ref)
		require.NoError(t, err)
		require.NoError(t, validate.Image(img))
	}
	node, extensions, err := sample.Node(t.Context(), mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON))
	require.NoError(t, err)
	for _, img := range []v1.Image{node, extensions} {
		desc, err := registry.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
		written, err := registry.Image(t.Context(), repo.Digest(desc.Digest.String()))
		require.NoError(t, err)
		require.NoError(t, validate.Image(written))
	}
}
