package promotion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

// verify checks the signatures of the payload: over its digest, by whom the
// environment trusts.
func (p *promotion) verify(ctx context.Context) error {
	return p.effect(ctx, stepVerify, Reserved, func(ctx context.Context) error {
		if !p.settings.Verify {
			return nil
		}
		ref, err := name.NewDigest(p.reservation.Source, name.StrictValidation)
		if err == nil {
			_, err = p.env.Trust.Verify(ctx, ref, p.env.Now())
		}
		return err
	})
}

// assembled is the release image.
type assembled struct {
	Digest    v1.Hash         `json:"digest"` // of the index, if it is one
	MediaType types.MediaType `json:"mediaType"`
	DiffID    v1.Hash         `json:"diffID"`
	Index     bool            `json:"index,omitempty"`
	Previous  []string        `json:"previous"`
}

func (p *promotion) assemble(ctx context.Context) error {
	return do(ctx, p, stepAssemble, Reserved, &p.assembled, func(ctx context.Context) error {
		previous, err := p.previous()
		if err != nil {
			return err
		}
		p.assembled = assembled{Previous: previous}
		built, err := p.build(ctx)
		if err != nil {
			return err
		}
		out := &p.assembled
		out.Digest, out.DiffID, out.Index = built.Digest, built.DiffID, built.Index != nil
		if out.Index {
			out.Digest = built.ListDigest
			out.MediaType, err = built.Index.MediaType()
		} else {
			out.MediaType, err = built.Image.MediaType()
		}
		return err
	})
}

// build assembles the release in memory. It is the same each time: time and
// name are those of the reservation, the versions that lead to it are noted.
func (p *promotion) build(ctx context.Context) (*payload.Built, error) {
	if p.built != nil {
		return p.built, nil
	}
	ref, err := name.NewDigest(p.reservation.Source, name.StrictValidation)
	if err != nil {
		return nil, err
	}
	source, err := payload.Open(ctx, p.env.Registry, ref, nil)
	if err != nil {
		return nil, err
	}
	p.built, err = assembleAs(ctx, p.env.Registry, p.settings, source, p.reservation, p.assembled.Previous, p.settings.vars(p.parsed).Version)
	return p.built, err
}

// mirror brings the images of the components, and the release image when they
// are in place; all by digest alone.
func (p *promotion) mirror(ctx context.Context) error {
	return p.effect(ctx, stepMirror, Reserved, func(ctx context.Context) error {
		built, err := p.build(ctx)
		if err != nil {
			return err
		}
		var copies []publish.Copy
		for _, c := range built.Copies {
			c.Tags = nil // pointers come last
			copies = append(copies, publish.Copy(c))
		}
		progress := func(e publish.TransferEvent) {
			p.env.event(Event{Step: stepMirror, Phase: string(e.Phase), Done: e.Totals.MovedBytes, Total: e.Totals.Bytes})
		}
		if _, err := publish.Transfer(ctx, p.env.Registry, p.env.Registry, copies, &publish.TransferOptions{Progress: progress}); err != nil {
			return err
		}
		return p.push(ctx, built)
	})
}

// push writes the release image, by digest.
func (p *promotion) push(ctx context.Context, built *payload.Built) error {
	to, err := name.NewRepository(p.settings.Release, name.StrictValidation)
	if err != nil {
		return err
	}
	opts := &publish.WriteOptions{}
	for _, text := range []string{p.settings.Content, strings.Split(p.reservation.Source, "@")[0]} {
		from, err := name.NewRepository(text, name.StrictValidation)
		if err != nil {
			return err
		}
		if from.RegistryStr() == to.RegistryStr() {
			opts.From = append(opts.From, from)
		}
	}
	var written v1.Descriptor
	if built.Index != nil {
		written, err = p.env.Registry.WriteIndex(ctx, to, built.Index, opts)
	} else {
		written, err = p.env.Registry.WriteImage(ctx, to, built.Image, opts)
	}
	if err == nil && written.Digest != p.assembled.Digest {
		err = fmt.Errorf("pushed %s, and not %s: %w", written.Digest, p.assembled.Digest, publish.ErrDigest)
	}
	return err
}

// assembleAs makes the release of a payload.
func assembleAs(ctx context.Context, images payload.Images, s *Settings, source *payload.Release, r Reservation, previous []string, version string) (*payload.Built, error) {
	content, err := name.NewRepository(s.Content, name.StrictValidation)
	if err != nil {
		return nil, err
	}
	spec := &payload.Spec{
		Version: version, Created: r.At, FromRelease: source.Ref.Context().Digest(source.Pullspec().DigestStr()), Mirror: content,
		Previous: append([]string{}, previous...), // not the payload's own: those are nightlies
	}
	spec.Metadata = maps.Clone(source.Metadata.Metadata)
	if s.URL != "" {
		v, err := s.Scheme.Parse(version)
		if err != nil {
			return nil, err
		}
		text, err := s.URL.Expand(s.vars(v))
		if err != nil {
			return nil, err
		}
		if spec.Metadata == nil {
			spec.Metadata = map[string]any{}
		}
		spec.Metadata["url"] = text
	}
	opts := &payload.AssembleOptions{Compatible: s.Compatible, ManifestList: source.ListDigest != (v1.Hash{})}
	if platform, err := v1.ParsePlatform(source.Platform()); err == nil && !opts.ManifestList {
		opts.Platform = v1.Platform{OS: platform.OS, Architecture: platform.Architecture}
	}
	return payload.Assemble(ctx, images, spec, opts)
}

// ref names the release image by digest.
func (p *promotion) ref() (name.Digest, error) {
	return name.NewDigest(p.settings.Release+"@"+p.assembled.Digest.String(), name.StrictValidation)
}

// opened gives the release as it was pushed.
func (p *promotion) opened(ctx context.Context) (*payload.Release, error) {
	if p.release != nil {
		return p.release, nil
	}
	ref, err := p.ref()
	if err != nil {
		return nil, err
	}
	r, err := payload.Open(ctx, p.env.Registry, ref, nil)
	if err != nil {
		return nil, err
	}
	if r.Version() != p.version {
		return nil, fmt.Errorf("%s is %s: %w", ref, r.Version(), ErrOther)
	}
	p.release = r
	return r, nil
}

// inPlace looks whether all that people will be pointed to is there: the
// release, every image in it, its signature, and a name that is free or its own.
func (p *promotion) inPlace(ctx context.Context) error {
	p.release = nil
	r, err := p.opened(ctx)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(publish.DefaultTransferPerHost)
	for _, t := range r.References.Tags {
		ref, err := r.Image(t.Name)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		group.Go(func() error {
			if _, err := p.env.Registry.Head(groupCtx, ref); err != nil {
				return fmt.Errorf("component %s: %w", t.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if !p.settings.Unsigned {
		if err := p.checkSigned(ctx); err != nil {
			return err
		}
	}
	if p.settings.Cosign {
		if err := p.eachImage(ctx, func(digest v1.Hash) error { return p.checkImage(ctx, digest) }); err != nil {
			return err
		}
	}
	tag, err := p.tag(p.settings.Release, p.version)
	if err != nil {
		return err
	}
	at, err := p.env.Registry.Head(ctx, tag)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case at.Digest != p.assembled.Digest:
		return fmt.Errorf("%s is %s already, and not %s: %w", tag, at.Digest, p.assembled.Digest, fs.ErrExist)
	}
	return nil
}

func (p *promotion) tag(repository, tag string) (name.Tag, error) {
	return name.NewTag(repository+":"+tag, name.StrictValidation)
}
