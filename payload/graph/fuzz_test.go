package graph_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/payload/graph"
)

func FuzzDecode(f *testing.F) {
	mutants.Add(f,
		`{"version":1,"nodes":[{"version":"4.1.0","payload":"x","metadata":{"a":"b"}}],"edges":[[0,0]],"conditionalEdges":[{"edges":[{"from":"4.1.0","to":"4.1.0"}],"risks":[{"matchingRules":[{"type":"PromQL","promql":{"promql":"up"}}]}]}]}`,
		`{"nodes":null,"edges":[[]]}`,
	)
	// Many pairs of an edge and a risk.
	f.Add([]byte(`{"nodes":[{"version":"4.1.0"}],"conditionalEdges":[{"edges":[` + strings.Repeat("{},", 200) + `{}],"risks":[` + strings.Repeat("{},", 200) + `{}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := fuzzbound.Read(t, 512, graph.Decode, data)
		if err != nil {
			return
		}
		var one, two bytes.Buffer
		require.NoError(t, g.Encode(&one))
		again, err := graph.Decode(bytes.NewReader(one.Bytes()))
		require.NoError(t, err)
		require.NoError(t, again.Encode(&two))
		require.Equal(t, one.String(), two.String())
		applied, err := (&graph.Data{}).Apply(g)
		if err == nil {
			require.Len(t, applied.Nodes, len(g.Nodes))
		}
		if len(g.Nodes) > 0 && len(g.Nodes) < 50 {
			_, err := g.Updates(g.Nodes[0].Version)
			require.NoError(t, err)
			_, err = g.Path(g.Nodes[0].Version, g.Nodes[0].Version, nil)
			require.NoError(t, err)
			require.NoError(t, g.WriteSVG(&one, nil))
		}
	})
}

func FuzzReadData(f *testing.F) {
	f.Add([]byte("to: 4.1.0\nfrom: .*\n"), []byte("name: stable\nversions:\n- 4.1.0\n"), []byte(`{"4.1.0":{"a":"b"}}`))
	f.Add([]byte("to: 4.1.0\nfrom: .*"+always), []byte("name: stable\nversions: [4.1.0+amd64]\n"), []byte(`{"4.1.0":{"io.openshift.upgrades.graph.previous.add":"*"}}`))
	f.Add([]byte("to: 4.1.0\nfrom: "+strings.Repeat("x{999}", 20)), []byte("name: a.-"), []byte(`{"4.1.0":{"io.openshift.upgrades.graph.previous.remove_regex":"x{1,99}"}}`))
	f.Add([]byte("a: &a [*a]"), []byte("- - -"), []byte("null"))
	f.Fuzz(func(t *testing.T, block, channel, metadata []byte) {
		folder := fstest.MapFS{
			"version": {Data: []byte("1.0.0")}, "blocked-edges/a.yaml": {Data: block}, "channels/a.yaml": {Data: channel}, "raw/metadata.json": {Data: metadata},
		}
		var d *graph.Data
		var err error
		fuzzbound.Linear(t, len(block)+len(channel)+len(metadata), 4096, func() { d, err = graph.ReadData(folder, nil) })
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "payload/graph: "), err.Error())
			return
		}
		if g, err := d.Apply(versions("4.1.0", "4.2.0")); err == nil {
			require.Len(t, g.Nodes, 4)
		}
	})
}

func FuzzCompare(f *testing.F) {
	f.Add("4.20.0-okd-scos.ec.1", "4.20.0-okd-scos.10", "4.20.0")
	f.Add("4.20.0-0.okd-2025-01-01-000000", "4.20.0-0", "x")
	f.Add("4.20.0+a", "4.20.0+b", "04.20.0")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		fuzzbound.Linear(t, len(a)+len(b), 64, func() { graph.Compare(a, b) })
		require.Equal(t, graph.Compare(a, b), -graph.Compare(b, a))
		require.Zero(t, graph.Compare(a, a))
		if graph.Compare(a, b) <= 0 && graph.Compare(b, c) <= 0 {
			require.LessOrEqual(t, graph.Compare(a, c), 0)
		}
	})
}
