package payload

import (
	"errors"
	"fmt"
	"strings"

	"github.com/okd-project/okd-streams/internal/verify"
)

// ErrDigest is wrapped by errors that say bytes do not have the digest or size
// promised for them. It is the same value as publish.ErrDigest.
var ErrDigest = verify.ErrDigest

// ErrNotReproducible is wrapped when a release that was built again from a
// base release without any change gave other bytes than the base has.
var ErrNotReproducible = errors.New("the release cannot be reproduced from its inputs")

// Error says which verb failed at what: a pullspec, or a component as
// "component NAME".
type Error struct {
	Op     string // "open", "assemble", "decode"
	Target string
	Err    error
}

func (e *Error) Error() string { return "payload: " + e.Op + " " + e.Target + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Check names one of the strict checks of [Assemble].
type Check string

// The strict checks. In compatible mode none of them is made, because oc does
// not make them.
const (
	// CheckSkippedTag: a tag of the image stream has no image with a digest
	// and would be missing from the payload.
	CheckSkippedTag Check = "skipped-tag"
	// CheckUnpinned: an image is referenced without a digest, in the payload's
	// image-references or, by a repository of the payload, in a manifest.
	CheckUnpinned Check = "unpinned-reference"
	// CheckPlaceholder: an image placeholder is left in a manifest.
	CheckPlaceholder Check = "leftover-placeholder"
	// CheckVersion: a version placeholder (0.0.1-snapshot) is left in a manifest.
	CheckVersion Check = "leftover-version"
	// CheckDuplicate: two components bring a manifest of the same name, a layer
	// has a file twice, or an object is twice in one file.
	CheckDuplicate Check = "duplicate-manifest"
	// CheckManifest: a document is not a Kubernetes object; all documents of
	// a file are looked at.
	CheckManifest Check = "invalid-manifest"
	// CheckNoManifests: an image is labelled as an operator and has no
	// manifests where they are looked for, the last layer.
	CheckNoManifests Check = "no-manifests"
	// CheckMediaType: the base image has a layer for which a Docker manifest
	// has no media type (zstd).
	CheckMediaType Check = "mixed-media-types"
	// CheckArchitecture: the metadata says that the release is for several
	// architectures, and the image is for one.
	CheckArchitecture Check = "architecture"
)

// Finding is one fault that a strict check found.
type Finding struct {
	Check     Check
	Component string // tag name; "" where it concerns no single component
	File      string // name in the component's manifests folder, or ""
	Line      int    // from 1; 0 where there is none
	Detail    string
}

func (f Finding) Error() string {
	var b strings.Builder
	if f.Component != "" {
		b.WriteString("component " + f.Component + ": ")
	}
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		b.WriteString(": ")
	}
	b.WriteString(f.Detail + " (" + string(f.Check) + ")")
	return b.String()
}

// Findings are all faults that the strict checks found, in the order of
// components, files and lines.
type Findings []Finding

func (f Findings) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}
