package bootimage_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/stretchr/testify/require"
)

func minutes(n uint64) *uint64 { return &n }

func rollout(version string, start int64, duration uint64) bootimage.UpdatesRelease {
	return bootimage.UpdatesRelease{Version: version, Metadata: bootimage.UpdatesMetadata{
		Rollout: &bootimage.UpdatesRollout{StartEpoch: start, DurationMinutes: minutes(duration)},
	}}
}

func barrier(r bootimage.UpdatesRelease) bootimage.UpdatesRelease {
	r.Metadata.Barrier = &bootimage.UpdatesReason{Reason: "https://example.org/why"}
	return r
}

func deadEnd(version string) bootimage.UpdatesRelease {
	return bootimage.UpdatesRelease{Version: version, Metadata: bootimage.UpdatesMetadata{
		DeadEnd: &bootimage.UpdatesReason{Reason: "https://example.org/end"},
	}}
}

// TestAddUpdateCleans is the case with which rollout.py tests itself.
func TestAddUpdateCleans(t *testing.T) {
	old := bootimage.Updates{Stream: "stable", Metadata: releasemd.Metadata{LastModified: "2021-07-21T20:10:18Z"}, Releases: []bootimage.UpdatesRelease{
		deadEnd("31.20200517.3.0"),
		barrier(bootimage.UpdatesRelease{Version: "32.20200615.3.0", Metadata: bootimage.UpdatesMetadata{Rollout: &bootimage.UpdatesRollout{StartPercentage: 1}}}),
		barrier(rollout("34.20210511.3.0", 1616742400, 2880)),
		rollout("34.20210611.3.0", 1616752400, 2880),
		barrier(rollout("34.20210626.3.1", 1616762400, 1440)),
	}}
	d, err := bootimage.NewDocument(old)
	require.NoError(t, err)
	now := time.Date(2021, 8, 1, 10, 0, 0, 0, time.UTC)
	opts := &bootimage.UpdatesOptions{Stream: "stable", Now: now}
	data, err := bootimage.AddUpdate(rollout("35.20210801.3.0", now.Unix(), 1440), opts)(d.Bytes())
	require.NoError(t, err)
	golden(t, "updates.json", data)

	opts.Now = now.Add(time.Minute)
	again, err := bootimage.AddUpdate(rollout("35.20210801.3.0", now.Unix(), 1440), opts)(data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(again), "nothing is new, so nothing changes")
	_, err = bootimage.AddUpdate(rollout("35.20210801.3.0", now.Unix(), 60), opts)(data)
	require.ErrorIs(t, err, fs.ErrExist)
	opts.Replace = true
	again, err = bootimage.AddUpdate(rollout("35.20210801.3.0", now.Unix(), 60), opts)(data)
	require.NoError(t, err)
	require.Contains(t, string(again), `"duration_minutes": 60,`)
	require.Equal(t, 1, strings.Count(string(again), "35.20210801.3.0"))
}

func TestAddUpdateStarts(t *testing.T) {
	now := time.Unix(1764100000, 0)
	first, err := bootimage.AddUpdate(rollout("1", now.Unix(), 60), &bootimage.UpdatesOptions{Stream: "own", Now: now})(nil)
	require.NoError(t, err)
	require.Equal(t, `{
  "stream": "own",
  "metadata": {
    "last-modified": "2025-11-25T19:46:40Z"
  },
  "releases": [
    {
      "version": "1",
      "metadata": {
        "rollout": {
          "duration_minutes": 60,
          "start_epoch": 1764100000,
          "start_percentage": 0.0
        }
      }
    }
  ]
}
`, string(first))
	for name, tt := range map[string]struct {
		release bootimage.UpdatesRelease
		opts    *bootimage.UpdatesOptions
		want    string
	}{
		"no options": {rollout("2", 0, 1), nil, "are required"},
		"stream":     {rollout("2", 0, 1), &bootimage.UpdatesOptions{Stream: "x", Now: now}, "of stream own, not x"},
		"nothing":    {bootimage.UpdatesRelease{Version: "2"}, &bootimage.UpdatesOptions{Stream: "own", Now: now}, "neither barrier nor dead end nor rollout"},
		"version":    {rollout("../2", 0, 1), &bootimage.UpdatesOptions{Stream: "own", Now: now}, "not a build id"},
		"percent": {bootimage.UpdatesRelease{Version: "2", Metadata: bootimage.UpdatesMetadata{Rollout: &bootimage.UpdatesRollout{StartPercentage: 5}}},
			&bootimage.UpdatesOptions{Stream: "own", Now: now}, "releases[1].metadata.rollout.start_percentage: 5 is not a part from 0 to 1"},
		"not a number": {bootimage.UpdatesRelease{Version: "2", Metadata: bootimage.UpdatesMetadata{Rollout: &bootimage.UpdatesRollout{StartPercentage: bootimage.Fraction(math.NaN())}}},
			&bootimage.UpdatesOptions{Stream: "own", Now: now}, "NaN is not a fraction"},
		"milliseconds": {rollout("2", 1764100000000, 1), &bootimage.UpdatesOptions{Stream: "own", Now: now}, "seconds, not milliseconds"},
		"long ago":     {rollout("2", 5, 1<<20), &bootimage.UpdatesOptions{Stream: "own", Now: now}, "5 is before 2017"},
		"duration":     {rollout("2", 0, 0), &bootimage.UpdatesOptions{Stream: "own", Now: now}, "duration_minutes: 0 is not from 1 to 129600"},
		"both": {func() bootimage.UpdatesRelease { r := barrier(deadEnd("2")); return r }(),
			&bootimage.UpdatesOptions{Stream: "own", Now: now}, "barrier and dead end"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bootimage.AddUpdate(tt.release, tt.opts)(first)
			require.ErrorContains(t, err, tt.want)
		})
	}
	cleaned, err := bootimage.CleanUpdates(now)(first)
	require.NoError(t, err)
	require.Equal(t, string(first), string(cleaned))
	cleaned, err = bootimage.CleanUpdates(now.Add(2 * time.Hour))(first)
	require.NoError(t, err)
	require.Contains(t, string(cleaned), "\"rollout\": {\n          \"start_percentage\": 1.0\n        }")
	require.Contains(t, string(cleaned), "2025-11-25T21:46:40Z")
	_, err = bootimage.CleanUpdates(now)(nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestValidateUpdatesAgainstIndex(t *testing.T) {
	u := &bootimage.Updates{Stream: "own", Metadata: releasemd.Metadata{LastModified: "2026-11-25T20:54:07Z"}, Releases: []bootimage.UpdatesRelease{
		deadEnd("2"), deadEnd("1"), deadEnd("4"),
	}}
	require.NoError(t, bootimage.ValidateUpdates(u, nil))
	err := bootimage.ValidateUpdates(u, index("other", "1", "2", "3"))
	require.Equal(t, `bootimage: updates: releases[1].version: release 1 comes after a newer one
bootimage: updates: releases[2].version: no release 4 of stream own
bootimage: updates: stream: is "own", that of the releases "other"`, err.Error())
}

func index(stream string, versions ...string) *releasemd.Index {
	i := &releasemd.Index{Stream: stream}
	for n, v := range versions {
		i.Releases = append(i.Releases, releasemd.IndexRelease{
			Version: v, MetadataURL: "https://example.org/" + v,
			Commits:   []releasemd.IndexReleaseCommit{{Architecture: "x86_64", Checksum: fmt.Sprintf("%064x", n)}},
			OciImages: []releasemd.IndexReleaseOciImage{{Architecture: "x86_64", ContainerImage: releasemd.ContainerImage{DigestRef: "q.example/os@" + v}}},
		})
	}
	return i
}

func TestRolloutAt(t *testing.T) {
	start := time.Unix(1764100000, 0)
	r := &bootimage.UpdatesRollout{StartEpoch: start.Unix(), StartPercentage: 0.5, DurationMinutes: minutes(60)}
	for after, want := range map[time.Duration]float64{-time.Second: 0, 0: 0.5, 30 * time.Minute: 0.75, time.Hour: 1, 2 * time.Hour: 1} {
		require.InDelta(t, want, r.At(start.Add(after)), 1e-9, after)
	}
	r.DurationMinutes = nil
	require.InDelta(t, 0.5, r.At(start.Add(1000*time.Hour)), 0)
	r.DurationMinutes = minutes(0) // as one minute
	require.InDelta(t, 1, r.At(start.Add(2*time.Minute)), 0)
	r.DurationMinutes = minutes(math.MaxUint64)
	require.InDelta(t, 0.5, r.At(start.Add(1000*time.Hour)), 0)
	r = &bootimage.UpdatesRollout{StartPercentage: 100}
	require.InDelta(t, 1, r.At(start), 0)
	r = &bootimage.UpdatesRollout{StartEpoch: math.MaxInt64, DurationMinutes: minutes(5)}
	require.InDelta(t, 0, r.At(start), 0)
}

func TestUpdateGraph(t *testing.T) {
	start := time.Unix(1764100000, 0)
	i := index("own", "0", "1", "2", "3", "4", "5", "6")
	i.Releases[3].Commits = nil // not for this architecture
	u := &bootimage.Updates{Stream: "own", Releases: []bootimage.UpdatesRelease{
		deadEnd("1"), barrier(bootimage.UpdatesRelease{Version: "2"}), barrier(rollout("4", start.Unix(), 60)), rollout("6", start.Unix(), 120),
	}}
	g, err := bootimage.UpdateGraphFor(i, u, "x86_64", nil)
	require.NoError(t, err)
	var edges []string
	for _, e := range g.Edges {
		edges = append(edges, g.Nodes[e[0]].Version+">"+g.Nodes[e[1]].Version)
	}
	require.Equal(t, []string{"4>6", "5>6", "2>4", "0>2"}, edges)
	path, err := g.Path("0")
	require.NoError(t, err)
	require.Equal(t, []string{"2", "4", "6"}, path)
	path, err = g.Path("1")
	require.NoError(t, err)
	require.Empty(t, path, "a dead end")
	_, err = g.Path("3")
	require.ErrorIs(t, err, fs.ErrNotExist)

	for _, tt := range []struct {
		after    time.Duration
		wariness float64
		want     []string
	}{
		{0, 0.5, []string{"2"}},
		{30 * time.Minute, 0.5, []string{"2", "4"}},
		{30 * time.Minute, 0.2, []string{"2", "4", "6"}},
		{-time.Hour, 0, []string{"2", "4", "6"}},
		{time.Hour, 1, []string{"2", "4"}},
		{3 * time.Hour, 7, []string{"2", "4", "6"}},
	} {
		path, err := g.Throttle(start.Add(tt.after), tt.wariness).Path("0")
		require.NoError(t, err)
		require.Equal(t, tt.want, path, "%s %v", tt.after, tt.wariness)
	}

	g, err = bootimage.UpdateGraphFor(i, u, "x86_64", &bootimage.UpdateGraphOptions{OCI: true})
	require.NoError(t, err)
	require.Len(t, g.Nodes, 7)
	got, err := json.Marshal(g.Nodes[4])
	require.NoError(t, err)
	require.JSONEq(t, `{"version":"4","payload":"q.example/os@4","metadata":{
		"org.fedoraproject.coreos.scheme":"oci","org.fedoraproject.coreos.releases.age_index":"4",
		"org.fedoraproject.coreos.updates.barrier":"true","org.fedoraproject.coreos.updates.barrier_reason":"https://example.org/why",
		"org.fedoraproject.coreos.updates.rollout":"true","org.fedoraproject.coreos.updates.start_epoch":"1764100000",
		"org.fedoraproject.coreos.updates.start_value":"0","org.fedoraproject.coreos.updates.duration_minutes":"60"}}`, string(got))

	_, err = bootimage.UpdateGraphFor(i, u, "s390x", nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = bootimage.UpdateGraphFor(index("x", "1"), u, "x86_64", nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
}

// TestWariness has what Rust's hasher gives.
func TestWariness(t *testing.T) {
	for node, want := range map[string]float64{
		"": 0.18848315746051456, "a": 0.4437761738999516,
		"8ff7c0ac08ab4ee798b3d1e6b4e9b1d5":     0.29760959772761253,
		"2f93b9c2-1f0b-4c39-9d1e-8a1f6d3f9e60": 0.2612363757377987,
	} {
		require.InDelta(t, want, bootimage.Wariness(node), 1e-15, node)
	}
}

// TestUpdatesHistory draws the graph of every updates document that was ever
// published, at each time that one of its rollouts turns, and holds it to the
// rules: nothing leaves a dead end, nothing goes back or past a barrier, only
// rollouts and barriers are reached, a rollout only grows, and at its end every
// release gets to the newest.
func TestUpdatesHistory(t *testing.T) {
	documents, edges := 0, 0
	for _, file := range sharedFiles(t, "fcos/updates/*.json", "fcos/updates-history/*/*.json") {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		d, err := bootimage.DecodeUpdates(bytes.NewReader(data))
		require.NoError(t, err)
		u := d.Value()
		if u.Old != nil {
			continue
		}
		documents++
		marks := map[string]bootimage.UpdatesMetadata{}
		versions := []string{"0"}
		for i, r := range u.Releases {
			marks[r.Version] = r.Metadata
			versions = append(versions, r.Version, fmt.Sprintf("between%d", i))
		}
		g, err := bootimage.UpdateGraphFor(index(u.Stream, versions...), u, "x86_64", nil)
		require.NoError(t, err)
		var times []time.Time
		for _, r := range u.Releases {
			if x := r.Metadata.Rollout; x != nil && x.DurationMinutes != nil {
				start := time.Unix(x.StartEpoch, 0)
				times = append(times, start.Add(-time.Second), start, start.Add(time.Duration(*x.DurationMinutes)*time.Minute))
			}
		}
		newest := ""
		for _, e := range g.Edges {
			edges++
			from, to := g.Nodes[e[0]], g.Nodes[e[1]]
			require.Less(t, e[0], e[1])
			require.Nil(t, marks[from.Version].DeadEnd, "%s: %s", file, from.Version)
			require.True(t, marks[to.Version].Rollout != nil || marks[to.Version].Barrier != nil)
			for _, n := range g.Nodes[e[0]+1 : e[1]] {
				require.Nil(t, marks[n.Version].Barrier, "%s: %s > %s goes past %s", file, from.Version, to.Version, n.Version)
			}
		}
		for i := len(g.Nodes) - 1; i >= 0 && newest == ""; i-- {
			if m := marks[g.Nodes[i].Version]; m.Rollout != nil || m.Barrier != nil {
				newest = g.Nodes[i].Version
			}
		}
		slices.SortFunc(times, time.Time.Compare)
		for _, wary := range []float64{1e-6, 0.3, 1} {
			var shown [][2]int
			for _, at := range times {
				now := g.Throttle(at, wary).Edges
				require.Subset(t, now, shown, "%s: %v at %s", file, wary, at)
				shown = now
			}
		}
		for i, n := range g.Nodes {
			if n.Version == newest || newest == "" { // nothing is rolled out
				break
			}
			path, err := g.Throttle(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), 1).Path(n.Version)
			require.NoError(t, err)
			if marks[n.Version].DeadEnd != nil || frozen(marks) {
				continue
			}
			require.NotEmpty(t, path, "%s: %d %s", file, i, n.Version)
			require.Equal(t, newest, path[len(path)-1], "%s: from %s", file, n.Version)
		}
	}
	require.Greater(t, documents, 400)
	require.Greater(t, edges, 5000)
}

// frozen documents have a rollout that never reaches all.
func frozen(marks map[string]bootimage.UpdatesMetadata) bool {
	for _, m := range marks {
		if r := m.Rollout; r != nil && r.DurationMinutes == nil && r.StartPercentage < 1 {
			return true
		}
	}
	return false
}

// TestHistoryIsMadeByAdding adds to the three documents of production their newest
// rollout once more: nothing changes.
func TestHistoryIsMadeByAdding(t *testing.T) {
	for _, stream := range []string{"stable", "testing", "next"} {
		for _, file := range sharedFiles(t, "fcos/updates/"+stream+".json") {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			d, err := bootimage.DecodeUpdates(bytes.NewReader(data))
			require.NoError(t, err)
			last := d.Value().Releases[len(d.Value().Releases)-1]
			same, err := bootimage.AddUpdate(last, &bootimage.UpdatesOptions{Stream: stream, Now: time.Unix(1784640000, 0)})(data)
			require.NoError(t, err)
			require.Equal(t, string(data), string(same))
		}
	}
}

// TestZincatiReply reads an answer of the service into our graph.
func TestZincatiReply(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(interop.SharedData(t, "bootimage", "cincinnati"), "zincati-graph-response.json"))
	require.NoError(t, err)
	var g bootimage.UpdateGraph
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&g))
	require.NotEmpty(t, g.Nodes)
	made, err := bootimage.UpdateGraphFor(index("own", "0", "1"), &bootimage.Updates{Stream: "own", Releases: []bootimage.UpdatesRelease{rollout("1", 1764100000, 1)}}, "x86_64", nil)
	require.NoError(t, err)
	for key := range g.Nodes[0].Metadata {
		require.Contains(t, made.Nodes[1].Metadata, key)
	}
}

func FuzzDecodeUpdates(f *testing.F) {
	mutants.Add(f,
		`{"stream": "s", "metadata": {"last-modified": "x"}, "releases": [{"version": "1", "metadata": {"rollout": {"start_epoch": 5, "start_percentage": 0.50}}, "own": 1}]}`,
		`{"updates": {"barriers": []}}`,
	)
	fuzzDocument(f, bootimage.DecodeUpdates, func(u *bootimage.Updates) {
		u.Metadata.LastModified = "y"
		for i := range u.Releases {
			if r := u.Releases[i].Metadata.Rollout; r != nil {
				r.DurationMinutes = minutes(5)
				r.At(time.Unix(1764100000, 0))
			}
		}
		_ = bootimage.ValidateUpdates(u, nil)
	})
}

func FuzzDecodeIndex(f *testing.F) {
	mutants.Add(f, `{"stream": "s", "metadata": {"last-modified": "x"}, "releases": [{"version": "1", "metadata": "m", "commits": [], "own": 1.0}]}`)
	fuzzDocument(f, bootimage.DecodeIndex, func(i *releasemd.Index) {
		i.Releases = append(i.Releases, releasemd.IndexRelease{Version: "new", MetadataURL: "m"})
		_ = bootimage.ValidateIndex(i)
	})
}
