package graph_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload/graph"
)

func readGraph(t testing.TB, path string) *graph.Graph {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	g, err := graph.Decode(bytes.NewReader(data))
	require.NoError(t, err)
	return g
}

// edgesOf are the edges by version.
func edgesOf(g *graph.Graph) map[graph.Edge]bool {
	out := map[graph.Edge]bool{}
	for _, e := range g.Edges {
		out[graph.Edge{From: g.Nodes[e[0]].Version, To: g.Nodes[e[1]].Version}] = true
	}
	return out
}

// TestCincinnatiFixtures makes of Cincinnati's raw graphs and graph-data what it
// expects: the graph that its predecessor made by labels in the registry.
func TestCincinnatiFixtures(t *testing.T) {
	for _, fixture := range []string{"20200220.104838", "20200319.204124"} {
		t.Run(fixture, func(t *testing.T) {
			dir := interop.SharedData(t, "graph", fixture)
			data, err := graph.ReadData(os.DirFS(filepath.Join(dir, "cincinnati-graph-data")), nil)
			require.NoError(t, err)
			require.NotEmpty(t, data.Channels)
			require.NotEmpty(t, data.Blocks)
			got, err := data.Apply(readGraph(t, filepath.Join(dir, "graph-gb-raw.json")))
			require.NoError(t, err)
			want, err := (&graph.Data{}).Apply(readGraph(t, filepath.Join(dir, "graph-gb-with-quay-metadata.json")))
			require.NoError(t, err)
			// How blocks were noted is another matter in labels, as Cincinnati's
			// own test has it.
			for _, g := range []*graph.Graph{got, want} {
				for _, n := range g.Nodes {
					delete(n.Metadata, "io.openshift.upgrades.graph.previous.remove")
					delete(n.Metadata, "io.openshift.upgrades.graph.previous.remove_regex")
				}
			}
			require.Equal(t, want.Nodes, got.Nodes)
			require.Equal(t, edgesOf(want), edgesOf(got))
			require.NotEmpty(t, got.Edges)
			require.Empty(t, got.Conditional)
		})
	}
}

// TestCincinnatiInvalid reads the folder with which Cincinnati tests that
// faults are found.
func TestCincinnatiInvalid(t *testing.T) {
	dir := filepath.Join(interop.SharedData(t, "graph", "invalid0"), "cincinnati-graph-data")
	_, err := graph.ReadData(os.DirFS(dir), nil)
	for _, file := range []string{"invalid.extension", "missing_extension", "invalid_format.yaml"} {
		require.ErrorContains(t, err, "blocked-edges/"+file)
	}
	data, err := graph.ReadData(os.DirFS(dir), &graph.DataOptions{Lenient: true})
	require.NoError(t, err)
	require.Empty(t, data.Blocks)
	require.Len(t, data.Skipped, 3)
}

// TestServedGraphs reads graphs as the public server gave them and writes them
// with the same content.
func TestServedGraphs(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(interop.SharedData(t, "graph", "e2e"), "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		g := readGraph(t, path)
		var out bytes.Buffer
		require.NoError(t, g.Encode(&out))
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.JSONEq(t, string(want), out.String())
		for _, n := range g.Nodes {
			u, err := g.Updates(n.Version)
			require.NoError(t, err)
			require.Equal(t, n.Version, u.Current.Version)
		}
	}
}

const always = `
url: https://example.com/1
name: Broken
message: It breaks.
matchingRules:
- type: Always
`

func folder(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{"version": {Data: []byte("1.1.0\n")}}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// versions makes a graph of amd64 and arm64 in which every version of an
// architecture has an edge to every later one.
func versions(list ...string) *graph.Graph {
	g := &graph.Graph{}
	for _, arch := range []string{"amd64", "arm64"} {
		first := len(g.Nodes)
		for i, v := range list {
			g.Nodes = append(g.Nodes, graph.Node{
				Version:  v + "+" + arch,
				Payload:  "example.com/release@sha256:" + strings.Repeat("0", 64),
				Metadata: map[string]string{graph.KeyArch: arch},
			})
			for j := range i {
				g.Edges = append(g.Edges, [2]int{first + j, first + i})
			}
		}
	}
	return g
}

func TestApply(t *testing.T) {
	four := []string{"4.1.0", "4.1.1", "4.2.0", "4.2.1"}
	every := map[graph.Edge]bool{}
	for e := range edgesOf(versions(four...)) {
		every[e] = true
	}
	without := func(gone ...string) map[graph.Edge]bool {
		out := map[graph.Edge]bool{}
		for e := range every {
			out[e] = true
		}
		for _, g := range gone {
			from, to, _ := strings.Cut(g, " ")
			out2 := graph.Edge{From: from, To: to}
			if !out[out2] {
				panic(g)
			}
			delete(out, out2)
		}
		return out
	}
	for _, test := range []struct {
		name        string
		files       map[string]string
		edges       map[graph.Edge]bool
		conditional []graph.Edge
	}{
		{name: "nothing", edges: every},
		{
			name:  "block of every architecture",
			files: map[string]string{"blocked-edges/a.yaml": "to: 4.2.0\nfrom: 4\\.1\\.1\n"},
			edges: without("4.1.1+amd64 4.2.0+amd64", "4.1.1+arm64 4.2.0+arm64"),
		},
		{
			name:  "block of one",
			files: map[string]string{"blocked-edges/a.yaml": "to: 4.2.0+arm64\nfrom: .*\n"},
			edges: without("4.1.0+arm64 4.2.0+arm64", "4.1.1+arm64 4.2.0+arm64"),
		},
		{
			name:  "block by architecture in the pattern",
			files: map[string]string{"blocked-edges/a.yaml": "to: 4.2.1\nfrom: 4\\.2\\..*\\+amd64\n"},
			edges: without("4.2.0+amd64 4.2.1+amd64"),
		},
		{
			name: "two blocks of one target add up",
			files: map[string]string{
				"blocked-edges/a.yaml": "to: 4.2.0+amd64\nfrom: 4\\.1\\.0\n",
				"blocked-edges/b.yaml": "to: 4.2.0+amd64\nfrom: 4\\.1\\.1\nfixedIn: 4.2.1\n",
			},
			edges: without("4.1.0+amd64 4.2.0+amd64", "4.1.1+amd64 4.2.0+amd64"),
		},
		{
			name:        "conditional",
			files:       map[string]string{"blocked-edges/a.yaml": "to: 4.2.1\nfrom: 4\\.1\\.1" + always},
			edges:       without("4.1.1+amd64 4.2.1+amd64", "4.1.1+arm64 4.2.1+arm64"),
			conditional: []graph.Edge{{From: "4.1.1+amd64", To: "4.2.1+amd64"}, {From: "4.1.1+arm64", To: "4.2.1+arm64"}},
		},
		{
			name: "metadata",
			files: map[string]string{"raw/metadata.json": `{
				"4.1.0": {"io.openshift.upgrades.graph.previous.add": "4.2.0, 4.9.9"},
				"4.2.0": {"io.openshift.upgrades.graph.previous.remove": "*"},
				"4.1.1": {"io.openshift.upgrades.graph.next.remove": "4.2.1", "io.openshift.upgrades.graph.next.add": "4.1.0"}}`},
			edges: func() map[graph.Edge]bool {
				out := without("4.1.0+amd64 4.2.0+amd64", "4.1.1+amd64 4.2.0+amd64", "4.1.0+arm64 4.2.0+arm64", "4.1.1+arm64 4.2.0+arm64", "4.1.1+amd64 4.2.1+amd64", "4.1.1+arm64 4.2.1+arm64")
				for _, arch := range []string{"+amd64", "+arm64"} {
					out[graph.Edge{From: "4.2.0" + arch, To: "4.1.0" + arch}] = true
					out[graph.Edge{From: "4.1.1" + arch, To: "4.1.0" + arch}] = true
				}
				return out
			}(),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, err := graph.ReadData(folder(test.files), nil)
			require.NoError(t, err)
			in := versions(four...)
			g, err := data.Apply(in)
			require.NoError(t, err)
			require.Equal(t, versions(four...), in, "the graph that was given")
			require.Equal(t, test.edges, edgesOf(g))
			var conditional []graph.Edge
			for _, c := range g.Conditional {
				require.Equal(t, "Broken", c.Risks[0].Name)
				conditional = append(conditional, c.Edges...)
			}
			require.Equal(t, test.conditional, conditional)
		})
	}
}

// TestRisksOfOneEdge groups edges by the risks that they have.
func TestRisksOfOneEdge(t *testing.T) {
	data, err := graph.ReadData(folder(map[string]string{
		"blocked-edges/1.yaml": "to: 4.2.0\nfrom: .*" + always,
		"blocked-edges/2.yaml": "to: 4.2.0\nfrom: 4\\.1\\.1" + strings.ReplaceAll(always, "Broken", "Other"),
	}), nil)
	require.NoError(t, err)
	g, err := data.Apply(versions("4.1.0", "4.1.1", "4.2.0"))
	require.NoError(t, err)
	selected := g
	require.Len(t, selected.Conditional, 2)
	require.Len(t, selected.Conditional[0].Risks, 1)
	require.Len(t, selected.Conditional[1].Risks, 2)
	require.Equal(t, []graph.Edge{{From: "4.1.1+amd64", To: "4.2.0+amd64"}, {From: "4.1.1+arm64", To: "4.2.0+arm64"}}, selected.Conditional[1].Edges)
}

func TestChannels(t *testing.T) {
	data, err := graph.ReadData(folder(map[string]string{
		"channels/a.yaml":    "name: stable-4.2\nversions:\n- 4.1.0\n- 4.2.0\n",
		"channels/b.yaml":    "name: candidate-4.2\nversions: [4.2.0+arm64, 4.2.1]\nfeeder: {name: x, delay: P1D}\ntombstones: [4.2.9]\n",
		"channels/c.yaml":    "name: fast-4.1\nversions: [4.1.0]\n",
		"channels/_OWNERS":   "nobody",
		"channels/README.md": "read me",
	}), nil)
	require.NoError(t, err)
	require.Len(t, data.Skipped, 2)
	g, err := data.Apply(versions("4.1.0", "4.2.0", "4.2.1"))
	require.NoError(t, err)
	channels := map[string]string{}
	for _, n := range g.Nodes {
		channels[n.Version] = n.Metadata[graph.KeyChannels]
	}
	require.Equal(t, map[string]string{
		"4.1.0+amd64": "fast-4.1,stable-4.2", "4.1.0+arm64": "fast-4.1,stable-4.2",
		"4.2.0+amd64": "stable-4.2", "4.2.0+arm64": "candidate-4.2,stable-4.2",
		"4.2.1+amd64": "candidate-4.2", "4.2.1+arm64": "candidate-4.2",
	}, channels)

	s, err := g.Select("stable-4.2", "arm64")
	require.NoError(t, err)
	require.Equal(t, map[graph.Edge]bool{{From: "4.1.0", To: "4.2.0"}: true}, edgesOf(s))
	require.NotContains(t, s.Nodes[0].Metadata, graph.KeyArch)
	s, err = g.Select("none", "")
	require.NoError(t, err)
	require.Empty(t, s.Nodes)
	for _, bad := range [][2]string{{"", ""}, {"Stable", ""}, {"a b", ""}, {"stable-4.2", "x86_64"}, {"a/../b", ""}} {
		_, err := g.Select(bad[0], bad[1])
		require.ErrorIs(t, err, fs.ErrInvalid, "%q", bad)
	}
}

func TestBadData(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"unknown key":      {map[string]string{"blocked-edges/a.yaml": "to: 4.1.0\nfrom: .*\nreason: x\n"}, "blocked-edges/a.yaml: [3:1]"},
		"no from":          {map[string]string{"blocked-edges/a.yaml": "to: 4.1.0\n"}, "from is missing"},
		"bad pattern":      {map[string]string{"blocked-edges/a.yaml": "to: 4.1.0\nfrom: '('\n"}, "missing closing )"},
		"huge pattern":     {map[string]string{"blocked-edges/a.yaml": "to: 4.1.0\nfrom: '(ab{0,2}){400}'\n"}, "is like one of 3200 characters, limit 2000"},
		"bad version":      {map[string]string{"blocked-edges/a.yaml": "to: 4.1\nfrom: .*\n"}, `version "4.1"`},
		"half a condition": {map[string]string{"blocked-edges/a.yaml": "to: 4.1.0\nfrom: .*\nurl: https://example.com\n"}, "a conditional block has all of"},
		"nobody can judge": {map[string]string{"blocked-edges/a.yaml": "to: 4.1.0\nfrom: .*" + strings.Replace(always, "Always", "Never", 1)}, "no cluster could judge it"},
		"channel name":     {map[string]string{"channels/a.yaml": "name: Stable\n"}, `channel name "Stable"`},
		"channel version":  {map[string]string{"channels/a.yaml": "name: stable\nversions: ['1']\n"}, "channels/a.yaml"},
		"metadata":         {map[string]string{"raw/metadata.json": "{"}, "raw/metadata.json"},
		"metadata version": {map[string]string{"raw/metadata.json": `{"x": {}}`}, `version "x"`},
		"another schema":   {map[string]string{"version": "2.0.0"}, "schema 2.0.0, this knows 1.2.0"},
		"no schema":        {map[string]string{"version": "one"}, "version: \"one\""},
		"large file":       {map[string]string{"channels/a.yaml": strings.Repeat("#", graph.MaxDataFile+1)}, "more than 4194304 bytes"},
		"a folder instead": {map[string]string{"channels/a.yaml/b": ""}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := graph.ReadData(folder(test.files), nil)
			require.ErrorContains(t, err, test.want)
		})
	}
	_, err := graph.ReadData(fstest.MapFS{}, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)

	// A newer minor version of the schema is read.
	_, err = graph.ReadData(folder(map[string]string{"version": "1.9.0"}), nil)
	require.NoError(t, err)

	_, err = graph.ReadData(folder(map[string]string{"blocked-edges/a.yaml": "to: 4.1.0\nfrom: " + strings.Repeat("4.1.0-okd-scos.0|", 500) + "x\n"}), nil)
	require.NoError(t, err)

	// Faults in a node's own metadata name the node.
	g := versions("4.1.0")
	g.Nodes[0].Metadata["io.openshift.upgrades.graph.previous.remove_regex"] = "("
	_, err = (&graph.Data{}).Apply(g)
	require.ErrorContains(t, err, "4.1.0+amd64")
	g.Nodes[0].Metadata["io.openshift.upgrades.graph.previous.remove_regex"] = strings.Repeat("x{999}", 101)
	_, err = (&graph.Data{}).Apply(g)
	require.ErrorContains(t, err, "4.1.0+amd64")
	require.ErrorContains(t, err, "limit 100000")
	g = versions("4.1.0")
	g.Nodes[1].Metadata["io.openshift.upgrades.graph.next.add"] = "x"
	_, err = (&graph.Data{}).Apply(g)
	require.ErrorContains(t, err, "4.1.0+arm64")
}
