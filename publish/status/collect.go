package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/stream"
)

// CollectOptions are options of [Collect]; nil and the zero value are useful.
type CollectOptions struct {
	// Title is the stream's name for people; "": its name.
	Title string
	// Days is how far back builds are asked for; 0: [DefaultDays]. Builds
	// whose version has no time are all asked for.
	Days int
	// Look looks into a payload, whose pullspec it gets; nil: nobody looks. It
	// is called for the newest accepted build and for the two builds between
	// which a gate became red, from several goroutines.
	Look func(ctx context.Context, pullSpec string) (*Content, error)
	// Channel is the one of the controller's graph in which updates are looked
	// for; empty: none. The releases that count are the accepted ones.
	Channel string
	// Parallel is how many requests go at once; 0: 8.
	Parallel int
}

// Collect asks a release controller for the history of a stream: its releases
// and their jobs, and for what [CollectOptions] name. What is there but cannot
// be read is in History.Faults; a stream that is not there is an error that
// wraps [fs.ErrNotExist].
//
// A controller does not say when a release was made: the time is that in its
// version, or that of its first job that ended.
func Collect(ctx context.Context, client *controller.Client, name string, now time.Time, opts *CollectOptions) (*History, error) {
	o := CollectOptions{}
	if opts != nil {
		o = *opts
	}
	if o.Days == 0 {
		o.Days = DefaultDays
	}
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	tags, err := client.Tags(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("publish/status: %s: %w", name, err)
	}
	h := &History{Stream: name, Title: o.Title}
	var accepted []string
	for _, t := range tags {
		b := Build{Version: t.Name, Phase: t.Phase, PullSpec: t.PullSpec, Created: versionTime(t.Name)}
		if t.Phase == controller.Accepted {
			accepted = append(accepted, t.Name)
		}
		if b.Created.IsZero() || now.Sub(b.Created) <= time.Duration(o.Days)*24*time.Hour {
			h.Builds = append(h.Builds, b)
		}
	}
	var mu sync.Mutex
	fault := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		h.Faults = append(h.Faults, fmt.Sprintf(format, args...))
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(o.Parallel)
	for i := range h.Builds {
		group.Go(func() error {
			b := &h.Builds[i]
			r, err := client.Release(gctx, name, b.Version, nil)
			if err != nil {
				fault("%s: %v", b.Version, err)
				return context.Cause(gctx)
			}
			b.take(r)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("publish/status: %s: %w", name, err)
	}
	if o.Look != nil {
		if err := h.look(ctx, &o, fault); err != nil {
			return nil, err
		}
	}
	if o.Channel != "" {
		g, err := client.Graph(ctx, o.Channel)
		if err != nil {
			fault("update graph: %v", err)
		} else {
			h.Gaps = graph.Gaps(g, accepted, nil)
		}
	}
	slices.Sort(h.Faults)
	return h, context.Cause(ctx)
}

// versionTime is the time in a version; zero if it has none.
func versionTime(version string) time.Time {
	v, err := stream.ParseVersion(version)
	if err != nil {
		return time.Time{}
	}
	return v.Time
}

// take notes the jobs of a release.
func (b *Build) take(r *controller.Release) {
	b.Phase = r.Phase
	if r.Results == nil {
		return
	}
	var first time.Time
	add := func(jobs map[string]controller.Job, blocking bool) {
		for name, j := range jobs {
			g := Gate{Name: name, Blocking: blocking, State: j.State, URL: j.URL, Retries: j.Retries}
			if j.Changed != nil {
				g.Ended = *j.Changed
				if first.IsZero() || g.Ended.Before(first) {
					first = g.Ended
				}
			}
			b.Gates = append(b.Gates, g)
		}
	}
	add(r.Results.Blocking, true)
	add(r.Results.Informing, false)
	add(r.Results.Async, false)
	known := func(name string) bool {
		return slices.ContainsFunc(b.Gates, func(g Gate) bool { return g.Name == name })
	}
	for name := range r.Results.Pending {
		if !known(name) {
			b.Gates = append(b.Gates, Gate{Name: name, Blocking: true, State: controller.JobPending})
		}
	}
	if b.Created.IsZero() {
		b.Created = first
	}
}

// look looks into the builds whose content matters.
func (h *History) look(ctx context.Context, o *CollectOptions, fault func(string, ...any)) error {
	want := map[string]bool{}
	builds := h.sorted()
	if i := slices.IndexFunc(builds, func(b Build) bool { return b.Phase == controller.Accepted }); i >= 0 {
		want[builds[i].Version] = true
	}
	var s StreamReport
	h.gates(&s, builds, func(Level, string, ...any) {})
	for _, g := range s.Gates {
		if g.Broken != nil && g.Broken.LastGreen != "" {
			want[g.Broken.LastGreen], want[g.Broken.FirstRed] = true, true
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(o.Parallel)
	for i := range h.Builds {
		b := &h.Builds[i]
		if !want[b.Version] || b.PullSpec == "" {
			continue
		}
		group.Go(func() error {
			c, err := o.Look(gctx, b.PullSpec)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				fault("%s: the payload is gone: %v", b.Version, err)
			case err != nil:
				fault("%s: %v", b.Version, err)
			default:
				b.Content = c
			}
			return context.Cause(gctx)
		})
	}
	return group.Wait()
}

// ContentOf gives the packages of a payload's node image and the commits of its
// components, for [CollectOptions.Look]. A payload without node image has the
// commits alone.
func ContentOf(ctx context.Context, src payload.Images, r *payload.Release) (*Content, error) {
	c := &Content{Name: r.Version(), Commits: map[string]string{}}
	for _, t := range r.References.Tags {
		if commit := t.Annotations["io.openshift.build.commit.id"]; commit != "" {
			c.Commits[t.Name] = commit
		}
	}
	packages, err := r.Packages(ctx, src, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c.Packages = packages
	return c, nil
}
