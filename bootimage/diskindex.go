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

	maxDiskManifest = 1 << 20
	maxDiskEntries  = 1024
)

// compressions are the names of formats in file names and in artifact types.
var compressions = [][2]string{{".gz", ".gzip"}, {".zst", ".zstd"}, {".xz", ".xz"}}

// ofFormat are the platforms that disks of a format are for, where the index says
// only that they are of Linux.
var ofFormat = map[string]string{"qcow2": "qemu", "raw": "metal", "iso": "metal", "ova": "vmware", "vmdk": "aws", "vhd": "azure", "ami": "aws", "gce": "gcp"}

type diskDescriptor struct {
	MediaType    string        `json:"mediaType"`
	Digest       string        `json:"digest"`
	Size         int64         `json:"size"`
	Platform     *diskPlatform `json:"platform,omitempty"`
	ArtifactType string        `json:"artifactType,omitempty"`
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
// bytes are the blob of that digest.
func DiskIndexEntries(index []byte, repository string, manifest func(digest string) ([]byte, error)) ([]Entry, error) {
	fail := func(i int, err error) error {
		return &FieldError{Document: "index of disk images", Path: fmt.Sprintf("manifests[%d]", i), Err: err}
	}
	var list diskIndex
	if len(index) > maxDiskManifest {
		return nil, &FieldError{Document: "index of disk images", Err: fmt.Errorf("more than %d bytes", maxDiskManifest)}
	}
	if err := json.Unmarshal(index, &list); err != nil {
		return nil, &FieldError{Document: "index of disk images", Err: err}
	}
	if len(list.Manifests) > maxDiskEntries {
		return nil, &FieldError{Document: "index of disk images", Path: "manifests", Err: fmt.Errorf("more than %d", maxDiskEntries)}
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
		data, err := manifest(d.Digest)
		if err != nil {
			return nil, fail(i, err)
		}
		if int64(len(data)) != d.Size || len(data) > maxDiskManifest || digestOf(data) != d.Digest {
			return nil, fail(i, fmt.Errorf("%.80s: not the bytes of its digest: %w", d.Digest, ErrVerification))
		}
		var m diskManifest
		if err := json.Unmarshal(data, &m); err != nil {
			return nil, fail(i, err)
		}
		if len(m.Layers) == 0 {
			return nil, fail(i, fmt.Errorf("no layer: %w", fs.ErrNotExist))
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
		if platform == "metal4k" {
			platform, format = "metal", "4k."+format
		}
		all = append(all, Entry{
			Arch: arch, Platform: platform, Format: format, File: "disk",
			Image: repository + "@" + disk.Digest, SHA256: sum, Size: disk.Size, Path: fmt.Sprintf("manifests[%d]", i),
		})
	}
	return all, nil
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
		if e.File != "disk" || !reSHA256.MatchString(e.SHA256) || e.Size <= 0 || checkArch(e.Arch) != nil {
			return nil, fmt.Errorf("bootimage: index of disk images: %s %s %s %s: not a disk of known checksum and size: %w", e.Arch, e.Platform, e.Format, e.File, fs.ErrInvalid)
		}
		platform, format := e.Platform, e.Format
		if short, ok := strings.CutPrefix(format, "4k."); ok && platform == "metal" {
			platform, format = "metal4k", short
		}
		for _, c := range compressions {
			if short, ok := strings.CutSuffix(format, c[0]); ok {
				format = short + c[1]
			}
		}
		kind := diskArtifactPrefix + format
		where := diskPlatform{Architecture: goArch(e.Arch), OS: platform}
		config, err := diskBlob(mediaConfig, where)
		if err != nil {
			return nil, err
		}
		manifest, err := diskBlob(mediaManifest, diskManifest{
			SchemaVersion: 2, MediaType: mediaManifest, ArtifactType: kind, Config: config.descriptor(),
			Layers: []diskDescriptor{{MediaType: kind, Digest: "sha256:" + e.SHA256, Size: e.Size}},
		})
		if err != nil {
			return nil, err
		}
		d := manifest.descriptor()
		d.Platform, d.ArtifactType = &where, kind
		list.Manifests = append(list.Manifests, d)
		out.Manifests = append(out.Manifests, manifest)
		if !slices.ContainsFunc(out.Configs, func(b DiskBlob) bool { return b.Digest == config.Digest }) {
			out.Configs = append(out.Configs, config)
		}
	}
	var err error
	out.Index, err = diskBlob(mediaIndex, list)
	return out, err
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
