package daily

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/linkcheck"
	"github.com/okd-project/okd-streams/stream"
)

// GateResult is the result of a gate that was checked elsewhere.
type GateResult struct {
	Passed bool
	Reason string // in a sentence; "": none
}

// gateLinks is a gate of every stream: what the documents to be announced name
// is in the store.
const gateLinks = "links"

// gatesFile holds the results of a build's gates where no book does.
const gatesFile = "gates.json"

// maxGateResults bounds what a book's stand-in holds.
const maxGateResults = 1000

// gates asks the gates of a build, and keeps what they say.
type gates struct {
	*build
	plan       *publish.Plan
	transforms map[string]publish.Transform
	subject    gate.Subject
	list       []stream.Gate // of the definition, and ours
	// faults are why gates of ours failed, for programs.
	faults []error
}

func (b *build) gates(plan *publish.Plan, transforms map[string]publish.Transform) *gates {
	g := &gates{build: b, plan: plan, transforms: transforms, subject: gate.Subject{Release: b.in.Version, Digest: b.release.Digest}, list: b.def.Gates}
	if !slices.ContainsFunc(g.list, func(d stream.Gate) bool { return d.Name == gateLinks }) {
		g.list = append([]stream.Gate{{Name: gateLinks, Kind: gateLinks}}, g.list...)
	}
	return g
}

// ask gives the result of a gate that the plan has: of one that is checked here
// what is found now, of others what was handed in or recorded.
func (g *gates) ask(ctx context.Context, name string) (publish.GateResult, error) {
	i := slices.IndexFunc(g.list, func(d stream.Gate) bool { return d.Name == name })
	if i < 0 {
		return publish.GatePending, nil
	}
	definition := g.list[i]
	if name == gateLinks && definition.Kind != gateLinks {
		// One of the definition's has our name: both must pass.
		if f, err := g.checkLinks(ctx, g.subject); err != nil {
			return "", fmt.Errorf("gate %s: %w", name, err)
		} else if f.State != gate.Passed {
			return publish.GateFailed, nil
		}
	}
	if err := g.find(ctx, definition); err != nil {
		return "", err
	}
	v, err := g.evaluate(ctx)
	if err != nil {
		return "", err
	}
	return v.Gate(ctx, name)
}

// find records what is known of a gate: what a check of ours finds, or what the
// run was told.
func (g *gates) find(ctx context.Context, definition stream.Gate) error {
	check := map[stream.GateKind]gate.Check{
		gateLinks: g.checkLinks, stream.GateLint: g.checkLint, stream.GatePayload: g.checkPayload, stream.GateRegression: g.checkRegression,
	}[definition.Kind]
	told, isTold := g.opts.Gates[definition.Name]
	switch {
	case check != nil:
	case isTold:
		check = func(context.Context, gate.Subject) (gate.Finding, error) {
			f := gate.Finding{State: gate.Failed, Reason: told.Reason}
			if told.Passed {
				f.State = gate.Passed
			}
			return f, nil
		}
	default:
		return nil
	}
	r, err := gate.Run(ctx, stream.Gate{Name: definition.Name}, g.subject, check, g.clock, nil)
	if r.Gate != "" {
		err = errors.Join(err, g.record(ctx, r))
	}
	return err
}

// verdict is on all gates, those too that inform.
func (g *gates) verdict(ctx context.Context) (*gate.Verdict, error) {
	for _, d := range g.list {
		if d.Blocking() {
			continue
		}
		if err := g.find(ctx, d); err != nil && ctx.Err() != nil {
			return nil, err // others are in the result
		}
	}
	return g.evaluate(ctx)
}

func (g *gates) evaluate(ctx context.Context) (*gate.Verdict, error) {
	results, err := g.results(ctx)
	if err != nil {
		return nil, err
	}
	return gate.Evaluate(g.list, g.subject, results, g.clock(), nil), nil
}

// rejected is the error about gates that failed, with the reasons that were
// recorded; those of our own gates are errors that programs know.
func (g *gates) rejected(ctx context.Context, err error) error {
	err = fmt.Errorf("%w: %w", ErrRejected, err)
	v, fault := g.evaluate(ctx)
	if fault != nil {
		return errors.Join(err, fault)
	}
	for i, s := range v.Gates {
		if s.Blocking && s.State == gate.Failed && s.Reason != "" && !own(g.list[i].Kind) {
			err = fmt.Errorf("%w; %s: %s", err, s.Gate, s.Reason)
		}
	}
	for _, why := range g.faults {
		err = fmt.Errorf("%w; %w", err, why)
	}
	return err
}

// own says that gates of a kind are checked here.
func own(kind stream.GateKind) bool {
	return slices.Contains([]stream.GateKind{gateLinks, stream.GateLint, stream.GatePayload, stream.GateRegression}, kind)
}

// clock is the environment's, else the build's time.
func (g *gates) clock() time.Time {
	if t := g.env.now(); !t.IsZero() {
		return t
	}
	return g.in.Time
}

// results are those in the book, without one those of the state folder.
func (g *gates) results(ctx context.Context) ([]gate.Result, error) {
	if g.env.Book.Store != nil {
		return g.env.Book.Results(ctx, g.subject.Digest)
	}
	var list []gate.Result
	_, err := readJSON(filepath.Join(g.dir, gatesFile), &list)
	return list, err
}

// record adds a result, unless it says what the last one of its gate does.
func (g *gates) record(ctx context.Context, r gate.Result) error {
	list, err := g.results(ctx)
	if err != nil {
		return err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if old := list[i]; old.Gate == r.Gate && old.Subject == r.Subject {
			if old.By == r.By && old.State == r.State && old.Reason == r.Reason && slices.Equal(old.Evidence, r.Evidence) {
				return nil
			}
			break
		}
	}
	if g.env.Book.Store != nil {
		return g.env.Book.Record(ctx, r)
	}
	if len(list) >= maxGateResults {
		list = list[len(list)-maxGateResults+1:]
	}
	return writeJSON(filepath.Join(g.dir, gatesFile), append(list, r))
}

// found is the finding of a report whose JSON is the evidence.
func (g *gates) found(report any, fault error, good string) (gate.Finding, error) {
	data, err := json.Marshal(report)
	if err != nil {
		return gate.Finding{}, err
	}
	f := gate.Finding{State: gate.Passed, Reason: good, Evidence: []gate.Evidence{{URL: "report", Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(data)), Size: int64(len(data))}}}
	if fault != nil {
		f.State, f.Reason = gate.Failed, fault.Error()
		g.faults = append(g.faults, fault)
	}
	return f, nil
}

func (g *gates) checkLinks(ctx context.Context, _ gate.Subject) (gate.Finding, error) {
	report, err := g.links(ctx, g.plan, g.transforms)
	if err != nil {
		return gate.Finding{}, err
	}
	return g.found(report, report.Err(), fmt.Sprintf("%d links of %d documents lead where they should", report.Counts[linkcheck.OK], report.Documents))
}

// checkLint: the commit passed it before anything was published.
func (g *gates) checkLint(context.Context, gate.Subject) (gate.Finding, error) {
	return gate.Finding{State: gate.Passed, Reason: "the commit is an operating system", Evidence: []gate.Evidence{{URL: "commit", Digest: "sha256:" + g.committed.Commit.String()}}}, nil
}

func (g *gates) checkRegression(ctx context.Context, _ gate.Subject) (gate.Finding, error) {
	r, err := g.regression(ctx)
	if err != nil {
		return gate.Finding{}, err
	}
	return g.found(r, r.Err(), "no package that matters is gone or older")
}

// checkPayload reads the payload back from where it was published.
func (g *gates) checkPayload(ctx context.Context, s gate.Subject) (gate.Finding, error) {
	ref, err := name.NewDigest(g.release.Reference)
	if err != nil {
		return gate.Finding{}, err
	}
	release, err := payload.Open(ctx, g.env.Registry, ref, &payload.OpenOptions{Platform: v1.Platform{Architecture: g.in.Arch.GOARCH()}})
	if err != nil {
		return gate.Finding{}, err
	}
	f := gate.Finding{State: gate.Passed, Reason: "the payload was read back and verified", Evidence: []gate.Evidence{{URL: ref.Name(), Digest: release.Digest.String(), Size: int64(len(release.RawManifest))}}}
	if release.Version() != s.Release {
		f.State, f.Reason = gate.Failed, "the payload says that it is "+release.Version()
	}
	return f, nil
}
