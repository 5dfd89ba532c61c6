package daily

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/linkcheck"
	"github.com/okd-project/okd-streams/stream"
)

// ErrRejected: a blocking gate of the definition failed. The release is in
// the registry and the catalogue, and is not announced.
var ErrRejected = errors.New("release rejected")

// publish carries out the plan of publication.
func (b *build) publish(ctx context.Context) error {
	plan, env, err := b.plan(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", StepPublish, err)
	}
	digest, err := plan.Digest()
	if err != nil {
		return err
	}
	input := []any{digest}
	return b.step(ctx, StepPublish, input, &b.result, b.published, func(ctx context.Context, record *Record) error {
		if err := writeJSON(filepath.Join(b.dir, "plan.json"), plan); err != nil {
			return err
		}
		gates := b.gates(plan, env.Transforms)
		env.Gate = gates.ask
		counts := &counter{env: b.env, bytes: map[string]int64{}, totals: map[string]int64{}}
		err := publish.Apply(ctx, plan, env, &publish.ApplyOptions{
			Journal:  publish.FileJournal(filepath.Join(b.dir, "journal.jsonl")),
			Progress: counts.event,
		})
		if errors.Is(err, publish.ErrGate) {
			return gates.rejected(ctx, err)
		}
		if err != nil {
			return err
		}
		b.result = PublishOutputs{Plan: digest}
		for _, step := range plan.Steps {
			switch {
			case step.Object != nil, step.Document != nil:
				b.result.Objects++
			case step.Image != nil:
				b.result.Images++
			case step.Tag != nil:
				b.result.Tags = append(b.result.Tags, step.Tag.Reference)
			case step.Gate != nil:
				b.result.Gates = append(b.result.Gates, step.Gate.Name)
			}
		}
		if b.result.Verdict, err = gates.verdict(ctx); err != nil {
			return err
		}
		record.Reuse = map[string]Reuse{"steps": {Items: counts.reused, OfItems: int64(len(plan.Steps))}}
		// Before the record, so that a build that has one was the last once.
		return writeJSON(filepath.Join(b.env.State, lastFile), last{Build: b.in.Build, Digest: b.in.Digest})
	})
}

// counter sums what moves.
type counter struct {
	env *Env

	mu            sync.Mutex
	reused        int64
	bytes, totals map[string]int64
}

func (c *counter) event(e publish.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Phase {
	case publish.PhaseReused:
		c.reused++
	case publish.PhaseMoving:
		key := e.Step.String()
		c.bytes[key], c.totals[key] = e.Done, e.Total
		var done, total int64
		for key, n := range c.bytes {
			done += n
			total += c.totals[key]
		}
		c.env.event(Event{Step: StepPublish, Phase: string(e.Step.Stage), Done: done, Total: total, Bytes: true})
	}
}

// plan says what is to be published, and gives the bytes.
func (b *build) plan(ctx context.Context) (*publish.Plan, *publish.Env, error) {
	p := &publish.Plan{Version: publish.PlanVersion, Name: b.in.Stream + " " + b.in.Version}
	sources := map[string]publish.Source{}
	bucket, err := b.bucket()
	if err != nil {
		return nil, nil, err
	}
	artifacts, err := b.artifacts(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range artifacts {
		o, err := bucket.Object(b.file(bootimage.FileArtifact, a.file))
		if err != nil {
			return nil, nil, err
		}
		sources[a.measured.SHA256] = a.source
		p.Steps = append(p.Steps, publish.Step{Stage: publish.Stage(o.Stage), Object: &publish.ObjectStep{
			Key: o.Key, SHA256: a.measured.SHA256, Size: a.measured.Size,
			ContentType: o.ContentType, CacheControl: o.CacheControl, Immutable: o.Immutable,
		}})
	}
	if err := b.planImages(ctx, p); err != nil {
		return nil, nil, err
	}
	transforms, err := b.planDocuments(ctx, p, bucket)
	if err != nil {
		return nil, nil, err
	}
	p.Steps = append(p.Steps, publish.Step{Stage: publish.StageGates, Gate: &publish.GateStep{Name: gateLinks}})
	for _, g := range b.def.Gates {
		if g.Blocking() && g.Name != gateLinks {
			p.Steps = append(p.Steps, publish.Step{Stage: publish.StageGates, Gate: &publish.GateStep{Name: g.Name}})
		}
	}
	if err := b.planTags(p); err != nil {
		return nil, nil, err
	}
	return p, &publish.Env{
		Store:    b.env.Store,
		Registry: b.env.Registry,
		Object: func(_ context.Context, sha256 string) (publish.Source, error) {
			if source := sources[sha256]; source != nil {
				return source, nil
			}
			return nil, fmt.Errorf("object %s: %w", sha256, fs.ErrNotExist)
		},
		Image: func(ctx context.Context, digest v1.Hash) (v1.Image, error) {
			if b.images[digest.String()] == nil {
				if _, err := b.assembled(ctx); err != nil {
					return nil, err
				}
			}
			if img := b.images[digest.String()]; img != nil {
				return img, nil
			}
			return nil, fmt.Errorf("image %s: %w", digest, fs.ErrNotExist)
		},
		Transforms: transforms,
	}, nil
}

// planImages writes what this build made; images that were given are where
// they are.
func (b *build) planImages(ctx context.Context, p *publish.Plan) error {
	release, err := b.assembled(ctx)
	if err != nil {
		return err
	}
	if err := sameDigest("release image", release.Image, b.release.Digest); err != nil {
		return err
	}
	// What the release image has of the image that it was made from.
	var from []string
	if tag := release.References.Tag(operatorComponent); tag != nil {
		from = []string{tag.Pullspec, b.in.Pinned.FromRelease}
	}
	seen := map[string]bool{}
	add := func(out *ImageOutputs) error {
		img := b.images[out.Digest]
		if img == nil || seen[out.Reference] {
			return nil
		}
		seen[out.Reference] = true
		size, err := img.Size()
		if err != nil {
			return err
		}
		repo, _, _ := strings.Cut(out.Reference, "@")
		step := &publish.ImageStep{Repository: repo, Digest: out.Digest, Size: size, MediaType: types.MediaType(out.MediaType)}
		if out.Digest == b.release.Digest {
			step.From = mountable(repo, from)
		}
		p.Steps = append(p.Steps, publish.Step{Stage: publish.StageContent, Image: step})
		return nil
	}
	for _, out := range []*ImageOutputs{b.nodes.Extensions, &b.base, &b.nodes.Node, &b.release.ImageOutputs} {
		if out != nil {
			if err := add(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountable are the repositories of images in the registry of repo, from which
// blobs may be mounted.
func mountable(repo string, pullspecs []string) (from []string) {
	to, err := name.NewRepository(repo)
	if err != nil {
		return nil
	}
	for _, pullspec := range pullspecs {
		ref, err := name.NewDigest(pullspec)
		if err != nil || ref.Context().Registry != to.Registry || ref.Context() == to || slices.Contains(from, ref.Context().Name()) {
			continue
		}
		from = append(from, ref.Context().Name())
	}
	return from
}

// planDocuments changes the catalogue and announces the build.
func (b *build) planDocuments(ctx context.Context, p *publish.Plan, bucket bootimage.Bucket) (map[string]publish.Transform, error) {
	meta, err := b.meta(ctx)
	if err != nil {
		return nil, err
	}
	base, err := bucket.BuildsURL()
	if err != nil {
		return nil, err
	}
	type releaseArgument struct {
		Meta    bootimage.Meta
		Options bootimage.ReleaseOptions
	}
	type streamArgument struct {
		releaseArgument
		LastModified time.Time
	}
	type indexArgument struct {
		releaseArgument
		Index bootimage.IndexOptions
	}
	release := releaseArgument{meta, bootimage.ReleaseOptions{
		Stream: b.in.Stream, BaseURL: base, LastModified: b.in.Time,
	}}
	address, err := bucket.URL(b.file(bootimage.FileRelease, ""))
	if err != nil {
		return nil, err
	}
	documents := []struct {
		file      bootimage.BucketFile
		transform string
		argument  any
	}{
		{b.file(bootimage.FileMeta, ""), "meta", meta},
		{b.file(bootimage.FileRelease, ""), "release", release},
		{bootimage.BucketFile{Kind: bootimage.FileBuilds}, "builds", bootimage.Build{ID: b.id, Arch: string(b.in.Arch), Time: b.in.Time}},
		{bootimage.BucketFile{Kind: bootimage.FileIndex}, "index", indexArgument{release, bootimage.IndexOptions{URL: address, LastModified: b.in.Time}}},
		{bootimage.BucketFile{Kind: bootimage.FileStream}, "stream", streamArgument{release, b.in.Time}},
	}
	for _, d := range documents {
		argument, err := json.Marshal(d.argument)
		if err != nil {
			return nil, err
		}
		o, err := bucket.Object(d.file)
		if err != nil {
			return nil, err
		}
		p.Steps = append(p.Steps, publish.Step{Stage: publish.Stage(o.Stage), Document: &publish.DocumentStep{
			Key: o.Key, Transform: d.transform, Argument: argument, ContentType: o.ContentType, CacheControl: o.CacheControl,
		}})
	}
	return map[string]publish.Transform{
		"meta":   transform(func(m bootimage.Meta) (func([]byte) ([]byte, error), error) { return bootimage.PutMeta(m), nil }),
		"builds": transform(func(b bootimage.Build) (func([]byte) ([]byte, error), error) { return bootimage.AddBuild(b), nil }),
		"release": transform(func(a releaseArgument) (func([]byte) ([]byte, error), error) {
			return bootimage.UpdateRelease([]bootimage.Meta{a.Meta}, &a.Options), nil
		}),
		"index": transform(func(a indexArgument) (func([]byte) ([]byte, error), error) {
			document, err := bootimage.ReleaseFor([]bootimage.Meta{a.Meta}, &a.Options)
			if err != nil {
				return nil, err
			}
			return bootimage.UpdateIndex(document.Value(), &a.Index), nil
		}),
		"stream": transform(func(a streamArgument) (func([]byte) ([]byte, error), error) {
			document, err := bootimage.ReleaseFor([]bootimage.Meta{a.Meta}, &a.Options)
			if err != nil {
				return nil, err
			}
			return bootimage.UpdateStream(document.Value(), &bootimage.StreamOptions{LastModified: a.LastModified, Generator: "okd-streams"}), nil
		}),
	}, nil
}

// transform makes a publish.Transform of one with a typed argument.
func transform[T any](make func(T) (func([]byte) ([]byte, error), error)) publish.Transform {
	return func(argument json.RawMessage) (func([]byte) ([]byte, error), error) {
		var a T
		if err := json.Unmarshal(argument, &a); err != nil {
			return nil, err
		}
		return make(a)
	}
}

// planTags points tags at the images: the extensions image before the node
// image, whose appearance is the signal for others, and the release last.
func (b *build) planTags(p *publish.Plan) error {
	profile, err := b.profile()
	if err != nil {
		return err
	}
	minor, err := stream.ParseMinor(b.in.Version)
	if err != nil {
		return err
	}
	vars := stream.Vars{Version: b.in.Version, Minor: minor.String(), Arch: string(b.in.Arch), Stream: b.in.Stream, Build: b.id}
	add := func(child string, out *ImageOutputs, tags []stream.Template) error {
		repo, err := b.repository(child)
		if err != nil {
			return err
		}
		if out == nil || !strings.HasPrefix(out.Reference, repo.Name()+"@") {
			return nil // given from elsewhere
		}
		for _, template := range tags {
			text, err := template.Expand(vars)
			if err != nil {
				return err
			}
			p.Steps = append(p.Steps, publish.Step{Stage: publish.StagePointers, Tag: &publish.TagStep{
				Reference: repo.Tag(text).Name(), Digest: out.Digest,
			}})
		}
		return nil
	}
	if err := add(profile.ExtensionsImage, b.nodes.Extensions, b.def.Registry.Extensions.Tags); err != nil {
		return err
	}
	if b.base.Digest != b.nodes.Node.Digest {
		if err := add(profile.NodeImage, &b.base, []stream.Template{"${BUILD}-${ARCH}-base"}); err != nil {
			return err
		}
	}
	if err := add(profile.NodeImage, &b.nodes.Node, b.def.Registry.Node.Tags); err != nil {
		return err
	}
	return add(b.def.Registry.Release.Name, &b.release.ImageOutputs, b.def.Registry.Release.Tags)
}

// links looks up in the store what the documents name that are about to be
// announced, and the record of this build: files of ours, by their address. What
// is elsewhere, in a stream that somebody else merged, is not ours to check.
// An error says that it could not be found out.
func (b *build) links(ctx context.Context, p *publish.Plan, transforms map[string]publish.Transform) (*linkcheck.Report, error) {
	bucket, err := b.bucket()
	if err != nil {
		return nil, err
	}
	var docs []linkcheck.Document
	for i := range p.Steps {
		s := p.Steps[i].Document
		if s == nil {
			continue
		}
		file, err := bucket.Parse(s.Key)
		if err != nil {
			return nil, err
		}
		if file.Kind == bootimage.FileBuilds {
			continue // names every build there is; none is announced by it
		}
		data, _, err := publish.ReadDocument(ctx, b.env.Store, s.Key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// As it will be; what is written already stays as it is.
		change, err := transforms[s.Transform](s.Argument)
		if err != nil {
			return nil, err
		}
		if data, err = change(data); err != nil {
			return nil, err
		}
		address, err := bucket.URL(file)
		if err != nil {
			return nil, err
		}
		docs = append(docs, linkcheck.Document{Name: s.Key, URL: address, Data: data})
	}
	report, err := linkcheck.Check(ctx, docs, &linkcheck.Options{
		Mounts: []linkcheck.Mount{{URL: b.publicURL(), Store: b.env.Store}}, Offline: true,
	})
	if err != nil {
		return nil, err
	}
	if report.Counts[linkcheck.Failed] > 0 { // the store did not answer: no result
		return nil, report.Err()
	}
	return report, nil
}

// published reports whether the last pointers stand: the release's tags, and
// the build in the catalogue.
func (b *build) published(ctx context.Context) (bool, error) {
	var record Record
	ok, err := readJSON(filepath.Join(b.dir, finishFile), &record)
	if err != nil || !ok {
		return false, err
	}
	var out PublishOutputs
	if err := json.Unmarshal(record.Outputs, &out); err != nil {
		return false, err
	}
	for _, text := range out.Tags {
		tag, err := name.NewTag(text)
		if err != nil {
			return false, err
		}
		if _, err := b.env.Registry.Head(ctx, tag); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	catalogue, err := b.catalogue(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(catalogue.Builds, func(e bootimage.BuildEntry) bool { return e.ID == b.id }), nil
}
