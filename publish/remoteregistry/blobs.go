package remoteregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/verify"
	"github.com/okd-project/okd-streams/publish"
)

// Manifest gives the manifest that ref names, of at most 4 MiB, and its bytes
// as they are stored. They are verified against the digest in ref; for a tag,
// against the digest that the server gives with them.
func (r *Registry) Manifest(ctx context.Context, ref name.Reference) (desc v1.Descriptor, raw []byte, err error) {
	err = r.read(ctx, ref, func(c *client, id string) error {
		desc, raw, err = c.manifest(ctx, id, v1.Descriptor{})
		return err
	})
	if err != nil {
		return v1.Descriptor{}, nil, fail("manifest", ref, err)
	}
	return desc, raw, nil
}

// WriteManifest stores a manifest of at most 4 MiB under its sha256 digest.
// mediaType may be empty where the manifest says it itself. A manifest with a
// subject becomes one of its referrers: where the server has no referrers API,
// by an entry in the index that stands in (see [Registry.Referrers]).
// Something that the manifest names and that is missing is [io/fs.ErrNotExist]
// with most servers.
func (r *Registry) WriteManifest(ctx context.Context, repo name.Repository, mediaType types.MediaType, raw []byte) (v1.Descriptor, error) {
	desc, err := describeManifest(mediaType, raw)
	if err != nil {
		return v1.Descriptor{}, fail("write manifest", repo, err)
	}
	target := repo.Digest(desc.Digest.String())
	c, err := r.writer(ctx, repo)
	if err != nil {
		return v1.Descriptor{}, fail("write manifest", target, err)
	}
	if err := c.storeManifest(ctx, desc, raw); err != nil {
		return v1.Descriptor{}, fail("write manifest", target, err)
	}
	return desc, nil
}

// describeManifest gives the descriptor of a manifest that is to be written.
func describeManifest(said types.MediaType, raw []byte) (v1.Descriptor, error) {
	if err := ociimage.CheckManifestSize(int64(len(raw))); err != nil {
		return v1.Descriptor{}, err
	}
	mt, err := ociimage.MediaType(raw, said)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: mt, Digest: sha256Of(raw), Size: int64(len(raw))}, nil
}

// storeManifest writes a manifest by digest and makes it a referrer of its
// subject.
func (c *client) storeManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	registered, err := c.putManifest(ctx, desc.Digest.String(), desc, raw)
	if err != nil {
		return err
	}
	l, err := linkOf(raw)
	if err != nil || l.subject == (v1.Hash{}) || registered == l.subject.String() {
		return err
	}
	return c.addReferrer(ctx, l, desc)
}

// StatBlob gives the size of a blob in bytes.
func (r *Registry) StatBlob(ctx context.Context, repo name.Repository, digest v1.Hash) (size int64, err error) {
	err = r.read(ctx, repo.Digest(digest.String()), func(c *client, _ string) error {
		if size, err = c.statBlob(ctx, digest); err == nil && size < 0 {
			err = fmt.Errorf("server does not say how large it is: %w", errors.ErrUnsupported)
		}
		return err
	})
	if err != nil {
		return 0, fail("stat", repo.Digest(digest.String()), err)
	}
	return size, nil
}

// statBlob gives the size of a blob, -1 where the server does not say it.
func (c *client) statBlob(ctx context.Context, digest v1.Hash) (int64, error) {
	if err := ociimage.CheckDigest(digest); err != nil {
		return 0, err
	}
	resp, err := c.do(ctx, http.MethodHead, c.url("blobs", digest.String()), nil, nil, http.StatusOK)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.ContentLength, nil
}

// hasBlob looks for a blob of the size that is wanted.
func (c *client) hasBlob(ctx context.Context, desc v1.Descriptor) (bool, error) {
	size, err := c.statBlob(ctx, desc.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if size >= 0 && size != desc.Size {
		return false, fmt.Errorf("server has it with %d bytes, want %d: %w", size, desc.Size, verify.ErrDigest)
	}
	return true, nil
}

// OpenBlob gives a blob. One that breaks off is asked for from there on, and its
// reader fails with [publish.ErrDigest] instead of ending where the bytes are
// others than blob says. ctx governs the reader until Close.
func (r *Registry) OpenBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) (rc io.ReadCloser, err error) {
	target := repo.Digest(blob.Digest.String())
	if err := checkBlob(blob); err != nil {
		return nil, fail("blob", target, err)
	}
	err = r.read(ctx, target, func(c *client, _ string) error {
		rc, err = c.blob(ctx, blob)
		return err
	})
	if err != nil {
		return nil, fail("blob", target, err)
	}
	return rc, nil
}

func checkBlob(blob v1.Descriptor) error {
	if err := ociimage.CheckDigest(blob.Digest); err != nil {
		return err
	}
	if blob.Size < 0 {
		return fmt.Errorf("blob of %d bytes: %w", blob.Size, verify.ErrDigest)
	}
	return nil
}

// WriteBlob stores a blob, whether or not it is there. Calls for one blob of one
// repository that overlap, also of [Registry.WriteImage], move it once. src may
// be opened more than once.
func (r *Registry) WriteBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	if err := r.writeBlob(ctx, repo, blob, src); err != nil {
		return fail("write blob", repo.Digest(blob.Digest.String()), err)
	}
	return nil
}

func (r *Registry) writeBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor, src publish.Source) error {
	if err := checkBlob(blob); err != nil {
		return err
	}
	if size := src.Size(); size != blob.Size {
		return fmt.Errorf("source has %d bytes, want %d: %w", size, blob.Size, verify.ErrDigest)
	}
	c, err := r.writer(ctx, repo)
	if err != nil {
		return err
	}
	_, err = r.flights.do(ctx, blobKey(repo, blob.Digest), func() error {
		release, err := r.slot(ctx)
		if err != nil {
			return err
		}
		defer release()
		return c.upload(ctx, ociimage.Blob{Desc: blob, Open: func() (io.ReadCloser, error) { return src.Open(ctx) }}, nil, func(int64) {})
	})
	return err
}

// MountBlob makes a blob of from one of repo, without moving it. It takes
// credentials for both: the token that is asked for allows to read the one and
// to write the other. Where the server does not mount, and where from is in
// another registry, may not be read or has no such blob, it gives
// [errors.ErrUnsupported].
func (r *Registry) MountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	if err := r.mountBlob(ctx, repo, digest, from); err != nil {
		return fail("mount", repo.Digest(digest.String()), err)
	}
	return nil
}

func (r *Registry) mountBlob(ctx context.Context, repo name.Repository, digest v1.Hash, from name.Repository) error {
	if err := ociimage.CheckDigest(digest); err != nil {
		return err
	}
	if err := checkRepository(from); err != nil {
		return err
	}
	if from.RegistryStr() != repo.RegistryStr() {
		return fmt.Errorf("%s is in another registry: %w", from, errors.ErrUnsupported)
	}
	if err := r.checkDestination(repo); err != nil {
		return err
	}
	var begun *pending
	c, err := r.client(ctx, repo, transport.PushScope, from)
	if err == nil {
		begun, err = c.mount(ctx, digest, from)
	}
	if begun != nil {
		begun.cancel(ctx)
		return fmt.Errorf("server began an upload instead: %w", errors.ErrUnsupported)
	}
	e, ok := errors.AsType[*statusError](err)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || ok && e.status == http.StatusBadRequest {
		// Whatever it is about from, it does not keep the blob from being written.
		return fmt.Errorf("server does not mount: %w: %s", errors.ErrUnsupported, clean(err))
	}
	return err
}

// mount asks for a blob of from. Where the server begins an upload instead,
// that is returned.
func (c *client) mount(ctx context.Context, digest v1.Hash, from name.Repository) (begun *pending, err error) {
	p := &pending{client: c}
	mounted, err := p.start(ctx, mountQuery(digest, from))
	if mounted || err != nil {
		return nil, err
	}
	return p, nil
}
