package bootimage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Media types of disk images in registries: an OCI index of artifacts, as Konflux'
// build-vm-image pushes them and coreos-assembler imports them.
const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	// diskArtifactPrefix begins the artifact type of a disk image; its format
	// follows, and "gzip", "xz" or "zstd" where it is compressed: qcow2, raw.gzip.
	diskArtifactPrefix = "application/vnd.diskimage."

	// liveISO is what coreos-assembler calls the live ISO, which documents have under
	// metal.
	liveISO = "live-iso"

	maxDiskManifest = 1 << 20
	maxDiskEntries  = 1024
)

// compressions are the names of formats in file names and in artifact types.
var compressions = [][2]string{{".gz", ".gzip"}, {".zst", ".zstd"}, {".xz", ".xz"}}

// ofFormat are the platforms that disks of a format are for, where the index says
// only that they are of Linux.
var ofFormat = map[string]string{"qcow2": "qemu", "raw": "metal", "iso": "metal", "ova": "vmware", "vmdk": "aws", "vhd": "azure", "ami": "aws", "gce": "gcp"}

type diskDescriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Platform     *diskPlatform     `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

type diskPlatform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"` // the platform's name
}

type diskManifest struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	ArtifactType  string           `json:"artifactType,omitempty"`
	Config        diskDescriptor   `json:"config"`
	Layers        []diskDescriptor `json:"layers"`
}

type diskIndex struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	Manifests     []diskDescriptor `json:"manifests"`
}

// DiskIndexEntries reads an OCI index of disk images. repository is where it is
// from, without tag and digest; manifest gives the bytes of a manifest by digest,
// which are verified. Entries of the index that are no disk images, such as
// container images, are passed over. Disks are named by pullspec in Image: their
// bytes are the blob of that digest. The index and each manifest have at most 1 MiB.
func DiskIndexEntries(index []byte, repository string, manifest func(digest string) ([]byte, error)) ([]Entry, error) {
	fail := func(i int, err error) error {
		return &FieldError{Document: "index of disk images", Path: fmt.Sprintf("manifests[%d]", i), Err: err}
	}
	list, err := decodeDiskIndex(index)
	if err != nil {
		return nil, err
	}
	var all []Entry
	for i, d := range list.Manifests {
		format, ok := strings.CutPrefix(d.ArtifactType, diskArtifactPrefix)
		if !ok {
			continue
		}
		if d.Platform == nil {
			return nil, fail(i, errors.New("no platform"))
		}
		m, err := decodeDiskManifest(d, manifest)
		if err != nil {
			return nil, fail(i, err)
		}
		disk := m.Layers[0]
		sum, ok := strings.CutPrefix(disk.Digest, "sha256:")
		if !ok || !reSHA256.MatchString(sum) || disk.Size < 0 {
			return nil, fail(i, fmt.Errorf("%.80q is not a digest by SHA-256", disk.Digest))
		}
		for _, c := range compressions {
			if short, ok := strings.CutSuffix(format, c[1]); ok {
				format = short + c[0]
			}
		}
		plain, _, _ := strings.Cut(format, ".")
		platform := d.Platform.OS
		if platform == "linux" {
			if platform = ofFormat[plain]; platform == "" {
				platform = plain
			}
		}
		arch := d.Platform.Architecture
		for _, rpm := range knownArches {
			if goArch(rpm) == arch {
				arch = rpm
			}
		}
		if err := checkArch(arch); err != nil || !reArtifact.MatchString(platform) || !reFile.MatchString(format) {
			return nil, fail(i, fmt.Errorf("platform %.40q, architecture %.40q, format %.40q: %w", platform, arch, format, fs.ErrInvalid))
		}
		switch platform {
		case "metal4k":
			platform, format = "metal", "4k."+format
		case liveISO:
			platform = "metal"
		}
		all = append(all, Entry{
			Arch: arch, Platform: platform, Format: format, File: "disk",
			Image: repository + "@" + disk.Digest, SHA256: sum, Size: disk.Size, Path: fmt.Sprintf("manifests[%d]", i),
		})
	}
	return all, nil
}

// decodeDiskIndex reads an index.
func decodeDiskIndex(data []byte) (*diskIndex, error) {
	var list diskIndex
	if len(data) > maxDiskManifest {
		return nil, &FieldError{Document: "index of disk images", Err: fmt.Errorf("more than %d bytes", maxDiskManifest)}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, &FieldError{Document: "index of disk images", Err: err}
	}
	if len(list.Manifests) > maxDiskEntries {
		return nil, &FieldError{Document: "index of disk images", Path: "manifests", Err: fmt.Errorf("more than %d", maxDiskEntries)}
	}
	return &list, nil
}

// decodeDiskManifest gets a manifest that has a layer at least.
func decodeDiskManifest(d diskDescriptor, blob func(digest string) ([]byte, error)) (*diskManifest, error) {
	data, err := verifiedBlob(d, maxDiskManifest, blob)
	if err != nil {
		return nil, err
	}
	var m diskManifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if len(m.Layers) == 0 {
		return nil, fmt.Errorf("no layer: %w", fs.ErrNotExist)
	}
	return &m, nil
}

// verifiedBlob gets what a descriptor names.
func verifiedBlob(d diskDescriptor, limit int64, blob func(digest string) ([]byte, error)) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("%.80s: more than %d bytes: %w", d.Digest, limit, fs.ErrInvalid)
	}
	data, err := blob(d.Digest)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != d.Size || digestOf(data) != d.Digest {
		return nil, fmt.Errorf("%.80s: not the bytes of its digest: %w", d.Digest, ErrVerification)
	}
	return data, nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// DiskBlob is a document of a [DiskIndex].
type DiskBlob struct {
	MediaType string
	Digest    string // sha256:…
	Data      []byte
}

// DiskIndex is an OCI index of disk images as it is pushed: first the disks, as
// blobs of their SHA-256, then Configs, Manifests, and the index itself.
type DiskIndex struct {
	Index              DiskBlob
	Manifests, Configs []DiskBlob
}

// NewDiskIndex describes disks for a registry. Of each entry the checksum and the
// size must be known ([MetaEntries]); others than disks are refused with an error
// that wraps [io/fs.ErrInvalid]. The same entries give the same bytes.
func NewDiskIndex(entries []Entry) (*DiskIndex, error) {
	out := &DiskIndex{}
	list := diskIndex{SchemaVersion: 2, MediaType: mediaIndex, Manifests: []diskDescriptor{}}
	for _, e := range entries {
		if err := out.add(&list, e, ""); err != nil {
			return nil, err
		}
	}
	var err error
	out.Index, err = diskBlob(mediaIndex, list)
	return out, err
}

// add adds a disk, whose file has a name if it is not "".
func (out *DiskIndex) add(list *diskIndex, e Entry, title string) error {
	if e.File != "disk" || !reSHA256.MatchString(e.SHA256) || e.Size <= 0 || checkArch(e.Arch) != nil {
		return fmt.Errorf("bootimage: index of disk images: %s %s %s %s: not a disk of known checksum and size: %w", e.Arch, e.Platform, e.Format, e.File, fs.ErrInvalid)
	}
	// The platform is the artifact's name, which coreos-assembler takes for its record.
	platform, format := e.Platform, e.Format
	if short, ok := strings.CutPrefix(format, "4k."); ok && platform == "metal" {
		platform, format = "metal4k", short
	}
	if platform == "metal" && format == "iso" {
		platform = liveISO
	}
	for _, c := range compressions {
		if short, ok := strings.CutSuffix(format, c[0]); ok {
			format = short + c[1]
		}
	}
	kind := diskArtifactPrefix + format
	where := diskPlatform{Architecture: goArch(e.Arch), OS: platform}
	layer := diskDescriptor{MediaType: kind, Digest: "sha256:" + e.SHA256, Size: e.Size}
	if title != "" {
		layer.Annotations = map[string]string{titleAnnotation: title}
	}
	return out.manifest(list, kind, where, layer)
}

// manifest adds a manifest of layers.
func (out *DiskIndex) manifest(list *diskIndex, kind string, where diskPlatform, layers ...diskDescriptor) error {
	config, err := diskBlob(mediaConfig, where)
	if err != nil {
		return err
	}
	manifest, err := diskBlob(mediaManifest, diskManifest{
		SchemaVersion: 2, MediaType: mediaManifest, ArtifactType: kind, Config: config.descriptor(), Layers: layers,
	})
	if err != nil {
		return err
	}
	d := manifest.descriptor()
	d.Platform, d.ArtifactType = &where, kind
	list.Manifests = append(list.Manifests, d)
	out.Manifests = append(out.Manifests, manifest)
	out.blob(config)
	return nil
}

// blob adds a blob, once.
func (out *DiskIndex) blob(b DiskBlob) {
	if !slices.ContainsFunc(out.Configs, func(have DiskBlob) bool { return have.Digest == b.Digest }) {
		out.Configs = append(out.Configs, b)
	}
}

func diskBlob(mediaType string, v any) (DiskBlob, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return DiskBlob{}, fmt.Errorf("bootimage: index of disk images: %w", err)
	}
	return DiskBlob{MediaType: mediaType, Digest: digestOf(data), Data: data}, nil
}

func (b DiskBlob) descriptor() diskDescriptor {
	return diskDescriptor{MediaType: b.MediaType, Digest: b.Digest, Size: int64(len(b.Data))}
}
