package container_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// An image becomes a commit again, here in a repository that can be served. With
// a name it can be listed and deployed, and its layers are not read again.
func ExampleImport() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "import")
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
	img, commit, err := exampleImage(ctx, dir, cache)
	if err != nil {
		fmt.Println(err)
		return
	}
	repo, err := ostree.Init(ctx, filepath.Join(dir, "repo"), ostree.ModeArchive, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer repo.Close()

	trusted, err := img.Digest()
	if err != nil {
		fmt.Println(err)
		return
	}
	var stats container.ImportStats
	opts := &container.ImportOptions{
		Name: "docker://registry.example/os:stable", Stats: &stats,
		Verify: func(_ context.Context, digest v1.Hash, manifest []byte) error {
			if digest != trusted { // or a signature of it is not good
				return errors.New("not trusted")
			}
			return nil
		},
	}
	for range 2 {
		got, err := container.Import(ctx, repo, img, opts)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(got.Base == commit, stats.Layers, "layers,", stats.Reused, "of them there")
	}
	for image, err := range container.ListImages(ctx, repo) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(image.Name, image.Config.Config.Labels[container.LabelCommit] == commit.String())
	}
	// Output:
	// true 3 layers, 0 of them there
	// true 3 layers, 3 of them there
	// docker://registry.example/os:stable true
}

// What an image leaves is pruned in two steps: names of layers, then objects.
func ExamplePruneImages() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "import")
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
	img, _, err := exampleImage(ctx, dir, cache)
	if err != nil {
		fmt.Println(err)
		return
	}
	repo, err := ostree.Init(ctx, filepath.Join(dir, "repo"), ostree.ModeBareUser, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer repo.Close()
	const name = "oci:folder:stable"
	if _, err := container.Import(ctx, repo, img, &container.ImportOptions{Name: name}); err != nil {
		fmt.Println(err)
		return
	}
	if err := container.RemoveImage(ctx, repo, name); err != nil {
		fmt.Println(err)
		return
	}
	layers, err := container.PruneImages(ctx, repo)
	if err != nil {
		fmt.Println(err)
		return
	}
	stats, err := repo.Prune(ctx, &ostree.PruneOptions{RefsOnly: true})
	fmt.Println(len(layers), "layers,", stats.Objects-stats.Pruned, "objects are left", err)
	// Output: 3 layers, 0 objects are left <nil>
}

// exampleImage makes a small OSTree-native image of three layers.
func exampleImage(ctx context.Context, dir string, cache *container.Cache) (v1.Image, ostree.Checksum, error) {
	repo, err := ostree.Init(ctx, filepath.Join(dir, "source"), ostree.ModeBareUser, nil)
	if err != nil {
		return nil, ostree.Checksum{}, err
	}
	defer repo.Close()
	commit, err := repo.Commit(ctx, ostree.FS(fstest.MapFS{
		"usr/bin/sh":        {Data: []byte("#!"), Mode: 0o755},
		"usr/lib/libc.so.6": {Data: []byte("libc"), Mode: 0o644},
	}), &ostree.CommitOptions{Subject: "example", Timestamp: time.Unix(1700000000, 0)})
	if err != nil {
		return nil, commit, err
	}
	var component container.Component
	for e, err := range repo.Tree(commit).Entries(ctx) {
		if err != nil {
			return nil, commit, err
		}
		if e.Mode&ostree.ModeType == ostree.ModeRegular {
			component.Objects = append(component.Objects, e.Object)
		}
	}
	component.ID = "glibc"
	img, err := container.Encapsulate(ctx, cache, repo, commit, &container.EncapsulateOptions{
		Components: []container.Component{component}, Architecture: "amd64",
	})
	return img, commit, err
}
