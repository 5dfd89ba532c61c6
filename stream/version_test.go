package stream_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/blang/semver/v4"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/stream"
	"github.com/stretchr/testify/require"
)

func utc(y int, mo time.Month, d, h, mi, s int) time.Time {
	return time.Date(y, mo, d, h, mi, s, 0, time.UTC)
}

// examples are versions as published, and what they mean.
var examples = []stream.Version{
	{Scheme: stream.SchemeSCOSBuild, Major: 4, Minor: 13, EL: 9, Time: utc(2023, 3, 5, 6, 12, 0)},
	{Scheme: stream.SchemeSCOSBuild, Major: 4, Minor: 8, EL: 84, Time: utc(2021, 4, 26, 16, 24, 0)},
	{Scheme: stream.SchemeSCOSBuild, Major: 4, Minor: 10, EL: 84, Time: utc(2021, 11, 11, 13, 22, 0), N: 2},
	{Scheme: stream.SchemeSCOSBase, Major: 9, Minor: 0, Time: utc(2025, 2, 22, 0, 0, 0)},
	{Scheme: stream.SchemeSCOSBase, Major: 9, Minor: 0, Time: utc(2026, 9, 26, 0, 0, 0), Dev: true},
	{Scheme: stream.SchemeSCOSBase, Major: 10, Minor: 2, Time: utc(2026, 4, 23, 0, 0, 0)},
	{Scheme: stream.SchemeFCOS, Major: 31, Patch: 20, Time: utc(2020, 3, 9, 0, 0, 0), N: 1},
	{Scheme: stream.SchemeFCOS, Major: 44, Patch: 3, Time: utc(2026, 8, 19, 0, 0, 0), Dev: true},
	{Scheme: stream.SchemeFCOS, Major: 44, Patch: -1, Time: utc(2026, 8, 19, 0, 0, 0), Dev: true, N: 7},
	{Scheme: stream.SchemeSample, Time: utc(2026, 11, 25, 0, 0, 0)},
	{Scheme: stream.SchemeSample, Time: utc(2026, 11, 25, 0, 0, 0), N: 1},
	{Scheme: stream.SchemeOKD, Major: 4, Minor: 12, Time: utc(2023, 4, 16, 4, 13, 31)},
	{Scheme: stream.SchemeSCOSCI, Major: 4, Minor: 14, Time: utc(2023, 12, 21, 7, 32, 12)},
	{Scheme: stream.SchemeSCOSNightly, Major: 4, Minor: 22, Time: utc(2026, 6, 10, 1, 53, 0)},
	{Scheme: stream.SchemeSCOSCandidate, Major: 4, Minor: 17, N: 4},
	{Scheme: stream.SchemeSCOSCandidate, Major: 4, Minor: 17, Patch: 3, N: 10},
	{Scheme: stream.SchemeSCOS, Major: 4, Minor: 20, N: 10},
	{Scheme: stream.SchemeSCOS, Major: 4, Minor: 20, Patch: 2, N: 0},
}

var exampleTexts = []string{
	"413.9.202303050612-0",
	"48.84.202104261624-0",
	"410.84.202111111322-2",
	"9.0.20250222-0",
	"9.0.20260926-dev0",
	"10.2.20260423-0",
	"31.20200309.20.1",
	"44.20260819.3.dev0",
	"44.20260819.dev.7",
	"0.0.0-sample.20261125",
	"0.0.0-sample.20261125.1",
	"4.12.0-0.okd-2023-04-16-041331",
	"4.14.0-0.okd-scos-2023-12-21-073212",
	"4.22.0-0.okd-scos-nightly-2026-06-10-015300",
	"4.17.0-okd-scos.ec.4",
	"4.17.3-okd-scos.ec.10",
	"4.20.0-okd-scos.10",
	"4.20.2-okd-scos.0",
}

func TestParseVersion(t *testing.T) {
	for i, text := range exampleTexts {
		t.Run(text, func(t *testing.T) {
			got, err := stream.ParseVersion(text)
			require.NoError(t, err)
			require.Equal(t, examples[i], got)
			require.Equal(t, text, got.String())
			for _, s := range stream.Schemes() {
				again, err := s.Parse(text)
				if s == got.Scheme {
					require.NoError(t, err)
					require.Equal(t, got, again)
				} else {
					require.Error(t, err, "two schemes read it: %s", s)
				}
			}
			data, err := json.Marshal(got)
			require.NoError(t, err)
			require.JSONEq(t, `"`+text+`"`, string(data))
			var back stream.Version
			require.NoError(t, json.Unmarshal(data, &back))
			require.Equal(t, got, back)
			require.True(t, got == back, "comparable")
		})
	}
}

func TestParseVersionErrors(t *testing.T) {
	for _, text := range []string{
		"", "4", "4.20", "4.20.0", "v4.20.0-okd-scos.1", "4.20.0-okd-scos", "4.20.0-okd-scos.", "4.20.0-okd-scos.01",
		"4.20.0-okd-scos.-1", "4.20.0-okd-scos.ec", "4.20.0-okd-scos.rc.1", "4.20-okd-scos.1", "04.20.0-okd-scos.1",
		"4.20.0-okd-scos.1 ", " 4.20.0-okd-scos.1", "4.20.0-okd-scos.1+x", "4.20.0-okd-scos.10000000000",
		"4.13.0-0.okd-scos-2023-02-30-041331", "4.13.0-0.okd-scos-2023-02-28", "4.13.0-0.okd-scos-2023-02-28-241331",
		"4.13.0-0.okd-scos-2023-2-28-041331", "4.13.0-0.okd-scos-nightly", "4.0.0-0.okd-0",
		"413.9.20230305-0", "413.9.202303050612", "413.9.202313050612-0", "4.9.202303050612-0", "013.9.202303050612-0",
		"9.0.2025022-0", "9.0.20250222-rc0", "9.0.20250222-dev", "9.20250222-0", "39.20240112.3", "39.20240112.3.0.1",
		"39.20240112.dev.dev0", "0.0.0-sample.2026", "0.0.0-sample.20261125.0", "0.0.0-sample.20261125.1.2", "4.x.0-okd-scos.1",
		"4.20.0-okd-scos.\u0661",
	} {
		_, err := stream.ParseVersion(text)
		require.ErrorIs(t, err, errors.ErrUnsupported, "%q", text)
	}
	_, err := stream.SchemeSCOS.Parse("4.20.0-okd-scos.ec.1")
	require.EqualError(t, err, `stream: version "4.20.0-okd-scos.ec.1" is not of scheme okd-scos (as 4.21.0-okd-scos.1)`)
	_, err = stream.Scheme("okd").Parse("")
	require.Error(t, err)
	_, err = stream.Scheme("own").Parse("1")
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func TestFormatErrors(t *testing.T) {
	for name, v := range map[string]stream.Version{
		"negative":          {Scheme: stream.SchemeSCOS, Major: 4, N: -1},
		"time in a count":   {Scheme: stream.SchemeSCOS, Major: 4, Time: utc(2026, 1, 1, 0, 0, 0)},
		"no time":           {Scheme: stream.SchemeOKD, Major: 4},
		"dev release":       {Scheme: stream.SchemeSCOS, Major: 4, Dev: true},
		"EL in a base":      {Scheme: stream.SchemeSCOSBase, Major: 9, EL: 9, Time: utc(2026, 1, 1, 0, 0, 0)},
		"two-digit major":   {Scheme: stream.SchemeSCOSBuild, Major: 41, Minor: 3, EL: 9, Time: utc(2026, 1, 1, 0, 0, 0)},
		"minor of FCOS":     {Scheme: stream.SchemeFCOS, Major: 44, Minor: 1, Time: utc(2026, 1, 1, 0, 0, 0)},
		"too large":         {Scheme: stream.SchemeSCOS, Major: 4, N: 1_000_000_000},
		"count of a minute": {Scheme: stream.SchemeOKD, Major: 4, N: 1, Time: utc(2026, 1, 1, 0, 0, 0)},
		"unknown scheme":    {Scheme: "own", Major: 4},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.Scheme.Format(v)
			require.Error(t, err)
			_, err = v.MarshalText()
			require.Error(t, err)
		})
	}
	text, err := stream.SchemeSCOS.Format(stream.Version{Scheme: stream.SchemeSCOSCandidate, Major: 4, Minor: 21, N: 3})
	require.NoError(t, err, "an early candidate's numbers in another scheme")
	require.Equal(t, "4.21.0-okd-scos.3", text)
}

// TestOrder lists versions as OKD means them; plain semver order differs.
func TestOrder(t *testing.T) {
	ascending := []string{
		"48.84.202104261624-0", "410.84.202111111322-0", "413.9.202303050612-0", "413.9.202303050612-1", "413.92.202303010000-0",
		"9.0.20250222-dev3", "9.0.20250222-0", "9.0.20250222-1", "9.0.20250223-dev0", "9.0.20250223-0", "10.0.20240101-0",
		"39.20240112.2.0", "39.20240112.3.dev1", "39.20240112.3.0", "39.20240112.3.10", "39.20240113.1.0", "40.20230101.3.0",
		"0.0.0-sample.20261125", "0.0.0-sample.20261125.2", "0.0.0-sample.20261125.10", "0.0.0-sample.20261126",
		"4.12.0-0.okd-2023-04-16-041331", "4.12.0-0.okd-scos-2023-04-17-000000", "4.12.0-0.okd-2023-04-18-000000",
		"4.17.0-0.okd-scos-nightly-2024-10-01-000000", "4.17.0-0.okd-scos-2024-11-01-000000",
		"4.17.0-okd-scos.ec.4", "4.17.0-okd-scos.ec.10", "4.17.0-okd-scos.0", "4.17.0-okd-scos.1", "4.17.0-okd-scos.10",
		"4.17.1-0.okd-scos-nightly-2024-01-01-000000", "4.17.1-okd-scos.ec.0", "4.17.1-okd-scos.0",
		"4.18.0-0.okd-2023-01-01-000000", "4.20.0-okd-scos.0",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			x, err := stream.ParseVersion(a)
			require.NoError(t, err)
			y, err := stream.ParseVersion(b)
			require.NoError(t, err)
			want := 0
			switch {
			case i < j:
				want = -1
			case i > j:
				want = 1
			}
			require.Equal(t, want, x.Compare(y), "%s and %s", a, b)
		}
	}
}

// TestOrderTrap is what okd-project/okd#2082 showed: by semver the early
// candidate is the highest release before 4.17.0-okd-scos.1, so it was taken
// for the previous patch, and clusters on okd-scos.0 got no edge.
func TestOrderTrap(t *testing.T) {
	released := []string{"4.16.0-okd-scos.1", "4.17.0-okd-scos.ec.1", "4.17.0-okd-scos.ec.4", "4.17.0-okd-scos.0"}
	bySemver := slices.MaxFunc(released, func(a, b string) int {
		n, err := stream.CompareSemver(a, b)
		require.NoError(t, err)
		return n
	})
	require.Equal(t, "4.17.0-okd-scos.ec.4", bySemver)
	byOKD := slices.MaxFunc(released, func(a, b string) int {
		x, err := stream.ParseVersion(a)
		require.NoError(t, err)
		y, err := stream.ParseVersion(b)
		require.NoError(t, err)
		return x.Compare(y)
	})
	require.Equal(t, "4.17.0-okd-scos.0", byOKD)
}

func TestCompareSemver(t *testing.T) {
	// As measured with the release controller's own semver package.
	descending := []string{
		"4.20.0", "4.20.0-okd-scos.ec.10", "4.20.0-okd-scos.ec.4", "4.20.0-okd-scos.10", "4.20.0-okd-scos.1",
		"4.20.0-0.okd-scos-nightly-2026-06-10-015300", "4.20.0-0.okd-scos-2026-06-10-015300", "4.20.0-0.okd-2026-06-10-015300",
		"4.19.9",
	}
	for i, a := range descending {
		for j, b := range descending {
			got, err := stream.CompareSemver(a, b)
			require.NoError(t, err)
			x, y := semver.MustParse(a), semver.MustParse(b)
			require.Equal(t, x.Compare(y), got)
			require.Equal(t, i < j, got > 0, "%s and %s", a, b)
		}
	}
	for _, bad := range []string{"", "4.20", "39.20240112.3.0", "04.1.0"} {
		_, err := stream.CompareSemver(bad, "4.20.0")
		require.ErrorContains(t, err, "semantic version")
		_, err = stream.CompareSemver("4.20.0", bad)
		require.ErrorContains(t, err, "semantic version")
	}
}

// randomVersion makes versions that often share numbers.
func randomVersion(r *rand.Rand) stream.Version {
	s := stream.Schemes()[r.IntN(len(stream.Schemes()))]
	v := stream.Version{Scheme: s, Major: 4 + r.IntN(2), Minor: r.IntN(3), Patch: r.IntN(3), N: r.IntN(3)}
	stamp := utc(2026, time.Month(1+r.IntN(2)), 1+r.IntN(2), r.IntN(2), r.IntN(2), r.IntN(2))
	switch s {
	case stream.SchemeSCOSBuild:
		v.EL, v.Patch, v.Time, v.Dev = 9+r.IntN(2), 0, stamp.Truncate(time.Minute), r.IntN(2) == 0
	case stream.SchemeSCOSBase:
		v.Patch, v.Time, v.Dev = 0, stamp.Truncate(24*time.Hour), r.IntN(2) == 0
	case stream.SchemeFCOS:
		v.Minor, v.Time, v.Dev = 0, stamp.Truncate(24*time.Hour), r.IntN(2) == 0
		if v.Dev && r.IntN(2) == 0 {
			v.Patch = -1
		}
	case stream.SchemeSample:
		v.Time = stamp.Truncate(24 * time.Hour)
	case stream.SchemeOKD, stream.SchemeSCOSCI, stream.SchemeSCOSNightly:
		v.Time, v.N = stamp, 0
	}
	return v
}

func TestVersionProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 4_000 {
		a, b, c := randomVersion(r), randomVersion(r), randomVersion(r)
		back, err := stream.ParseVersion(a.String())
		require.NoError(t, err)
		require.Equal(t, a, back)
		text, err := a.Scheme.Format(a)
		require.NoError(t, err)
		require.Equal(t, a.String(), text)

		require.Equal(t, a.Compare(b), -b.Compare(a), "%s, %s", a, b)
		require.Equal(t, a.Compare(b) == 0, a.String() == b.String(), "%s, %s", a, b)
		require.Equal(t, a == b, a.String() == b.String())
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 {
			require.LessOrEqual(t, a.Compare(c), 0, "%s, %s, %s", a, b, c)
		}
	}
}

func parseAll(t *testing.T, texts ...string) []stream.Version {
	t.Helper()
	out := make([]stream.Version, len(texts))
	for i, text := range texts {
		v, err := stream.ParseVersion(text)
		require.NoError(t, err)
		out[i] = v
	}
	return out
}

func TestNext(t *testing.T) {
	now := time.Date(2026, 6, 10, 3, 53, 7, 999, time.FixedZone("", 2*3600)) // 01:53:07 UTC
	for _, tt := range []struct {
		name     string
		scheme   stream.Scheme
		existing []string
		want     string // "": an error
	}{
		{"count on", stream.SchemeSCOS, []string{"4.21.0-okd-scos.0", "4.21.0-okd-scos.1"}, "4.21.0-okd-scos.2"},
		{"count on from ten, in any order", stream.SchemeSCOS, []string{"4.21.0-okd-scos.9", "4.21.0-okd-scos.10", "4.21.0-okd-scos.2"}, "4.21.0-okd-scos.11"},
		{"a gap is not filled", stream.SchemeSCOS, []string{"4.21.0-okd-scos.5"}, "4.21.0-okd-scos.6"},
		{"candidates do not count", stream.SchemeSCOS, []string{"4.21.0-okd-scos.3", "4.21.0-okd-scos.ec.9"}, "4.21.0-okd-scos.4"},
		{"new minor picked", stream.SchemeSCOS, []string{"4.21.0-okd-scos.3", "4.22.0-0.okd-scos-nightly-2026-06-10-015300"}, "4.22.0-okd-scos.0"},
		{"new patch picked", stream.SchemeSCOS, []string{"4.21.0-okd-scos.3", "4.21.1-0.okd-scos-nightly-2026-06-10-015300"}, "4.21.1-okd-scos.0"},
		{"patch above zero", stream.SchemeSCOS, []string{"4.21.0-okd-scos.3", "4.21.2-okd-scos.0"}, "4.21.2-okd-scos.1"},
		{"candidate", stream.SchemeSCOSCandidate, []string{"4.22.0-okd-scos.ec.3", "4.21.0-okd-scos.9"}, "4.22.0-okd-scos.ec.4"},
		{"nothing to follow", stream.SchemeSCOS, nil, ""},
		{"only an OS build", stream.SchemeSCOS, []string{"9.0.20250222-0"}, ""},
		{"no number left", stream.SchemeSCOS, []string{"4.21.0-okd-scos.999999999"}, ""},
		{"nightly", stream.SchemeSCOSNightly, []string{"4.22.0-0.okd-scos-nightly-2026-06-09-000000"}, "4.22.0-0.okd-scos-nightly-2026-06-10-015307"},
		{"nightly of this second", stream.SchemeSCOSNightly, []string{"4.22.0-0.okd-scos-nightly-2026-06-10-015307"}, "4.22.0-0.okd-scos-nightly-2026-06-10-015308"},
		{"clock went back", stream.SchemeSCOSCI, []string{"4.22.0-0.okd-scos-2026-12-31-235959"}, "4.22.0-0.okd-scos-2027-01-01-000000"},
		{"OKD", stream.SchemeOKD, []string{"4.12.0-0.okd-2023-04-16-041331"}, "4.12.0-0.okd-2026-06-10-015307"},
		{"OS build, other minute", stream.SchemeSCOSBuild, []string{"413.9.202303050612-3", "412.9.202606100153-0"}, "413.9.202606100153-0"},
		{"OS build, same minute", stream.SchemeSCOSBuild, []string{"413.9.202606100153-0"}, "413.9.202606100153-1"},
		{"base", stream.SchemeSCOSBase, []string{"9.0.20260610-0", "9.0.20260610-dev5"}, "9.0.20260610-1"},
		{"FCOS, other day", stream.SchemeFCOS, []string{"44.20260609.3.4"}, "44.20260610.3.0"},
		{"FCOS, same day", stream.SchemeFCOS, []string{"44.20260610.3.0"}, "44.20260610.3.1"},
		{"FCOS, clock went back", stream.SchemeFCOS, []string{"44.20260611.3.0"}, "44.20260611.3.1"},
		{"sample", stream.SchemeSample, nil, "0.0.0-sample.20260610"},
		{"second sample", stream.SchemeSample, []string{"0.0.0-sample.20260610"}, "0.0.0-sample.20260610.1"},
		{"sample beside releases", stream.SchemeSample, []string{"4.21.0-okd-scos.3"}, "0.0.0-sample.20260610"},
		{"unknown scheme", "own", []string{"4.21.0-okd-scos.3"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.scheme.Next(parseAll(t, tt.existing...), now)
			if tt.want == "" {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got.String())
		})
	}
}

func TestNextFor(t *testing.T) {
	now := utc(2026, 6, 10, 1, 53, 0)
	existing := parseAll(t, "4.21.0-okd-scos.3", "4.22.0-okd-scos.0")
	v, err := stream.SchemeSCOS.NextFor(stream.Version{Major: 4, Minor: 21}, existing, now)
	require.NoError(t, err)
	require.Equal(t, "4.21.0-okd-scos.4", v.String(), "an older minor goes on")
	v, err = stream.SchemeSCOSBase.NextFor(stream.Version{Major: 9, Dev: true}, parseAll(t, "9.0.20260610-0"), now)
	require.NoError(t, err)
	require.Equal(t, "9.0.20260610-dev0", v.String())
	_, err = stream.SchemeSCOS.NextFor(stream.Version{Major: -4}, nil, now)
	require.Error(t, err)
}

// TestNextNeverReuses follows each scheme under clocks that stand, jump and go
// back.
func TestNextNeverReuses(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, s := range stream.Schemes() {
		base := examples[slices.IndexFunc(examples, func(v stream.Version) bool { return v.Scheme == s })]
		existing := []stream.Version{base}
		now := base.Time.Add(24 * time.Hour)
		if now.Year() < 2000 {
			now = utc(2026, 1, 1, 0, 0, 0)
		}
		for range 60 {
			now = now.Add(time.Duration(r.IntN(5)-2) * time.Hour * time.Duration(r.IntN(20)))
			r.Shuffle(len(existing), func(i, j int) { existing[i], existing[j] = existing[j], existing[i] })
			v, err := s.NextFor(base, existing, now)
			require.NoError(t, err)
			for _, o := range existing {
				require.Positive(t, v.Compare(o), "%s after %s", v, o)
			}
			back, err := s.Parse(v.String())
			require.NoError(t, err)
			require.Equal(t, v, back)
			existing = append(existing, v)
		}
	}
}

func TestParseMinor(t *testing.T) {
	for text, want := range map[string]string{
		"4.20": "4.20", "4.20.3": "4.20", "4.20.0-okd-scos.ec.1": "4.20", "413.9.202303050612-0": "4.13", "0.0": "0.0",
		"0.0.0-sample.20261125": "0.0",
	} {
		m, err := stream.ParseMinor(text)
		require.NoError(t, err, text)
		require.Equal(t, want, m.String())
	}
	for _, text := range []string{"", "4", "4.", "4.020", "04.20", "4.20.", "4.20.x", "4.20.0.0", "9.0.20250222-0", "39.20240112.3.0", "v4.20", "4.-1"} {
		_, err := stream.ParseMinor(text)
		require.Error(t, err, text)
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, text := range exampleTexts {
		f.Add(text)
	}
	f.Add("4.20.0-okd-scos.999999999")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := fuzzbound.Parse(t, 64, stream.ParseVersion, text)
		if err != nil {
			return
		}
		if v.String() != text {
			t.Fatalf("%q reads as %q", text, v)
		}
		if got, err := v.Scheme.Format(v); err != nil || got != text {
			t.Fatalf("format of %q: %q, %v", text, got, err)
		}
		if v.Scheme != stream.SchemeFCOS {
			if n, err := stream.CompareSemver(text, text); err != nil || n != 0 {
				t.Fatalf("%q is no semantic version: %v", text, err)
			}
		}
	})
}
