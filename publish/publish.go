package publish

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/verify"
)

// Errors of the seams, beside [io/fs.ErrNotExist], [io/fs.ErrExist],
// [io/fs.ErrPermission] and [errors.ErrUnsupported].
var (
	// ErrConflict: the object's revision is not the one asked for; read again.
	ErrConflict = errors.New("revision conflict")
	// ErrDigest: bytes do not have the digest or size promised for them.
	ErrDigest = verify.ErrDigest
)

// Error is what verbs and backends return for a fault at one target. Its text
// holds no credentials.
type Error struct {
	Op        string // "put", "open", "push", "tag", "apply", …
	Target    string // key, reference or URL, redacted
	Err       error
	Retryable bool // trying again later may help
}

func (e *Error) Error() string { return "publish: " + e.Op + " " + e.Target + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Source is content that can be opened again, each time from its start, also
// while an earlier reader is open. ctx governs a reader until Close.
type Source interface {
	Open(ctx context.Context) (io.ReadCloser, error)
	Size() int64 // bytes
}

// Info describes an object in a [Store].
type Info struct {
	Key  string
	Size int64 // bytes
	// Revision is another one whenever the content is; opaque, never "". A Put
	// of the same bytes may keep it. Use it with [PutOptions.IfRevision].
	Revision string
	// SHA256 is of the content, lower-case hexadecimal; "" where the store
	// cannot tell without reading (objects that others put there).
	SHA256      string
	ContentType string    // "": not known
	Modified    time.Time // last change; zero: not known
}

// PutOptions say how [Store.Put] writes. IfAbsent and IfRevision exclude each
// other; a store that cannot honour one answers [errors.ErrUnsupported] and
// writes nothing. Backends check them with [CheckPut].
type PutOptions struct {
	SHA256       string // expected, lower-case hexadecimal; "": computed while writing
	IfAbsent     bool   // [io/fs.ErrExist] if the key exists
	IfRevision   string // [ErrConflict] unless the object exists with this revision
	ContentType  string // "": the store's default
	CacheControl string // "": none; stores that serve nothing ignore it
	// Link allows the store to share the file behind the source (one that opens
	// as an *os.File, such as [FileSource]) by a hard link instead of copying
	// it. Say so only for files that nobody changes any more.
	Link bool
	// Progress is called, from one goroutine at a time, with bytes so far.
	Progress func(done, total int64)
}

// Store holds objects: bytes at slash-separated keys. Keys are valid UTF-8, 1
// to 1024 bytes, without empty, "." or ".." segments, control characters or
// backslash (see [CheckKey]; [io/fs.ErrInvalid]). A store that cannot hold such
// a key answers [errors.ErrUnsupported].
//
// Put is all or nothing: a fault leaves the previous object or none, and no
// reader ever sees part of one. It verifies PutOptions.SHA256 and Source.Size
// itself ([ErrDigest]). It may open the source more than once. Missing keys give
// [io/fs.ErrNotExist] from Open and Stat; deleting one is not an error. ctx
// governs a returned reader until Close; the reader fails rather than end early.
// List takes any prefix of keys ("": all), is ascending by key (byte order) and
// sees each key that exists throughout the call. The error of every method is
// an [*Error]. All methods may be called from any goroutine and process.
type Store interface {
	Open(ctx context.Context, key string) (io.ReadCloser, Info, error)
	Stat(ctx context.Context, key string) (Info, error)
	Put(ctx context.Context, key string, src Source, opts *PutOptions) (Info, error)
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// Registry holds images: manifests and blobs by digest, and tags.
//
// Head, Image and Index of a missing reference give [io/fs.ErrNotExist].
// WriteImage and WriteIndex write blobs first, the manifest last, and by
// digest only: nothing is tagged. They skip what is there. ref names the
// repository; when it carries a digest it must be the image's ([ErrDigest]).
// Tag points a tag at a manifest that is in the same repository already.
// Tags are ascending. ctx governs the later reads of an image that it made.
type Registry interface {
	Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error)
	Image(ctx context.Context, ref name.Reference) (v1.Image, error)
	Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error)
	WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *WriteOptions) (v1.Descriptor, error)
	WriteIndex(ctx context.Context, repo name.Repository, idx v1.ImageIndex, opts *WriteOptions) (v1.Descriptor, error)
	Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error
	Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error]
}

// Blobs is what a [Registry] may offer beside whole images: its manifests and
// blobs one by one, so that many images move without a blob moving twice.
// repo and digest name a blob; what is missing is [io/fs.ErrNotExist].
type Blobs interface {
	// Manifest gives a manifest as it is stored, verified against the digest
	// that ref, or for a tag the registry, names.
	Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error)
	// WriteManifest stores a manifest by digest. What it names must be there.
	WriteManifest(ctx context.Context, repo name.Repository, mediaType types.MediaType, raw []byte) (v1.Descriptor, error)
	StatBlob(ctx context.Context, repo name.Repository, digest v1.Hash) (size int64, err error)
	// OpenBlob gives a blob whose reader fails with [ErrDigest] instead of
	// ending when the bytes are others than blob says.
	OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error)
	// WriteBlob stores a blob, whether or not it is there.
	WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src Source) error
	// MountBlob makes a blob of the repository from, in the same registry, one
	// of repo. A registry that can't, or will not, answers
	// [errors.ErrUnsupported] and has changed nothing.
	MountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error
}

// Referrers is what a [Registry] may offer: the manifests whose subject is
// another one, of all artifact types or of the one named. They are asked for by
// the referrers API, or where a server has none by the tag that stands in.
type Referrers interface {
	Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error]
}

// WriteOptions say how a [Registry] writes.
type WriteOptions struct {
	// From are repositories of the same registry that may hold the blobs
	// already; a registry that can mounts them from there.
	From []name.Repository
	// Progress is called with bytes moved or skipped so far.
	Progress func(done, total int64)
	// Reused, if not nil, is called once a blob or manifest that was there
	// already, from any goroutine.
	Reused func(v1.Descriptor)
}
