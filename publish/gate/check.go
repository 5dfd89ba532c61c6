package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/stream"
)

// Check finds out what a gate says of a subject. What is not there yet is a
// finding that is [Pending]; an error says that it could not be found out. A
// check may be carried out again.
type Check func(ctx context.Context, s Subject) (Finding, error)

// Finding is what a check found.
type Finding struct {
	State    State
	Reason   string
	Evidence []Evidence
	By       string    // as in [Result]
	Expires  time.Time // as in [Result]
}

// RunOptions are options of [Run]; nil and the zero value are useful.
type RunOptions struct {
	// Since is when the release was made: evidence that says it ended before
	// is of something else, and the gate pending. Zero: any time.
	Since time.Time
	// Wait sleeps before another attempt; nil: with a timer. Attempts are a
	// minute apart, then two, four and so on.
	Wait func(ctx context.Context, d time.Duration) error
}

// firstRetry is the wait before the second attempt at a check.
const firstRetry = time.Minute

// Run carries out the check of a gate, within its time limit, and again as often
// as its definition says while it fails; it gives the result to record, at the
// time that clock tells when it ended. What could not be found out is an error,
// and a result all the same: pending, with the error as its reason.
func Run(ctx context.Context, g stream.Gate, s Subject, check Check, clock func() time.Time, opts *RunOptions) (Result, error) {
	var o RunOptions
	if opts != nil {
		o = *opts
	}
	if o.Wait == nil {
		o.Wait = sleep
	}
	fail := func(err error) error { return &Error{Op: "run", Target: fmt.Sprintf("gate %.80q", g.Name), Err: err} }
	if err := errors.Join(checkName(g.Name), s.check()); err != nil {
		return Result{}, fail(err)
	}
	var f Finding
	var err error
	for attempt := 0; ; attempt++ {
		f, err = once(ctx, g.Timeout, check, s)
		if err != nil || f.State != Failed || attempt >= g.Retries {
			break
		}
		if err = o.Wait(ctx, firstRetry<<attempt); err != nil {
			break
		}
	}
	r := Result{Gate: g.Name, Subject: s, State: f.State, Reason: clean(f.Reason), Evidence: f.Evidence, At: clock().UTC(), By: f.By, Expires: f.Expires}
	for _, e := range f.Evidence {
		if !e.At.IsZero() && e.At.Before(o.Since) && err == nil {
			r.State, r.Reason = Pending, fmt.Sprintf("it ended %s, before the release was made", e.At.UTC().Format(time.RFC3339))
		}
	}
	if err != nil {
		r = Result{Gate: g.Name, Subject: s, State: Pending, Reason: clean(httpx.RedactText(err.Error())), At: r.At}
		return r, fail(err)
	}
	if err := r.check(); err != nil {
		return Result{}, fail(err)
	}
	return r, nil
}

// once is one attempt.
func once(ctx context.Context, limit time.Duration, check Check, s Subject) (Finding, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("the gate's time limit of %s is over: %w", limit, context.DeadlineExceeded))
		defer cancel()
	}
	f, err := check(ctx, s)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return f, err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// clean makes text of others fit for a reason.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != '\n' && (r < 0x20 || r >= 0x7f && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	s = strings.TrimSpace(s)
	if len(s) > MaxReasonSize {
		s = s[:MaxReasonSize-len("…")]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return s
}

// Manual is what a person decided: [Passed], [Failed] or [Waived], with the
// person's name, a reason and an end.
func Manual(by string, state State, reason string, expires time.Time) Check {
	return func(context.Context, Subject) (Finding, error) {
		if strings.TrimSpace(by) == "" {
			return Finding{}, fmt.Errorf("a decision needs a name: %w", ErrInvalid)
		}
		return Finding{State: state, Reason: reason, By: by, Expires: expires.UTC()}, nil
	}
}
