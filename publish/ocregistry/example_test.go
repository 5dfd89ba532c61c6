package ocregistry_test

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/ocregistry"
)

// example gives a registry in a temporary folder, and two repositories.
func example() (r *ocregistry.Registry, one, two name.Repository, done func()) {
	dir, err := os.MkdirTemp("", "mirror-")
	if err != nil {
		panic(err)
	}
	if r, err = ocregistry.Open(context.Background(), dir, nil); err != nil {
		panic(err)
	}
	if one, err = name.NewRepository("mirror.example.com/openshift/release"); err != nil {
		panic(err)
	}
	if two, err = name.NewRepository("mirror.example.com/openshift/other"); err != nil {
		panic(err)
	}
	return r, one, two, func() { _ = os.RemoveAll(dir) } // of the example alone
}

// An index for several architectures, its tag, and what is told of it.
func ExampleRegistry_WriteIndex() {
	r, repo, _, done := example()
	defer done()
	ctx := context.Background()
	desc, err := r.WriteIndex(ctx, repo, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: empty.Image}), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := r.Tag(ctx, repo.Tag("4.20.0-okd-scos.1-multi"), desc.Digest); err != nil {
		fmt.Println(err)
		return
	}
	for tag, err := range r.Tags(ctx, repo) {
		fmt.Println(tag, err)
	}
	head, err := r.Head(ctx, repo.Tag("4.20.0-okd-scos.1-multi"))
	if err != nil {
		fmt.Println(err)
		return
	}
	index, err := r.Index(ctx, repo.Digest(head.Digest.String()))
	if err != nil {
		fmt.Println(err)
		return
	}
	list, err := index.IndexManifest()
	if err != nil {
		fmt.Println(err)
		return
	}
	for referrer, err := range r.Referrers(ctx, repo.Digest(head.Digest.String()), "") {
		fmt.Println(referrer, err) // none here
	}
	fmt.Println(head.MediaType, len(list.Manifests))
	// Output:
	// 4.20.0-okd-scos.1-multi <nil>
	// application/vnd.oci.image.index.v1+json 1
}

// An image moves to another repository, blob by blob: its configuration by a
// link, no byte is copied.
func ExampleRegistry_MountBlob() {
	r, one, two, done := example()
	defer done()
	ctx := context.Background()
	written, err := r.WriteImage(ctx, one, empty.Image, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	desc, raw, err := r.Manifest(ctx, one.Digest(written.Digest.String()))
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := empty.Image.Manifest()
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := r.MountBlob(ctx, two, m.Config.Digest, one); err != nil {
		fmt.Println(err)
		return
	}
	size, err := r.StatBlob(ctx, two, m.Config.Digest)
	fmt.Println(size == m.Config.Size, err)
	// Where a file system has no links the bytes are written.
	blob, err := r.OpenBlob(ctx, one, m.Config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer blob.Close()
	data, err := io.ReadAll(blob)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := r.WriteBlob(ctx, two, m.Config, publish.BytesSource(data)); err != nil {
		fmt.Println(err)
		return
	}
	copied, err := r.WriteManifest(ctx, two, desc.MediaType, raw)
	fmt.Println(copied.Digest == written.Digest, err)
	// Output:
	// true <nil>
	// true <nil>
}
