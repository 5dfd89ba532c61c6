package retention

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

// Registry is a registry from which manifests can be removed. Those of
// publish/remoteregistry and publish/layoutregistry are.
type Registry interface {
	payload.Images
	publish.Referrers
	Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error)
	Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error]
	Delete(ctx context.Context, ref name.Digest) error
}

// Root is an image that stays, and with it the manifests of an index and what is
// attached to them. It keeps what has its digest in any repository.
type Root struct {
	Image  string // by digest or tag
	Reason string // "release 4.21.0", "graph", "promotion of 4.21.0", …
	// Payload says that it is a release: the images that its image-references
	// names stay too.
	Payload bool
}

// Manifest is what goes of a registry.
type Manifest struct {
	// Image is it by digest or, where what is attached to an image is found by
	// a tag, that tag.
	Image string `json:"image"`
	Role  Role   `json:"role"`
}

// Role is why a manifest goes.
type Role string

// The roles.
const (
	RoleImage    Role = "image"    // the build names it
	RoleChild    Role = "child"    // an index that goes names it
	RoleAttached Role = "attached" // to one that goes: a referrer, a signature, …
)

// Bounds of what hangs together, against registries that make it up.
const (
	maxDepth     = 8
	maxManifests = 10_000 // of a step
	askers       = 8      // requests at once
)

// attachedTag is the tag under which something is kept that belongs to the
// manifest of the digest: cosign's signatures, attestations and bills of
// materials, and the list of referrers where the registry keeps none itself.
var attachedTag = lazyregexp.New(`^(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})(\.sig|\.att|\.sbom)?$`)

var attachedKinds = []string{".sig", ".att", ".sbom", ""}

// keeper knows what stays in a registry.
type keeper struct {
	reg Registry

	mu     sync.Mutex
	kept   map[v1.Hash]string            // digest to reason
	linked map[string]map[string]v1.Hash // repository, tag of [attachedTag]: what it points at
}

// newKeeper takes the roots.
func newKeeper(ctx context.Context, reg Registry, roots []Root) (*keeper, error) {
	k := &keeper{reg: reg, kept: map[v1.Hash]string{}, linked: map[string]map[string]v1.Hash{}}
	return k, k.roots(ctx, roots)
}

func (k *keeper) roots(ctx context.Context, roots []Root) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askers)
	for _, r := range roots {
		group.Go(func() error {
			if err := k.root(ctx, r); err != nil {
				return fmt.Errorf("%s (%s): %w", r.Image, r.Reason, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (k *keeper) root(ctx context.Context, r Root) error {
	ref, err := name.ParseReference(r.Image)
	if err != nil {
		return err
	}
	var digest v1.Hash
	if byDigest, ok := ref.(name.Digest); ok {
		digest, err = v1.NewHash(byDigest.DigestStr())
	} else {
		var desc *v1.Descriptor
		if desc, err = k.reg.Head(ctx, ref); err == nil {
			digest = desc.Digest
		}
	}
	if err != nil {
		return err
	}
	reached, err := k.reach(ctx, ref.Context(), digest, r.Reason, 0)
	if err != nil || !r.Payload {
		return err
	}
	if len(reached) == 0 {
		return fmt.Errorf("the release is not there, so nobody knows what it needs: %w", fs.ErrNotExist)
	}
	for _, one := range reached {
		release, err := payload.Open(ctx, k.reg, ref.Context().Digest(one.String()), nil)
		if err != nil {
			return err
		}
		for _, tag := range release.References.Tags {
			image, err := release.Image(tag.Name)
			if err != nil {
				return err
			}
			h, err := v1.NewHash(image.DigestStr())
			if err != nil {
				return err
			}
			if _, err := k.reach(ctx, image.Context(), h, r.Reason+", component "+tag.Name, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// reach keeps a manifest and those under it, and gives the images among them
// that are there.
func (k *keeper) reach(ctx context.Context, repo name.Repository, digest v1.Hash, reason string, depth int) ([]v1.Hash, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("indexes nested more than %d deep: %w", maxDepth, errors.ErrUnsupported)
	}
	k.mu.Lock()
	if _, ok := k.kept[digest]; !ok {
		k.kept[digest] = reason
	}
	k.mu.Unlock()
	c, err := k.content(ctx, repo, digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // elsewhere, or gone already: its digest stays all the same
	}
	if err != nil {
		return nil, err
	}
	if !c.MediaType.IsIndex() {
		return []v1.Hash{digest}, nil
	}
	var images []v1.Hash
	for _, child := range c.Children {
		more, err := k.reach(ctx, repo, child.Digest, reason, depth+1)
		if err != nil {
			return nil, err
		}
		images = append(images, more...)
	}
	return images, nil
}

func (k *keeper) content(ctx context.Context, repo name.Repository, digest v1.Hash) (*ociimage.Content, error) {
	desc, raw, err := k.reg.Manifest(ctx, repo.Digest(digest.String()))
	if err != nil {
		return nil, err
	}
	return ociimage.Decode(raw, desc.MediaType)
}

// tags keeps what the tags of a repository point at, but those that are a build's
// own: the build has its image without them.
func (k *keeper) tags(ctx context.Context, repo name.Repository, own func(tag string) bool) error {
	if k.linked[repo.Name()] != nil {
		return nil
	}
	var all []string
	for tag, err := range k.reg.Tags(ctx, repo) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		if attachedTag.MatchString(tag) || !own(tag) {
			all = append(all, tag)
		}
	}
	linked := map[string]v1.Hash{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askers)
	for _, tag := range all {
		group.Go(func() error {
			desc, err := k.reg.Head(ctx, repo.Tag(tag))
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed meanwhile
			}
			if err == nil && !attachedTag.MatchString(tag) {
				_, err = k.reach(ctx, repo, desc.Digest, "tag "+tag, 0)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", repo.Tag(tag), err)
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			linked[tag] = desc.Digest
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	k.linked[repo.Name()] = linked
	return nil
}

// goer finds what goes with an image.
type goer struct {
	*keeper
	list []Manifest
	seen map[string]bool
}

func (g *goer) add(image string, role Role) error {
	if len(g.list) >= maxManifests {
		return fmt.Errorf("more than %d manifests hang together: %w", maxManifests, errors.ErrUnsupported)
	}
	g.list = append(g.list, Manifest{Image: image, Role: role})
	return nil
}

// take adds a manifest, those under it and what is attached to each, in the
// order in which they are to be removed: an index before what it names, an image
// before its signatures, so that none is ever there without them, and what is
// attached after what is attached to it, so that a run which was interrupted
// leaves nothing that cannot be found from the image.
func (g *goer) take(ctx context.Context, repo name.Repository, digest v1.Hash, role Role, depth int) error {
	if g.kept[digest] != "" {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("manifests nested more than %d deep: %w", maxDepth, errors.ErrUnsupported)
	}
	ref := repo.Digest(digest.String())
	c, err := g.content(ctx, repo, digest)
	if errors.Is(err, fs.ErrNotExist) {
		c, err = nil, nil // what was attached to it may be there still
	}
	if err != nil {
		return err
	}
	if g.seen[ref.String()] {
		return nil
	}
	g.seen[ref.String()] = true
	if c != nil && role != RoleAttached {
		if err := g.add(ref.String(), role); err != nil {
			return err
		}
	}
	if c != nil {
		for _, child := range c.Children {
			if err := g.take(ctx, repo, child.Digest, RoleChild, depth+1); err != nil {
				return err
			}
		}
	}
	for d, err := range g.reg.Referrers(ctx, ref, "") {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		if err := g.take(ctx, repo, d.Digest, RoleAttached, depth+1); err != nil {
			return err
		}
	}
	for _, kind := range attachedKinds {
		tag := digest.Algorithm + "-" + digest.Hex + kind
		if _, there := g.linked[repo.Name()][tag]; there {
			if err := g.add(repo.Tag(tag).String(), RoleAttached); err != nil {
				return err
			}
		}
	}
	if c != nil && role == RoleAttached {
		return g.add(ref.String(), role)
	}
	return nil
}

// images are the names of a step as references by digest.
func images(list []string) ([]name.Digest, error) {
	var out []name.Digest
	for _, text := range list {
		ref, err := name.NewDigest(text)
		if err != nil {
			return nil, fmt.Errorf("image %.200q: %w", text, err)
		}
		out = append(out, ref)
	}
	return out, nil
}

// ownTags says of a tag whether it is a build's: its id, alone or with more
// after a dash.
func ownTags(c *bootimage.Builds) func(tag string) bool {
	return func(tag string) bool {
		return slices.ContainsFunc(slices.Concat(c.Builds, c.Tombstones), func(e bootimage.BuildEntry) bool {
			return tag == e.ID || strings.HasPrefix(tag, e.ID+"-")
		})
	}
}

// repositories looks at the tags of all repositories that the images are in.
func (k *keeper) repositories(ctx context.Context, list []string, own func(tag string) bool) error {
	refs, err := images(list)
	for _, ref := range refs {
		err = cmp.Or(err, k.tags(ctx, ref.Context(), own))
	}
	return err
}

// pins are the builds with images that stay.
func (k *keeper) pins(build string, list []string) ([]Pin, error) {
	refs, err := images(list)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		h, err := v1.NewHash(ref.DigestStr())
		if err != nil {
			return nil, err
		}
		if why := k.kept[h]; why != "" {
			return []Pin{{Build: build, Reason: why, Kinds: []Kind{Containers, Build}}}, nil
		}
	}
	return nil, nil
}

// referenced finds out of which builds images stay.
func (c *catalogue) referenced(ctx context.Context, reg Registry, roots []Root) (*keeper, []Pin, error) {
	k, err := newKeeper(ctx, reg, roots)
	if err != nil {
		return nil, nil, err
	}
	own := ownTags(c.Builds)
	var pins []Pin
	for _, id := range slices.Sorted(maps.Keys(c.metas)) {
		if err := k.repositories(ctx, containers(c.metas[id]), own); err != nil {
			return nil, nil, fmt.Errorf("build %s: %w", id, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.metas)) {
		more, err := k.pins(id, containers(c.metas[id]))
		if err != nil {
			return nil, nil, fmt.Errorf("build %s: %w", id, err)
		}
		pins = append(pins, more...)
	}
	return k, pins, nil
}

// builds keeps the images of all builds of the catalogue but those of which the
// images go.
func (k *keeper) builds(ctx context.Context, c *catalogue, steps []Step) error {
	var stay []Root
	for _, e := range c.Builds.Builds {
		if !slices.ContainsFunc(steps, func(s Step) bool { return s.Build == e.ID && (s.Kind == Containers || s.Kind == Build) }) {
			for _, image := range containers(c.metas[e.ID]) {
				stay = append(stay, Root{Image: image, Reason: "build " + e.ID})
			}
		}
	}
	return k.roots(ctx, stay)
}

// manifests finds what goes of the registry with each step.
func (p *Plan) manifests(ctx context.Context, k *keeper) error {
	all := map[string]bool{}
	seen := map[string]bool{}
	for i := range p.Steps {
		s := &p.Steps[i]
		refs, err := images(s.Images)
		if err != nil {
			return err
		}
		g := &goer{keeper: k, seen: seen}
		for _, ref := range refs {
			h, err := v1.NewHash(ref.DigestStr())
			if err == nil {
				err = g.take(ctx, ref.Context(), h, RoleImage, 0)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", ref, err)
			}
		}
		for _, m := range g.list {
			all[m.Image] = true
		}
		s.Manifests = g.list
	}
	steps := p.Steps[:0]
	for _, s := range p.Steps {
		var err error
		s.Manifests = slices.DeleteFunc(s.Manifests, func(m Manifest) bool {
			// Under two tags, of which one is of an image that stays.
			ref, parseErr := name.ParseReference(m.Image)
			err = cmp.Or(err, parseErr)
			tag, ok := ref.(name.Tag)
			return ok && k.shared(tag.Context(), k.linked[tag.Context().Name()][tag.TagStr()], all)
		})
		if err != nil {
			return err
		}
		if len(s.Manifests) > 0 || !s.again {
			steps = append(steps, s)
		}
	}
	p.Steps = steps
	return nil
}

// remove removes a step's manifests, in order. all are those of the whole plan.
func (k *keeper) remove(ctx context.Context, list []Manifest, all map[string]bool) error {
	for _, m := range list {
		ref, err := name.ParseReference(m.Image)
		if err != nil {
			return err
		}
		byDigest, ok := ref.(name.Digest)
		if !ok {
			desc, err := k.reg.Head(ctx, ref)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if k.shared(ref.Context(), desc.Digest, all) {
				continue
			}
			byDigest = ref.Context().Digest(desc.Digest.String())
		}
		if err := k.reg.Delete(ctx, byDigest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// shared says that something that stays needs what a tag points at.
func (k *keeper) shared(repo name.Repository, digest v1.Hash, all map[string]bool) bool {
	if k.kept[digest] != "" {
		return true
	}
	for tag, other := range k.linked[repo.Name()] {
		if other == digest && !all[repo.Tag(tag).String()] {
			return true
		}
	}
	return false
}

// checkManifests makes sure that a plan from elsewhere names nothing but
// manifests, in repositories of its images.
func (s Step) checkManifests() error {
	refs, err := images(s.Images)
	if len(s.Manifests) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	for _, m := range s.Manifests {
		ref, err := name.ParseReference(m.Image)
		if err != nil {
			return err
		}
		_, byDigest := ref.(name.Digest)
		if !slices.ContainsFunc(refs, func(of name.Digest) bool { return of.Context().Name() == ref.Context().Name() }) {
			return fmt.Errorf("%.200s is in no repository of its images", m.Image)
		}
		if !byDigest && !attachedTag.MatchString(ref.Identifier()) {
			return fmt.Errorf("%.200s is a tag, and not of what is attached to an image", m.Image)
		}
	}
	return nil
}

// check says whether what a plan found to be of no use still is.
func (k *keeper) check(s Step) error {
	for _, m := range s.Manifests {
		ref, err := name.ParseReference(m.Image)
		if err != nil {
			return err
		}
		d, ok := ref.(name.Digest)
		if !ok {
			continue
		}
		h, err := v1.NewHash(d.DigestStr())
		if err != nil {
			return err
		}
		if why := k.kept[h]; why != "" {
			return fmt.Errorf("%s is needed since the plan was made: %s: %w", m.Image, why, publish.ErrConflict)
		}
	}
	return nil
}
