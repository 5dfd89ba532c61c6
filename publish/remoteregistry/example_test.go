package remoteregistry_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func Example() {
	ctx := context.Background()
	err := func() error {
		// A registry of our own; any other is spoken to in the same way.
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		server, err := registryserver.Open(ctx, dir, nil)
		if err != nil {
			return err
		}
		defer server.Close()
		front := httptest.NewServer(server)
		defer front.Close()

		registry, err := remoteregistry.Open(ctx, &remoteregistry.Options{AuthFiles: remoteregistry.AuthFiles(os.Getenv)})
		if err != nil {
			return err
		}
		repo, err := name.NewRepository(strings.TrimPrefix(front.URL, "http://") + "/okd/release")
		if err != nil {
			return err
		}
		desc, err := registry.WriteImage(ctx, repo, empty.Image, nil)
		if err != nil {
			return err
		}
		if err := registry.Tag(ctx, repo.Tag("latest"), desc.Digest); err != nil {
			return err
		}
		head, err := registry.Head(ctx, repo.Tag("latest"))
		if err != nil {
			return err
		}
		fmt.Println(head.MediaType)
		for tag, err := range registry.Tags(ctx, repo) {
			if err != nil {
				return err
			}
			fmt.Println(tag)
		}
		img, err := registry.Image(ctx, repo.Tag("latest"))
		if err != nil {
			return err
		}
		list, err := registry.WriteIndex(ctx, repo, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}), nil)
		if err != nil {
			return err
		}
		idx, err := registry.Index(ctx, repo.Digest(list.Digest.String()))
		if err != nil {
			return err
		}
		manifest, err := idx.IndexManifest()
		if err != nil {
			return err
		}
		fmt.Println(len(manifest.Manifests), "image in the index")
		return nil
	}()
	fmt.Println("error:", err)
	// Output:
	// application/vnd.docker.distribution.manifest.v2+json
	// latest
	// 1 image in the index
	// error: <nil>
}
