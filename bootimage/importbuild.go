package bootimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	releasemd "github.com/coreos/stream-metadata-go/release"
)

// ImportOptions are options of [ImportBuild].
type ImportOptions struct {
	// Build is the build's id; "": the newest that has the architecture.
	Build string
	// Checksums reads every file; artifacts are compared with their record, and the
	// others have a SHA256 then. Else sizes are compared.
	Checksums bool
}

// ImportedBuild is one architecture's build in a folder of coreos-assembler's, or in an
// index of a registry.
type ImportedBuild struct {
	ID, Arch string
	// Meta is the record, with the fragments of delayed merging joined.
	Meta *Document[Meta]
	// CommitMeta is the metadata of the commit; nil: there is none.
	CommitMeta *Document[CommitMeta]
	// Release is the release.json of the build, all architectures; nil: there is none
	// that has this one.
	Release *Document[releasemd.Release]
	// Catalogue is what builds.json says of the build, its tags, and of builds that
	// were deleted, for [MergeBuilds]; nil: there is none.
	Catalogue *Document[Builds]
	// Files are the artifacts, then what else is to be published with them:
	// signatures of artifacts, the file of extensions, metadata of the commit.
	Files []ImportedFile
	// Cleanup is what was removed of the build.
	Cleanup Cleanup
}

// ImportedFile is one file of a build.
type ImportedFile struct {
	BucketFile
	Path   string // in the file system; "": a blob of a registry, of this SHA-256
	Size   int64  // bytes
	SHA256 string // of artifacts as recorded; of others where they were read, else ""
}

// otherFiles go with a build's artifacts where they are there.
var otherFiles = []string{CommitMetaFile, "ostree-commit-object", "coreos-assembler-config.tar.gz", "coreos-assembler-config-git.json"}

// maxFragments bounds the files of delayed merging: there is one an artifact.
const maxFragments = 256

// ImportBuild reads a build from coreos-assembler's folder of builds, the one with
// builds.json; release.json at both places ([ReadRelease]). Artifacts that are missing,
// or of other bytes than recorded, are errors; those of [io/fs.ErrNotExist] say what is
// not there. Artifacts that builds.json says were cleaned up are left out. Give a folder
// as the FS of an [os.Root], which follows no symbolic link out of it.
func ImportBuild(ctx context.Context, fsys fs.FS, arch string, opts *ImportOptions) (*ImportedBuild, error) {
	var o ImportOptions
	if opts != nil {
		o = *opts
	}
	b, err := importBuild(ctx, fsys, arch, o)
	if err != nil {
		return nil, fmt.Errorf("bootimage: import build: %w", err)
	}
	return b, nil
}

func importBuild(ctx context.Context, fsys fs.FS, arch string, o ImportOptions) (*ImportedBuild, error) {
	if err := checkArch(arch); err != nil {
		return nil, err
	}
	builds, err := readFile(fsys, BuildsFile, DecodeBuilds)
	if err != nil {
		return nil, err
	}
	var entry BuildEntry
	if o.Build == "" {
		var ok bool
		if entry, ok = builds.Value().Latest(arch); !ok {
			return nil, fmt.Errorf("no build for %s: %w", arch, fs.ErrNotExist)
		}
	} else {
		at, err := builds.Value().find(o.Build)
		if err != nil {
			return nil, err
		}
		entry = builds.Value().Builds[at]
	}
	if !slices.Contains(entry.Arches, arch) {
		return nil, fmt.Errorf("build %s for %s: %w", entry.ID, arch, fs.ErrNotExist)
	}
	b := &ImportedBuild{ID: entry.ID, Arch: arch}
	if b.Catalogue, err = partOf(builds, entry.ID, arch); err != nil {
		return nil, err
	}
	if b.Release, err = ReadRelease(fsys, entry.ID, arch); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	dir := path.Join(entry.ID, arch)
	if b.Meta, err = readFile(fsys, path.Join(dir, MetaFile), DecodeMeta); err != nil {
		return nil, err
	}
	m := b.Meta.Value()
	if m.BuildID != entry.ID || m.Arch != "" && m.Arch != arch {
		return nil, fmt.Errorf("%s/%s is of build %s for %s", dir, MetaFile, m.BuildID, m.Arch)
	}
	if m.DelayedMetaMerge {
		if err := b.finalize(fsys, dir); err != nil {
			return nil, err
		}
	}
	removed, err := entry.cleanup()
	if err != nil {
		return nil, err
	}
	b.Cleanup = removed
	images := b.Meta.Value().Images
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if removed.Images && !slices.Contains(removed.ImagesKept, name) {
			continue
		}
		f, err := b.artifact(ctx, fsys, dir, images[name], o.Checksums)
		if err != nil {
			return nil, fmt.Errorf("artifact %s: %w", name, err)
		}
		b.Files = append(b.Files, f)
	}
	if e := b.Meta.Value().ExtensionsArtifact; e != nil && e.Path != "" {
		f, err := b.artifact(ctx, fsys, dir, Image{Path: e.Path, SHA256: e.SHA256}, o.Checksums)
		switch {
		case err == nil:
			b.Files = append(b.Files, f)
		case !removed.Images || !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("extensions: %w", err)
		}
	}
	return b, b.others(ctx, fsys, dir, o.Checksums)
}

func readFile[T any](fsys fs.FS, name string, decode func(io.Reader) (*Document[T], error)) (*Document[T], error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	d, err := decode(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// finalize joins the fragments beside the record.
func (b *ImportedBuild) finalize(fsys fs.FS, dir string) error {
	names, err := fs.Glob(fsys, dir+"/meta.*.json")
	if err != nil {
		return err
	}
	if len(names) > maxFragments {
		return fmt.Errorf("%s: more than %d files meta.*.json", dir, maxFragments)
	}
	var fragments [][]byte
	for _, name := range names {
		d, err := readFile(fsys, name, DecodeMeta)
		if err != nil {
			return err
		}
		fragments = append(fragments, d.Bytes())
	}
	data, err := FinalizeMeta(fragments...)(b.Meta.Bytes())
	if err != nil {
		return err
	}
	b.Meta, err = decode[Meta](data)
	return err
}

func (b *ImportedBuild) artifact(ctx context.Context, fsys fs.FS, dir string, image Image, checksum bool) (f ImportedFile, err error) {
	f = ImportedFile{
		BucketFile: BucketFile{Kind: FileArtifact, Build: b.ID, Arch: b.Arch, Name: image.Path},
		Path:       path.Join(dir, image.Path), Size: image.Size, SHA256: image.SHA256,
	}
	info, err := fs.Stat(fsys, f.Path)
	if err != nil {
		return f, err
	}
	switch {
	case !info.Mode().IsRegular():
		return f, fmt.Errorf("%s is no regular file", f.Path)
	case image.Size != 0 && info.Size() != image.Size:
		return f, fmt.Errorf("%s has %d bytes, the record says %d", f.Path, info.Size(), image.Size)
	}
	f.Size = info.Size()
	if !checksum {
		return f, nil
	}
	file, err := fsys.Open(f.Path)
	if err != nil {
		return f, err
	}
	m, err := Measure(ctx, file, &MeasureOptions{Plain: image.UncompressedSHA256 == ""})
	if err := errors.Join(err, file.Close()); err != nil {
		return f, err
	}
	switch {
	case image.SHA256 == "": // of extensions
		f.SHA256 = m.SHA256
	case m.SHA256 != image.SHA256:
		return f, fmt.Errorf("%s has SHA-256 %s, the record says %s", f.Path, m.SHA256, image.SHA256)
	case image.UncompressedSHA256 != "" && m.UncompressedSHA256 != image.UncompressedSHA256:
		return f, fmt.Errorf("content of %s has SHA-256 %s, the record says %s", f.Path, m.UncompressedSHA256, image.UncompressedSHA256)
	}
	return f, nil
}

// others adds what is there beside artifacts.
func (b *ImportedBuild) others(ctx context.Context, fsys fs.FS, dir string, checksum bool) error {
	var names []string
	for _, f := range b.Files {
		if name := f.Name + ".sig"; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	names = append(append(names, otherFiles...), "manifest-lock.generated."+b.Arch+".json")
	for _, name := range names {
		info, err := fs.Stat(fsys, path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return err
		}
		if name == CommitMetaFile {
			if b.CommitMeta, err = readFile(fsys, path.Join(dir, name), DecodeCommitMeta); err != nil {
				return err
			}
		}
		f := ImportedFile{
			BucketFile: BucketFile{Kind: FileArtifact, Build: b.ID, Arch: b.Arch, Name: name}, Path: path.Join(dir, name), Size: info.Size(),
		}
		if checksum {
			if f.SHA256, err = sumFile(ctx, fsys, f.Path); err != nil {
				return err
			}
		}
		b.Files = append(b.Files, f)
	}
	return nil
}

func sumFile(ctx context.Context, fsys fs.FS, name string) (string, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	m, err := Measure(ctx, file, &MeasureOptions{Plain: true})
	if err := errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return m.SHA256, nil
}
