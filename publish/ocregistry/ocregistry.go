package ocregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// Options of [Open]. The zero value is the default of each field.
type Options struct {
	// NoSync leaves out fsync: faster, but a power failure may lose what was
	// written or leave it damaged (a killed process never does).
	NoSync bool
	// Concurrency is the number of blobs of an image written at once; 0: 4, at
	// most 64.
	Concurrency int
}

const (
	defaultConcurrency = 4
	maxConcurrency     = 64

	topDir       = "v2"
	blobsDir     = "blobs"
	manifestsDir = "manifests"
)

// Registry is a folder of repositories as oc has them. It may be used from any
// goroutine and beside other processes, and holds nothing that needs closing.
type Registry struct {
	dir     string
	opts    Options
	cleaned sync.Map // paths of repositories that were looked through
}

var (
	_ publish.Registry  = (*Registry)(nil)
	_ publish.Blobs     = (*Registry)(nil)
	_ publish.Referrers = (*Registry)(nil)
)

// Open gives the registry in dir, the folder that has v2. It need not exist
// yet: the first write makes it. A dir that is something else than a folder is
// an error. opts may be nil.
func Open(ctx context.Context, dir string, opts *Options) (*Registry, error) {
	r := &Registry{dir: dir}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.Concurrency == 0 {
		r.opts.Concurrency = defaultConcurrency
	}
	r.opts.Concurrency = min(max(r.opts.Concurrency, 1), maxConcurrency)
	err := ctx.Err()
	if err == nil && dir == "" {
		err = errors.New("no folder is named")
	}
	if err == nil {
		info, statErr := os.Stat(dir)
		switch {
		case errors.Is(statErr, fs.ErrNotExist):
		case statErr != nil:
			err = statErr
		case !info.IsDir():
			err = errors.New("not a folder")
		}
	}
	if err != nil {
		return nil, &publish.Error{Op: "open", Target: dir, Err: err}
	}
	return r, nil
}

// Head describes what ref names: media type, digest and size.
func (r *Registry) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	desc, _, err := r.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &desc, nil
}

// Image gives the image that ref names. An index gives
// [errors.ErrUnsupported]: it is for the caller to choose from it.
func (r *Registry) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	desc, raw, err := r.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	img, err := ociimage.NewImage(ctx, &repository{r, ref.Context()}, desc, raw)
	if err != nil {
		return nil, fail("image", ref, err)
	}
	return img, nil
}

// Index gives the index that ref names. A plain image gives
// [errors.ErrUnsupported].
func (r *Registry) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	desc, raw, err := r.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	idx, err := ociimage.NewIndex(ctx, &repository{r, ref.Context()}, desc, raw)
	if err != nil {
		return nil, fail("index", ref, err)
	}
	return idx, nil
}

// Manifest gives a manifest as it is stored, at most 4 MiB, verified. One that
// does not say its media type is what it looks like, for the folder does not
// say it either.
func (r *Registry) Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	desc, raw, err := r.manifest(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, nil, fail("manifest", ref, err)
	}
	return desc, raw, nil
}

func (r *Registry) manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	tag, digest, err := identifier(ref)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	f, err := r.open(ctx, ref.Context())
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	defer f.close()
	if tag != "" {
		return f.tagged(tag)
	}
	return f.manifest(digest)
}

// Tags lists the tags of repo in ascending order.
func (r *Registry) Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		tags, err := r.tags(ctx, repo)
		if err != nil {
			yield("", fail("tags", repo, err))
			return
		}
		for _, tag := range tags {
			if err := ctx.Err(); err != nil {
				yield("", fail("tags", repo, err))
				return
			}
			if !yield(tag, nil) {
				return
			}
		}
	}
}

func (r *Registry) tags(ctx context.Context, repo name.Repository) ([]string, error) {
	f, err := r.open(ctx, repo)
	if err != nil {
		return nil, err
	}
	defer f.close()
	dir, err := f.root.Open(manifestsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return ociimage.CheckTag(n) != nil || referrersTag.MatchString(n) })
	slices.Sort(names)
	return names, nil
}

// Referrers lists the manifests whose subject is the given one, which need not
// exist, of all artifact types or of the one named.
func (r *Registry) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		list, err := r.referrers(ctx, subject)
		if err != nil {
			yield(v1.Descriptor{}, fail("referrers", subject, err))
			return
		}
		for _, d := range list {
			if artifactType != "" && d.ArtifactType != artifactType {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(v1.Descriptor{}, fail("referrers", subject, err))
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func (r *Registry) referrers(ctx context.Context, subject name.Digest) ([]v1.Descriptor, error) {
	_, digest, err := identifier(subject)
	if err != nil {
		return nil, err
	}
	f, err := r.open(ctx, subject.Context())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.close()
	return f.referrers(digest)
}

// folder is one repository's folder.
type folder struct {
	root *os.Root
	path string // below the registry's
	r    *Registry
}

func (f *folder) close() { _ = f.root.Close() } // nothing is written through it

// open opens a repository that is there; one that is not gives
// [fs.ErrNotExist].
func (r *Registry) open(ctx context.Context, name name.Repository) (*folder, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := repositoryPath(name)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	sub, err := root.OpenRoot(p)
	if err != nil {
		return nil, err
	}
	return &folder{sub, p, r}, nil
}

// read reads a regular file of at most limit bytes.
func (f *folder) read(name string, limit int64) ([]byte, error) {
	file, size, err := f.file(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, limit %d", name, size, limit)
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, err
}

// file opens a regular file; anything else could block.
func (f *folder) file(name string) (*os.File, int64, error) {
	info, err := f.root.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: not a regular file", name)
	}
	file, err := f.root.Open(name)
	return file, info.Size(), err
}

func (f *folder) manifest(digest v1.Hash) (v1.Descriptor, []byte, error) {
	raw, err := f.read(manifestPath(digest), ociimage.MaxManifestSize)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	if err := verify.Bytes(raw, digest, verify.SizeUnknown); err != nil {
		return v1.Descriptor{}, nil, err
	}
	return described(raw, digest)
}

// tagged reads the manifest of a tag. The link says nothing of the digest that
// its content must have; there must be a manifest under the one it has.
func (f *folder) tagged(tag string) (v1.Descriptor, []byte, error) {
	raw, err := f.read(path.Join(manifestsDir, tag), ociimage.MaxManifestSize)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	digest, err := digestOf(raw)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	if _, err := f.root.Stat(manifestPath(digest)); err != nil {
		return v1.Descriptor{}, nil, fmt.Errorf("tag %s has a manifest with digest %s, which is none of the repository's: %w", tag, digest, verify.ErrDigest)
	}
	return described(raw, digest)
}

func described(raw []byte, digest v1.Hash) (v1.Descriptor, []byte, error) {
	c, err := ociimage.Decode(raw, "")
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	return v1.Descriptor{MediaType: c.MediaType, Digest: digest, Size: int64(len(raw))}, raw, nil
}

// stat says whether a blob or manifest is there in the right size.
func (f *folder) stat(p string, size int64) error {
	info, err := f.root.Stat(p)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: not a regular file", p)
	case info.Size() != size:
		return fmt.Errorf("%s has %d bytes, want %d: %w", p, info.Size(), size, verify.ErrDigest)
	}
	return nil
}

// blob opens a blob; its reader checks it.
func (f *folder) blob(desc v1.Descriptor) (*os.File, *verify.Reader, error) {
	if err := ociimage.CheckDigest(desc.Digest); err != nil {
		return nil, nil, err
	}
	file, _, err := f.file(blobPath(desc.Digest))
	if err != nil {
		return nil, nil, err
	}
	v, err := verify.NewReader(file, desc.Digest, desc.Size)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, v, nil
}

var referrersTag = lazyregexp.New(`^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})$`)

// referrers reads the list of what has a subject. What is gone, and what has
// another subject, is not on it.
func (f *folder) referrers(subject v1.Hash) ([]v1.Descriptor, error) {
	_, raw, err := f.tagged(subject.Algorithm + "-" + subject.Hex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list of referrers: %w", err)
	}
	list, err := ociimage.Decode(raw, "")
	if err != nil {
		return nil, fmt.Errorf("list of referrers: %w", err)
	}
	var out []v1.Descriptor
	for _, d := range list.Children {
		desc, raw, err := f.manifest(d.Digest)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c, err := ociimage.Decode(raw, desc.MediaType)
		if err != nil {
			return nil, err
		}
		if c.Subject == nil || c.Subject.Digest != subject {
			continue
		}
		out = append(out, v1.Descriptor{MediaType: desc.MediaType, Digest: d.Digest, Size: desc.Size, ArtifactType: c.ArtifactType, Annotations: c.Annotations})
	}
	return out, nil
}

func blobPath(h v1.Hash) string     { return path.Join(blobsDir, h.String()) }
func manifestPath(h v1.Hash) string { return path.Join(manifestsDir, h.String()) }

// identifier splits ref into the one of tag and digest that it has.
func identifier(ref name.Reference) (tag string, digest v1.Hash, err error) {
	if ref == nil {
		return "", v1.Hash{}, errors.New("no reference is given")
	}
	text := ref.Identifier()
	if !strings.Contains(text, ":") {
		return text, v1.Hash{}, ociimage.CheckTag(text)
	}
	digest, err = v1.NewHash(text)
	if err == nil {
		err = ociimage.CheckDigest(digest)
	}
	return "", digest, err
}

// partPattern is what a component of a repository path is, from the distribution
// specification.
var partPattern = lazyregexp.New(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$`)

// repositoryPath is the folder of a repository. The pattern of a component
// keeps it inside; repositories nest, so the names of a repository's own
// folders are refused.
func repositoryPath(repo name.Repository) (string, error) {
	p := repo.RepositoryStr()
	if p == "" || len(p) > 255 {
		return "", fmt.Errorf("repository path %.300q: must have 1 to 255 characters", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if !partPattern.MatchString(part) || part == blobsDir || part == manifestsDir {
			return "", fmt.Errorf("repository path %q: component %q is not allowed", p, part)
		}
	}
	return path.Join(topDir, p), nil
}

// fail gives err its operation and target.
func fail(op string, target fmt.Stringer, err error) error {
	if e, ok := errors.AsType[*publish.Error](err); ok {
		return e
	}
	text := "no reference"
	if target != nil {
		text = target.String()
	}
	return &publish.Error{Op: op, Target: text, Err: err}
}

// at is a blob's or manifest's name in errors.
type at string

func (a at) String() string { return string(a) }

func digested(repo name.Repository, h v1.Hash) at { return at(fmt.Sprintf("%s@%.140s", repo, h)) }

// repository is one repository as [ociimage.Repository]: images outlive the
// call that made them, so each read opens the folder anew.
type repository struct {
	registry *Registry
	name     name.Repository
}

func (r *repository) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	got, raw, err := r.registry.Manifest(ctx, r.name.Digest(desc.Digest.String()))
	if err == nil && got.Size != desc.Size {
		err = fail("manifest", digested(r.name, desc.Digest), fmt.Errorf("has %d bytes, want %d: %w", got.Size, desc.Size, verify.ErrDigest))
	}
	return raw, err
}

func (r *repository) Blob(ctx context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	f, err := r.registry.open(ctx, r.name)
	if err != nil {
		return nil, fail("blob", digested(r.name, desc.Digest), err)
	}
	defer f.close()
	file, v, err := f.blob(desc)
	if err != nil {
		return nil, fail("blob", digested(r.name, desc.Digest), err)
	}
	return &blobReader{ctx, file, v, digested(r.name, desc.Digest)}, nil
}

// blobReader reads a blob, verified, as long as its context lasts.
type blobReader struct {
	ctx      context.Context // governs the reader until Close
	file     *os.File
	verified *verify.Reader
	target   at
}

func (b *blobReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, fail("read", b.target, err)
	}
	n, err := b.verified.Read(p)
	if err != nil && err != io.EOF {
		err = fail("read", b.target, err)
	}
	return n, err
}

func (b *blobReader) Close() error { return b.file.Close() }

// Relax leaves the check of the digest to the reader.
func (b *blobReader) Relax(want v1.Hash, size int64) bool { return b.verified.Relax(want, size) }
