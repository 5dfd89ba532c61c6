package bootimage

import (
	"errors"
	"io"
	"strings"

	releasemd "github.com/coreos/stream-metadata-go/release"
)

// AlephPath is where a disk says what it was made from, in its root file system.
const AlephPath = ".coreos-aleph-version.json"

// Aleph is what a disk says it was made from. Disks before 2024 have build and
// imgid, later ones version and the container image.
type Aleph struct {
	Build          string      `json:"build,omitempty"`
	Version        string      `json:"version,omitempty"`
	ImageID        string      `json:"imgid,omitempty"` // file name of the disk
	Ref            string      `json:"ref,omitempty"`
	OSTreeCommit   string      `json:"ostree-commit,omitempty"`
	ContainerImage *AlephImage `json:"container-image,omitempty"`
}

// AlephImage is the container image that a disk was made from.
type AlephImage struct {
	Name   string            `json:"image-name,omitempty"`
	Digest string            `json:"image-digest,omitempty"`
	Labels map[string]string `json:"image-labels,omitempty"`
}

// DecodeAleph reads the file at [AlephPath], as [DecodeBuilds].
func DecodeAleph(r io.Reader) (*Document[Aleph], error) { return read[Aleph](r) }

func (a *Aleph) check() (faults []error) {
	if a.Build == "" && a.Version == "" && a.OSTreeCommit == "" && a.ContainerImage == nil {
		faults = append(faults, &FieldError{Err: errors.New("says nothing of what the disk was made from")})
	}
	return faults
}

// CheckAleph compares what a disk says with the release that it is to be
// published as: version, commit, digest of the image. Where they differ, machines
// of this disk do not find themselves in the update graph. Faults are joined
// *[FieldError] values.
func CheckAleph(a *Aleph, release *releasemd.Release, arch string) error {
	v := &faults{document: AlephPath}
	want, ok := release.Architectures[arch]
	if !ok {
		v.fail("", "release %.80s has nothing for %.40s", release.Release, arch)
		return v.err()
	}
	for _, version := range []struct{ path, value string }{{"build", a.Build}, {"version", a.Version}} {
		if version.value != "" && version.value != release.Release {
			v.fail(version.path, "is %.80s, the release is %s", version.value, release.Release)
		}
	}
	if a.OSTreeCommit != "" && want.Commit != "" && a.OSTreeCommit != want.Commit {
		v.fail("ostree-commit", "is %.80s, that of the release %s", a.OSTreeCommit, want.Commit)
	}
	if a.ImageID != "" && !strings.Contains(a.ImageID, arch) {
		v.fail("imgid", "%.200s is not of %s", a.ImageID, arch)
	}
	if want.OciImage != nil {
		_, digest, _ := strings.Cut(want.OciImage.DigestRef, "@")
		switch image := a.ContainerImage; {
		case image == nil || image.Digest == "":
			if want.Commit == "" {
				v.fail("container-image", "missing; the release is of image %s", digest)
			}
		case image.Digest != digest:
			v.fail("container-image.image-digest", "is %.100s, that of the release %s", image.Digest, digest)
		}
	}
	return v.err()
}
