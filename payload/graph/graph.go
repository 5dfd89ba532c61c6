package graph

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Keys of a node's metadata that mean something in a graph.
const (
	// KeyChannels lists the node's channels, separated by commas.
	KeyChannels = prefix + "release.channels"
	// KeyArch is the architecture of a node of a graph for several.
	KeyArch = prefix + "release.arch"
	// KeyManifest is the digest of the release image.
	KeyManifest = prefix + "release.manifestref"

	prefix         = "io.openshift.upgrades.graph."
	keyPrevAdd     = prefix + "previous.add"
	keyPrevRemove  = prefix + "previous.remove"
	keyPrevPattern = prefix + "previous.remove_regex"
	keyNextAdd     = prefix + "next.add"
	keyNextRemove  = prefix + "next.remove"
)

// Graph is an update graph as clusters read it. In a graph for several
// architectures a node's version ends in "+ARCH" and its metadata has
// [KeyArch]; [Graph.Select] takes both off.
type Graph struct {
	Nodes []Node
	// Edges are pairs of indices into Nodes: from the first to the second may
	// be updated.
	Edges [][2]int
	// Conditional are updates that some clusters should not take. Where an
	// update is here and in Edges too, this counts.
	Conditional []ConditionalEdges
}

// Node is a release.
type Node struct {
	Version string `json:"version"`
	// Payload is the pullspec of the release image, by digest.
	Payload  string            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

// Edge is a possible update between two versions.
type Edge struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// ConditionalEdges are edges with the same risks.
type ConditionalEdges struct {
	Edges []Edge `json:"edges"`
	Risks []Risk `json:"risks"`
}

// Risk is a known problem of an update, and the clusters that have it.
type Risk struct {
	URL     string `json:"url"`     // where to read about it
	Name    string `json:"name"`    // a word, such as CamelCase
	Message string `json:"message"` // for the cluster's administrator
	// Rules say which clusters are at risk: those that match any of them that
	// the cluster-version operator can judge.
	Rules []Rule `json:"matchingRules"`
}

// Rule matches clusters.
type Rule struct {
	Type   string  `json:"type"` // "Always" or "PromQL"
	PromQL *PromQL `json:"promql,omitempty"`
}

// PromQL is a query that is 1 in clusters at risk and 0 in others.
type PromQL struct {
	PromQL string `json:"promql"`
}

// wire is the graph's JSON.
type wire struct {
	Version     int                `json:"version,omitempty"`
	Nodes       []Node             `json:"nodes"`
	Edges       [][2]int           `json:"edges"`
	Conditional []ConditionalEdges `json:"conditionalEdges"`
}

// Decode reads a graph's JSON, at most [MaxGraphSize] bytes: version 1 or, as
// of a release controller, without one. A version that is twice in it and an
// edge between nodes that are not there are errors. Members that it does not
// know are passed over.
func Decode(r io.Reader) (*Graph, error) {
	g, err := decode(r)
	if err != nil {
		return nil, &Error{Op: "decode", Err: err}
	}
	return g, nil
}

func decode(r io.Reader) (*Graph, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxGraphSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxGraphSize {
		return nil, fmt.Errorf("more than %d bytes", MaxGraphSize)
	}
	// Edges as slices first: a fixed array takes any length without a word.
	var w struct {
		Version     int                `json:"version"`
		Nodes       []Node             `json:"nodes"`
		Edges       [][]int            `json:"edges"`
		Conditional []ConditionalEdges `json:"conditionalEdges"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, err
	}
	if w.Version != 0 && w.Version != 1 {
		return nil, fmt.Errorf("version %d of the format: %w", w.Version, errors.ErrUnsupported)
	}
	g := &Graph{Nodes: w.Nodes, Conditional: w.Conditional}
	for i, e := range w.Edges {
		if len(e) != 2 {
			return nil, fmt.Errorf("edge %d has %d ends", i, len(e))
		}
		g.Edges = append(g.Edges, [2]int{e[0], e[1]})
	}
	return g, g.check()
}

// check finds what would make a graph mean nothing.
func (g *Graph) check() error {
	if len(g.Nodes) > MaxNodes || len(g.Edges) > MaxEdges {
		return fmt.Errorf("%d nodes and %d edges, limits %d and %d", len(g.Nodes), len(g.Edges), MaxNodes, MaxEdges)
	}
	seen := make(map[string]bool, len(g.Nodes))
	for i, n := range g.Nodes {
		if n.Version == "" || len(n.Version) > MaxVersionLength {
			return fmt.Errorf("node %d: version of %d bytes, limit %d", i, len(n.Version), MaxVersionLength)
		}
		if seen[n.Version] {
			return fmt.Errorf("version %s is there twice", n.Version)
		}
		seen[n.Version] = true
	}
	for i, e := range g.Edges {
		if min(e[0], e[1]) < 0 || max(e[0], e[1]) >= len(g.Nodes) {
			return fmt.Errorf("edge %d from node %d to %d of %d", i, e[0], e[1], len(g.Nodes))
		}
	}
	return nil
}

// Encode writes the graph's JSON on one line, as Cincinnati's server does.
func (g *Graph) Encode(w io.Writer) error {
	if err := g.check(); err != nil {
		return &Error{Op: "encode", Err: err}
	}
	out := wire{Version: 1, Nodes: g.Nodes, Edges: g.Edges, Conditional: g.Conditional}
	if out.Nodes == nil {
		out.Nodes = []Node{}
	}
	if out.Edges == nil {
		out.Edges = [][2]int{}
	}
	if out.Conditional == nil {
		out.Conditional = []ConditionalEdges{}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		return &Error{Op: "encode", Err: err}
	}
	_, err := w.Write(bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
	return err
}

// Index gives the place of a version in Nodes, -1 if it is not there.
func (g *Graph) Index(version string) int {
	return slices.IndexFunc(g.Nodes, func(n Node) bool { return n.Version == version })
}

// Channels are the channels of a node, in the order of its metadata.
func (n *Node) Channels() []string {
	var out []string
	for c := range strings.SplitSeq(n.Metadata[KeyChannels], ",") {
		if c = strings.TrimSpace(c); c != "" {
			out = append(out, c)
		}
	}
	return out
}

// clone is a copy whose metadata may be changed.
func (g *Graph) clone() *Graph {
	out := &Graph{Nodes: slices.Clone(g.Nodes), Edges: slices.Clone(g.Edges), Conditional: slices.Clone(g.Conditional)}
	for i := range out.Nodes {
		out.Nodes[i].Metadata = maps.Clone(out.Nodes[i].Metadata)
	}
	return out
}

// sort puts nodes in the order of their versions, edges in the order of their
// nodes, and takes out edges that are there twice.
func (g *Graph) sort() {
	place := g.ranks()
	nodes := make([]Node, len(place))
	for from, to := range place {
		nodes[to] = g.Nodes[from]
	}
	g.Nodes = nodes
	for i, e := range g.Edges {
		g.Edges[i] = [2]int{place[e[0]], place[e[1]]}
	}
	slices.SortFunc(g.Edges, compareEdges)
	g.Edges = slices.Compact(g.Edges)
}

// ranks gives the place of each node in the order of versions.
func (g *Graph) ranks() []int {
	order := make([]int, len(g.Nodes))
	keys := make([]key, len(g.Nodes))
	for i, n := range g.Nodes {
		order[i], keys[i] = i, newKey(n.Version)
	}
	slices.SortFunc(order, func(a, b int) int { return keys[a].compare(keys[b]) })
	ranks := make([]int, len(order))
	for to, from := range order {
		ranks[from] = to
	}
	return ranks
}

func compareEdges(a, b [2]int) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) }

// keep leaves the nodes for which keep is true, and the edges between them.
func (g *Graph) keep(keep func(*Node) bool) {
	place := make([]int, len(g.Nodes))
	names := map[string]bool{}
	var nodes []Node
	for i := range g.Nodes {
		place[i] = -1
		if keep(&g.Nodes[i]) {
			place[i] = len(nodes)
			nodes = append(nodes, g.Nodes[i])
			names[g.Nodes[i].Version] = true
		}
	}
	var edges [][2]int
	for _, e := range g.Edges {
		if from, to := place[e[0]], place[e[1]]; from >= 0 && to >= 0 {
			edges = append(edges, [2]int{from, to})
		}
	}
	g.Nodes, g.Edges = nodes, edges
	g.keepConditional(func(e Edge) bool { return names[e.From] && names[e.To] })
}

// keepConditional leaves the conditional edges for which keep is true.
func (g *Graph) keepConditional(keep func(Edge) bool) {
	var left []ConditionalEdges
	for _, c := range g.Conditional {
		edges := slices.DeleteFunc(slices.Clone(c.Edges), func(e Edge) bool { return !keep(e) })
		if len(edges) > 0 {
			left = append(left, ConditionalEdges{Edges: edges, Risks: c.Risks})
		}
	}
	g.Conditional = left
}
