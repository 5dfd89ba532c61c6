package gate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/stream"
)

var (
	now     = time.Date(2026, 6, 10, 12, 0, 0, 0, time.UTC)
	subject = gate.Subject{Release: "4.22.0-0.okd-scos-2026-06-10-015300", Digest: digest("1")}
)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// result is one of the subject, recorded an hour ago.
func result(name string, state gate.State, change ...func(*gate.Result)) gate.Result {
	r := gate.Result{Gate: name, Subject: subject, State: state, Reason: "because", At: now.Add(-time.Hour)}
	for _, c := range change {
		c(&r)
	}
	return r
}

func by(name string, until time.Time) func(*gate.Result) {
	return func(r *gate.Result) { r.By, r.Expires = name, until }
}

func TestEvaluate(t *testing.T) {
	blocking := []stream.Gate{{Name: "install", Kind: stream.GateInstall}}
	for name, tc := range map[string]struct {
		results []gate.Result
		opts    *gate.Options
		want    gate.State // of the gate
		verdict gate.State
		reason  string
		notes   string
	}{
		"no result":           {want: gate.Pending, verdict: gate.Pending, reason: "no result"},
		"passed":              {results: []gate.Result{result("install", gate.Passed)}, want: gate.Passed, verdict: gate.Passed, reason: "because"},
		"failed":              {results: []gate.Result{result("install", gate.Failed)}, want: gate.Failed, verdict: gate.Failed, reason: "because"},
		"pending again":       {results: []gate.Result{result("install", gate.Passed), result("install", gate.Pending)}, want: gate.Pending, verdict: gate.Pending, reason: "because"},
		"failed, then not":    {results: []gate.Result{result("install", gate.Failed), result("install", gate.Passed)}, want: gate.Passed, verdict: gate.Passed, reason: "because"},
		"another digest":      {results: []gate.Result{result("install", gate.Passed, func(r *gate.Result) { r.Subject.Digest = digest("2") })}, want: gate.Pending, verdict: gate.Pending, reason: "no result", notes: "other images"},
		"another name":        {results: []gate.Result{result("install", gate.Passed, func(r *gate.Result) { r.Subject.Release = "4.22.0-okd-scos.0" })}, want: gate.Passed, verdict: gate.Passed, notes: "called 4.22.0-okd-scos.0"},
		"unknown gate":        {results: []gate.Result{result("instal", gate.Passed)}, want: gate.Pending, verdict: gate.Pending, notes: "gate instal is not in the definition"},
		"from the future":     {results: []gate.Result{result("install", gate.Passed, func(r *gate.Result) { r.At = now.Add(time.Hour) })}, want: gate.Pending, verdict: gate.Pending, reason: "future"},
		"a clock ahead":       {results: []gate.Result{result("install", gate.Passed, func(r *gate.Result) { r.At = now.Add(time.Minute) })}, want: gate.Passed, verdict: gate.Passed},
		"stale":               {results: []gate.Result{result("install", gate.Passed)}, opts: &gate.Options{MaxAge: time.Minute}, want: gate.Pending, verdict: gate.Pending, reason: "too old"},
		"waived":              {results: []gate.Result{result("install", gate.Failed), result("install", gate.Waived, by("A. Person", now.Add(time.Hour)))}, want: gate.Waived, verdict: gate.Passed, reason: "A. Person: because"},
		"passed by hand":      {results: []gate.Result{result("install", gate.Passed, by("A. Person", now.Add(time.Hour)))}, want: gate.Passed, verdict: gate.Passed},
		"the waiver is over":  {results: []gate.Result{result("install", gate.Waived, by("A. Person", now.Add(-time.Minute)))}, want: gate.Pending, verdict: gate.Pending, reason: "ended 2026-06-10T11:59:00Z"},
		"the end itself":      {results: []gate.Result{result("install", gate.Waived, by("A. Person", now))}, want: gate.Pending, verdict: gate.Pending, reason: "ended"},
		"not a state":         {results: []gate.Result{result("install", "green")}, want: gate.Pending, verdict: gate.Pending, reason: "no result", notes: "does not count"},
		"waived by nobody":    {results: []gate.Result{result("install", gate.Waived)}, want: gate.Pending, verdict: gate.Pending, notes: "waived by nobody"},
		"a state in capitals": {results: []gate.Result{result("install", "Passed")}, want: gate.Pending, verdict: gate.Pending, notes: "does not count"},
	} {
		t.Run(name, func(t *testing.T) {
			v := gate.Evaluate(blocking, subject, tc.results, now, tc.opts)
			require.Equal(t, tc.verdict, v.State, v.Notes)
			require.Equal(t, tc.want, v.Gates[0].State)
			require.Contains(t, v.Gates[0].Reason, tc.reason)
			if tc.notes == "" {
				require.Empty(t, v.Notes)
			}
			require.Contains(t, strings.Join(v.Notes, "\n"), tc.notes)

			// The plan's words.
			got, err := v.Gate(t.Context(), "install")
			require.NoError(t, err)
			require.Equal(t, map[gate.State]publish.GateResult{
				gate.Passed: publish.GatePassed, gate.Waived: publish.GatePassed, gate.Failed: publish.GateFailed, gate.Pending: publish.GatePending,
			}[tc.want], got)
			require.Equal(t, tc.verdict == gate.Passed, v.Err() == nil)
			require.Equal(t, tc.verdict == gate.Failed, errors.Is(v.Err(), publish.ErrGate))
			require.Equal(t, tc.verdict == gate.Pending, errors.Is(v.Err(), publish.ErrPending))
		})
	}
}

// TestInformingGatesDoNotBlock walks all states of one of each: what informs is
// shown and never counts.
func TestInformingGatesDoNotBlock(t *testing.T) {
	gates := []stream.Gate{{Name: "a", Kind: stream.GateKola}, {Name: "b", Kind: stream.GateExternal, Mode: stream.Informing}}
	states := []gate.State{gate.Pending, gate.Passed, gate.Failed, gate.Waived}
	for _, a := range states {
		for _, b := range states {
			t.Run(fmt.Sprintf("%s and %s", a, b), func(t *testing.T) {
				person := by("A. Person", now.Add(time.Hour))
				v := gate.Evaluate(gates, subject, []gate.Result{result("a", a, person), result("b", b, person)}, now, nil)
				want := a
				if a == gate.Waived {
					want = gate.Passed
				}
				require.Equal(t, want, v.State)
				require.Equal(t, b, v.Gates[1].State)
				require.False(t, v.Gates[1].Blocking)
				got, err := v.Gate(t.Context(), "b")
				require.NoError(t, err)
				require.Equal(t, publish.GatePassed, got)
			})
		}
	}
}

func TestUnknownGatesAreNeverGreen(t *testing.T) {
	v := gate.Evaluate(nil, subject, []gate.Result{result("a", gate.Passed)}, now, nil)
	require.Equal(t, []string{"gate a is not in the definition", "no gate blocks"}, v.Notes)
	got, err := v.Gate(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, publish.GatePending, got)
}

func TestVerdictAsJUnit(t *testing.T) {
	v := gate.Evaluate([]stream.Gate{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d", Mode: stream.Informing}}, subject, []gate.Result{
		result("a", gate.Passed), result("b", gate.Failed), result("d", gate.Failed),
	}, now, nil)
	var got []string
	for _, c := range v.JUnit().Cases {
		require.Equal(t, "gates of "+subject.Release, c.Suite)
		got = append(got, fmt.Sprintf("%s %q %t", c.Name, c.Failure, c.Skipped))
	}
	require.Equal(t, []string{`a "" false`, `b "failed: because" false`, `c "pending: no result" false`, `d "" true`}, got)
}
