package graph

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// DefaultPrevious is how many releases of its own minor version a new release
// is tested from.
const DefaultPrevious = 3

// PlanOptions are options of Plan, Reachable and Gaps; the zero value is
// useful.
type PlanOptions struct {
	// Previous is how many promoted releases of the same X.Y are tested from;
	// 0: [DefaultPrevious].
	Previous int
	// Minors is how many minor versions back the newest release of is tested
	// from; 0: 1, the one before; -1: none.
	Minors int
}

func (o *PlanOptions) orDefault() PlanOptions {
	var out PlanOptions
	if o != nil {
		out = *o
	}
	if out.Previous <= 0 {
		out.Previous = DefaultPrevious
	}
	if out.Minors == 0 {
		out.Minors = 1
	}
	return out
}

// Plan gives the updates to a new release for which upgrade jobs are needed:
// from the last promoted releases of its minor version in the order of OKD, and
// from the newest one of the minor version before. A release that is not final
// (an early candidate, a nightly) is tested from only by another that is not,
// and where a minor version has no final one: so it never takes the place of a
// final one, as it does for those who sort semantic versions. Newest first.
//
// promoted are versions without architecture; what is not older than the new
// release does not count, nor what is no semantic version.
func Plan(version string, promoted []string, opts *PlanOptions) ([]Edge, error) {
	o := opts.orDefault()
	version, _ = splitArch(version)
	to := newKey(version)
	if !to.isSem {
		return nil, &Error{Op: "plan", Target: version, Err: errors.New("not a semantic version")}
	}
	type minor struct{ x, y uint64 }
	own := minor{to.sem.Major, to.sem.Minor}
	byMinor := map[minor][]key{}
	last := map[uint64]uint64{} // the last minor version of each major one
	for _, v := range promoted {
		v, _ = splitArch(v)
		if k := newKey(v); k.isSem && k.compare(to) < 0 {
			m := minor{k.sem.Major, k.sem.Minor}
			byMinor[m] = append(byMinor[m], k)
			last[m.x] = max(last[m.x], m.y)
		}
	}
	for m, list := range byMinor {
		slices.SortFunc(list, func(a, b key) int { return b.compare(a) })
		list = slices.CompactFunc(list, func(a, b key) bool { return a.text == b.text })
		if finals := slices.DeleteFunc(slices.Clone(list), func(k key) bool { return !k.final() }); len(finals) > 0 && (to.final() || m != own) {
			list = finals
		}
		byMinor[m] = list
	}
	var edges []Edge
	add := func(list []key, n int) {
		for _, k := range list[:min(n, len(list))] {
			edges = append(edges, Edge{k.text, to.text})
		}
	}
	add(byMinor[own], o.Previous)
	for m, back := own, 0; back < o.Minors && m != (minor{}); back++ {
		if m.y > 0 {
			m.y--
		} else {
			m = minor{max(m.x, 1) - 1, last[max(m.x, 1)-1]}
		}
		add(byMinor[m], 1)
	}
	return edges, nil
}

// Reachable is the gate of a release: nil if from each release that [Plan] names
// there is a direct update to it. The error names the updates that are missing
// and wraps [fs.ErrNotExist]. g is a graph as [Graph.Select] gives it.
func Reachable(g *Graph, version string, promoted []string, opts *PlanOptions) error {
	edges, err := Plan(version, promoted, opts)
	if err != nil {
		return err
	}
	var missing []string
	for _, e := range edges {
		if !g.has(e) {
			missing = append(missing, e.From)
		}
	}
	if len(missing) > 0 {
		return &Error{Op: "reach", Target: version, Err: fmt.Errorf("no update from %s; run their upgrade jobs, or waive them: %w", strings.Join(missing, ", "), fs.ErrNotExist)}
	}
	return nil
}

// has says that an update is there, conditional or not.
func (g *Graph) has(e Edge) bool {
	i, j := g.Index(e.From), g.Index(e.To)
	if i < 0 || j < 0 {
		return false
	}
	if slices.Contains(g.Edges, [2]int{i, j}) {
		return true
	}
	return slices.ContainsFunc(g.Conditional, func(c ConditionalEdges) bool { return slices.Contains(c.Edges, e) })
}

// GapKind says what is missing.
type GapKind string

// The kinds of gaps.
const (
	// GapNode: a release that was published is not in the graph: its clusters
	// are told VersionNotFound.
	GapNode GapKind = "no-node"
	// GapEdge: an update that [Plan] asks for is missing.
	GapEdge GapKind = "no-edge"
	// GapDeadEnd: from a release that is not the newest there is no update.
	GapDeadEnd GapKind = "dead-end"
	// GapUnreachable: there are older releases, but no update to this one.
	GapUnreachable GapKind = "unreachable"
)

// Gap is something that clusters will miss.
type Gap struct {
	Kind    GapKind `json:"kind"`
	Version string  `json:"version"`
	From    string  `json:"from,omitempty"` // of GapEdge
}

// String is the gap in words.
func (g Gap) String() string {
	switch g.Kind {
	case GapNode:
		return g.Version + " is published but not in the graph"
	case GapEdge:
		return "no update from " + g.From + " to " + g.Version
	case GapDeadEnd:
		return "no update from " + g.Version + " to any newer version"
	}
	return "no update to " + g.Version + " from any older version"
}

// Gaps compares a graph that is served with the releases that were published
// (versions without architecture, as tags of a stable stream or releases on
// GitHub are named) and lists what is missing, newest version first. g is a
// graph as [Graph.Select] gives it or as a release controller serves it; its
// other nodes do not count.
func Gaps(g *Graph, published []string, opts *PlanOptions) []Gap {
	var keys []key
	for _, v := range published {
		v, _ = splitArch(v)
		if k := newKey(v); k.isSem {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return b.compare(a) })
	keys = slices.CompactFunc(keys, func(a, b key) bool { return a.text == b.text })
	texts := make([]string, len(keys))
	in := map[string]bool{}
	for i, k := range keys {
		texts[i], in[k.text] = k.text, true
	}
	reach := map[string]bool{} // versions with an update to them or from them
	leave := map[string]bool{}
	note := func(e Edge) {
		if in[e.From] && in[e.To] && Compare(e.From, e.To) < 0 {
			leave[e.From], reach[e.To] = true, true
		}
	}
	for _, e := range g.Edges {
		note(Edge{g.Nodes[e[0]].Version, g.Nodes[e[1]].Version})
	}
	for _, c := range g.Conditional {
		for _, e := range c.Edges {
			note(e)
		}
	}
	var gaps []Gap
	for i, k := range keys {
		if g.Index(k.text) < 0 {
			gaps = append(gaps, Gap{Kind: GapNode, Version: k.text})
			continue
		}
		if i > 0 && !leave[k.text] {
			gaps = append(gaps, Gap{Kind: GapDeadEnd, Version: k.text})
		}
		if i < len(keys)-1 && !reach[k.text] {
			gaps = append(gaps, Gap{Kind: GapUnreachable, Version: k.text})
		}
		edges, err := Plan(k.text, texts, opts)
		if err != nil {
			continue // no semantic version was left out above
		}
		for _, e := range edges {
			if !g.has(e) {
				gaps = append(gaps, Gap{Kind: GapEdge, Version: k.text, From: e.From})
			}
		}
	}
	return gaps
}
