package payload

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Copy says that an image is to be in another place too. It has the fields of
// publish.Copy, to which it converts.
type Copy struct {
	From       string   `json:"from"` // pullspec
	To         string   `json:"to"`   // repository
	Tags       []string `json:"tags,omitempty"`
	Platforms  []string `json:"platforms,omitempty"`
	Sparse     bool     `json:"sparse,omitempty"`
	Referrers  bool     `json:"referrers,omitempty"`
	Signatures bool     `json:"signatures,omitempty"` // cosign's
	Stage      int      `json:"stage,omitempty"`      // those of lower stages come first
}

// MirrorOptions say what [Mirror] plans. Nil is the default.
type MirrorOptions struct {
	// Release is another place for the release image, SkipRelease leaves it out.
	Release     name.Repository
	SkipRelease bool
	// From is where the components are read from, by digest, instead of where
	// the payload says, such as a mirror of them.
	From name.Repository
	// ComponentTag and ReleaseTag name what arrives; ${version}, ${arch} and
	// ${component} are replaced. Default: ${version}-${arch}-${component} and
	// ${version}-${arch}, as oc has them.
	ComponentTag, ReleaseTag string
	// NoSignatures leaves cosign's signatures where they are, NoReferrers what
	// refers to the images. Clusters whose policy asks for signatures do not
	// start images without them.
	NoSignatures, NoReferrers bool
}

// Mirror plans how a release gets to another place: each component by digest,
// then the release image. It moves nothing; publish.Transfer does, and does
// again only what is missing. The payload is not rewritten: a cluster finds its
// images in the mirror by what [MirrorSets] gives.
//
// A component without a digest is an error, as is a payload from a folder,
// unless the release image is skipped.
func Mirror(r *Release, to name.Repository, opts *MirrorOptions) ([]Copy, error) {
	if opts == nil {
		opts = &MirrorOptions{}
	}
	copies, err := mirror(r, to, opts)
	if err != nil {
		return nil, &Error{Op: "mirror", Target: r.Version(), Err: err}
	}
	return copies, nil
}

var tagGrammar = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

func mirror(r *Release, to name.Repository, opts *MirrorOptions) ([]Copy, error) {
	tag := func(template, component string) (string, error) {
		// "+" begins build metadata, which a tag cannot have.
		text := strings.NewReplacer("${version}", strings.ReplaceAll(r.Version(), "+", "_"), "${arch}", r.mirrorArch(), "${component}", component).Replace(template)
		if !tagGrammar.MatchString(text) {
			return "", fmt.Errorf("%.200q cannot be a tag", text)
		}
		return text, nil
	}
	var out []Copy
	used := map[string]string{}
	for _, t := range r.References.Tags {
		if t.Kind != dockerImage {
			return nil, fmt.Errorf("component %s is of kind %.100q, not %s", t.Name, t.Kind, dockerImage)
		}
		ref, err := r.Image(t.Name)
		if err != nil {
			return nil, err
		}
		text, err := tag(cmp.Or(opts.ComponentTag, "${version}-${arch}-${component}"), t.Name)
		if err != nil {
			return nil, fmt.Errorf("component %s: %w", t.Name, err)
		}
		if other, twice := used[text]; twice {
			return nil, fmt.Errorf("components %s and %s would both be tagged %s", other, t.Name, text)
		}
		used[text] = t.Name
		if opts.From != (name.Repository{}) {
			ref = opts.From.Digest(ref.DigestStr())
		}
		out = append(out, Copy{From: ref.Name(), To: to.Name(), Tags: []string{text}, Signatures: !opts.NoSignatures, Referrers: !opts.NoReferrers})
	}
	if opts.SkipRelease {
		return out, nil
	}
	if r.Ref == nil {
		return nil, errors.New("a payload from a folder has no release image")
	}
	text, err := tag(cmp.Or(opts.ReleaseTag, "${version}-${arch}"), "release")
	if err != nil {
		return nil, err
	}
	place := to
	if opts.Release != (name.Repository{}) {
		place = opts.Release
	}
	if other, twice := used[text]; twice && place == to {
		return nil, fmt.Errorf("component %s and the release would both be tagged %s", other, text)
	}
	return append(out, Copy{From: r.Pullspec().Name(), To: place.Name(), Tags: []string{text}, Signatures: !opts.NoSignatures, Referrers: !opts.NoReferrers, Stage: 1}), nil
}

// mirrorArch is the architecture in tags of mirrors.
func (r *Release) mirrorArch() string {
	switch {
	case r.ListDigest != (v1.Hash{}) || r.Metadata.Metadata[MetadataArchitecture] == "multi":
		return "multi"
	case r.image == nil:
		return "unknown"
	}
	return rpmArch(r.image.config.Architecture)
}

// MirrorPolicies are what makes a cluster or an installer read from a mirror,
// each YAML.
type MirrorPolicies struct {
	// InstallConfig is the part of install-config.yaml, imageDigestSources, and
	// LegacyInstallConfig the one for releases before 4.14, imageContentSources.
	InstallConfig, LegacyInstallConfig []byte
	// DigestMirrorSet and TagMirrorSet are objects for clusters, by digest and
	// by tag, and ContentSourcePolicy the one for clusters before 4.13.
	DigestMirrorSet, TagMirrorSet, ContentSourcePolicy []byte
}

type mirrorSource struct {
	Mirrors []string `json:"mirrors"`
	Source  string   `json:"source"`
}

// MirrorSets gives the policies that send the repositories of a plan's images
// to the mirror, by the name of their source. objects is what to call them,
// "example" where it is "".
func MirrorSets(copies []Copy, objects string) (*MirrorPolicies, error) {
	mirrors := map[string][]string{}
	for _, c := range copies {
		ref, err := name.ParseReference(c.From)
		if err != nil {
			return nil, &Error{Op: "mirror", Target: c.From, Err: err}
		}
		source := ref.Context().Name()
		if source != c.To && !slices.Contains(mirrors[source], c.To) {
			mirrors[source] = append(mirrors[source], c.To)
		}
	}
	var list []mirrorSource
	for _, source := range slices.Sorted(maps.Keys(mirrors)) {
		list = append(list, mirrorSource{mirrors[source], source})
	}
	object := func(apiVersion, kind, key string) any {
		return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]string{"name": cmp.Or(objects, "example")}, "spec": map[string]any{key: list}}
	}
	out := &MirrorPolicies{}
	for _, doc := range []struct {
		to    *[]byte
		value any
	}{
		{&out.InstallConfig, map[string]any{"imageDigestSources": list}},
		{&out.LegacyInstallConfig, map[string]any{"imageContentSources": list}},
		{&out.DigestMirrorSet, object("config.openshift.io/v1", "ImageDigestMirrorSet", "imageDigestMirrors")},
		{&out.TagMirrorSet, object("config.openshift.io/v1", "ImageTagMirrorSet", "imageTagMirrors")},
		{&out.ContentSourcePolicy, object("operator.openshift.io/v1alpha1", "ImageContentSourcePolicy", "repositoryDigestMirrors")},
	} {
		data, err := yaml.Marshal(doc.value)
		if err != nil {
			return nil, &Error{Op: "mirror", Target: "policies", Err: err}
		}
		*doc.to = data
	}
	return out, nil
}
