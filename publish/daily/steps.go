package daily

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/stream"
)

func (b *build) close() error {
	var errs []error
	if b.cache != nil {
		errs = append(errs, b.cache.Close())
	}
	if b.repo != nil {
		errs = append(errs, b.repo.Close())
	}
	return errors.Join(errs...)
}

// repository gives a repository below the one that images are published to.
func (b *build) repository(child string) (name.Repository, error) {
	base := b.env.Repository
	if base == "" {
		base = b.def.Registry.Repository
	}
	return name.NewRepository(base + "/" + child)
}

// progress passes events of the rooms on.
func (b *build) progress(step string, bytes bool) func(ostree.Event) {
	return func(e ostree.Event) {
		b.env.event(Event{Step: step, Phase: e.Phase, Done: e.Done, Total: e.Total, Bytes: bytes})
	}
}

// content writes the files of the source into the repository, under a commit
// that has nothing but the tree, so that the same tree gives the same commit
// whenever it is built, and gives the tree's root.
func (b *build) content(ctx context.Context) (tree, meta ostree.Checksum, err error) {
	if err := b.openRepo(ctx); err != nil {
		return tree, meta, err
	}
	opts := &ostree.CommitOptions{Stats: &b.stats, Progress: b.progress(StepCommit, false)}
	if b.opts.TrustFiles {
		if opts.Cache, err = ostree.OpenDevInoCache(filepath.Join(b.env.State, "devino")); err != nil {
			return tree, meta, err
		}
	}
	source, err := b.source(ctx)
	if err != nil {
		return tree, meta, err
	}
	checksum, err := b.repo.Commit(ctx, ostree.Postprocess(source, nil), opts)
	if err != nil {
		return tree, meta, fmt.Errorf("source %s: %w", b.opts.SourceName, err)
	}
	if opts.Cache != nil {
		if err := opts.Cache.Save(); err != nil {
			return tree, meta, err
		}
	}
	commit, err := b.repo.ReadCommit(ctx, checksum)
	if err != nil {
		return tree, meta, err
	}
	b.contentCommit = checksum
	return commit.RootTree, commit.RootMeta, nil
}

// source is the root filesystem: as handed in, else the definition's image.
func (b *build) source(ctx context.Context) (ostree.Tree, error) {
	if b.opts.Source != nil {
		return b.opts.Source, nil
	}
	if b.opts.SourceImage != nil {
		tree, err := b.imageTree(ctx, b.opts.SourceImage)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", b.opts.SourceName, err)
		}
		return tree, nil
	}
	ref, err := name.NewDigest(b.def.OS.Source.Image)
	if err != nil {
		return nil, fmt.Errorf("os.source.image: %w", err)
	}
	img, err := b.env.images().Image(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("os.source.image: %w", err)
	}
	tree, err := b.imageTree(ctx, img)
	if err != nil {
		return nil, fmt.Errorf("os.source.image: %w", err)
	}
	return tree, nil
}

// imageTree is the root filesystem in an image.
func (b *build) imageTree(ctx context.Context, img v1.Image) (ostree.Tree, error) {
	inspected, err := container.Inspect(ctx, img)
	if err != nil {
		return nil, err
	}
	if inspected.Commit == (ostree.Checksum{}) {
		return container.Flatten(img), nil
	}
	// What the image's commit has and its layers do not show: attributes, labels.
	imported, err := container.Import(ctx, b.repo, img, &container.ImportOptions{
		Progress: b.progress(StepCommit, true), Logger: b.env.Logger,
	})
	if err != nil {
		return nil, err
	}
	return b.repo.Tree(imported.Commit), nil
}

func (b *build) openRepo(ctx context.Context) (err error) {
	b.repo, err = ostree.Init(ctx, filepath.Join(b.env.State, "repo"), ostree.ModeBareUser, nil)
	return err
}

// commit makes the build's commit of the content, which must pass the lint.
func (b *build) commit(ctx context.Context) error {
	ref := b.in.Stream + "/" + string(b.in.Arch) + "/" + b.def.Identity.OSName
	input := []any{b.in.Digest, b.in.Build, b.in.Time, b.in.Parent, ref}
	return b.step(ctx, StepCommit, input, &b.committed,
		func(ctx context.Context) (bool, error) {
			return b.repo.Has(ctx, ostree.TypeCommit, b.committed.Commit)
		},
		func(ctx context.Context, _ *Record) error {
			content := b.repo.Tree(b.contentCommit)
			if err := ostree.Lint(ctx, content); err != nil {
				return fmt.Errorf("the tree is no operating system: %w", err)
			}
			kernel, err := b.kernel(ctx, b.in.Pinned.RootTree)
			if err != nil {
				return err
			}
			metadata := append(b.opts.Metadata[:len(b.opts.Metadata):len(b.opts.Metadata)],
				ostree.MetadataItem{Key: "version", Value: ostree.StringVariant(b.in.Build)},
				ostree.MetadataItem{Key: "ostree.linux", Value: ostree.StringVariant(kernel)},
				ostree.MetadataItem{Key: "ostree.bootable", Value: ostree.BoolVariant(true)},
				ostree.MetadataItem{Key: "coreos-assembler.basearch", Value: ostree.StringVariant(string(b.in.Arch))},
				ostree.MetadataItem{Key: "com.coreos.stream", Value: ostree.StringVariant(b.in.Stream)},
				ostree.RefBinding(ref),
			)
			checksum, err := b.repo.Commit(ctx, content, &ostree.CommitOptions{
				Ref: ref, Parent: b.in.Parent, Subject: b.in.Stream + " " + b.in.Build, Timestamp: b.in.Time, Metadata: metadata,
			})
			if err != nil {
				return err
			}
			commit, err := b.repo.ReadCommit(ctx, checksum)
			if err != nil {
				return err
			}
			b.committed = CommitOutputs{
				Commit: checksum, Content: commit.ContentChecksum(), Ref: ref, Kernel: kernel,
				Files: b.in.Files, Bytes: b.in.Bytes,
			}
			return nil
		})
}

// osVersion is the build's id as a semantic version, as the label
// io.openshift.build.versions needs it: of Fedora CoreOS' four numbers, three.
func osVersion(build string) string {
	if v, err := stream.ParseVersion(build); err == nil && v.Scheme == stream.SchemeFCOS {
		return build[:strings.LastIndexByte(build, '.')]
	}
	return build
}

// displayName is the operating system's name in the label
// io.openshift.build.version-display-names, which takes few characters.
func displayName(def *stream.Definition) string {
	switch def.Identity.Distribution {
	case stream.SCOS:
		return "CentOS Stream CoreOS"
	case stream.FCOS:
		return "Fedora CoreOS"
	}
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("-:(). ", r)) {
			return r
		}
		return ' '
	}, def.Identity.Title)
}

// encapsulate makes the base image.
func (b *build) encapsulate(ctx context.Context) error {
	repo, err := b.nodeRepository()
	if err != nil {
		return err
	}
	input := []any{b.committed.Commit, b.in.Pinned.MaxLayers, repo.Name(), b.labels(), b.in.Split}
	return b.step(ctx, StepEncapsulate, input, &b.base, nil, func(ctx context.Context, record *Record) error {
		img, err := b.encapsulated(ctx)
		if err != nil {
			return err
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		out, err := describe(repo.Digest(digest.String()).Name(), img)
		if err != nil {
			return err
		}
		b.base = *out
		record.Reuse = map[string]Reuse{"layers": {
			Items: int64(b.layers.Reused), OfItems: int64(b.layers.Layers), Bytes: b.layers.ReusedBytes, OfBytes: b.layers.Bytes,
		}}
		return nil
	})
}

func (b *build) nodeRepository() (name.Repository, error) {
	profile, err := b.profile()
	if err != nil {
		return name.Repository{}, err
	}
	return b.repository(profile.NodeImage)
}

func (b *build) labels() map[string]string {
	labels := map[string]string{
		"com.coreos.stream": b.in.Stream,
		"com.coreos.osname": b.def.Identity.OSName,
	}
	if b.in.Pinned.Node == "" && b.in.Pinned.NodeBuilder == "" {
		// The base image is the node image.
		labels["io.openshift.build.versions"] = "machine-os=" + osVersion(b.in.Build)
		labels["io.openshift.build.version-display-names"] = "machine-os=" + displayName(b.def)
	}
	return labels
}

// encapsulated gives the base image, from the cache where it was made before.
func (b *build) encapsulated(ctx context.Context) (v1.Image, error) {
	if b.baseImage != nil {
		return b.baseImage, nil
	}
	if b.cache == nil {
		var err error
		if b.cache, err = container.OpenCache(ctx, filepath.Join(b.env.State, "cache"), nil); err != nil {
			return nil, err
		}
	}
	components, err := container.Components(ctx, b.cache, b.repo, b.committed.Commit, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// Without a package database all content is one layer.
	img, err := container.Encapsulate(ctx, b.cache, b.repo, b.committed.Commit, &container.EncapsulateOptions{
		Components:       components,
		MaxLayers:        b.in.Pinned.MaxLayers,
		Planner:          b.planner(),
		Labels:           b.labels(),
		CopyKeysOptional: []string{"com.coreos.stream", "coreos-assembler.basearch", "rpmostree.inputhash"},
		Created:          b.in.Time,
		Architecture:     b.in.Arch.GOARCH(),
		Stats:            &b.layers,
		Progress:         b.progress(StepEncapsulate, true),
	})
	if err != nil {
		return nil, err
	}
	b.baseImage = img
	return img, b.made(img)
}

// made remembers an image of this run by its digest.
func (b *build) made(img v1.Image) error {
	digest, err := img.Digest()
	if err == nil {
		b.images[digest.String()] = img
	}
	return err
}

// nodeOutputs are what the node step leaves.
type nodeOutputs struct {
	Node       ImageOutputs  `json:"node"`
	Extensions *ImageOutputs `json:"extensions,omitempty"`
}

// node finds or builds the node image and its extensions.
func (b *build) node(ctx context.Context) error {
	profile, err := b.profile()
	if err != nil {
		return err
	}
	p := b.in.Pinned
	input := []any{b.base.Reference, p.Node, p.Extensions, p.NodeBuilder, profile}
	return b.step(ctx, StepNode, input, &b.nodes, nil, func(ctx context.Context, _ *Record) error {
		return b.nodeImages(ctx, profile)
	})
}

func (b *build) nodeImages(ctx context.Context, profile stream.Profile) error {
	p := b.in.Pinned
	out := nodeOutputs{Node: b.base}
	if p.NodeBuilder != "" {
		node, extensions, err := b.built(ctx)
		if err != nil {
			return err
		}
		made, err := b.describeIn(profile.NodeImage, node)
		if err != nil {
			return err
		}
		out.Node = *made
		if extensions != nil {
			if out.Extensions, err = b.describeIn(profile.ExtensionsImage, extensions); err != nil {
				return err
			}
		}
	}
	if p.Node != "" {
		given, err := b.describeGiven(ctx, p.Node)
		if err != nil {
			return err
		}
		out.Node = *given
	}
	if p.Extensions != "" {
		given, err := b.describeGiven(ctx, p.Extensions)
		if err != nil {
			return err
		}
		out.Extensions = given
	}
	b.nodes = out
	return nil
}

// built runs the node builder on the base image, once a run.
func (b *build) built(ctx context.Context) (node, extensions v1.Image, err error) {
	if b.nodeImage != nil {
		return b.nodeImage, b.extensionsImage, nil
	}
	if b.opts.NodeBuilder == nil {
		return nil, nil, errors.New("Options.NodeBuilderID is set and NodeBuilder is not")
	}
	base, err := b.encapsulated(ctx)
	if err != nil {
		return nil, nil, err
	}
	if node, extensions, err = b.opts.NodeBuilder(ctx, base); err != nil {
		return nil, nil, fmt.Errorf("node image: %w", err)
	}
	b.nodeImage, b.extensionsImage = node, extensions
	if err := b.made(node); err != nil {
		return nil, nil, err
	}
	if extensions != nil {
		err = b.made(extensions)
	}
	return node, extensions, err
}

func (b *build) describeIn(child string, img v1.Image) (*ImageOutputs, error) {
	repo, err := b.repository(child)
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	return describe(repo.Digest(digest.String()).Name(), img)
}

func (b *build) describeGiven(ctx context.Context, pullspec string) (*ImageOutputs, error) {
	ref, err := name.NewDigest(pullspec)
	if err != nil {
		return nil, err
	}
	img, err := b.env.images().Image(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", pullspec, err)
	}
	return describe(pullspec, img)
}

// local reads images of this run before others.
type local struct {
	payload.Images
	made map[string]v1.Image
}

func (l local) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	if img := l.made[ref.Identifier()]; img != nil {
		return img, nil
	}
	return l.Images.Image(ctx, ref)
}

// payload assembles the release image.
func (b *build) payload(ctx context.Context) error {
	profile, err := b.profile()
	if err != nil {
		return err
	}
	if *profile.ExtensionsRequired && b.nodes.Extensions == nil {
		return &MissingError{Stream: b.in.Stream, Needs: []stream.Need{{Path: "extensions.image", What: "extensions image, which this version requires"}}}
	}
	p := b.in.Pinned
	input := []any{b.nodes, p.FromRelease, p.Components, b.in.Version, b.in.Time, b.def.Payload.Exclude, profile}
	return b.step(ctx, StepPayload, input, &b.release, nil, func(ctx context.Context, _ *Record) error {
		img, err := b.assembled(ctx)
		if err != nil {
			return err
		}
		out, err := b.describeIn(b.def.Registry.Release.Name, img.Image)
		if err != nil {
			return err
		}
		b.release = PayloadOutputs{ImageOutputs: *out, DiffID: img.DiffID.String(), Components: len(img.References.Tags)}
		return nil
	})
}

// assembled gives the release image. It is the same each time.
func (b *build) assembled(ctx context.Context) (*payload.Built, error) {
	if b.releaseImage != nil {
		return b.releaseImage, nil
	}
	if err := b.materialize(ctx); err != nil {
		return nil, err
	}
	profile, err := b.profile()
	if err != nil {
		return nil, err
	}
	images := map[string]string{}
	for _, tag := range profile.NodeTags {
		images[tag] = b.nodes.Node.Reference
	}
	if b.nodes.Extensions != nil {
		for _, tag := range profile.ExtensionsTags {
			images[tag] = b.nodes.Extensions.Reference
		}
	}
	maps.Copy(images, b.in.Pinned.Components)
	refs := make(map[string]name.Reference, len(images))
	for component, pullspec := range images {
		if refs[component], err = name.NewDigest(pullspec); err != nil {
			return nil, err
		}
	}
	spec := &payload.Spec{Version: b.in.Version, Created: b.in.Time, Exclude: b.def.Payload.Exclude}
	if b.in.Pinned.FromRelease != "" {
		if spec.FromRelease, err = name.NewDigest(b.in.Pinned.FromRelease); err != nil {
			return nil, err
		}
		spec.Overrides = refs
	} else {
		spec.Components = refs
	}
	built, err := payload.Assemble(ctx, local{b.env.images(), b.images}, spec, &payload.AssembleOptions{
		RequireOS: true, RequireExtensions: *profile.ExtensionsRequired,
		Platform: v1.Platform{OS: "linux", Architecture: b.in.Arch.GOARCH()},
		Logger:   b.env.Logger,
	})
	if err != nil {
		return nil, err
	}
	b.releaseImage = built
	return built, b.made(built.Image)
}

// materialize makes the images of this run that earlier steps only left
// records of: from the cache, and so that their digests are the recorded ones.
func (b *build) materialize(ctx context.Context) error {
	img, err := b.encapsulated(ctx)
	if err != nil {
		return err
	}
	if err := sameDigest("base image", img, b.base.Digest); err != nil {
		return err
	}
	if b.in.Pinned.NodeBuilder == "" {
		return nil
	}
	node, extensions, err := b.built(ctx)
	if err != nil {
		return err
	}
	if b.in.Pinned.Node == "" {
		if err := sameDigest("node image", node, b.nodes.Node.Digest); err != nil {
			return err
		}
	}
	if extensions != nil && b.in.Pinned.Extensions == "" {
		return sameDigest("extensions image", extensions, b.nodes.Extensions.Digest)
	}
	return nil
}

func sameDigest(what string, img v1.Image, want string) error {
	got, err := img.Digest()
	if err != nil {
		return err
	}
	if got.String() != want {
		return fmt.Errorf("%s is %s now and was %s when this build began; remove the build's records to begin again", what, got, want)
	}
	return nil
}
