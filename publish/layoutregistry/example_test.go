package layoutregistry_test

import (
	"context"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
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
	// The host is not used: the image is in dir/okd/release.
	repo := name.MustParseReference("localhost/okd/release:4.20").Context()
	desc, err := registry.WriteImage(ctx, repo, empty.Image, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := registry.Tag(ctx, repo.Tag("4.20"), desc.Digest); err != nil {
		fmt.Println(err)
		return
	}
	for tag, err := range registry.Tags(ctx, repo) {
		fmt.Println(tag, err)
	}
	head, err := registry.Head(ctx, repo.Tag("4.20"))
	fmt.Println(head.MediaType, err)
	// Output:
	// 4.20 <nil>
	// application/vnd.docker.distribution.manifest.v2+json <nil>
}

func ExampleRegistry_WriteIndex() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
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
	repo := name.MustParseReference("localhost/okd/release:4.20").Context()
	multi := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: empty.Image})
	desc, err := registry.WriteIndex(ctx, repo, multi, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	idx, err := registry.Index(ctx, repo.Digest(desc.Digest.String()))
	if err != nil {
		fmt.Println(err)
		return
	}
	manifest, err := idx.IndexManifest()
	if err != nil {
		fmt.Println(err)
		return
	}
	img, err := idx.Image(manifest.Manifests[0].Digest)
	if err != nil {
		fmt.Println(err)
		return
	}
	layers, err := img.Layers()
	fmt.Println(len(manifest.Manifests), "image with", len(layers), "layers", err)
	// Output:
	// 1 image with 0 layers <nil>
}
