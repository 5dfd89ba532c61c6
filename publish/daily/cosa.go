package daily

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/stream"
)

// notDisks are artifacts of a coreos-assembler build that are the operating
// system itself: a build has its own.
var notDisks = []string{archiveArtifact, "oci-manifest", "legacy-oscontainer"}

// openCosa opens a build of a folder of coreos-assembler's.
func (s *Source) openCosa(ctx context.Context, spec string, o SourceOptions) error {
	folder, id := spec, ""
	if at := strings.LastIndexByte(spec, '#'); at > 0 && !strings.Contains(spec[at:], "/") {
		folder, id = spec[:at], spec[at+1:]
	}
	arch := o.Arch
	if arch == "" {
		arch = stream.X8664
	}
	builds := folder
	if _, err := os.Stat(filepath.Join(folder, bootimage.BuildsFile)); errors.Is(err, fs.ErrNotExist) {
		builds = filepath.Join(folder, "builds")
	}
	root, err := os.OpenRoot(builds)
	if err != nil {
		return err
	}
	defer root.Close()
	// Checksums are compared as the files are read: the disks' with the other inputs.
	b, err := bootimage.ImportBuild(ctx, root.FS(), string(arch), &bootimage.ImportOptions{Build: id})
	if err != nil {
		return err
	}
	meta := b.Meta.Value()
	want, err := ostree.ParseChecksum(meta.OSTreeCommit)
	if err != nil {
		return fmt.Errorf("build %s: ostree-commit: %w", b.ID, err)
	}
	there := map[string]bootimage.ImportedFile{}
	for _, file := range b.Files {
		there[file.Name] = file
	}
	for _, name := range slices.Sorted(maps.Keys(meta.Images)) {
		image := meta.Images[name]
		if _, ok := there[image.Path]; ok && !slices.Contains(notDisks, name) {
			s.Disks = append(s.Disks, Disk{
				Platform: name, Path: filepath.Join(builds, b.ID, b.Arch, filepath.FromSlash(image.Path)), SHA256: image.SHA256, Unstamped: image.Unstamped,
			})
		}
	}
	archive, ok := there[meta.Images[archiveArtifact].Path]
	switch {
	case ok && path.Ext(archive.Name) == ".tar":
		err = s.openRepoTar(ctx, root, archive, want, o.Scratch)
	case ok:
		err = s.openArchive(ctx, root, archive, want)
	default:
		err = s.openWorkRepo(ctx, filepath.Join(builds, "..", "tmp", "repo"), want)
	}
	if err != nil {
		return fmt.Errorf("build %s for %s: %w", b.ID, b.Arch, err)
	}
	return nil
}

// openWorkRepo takes the commit of the repository that coreos-assembler works in.
func (s *Source) openWorkRepo(ctx context.Context, dir string, want ostree.Checksum) error {
	repo, err := ostree.Open(ctx, dir, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its record has no artifact %q that is still there, and there is no %s: %w", archiveArtifact, filepath.Clean(dir), fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	s.closers = append(s.closers, repo.Close)
	return s.openCommit(ctx, repo, want)
}

// openRepoTar takes the commit of a repository in a tar.
func (s *Source) openRepoTar(ctx context.Context, root *os.Root, archive bootimage.ImportedFile, want ostree.Checksum, scratch string) error {
	file, err := root.Open(archive.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	dir, err := os.MkdirTemp(scratch, "okd-streams-repo-*")
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { return os.RemoveAll(dir) })
	into, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer into.Close()
	err = readVerified(ctx, file, archive, func(r *tar.Reader, header *tar.Header) error {
		name := path.Clean(header.Name)
		switch header.Typeflag {
		case tar.TypeDir:
			return into.MkdirAll(name, 0o755)
		case tar.TypeReg:
			if err := into.MkdirAll(path.Dir(name), 0o755); err != nil {
				return err
			}
			f, err := into.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			_, err = io.Copy(f, r)
			return errors.Join(err, f.Close())
		}
		return fmt.Errorf("%s is neither file nor folder: %w", header.Name, errors.ErrUnsupported)
	})
	if err != nil {
		return err
	}
	repo, err := ostree.Open(ctx, dir, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", archive.Name, err)
	}
	s.closers = append(s.closers, repo.Close)
	return s.openCommit(ctx, repo, want)
}

// openArchive takes the image of an OCI archive.
func (s *Source) openArchive(ctx context.Context, root *os.Root, archive bootimage.ImportedFile, want ostree.Checksum) error {
	file, err := root.Open(archive.Path)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, file.Close)
	img, err := openOCIArchive(ctx, file, archive)
	if err != nil {
		return err
	}
	inspected, err := container.Inspect(ctx, img)
	if err != nil {
		return fmt.Errorf("%s: %w", archive.Name, err)
	}
	if inspected.Commit != want {
		return fmt.Errorf("%s carries commit %s, the record says %s: %w", archive.Name, inspected.Commit, want, publish.ErrDigest)
	}
	s.Image = img
	if inspected.Head != nil {
		s.Metadata = othersMetadata(inspected.Head)
	}
	return nil
}

// readVerified gives each entry of a tar to each and compares the file's
// SHA-256 with the record, in one reading.
func readVerified(ctx context.Context, file io.Reader, archive bootimage.ImportedFile, each func(*tar.Reader, *tar.Header) error) error {
	sum := sha256.New()
	all := io.TeeReader(readers.Context{Ctx: ctx, R: file}, sum)
	fault := func() error {
		for r := tar.NewReader(all); ; {
			header, err := r.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil {
				err = each(r, header)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", archive.Name, err)
			}
		}
	}()
	if _, err := io.Copy(io.Discard, all); err != nil {
		return errors.Join(fault, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != archive.SHA256 {
		return fmt.Errorf("%s has SHA-256 %s, the record says %s: %w", archive.Name, got, archive.SHA256, publish.ErrDigest)
	}
	return fault
}

// ociArchive is an image in an OCI archive that lies on disk.
type ociArchive struct {
	file     *os.File
	blobs    map[string]extent // by name in the archive
	desc     v1.Descriptor
	manifest []byte
}

// extent is where a file of the archive lies.
type extent struct{ at, size int64 }

// maxArchiveDocument is the largest index, manifest or configuration that is
// read of an archive, in bytes.
const maxArchiveDocument = 4 << 20

// openOCIArchive reads an archive once to verify it and to find its blobs.
func openOCIArchive(ctx context.Context, file *os.File, archive bootimage.ImportedFile) (v1.Image, error) {
	a := &ociArchive{file: file, blobs: map[string]extent{}}
	// A tar is read no further than the entry that it is at.
	count := &readers.Counter{R: file}
	err := readVerified(ctx, count, archive, func(_ *tar.Reader, header *tar.Header) error {
		if header.Typeflag == tar.TypeReg {
			a.blobs[path.Clean(header.Name)] = extent{count.N, header.Size}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	data, err := a.document("index.json")
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err == nil && (len(index.Manifests) != 1 || !index.Manifests[0].MediaType.IsImage()) {
		err = fmt.Errorf("want one image, it has %d entries: %w", len(index.Manifests), errors.ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: index.json: %w", archive.Name, err)
	}
	a.desc = index.Manifests[0]
	if a.manifest, err = a.verified(a.desc); err != nil {
		return nil, fmt.Errorf("%s: %w", archive.Name, err)
	}
	return partial.CompressedToImage(a)
}

func (a *ociArchive) open(name string) (*io.SectionReader, error) {
	e, ok := a.blobs[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return io.NewSectionReader(a.file, e.at, e.size), nil
}

func (a *ociArchive) document(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > maxArchiveDocument {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxArchiveDocument)
	}
	return io.ReadAll(r)
}

func (a *ociArchive) verified(desc v1.Descriptor) ([]byte, error) {
	data, err := a.document(blobName(desc.Digest))
	if err != nil {
		return nil, err
	}
	return data, verify.Bytes(data, desc.Digest, desc.Size)
}

// RawManifest is part of [partial.CompressedImageCore].
func (a *ociArchive) RawManifest() ([]byte, error) { return a.manifest, nil }

// MediaType is part of [partial.CompressedImageCore].
func (a *ociArchive) MediaType() (types.MediaType, error) { return a.desc.MediaType, nil }

// RawConfigFile is part of [partial.CompressedImageCore].
func (a *ociArchive) RawConfigFile() ([]byte, error) {
	manifest, err := partial.Manifest(a)
	if err != nil {
		return nil, err
	}
	return a.verified(manifest.Config)
}

// LayerByDigest is part of [partial.CompressedImageCore]. Who reads layers
// verifies them.
func (a *ociArchive) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	manifest, err := partial.Manifest(a)
	if err != nil {
		return nil, err
	}
	for _, desc := range append(manifest.Layers, manifest.Config) {
		if desc.Digest == digest {
			return archivedLayer{a, desc}, nil
		}
	}
	return nil, fmt.Errorf("layer %s: %w", digest, fs.ErrNotExist)
}

// archivedLayer is a layer of an ociArchive.
type archivedLayer struct {
	archive *ociArchive
	desc    v1.Descriptor
}

func (l archivedLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l archivedLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l archivedLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l archivedLayer) Compressed() (io.ReadCloser, error) {
	r, err := l.archive.open(blobName(l.desc.Digest))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(r), nil
}
