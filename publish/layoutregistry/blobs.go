package layoutregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// Manifest gives a manifest as it is stored, at most 4 MiB, verified.
func (r *Registry) Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	desc, l, err := r.resolve(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, nil, fail("manifest", ref, err)
	}
	defer l.close()
	raw, err := l.manifest(desc)
	if err != nil {
		return v1.Descriptor{}, nil, fail("manifest", ref, err)
	}
	mt, err := ociimage.MediaType(raw, desc.MediaType)
	if err != nil {
		return v1.Descriptor{}, nil, fail("manifest", ref, err)
	}
	return v1.Descriptor{MediaType: mt, Digest: desc.Digest, Size: desc.Size}, raw, nil
}

// WriteManifest stores a manifest of at most 4 MiB by digest. A blob or child
// that it names and that the repository does not hold in the right size gives
// [io/fs.ErrNotExist] ([publish.ErrDigest] for another size) and nothing is
// stored. One with a subject is listed as its referrer; the subject need not
// be there.
func (r *Registry) WriteManifest(ctx context.Context, repo name.Repository, mediaType types.MediaType, raw []byte) (v1.Descriptor, error) {
	digest, err := digestOf(raw)
	if err != nil {
		return v1.Descriptor{}, fail("write manifest", repo, err)
	}
	return r.WriteManifestAs(ctx, repo, digest, mediaType, raw)
}

// WriteManifestAs is [Registry.WriteManifest] for a digest of SHA-256 or SHA-512
// that is known: other bytes give [publish.ErrDigest].
func (r *Registry) WriteManifestAs(ctx context.Context, repo name.Repository, digest v1.Hash, mediaType types.MediaType, raw []byte) (v1.Descriptor, error) {
	desc, err := r.writeManifest(ctx, repo, digest, mediaType, raw)
	if err != nil {
		return v1.Descriptor{}, fail("write manifest", repo, err)
	}
	return desc, nil
}

func (r *Registry) writeManifest(ctx context.Context, repo name.Repository, digest v1.Hash, mediaType types.MediaType, raw []byte) (v1.Descriptor, error) {
	if err := ociimage.CheckManifestSize(int64(len(raw))); err != nil {
		return v1.Descriptor{}, err
	}
	if err := ociimage.CheckDigest(digest); err != nil {
		return v1.Descriptor{}, err
	}
	if err := verify.Bytes(raw, digest, int64(len(raw))); err != nil {
		return v1.Descriptor{}, err
	}
	c, err := ociimage.Decode(raw, mediaType)
	if err != nil {
		return v1.Descriptor{}, err
	}
	desc := v1.Descriptor{MediaType: c.MediaType, Digest: digest, Size: int64(len(raw))}
	w, err := r.folder(ctx, repo)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer w.close()
	_, _, err = w.commit(ctx, []ociimage.Manifest{{Desc: desc, Raw: raw}})
	return desc, err
}

// StatBlob gives a blob's size. A blob that is there stays for at least the
// grace period of a garbage collection that runs from now on.
func (r *Registry) StatBlob(ctx context.Context, repo name.Repository, digest v1.Hash) (int64, error) {
	l, err := r.open(ctx, repo)
	if err != nil {
		return 0, fail("stat blob", digested(repo, digest), err)
	}
	defer l.close()
	f, err := l.blob(digest)
	if err != nil {
		return 0, fail("stat blob", digested(repo, digest), err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fail("stat blob", digested(repo, digest), err)
	}
	(&folder{*l}).touch(digest)
	return info.Size(), nil
}

// OpenBlob gives a blob, verified while it is read. The reader has a method
// File() *os.File, by which another layout, or a store that is told it may,
// links the file instead of copying it.
func (r *Registry) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	return (&repository{r, repo}).Blob(ctx, blob)
}

// WriteBlob stores a blob, linked where src opens as a file that can be. Bytes
// other than blob says give [publish.ErrDigest] and nothing is stored.
func (r *Registry) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	err := ociimage.CheckDigest(blob.Digest)
	if err == nil && blob.Size < 0 {
		err = fmt.Errorf("%d bytes: %w", blob.Size, verify.ErrDigest)
	}
	if err == nil {
		err = r.writeBlob(ctx, repo, blob, src)
	}
	if err != nil {
		return fail("write blob", digested(repo, blob.Digest), err)
	}
	return nil
}

func (r *Registry) writeBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	w, err := r.ready(ctx, repo)
	if err != nil {
		return err
	}
	defer w.close()
	rc, err := src.Open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(w.put(ctx, rc, blob, func(int64) {}), rc.Close())
}

// MountBlob makes a blob of the repository from one of repo, by a link or a
// clone of its extents: no byte is copied. Where the file system can do neither,
// or from does not hold the blob, it answers [errors.ErrUnsupported].
func (r *Registry) MountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	if err := r.mountBlob(ctx, repo, digest, from); err != nil {
		return fail("mount blob", digested(repo, digest), err)
	}
	return nil
}

func (r *Registry) mountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	// The source first: a repository must not be made for nothing.
	src, err := r.open(ctx, from)
	if err != nil {
		return notHere(from, err)
	}
	defer src.close()
	f, err := src.blob(digest)
	if err != nil {
		return notHere(from, err)
	}
	defer f.Close()
	w, err := r.ready(ctx, repo)
	if err != nil {
		return err
	}
	defer w.close()
	shared, err := w.share(f, digest)
	if err == nil && !shared {
		err = fmt.Errorf("from %s: the file system links no files there: %w", from, errors.ErrUnsupported)
	}
	return err
}

func notHere(from name.Repository, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("from %s: %w: %w", from, err, errors.ErrUnsupported)
	}
	return fmt.Errorf("from %s: %w", from, err)
}

// Begin makes repo an empty layout where there is none. Writes do so by
// themselves; it is for who brings blobs under their names without them.
func (r *Registry) Begin(ctx context.Context, repo name.Repository) error {
	w, err := r.ready(ctx, repo)
	if err != nil {
		return fail("begin", repo, err)
	}
	w.close()
	return nil
}

// ready is a folder that is a layout already.
func (r *Registry) ready(ctx context.Context, repo name.Repository) (*folder, error) {
	w, err := r.folder(ctx, repo)
	if err != nil {
		return nil, err
	}
	if w.checkLayout() == nil {
		if _, err := w.root.Lstat(indexFile); err == nil {
			return w, nil
		}
	}
	unlock, err := w.lock(ctx)
	if err == nil {
		_, err = w.initialise()
		unlock()
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// target is a blob's or manifest's name in errors.
type target string

func (t target) String() string { return string(t) }

func digested(repo name.Repository, h v1.Hash) target {
	return target(fmt.Sprintf("%s@%.140s", repo, h))
}
