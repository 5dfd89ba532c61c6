package promotion

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/stream"
)

// architecture is that of a node: "multi" for an index of several.
func (p *promotion) architecture(ctx context.Context, r *payload.Release) (string, error) {
	if !p.assembled.Index {
		_, arch, _ := strings.Cut(r.Platform(), "/")
		return arch, nil
	}
	ref, err := p.ref()
	if err != nil {
		return "", err
	}
	return architectureOf(ctx, p.env.Registry, ref)
}

func architectureOf(ctx context.Context, images payload.Images, ref name.Digest) (string, error) {
	idx, err := images.Index(ctx, ref)
	if err != nil {
		return "", err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return "", err
	}
	if len(m.Manifests) == 1 && m.Manifests[0].Platform != nil {
		return m.Manifests[0].Platform.Architecture, nil
	}
	return "multi", nil
}

// addNode adds a node and its edges to a graph; what is there stays.
func addNode(g *graph.Graph, n graph.Node, previous []string, rule stream.EdgeRule, evidence []graph.Evidence, now time.Time) error {
	at := g.Index(n.Version)
	if at >= 0 {
		if old := g.Nodes[at]; digestOf(old.Payload) != digestOf(n.Payload) {
			return fmt.Errorf("the graph has %s for %s: %w", old.Payload, n.Version, ErrOther)
		}
	} else {
		at = len(g.Nodes)
		g.Nodes = append(g.Nodes, n)
	}
	plain, arch, _ := strings.Cut(n.Version, "+")
	new := &graph.Graph{Nodes: g.Nodes}
	edge := func(from string) {
		if i := g.Index(from + "+" + arch); i >= 0 && i != at {
			new.Edges = append(new.Edges, [2]int{i, at})
		}
	}
	for _, v := range previous {
		edge(v)
	}
	switch rule {
	case stream.Previous:
	case stream.TestedOrPrevious:
		also := *new
		also.Edges = nil
		for _, e := range evidence {
			if e.To == plain && !slices.Contains(previous, e.From) {
				if i := g.Index(e.From + "+" + arch); i >= 0 && i != at {
					also.Edges = append(also.Edges, [2]int{i, at})
				}
			}
		}
		proven, _ := also.Prove(evidence, now)
		new.Edges = append(new.Edges, proven.Edges...)
	default:
		for _, e := range evidence {
			if e.To == plain && !slices.Contains(previous, e.From) {
				edge(e.From)
			}
		}
		new, _ = new.Prove(evidence, now)
	}
	for _, e := range new.Edges {
		if !slices.Contains(g.Edges, e) {
			g.Edges = append(g.Edges, e)
		}
	}
	return nil
}

// addChannels puts a node into channels, beside those that it is in.
func addChannels(g *graph.Graph, version string, channels []string) error {
	at := g.Index(version)
	if at < 0 {
		return fmt.Errorf("%s is not in the graph: %w", version, ErrOther)
	}
	n := &g.Nodes[at]
	all := n.Channels()
	for _, c := range channels {
		if !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	if n.Metadata == nil {
		n.Metadata = map[string]string{}
	}
	n.Metadata[graph.KeyChannels] = strings.Join(all, ",")
	return nil
}

// removeNode takes a release out of a graph, of every architecture.
func removeNode(g *graph.Graph, version string, digest v1.Hash) {
	gone := func(n graph.Node) bool {
		plain, _, _ := strings.Cut(n.Version, "+")
		return plain == version && digestOf(n.Payload) == digest.String()
	}
	place := make([]int, len(g.Nodes))
	names := map[string]bool{}
	var nodes []graph.Node
	for i, n := range g.Nodes {
		place[i] = -1
		if !gone(n) {
			place[i] = len(nodes)
			nodes = append(nodes, n)
			names[n.Version] = true
		}
	}
	var edges [][2]int
	for _, e := range g.Edges {
		if a, b := place[e[0]], place[e[1]]; a >= 0 && b >= 0 {
			edges = append(edges, [2]int{a, b})
		}
	}
	var conditional []graph.ConditionalEdges
	for _, c := range g.Conditional {
		c.Edges = slices.DeleteFunc(slices.Clone(c.Edges), func(e graph.Edge) bool { return !names[e.From] || !names[e.To] })
		if len(c.Edges) > 0 {
			conditional = append(conditional, c)
		}
	}
	g.Nodes, g.Edges, g.Conditional = nodes, edges, conditional
}
