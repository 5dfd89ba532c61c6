package promotion_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/publish"
)

// memory is a registry without a disk, so that a promotion can be killed
// hundreds of times.
type memory struct {
	mu        sync.Mutex
	blobs     map[string]map[v1.Hash][]byte // by repository; manifests are blobs
	manifests map[string]map[v1.Hash]types.MediaType
	tags      map[string]map[string]v1.Hash
}

var (
	_ publish.Registry  = (*memory)(nil)
	_ publish.Blobs     = (*memory)(nil)
	_ publish.Referrers = (*memory)(nil)
)

func newMemory() *memory {
	return &memory{blobs: map[string]map[v1.Hash][]byte{}, manifests: map[string]map[v1.Hash]types.MediaType{}, tags: map[string]map[string]v1.Hash{}}
}

func (m *memory) clone() *memory {
	out := newMemory()
	for r, v := range m.blobs {
		out.blobs[r] = maps.Clone(v)
	}
	for r, v := range m.manifests {
		out.manifests[r] = maps.Clone(v)
	}
	for r, v := range m.tags {
		out.tags[r] = maps.Clone(v)
	}
	return out
}

func missing(op string, target fmt.Stringer) error {
	return &publish.Error{Op: op, Target: target.String(), Err: fs.ErrNotExist}
}

func (m *memory) resolve(ctx context.Context, op string, ref name.Reference) (v1.Descriptor, []byte, error) {
	if err := ctx.Err(); err != nil {
		return v1.Descriptor{}, nil, &publish.Error{Op: op, Target: ref.String(), Err: err}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	repo := ref.Context().Name()
	digest, err := v1.NewHash(ref.Identifier())
	if err != nil {
		digest = m.tags[repo][ref.Identifier()]
	}
	mt, ok := m.manifests[repo][digest]
	if !ok {
		return v1.Descriptor{}, nil, missing(op, ref)
	}
	raw := m.blobs[repo][digest]
	return v1.Descriptor{MediaType: mt, Digest: digest, Size: int64(len(raw))}, raw, nil
}

func (m *memory) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	d, _, err := m.resolve(ctx, "head", ref)
	if err != nil {
		return nil, err
	}
	return &d, nil
}

// inRepo reads a repository, for images.
type inRepo struct {
	*memory
	name string
}

func (r inRepo) Manifest(_ context.Context, d v1.Descriptor) ([]byte, error) { return r.blob(d.Digest) }

func (r inRepo) Blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	data, err := r.blob(d.Digest)
	return io.NopCloser(bytes.NewReader(data)), err
}

func (r inRepo) blob(digest v1.Hash) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, ok := r.blobs[r.name][digest]
	if !ok {
		return nil, missing("blob", digest)
	}
	return data, nil
}

func (m *memory) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	d, raw, err := m.resolve(ctx, "image", ref)
	if err != nil {
		return nil, err
	}
	return ociimage.NewImage(ctx, inRepo{m, ref.Context().Name()}, d, raw)
}

func (m *memory) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	d, raw, err := m.resolve(ctx, "index", ref)
	if err != nil {
		return nil, err
	}
	return ociimage.NewIndex(ctx, inRepo{m, ref.Context().Name()}, d, raw)
}

func (m *memory) put(repo string, data []byte, mt types.MediaType) v1.Hash {
	h, _, _ := v1.SHA256(bytes.NewReader(data)) // a bytes.Reader does not fail
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs[repo] == nil {
		m.blobs[repo], m.manifests[repo], m.tags[repo] = map[v1.Hash][]byte{}, map[v1.Hash]types.MediaType{}, map[string]v1.Hash{}
	}
	m.blobs[repo][h] = data
	if mt != "" {
		m.manifests[repo][h] = mt
	}
	return h
}

func (m *memory) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, _ *publish.WriteOptions) (v1.Descriptor, error) {
	layers, err := img.Layers()
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return v1.Descriptor{}, err
		}
		data, err := io.ReadAll(r)
		if err == nil {
			err = r.Close()
		}
		if err != nil {
			return v1.Descriptor{}, err
		}
		m.put(repo.Name(), data, "")
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return v1.Descriptor{}, err
	}
	m.put(repo.Name(), config, "")
	mt, err := img.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return m.WriteManifest(ctx, repo, mt, raw)
}

func (m *memory) WriteIndex(ctx context.Context, repo name.Repository, idx v1.ImageIndex, opts *publish.WriteOptions) (v1.Descriptor, error) {
	manifest, err := idx.IndexManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, d := range manifest.Manifests {
		img, err := idx.Image(d.Digest)
		if err != nil {
			return v1.Descriptor{}, err
		}
		if _, err := m.WriteImage(ctx, repo, img, opts); err != nil {
			return v1.Descriptor{}, err
		}
	}
	raw, err := idx.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return m.WriteManifest(ctx, repo, manifest.MediaType, raw)
}

func (m *memory) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	if _, _, err := m.resolve(ctx, "tag", tag.Context().Digest(digest.String())); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tags[tag.Context().Name()][tag.TagStr()] = digest
	return nil
}

func (m *memory) Untag(_ context.Context, tag name.Tag) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tags[tag.Context().Name()], tag.TagStr())
	return nil
}

func (m *memory) Tags(_ context.Context, repo name.Repository) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		m.mu.Lock()
		tags := slices.Sorted(maps.Keys(m.tags[repo.Name()]))
		_, ok := m.blobs[repo.Name()]
		m.mu.Unlock()
		if !ok {
			yield("", missing("tags", repo))
			return
		}
		for _, t := range tags {
			if !yield(t, nil) {
				return
			}
		}
	}
}

func (m *memory) Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	return m.resolve(ctx, "manifest", ref)
}

func (m *memory) WriteManifest(_ context.Context, repo name.Repository, mt types.MediaType, raw []byte) (v1.Descriptor, error) {
	c, err := ociimage.Decode(raw, mt)
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, d := range slices.Concat(c.Blobs, c.Children) {
		if _, err := (inRepo{m, repo.Name()}).blob(d.Digest); err != nil {
			return v1.Descriptor{}, err
		}
	}
	return v1.Descriptor{MediaType: mt, Digest: m.put(repo.Name(), raw, mt), Size: int64(len(raw))}, nil
}

func (m *memory) StatBlob(_ context.Context, repo name.Repository, digest v1.Hash) (int64, error) {
	data, err := (inRepo{m, repo.Name()}).blob(digest)
	return int64(len(data)), err
}

func (m *memory) OpenBlob(_ context.Context, repo name.Repository, blob v1.Descriptor) (io.ReadCloser, error) {
	data, err := (inRepo{m, repo.Name()}).blob(blob.Digest)
	return io.NopCloser(bytes.NewReader(data)), err
}

func (m *memory) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	r, err := publish.OpenSource(ctx, src, &publish.PutOptions{SHA256: blob.Digest.Hex})
	if err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err == nil {
		err = r.Close()
	}
	if err == nil {
		m.put(repo.Name(), data, "")
	}
	return err
}

func (m *memory) MountBlob(_ context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	data, err := (inRepo{m, from.Name()}).blob(digest)
	if err == nil {
		m.put(repo.Name(), data, "")
	}
	return err
}

func (m *memory) Referrers(context.Context, name.Digest, string) iter.Seq2[v1.Descriptor, error] {
	return func(func(v1.Descriptor, error) bool) {}
}
