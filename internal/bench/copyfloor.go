package main

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
)

// floorVerb as the first argument makes this program move images with
// go-containerregistry alone: what that costs without a plan, a journal or an
// order of publication.
const floorVerb = "floor"

// floorJobs is how many images it copies at once.
const floorJobs = 8

func floor(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: bench %s copy LIST REPOSITORY | push LAYOUT TAG | pull TAG LAYOUT", floorVerb)
	}
	switch args[0] {
	case "copy":
		return floorCopy(ctx, args[1], args[2])
	case "push":
		return floorPush(ctx, args[1], args[2])
	case "pull":
		return floorPull(ctx, args[1], args[2])
	}
	return fmt.Errorf("no verb %q", args[0])
}

// floorCopy copies the images of a list to repo, each under a tag of its own.
func floorCopy(ctx context.Context, list, repo string) error {
	specs, err := readSpecs(list)
	if err != nil {
		return err
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithJobs(floorJobs)}
	puller, err := remote.NewPuller(options...)
	if err != nil {
		return err
	}
	pusher, err := remote.NewPusher(options...)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(floorJobs)
	for i, spec := range specs {
		group.Go(func() error {
			src, err := name.ParseReference(spec)
			if err != nil {
				return err
			}
			dst, err := name.NewTag(repo + ":" + tagOf(i))
			if err != nil {
				return err
			}
			img, err := remote.Image(src, append(options, remote.Reuse(puller))...)
			if err != nil {
				return err
			}
			return remote.Write(dst, img, append(options, remote.Reuse(pusher))...)
		})
	}
	return group.Wait()
}

// floorPush writes the first image of a layout to a registry.
func floorPush(ctx context.Context, dir, to string) error {
	tag, err := name.NewTag(to)
	if err != nil {
		return err
	}
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	var img v1.Image
	if len(m.Manifests) > 0 {
		if img, err = idx.Image(m.Manifests[0].Digest); err != nil {
			return err
		}
		return remote.Write(tag, img, remote.WithContext(ctx))
	}
	return fmt.Errorf("layout %s is empty", dir)
}

// floorPull writes an image of a registry to a new layout.
func floorPull(ctx context.Context, from, dir string) error {
	tag, err := name.NewTag(from)
	if err != nil {
		return err
	}
	img, err := remote.Image(tag, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return to.AppendImage(img)
}
