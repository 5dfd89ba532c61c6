package bootimage

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"

	releasemd "github.com/coreos/stream-metadata-go/release"
)

// ReadRelease reads the release.json of a build from the folder with builds.json.
// Coreos-assembler puts it at ID/release.json, OKD's pipeline at
// ID/ARCH/release.json: the one of the build counts, the one of the architecture
// where that has nothing for it. With arch "" only the one of the build is looked
// for. Without either the error wraps [io/fs.ErrNotExist]. A release.json is
// written at ID/ alone (see [MergeRelease]). Give a folder as the FS of an
// [os.Root].
func ReadRelease(fsys fs.FS, id, arch string) (*Document[releasemd.Release], error) {
	fail := func(err error) error { return fmt.Errorf("bootimage: %s of build %.140s: %w", ReleaseFile, id, err) }
	if err := checkID(id); err != nil {
		return nil, fail(err)
	}
	folders := []string{id}
	if arch != "" {
		if err := checkArch(arch); err != nil {
			return nil, fail(err)
		}
		folders = append(folders, path.Join(id, arch))
	}
	for _, folder := range folders {
		d, err := readFile(fsys, path.Join(folder, ReleaseFile), DecodeRelease)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fail(err)
		}
		if d.view.Release != id {
			return nil, fail(fmt.Errorf("%s/%s is of release %.140s", folder, ReleaseFile, d.view.Release))
		}
		if _, ok := d.view.Architectures[arch]; ok || arch == "" {
			return d, nil
		}
	}
	return nil, fail(fmt.Errorf("at %s: %w", folders, fs.ErrNotExist))
}

// UpdateRelease gives a change of release.json for publish.Update: the
// architectures of metas join those that are there. An architecture that is
// there with other content is refused. Without an old document it is
// [ReleaseFor].
func UpdateRelease(metas []Meta, opts *ReleaseOptions) func(old []byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) {
		made, err := ReleaseFor(metas, opts)
		if err != nil {
			return nil, err
		}
		return mergeRelease(old, made)
	}
}

// MergeRelease gives a change of release.json for publish.Update: the
// architectures of another of the same release join those that are there. An
// architecture that is there with other content is refused. Without an old document
// it is other.
func MergeRelease(other []byte) func(old []byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) {
		add, err := decode[releasemd.Release](other)
		if err != nil {
			return nil, err
		}
		return mergeRelease(old, add)
	}
}

func mergeRelease(old []byte, add *Document[releasemd.Release]) ([]byte, error) {
	if len(old) == 0 {
		return add.Bytes(), nil
	}
	d, err := decode[releasemd.Release](old)
	if err != nil {
		return nil, err
	}
	if err := merge(d, add); err != nil {
		return nil, err
	}
	return d.Bytes(), nil
}

// merge adds to d the architectures of made, as they are written: the view
// does not know all platforms.
func merge(d, made *Document[releasemd.Release]) error {
	was, add := d.Value(), made.Value()
	if was.Release != add.Release || was.Stream != add.Stream {
		return fmt.Errorf("bootimage: release.json is of %s %s, not %s %s", was.Stream, was.Release, add.Stream, add.Release)
	}
	var members []member
	for _, m := range made.root.list("architectures") {
		content, ok := was.Architectures[m.key]
		if ok && !reflect.DeepEqual(content, add.Architectures[m.key]) {
			return fmt.Errorf("bootimage: release.json of %s %s: %s is there with other content", was.Stream, was.Release, m.key)
		}
		if !ok {
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return nil
	}
	// The same document with the architectures more, in a layout of its own.
	all := append(slices.Clone(d.root.list("architectures")), members...)
	done, err := d.changed(d.root.with("architectures", &value{kind: '{', members: all}))
	if err != nil {
		return err
	}
	*d = *done
	if add.Metadata.LastModified == "" {
		return nil
	}
	return d.Edit(func(r *releasemd.Release) error {
		r.Metadata.LastModified = add.Metadata.LastModified
		return nil
	})
}
