package publish_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// A layer that is there is not written again, and the image's write finds it.
func TestWriteLayer(t *testing.T) {
	ctx := t.Context()
	repo := name.MustParseReference("registry.example.com/os:1").Context()
	registry, err := layoutregistry.Open(ctx, t.TempDir(), nil)
	require.NoError(t, err)
	layer := static.NewLayer([]byte("a layer"), types.OCIUncompressedLayer)
	digest, err := layer.Digest()
	require.NoError(t, err)

	counted := &countedBlobs{Registry: registry}
	for range 2 {
		require.NoError(t, publish.WriteLayer(ctx, counted, repo, layer))
	}
	require.Equal(t, 1, counted.written)
	size, err := registry.StatBlob(ctx, repo, digest)
	require.NoError(t, err)
	require.EqualValues(t, 7, size)

	img, err := mutate.AppendLayers(empty.Image, layer)
	require.NoError(t, err)
	var reused []v1.Hash
	_, err = registry.WriteImage(ctx, repo, img, &publish.WriteOptions{Reused: func(d v1.Descriptor) { reused = append(reused, d.Digest) }})
	require.NoError(t, err)
	require.Contains(t, reused, digest)

	// One that is there with another size is another blob.
	err = publish.WriteLayer(ctx, counted, repo, longLayer{layer})
	require.ErrorIs(t, err, publish.ErrDigest)
	require.ErrorContains(t, err, "publish: write layer registry.example.com/os: blob "+digest.String()+" is there with 7 bytes, the layer has 8")

	// Where blobs can't be written one by one, the image's write does it all.
	none := struct{ publish.Registry }{registry}
	other := name.MustParseReference("registry.example.com/other:1").Context()
	require.NoError(t, publish.WriteLayer(ctx, none, other, layer))
	_, err = registry.StatBlob(ctx, other, digest)
	require.ErrorIs(t, err, fs.ErrNotExist)

	// Another fault of the question is no reason to write.
	counted.fault = errors.New("gone")
	require.ErrorIs(t, publish.WriteLayer(ctx, counted, other, layer), counted.fault)
	require.Equal(t, 1, counted.written)
}

type longLayer struct{ v1.Layer }

func (l longLayer) Size() (int64, error) { return 8, nil }

// countedBlobs counts the blobs that are written.
type countedBlobs struct {
	*layoutregistry.Registry
	written int
	fault   error
}

func (c *countedBlobs) StatBlob(ctx context.Context, repo name.Repository, digest v1.Hash) (int64, error) {
	if c.fault != nil {
		return 0, c.fault
	}
	return c.Registry.StatBlob(ctx, repo, digest)
}

func (c *countedBlobs) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	c.written++
	return c.Registry.WriteBlob(ctx, repo, blob, src)
}

func ExampleWriteLayer() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	repo, err := name.NewRepository("registry.example.com/os")
	if err != nil {
		fmt.Println(err)
		return
	}
	layer := static.NewLayer([]byte("a layer"), types.OCIUncompressedLayer)
	if err := publish.WriteLayer(ctx, registry, repo, layer); err != nil {
		fmt.Println(err)
		return
	}
	digest, err := layer.Digest()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(registry.StatBlob(ctx, repo, digest))
	// Output: 7 <nil>
}
