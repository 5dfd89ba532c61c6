package promotion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
)

// Abort takes a promotion back: the draft, the node of the graph, the tag for
// gates, the signature if it is the last one (cosign's where the registry can
// delete a tag), and its files in the store. Its name stays in the register as a
// tombstone with who aborted it and why, and is not used again. Images stay, by digest; nothing points to them. Once pointers
// are being moved it is refused ([ErrStarted]).
//
// It can be stopped anywhere and called again. Who still works on the promotion
// is stopped by the journal; call it again then, as they may have left
// something behind.
func Abort(ctx context.Context, env *Env, stream, version, by, reason string) error {
	if err := abort(ctx, env, stream, version, by, reason); err != nil {
		return failure("abort", version, err)
	}
	return nil
}

func abort(ctx context.Context, env *Env, of, version, by, reason string) error {
	if strings.TrimSpace(by) == "" || strings.TrimSpace(reason) == "" {
		return fmt.Errorf("it needs a name and a reason: %w", fs.ErrInvalid)
	}
	if err := errors.Join(env.check(), checkNames(of, version)); err != nil {
		return err
	}
	r, err := env.register(ctx, of)
	if err != nil {
		return err
	}
	v := r.find(version)
	if v == nil {
		return fmt.Errorf("it is not reserved in stream %s: %w", of, fs.ErrNotExist)
	}
	if v.State == Promoted {
		return ErrStarted
	}
	p := &promotion{env: env, register: r, reservation: *v, version: version, settings: v.Settings}
	if p.settings == nil { // aborted before: again
		j, err := JournalOf(ctx, env, of, version)
		if err != nil {
			return err
		}
		p.settings = &j.Settings
	}
	if err := p.editJournal(ctx, func(j *Journal) error {
		switch j.State {
		case Reserved:
			j.State = Aborting
		case Pointing, Promoted:
			return ErrStarted
		}
		return nil
	}); err != nil {
		return err
	}
	if err := p.undo(ctx); err != nil {
		return err
	}
	err = env.editRegister(ctx, of, func(r *register) error {
		v := r.find(version)
		if v == nil || v.ID != p.reservation.ID {
			return fmt.Errorf("the register has no %s of this promotion: %w", version, ErrOther)
		}
		if v.State == Reserved {
			v.State, v.Reason, v.Settings = Aborted, by+": "+reason, nil
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.move(ctx, Aborting, Aborted)
}

// undo takes back what there may be, last things first. It does not ask the
// journal whether a step was done: one may have been while its note was lost.
func (p *promotion) undo(ctx context.Context) error {
	if err := p.remember(); err != nil {
		return err
	}
	about := p.about()
	if p.settings.Announce != "" {
		if p.env.Announcer == nil {
			return fmt.Errorf("environment without an announcer for %s: %w", p.settings.Announce, fs.ErrInvalid)
		}
		if err := p.env.Announcer.Discard(ctx, p.version); err != nil {
			return err
		}
	}
	made := about.Pullspec != ""
	if made && p.settings.Graph != "" {
		if _, err := p.env.Store.Stat(ctx, p.settings.Graph); err == nil {
			if err := p.editGraph(ctx, func(g *graph.Graph) error { removeNode(g, p.version, p.assembled.Digest); return nil }); err != nil {
				return err
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if made && p.settings.TagForGates {
		if p.env.ImageStreams == nil {
			return fmt.Errorf("environment without image streams, to take a tag out of %s: %w", p.settings.ImageStream, fs.ErrInvalid)
		}
		from, err := p.imageStream()
		if err == nil {
			err = p.env.ImageStreams.Untag(ctx, from, p.version, about.Pullspec)
		}
		if err != nil {
			return err
		}
	}
	if made && !p.settings.Unsigned {
		if p.env.Keys == nil {
			return fmt.Errorf("environment without keys to check signatures by: %w", fs.ErrInvalid)
		}
		if err := p.unsign(ctx); err != nil {
			return err
		}
	}
	if made && p.settings.Cosign {
		if err := p.unsignImages(ctx); err != nil {
			return err
		}
	}
	for _, f := range []string{catalogueFile, notesFile, changeLogFile, sumsSignature} {
		if err := p.env.Store.Delete(ctx, p.env.key(p.settings.Stream, p.version, f)); err != nil {
			return err
		}
	}
	return nil
}

// unsign removes our signature, so that nobody installs the release by its
// digest; but not from among others', whose readers stop at the first gap.
func (p *promotion) unsign(ctx context.Context) error {
	for n := payload.MaxSignatures; n >= 1; n-- {
		key := p.env.SignaturePrefix + payload.SignatureKey(p.assembled.Digest, n)
		sig, err := readSignature(ctx, p.env.signatures(), key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if p.accepts(ctx, sig) == nil {
			return p.env.signatures().Delete(ctx, key)
		}
		return nil
	}
	return nil
}
