package promotion

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

// MaxBodySize bounds the text of an announcement, characters, as GitHub does.
const MaxBodySize = 125_000

// Files of a release beside its tools.
const (
	notesFile     = "release-notes.txt"
	changeLogFile = "changelog.json"
	catalogueFile = "release.json"
)

// noted are the notes, and the change log as data.
type noted struct {
	Notes     file  `json:"notes"`
	ChangeLog *file `json:"changeLog,omitempty"` // nil: there is no release before
	// Prior is the release that changes are counted from, by digest.
	Prior string `json:"prior,omitempty"`
	// Faults are what could not be read for the notes.
	Faults []string `json:"faults,omitempty"`
}

// notes writes what people are told of the release.
func (p *promotion) notes(ctx context.Context) error {
	return do(ctx, p, stepNotes, Reserved, &p.noted, func(ctx context.Context) error {
		r, err := p.opened(ctx)
		if err != nil {
			return err
		}
		out := noted{}
		prior, err := p.prior(ctx)
		if err != nil {
			return err
		}
		var log *payload.ChangeLog
		if prior != nil {
			out.Prior = prior.Pullspec().Name()
			if log, out.Faults, err = changeLog(ctx, p.env, prior, r); err != nil {
				return err
			}
			data, err := json.MarshalIndent(log, "", "  ")
			if err != nil {
				return err
			}
			f, err := p.keep(ctx, changeLogFile, append(data, '\n'))
			if err != nil {
				return err
			}
			out.ChangeLog = &f
		}
		text, err := writeNotes(p.about(), r, log, out.Faults, p.signed.Key != "", p.tooled.Signature != nil)
		if err != nil {
			return err
		}
		if out.Notes, err = p.keep(ctx, notesFile, text); err != nil {
			return err
		}
		p.noted = out
		return nil
	})
}

// keep puts a file of the release into the store, unless it is there.
func (p *promotion) keep(ctx context.Context, name string, data []byte) (file, error) {
	there, err := putOnce(ctx, p.env.Store, p.env.key(p.settings.Stream, p.version, name), data, contentType(name))
	if err != nil {
		return file{}, err
	}
	return file{Name: name, SHA256: sha256Of(there), Size: int64(len(there))}, nil
}

// kept reads such a file.
func (p *promotion) kept(ctx context.Context, f file) ([]byte, error) {
	data, _, err := publish.ReadDocument(ctx, p.env.Store, p.env.key(p.settings.Stream, p.version, f.Name))
	if err != nil {
		return nil, err
	}
	if sum := sha256Of(data); sum != f.SHA256 {
		return nil, fmt.Errorf("%s has sha256 %s, and had %s: %w", f.Name, sum, f.SHA256, publish.ErrDigest)
	}
	return data, nil
}

// prior opens the release that is told apart from this one: the newest that
// leads to it; nil without one.
func (p *promotion) prior(ctx context.Context) (*payload.Release, error) {
	if len(p.assembled.Previous) == 0 {
		return nil, nil
	}
	version := p.assembled.Previous[0]
	var ref name.Reference
	var err error
	if v := p.register.find(version); v != nil && v.Pullspec != "" {
		ref, err = name.NewDigest(v.Pullspec, name.StrictValidation)
	} else {
		ref, err = p.tag(p.settings.Release, version)
	}
	if err != nil {
		return nil, err
	}
	r, err := payload.Open(ctx, p.env.Registry, ref, nil)
	if err != nil {
		return nil, fmt.Errorf("the release before, %s: %w", version, err)
	}
	return r, nil
}

// changeLog finds what changed, as far as it can be read.
func changeLog(ctx context.Context, env *Env, from, to *payload.Release) (*payload.ChangeLog, []string, error) {
	log, err := payload.NewChangeLog(ctx, from, to, &payload.ChangeLogOptions{History: env.History})
	if log == nil {
		return nil, nil, err
	}
	changes, osErr := payload.CompareOS(ctx, env.Registry, from, to, &payload.CompareOSOptions{TempDir: env.Dir})
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	log.OS = changes
	var faults []string
	for _, err := range []error{err, osErr} {
		if err == nil {
			continue
		}
		for line := range strings.Lines(err.Error()) {
			faults = append(faults, httpx.Printable(strings.TrimSpace(line)))
		}
	}
	return log, faults, nil
}

// writeNotes is the text of a release, Markdown.
func writeNotes(about *Release, r *payload.Release, log *payload.ChangeLog, faults []string, signed, sums bool) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\nPromoted from %s.\n\nRelease image: `%s`\n\n", about.Version, about.SourceVersion, about.Pullspec)
	if signed {
		b.WriteString("The image is signed; clusters verify it by its digest.\n\n")
	}
	if sums {
		b.WriteString("Client tools: `gpg --verify sha256sum.txt.asc sha256sum.txt && sha256sum --check --ignore-missing sha256sum.txt`\n\n")
	}
	b.WriteString("## Updates\n\n")
	if len(about.Previous) == 0 {
		b.WriteString("No release leads to this one.\n\n")
	} else {
		b.WriteString("Releases that lead to this one; clusters are offered the update when it was tested:\n\n")
		for _, v := range about.Previous {
			fmt.Fprintf(&b, "* %s\n", v)
		}
		b.WriteString("\n")
	}
	if log != nil {
		var text bytes.Buffer
		if err := log.WriteMarkdown(&text); err != nil {
			return nil, err
		}
		// Its head repeats ours.
		_, body, found := strings.Cut(text.String(), "\n## Changes from ")
		if !found {
			return nil, errors.New("the change log has no changes")
		}
		b.WriteString("## Changes from " + strings.TrimRight(body, "\n") + "\n\n")
	}
	if len(faults) > 0 {
		b.WriteString("### Not known\n\n")
		for _, f := range faults {
			fmt.Fprintf(&b, "* `%s`\n", strings.ReplaceAll(f, "`", "'"))
		}
		b.WriteString("\n")
	}
	b.WriteString("## Images\n\n```\n")
	if err := r.WriteText(&b, &payload.TextOptions{View: payload.ViewPullspecs}); err != nil {
		return nil, err
	}
	b.WriteString("```\n")
	return b.Bytes(), nil
}

// body is the text of the announcement: the notes, without their longest parts
// where they would be too long.
func body(notes []byte) string {
	text := string(notes)
	for _, part := range []string{"\n## Images\n", "\n## Changes from "} {
		if utf8.RuneCountInString(text) <= MaxBodySize {
			break
		}
		if before, _, found := strings.Cut(text, part); found {
			text = before + "\nThe rest is in " + notesFile + ".\n"
		}
	}
	return text
}
