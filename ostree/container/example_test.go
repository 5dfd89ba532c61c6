package container_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// exampleRepo makes a repository for the examples.
func exampleRepo() (context.Context, string, error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		return nil, "", err
	}
	repo, err := ostree.Init(ctx, filepath.Join(dir, "repo"), ostree.ModeBareUser, nil)
	if err != nil {
		return nil, "", err
	}
	defer repo.Close()
	tree := mapFS(map[string]string{"usr/bin/hello": "#!/bin/sh\necho hello\n", "usr/bin/hi": "->hello", "usr/etc/hello": "hello\n"})
	_, err = repo.Commit(ctx, ostree.FS(tree), &ostree.CommitOptions{Ref: "sample", Timestamp: time.Unix(0, 0)})
	return ctx, dir, err
}

func ExampleEncapsulate() {
	// A repository with a commit of a system, made here of three files.
	ctx, dir, err := exampleRepo()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	repo, err := ostree.Open(ctx, filepath.Join(dir, "repo"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer repo.Close()
	commit, err := repo.Resolve(ctx, "sample")
	if err != nil {
		fmt.Println(err)
		return
	}
	cache, err := container.OpenCache(ctx, filepath.Join(dir, "cache"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()

	components, err := container.Components(ctx, cache, repo, commit, nil)
	if errors.Is(err, fs.ErrNotExist) {
		components = nil // no package database: one layer
	} else if err != nil {
		fmt.Println(err)
		return
	}
	img, err := container.Encapsulate(ctx, cache, repo, commit, &container.EncapsulateOptions{
		Components: components, Architecture: "x86_64", Labels: map[string]string{"org.example.sample": "yes"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	manifest, err := img.Manifest()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(manifest.Layers), "layer of", manifest.Annotations[container.LabelCommit][:16])
	if _, err := cache.Prune(ctx, 10<<30); err != nil {
		fmt.Println(err)
	}
	// Output: 1 layer of 345aa1b17fa6a12e
}

func ExampleComponents() {
	ctx, dir, err := exampleRepo()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	repo, err := ostree.Open(ctx, filepath.Join(dir, "repo"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer repo.Close()
	commit, err := repo.Resolve(ctx, "sample")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = container.Components(ctx, nil, repo, commit, nil)
	fmt.Println(errors.Is(err, fs.ErrNotExist)) // no rpm, no dpkg in there
	// Output: true
}

func ExampleOpenCache() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	cache, err := container.OpenCache(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()
	removed, err := cache.Prune(ctx, 20<<30) // keep at most 20 GiB of layers
	fmt.Println(removed, err)
	// Output: 0 <nil>
}
