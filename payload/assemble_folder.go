package payload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
)

// manifestFolders are what [Spec.Folder] has.
type manifestFolders struct {
	references *ImageStream // nil: there is none
	folders    []*folder    // by name
}

// readManifestFolders reads all folders but those that are left out. Other
// files beside image-references do not count, as they do not for oc.
func readManifestFolders(ctx context.Context, fsys fs.FS, exclude []string) (*manifestFolders, error) {
	list, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("folder: %w", err)
	}
	m := &manifestFolders{}
	files := folderImages{fsys}
	size, count := int64(0), 0
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		switch {
		case e.Name() == referencesFile:
			data, err := files.read(referencesFile, MaxReferencesSize)
			if err == nil {
				m.references, err = decodeImageStream(data)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", referencesFile, err)
			}
		case e.IsDir() && !slices.Contains(exclude, e.Name()):
			if err := checkTagName(e.Name()); err != nil {
				return nil, err
			}
			if len(m.folders) == MaxTags {
				return nil, fmt.Errorf("more than %d folders", MaxTags)
			}
			dir, err := readManifestFolder(files, e.Name())
			if err != nil {
				return nil, &Error{Op: "assemble", Target: "component " + e.Name(), Err: err}
			}
			size += dir.size
			if count += len(dir.files); size > MaxPayloadSize || count > MaxPayloadFiles {
				return nil, fmt.Errorf("payload of more than %d bytes or %d files", MaxPayloadSize, MaxPayloadFiles)
			}
			m.folders = append(m.folders, dir)
		}
	}
	if len(m.folders) == 0 && m.references == nil {
		return nil, fmt.Errorf("neither %s nor a folder of manifests: %w", referencesFile, fs.ErrNotExist)
	}
	return m, nil
}

// readManifestFolder reads one operator's manifests. Folders in it do not
// count, links and what else is no file are errors.
func readManifestFolder(files folderImages, component string) (*folder, error) {
	list, err := fs.ReadDir(files.fsys, component)
	if err != nil {
		return nil, err
	}
	if len(list) > MaxManifests {
		return nil, fmt.Errorf("more than %d files in %s", MaxManifests, component)
	}
	dir := newFolder(component)
	for _, e := range list {
		if e.IsDir() {
			continue
		}
		p := path.Join(component, e.Name())
		if !e.Type().IsRegular() {
			return nil, &fs.PathError{Op: "open", Path: p, Err: errors.New("not a regular file")}
		}
		if err := checkFileName(e.Name()); err != nil {
			return nil, err
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		data, err := files.read(p, MaxManifestSize)
		if err != nil {
			return nil, err
		}
		if dir.size += int64(len(data)); dir.size > MaxPayloadSize {
			return nil, fmt.Errorf("files of more than %d bytes in %s", MaxPayloadSize, component)
		}
		dir.files[e.Name()] = file{name: e.Name(), data: data, modTime: info.ModTime()}
	}
	return dir, nil
}

// tags are the images of the folder's image-references.
func (m *manifestFolders) tags(without func(tag string) bool) []Tag {
	if m.references == nil {
		return nil
	}
	return slices.DeleteFunc(m.references.clone().Tags, func(t Tag) bool { return without(t.Name) })
}

// reads says whether the image of a tag is read. With a folder of manifests
// that is the one to make the release image from, and what is overridden.
func (a *assembly) reads(tag string) bool {
	if a.folder == nil || a.spec.Overrides[tag] != nil {
		return true
	}
	base := a.spec.BaseTag
	if base == "" {
		base = BaseTag
	}
	return a.spec.Base == nil && tag == base
}

// unread is a component whose image is not looked at. What its tag says stays.
func (a *assembly) unread(t *Tag) error {
	if t.Kind == dockerImage { // another kind has been found already
		ref, err := name.ParseReference(t.Pullspec)
		if err == nil {
			if d, ok := ref.(name.Digest); ok {
				_, err = parseDigest(d.DigestStr())
			} else {
				a.find(Finding{Check: CheckUnpinned, Component: t.Name, Detail: t.Pullspec + " has no digest"})
			}
		}
		if err != nil {
			return &Error{Op: "assemble", Target: "component " + t.Name, Err: err}
		}
	}
	a.components[t.Name] = &component{tag: t.Name}
	return nil
}

// readFolders gives the operators of the folder their manifests.
func (a *assembly) readFolders(ctx context.Context) error {
	for _, dir := range a.folder.folders {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := a.components[dir.name]
		if c == nil {
			c = &component{tag: dir.name}
			a.components[dir.name] = c
			if a.stream.Tag(dir.name) == nil {
				a.warn("component %s: %s has no image for its manifests", dir.name, referencesFile)
			}
		}
		c.operator, c.folder, c.brings = true, dir, len(dir.files) > 0
		findings, err := a.sortManifests(ctx, c, dir)
		if err != nil {
			return &Error{Op: "assemble", Target: "component " + dir.name, Err: err}
		}
		for _, f := range findings {
			f.Component = dir.name
			a.find(f)
		}
	}
	return nil
}
