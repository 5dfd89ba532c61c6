package bootimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
)

// recordArtifact is the type of the manifest with what a build has beside its disks: as
// layers its meta.json, release.json and what builds.json says of it, then the other
// files, by titles. It is our own; who looks for
// disks passes over it.
const recordArtifact = "application/vnd.okd-streams.build"

// titleAnnotation names the file of a layer.
const titleAnnotation = "org.opencontainers.image.title"

// noPlatform is that of manifests that nothing runs on, as BuildKit has it.
var noPlatform = diskPlatform{Architecture: "unknown", OS: "unknown"}

// NewBuildIndex describes builds for a registry: an OCI index of their disks, as
// [NewDiskIndex] has them, which coreos-assembler imports, and one manifest a build with
// its record and all other files, so that [BuildsOfIndex] gives back the same builds.
// Import builds with their checksums: a file whose SHA-256 is not known is an error that
// wraps [io/fs.ErrInvalid]. The same builds give the same bytes. The files are pushed as
// blobs of their SHA-256, before the documents in Configs, Manifests and Index.
func NewBuildIndex(builds []*ImportedBuild) (*DiskIndex, error) {
	out := &DiskIndex{}
	list := diskIndex{SchemaVersion: 2, MediaType: mediaIndex, Manifests: []diskDescriptor{}}
	for _, b := range builds {
		if err := out.build(&list, b); err != nil {
			return nil, fmt.Errorf("bootimage: index of builds: %s/%s: %w", b.ID, b.Arch, err)
		}
	}
	if len(list.Manifests) > maxDiskEntries {
		return nil, fmt.Errorf("bootimage: index of builds: more than %d disks: %w", maxDiskEntries, fs.ErrInvalid)
	}
	var err error
	out.Index, err = diskBlob(mediaIndex, list)
	return out, err
}

func (out *DiskIndex) build(list *diskIndex, b *ImportedBuild) error {
	m := b.Meta.Value()
	var layers []diskDescriptor
	document := func(name string, data []byte) {
		blob := DiskBlob{MediaType: "application/json", Digest: digestOf(data), Data: data}
		out.blob(blob)
		layer := blob.descriptor()
		layer.Annotations = map[string]string{titleAnnotation: name}
		layers = append(layers, layer)
	}
	document(MetaFile, b.Meta.Bytes())
	if b.Release != nil {
		document(ReleaseFile, b.Release.Bytes())
	}
	if b.Catalogue != nil {
		document(BuildsFile, b.Catalogue.Bytes())
	}
	disks := map[string]Entry{} // by file name
	for name := range m.Images {
		e := imageEntry(m, name, "")
		e.Arch = b.Arch
		if e.File == "disk" && !slices.Contains(elsewhere, name) && name != "iso" {
			disks[e.URL] = e
		}
	}
	for _, f := range b.Files {
		if !reSHA256.MatchString(f.SHA256) {
			return fmt.Errorf("%s: its SHA-256 is not known: %w", f.Name, fs.ErrInvalid)
		}
		if e, ok := disks[f.Name]; ok {
			e.Size = f.Size
			if err := out.add(list, e, f.Name); err != nil {
				return err
			}
			continue
		}
		layers = append(layers, diskDescriptor{
			MediaType: ContentType(f.Name), Digest: "sha256:" + f.SHA256, Size: f.Size, Annotations: map[string]string{titleAnnotation: f.Name},
		})
	}
	return out.manifest(list, recordArtifact, noPlatform, layers...)
}

// BuildsOfIndex reads the builds of an OCI index with disk images, in the order of their
// first manifests. blob gives manifests and other documents by digest, at most
// [MaxDocumentSize] bytes; they are verified. Builds of [NewBuildIndex] are as they were;
// files that the index has no more are in Cleanup.
//
// Of an index of others, such as Konflux', there is one build an architecture with its
// disks alone. Its record is made of the container image in the index, as
// coreos-assembler's import makes it: from the labels
// org.opencontainers.image.version, com.coreos.osname and ostree.commit and the time it
// was created at. An index without such an image is an error that wraps
// [io/fs.ErrNotExist]. Such a record names no artifact ostree, which coreos-assembler's
// schema wants.
func BuildsOfIndex(index []byte, blob func(digest string) ([]byte, error)) ([]*ImportedBuild, error) {
	list, err := decodeDiskIndex(index)
	if err != nil {
		return nil, err
	}
	disks, err := DiskIndexEntries(index, "", blob)
	if err != nil {
		return nil, err
	}
	fail := func(i int, err error) error {
		return &FieldError{Document: "index of disk images", Path: fmt.Sprintf("manifests[%d]", i), Err: err}
	}
	var all []*ImportedBuild
	recorded := map[string]bool{}
	for i, d := range list.Manifests {
		if d.ArtifactType != recordArtifact {
			continue
		}
		b, err := recordedBuild(d, disks, blob)
		if err != nil {
			return nil, fail(i, err)
		}
		if slices.ContainsFunc(all, func(have *ImportedBuild) bool { return have.ID == b.ID && have.Arch == b.Arch }) {
			return nil, fail(i, fmt.Errorf("build %s/%s is there twice", b.ID, b.Arch))
		}
		recorded[b.Arch] = true
		all = append(all, b)
	}
	for _, e := range disks {
		if recorded[e.Arch] {
			continue
		}
		recorded[e.Arch] = true
		b, err := labelledBuild(list, e.Arch, disks, blob)
		if err != nil {
			return nil, &FieldError{Document: "index of disk images", Err: fmt.Errorf("container image for %s: %w", e.Arch, err)}
		}
		all = append(all, b)
	}
	return all, nil
}

// recordedBuild reads a manifest with a record.
func recordedBuild(d diskDescriptor, disks []Entry, blob func(digest string) ([]byte, error)) (*ImportedBuild, error) {
	m, err := decodeDiskManifest(d, blob)
	if err != nil {
		return nil, err
	}
	if title := m.Layers[0].Annotations[titleAnnotation]; title != MetaFile {
		return nil, fmt.Errorf("its first file is %.80q, not %s: %w", title, MetaFile, fs.ErrInvalid)
	}
	if len(m.Layers) > maxDiskEntries {
		return nil, fmt.Errorf("more than %d files: %w", maxDiskEntries, fs.ErrInvalid)
	}
	data, err := verifiedBlob(m.Layers[0], MaxDocumentSize, blob)
	if err != nil {
		return nil, err
	}
	b := &ImportedBuild{}
	if b.Meta, err = decode[Meta](data); err != nil {
		return nil, err
	}
	meta := b.Meta.Value()
	if b.ID, b.Arch = meta.BuildID, meta.Arch; b.Arch == "" {
		return nil, errNoArch
	}
	files := map[string]ImportedFile{}
	var others []string
	for _, layer := range m.Layers[1:] {
		name := layer.Annotations[titleAnnotation]
		sum, ok := strings.CutPrefix(layer.Digest, "sha256:")
		if _, twice := files[name]; twice || !ok || !reSHA256.MatchString(sum) || layer.Size < 0 || !reFile.MatchString(name) || name == MetaFile {
			return nil, fmt.Errorf("file %.80q, %.80q: %w", name, layer.Digest, fs.ErrInvalid)
		}
		files[name] = b.file(name, sum, layer.Size)
		switch name {
		case ReleaseFile, BuildsFile: // of all architectures
		default:
			others = append(others, name)
		}
		if err := b.document(name, layer, blob); err != nil {
			return nil, err
		}
	}
	if b.Catalogue != nil {
		if b.Cleanup, err = b.Catalogue.view.Builds[0].cleanup(); err != nil {
			return nil, err
		}
	}
	if e := meta.ExtensionsArtifact; e != nil && e.SHA256 != "" {
		if f, ok := files[e.Path]; ok && f.SHA256 != e.SHA256 {
			return nil, fmt.Errorf("extensions: the file has SHA-256 %s, the record says %s: %w", f.SHA256, e.SHA256, ErrVerification)
		}
	}
	artifacts := map[string]bool{}
	var kept []string
	for _, name := range slices.Sorted(maps.Keys(meta.Images)) {
		image := meta.Images[name]
		artifacts[image.Path] = true
		f, ok := files[image.Path]
		if at := slices.IndexFunc(disks, func(e Entry) bool { return e.SHA256 == image.SHA256 && e.Arch == b.Arch }); !ok && at >= 0 {
			f, ok = b.file(image.Path, image.SHA256, disks[at].Size), true
		}
		if !ok {
			b.Cleanup.Images = true
			continue
		}
		if f.SHA256 != image.SHA256 || image.Size != 0 && f.Size != image.Size {
			return nil, fmt.Errorf("artifact %s: the file has SHA-256 %s and %d bytes, the record says %s and %d: %w", name, f.SHA256, f.Size, image.SHA256, image.Size, ErrVerification)
		}
		kept = append(kept, name)
		b.Files = append(b.Files, f)
	}
	if b.Cleanup.Images {
		b.Cleanup.ImagesKept = kept
	}
	for _, name := range others {
		if !artifacts[name] {
			b.Files = append(b.Files, files[name])
		}
	}
	return b, nil
}

// document reads those of the files that are documents of their own.
func (b *ImportedBuild) document(name string, layer diskDescriptor, blob func(digest string) ([]byte, error)) error {
	if name != CommitMetaFile && name != ReleaseFile && name != BuildsFile {
		return nil
	}
	data, err := verifiedBlob(layer, MaxDocumentSize, blob)
	if err != nil {
		return err
	}
	switch name {
	case CommitMetaFile:
		b.CommitMeta, err = decode[CommitMeta](data)
	case ReleaseFile:
		if b.Release, err = decode[releasemd.Release](data); err == nil && b.Release.view.Release != b.ID {
			err = fmt.Errorf("%s is of release %.140s: %w", name, b.Release.view.Release, fs.ErrInvalid)
		}
	case BuildsFile:
		if b.Catalogue, err = decode[Builds](data); err == nil {
			if all := b.Catalogue.view.Builds; len(all) != 1 || all[0].ID != b.ID || !slices.Equal(all[0].Arches, []string{b.Arch}) {
				err = fmt.Errorf("%s is not of this build alone: %w", name, fs.ErrInvalid)
			}
		}
	}
	return err
}

func (b *ImportedBuild) file(name, sum string, size int64) ImportedFile {
	return ImportedFile{BucketFile: BucketFile{Kind: FileArtifact, Build: b.ID, Arch: b.Arch, Name: name}, SHA256: sum, Size: size}
}

// labelledBuild makes a build of an architecture's disks and the labels of the container
// image beside them.
func labelledBuild(list *diskIndex, arch string, disks []Entry, blob func(digest string) ([]byte, error)) (*ImportedBuild, error) {
	at := slices.IndexFunc(list.Manifests, func(d diskDescriptor) bool {
		return d.ArtifactType == "" && d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == goArch(arch)
	})
	if at < 0 {
		return nil, fmt.Errorf("its labels would be the record: %w", fs.ErrNotExist)
	}
	manifest, err := decodeDiskManifest(list.Manifests[at], blob)
	if err != nil {
		return nil, err
	}
	data, err := verifiedBlob(manifest.Config, MaxDocumentSize, blob)
	if err != nil {
		return nil, err
	}
	var config struct {
		Created time.Time `json:"created"`
		Config  struct {
			Labels map[string]string `json:"Labels"`
		} `json:"config"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, err
	}
	labels := config.Config.Labels
	var missing []error
	label := func(name string) string {
		if labels[name] == "" {
			missing = append(missing, fmt.Errorf("label %s: %w", name, fs.ErrNotExist))
		}
		return labels[name]
	}
	version, commit := label("org.opencontainers.image.version"), label("ostree.commit")
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	name := labels["com.coreos.osname"]
	if name == "" {
		name = "custom" // coreos-assembler's
	}
	created := config.Created.UTC().Truncate(time.Second)
	m := Meta{
		BuildID: version, Name: name, OSTreeCommit: commit, OSTreeVersion: version, OSTreeTimestamp: created, BuildTimestamp: created,
		Arch: arch, OCIImported: true, OCILabels: labels, Summary: labels["org.opencontainers.image.description"], Images: map[string]Image{},
	}
	if source, revision := labels["org.opencontainers.image.source"], labels["org.opencontainers.image.revision"]; source != "" && revision != "" {
		m.ConfigGit = &Git{Origin: source, Commit: revision}
	}
	b := &ImportedBuild{ID: version, Arch: arch}
	for _, e := range disks {
		if e.Arch != arch {
			continue
		}
		artifact, ext := e.Platform, e.Format
		if short, ok := strings.CutPrefix(ext, "4k."); ok && artifact == "metal" {
			artifact, ext = "metal4k", short
		}
		if artifact == "metal" && ext == "iso" {
			artifact = liveISO
		}
		if _, ok := m.Images[artifact]; ok {
			return nil, fmt.Errorf("two disks for %s: %w", artifact, fs.ErrExist)
		}
		file := ArtifactPath(name, version, artifact, arch, ext)
		m.Images[artifact] = Image{Path: file, SHA256: e.SHA256, Size: e.Size, SkipCompression: true}
	}
	if b.Meta, err = NewDocument(m); err != nil {
		return nil, err
	}
	for _, artifact := range slices.Sorted(maps.Keys(m.Images)) {
		b.Files = append(b.Files, b.file(m.Images[artifact].Path, m.Images[artifact].SHA256, m.Images[artifact].Size))
	}
	return b, nil
}
