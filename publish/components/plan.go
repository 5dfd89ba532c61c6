package components

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

// Mode is the way to a release.
type Mode string

const (
	// Replace keeps the images of a release but for those that the list has.
	Replace Mode = "replace"
	// Scratch builds all: the list's components and, if there is a release, all that
	// it has besides.
	Scratch Mode = "scratch"
)

// PlanOptions say what [NewPlan] plans. Nil is the default.
type PlanOptions struct {
	Mode Mode // "": [Replace]
	// Release is what images are kept of and what says what the list does not:
	// repositories, commits, and X.Y for refs. Required to replace.
	Release *payload.Release
	// Minor is X.Y for refs; "": the release's.
	Minor string
	// Only names the components to build: the release has the others, or the list
	// says where their images are. None: all.
	Only []string
	// Platform to build for. Default linux/amd64.
	Platform v1.Platform
	// Created is the time of images whose sources have none: folders and
	// Containerfiles. Default 1970-01-01.
	Created time.Time
	// Workers is how many sources are fetched and images looked up at one time; 0:
	// [DefaultPlanWorkers].
	Workers int
}

// DefaultPlanWorkers is the default of Workers in [PlanOptions].
const DefaultPlanWorkers = 8

// Env is where sources and images come from, and where they go. What the verb does
// not need may be nil.
type Env struct {
	// Fetch gives the sources of a component. It may be called from several
	// goroutines, for each source once.
	Fetch func(ctx context.Context, source Source) (*Tree, error)
	// Images is where images are read that others are built from, those in
	// Repository, too; nil: Registry.
	Images payload.Images

	// Registry and Repository are where built images go.
	Registry   publish.Registry
	Repository name.Repository
	// Build makes an image. It may be called from several goroutines.
	Build func(ctx context.Context, b *Build) error
	// BuilderID changes when Build would make other images of the same sources: the
	// builder's version, for instance.
	BuilderID string
	// Dir is a folder for files on the way. Each run has a folder of its own in it,
	// which it removes; it needs room for the images that others are built from.
	Dir string
}

// Source is what a component is built from.
type Source struct {
	// Repository is a git repository's URL, or file:///FOLDER.
	Repository string `json:"repository,omitempty"`
	// Ref is a branch or tag, Commit what it must be; with a commit, Ref is where it
	// may be found.
	Ref    string `json:"ref,omitempty"`
	Commit string `json:"commit,omitempty"`
}

// Tree is a folder with sources.
type Tree struct {
	Dir string // absolute
	// Commit that the folder has, hexadecimal; "": it is a folder as it is.
	Commit string
	// Time of the commit.
	Time time.Time
}

// Limits of a plan.
const (
	PlanVersion = 1        // of the JSON form
	MaxPlanSize = 64 << 20 // bytes of the JSON form that [DecodePlan] reads
)

// Plan says what is built, of what and in which order.
type Plan struct {
	Version  int    `json:"version"` // [PlanVersion]
	Mode     Mode   `json:"mode"`
	Platform string `json:"platform"`
	// Release is what images are kept of, by digest.
	Release string `json:"release,omitempty"`
	// Exclude are components of the release that the new one is not to have.
	Exclude []string `json:"exclude,omitempty"`
	// Given are components whose images are there already.
	Given []Given `json:"given,omitempty"`
	// Batches are built one after the other, or each component once those that it
	// uses are built; a batch's components are in order of name.
	Batches [][]Step `json:"batches"`
}

// Given is a component whose image is there already.
type Given struct {
	Name  string `json:"name"`
	Image string `json:"image"` // by digest
}

// Step is a component that is built.
type Step struct {
	Name   string `json:"name"`
	Source Source `json:"source,omitzero"` // with its commit
	// Tree is the checksum of a folder that has no commit.
	Tree          string            `json:"tree,omitempty"`
	Context       string            `json:"context,omitempty"`
	Dockerfile    string            `json:"dockerfile,omitempty"` // where Containerfile was, for people
	Containerfile string            `json:"containerfile"`        // its text
	Target        string            `json:"target,omitempty"`
	From          string            `json:"from,omitempty"` // as in [Component]
	Args          map[string]string `json:"args,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Uses          []Use             `json:"uses,omitempty"`
	Created       time.Time         `json:"created"`
	Tool          bool              `json:"tool,omitempty"`
}

// Use is an image that a component is built from: another component of the plan, or
// an image by digest.
type Use struct {
	Image     string `json:"image"` // as the Containerfile names it
	Component string `json:"component,omitempty"`
	Reference string `json:"reference,omitempty"`
}

// Steps are those of all batches, in order.
func (p *Plan) Steps() []Step {
	var all []Step
	for _, batch := range p.Batches {
		all = append(all, batch...)
	}
	return all
}

// Encode writes the plan as JSON.
func (p *Plan) Encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(p)
}

// DecodePlan reads what [Plan.Encode] wrote, and checks it: unknown fields, more than
// [MaxPlanSize] bytes, images without digest, and components that use others which do
// not come before them are errors.
func DecodePlan(r io.Reader) (*Plan, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxPlanSize+1))
	if err == nil && len(data) > MaxPlanSize {
		err = fmt.Errorf("more than %d bytes", MaxPlanSize)
	}
	p := &Plan{}
	if err == nil {
		err = strictJSON(data, p)
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return nil, &Error{"decode", "plan", err}
	}
	return p, nil
}

func (p *Plan) check() error {
	if p.Version != PlanVersion {
		return fmt.Errorf("version %d, not %d", p.Version, PlanVersion)
	}
	if p.Mode != Replace && p.Mode != Scratch {
		return fmt.Errorf("mode %.40q is neither %s nor %s", p.Mode, Replace, Scratch)
	}
	if _, err := p.platform(); err != nil {
		return err
	}
	if p.Mode == Replace {
		if _, err := name.NewDigest(p.Release); err != nil {
			return fmt.Errorf("release %.200q is no pullspec by digest", p.Release)
		}
	}
	known := map[string]bool{}
	add := func(component string) error {
		if !componentName.MatchString(component) || len(component) > maxName {
			return fmt.Errorf("component %.100q: no name for one", component)
		}
		if known[component] {
			return fmt.Errorf("component %s is there twice", component)
		}
		return nil
	}
	for _, g := range p.Given {
		if err := add(g.Name); err != nil {
			return err
		}
		known[g.Name] = true
		if _, err := name.NewDigest(g.Image); err != nil {
			return fmt.Errorf("component %s: image %.200q is no pullspec by digest", g.Name, g.Image)
		}
	}
	built := map[string]bool{}
	for _, batch := range p.Batches {
		for i := range batch {
			s := &batch[i]
			if err := add(s.Name); err != nil {
				return err
			}
			if err := s.check(built); err != nil {
				return fmt.Errorf("component %s: %w", s.Name, err)
			}
		}
		for i := range batch {
			if s := &batch[i]; known[s.Name] {
				return fmt.Errorf("component %s is there twice", s.Name)
			}
			known[batch[i].Name], built[batch[i].Name] = true, true
		}
	}
	return nil
}

func (s *Step) check(built map[string]bool) error {
	c := Component{
		Name: s.Name, Repository: s.Source.Repository, Commit: s.Source.Commit, Context: s.Context, Containerfile: s.Containerfile,
		Target: s.Target, From: s.From, Args: s.Args, Labels: s.Labels,
	}
	if err := errors.Join(c.faults()...); err != nil {
		return err
	}
	if err := checkRef(s.Source.Ref); err != nil {
		return err
	}
	if s.Source.Repository != "" && s.Source.Commit == "" && s.Tree == "" {
		return errors.New("source: neither commit nor tree")
	}
	for _, u := range s.Uses {
		if (u.Component == "") == (u.Reference == "") {
			return fmt.Errorf("image %.200s: want a component or a reference", u.Image)
		}
		if u.Component != "" && !built[u.Component] {
			return fmt.Errorf("uses %.100s, which is not built before it", u.Component)
		}
		if u.Reference != "" {
			if _, err := name.NewDigest(u.Reference); err != nil {
				return fmt.Errorf("image %.200s: %.200q is no pullspec by digest", u.Image, u.Reference)
			}
		}
	}
	return nil
}

func (p *Plan) platform() (v1.Platform, error) {
	parsed, err := v1.ParsePlatform(p.Platform)
	if err != nil {
		return v1.Platform{}, fmt.Errorf("platform %.100q: %w", p.Platform, err)
	}
	if parsed.OS == "" || parsed.Architecture == "" {
		return v1.Platform{}, fmt.Errorf("platform %.100q is not OS/ARCHITECTURE", p.Platform)
	}
	return *parsed, nil
}
