package container

import (
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
	"unicode"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Labels of node and extensions images, beside those that [Inspect] reads. Their
// source is openshift/os.
const (
	labelDisplayNames = "io.openshift.build.version-display-names" // KEY=NAME,… for the keys of [LabelVersions]
	labelStreamClass  = "io.openshift.os.streamclass"              // tells operating systems of one payload apart: rhel-9, centos-10
	labelSource       = "io.openshift.build.source-location"
	labelCommitID     = "io.openshift.build.commit.id"
	labelCommitRef    = "io.openshift.build.commit.ref"
	labelOCISource    = "org.opencontainers.image.source"
	labelOCIRevision  = "org.opencontainers.image.revision"
)

// PackageManager is the program that installs packages in a node image.
type PackageManager string

// Package managers. They decide what to install: nothing here solves
// dependencies.
const (
	ManagerRPMOSTree PackageManager = "rpm-ostree" // the default: base images of CoreOS
	ManagerDNF       PackageManager = "dnf"
	ManagerAPT       PackageManager = "apt"  // a system of one's own, of Debian's packages
	ManagerNone      PackageManager = "none" // files and a script are all
)

// NodeSpec says what a node image is built of, and its extensions image. Both are
// of a base image: [RenderNode] writes the Containerfiles, [BuildNode] has them
// built. Paths are relative to the folder that they are built in, the build
// context; they and names may have letters, digits and the marks of file and
// package names only. The JSON form is what [DecodeNodeSpec] reads.
type NodeSpec struct {
	// Base is the pullspec of the base image, by digest, that the Containerfile
	// names; whoever builds it may name another by the build argument BASE.
	Base string `json:"base"`
	// Version is the node image's, a semantic version: OpenShift's machine-os.
	Version string `json:"version"`
	// DisplayName is what people call the operating system; "": nothing is said.
	DisplayName string `json:"displayName,omitempty"`
	// OpenShift is the X.Y of the cluster, which os-release is told; "": it isn't.
	OpenShift string `json:"openshift,omitempty"`
	// StreamClass tells operating systems of one payload apart; "": there is one.
	StreamClass string `json:"streamClass,omitempty"`
	// Linux is the label ostree.linux, the kernel's version; "": the base's.
	Linux string `json:"linux,omitempty"`
	// Source, Commit and Ref are where the build context comes from: the URL of a
	// git repository, what is checked out, and by which name. "": nothing is said.
	Source string `json:"source,omitempty"`
	Commit string `json:"commit,omitempty"`
	Ref    string `json:"ref,omitempty"`
	// Created is the time of everything in the images, in whole seconds; zero:
	// that of the build, so that no two are alike.
	Created time.Time `json:"created,omitzero"`
	// Labels are added to both images; those that follow from other fields are
	// refused.
	Labels map[string]string `json:"labels,omitempty"`
	// Args are build arguments with the values they have by default; scripts and
	// package managers see them. BASE, NODE and BUILDER are taken.
	Args map[string]string `json:"args,omitempty"`

	// Containerfile is one's own Containerfile of the node image in the build
	// context, that of openshift/os for instance. Then the fields from Manager to
	// Script must be empty, and labels are what the builder adds.
	Containerfile string `json:"containerfile,omitempty"`

	Manager      PackageManager   `json:"manager,omitempty"`
	Repositories []NodeRepository `json:"repositories,omitempty"`
	Packages     []string         `json:"packages,omitempty"` // names, may be with version
	// PackageDir is a folder with package files, which are all installed.
	PackageDir string `json:"packageDir,omitempty"`
	// Files is a folder that is copied over the root before packages are installed.
	Files string `json:"files,omitempty"`
	// Script is a program that runs when packages are installed.
	Script string `json:"script,omitempty"`

	// Extensions are what nodes may install; none, and no ExtensionDir: there is no
	// extensions image.
	Extensions []NodeExtension `json:"extensions,omitempty"`
	// ExtensionDir is a folder with package files for the extensions image; with
	// [ManagerNone] with their list extensions.json, too.
	ExtensionDir string `json:"extensionDir,omitempty"`
	// ExtensionsContainerfile is one's own; Extensions and ExtensionDir must be
	// empty then.
	ExtensionsContainerfile string `json:"extensionsContainerfile,omitempty"`
	// ExtensionsBase is what the extensions image is FROM; "": nothing.
	ExtensionsBase string `json:"extensionsBase,omitempty"`
	// ExtensionsBuilder is an image that has createrepo_c; "": the node image.
	ExtensionsBuilder string `json:"extensionsBuilder,omitempty"`
}

// NodeRepository is where packages are installed from.
type NodeRepository struct {
	Name    string   `json:"name"`    // letters, digits, "-", "." and "_"
	URL     string   `json:"url"`     // $releasever and $basearch are the package manager's
	GPGKey  string   `json:"gpgKey"`  // URL or path; "": packages' signatures are not checked
	Include []string `json:"include"` // package names, with "*"; none: all
	Exclude []string `json:"exclude"`
	// Secret: URL and credentials come in the secret "yumrepos", a file in the form
	// of /etc/yum.repos.d, and URL is empty.
	Secret bool `json:"secret"`
}

// NodeExtension is a set of packages that nodes may install.
type NodeExtension struct {
	Name     string   `json:"name"`
	Packages []string `json:"packages"`
	// Architectures in RPM's spelling; none: all.
	Architectures []string `json:"architectures"`
	// MatchVersion is an installed package whose version the packages must have:
	// "kernel" for kernel-devel. "": what the package manager prefers.
	MatchVersion string `json:"matchVersion"`
}

// MaxNodeSpecSize bounds what [DecodeNodeSpec] reads, in bytes.
const MaxNodeSpecSize = 1 << 20

// DecodeNodeSpec reads the JSON form of a spec. Unknown fields and what
// [NodeSpec.Check] finds are errors.
func DecodeNodeSpec(r io.Reader) (*NodeSpec, error) {
	spec, err := decodeNodeSpec(r)
	if err != nil {
		return nil, &Error{"node", "spec", err}
	}
	return spec, spec.Check()
}

func decodeNodeSpec(r io.Reader) (*NodeSpec, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxNodeSpecSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxNodeSpecSize {
		return nil, fmt.Errorf("more than %d bytes: %w", MaxNodeSpecSize, fs.ErrInvalid)
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	spec := &NodeSpec{}
	if err := d.Decode(spec); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the document: %w", fs.ErrInvalid)
	}
	return spec, nil
}

// What fields may have: nothing that a shell, a Containerfile or a repository's
// file would read as anything but a name.
var (
	nodePackage  = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9+._:~^-]*$`)
	nodePattern  = lazyregexp.New(`^[A-Za-z0-9*][A-Za-z0-9*+._:~^-]*$`)
	nodeName     = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	nodeArg      = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]*$`)
	nodePath     = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9+._/~-]*$`)
	nodePullspec = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9+._:/@-]*$`)
	nodeURL      = lazyregexp.New(`^[a-z]+:/[A-Za-z0-9$%&()*+,./:;=?@_~{}-]*$|^/[A-Za-z0-9+._/~-]*$`)
	nodeMinor    = lazyregexp.New(`^[0-9]+\.[0-9]+$`)
	nodeVersion  = lazyregexp.New(`^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
	nodeDisplay  = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9 ().:-]*$`)
	nodeLabel    = lazyregexp.New(`^[a-z0-9][A-Za-z0-9._/-]*$`)
)

// Names that fields of a spec, or what images are made of, have taken.
var (
	nodeArgsTaken   = []string{argBase, argNode, argBuilder}
	nodeLabelsTaken = []string{
		LabelVersion, LabelVersions, labelDisplayNames, labelStreamClass, LabelExtensions, LabelMetaLayer, LabelBootc, LabelBootable, LabelLinux,
		LabelCommit, LabelFinalDiffID, labelSource, labelCommitID, labelCommitRef, labelOCISource, labelOCIRevision,
	}
)

// Check reports what is wrong with a spec: every fault, joined, each an *[Error]
// that names the field.
func (n *NodeSpec) Check() error {
	c := &nodeCheck{}
	c.need("base", n.Base, nodePullspec)
	c.need("version", n.Version, nodeVersion)
	c.text("displayName", n.DisplayName, nodeDisplay)
	c.text("openshift", n.OpenShift, nodeMinor)
	c.text("streamClass", n.StreamClass, nodeName)
	c.text("linux", n.Linux, nodePackage)
	c.text("source", n.Source, nodeURL)
	c.text("commit", n.Commit, nodeName)
	c.text("ref", n.Ref, nodePath)
	c.text("extensionsBase", n.ExtensionsBase, nodePullspec)
	c.text("extensionsBuilder", n.ExtensionsBuilder, nodePullspec)
	for _, dir := range [][2]string{
		{"containerfile", n.Containerfile}, {"extensionsContainerfile", n.ExtensionsContainerfile}, {"packageDir", n.PackageDir},
		{"files", n.Files}, {"script", n.Script}, {"extensionDir", n.ExtensionDir},
	} {
		c.path(dir[0], dir[1])
	}
	if n.Created.Unix() < 0 && !n.Created.IsZero() {
		c.fault("created", "is before 1970")
	}
	for _, key := range slices.Sorted(maps.Keys(n.Labels)) {
		c.need("labels["+key+"] key", key, nodeLabel)
		c.line("labels["+key+"]", n.Labels[key])
		if slices.Contains(nodeLabelsTaken, key) {
			c.fault("labels["+key+"]", "is made of other fields")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(n.Args)) {
		c.need("args["+key+"] key", key, nodeArg)
		c.line("args["+key+"]", n.Args[key])
		if slices.Contains(nodeArgsTaken, key) {
			c.fault("args["+key+"]", "is an argument of every node image")
		}
	}
	if n.Containerfile != "" && (n.Manager != "" || n.Repositories != nil || n.Packages != nil || n.PackageDir != "" || n.Files != "" || n.Script != "") {
		c.fault("containerfile", "says already what is installed: manager, repositories, packages, packageDir, files and script must be empty")
	}
	if n.ExtensionsContainerfile != "" && (n.Extensions != nil || n.ExtensionDir != "" || n.ExtensionsBase != "" || n.ExtensionsBuilder != "") {
		c.fault("extensionsContainerfile", "says already what is in it: extensions, extensionDir, extensionsBase and extensionsBuilder must be empty")
	}
	c.packages(n)
	return errors.Join(c.faults...)
}

// packages checks what packages are from and of.
func (c *nodeCheck) packages(n *NodeSpec) {
	switch n.Manager {
	case "", ManagerRPMOSTree, ManagerDNF:
	case ManagerAPT:
		if len(n.Repositories) > 0 {
			c.fault("repositories", "are for RPM packages; those of apt are in the base image or in files: %w", errors.ErrUnsupported)
		}
	case ManagerNone:
		if n.Repositories != nil || n.Packages != nil || n.PackageDir != "" || n.Extensions != nil {
			c.fault("manager", "none installs no packages")
		}
	default:
		c.fault("manager", "is %q, want one of rpm-ostree, dnf, apt, none: %w", n.Manager, errors.ErrUnsupported)
	}
	seen := map[string]bool{}
	for i, r := range n.Repositories {
		at := fmt.Sprintf("repositories[%d].", i)
		c.need(at+"name", r.Name, nodeName)
		if seen[r.Name] {
			c.fault(at+"name", "%q occurs twice", r.Name)
		}
		seen[r.Name] = true
		if r.Secret {
			if r.URL != "" || r.GPGKey != "" || r.Include != nil || r.Exclude != nil {
				c.fault(at+"secret", "has everything but the name: the other fields must be empty")
			}
			continue
		}
		c.need(at+"url", r.URL, nodeURL)
		c.text(at+"gpgKey", r.GPGKey, nodeURL)
		c.each(at+"include", r.Include, nodePattern)
		c.each(at+"exclude", r.Exclude, nodePattern)
	}
	c.each("packages", n.Packages, nodePackage)
	seen = map[string]bool{}
	for i, e := range n.Extensions {
		at := fmt.Sprintf("extensions[%d].", i)
		c.need(at+"name", e.Name, nodeName)
		if seen[e.Name] {
			c.fault(at+"name", "%q occurs twice", e.Name)
		}
		seen[e.Name] = true
		if len(e.Packages) == 0 {
			c.fault(at+"packages", "there are none")
		}
		c.each(at+"packages", e.Packages, nodePackage)
		c.each(at+"architectures", e.Architectures, nodeName)
		c.text(at+"matchVersion", e.MatchVersion, nodePackage)
	}
}

type nodeCheck struct{ faults []error }

func (c *nodeCheck) fault(field, format string, args ...any) {
	c.faults = append(c.faults, &Error{"node", field, fmt.Errorf(format, args...)})
}

func (c *nodeCheck) need(field, value string, form *lazyregexp.Regexp) {
	if value == "" {
		c.fault(field, "is missing: %w", fs.ErrInvalid)
		return
	}
	c.text(field, value, form)
}

func (c *nodeCheck) text(field, value string, form *lazyregexp.Regexp) {
	if value != "" && !form.MatchString(value) {
		c.fault(field, "%.200q is not of the form %s", value, form)
	}
}

func (c *nodeCheck) each(field string, values []string, form *lazyregexp.Regexp) {
	for i, v := range values {
		c.need(fmt.Sprintf("%s[%d]", field, i), v, form)
	}
}

// path checks a path in the build context.
func (c *nodeCheck) path(field, value string) {
	c.text(field, value, nodePath)
	if value != "" && (path.Clean(value) != value || !fs.ValidPath(value)) {
		c.fault(field, "%.200q is not a plain path below the build context", value)
	}
}

// line checks a text that has to be quoted.
func (c *nodeCheck) line(field, value string) {
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		c.fault(field, "%.200q has control characters", value)
	}
}

// imageLabels are what the spec says about both images.
func (n *NodeSpec) imageLabels() map[string]string {
	out := map[string]string{LabelVersion: n.Version}
	for key, value := range map[string]string{
		labelStreamClass: n.StreamClass, labelSource: n.Source, labelCommitID: n.Commit, labelCommitRef: n.Ref,
		labelOCISource: n.Source, labelOCIRevision: n.Commit,
	} {
		if value != "" {
			out[key] = value
		}
	}
	return out
}

// nodeLabels are those of the node image.
func (n *NodeSpec) nodeLabels() map[string]string {
	out := n.imageLabels()
	out[LabelVersions] = machineOS + "=" + n.Version
	out[LabelBootc] = "1"
	if n.DisplayName != "" {
		out[labelDisplayNames] = machineOS + "=" + n.DisplayName
	}
	if n.Linux != "" {
		out[LabelLinux] = n.Linux
	}
	maps.Copy(out, n.Labels)
	return out
}

// extensionsLabels are those of the extensions image. It is no machine-os: its
// version is the image's alone.
func (n *NodeSpec) extensionsLabels() map[string]string {
	out := n.imageLabels()
	out[LabelExtensions] = "true"
	maps.Copy(out, n.Labels)
	return out
}

// hasExtensions reports whether there is an extensions image.
func (n *NodeSpec) hasExtensions() bool {
	return len(n.Extensions) > 0 || n.ExtensionDir != "" || n.ExtensionsContainerfile != ""
}
