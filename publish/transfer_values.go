package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
)

// blobReader is what a transfer needs of its source.
type blobReader interface {
	Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error)
	OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error)
}

// readerOf gives a registry's manifests and blobs, through whole images where
// it offers nothing else.
func readerOf(r Registry) blobReader {
	if b, ok := r.(Blobs); ok {
		return b
	}
	return &values{registry: r, images: map[string]v1.Image{}}
}

// values gives the manifests and blobs of a registry that knows images only.
type values struct {
	registry Registry

	mu     sync.Mutex
	images map[string]v1.Image // by repository and digest of a blob
}

// raw is what images and indexes have in common.
type raw interface {
	RawManifest() ([]byte, error)
	Digest() (v1.Hash, error)
}

func (v *values) Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	head, err := v.registry.Head(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	var value raw
	at := ref.Context().Digest(head.Digest.String())
	if head.MediaType.IsIndex() {
		value, err = v.registry.Index(ctx, at)
	} else {
		value, err = v.image(ctx, at)
	}
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	data, err := value.RawManifest()
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	if err := verify.Bytes(data, head.Digest, verify.SizeUnknown); err != nil {
		return v1.Descriptor{}, nil, err
	}
	return v1.Descriptor{MediaType: head.MediaType, Digest: head.Digest, Size: int64(len(data))}, data, nil
}

// image remembers which image its blobs come from.
func (v *values) image(ctx context.Context, at name.Digest) (v1.Image, error) {
	img, err := v.registry.Image(ctx, at)
	if err != nil {
		return nil, err
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, desc := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		v.images[at.Context().Digest(desc.Digest.String()).String()] = img
	}
	return img, nil
}

func (v *values) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	at := repo.Digest(blob.Digest.String())
	v.mu.Lock()
	img := v.images[at.String()]
	v.mu.Unlock()
	if img == nil {
		return nil, &Error{Op: "blob", Target: at.String(), Err: fs.ErrNotExist}
	}
	config, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	if config == blob.Digest {
		data, err := img.RawConfigFile()
		if err != nil {
			return nil, err
		}
		return verify.ReadCloser(io.NopCloser(bytes.NewReader(data)), blob.Digest, blob.Size)
	}
	layer, err := img.LayerByDigest(blob.Digest)
	if err != nil {
		return nil, err
	}
	rc, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	return verify.ReadCloser(rc, blob.Digest, blob.Size)
}

// planned gives what was planned as values, for a destination that takes images
// only: manifests from the plan, blobs from where they are.
type planned struct {
	t *transfer
}

func (p planned) Manifest(_ context.Context, desc v1.Descriptor) ([]byte, error) {
	m := p.t.manifests[desc.Digest]
	if m == nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, fs.ErrNotExist)
	}
	return m.raw, nil
}

func (p planned) Blob(ctx context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	return p.t.open(ctx, desc)
}

// writeValue writes a manifest and all that it names through the methods for
// whole images.
func (t *transfer) writeValue(ctx context.Context, repo name.Repository, m *manifest) error {
	opts := &WriteOptions{From: t.mountsFor(repo)}
	var written v1.Descriptor
	if m.desc.MediaType.IsIndex() {
		idx, err := ociimage.NewIndex(ctx, planned{t}, m.desc, m.raw)
		if err != nil {
			return err
		}
		if written, err = t.to.WriteIndex(ctx, repo, idx, opts); err != nil {
			return err
		}
	} else {
		img, err := ociimage.NewImage(ctx, planned{t}, m.desc, m.raw)
		if err != nil {
			return err
		}
		if written, err = t.to.WriteImage(ctx, repo, img, opts); err != nil {
			return err
		}
	}
	if written.Digest != m.desc.Digest {
		return fmt.Errorf("registry wrote %s: %w", written.Digest, ErrDigest)
	}
	return nil
}

// errSparse: a whole image or index cannot have holes.
var errSparse = fmt.Errorf("an index with entries left out, into a registry that takes whole images only: %w", errors.ErrUnsupported)
