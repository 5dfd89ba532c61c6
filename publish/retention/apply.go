package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/publish"
)

// ApplyOptions are options of [Plan.Apply]; nil and the zero value are useful.
type ApplyOptions struct {
	// Registry is where the manifests that the plan names are removed. What Keep,
	// tags and other builds refer to by now is left alone: [publish.ErrConflict].
	// nil: see Containers.
	Registry Registry
	Keep     []Root
	// Containers removes container images in another way; nil: steps that need
	// it are left.
	Containers func(ctx context.Context, build string, images []string) error
	// CloudUploads removes a build's images from clouds; nil: such steps are
	// left.
	CloudUploads func(ctx context.Context, build string) error
	// Progress is told of each step when it is done or left; may be nil.
	Progress func(Done)
}

// Done is a step that was done, or why it was not.
type Done struct {
	Step
	Err error // nil: done; wraps errors.ErrUnsupported: left
}

// Apply does what the plan says, step by step: it notes the removal in
// builds.json and then removes. A build that got a tag since, and one that is
// gone, are left alone. Errors of steps are joined and do not keep others from
// being done; steps that are left ([errors.ErrUnsupported]) are no errors.
// Applying a plan again does the rest of it.
func (p *Plan) Apply(ctx context.Context, store publish.Store, now time.Time, opts *ApplyOptions) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("publish/retention: plan: %w", err)
	}
	if opts == nil {
		opts = &ApplyOptions{}
	}
	r := &run{plan: p, store: store, now: now, opts: opts, all: map[string]bool{}}
	if opts.Registry != nil {
		if err := r.look(ctx); err != nil {
			return fmt.Errorf("publish/retention: %w", err)
		}
	}
	var faults []error
	for _, s := range p.Steps {
		if ctx.Err() != nil {
			return errors.Join(append(faults, context.Cause(ctx))...)
		}
		err := r.do(ctx, s)
		if err != nil {
			err = fmt.Errorf("publish/retention: %s of build %s: %w", s.Kind, s.Build, err)
		}
		if opts.Progress != nil {
			opts.Progress(Done{s, err})
		}
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// run is a plan that is being applied.
type run struct {
	plan   *Plan
	store  publish.Store
	now    time.Time
	opts   *ApplyOptions
	keeper *keeper         // nil: no registry
	all    map[string]bool // manifests of the plan
}

// look finds out what is referred to by now.
func (r *run) look(ctx context.Context) error {
	c, err := r.plan.catalogue(ctx, r.store)
	if err != nil {
		return err
	}
	if r.keeper, err = newKeeper(ctx, r.opts.Registry, r.opts.Keep); err != nil {
		return err
	}
	for _, s := range r.plan.Steps {
		for _, m := range s.Manifests {
			r.all[m.Image] = true
		}
		if err := r.keeper.repositories(ctx, s.Images, ownTags(c.Builds)); err != nil {
			return err
		}
	}
	return r.keeper.builds(ctx, c, r.plan.Steps)
}

// containers removes a step's images.
func (r *run) containers(ctx context.Context, s Step) error {
	switch {
	case r.keeper != nil:
		return r.keeper.remove(ctx, s.Manifests, r.all)
	case r.opts.Containers != nil:
		return r.opts.Containers(ctx, s.Build, s.Images)
	}
	return fmt.Errorf("nobody removes from registries: %w", errors.ErrUnsupported)
}

func (r *run) do(ctx context.Context, s Step) error {
	note := func(change func(old []byte) ([]byte, error)) error {
		_, err := publish.Update(ctx, r.store, r.plan.Prefix+bootimage.BuildsFile, change, nil)
		return err
	}
	none := r.keeper == nil && r.opts.Containers == nil
	if r.keeper != nil {
		if err := r.keeper.check(s); err != nil {
			return err
		}
	}
	switch s.Kind {
	case CloudUploads:
		if r.opts.CloudUploads == nil {
			return fmt.Errorf("nobody removes from clouds: %w", errors.ErrUnsupported)
		}
		// What is in a cloud is found by the build's record alone: it goes first.
		if err := r.opts.CloudUploads(ctx, s.Build); err != nil {
			return err
		}
		return note(bootimage.CleanBuild(s.Build, bootimage.Cleanup{CloudUploads: true}, r.now))
	case Containers:
		if !none {
			if err := note(bootimage.CleanBuild(s.Build, bootimage.Cleanup{Containers: true}, r.now)); err != nil {
				return err
			}
		}
		return r.containers(ctx, s)
	case Images:
		if err := note(bootimage.CleanBuild(s.Build, bootimage.Cleanup{Images: true, ImagesKept: s.Keep}, r.now)); err != nil {
			return err
		}
	case Build:
		if err := note(bootimage.DeleteBuild(s.Build, r.now)); err != nil {
			return err
		}
		if len(s.Images) > 0 && !none {
			if err := r.containers(ctx, s); err != nil {
				return err
			}
		}
	}
	for _, k := range s.Keys {
		if err := r.store.Delete(ctx, k); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
