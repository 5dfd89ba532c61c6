package components

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/okd-project/okd-streams/internal/dockerfile"
)

// Labels by which oc knows what an image was built from, and by which an image is
// known to be of certain inputs.
const (
	labelCommit = "io.openshift.build.commit.id"
	labelRef    = "io.openshift.build.commit.ref"
	labelSource = "io.openshift.build.source-location"
	labelKey    = "io.okd.streams.component.key"
)

var ownLabels = []string{labelCommit, labelRef, labelSource, labelKey}

// input is what an image is made of.
type input struct {
	key           string
	component     string
	containerfile []byte // with the images that are taken
	bases         map[string]string
	labels        map[string]string
}

func (b *input) tag() string { return b.component + "-" + b.key[:32] }

// baseName is what a Containerfile calls an image by digest.
func baseName(image string) (string, error) {
	ref, err := name.NewDigest(image)
	if err != nil {
		return "", err
	}
	digest, err := v1.NewHash(ref.DigestStr())
	if err != nil {
		return "", err
	}
	return "localhost/okd-streams/base:" + digest.Hex, nil
}

// input finds out what a component is made of, and so its key.
func (r *runner) input(s *Step, uses map[string]string) (*input, error) {
	b := &input{component: s.Name, bases: map[string]string{}, labels: maps.Clone(s.Labels)}
	instead := map[string]string{}
	for image, ref := range uses {
		local, err := baseName(ref)
		if err != nil {
			return nil, err
		}
		instead[image], b.bases[local] = local, ref
	}
	file, err := dockerfile.Parse([]byte(s.Containerfile))
	if err != nil {
		return nil, err
	}
	if b.containerfile, err = file.Replace(s.options(r.platform), instead); err != nil {
		return nil, err
	}
	if b.labels == nil {
		b.labels = map[string]string{}
	}
	for label, value := range map[string]string{labelCommit: s.Source.Commit, labelRef: s.Source.Ref, labelSource: s.Source.Repository} {
		if s.Source.Commit != "" {
			b.labels[label] = value
		}
	}
	made := struct {
		Format                         int
		Builder, Platform              string
		Source, Context, Containerfile string
		Args, Labels                   map[string]string
	}{1, r.env.BuilderID, r.platform.String(), cmp.Or(s.Source.Commit, s.Tree), s.Context, string(b.containerfile), s.Args, b.labels}
	text, err := json.Marshal(made)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	b.key = hex.EncodeToString(sum[:])
	b.labels[labelKey] = b.key
	return b, nil
}

// make has an image made in the folder work.
func (r *runner) make(ctx context.Context, s *Step, in *input, work string) (v1.Image, error) {
	b := &Build{
		Component: s.Name, Containerfile: filepath.Join(work, "Containerfile"), Output: filepath.Join(work, "image"),
		Args: pairs(s.Args), Labels: pairs(in.labels), Platform: r.platform, Created: s.Created,
	}
	if err := os.WriteFile(b.Containerfile, in.containerfile, 0o644); err != nil {
		return nil, err
	}
	var err error
	if b.Context, err = r.context(ctx, s, work); err != nil {
		return nil, err
	}
	for _, local := range slices.Sorted(maps.Keys(in.bases)) {
		dir, err := r.base(ctx, in.bases[local])
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", in.bases[local], err)
		}
		b.Bases = append(b.Bases, Base{local, dir})
	}
	if err := r.env.Build(ctx, b); err != nil {
		return nil, err
	}
	return r.built(ctx, b, in)
}

// context gives the folder that a component is built in.
func (r *runner) context(ctx context.Context, s *Step, work string) (_ string, err error) {
	if s.Source.Repository == "" {
		dir := filepath.Join(work, "context")
		return dir, os.Mkdir(dir, 0o755)
	}
	tree, err := r.sources.get(ctx, s.Source)
	if err != nil {
		return "", err
	}
	if s.Source.Commit == "" {
		sum, err := r.sources.checksum(ctx, tree.Dir)
		if err != nil {
			return "", err
		}
		if sum != s.Tree {
			return "", fmt.Errorf("%s has changed since the plan was made", s.Source.Repository)
		}
	}
	root, err := os.OpenRoot(tree.Dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	// No link leads out of it.
	inner, err := root.OpenRoot(cmp.Or(s.Context, "."))
	if err != nil {
		return "", err
	}
	return filepath.Join(tree.Dir, filepath.FromSlash(s.Context)), inner.Close()
}

// base gives a layout with an image, which is read once, wherever it is named.
func (r *runner) base(ctx context.Context, image string) (string, error) {
	ref, err := name.NewDigest(image)
	if err != nil {
		return "", err
	}
	return r.bases.do(ref.DigestStr(), func() (string, error) {
		img, err := r.images.Image(ctx, ref)
		if err != nil {
			return "", err
		}
		digest, err := img.Digest()
		if err != nil {
			return "", err
		}
		dir := filepath.Join(r.dir, "base-"+digest.Hex)
		if img, err = asOCI(img); err != nil {
			return "", err
		}
		to, err := layout.Write(dir, empty.Index)
		if err != nil {
			return "", err
		}
		return dir, to.AppendImage(img)
	})
}

// built reads what the builder made.
func (r *runner) built(ctx context.Context, b *Build, in *input) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(b.Output)
	if err != nil {
		return nil, fmt.Errorf("the builder made no image: %w", err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(m.Manifests) != 1 {
		return nil, fmt.Errorf("the builder made %d images, not one", len(m.Manifests))
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if !config.Platform().Satisfies(r.platform) {
		return nil, fmt.Errorf("the builder made an image for %s, not for %s", config.Platform(), r.platform)
	}
	if config.Config.Labels[labelKey] != in.key {
		return nil, fmt.Errorf("the builder did not set the label %s", labelKey)
	}
	return r.keepLayers(ctx, img, in)
}

// pairs gives NAME=VALUE, sorted by name.
func pairs(m map[string]string) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+"="+m[key])
	}
	return out
}
