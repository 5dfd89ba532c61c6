package bootimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Meta is meta.json, version 1: the record of one architecture's build, all keys of
// coreos-assembler's schema. Others survive in the [Document].
type Meta struct {
	BuildID               string            `json:"buildid"`
	Name                  string            `json:"name"` // of the operating system, in file names
	Ref                   string            `json:"ref,omitempty"`
	Summary               string            `json:"summary,omitempty"`
	OSTreeCommit          string            `json:"ostree-commit"`
	OSTreeContentChecksum string            `json:"ostree-content-checksum,omitempty"`
	OSTreeTimestamp       time.Time         `json:"ostree-timestamp"`
	OSTreeVersion         string            `json:"ostree-version"`
	Images                map[string]Image  `json:"images,omitempty"` // by artifact: qemu, live-iso, …
	Arch                  string            `json:"coreos-assembler.basearch,omitempty"`
	BuildTimestamp        time.Time         `json:"coreos-assembler.build-timestamp,omitzero"`
	ConfigGit             *Git              `json:"coreos-assembler.container-config-git,omitempty"`
	OCIImported           bool              `json:"coreos-assembler.oci-imported,omitempty"`
	OCILabels             map[string]string `json:"coreos-assembler.oci-imported-labels,omitempty"`
	BaseImage             *ContainerImage   `json:"base-oscontainer,omitempty"`
	Extensions            *ContainerImage   `json:"extensions-container,omitempty"`
	KubeVirt              *ContainerImage   `json:"kubevirt,omitempty"`
	AMIs                  []AMI             `json:"amis,omitempty"`
	AWSWinLI              []AMI             `json:"aws-winli,omitempty"`
	Aliyun                []RegionID        `json:"aliyun,omitempty"`
	GCP                   *GCPImage         `json:"gcp,omitempty"`
	Azure                 *CloudObject      `json:"azure,omitempty"`
	IBMCloud              []CloudObject     `json:"ibmcloud,omitempty"`
	PowerVS               []CloudObject     `json:"powervs,omitempty"`
	S3                    *S3Location       `json:"s3,omitempty"`
	BuildURL              string            `json:"build-url,omitempty"`
	ParentVersion         string            `json:"fedora-coreos.parent-version,omitempty"`
	ParentCommit          string            `json:"fedora-coreos.parent-commit,omitempty"`

	// What images were pushed beside, and what else was made.
	OSContainer        *ContainerImage     `json:"oscontainer,omitempty"` // before base-oscontainer
	ReleasePayload     *ContainerImage     `json:"release-payload,omitempty"`
	ExtensionsArtifact *ExtensionsArtifact `json:"extensions,omitempty"`
	Koji               *Koji               `json:"koji,omitempty"`

	// Differences to the last build and to the parent, as rpm-ostree gives them.
	PkgDiff              json.RawMessage `json:"pkgdiff,omitempty"`
	ParentPkgDiff        json.RawMessage `json:"parent-pkgdiff,omitempty"`
	AdvisoriesDiff       json.RawMessage `json:"advisories-diff,omitempty"`
	ParentAdvisoriesDiff json.RawMessage `json:"parent-advisories-diff,omitempty"`

	// What the compose counted.
	InputHash           string `json:"rpm-ostree-inputhash,omitempty"`
	CacheHits           int64  `json:"ostree-n-cache-hits,omitempty"`
	ContentTotal        int64  `json:"ostree-n-content-total,omitempty"`
	ContentWritten      int64  `json:"ostree-n-content-written,omitempty"`
	ContentBytesWritten int64  `json:"ostree-content-bytes-written,omitempty"`
	MetadataTotal       int64  `json:"ostree-n-metadata-total,omitempty"`
	MetadataWritten     int64  `json:"ostree-n-metadata-written,omitempty"`
	ImageConfigChecksum string `json:"coreos-assembler.image-config-checksum,omitempty"`
	ImageInputChecksum  string `json:"coreos-assembler.image-input-checksum,omitempty"`
	ImageGenVersion     int64  `json:"coreos-assembler.image-genver,omitempty"`
	CodeSource          string `json:"coreos-assembler.code-source,omitempty"`
	ConfigDirty         string `json:"coreos-assembler.config-dirty,omitempty"` // "true" or "false"
	ConfigGitRevision   string `json:"coreos-assembler.config-gitrev,omitempty"`
	ConfigVariant       string `json:"coreos-assembler.config-variant,omitempty"`
	ContainerImageGit   *Git   `json:"coreos-assembler.container-image-git,omitempty"`
	YumReposGit         *Git   `json:"coreos-assembler.yumrepos-git,omitempty"`
	OverridesActive     bool   `json:"coreos-assembler.overrides-active,omitempty"`
	// DelayedMetaMerge says that artifacts are in files of their own beside the
	// record, until [FinalizeMeta].
	DelayedMetaMerge bool `json:"coreos-assembler.delayed-meta-merge,omitempty"`
	// MetaStamp is when the record was written, in nanoseconds of UNIX time; the
	// newer wins where two are merged.
	MetaStamp json.Number `json:"coreos-assembler.meta-stamp,omitempty"`
}

// ExtensionsArtifact is the file of extensions that there was before they were an
// image.
type ExtensionsArtifact struct {
	Path     string          `json:"path,omitempty"`
	SHA256   string          `json:"sha256,omitempty"`
	State    string          `json:"rpm-ostree-state,omitempty"`
	Manifest json.RawMessage `json:"manifest"`
}

// Koji is where Fedora's build system has the build.
type Koji struct {
	BuildID json.Number `json:"build_id,omitempty"`
	Token   string      `json:"token,omitempty"`
	Release string      `json:"release,omitempty"`
}

// Image is one artifact: a file beside meta.json.
type Image struct {
	Path               string `json:"path"`
	SHA256             string `json:"sha256"`         // lower-case hexadecimal
	Size               int64  `json:"size,omitempty"` // bytes
	UncompressedSHA256 string `json:"uncompressed-sha256,omitempty"`
	UncompressedSize   int64  `json:"uncompressed-size,omitempty"` // bytes
	SkipCompression    bool   `json:"skip-compression,omitempty"`
	// Unstamped says that the disk was converted without being stamped for the
	// platform whose artifact it is: Ignition finds no configuration there. The key is
	// our own: coreos-assembler's schema takes it, its programs in Go refuse the record.
	Unstamped bool `json:"unstamped,omitempty"`
}

// Git is where a configuration came from.
type Git struct {
	Origin string `json:"origin"`
	Commit string `json:"commit"`
	Branch string `json:"branch,omitempty"`
	Dirty  string `json:"dirty,omitempty"` // "true" or "false"
}

// ContainerImage is an image that was pushed.
type ContainerImage struct {
	Image              string   `json:"image"`            // without tag and digest
	Digest             string   `json:"digest,omitempty"` // of this architecture
	ManifestListDigest string   `json:"manifest-list-digest,omitempty"`
	Tags               []string `json:"tags,omitempty"`
	Comment            string   `json:"comment,omitempty"`
	// AdditionalImages are further places that it was pushed to.
	AdditionalImages []ContainerImage `json:"additional-images,omitempty"`
}

// AMI is an image in one region of AWS.
type AMI struct {
	Region   string `json:"name"`
	AMI      string `json:"hvm"`
	Snapshot string `json:"snapshot,omitempty"`
}

// RegionID is an image in one region of Aliyun.
type RegionID struct {
	Region string `json:"name"`
	ID     string `json:"id"`
}

// GCPImage is an image of Google Cloud.
type GCPImage struct {
	Image   string `json:"image"`
	URL     string `json:"url"`
	Project string `json:"project,omitempty"`
	Family  string `json:"family,omitempty"`
}

// CloudObject is an image as an object of a cloud's storage.
type CloudObject struct {
	Image  string `json:"image,omitempty"`
	Object string `json:"object,omitempty"`
	Bucket string `json:"bucket,omitempty"`
	Region string `json:"region,omitempty"`
	URL    string `json:"url"`
}

// S3Location is where a build was uploaded to.
type S3Location struct {
	Bucket    string `json:"bucket,omitempty"`
	Key       string `json:"key,omitempty"`
	PublicURL string `json:"public-url,omitempty"`
}

var (
	reSHA256   = lazyregexp.New(`^[0-9a-f]{64}$`)
	reFile     = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9._+-]{0,254}$`)
	reArtifact = lazyregexp.New(`^[a-z0-9][a-z0-9-]{0,63}$`)
)

func (m *Meta) check() (faults []error) {
	fail := func(path, format string, args ...any) {
		faults = append(faults, &FieldError{Path: path, Err: fmt.Errorf(format, args...)})
	}
	if err := checkID(m.BuildID); err != nil {
		fail("buildid", "%w", err)
	}
	if !reFile.MatchString(m.Name) {
		fail("name", "%.80q is not a name", m.Name)
	}
	if !reSHA256.MatchString(m.OSTreeCommit) {
		fail("ostree-commit", "%.80q is not a commit", m.OSTreeCommit)
	}
	if m.OSTreeTimestamp.IsZero() {
		fail("ostree-timestamp", "missing")
	}
	if m.OSTreeVersion == "" {
		fail("ostree-version", "missing")
	}
	if m.Arch != "" {
		if err := checkArch(m.Arch); err != nil {
			fail(`["coreos-assembler.basearch"]`, "%w", err)
		}
	}
	if e := m.ExtensionsArtifact; e != nil {
		if e.Path != "" && !reFile.MatchString(e.Path) {
			fail("extensions.path", "%.255q is not a file name", e.Path)
		}
		if e.SHA256 != "" && !reSHA256.MatchString(e.SHA256) {
			fail("extensions.sha256", "%.80q is not a SHA-256", e.SHA256)
		}
	}
	return append(faults, checkImages(m.Images)...)
}

func checkImages(images map[string]Image) (faults []error) {
	fail := func(path, format string, args ...any) {
		faults = append(faults, &FieldError{Path: path, Err: fmt.Errorf(format, args...)})
	}
	for _, name := range slices.Sorted(maps.Keys(images)) {
		i, at := images[name], join("images", name)
		if !reArtifact.MatchString(name) {
			fail(at, "not the name of an artifact")
		}
		if !reFile.MatchString(i.Path) {
			fail(at+".path", "%.255q is not a file name", i.Path)
		}
		if i.Path == MetaFile || i.Path == ReleaseFile {
			fail(at+".path", "%s is a kind of its own", i.Path)
		}
		if !reSHA256.MatchString(i.SHA256) {
			fail(at+".sha256", "%.80q is not a SHA-256", i.SHA256)
		}
		if i.UncompressedSHA256 != "" && !reSHA256.MatchString(i.UncompressedSHA256) {
			fail(at+".uncompressed-sha256", "%.80q is not a SHA-256", i.UncompressedSHA256)
		}
		if i.Size < 0 || i.UncompressedSize < 0 {
			fail(at+".size", "less than nothing")
		}
	}
	return faults
}

// ArtifactPath is the file name that coreos-assembler gives an artifact:
// NAME-ID-ARTIFACT.ARCH.EXT, without the last part where ext is "", as for
// live-kernel. The kernel and initramfs of a commit are live-kernel with ""
// and live-initramfs with "img".
func ArtifactPath(name, id, artifact, arch, ext string) string {
	file := fmt.Sprintf("%s-%s-%s.%s", name, id, artifact, arch)
	if ext != "" {
		file += "." + ext
	}
	return file
}

// PutMeta gives a change of meta.json for publish.Update: the record with
// everything that m has. Without an old document it starts one. What is there
// and not in m stays; an old document of another build or commit, or with
// other bytes under the name of an artifact, is refused.
//
// coreos-assembler's schema wants that a record with artifacts has one named
// "ostree".
func PutMeta(m Meta) func(old []byte) ([]byte, error) {
	return update(func() (*Document[Meta], error) { return NewDocument(m) }, func(d *Document[Meta]) error {
		return d.Edit(func(old *Meta) error {
			refuse := func(what, was, is string) error {
				return fmt.Errorf("bootimage: meta.json of build %s: %s is %s already, not %s", old.BuildID, what, was, is)
			}
			switch {
			case old.BuildID != m.BuildID:
				return refuse("build", old.BuildID, m.BuildID)
			case old.Arch != "" && m.Arch != "" && old.Arch != m.Arch:
				return refuse("architecture", old.Arch, m.Arch)
			case old.OSTreeCommit != m.OSTreeCommit:
				return refuse("commit", old.OSTreeCommit, m.OSTreeCommit)
			case old.Name != m.Name:
				return refuse("name", old.Name, m.Name)
			}
			images := maps.Clone(old.Images)
			if images == nil {
				images = map[string]Image{}
			}
			for name, image := range m.Images {
				was, ok := images[name]
				switch {
				case ok && was.SHA256 != image.SHA256:
					return refuse("artifact "+name, was.SHA256, image.SHA256)
				case ok && was.Path != image.Path:
					return refuse("artifact "+name, was.Path, image.Path)
				case ok && image.UncompressedSHA256 == "": // measured as it is
					image.UncompressedSHA256, image.UncompressedSize = was.UncompressedSHA256, was.UncompressedSize
				}
				image.Unstamped = image.Unstamped || was.Unstamped // the bytes are the same
				images[name] = image
			}
			kept := *old
			*old = m
			old.Images = images
			fill(old, kept)
			return nil
		})
	})
}

// fill puts what was where m has nothing.
func fill(m *Meta, was Meta) {
	to, from := reflect.ValueOf(m).Elem(), reflect.ValueOf(was)
	for i := range to.NumField() {
		if to.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	// Times are of the first record: a second run changes nothing.
	m.OSTreeTimestamp = was.OSTreeTimestamp
	if !was.BuildTimestamp.IsZero() {
		m.BuildTimestamp = was.BuildTimestamp
	}
}

// floating is the image by the tag that is not of this build, as the release
// names it for people; by digest where there is none.
func (c *ContainerImage) floating(build string) string {
	for _, tag := range c.Tags {
		if !strings.Contains(tag, build) {
			return c.Image + ":" + tag
		}
	}
	return c.digestRef()
}

func (c *ContainerImage) digestRef() string {
	if c.Digest == "" {
		return ""
	}
	return c.Image + "@" + c.Digest
}

var errNoArch = errors.New("meta.json names no architecture")
