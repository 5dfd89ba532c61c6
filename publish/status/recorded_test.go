package status_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/status"
	"github.com/okd-project/okd-streams/stream"
)

// recorded records NAME=STATE of a release, so many hours ago.
func recorded(t testing.TB, book gate.Book, release, digest string, hoursAgo int, results ...string) {
	for _, text := range results {
		name, state, _ := strings.Cut(text, "=")
		r := gate.Result{
			Gate: name, Subject: gate.Subject{Release: release, Digest: "sha256:" + strings.Repeat(digest, 64)}, State: gate.State(state),
			Reason: "so", At: now.Add(-time.Duration(hoursAgo) * time.Hour), Evidence: []gate.Evidence{{URL: "output"}, {URL: "https://example.com/" + name}},
		}
		if r.State == gate.Waived {
			r.By, r.Expires = "A. Person", now.Add(time.Hour)
		}
		require.NoError(t, book.Record(context.Background(), r))
	}
}

// TestRecordedResults: with a book alone the same is known as with a release
// controller, what broke included.
func TestRecordedResults(t *testing.T) {
	book := gate.Book{Store: memstore.New()}
	const day1, day2, day3 = "4.22.0-0.okd-scos-2026-11-23-120000", "4.22.0-0.okd-scos-2026-11-24-120000", "4.22.0-0.okd-scos-2026-11-26-100000"
	recorded(t, book, day1, "1", 70, "aws=passed", "look=passed")
	recorded(t, book, day2, "2", 46, "aws=failed", "look=failed", "aws=failed")
	recorded(t, book, day3, "3", 1, "aws=pending", "look=waived", "unknown=passed")
	recorded(t, book, "4.22.0-0.okd-scos-2026-01-01-120000", "4", 46, "aws=failed") // long ago
	recorded(t, book, "4.21.0-okd-scos.1", "5", 46, "aws=failed")                   // of another stream
	_, err := book.Store.Put(t.Context(), "gates/"+strings.Repeat("6", 64)+".json", publish.BytesSource([]byte("x")), nil)
	require.NoError(t, err)

	h := status.History{Stream: "4.22.0-0.okd-scos"}
	require.NoError(t, h.AddRecorded(t.Context(), book, now, &status.RecordedOptions{
		Gates:   []stream.Gate{{Name: "aws"}, {Name: "look", Mode: stream.Informing}},
		Belongs: func(release string) bool { return strings.HasPrefix(release, "4.22.0-0.okd-scos-") },
	}))
	require.Len(t, h.Faults, 1)
	r := status.New([]status.History{h}, now, nil).Streams[0]
	var got []string
	for _, d := range r.Days {
		for _, b := range d.Builds {
			got = append(got, fmt.Sprintf("%s %s %v", b.Version, b.Phase, b.Gates))
		}
	}
	require.Equal(t, []string{
		day3 + " Ready map[aws:Pending look:Waived unknown:Succeeded]",
		day2 + " Rejected map[aws:Failed look:Failed]",
		day1 + " Accepted map[aws:Succeeded look:Succeeded]",
	}, got)
	aws, look := r.Gates[0], r.Gates[1]
	require.Equal(t, controller.JobFailed, aws.State)
	require.Equal(t, "https://example.com/aws", aws.URL)
	require.Equal(t, day1, aws.Broken.LastGreen)
	require.Equal(t, day2, aws.Broken.FirstRed)
	require.Equal(t, status.Waived, look.State, "a person answers for it")
	require.Nil(t, look.Broken)
	require.Contains(t, r.Reasons, status.Reason{Level: status.Warning, Text: "gate look is waived"})
}

// TestRecordedBesideAController: builds that the controller knows keep their
// phase, and the later result of a gate counts.
func TestRecordedBesideAController(t *testing.T) {
	for name, tc := range map[string]struct {
		pullSpec  string
		ended     time.Duration
		had       controller.State
		have      string
		want      controller.State
		wantGates int
	}{
		"recorded later":   {"", -2 * time.Hour, controller.JobFailed, "aws=passed", controller.JobSucceeded, 1},
		"recorded earlier": {"", 0, controller.JobFailed, "aws=passed", controller.JobFailed, 1},
		"pending there":    {"", 0, controller.JobPending, "aws=passed", controller.JobSucceeded, 1},
		"another gate":     {"", 0, controller.JobFailed, "smoke=passed", controller.JobFailed, 2},
		"another image":    {"example.com/r@sha256:" + strings.Repeat("2", 64), -2 * time.Hour, controller.JobFailed, "aws=passed", controller.JobFailed, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := build("4.22.0-0.okd-scos-2026-11-26-100000", 2, controller.Ready, "aws=f")
			b.PullSpec, b.Gates[0].Ended, b.Gates[0].State = tc.pullSpec, now.Add(tc.ended), tc.had
			h := status.History{Stream: "s", Builds: []status.Build{b}}
			book := gate.Book{Store: memstore.New()}
			recorded(t, book, b.Version, "1", 1, tc.have)
			recorded(t, book, "4.22.0-okd-scos.1", "3", 1, tc.have)
			require.NoError(t, h.AddRecorded(t.Context(), book, now, nil))
			require.Len(t, h.Builds, 1)
			require.Equal(t, controller.Ready, h.Builds[0].Phase)
			require.Len(t, h.Builds[0].Gates, tc.wantGates)
			require.Equal(t, tc.want, h.Builds[0].Gates[0].State)
			require.True(t, h.Builds[0].Gates[0].Blocking)
		})
	}
}

func ExampleHistory_AddRecorded() {
	ctx := context.Background()
	book := gate.Book{Store: memstore.New()}
	err := book.Record(ctx, gate.Result{
		Gate: "install", Subject: gate.Subject{Release: "4.22.0-okd-scos.1", Digest: "sha256:" + strings.Repeat("1", 64)},
		State: gate.Failed, Reason: "node 3 is not ready", At: now.Add(-time.Hour),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	h := status.History{Stream: "scos"}
	if err := h.AddRecorded(ctx, book, now, &status.RecordedOptions{
		Gates: []stream.Gate{{Name: "install"}}, Belongs: func(string) bool { return true },
	}); err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range status.New([]status.History{h}, now, nil).Streams[0].Reasons {
		fmt.Println(r.Text)
	}
	// Output:
	// there is no accepted build
	// gate install is red since 4.22.0-okd-scos.1
}
