package bootimage

import (
	"slices"
	"strings"

	releasemd "github.com/coreos/stream-metadata-go/release"
)

// ValidateRelease checks a release.json beyond what decoding wants: the time, where
// it says one, architectures, commits or images, and of all media, also those of
// platforms that the view has no field for: addresses with the release in them,
// checksums, names of signatures, images that clouds can have. Faults are joined
// *[FieldError] values with their paths.
func ValidateRelease(d *Document[releasemd.Release]) error {
	v := &faults{document: ReleaseFile}
	if text := d.view.Metadata.LastModified; text != "" {
		v.time("metadata.last-modified", text)
	}
	arches := d.root.list("architectures")
	if len(arches) == 0 {
		v.fail("architectures", "none")
	}
	for _, m := range arches {
		at := join("architectures", m.key)
		if !slices.Contains(knownArches, m.key) {
			v.fail(at, "not an architecture in RPM's spelling, such as %s", strings.Join(knownArches, ", "))
		}
		v.releaseArch(at, m.value, d.view.Release)
	}
	return v.err()
}

func (v *faults) releaseArch(at string, arch *value, release string) {
	commit, image := arch.get("commit"), arch.get("oci-image")
	if commit == nil && image == nil {
		v.fail(at, "neither commit nor oci-image")
	}
	if commit != nil && !reSHA256.MatchString(commit.text()) {
		v.fail(at+".commit", "%.80q is not a commit", commit.text())
	}
	if image != nil {
		if image.get("image").text() == "" {
			v.fail(at+".oci-image.image", "missing")
		}
		v.digestRef(at+".oci-image.digest-ref", image.get("digest-ref").text())
	}
	for _, platform := range arch.list("media") {
		in := join(at+".media", platform.key)
		for _, format := range platform.value.list("artifacts") {
			files := join(in+".artifacts", format.key)
			if len(format.value.members) == 0 {
				v.fail(files, "no file")
			}
			for _, file := range format.value.members {
				v.releaseFile(join(files, file.key), file.value, release)
			}
		}
		for _, region := range platform.value.list("images") {
			v.cloud(join(in+".images", region.key), platform.key, region.value)
		}
		if one := platform.value.get("image"); one != nil {
			v.cloud(in+".image", platform.key, one)
		}
	}
	for _, region := range arch.get("rhel-coreos-extensions").get("aws-winli").list("images") {
		v.cloud(join(at+`.rhel-coreos-extensions.aws-winli.images`, region.key), "aws-winli", region.value)
	}
	if azure := arch.get("rhel-coreos-extensions").get("azure-disk"); azure != nil {
		v.cloud(at+".rhel-coreos-extensions.azure-disk", "azure-disk", azure)
	}
}

func (v *faults) digestRef(at, text string) {
	if _, digest, _ := strings.Cut(text, "@sha256:"); !reSHA256.MatchString(digest) {
		v.fail(at, "%.200q has no digest", text)
	}
}

// releaseFile is an artifact.
func (v *faults) releaseFile(at string, file *value, release string) {
	e := Entry{
		Path: at, File: "disk", Release: release, URL: file.get("location").text(), Signature: file.get("signature").text(),
		SHA256: file.get("sha256").text(), UncompressedSHA256: file.get("uncompressed-sha256").text(),
	}
	if e.URL == "" {
		v.fail(at+".location", "missing")
		return
	}
	if !reSHA256.MatchString(e.SHA256) {
		v.fail(at+".sha256", "%.80q is not a SHA-256", e.SHA256)
	}
	v.entry(e, false)
}

// cloud is an image of a cloud; of those that are not known nothing is.
func (v *faults) cloud(at, platform string, image *value) {
	e := Entry{Path: at, Platform: platform, Image: image.get("image").text(), URL: image.get("url").text()}
	switch platform {
	case "gcp":
		if image.get("name").text() == "" {
			v.fail(at+".name", "missing")
		}
		return
	case "ibmcloud", "powervs":
		e.Image = image.get("bucket").text() + "/" + image.get("object").text()
	case "kubevirt":
		// The first of them had an image by tag alone.
		if ref := image.get("digest-ref"); ref != nil || image.get("image").text() == "" {
			v.digestRef(at+".digest-ref", ref.text())
		}
		return
	}
	v.entry(e, false)
}
