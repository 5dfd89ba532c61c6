package components

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/dockerfile"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/stream"
)

// NewPlan looks at the sources of a list's components and plans their builds.
//
// Branches and tags are pinned to the commits that [Env.Fetch] finds, images that
// Dockerfiles name to their digests, those of stages that are not needed are left
// alone. All faults are in one error, each with the component it is of: sources that
// cannot be had, Dockerfiles that cannot be read, images that are not there, and
// components that use each other in a circle, which is named.
func NewPlan(ctx context.Context, list *List, env *Env, opts *PlanOptions) (*Plan, error) {
	if opts == nil {
		opts = &PlanOptions{}
	}
	p := &planner{list: list, env: env, opts: *opts, sources: &sources{fetch: env.Fetch}}
	plan, err := p.run(ctx)
	if err != nil {
		if _, ok := errors.AsType[*Error](err); ok {
			return nil, err
		}
		return nil, &Error{"plan", "list", err}
	}
	return plan, nil
}

type planner struct {
	list    *List
	env     *Env
	opts    PlanOptions
	images  payload.Images
	vars    stream.Vars
	sources *sources
	pinned  pins

	steps map[string]*Step // to build
	given map[string]string
}

func (p *planner) run(ctx context.Context) (*Plan, error) {
	if p.list == nil {
		return nil, errors.New("no list")
	}
	if err := p.list.check(); err != nil {
		return nil, err
	}
	if p.images = p.env.Images; p.images == nil && p.env.Registry != nil {
		p.images = p.env.Registry
	}
	if p.images == nil {
		return nil, errors.New("nowhere to look for images")
	}
	if p.opts.Mode == "" {
		p.opts.Mode = Replace
	}
	if p.opts.Mode != Replace && p.opts.Mode != Scratch {
		return nil, fmt.Errorf("mode %.40q is neither %s nor %s", p.opts.Mode, Replace, Scratch)
	}
	if p.opts.Mode == Replace && p.opts.Release == nil {
		return nil, errors.New("no release whose images are kept")
	}
	if p.opts.Platform.Equals(v1.Platform{}) {
		p.opts.Platform = v1.Platform{OS: "linux", Architecture: "amd64"}
	}
	if p.opts.Workers <= 0 {
		p.opts.Workers = DefaultPlanWorkers
	}
	if p.opts.Created.IsZero() {
		p.opts.Created = time.Unix(0, 0)
	}
	if p.vars.Minor = p.opts.Minor; p.vars.Minor == "" && p.opts.Release != nil {
		if v, err := stream.ParseVersion(p.opts.Release.Version()); err == nil {
			p.vars.Minor = fmt.Sprintf("%d.%d", v.Major, v.Minor)
		}
	}
	p.pinned.src, p.pinned.platform = p.images, p.opts.Platform
	chosen, faults := p.choose()
	if err := errors.Join(faults, p.readAll(ctx, chosen)); err != nil {
		return nil, err
	}
	batches, err := batchesOf(p.steps)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Version: PlanVersion, Mode: p.opts.Mode, Platform: p.opts.Platform.String(), Exclude: p.excluded(), Batches: batches}
	if r := p.opts.Release; p.opts.Mode == Replace {
		// A payload from a folder has no pullspec.
		if plan.Release = r.Pullspec().String(); r.Ref == nil {
			return nil, errors.New("the release has no pullspec, so nothing can be made from it")
		}
	}
	for _, component := range slices.Sorted(maps.Keys(p.given)) {
		plan.Given = append(plan.Given, Given{component, p.given[component]})
	}
	return plan, nil
}

// choose finds the components to build, of which it gives those that say of what.
func (p *planner) choose() ([]Component, error) {
	var chosen []Component
	p.given, p.steps = map[string]string{}, map[string]*Step{}
	only := map[string]bool{}
	for _, component := range p.opts.Only {
		only[component] = true
	}
	listed := map[string]bool{}
	for _, c := range p.list.Components {
		listed[c.Name] = true
		if c.Image != "" {
			p.given[c.Name] = c.Image
			delete(only, c.Name) // it is there
			continue
		}
		if len(p.opts.Only) == 0 || only[c.Name] {
			chosen = append(chosen, c)
			delete(only, c.Name)
		}
	}
	var faults []error
	if r := p.opts.Release; r != nil {
		drop := p.excluded()
		for _, t := range r.References.Tags {
			wanted := only[t.Name] || p.opts.Mode == Scratch && len(p.opts.Only) == 0 && !slices.Contains(drop, t.Name)
			if !listed[t.Name] && wanted {
				chosen = append(chosen, Component{Name: t.Name})
				delete(only, t.Name)
			}
		}
	}
	for _, component := range slices.Sorted(maps.Keys(only)) {
		faults = append(faults, &Error{"plan", "component " + component, fmt.Errorf("neither the list nor the release has it: %w", fs.ErrNotExist)})
	}
	if len(chosen) == 0 && len(faults) == 0 {
		return nil, errors.New("no component to build")
	}
	var whole []Component
	for _, c := range chosen {
		p.steps[c.Name] = &Step{Name: c.Name}
		if err := p.complete(&c); err != nil {
			faults = append(faults, &Error{"plan", "component " + c.Name, err})
			continue
		}
		whole = append(whole, c)
	}
	return whole, errors.Join(faults...)
}

// excluded are the release's components that are dropped.
func (p *planner) excluded() []string {
	if p.opts.Release == nil {
		return nil
	}
	var list []string
	for _, t := range p.opts.Release.References.Tags {
		if slices.ContainsFunc(p.list.Exclude, func(pattern string) bool { _, ok := matches(pattern, t.Name); return ok }) {
			list = append(list, t.Name)
		}
	}
	slices.Sort(list)
	return slices.DeleteFunc(list, func(name string) bool {
		return slices.ContainsFunc(p.list.Components, func(c Component) bool { return c.Name == name && !c.Tool })
	})
}

// complete fills in what a component leaves open of its source.
func (p *planner) complete(c *Component) error {
	if c.Repository == "" && c.Containerfile != "" {
		return nil
	}
	pinned := c.Commit != "" // by the list
	if c.Repository == "" {
		if err := p.fromRelease(c); err != nil {
			return err
		}
	}
	if strings.HasPrefix(c.Repository, folderScheme) {
		return nil
	}
	for _, f := range p.list.Forks {
		if sameRepository(f.Repository, c.Repository) {
			c.Repository = f.Use
			if f.Ref != "" {
				c.Ref, pinned = f.Ref, false
			}
			if !pinned {
				c.Commit = ""
			}
			break
		}
	}
	if c.Ref == "" && c.Commit == "" {
		c.Ref = p.list.Ref
	}
	if c.Ref == "" {
		if c.Commit == "" {
			return errors.New("neither ref nor commit: say which branch it is built of")
		}
		return nil
	}
	ref, err := c.Ref.Expand(p.vars)
	if err != nil {
		return fmt.Errorf("ref: %w", err)
	}
	c.Ref = stream.Template(ref)
	return checkRef(ref)
}

// fromRelease takes what the release's image says it was built from.
func (p *planner) fromRelease(c *Component) error {
	if p.opts.Release == nil {
		return errors.New("no repository")
	}
	list, _ := p.opts.Release.Sources()
	i := slices.IndexFunc(list, func(s payload.Source) bool { return slices.Contains(s.Components, c.Name) })
	if i < 0 {
		return fmt.Errorf("no repository, and no image of the release that says what it was built from: %w", fs.ErrNotExist)
	}
	c.Repository = list[i].URL()
	if c.Ref == "" && c.Commit == "" {
		c.Commit = list[i].Commit
		if tag := p.opts.Release.References.Tag(c.Name); tag != nil && checkRef(tag.Annotations[labelRef]) == nil {
			c.Ref = stream.Template(strings.ReplaceAll(tag.Annotations[labelRef], "$", ""))
		}
	}
	if c.Commit != "" && !commitID.MatchString(c.Commit) {
		return fmt.Errorf("commit %.100q of the release's image is not whole: %w", c.Commit, errors.ErrUnsupported)
	}
	return nil
}

// sameRepository compares URLs as people write them.
func sameRepository(a, b string) bool {
	plain := func(url string) string {
		return strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(url), "/"), ".git")
	}
	return plain(a) == plain(b)
}

// readAll makes the steps of components, many at one time.
func (p *planner) readAll(ctx context.Context, chosen []Component) error {
	errs := make([]error, len(chosen))
	slots := make(chan struct{}, p.opts.Workers)
	var wait sync.WaitGroup
	for i := range chosen {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			step, err := p.step(ctx, &chosen[i])
			if err != nil {
				errs[i] = &Error{"plan", "component " + chosen[i].Name, err}
				return
			}
			*p.steps[chosen[i].Name] = *step // read by nobody until all are there
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

func (p *planner) step(ctx context.Context, c *Component) (*Step, error) {
	s := &Step{
		Name: c.Name, Context: c.Context, Containerfile: c.Containerfile, Target: c.Target, From: c.From, Tool: c.Tool,
		Created: p.opts.Created.UTC().Truncate(time.Second), Labels: maps.Clone(c.Labels), Args: maps.Clone(c.Args),
	}
	if c.Repository != "" {
		tree, err := p.sources.get(ctx, Source{c.Repository, string(c.Ref), c.Commit})
		if err != nil {
			return nil, err
		}
		s.Source = Source{c.Repository, string(c.Ref), tree.Commit}
		if tree.Commit == "" {
			if s.Tree, err = p.sources.checksum(ctx, tree.Dir); err != nil {
				return nil, err
			}
		} else {
			s.Created = tree.Time.UTC().Truncate(time.Second)
		}
		if c.Containerfile == "" {
			s.Dockerfile = c.dockerfile()
			if s.Containerfile, err = readFile(tree.Dir, s.Dockerfile); err != nil {
				return nil, err
			}
		}
	}
	file, err := dockerfile.Parse([]byte(s.Containerfile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmp.Or(s.Dockerfile, "containerfile"), err)
	}
	for key, value := range p.list.Args {
		if _, own := s.Args[key]; !own && file.Declares(key) {
			if s.Args == nil {
				s.Args = map[string]string{}
			}
			s.Args[key] = value
		}
	}
	images, err := file.Images(s.options(p.opts.Platform))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmp.Or(s.Dockerfile, "containerfile"), err)
	}
	var faults []error
	for _, image := range images {
		use, err := p.use(ctx, c, image.Name)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s line %d: image %s: %w", cmp.Or(s.Dockerfile, "containerfile"), image.Line, image.Name, err))
		}
		s.Uses = append(s.Uses, use)
	}
	return s, errors.Join(faults...)
}

func (s *Step) options(platform v1.Platform) *dockerfile.Options {
	return &dockerfile.Options{Args: s.Args, Target: s.Target, From: s.From, OS: platform.OS, Architecture: platform.Architecture}
}

// use finds what is taken for an image that a Dockerfile names.
func (p *planner) use(ctx context.Context, c *Component, image string) (Use, error) {
	use, replaced := image, false
	plain := !strings.ContainsAny(image, "/:@")
	switch {
	case plain && (image == c.From || c.Containerfile != "" && p.known(image)):
		return p.component(ctx, c, image, image)
	case image != c.From:
		for _, r := range p.list.Images {
			last, ok := matches(r.Match, image)
			if !ok {
				continue
			}
			if r.Use != "*" {
				use, replaced = r.Use, true
				break
			}
			if p.known(last) {
				use, replaced = last, true
				break
			}
		}
		if replaced && !strings.ContainsAny(use, "/:@") {
			return p.component(ctx, c, image, use)
		}
	}
	ref, err := p.pinned.pin(ctx, use)
	return Use{Image: image, Reference: ref}, err
}

func (p *planner) known(component string) bool {
	return p.steps[component] != nil || p.given[component] != "" || p.inRelease(component)
}

func (p *planner) inRelease(component string) bool {
	return p.opts.Release != nil && p.opts.Release.References.Tag(component) != nil
}

// component uses one that is built, given or in the release. What is built of
// itself is built of the release's.
func (p *planner) component(ctx context.Context, c *Component, image, component string) (Use, error) {
	if p.steps[component] != nil && (component != c.Name || !p.inRelease(component)) {
		return Use{Image: image, Component: component}, nil
	}
	pullspec := p.given[component]
	if pullspec == "" {
		if p.opts.Release == nil {
			return Use{}, fmt.Errorf("component %s: not in the list: %w", component, fs.ErrNotExist)
		}
		ref, err := p.opts.Release.Image(component)
		if err != nil {
			return Use{}, fmt.Errorf("component %s: neither built nor in the release: %w", component, err)
		}
		pullspec = ref.String()
	}
	ref, err := p.pinned.pin(ctx, pullspec)
	return Use{Image: image, Reference: ref}, err
}

// readFile reads a Dockerfile, which cannot be outside of the folder.
func readFile(dir, file string) (_ string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	f, err := root.Open(path.Clean(file))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, fmt.Errorf("%s is no file", file))
	}
	data, err := io.ReadAll(io.LimitReader(f, dockerfile.MaxSize+1))
	return string(data), err
}

// pins finds the digests of images, each once.
type pins struct {
	src      payload.Images
	platform v1.Platform
	once     once[string, string]
}

// pin gives a pullspec by the digest of an image, not of an index.
func (p *pins) pin(ctx context.Context, pullspec string) (string, error) {
	return p.once.do(pullspec, func() (string, error) {
		ref, err := name.ParseReference(pullspec)
		if err != nil {
			return "", err
		}
		desc, err := p.src.Head(ctx, ref)
		if err != nil {
			return "", err
		}
		if !desc.MediaType.IsIndex() {
			return ref.Context().Digest(desc.Digest.String()).String(), nil
		}
		idx, err := p.src.Index(ctx, ref.Context().Digest(desc.Digest.String()))
		if err != nil {
			return "", err
		}
		m, err := idx.IndexManifest()
		if err != nil {
			return "", err
		}
		for _, d := range m.Manifests {
			if d.Platform != nil && d.Platform.Satisfies(p.platform) && d.MediaType.IsImage() {
				return ref.Context().Digest(d.Digest.String()).String(), nil
			}
		}
		return "", fmt.Errorf("index has no image for %s: %w", p.platform, fs.ErrNotExist)
	})
}
