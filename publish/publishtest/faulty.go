package publishtest

import (
	"context"
	"io"
	"iter"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/publish"
)

// Call is one call of a method of a backend.
type Call struct {
	N int // calls are counted from 1
	// Op is "open", "stat", "put", "delete", "list"; of a registry "head",
	// "image", "index", "write", "tag", "tags", and of its optional seams
	// "manifest", "write manifest", "stat blob", "open blob", "write blob",
	// "mount blob", "referrers".
	Op     string
	Target string // key, prefix or reference
	// After is false before the backend is called and true once it has done
	// its work, where a fault stands for a lost answer.
	After bool
}

// Faulty passes calls on to s and asks fault before each and, if it succeeded, after
// it, from any goroutine; an error of fault is returned in place of s's answer.
func Faulty(s publish.Store, fault func(Call) error) publish.Store {
	return &faultyStore{s: s, faults: faults{ask: fault}}
}

// FaultyRegistry is [Faulty] for a registry. What it gives offers
// [publish.Blobs] and [publish.Referrers] if r offers both, else neither.
func FaultyRegistry(r publish.Registry, fault func(Call) error) publish.Registry {
	f := &faultyRegistry{r: r, faults: faults{ask: fault}}
	blobs, ok := r.(publish.Blobs)
	referrers, ok2 := r.(publish.Referrers)
	if ok && ok2 {
		return &faultyFull{faultyRegistry: f, blobs: blobs, referrers: referrers}
	}
	return f
}

type faults struct {
	ask func(Call) error
	n   atomic.Int64
}

// do makes one call between two questions.
func (f *faults) do(op, target string, call func() error) error {
	c := Call{N: int(f.n.Add(1)), Op: op, Target: target}
	if err := f.ask(c); err != nil {
		return err
	}
	if err := call(); err != nil {
		return err
	}
	c.After = true
	return f.ask(c)
}

type faultyStore struct {
	s publish.Store
	faults
}

func (f *faultyStore) Open(ctx context.Context, key string) (body io.ReadCloser, info publish.Info, err error) {
	err = f.do("open", key, func() (err error) {
		body, info, err = f.s.Open(ctx, key)
		return err
	})
	if err != nil && body != nil {
		body.Close()
		body = nil
	}
	return body, info, err
}

func (f *faultyStore) Stat(ctx context.Context, key string) (info publish.Info, err error) {
	err = f.do("stat", key, func() (err error) {
		info, err = f.s.Stat(ctx, key)
		return err
	})
	return info, err
}

func (f *faultyStore) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (info publish.Info, err error) {
	err = f.do("put", key, func() (err error) {
		info, err = f.s.Put(ctx, key, src, opts)
		return err
	})
	return info, err
}

func (f *faultyStore) Delete(ctx context.Context, key string) error {
	return f.do("delete", key, func() error { return f.s.Delete(ctx, key) })
}

func (f *faultyStore) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		if err := f.do("list", prefix, func() error { return nil }); err != nil {
			yield(publish.Info{}, err)
			return
		}
		f.s.List(ctx, prefix)(yield)
	}
}

type faultyRegistry struct {
	r publish.Registry
	faults
}

func (f *faultyRegistry) Head(ctx context.Context, ref name.Reference) (d *v1.Descriptor, err error) {
	err = f.do("head", ref.String(), func() (err error) {
		d, err = f.r.Head(ctx, ref)
		return err
	})
	return d, err
}

func (f *faultyRegistry) Image(ctx context.Context, ref name.Reference) (img v1.Image, err error) {
	err = f.do("image", ref.String(), func() (err error) {
		img, err = f.r.Image(ctx, ref)
		return err
	})
	return img, err
}

func (f *faultyRegistry) Index(ctx context.Context, ref name.Reference) (idx v1.ImageIndex, err error) {
	err = f.do("index", ref.String(), func() (err error) {
		idx, err = f.r.Index(ctx, ref)
		return err
	})
	return idx, err
}

func (f *faultyRegistry) WriteImage(ctx context.Context, repo name.Repository, img v1.Image, opts *publish.WriteOptions) (d v1.Descriptor, err error) {
	err = f.do("write", repo.String(), func() (err error) {
		d, err = f.r.WriteImage(ctx, repo, img, opts)
		return err
	})
	return d, err
}

func (f *faultyRegistry) WriteIndex(ctx context.Context, repo name.Repository, idx v1.ImageIndex, opts *publish.WriteOptions) (d v1.Descriptor, err error) {
	err = f.do("write", repo.String(), func() (err error) {
		d, err = f.r.WriteIndex(ctx, repo, idx, opts)
		return err
	})
	return d, err
}

func (f *faultyRegistry) Tag(ctx context.Context, tag name.Tag, digest v1.Hash) error {
	return f.do("tag", tag.String(), func() error { return f.r.Tag(ctx, tag, digest) })
}

func (f *faultyRegistry) Tags(ctx context.Context, repo name.Repository) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := f.do("tags", repo.String(), func() error { return nil }); err != nil {
			yield("", err)
			return
		}
		f.r.Tags(ctx, repo)(yield)
	}
}

// faultyFull is a registry with the optional seams.
type faultyFull struct {
	*faultyRegistry
	blobs     publish.Blobs
	referrers publish.Referrers
}

func (f *faultyFull) Manifest(ctx context.Context, ref name.Reference) (d v1.Descriptor, raw []byte, err error) {
	err = f.do("manifest", ref.String(), func() (err error) {
		d, raw, err = f.blobs.Manifest(ctx, ref)
		return err
	})
	return d, raw, err
}

func (f *faultyFull) WriteManifest(ctx context.Context, repo name.Repository, mediaType types.MediaType, raw []byte) (d v1.Descriptor, err error) {
	err = f.do("write manifest", repo.String(), func() (err error) {
		d, err = f.blobs.WriteManifest(ctx, repo, mediaType, raw)
		return err
	})
	return d, err
}

func (f *faultyFull) StatBlob(ctx context.Context, repo name.Repository, digest v1.Hash) (size int64, err error) {
	err = f.do("stat blob", blobTarget(repo, digest), func() (err error) {
		size, err = f.blobs.StatBlob(ctx, repo, digest)
		return err
	})
	return size, err
}

func (f *faultyFull) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (rc io.ReadCloser, err error) {
	err = f.do("open blob", blobTarget(repo, blob.Digest), func() (err error) {
		rc, err = f.blobs.OpenBlob(ctx, repo, blob)
		return err
	})
	if err != nil && rc != nil {
		rc.Close()
		rc = nil
	}
	return rc, err
}

func (f *faultyFull) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	return f.do("write blob", blobTarget(repo, blob.Digest), func() error { return f.blobs.WriteBlob(ctx, repo, blob, src) })
}

func (f *faultyFull) MountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	return f.do("mount blob", blobTarget(repo, digest), func() error { return f.blobs.MountBlob(ctx, repo, digest, from) })
}

func (f *faultyFull) Referrers(ctx context.Context, subject name.Digest, artifactType string) iter.Seq2[v1.Descriptor, error] {
	return func(yield func(v1.Descriptor, error) bool) {
		if err := f.do("referrers", subject.String(), func() error { return nil }); err != nil {
			yield(v1.Descriptor{}, err)
			return
		}
		f.referrers.Referrers(ctx, subject, artifactType)(yield)
	}
}

func blobTarget(repo name.Repository, h v1.Hash) string { return repo.String() + "@" + h.String() }
