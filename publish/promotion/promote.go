package promotion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/stream"
)

// Options say what is promoted in a run. Nil goes on with the promotion that is
// open, or else picks the newest accepted payload.
type Options struct {
	// Source is the payload; nil: that of the open promotion, else the newest
	// that Env.Accepted gives.
	Source name.Reference
	// Version is what the release is called; "": the next of the scheme.
	Version string
	// By is who promotes: a person or machine. Default: "unknown".
	By string
}

// Result is how far a promotion is.
type Result struct {
	Release
	// State is Promoted when all is done.
	State State `json:"state"`
	// Unchanged: it was promoted before.
	Unchanged bool `json:"unchanged,omitempty"`
}

// maxTags bounds the tags that are looked at of a repository.
const maxTags = 200_000

// Promote makes a release of an accepted payload and announces it, or goes on
// with the promotion that was begun, here or elsewhere, by whomever. A payload that
// was promoted is not promoted again: the result says under which name it was, and
// that nothing changed.
//
// After an error the journal says what was done: Promote, or [Resume], goes on from
// there. A gate without a result is [publish.ErrPending], one that failed
// [publish.ErrGate]; nobody was told anything then. The result is nil unless a name
// was reserved.
func Promote(ctx context.Context, env *Env, settings *Settings, opts *Options) (*Result, error) {
	if opts == nil {
		opts = &Options{}
	}
	p, err := begin(ctx, env, settings, opts)
	if err != nil {
		return nil, failure("promote", settings.Stream, err)
	}
	return p.finishRun(ctx)
}

// Resume goes on with a promotion that was begun, by its settings as they were
// then; see [Promote] for errors. One that was taken back wraps [ErrAborted].
func Resume(ctx context.Context, env *Env, stream, version string) (*Result, error) {
	p, err := resume(ctx, env, stream, version)
	if err != nil {
		return nil, failure("promote", version, err)
	}
	return p.finishRun(ctx)
}

func failure(op, target string, err error) error {
	if _, ok := err.(*Error); ok {
		return err
	}
	retryable := errors.Is(err, publish.ErrPending)
	if pe, ok := errors.AsType[*publish.Error](err); ok && pe.Retryable {
		retryable = true
	}
	return &Error{Op: op, Target: target, Err: err, Retryable: retryable}
}

// promotion is a run over one release.
type promotion struct {
	env         *Env
	settings    *Settings
	reservation Reservation
	version     string
	parsed      stream.Version
	journal     *Journal

	register  *register // as it was when the run began
	published []string  // by others

	// What steps noted.
	assembled assembled
	signed    signed
	tooled    tooled
	noted     noted
	prepared  prepared

	// Made in this run, nil until needed.
	built   *payload.Built
	release *payload.Release
}

func (e *Env) check() error {
	if e == nil || e.Store == nil || e.Registry == nil || e.Now == nil {
		return fmt.Errorf("environment without a store, a registry or a clock: %w", fs.ErrInvalid)
	}
	if e.Prefix != "" && !strings.HasSuffix(e.Prefix, "/") || e.SignaturePrefix != "" && !strings.HasSuffix(e.SignaturePrefix, "/") {
		return fmt.Errorf("a prefix does not end in \"/\": %w", fs.ErrInvalid)
	}
	if e.Now().IsZero() {
		return fmt.Errorf("it gives no time: %w", ErrClock)
	}
	return nil
}

// lacks says what settings ask for and the environment has not.
func (e *Env) lacks(s *Settings) error {
	var faults []error
	need := func(asked, there bool, what string) {
		if asked && !there {
			faults = append(faults, fmt.Errorf("environment without %s: %w", what, fs.ErrInvalid))
		}
	}
	need(s.Verify, e.Trust != nil, "whom to trust")
	need(!s.Unsigned, e.Signer != nil, "a signer")
	need(!s.Unsigned, e.Keys != nil, "keys to check signatures by")
	need(s.Cosign, e.ImageSigner != nil && len(e.ImageKeys) > 0, "a signer of images, with its keys")
	need(!s.NoTools, e.Dir != "", "a folder for client tools")
	need(s.Announce != "", e.Announcer != nil, "an announcer for "+s.Announce)
	need(s.ImageStream != "", e.ImageStreams != nil, "image streams, to tag "+s.ImageStream)
	need(s.Notify, e.Notify != nil, "notification")
	return errors.Join(faults...)
}

// begin reserves a name for a payload, or finds the one that it has.
func begin(ctx context.Context, env *Env, settings *Settings, opts *Options) (*promotion, error) {
	if err := errors.Join(env.check(), settings.check()); err != nil {
		return nil, err
	}
	if err := env.lacks(settings); err != nil {
		return nil, err
	}
	if p, err := unfinished(ctx, env, settings, opts); p != nil || err != nil {
		return p, err
	}
	source, err := pick(ctx, env, opts)
	if err != nil {
		return nil, err
	}
	version, err := stream.ParseVersion(source.Version())
	if err != nil {
		return nil, fmt.Errorf("payload %s: %w", source.Ref, err)
	}
	now := env.Now()
	if created := source.References.Created; created.After(now.Add(skew)) {
		return nil, fmt.Errorf("it says %s, but the payload was made at %s: %w", now.UTC().Format(timeFormat), created.UTC().Format(timeFormat), ErrClock)
	}
	published, used, err := names(ctx, env, settings)
	if err != nil {
		return nil, err
	}
	w := &wish{source: source.Pullspec(), sourceVersion: version, by: opts.By, now: now, version: opts.Version, used: used}
	if w.by == "" {
		w.by = "unknown"
	}
	p := &promotion{env: env, settings: settings, published: published}
	err = env.editRegister(ctx, settings.Stream, func(r *register) error {
		v, err := r.reserve(settings, w)
		if err != nil {
			return err
		}
		p.register, p.reservation = r, *v
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := p.reservation.agrees(settings); err != nil {
		return nil, err
	}
	return p, p.open(ctx)
}

// unfinished finds the promotion that comes before any new one, where none is
// asked for; nil if there is none.
func unfinished(ctx context.Context, env *Env, settings *Settings, opts *Options) (*promotion, error) {
	if opts.Source != nil || opts.Version != "" {
		return nil, nil
	}
	r, err := env.register(ctx, settings.Stream)
	if err != nil {
		return nil, err
	}
	for _, v := range r.Reservations {
		if !v.open() {
			continue
		}
		if err := v.agrees(settings); err != nil {
			return nil, err
		}
		p := &promotion{env: env, settings: settings, register: r, reservation: v}
		if p.published, _, err = names(ctx, env, settings); err != nil {
			return nil, err
		}
		return p, p.open(ctx)
	}
	return nil, nil
}

// agrees says in what a promotion was begun otherwise.
func (r *Reservation) agrees(settings *Settings) error {
	if r.Settings == nil {
		return nil
	}
	fields, err := r.Settings.differ(settings)
	if err == nil && len(fields) > 0 {
		err = fmt.Errorf("%s was begun with other settings (%s): resume it as it was, or abort it: %w", r.Name, strings.Join(fields, ", "), ErrOther)
	}
	return err
}

const timeFormat = "2006-01-02T15:04:05Z"

// resume finds a promotion by its name.
func resume(ctx context.Context, env *Env, name, version string) (*promotion, error) {
	if err := errors.Join(env.check(), checkNames(name, version)); err != nil {
		return nil, err
	}
	r, err := env.register(ctx, name)
	if err != nil {
		return nil, err
	}
	v := r.find(version)
	if v == nil {
		return nil, fmt.Errorf("it is not reserved in stream %s: %w", name, fs.ErrNotExist)
	}
	p := &promotion{env: env, register: r, reservation: *v, settings: v.Settings}
	if p.settings == nil {
		j, err := JournalOf(ctx, env, name, version)
		if err != nil {
			return nil, err
		}
		p.settings = &j.Settings
	}
	if err := env.lacks(p.settings); err != nil {
		return nil, err
	}
	if p.published, _, err = names(ctx, env, p.settings); err != nil {
		return nil, err
	}
	return p, p.open(ctx)
}

// open reads the journal, or begins it.
func (p *promotion) open(ctx context.Context) error {
	p.version = p.reservation.Name
	var err error
	if p.parsed, err = stream.ParseVersion(p.version); err != nil {
		return err
	}
	if p.reservation.State == Aborted {
		return fmt.Errorf("%s: %s: %w", p.version, p.reservation.Reason, ErrAborted)
	}
	if now := p.env.Now(); p.reservation.At.After(now.Add(skew)) {
		return fmt.Errorf("it says %s, but %s was reserved at %s: %w", now.UTC().Format(timeFormat), p.version, p.reservation.At.Format(timeFormat), ErrClock)
	}
	return p.refresh(ctx)
}

// refresh reads the journal, or begins it.
func (p *promotion) refresh(ctx context.Context) error {
	return p.editJournal(ctx, func(j *Journal) error {
		if j.State == Aborting || j.State == Aborted {
			return fmt.Errorf("%s: %w", p.version, ErrAborted)
		}
		return nil
	})
}

// pick opens the payload to promote.
func pick(ctx context.Context, env *Env, opts *Options) (*payload.Release, error) {
	if opts.Source != nil {
		return payload.Open(ctx, env.Registry, opts.Source, nil)
	}
	if env.Accepted == nil {
		return nil, fmt.Errorf("no payload is named, and none can be picked: %w", fs.ErrInvalid)
	}
	tags, err := env.Accepted(ctx)
	if err != nil {
		return nil, err
	}
	var newest *controller.Tag
	for i, t := range tags {
		if t.Phase == controller.Accepted && (newest == nil || graph.Compare(t.Name, newest.Name) > 0) {
			newest = &tags[i]
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("no payload is accepted: %w", fs.ErrNotExist)
	}
	ref, err := name.ParseReference(newest.PullSpec, name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("payload %s: pullspec %.300q: %w", newest.Name, newest.PullSpec, err)
	}
	r, err := payload.Open(ctx, env.Registry, ref, nil)
	if err == nil && r.Version() != newest.Name {
		err = fmt.Errorf("payload %s: %s is %s", newest.Name, ref, r.Version())
	}
	return r, err
}

// names gives the versions that others promoted, and those that cannot be used
// for a new release: these, and all tags of the repository.
func names(ctx context.Context, env *Env, s *Settings) (published, used []string, err error) {
	repo, err := name.NewRepository(s.Release, name.StrictValidation)
	if err != nil {
		return nil, nil, err
	}
	for tag, err := range env.Registry.Tags(ctx, repo) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if used = append(used, tag); len(used) > maxTags {
			return nil, nil, fmt.Errorf("%s has more than %d tags", repo, maxTags)
		}
	}
	if env.Published == nil {
		return used, used, nil
	}
	if published, err = env.Published(ctx); err != nil {
		return nil, nil, err
	}
	return published, append(used, published...), nil
}

// previous gives the promoted releases that lead to this one, newest first as
// OKD orders them, its own minor version before others. A release that is not
// final never takes the place of a final one.
func (p *promotion) previous() ([]string, error) {
	opts := &graph.PlanOptions{Previous: p.settings.Patches, Minors: p.settings.Minors}
	if opts.Previous == 0 {
		opts.Previous = math.MaxInt
	}
	edges, err := graph.Plan(p.version, p.register.promoted(p.published), opts)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(edges))
	for _, e := range edges {
		out = append(out, e.From)
	}
	return out, nil
}

// finishRun goes through all steps.
func (p *promotion) finishRun(ctx context.Context) (*Result, error) {
	unchanged := p.journal.State == Promoted
	err := p.run(ctx)
	out := &Result{State: p.journal.State, Unchanged: unchanged && err == nil, Release: *p.about()}
	if err != nil {
		return out, failure("promote", p.version, err)
	}
	return out, nil
}

// about is what gates and people are told.
func (p *promotion) about() *Release {
	r := &Release{
		Version: p.version, Source: p.reservation.Source, SourceVersion: p.reservation.SourceVersion,
		Stream: p.settings.Stream, Created: p.reservation.At, Previous: slices.Clone(p.assembled.Previous),
	}
	if p.assembled.Digest != (v1.Hash{}) {
		r.Pullspec = p.settings.Release + "@" + p.assembled.Digest.String()
	}
	return r
}

// The steps, in order.
const (
	stepVerify     = "verify"      // signatures of the payload
	stepAssemble   = "assemble"    // the release
	stepMirror     = "mirror"      // its images, by digest
	stepSign       = "sign"        // its digest
	stepCosign     = "cosign"      // the same beside the image
	stepTools      = "tools"       // client programs
	stepNotes      = "notes"       // for people
	stepCatalogue  = "catalogue"   // release.json
	stepSubmit     = "submit"      // image stream, for gates that are jobs of its release controller
	stepGates      = "gates"       //
	stepPrepare    = "prepare"     // the draft
	stepNode       = "node"        // of the update graph
	stepContentTag = "content-tag" // component images
	stepVersionTag = "version-tag" // the release by its name
	stepAnnounce   = "announce"    // the draft becomes public
	stepTags       = "tags"        // that follow the newest release
	stepChannels   = "channels"    // of the node
	stepTagStream  = "image-stream"
	stepRegister   = "register" // the name is that of a promoted release
	stepNotify     = "notify"
)

// run goes through the phases. In each run the content is found in place before
// a gate is asked or a pointer moved.
func (p *promotion) run(ctx context.Context) error {
	if p.journal.State == Promoted {
		return p.remember()
	}
	return inOrder(ctx,
		p.verify, p.assemble, p.mirror, p.sign, p.signImages, p.tools, p.notes, // content
		p.catalogue, p.submit, // catalogue
		p.inPlace, p.gates, // gates
		p.prepare, p.node, // announcement
		p.point, p.tagContent, p.tagVersion, p.announce, p.tagNewest, p.channels, p.tagStream, p.enter, p.notify, // pointers
		p.end,
	)
}

func inOrder(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// do makes a step whose output is kept, unless it was made before.
func do[T any](ctx context.Context, p *promotion, step string, state State, output *T, fn func(context.Context) error) error {
	if p.journal.step(step) == nil {
		// Somebody else may have made it meanwhile, or aborted the promotion; and
		// what was pointed to then may have been followed by a newer release.
		if err := p.refresh(ctx); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	if p.journal.step(step) == nil {
		p.env.event(Event{Step: step})
		if err := fn(ctx); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		if err := p.record(ctx, step, state, output); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		if p.env.Logger != nil {
			p.env.Logger.InfoContext(ctx, "step", slog.String("release", p.version), slog.String("step", step))
		}
		p.env.event(Event{Step: step, Phase: "done"})
	} else {
		p.env.event(Event{Step: step, Phase: "reused"})
	}
	// What is noted counts, also where somebody else was first.
	var noted T
	if err := json.Unmarshal(p.journal.step(step).Output, &noted); err != nil {
		return fmt.Errorf("%s: journal: %w", step, err)
	}
	*output = noted
	return nil
}

// none is the output of a step that has none.
type none struct{}

// effect makes a step without an output.
func (p *promotion) effect(ctx context.Context, step string, state State, fn func(context.Context) error) error {
	return do(ctx, p, step, state, &none{}, fn)
}
