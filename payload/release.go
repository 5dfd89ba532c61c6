package payload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// OpenOptions say how [Open] reads. Nil is the default.
type OpenOptions struct {
	// Platform to choose from an index. Default linux/amd64; in part empty,
	// only what is given has to match.
	Platform v1.Platform
	// AllLayers reads all layers of the image, as a cluster does, and not the
	// last alone: manifests that only a lower layer has, left behind where a
	// release was made from a release, are among the manifests then, and named
	// by a warning each. It fetches the whole image.
	AllLayers bool
}

// Release is a payload read by [Open]. Everything in it has been verified.
type Release struct {
	// Ref is the reference that was asked for.
	Ref name.Reference
	// Digest is of the release image's manifest, ListDigest of the index it was
	// chosen from, zero if it was not.
	Digest, ListDigest v1.Hash
	// DiffID is of the layer with the payload, the identity of its content.
	DiffID v1.Hash
	// RawManifest and RawConfig are the image's manifest and configuration, nil
	// for a payload from a folder.
	RawManifest, RawConfig []byte

	References *ImageStream
	Metadata   *Metadata
	// Warnings say what contradicts itself in the payload but can be read.
	Warnings []string

	image *fetched
	files []file // manifests by name
}

// Open reads the release image that ref names: its manifest, configuration and
// last layer, which takes three requests, one more for a tag and at most two
// more for an index (none for a tag and one for an index, if src gives
// manifests and blobs one by one, as publish.Blobs and [Folder] do). All of it is verified before anything is returned. A missing image
// and an image that is not a release give [io/fs.ErrNotExist]; bytes that are
// not what their digest promises, [ErrDigest].
//
// Like `oc adm release info` it looks at the last layer only, unless
// OpenOptions.AllLayers is set.
func Open(ctx context.Context, src Images, ref name.Reference, opts *OpenOptions) (*Release, error) {
	if opts == nil {
		opts = &OpenOptions{}
	}
	platform := opts.Platform
	if platform.Equals(v1.Platform{}) {
		platform = defaultPlatform
	}
	f, err := fetch(ctx, src, ref, platform)
	if err == nil {
		var r *Release
		if r, err = openFetched(ctx, f, opts.AllLayers); err == nil {
			return r, nil
		}
	}
	return nil, &Error{Op: "open", Target: refText(ref), Err: err}
}

func refText(ref name.Reference) string {
	if ref == nil {
		return "(no reference)"
	}
	return ref.Name()
}

func openFetched(ctx context.Context, f *fetched, allLayers bool) (*Release, error) {
	last := len(f.manifest.Layers) - 1
	if last < 0 {
		return nil, fmt.Errorf("image without layers: %w", fs.ErrNotExist)
	}
	dir := newFolder(releaseFolder)
	if err := f.readLayers(ctx, dir, last); err != nil {
		return nil, err
	}
	switch {
	case len(dir.escapes) > 0:
		return nil, fmt.Errorf("entry %q leaves its folder", dir.escapes[0])
	case len(dir.duplicates) > 0:
		return nil, fmt.Errorf("%s/%s is there twice", releaseFolder, dir.duplicates[0])
	}
	r := &Release{
		Ref: f.ref, Digest: f.digest, ListDigest: f.listDigest, DiffID: f.config.RootFS.DiffIDs[last],
		RawManifest: f.raw, RawConfig: f.rawConfig, image: f,
	}
	if err := r.decode(dir); err != nil {
		return nil, err
	}
	if allLayers {
		if err := r.readStale(ctx, dir, last); err != nil {
			return nil, err
		}
	}
	if label := f.labels()[LabelRelease]; label != r.Metadata.Version {
		r.warn("label %s is %q, the version is %q", LabelRelease, label, r.Metadata.Version)
	}
	if f.list != nil && f.listed != f.mediaType {
		r.warn("the index has %s as %s, but it is %s", f.digest, f.listed, f.mediaType)
	}
	if multi := r.Metadata.Metadata[MetadataArchitecture] == "multi"; multi && f.list == nil {
		r.warn("%s is multi in the metadata, but this is one image", MetadataArchitecture)
	}
	return r, nil
}

// readStale adds what lower layers have in the payload's folder, and the last,
// which top has, neither replaces nor hides.
func (r *Release) readStale(ctx context.Context, top *folder, last int) error {
	all := newFolder(releaseFolder)
	for i := range last + 1 {
		if err := r.image.readLayers(ctx, all, i); err != nil {
			return err
		}
	}
	delete(all.files, referencesFile)
	delete(all.files, metadataFile)
	r.files = all.sorted()
	for _, f := range r.files {
		if _, ok := top.files[f.name]; !ok {
			r.warn("%s is in a lower layer only: clusters apply it, but it is not of this release", f.name)
		}
	}
	return nil
}

// decode reads the documents of a payload's folder.
func (r *Release) decode(dir *folder) error {
	references, ok := dir.files[referencesFile]
	if !ok {
		return fmt.Errorf("not a release image, its last layer has no %s/%s: %w", releaseFolder, referencesFile, fs.ErrNotExist)
	}
	metadata, ok := dir.files[metadataFile]
	if !ok {
		return fmt.Errorf("its last layer has no %s/%s: %w", releaseFolder, metadataFile, fs.ErrNotExist)
	}
	var err error
	if r.References, err = decodeImageStream(references.data); err != nil {
		return fmt.Errorf("%s: %w", referencesFile, err)
	}
	if r.Metadata, err = decodeMetadata(metadata.data); err != nil {
		return fmt.Errorf("%s: %w", metadataFile, err)
	}
	delete(dir.files, referencesFile)
	delete(dir.files, metadataFile)
	r.files = dir.sorted()
	if r.References.Name != r.Metadata.Version {
		r.warn("%s has the name %q, %s the version %q", referencesFile, r.References.Name, metadataFile, r.Metadata.Version)
	}
	return nil
}

// OpenFolder reads a payload from its files: the folder release-manifests of a
// release image, or what `oc adm release extract --to` wrote, where fsys has
// image-references at its root. There is no image then: Ref, the digests and
// RawConfig are empty, and nothing says that the files are the published ones.
// Folders, links and files with other names than a payload's can have are
// errors. A folder without image-references and release-metadata gives
// [io/fs.ErrNotExist].
func OpenFolder(ctx context.Context, fsys fs.FS) (*Release, error) {
	r, err := openFolder(ctx, fsys)
	if err != nil {
		return nil, &Error{Op: "open", Target: "folder", Err: err}
	}
	return r, nil
}

func openFolder(ctx context.Context, fsys fs.FS) (*Release, error) {
	base := "."
	if _, err := fs.Stat(fsys, referencesFile); errors.Is(err, fs.ErrNotExist) {
		base = releaseFolder
	}
	list, err := fs.ReadDir(fsys, base)
	if err != nil {
		return nil, err
	}
	if len(list) > MaxManifests {
		return nil, fmt.Errorf("more than %d files in %s", MaxManifests, base)
	}
	dir := newFolder(base)
	files := folderImages{fsys}
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := checkFileName(e.Name()); err != nil {
			return nil, err
		}
		if !e.Type().IsRegular() {
			return nil, &fs.PathError{Op: "open", Path: path.Join(base, e.Name()), Err: errors.New("not a regular file")}
		}
		data, err := files.read(path.Join(base, e.Name()), MaxManifestSize)
		if err != nil {
			return nil, err
		}
		if dir.size += int64(len(data)); dir.size > MaxPayloadSize {
			return nil, fmt.Errorf("files of more than %d bytes in %s", MaxPayloadSize, base)
		}
		dir.files[e.Name()] = file{name: e.Name(), data: data}
	}
	r := &Release{}
	return r, r.decode(dir)
}

func (r *Release) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// Version is the name of the release.
func (r *Release) Version() string { return r.Metadata.Version }

// Pullspec names the release by digest, of the index if it is in one. A
// payload from a folder has none, the zero value.
func (r *Release) Pullspec() name.Digest {
	if r.Ref == nil {
		return name.Digest{}
	}
	digest := r.Digest
	if r.ListDigest != (v1.Hash{}) {
		digest = r.ListDigest
	}
	return r.Ref.Context().Digest(digest.String())
}

// Image gives the component with this name, by digest. A name that the payload
// does not have gives [io/fs.ErrNotExist].
func (r *Release) Image(component string) (name.Digest, error) {
	tag := r.References.Tag(component)
	if tag == nil || tag.Kind != dockerImage {
		return name.Digest{}, &Error{Op: "open", Target: "component " + component, Err: fs.ErrNotExist}
	}
	ref, err := name.NewDigest(tag.Pullspec)
	if err != nil {
		return name.Digest{}, &Error{Op: "open", Target: "component " + component, Err: err}
	}
	return ref, nil
}

// Manifests gives the payload's files but image-references and
// release-metadata, by name, in the order of names. The bytes are not to be
// changed.
func (r *Release) Manifests() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, f := range r.files {
			if !yield(f.name, f.data) {
				return
			}
		}
	}
}

// Info is what `oc adm release info -o json` prints of a release.
type Info struct {
	Image         string                      `json:"image"`
	Digest        v1.Hash                     `json:"-"`
	ContentDigest v1.Hash                     `json:"-"`
	ListDigest    v1.Hash                     `json:"-"`
	Config        json.RawMessage             `json:"config"`
	Metadata      *Metadata                   `json:"metadata"`
	References    *ImageStream                `json:"references"`
	Versions      map[string]ComponentVersion `json:"displayVersions"`
	VersionTags   map[string]string           `json:"versionsTags"`
	// Images are those of [Release.Components], for whom wants them in the JSON
	// as `oc adm release info --include-images` has them; nil otherwise.
	Images   []ComponentImage `json:"images"`
	Warnings []string         `json:"warnings"`
}

// MarshalJSON writes the members that oc writes, in its order.
func (i Info) MarshalJSON() ([]byte, error) {
	digest := func(h v1.Hash) string {
		if h == (v1.Hash{}) {
			return ""
		}
		return h.String()
	}
	type shown struct{ Version, DisplayName string }
	versions := make(map[string]shown, len(i.Versions))
	for key, v := range i.Versions {
		versions[key] = shown(v)
	}
	var o object
	o.put("image", i.Image)
	o.put("digest", digest(i.Digest))
	o.put("contentDigest", digest(i.ContentDigest))
	o.put("listDigest", digest(i.ListDigest))
	o.put("config", i.Config)
	o.put("metadata", i.Metadata)
	o.put("references", i.References)
	o.put("versions", nil) // deprecated there, always null
	o.put("displayVersions", versions)
	o.put("versionsTags", i.VersionTags)
	var images map[string]ComponentImage
	if i.Images != nil {
		images = make(map[string]ComponentImage, len(i.Images))
	}
	for _, c := range i.Images {
		images[c.Tag] = c
	}
	o.put("images", images)
	o.put("warnings", i.Warnings)
	return o.bytes()
}

// Info describes the release as oc does. A component's version is the first in
// the order of versions where images state several, and the tag shown for it
// is the last that states one.
func (r *Release) Info() (*Info, error) {
	var config json.RawMessage
	image := "file://"
	if r.image != nil {
		var err error
		if config, err = json.Marshal(r.image.config); err != nil {
			return nil, &Error{Op: "open", Target: refText(r.Ref), Err: err}
		}
		image = r.Ref.String()
	}
	digest := r.Digest
	if r.ListDigest != (v1.Hash{}) {
		digest = r.ListDigest
	}
	info := &Info{
		Image: image, Digest: digest, ContentDigest: r.Digest, ListDigest: r.ListDigest, Config: config,
		Metadata: r.Metadata, References: r.References, Versions: map[string]ComponentVersion{}, VersionTags: map[string]string{},
	}
	versions, names := map[string]map[string]bool{}, map[string]map[string]bool{}
	add := func(all map[string]map[string]bool, key, value string) {
		if all[key] == nil {
			all[key] = map[string]bool{}
		}
		all[key][value] = true
	}
	var faults []error
	for _, tag := range r.References.Tags {
		found, err := parseVersions(tag.Annotations[annotationVersions], tag.Annotations[annotationDisplayNames])
		if err != nil {
			faults = append(faults, fmt.Errorf("the referenced image %s had an invalid version annotation: %w", tag.Name, err))
		}
		for key, v := range found {
			info.VersionTags[key] = tag.Name
			add(versions, key, v.Version)
			if v.DisplayName != "" {
				add(names, key, v.DisplayName)
			}
		}
	}
	var several []string
	for key := range versions {
		v := ComponentVersion{Version: slices.Sorted(maps.Keys(versions[key]))[0]}
		if len(names[key]) > 0 {
			v.DisplayName = slices.Sorted(maps.Keys(names[key]))[0]
		}
		if key != "machine-os" && (len(versions[key]) > 1 || len(names[key]) > 1) {
			several = append(several, key)
		}
		info.Versions[key] = v
	}
	if len(several) > 0 {
		slices.Sort(several)
		faults = append(faults, errors.New("multiple versions or display names reported for the following component(s): "+strings.Join(several, ", ")))
	}
	for _, err := range faults {
		info.Warnings = append(info.Warnings, err.Error())
	}
	return info, nil
}
