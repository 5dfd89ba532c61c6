package status_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/status"
)

var update = flag.Bool("update", false, "write golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func rpm(name, version string) payload.Package {
	return payload.Package{Name: name, Version: version, Release: "1.el9", Arch: "x86_64"}
}

// build made so many hours ago; gates are name=s, f or p, informing ones after "~".
func build(version string, hoursAgo int, phase controller.Phase, gates ...string) status.Build {
	b := status.Build{Version: version, Phase: phase, Created: now.Add(-time.Duration(hoursAgo) * time.Hour), PullSpec: "example.com/r:" + version}
	for _, g := range gates {
		name, state, _ := strings.Cut(g, "=")
		name, informing := strings.CutPrefix(name, "~")
		b.Gates = append(b.Gates, status.Gate{
			Name: name, Blocking: !informing, URL: "https://example.com/" + version + "/" + name,
			State: map[string]controller.State{"s": controller.JobSucceeded, "f": controller.JobFailed, "p": controller.JobPending}[state],
		})
	}
	return b
}

// red is a stream whose blocking gate broke by a package and a commit.
func red() status.History {
	green := build("4.22.0-0.okd-scos-2026-11-23-120000", 72, controller.Accepted, "aws=s", "~upgrade=f")
	green.Content = &status.Content{Name: green.Version, Packages: []payload.Package{rpm("kernel", "5.14"), rpm("cri-o", "1.34.0"), rpm("gone", "1"), rpm("same", "1")}, Commits: map[string]string{"cli": "aaaaaaaaaaaaaaaa", "etcd": "bbbb"}}
	first := build("4.22.0-0.okd-scos-2026-11-24-120000", 48, controller.Rejected, "aws=f", "~upgrade=s")
	first.Content = &status.Content{Name: first.Version, Packages: []payload.Package{rpm("kernel", "5.15"), rpm("cri-o", "1.34.0"), rpm("new", "2"), rpm("same", "1")}, Commits: map[string]string{"cli": "cccccccccccccccc", "etcd": "bbbb", "odf": "dddd"}}
	return status.History{
		Stream: "4.22.0-0.okd-scos", Title: "OKD/SCOS next",
		Builds: []status.Build{
			build("4.22.0-0.okd-scos-2026-11-26-100000", 2, controller.Ready, "aws=p", "~upgrade=s"),
			build("4.22.0-0.okd-scos-2026-11-25-120000", 24, controller.Rejected, "aws=f", "~upgrade=s"),
			first, green,
			build("4.22.0-0.okd-scos-2026-11-22-120000", 96, controller.Accepted, "aws=s", "~upgrade=s"),
		},
		Published:  []status.Published{{Version: "4.22.0-okd-scos.ec.1", At: now.Add(-400 * time.Hour)}, {Version: "4.22.0-okd-scos.ec.2", At: now.Add(-200 * time.Hour)}},
		BootImages: []status.BootImage{{Name: "x86_64 metal", Release: "9.0.20260101-0", Built: now.AddDate(0, -8, 0)}, {Name: "x86_64 qemu", Release: "9.0.20261101-0", Built: now.AddDate(0, 0, -20)}},
		Reference:  &status.Content{Name: "rhcos 4.22", Packages: []payload.Package{rpm("kernel", "5.16"), rpm("cri-o", "1.33.0"), rpm("same", "1"), rpm("ahead-only", "1")}},
		Gaps:       []graph.Gap{{Kind: graph.GapDeadEnd, Version: "4.21.0-okd-scos.3"}},
		Faults:     []string{"4.22.0-0.okd-scos-2026-11-21-120000: the payload is gone"},
	}
}

func green() status.History {
	return status.History{Stream: "4.21.0-0.okd-scos", Builds: []status.Build{build("4.21.0-0.okd-scos-2026-11-26-080000", 4, controller.Accepted, "aws=s")}}
}

func TestReport(t *testing.T) {
	r := status.New([]status.History{red(), green()}, now, nil)
	require.Equal(t, status.Failing, r.Level)
	s := r.Streams[0]
	require.Equal(t, status.Failing, s.Level)
	require.Equal(t, []status.Reason{
		{Level: status.Failing, Text: "the last accepted build, 4.22.0-0.okd-scos-2026-11-23-120000, is 72 hours old"},
		{Level: status.Failing, Text: "gate aws is red since 4.22.0-0.okd-scos-2026-11-24-120000; last green 4.22.0-0.okd-scos-2026-11-23-120000"},
		{Level: status.Warning, Text: "1 boot image is older than 90 days"},
		{Level: status.Warning, Text: "1 update is missing"},
		{Level: status.Warning, Text: "1 thing could not be found out"},
	}, s.Reasons)
	require.Equal(t, &status.Age{Version: "4.22.0-0.okd-scos-2026-11-26-100000", At: now.Add(-2 * time.Hour), Hours: 2, Level: status.OK}, s.Build)
	require.Equal(t, "4.22.0-okd-scos.ec.2", s.Published.Version)
	require.Len(t, s.Days, 5)
	require.Equal(t, "2026-11-26", s.Days[0].Date)

	aws := s.Gates[0]
	require.Equal(t, "aws", aws.Name)
	require.Equal(t, controller.JobFailed, aws.State, "pending is no news")
	require.Equal(t, 2, aws.Passed)
	require.Equal(t, 2, aws.Failed)
	require.True(t, aws.Broken.Known)
	require.Equal(t, map[string]payload.VersionChange{"kernel": {Old: "5.14-1.el9", New: "5.15-1.el9"}}, aws.Broken.Packages.Changed)
	require.Contains(t, aws.Broken.Packages.Added, "new")
	require.Contains(t, aws.Broken.Packages.Removed, "gone")
	require.Equal(t, []status.CommitChange{{Component: "cli", From: "aaaaaaaaaaaaaaaa", To: "cccccccccccccccc"}, {Component: "odf", To: "dddd"}}, aws.Broken.Commits)
	require.Nil(t, s.Gates[1].Broken, "an old failure is over")

	require.Equal(t, &status.Comparison{
		Version: "4.22.0-0.okd-scos-2026-11-24-120000", Reference: "rhcos 4.22", Same: 1,
		Ahead: []status.Beside{{Name: "cri-o", Version: "1.34.0-1.el9", Reference: "1.33.0-1.el9"}}, Behind: []status.Beside{{Name: "kernel", Version: "5.15-1.el9", Reference: "5.16-1.el9"}},
		Missing: []string{"ahead-only"}, Extra: []string{"new"},
	}, s.Against)
	require.Equal(t, status.OK, r.Streams[1].Level)
	require.Empty(t, r.Streams[1].Reasons)
}

// TestLimits has the ages at which a stream is no longer well.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		hours int
		opts  *status.Options
		want  status.Level
	}{
		{47, nil, status.OK}, {48, nil, status.Warning}, {71, nil, status.Warning}, {72, nil, status.Failing},
		{71, &status.Options{WarnAfter: 100 * time.Hour, FailAfter: 200 * time.Hour}, status.OK},
	} {
		h := status.History{Stream: "s", Builds: []status.Build{build("4.22.0-0.okd-scos-2026-11-20-120000", test.hours, controller.Accepted)}}
		require.Equal(t, test.want, status.New([]status.History{h}, now, test.opts).Level, "%d hours", test.hours)
	}
	for name, test := range map[string]struct {
		history status.History
		level   status.Level
		reason  string
	}{
		"nothing":           {status.History{}, status.Failing, "there is no build"},
		"nothing accepted":  {status.History{Builds: []status.Build{build("4.22.0-0.okd-scos-2026-11-26-120000", 0, controller.Ready)}}, status.Failing, "there is no accepted build"},
		"no time":           {status.History{Builds: []status.Build{{Version: "4.21.0-okd-scos.1", Phase: controller.Accepted}}}, status.Warning, "nobody knows when the last build, 4.21.0-okd-scos.1, was made"},
		"nothing published": {status.History{Builds: green().Builds, Published: []status.Published{}}, status.Warning, "nothing was ever published"},
		"published at once": {status.History{Builds: green().Builds, Published: []status.Published{
			{Version: "4.21.0-okd-scos.9", At: now.AddDate(0, -2, 0)}, {Version: "4.21.0-okd-scos.10", At: now.AddDate(0, -2, 0)},
		}}, status.Warning, "the last published release, 4.21.0-okd-scos.10, is 61 days old"},
		"published long ago":   {status.History{Builds: green().Builds, Published: []status.Published{{Version: "4.21.0-okd-scos.1", At: now.AddDate(0, -2, 0)}}}, status.Warning, "the last published release, 4.21.0-okd-scos.1, is 61 days old"},
		"never green":          {status.History{Builds: []status.Build{build("4.22.0-0.okd-scos-2026-11-26-120000", 0, controller.Accepted, "~x=f")}}, status.Warning, "gate x is red since 4.22.0-0.okd-scos-2026-11-26-120000"},
		"nobody looked inside": {status.History{Builds: green().Builds, Reference: &status.Content{Name: "rhcos"}}, status.Warning, "nobody looked into a build to compare it with rhcos"},
	} {
		t.Run(name, func(t *testing.T) {
			r := status.New([]status.History{test.history}, now, &status.Options{PublishedAfter: 40 * 24 * time.Hour})
			require.Equal(t, test.level, r.Level)
			require.Equal(t, test.reason, r.Streams[0].Reasons[0].Text)
		})
	}
}

// TestOrderOfBuilds makes the same report of the same builds in any order.
func TestOrderOfBuilds(t *testing.T) {
	h := red()
	h.Builds = append(h.Builds, status.Build{Version: "4.22.0-okd-scos.0"}, status.Build{Version: "4.22.0-okd-scos.ec.9"})
	var want bytes.Buffer
	require.NoError(t, status.New([]status.History{h}, now, nil).WriteJSON(&want))
	for range 20 {
		rand.Shuffle(len(h.Builds), func(i, j int) { h.Builds[i], h.Builds[j] = h.Builds[j], h.Builds[i] })
		var got bytes.Buffer
		require.NoError(t, status.New([]status.History{h}, now, nil).WriteJSON(&got))
		require.Equal(t, want.String(), got.String())
	}
}

func TestWrite(t *testing.T) {
	never := status.History{Stream: "odd", Title: "<script>alert(1)</script>", Builds: []status.Build{build("4.1.0\x1b[2J", 0, controller.Accepted, "~<b>=f", "x=p")}}
	never.Builds[0].Gates[0].URL = "javascript:alert(1)"
	r := status.New([]status.History{red(), green(), never}, now, nil)
	for name, write := range map[string]func(*bytes.Buffer) error{
		"report.txt":  func(b *bytes.Buffer) error { return r.WriteText(b) },
		"report.json": func(b *bytes.Buffer) error { return r.WriteJSON(b) },
		"report.html": func(b *bytes.Buffer) error { return r.WriteHTML(b) },
		"report.prom": func(b *bytes.Buffer) error { return r.WriteMetrics(b) },
	} {
		var b bytes.Buffer
		require.NoError(t, write(&b))
		golden(t, name, b.Bytes())
		switch name {
		case "report.html":
			require.NotContains(t, b.String(), "<script>")
			require.NotContains(t, b.String(), `href="javascript:`)
		case "report.txt":
			require.NotContains(t, b.String(), "\x1b")
		case "report.json":
			var again status.Report
			require.NoError(t, json.Unmarshal(b.Bytes(), &again))
			require.Equal(t, r.Level, again.Level)
		}
	}
}

// releaseController answers as a release controller's source does for a stream
// of so many builds, one each 12 hours, the newest five of which fail aws.
func releaseController(t testing.TB, builds int, requests *atomic.Int64) string {
	t.Helper()
	version := func(i int) string {
		return "4.22.0-0.okd-scos-" + now.Add(-time.Duration(12*i+2)*time.Hour).Format("2006-01-02-150405")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		parts := strings.Split(req.URL.Path, "/")
		switch {
		case req.URL.Path == "/graph":
			_, _ = fmt.Fprint(w, `{"nodes":[],"edges":[]}`)
		case strings.HasSuffix(req.URL.Path, "/tags") && parts[4] != "none":
			var tags []string
			for i := range builds {
				phase := "Accepted"
				if i < 5 {
					phase = "Rejected"
				}
				tags = append(tags, fmt.Sprintf(`{"name":%q,"phase":%q,"pullSpec":"example.com/r:%d"}`, version(i), phase, i))
			}
			_, _ = fmt.Fprintf(w, `{"name":"s","tags":[%s]}`, strings.Join(tags, ","))
		case len(parts) == 7:
			for i := range builds {
				if version(i) == parts[6] && i != 7 {
					state, phase := "Succeeded", "Accepted"
					if i < 5 {
						state, phase = "Failed", "Rejected"
					}
					_, _ = fmt.Fprintf(w, `{"name":%q,"phase":%q,"results":{"blockingJobs":{"aws":{"state":%q,"url":"https://example.com/%d"}},"informingJobs":{"gcp":{"state":"Succeeded","url":""}},"pendingJobs":{"late":{"state":"Pending","url":""}}}}`, parts[6], phase, state, i)
					return
				}
			}
			http.NotFound(w, req)
		default:
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestCollect(t *testing.T) {
	var requests atomic.Int64
	client, err := controller.NewClient(releaseController(t, 30, &requests), nil)
	require.NoError(t, err)
	looked := make(chan string, 10)
	h, err := status.Collect(t.Context(), client, "s", now, &status.CollectOptions{
		Title: "S", Days: 10, Channel: "stable",
		Look: func(_ context.Context, pullSpec string) (*status.Content, error) {
			looked <- pullSpec
			if pullSpec == "example.com/r:4" {
				return nil, fmt.Errorf("pull: %w", fs.ErrNotExist)
			}
			return &status.Content{Packages: []payload.Package{rpm("kernel", "1")}}, nil
		},
	})
	require.NoError(t, err)
	require.Len(t, h.Builds, 20, "of ten days")
	require.EqualValues(t, 1+20+1, requests.Load())
	close(looked)
	var pullSpecs []string
	for p := range looked {
		pullSpecs = append(pullSpecs, p)
	}
	require.ElementsMatch(t, []string{"example.com/r:4", "example.com/r:5"}, pullSpecs, "the newest accepted one is the last green")
	require.Len(t, h.Faults, 2)
	require.Contains(t, h.Faults[0], "404", "the build that the controller does not know")
	require.Contains(t, h.Faults[1], "the payload is gone")
	require.NotEmpty(t, h.Gaps, "releases that are not in the graph")
	r := status.New([]status.History{*h}, now, nil)
	require.Equal(t, status.Failing, r.Level)
	broken := r.Streams[0].Gates[0].Broken
	require.Equal(t, h.Builds[4].Version, broken.FirstRed)
	require.Equal(t, h.Builds[5].Version, broken.LastGreen)
	require.False(t, broken.Known)

	_, err = status.Collect(t.Context(), client, "none", now, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	_, err = status.Collect(ctx, client, "s", now, nil)
	require.Error(t, err)
}

// BenchmarkReport makes a report of 90 days of three streams from cache.
func BenchmarkReport(b *testing.B) {
	var requests atomic.Int64
	address := releaseController(b, 180, &requests)
	store, err := dirstore.Open(b.Context(), b.TempDir(), nil)
	require.NoError(b, err)
	client, err := controller.NewClient(address, &controller.ClientOptions{Cache: store, Now: func() time.Time { return now }})
	require.NoError(b, err)
	for b.Loop() {
		var histories []status.History
		for _, name := range []string{"a", "b", "c"} {
			h, err := status.Collect(b.Context(), client, name, now, nil)
			require.NoError(b, err)
			histories = append(histories, *h)
		}
		var page bytes.Buffer
		require.NoError(b, status.New(histories, now, nil).WriteHTML(&page))
		b.SetBytes(int64(page.Len()))
	}
}
