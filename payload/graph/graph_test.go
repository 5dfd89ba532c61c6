package graph_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
)

func release(version, arch string, previous ...string) graph.Release {
	return graph.Release{
		Payload:  fmt.Sprintf("example.com/okd/release@sha256:%064x", len(version)*1000+len(arch)),
		Arch:     arch,
		Metadata: &payload.Metadata{Version: version, Previous: previous, Metadata: map[string]any{"url": "https://example.com/" + version, "n": 1}},
	}
}

func TestBuild(t *testing.T) {
	a, b, c := release("4.20.0-okd-scos.0", "amd64"), release("4.20.0-okd-scos.1", "amd64", "4.20.0-okd-scos.0", "4.19.0-okd-scos.9"), release("4.21.0-okd-scos.ec.10", "amd64", "4.20.0-okd-scos.1")
	a.Metadata.Next = []string{"4.20.0-okd-scos.1"}
	a.Payload = strings.Replace(a.Payload, "sha256:0", "sha256:f", 1)
	arm := release("4.20.0-okd-scos.1", "arm64", "4.20.0-okd-scos.0")
	shard := release("4.22.0-okd-scos.1", "amd64")
	shard.Metadata.Metadata[payload.MetadataArchitecture] = "multi"
	all := []graph.Release{c, b, arm, a, b, shard}
	want, err := graph.Build(all)
	require.NoError(t, err)
	var names []string
	for _, n := range want.Nodes {
		names = append(names, n.Version)
	}
	require.Equal(t, []string{"4.20.0-okd-scos.0+amd64", "4.20.0-okd-scos.1+amd64", "4.20.0-okd-scos.1+arm64", "4.21.0-okd-scos.ec.10+amd64"}, names)
	require.Equal(t, [][2]int{{0, 1}, {1, 3}}, want.Edges)
	require.Equal(t, map[string]string{
		graph.KeyArch: "amd64", graph.KeyManifest: strings.TrimPrefix(a.Payload, "example.com/okd/release@"), "url": "https://example.com/4.20.0-okd-scos.0",
	}, want.Nodes[0].Metadata)
	for range 10 {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		got, err := graph.Build(all)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}

	other := b
	other.Payload = strings.Replace(b.Payload, "sha256:0", "sha256:e", 1)
	_, err = graph.Build([]graph.Release{b, other})
	require.ErrorContains(t, err, "two images")
	byTag := b
	byTag.Payload = "example.com/okd/release:latest"
	_, err = graph.Build([]graph.Release{byTag})
	require.ErrorContains(t, err, "not named by digest")
	_, err = graph.Build([]graph.Release{{Payload: b.Payload, Arch: "amd64"}})
	require.ErrorContains(t, err, "no release metadata")
	_, err = graph.Build([]graph.Release{{Payload: b.Payload, Metadata: b.Metadata}})
	require.ErrorContains(t, err, "architecture")
}

// TestOrder has the trap of pipelines.md 0.4: by semantic versions an early
// candidate is newer than any final release, and okd-scos.ec.4 than ec.10.
func TestOrder(t *testing.T) {
	want := []string{
		"4.19.0-okd-scos.3", "4.20.0-0.okd-scos-2025-09-01-120000", "4.20.0-0.okd-scos-nightly-2025-09-02-120000",
		"4.20.0-okd-scos.ec.4", "4.20.0-okd-scos.ec.10", "4.20.0-okd-scos.2", "4.20.0-okd-scos.10", "4.20.0", "4.20.1-rc.1", "4.20.1",
	}
	for i, a := range want {
		for j, b := range want {
			c := graph.Compare(a, b)
			require.Equal(t, i < j, c < 0, "%s %s", a, b)
			require.Equal(t, i == j, c == 0, "%s %s", a, b)
		}
	}
	require.Negative(t, graph.Compare("something", "0.0.1"))
	require.Negative(t, graph.Compare("4.20.0+amd64", "4.20.0+arm64"))
	require.Negative(t, graph.Compare("4.20.0", "4.20.0+"))

	// What no graph can have is no version, and costs nothing.
	long := "4.20.0-" + strings.Repeat("a", graph.MaxVersionLength-len("4.20.0-"))
	require.Negative(t, graph.Compare("4.19.9", long))
	require.Positive(t, graph.Compare("4.19.9", long+"a"))
	long = "4.20.0" + strings.Repeat("-.a", 1<<20)
	fuzzbound.Linear(t, len(long), 1, func() { require.Positive(t, graph.Compare("4.19.9", long)) })
}

func TestProve(t *testing.T) {
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	g := versions("4.1.0", "4.1.1", "4.2.0")
	job := func(from, to, arch string, passed bool) graph.Evidence {
		return graph.Evidence{From: from, To: to, Arch: arch, Job: &graph.Job{Name: "e2e-upgrade", URL: "https://example.com/1", Passed: passed}}
	}
	waiver := func(from, to string, w graph.Waiver) graph.Evidence {
		return graph.Evidence{From: from, To: to, Waiver: &w}
	}
	got, candidates := g.Prove([]graph.Evidence{
		job("4.1.0", "4.1.1", "amd64", false), job("4.1.0", "4.1.1", "amd64", true),
		job("4.1.0", "4.2.0", "", false),
		waiver("4.1.1", "4.2.0", graph.Waiver{By: "Ann", Reason: "job broken", Expires: now.Add(time.Hour)}),
		job("9.0.0", "9.0.1", "", true),
	}, now)
	require.Equal(t, map[graph.Edge]bool{
		{From: "4.1.0+amd64", To: "4.1.1+amd64"}: true,
		{From: "4.1.1+amd64", To: "4.2.0+amd64"}: true,
		{From: "4.1.1+arm64", To: "4.2.0+arm64"}: true,
	}, edgesOf(got))
	why := map[string]string{}
	for _, c := range candidates {
		why[c.From+" "+c.To] = c.Why
	}
	require.Equal(t, map[string]string{
		"4.1.0+arm64 4.1.1+arm64": "no upgrade job has run",
		"4.1.0+amd64 4.2.0+amd64": "job e2e-upgrade failed https://example.com/1",
		"4.1.0+arm64 4.2.0+arm64": "job e2e-upgrade failed https://example.com/1",
	}, why)
	require.Len(t, g.Edges, 6, "the graph that was given")

	for name, test := range map[string]struct {
		waiver graph.Waiver
		want   string
	}{
		"expired":   {graph.Waiver{By: "Ann", Reason: "x", Expires: now}, "the waiver of Ann ended 2026-11-26T00:00:00Z"},
		"no name":   {graph.Waiver{Reason: "x", Expires: now.Add(1)}, "a waiver needs"},
		"no reason": {graph.Waiver{By: "Ann", Reason: " ", Expires: now.Add(1)}, "a waiver needs"},
		"no end":    {graph.Waiver{By: "Ann", Reason: "x"}, "a waiver needs"},
	} {
		t.Run(name, func(t *testing.T) {
			_, candidates := versions("4.1.0", "4.1.1").Prove([]graph.Evidence{waiver("4.1.0", "4.1.1", test.waiver)}, now)
			require.Len(t, candidates, 2)
			require.Contains(t, candidates[0].Why, test.want)
		})
	}

	// Conditional edges need evidence too, and one edge is one candidate.
	c := versions("4.1.0", "4.1.1")
	c.Conditional = []graph.ConditionalEdges{{Edges: []graph.Edge{{From: "4.1.0+amd64", To: "4.1.1+amd64"}}}}
	got, candidates = c.Prove(nil, now)
	require.Empty(t, got.Edges)
	require.Empty(t, got.Conditional)
	require.Len(t, candidates, 2)
}

func TestUpdates(t *testing.T) {
	risk := func(rules ...graph.Rule) graph.Risk { return graph.Risk{Name: "R", Rules: rules} }
	alwaysRule := graph.Rule{Type: "Always"}
	g := &graph.Graph{
		Nodes: []graph.Node{{Version: "4.1.0"}, {Version: "4.1.1"}, {Version: "4.1.2"}, {Version: "4.1.3"}, {Version: "4.1.4"}, {Version: "4.1.5"}},
		Edges: [][2]int{{0, 1}, {0, 2}, {0, 5}},
		Conditional: []graph.ConditionalEdges{
			{Edges: []graph.Edge{{From: "4.1.0", To: "4.1.2"}, {From: "4.1.0", To: "4.1.3"}}, Risks: []graph.Risk{risk(graph.Rule{Type: "New"}, alwaysRule)}},
			{Edges: []graph.Edge{{From: "4.1.0", To: "4.1.3"}}, Risks: []graph.Risk{risk(alwaysRule)}},
			{Edges: []graph.Edge{{From: "4.1.0", To: "4.1.4"}}, Risks: []graph.Risk{risk(alwaysRule), risk(graph.Rule{Type: "New"})}},
			{Edges: []graph.Edge{{From: "4.1.0", To: "4.9.9"}}, Risks: []graph.Risk{risk(alwaysRule)}},
		},
	}
	u, err := g.Updates("4.1.0")
	require.NoError(t, err)
	require.Equal(t, []graph.Node{{Version: "4.1.5"}, {Version: "4.1.1"}}, u.Available)
	require.Len(t, u.Conditional, 1, "in two groups, with unknown rules, or without node: not offered")
	require.Equal(t, "4.1.2", u.Conditional[0].Version)
	require.Equal(t, []graph.Rule{alwaysRule}, u.Conditional[0].Risks[0].Rules)
	_, err = g.Updates("4.1.9")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func chain(edges ...string) *graph.Graph {
	g := &graph.Graph{}
	at := func(v string) int {
		if i := g.Index(v); i >= 0 {
			return i
		}
		g.Nodes = append(g.Nodes, graph.Node{Version: v, Metadata: map[string]string{}})
		return len(g.Nodes) - 1
	}
	for _, e := range edges {
		if from, to, ok := strings.Cut(e, " "); ok {
			g.Edges = append(g.Edges, [2]int{at(from), at(to)})
		} else {
			at(e)
		}
	}
	return g
}

func TestPath(t *testing.T) {
	g := chain("4.18.1 4.18.2", "4.18.2 4.19.1", "4.18.1 4.18.3", "4.18.3 4.19.1", "4.19.1 4.20.0", "4.20.0 4.18.1", "4.20.1 4.20.2")
	path, err := g.Path("4.18.1", "4.20.0", nil)
	require.NoError(t, err)
	require.Equal(t, []string{"4.18.1", "4.18.3", "4.19.1", "4.20.0"}, path, "the newest way, and cycles end")
	path, err = g.Path("4.18.1", "4.18.1", nil)
	require.NoError(t, err)
	require.Equal(t, []string{"4.18.1"}, path)
	_, err = g.Path("4.18.1", "4.20.2", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "get to 4.20.0 at most, the newest version from which there is a way to 4.20.2 is 4.20.1")
	_, err = g.Path("4.18.1", "5.0.0", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)

	g.Conditional = []graph.ConditionalEdges{{Edges: []graph.Edge{{From: "4.19.1", To: "4.20.0"}}}}
	_, err = g.Path("4.18.1", "4.20.0", nil)
	require.ErrorIs(t, err, fs.ErrNotExist, "an edge with risks is none without asking")
	_, err = g.Path("4.18.1", "4.20.0", &graph.PathOptions{Conditional: true})
	require.NoError(t, err)
}

func TestLost(t *testing.T) {
	before := chain("4.18.1 4.18.2", "4.18.2 4.19.1", "4.19.0 4.19.1", "4.19.1 4.20.0")
	after := chain("4.18.1 4.18.2", "4.18.2", "4.19.0 4.19.1", "4.19.1 4.20.0")
	require.Equal(t, []string{"4.18.1", "4.18.2"}, graph.Lost(before, after, "", nil))
	require.Equal(t, []string{"4.18.1", "4.18.2"}, graph.Lost(before, after, "4.19.1", nil))
	require.Empty(t, graph.Lost(before, before, "", nil))
	require.Equal(t, []string{"4.18.1", "4.18.2", "4.19.0", "4.19.1"}, graph.Lost(before, chain("4.18.1"), "4.20.0", nil))
}

// TestPlan has okd#2082: 4.17.0-okd-scos.1 was tested from 4.17.0-okd-scos.ec.4
// and 4.16.0-okd-scos.1, and clusters on 4.17.0-okd-scos.0 had no edge.
func TestPlan(t *testing.T) {
	promoted := []string{"4.16.0-okd-scos.0", "4.16.0-okd-scos.1", "4.17.0-okd-scos.ec.1", "4.17.0-okd-scos.ec.4", "4.17.0-okd-scos.0", "4.16.0-okd-scos.1", "4.18.0-okd-scos.ec.0", "nonsense"}
	for _, test := range []struct {
		name, version string
		promoted      []string
		opts          *graph.PlanOptions
		want          []string
	}{
		{"okd#2082", "4.17.0-okd-scos.1", promoted, nil, []string{"4.17.0-okd-scos.0", "4.16.0-okd-scos.1"}},
		{"first final: from candidates", "4.17.0-okd-scos.0", promoted, nil, []string{"4.17.0-okd-scos.ec.4", "4.17.0-okd-scos.ec.1", "4.16.0-okd-scos.1"}},
		{"candidate", "4.18.0-okd-scos.ec.1", promoted, nil, []string{"4.18.0-okd-scos.ec.0", "4.17.0-okd-scos.0"}},
		{"ten is above nine", "4.17.0-okd-scos.11", []string{"4.17.0-okd-scos.9", "4.17.0-okd-scos.10"}, &graph.PlanOptions{Previous: 1}, []string{"4.17.0-okd-scos.10"}},
		{"more minors", "4.18.0-okd-scos.0", promoted, &graph.PlanOptions{Previous: 1, Minors: 2}, []string{"4.18.0-okd-scos.ec.0", "4.17.0-okd-scos.0", "4.16.0-okd-scos.1"}},
		{"no minors", "4.18.0-okd-scos.0", promoted, &graph.PlanOptions{Minors: -1}, []string{"4.18.0-okd-scos.ec.0"}},
		{"nothing before", "4.15.0-okd-scos.0", promoted, nil, nil},
		{"next major", "5.0.0-okd-scos.0", []string{"4.22.0-okd-scos.1", "4.23.0-okd-scos.4"}, nil, []string{"4.23.0-okd-scos.4"}},
		{"itself is not before it", "4.16.0-okd-scos.1+amd64", promoted, nil, []string{"4.16.0-okd-scos.0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			edges, err := graph.Plan(test.version, test.promoted, test.opts)
			require.NoError(t, err)
			var from []string
			for _, e := range edges {
				require.Equal(t, strings.TrimSuffix(test.version, "+amd64"), e.To)
				from = append(from, e.From)
			}
			require.Equal(t, test.want, from)
		})
	}
	_, err := graph.Plan("latest", nil, nil)
	require.Error(t, err)
}

// TestGaps has the graphs of okd#2082, #2218, #2263, #2340 and #2348: a stable
// release to which there is no update.
func TestGaps(t *testing.T) {
	published := []string{"4.16.0-okd-scos.1", "4.17.0-okd-scos.0", "4.17.0-okd-scos.1", "4.17.0-okd-scos.2"}
	g := chain("4.17.0-okd-scos.ec.4 4.17.0-okd-scos.1", "4.16.0-okd-scos.1 4.17.0-okd-scos.1", "4.16.0-okd-scos.1 4.17.0-okd-scos.0", "4.17.0-okd-scos.0")
	gaps := graph.Gaps(g, published, &graph.PlanOptions{Previous: 1})
	require.Equal(t, []graph.Gap{
		{Kind: graph.GapNode, Version: "4.17.0-okd-scos.2"},
		{Kind: graph.GapDeadEnd, Version: "4.17.0-okd-scos.1"},
		{Kind: graph.GapEdge, Version: "4.17.0-okd-scos.1", From: "4.17.0-okd-scos.0"},
		{Kind: graph.GapDeadEnd, Version: "4.17.0-okd-scos.0"},
	}, gaps)
	require.Equal(t, []string{
		"4.17.0-okd-scos.2 is published but not in the graph",
		"no update from 4.17.0-okd-scos.1 to any newer version",
		"no update from 4.17.0-okd-scos.0 to 4.17.0-okd-scos.1",
		"no update from 4.17.0-okd-scos.0 to any newer version",
	}, texts(gaps))
	require.Contains(t, texts(graph.Gaps(chain("4.16.0-okd-scos.1", "4.17.0-okd-scos.0"), published[:2], nil)), "no update to 4.17.0-okd-scos.0 from any older version")

	require.ErrorContains(t, graph.Reachable(g, "4.17.0-okd-scos.1", published, nil), "no update from 4.17.0-okd-scos.0; run their")
	require.NoError(t, graph.Reachable(g, "4.17.0-okd-scos.0", published, nil))
	g.Conditional = []graph.ConditionalEdges{{Edges: []graph.Edge{{From: "4.17.0-okd-scos.0", To: "4.17.0-okd-scos.1"}}}}
	require.NoError(t, graph.Reachable(g, "4.17.0-okd-scos.1", published, nil))
}

func texts(gaps []graph.Gap) []string {
	var out []string
	for _, g := range gaps {
		out = append(out, g.String())
	}
	return out
}

func TestCheckChannel(t *testing.T) {
	for _, good := range []string{"", "stable", "stable-4.20", "stable-scos", "stable-scos-4.20", "stable-scos-4", "next-scos-4.21", "next-4.21", "prerelease", "prerelease-4.21.0-rc", "nightly-4.21", "stable-"} {
		require.NoError(t, graph.CheckChannel(good), good)
	}
	require.ErrorContains(t, graph.CheckChannel("stable-4-scos"), "say stable-scos-4")
	for _, bad := range []string{"stable-4-scos", "fast-4.20", "stablex", "Stable", "stable-scos-next", "stable-4.20.1"} {
		require.Error(t, graph.CheckChannel(bad), bad)
	}
}

func TestBadGraphs(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"not JSON":          {`{`, "unexpected end"},
		"another version":   {`{"version":2,"nodes":[]}`, "version 2 of the format"},
		"edge of one":       {`{"nodes":[{"version":"1.0.0"}],"edges":[[0]]}`, "edge 0 has 1 ends"},
		"edge of three":     {`{"nodes":[{"version":"1.0.0"}],"edges":[[0,0,0]]}`, "edge 0 has 3 ends"},
		"edge to nowhere":   {`{"nodes":[{"version":"1.0.0"}],"edges":[[0,1]]}`, "to 1 of 1"},
		"edge below":        {`{"nodes":[{"version":"1.0.0"}],"edges":[[-1,0]]}`, "from node -1"},
		"twice":             {`{"nodes":[{"version":"1.0.0"},{"version":"1.0.0"}]}`, "1.0.0 is there twice"},
		"no version":        {`{"nodes":[{}]}`, "version of 0 bytes"},
		"long version":      {`{"nodes":[{"version":"` + strings.Repeat("1", graph.MaxVersionLength+1) + `"}]}`, "version of 256 bytes"},
		"metadata of types": {`{"nodes":[{"version":"1.0.0","metadata":{"a":1}}]}`, "number"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := graph.Decode(strings.NewReader(test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
	g, err := graph.Decode(strings.NewReader(`{"nodes":[{"version":"` + strings.Repeat("1", graph.MaxVersionLength) + `"}],"edges":[]}`))
	require.NoError(t, err)
	require.Len(t, g.Nodes, 1)
}

func TestWriteSVG(t *testing.T) {
	g := chain("4.19.0-okd-scos.1 4.20.0-okd-scos.0", "4.20.0-okd-scos.0 4.20.0-okd-scos.1", "odd<&\x01 odd2")
	g.Conditional = []graph.ConditionalEdges{{Edges: []graph.Edge{{From: "4.19.0-okd-scos.1", To: "4.20.0-okd-scos.1"}}, Risks: []graph.Risk{{Name: "R", Message: "<script>"}}}}
	opts := &graph.SVGOptions{Title: "OKD", Candidates: []graph.Candidate{{Edge: graph.Edge{From: "4.19.0-okd-scos.1", To: "4.20.0-okd-scos.1"}, Why: "no upgrade job has run"}}}
	var one, two bytes.Buffer
	require.NoError(t, g.WriteSVG(&one, opts))
	slices.Reverse(g.Edges)
	require.NoError(t, g.WriteSVG(&two, opts))
	require.Equal(t, one.String(), two.String())
	require.NotContains(t, one.String(), "<script>")
	require.NotContains(t, one.String(), "\x01")
	require.Equal(t, 5, strings.Count(one.String(), "<path"))
	require.Contains(t, one.String(), "not published: no upgrade job has run")
	golden(t, "graph.svg", one.Bytes())
}

// A graph of a few KB has many pairs of a conditional edge and a risk; what is
// drawn of them is bounded.
func TestWriteSVGManyRisks(t *testing.T) {
	const n = 300
	g := chain("4.19.0-okd-scos.1 4.20.0-okd-scos.0")
	e := graph.Edge{From: "4.19.0-okd-scos.1", To: "4.20.0-okd-scos.0"}
	g.Conditional = []graph.ConditionalEdges{{Edges: slices.Repeat([]graph.Edge{e}, n), Risks: slices.Repeat([]graph.Risk{{Name: "R", Message: "m"}}, n)}}
	var out bytes.Buffer
	fuzzbound.Within(t, 1<<20, func() { require.NoError(t, g.WriteSVG(&out, nil)) })
	require.Equal(t, 820, strings.Count(out.String(), "R: m"))
	require.Equal(t, 1, strings.Count(out.String(), "…"))

	g.Conditional[0].Risks = []graph.Risk{{Name: strings.Repeat("n", 2000), Message: strings.Repeat("é", 2000)}}
	out.Reset()
	require.NoError(t, g.WriteSVG(&out, nil))
	require.Contains(t, out.String(), "&#xA;"+strings.Repeat("n", 1000)+": "+strings.Repeat("é", 1000)+"&#xA;")
}
