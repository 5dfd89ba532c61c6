package payload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
)

const (
	layoutFile = "oci-layout"
	layoutName = "org.opencontainers.image.ref.name"
	// mirrorFolder is where `oc adm release mirror --to-dir` puts repositories.
	mirrorFolder = "v2"
)

// Folder gives the images in a folder of files (of an [os.Root], so that its
// links cannot lead elsewhere, or of [Archive]), which is one of these:
//
//   - an OCI image layout (https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md).
//     It holds one repository, so only the tag or digest of a reference is
//     looked at; tags are the annotations org.opencontainers.image.ref.name in
//     index.json.
//   - a mirror made by `oc adm release mirror --to-dir`, with the files
//     v2/REPOSITORY/blobs/sha256:… and v2/REPOSITORY/manifests/TAG. The
//     registry host of a reference is not looked at.
//
// Everything that is read is compared with its digest. A folder that is
// neither gives [io/fs.ErrNotExist].
func Folder(fsys fs.FS) (Images, error) {
	if _, err := fs.Stat(fsys, layoutFile); err == nil {
		return &layoutImages{folderImages{fsys}}, nil
	}
	if info, err := fs.Stat(fsys, mirrorFolder); err == nil && info.IsDir() {
		return &mirrorImages{folderImages{fsys}}, nil
	}
	return nil, &Error{Op: "open", Target: "folder", Err: fmt.Errorf("neither an OCI layout nor a mirror with a folder %s: %w", mirrorFolder, fs.ErrNotExist)}
}

type folderImages struct{ fsys fs.FS }

// open opens a regular file of exactly size bytes (-1: any).
func (f folderImages) open(name string, size int64) (fs.File, int64, error) {
	info, err := fs.Stat(f.fsys, name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() { // a pipe would block
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if size >= 0 && info.Size() != size {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("has %d bytes, want %d: %w", info.Size(), size, ErrDigest)}
	}
	file, err := f.fsys.Open(name)
	return file, info.Size(), err
}

// read reads a file of at most limit bytes.
func (f folderImages) read(name string, limit int64) ([]byte, error) {
	file, size, err := f.open(name, -1)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("has %d bytes, limit %d", size, limit)}
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("has more than %d bytes", limit)}
	}
	return data, err
}

func (f folderImages) blob(name string, desc v1.Descriptor) (io.ReadCloser, error) {
	file, _, err := f.open(name, desc.Size)
	if err != nil {
		return nil, err
	}
	return verify.ReadCloser(file, desc.Digest, desc.Size)
}

func (f folderImages) manifest(name string, digest v1.Hash) ([]byte, error) {
	raw, err := f.read(name, MaxImageManifestSize)
	if err != nil {
		return nil, err
	}
	if err := verify.Bytes(raw, digest, verify.SizeUnknown); err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return raw, nil
}

// layoutImages are the images of an OCI layout.
type layoutImages struct{ folderImages }

func (l *layoutImages) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	return headOf(ctx, l, ref)
}

func (l *layoutImages) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	return imageOf(ctx, l, ref)
}

func (l *layoutImages) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	return indexOf(ctx, l, ref)
}

func layoutPath(digest v1.Hash) string { return path.Join("blobs", digest.Algorithm, digest.Hex) }

// Manifest gives a manifest as it is stored.
func (l *layoutImages) Manifest(_ context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	digest, mediaType, err := l.resolve(ref)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	raw, err := l.manifest(layoutPath(digest), digest)
	return v1.Descriptor{MediaType: mediaType.MediaType, Digest: digest, Size: int64(len(raw))}, raw, err
}

func (l *layoutImages) resolve(ref name.Reference) (v1.Hash, v1.Descriptor, error) {
	if d, ok := ref.(name.Digest); ok {
		digest, err := parseDigest(d.DigestStr())
		return digest, v1.Descriptor{}, err
	}
	data, err := l.read("index.json", MaxImageManifestSize)
	if err != nil {
		return v1.Hash{}, v1.Descriptor{}, err
	}
	var list v1.IndexManifest
	if err := json.Unmarshal(data, &list); err != nil {
		return v1.Hash{}, v1.Descriptor{}, fmt.Errorf("index.json: %w", err)
	}
	for _, desc := range list.Manifests {
		if desc.Annotations[layoutName] == ref.Identifier() {
			digest, err := parseDigest(desc.Digest.String())
			return digest, desc, err
		}
	}
	return v1.Hash{}, v1.Descriptor{}, fmt.Errorf("tag %s in index.json: %w", ref.Identifier(), fs.ErrNotExist)
}

// OpenBlob gives a blob whose reader checks it.
func (l *layoutImages) OpenBlob(_ context.Context, _ name.Repository, desc v1.Descriptor) (io.ReadCloser, error) {
	if _, err := parseDigest(desc.Digest.String()); err != nil {
		return nil, err
	}
	return l.blob(layoutPath(desc.Digest), desc)
}

// mirrorImages are the images that oc wrote to a folder.
type mirrorImages struct{ folderImages }

func (m *mirrorImages) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	return headOf(ctx, m, ref)
}

func (m *mirrorImages) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	return imageOf(ctx, m, ref)
}

func (m *mirrorImages) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	return indexOf(ctx, m, ref)
}

// path of something in a repository; the folder is hostile, references are not.
func (m *mirrorImages) path(repo name.Repository, kind, id string) (string, error) {
	p := path.Join(mirrorFolder, repo.RepositoryStr(), kind, id)
	if !fs.ValidPath(p) || slices.Contains(strings.Split(repo.RepositoryStr(), "/"), "..") {
		return "", fmt.Errorf("repository %q: %w", repo.RepositoryStr(), fs.ErrInvalid)
	}
	return p, nil
}

// Manifest gives a manifest as it is stored. That of a tag has no promised
// digest; its own counts.
func (m *mirrorImages) Manifest(_ context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	p, err := m.path(ref.Context(), "manifests", ref.Identifier())
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	var raw []byte
	if d, ok := ref.(name.Digest); ok {
		digest, err := parseDigest(d.DigestStr())
		if err != nil {
			return v1.Descriptor{}, nil, err
		}
		raw, err = m.manifest(p, digest)
		if err != nil {
			return v1.Descriptor{}, nil, err
		}
	} else if raw, err = m.read(p, MaxImageManifestSize); err != nil {
		return v1.Descriptor{}, nil, err
	}
	return v1.Descriptor{Digest: digestOf(raw), Size: int64(len(raw))}, raw, nil
}

// OpenBlob gives a blob whose reader checks it.
func (m *mirrorImages) OpenBlob(_ context.Context, repo name.Repository, desc v1.Descriptor) (io.ReadCloser, error) {
	if _, err := parseDigest(desc.Digest.String()); err != nil {
		return nil, err
	}
	p, err := m.path(repo, "blobs", desc.Digest.String())
	if err != nil {
		return nil, err
	}
	return m.blob(p, desc)
}

// direct is what [Images] may offer besides: manifests and blobs one by one,
// which saves asking for what a reference is. A publish.Blobs has it.
type direct interface {
	Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error)
	OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error)
}

// inRepository is one repository of a direct, as images are made from it.
type inRepository struct {
	src  direct
	repo name.Repository
}

func (r inRepository) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	_, raw, err := r.src.Manifest(ctx, r.repo.Digest(desc.Digest.String()))
	if err != nil {
		return nil, err
	}
	return raw, verify.Bytes(raw, desc.Digest, desc.Size)
}

func (r inRepository) Blob(ctx context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	return r.src.OpenBlob(ctx, r.repo, desc)
}

// manifestOf reads what ref names and checks it against what it promises.
func manifestOf(ctx context.Context, src direct, ref name.Reference) (v1.Descriptor, []byte, error) {
	if err := ctx.Err(); err != nil {
		return v1.Descriptor{}, nil, err
	}
	desc, raw, err := src.Manifest(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	if len(raw) > MaxImageManifestSize {
		return v1.Descriptor{}, nil, fmt.Errorf("manifest of %d bytes, limit %d", len(raw), MaxImageManifestSize)
	}
	want := desc.Digest
	if d, ok := ref.(name.Digest); ok {
		if want, err = parseDigest(d.DigestStr()); err != nil {
			return v1.Descriptor{}, nil, err
		}
	}
	if _, err := parseDigest(want.String()); err != nil {
		return v1.Descriptor{}, nil, err
	}
	if err := verify.Bytes(raw, want, verify.SizeUnknown); err != nil {
		return v1.Descriptor{}, nil, fmt.Errorf("manifest: %w", err)
	}
	desc.Digest, desc.Size = want, int64(len(raw))
	desc.MediaType, err = ociimage.MediaType(raw, desc.MediaType)
	return desc, raw, err
}

func headOf(ctx context.Context, src direct, ref name.Reference) (*v1.Descriptor, error) {
	desc, _, err := manifestOf(ctx, src, ref)
	if err != nil {
		return nil, err
	}
	return &desc, nil
}

func imageOf(ctx context.Context, src direct, ref name.Reference) (v1.Image, error) {
	desc, raw, err := manifestOf(ctx, src, ref)
	if err != nil {
		return nil, err
	}
	return ociimage.NewImage(ctx, inRepository{src, ref.Context()}, desc, raw)
}

func indexOf(ctx context.Context, src direct, ref name.Reference) (v1.ImageIndex, error) {
	desc, raw, err := manifestOf(ctx, src, ref)
	if err != nil {
		return nil, err
	}
	return ociimage.NewIndex(ctx, inRepository{src, ref.Context()}, desc, raw)
}
