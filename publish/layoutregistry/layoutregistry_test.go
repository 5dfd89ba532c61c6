package layoutregistry_test

import (
	"context"
	"iter"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

func testRepo(t testing.TB, path string) name.Repository {
	t.Helper()
	repo, err := name.NewRepository("registry.example/" + path)
	require.NoError(t, err)
	return repo
}

func TestConformance(t *testing.T) {
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		r, err := layoutregistry.Open(t.Context(), t.TempDir(), &layoutregistry.Options{NoSync: true})
		require.NoError(t, err)
		return r, testRepo(t, "okd/release")
	}, publishtest.ClaimBlobs, publishtest.ClaimReferrers, publishtest.ClaimDelete)
}

// reopened opens the folder anew for each call: nothing may depend on what an
// instance remembers.
type reopened struct {
	t   *testing.T
	dir string
}

func (r reopened) open() publish.Registry {
	got, err := layoutregistry.Open(r.t.Context(), r.dir, &layoutregistry.Options{NoSync: true})
	require.NoError(r.t, err)
	return got
}

func (r reopened) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	return r.open().Head(ctx, ref)
}

func (r reopened) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	return r.open().Image(ctx, ref)
}

func (r reopened) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	return r.open().Index(ctx, ref)
}

func (r reopened) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	return r.open().WriteImage(ctx, repo, img, opts)
}

func (r reopened) WriteIndex(ctx context.Context, repo name.Repository, idx v1.ImageIndex, opts *publish.WriteOptions) (v1.Descriptor, error) {
	return r.open().WriteIndex(ctx, repo, idx, opts)
}

func (r reopened) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	return r.open().Tag(ctx, tag, digest)
}

func (r reopened) Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error] {
	return r.open().Tags(ctx, repo)
}

func TestConformanceReopened(t *testing.T) {
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		return reopened{t, t.TempDir()}, testRepo(t, "okd/release")
	})
}
