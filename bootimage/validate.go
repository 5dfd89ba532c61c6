package bootimage

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
	streammd "github.com/coreos/stream-metadata-go/stream"
)

// ValidateOptions are options of [ValidateStream].
type ValidateOptions struct {
	// Signatures wants one of every file: coreos-installer reads no stream
	// without.
	Signatures bool
	// Previous is what the document is going to replace; nil: nothing. An
	// architecture or a platform that went away is a fault, as is a time that
	// goes back.
	Previous *streammd.Stream
}

// knownArches are those that a stream may have.
var knownArches = []string{"aarch64", "ppc64le", "riscv64", "s390x", "x86_64"}

// ValidateStream checks stream metadata by the rules that published documents
// keep, beyond what decoding wants: addresses, checksums, names of signatures, of
// releases in addresses, of architectures, and images that clouds can have. The
// faults are joined *[FieldError] values with their paths.
func ValidateStream(s *streammd.Stream, opts *ValidateOptions) error {
	var o ValidateOptions
	if opts != nil {
		o = *opts
	}
	v := &faults{document: documentName[streammd.Stream]()}
	for _, err := range checkStream(s) {
		v.add(err)
	}
	modified := v.time("metadata.last-modified", s.Metadata.LastModified)
	for _, arch := range slices.Sorted(maps.Keys(s.Architectures)) {
		if !slices.Contains(knownArches, arch) {
			v.fail(join("architectures", arch), "not an architecture in RPM's spelling, such as %s", strings.Join(knownArches, ", "))
		}
		for platform, p := range s.Architectures[arch].Artifacts {
			for format, f := range p.Formats {
				at := join(join(join(join(join("architectures", arch), "artifacts"), platform), "formats"), format)
				switch {
				case f.Disk == nil && f.Kernel == nil && f.Initramfs == nil && f.Rootfs == nil:
					v.fail(at, "no file")
				case f.Disk == nil && (f.Kernel == nil || f.Initramfs == nil):
					v.fail(at, "neither a disk nor a kernel with its initramfs")
				}
			}
		}
	}
	if len(s.Architectures) == 0 {
		v.fail("architectures", "none")
	}
	for _, e := range Entries(s) {
		v.entry(e, o.Signatures)
	}
	if o.Previous != nil {
		v.previous(s, o.Previous, modified)
	}
	return v.err()
}

// faults collects those of a document.
type faults struct {
	document string
	all      []error
}

func (v *faults) add(err error) {
	if f, ok := err.(*FieldError); ok {
		f.Document = v.document
	}
	v.all = append(v.all, err)
}

func (v *faults) fail(path, format string, args ...any) {
	v.add(&FieldError{Path: path, Err: fmt.Errorf(format, args...)})
}

// err joins the faults in the order of their paths.
func (v *faults) err() error {
	path := func(err error) string {
		if f, ok := errors.AsType[*FieldError](err); ok {
			return f.Path
		}
		return ""
	}
	slices.SortStableFunc(v.all, func(a, b error) int { return strings.Compare(path(a), path(b)) })
	return errors.Join(v.all...)
}

// time reads a time of a document; the zero one if it is faulty.
func (v *faults) time(path, text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	switch {
	case text == "":
		v.fail(path, "missing")
	case err != nil:
		v.fail(path, "%.40q is not a time as in 2026-11-25T20:54:07Z", text)
	}
	return t
}

func (v *faults) address(path, text string) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		// Decoding said so.
	case err != nil || u.Host == "" || u.Opaque != "":
		v.fail(path, "%.200q is not an address", text)
	case u.User != nil:
		v.fail(path, "an address with a user")
	case u.Scheme != "https" && u.Scheme != "http":
		v.fail(path, "address of scheme %.20s, want https", u.Scheme)
	}
}

func (v *faults) entry(e Entry, signatures bool) {
	if e.File != "" {
		v.address(e.Path+".location", e.URL)
		switch {
		case e.Signature == "" && signatures:
			v.fail(e.Path+".signature", "missing")
		case e.Signature != "" && e.Signature != e.URL+".sig":
			v.fail(e.Path+".signature", "is %.200q, want location and .sig", e.Signature)
		}
		if e.UncompressedSHA256 != "" && !reSHA256.MatchString(e.UncompressedSHA256) {
			v.fail(e.Path+".uncompressed-sha256", "%.80q is not a SHA-256", e.UncompressedSHA256)
		}
		platform, _, _ := strings.Cut(e.Path, ".formats")
		switch {
		case e.Release == "":
			v.fail(platform+".release", "missing")
		case !strings.Contains(e.URL, e.Release):
			v.fail(e.Path+".location", "does not have the release %.140s in it", e.Release)
		}
		return
	}
	switch {
	case e.Platform == "azure-disk":
		v.address(e.Path+".url", e.URL)
	case e.URL != "" && !strings.HasPrefix(e.URL, "s3://"):
		v.address(e.Path+".url", e.URL)
	}
	switch e.Platform {
	case "aws", "aws-winli":
		if !strings.HasPrefix(e.Image, "ami-") {
			v.fail(e.Path+".image", "%.80q is not an AMI", e.Image)
		}
	case "aliyun":
		if e.Image == "" {
			v.fail(e.Path+".image", "missing")
		}
	case "gcp":
		if strings.Contains(e.Image, "//") || strings.HasSuffix(e.Image, "/") {
			v.fail(e.Path, "project or name missing")
		}
	case "ibmcloud", "powervs":
		if bucket, object, _ := strings.Cut(e.Image, "/"); bucket == "" || object == "" {
			v.fail(e.Path, "bucket or object missing")
		}
	case "kubevirt":
		if !strings.Contains(e.Image, "@sha256:") {
			v.fail(e.Path+".digest-ref", "%.200q has no digest", e.Image)
		}
	case "azure-marketplace":
		if strings.HasPrefix(e.Image, ":") || strings.Contains(e.Image, "::") || strings.HasSuffix(e.Image, ":") {
			v.fail(e.Path, "%.200q is not a URN", e.Image)
		}
	}
}

func (v *faults) previous(s, was *streammd.Stream, modified time.Time) {
	if s.Stream != was.Stream {
		v.fail("stream", "is %.80q, was %.80q", s.Stream, was.Stream)
	}
	if before, err := time.Parse(time.RFC3339, was.Metadata.LastModified); err == nil && modified.Before(before) {
		v.fail("metadata.last-modified", "before that of the document it replaces, %s", was.Metadata.LastModified)
	}
	for _, arch := range slices.Sorted(maps.Keys(was.Architectures)) {
		now, ok := s.Architectures[arch]
		if !ok {
			v.fail(join("architectures", arch), "missing, and was there before")
			continue
		}
		for _, platform := range slices.Sorted(maps.Keys(was.Architectures[arch].Artifacts)) {
			if _, ok := now.Artifacts[platform]; !ok {
				v.fail(join(join(join("architectures", arch), "artifacts"), platform), "missing, and was there before")
			}
		}
	}
}

// ValidateIndex checks a releases.json beyond what decoding wants: addresses,
// the time, commits or images of every release.
func ValidateIndex(index *releasemd.Index) error {
	v := &faults{document: documentName[releasemd.Index]()}
	for _, err := range checkIndex(index) {
		v.add(err)
	}
	v.time("metadata.last-modified", index.Metadata.LastModified)
	for i, r := range index.Releases {
		at := fmt.Sprintf("releases[%d]", i)
		v.address(at+".metadata", r.MetadataURL)
		if !strings.Contains(r.MetadataURL, r.Version) {
			v.fail(at+".metadata", "does not have the release %.140s in it", r.Version)
		}
		if len(r.Commits)+len(r.OciImages) == 0 {
			v.fail(at, "neither commits nor images")
		}
		for j, image := range r.OciImages {
			if !strings.Contains(image.DigestRef, "@sha256:") {
				v.fail(fmt.Sprintf("%s.oci-images[%d].digest-ref", at, j), "%.200q has no digest", image.DigestRef)
			}
		}
	}
	return v.err()
}

// Limits of rollouts: what is beyond was meant otherwise.
const (
	latestEpoch = 4102444800    // 2100: later ones are milliseconds
	maxRollout  = 90 * 24 * 60  // minutes
	firstEpoch  = 1_500_000_000 // 2017: before the first of these documents
)

// ValidateUpdates checks an updates document beyond what decoding wants: parts
// from 0 to 1, times and durations that can be meant, reasons, and no release
// with barrier and dead end. With the index of releases, not nil, every release
// must be in it, in the same order.
func ValidateUpdates(u *Updates, index *releasemd.Index) error {
	v := &faults{document: documentName[Updates]()}
	if u.Old != nil {
		v.fail("updates", "a shape of 2019: %w", errors.ErrUnsupported)
		return v.err()
	}
	for _, err := range u.check() {
		v.add(err)
	}
	v.time("metadata.last-modified", u.Metadata.LastModified)
	var age map[string]int
	if index != nil {
		age = map[string]int{}
		for i, r := range index.Releases {
			age[r.Version] = i
		}
		if index.Stream != u.Stream {
			v.fail("stream", "is %.80q, that of the releases %.80q", u.Stream, index.Stream)
		}
	}
	last := -1
	for i, r := range u.Releases {
		at := fmt.Sprintf("releases[%d]", i)
		if age != nil {
			switch place, ok := age[r.Version]; {
			case !ok:
				v.fail(at+".version", "no release %.140s of stream %.80s", r.Version, u.Stream)
			case place < last:
				v.fail(at+".version", "release %.140s comes after a newer one", r.Version)
			default:
				last = place
			}
		}
		v.marks(at+".metadata", r.Metadata)
	}
	return v.err()
}

func (v *faults) marks(at string, m UpdatesMetadata) {
	switch {
	case m == UpdatesMetadata{}:
		v.fail(at, "neither barrier nor dead end nor rollout")
	case m.Barrier != nil && m.DeadEnd != nil:
		v.fail(at, "barrier and dead end")
	}
	for _, mark := range []struct {
		name   string
		reason *UpdatesReason
	}{{"barrier", m.Barrier}, {"deadend", m.DeadEnd}} {
		if mark.reason != nil && mark.reason.Reason == "" {
			v.fail(at+"."+mark.name+".reason", "missing")
		}
	}
	r := m.Rollout
	if r == nil {
		return
	}
	at += ".rollout"
	if r.StartPercentage < 0 || r.StartPercentage > 1 {
		v.fail(at+".start_percentage", "%v is not a part from 0 to 1", float64(r.StartPercentage))
	}
	switch {
	case r.StartEpoch == 0:
	case r.StartEpoch < firstEpoch:
		v.fail(at+".start_epoch", "%d is before 2017", r.StartEpoch)
	case r.StartEpoch >= latestEpoch:
		v.fail(at+".start_epoch", "%d is after 2100: seconds, not milliseconds", r.StartEpoch)
	}
	if d := r.DurationMinutes; d != nil && (*d == 0 || *d > maxRollout) {
		v.fail(at+".duration_minutes", "%d is not from 1 to %d", *d, maxRollout)
	}
}
