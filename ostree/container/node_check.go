package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
)

// CheckNode reports where a node image, the base image that it is of and its
// extensions image disagree: all that is found joined, each an *[Error] with "node
// check" and what it is about. Base and extensions may be nil; then what is said
// of them is not looked at. nil: they are a pair that OpenShift takes.
//
// The node image says its version (a semantic one), has the base's layers first
// and names the same commit, and lists its packages in its last layer. The
// extensions image says that it is one, has the architecture, the stream class and,
// where it says them, the version and the stream of the node image, and lists its
// packages in its last layer; of the kernel it has none but the node's. Layers are
// read for the lists of packages and the commit alone; [Lint] looks into the rest.
//
// Publish the extensions image first: where the node image's tag has appeared,
// the pair is there.
func CheckNode(ctx context.Context, base, node, extensions v1.Image) error {
	c := &pairCheck{ctx: ctx}
	c.run(base, node, extensions)
	return errors.Join(c.faults...)
}

type pairCheck struct {
	ctx    context.Context
	faults []error
}

func (c *pairCheck) fault(target, format string, args ...any) {
	c.faults = append(c.faults, &Error{"node check", target, fmt.Errorf(format, args...)})
}

func (c *pairCheck) inspect(what string, img v1.Image) *Inspected {
	i, err := inspect(c.ctx, img)
	if err != nil {
		c.fault(what+" image", "%w", err)
		return nil
	}
	return i
}

func (c *pairCheck) run(base, node, extensions v1.Image) {
	n := c.inspect("node", node)
	if n == nil {
		return
	}
	switch {
	case n.Labels[LabelExtensions] == "true":
		c.fault("node image", "is an extensions image: label %s is \"true\"", LabelExtensions)
	case n.MachineOS == "":
		c.fault("node image", "label %s is %q, which names no %s", LabelVersions, n.Labels[LabelVersions], machineOS)
	case !nodeVersion.MatchString(n.MachineOS):
		c.fault("node image", "version %q of %s is not a semantic version", n.MachineOS, machineOS)
	}
	c.documents("node", node)
	if base != nil {
		c.base(base, n)
	}
	if extensions != nil {
		c.extensions(node, extensions, n)
	}
}

// documents adds what [Lint] finds in an image's documents and last layer.
func (c *pairCheck) documents(what string, img v1.Image) {
	err := Lint(c.ctx, img, &LintOptions{Documents: true})
	for _, e := range unjoin(err) {
		if fault, ok := errors.AsType[*Error](e); ok {
			c.fault(what+" image", "%s: %w", fault.Target, fault.Err)
		} else {
			c.fault(what+" image", "%w", e)
		}
	}
}

// unjoin gives the parts of a joined error.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// base compares what the node image must have of its base.
func (c *pairCheck) base(base v1.Image, n *Inspected) {
	b := c.inspect("base", base)
	if b == nil {
		return
	}
	if len(b.Layers) > len(n.Layers) {
		c.fault("base image", "has %d layers, the node image %d: it was built of another", len(b.Layers), len(n.Layers))
	} else {
		for i := range b.Layers {
			if b.Layers[i].DiffID != n.Layers[i].DiffID {
				c.fault("base image", "layer %d has diff ID %s, that of the node image %s: it was built of another", i, b.Layers[i].DiffID, n.Layers[i].DiffID)
				break
			}
		}
	}
	if b.Architecture != n.Architecture {
		c.fault("base image", "is for %s, the node image for %s", b.Architecture, n.Architecture)
	}
	for _, label := range []string{LabelCommit, LabelFinalDiffID, LabelBootable} {
		if want := b.Labels[label]; want != n.Labels[label] {
			c.fault("label "+label, "is %q in the base image and %q in the node image", want, n.Labels[label])
		}
	}
}

// kernelPackages must have the version of the node's kernel; the rule is that of
// match-base-evr in openshift/os.
var kernelPackages = []string{
	"kernel", "kernel-core", "kernel-modules", "kernel-modules-core", "kernel-modules-extra", "kernel-devel", "kernel-headers",
	"kernel-rt-core", "kernel-rt-modules", "kernel-rt-modules-core", "kernel-rt-modules-extra", "kernel-rt-devel",
}

func (c *pairCheck) extensions(node, extensions v1.Image, n *Inspected) {
	e := c.inspect("extensions", extensions)
	if e == nil {
		return
	}
	if e.Kind != KindExtensions {
		c.fault("extensions image", "label %s is %q, want \"true\"", LabelExtensions, e.Labels[LabelExtensions])
	} else {
		c.documents("extensions", extensions)
	}
	version := n.MachineOS
	if version == "" {
		version = n.Version
	}
	// Those of openshift/os say no version.
	if e.Version != "" && e.Version != version {
		c.fault("version", "is %q of the extensions image (label %s) and %q of the node image", e.Version, LabelVersion, version)
	}
	if e.Architecture != n.Architecture {
		c.fault("architecture", "is %s of the extensions image and %s of the node image", e.Architecture, n.Architecture)
	}
	if is, want := e.Labels[labelStreamClass], n.Labels[labelStreamClass]; is != want {
		c.fault("label "+labelStreamClass, "is %q in the extensions image and %q in the node image", is, want)
	}
	// Those that not every pipeline writes into extensions images.
	for _, label := range []string{"com.coreos.stream", "com.coreos.osname", labelCommitID, labelSource} {
		is, ok := e.Labels[label]
		if want, has := n.Labels[label]; ok && has && is != want {
			c.fault("label "+label, "is %q in the extensions image and %q in the node image", is, want)
		}
	}
	if e.Kind == KindExtensions && len(e.Layers) > 0 {
		c.kernels(node, extensions, e)
	}
}

// kernels compares the kernel of both. Lists that can't be read were reported.
func (c *pairCheck) kernels(node, extensions v1.Image, e *Inspected) {
	data, err := readFromLayer(c.ctx, extensions, e.Layers[len(e.Layers)-1], extensionsFile)
	if err != nil {
		return
	}
	var list map[string]string
	if err := json.Unmarshal(data, &list); err != nil {
		c.fault("extensions image", "%s: %w", extensionsFile, err)
		return
	}
	packages, err := Packages(c.ctx, node, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		c.fault("node image", "%w", err)
		return
	}
	at := slices.IndexFunc(packages, func(p ostree.Package) bool { return p.Name == "kernel-core" || p.Name == "kernel" })
	if at < 0 {
		return
	}
	want := packages[at].Version + "-" + packages[at].Release
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if !slices.Contains(kernelPackages, name) {
			continue
		}
		is := list[name]
		if _, rest, ok := strings.Cut(is, ":"); ok {
			is = rest
		}
		if dot := strings.LastIndexByte(is, '.'); dot >= 0 {
			is = is[:dot]
		}
		if is != want {
			c.fault("package "+name, "is %s in the extensions image, the node's kernel is %s", is, want)
		}
	}
}
