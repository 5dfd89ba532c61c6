package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/publish"
)

// Environment is what an engine does in the world. Every function may be called
// again for the same release, after a crash or by another engine, and must then
// do the same or find it done.
type Environment struct {
	// Inputs gives the images of the stream by tag, each by digest.
	Inputs func(ctx context.Context) (map[string]string, error)
	// Make makes the payload of a release and gives its pullspec. An error
	// that wraps [ErrPayload] fails the release, others are tried again.
	Make func(ctx context.Context, r *FlowRelease) (pullSpec string, err error)
	// Job starts a job of a ready release, or finds the one that it started,
	// and says how it is: pending, or how it ended. retry is 0 for the first
	// attempt, each retry is a job of its own.
	Job func(ctx context.Context, r *FlowRelease, name string, retry int) (Job, error)
	// Remove removes what was made for a release; nil: nothing is there.
	Remove func(ctx context.Context, r *FlowRelease) error
}

// ErrPayload is wrapped by errors of Environment.Make that say the payload
// cannot be made from these images.
var ErrPayload = errors.New("the payload cannot be made")

// Engine does in one process what a release controller does on a cluster, for
// those who have none. Its state is one document of a store, which several
// engines may share: they lose nothing, and no name is used twice.
type Engine struct {
	Store  publish.Store
	Key    string // of the document
	Config *Config
	Env    Environment
}

// Load reads the state; a stream that has none yet has no releases.
func (e *Engine) Load(ctx context.Context) (*Flow, error) {
	data, _, err := publish.ReadDocument(ctx, e.Store, e.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return &Flow{}, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeFlow(data)
}

func decodeFlow(data []byte) (*Flow, error) {
	f := &Flow{}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(f); err != nil {
		return nil, &Error{Op: "decode", Target: "flow", Err: err}
	}
	seen := map[string]bool{}
	for _, r := range f.Releases {
		if r.Name == "" || seen[r.Name] {
			return nil, &Error{Op: "decode", Target: "flow", Err: fmt.Errorf("release %q is there twice, or without name", r.Name)}
		}
		if !slices.Contains([]Phase{Pending, Failed, Ready, Accepted, Rejected}, r.Phase) {
			return nil, &Error{Op: "decode", Target: "flow", Err: fmt.Errorf("release %s: phase %.40q", r.Name, r.Phase)}
		}
		seen[r.Name] = true
	}
	return f, nil
}

// Edit changes the state, again from the newest one if another engine changed
// it meanwhile: fn may be called several times.
func (e *Engine) Edit(ctx context.Context, fn func(*Flow) error) error {
	_, err := publish.Update(ctx, e.Store, e.Key, func(old []byte) ([]byte, error) {
		f := &Flow{}
		if len(old) > 0 {
			var err error
			if f, err = decodeFlow(old); err != nil {
				return nil, err
			}
		}
		if err := fn(f); err != nil {
			return nil, err
		}
		data, err := json.MarshalIndent(f, "", "  ")
		return append(data, '\n'), err
	}, nil)
	return err
}

// Step does once what [Flow.Plan] says as of now and gives what it did. Each
// result is kept before the next action, so that a step that was interrupted is
// continued by the next one. What fails does not keep other releases from going
// on; the errors are joined.
func (e *Engine) Step(ctx context.Context, now time.Time) ([]Action, error) {
	inputs, err := e.Env.Inputs(ctx)
	if err != nil {
		return nil, fmt.Errorf("publish/controller: %s: images: %w", e.Config.Name, err)
	}
	f, err := e.Load(ctx)
	if err != nil {
		return nil, err
	}
	actions, err := f.Plan(e.Config, inputs, now)
	if err != nil {
		return nil, err
	}
	var done []Action
	var faults []error
	for _, a := range actions {
		if err := ctx.Err(); err != nil {
			return done, errors.Join(append(faults, context.Cause(ctx))...)
		}
		if a.Kind == ActWait {
			continue
		}
		if err := e.do(ctx, f, a, inputs, now); err != nil {
			faults = append(faults, fmt.Errorf("publish/controller: %s %s: %w", a.Kind, strings.TrimSpace(a.Release+" "+a.Job), err))
			continue
		}
		done = append(done, a)
	}
	return done, errors.Join(faults...)
}

func (e *Engine) do(ctx context.Context, f *Flow, a Action, inputs map[string]string, now time.Time) error {
	r := f.Release(a.Release)
	switch a.Kind {
	case ActCreate:
		return e.Edit(ctx, func(f *Flow) error {
			// Another engine may have created it, or one with these images.
			again, err := f.Plan(e.Config, inputs, now)
			if err != nil || !slices.Contains(again, a) {
				return err
			}
			f.Releases = append([]FlowRelease{{Name: a.Release, Created: now.UTC(), Hash: InputHash(inputs), Inputs: inputs, Phase: Pending}}, f.Releases...)
			return nil
		})
	case ActMake:
		pullSpec, err := e.Env.Make(ctx, r)
		if err != nil && !errors.Is(err, ErrPayload) {
			return err
		}
		return e.change(ctx, a.Release, Pending, func(f *Flow, r *FlowRelease) error {
			if err != nil {
				return f.Move(r.Name, Failed, "CreateReleaseFailed", err.Error())
			}
			r.PullSpec = pullSpec
			return f.Move(r.Name, Ready, "", "")
		})
	case ActRun:
		retry := 0
		if j, ok := r.Jobs[a.Job]; ok {
			if retry = j.Retries; j.State == JobFailed {
				retry++
			}
		}
		job, err := e.Env.Job(ctx, r, a.Job, retry)
		if err != nil {
			return err
		}
		return e.change(ctx, a.Release, Ready, func(_ *Flow, r *FlowRelease) error {
			old := r.Jobs[a.Job]
			if old.Retries > retry {
				return nil // another engine is further
			}
			job.Retries, job.EarlierURLs = retry, old.EarlierURLs
			if retry > old.Retries {
				job.EarlierURLs = append(slices.Clone(old.EarlierURLs), old.URL)
			}
			if job.State != old.State || retry != old.Retries {
				at := now.UTC()
				job.Changed = &at
			} else {
				job.Changed = old.Changed
			}
			if r.Jobs == nil {
				r.Jobs = map[string]Job{}
			}
			r.Jobs[a.Job] = job
			return nil
		})
	case ActMove:
		return e.change(ctx, a.Release, r.Phase, func(f *Flow, r *FlowRelease) error {
			return f.Move(r.Name, a.Phase, a.Reason, a.Message)
		})
	case ActRemove:
		if e.Env.Remove != nil {
			if err := e.Env.Remove(ctx, r); err != nil {
				return err
			}
		}
		return e.Edit(ctx, func(f *Flow) error {
			f.Releases = slices.DeleteFunc(f.Releases, func(r FlowRelease) bool { return r.Name == a.Release && r.Keep == "" })
			return nil
		})
	}
	return nil
}

// change changes a release that still is in a phase; others were taken further
// by another engine or a person.
func (e *Engine) change(ctx context.Context, name string, phase Phase, fn func(*Flow, *FlowRelease) error) error {
	return e.Edit(ctx, func(f *Flow) error {
		if r := f.Release(name); r != nil && r.Phase == phase {
			return fn(f, r)
		}
		return nil
	})
}
