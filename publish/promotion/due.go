package promotion

import (
	"context"
	"time"

	"github.com/okd-project/okd-streams/stream"
)

// Schedule says when a stream is promoted.
type Schedule struct {
	Due bool `json:"due"`
	// At is the time in the schedule that is next, or was when Due; zero without
	// a schedule.
	At time.Time `json:"at,omitzero"`
	// Last is when the name of the last promoted release was reserved; zero:
	// none was promoted here.
	Last time.Time `json:"last,omitzero"`
	// Open is a promotion that is to be finished first, nil if there is none.
	Open *Reservation `json:"open,omitempty"`
}

// Due says whether a stream is to be promoted now, by a cadence such as
// Cadences.Promotion of its definition (see stream.Cadence.Due): weekly with an
// interval of 21 days is once a sprint. A promotion that is open is always due.
func Due(ctx context.Context, env *Env, stream string, cadence stream.Cadence) (*Schedule, error) {
	fail := func(err error) (*Schedule, error) { return nil, failure("due", stream, err) }
	if err := env.check(); err != nil {
		return fail(err)
	}
	r, err := env.register(ctx, stream)
	if err != nil {
		return fail(err)
	}
	out := &Schedule{}
	for i, v := range r.Reservations {
		switch v.State {
		case Promoted:
			out.Last = v.At
		case Reserved:
			out.Open = &r.Reservations[i]
		}
	}
	out.Due, out.At = cadence.Due(out.Last, env.Now())
	if out.Open != nil {
		out.Due = true
	}
	return out, nil
}
