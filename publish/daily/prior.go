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

// regression compares the packages with those of the last finished build. One
// without a list of packages is nothing to compare with; a build without one
// lost them all.
func (b *build) regression(ctx context.Context) (*container.Regression, error) {
	var lists [2][]ostree.Package
	for i, commit := range []ostree.Checksum{b.in.Parent, b.committed.Commit} {
		if commit.IsZero() {
			continue
		}
		var err error
		if lists[i], err = b.repo.Packages(ctx, commit); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	r := container.CheckRegression(lists[0], lists[1], nil)
	if err := writeJSON(filepath.Join(b.dir, regressionJSON), r); err != nil {
		return nil, err
	}
	return r, atomicfile.Write(filepath.Join(b.dir, regressionMarkdown), r.WriteMarkdown)
}
