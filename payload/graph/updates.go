package graph

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
)

// Updates is what the cluster-version operator offers a cluster.
type Updates struct {
	Current   Node
	Available []Node // newest first
	// Conditional are the updates that some clusters should not take.
	Conditional []ConditionalUpdate
}

// ConditionalUpdate is an update with its risks.
type ConditionalUpdate struct {
	Node
	Risks []Risk
}

// Updates gives what a cluster of a version would be offered, by the rules of
// the cluster-version operator: an update that is listed both ways is
// conditional; one with two groups of risks is not offered, nor one of which a
// risk has no rule of a type that the operator knows. g is a graph as
// [Graph.Select] gives it. A version that is no node wraps [fs.ErrNotExist].
func (g *Graph) Updates(version string) (*Updates, error) {
	at := g.Index(version)
	if at < 0 {
		return nil, &Error{Op: "updates", Target: version, Err: fmt.Errorf("the version is not in the graph: %w", fs.ErrNotExist)}
	}
	out := &Updates{Current: g.Nodes[at]}
	conditional := map[string][]ConditionalEdges{}
	for _, c := range g.Conditional {
		for _, e := range c.Edges {
			if e.From == version {
				conditional[e.To] = append(conditional[e.To], c)
			}
		}
	}
	for _, e := range g.Edges {
		if e[0] == at && conditional[g.Nodes[e[1]].Version] == nil {
			out.Available = append(out.Available, g.Nodes[e[1]])
		}
	}
	for to, groups := range conditional {
		i := g.Index(to)
		if i < 0 || len(groups) != 1 {
			continue
		}
		u := ConditionalUpdate{Node: g.Nodes[i]}
		for _, r := range groups[0].Risks {
			r.Rules = slices.DeleteFunc(slices.Clone(r.Rules), func(r Rule) bool { return !known(r) })
			u.Risks = append(u.Risks, r)
		}
		if len(u.Risks) > 0 && !slices.ContainsFunc(u.Risks, func(r Risk) bool { return len(r.Rules) == 0 }) {
			out.Conditional = append(out.Conditional, u)
		}
	}
	slices.SortFunc(out.Available, func(a, b Node) int { return Compare(b.Version, a.Version) })
	slices.SortFunc(out.Conditional, func(a, b ConditionalUpdate) int { return Compare(b.Version, a.Version) })
	return out, nil
}

// PathOptions are options of Path and Lost; the zero value is useful.
type PathOptions struct {
	// Conditional lets ways go over conditional updates.
	Conditional bool
}

// Path gives the versions from one to another with the fewest updates, both
// included; of ways with as many the one by the newest versions. No way wraps
// [fs.ErrNotExist] and says how far one gets and from where the end can be
// reached.
func (g *Graph) Path(from, to string, opts *PathOptions) ([]string, error) {
	a, b := g.Index(from), g.Index(to)
	target := from + " to " + to
	for _, v := range []struct {
		at   int
		name string
	}{{a, from}, {b, to}} {
		if v.at < 0 {
			return nil, &Error{Op: "path", Target: target, Err: fmt.Errorf("%s is not in the graph: %w", v.name, fs.ErrNotExist)}
		}
	}
	next := g.neighbours(opts, false)
	before := search(next, a)
	if a != b && before[b] < 0 {
		far := g.newest(before, a)
		near := g.newest(search(g.neighbours(opts, true), b), b)
		return nil, &Error{Op: "path", Target: target, Err: fmt.Errorf("no way: updates from %s get to %s at most, the newest version from which there is a way to %s is %s: %w", from, far, to, near, fs.ErrNotExist)}
	}
	var out []string
	for at := b; ; at = before[at] {
		out = append(out, g.Nodes[at].Version)
		if at == a {
			break
		}
	}
	slices.Reverse(out)
	return out, nil
}

// newest is the newest version but start that a search found, else "none".
func (g *Graph) newest(before []int, start int) string {
	best := ""
	for i, b := range before {
		if b >= 0 && i != start && (best == "" || Compare(g.Nodes[i].Version, best) > 0) {
			best = g.Nodes[i].Version
		}
	}
	return cmp.Or(best, "none")
}

// neighbours lists the updates from each node, or to it, newest version first.
func (g *Graph) neighbours(opts *PathOptions, back bool) [][]int {
	next := make([][]int, len(g.Nodes))
	add := func(from, to int) {
		if back {
			from, to = to, from
		}
		next[from] = append(next[from], to)
	}
	place := make(map[string]int, len(g.Nodes))
	keys := make([]key, len(g.Nodes))
	for i, n := range g.Nodes {
		place[n.Version], keys[i] = i, newKey(n.Version)
	}
	risky := map[[2]int]bool{}
	for _, c := range g.Conditional {
		for _, e := range c.Edges {
			i, ok1 := place[e.From]
			j, ok2 := place[e.To]
			if ok1 && ok2 {
				risky[[2]int{i, j}] = true
			}
		}
	}
	for _, e := range g.Edges {
		if !risky[e] {
			add(e[0], e[1])
		}
	}
	if opts != nil && opts.Conditional {
		for e := range risky {
			add(e[0], e[1])
		}
	}
	for _, list := range next {
		slices.SortFunc(list, func(x, y int) int { return keys[y].compare(keys[x]) })
	}
	return next
}

// search gives for each node the one before it on a shortest way from start;
// -1: no way (and for start itself).
func search(next [][]int, start int) []int {
	before := make([]int, len(next))
	for i := range before {
		before[i] = -1
	}
	queue := []int{start}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, n := range next[at] {
			if n != start && before[n] < 0 {
				before[n] = at
				queue = append(queue, n)
			}
		}
	}
	return before
}

// Lost gives the versions from which there was a way to a target in one graph
// and is none in another, oldest first: what a block would cut off. An empty
// target is the newest version of before.
func Lost(before, after *Graph, target string, opts *PathOptions) []string {
	if target == "" {
		for _, n := range before.Nodes {
			if target == "" || Compare(n.Version, target) > 0 {
				target = n.Version
			}
		}
	}
	have := map[string]bool{}
	if at := after.Index(target); at >= 0 {
		for i, b := range search(after.neighbours(opts, true), at) {
			if b >= 0 {
				have[after.Nodes[i].Version] = true
			}
		}
	}
	var lost []string
	if at := before.Index(target); at >= 0 {
		for i, b := range search(before.neighbours(opts, true), at) {
			if b >= 0 && !have[before.Nodes[i].Version] {
				lost = append(lost, before.Nodes[i].Version)
			}
		}
	}
	slices.SortFunc(lost, Compare)
	return lost
}
