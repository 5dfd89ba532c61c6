package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
)

// ImageReader is what a registry is to those who only read images, and a folder or
// archive that payload.Folder opened.
type ImageReader interface {
	Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error)
	Image(ctx context.Context, ref name.Reference) (v1.Image, error)
	Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error)
}

// ReadOnly makes a registry of what can only be read, for [Transfer] to copy
// from. What writes answers [errors.ErrUnsupported], as does Tags. Where r has
// the methods Manifest and OpenBlob of [Blobs], as payload.Folder's have,
// manifests and blobs are read by them one by one. Referrers are those listed
// under the tag that stands in for the referrers API, sha256-HEX.
func ReadOnly(r ImageReader) Registry {
	direct, ok := r.(blobReader)
	if !ok {
		direct = &values{registry: readOnly{ImageReader: r}, images: map[string]v1.Image{}}
	}
	return readOnly{r, direct}
}

type readOnly struct {
	ImageReader
	blobs blobReader
}

var (
	_ Registry  = readOnly{}
	_ Blobs     = readOnly{}
	_ Referrers = readOnly{}
)

func refused(op string, target fmt.Stringer) error {
	return &Error{Op: op, Target: target.String(), Err: fmt.Errorf("it can only be read: %w", errors.ErrUnsupported)}
}

func (r readOnly) WriteImage(_ context.Context, repo name.Repository, _ v1.Image, _ *WriteOptions) (v1.Descriptor, error) {
	return v1.Descriptor{}, refused("write", repo)
}

func (r readOnly) WriteIndex(_ context.Context, repo name.Repository, _ v1.ImageIndex, _ *WriteOptions) (v1.Descriptor, error) {
	return v1.Descriptor{}, refused("write", repo)
}

func (r readOnly) Tag(_ context.Context, tag name.Tag, _ v1.Hash) error { return refused("tag", tag) }

func (r readOnly) Tags(_ context.Context, repo name.Repository) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", refused("tags", repo)) }
}

func (r readOnly) WriteManifest(_ context.Context, repo name.Repository, _ types.MediaType, _ []byte) (v1.Descriptor, error) {
	return v1.Descriptor{}, refused("write manifest", repo)
}

func (r readOnly) WriteBlob(_ context.Context, repo name.Repository, _ v1.Descriptor, _ Source) error {
	return refused("write blob", repo)
}

func (r readOnly) MountBlob(_ context.Context, repo name.Repository, _ v1.Hash, _ name.Repository) error {
	return refused("mount blob", repo)
}

func (r readOnly) StatBlob(_ context.Context, repo name.Repository, _ v1.Hash) (int64, error) {
	return 0, refused("stat blob", repo)
}

// Manifest verifies what the reader gives: it promises nothing of the kind. A
// manifest that does not say its media type is what the reader or, where that
// is silent too, its members say.
func (r readOnly) Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	desc, raw, err := r.manifest(ctx, ref)
	if err != nil {
		if _, ok := errors.AsType[*Error](err); !ok {
			err = &Error{Op: "manifest", Target: ref.String(), Err: err}
		}
		return v1.Descriptor{}, nil, err
	}
	return desc, raw, nil
}

func (r readOnly) manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	desc, raw, err := r.blobs.Manifest(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	if err := ociimage.CheckManifestSize(int64(len(raw))); err != nil {
		return v1.Descriptor{}, nil, err
	}
	if d, ok := ref.(name.Digest); ok {
		if desc.Digest, err = v1.NewHash(d.DigestStr()); err != nil {
			return v1.Descriptor{}, nil, err
		}
	}
	if err := verify.Bytes(raw, desc.Digest, verify.SizeUnknown); err != nil {
		return v1.Descriptor{}, nil, err
	}
	c, err := ociimage.Decode(raw, desc.MediaType)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	return v1.Descriptor{MediaType: c.MediaType, Digest: desc.Digest, Size: int64(len(raw))}, raw, nil
}

func (r readOnly) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	rc, err := r.blobs.OpenBlob(ctx, repo, blob)
	if err == nil {
		rc, err = verify.ReadCloser(rc, blob.Digest, blob.Size)
	}
	if err != nil {
		if _, ok := errors.AsType[*Error](err); !ok {
			err = &Error{Op: "blob", Target: repo.Digest(blob.Digest.String()).String(), Err: err}
		}
		return nil, err
	}
	return rc, nil
}

func (r readOnly) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		tag := subject.Context().Tag(strings.Replace(subject.DigestStr(), ":", "-", 1))
		_, raw, err := r.Manifest(ctx, tag)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		var list v1.IndexManifest
		if err == nil {
			err = json.Unmarshal(raw, &list)
		}
		if err != nil {
			yield(v1.Descriptor{}, &Error{Op: "referrers", Target: subject.String(), Err: err})
			return
		}
		for _, d := range list.Manifests {
			if artifactType != "" && d.ArtifactType != artifactType {
				continue
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}
