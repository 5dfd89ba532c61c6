package stream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/stream"
)

func at(t testing.TB, text string) time.Time {
	t.Helper()
	out, err := time.Parse("2006-01-02 15:04", text)
	require.NoError(t, err)
	return out
}

func TestCronNext(t *testing.T) {
	for _, tc := range []struct{ cron, after, want string }{
		{"30 10 * * *", "2026-11-26 10:29", "2026-11-26 10:30"},
		{"30 10 * * *", "2026-11-26 10:30", "2026-11-27 10:30"},
		{"0 5 * * 1", "2026-11-26 00:00", "2026-11-30 05:00"},
		{"0 5 * * mon", "2026-11-30 05:00", "2026-12-07 05:00"},
		{"0 0 * * 7", "2026-11-26 00:00", "2026-11-29 00:00"},
		{"*/20 8-9 * * *", "2026-11-26 08:50", "2026-11-26 09:00"},
		{"0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"},
		{"0 0 31 * *", "2026-11-01 00:00", "2026-12-31 00:00"},
		{"0 0 13 * 5", "2026-11-01 00:00", "2026-11-06 00:00"}, // either
		{"0 0 */2 * 1", "2026-11-01 00:00", "2026-11-09 00:00"},
		{"59 23 31 12 *", "2026-12-31 23:59", "2027-12-31 23:59"},
		{"0 0 31 2 *", "2026-11-01 00:00", ""},
		{"", "2026-11-01 00:00", ""},
		{"61 0 * * *", "2026-11-01 00:00", ""},
	} {
		next, ok := stream.Cron(tc.cron).Next(at(t, tc.after))
		if tc.want == "" {
			require.False(t, ok, tc.cron)
			continue
		}
		require.True(t, ok, tc.cron)
		require.Equal(t, at(t, tc.want), next, tc.cron)
		require.Equal(t, time.UTC, next.Location())
	}
	// Times of other zones mean the same.
	next, ok := stream.Cron("30 10 * * *").Next(at(t, "2026-11-26 10:29").In(time.FixedZone("x", 5*3600)))
	require.True(t, ok)
	require.Equal(t, at(t, "2026-11-26 10:30"), next)
}

func TestDue(t *testing.T) {
	sprintly := stream.Cadence{Schedule: "0 5 * * 1", MinInterval: 21 * 24 * time.Hour}
	daily := stream.Cadence{Schedule: "30 10 * * *"}
	for _, tc := range []struct {
		name      string
		cadence   stream.Cadence
		last, now string
		due       bool
		at        string
	}{
		{"first", sprintly, "", "2026-11-26 12:00", true, "2026-11-26 12:00"},
		{"a week later", sprintly, "2026-11-02 05:00", "2026-11-09 05:00", false, "2026-11-23 05:00"},
		{"three weeks later", sprintly, "2026-11-02 05:00", "2026-11-23 05:00", true, "2026-11-23 05:00"},
		{"after a run that began late", sprintly, "2026-11-02 17:13", "2026-11-23 05:00", true, "2026-11-23 05:00"},
		{"after one by hand, on a Thursday", sprintly, "2026-11-05 12:00", "2026-11-23 05:00", false, "2026-11-30 05:00"},
		{"missed", sprintly, "2026-11-02 05:00", "2026-12-24 05:00", true, "2026-11-23 05:00"},
		{"today's", daily, "2026-11-25 10:30", "2026-11-26 10:30", true, "2026-11-26 10:30"},
		{"done today", daily, "2026-11-26 10:31", "2026-11-26 23:59", false, "2026-11-27 10:30"},
		{"by hand", stream.Cadence{MinInterval: time.Hour}, "2026-11-25 10:30", "2026-11-26 10:30", false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var last, want time.Time
			if tc.last != "" {
				last = at(t, tc.last)
			}
			if tc.at != "" {
				want = at(t, tc.at)
			}
			due, when := tc.cadence.Due(last, at(t, tc.now))
			require.Equal(t, tc.due, due)
			require.Equal(t, want, when)
		})
	}
}

func ExampleCadence_Due() {
	sprintly := stream.Cadence{Schedule: "0 5 * * 1", MinInterval: 21 * 24 * time.Hour}
	last := time.Date(2026, time.November, 2, 5, 12, 0, 0, time.UTC)
	due, at := sprintly.Due(last, time.Date(2026, time.November, 9, 5, 0, 0, 0, time.UTC))
	fmt.Println(due, at)
	// Output: false 2026-11-23 05:00:00 +0000 UTC
}

func ExampleCron_Next() {
	next, ok := stream.Cron("30 10 * * *").Next(time.Date(2026, time.November, 26, 11, 0, 0, 0, time.UTC))
	fmt.Println(next, ok)
	// Output: 2026-11-27 10:30:00 +0000 UTC true
}
