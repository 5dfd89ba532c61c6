package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/memstore"
)

var start = time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)

func config() *controller.Config {
	return &controller.Config{
		Name: "4.22.0-0.okd-scos", To: "release-scos", MaxUnready: 1, MinInterval: 3600, Expires: "72h",
		Verify: map[string]controller.Verify{
			"aws":  {ProwJob: &controller.ProwJob{Name: "aws"}, MaxRetries: 2},
			"gcp":  {ProwJob: &controller.ProwJob{Name: "gcp"}, Optional: true},
			"late": {ProwJob: &controller.ProwJob{Name: "late"}, Optional: true, Async: true},
			"off":  {Disabled: true},
		},
	}
}

func flowRelease(name string, phase controller.Phase, hoursAgo int, jobs map[string]controller.Job) controller.FlowRelease {
	return controller.FlowRelease{Name: name, Phase: phase, Created: start.Add(-time.Duration(hoursAgo) * time.Hour), Hash: "sha256:" + name, Jobs: jobs}
}

func job(state controller.State, retries int, minutesAgo int) controller.Job {
	at := start.Add(-time.Duration(minutesAgo) * time.Minute)
	return controller.Job{State: state, Retries: retries, Changed: &at}
}

const (
	okJob, failJob, pendingJob = controller.JobSucceeded, controller.JobFailed, controller.JobPending
)

// TestInputHash is the hash of release-controller's HashSpecTagImageDigests.
func TestInputHash(t *testing.T) {
	// printf 'sha256:bsha256:a' | sha256sum: in the order of tags a, b.
	require.Equal(t, "sha256:e04be3b02e8646f3", controller.InputHash(map[string]string{"b": "sha256:a", "a": "sha256:b"})[:23])
	require.NotEqual(t, controller.InputHash(map[string]string{"a": "x"}), controller.InputHash(map[string]string{"a": "y"}))
}

// TestPlan has one case for each decision of pipelines.md 3.3 and payload.md
// 7.2 and 7.3.
func TestPlan(t *testing.T) {
	inputs := map[string]string{"cli": "sha256:1"}
	same := controller.InputHash(inputs)
	create := controller.Action{Kind: controller.ActCreate, Release: "4.22.0-0.okd-scos-2026-11-26-000000", Phase: controller.Pending}
	run := func(name string) controller.Action {
		return controller.Action{Kind: controller.ActRun, Release: "r", Job: name}
	}
	accept := controller.Action{Kind: controller.ActMove, Release: "r", Phase: controller.Accepted}
	reject := controller.Action{Kind: controller.ActMove, Release: "r", Phase: controller.Rejected, Reason: "VerificationFailed", Message: "failed: aws"}
	remove := func(names ...string) (out []controller.Action) {
		for _, n := range names {
			out = append(out, controller.Action{Kind: controller.ActRemove, Release: n})
		}
		return out
	}
	six := func(phase controller.Phase, hours int) (out []controller.FlowRelease) {
		for i := range 6 {
			out = append(out, flowRelease(fmt.Sprintf("%s%d", phase, i), phase, hours+i, nil))
		}
		return out
	}
	known := flowRelease("known", controller.Accepted, 2, nil)
	known.Hash = same
	recent := flowRelease("4.22.0-0.okd-scos-2026-11-25-233000", controller.Accepted, 0, nil)
	recent.Created = start.Add(-30 * time.Minute)
	kept := six(controller.Failed, 10)
	kept[5].Keep = "for the bug"
	ready := func(jobs map[string]controller.Job) []controller.FlowRelease {
		return []controller.FlowRelease{flowRelease("r", controller.Ready, 1, jobs)}
	}
	for name, test := range map[string]struct {
		releases []controller.FlowRelease
		inputs   map[string]string
		want     []controller.Action
	}{
		"first":                     {nil, inputs, []controller.Action{create}},
		"no images":                 {nil, nil, nil},
		"images of an old release":  {[]controller.FlowRelease{known}, inputs, nil},
		"too soon":                  {[]controller.FlowRelease{recent}, inputs, []controller.Action{{Kind: controller.ActWait, At: start.Add(30 * time.Minute)}}},
		"one is undecided":          {ready(map[string]controller.Job{"aws": job(pendingJob, 0, 1), "gcp": job(okJob, 0, 1), "late": job(okJob, 0, 1)}), inputs, []controller.Action{run("aws")}},
		"after the interval":        {[]controller.FlowRelease{flowRelease("old", controller.Accepted, 1, nil)}, inputs, []controller.Action{create}},
		"pending is made":           {[]controller.FlowRelease{flowRelease("r", controller.Pending, 1, nil)}, inputs, []controller.Action{{Kind: controller.ActMake, Release: "r"}}},
		"older pending are aborted": {[]controller.FlowRelease{flowRelease("r", controller.Pending, 1, nil), flowRelease("o", controller.Pending, 2, nil)}, inputs, []controller.Action{{Kind: controller.ActMake, Release: "r"}, {Kind: controller.ActMove, Release: "o", Phase: controller.Failed, Reason: "Aborted", Message: "a newer release is pending"}}},
		"jobs start":                {ready(nil), nil, []controller.Action{run("aws"), run("gcp"), run("late")}},
		"all passed":                {ready(map[string]controller.Job{"aws": job(okJob, 0, 1), "gcp": job(okJob, 0, 1), "late": job(okJob, 0, 1)}), nil, []controller.Action{accept}},
		"informing failed":          {ready(map[string]controller.Job{"aws": job(okJob, 0, 1), "gcp": job(failJob, 0, 1), "late": job(okJob, 0, 1)}), nil, []controller.Action{accept}},
		"informing is waited for":   {ready(map[string]controller.Job{"aws": job(okJob, 0, 1), "gcp": job(pendingJob, 0, 1), "late": job(okJob, 0, 1)}), nil, []controller.Action{run("gcp")}},
		"async is not waited for":   {ready(map[string]controller.Job{"aws": job(okJob, 0, 1), "gcp": job(okJob, 0, 1), "late": job(pendingJob, 0, 1)}), nil, []controller.Action{run("late"), accept}},
		"retry waits":               {ready(map[string]controller.Job{"aws": job(failJob, 1, 1), "gcp": job(okJob, 0, 1), "late": job(okJob, 0, 1)}), nil, []controller.Action{{Kind: controller.ActWait, Release: "r", Job: "aws", At: start.Add(time.Minute)}}},
		"retry":                     {ready(map[string]controller.Job{"aws": job(failJob, 1, 2), "gcp": job(okJob, 0, 1), "late": job(okJob, 0, 1)}), nil, []controller.Action{run("aws")}},
		"last try failed":           {ready(map[string]controller.Job{"aws": job(failJob, 2, 1), "gcp": job(pendingJob, 0, 1)}), nil, []controller.Action{reject}},
		"decided stay":              {[]controller.FlowRelease{flowRelease("a", controller.Accepted, 1, nil), flowRelease("b", controller.Rejected, 0, nil), flowRelease("c", controller.Failed, 0, nil)}, nil, nil},
		"older than accepted go":    {[]controller.FlowRelease{flowRelease("a", controller.Accepted, 1, nil), flowRelease("b", controller.Rejected, 2, nil), flowRelease("c", controller.Failed, 3, nil)}, nil, remove("b", "c")},
		"five failed stay":          {six(controller.Failed, 10), nil, remove("Failed5")},
		"five rejected stay":        {six(controller.Rejected, 10), nil, remove("Rejected5")},
		"kept":                      {kept, nil, nil},
		"five accepted stay":        {six(controller.Accepted, 100), nil, remove("Accepted5")},
		"not expired":               {six(controller.Accepted, 10), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := &controller.Flow{Releases: test.releases}
			got, err := f.Plan(config(), test.inputs, start)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
	_, err := (&controller.Flow{}).Plan(&controller.Config{As: controller.Stable}, nil, start)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Equal(t, []time.Duration{0, 1, 2, 4, 8, 15, 15}, func() (out []time.Duration) {
		for n := range 7 {
			out = append(out, controller.Backoff(n)/time.Minute)
		}
		return out
	}())
}

// table are the transitions of pipelines.md 3.3; those by hand are in hand.
var (
	table = map[controller.Phase][]controller.Phase{controller.Pending: {controller.Ready, controller.Failed}, controller.Ready: {controller.Accepted, controller.Rejected}}
	hand  = map[controller.Phase][]controller.Phase{controller.Ready: {controller.Accepted, controller.Rejected}, controller.Rejected: {controller.Ready}}
	all   = []controller.Phase{controller.Pending, controller.Failed, controller.Ready, controller.Accepted, controller.Rejected}
)

func TestTransitions(t *testing.T) {
	for _, from := range all {
		for _, to := range all {
			f := &controller.Flow{Releases: []controller.FlowRelease{flowRelease("r", from, 1, map[string]controller.Job{"aws": job(failJob, 2, 1), "gcp": job(okJob, 0, 1)})}}
			err := f.Move("r", to, "Because", "it is so")
			if slices.Contains(table[from], to) {
				require.NoError(t, err)
				require.Equal(t, to, f.Releases[0].Phase)
			} else {
				require.ErrorIs(t, err, controller.ErrTransition, "%s to %s", from, to)
				require.Equal(t, from, f.Releases[0].Phase)
			}
			f.Releases[0].Phase = from
			err = f.Override("r", to, "Ann", "the test is broken", start)
			if !slices.Contains(hand[from], to) {
				require.ErrorIs(t, err, controller.ErrTransition, "%s to %s by hand", from, to)
				require.Empty(t, f.Releases[0].Overrides)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, []controller.Override{{By: "Ann", Reason: "the test is broken", From: from, To: to, At: start}}, f.Releases[0].Overrides)
			_, again := f.Releases[0].Jobs["aws"]
			require.Equal(t, to != controller.Ready, again, "failed jobs run again")
		}
	}
	f := &controller.Flow{Releases: []controller.FlowRelease{flowRelease("r", controller.Ready, 1, nil)}}
	require.ErrorContains(t, f.Override("r", controller.Accepted, " ", "x", start), "a name and a reason")
	require.ErrorContains(t, f.Override("r", controller.Accepted, "x", "", start), "a name and a reason")
	require.ErrorContains(t, f.Override("none", controller.Accepted, "x", "y", start), "not there")
	require.ErrorContains(t, f.Move("none", controller.Accepted, "", ""), "not there")
}

// world is what an engine works on, with faults.
type world struct {
	mu     sync.Mutex
	rng    *rand.Rand
	inputs map[string]string
	made   map[string]int
	jobs   map[string]controller.State // by release, job and attempt
	fail   float64                     // of calls
}

var errWorld = errors.New("the world is not there")

func (w *world) fault() error {
	if w.rng.Float64() < w.fail {
		return errWorld
	}
	return nil
}

func (w *world) environment() controller.Environment {
	return controller.Environment{
		Inputs: func(context.Context) (map[string]string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return maps.Clone(w.inputs), w.fault()
		},
		Make: func(_ context.Context, r *controller.FlowRelease) (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if err := w.fault(); err != nil {
				return "", err
			}
			w.made[r.Name]++
			if w.rng.IntN(10) == 0 {
				return "", fmt.Errorf("an image is gone: %w", controller.ErrPayload)
			}
			return "example.com/r:" + r.Name, nil
		},
		Job: func(_ context.Context, r *controller.FlowRelease, name string, retry int) (controller.Job, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if err := w.fault(); err != nil {
				return controller.Job{}, err
			}
			id := fmt.Sprintf("%s/%s/%d", r.Name, name, retry)
			if w.jobs[id] == "" || w.jobs[id] == pendingJob {
				w.jobs[id] = []controller.State{pendingJob, pendingJob, okJob, failJob}[w.rng.IntN(4)]
			}
			return controller.Job{State: w.jobs[id], URL: "https://example.com/" + id}, nil
		},
	}
}

// TestRandomWalk runs two engines on one store, with faults and people that
// interfere: no release ever leaves the table, no name is used twice, and each
// decision fits the results.
func TestRandomWalk(t *testing.T) {
	seen := map[controller.Phase]int{}
	for seed := range uint64(3) {
		w := &world{rng: rand.New(rand.NewPCG(seed, 1)), made: map[string]int{}, jobs: map[string]controller.State{}, fail: 0.1, inputs: map[string]string{"cli": "sha256:0"}}
		store := memstore.New()
		c := config()
		c.MaxUnready = 2
		engines := []*controller.Engine{
			{Store: store, Key: "flow.json", Config: c, Env: w.environment()},
			{Store: store, Key: "flow.json", Config: c, Env: w.environment()},
		}
		phases := map[string]controller.Phase{}
		now := start
		for range 120 {
			now = now.Add(time.Duration(w.rng.IntN(40)) * time.Minute)
			w.inputs["cli"] = fmt.Sprintf("sha256:%d", w.rng.IntN(1000))
			_, err := engines[w.rng.IntN(2)].Step(t.Context(), now)
			if err != nil {
				require.ErrorIs(t, err, errWorld)
			}
			byHand := ""
			if w.rng.IntN(20) == 0 {
				require.NoError(t, engines[0].Edit(t.Context(), func(f *controller.Flow) error {
					for _, r := range f.Releases {
						if r.Phase == controller.Rejected {
							byHand = r.Name
							return f.Override(r.Name, controller.Ready, "Ann", "again", now)
						}
					}
					return nil
				}))
			}
			f, err := engines[0].Load(t.Context())
			require.NoError(t, err)
			here := map[string]controller.Phase{}
			for _, r := range f.Releases {
				old, known := phases[r.Name]
				here[r.Name] = r.Phase
				if known && old != r.Phase {
					step := slices.Contains(table[old], r.Phase)
					// Pending to Ready to Accepted in one step cannot be; a person
					// may follow the step.
					require.True(t, step || r.Name == byHand, "%s: %s to %s", r.Name, old, r.Phase)
				}
				if !known {
					require.Contains(t, []controller.Phase{controller.Pending}, r.Phase, "new releases are pending")
					seen[r.Phase]++
				}
				switch r.Phase {
				case controller.Accepted:
					require.Equal(t, okJob, r.Jobs["aws"].State)
					require.NotEqual(t, pendingJob, r.Jobs["gcp"].State)
				case controller.Rejected:
					require.Equal(t, failJob, r.Jobs["aws"].State)
					require.Equal(t, 2, r.Jobs["aws"].Retries)
					require.Len(t, r.Jobs["aws"].EarlierURLs, 2)
				case controller.Ready:
					require.NotEmpty(t, r.PullSpec)
				}
				if old != r.Phase {
					seen[r.Phase]++
				}
			}
			phases = here
		}
	}
	for _, p := range all {
		require.NotZero(t, seen[p], "never saw %s", p)
	}
}

// TestEnginesAtOnce runs engines side by side: nothing is lost and no release is
// there twice.
func TestEnginesAtOnce(t *testing.T) {
	w := &world{rng: rand.New(rand.NewPCG(1, 1)), made: map[string]int{}, jobs: map[string]controller.State{}, inputs: map[string]string{"cli": "sha256:0"}}
	store := memstore.New()
	c := config()
	var group sync.WaitGroup
	for range 4 {
		e := &controller.Engine{Store: store, Key: "flow.json", Config: c, Env: w.environment()}
		group.Go(func() {
			for i := range 12 {
				if _, err := e.Step(context.WithoutCancel(t.Context()), start.Add(time.Duration(i)*10*time.Minute)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	e := &controller.Engine{Store: store, Key: "flow.json", Config: c, Env: w.environment()}
	f, err := e.Load(t.Context())
	require.NoError(t, err)
	require.Len(t, f.Releases, 1, "the images never changed")
	require.Equal(t, 1, len(w.made))
}

// TestHandler has the client of release controllers read a flow.
func TestHandler(t *testing.T) {
	store := memstore.New()
	e := &controller.Engine{Store: store, Key: "flow.json", Config: config()}
	require.NoError(t, e.Edit(t.Context(), func(f *controller.Flow) error {
		f.Releases = []controller.FlowRelease{
			flowRelease("4.22.0-0.okd-scos-2026-11-24-000000", controller.Accepted, 48, map[string]controller.Job{"aws": job(okJob, 1, 9), "gcp": job(failJob, 0, 9), "late": job(pendingJob, 0, 9)}),
			flowRelease("4.22.0-0.okd-scos-2026-11-26-000000", controller.Ready, 0, map[string]controller.Job{"gcp": job(okJob, 0, 1)}),
			flowRelease("4.22.0-0.okd-scos-2026-11-25-000000", controller.Accepted, 24, nil),
		}
		return nil
	}))
	empty := &controller.Engine{Store: store, Key: "none.json", Config: &controller.Config{Name: "empty", To: "x"}}
	server := httptest.NewServer(controller.Handler(e, empty))
	defer server.Close()
	c, err := controller.NewClient(server.URL, nil)
	require.NoError(t, err)
	ctx := t.Context()

	streams, err := c.Streams(ctx, controller.Accepted)
	require.NoError(t, err)
	require.Equal(t, map[string][]string{"4.22.0-0.okd-scos": {"4.22.0-0.okd-scos-2026-11-25-000000", "4.22.0-0.okd-scos-2026-11-24-000000"}, "empty": {}}, streams)
	tags, err := c.Tags(ctx, "4.22.0-0.okd-scos")
	require.NoError(t, err)
	require.Len(t, tags, 3)
	require.Equal(t, "4.22.0-0.okd-scos-2026-11-26-000000", tags[0].Name)
	tags, err = c.Tags(ctx, "4.22.0-0.okd-scos", controller.Ready)
	require.NoError(t, err)
	require.Len(t, tags, 1)
	latest, err := c.Latest(ctx, "4.22.0-0.okd-scos", &controller.LatestOptions{Before: 1, Prefix: "4.22"})
	require.NoError(t, err)
	require.Equal(t, "4.22.0-0.okd-scos-2026-11-24-000000", latest.Name)
	_, err = c.Latest(ctx, "empty", nil)
	require.ErrorContains(t, err, "no accepted release")
	_, err = c.Latest(ctx, "4.22.0-0.okd-scos", &controller.LatestOptions{In: ">1.0.0"})
	require.ErrorContains(t, err, "501")
	_, err = c.Latest(ctx, "4.22.0-0.okd-scos", &controller.LatestOptions{Before: -1})
	require.ErrorContains(t, err, "non-negative")
	got, err := c.Config(ctx, "4.22.0-0.okd-scos")
	require.NoError(t, err)
	require.Equal(t, config(), got)
	r, err := c.Release(ctx, "4.22.0-0.okd-scos", "4.22.0-0.okd-scos-2026-11-24-000000", nil)
	require.NoError(t, err)
	require.Equal(t, okJob, r.Results.Blocking["aws"].State)
	require.Equal(t, failJob, r.Results.Informing["gcp"].State)
	require.Equal(t, pendingJob, r.Results.Async["late"].State)
	r, err = c.Release(ctx, "4.22.0-0.okd-scos", "4.22.0-0.okd-scos-2026-11-26-000000", nil)
	require.NoError(t, err)
	require.Equal(t, pendingJob, r.Results.Blocking["aws"].State, "a job that has not begun is pending, never green")
	_, err = c.Release(ctx, "none", "x", nil)
	require.ErrorContains(t, err, `Unable to find release "none"`)
	_, err = c.Release(ctx, "empty", "x", nil)
	require.ErrorContains(t, err, "Unable to find release tag")
}

func TestBadFlow(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":      `{`,
		"twice":         `{"releases":[{"name":"a","phase":"Ready"},{"name":"a","phase":"Ready"}]}`,
		"no name":       `{"releases":[{"phase":"Ready"}]}`,
		"unknown phase": `{"releases":[{"name":"a","phase":"Green"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			store := memstore.New()
			put(t, store, "flow.json", text)
			e := &controller.Engine{Store: store, Key: "flow.json", Config: config()}
			_, err := e.Load(t.Context())
			require.ErrorContains(t, err, "publish/controller: decode flow")
			require.Error(t, e.Edit(t.Context(), func(*controller.Flow) error { return nil }))
			server := httptest.NewServer(controller.Handler(e))
			defer server.Close()
			resp, err := http.Get(server.URL + "/api/v1/releasestreams/all")
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
		})
	}
}

func FuzzFlow(f *testing.F) {
	f.Add([]byte(`{"releases":[{"name":"a","phase":"Ready","created":"2026-11-26T00:00:00Z","jobs":{"aws":{"state":"Failed"}}},{"name":"b","phase":"Pending"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) || strings.Contains(string(data), "\x00") {
			return
		}
		store := memstore.New()
		put(t, store, "flow.json", string(data))
		e := &controller.Engine{Store: store, Key: "flow.json", Config: config()}
		var flow *controller.Flow
		var err error
		fuzzbound.Linear(t, len(data), 512, func() { flow, err = e.Load(t.Context()) })
		if err != nil {
			return
		}
		actions, err := flow.Plan(config(), map[string]string{"cli": "sha256:1"}, start)
		require.NoError(t, err)
		for _, a := range actions {
			if a.Kind == controller.ActMove {
				require.NoError(t, flow.Move(a.Release, a.Phase, a.Reason, a.Message))
			}
		}
	})
}
