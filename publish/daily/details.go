package daily

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/page"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/payload"
)

// details are what the report shows beside the records: what the build holds,
// and how that differs from the build before. They are read back from where the
// build was published.
type details struct {
	// Previous is the last finished build before this one, with its release;
	// "": this is the first one.
	Previous, PreviousVersion string

	Packages []ostree.Package
	// Changes are of Packages since Previous; nil: not known.
	Changes    *container.Regression
	Images     []imageDetails
	Components []componentDetails
	Gone       []string // components that the release before had
	BaseImage  string   // pullspec of the release that the payload starts from
	// Faults say what could not be found out.
	Faults []string

	store string // address of the store, "": none that a page can link to
}

// imageDetails are the layers of an image.
type imageDetails struct {
	What      string
	Reference string
	Compared  bool // with the same image of the build before
	Layers    []layerDetails
}

// layerState is where a layer is from.
type layerState string

const (
	layerNew     layerState = "new"
	layerReused  layerState = "reused"  // the build before has it
	layerMounted layerState = "mounted" // an image of another repository has it
)

type layerDetails struct {
	Name   string // what is in it, "" if the image does not say
	Digest string
	Size   int64 // bytes, compressed
	State  layerState
}

// Total sums up the layers of a state, or of all for "".
func (d imageDetails) Total(state layerState) (t struct {
	Layers int
	Bytes  int64
}) {
	for _, l := range d.Layers {
		if state == "" || l.State == state {
			t.Layers++
			t.Bytes += l.Size
		}
	}
	return t
}

// Sum says how many layers are in which state.
func (d imageDetails) Sum() string {
	var parts []string
	for _, state := range []layerState{layerNew, layerReused, layerMounted} {
		if t := d.Total(state); t.Layers > 0 {
			parts = append(parts, fmt.Sprintf("%d %s (%s)", t.Layers, state, page.Size(t.Bytes)))
		}
	}
	return strings.Join(parts, ", ")
}

// origin is where a component's image is from.
type origin string

const (
	originBuild    origin = "this build"
	originAdded    origin = "added"
	originReplaced origin = "replaced"
	originBase     origin = "base release"
	originGiven    origin = "given"
)

type componentDetails struct {
	Name, Pullspec string
	Origin         origin
	Was            string // pullspec in the base release, if it is another one
	Source         string // address of the source code
	Since          string // the build before: "new", "changed", "same", "" if not known
}

// details finds everything out. Only the context's error is one: the build is
// published, and what a report cannot tell it says.
func (b *build) details(ctx context.Context, s *Summary) (*details, error) {
	d := &details{Previous: b.in.Previous, BaseImage: b.in.Pinned.FromRelease, store: b.storeAddress()}
	var before struct {
		base    ImageOutputs
		nodes   nodeOutputs
		release PayloadOutputs
	}
	if d.Previous != "" {
		var in Inputs
		_, err := readJSON(filepath.Join(b.env.State, d.Previous, inputsFile), &in)
		d.PreviousVersion = in.Version
		for step, out := range map[string]any{StepEncapsulate: &before.base, StepNode: &before.nodes, StepPayload: &before.release} {
			if err == nil {
				_, err = b.outputs(d.Previous, step, out)
			}
		}
		d.fault("records of the build before", err)
	}
	b.packageDetails(ctx, d, s)
	source, err := b.payloadDetails(ctx, d, s, before.release.Reference)
	d.fault("components", err)

	images := []struct {
		what        string
		now, before *ImageOutputs
	}{{"Base image", s.Base, &before.base}, {"Node image", s.Node, &before.nodes.Node}, {"Extensions image", s.Extensions, before.nodes.Extensions}}
	if s.Release != nil {
		images = append(images, images[0])
		images[3].what, images[3].now, images[3].before = "Release image", &s.Release.ImageOutputs, &before.release.ImageOutputs
	}
	for i, image := range images {
		if image.now == nil || i > 0 && s.Base != nil && image.now.Digest == s.Base.Digest {
			continue
		}
		var other []string
		if i == 3 {
			other = source
		}
		if err := b.layerDetails(ctx, d, image.what, image.now, image.before, other); err != nil {
			d.fault("layers of the "+strings.ToLower(image.what), err)
		}
	}
	slices.Sort(d.Faults)
	return d, ctx.Err()
}

func (d *details) fault(what string, err error) {
	if err != nil {
		d.Faults = append(d.Faults, fmt.Sprintf("%s: %v", what, err))
	}
}

// packageDetails compares the packages of the commit with those of the commit
// before.
func (b *build) packageDetails(ctx context.Context, d *details, s *Summary) {
	if s.Commit == nil {
		return
	}
	var err error
	if d.Packages, err = b.repo.Packages(ctx, s.Commit.Commit); errors.Is(err, fs.ErrNotExist) {
		return // a system without a package database
	} else if err != nil {
		d.fault("packages", err)
		return
	}
	if b.in.Parent.IsZero() {
		return
	}
	before, err := b.repo.Packages(ctx, b.in.Parent)
	if err != nil {
		d.fault("packages of the build before", err)
		return
	}
	d.Changes = container.CheckRegression(before, d.Packages, nil)
}

// image finds an image where this build is published, or where its inputs are.
func (b *build) image(ctx context.Context, reference string) (v1.Image, error) {
	ref, err := name.NewDigest(reference)
	if err != nil {
		return nil, err
	}
	img, err := b.env.Registry.Image(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) && b.env.Images != nil {
		img, err = b.env.Images.Image(ctx, ref)
	}
	return img, err
}

// blobs are the digests of an image's layers; none where it is gone.
func (b *build) blobs(ctx context.Context, reference string) (map[string]bool, error) {
	if reference == "" {
		return nil, nil
	}
	img, err := b.image(ctx, reference)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, l := range manifest.Layers {
		out[l.Digest.String()] = true
	}
	return out, nil
}

// layerDetails looks at the layers of an image: which of them the same image of
// the build before has, and which of them one of other has, images in other
// repositories.
func (b *build) layerDetails(ctx context.Context, d *details, what string, now, before *ImageOutputs, other []string) error {
	img, err := b.image(ctx, now.Reference)
	if err != nil {
		return err
	}
	history, err := container.History(img)
	if err != nil {
		return err
	}
	var old map[string]bool
	if before != nil {
		if old, err = b.blobs(ctx, before.Reference); err != nil {
			return err
		}
	}
	elsewhere := map[string]bool{}
	for _, reference := range other {
		blobs, err := b.blobs(ctx, reference)
		if err != nil {
			return err
		}
		maps.Copy(elsewhere, blobs)
	}
	out := imageDetails{What: what, Reference: now.Reference, Compared: old != nil}
	for _, h := range history {
		if h.Layer == nil {
			continue
		}
		l := layerDetails{Name: h.CreatedBy, Digest: h.Layer.Digest.String(), Size: h.Layer.Size, State: layerNew}
		switch {
		case old[l.Digest]:
			l.State = layerReused
		case elsewhere[l.Digest]:
			l.State = layerMounted
		}
		out.Layers = append(out.Layers, l)
	}
	d.Images = append(d.Images, out)
	return nil
}

// payloadDetails tells where the components of the release are from. source are
// the images that the release image was made from.
func (b *build) payloadDetails(ctx context.Context, d *details, s *Summary, before string) (source []string, err error) {
	if s.Release == nil {
		return nil, nil
	}
	opts := &payload.OpenOptions{Platform: v1.Platform{OS: "linux", Architecture: b.in.Arch.GOARCH()}}
	open := func(images payload.Images, reference string) (*payload.Release, error) {
		ref, err := name.NewDigest(reference)
		if err != nil {
			return nil, err
		}
		return payload.Open(ctx, images, ref, opts)
	}
	now, err := open(b.env.Registry, s.Release.Reference)
	if err != nil {
		return nil, err
	}
	var base, old *payload.Release
	if d.BaseImage != "" {
		source = append(source, d.BaseImage)
		base, err = open(b.env.images(), d.BaseImage)
		d.fault("components of the base release", err)
	}
	if before != "" {
		if old, err = open(b.env.Registry, before); !errors.Is(err, fs.ErrNotExist) {
			d.fault("components of the release before", err)
		}
	}
	code := map[string]string{}
	sources, _ := now.Sources()
	for _, from := range sources {
		for _, component := range from.Components {
			code[component] = from.URL()
		}
	}
	for _, tag := range now.References.Tags {
		c := componentDetails{Name: tag.Name, Pullspec: tag.Pullspec, Source: code[tag.Name], Origin: b.origin(s, &tag, base)}
		if base != nil {
			if was := base.References.Tag(tag.Name); was != nil && was.Pullspec != tag.Pullspec {
				c.Was = was.Pullspec
			}
		}
		if old != nil {
			c.Since = "same"
			if was := old.References.Tag(tag.Name); was == nil {
				c.Since = "new"
			} else if digestOf(was.Pullspec) != digestOf(tag.Pullspec) {
				c.Since = "changed"
			}
		}
		d.Components = append(d.Components, c)
	}
	if old != nil {
		for _, tag := range old.References.Tags {
			if now.References.Tag(tag.Name) == nil {
				d.Gone = append(d.Gone, tag.Name)
			}
		}
	}
	slices.SortStableFunc(d.Components, func(x, y componentDetails) int {
		// What is not as in the base release comes first.
		switch a, b := x.Origin == originBase, y.Origin == originBase; {
		case a != b && a:
			return 1
		case a != b:
			return -1
		}
		return strings.Compare(x.Name, y.Name)
	})
	if tag := now.References.Tag(operatorComponent); tag != nil {
		source = append(source, tag.Pullspec)
	}
	return source, nil
}

// operatorComponent is the image that a release image is made from.
const operatorComponent = "cluster-version-operator"

func (b *build) origin(s *Summary, tag *payload.Tag, base *payload.Release) origin {
	var was *payload.Tag
	if base != nil {
		was = base.References.Tag(tag.Name)
	}
	_, pinned := b.in.Pinned.Components[tag.Name]
	switch {
	case s.Node != nil && tag.Pullspec == s.Node.Reference && b.in.Pinned.Node == "",
		s.Extensions != nil && tag.Pullspec == s.Extensions.Reference && b.in.Pinned.Extensions == "":
		return originBuild
	case was != nil && was.Pullspec == tag.Pullspec:
		return originBase
	case was != nil:
		return originReplaced
	case pinned && base != nil:
		return originAdded
	case base == nil && b.in.Pinned.FromRelease != "" && !pinned:
		return originBase
	}
	return originGiven
}

func digestOf(pullspec string) string {
	_, digest, _ := strings.Cut(pullspec, "@")
	return digest
}

// storeAddress is what goes before a key in links of the report: the store's
// address, or where the store is in the state folder its path from the report.
func (b *build) storeAddress() string {
	address := b.publicURL()
	u, err := url.Parse(address)
	if err != nil || address == "" {
		return ""
	}
	switch u.Scheme {
	case "https", "http":
		return address + "/"
	case "file":
		state, err := filepath.Abs(b.dir)
		if err != nil {
			return ""
		}
		rel, err := filepath.Rel(state, filepath.FromSlash(u.Path))
		if err != nil {
			return ""
		}
		return (&url.URL{Path: filepath.ToSlash(rel)}).String() + "/"
	}
	return ""
}
