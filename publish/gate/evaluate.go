package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/stream"
)

// DefaultMaxSkew is how far the clock of whoever recorded a result may be
// ahead of ours.
const DefaultMaxSkew = 5 * time.Minute

// Options are options of [Evaluate]; nil and the zero value are useful.
type Options struct {
	// MaxAge is how old a result may be to count; 0: of any age, since it is of
	// a digest.
	MaxAge time.Duration
	// MaxSkew is how far in the future a result may be; 0: [DefaultMaxSkew].
	MaxSkew time.Duration
}

// Verdict is what the gates of a release say together.
type Verdict struct {
	Subject Subject `json:"subject"`
	// State is [Failed] if a gate that blocks failed, [Pending] if one has no
	// result that counts, else [Passed]. It is never [Waived].
	State State    `json:"state"`
	Gates []Status `json:"gates"` // in the order of the definition
	// Notes say which results were passed over, and why.
	Notes []string `json:"notes,omitempty"`
}

// Status is a gate and the result that counts.
type Status struct {
	Gate     string `json:"gate"`
	Blocking bool   `json:"blocking"`
	State    State  `json:"state"`
	Reason   string `json:"reason,omitempty"`
	// Result is the last one of this digest, nil if there is none. It need not
	// count: one that is over or too old is here while State is Pending.
	Result *Result `json:"result,omitempty"`
	// Attempts is how many results of this digest there are.
	Attempts int `json:"attempts"`
}

// Evaluate gives the verdict on a release. Of a gate's results the last one in
// the list counts, as a [Book] gives them; results of other digests do not
// count, whatever their release is called. opts may be nil.
func Evaluate(gates []stream.Gate, subject Subject, results []Result, now time.Time, opts *Options) *Verdict {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.MaxSkew == 0 {
		o.MaxSkew = DefaultMaxSkew
	}
	v := &Verdict{Subject: subject, State: Passed, Gates: []Status{}}
	last := map[string]*Result{}
	attempts := map[string]int{}
	other := map[string]bool{}
	for i := range results {
		r := &results[i]
		if err := r.check(); err != nil {
			v.note("a result of gate %.80q does not count: %v", r.Gate, err)
			continue
		}
		if r.Subject.Digest != subject.Digest {
			other[r.Subject.Digest] = true
			continue
		}
		if r.Subject.Release != subject.Release {
			v.note("gate %s: the image was called %s when it was judged", r.Gate, r.Subject.Release)
		}
		last[r.Gate] = r
		attempts[r.Gate]++
	}
	known := map[string]bool{}
	for _, g := range gates {
		known[g.Name] = true
		s := Status{Gate: g.Name, Blocking: g.Blocking(), Result: last[g.Name], Attempts: attempts[g.Name]}
		s.State, s.Reason = s.Result.judge(now, &o)
		v.Gates = append(v.Gates, s)
		switch {
		case !s.Blocking:
		case s.State == Failed:
			v.State = Failed
		case s.State == Pending && v.State == Passed:
			v.State = Pending
		}
	}
	for _, r := range results {
		if r.Subject.Digest == subject.Digest && !known[r.Gate] && last[r.Gate] != nil {
			known[r.Gate] = true
			v.note("gate %s is not in the definition", r.Gate)
		}
	}
	if n := len(other); n > 0 {
		var digests []string
		for d := range other {
			digests = append(digests, fmt.Sprintf("%.19s", d))
		}
		slices.Sort(digests)
		v.note("results of other images do not count: %s", strings.Join(digests[:min(n, 5)], ", "))
	}
	if !slices.ContainsFunc(v.Gates, func(s Status) bool { return s.Blocking }) {
		v.note("no gate blocks")
	}
	slices.Sort(v.Notes)
	v.Notes = slices.Compact(v.Notes)
	return v
}

func (v *Verdict) note(format string, args ...any) {
	v.Notes = append(v.Notes, fmt.Sprintf(format, args...))
}

// judge says whether a result counts now.
func (r *Result) judge(now time.Time, o *Options) (State, string) {
	switch {
	case r == nil:
		return Pending, "no result"
	case r.At.After(now.Add(o.MaxSkew)):
		return Pending, "its result is from the future: " + r.At.UTC().Format(time.RFC3339)
	case o.MaxAge > 0 && now.Sub(r.At) > o.MaxAge:
		return Pending, "its result is too old: " + r.At.UTC().Format(time.RFC3339)
	case r.By != "" && !now.Before(r.Expires):
		return Pending, fmt.Sprintf("what %s decided ended %s", r.By, r.Expires.UTC().Format(time.RFC3339))
	case r.By != "":
		return r.State, fmt.Sprintf("%s: %s (until %s)", r.By, r.Reason, r.Expires.UTC().Format(time.RFC3339))
	}
	return r.State, r.Reason
}

// Gate gives the result of a gate in the words of a plan, for [publish.Env]. A
// gate that the verdict does not know is pending; one that informs passes.
func (v *Verdict) Gate(_ context.Context, name string) (publish.GateResult, error) {
	i := slices.IndexFunc(v.Gates, func(s Status) bool { return s.Gate == name })
	if i < 0 {
		return publish.GatePending, nil
	}
	switch s := v.Gates[i]; {
	case s.State == Passed, s.State == Waived, !s.Blocking:
		return publish.GatePassed, nil
	case s.State == Failed:
		return publish.GateFailed, nil
	}
	return publish.GatePending, nil
}

// Err is nil if the release may be announced, else a [*publish.GateError] or
// [*publish.PendingError] that names the gates.
func (v *Verdict) Err() error {
	var failed, pending []string
	for _, s := range v.Gates {
		switch {
		case !s.Blocking:
		case s.State == Failed:
			failed = append(failed, s.Gate)
		case s.State == Pending:
			pending = append(pending, s.Gate)
		}
	}
	switch {
	case len(failed) > 0:
		return &publish.GateError{Gates: failed}
	case len(pending) > 0:
		return &publish.PendingError{Gates: pending}
	}
	return nil
}
