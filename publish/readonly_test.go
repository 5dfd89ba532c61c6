package publish_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// justImages hides all methods but those of an ImageReader.
type justImages struct{ publish.ImageReader }

// direct adds those that give manifests and blobs.
type direct struct {
	publish.ImageReader
	manifest func(raw []byte) []byte
	blob     func(r io.Reader) io.Reader
	r        publish.Blobs
}

func (d direct) Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	desc, raw, err := d.r.Manifest(ctx, ref)
	return v1.Descriptor{Digest: desc.Digest}, d.manifest(raw), err
}

func (d direct) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	rc, err := d.r.OpenBlob(ctx, repo, blob)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{d.blob(rc), rc}, nil
}

// What can only be read is copied from, whichever methods it has, and believed
// nothing.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	from := layoutAt(t, t.TempDir())
	repo := repoOf(t, sourceRepo)
	spec := put(t, from, repo, multiArch(t, "x", "linux/amd64", "linux/arm64"))[0]
	copies := []publish.Copy{{From: spec, To: mirrorRepo, Tags: []string{"t"}}}
	same := func(raw []byte) []byte { return raw }
	plain := func(r io.Reader) io.Reader { return r }
	once := &publish.TransferOptions{Attempts: 1}
	for _, src := range []publish.ImageReader{justImages{from}, direct{from, same, plain, from}} {
		to := layoutAt(t, t.TempDir())
		_, err := publish.Transfer(t.Context(), to, publish.ReadOnly(src), copies, once)
		require.NoError(t, err)
		_, err = to.Index(t.Context(), repoOf(t, mirrorRepo).Tag("t"))
		require.NoError(t, err)
	}
	for _, lying := range []direct{
		{from, func(raw []byte) []byte { return append([]byte(" "), raw...) }, plain, from},
		{from, same, func(r io.Reader) io.Reader { return io.MultiReader(strings.NewReader("x"), r) }, from},
		{from, same, func(io.Reader) io.Reader { return &io.LimitedReader{} }, from},
	} {
		_, err := publish.Transfer(t.Context(), layoutAt(t, t.TempDir()), publish.ReadOnly(lying), copies, once)
		require.ErrorIs(t, err, publish.ErrDigest)
	}
	forged, ok := publish.ReadOnly(direct{from, func(raw []byte) []byte { return append([]byte(" "), raw...) }, func(r io.Reader) io.Reader { return io.MultiReader(strings.NewReader("x"), r) }, from}).(publish.Blobs)
	require.True(t, ok)
	at, err := name.NewDigest(spec)
	require.NoError(t, err)
	_, _, err = forged.Manifest(t.Context(), at)
	require.ErrorIs(t, err, publish.ErrDigest)
	idx, err := from.Index(t.Context(), at)
	require.NoError(t, err)
	list, err := idx.IndexManifest()
	require.NoError(t, err)
	img, err := idx.Image(list.Manifests[0].Digest)
	require.NoError(t, err)
	m, err := img.Manifest()
	require.NoError(t, err)
	rc, err := forged.OpenBlob(t.Context(), repo, m.Config)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, rc)
	require.ErrorIs(t, errors.Join(err, rc.Close()), publish.ErrDigest)

	r := publish.ReadOnly(from)
	tag := repo.Tag("t")
	_, imageErr := r.WriteImage(t.Context(), repo, empty.Image, nil)
	_, indexErr := r.WriteIndex(t.Context(), repo, empty.Index, nil)
	errs := []error{imageErr, indexErr, r.Tag(t.Context(), tag, v1.Hash{})}
	for _, err := range r.Tags(t.Context(), repo) {
		errs = append(errs, err)
	}
	blobs, ok := r.(publish.Blobs)
	require.True(t, ok)
	_, manifestErr := blobs.WriteManifest(t.Context(), repo, types.OCIManifestSchema1, nil)
	_, statErr := blobs.StatBlob(t.Context(), repo, v1.Hash{})
	errs = append(errs, manifestErr, statErr, blobs.WriteBlob(t.Context(), repo, v1.Descriptor{}, nil), blobs.MountBlob(t.Context(), repo, v1.Hash{}, repo))
	require.Len(t, errs, 8)
	for _, err := range errs {
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
}

// An image of a folder of layouts, copied to another that it may not write to.
func ExampleReadOnly() {
	dir, err := os.MkdirTemp("", "readonly-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	repo, err := name.NewRepository("registry.example.com/okd/release")
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := registry.WriteImage(ctx, repo, empty.Image, nil); err != nil {
		fmt.Println(err)
		return
	}
	desc, err := partial.Descriptor(empty.Image)
	if err != nil {
		fmt.Println(err)
		return
	}
	only := publish.ReadOnly(registry)
	_, err = only.Image(ctx, repo.Digest(desc.Digest.String()))
	fmt.Println(err)
	fmt.Println(errors.Is(only.Tag(ctx, repo.Tag("t"), desc.Digest), errors.ErrUnsupported))
	// Output:
	// <nil>
	// true
}
