package daily

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/atomicfile"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// Files of a build's folder that the gate of kind "regression" leaves.
const (
	regressionJSON     = "regression.json"
	regressionMarkdown = "regression.md"
)

// outputs reads what a step of an earlier build left; ok is false if it left
// nothing.
func (b *build) outputs(build, step string, v any) (ok bool, err error) {
	var record Record
	if ok, err = readJSON(filepath.Join(b.env.State, build, step+".json"), &record); err != nil || !ok {
		return false, err
	}
	return json.Unmarshal(record.Outputs, v) == nil, nil
}

// priorSplit reads how the base image of an earlier build is split; nil: it
// isn't, or is no longer there.
func (b *build) priorSplit(ctx context.Context, build string) (container.Split, error) {
	var out ImageOutputs
	if ok, err := b.outputs(build, StepEncapsulate, &out); err != nil || !ok {
		return nil, err
	}
	ref, err := name.NewDigest(out.Reference)
	if err != nil {
		return nil, nil // a record of another version
	}
	img, err := b.env.Registry.Image(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("image of the build before: %w", err)
	}
	split, err := container.SplitOf(img)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) {
		return nil, nil
	}
	return split, err
}

// planner splits like the image of the build before, as far as that is good;
// nil is the default.
func (b *build) planner() container.Planner {
	if len(b.in.Split) == 0 {
		return nil
	}
	return container.Frugal{Prior: b.in.Split}
}

// regression compares the packages with those of the last finished build: of the
// node images, where they are not the base images, else of the commits. One
// without a list of packages is nothing to compare with; a build without one
// lost them all.
func (b *build) regression(ctx context.Context) (*container.Regression, error) {
	var before nodeOutputs
	if b.in.Previous != "" {
		if _, err := b.outputs(b.in.Previous, StepNode, &before); err != nil {
			return nil, err
		}
	}
	var lists [2][]ostree.Package
	for i, side := range []struct {
		node   ImageOutputs
		commit ostree.Checksum
	}{{before.Node, b.in.Parent}, {b.nodes.Node, b.committed.Commit}} {
		var err error
		switch {
		case b.nodes.Node.Digest != b.base.Digest && side.node.Reference != "":
			lists[i], err = b.nodePackages(ctx, side.node.Reference)
		case !side.commit.IsZero():
			lists[i], err = b.repo.Packages(ctx, side.commit)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	r := container.CheckRegression(lists[0], lists[1], nil)
	if err := writeJSON(filepath.Join(b.dir, regressionJSON), r); err != nil {
		return nil, err
	}
	return r, atomicfile.Write(filepath.Join(b.dir, regressionMarkdown), r.WriteMarkdown)
}

func (b *build) nodePackages(ctx context.Context, reference string) ([]ostree.Package, error) {
	ref, err := name.NewDigest(reference)
	if err != nil {
		return nil, err
	}
	img, ok := b.images[ref.DigestStr()]
	if !ok {
		img, err = b.env.Registry.Image(ctx, ref)
		if errors.Is(err, fs.ErrNotExist) { // one that was given may be elsewhere
			img, err = b.env.images().Image(ctx, ref)
		}
		if err != nil {
			return nil, fmt.Errorf("node image %s: %w", ref, err)
		}
	}
	return container.Packages(ctx, img, &container.PackagesOptions{TempDir: b.env.State})
}
