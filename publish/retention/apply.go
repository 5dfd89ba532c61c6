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

// ApplyOptions are options of Apply; the zero value is useful.
type ApplyOptions struct {
	// Containers removes container images from their registry; nil: steps that
	// need it are left.
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
	var faults []error
	for _, s := range p.Steps {
		if ctx.Err() != nil {
			return errors.Join(append(faults, context.Cause(ctx))...)
		}
		err := p.do(ctx, store, s, now, opts)
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

func (p *Plan) do(ctx context.Context, store publish.Store, s Step, now time.Time, opts *ApplyOptions) error {
	note := func(change func(old []byte) ([]byte, error)) error {
		_, err := publish.Update(ctx, store, p.Prefix+bootimage.BuildsFile, change, nil)
		return err
	}
	switch s.Kind {
	case CloudUploads:
		if opts.CloudUploads == nil {
			return fmt.Errorf("nobody removes from clouds: %w", errors.ErrUnsupported)
		}
		// What is in a cloud is found by the build's record alone: it goes first.
		if err := opts.CloudUploads(ctx, s.Build); err != nil {
			return err
		}
		return note(bootimage.CleanBuild(s.Build, bootimage.Cleanup{CloudUploads: true}, now))
	case Containers:
		if opts.Containers == nil {
			return fmt.Errorf("nobody removes from registries: %w", errors.ErrUnsupported)
		}
		if err := note(bootimage.CleanBuild(s.Build, bootimage.Cleanup{Containers: true}, now)); err != nil {
			return err
		}
		return opts.Containers(ctx, s.Build, s.Images)
	case Images:
		if err := note(bootimage.CleanBuild(s.Build, bootimage.Cleanup{Images: true, ImagesKept: s.Keep}, now)); err != nil {
			return err
		}
	case Build:
		if err := note(bootimage.DeleteBuild(s.Build, now)); err != nil {
			return err
		}
		if len(s.Images) > 0 && opts.Containers != nil {
			if err := opts.Containers(ctx, s.Build, s.Images); err != nil {
				return err
			}
		}
	}
	for _, k := range s.Keys {
		if err := store.Delete(ctx, k); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
