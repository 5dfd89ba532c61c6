package status

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/stream"
)

// Waived is the state of a gate for which a person answers, which no release
// controller has. It is neither green nor red.
const Waived controller.State = "Waived"

// RecordedOptions are options of [History.AddRecorded]; nil and the zero value are useful.
type RecordedOptions struct {
	// Gates are those of a definition, and say which of them block. Others that
	// results are of inform, unless the history says that they block.
	Gates []stream.Gate
	// Belongs says which releases of the book are of this stream; nil: those
	// that the history has.
	Belongs func(release string) bool
	// Days is how far back releases that the history has not are added; 0:
	// [DefaultDays].
	Days int
}

// AddRecorded adds results that a book has: to the builds of the history, and
// builds for other releases of the stream, of which Gates decide the phase. Of
// a build that has a gate already, the result that ended last counts. Of several
// images of one release it is the one with the last result; a build that is
// named by digest has its own. Documents that cannot be read are in
// History.Faults. Call it before [New]; opts may be nil.
func (h *History) AddRecorded(ctx context.Context, book gate.Book, now time.Time, opts *RecordedOptions) error {
	var o RecordedOptions
	if opts != nil {
		o = *opts
	}
	o.Days = cmp.Or(o.Days, DefaultDays)
	known := map[string]int{}
	for i, b := range h.Builds {
		known[b.Version] = i
	}
	newest := map[string]gate.History{}
	for r, err := range book.All(ctx) {
		if err != nil {
			return fmt.Errorf("publish/status: %s: results of gates: %w", h.Stream, err)
		}
		if r.Fault != nil {
			h.Faults = append(h.Faults, fmt.Sprintf("results of gates: %v", r.Fault))
			continue
		}
		name := r.Subject.Release
		i, ok := known[name]
		switch {
		case len(r.Results) == 0:
		case ok && !sameImage(h.Builds[i].PullSpec, r.Subject.Digest):
		case !ok && (o.Belongs == nil || !o.Belongs(name)):
		default:
			if old, ok := newest[name]; !ok || last(old).Before(last(r)) {
				newest[name] = r
			}
		}
	}
	for name, r := range newest {
		i, ok := known[name]
		if !ok {
			b := Build{Version: name, Created: versionTime(name)}
			if b.Created.IsZero() {
				b.Created = r.Results[0].At
			}
			if now.Sub(b.Created) > time.Duration(o.Days)*24*time.Hour {
				continue
			}
			i = len(h.Builds)
			h.Builds = append(h.Builds, b)
		}
		h.Builds[i].record(r, o.Gates, now, !ok)
	}
	slices.SortFunc(h.Builds, func(a, b Build) int { return cmp.Compare(a.Version, b.Version) })
	slices.Sort(h.Faults)
	return nil
}

// sameImage says that a pullspec does not name another image.
func sameImage(pullSpec, digest string) bool {
	_, named, ok := strings.Cut(pullSpec, "@")
	return !ok || named == digest
}

// last is when the last result was recorded.
func last(h gate.History) time.Time { return h.Results[len(h.Results)-1].At }

// record adds the results of an image. alone: nobody else knows the build.
func (b *Build) record(r gate.History, gates []stream.Gate, now time.Time, alone bool) {
	for _, res := range r.Results {
		if !slices.ContainsFunc(gates, func(g stream.Gate) bool { return g.Name == res.Gate }) {
			gates = append(slices.Clip(gates), stream.Gate{Name: res.Gate, Mode: stream.Informing})
		}
	}
	v := gate.Evaluate(gates, r.Subject, r.Results, now, nil)
	for _, s := range v.Gates {
		g := Gate{Name: s.Gate, Blocking: s.Blocking, State: states[s.State], Retries: max(0, s.Attempts-1)}
		if s.Result != nil {
			g.Ended = s.Result.At
			for _, e := range s.Result.Evidence {
				if strings.HasPrefix(e.URL, "https://") || strings.HasPrefix(e.URL, "http://") {
					g.URL = e.URL
					break
				}
			}
		}
		i := slices.IndexFunc(b.Gates, func(old Gate) bool { return old.Name == s.Gate })
		switch {
		case i < 0:
			b.Gates = append(b.Gates, g)
		case s.Result == nil, b.Gates[i].State != controller.JobPending && b.Gates[i].Ended.After(g.Ended):
		default:
			g.Blocking, g.URL = g.Blocking || b.Gates[i].Blocking, cmp.Or(g.URL, b.Gates[i].URL)
			b.Gates[i] = g
		}
	}
	if alone {
		b.Phase = map[gate.State]controller.Phase{gate.Passed: controller.Accepted, gate.Failed: controller.Rejected, gate.Pending: controller.Ready}[v.State]
		if !slices.ContainsFunc(v.Gates, func(s gate.Status) bool { return s.Blocking }) {
			b.Phase = controller.Ready // nobody said what must pass
		}
	}
}

// states are those of gates in a release controller's words.
var states = map[gate.State]controller.State{
	gate.Pending: controller.JobPending, gate.Passed: controller.JobSucceeded, gate.Failed: controller.JobFailed, gate.Waived: Waived,
}
