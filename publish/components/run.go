package components

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/payload"
)

// RunOptions say how [Run] works. Nil is the default.
type RunOptions struct {
	// Workers is how many components are built at one time. Default 1; a build takes
	// the processors that it gets.
	Workers int
	// Again builds what is there already, too.
	Again bool
	// Progress is called from any goroutine and must not block.
	Progress func(Event)
}

// Event says what [Run] is doing.
type Event struct {
	Component string
	Phase     Phase
	Err       error // of Failed and Skipped
}

// Phase is what is happening to a component.
type Phase string

// The phases.
const (
	Reused  Phase = "reused"  // built before of the same
	Started Phase = "started" // being built
	Pushing Phase = "pushing" // being written to the registry
	Done    Phase = "done"    // built, and in the registry
	Failed  Phase = "failed"
	Skipped Phase = "skipped" // what it is built of failed
)

// Result is what [Run] has.
type Result struct {
	// Components that there are, in the plan's order.
	Components []Built `json:"components"`
}

// Built is a component that is in the registry.
type Built struct {
	Name   string `json:"name"`
	Image  string `json:"image"` // by digest
	Source Source `json:"source,omitzero"`
	Reused bool   `json:"reused,omitempty"`
	Tool   bool   `json:"tool,omitempty"`
}

// Run builds a plan's components and writes them to the registry, by digest and under
// the tag COMPONENT-KEY, where the key is of everything that the image is made of:
// source, Containerfile, arguments, images by digest, platform and builder. An image
// that is there with the key of a component is that component, so a run that was
// stopped goes on where it was, on another machine too, and a day on which little
// changed builds little.
//
// A component that fails is an *[Error], joined with those of others; what is built of
// it is not built, everything else is. The result has what there is, with an error
// too.
func Run(ctx context.Context, plan *Plan, env *Env, opts *RunOptions) (*Result, error) {
	if opts == nil {
		opts = &RunOptions{}
	}
	r := &runner{env: env, opts: *opts, sources: &sources{fetch: env.Fetch}, images: env.Images, done: map[string]Built{}, failed: map[string]error{}}
	if err := r.prepare(plan); err != nil {
		return nil, &Error{"build", "plan", err}
	}
	var err error
	if r.dir, err = os.MkdirTemp(r.dir, "run-"); err != nil {
		return nil, &Error{"build", "plan", err}
	}
	out, err := r.run(ctx, plan)
	return out, errors.Join(err, os.RemoveAll(r.dir))
}

type runner struct {
	env      *Env
	dir      string // of this run
	opts     RunOptions
	images   payload.Images
	platform v1.Platform
	sources  *sources
	bases    once[string, string] // layouts by image

	mu     sync.Mutex
	done   map[string]Built
	failed map[string]error
}

func (r *runner) prepare(plan *Plan) (err error) {
	switch {
	case plan == nil:
		return errors.New("no plan")
	case r.env.Registry == nil || r.env.Repository == (name.Repository{}):
		return errors.New("no registry and repository for what is built")
	case r.env.Build == nil:
		return errors.New("nobody to build")
	case r.env.Dir == "":
		return errors.New("no folder for files on the way")
	}
	if err := plan.check(); err != nil {
		return err
	}
	if r.images == nil {
		r.images = r.env.Registry
	}
	if r.dir, err = filepath.Abs(r.env.Dir); err != nil {
		return err
	}
	r.platform, err = plan.platform()
	return err
}

func (r *runner) run(ctx context.Context, plan *Plan) (*Result, error) {
	steps := plan.Steps()
	ready := map[string]chan struct{}{}
	for _, s := range steps {
		ready[s.Name] = make(chan struct{})
	}
	slots := make(chan struct{}, max(r.opts.Workers, 1))
	var wait sync.WaitGroup
	for i := range steps {
		s := &steps[i]
		wait.Go(func() {
			defer close(ready[s.Name])
			for _, u := range s.Uses {
				if u.Component != "" {
					<-ready[u.Component]
				}
			}
			slots <- struct{}{}
			defer func() { <-slots }()
			r.one(ctx, s)
		})
	}
	wait.Wait()
	out := &Result{}
	var faults []error
	for _, s := range steps {
		if b, ok := r.done[s.Name]; ok {
			out.Components = append(out.Components, b)
		} else if err := r.failed[s.Name]; err != nil {
			faults = append(faults, &Error{"build", "component " + s.Name, err})
		}
	}
	if ctx.Err() != nil {
		return out, &Error{"build", "plan", context.Cause(ctx)}
	}
	return out, errors.Join(faults...)
}

// one builds a component, once those that it uses have been dealt with.
func (r *runner) one(ctx context.Context, s *Step) {
	uses, err := r.resolve(s)
	if err != nil {
		r.fail(s, Skipped, err)
		return
	}
	built, err := r.build(ctx, s, uses)
	if err != nil {
		r.fail(s, Failed, err)
		return
	}
	r.mu.Lock()
	r.done[s.Name] = built
	r.mu.Unlock()
	phase := Done
	if built.Reused {
		phase = Reused
	}
	r.tell(Event{Component: s.Name, Phase: phase})
}

func (r *runner) fail(s *Step, phase Phase, err error) {
	r.mu.Lock()
	r.failed[s.Name] = err
	r.mu.Unlock()
	r.tell(Event{Component: s.Name, Phase: phase, Err: err})
}

func (r *runner) tell(e Event) {
	if r.opts.Progress != nil {
		r.opts.Progress(e)
	}
}

// resolve gives the images that a component uses, by digest.
func (r *runner) resolve(s *Step) (map[string]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	uses := map[string]string{}
	for _, u := range s.Uses {
		if u.Component == "" {
			uses[u.Image] = u.Reference
			continue
		}
		built, ok := r.done[u.Component]
		if !ok {
			return nil, fmt.Errorf("not built: it is of %s, which there is not", u.Component)
		}
		uses[u.Image] = built.Image
	}
	return uses, nil
}

func (r *runner) build(ctx context.Context, s *Step, uses map[string]string) (_ Built, err error) {
	if err := ctx.Err(); err != nil {
		return Built{}, context.Cause(ctx)
	}
	b, err := r.input(s, uses)
	if err != nil {
		return Built{}, err
	}
	built := Built{Name: s.Name, Source: s.Source, Tool: s.Tool}
	if !r.opts.Again {
		digest, err := r.find(ctx, b)
		if err != nil {
			return Built{}, err
		}
		if digest != "" {
			built.Image, built.Reused = r.env.Repository.Digest(digest).String(), true
			return built, nil
		}
	}
	r.tell(Event{Component: s.Name, Phase: Started})
	work, err := os.MkdirTemp(r.dir, "build-")
	if err != nil {
		return Built{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	img, err := r.make(ctx, s, b, work)
	if err != nil {
		return Built{}, err
	}
	r.tell(Event{Component: s.Name, Phase: Pushing})
	desc, err := r.env.Registry.WriteImage(ctx, r.env.Repository, img, nil)
	if err != nil {
		return Built{}, err
	}
	if err := r.env.Registry.Tag(ctx, r.env.Repository.Tag(b.tag()), desc.Digest); err != nil {
		return Built{}, err
	}
	built.Image = r.env.Repository.Digest(desc.Digest.String()).String()
	return built, nil
}

// find looks for an image that was built of the same.
func (r *runner) find(ctx context.Context, b *input) (digest string, err error) {
	desc, err := r.env.Registry.Head(ctx, r.env.Repository.Tag(b.tag()))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	img, err := r.env.Registry.Image(ctx, r.env.Repository.Digest(desc.Digest.String()))
	if err != nil {
		return "", fmt.Errorf("tag %s: %w", b.tag(), err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return "", fmt.Errorf("tag %s: %w", b.tag(), err)
	}
	if config.Config.Labels[labelKey] != b.key {
		return "", nil // whoever put it there did not build it of this
	}
	return desc.Digest.String(), nil
}

// Build is an image that a builder is asked to make. All paths are absolute.
type Build struct {
	Component     string
	Containerfile string // path; its last stage is the one to build
	Context       string // folder
	// Bases are all images that the Containerfile names; none is to be looked for
	// anywhere else.
	Bases []Base
	// Args and Labels are NAME=VALUE, sorted by name. Labels are set on the image.
	Args, Labels []string
	Platform     v1.Platform
	Created      time.Time // of the image and its new files
	// Output is the folder where an OCI layout with the one image is to be made.
	Output string
}

// Base is an image that others are built from.
type Base struct {
	Name   string // as the Containerfile names it, with a tag
	Layout string // folder of an OCI layout with the one image
}

// Spec is what a release is assembled from: for [Replace] the plan's release with
// what was built and given in place of its own, for [Scratch] those alone, without
// tools. Version and time are the caller's to say.
func (p *Plan) Spec(r *Result) (*payload.Spec, error) {
	images := map[string]name.Reference{}
	tools := map[string]bool{}
	for _, s := range p.Steps() {
		tools[s.Name] = s.Tool
	}
	have := map[string]string{}
	for _, g := range p.Given {
		have[g.Name] = g.Image
	}
	for _, b := range r.Components {
		have[b.Name] = b.Image
	}
	var missing []string
	for _, s := range p.Steps() {
		if have[s.Name] == "" && !s.Tool {
			missing = append(missing, s.Name)
		}
	}
	if len(missing) > 0 {
		return nil, &Error{"spec", "release", fmt.Errorf("not built: %s: %w", strings.Join(missing, ", "), fs.ErrNotExist)}
	}
	for component, image := range have {
		if tools[component] {
			continue
		}
		ref, err := name.NewDigest(image)
		if err != nil {
			return nil, &Error{"spec", "component " + component, err}
		}
		images[component] = ref
	}
	if p.Mode == Scratch {
		return &payload.Spec{Components: images}, nil
	}
	base, err := name.NewDigest(p.Release)
	if err != nil {
		return nil, &Error{"spec", "release", err}
	}
	return &payload.Spec{FromRelease: base, Overrides: images, Exclude: p.Exclude}, nil
}
