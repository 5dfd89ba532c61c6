package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// WriteLayer makes sure that repo has a layer's blob: it asks for it, and writes
// it where it is missing. It is for layers of an image that is still being made;
// [Registry.WriteImage] finds them there. A registry that offers no [Blobs] gets
// nothing, for it has all from that. A blob of that digest with another size is
// [ErrDigest].
func WriteLayer(ctx context.Context, registry Registry, repo name.Repository, layer v1.Layer) error {
	if err := writeLayer(ctx, registry, repo, layer); err != nil {
		return &Error{Op: "write layer", Target: repo.Name(), Err: err}
	}
	return nil
}

func writeLayer(ctx context.Context, registry Registry, repo name.Repository, layer v1.Layer) error {
	blobs, ok := registry.(Blobs)
	if !ok {
		return nil
	}
	var desc v1.Descriptor
	var err error
	if desc.Digest, err = layer.Digest(); err != nil {
		return err
	}
	if desc.Size, err = layer.Size(); err != nil {
		return err
	}
	if desc.MediaType, err = layer.MediaType(); err != nil {
		return err
	}
	size, err := blobs.StatBlob(ctx, repo, desc.Digest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return blobs.WriteBlob(ctx, repo, desc, &layerSource{layer, desc.Size})
	case err == nil && size != desc.Size:
		return fmt.Errorf("blob %s is there with %d bytes, the layer has %d: %w", desc.Digest, size, desc.Size, ErrDigest)
	}
	return err
}

// layerSource is a layer's blob as a [Source].
type layerSource struct {
	layer v1.Layer
	size  int64
}

func (l *layerSource) Open(context.Context) (io.ReadCloser, error) { return l.layer.Compressed() }
func (l *layerSource) Size() int64                                 { return l.size }
