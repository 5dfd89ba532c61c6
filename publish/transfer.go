package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// Defaults and limits of [TransferOptions].
const (
	DefaultTransferWorkers  = 16
	DefaultTransferPerHost  = 8
	DefaultTransferAttempts = 3
	DefaultTransferDelay    = time.Second
	maxTransferDelay        = 30 * time.Second
	maxTransferWorkers      = 256
	// MaxTransferManifests is how many bytes of manifests one call holds; a set
	// of copies with more must be cut. Manifests have 1 to 10 KB.
	MaxTransferManifests = 64 << 20
)

// TransferOptions of [Transfer]; nil is the zero value.
type TransferOptions struct {
	// Journal remembers which blobs arrived where, for a later run; nil: none.
	// It is a hint on where to look first: what it says is never believed
	// without asking the registry, so a lost or wrong one costs requests only.
	Journal Journal
	// Workers is how many requests and blobs are under way at once; 0:
	// [DefaultTransferWorkers], at most 256.
	Workers int
	// PerHost is the same for each registry; 0: [DefaultTransferPerHost].
	PerHost int
	// From are repositories of the destination's registries that may hold blobs
	// already, such as the last release's; they are mounted from there.
	From []name.Repository
	// DryRun looks everything up, gives [Transferred.Steps] and writes nothing,
	// not even to the journal.
	DryRun bool
	// Attempts is how often something is tried whose error says that it may help
	// ([Error.Retryable]) or that bytes were damaged on their way ([ErrDigest]);
	// 0: [DefaultTransferAttempts]. Delay lies before the second attempt and
	// doubles up to 30 s; 0: [DefaultTransferDelay].
	Attempts int
	Delay    time.Duration
	// Jitter gives values in [0,1) that shorten each wait by up to a half; nil:
	// whole waits. See [UpdateOptions.Jitter].
	Jitter func() float64
	// Progress is called from any goroutine and must not block.
	Progress func(TransferEvent)
}

// TransferEvent says what [Transfer] is doing.
type TransferEvent struct {
	Step TransferStep `json:"step"`
	// Phase is PhaseStarted and PhaseMoving of blobs that move, PhaseDone of all
	// that was done or found, PhaseWould of a dry run.
	Phase  Phase          `json:"phase"`
	Done   int64          `json:"done,omitempty"` // bytes of the step, while it moves
	Totals TransferTotals `json:"totals"`
}

// TransferStep is one thing that a transfer does.
type TransferStep struct {
	Action TransferAction `json:"action"`
	Target string         `json:"target"`         // "repository@digest" or "repository:tag"
	From   string         `json:"from,omitempty"` // of a mount or move: repository
	Digest string         `json:"digest"`
	Size   int64          `json:"size"` // bytes of the blob or manifest
}

// TransferAction is what is done in a step.
type TransferAction string

// The actions of a transfer.
const (
	ActionReuse TransferAction = "reuse" // a blob, or a manifest with all below it, is there
	ActionMount TransferAction = "mount" // a blob, from another repository of the registry
	ActionMove  TransferAction = "move"  // a blob's bytes
	ActionWrite TransferAction = "write" // a manifest, by digest
	ActionTag   TransferAction = "tag"
)

// TransferTotals counts what has been done so far of what there is to do. The
// blobs of one repository count once however many images name them; those of
// images that were complete at the beginning do not count.
type TransferTotals struct {
	Blobs   int   `json:"blobs"` // to be there
	Bytes   int64 `json:"bytes"` // of these
	Moved   int   `json:"moved"` // blobs
	Mounted int   `json:"mounted"`
	Reused  int   `json:"reused"`
	// Bytes of the three, and of blobs that are moving so far.
	MovedBytes   int64 `json:"movedBytes"`
	MountedBytes int64 `json:"mountedBytes"`
	ReusedBytes  int64 `json:"reusedBytes"`
	Manifests    int   `json:"manifests"` // to be written
	Written      int   `json:"written"`   // of these
	Tags         int   `json:"tags"`      // to be set
	Tagged       int   `json:"tagged"`    // of these
}

// Transferred is what [Transfer] did, or would do.
type Transferred struct {
	Copies []CopyResult   `json:"copies"` // in the order of the copies
	Totals TransferTotals `json:"totals"`
	// Steps of a dry run, in an order that could be followed.
	Steps []TransferStep `json:"steps,omitempty"`
}

// CopyResult says what a copy is.
type CopyResult struct {
	Copy
	// Digest of what is in place; of Copy.From unless platforms were chosen.
	Digest    v1.Hash         `json:"digest"`
	MediaType types.MediaType `json:"mediaType"`
	Size      int64           `json:"size"` // of the manifest, bytes
	// Complete: it was there with all its tags before.
	Complete bool `json:"complete,omitempty"`
}

// Transfer makes copies of images and indexes of one registry in another, or in
// other repositories of the same one ("registry" being a client that may reach
// many hosts). It looks first: sources are resolved and their manifests read,
// and of an image that is in place nothing is asked but one HEAD. Then, for
// all copies at once, it brings blobs, each mounted from a repository of the
// same registry that has it, or moved, verified on its way. A blob moves once
// to a registry, however many repositories there need it, and is mounted from
// then on, unless the registry refuses to mount. A manifest is written when
// all it names is there, copies of a lower [Copy.Stage] before those of a
// higher one, and tags last, when everything is in place: cosign's first. So
// nobody who follows a tag finds something missing.
//
// It can be stopped anywhere and called again, here or elsewhere: the
// registries tell what is left to do. The first fault ends it; no tag is
// written then.
//
// Registries should offer [Blobs]; one that doesn't is read and written by
// whole images, without these economies.
func Transfer(ctx context.Context, to, from Registry, copies []Copy, opts *TransferOptions) (*Transferred, error) {
	fail := func(err error) (*Transferred, error) {
		retryable := false
		if pe, ok := errors.AsType[*Error](err); ok {
			retryable = pe.Retryable
		}
		return nil, &Error{Op: "transfer", Target: fmt.Sprintf("%d copies", len(copies)), Err: err, Retryable: retryable}
	}
	jobs, err := parseCopies(copies)
	if err != nil {
		return nil, err
	}
	if to == nil || from == nil {
		return fail(fmt.Errorf("a registry is missing: %w", fs.ErrInvalid))
	}
	t, err := newTransfer(to, from, copies, opts)
	if err != nil {
		return fail(err)
	}
	// One context for all phases: values that a registry made keep it.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.cancel = cancel
	if err := t.run(ctx, jobs); err != nil {
		return fail(err)
	}
	return t.result(jobs), nil
}

// transfer is one call of [Transfer].
type transfer struct {
	to, source Registry
	from       blobReader
	blobs      Blobs // of to; nil: it has none
	same       bool  // to and source are one
	opts       TransferOptions
	limits     *limits
	id         string // of the copies, for the journal
	cancel     context.CancelCauseFunc

	mu        sync.Mutex // of all that follows
	totals    TransferTotals
	manifests map[v1.Hash]*manifest
	size      int64 // of manifests, bytes
	sources   map[v1.Hash][]name.Repository
	places    map[placeKey]*place
	untagged  map[name.Repository]bool       // a tag was missing there
	needed    map[placeKey][]name.Repository // repositories that need a blob
	targets   map[string][]name.Repository   // all destinations, by host
	refused   map[[2]string]int              // mounts between two repositories that failed in a row
	hints     map[placeKey][]name.Repository // from the journal
	fresh     []Entry                        // not yet in the journal
	freshSize int64                          // bytes of the blobs that these are about
	steps     []TransferStep                 // of a dry run
}

func newTransfer(to, from Registry, copies []Copy, opts *TransferOptions) (*transfer, error) {
	t := &transfer{
		to: to, source: from, from: readerOf(from),
		manifests: map[v1.Hash]*manifest{}, sources: map[v1.Hash][]name.Repository{},
		places: map[placeKey]*place{}, needed: map[placeKey][]name.Repository{}, targets: map[string][]name.Repository{},
		untagged: map[name.Repository]bool{}, refused: map[[2]string]int{}, hints: map[placeKey][]name.Repository{},
	}
	t.blobs, _ = to.(Blobs)
	kind := reflect.TypeOf(to)
	t.same = kind == reflect.TypeOf(from) && kind.Comparable() && to == from
	if opts != nil {
		t.opts = *opts
	}
	o := &t.opts
	if o.Workers < 0 || o.PerHost < 0 || o.Attempts < 0 || o.Delay < 0 {
		return nil, fmt.Errorf("an option is negative: %w", fs.ErrInvalid)
	}
	if o.Workers == 0 {
		o.Workers = DefaultTransferWorkers
	}
	if o.PerHost == 0 {
		o.PerHost = DefaultTransferPerHost
	}
	if o.Attempts == 0 {
		o.Attempts = DefaultTransferAttempts
	}
	if o.Delay == 0 {
		o.Delay = DefaultTransferDelay
	}
	o.Workers = min(o.Workers, maxTransferWorkers)
	o.PerHost = min(o.PerHost, o.Workers)
	t.limits = newLimits(o.Workers, o.PerHost)
	data, err := json.Marshal(copies)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	t.id = hex.EncodeToString(sum[:])
	return t, nil
}

func (t *transfer) run(ctx context.Context, jobs []*job) error {
	if err := t.load(ctx); err != nil {
		return err
	}
	if err := t.plan(ctx, jobs); err != nil {
		return err
	}
	if t.opts.DryRun {
		return t.dryRun(ctx, jobs)
	}
	err := t.content(ctx, jobs)
	// Also after a fault, and after the context is done: what was done should be
	// known.
	if flushErr := t.flush(context.WithoutCancel(ctx), 1); err == nil {
		err = flushErr
	}
	if err != nil {
		return err
	}
	return t.tags(ctx, jobs)
}

// content writes everything but tags, stage by stage.
func (t *transfer) content(ctx context.Context, jobs []*job) error {
	var stages []int
	for _, j := range jobs {
		stages = append(stages, j.Stage)
	}
	slices.Sort(stages)
	for _, stage := range slices.Compact(stages) {
		var now []*job
		for _, j := range jobs {
			if j.Stage == stage && len(j.items) > 0 {
				now = append(now, j)
			}
		}
		if err := each(ctx, t, now, func(j *job) error { return t.write(ctx, j) }); err != nil {
			return err
		}
	}
	return nil
}

// each calls fn for all jobs, a few at once, and ends the transfer with the
// first fault.
func each(ctx context.Context, t *transfer, jobs []*job, fn func(*job) error) error {
	var group errgroup.Group
	group.SetLimit(t.opts.Workers)
	for _, j := range jobs {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := fn(j)
			if err != nil {
				err = fmt.Errorf("copy %s: %w", j, err)
				t.cancel(err)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		// Others ended because of the first one.
		return context.Cause(ctx)
	}
	return ctx.Err()
}

// again calls fn until it succeeds or trying again cannot help.
func (t *transfer) again(ctx context.Context, fn func(attempt int) error) error {
	for attempt := 1; ; attempt++ {
		err := fn(attempt)
		if err == nil || ctx.Err() != nil || attempt >= t.opts.Attempts {
			return err
		}
		pe, ok := errors.AsType[*Error](err)
		if !(ok && pe.Retryable) && !errors.Is(err, ErrDigest) {
			return err
		}
		if err := wait(ctx, backoff(t.opts.Delay, maxTransferDelay, attempt, t.opts.Jitter)); err != nil {
			return err
		}
	}
}

// ask is [transfer.again] for a request to a registry, within the limits.
func (t *transfer) ask(ctx context.Context, repo name.Repository, fn func() error) error {
	return t.again(ctx, func(int) error { return t.limits.do(ctx, fn, repo.RegistryStr()) })
}

// event reports a step; count changes the totals first.
func (t *transfer) event(s TransferStep, phase Phase, done int64, count func(*TransferTotals)) {
	t.mu.Lock()
	if count != nil {
		count(&t.totals)
	}
	totals := t.totals
	t.mu.Unlock()
	if t.opts.Progress != nil {
		t.opts.Progress(TransferEvent{Step: s, Phase: phase, Done: done, Totals: totals})
	}
}

func (t *transfer) result(jobs []*job) *Transferred {
	out := &Transferred{Totals: t.totals, Steps: t.steps}
	for _, j := range jobs {
		out.Copies = append(out.Copies, CopyResult{
			Copy: j.Copy, Digest: j.top.Digest, MediaType: j.top.MediaType, Size: j.top.Size,
			Complete: len(j.items)+len(j.tags)+len(j.signed) == 0,
		})
	}
	return out
}
