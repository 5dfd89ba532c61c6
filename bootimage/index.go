package bootimage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
)

// DecodeIndex reads a releases.json, as [DecodeBuilds]: the releases of a stream
// from the oldest to the newest, each with the address of its release.json.
func DecodeIndex(r io.Reader) (*Document[releasemd.Index], error) { return read[releasemd.Index](r) }

// IndexNote is the note of an index that is started here.
const IndexNote = "For the tools of the release process only. Anything else should read the metadata of the stream."

// IndexOptions are options of [UpdateIndex].
type IndexOptions struct {
	// URL is where readers find the release.json. Required.
	URL string
	// LastModified is the time of the change. Required.
	LastModified time.Time
	// Note is that of a new index; "": [IndexNote].
	Note string
	// Indent is how many spaces a new index is indented by, at most 8; 0: 4.
	// Fedora's have 2.
	Indent int
}

// UpdateIndex gives a change of releases.json for publish.Update: the release
// comes last. Where it is there already its further architectures join it, as
// long as no other release came after it; a release that is there with other
// content, or too late, is refused with an error that wraps [io/fs.ErrExist].
// Where nothing is new nothing changes, not even the time. Without an old
// document it starts one.
func UpdateIndex(release *releasemd.Release, opts *IndexOptions) func(old []byte) ([]byte, error) {
	change := func(index *releasemd.Index) error {
		entry, err := indexEntry(release, opts)
		if err != nil {
			return err
		}
		if index.Stream != release.Stream {
			return fmt.Errorf("bootimage: releases.json is of stream %s, not %s", index.Stream, release.Stream)
		}
		at := slices.IndexFunc(index.Releases, func(e releasemd.IndexRelease) bool { return e.Version == entry.Version })
		if at < 0 {
			index.Releases = append(index.Releases, entry)
			index.Metadata.LastModified = stamp(opts.LastModified)
			return nil
		}
		joined, more, err := joinIndex(index.Releases[at], entry)
		if err != nil {
			return fmt.Errorf("bootimage: releases.json: release %s: %w", entry.Version, err)
		}
		if !more {
			return nil
		}
		if at != len(index.Releases)-1 {
			return fmt.Errorf("bootimage: releases.json: release %s is not the last: %w", entry.Version, fs.ErrExist)
		}
		index.Releases[at] = joined
		index.Metadata.LastModified = stamp(opts.LastModified)
		return nil
	}
	return update(func() (*Document[releasemd.Index], error) {
		index := releasemd.Index{Note: IndexNote, Stream: release.Stream}
		if err := change(&index); err != nil {
			return nil, err
		}
		if opts.Note != "" {
			index.Note = opts.Note
		}
		return startIndented(index, opts.Indent)
	}, func(d *Document[releasemd.Index]) error { return d.Edit(change) })
}

// stamp writes a time as documents have it.
func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

func indexEntry(release *releasemd.Release, opts *IndexOptions) (releasemd.IndexRelease, error) {
	if opts == nil || opts.URL == "" || opts.LastModified.IsZero() {
		return releasemd.IndexRelease{}, errors.New("bootimage: releases.json: address of release.json and time are required")
	}
	if faults := checkRelease(release); len(faults) > 0 {
		return releasemd.IndexRelease{}, fmt.Errorf("bootimage: releases.json: %w", errors.Join(faults...))
	}
	entry := releasemd.IndexRelease{Version: release.Release, MetadataURL: opts.URL}
	for _, name := range slices.Sorted(maps.Keys(release.Architectures)) {
		arch := release.Architectures[name]
		if arch.Commit != "" {
			entry.Commits = append(entry.Commits, releasemd.IndexReleaseCommit{Architecture: name, Checksum: arch.Commit})
		}
		if arch.OciImage != nil {
			entry.OciImages = append(entry.OciImages, releasemd.IndexReleaseOciImage{Architecture: name, ContainerImage: *arch.OciImage})
		}
	}
	if len(entry.Commits)+len(entry.OciImages) == 0 {
		return entry, fmt.Errorf("bootimage: releases.json: release %s has neither commits nor images", release.Release)
	}
	return entry, nil
}

// joinIndex adds to old what add has more, and tells whether there is any.
func joinIndex(old, add releasemd.IndexRelease) (_ releasemd.IndexRelease, more bool, err error) {
	if old.MetadataURL != add.MetadataURL {
		return old, false, fmt.Errorf("is at %s already, not at %s: %w", old.MetadataURL, add.MetadataURL, fs.ErrExist)
	}
	old.Commits, old.OciImages = slices.Clone(old.Commits), slices.Clone(old.OciImages)
	for _, c := range add.Commits {
		i := slices.IndexFunc(old.Commits, func(o releasemd.IndexReleaseCommit) bool { return o.Architecture == c.Architecture })
		switch {
		case i < 0:
			old.Commits, more = append(old.Commits, c), true
		case old.Commits[i] != c:
			return old, false, fmt.Errorf("commit of %s is %s already: %w", c.Architecture, old.Commits[i].Checksum, fs.ErrExist)
		}
	}
	for _, image := range add.OciImages {
		i := slices.IndexFunc(old.OciImages, func(o releasemd.IndexReleaseOciImage) bool { return o.Architecture == image.Architecture })
		switch {
		case i < 0:
			old.OciImages, more = append(old.OciImages, image), true
		case old.OciImages[i] != image:
			return old, false, fmt.Errorf("image of %s is %s already: %w", image.Architecture, old.OciImages[i].DigestRef, fs.ErrExist)
		}
	}
	return old, more, nil
}

func checkIndex(index *releasemd.Index) (faults []error) {
	fail := func(path string, err error) { faults = append(faults, &FieldError{Path: path, Err: err}) }
	if index.Stream == "" {
		fail("stream", errors.New("missing"))
	}
	seen := map[string]bool{}
	for i, r := range index.Releases {
		at := fmt.Sprintf("releases[%d]", i)
		if err := checkID(r.Version); err != nil {
			fail(at+".version", err)
		}
		if seen[r.Version] {
			fail(at+".version", fmt.Errorf("release %.140s is there twice", r.Version))
		}
		seen[r.Version] = true
		if r.MetadataURL == "" {
			fail(at+".metadata", errors.New("missing"))
		}
		arches := map[string]bool{}
		for j, c := range r.Commits {
			in := fmt.Sprintf("%s.commits[%d]", at, j)
			if err := checkArch(c.Architecture); err != nil {
				fail(in+".architecture", err)
			}
			if arches[c.Architecture] {
				fail(in+".architecture", fmt.Errorf("%.40s is there twice", c.Architecture))
			}
			arches[c.Architecture] = true
			if !reSHA256.MatchString(c.Checksum) {
				fail(in+".checksum", fmt.Errorf("%.80q is not a commit", c.Checksum))
			}
		}
		arches = map[string]bool{}
		for j, image := range r.OciImages {
			in := fmt.Sprintf("%s.oci-images[%d]", at, j)
			if err := checkArch(image.Architecture); err != nil {
				fail(in+".architecture", err)
			}
			if arches[image.Architecture] {
				fail(in+".architecture", fmt.Errorf("%.40s is there twice", image.Architecture))
			}
			arches[image.Architecture] = true
		}
	}
	return faults
}
