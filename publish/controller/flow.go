package controller

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Keep is how many failed, rejected and (beyond their expiry) accepted releases
// stay, each.
const Keep = 5

// Flow is the state of a stream without a release controller: the releases and
// how far each has come. The zero value is a stream without releases. It is
// what [Engine] keeps in a store, as JSON.
type Flow struct {
	Releases []FlowRelease `json:"releases"` // newest first
}

// FlowRelease is a release in a flow.
type FlowRelease struct {
	Name    string    `json:"name"` // its version
	Created time.Time `json:"created"`
	// Hash is the [InputHash] of Inputs, the images by tag.
	Hash     string            `json:"hash"`
	Inputs   map[string]string `json:"inputs"`
	Phase    Phase             `json:"phase"`
	Reason   string            `json:"reason,omitempty"`  // a word: why it was rejected or failed
	Message  string            `json:"message,omitempty"` // a sentence
	PullSpec string            `json:"pullSpec,omitempty"`
	Jobs     map[string]Job    `json:"jobs,omitempty"`
	// Keep is why it must not be removed; empty: it may be.
	Keep      string     `json:"keep,omitempty"`
	Overrides []Override `json:"overrides,omitempty"`
}

// Override is a decision of a person.
type Override struct {
	By     string    `json:"by"`     // a person
	Reason string    `json:"reason"` // in a sentence
	From   Phase     `json:"from"`
	To     Phase     `json:"to"`
	At     time.Time `json:"at"`
}

// InputHash is the identity of a stream's images, by tag: the SHA-256 of what
// names them (a digest), in the order of tags.
func InputHash(inputs map[string]string) string {
	h := sha256.New()
	for _, tag := range slices.Sorted(maps.Keys(inputs)) {
		_, _ = h.Write([]byte(inputs[tag]))
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}

// transitions are all that a release can go through by itself. A person may
// also reopen a rejected one.
func transitions(from Phase) []Phase {
	switch from {
	case Pending:
		return []Phase{Ready, Failed}
	case Ready:
		return []Phase{Accepted, Rejected}
	}
	return nil
}

// ErrTransition is wrapped when a release cannot go from its phase to another.
var ErrTransition = errors.New("not a transition")

// Release gives the release of a name, nil if there is none.
func (f *Flow) Release(name string) *FlowRelease {
	for i := range f.Releases {
		if f.Releases[i].Name == name {
			return &f.Releases[i]
		}
	}
	return nil
}

// Move takes a release to another phase, with the reason in a word and a
// sentence.
func (f *Flow) Move(name string, to Phase, reason, message string) error {
	r := f.Release(name)
	if r == nil {
		return fmt.Errorf("publish/controller: release %s is not there", name)
	}
	if !slices.Contains(transitions(r.Phase), to) {
		return fmt.Errorf("publish/controller: release %s: %s to %s: %w", name, r.Phase, to, ErrTransition)
	}
	r.Phase, r.Reason, r.Message = to, reason, message
	return nil
}

// Override decides in place of the gates: a release that is Ready is Accepted or
// Rejected, a Rejected one Ready again, and then its failed jobs run again. by
// and reason must be given.
func (f *Flow) Override(name string, to Phase, by, reason string, now time.Time) error {
	r := f.Release(name)
	switch {
	case r == nil:
		return fmt.Errorf("publish/controller: release %s is not there", name)
	case strings.TrimSpace(by) == "" || strings.TrimSpace(reason) == "":
		return fmt.Errorf("publish/controller: release %s: a decision needs a name and a reason", name)
	case r.Phase == Ready && (to == Accepted || to == Rejected):
	case r.Phase == Rejected && to == Ready:
		maps.DeleteFunc(r.Jobs, func(_ string, j Job) bool { return j.State == JobFailed })
	default:
		return fmt.Errorf("publish/controller: release %s: %s to %s by hand: %w", name, r.Phase, to, ErrTransition)
	}
	r.Overrides = append(r.Overrides, Override{By: by, Reason: reason, From: r.Phase, To: to, At: now.UTC()})
	r.Phase, r.Reason, r.Message = to, "Override", by+": "+reason
	return nil
}

// ActionKind says what is to be done.
type ActionKind string

// The kinds of actions.
const (
	ActCreate ActionKind = "create" // note a new release, Pending
	ActMake   ActionKind = "make"   // make its payload
	ActRun    ActionKind = "run"    // start Job, or see how it is
	ActMove   ActionKind = "move"   // take it to Phase
	ActRemove ActionKind = "remove" // remove it
	ActWait   ActionKind = "wait"   // nothing before At
)

// Action is something to be done next.
type Action struct {
	Kind    ActionKind `json:"kind"`
	Release string     `json:"release,omitempty"` // that it is about; "": the stream
	Job     string     `json:"job,omitempty"`     // to run, or to wait for
	Phase   Phase      `json:"phase,omitempty"`   // of ActMove and ActCreate: the next one
	Reason  string     `json:"reason,omitempty"`  // of ActMove: a word
	Message string     `json:"message,omitempty"` // of ActMove: a sentence
	At      time.Time  `json:"at,omitzero"`       // of ActWait: no sooner
}

// Plan says what is to be done in a stream that is configured so and has these
// images now, by the rules of a release controller:
//
//   - A new release is created when the images are others than those of any
//     release, fewer than MaxUnready are undecided, and MinInterval has passed.
//   - Of pending releases the newest is made, others fail as Aborted.
//   - A ready release is accepted when every job that is not async has ended and
//     no blocking one failed; rejected when a blocking one failed its last try.
//     Failed jobs are tried again after 1, 2, 4 … minutes, 15 at most.
//   - Failed and rejected releases older than the newest accepted one go, of the
//     others all but five of each; accepted ones beyond five go when they have
//     expired; kept ones never.
//
// It depends on its arguments alone. Stable streams, whose releases are tagged
// by hand, are not planned ([errors.ErrUnsupported]).
func (f *Flow) Plan(c *Config, inputs map[string]string, now time.Time) ([]Action, error) {
	if c.As == Stable {
		return nil, fmt.Errorf("publish/controller: %s is a stable stream: %w", c.Name, errors.ErrUnsupported)
	}
	var out []Action
	releases := slices.Clone(f.Releases)
	slices.SortStableFunc(releases, func(a, b FlowRelease) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(b.Name, a.Name))
	})
	if create := f.create(c, releases, inputs, now); create.Kind != "" {
		out = append(out, create)
	}
	pending := false
	for _, r := range releases {
		switch r.Phase {
		case Pending:
			if pending {
				out = append(out, Action{Kind: ActMove, Release: r.Name, Phase: Failed, Reason: "Aborted", Message: "a newer release is pending"})
				continue
			}
			pending = true
			out = append(out, Action{Kind: ActMake, Release: r.Name})
		case Ready:
			out = append(out, verify(c, &r, now)...)
		}
	}
	for _, r := range expired(c, releases, now) {
		out = append(out, Action{Kind: ActRemove, Release: r})
	}
	return out, nil
}

// create decides on a new release.
func (f *Flow) create(c *Config, releases []FlowRelease, inputs map[string]string, now time.Time) Action {
	if len(inputs) == 0 {
		return Action{}
	}
	hash, unready := InputHash(inputs), 0
	for _, r := range releases {
		if r.Hash == hash {
			return Action{}
		}
		if r.Phase == Pending || r.Phase == Ready {
			unready++
		}
	}
	if c.MaxUnready > 0 && unready >= c.MaxUnready {
		return Action{}
	}
	name := c.Name + "-" + now.UTC().Format("2006-01-02-150405")
	if len(releases) > 0 {
		next := releases[0].Created.Add(time.Duration(c.MinInterval) * time.Second)
		// A name has the second in it and is never used twice.
		if first := releases[0].Created.Add(time.Second); first.After(next) {
			next = first
		}
		if next.After(now) || f.Release(name) != nil {
			return Action{Kind: ActWait, At: next.UTC()}
		}
	}
	return Action{Kind: ActCreate, Release: name, Phase: Pending}
}

// verify decides on a ready release.
func verify(c *Config, r *FlowRelease, now time.Time) []Action {
	var run []Action
	var failed, waiting []string
	for _, name := range slices.Sorted(maps.Keys(c.Verify)) {
		v := c.Verify[name]
		if v.Disabled {
			continue
		}
		j, started := r.Jobs[name]
		switch {
		case !started || j.State == JobPending || j.State == "":
			run = append(run, Action{Kind: ActRun, Release: r.Name, Job: name})
			if !v.Async {
				waiting = append(waiting, name)
			}
		case j.State == JobFailed && j.Retries < v.MaxRetries:
			at := time.Time{}
			if j.Changed != nil {
				at = j.Changed.Add(Backoff(j.Retries + 1))
			}
			if at.After(now) {
				run = append(run, Action{Kind: ActWait, Release: r.Name, Job: name, At: at.UTC()})
			} else {
				run = append(run, Action{Kind: ActRun, Release: r.Name, Job: name})
			}
			if !v.Async {
				waiting = append(waiting, name)
			}
		case j.State == JobFailed && !v.Optional:
			failed = append(failed, name)
		}
	}
	if len(failed) > 0 {
		return []Action{{Kind: ActMove, Release: r.Name, Phase: Rejected, Reason: "VerificationFailed", Message: "failed: " + strings.Join(failed, ", ")}}
	}
	if len(waiting) == 0 {
		return append(run, Action{Kind: ActMove, Release: r.Name, Phase: Accepted})
	}
	return run
}

// Backoff is how long a job waits before its n-th retry: a minute, doubled for
// each further one, a quarter of an hour at most.
func Backoff(n int) time.Duration {
	if n < 1 {
		return 0
	}
	return min(time.Minute<<min(n-1, 4), 15*time.Minute)
}

// expired gives the names of releases that go.
func expired(c *Config, releases []FlowRelease, now time.Time) []string {
	var failed, rejected, accepted, out []string
	created := map[string]time.Time{}
	for _, r := range releases {
		if r.Keep != "" {
			continue
		}
		created[r.Name] = r.Created
		switch r.Phase {
		case Failed:
			failed = append(failed, r.Name)
		case Rejected:
			rejected = append(rejected, r.Name)
		case Accepted:
			accepted = append(accepted, r.Name)
		}
	}
	last := -1
	for i, r := range releases {
		if r.Phase == Accepted && r.Keep == "" {
			last = i
			break
		}
	}
	for _, list := range [][]string{failed, rejected} {
		for i, name := range list {
			old := last >= 0 && slices.IndexFunc(releases, func(r FlowRelease) bool { return r.Name == name }) > last
			if old || i >= Keep {
				out = append(out, name)
			}
		}
	}
	expires, err := time.ParseDuration(c.Expires)
	if err == nil && expires > 0 && len(accepted) > Keep {
		for _, name := range accepted[Keep:] {
			if created[name].Add(expires).Before(now) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}
