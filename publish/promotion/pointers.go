package promotion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/stream"
)

// point begins the last phase: from here there is no way back.
func (p *promotion) point(ctx context.Context) error { return p.move(ctx, Reserved, Pointing) }

// tagContent tags the component images, as oc does, so that registries that
// collect what has no tag keep them.
func (p *promotion) tagContent(ctx context.Context) error {
	return p.effect(ctx, stepContentTag, Pointing, func(ctx context.Context) error {
		r, err := p.opened(ctx)
		if err != nil {
			return err
		}
		to, err := name.NewRepository(p.settings.Content, name.StrictValidation)
		if err != nil {
			return err
		}
		planned, err := payload.Mirror(r, to, &payload.MirrorOptions{SkipRelease: true, NoSignatures: true, NoReferrers: true})
		if err != nil {
			return err
		}
		var copies []publish.Copy
		for _, c := range planned {
			copies = append(copies, publish.Copy(c))
		}
		_, err = publish.Transfer(ctx, p.env.Registry, p.env.Registry, copies, nil)
		return err
	})
}

// tagVersion gives the release its name, which nothing else may have.
func (p *promotion) tagVersion(ctx context.Context) error {
	return p.effect(ctx, stepVersionTag, Pointing, func(ctx context.Context) error {
		tag, err := p.tag(p.settings.Release, p.version)
		if err != nil {
			return err
		}
		at, err := p.env.Registry.Head(ctx, tag)
		switch {
		case err == nil && at.Digest == p.assembled.Digest:
			return nil
		case err == nil:
			return fmt.Errorf("%s is %s already: %w", tag, at.Digest, fs.ErrExist)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		return p.env.Registry.Tag(ctx, tag, p.assembled.Digest)
	})
}

// tagNewest moves the tags that follow the newest release.
func (p *promotion) tagNewest(ctx context.Context) error {
	return p.effect(ctx, stepTags, Pointing, func(ctx context.Context) error {
		for _, t := range p.settings.Tags {
			text, err := t.Expand(p.settings.vars(p.parsed))
			if err != nil {
				return err
			}
			// A release of an older minor version does not take "latest" back.
			if p.older(func(v stream.Version) bool { of, err := t.Expand(p.settings.vars(v)); return err == nil && of == text }) {
				continue
			}
			tag, err := p.tag(p.settings.Release, text)
			if err != nil {
				return err
			}
			if err := p.env.Registry.Tag(ctx, tag, p.assembled.Digest); err != nil {
				return err
			}
		}
		return nil
	})
}

// channels offers the release to clusters.
func (p *promotion) channels(ctx context.Context) error {
	return p.effect(ctx, stepChannels, Pointing, func(ctx context.Context) error {
		if p.settings.Graph == "" || len(p.settings.Channels) == 0 {
			return nil
		}
		n, err := p.graphNode(ctx)
		if err != nil {
			return err
		}
		var names []string
		for _, c := range p.settings.Channels {
			text, err := c.Expand(p.settings.vars(p.parsed))
			if err != nil {
				return err
			}
			names = append(names, text)
		}
		return p.editGraph(ctx, func(g *graph.Graph) error { return addChannels(g, n.Version, names) })
	})
}

func (p *promotion) tagStream(ctx context.Context) error {
	return p.effect(ctx, stepTagStream, Pointing, func(ctx context.Context) error {
		if p.settings.ImageStream == "" || p.settings.TagForGates {
			return nil
		}
		return p.tagImageStream(ctx)
	})
}

// enter makes the name in the register that of a promoted release.
func (p *promotion) enter(ctx context.Context) error {
	return p.effect(ctx, stepRegister, Pointing, func(ctx context.Context) error {
		return p.env.editRegister(ctx, p.settings.Stream, func(r *register) error {
			v := r.find(p.version)
			if v == nil || v.ID != p.reservation.ID {
				return fmt.Errorf("the register has no %s of this promotion: %w", p.version, ErrOther)
			}
			v.State, v.Pullspec, v.Settings = Promoted, p.about().Pullspec, nil
			return nil
		})
	})
}

// told says whether people could be told.
type told struct {
	Fault string `json:"fault,omitempty"`
}

func (p *promotion) notify(ctx context.Context) error {
	var out told
	return do(ctx, p, stepNotify, Pointing, &out, func(ctx context.Context) error {
		if !p.settings.Notify {
			return nil
		}
		if err := p.env.Notify(ctx, p.about()); err != nil {
			out.Fault = httpx.Printable(err.Error())
			if p.env.Logger != nil {
				p.env.Logger.WarnContext(ctx, "nobody was notified", slog.String("release", p.version), slog.String("error", out.Fault))
			}
		}
		return ctx.Err()
	})
}

func (p *promotion) end(ctx context.Context) error { return p.move(ctx, Pointing, Promoted) }
