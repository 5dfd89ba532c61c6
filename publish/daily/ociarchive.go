package daily

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/publish"
)

// archivedImage is an image as an OCI archive, coreos-assembler's artifact
// "ostree": the layout of one image in a tar, made anew each time that it is
// read, always of the same bytes.
type archivedImage struct {
	size  int64
	parts []archivePart
}

// archivePart is a stretch of the tar.
type archivePart func() (io.ReadCloser, error)

func archiveBytes(data []byte) archivePart {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

const tarBlock = 512

// archiveImage plans the archive.
func archiveImage(img v1.Image) (publish.Source, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return nil, err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	configDigest, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	index, err := json.Marshal(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{MediaType: mediaType, Digest: digest, Size: int64(len(manifest))}},
	})
	if err != nil {
		return nil, err
	}
	a := &archivedImage{}
	for _, file := range []struct {
		name string
		data []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion": "1.0.0"}`)}, {"index.json", index},
		{blobName(digest), manifest}, {blobName(configDigest), config},
	} {
		if err := a.add(file.name, int64(len(file.data)), archiveBytes(file.data)); err != nil {
			return nil, err
		}
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	seen := map[v1.Hash]bool{}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return nil, err
		}
		size, err := layer.Size()
		if err != nil {
			return nil, err
		}
		if seen[digest] {
			continue
		}
		seen[digest] = true
		if err := a.add(blobName(digest), size, layer.Compressed); err != nil {
			return nil, err
		}
	}
	a.put(2*tarBlock, archiveBytes(make([]byte, 2*tarBlock)))
	return a, nil
}

func blobName(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

func (a *archivedImage) put(size int64, part archivePart) {
	a.size += size
	a.parts = append(a.parts, part)
}

func (a *archivedImage) add(name string, size int64, content archivePart) error {
	var header bytes.Buffer
	w := tar.NewWriter(&header)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR})
	if err != nil {
		return err
	}
	a.put(int64(header.Len()), archiveBytes(bytes.Clone(header.Bytes())))
	a.put(size, content)
	if rest := size % tarBlock; rest != 0 {
		a.put(tarBlock-rest, archiveBytes(make([]byte, tarBlock-rest)))
	}
	return nil
}

// Size is that of the tar in bytes.
func (a *archivedImage) Size() int64 { return a.size }

// Open starts the tar; what is read of it is of one moment, as images don't change.
func (a *archivedImage) Open(ctx context.Context) (io.ReadCloser, error) {
	return &archiveReader{ctx: ctx, left: a.parts}, nil
}

// archiveReader opens one part after the other.
type archiveReader struct {
	ctx  context.Context // of Open, as sources have it
	left []archivePart
	now  io.ReadCloser
}

func (r *archiveReader) Read(p []byte) (int, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		if r.now == nil {
			if len(r.left) == 0 {
				return 0, io.EOF
			}
			part, err := r.left[0]()
			if err != nil {
				return 0, err
			}
			r.now, r.left = part, r.left[1:]
		}
		n, err := r.now.Read(p)
		if errors.Is(err, io.EOF) {
			err = r.Close()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Close ends reading.
func (r *archiveReader) Close() error {
	if r.now == nil {
		return nil
	}
	err := r.now.Close()
	r.now = nil
	return err
}
