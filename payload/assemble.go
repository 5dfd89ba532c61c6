package payload

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/blang/semver/v4"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ReferenceMode says which pullspecs go from an image stream into a payload.
type ReferenceMode string

const (
	// ReferenceSource keeps the pullspecs of the stream's tags and uses
	// PublicRepository for those that a cluster's own registry holds.
	ReferenceSource ReferenceMode = ""
	// ReferencePublic rewrites all to the stream's PublicRepository, which must
	// be there; it is what oc does unless told otherwise.
	ReferencePublic ReferenceMode = "public"
)

// Spec says what a release is made of: exactly one of FromRelease, Stream,
// Folder and Components, or Overrides alone.
type Spec struct {
	// Version is the release's name, a semantic version. Default: the base
	// release's; required without one.
	Version string
	// Created is the time in the configuration and in image-references, kept
	// in whole seconds. Required, but for a base release that nothing is
	// changed in, whose time it keeps.
	Created time.Time

	// FromRelease is a base release: its images, metadata, versions and
	// previous and next versions are kept unless something here replaces them.
	// All of its tags stay, but for those in Exclude.
	FromRelease name.Reference
	// Stream is an image stream, whose tags are resolved by ReferenceMode.
	Stream        *ImageStream
	ReferenceMode ReferenceMode
	// Folder has a folder of manifests for each operator, called as its
	// component, and may have image-references, an image stream that names the
	// images; `oc adm release new --dir` writes such a folder. The manifests
	// count and not those in the images, of which only the base and Overrides
	// are read. A folder without an image brings its manifests alone.
	Folder fs.FS
	// Components are images by name. They are all kept; in compatible mode,
	// as in the other cases, only those that an operator refers to.
	Components map[string]name.Reference
	// Overrides replace images of the above or add to them; a base release
	// with another component is one with an override. Their manifests
	// are looked for in all layers, in others' only in the last. Their tags
	// get the annotation io.openshift.release.override.
	Overrides map[string]name.Reference

	// Exclude are tags to leave out, Include tags to keep though no operator
	// refers to them. Exclude wins.
	Exclude, Include []string
	// BaseTag is the component that the release image is made from. Default
	// cluster-version-operator or, with FromRelease, the component that it was
	// made from. Base is an image to use instead.
	BaseTag string
	Base    name.Reference

	// Mirror, if given, is the repository in which the payload names all its
	// images, by the digests that they have; they are still read where they are.
	// [Built.Copies] brings them there.
	Mirror name.Repository

	// Previous and Next are the versions that lead here and go on from here.
	// Nil: those of the base release. Without repeats, in order.
	Previous, Next []string
	// Metadata is free; nil: that of the base release.
	Metadata map[string]any
	// Versions are used where no image states one, by component.
	Versions map[string]ComponentVersion
}

// AssembleOptions say how [Assemble] works. Nil is the default.
type AssembleOptions struct {
	// Compatible makes what `oc adm release new` makes: the same bytes, and the
	// same silence about what it drops and duplicates.
	Compatible bool
	// Allow, if not nil, is asked about each finding of a strict check, in
	// order; those that it allows become warnings.
	Allow func(Finding) bool
	// AllowMissingImages leaves placeholders of images that the payload does
	// not have. Default: an error.
	AllowMissingImages bool
	// RequireOS makes a payload without a node image an error, and
	// RequireExtensions a node image without its extensions.
	RequireOS, RequireExtensions bool
	// AllowedComponents may have versions in labels beside kubernetes,
	// machine-os, kernel, crio, kubectl and kubernetes-tests.
	AllowedComponents []string
	// Platform to choose from indexes. Default linux/amd64.
	Platform v1.Platform
	// ManifestList makes an index with a release image for each platform that
	// the base image is there for; manifests are still taken from the images
	// for Platform. A base that is one image is an error, and in compatible mode
	// makes one image.
	ManifestList bool
	// Workers is how many manifests and configurations are read at one time, and
	// four times as many as layers. Default 32, limit 64.
	Workers int
	// Logger, if not nil, gets warnings and steps.
	Logger *slog.Logger
}

// Built is an assembled release.
type Built struct {
	// Image is the release image. It is nowhere yet; what it has of its base
	// is read from the base when it is written, under Assemble's ctx.
	Image  v1.Image
	Digest v1.Hash
	// Index has a release image for each platform, Image among them; nil unless
	// AssembleOptions.ManifestList asked for it.
	Index      v1.ImageIndex
	ListDigest v1.Hash
	// DiffID is of the layer with the payload, the identity of its content.
	DiffID     v1.Hash
	References *ImageStream
	Metadata   *Metadata
	Manifests  int // files beside image-references and release-metadata
	OS         []OSImage
	// Pruned are tags that were left out because no operator refers to them.
	Pruned []string
	// Copies are of the images that are to be in Spec.Mirror before the release
	// image is anywhere, tagged as [Mirror] tags them. They convert to
	// publish.Copy, for publish.Transfer.
	Copies []Copy
	// Reused: the layer is the base release's own, compressed bytes included.
	Reused   bool
	Warnings []string
}

// Assemble makes a release image. It reads the manifest and configuration of
// every image and the layers with manifests of operators, and writes nothing.
//
// The same spec gives the same bytes. Missing images are all named in one
// error that wraps [io/fs.ErrNotExist]; what the strict checks find is one
// error of type [Findings].
func Assemble(ctx context.Context, src Images, spec *Spec, opts *AssembleOptions) (*Built, error) {
	if opts == nil {
		opts = &AssembleOptions{}
	}
	if spec == nil {
		spec = &Spec{}
	}
	a := &assembly{src: src, spec: spec, opts: opts, platform: opts.Platform, workers: opts.Workers, check: newChecker()}
	if a.platform.Equals(v1.Platform{}) {
		a.platform = defaultPlatform
	}
	if a.workers <= 0 {
		a.workers = defaultWorkers
	}
	a.workers = min(a.workers, 64)
	a.layers = make(chan struct{}, max(a.workers/4, 1))
	a.ahead = map[string]readAhead{}
	built, err := a.run(ctx)
	if err != nil {
		if _, ok := errors.AsType[*Error](err); ok {
			return nil, err
		}
		target := spec.Version
		if target == "" {
			target = refText(spec.FromRelease)
		}
		return nil, &Error{Op: "assemble", Target: target, Err: err}
	}
	return built, nil
}

// component is one image of the payload while it is assembled.
type component struct {
	tag      string
	image    *fetched
	operator bool
	files    []file // without image-references
	local    *ImageStream
	newest   time.Time // of the files and image-references
	brings   bool      // any file at all
	folder   *folder   // of Spec.Folder, or nil: the image's own manifests count
}

type assembly struct {
	src      Images
	spec     *Spec
	opts     *AssembleOptions
	platform v1.Platform
	workers  int
	check    *checker

	base       *Release         // FromRelease, or nil
	folder     *manifestFolders // Spec.Folder, or nil
	changed    bool             // something of the base release is replaced
	stream     *ImageStream
	metadata   *Metadata
	overridden map[string]bool // replaced by an override, not added
	components map[string]*component
	os         []OSImage
	pruned     []string
	copies     []Copy

	layers chan struct{} // a slot for each layer that may be read at one time
	ahead  map[string]readAhead

	mu       sync.Mutex
	findings Findings
	warnings []string
}

func (a *assembly) run(ctx context.Context) (*Built, error) {
	if err := a.validate(); err != nil {
		return nil, err
	}
	if err := a.open(ctx); err != nil {
		return nil, err
	}
	if err := a.describe(); err != nil {
		return nil, err
	}
	if err := a.tags(); err != nil {
		return nil, err
	}
	if err := a.fetchAll(ctx); err != nil {
		return nil, err
	}
	base, err := a.chooseBase(ctx)
	if err != nil {
		return nil, errors.Join(err, a.settle()) // a finding may be the reason
	}
	if err := a.checkOS(); err != nil {
		return nil, err
	}
	if err := a.readManifests(ctx); err != nil {
		return nil, err
	}
	a.prune()
	if err := a.relocate(); err != nil {
		return nil, err
	}
	files, newest, err := a.files(ctx)
	if err != nil {
		return nil, errors.Join(err, a.settle())
	}
	return a.build(ctx, base, files, newest)
}

func (a *assembly) validate() error {
	s := a.spec
	sources := 0
	for _, set := range []bool{s.FromRelease != nil, s.Stream != nil, s.Folder != nil, s.Components != nil} {
		if set {
			sources++
		}
	}
	switch {
	case a.src == nil:
		return errors.New("no images to read from")
	case sources > 1:
		return errors.New("FromRelease, Stream, Folder and Components exclude each other; use Overrides for what is to be added or replaced")
	case sources == 0 && len(s.Overrides) == 0:
		return errors.New("nothing to make a release from: none of FromRelease, Stream, Folder, Components, Overrides")
	case s.Version == "" && s.FromRelease == nil:
		return errors.New("no version")
	case s.ReferenceMode != ReferenceSource && s.ReferenceMode != ReferencePublic:
		return fmt.Errorf("reference mode %.100q: %w", s.ReferenceMode, errors.ErrUnsupported)
	}
	if s.Version != "" {
		if _, err := semver.Parse(s.Version); err != nil {
			return fmt.Errorf("version %.100q: %w", s.Version, err)
		}
	}
	for _, m := range []map[string]name.Reference{s.Components, s.Overrides} {
		if len(m) > MaxTags {
			return fmt.Errorf("%d images, limit %d", len(m), MaxTags)
		}
		for _, tag := range slices.Sorted(maps.Keys(m)) {
			if err := checkTagName(tag); err != nil {
				return err
			}
			if m[tag] == nil {
				return &Error{Op: "assemble", Target: "component " + tag, Err: errors.New("no reference")}
			}
		}
	}
	for key, v := range s.Versions {
		label, names := FormatVersions(map[string]ComponentVersion{key: v})
		if _, err := parseVersions(label, names); err != nil {
			return err
		}
	}
	a.changed = s.Version != "" || s.Metadata != nil || s.Previous != nil || s.Next != nil || s.Base != nil || s.BaseTag != "" || s.Mirror != (name.Repository{}) ||
		len(s.Versions)+len(s.Overrides)+len(s.Exclude)+len(s.Include) > 0
	if s.Created.IsZero() && (s.FromRelease == nil || a.changed) {
		return errors.New("no creation time")
	}
	if y := s.Created.UTC().Year(); y < 1 || y > 9999 {
		return fmt.Errorf("creation time in year %d", y)
	}
	return nil
}

// open reads the base release, or the folder of manifests.
func (a *assembly) open(ctx context.Context) error {
	if a.spec.Folder != nil {
		var err error
		a.folder, err = readManifestFolders(ctx, a.spec.Folder, a.spec.Exclude)
		return err
	}
	if a.spec.FromRelease == nil {
		return nil
	}
	r, err := Open(ctx, a.src, a.spec.FromRelease, &OpenOptions{Platform: a.platform})
	if err != nil {
		return err
	}
	if r.ListDigest != (v1.Hash{}) && a.opts.Platform.Equals(v1.Platform{}) && !a.opts.ManifestList {
		return fmt.Errorf("base release %s is a manifest list: ask for one, or for a platform to take one image of it: %w", a.spec.FromRelease, errors.ErrUnsupported)
	}
	a.base = r
	return nil
}

// describe makes image-references without tags and release-metadata.
func (a *assembly) describe() error {
	s := a.spec
	a.metadata = &Metadata{Version: s.Version, Metadata: s.Metadata}
	a.stream = &ImageStream{Created: s.Created.UTC().Truncate(time.Second)}
	if a.folder != nil && a.folder.references != nil {
		a.stream = a.folder.references.clone()
		a.stream.Tags, a.stream.Created = nil, s.Created.UTC().Truncate(time.Second)
	}
	previous, next := s.Previous, s.Next
	keepPrevious, keepNext := false, false
	if a.base != nil {
		a.stream = a.base.References.clone()
		a.stream.Tags = nil
		if a.changed {
			a.stream.Created = s.Created.UTC().Truncate(time.Second)
			from := a.spec.FromRelease
			if _, ok := from.(name.Digest); !ok && !a.opts.Compatible {
				from = a.base.Pullspec()
			}
			if a.stream.Annotations == nil {
				a.stream.Annotations = map[string]string{}
			}
			a.stream.Annotations[annotationFromRelease] = from.Name()
		}
		if a.metadata.Version == "" {
			a.metadata.Version = a.base.References.Name
		}
		if s.Metadata == nil {
			a.metadata.Metadata = a.base.Metadata.Metadata
		}
		// What is not replaced keeps the order that it has.
		if s.Previous == nil {
			previous, keepPrevious = a.base.Metadata.Previous, !a.opts.Compatible
		}
		if s.Next == nil {
			next, keepNext = a.base.Metadata.Next, !a.opts.Compatible
		}
		if !a.opts.Compatible {
			a.metadata.other = a.base.Metadata.other
		}
	}
	var err error
	if a.metadata.Previous = slices.Clone(previous); !keepPrevious {
		if a.metadata.Previous, err = orderVersions(previous, a.opts.Compatible); err != nil {
			return fmt.Errorf("previous: %w", err)
		}
	}
	if a.metadata.Next = slices.Clone(next); !keepNext {
		if a.metadata.Next, err = orderVersions(next, a.opts.Compatible); err != nil {
			return fmt.Errorf("next: %w", err)
		}
	}
	if a.opts.Compatible {
		if a.metadata.Metadata, err = floatNumbers(a.metadata.Metadata); err != nil {
			return fmt.Errorf("metadata: %w", err)
		}
	}
	if err := a.metadata.check(); err != nil {
		return err
	}
	if a.metadata.Metadata[MetadataArchitecture] == "multi" && !a.opts.ManifestList {
		a.find(Finding{Check: CheckArchitecture, Detail: MetadataArchitecture + " is multi in the metadata, but one image is made, for " + a.platform.String()})
	}
	a.stream.Name = a.metadata.Version
	if len(s.Versions) > 0 && !a.opts.Compatible {
		// Kept with the payload, so that it can be made again from itself.
		if a.stream.Annotations == nil {
			a.stream.Annotations = map[string]string{}
		}
		label, names := FormatVersions(s.Versions)
		a.stream.Annotations[annotationVersions] = label
		a.stream.Annotations[annotationDisplayNames] = names
	}
	return nil
}

// tags collects the images of the payload, sorted by name.
func (a *assembly) tags() error {
	excluded := map[string]bool{}
	for _, tag := range a.spec.Exclude {
		excluded[tag] = true
	}
	switch {
	case a.base != nil:
		for _, tag := range a.base.References.clone().Tags {
			if !excluded[tag.Name] {
				a.stream.Tags = append(a.stream.Tags, tag)
			}
		}
	case a.spec.Stream != nil:
		if err := a.resolveStream(excluded); err != nil {
			return err
		}
	case a.folder != nil:
		a.stream.Tags = a.folder.tags(func(tag string) bool { return excluded[tag] && !a.opts.Compatible })
	default:
		for _, tag := range slices.Sorted(maps.Keys(a.spec.Components)) {
			if !excluded[tag] {
				a.stream.Tags = append(a.stream.Tags, Tag{Name: tag, Kind: dockerImage, Pullspec: a.spec.Components[tag].Name()})
			}
		}
	}
	a.overridden = map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(a.spec.Overrides)) {
		if excluded[name] {
			continue
		}
		tag := a.stream.Tag(name)
		if tag == nil {
			a.stream.Tags = append(a.stream.Tags, Tag{Name: name})
			tag = &a.stream.Tags[len(a.stream.Tags)-1]
		} else {
			a.overridden[name] = true
		}
		tag.Annotations = map[string]string{annotationOverride: "true"}
		tag.Kind, tag.Pullspec, tag.from = dockerImage, a.spec.Overrides[name].Name(), nil
	}
	slices.SortFunc(a.stream.Tags, func(x, y Tag) int { return strings.Compare(x.Name, y.Name) })
	switch n := len(a.stream.Tags); {
	case n == 0:
		return errors.New("no images are left to make a release from")
	case n > MaxTags:
		return fmt.Errorf("%d images, limit %d", n, MaxTags)
	}
	return nil
}

// resolveStream finds the image of each of the stream's tags: what its status
// says, or a pullspec by digest.
func (a *assembly) resolveStream(excluded map[string]bool) error {
	in := a.spec.Stream
	public := a.spec.ReferenceMode == ReferencePublic
	if public && in.PublicRepository == "" {
		return errors.New("image stream without status.publicDockerImageRepository, which reference mode public needs")
	}
	locate := func(source, digest string) string {
		if in.Repository != "" && strings.HasPrefix(source, in.Repository) {
			source = ""
		}
		if (public || source == "") && in.PublicRepository != "" {
			return in.PublicRepository + "@" + digest
		}
		return source
	}
	status := map[string]*TagStatus{}
	for i := range in.Status {
		status[in.Status[i].Tag] = &in.Status[i]
	}
	covered := map[string]bool{}
	for _, tag := range in.clone().Tags {
		if excluded[tag.Name] {
			continue
		}
		st := status[tag.Name]
		if tag.Generation != nil && st != nil && len(st.Items) > 0 {
			if *tag.Generation > st.Items[0].Generation {
				return &Error{Op: "assemble", Target: "component " + tag.Name, Err: errors.New("its tag in the image stream has not been imported yet")}
			}
			continue // what was imported counts
		}
		if tag.Kind != dockerImage {
			continue // so it does here
		}
		ref, err := name.ParseReference(tag.Pullspec)
		if err != nil {
			return &Error{Op: "assemble", Target: "component " + tag.Name, Err: err}
		}
		source := ""
		if d, ok := ref.(name.Digest); ok {
			source = locate(tag.Pullspec, d.DigestStr())
		} else if st != nil && len(st.Items) > 0 {
			if st.Items[0].Image == "" {
				return &Error{Op: "assemble", Target: "component " + tag.Name, Err: errors.New("its tag in the image stream has no image")}
			}
			source = locate(st.Items[0].DockerImageReference, st.Items[0].Image)
		}
		if source == "" {
			continue
		}
		tag.Kind, tag.Pullspec, tag.from = dockerImage, source, nil
		a.stream.Tags = append(a.stream.Tags, tag)
		covered[tag.Name] = true
	}
	for i := range in.Status {
		st := &in.Status[i]
		if excluded[st.Tag] || covered[st.Tag] {
			continue
		}
		if len(st.Items) == 0 {
			for _, c := range st.Conditions {
				if c.Type == "ImportSuccess" && c.Status != "Success" {
					return &Error{Op: "assemble", Target: "component " + st.Tag, Err: errors.New("its tag in the image stream has not been imported yet")}
				}
			}
			continue
		}
		if st.Items[0].Image == "" {
			continue
		}
		source := locate(st.Items[0].DockerImageReference, st.Items[0].Image)
		if source == "" {
			continue
		}
		ref, err := name.ParseReference(source)
		if err != nil {
			return &Error{Op: "assemble", Target: "component " + st.Tag, Err: err}
		}
		covered[st.Tag] = true
		a.stream.Tags = append(a.stream.Tags, Tag{Name: st.Tag, Kind: dockerImage, Pullspec: ref.Context().Name() + "@" + st.Items[0].Image})
	}
	for _, tag := range in.Tags {
		if !excluded[tag.Name] && !covered[tag.Name] {
			covered[tag.Name] = true
			a.skipped(tag.Name)
		}
	}
	for i := range in.Status {
		if tag := in.Status[i].Tag; !excluded[tag] && !covered[tag] {
			a.skipped(tag)
		}
	}
	return nil
}

func (a *assembly) skipped(tag string) {
	if a.spec.Overrides[tag] == nil {
		a.find(Finding{Check: CheckSkippedTag, Component: tag, Detail: "its tag in the image stream has no image with a digest"})
	}
}

// find records what a strict check found.
func (a *assembly) find(f Finding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.findings) < MaxFindings {
		a.findings = append(a.findings, f)
	}
}

// findEach is find for many offsets in one file; text says what is there.
func (a *assembly) findEach(f Finding, data []byte, offsets []int, text func(at int) string) {
	for i, at := range offsets {
		if i == MaxFindings {
			break
		}
		f.Line, f.Detail = lineAt(data, at), text(at)
		a.find(f)
	}
}

func (a *assembly) warn(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.warnings = append(a.warnings, fmt.Sprintf(format, args...))
}

// each calls fn for every component in turn, several at a time. Of the errors
// it reports all, by component; one that is not [io/fs.ErrNotExist] keeps
// further components from being started.
func (a *assembly) each(ctx context.Context, workers int, tags []string, fn func(tag string) error) error {
	errs := make([]error, len(tags))
	var stop sync.Once
	stopped := make(chan struct{})
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(workers, len(tags)) {
		wg.Go(func() {
			for i := range next {
				if err := fn(tags[i]); err != nil {
					errs[i] = &Error{Op: "assemble", Target: "component " + tags[i], Err: err}
					if !errors.Is(err, fs.ErrNotExist) {
						stop.Do(func() { close(stopped) })
					}
				}
			}
		})
	}
feed:
	for i := range tags {
		select {
		case next <- i:
		case <-stopped:
			break feed
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// fetchAll reads the manifest and configuration of every component. The
// contexts of these reads must outlive this call: the base's layers are read
// through one of them later.
func (a *assembly) fetchAll(ctx context.Context) error {
	// Tags that name the same image read it once.
	first := map[string]string{}
	var unique []string
	for i := range a.stream.Tags {
		t := &a.stream.Tags[i]
		if t.Kind != dockerImage {
			a.find(Finding{Check: CheckUnpinned, Component: t.Name, Detail: fmt.Sprintf("its tag is of kind %.100q, not %s", t.Kind, dockerImage)})
			continue
		}
		if !a.reads(t.Name) {
			continue
		}
		if _, ok := first[t.Pullspec]; !ok {
			first[t.Pullspec] = t.Name
			unique = append(unique, t.Name)
		}
	}
	images := map[string]*fetched{}
	var mu sync.Mutex
	err := a.each(ctx, a.workers, unique, func(tag string) error {
		t := a.stream.Tag(tag)
		ref, err := name.ParseReference(t.Pullspec)
		if err != nil {
			return err
		}
		if _, ok := ref.(name.Digest); !ok {
			a.find(Finding{Check: CheckUnpinned, Component: tag, Detail: t.Pullspec + " has no digest"})
			if !a.opts.Compatible {
				return nil // it is not read: it may be another tomorrow
			}
		}
		image, err := fetch(ctx, a.src, ref, a.platform)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Pullspec, err)
		}
		mu.Lock()
		images[t.Pullspec] = image
		mu.Unlock()
		if a.folder == nil && a.operator(image) {
			a.readAhead(ctx, t, image)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.components = map[string]*component{}
	for i := range a.stream.Tags {
		t := &a.stream.Tags[i]
		if !a.reads(t.Name) {
			if err := a.unread(t); err != nil {
				return err
			}
			continue
		}
		image := images[t.Pullspec]
		if t.Kind != dockerImage || image == nil {
			continue
		}
		c := &component{tag: t.Name, image: image}
		c.operator = a.operator(image)
		if label := image.labels()[LabelOperator]; label != "" && !c.operator {
			a.warn("component %s: label %s is %q, so it is not taken as an operator", t.Name, LabelOperator, label)
		}
		if a.folder == nil || a.spec.Overrides[t.Name] != nil {
			if err := a.annotate(t, image.labels()); err != nil {
				return &Error{Op: "assemble", Target: "component " + t.Name, Err: err}
			}
		}
		a.components[t.Name] = c
	}
	return nil
}

// operator says whether an image is labelled as one.
func (a *assembly) operator(image *fetched) bool {
	label := image.labels()[LabelOperator]
	return label != "" && (label != "false" || a.opts.Compatible)
}

// annotate copies to the tag what its image's labels say.
func (a *assembly) annotate(t *Tag, labels map[string]string) error {
	if t.Annotations == nil {
		t.Annotations = map[string]string{}
	}
	for _, key := range []string{annotationCommit, annotationCommitRef, annotationSource} {
		t.Annotations[key] = labels[key]
	}
	versions, names := labels[annotationVersions], labels[annotationDisplayNames]
	if versions == "" && !a.opts.Compatible && (a.base == nil || a.spec.Overrides[t.Name] != nil) {
		if label, ok := osVersions(labels); ok {
			versions = label
		}
	}
	if versions == "" {
		return nil
	}
	found, err := parseVersions(versions, names)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if !slices.Contains(allowedComponents, key) && !slices.Contains(a.opts.AllowedComponents, key) {
			return fmt.Errorf("its image states a version of %s, which is not an allowed component", key)
		}
	}
	t.Annotations[annotationVersions] = versions
	t.Annotations[annotationDisplayNames] = names
	return nil
}

// chooseBase finds the image that the release image is made from.
func (a *assembly) chooseBase(ctx context.Context) (*fetched, error) {
	if a.spec.Base != nil {
		return a.fetchBase(ctx, a.spec.Base)
	}
	tag := a.spec.BaseTag
	if tag == "" && a.base != nil {
		if want := a.base.image.labels()[LabelBaseDigest]; want != "" {
			return a.baseOf(ctx, want)
		}
	}
	if tag == "" {
		tag = BaseTag
	}
	c := a.components[tag]
	if c == nil || c.image == nil {
		return nil, &Error{Op: "assemble", Target: "component " + tag, Err: fmt.Errorf("it is the image to make a release from and not among the images: %w", fs.ErrNotExist)}
	}
	return c.image, nil
}

func (a *assembly) fetchBase(ctx context.Context, ref name.Reference) (*fetched, error) {
	f, err := fetch(ctx, a.src, ref, a.platform)
	if err != nil {
		return nil, &Error{Op: "assemble", Target: "base image " + ref.Name(), Err: err}
	}
	return f, nil
}

// baseOf finds the base release's own base among its components. Where the
// component has been overridden, oc stays with the old image; we do not.
func (a *assembly) baseOf(ctx context.Context, want string) (*fetched, error) {
	for _, tag := range a.base.References.Tags {
		c := a.components[tag.Name]
		_, digest, pinned := strings.Cut(tag.Pullspec, "@")
		here := pinned && digest == want
		if !here && c != nil && !a.overridden[tag.Name] {
			// Of an index, the label has the digest of its image.
			here = c.image.digest.String() == want && !a.opts.Compatible
		}
		switch {
		case !here:
			continue
		case a.overridden[tag.Name] && a.opts.Compatible:
			ref, err := name.NewDigest(tag.Pullspec)
			if err != nil {
				return nil, err
			}
			return a.fetchBase(ctx, ref)
		case c != nil:
			return c.image, nil
		}
	}
	if a.opts.ManifestList {
		// oc never finds the base of a manifest list, for the label has an
		// image's digest, and makes each release from the one before.
		if a.opts.Compatible {
			return a.base.image, nil
		}
		if c := a.components[BaseTag]; c != nil {
			a.warn("base release was not made from one of its components but from %s; %s is used", want, BaseTag)
			return c.image, nil
		}
	}
	return nil, fmt.Errorf("no component of the base release has the digest %s that it was made from; name a base: %w", want, fs.ErrNotExist)
}

// checkOS holds the payload to what it must have of an operating system.
func (a *assembly) checkOS() error {
	found, warnings, err := findOS(a.stream.Tags, func(tag string) map[string]string {
		switch c := a.components[tag]; {
		case c == nil:
			return nil
		case c.image == nil:
			return a.stream.Tag(tag).Annotations
		default:
			return c.image.labels()
		}
	})
	if err != nil {
		return err
	}
	a.os = found
	for _, w := range warnings {
		a.warn("%s", w)
	}
	var errs []error
	if a.opts.RequireExtensions {
		for _, img := range found {
			if img.Extensions == "" {
				errs = append(errs, missingExtensions(img.Tag))
			}
		}
		if _, alone := pairedOS(a.stream.Tags); len(found) == 0 {
			for _, tag := range alone {
				errs = append(errs, missingExtensions(tag))
			}
		}
	}
	if len(errs) == 0 && a.opts.RequireOS && len(found) == 0 {
		errs = append(errs, fmt.Errorf("no node image: neither two images X and X%s with coreos in the name, nor one with labels of OSTree or bootc: %w", extensionsSuffix, fs.ErrNotExist))
	}
	return errors.Join(errs...)
}

// readManifests reads what operators bring: of overrides from all layers, of
// others from the last.
func (a *assembly) readManifests(ctx context.Context) error {
	if a.folder != nil {
		if err := a.readFolders(ctx); err != nil {
			return err
		}
	}
	var tags []string
	for _, t := range a.stream.Tags {
		if c := a.components[t.Name]; c != nil && c.operator && c.folder == nil {
			tags = append(tags, t.Name)
		}
	}
	found := make(map[string]Findings, len(tags))
	var mu sync.Mutex
	err := a.each(ctx, cap(a.layers), tags, func(tag string) error {
		t, c := a.stream.Tag(tag), a.components[tag]
		findings, err := a.readComponent(ctx, t, c)
		mu.Lock()
		defer mu.Unlock()
		found[tag] = findings
		return err
	})
	for _, tag := range tags {
		for _, f := range found[tag] {
			f.Component = tag
			a.find(f)
		}
	}
	return err
}

// readAhead is what layers have in manifests, or why it could not be read.
type readAhead struct {
	dir *folder
	all bool // layers were read, not the last alone
	err error
}

func readManifestLayers(ctx context.Context, t *Tag, image *fetched) readAhead {
	n := len(image.manifest.Layers)
	first := max(n-1, 0)
	if t.Annotations[annotationOverride] == "true" {
		first = 0
	}
	r := readAhead{dir: newFolder(manifestsFolder), all: first == 0}
	for i := first; i < n && r.err == nil; i++ {
		r.err = image.readLayers(ctx, r.dir, i)
	}
	return r
}

// readAhead reads an operator's manifests while other images are still looked
// up, so that a far registry always has something to do. What goes wrong
// matters only where the manifests are wanted.
func (a *assembly) readAhead(ctx context.Context, t *Tag, image *fetched) {
	select {
	case a.layers <- struct{}{}:
	case <-ctx.Done():
		return
	}
	r := readManifestLayers(ctx, t, image)
	<-a.layers
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ahead[t.Name] = r
}

func (a *assembly) readComponent(ctx context.Context, t *Tag, c *component) (Findings, error) {
	var findings Findings
	read, ok := a.ahead[t.Name]
	if !ok {
		read = readManifestLayers(ctx, t, c.image)
	}
	dir := read.dir
	if read.err != nil {
		return nil, read.err
	}
	for _, name := range dir.duplicates {
		findings = append(findings, Finding{Check: CheckDuplicate, File: name, Detail: "it is twice in one layer"})
	}
	for _, name := range dir.escapes {
		a.warn("component %s: entry %q is not in %s and ignored", c.tag, name, manifestsFolder)
	}
	if c.brings = len(dir.files) > 0; !c.brings {
		where := "its last layer"
		if read.all {
			where = "its layers"
		}
		a.warn("component %s: no manifests in %s", c.tag, where)
		return append(findings, Finding{Check: CheckNoManifests, Detail: "labelled as an operator, but no manifests in " + where}), nil
	}
	more, err := a.sortManifests(ctx, c, dir)
	return append(findings, more...), err
}

// sortManifests takes an operator's files from its folder and looks at each.
func (a *assembly) sortManifests(ctx context.Context, c *component, dir *folder) (findings Findings, err error) {
	for _, f := range dir.sorted() {
		if f.modTime.After(c.newest) {
			c.newest = f.modTime
		}
		if f.name == referencesFile {
			release, err := a.check.reserve(ctx, f.data)
			if err != nil {
				return nil, err
			}
			local, err := decodeImageStream(f.data)
			release()
			if err != nil {
				return nil, fmt.Errorf("%s/%s: %w", dir.name, f.name, err)
			}
			c.local = local
			continue
		}
		c.files = append(c.files, f)
		if !isManifestName(f.name) {
			continue
		}
		if a.opts.Compatible {
			if err := a.check.compatible(ctx, f.data); err != nil {
				return nil, fmt.Errorf("%s/%s: %w", dir.name, f.name, err)
			}
			continue
		}
		more, err := a.check.strict(ctx, f.name, f.data)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", dir.name, f.name, err)
		}
		findings = append(findings, more...)
	}
	return findings, nil
}

// prune leaves out images that no operator refers to.
func (a *assembly) prune() {
	keep := map[string]bool{}
	for _, tag := range a.spec.Include {
		keep[tag] = true
	}
	if tag := a.spec.BaseTag; tag != "" {
		keep[tag] = true
	} else {
		keep[BaseTag] = true
	}
	for tag, c := range a.components {
		if c.operator && (c.brings || c.folder != nil) {
			keep[tag] = true
		}
		if c.local != nil {
			for _, t := range c.local.Tags {
				keep[t.Name] = true
			}
		}
	}
	if !a.opts.Compatible {
		for tag := range a.spec.Components {
			keep[tag] = true
		}
		for tag := range a.spec.Overrides {
			keep[tag] = true
		}
		if a.base != nil {
			for _, t := range a.base.References.Tags {
				keep[t.Name] = true
			}
		}
		if a.opts.RequireOS || a.opts.RequireExtensions {
			for _, img := range a.os {
				keep[img.Tag], keep[img.Extensions] = true, true
			}
		}
	}
	a.stream.Tags = slices.DeleteFunc(a.stream.Tags, func(t Tag) bool {
		if !keep[t.Name] {
			a.pruned = append(a.pruned, t.Name)
		}
		return !keep[t.Name]
	})
	a.os = slices.DeleteFunc(a.os, func(i OSImage) bool { return !keep[i.Tag] })
}

// operators are the components that bring files, in order of names. In
// compatible mode, one that is overridden comes twice, as oc has it.
func (a *assembly) operators() []*component {
	var out []*component
	if a.folder != nil {
		for _, tag := range slices.Sorted(maps.Keys(a.components)) {
			if c := a.components[tag]; c.operator && c.brings {
				out = append(out, c)
			}
		}
		return out
	}
	for _, t := range a.stream.Tags {
		c := a.components[t.Name]
		if c == nil || !c.operator || !c.brings {
			continue
		}
		out = append(out, c)
		if a.opts.Compatible && a.overridden[t.Name] {
			out = append(out, c)
		}
	}
	return out
}

// files gives the payload's manifests in the order of the layer, with images
// and versions in place, and the time of the newest.
func (a *assembly) files(ctx context.Context) ([]file, time.Time, error) {
	operators := a.operators()
	var newest time.Time
	var names []placeholder // of all operators, for what they mention of each other's
	lists := make([][]placeholder, len(operators))
	seen := map[string]bool{}
	for i, c := range operators {
		if c.newest.After(newest) {
			newest = c.newest
		}
		if c.local == nil {
			continue
		}
		list, err := placeholders(c.local, a.stream.Tags, a.opts.AllowMissingImages)
		if err != nil {
			return nil, newest, &Error{Op: "assemble", Target: "component " + c.tag, Err: err}
		}
		lists[i] = list
		for _, p := range list {
			// A placeholder that is a plain word would be found everywhere.
			if strings.ContainsAny(p.text, "./") && !seen[p.text] {
				seen[p.text] = true
				names = append(names, p)
			}
		}
	}
	defaults, err := parseVersions(a.stream.Annotations[annotationVersions], a.stream.Annotations[annotationDisplayNames])
	if err != nil {
		return nil, newest, err
	}
	out := []file{}
	size := 0
	counts := map[string]int{}
	owner := map[string]string{}
	repositories := a.repositories()
	for i, c := range operators {
		if err := ctx.Err(); err != nil {
			return nil, newest, err
		}
		transform, err := a.transform(c, lists[i], defaults)
		if err != nil {
			return nil, newest, &Error{Op: "assemble", Target: "component " + c.tag, Err: err}
		}
		for _, f := range c.files {
			data, err := transform(f)
			if err != nil {
				return nil, newest, &Error{Op: "assemble", Target: "component " + c.tag, Err: fmt.Errorf("%s/%s: %w", manifestsFolder, f.name, err)}
			}
			a.lint(c.tag, f.name, data, names, repositories)
			name := f.name
			if !strings.HasPrefix(name, "0000_") {
				name = "0000_50_" + c.tag + "_" + name
			}
			if counts[name]++; counts[name] > 1 {
				a.find(Finding{Check: CheckDuplicate, Component: c.tag, File: f.name, Detail: "component " + owner[name] + " brings a file with this name, " + name})
				ext := path.Ext(name)
				name = fmt.Sprintf("%s_%d%s", strings.TrimSuffix(name, ext), counts[name], ext)
				counts[name] = 1
			}
			owner[name] = c.tag
			if size += len(data); size > MaxPayloadSize || len(out) >= MaxPayloadFiles {
				return nil, newest, fmt.Errorf("payload of more than %d bytes or %d files", MaxPayloadSize, MaxPayloadFiles)
			}
			out = append(out, file{name, data, f.modTime})
		}
	}
	return out, newest.UTC().Truncate(time.Second), nil
}

// transform puts images and versions into one operator's manifests.
func (a *assembly) transform(c *component, list []placeholder, defaults map[string]ComponentVersion) (func(file) ([]byte, error), error) {
	versions := map[string]mergedVersion{}
	if c.local != nil {
		names := map[string]bool{}
		for _, p := range list {
			names[p.tag] = true
		}
		merged, warnings, err := mergeVersions(a.stream.Tags, names, defaults)
		if err != nil {
			return nil, err
		}
		for _, w := range warnings {
			a.warn("component %s: %s", c.tag, w)
		}
		versions = merged
	} else if !a.opts.Compatible {
		for key, v := range defaults {
			versions[key] = mergedVersion{ComponentVersion: v}
		}
	}
	var images func([]byte) []byte
	if a.opts.Compatible {
		var err error
		if images, err = compatibleImages(list); err != nil {
			return nil, err
		}
	}
	return func(f file) ([]byte, error) {
		data := f.data
		if a.opts.Compatible {
			data = images(data)
		} else {
			var left []int
			data, left = strictImages(data, list)
			a.findEach(Finding{Check: CheckPlaceholder, Component: c.tag, File: f.name}, f.data, left, func(at int) string {
				return "image placeholder cannot be replaced: " + excerpt(f.data[at:])
			})
		}
		out, left, err := substituteVersions(data, a.metadata.Version, versions, a.opts.Compatible)
		if err != nil {
			return nil, err
		}
		if !a.opts.Compatible {
			a.findEach(Finding{Check: CheckVersion, Component: c.tag, File: f.name}, data, left, func(at int) string {
				return "version placeholder cannot be replaced: " + excerpt(data[max(at-1, 0):])
			})
		}
		return out, nil
	}, nil
}

// excerpt is the start of a line, for a message.
func excerpt(data []byte) string {
	text := string(data[:min(len(data), 120)])
	if i := strings.IndexAny(text, " \t\r\n\"'"); i > 0 {
		text = text[:i]
	}
	return fmt.Sprintf("%q", text)
}

// repositories of the payload's images, longest first.
func (a *assembly) repositories() []placeholder {
	set := map[string]bool{}
	for _, t := range a.stream.Tags {
		if repo, _, ok := strings.Cut(t.Pullspec, "@"); ok {
			set[repo] = true
		}
	}
	out := make([]placeholder, 0, len(set))
	for _, repo := range slices.Sorted(maps.Keys(set)) {
		out = append(out, placeholder{text: repo})
	}
	return out
}

// lint looks for images without a digest in what goes into the payload.
func (a *assembly) lint(tag, file string, data []byte, names, repositories []placeholder) {
	if a.opts.Compatible {
		return
	}
	a.findEach(Finding{Check: CheckPlaceholder, Component: tag, File: file}, data, unpinned(data, names, false), func(at int) string {
		return "image placeholder is left: " + excerpt(data[at:])
	})
	a.findEach(Finding{Check: CheckUnpinned, Component: tag, File: file}, data, unpinned(data, repositories, true), func(at int) string {
		return "image of the payload without a digest: " + excerpt(data[at:])
	})
}

// settle turns findings into an error, or warnings where they are allowed.
func (a *assembly) settle() error {
	if a.opts.Compatible {
		return nil
	}
	slices.SortStableFunc(a.findings, func(x, y Finding) int {
		if c := strings.Compare(x.Component, y.Component); c != 0 {
			return c
		}
		if c := strings.Compare(x.File, y.File); c != 0 {
			return c
		}
		return x.Line - y.Line
	})
	a.findings = slices.Compact(a.findings)
	var bad Findings
	for _, f := range a.findings {
		if a.opts.Allow != nil && a.opts.Allow(f) {
			a.warnings = append(a.warnings, f.Error())
		} else {
			bad = append(bad, f)
		}
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

// build makes the layer and the image.
func (a *assembly) build(ctx context.Context, base *fetched, files []file, newest time.Time) (*Built, error) {
	bases, err := a.bases(ctx, base)
	if err != nil {
		return nil, err
	}
	mediaTypes := make([][]types.MediaType, len(bases))
	stale := false // a base may have manifests of another release
	for i, b := range bases {
		if mediaTypes[i], err = dockerTypes(b, a.opts.Compatible); err != nil {
			a.find(Finding{Check: CheckMediaType, Detail: err.Error()})
		}
		stale = stale || b.labels()[LabelRelease] != "" && !a.opts.Compatible
	}
	if err := a.settle(); err != nil {
		return nil, err
	}
	references, err := a.stream.Encode()
	if err != nil {
		return nil, err
	}
	metadata, err := a.metadata.Encode()
	if err != nil {
		return nil, err
	}
	a.stream.Raw, a.metadata.Raw = references, metadata
	data, diffID, err := compressLayer(func(w io.Writer) error {
		return writeLayer(w, newest, stale, references, metadata, files)
	})
	if err != nil {
		return nil, err
	}
	built := &Built{DiffID: diffID, References: a.stream, Metadata: a.metadata, Manifests: len(files), OS: a.os, Pruned: a.pruned, Copies: a.copies}
	var layer v1.Layer
	desc := v1.Descriptor{MediaType: types.DockerLayer, Digest: digestOf(data), Size: int64(len(data))}
	layer = memoryLayer{data, desc, diffID}
	if a.base != nil {
		switch {
		case a.base.DiffID == diffID:
			// The same content keeps its compressed bytes, whoever made them.
			last := a.base.image.manifest.Layers[len(a.base.image.manifest.Layers)-1]
			if last.MediaType == types.DockerLayer || last.MediaType == types.OCILayer {
				desc.Digest, desc.Size = last.Digest, last.Size
				layer = baseLayer{desc, diffID, a.base.image.img}
				built.Reused = true
			}
		case !a.changed:
			return nil, fmt.Errorf("layer has diff ID %s, the base release's has %s: %w", diffID, a.base.DiffID, ErrNotReproducible)
		}
	}
	images := make([]*releaseImage, len(bases))
	for i, b := range bases {
		size := desc.Size
		for _, d := range b.manifest.Layers {
			size += d.Size
		}
		rawConfig, err := b.config.release(a.metadata.Version, b.digest, a.stream.Created, diffID, size)
		if err != nil {
			return nil, err
		}
		if images[i], err = newReleaseImage(b, layer, desc, diffID, rawConfig, mediaTypes[i]); err != nil {
			return nil, err
		}
		if b.digest == base.digest {
			built.Image, built.Digest = images[i], digestOf(images[i].raw)
		}
	}
	if a.opts.ManifestList && base.list != nil {
		list, err := newReleaseIndex(base, bases, images, a.opts.Compatible)
		if err != nil {
			return nil, err
		}
		built.Index, built.ListDigest = list, digestOf(list.raw)
	}
	slices.Sort(a.warnings)
	built.Warnings = slices.Compact(a.warnings)
	if a.opts.Logger != nil {
		for _, w := range built.Warnings {
			a.opts.Logger.Warn(w)
		}
		a.opts.Logger.Info("release assembled", slog.String("version", a.metadata.Version), slog.String("digest", built.Digest.String()),
			slog.Int("images", len(a.stream.Tags)), slog.Int("manifests", built.Manifests))
	}
	return built, nil
}

// bases are the images to make release images from, one for each platform of a
// manifest list.
func (a *assembly) bases(ctx context.Context, base *fetched) ([]*fetched, error) {
	if !a.opts.ManifestList || base.list == nil && a.opts.Compatible {
		return []*fetched{base}, nil
	}
	if base.list == nil {
		return nil, fmt.Errorf("the base image %s is no manifest list, so none can be made from it", base.ref.Name())
	}
	var out []*fetched
	for _, desc := range base.list.Manifests {
		if desc.Platform == nil || desc.Platform.OS == "unknown" { // an attestation
			a.warn("%s in the base image's index is for no platform and left out", desc.Digest)
			continue
		}
		if desc.Digest == base.digest {
			out = append(out, base)
			continue
		}
		b, err := fetch(ctx, a.src, base.ref.Context().Digest(desc.Digest.String()), *desc.Platform)
		if err != nil {
			return nil, &Error{Op: "assemble", Target: "base image for " + desc.Platform.String(), Err: err}
		}
		out = append(out, b)
	}
	return out, nil
}

// writeLayer writes the payload as oc does: the folder without a trailing
// slash, the two documents, the manifests in the order of operators. With
// stale it hides what layers below have in the folder.
func writeLayer(w io.Writer, newest time.Time, stale bool, references, metadata []byte, files []file) error {
	tw := tar.NewWriter(w)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: releaseFolder, Mode: 0o777, ModTime: newest}); err != nil {
		return err
	}
	if stale {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: releaseFolder + "/.wh..wh..opq", Mode: 0o444, ModTime: newest}); err != nil {
			return err
		}
	}
	documents := []file{{referencesFile, references, newest}, {metadataFile, metadata, newest}}
	for _, f := range slices.Concat(documents, files) {
		hdr := &tar.Header{Typeflag: tar.TypeReg, Name: releaseFolder + "/" + f.name, Mode: 0o444, Size: int64(len(f.data)), ModTime: f.modTime}
		if err := tw.WriteHeader(hdr); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if _, err := tw.Write(f.data); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return tw.Close()
}
