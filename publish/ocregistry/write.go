package ocregistry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// WriteImage writes img's blobs and then its manifest into repo and returns the
// manifest's descriptor. What is there already in the right size is not written
// again. Bytes that do not have the digest that the manifest gives them are
// refused with [publish.ErrDigest], and the manifest does not appear then.
func (r *Registry) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (v1.Descriptor, error) {
	m, err := ociimage.FromImage(img)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	return r.write(ctx, repo, []ociimage.Manifest{m}, opts)
}

// WriteIndex writes idx and everything under it, children first.
func (r *Registry) WriteIndex(ctx context.Context, repo name.Repository, idx v1.ImageIndex, opts *publish.WriteOptions) (v1.Descriptor, error) {
	list, err := ociimage.FromIndex(idx)
	if err != nil {
		return v1.Descriptor{}, fail("write", repo, err)
	}
	return r.write(ctx, repo, list, opts)
}

func (r *Registry) write(ctx context.Context, to name.Repository, list []ociimage.Manifest, opts *publish.WriteOptions) (v1.Descriptor, error) {
	if opts == nil {
		opts = &publish.WriteOptions{}
	}
	desc := list[len(list)-1].Desc
	target := digested(to, desc.Digest)
	f, err := r.ready(ctx, to)
	if err != nil {
		return v1.Descriptor{}, fail("write", to, err)
	}
	defer f.close()
	progress := &progress{fn: opts.Progress, total: ociimage.Size(list)}
	var mu sync.Mutex
	reused := func(d v1.Descriptor) {
		progress.add(d.Size)
		if opts.Reused != nil {
			mu.Lock()
			defer mu.Unlock()
			opts.Reused(d)
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(r.opts.Concurrency)
	seen := map[v1.Hash]bool{} // blobs, each once for all images that share it
	for _, m := range list {
		for _, b := range m.Blobs {
			if seen[b.Desc.Digest] {
				continue
			}
			seen[b.Desc.Digest] = true
			group.Go(func() error {
				if err := f.bring(gctx, b, opts.From, reused, progress.add); err != nil {
					return fmt.Errorf("blob %s: %w", b.Desc.Digest, err)
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return v1.Descriptor{}, fail("write", target, err)
	}
	for _, m := range list {
		if f.stat(manifestPath(m.Desc.Digest), m.Desc.Size) == nil {
			reused(m.Desc)
			continue
		}
		if err := f.writeManifest(ctx, m.Desc, m.Raw); err != nil {
			return v1.Descriptor{}, fail("write", target, err)
		}
		progress.add(m.Desc.Size)
	}
	return desc, nil
}

// bring makes sure that b is in the repository.
func (f *folder) bring(ctx context.Context, b ociimage.Blob, from []name.Repository, reused func(v1.Descriptor), count func(int64)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.stat(blobPath(b.Desc.Digest), b.Desc.Size) == nil {
		reused(b.Desc)
		return nil
	}
	for _, src := range from {
		// A source that is not there, or has it damaged, is none.
		if f.link(ctx, b.Desc, src) == nil {
			reused(b.Desc)
			return nil
		}
	}
	rc, err := b.Open()
	if err != nil {
		return err
	}
	return errors.Join(f.put(ctx, rc, b.Desc, count), rc.Close())
}

// WriteManifest stores a manifest of at most 4 MiB by digest. A blob or child
// that it names and that the repository does not hold in the right size gives
// [io/fs.ErrNotExist] ([publish.ErrDigest] for another size) and nothing is
// stored. One with a subject is listed as its referrer; the subject need not
// be there.
func (r *Registry) WriteManifest(ctx context.Context, repo name.Repository, mediaType types.MediaType, raw []byte) (v1.Descriptor, error) {
	desc, err := r.writeManifest(ctx, repo, mediaType, raw)
	if err != nil {
		return v1.Descriptor{}, fail("write manifest", repo, err)
	}
	return desc, nil
}

func (r *Registry) writeManifest(ctx context.Context, repo name.Repository, mediaType types.MediaType, raw []byte) (v1.Descriptor, error) {
	if err := ociimage.CheckManifestSize(int64(len(raw))); err != nil {
		return v1.Descriptor{}, err
	}
	c, err := ociimage.Decode(raw, mediaType)
	if err != nil {
		return v1.Descriptor{}, err
	}
	// What is read back must be the same: the folder keeps no media types.
	if again, err := ociimage.Decode(raw, ""); err != nil || again.MediaType != c.MediaType {
		return v1.Descriptor{}, fmt.Errorf("manifest of type %q that does not say so: %w", c.MediaType, errors.ErrUnsupported)
	}
	desc := v1.Descriptor{MediaType: c.MediaType, Size: int64(len(raw))}
	if desc.Digest, err = digestOf(raw); err != nil {
		return v1.Descriptor{}, err
	}
	f, err := r.ready(ctx, repo)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer f.close()
	return desc, f.writeManifest(ctx, desc, raw)
}

// writeManifest stores a manifest all of whose content is there.
func (f *folder) writeManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	c, err := ociimage.Decode(raw, desc.MediaType)
	if err != nil {
		return err
	}
	var missing []error
	for _, d := range c.Blobs {
		if err := f.stat(blobPath(d.Digest), d.Size); err != nil {
			missing = append(missing, fmt.Errorf("manifest %s names %s: %w", desc.Digest, d.Digest, err))
		}
	}
	for _, d := range c.Children {
		if err := f.stat(manifestPath(d.Digest), d.Size); err != nil {
			missing = append(missing, fmt.Errorf("manifest %s names %s: %w", desc.Digest, d.Digest, err))
		}
	}
	if err := errors.Join(missing...); err != nil {
		return err
	}
	if err := f.storeManifest(ctx, desc, raw); err != nil {
		return err
	}
	if c.Subject == nil {
		return nil
	}
	desc.ArtifactType, desc.Annotations = c.ArtifactType, c.Annotations
	return f.addReferrer(ctx, c.Subject.Digest, desc)
}

// storeManifest writes a manifest as a blob and gives it its second name.
func (f *folder) storeManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	nothing := func(int64) {}
	if f.stat(blobPath(desc.Digest), desc.Size) != nil {
		if err := f.put(ctx, bytes.NewReader(raw), desc, nothing); err != nil {
			return err
		}
	}
	final := manifestPath(desc.Digest)
	switch err := f.root.Link(blobPath(desc.Digest), final); {
	case err == nil:
		return f.syncDir(manifestsDir)
	case f.stat(final, desc.Size) == nil:
		return nil
	}
	return f.place(ctx, bytes.NewReader(raw), desc, final, nothing)
}

// Tag points a tag at a manifest of the same repository.
func (r *Registry) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if err := r.tag(ctx, tag, digest); err != nil {
		return fail("tag", tag, err)
	}
	return nil
}

func (r *Registry) tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if err := errors.Join(ociimage.CheckTag(tag.TagStr()), ociimage.CheckDigest(digest)); err != nil {
		return err
	}
	f, err := r.open(ctx, tag.Context())
	if err != nil {
		return err
	}
	defer f.close()
	if _, _, err := f.manifest(digest); err != nil {
		return fmt.Errorf("manifest %s: %w", digest, err)
	}
	unlock, err := f.lock(ctx, manifestsDir)
	if err != nil {
		return err
	}
	defer unlock()
	return f.pointTag(tag.TagStr(), digest)
}

// pointTag replaces a tag's link. The caller holds the lock of the manifests.
func (f *folder) pointTag(tag string, digest v1.Hash) error {
	const temporary = manifestsDir + "/.tag" // no tag begins with a dot
	if err := f.root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.root.Symlink(digest.String(), temporary); err != nil {
		return err
	}
	if err := f.root.Rename(temporary, path.Join(manifestsDir, tag)); err != nil {
		return err
	}
	return f.syncDir(manifestsDir)
}

// addReferrer puts d on the list of subject.
func (f *folder) addReferrer(ctx context.Context, subject v1.Hash, d v1.Descriptor) error {
	if err := ociimage.CheckDigest(subject); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	unlock, err := f.lock(ctx, manifestsDir)
	if err != nil {
		return err
	}
	defer unlock()
	list, err := f.referrers(subject)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(have v1.Descriptor) bool { return have.Digest == d.Digest }) {
		return nil
	}
	list = append(list, d)
	// In this order whatever the order of arrival was.
	slices.SortFunc(list, func(a, b v1.Descriptor) int { return cmp.Compare(a.Digest.String(), b.Digest.String()) })
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
	if err != nil {
		return err
	}
	if err := ociimage.CheckManifestSize(int64(len(raw))); err != nil {
		return fmt.Errorf("list of the referrers of %s: %w", subject, err)
	}
	digest, err := digestOf(raw)
	if err != nil {
		return err
	}
	if err := f.storeManifest(ctx, v1.Descriptor{Digest: digest, Size: int64(len(raw))}, raw); err != nil {
		return err
	}
	tag := subject.Algorithm + "-" + subject.Hex
	old, _, oldErr := f.tagged(tag)
	if err := f.pointTag(tag, digest); err != nil {
		return err
	}
	if oldErr == nil { // nobody asks for the list that was
		err = errors.Join(f.root.Remove(manifestPath(old.Digest)), f.root.Remove(blobPath(old.Digest)))
	}
	return err
}

// StatBlob gives a blob's size.
func (r *Registry) StatBlob(ctx context.Context, repo name.Repository, digest v1.Hash) (int64, error) {
	size, err := r.statBlob(ctx, repo, digest)
	if err != nil {
		return 0, fail("stat blob", digested(repo, digest), err)
	}
	return size, nil
}

func (r *Registry) statBlob(ctx context.Context, repo name.Repository, digest v1.Hash) (int64, error) {
	if err := ociimage.CheckDigest(digest); err != nil {
		return 0, err
	}
	f, err := r.open(ctx, repo)
	if err != nil {
		return 0, err
	}
	defer f.close()
	info, err := f.root.Stat(blobPath(digest))
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, errors.New("not a regular file")
	}
	return info.Size(), nil
}

// OpenBlob gives a blob, verified while it is read.
func (r *Registry) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	return (&repository{r, repo}).Blob(ctx, blob)
}

// WriteBlob stores a blob. Bytes other than blob says give [publish.ErrDigest]
// and nothing is stored.
func (r *Registry) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	if err := r.writeBlob(ctx, repo, blob, src); err != nil {
		return fail("write blob", digested(repo, blob.Digest), err)
	}
	return nil
}

func (r *Registry) writeBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	if err := ociimage.CheckDigest(blob.Digest); err != nil {
		return err
	}
	if blob.Size < 0 {
		return fmt.Errorf("%d bytes: %w", blob.Size, verify.ErrDigest)
	}
	f, err := r.ready(ctx, repo)
	if err != nil {
		return err
	}
	defer f.close()
	rc, err := src.Open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f.put(ctx, rc, blob, func(int64) {}), rc.Close())
}

// MountBlob makes a blob of the repository from one of repo, by a link: no byte
// is copied. Where the file system cannot, or from does not hold the blob, it
// answers [errors.ErrUnsupported].
func (r *Registry) MountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	if err := r.mountBlob(ctx, repo, digest, from); err != nil {
		return fail("mount blob", digested(repo, digest), err)
	}
	return nil
}

func (r *Registry) mountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	size, err := r.statBlob(ctx, from, digest)
	if err != nil {
		// Before anything is made for nothing.
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("from %s: %w: %w", from, err, errors.ErrUnsupported)
		}
		return fmt.Errorf("from %s: %w", from, err)
	}
	f, err := r.ready(ctx, repo)
	if err != nil {
		return err
	}
	defer f.close()
	return f.link(ctx, v1.Descriptor{Digest: digest, Size: size}, from)
}

// link makes a blob of another repository one of this, after it was read to its
// end: a damaged one must not spread.
func (f *folder) link(ctx context.Context, desc v1.Descriptor, from name.Repository) error {
	p, err := repositoryPath(from)
	if err != nil {
		return err
	}
	src, err := f.r.open(ctx, from)
	if err != nil {
		return err
	}
	defer src.close()
	file, v, err := src.blob(desc)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, readers.Context{Ctx: ctx, R: v})
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	root, err := os.OpenRoot(f.r.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	err = root.Link(path.Join(p, blobPath(desc.Digest)), path.Join(f.path, blobPath(desc.Digest)))
	switch {
	case err == nil:
		return f.syncDir(blobsDir)
	case f.stat(blobPath(desc.Digest), desc.Size) == nil:
		return nil
	}
	return fmt.Errorf("from %s: %w: %w", from, err, errors.ErrUnsupported)
}

func digestOf(data []byte) (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(data))
	return h, err
}

// progress counts bytes and reports them one call at a time.
type progress struct {
	fn    func(done, total int64)
	total int64

	mu   sync.Mutex
	done int64
}

func (p *progress) add(n int64) {
	if p.fn == nil || n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.fn(p.done, p.total)
}
