package retention

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/publish"
)

// Kind is what goes.
type Kind string

// The kinds, as fields of [Policy] have them.
const (
	CloudUploads Kind = "cloud-uploads"
	Images       Kind = "images"
	Containers   Kind = "containers"
	Build        Kind = "build"
)

// Pin keeps something of a build whatever the policy says.
type Pin struct {
	Build  string `json:"build"`           // its id
	Reason string `json:"reason"`          // "release 4.21.0-okd-scos.4", "barrier", …
	Kinds  []Kind `json:"kinds,omitempty"` // that stay; empty: all
}

// keeps says that it keeps this kind.
func (p Pin) keeps(id string, kind Kind) bool {
	return p.Build == id && (len(p.Kinds) == 0 || slices.Contains(p.Kinds, kind))
}

// Options are options of [New]; nil and the zero value are useful.
type Options struct {
	Pins []Pin
	// Registry is looked at for what goes with container images: manifests of
	// indexes, referrers and signatures. A build stays with an image that
	// something else refers to: one of Keep, or a tag that is not the build's id
	// nor begins with it and a dash. nil: images are named and not looked at.
	Registry Registry
	// Keep are images that stay: those of releases, of the graph, of promotions
	// that are under way.
	Keep []Root
}

// Plan is what goes, oldest build first.
type Plan struct {
	// Prefix is that of the builds in the store, "" or ending in "/"; builds.json
	// is there.
	Prefix string    `json:"prefix"`
	Made   time.Time `json:"made"`
	Steps  []Step    `json:"steps"`
	// Kept are builds of which something would go but for a pin.
	Kept []Pin `json:"kept,omitempty"`
	// Unknown are folders beside the builds that the catalogue does not know.
	Unknown []string `json:"unknown,omitempty"`
}

// Step is what goes of a build.
type Step struct {
	Build  string `json:"build"`
	Kind   Kind   `json:"kind"`
	Reason string `json:"reason"`
	// Keep are the artifacts that stay when images go.
	Keep []string `json:"keep,omitempty"`
	// Keys are the objects of the store that go, and Bytes their size.
	Keys  []string `json:"keys,omitempty"`
	Bytes int64    `json:"bytes,omitempty"`
	// Images are the container images that go, by name.
	Images []string `json:"images,omitempty"`
	// Manifests are what goes of a registry for that, in this order.
	Manifests []Manifest `json:"manifests,omitempty"`

	again bool // it was done before, and is of use only if something was left
}

// catalogue is what a store knows of its builds.
type catalogue struct {
	*bootimage.Builds
	metas map[string]map[string]*bootimage.Meta // build, architecture
}

func (p *Plan) catalogue(ctx context.Context, store publish.Store) (*catalogue, error) {
	data, _, err := publish.ReadDocument(ctx, store, p.Prefix+bootimage.BuildsFile)
	if err != nil {
		return nil, err
	}
	d, err := bootimage.DecodeBuilds(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("publish/retention: %s: %w", p.Prefix+bootimage.BuildsFile, err)
	}
	c := &catalogue{d.Value(), map[string]map[string]*bootimage.Meta{}}
	for _, e := range c.Builds.Builds {
		if c.metas[e.ID], err = p.metas(ctx, store, e); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Bytes is what the plan frees in the store.
func (p *Plan) Bytes() (n int64) {
	for _, s := range p.Steps {
		n += s.Bytes
	}
	return n
}

// New plans what goes of the builds below a prefix of a store as of now. The age
// of a build is that of the newest of its architectures.
func New(ctx context.Context, store publish.Store, prefix string, policy Policy, now time.Time, opts *Options) (*Plan, error) {
	if opts == nil {
		opts = &Options{}
	}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		return nil, fmt.Errorf("publish/retention: prefix %q does not end in /: %w", prefix, fs.ErrInvalid)
	}
	p := &Plan{Prefix: prefix, Made: now.UTC(), Steps: []Step{}}
	c, err := p.catalogue(ctx, store)
	if err != nil {
		return nil, err
	}
	objects, err := list(ctx, store, prefix)
	if err != nil {
		return nil, err
	}
	for _, e := range c.Tombstones {
		if len(objects[e.ID]) > 0 {
			if c.metas[e.ID], err = p.metas(ctx, store, e); err != nil {
				return nil, err
			}
		}
	}
	pins := slices.Concat(opts.Pins, own(c.Builds))
	var k *keeper
	if opts.Registry != nil {
		var more []Pin
		if k, more, err = c.referenced(ctx, opts.Registry, opts.Keep); err != nil {
			return nil, fmt.Errorf("publish/retention: %w", err)
		}
		pins = append(pins, more...)
	}
	for _, e := range slices.Backward(c.Builds.Builds) {
		if err := p.build(e, c.metas[e.ID], objects[e.ID], policy, pins, now, k != nil); err != nil {
			return nil, err
		}
		delete(objects, e.ID)
	}
	for _, e := range c.Tombstones {
		if left := objects[e.ID]; len(left) > 0 {
			s := step(e.ID, Build, "left of a build that was deleted", left, func(string) bool { return true })
			s.Images = containers(c.metas[e.ID])
			p.add(s, pins, k != nil)
		}
		delete(objects, e.ID)
	}
	if k != nil {
		err := k.builds(ctx, c, p.Steps)
		if err == nil {
			err = p.manifests(ctx, k)
		}
		if err != nil {
			return nil, fmt.Errorf("publish/retention: %w", err)
		}
	}
	p.Unknown = slices.Sorted(maps.Keys(objects))
	return p, nil
}

// own are the pins that a catalogue has itself.
func own(c *bootimage.Builds) []Pin {
	var pins []Pin
	for _, t := range c.Tags {
		pins = append(pins, Pin{Build: t.Target, Reason: "tag " + t.Name})
	}
	seen := map[string]bool{}
	for _, e := range c.Builds {
		for _, arch := range e.Arches {
			if !seen[arch] {
				seen[arch] = true
				pins = append(pins, Pin{Build: e.ID, Reason: "newest of " + arch})
			}
		}
	}
	return pins
}

// add takes a step of a build that was deleted already, unless an image that is
// found by what is left of it stays.
func (p *Plan) add(s Step, pins []Pin, looked bool) {
	for _, pin := range pins {
		if looked && pin.keeps(s.Build, Containers) {
			p.Kept = append(p.Kept, Pin{Build: s.Build, Reason: pin.Reason, Kinds: []Kind{s.Kind}})
			return
		}
	}
	p.Steps = append(p.Steps, s)
}

// list gives the objects of the store by build.
func list(ctx context.Context, store publish.Store, prefix string) (map[string][]publish.Info, error) {
	out := map[string][]publish.Info{}
	for info, err := range store.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if id, _, ok := strings.Cut(strings.TrimPrefix(info.Key, prefix), "/"); ok {
			out[id] = append(out[id], info)
		}
	}
	return out, nil
}

// step takes the objects that go.
func step(id string, kind Kind, reason string, objects []publish.Info, goes func(key string) bool) Step {
	s := Step{Build: id, Kind: kind, Reason: reason}
	for _, o := range objects {
		if goes(o.Key) {
			s.Keys = append(s.Keys, o.Key)
			s.Bytes += o.Size
		}
	}
	// What says which images there are goes last, for a plan that finds the rest.
	slices.SortFunc(s.Keys, func(a, b string) int {
		if x, y := path.Base(a) == bootimage.MetaFile, path.Base(b) == bootimage.MetaFile; x != y {
			if x {
				return 1
			}
			return -1
		}
		return strings.Compare(a, b)
	})
	return s
}

// metas are the records of a build by architecture.
func (p *Plan) metas(ctx context.Context, store publish.Store, e bootimage.BuildEntry) (map[string]*bootimage.Meta, error) {
	metas := map[string]*bootimage.Meta{}
	for _, arch := range e.Arches {
		m, err := meta(ctx, store, p.Prefix+e.ID+"/"+arch+"/"+bootimage.MetaFile)
		if err != nil {
			return nil, err
		}
		metas[arch] = m
	}
	return metas, nil
}

// build plans one build.
func (p *Plan) build(e bootimage.BuildEntry, metas map[string]*bootimage.Meta, objects []publish.Info, policy Policy, pins []Pin, now time.Time, looked bool) error {
	least := time.Duration(1 << 62)
	for _, d := range []time.Duration{policy.CloudUploads, policy.Images, policy.Containers, policy.Build} {
		if d > 0 {
			least = min(least, d)
		}
	}
	var made time.Time
	for _, m := range metas {
		at := m.BuildTimestamp
		if at.IsZero() {
			at = m.OSTreeTimestamp
		}
		if at.After(made) {
			made = at
		}
	}
	old := now.Sub(made)
	if made.IsZero() || old < least {
		return nil
	}
	was := bootimage.Cleanup{}
	if e.PolicyCleanup != nil {
		if err := json.Unmarshal(e.PolicyCleanup, &was); err != nil {
			return fmt.Errorf("publish/retention: build %s: policy-cleanup: %w", e.ID, err)
		}
	}
	due := func(kind Kind, after time.Duration) bool {
		if after == 0 || old < after {
			return false
		}
		for _, pin := range pins {
			if pin.keeps(e.ID, kind) {
				p.Kept = append(p.Kept, Pin{Build: e.ID, Reason: pin.Reason, Kinds: []Kind{kind}})
				return false
			}
		}
		return true
	}
	reason := fmt.Sprintf("%d days old", int(old.Hours()/24))
	if due(Build, policy.Build) {
		s := step(e.ID, Build, reason, objects, func(string) bool { return true })
		s.Images = containers(metas)
		p.Steps = append(p.Steps, s)
		return nil
	}
	if due(CloudUploads, policy.CloudUploads) && !was.CloudUploads && uploads(metas) {
		p.Steps = append(p.Steps, Step{Build: e.ID, Kind: CloudUploads, Reason: reason})
	}
	if due(Images, policy.Images) {
		disks := map[string]bool{}
		for arch, m := range metas {
			for name, image := range m.Images {
				if !slices.Contains(policy.ImagesKeep, name) {
					disks[p.Prefix+path.Join(e.ID, arch, image.Path)] = true
				}
			}
		}
		s := step(e.ID, Images, reason, objects, func(key string) bool { return disks[key] || disks[strings.TrimSuffix(key, ".sig")] })
		if s.Keep = policy.ImagesKeep; len(s.Keys) > 0 || !was.Images {
			p.Steps = append(p.Steps, s)
		}
	}
	if images := containers(metas); due(Containers, policy.Containers) && (!was.Containers || looked) && len(images) > 0 {
		p.Steps = append(p.Steps, Step{Build: e.ID, Kind: Containers, Reason: reason, Images: images, again: was.Containers})
	}
	return nil
}

func meta(ctx context.Context, store publish.Store, key string) (*bootimage.Meta, error) {
	data, _, err := publish.ReadDocument(ctx, store, key)
	if errors.Is(err, fs.ErrNotExist) {
		return &bootimage.Meta{}, nil // of a build that nobody finished
	}
	if err != nil {
		return nil, err
	}
	d, err := bootimage.DecodeMeta(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("publish/retention: %s: %w", key, err)
	}
	return d.Value(), nil
}

// containers are the names of the images that a build pushed, by digest: of each
// architecture and of the list of them, wherever they were pushed to.
func containers(metas map[string]*bootimage.Meta) []string {
	var out []string
	add := func(c bootimage.ContainerImage) {
		for _, digest := range []string{c.Digest, c.ManifestListDigest} {
			if c.Image != "" && digest != "" {
				out = append(out, c.Image+"@"+digest)
			}
		}
	}
	for _, m := range metas {
		for _, c := range []*bootimage.ContainerImage{m.BaseImage, m.OSContainer, m.Extensions, m.KubeVirt} {
			if c == nil {
				continue
			}
			add(*c)
			for _, more := range c.AdditionalImages {
				add(more)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// uploads says that a build was uploaded to a cloud.
func uploads(metas map[string]*bootimage.Meta) bool {
	for _, m := range metas {
		if len(m.AMIs) > 0 || len(m.AWSWinLI) > 0 || len(m.Aliyun) > 0 || m.GCP != nil || m.Azure != nil || len(m.IBMCloud) > 0 || len(m.PowerVS) > 0 {
			return true
		}
	}
	return false
}

// DecodePlan reads a plan that was written as JSON. Keys that are not of the
// step's build are an error: a plan deletes nothing else.
func DecodePlan(r io.Reader) (*Plan, error) {
	p := &Plan{}
	dec := json.NewDecoder(io.LimitReader(r, publish.MaxDocumentSize))
	dec.DisallowUnknownFields()
	err := dec.Decode(p)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = errors.New("data after the plan")
		}
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return nil, fmt.Errorf("publish/retention: plan: %w", err)
	}
	return p, nil
}

func (p *Plan) check() error {
	if p.Prefix != "" && !strings.HasSuffix(p.Prefix, "/") {
		return fmt.Errorf("prefix %q does not end in /", p.Prefix)
	}
	for _, s := range p.Steps {
		if s.Build == "" || strings.Contains(s.Build, "/") {
			return fmt.Errorf("build %q", s.Build)
		}
		if !slices.Contains([]Kind{CloudUploads, Images, Containers, Build}, s.Kind) {
			return fmt.Errorf("build %s: kind %q", s.Build, s.Kind)
		}
		for _, k := range s.Keys {
			if err := publish.CheckKey(k); err != nil {
				return err
			}
			if !strings.HasPrefix(k, p.Prefix+s.Build+"/") {
				return fmt.Errorf("%s is not of build %s", k, s.Build)
			}
		}
		if err := s.checkManifests(); err != nil {
			return fmt.Errorf("build %s: %w", s.Build, err)
		}
	}
	return nil
}
