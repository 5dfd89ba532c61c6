package layoutregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// Options of [Open]; nil is the zero value, which is the default of each field.
type Options struct {
	// NoSync leaves out fsync: faster, but a power failure may lose what was
	// written or leave it damaged (a killed process never does).
	NoSync bool
	// Concurrency is the number of blobs written at once; 0: 4, at most 64.
	Concurrency int
	// Logger gets each finished write and tag at info level; nil: silent.
	Logger *slog.Logger
}

// Limits and defaults.
const (
	// MaxIndexSize bounds index.json, bytes; about 50,000 entries.
	MaxIndexSize = 16 << 20

	defaultConcurrency = 4
	maxConcurrency     = 64
)

// Registry is a folder of OCI layouts. It may be used from any goroutine and
// beside other processes, and holds nothing that needs closing.
type Registry struct {
	dir  string
	opts Options
	log  *slog.Logger
	next atomic.Int64 // names of temporary files

	indexes indexes
}

var (
	_ publish.Registry  = (*Registry)(nil)
	_ publish.Blobs     = (*Registry)(nil)
	_ publish.Referrers = (*Registry)(nil)
)

// Open gives the registry in dir, which need not exist yet: the first write
// makes it. A dir that is something else than a folder is an error. opts may
// be nil.
func Open(ctx context.Context, dir string, opts *Options) (*Registry, error) {
	r := &Registry{dir: dir, log: slog.New(slog.DiscardHandler)}
	if opts != nil {
		r.opts = *opts
	}
	if dir == "" {
		return nil, &publish.Error{Op: "open", Target: "layout registry", Err: errors.New("no folder is named")}
	}
	if r.opts.Concurrency == 0 {
		r.opts.Concurrency = defaultConcurrency
	}
	r.opts.Concurrency = min(max(r.opts.Concurrency, 1), maxConcurrency)
	if r.opts.Logger != nil {
		r.log = r.opts.Logger
	}
	if err := ctx.Err(); err != nil {
		return nil, &publish.Error{Op: "open", Target: dir, Err: err}
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, &publish.Error{Op: "open", Target: dir, Err: errors.New("not a folder")}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &publish.Error{Op: "open", Target: dir, Err: err}
	}
	return r, nil
}

// Dir is the folder.
func (r *Registry) Dir() string { return r.dir }

// Head describes what ref names: media type, digest and size.
func (r *Registry) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	desc, l, err := r.resolve(ctx, ref)
	if err != nil {
		return nil, fail("head", ref, err)
	}
	defer l.close()
	if err := l.stat(desc); err != nil {
		return nil, fail("head", ref, err)
	}
	return &v1.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, nil
}

// Image gives the image that ref names. An index gives
// [errors.ErrUnsupported]: it is for the caller to choose from it.
func (r *Registry) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	desc, l, err := r.resolve(ctx, ref)
	if err != nil {
		return nil, fail("image", ref, err)
	}
	defer l.close()
	raw, err := l.manifest(desc)
	if err != nil {
		return nil, fail("image", ref, err)
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
	desc, l, err := r.resolve(ctx, ref)
	if err != nil {
		return nil, fail("index", ref, err)
	}
	defer l.close()
	raw, err := l.manifest(desc)
	if err != nil {
		return nil, fail("index", ref, err)
	}
	idx, err := ociimage.NewIndex(ctx, &repository{r, ref.Context()}, desc, raw)
	if err != nil {
		return nil, fail("index", ref, err)
	}
	return idx, nil
}

// Tags lists the tags of repo in ascending order. Names that other tools put
// into the layout and that no registry would take for a tag are left out.
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
	l, err := r.open(ctx, repo)
	if err != nil {
		return nil, err
	}
	defer l.close()
	idx, err := l.sharedIndex()
	if err != nil {
		return nil, err
	}
	return idx.tags(), nil
}

// resolve opens ref's repository and finds what ref names. The caller closes
// the layout unless there is an error.
func (r *Registry) resolve(ctx context.Context, ref name.Reference) (v1.Descriptor, *layout, error) {
	tag, digest, err := identifier(ref)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	l, err := r.open(ctx, ref.Context())
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	desc, err := func() (v1.Descriptor, error) {
		idx, err := l.sharedIndex()
		if err != nil {
			return v1.Descriptor{}, err
		}
		if tag != "" {
			return idx.byTag(tag)
		}
		return l.find(ctx, idx, digest)
	}()
	if err != nil {
		l.close()
		return v1.Descriptor{}, nil, err
	}
	return desc, l, nil
}

// identifier splits ref into the one of tag and digest that it has.
func identifier(ref name.Reference) (tag string, digest v1.Hash, err error) {
	switch ref := ref.(type) {
	case name.Digest:
		digest, err = v1.NewHash(ref.DigestStr())
		return "", digest, err
	case name.Tag:
		return ref.TagStr(), v1.Hash{}, ociimage.CheckTag(ref.TagStr())
	case nil:
		return "", v1.Hash{}, errors.New("no reference is given")
	}
	text := ref.Identifier()
	if strings.Contains(text, ":") {
		digest, err = v1.NewHash(text)
		return "", digest, err
	}
	return text, v1.Hash{}, ociimage.CheckTag(text)
}

// partPattern is what a component of a repository path is, from the distribution
// specification.
var partPattern = lazyregexp.New(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$`)

// repositoryPath is the folder of repo below the registry's. The pattern of a
// component keeps it inside and out of the way of hidden files; the names of a
// layout's own files are refused, for repositories nest.
func repositoryPath(repo name.Repository) (string, error) {
	p := repo.RepositoryStr()
	return p, checkPath(p)
}

func checkPath(p string) error {
	if p == "" || len(p) > 255 {
		return fmt.Errorf("repository path %.300q: must have 1 to 255 characters", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if !partPattern.MatchString(part) {
			return fmt.Errorf("repository path %q: component %q is not allowed", p, part)
		}
		if part == indexFile || part == layoutFile || part == blobsDir {
			return fmt.Errorf("repository path %q: %q is a file of an OCI layout", p, part)
		}
	}
	return nil
}

// fail gives err its operation and target. target is a reference or repository.
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

// repository is one repository as [ociimage.Repository]: images outlive the
// call that made them, so each read opens the folder anew.
type repository struct {
	registry *Registry
	name     name.Repository
}

func (r *repository) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	l, err := r.registry.open(ctx, r.name)
	if err != nil {
		return nil, fail("manifest", r.name.Digest(desc.Digest.String()), err)
	}
	defer l.close()
	raw, err := l.manifest(desc)
	if err != nil {
		return nil, fail("manifest", r.name.Digest(desc.Digest.String()), err)
	}
	return raw, nil
}

func (r *repository) Blob(ctx context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	l, err := r.registry.open(ctx, r.name)
	if err != nil {
		return nil, fail("blob", r.name.Digest(desc.Digest.String()), err)
	}
	defer l.close()
	f, err := l.blob(desc.Digest)
	if err != nil {
		return nil, fail("blob", r.name.Digest(desc.Digest.String()), err)
	}
	v, err := verify.NewReader(f, desc.Digest, desc.Size)
	if err != nil {
		f.Close()
		return nil, fail("blob", r.name.Digest(desc.Digest.String()), err)
	}
	return &blobReader{ctx: ctx, file: f, verified: v, target: path.Join(r.name.String(), desc.Digest.String())}, nil
}

// blobReader reads a blob, verified, as long as its context lasts.
type blobReader struct {
	ctx      context.Context // governs the reader until Close
	file     *os.File
	verified *verify.Reader
	target   string
}

func (b *blobReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, &publish.Error{Op: "read", Target: b.target, Err: err}
	}
	n, err := b.verified.Read(p)
	if err != nil && err != io.EOF {
		err = &publish.Error{Op: "read", Target: b.target, Err: err}
	}
	return n, err
}

func (b *blobReader) Close() error { return b.file.Close() }

// Relax leaves the check of the digest to the reader.
func (b *blobReader) Relax(want v1.Hash, size int64) bool { return b.verified.Relax(want, size) }

// File lets another layout link the blob.
func (b *blobReader) File() *os.File { return b.file }
