package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// ErrPending: a gate of the plan has no result yet; apply it again later. The
// error is a [*PendingError].
var ErrPending = errors.New("gate pending")

// ErrGate: a gate of the plan has failed. The error is a [*GateError].
var ErrGate = errors.New("gate failed")

// PendingError names the gates that have no result.
type PendingError struct{ Gates []string }

func (e *PendingError) Error() string { return "waiting for " + strings.Join(e.Gates, ", ") }

// Is reports whether target is [ErrPending].
func (e *PendingError) Is(target error) bool { return target == ErrPending }

// GateError names the gates that failed.
type GateError struct{ Gates []string }

func (e *GateError) Error() string { return "failed: " + strings.Join(e.Gates, ", ") }

// Is reports whether target is [ErrGate].
func (e *GateError) Is(target error) bool { return target == ErrGate }

// GateResult is what is known of a gate.
type GateResult string

// The results of a gate. Any other value counts as pending.
const (
	GatePending GateResult = ""
	GatePassed  GateResult = "passed"
	GateFailed  GateResult = "failed"
)

// Transform makes a function for [Update] from the argument of a [DocumentStep].
type Transform func(argument json.RawMessage) (func(old []byte) ([]byte, error), error)

// Env is where a plan is applied: the backends, and the bytes by digest. What a
// plan does not need may be nil.
type Env struct {
	Store    Store
	Registry Registry
	// Object gives the content with this SHA-256 (lower-case hexadecimal).
	Object func(ctx context.Context, sha256 string) (Source, error)
	// Image and Index give what has this digest.
	Image func(ctx context.Context, digest v1.Hash) (v1.Image, error)
	Index func(ctx context.Context, digest v1.Hash) (v1.ImageIndex, error)
	// Transforms of documents, by name.
	Transforms map[string]Transform
	// Gate gives the result of a gate; nil: every gate is pending.
	Gate func(ctx context.Context, gate string) (GateResult, error)
}

// Event says what [Apply] is doing.
type Event struct {
	Step  Step
	Phase Phase
	// Done and Total bytes, while Phase is PhaseMoving. Total is 0 where it is
	// not known.
	Done, Total int64
	Err         error // of PhaseFailed
}

// Phase of a step.
type Phase string

// The phases of a step: started, moving any number of times, then one of the
// others.
const (
	PhaseStarted Phase = "started"
	PhaseMoving  Phase = "moving"
	PhaseDone    Phase = "done"
	PhaseReused  Phase = "reused"  // was there already
	PhaseWould   Phase = "would"   // DryRun: would be done
	PhasePending Phase = "pending" // of a gate
	PhaseFailed  Phase = "failed"
)

// Defaults of [ApplyOptions].
const (
	DefaultApplyWorkers  = 4
	DefaultApplyAttempts = 3
	DefaultApplyDelay    = time.Second
	maxApplyDelay        = 30 * time.Second
)

// ApplyOptions of [Apply]; nil is the zero value.
type ApplyOptions struct {
	// Journal remembers what is done; nil: everything is looked up.
	Journal Journal
	// Workers is how many objects, images and indexes move at once; 0:
	// [DefaultApplyWorkers].
	Workers int
	// DryRun looks everything up and reports it by Progress, and writes
	// nothing, not even to the journal. Gates are asked and do not hold it.
	DryRun bool
	// Attempts is how often a step is tried whose error says that it may help
	// ([Error.Retryable]), each time with the content opened again; 0:
	// [DefaultApplyAttempts]. Delay lies before the second attempt and doubles
	// up to 30 s; 0: [DefaultApplyDelay].
	Attempts int
	Delay    time.Duration
	// Jitter gives values in [0,1) that shorten each wait by up to a half; nil:
	// whole waits. See [UpdateOptions.Jitter].
	Jitter func() float64
	// SingleWriter is [UpdateOptions.SingleWriter] for the plan's documents.
	SingleWriter bool
	// Progress is called from any goroutine and must not block.
	Progress func(Event)
}

// Apply carries out a plan, stage by stage: a stage begins when everything of
// the stages before it was written, or found in place, by this very call. So no
// reader sees a pointer to something that is not there, wherever Apply is
// stopped; applied again, here or on another machine, it goes on.
//
// A step is done already if the journal or the backend says so and the target
// is in place; documents without an entry in the journal are transformed again.
// A document or tag that the journal knows and that others changed since is
// left as it is.
//
// Gates are asked all at once; one that failed ends the plan with [ErrGate],
// else one without a result with [ErrPending].
func Apply(ctx context.Context, p *Plan, env *Env, opts *ApplyOptions) error {
	a := &applier{env: env, done: map[string]Entry{}}
	if opts != nil {
		a.opts = *opts
	}
	if a.opts.Workers <= 0 {
		a.opts.Workers = DefaultApplyWorkers
	}
	if a.opts.Attempts <= 0 {
		a.opts.Attempts = DefaultApplyAttempts
	}
	if a.opts.Delay <= 0 {
		a.opts.Delay = DefaultApplyDelay
	}
	if err := a.apply(ctx, p); err != nil {
		if pe, ok := err.(*Error); ok && (pe.Op == "apply" || pe.Op == "check") {
			return pe
		}
		retryable := false
		if pe, ok := errors.AsType[*Error](err); ok {
			retryable = pe.Retryable
		}
		return &Error{Op: "apply", Target: fmt.Sprintf("plan %q", p.Name), Err: err, Retryable: retryable || errors.Is(err, ErrPending)}
	}
	return nil
}

type applier struct {
	env  *Env
	opts ApplyOptions
	plan string // digest

	mu    sync.Mutex
	done  map[string]Entry // by step
	fresh []Entry          // not yet in the journal
}

// journalBatch is how many entries are written at once: a journal in a store is
// rewritten each time.
const journalBatch = 64

func (a *applier) apply(ctx context.Context, p *Plan) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if err := a.complete(p); err != nil {
		return err
	}
	var err error
	if a.plan, err = p.Digest(); err != nil {
		return err
	}
	if a.opts.Journal != nil {
		entries, err := a.opts.Journal.Load(ctx, a.plan)
		if err != nil {
			return err
		}
		for _, e := range entries {
			a.done[e.Step] = e
		}
	}
	for _, stage := range Stages() {
		err := a.stage(ctx, p, stage)
		// Also after a fault, and after the context is done: what was done
		// should be known.
		if flushErr := a.flush(context.WithoutCancel(ctx), 1); err == nil {
			err = flushErr
		}
		if err != nil {
			return fmt.Errorf("stage %s: %w", stage, err)
		}
	}
	return nil
}

// complete checks that env has all that p needs before anything is written.
func (a *applier) complete(p *Plan) error {
	var missing []error
	seen := map[string]bool{}
	need := func(ok bool, what string) {
		if !ok && !seen[what] {
			seen[what] = true
			missing = append(missing, fmt.Errorf("environment has no %s: %w", what, fs.ErrInvalid))
		}
	}
	if a.env == nil {
		a.env = &Env{}
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		switch {
		case s.Object != nil:
			need(a.env.Store != nil, "store")
			need(a.env.Object != nil, "objects")
		case s.Image != nil:
			need(a.env.Registry != nil, "registry")
			need(a.env.Image != nil, "images")
		case s.Index != nil:
			need(a.env.Registry != nil, "registry")
			need(a.env.Index != nil, "indexes")
		case s.Document != nil:
			need(a.env.Store != nil, "store")
			need(a.env.Transforms[s.Document.Transform] != nil, fmt.Sprintf("transform %q", s.Document.Transform))
		case s.Tag != nil:
			need(a.env.Registry != nil, "registry")
		}
	}
	return errors.Join(missing...)
}

func (a *applier) stage(ctx context.Context, p *Plan, stage Stage) error {
	var documents, tags, gates []*Step
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(a.opts.Workers)
	for i := range p.Steps {
		s := &p.Steps[i]
		switch {
		case s.Stage != stage:
		case s.Document != nil:
			documents = append(documents, s)
		case s.Tag != nil:
			tags = append(tags, s)
		case s.Gate != nil:
			gates = append(gates, s)
		case groupCtx.Err() == nil:
			group.Go(func() error { return a.step(groupCtx, s) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := a.gates(ctx, gates); err != nil {
		return err
	}
	for _, s := range append(documents, tags...) {
		if err := a.step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) event(e Event) {
	if a.opts.Progress != nil {
		a.opts.Progress(e)
	}
}

// outcome of a step.
type outcome struct {
	phase    Phase // PhaseDone, PhaseReused or PhaseWould
	revision string
}

// step does one step, tries it again where that may help, and notes it.
func (a *applier) step(ctx context.Context, s *Step) error {
	id, err := s.id()
	if err != nil {
		return err
	}
	a.event(Event{Step: *s, Phase: PhaseStarted})
	a.mu.Lock()
	known, ok := a.done[id]
	a.mu.Unlock()
	var entry *Entry
	if ok {
		entry = &known
	}
	var out outcome
	for attempt := 1; ; attempt++ {
		out, err = a.try(ctx, s, entry)
		if err == nil || ctx.Err() != nil || attempt == a.opts.Attempts {
			break
		}
		if pe, ok := errors.AsType[*Error](err); !ok || !pe.Retryable {
			break
		}
		if err = wait(ctx, backoff(a.opts.Delay, maxApplyDelay, attempt, a.opts.Jitter)); err != nil {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", s, err)
		a.event(Event{Step: *s, Phase: PhaseFailed, Err: err})
		return err
	}
	a.event(Event{Step: *s, Phase: out.phase})
	if out.phase == PhaseWould || entry != nil && entry.Revision == out.revision {
		return nil
	}
	return a.note(ctx, s, id, out)
}

// note adds a step to the journal, sooner or later.
func (a *applier) note(ctx context.Context, s *Step, id string, out outcome) error {
	kind, target := s.kind()
	e := Entry{Plan: a.plan, Step: id, Kind: kind, Target: target, Revision: out.revision, Reused: out.phase == PhaseReused}
	a.mu.Lock()
	a.done[id] = e
	a.fresh = append(a.fresh, e)
	a.mu.Unlock()
	return a.flush(ctx, journalBatch)
}

// flush writes the new entries if there are at least so many.
func (a *applier) flush(ctx context.Context, least int) error {
	a.mu.Lock()
	fresh := a.fresh
	if len(fresh) < least || a.opts.Journal == nil || a.opts.DryRun {
		a.mu.Unlock()
		return nil
	}
	a.fresh = nil
	a.mu.Unlock()
	return a.opts.Journal.Append(ctx, a.plan, fresh)
}

func (a *applier) try(ctx context.Context, s *Step, known *Entry) (outcome, error) {
	switch {
	case s.Object != nil:
		return a.object(ctx, s, known)
	case s.Image != nil:
		return a.image(ctx, s, s.Image)
	case s.Index != nil:
		return a.image(ctx, s, s.Index)
	case s.Document != nil:
		return a.document(ctx, s.Document, known)
	}
	return a.tag(ctx, s.Tag, known)
}

// moving reports bytes.
func (a *applier) moving(s *Step) func(done, total int64) {
	if a.opts.Progress == nil {
		return nil
	}
	return func(done, total int64) { a.event(Event{Step: *s, Phase: PhaseMoving, Done: done, Total: total}) }
}

func (a *applier) object(ctx context.Context, step *Step, known *Entry) (outcome, error) {
	s := step.Object
	info, err := a.env.Store.Stat(ctx, s.Key)
	switch {
	case err == nil:
		same := info.Size == s.Size && (info.SHA256 == s.SHA256 || info.SHA256 == "" && known != nil && known.Revision == info.Revision)
		if same && (s.ContentType == "" || info.ContentType == s.ContentType || info.ContentType == "") {
			return outcome{PhaseReused, info.Revision}, nil
		}
		if s.Immutable && !same && !(info.SHA256 == "" && info.Size == s.Size) {
			return outcome{}, fmt.Errorf("other content of %d bytes, sha256 %q, is there: %w", info.Size, info.SHA256, fs.ErrExist)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return outcome{}, err
	}
	if a.opts.DryRun {
		return outcome{phase: PhaseWould}, nil
	}
	src, err := a.env.Object(ctx, s.SHA256)
	if err != nil {
		return outcome{}, err
	}
	if src.Size() != s.Size {
		return outcome{}, fmt.Errorf("content has %d bytes, planned were %d: %w", src.Size(), s.Size, ErrDigest)
	}
	info, err = a.env.Store.Put(ctx, s.Key, src, &PutOptions{
		SHA256: s.SHA256, ContentType: s.ContentType, CacheControl: s.CacheControl, Progress: a.moving(step),
	})
	if err != nil {
		return outcome{}, err
	}
	return outcome{PhaseDone, info.Revision}, nil
}

func (a *applier) image(ctx context.Context, step *Step, s *ImageStep) (outcome, error) {
	repo, err := name.NewRepository(s.Repository, name.StrictValidation)
	if err != nil {
		return outcome{}, err
	}
	digest, err := v1.NewHash(s.Digest)
	if err != nil {
		return outcome{}, err
	}
	_, err = a.env.Registry.Head(ctx, repo.Digest(s.Digest))
	if err == nil {
		return outcome{PhaseReused, s.Digest}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return outcome{}, err
	}
	if a.opts.DryRun {
		return outcome{phase: PhaseWould}, nil
	}
	opts := &WriteOptions{Progress: a.moving(step)}
	for _, from := range s.From {
		r, err := name.NewRepository(from, name.StrictValidation)
		if err != nil {
			return outcome{}, err
		}
		opts.From = append(opts.From, r)
	}
	var written v1.Descriptor
	if step.Index != nil {
		idx, err := a.env.Index(ctx, digest)
		if err != nil {
			return outcome{}, err
		}
		if err := hasDigest(idx.Digest, digest); err != nil {
			return outcome{}, err
		}
		written, err = a.env.Registry.WriteIndex(ctx, repo, idx, opts)
		if err != nil {
			return outcome{}, err
		}
	} else {
		img, err := a.env.Image(ctx, digest)
		if err != nil {
			return outcome{}, err
		}
		if err := hasDigest(img.Digest, digest); err != nil {
			return outcome{}, err
		}
		written, err = a.env.Registry.WriteImage(ctx, repo, img, opts)
		if err != nil {
			return outcome{}, err
		}
	}
	if written.Digest != digest {
		return outcome{}, fmt.Errorf("registry wrote %s: %w", written.Digest, ErrDigest)
	}
	return outcome{PhaseDone, s.Digest}, nil
}

// hasDigest checks what the environment gave.
func hasDigest(of func() (v1.Hash, error), want v1.Hash) error {
	got, err := of()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("environment gives %s for %s: %w", got, want, ErrDigest)
	}
	return nil
}

func (a *applier) document(ctx context.Context, s *DocumentStep, known *Entry) (outcome, error) {
	if known != nil {
		_, err := a.env.Store.Stat(ctx, s.Key)
		if err == nil {
			return outcome{PhaseReused, known.Revision}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return outcome{}, err
		}
	}
	fn, err := a.env.Transforms[s.Transform](s.Argument)
	if err != nil {
		return outcome{}, fmt.Errorf("transform %q: %w", s.Transform, err)
	}
	// changed tells what the last call of fn made of its argument.
	var changed atomic.Bool
	observed := func(old []byte) ([]byte, error) {
		before := string(old)
		data, err := fn(old)
		changed.Store(err == nil && (string(data) != before || old == nil && data != nil))
		return data, err
	}
	if a.opts.DryRun {
		old, _, err := ReadDocument(ctx, a.env.Store, s.Key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return outcome{}, err
		}
		if _, err := observed(old); err != nil {
			return outcome{}, fmt.Errorf("transform %q: %w", s.Transform, err)
		}
		if changed.Load() {
			return outcome{phase: PhaseWould}, nil
		}
		return outcome{phase: PhaseReused}, nil
	}
	info, err := Update(ctx, a.env.Store, s.Key, observed, &UpdateOptions{
		ContentType: s.ContentType, CacheControl: s.CacheControl, Jitter: a.opts.Jitter, SingleWriter: a.opts.SingleWriter,
	})
	if err != nil {
		return outcome{}, err
	}
	phase := PhaseReused
	if changed.Load() {
		phase = PhaseDone
	}
	return outcome{phase, info.Revision}, nil
}

func (a *applier) tag(ctx context.Context, s *TagStep, known *Entry) (outcome, error) {
	tag, err := name.NewTag(s.Reference, name.StrictValidation)
	if err != nil {
		return outcome{}, err
	}
	digest, err := v1.NewHash(s.Digest)
	if err != nil {
		return outcome{}, err
	}
	at, err := a.env.Registry.Head(ctx, tag)
	switch {
	case err == nil && (at.Digest == digest || known != nil):
		return outcome{PhaseReused, s.Digest}, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return outcome{}, err
	}
	if a.opts.DryRun {
		return outcome{phase: PhaseWould}, nil
	}
	// A plan may point a tag at what another one wrote; never at nothing.
	if _, err := a.env.Registry.Head(ctx, tag.Repository.Digest(s.Digest)); err != nil {
		return outcome{}, err
	}
	if err := a.env.Registry.Tag(ctx, tag, digest); err != nil {
		return outcome{}, err
	}
	return outcome{PhaseDone, s.Digest}, nil
}

// gates asks for all results.
func (a *applier) gates(ctx context.Context, steps []*Step) error {
	var pending, failed []string
	for _, s := range steps {
		id, err := s.id()
		if err != nil {
			return err
		}
		a.event(Event{Step: *s, Phase: PhaseStarted})
		if _, ok := a.done[id]; ok {
			a.event(Event{Step: *s, Phase: PhaseReused})
			continue
		}
		result := GatePending
		if a.env.Gate != nil {
			if result, err = a.env.Gate(ctx, s.Gate.Name); err != nil {
				err = fmt.Errorf("%s: %w", s, err)
				a.event(Event{Step: *s, Phase: PhaseFailed, Err: err})
				return err
			}
		}
		switch result {
		case GatePassed:
			a.event(Event{Step: *s, Phase: PhaseDone})
			if err := a.note(ctx, s, id, outcome{phase: PhaseDone}); err != nil {
				return err
			}
		case GateFailed:
			failed = append(failed, s.Gate.Name)
			a.event(Event{Step: *s, Phase: PhaseFailed, Err: ErrGate})
		default:
			pending = append(pending, s.Gate.Name)
			a.event(Event{Step: *s, Phase: PhasePending})
		}
	}
	switch {
	case a.opts.DryRun:
	case len(failed) > 0:
		return &GateError{Gates: failed}
	case len(pending) > 0:
		return &PendingError{Gates: pending}
	}
	return nil
}
