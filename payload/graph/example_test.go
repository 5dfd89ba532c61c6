package graph_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing/fstest"
	"time"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
)

func made() *graph.Graph {
	var releases []graph.Release
	previous := []string(nil)
	for i, version := range []string{"4.20.0-okd-scos.0", "4.20.0-okd-scos.1", "4.21.0-okd-scos.0"} {
		releases = append(releases, graph.Release{
			Payload:  fmt.Sprintf("example.com/okd/release@sha256:%064x", i),
			Arch:     "amd64",
			Metadata: &payload.Metadata{Version: version, Previous: previous},
		})
		previous = append(previous, version)
	}
	g, err := graph.Build(releases)
	if err != nil {
		log.Fatal(err)
	}
	return g
}

// The way from releases to what a cluster is offered.
func Example() {
	g := made()
	data, err := graph.ReadData(fstest.MapFS{
		"version":                 {Data: []byte("1.1.0")},
		"channels/stable.yaml":    {Data: []byte("name: stable-4.21\nversions:\n- 4.20.0-okd-scos.0\n- 4.20.0-okd-scos.1\n- 4.21.0-okd-scos.0\n")},
		"blocked-edges/etcd.yaml": {Data: []byte("to: 4.21.0-okd-scos.0\nfrom: 4[.]20[.]0-okd-scos[.]0[+]\n")},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	if g, err = data.Apply(g); err != nil {
		log.Fatal(err)
	}
	passed := &graph.Job{Name: "e2e-upgrade", Passed: true}
	g, candidates := g.Prove([]graph.Evidence{
		{From: "4.20.0-okd-scos.0", To: "4.20.0-okd-scos.1", Job: passed},
	}, time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC))
	for _, c := range candidates {
		fmt.Println("not published:", c.From, "to", c.To+":", c.Why)
	}
	stable, err := g.Select("stable-4.21", "amd64")
	if err != nil {
		log.Fatal(err)
	}
	updates, err := stable.Updates("4.20.0-okd-scos.0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("offered:", updates.Available[0].Version)
	// Output:
	// not published: 4.20.0-okd-scos.1+amd64 to 4.21.0-okd-scos.0+amd64: no upgrade job has run
	// offered: 4.20.0-okd-scos.1
}

func ExampleBuild() {
	release := func(i int, version string, previous ...string) graph.Release {
		return graph.Release{
			Payload:  fmt.Sprintf("example.com/okd/release@sha256:%064x", i),
			Arch:     "amd64",
			Metadata: &payload.Metadata{Version: version, Previous: previous},
		}
	}
	g, err := graph.Build([]graph.Release{
		release(1, "4.20.0-okd-scos.1", "4.20.0-okd-scos.0"),
		release(0, "4.20.0-okd-scos.0"),
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range g.Edges {
		fmt.Println(g.Nodes[e[0]].Version, "to", g.Nodes[e[1]].Version)
	}
	// Output: 4.20.0-okd-scos.0+amd64 to 4.20.0-okd-scos.1+amd64
}

func ExampleDecode() {
	g, err := graph.Decode(strings.NewReader(`{"nodes":[{"version":"4.20.0"},{"version":"4.20.1"}],"edges":[[0,1]]}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(g.Nodes), "versions,", len(g.Edges), "update")
	// Output: 2 versions, 1 update
}

func ExampleGraph_Encode() {
	g := &graph.Graph{Nodes: []graph.Node{{Version: "4.20.0", Payload: "example.com/release@sha256:1"}}}
	if err := g.Encode(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output: {"version":1,"nodes":[{"version":"4.20.0","payload":"example.com/release@sha256:1","metadata":null}],"edges":[],"conditionalEdges":[]}
}

func ExampleReadData() {
	data, err := graph.ReadData(fstest.MapFS{
		"version":              {Data: []byte("1.1.0")},
		"channels/stable.yaml": {Data: []byte("name: stable-4.21\nversions: [4.21.0]\n")},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(data.Channels[0].Name, data.Channels[0].Versions)
	// Output: stable-4.21 [4.21.0]
}

func ExampleData_Apply() {
	data := &graph.Data{Channels: []graph.Channel{{Name: "stable-4.20", Versions: []string{"4.20.0-okd-scos.1"}}}}
	g, err := data.Apply(made())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(g.Nodes[1].Version, g.Nodes[1].Channels())
	// Output: 4.20.0-okd-scos.1+amd64 [stable-4.20]
}

func ExampleGraph_Prove() {
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	_, candidates := made().Prove([]graph.Evidence{{
		From: "4.20.0-okd-scos.0", To: "4.20.0-okd-scos.1",
		Waiver: &graph.Waiver{By: "Ann", Reason: "the job's cloud was down", Expires: now.AddDate(0, 0, 7)},
	}}, now)
	fmt.Println(len(candidates), "updates lack evidence")
	// Output: 2 updates lack evidence
}

func ExampleGraph_Path() {
	path, err := made().Path("4.20.0-okd-scos.0+amd64", "4.21.0-okd-scos.0+amd64", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Join(path, " "))
	// Output: 4.20.0-okd-scos.0+amd64 4.21.0-okd-scos.0+amd64
}

func ExampleLost() {
	g := made()
	blocked, err := (&graph.Data{Blocks: []graph.Block{{To: "4.21.0-okd-scos.0", From: ".*"}}}).Apply(g)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(graph.Lost(g, blocked, "", nil))
	// Output: [4.20.0-okd-scos.0+amd64 4.20.0-okd-scos.1+amd64]
}

func ExamplePlan() {
	edges, err := graph.Plan("4.17.0-okd-scos.1", []string{"4.16.0-okd-scos.1", "4.17.0-okd-scos.ec.4", "4.17.0-okd-scos.0"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range edges {
		fmt.Println("upgrade job from", e.From)
	}
	// Output:
	// upgrade job from 4.17.0-okd-scos.0
	// upgrade job from 4.16.0-okd-scos.1
}

func ExampleReachable() {
	g := &graph.Graph{Nodes: []graph.Node{{Version: "4.17.0-okd-scos.0"}, {Version: "4.17.0-okd-scos.1"}}}
	fmt.Println(graph.Reachable(g, "4.17.0-okd-scos.1", []string{"4.17.0-okd-scos.0"}, nil))
	// Output: payload/graph: reach 4.17.0-okd-scos.1: no update from 4.17.0-okd-scos.0; run their upgrade jobs, or waive them: file does not exist
}

func ExampleGaps() {
	g := &graph.Graph{Nodes: []graph.Node{{Version: "4.17.0-okd-scos.0"}, {Version: "4.17.0-okd-scos.1"}}}
	for _, gap := range graph.Gaps(g, []string{"4.17.0-okd-scos.0", "4.17.0-okd-scos.1"}, nil) {
		fmt.Println(gap)
	}
	// Output:
	// no update to 4.17.0-okd-scos.1 from any older version
	// no update from 4.17.0-okd-scos.0 to 4.17.0-okd-scos.1
	// no update from 4.17.0-okd-scos.0 to any newer version
}

func ExampleCheckChannel() {
	fmt.Println(graph.CheckChannel("stable-4-scos"))
	// Output: payload/graph: channel stable-4-scos: "4-scos" is not the beginning of a version; say stable-scos-4: invalid argument
}

func ExampleCompare() {
	fmt.Println(graph.Compare("4.20.0-okd-scos.ec.1", "4.20.0-okd-scos.10"))
	// Output: -1
}

func ExampleNewHandler() {
	server := httptest.NewServer(graph.NewHandler(made(), nil))
	defer server.Close()
	resp, err := http.Get(server.URL + "/graph")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.Status)
	// Output: 400 Bad Request
}

func ExampleNewClient() {
	_, err := graph.NewClient("amd64.example.com/graph", nil)
	fmt.Println(err)
	// Output: payload/graph: fetch amd64.example.com/graph: an address such as https://HOST/graph is needed: invalid argument
}

func ExampleClient_Graph() {
	g, err := (&graph.Data{Channels: []graph.Channel{{Name: "stable-4.20", Versions: []string{"4.20.0-okd-scos.0"}}}}).Apply(made())
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(graph.NewHandler(g, nil))
	defer server.Close()
	client, err := graph.NewClient(server.URL+"/graph", nil)
	if err != nil {
		log.Fatal(err)
	}
	got, err := client.Graph(context.Background(), graph.Query{Channel: "stable-4.20"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(got.Nodes[0].Version)
	// Output: 4.20.0-okd-scos.0
}

func ExampleGraph_Select() {
	g, err := (&graph.Data{Channels: []graph.Channel{{Name: "stable-4.20", Versions: []string{"4.20.0-okd-scos.0"}}}}).Apply(made())
	if err != nil {
		log.Fatal(err)
	}
	stable, err := g.Select("stable-4.20", "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stable.Nodes[0].Version)
	// Output: 4.20.0-okd-scos.0
}

func ExampleGraph_Updates() {
	g := &graph.Graph{Nodes: []graph.Node{{Version: "4.20.0"}, {Version: "4.20.1"}}, Edges: [][2]int{{0, 1}}}
	updates, err := g.Updates("4.20.0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(updates.Available[0].Version)
	// Output: 4.20.1
}

func ExampleGraph_Files() {
	g, err := (&graph.Data{Channels: []graph.Channel{{Name: "stable-4.20", Versions: []string{"4.20.0-okd-scos.0"}}}}).Apply(made())
	if err != nil {
		log.Fatal(err)
	}
	for f, err := range g.Files() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(f.Path)
	}
	// Output: stable-4.20/amd64/graph
}

func ExampleGraph_WriteSVG() {
	var picture strings.Builder
	if err := made().WriteSVG(&picture, &graph.SVGOptions{Title: "OKD"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Count(picture.String(), "<path"), "curves")
	// Output: 3 curves
}
