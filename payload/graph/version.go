package graph

import (
	"cmp"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/okd-project/okd-streams/stream"
)

// splitArch cuts the architecture, which Cincinnati keeps as the build
// metadata of the semantic version, off a version.
func splitArch(version string) (plain, arch string) {
	plain, arch, _ = strings.Cut(version, "+")
	return plain, arch
}

func withArch(plain, arch string) string {
	if arch == "" {
		return plain
	}
	return plain + "+" + arch
}

// key is a version with all that its order needs.
type key struct {
	text        string
	okd         stream.Version
	isOKD       bool
	sem         semver.Version
	isSem       bool
	plain, arch string
}

func newKey(version string) key {
	k := key{text: version}
	k.plain, k.arch = splitArch(version)
	if len(version) > MaxVersionLength {
		return k // its parts would be many
	}
	if v, err := stream.ParseVersion(k.plain); err == nil && !v.Scheme.OS() {
		k.okd, k.isOKD = v, true
	}
	if v, err := semver.Parse(k.plain); err == nil {
		k.sem, k.isSem = v, true
	}
	return k
}

// compare is a total order: what is no semantic version first, then by X.Y.Z,
// then as OKD means it, and last by text.
func (a key) compare(b key) int {
	if a.isSem != b.isSem {
		if b.isSem {
			return -1
		}
		return 1
	}
	if a.isSem {
		if c := cmp.Or(cmp.Compare(a.sem.Major, b.sem.Major), cmp.Compare(a.sem.Minor, b.sem.Minor), cmp.Compare(a.sem.Patch, b.sem.Patch)); c != 0 {
			return c
		}
		// Versions of OKD come before foreign ones of the same X.Y.Z, so that
		// the order stays transitive.
		switch {
		case a.isOKD && b.isOKD:
			if c := a.okd.Compare(b.okd); c != 0 {
				return c
			}
		case a.isOKD != b.isOKD:
			if a.isOKD {
				return -1
			}
			return 1
		default:
			if c := a.sem.Compare(b.sem); c != 0 {
				return c
			}
		}
	}
	return cmp.Or(strings.Compare(a.plain, b.plain), strings.Compare(a.arch, b.arch), strings.Compare(a.text, b.text))
}

// Compare orders two versions, each with or without an architecture: by X.Y.Z,
// versions of OKD by stream.Version.Compare, others as semantic versions, last
// by architecture. What is longer than [MaxVersionLength] is no version. It is a
// total order of all texts.
func Compare(a, b string) int { return newKey(a).compare(newKey(b)) }

// final says that a version is of a final release: not a candidate, nightly or
// CI build. OKD on Fedora CoreOS named its releases as its CI builds.
func (k key) final() bool {
	if k.isOKD {
		return k.okd.Scheme == stream.SchemeSCOS || k.okd.Scheme == stream.SchemeOKD
	}
	return k.isSem && len(k.sem.Pre) == 0
}
