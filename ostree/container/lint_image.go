package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
)

// LintOptions are for [Lint].
type LintOptions struct {
	// Documents leaves the layers unread, but for the commit and for OpenShift's
	// list in the last one.
	Documents bool
	// TempDir is where layers are unpacked, at most 64 GiB of each image; "": the
	// system's.
	TempDir string
}

// Lint reports what keeps an image from being deployed by ostree or bootc, or
// from being read by OpenShift: all faults joined, each an *[Error] or, where
// the tree is at fault, an *[ostree.Error]. nil: none.
//
// In the documents: the operating system is linux and the architecture named;
// labels say that the image can be booted, and name a commit that is in the
// first layer and the last layer that belongs to it, by a diff ID that no other
// layer has; annotations agree with labels; either all layers of the commit but
// the first are annotated with their components or none is; the history, if
// there is one, fits the layers.
//
// In the layers: the tree is an operating system, as [ostree.Lint] wants it,
// where layers were added to the commit in what importers keep of them: usr and
// etc. And the lists that OpenShift reads are in the last layer: of the packages
// (usr/share/openshift/base/meta.json) if the label io.openshift.metalayer is
// "true", which it must be for a node image made of layers, of the extensions
// (usr/share/rpm-ostree/extensions.json) of an extensions image. Of the latter
// nothing else is asked.
func Lint(ctx context.Context, img v1.Image, opts *LintOptions) error {
	if opts == nil {
		opts = &LintOptions{}
	}
	l := &imageLint{ctx: ctx, img: img, opts: opts}
	l.run()
	return errors.Join(l.faults...)
}

type imageLint struct {
	ctx    context.Context
	img    v1.Image
	opts   *LintOptions
	faults []error
}

func (l *imageLint) fault(target, format string, args ...any) {
	l.faults = append(l.faults, &Error{"lint", target, fmt.Errorf(format, args...)})
}

func (l *imageLint) run() {
	m, err := l.img.Manifest()
	if err != nil {
		l.fault("manifest", "%w", err)
		return
	}
	config, err := l.img.ConfigFile()
	if err != nil {
		l.fault("config", "%w", err)
		return
	}
	if config.OS != "linux" {
		l.fault("config", "os is %q, not linux", config.OS)
	}
	if config.Architecture == "" {
		l.fault("config", "no architecture")
	}
	i, err := inspect(l.ctx, l.img)
	if err != nil {
		l.fault("image", "%w", err)
		return
	}
	if n := len(config.History); n > 0 {
		if _, err := history(l.img); err != nil {
			l.fault("history", "%w", err)
		}
	}
	if i.Kind == KindExtensions {
		l.list(i, extensionsFile)
		return
	}
	l.labels(i, m)
	l.layers(i)
	derived := i.Head != nil && i.Layers[len(i.Layers)-1].Derived
	switch {
	case i.Labels[LabelMetaLayer] == "true":
		l.list(i, metaLayerFile)
	case i.Kind == KindNode && derived:
		l.fault("label "+LabelMetaLayer, `is not "true", so that OpenShift has to unpack the whole image to list its packages`)
	}
	if !l.opts.Documents {
		tree := &Flattened{Image: l.img, TempDir: l.opts.TempDir}
		if err := ostree.Lint(l.ctx, asDeployed(tree, i.Head == nil || derived)); err != nil {
			l.faults = append(l.faults, err)
		}
	}
}

func (l *imageLint) labels(i *Inspected, m *v1.Manifest) {
	want := map[string]string{LabelBootc: "1"}
	if i.Head != nil {
		want[LabelBootable] = "true"
	}
	for _, label := range []string{LabelBootable, LabelBootc} {
		if v, ok := want[label]; ok && i.Labels[label] != v {
			l.fault("label "+label, "is %q, want %q", i.Labels[label], v)
		}
	}
	if i.Head == nil {
		return
	}
	for _, label := range []string{LabelCommit, LabelFinalDiffID} {
		if v, ok := m.Annotations[label]; ok && v != i.Labels[label] {
			l.fault("annotation "+label, "is %q, the label %q", v, i.Labels[label])
		}
	}
}

func (l *imageLint) layers(i *Inspected) {
	seen := map[v1.Hash]int{}
	annotated, bare := 0, []int{}
	for k, layer := range i.Layers {
		if first, ok := seen[layer.DiffID]; ok && layer.DiffID.String() == i.Labels[LabelFinalDiffID] {
			l.fault(fmt.Sprintf("layer %d", k), "has the content of layer %d, which label %s names: what is after that is taken for added to the commit",
				first, LabelFinalDiffID)
		}
		seen[layer.DiffID] = k
		switch {
		case k == 0 || layer.Derived:
		case layer.Components == nil:
			bare = append(bare, k)
		default:
			annotated++
		}
	}
	if annotated > 0 {
		for _, k := range bare {
			l.fault(fmt.Sprintf("layer %d", k), "has no annotation %s, as others have: the next image can't keep its layers", AnnotationComponents)
		}
	}
}

// list checks a list of packages in the last layer.
func (l *imageLint) list(i *Inspected, file string) {
	if len(i.Layers) == 0 {
		l.fault(file, "there is no layer")
		return
	}
	data, err := readFromLayer(l.ctx, l.img, i.Layers[len(i.Layers)-1], file)
	if err == nil && file == metaLayerFile {
		_, err = decodeMetaLayer(data)
	} else if err == nil {
		var list map[string]json.RawMessage
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		l.fault(file, "must be in the last layer, where OpenShift looks: %w", err)
	}
}

// asDeployed gives the tree as a commit has it, with usr/etc; of layers that
// were added to a commit (or if there is none) what an importer keeps.
func asDeployed(src ostree.Tree, derived bool) ostree.Tree {
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range src.Entries(ctx) {
				if err == nil {
					top, rest, _ := strings.Cut(e.Path, "/")
					if top == "etc" {
						e.Path = "usr/" + e.Path
					} else if derived && rest != "" && top != "usr" {
						continue
					}
				}
				if !yield(e, err) {
					return
				}
			}
		}
	})
}
