package promotion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/payload"
)

// ImageSigner makes the image with an image's signatures that cosign keeps
// beside it, as a cosignsigner.Signer does; prior is what is there, or nil.
type ImageSigner interface {
	Image(ctx context.Context, signed v1.Hash, identity string, prior v1.Image) (v1.Image, error)
}

// signImages signs the release image as cosign does and, of a release for
// several architectures, the index and each image in it.
func (p *promotion) signImages(ctx context.Context) error {
	return p.effect(ctx, stepCosign, Reserved, func(ctx context.Context) error {
		if !p.settings.Cosign {
			return nil
		}
		return p.eachImage(ctx, func(digest v1.Hash) error {
			tag, err := p.cosignTag(digest)
			if err != nil {
				return err
			}
			prior, err := p.env.Registry.Image(ctx, tag)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			img, err := p.env.ImageSigner.Image(ctx, digest, p.reference(), prior)
			if err != nil {
				return err
			}
			d, err := p.env.Registry.WriteImage(ctx, tag.Context(), img, nil)
			if err != nil {
				return err
			}
			if err := p.env.Registry.Tag(ctx, tag, d.Digest); err != nil {
				return err
			}
			return p.checkImage(ctx, digest)
		})
	})
}

// eachImage calls fn for the release image and, if it is an index, all in it.
func (p *promotion) eachImage(ctx context.Context, fn func(v1.Hash) error) error {
	if err := fn(p.assembled.Digest); err != nil || !p.assembled.Index {
		return err
	}
	ref, err := p.ref()
	if err != nil {
		return err
	}
	idx, err := p.env.Registry.Index(ctx, ref)
	if err != nil {
		return err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range m.Manifests {
		if err := fn(d.Digest); err != nil {
			return err
		}
	}
	return nil
}

func (p *promotion) cosignTag(digest v1.Hash) (name.Tag, error) {
	return p.tag(p.settings.Release, digest.Algorithm+"-"+digest.Hex+".sig")
}

// checkImage judges the signature that is published beside an image.
func (p *promotion) checkImage(ctx context.Context, digest v1.Hash) error {
	ref, err := name.NewDigest(p.settings.Release+"@"+digest.String(), name.StrictValidation)
	if err != nil {
		return err
	}
	policy := &payload.Policy{CosignKeys: p.env.ImageKeys, Images: p.env.Registry, Identities: []string{p.reference()}}
	_, err = policy.Verify(ctx, ref, p.env.Now())
	return err
}

// unsignImages takes the signatures away where the registry can.
func (p *promotion) unsignImages(ctx context.Context) error {
	r, ok := p.env.Registry.(interface {
		Untag(ctx context.Context, tag name.Tag) error
	})
	if !ok {
		return nil
	}
	err := p.eachImage(ctx, func(digest v1.Hash) error {
		tag, err := p.cosignTag(digest)
		if err == nil {
			err = r.Untag(ctx, tag)
		}
		if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrNotExist) {
			return nil // many registries delete nothing
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the release image was never pushed
	}
	if err != nil {
		return fmt.Errorf("signatures beside the image: %w", err)
	}
	return nil
}
