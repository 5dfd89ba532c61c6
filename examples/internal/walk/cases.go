package walk

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/prow"
)

// steps notes how the steps of a run went, for a Prow job.
type steps struct {
	mu    sync.Mutex
	began map[string]time.Time
	took  map[string]time.Duration // of those that are done
}

func (s *steps) event(e daily.Event, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began == nil {
		s.began, s.took = map[string]time.Time{}, map[string]time.Duration{}
	}
	switch e.Phase {
	case "done":
		s.took[e.Step] = now.Sub(s.began[e.Step])
	case "reused":
		s.took[e.Step] = 0
	default:
		if _, ok := s.began[e.Step]; !ok {
			s.began[e.Step] = now
		}
	}
}

// keep leaves a case for each step up to last and for each gate. What was not
// come to is skipped.
func (s *steps) keep(ctx context.Context, last string, summary *daily.Summary, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, step := range daily.Steps() {
		c := prow.Case{Name: step}
		took, done := s.took[step]
		_, began := s.began[step]
		switch {
		case done:
			c.Duration = took
		case began && err != nil:
			c.Failure = err.Error()
		default:
			c.Skipped = true
		}
		ui.AddCases(ctx, c)
		if step == last {
			break
		}
	}
	if summary != nil {
		if summary.Published != nil && summary.Published.Verdict != nil {
			ui.AddCases(ctx, summary.Published.Verdict.JUnit().Cases...)
		}
		if summary.Report != "" {
			ui.AddPage(ctx, summary.Report)
		}
	}
	ui.AddCases(ctx, Gates(err)...)
}

// Gates are the gates that an error names.
func Gates(err error) (cases []prow.Case) {
	add := func(gates []string, why string) {
		for _, gate := range gates {
			cases = append(cases, prow.Case{Suite: "gates", Name: gate, Failure: why})
		}
	}
	if failed, ok := errors.AsType[*publish.GateError](err); ok {
		add(failed.Gates, "it failed")
	}
	if pending, ok := errors.AsType[*publish.PendingError](err); ok {
		add(pending.Gates, "it has no result")
	}
	return cases
}
