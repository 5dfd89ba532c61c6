package graph

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
)

// everyVersion is the pattern that matches every version.
const everyVersion = ".*"

// Apply gives g as the policy changes it: metadata, blocks and channels are
// noted at the nodes, then edges that metadata asks for are added, the
// conditional ones among all edges listed, and those that metadata or blocks
// take away removed. g, a graph for several architectures, stays as it is.
//
// What speaks of versions that g has not is passed over. Faults in metadata
// (no semantic version, no regular expression) are errors that name the node.
func (d *Data) Apply(g *Graph) (*Graph, error) {
	if err := g.check(); err != nil {
		return nil, &Error{Op: "apply", Err: err}
	}
	a := &applied{Graph: g.clone(), plain: map[string][]int{}, exact: map[string]int{}}
	for i := range a.Nodes {
		n := &a.Nodes[i]
		if n.Metadata == nil && n.Payload != "" {
			n.Metadata = map[string]string{}
		}
		a.exact[n.Version] = i
		if v, err := semver.Parse(n.Version); err == nil {
			v.Build = nil
			a.plain[v.String()] = append(a.plain[v.String()], i)
		}
	}
	a.metadata(d.Metadata)
	a.blocks(d.Blocks)
	a.channels(d.Channels)

	a.edges = make(map[[2]int]bool, len(a.Edges))
	for _, e := range a.Edges {
		a.edges[e] = true
	}
	if err := a.add(); err != nil {
		return nil, err
	}
	if err := a.conditional(d.Blocks); err != nil {
		return nil, err
	}
	if err := a.remove(); err != nil {
		return nil, err
	}
	a.Edges = slices.SortedFunc(maps.Keys(a.edges), compareEdges)
	a.sort()
	return a.Graph, nil
}

// applied is a graph that is being changed.
type applied struct {
	*Graph
	exact map[string]int   // by version with architecture
	plain map[string][]int // by version without
	edges map[[2]int]bool
}

// find gives the nodes of a version, of every architecture if it has none.
func (a *applied) find(version string) []int {
	v, err := semver.Parse(version)
	if err != nil {
		return nil
	}
	if len(v.Build) > 0 {
		if i, ok := a.exact[version]; ok {
			return []int{i}
		}
		return nil
	}
	return a.plain[v.String()]
}

func (a *applied) metadata(more map[string]map[string]string) {
	for _, version := range slices.Sorted(maps.Keys(more)) {
		plain, _ := splitArch(version)
		for _, i := range a.find(plain) {
			for key, value := range more[version] {
				a.append(i, key, ",", value)
			}
		}
	}
}

// append adds to the value of a node's key.
func (a *applied) append(node int, key, between, value string) {
	m := a.Nodes[node].Metadata
	if m == nil {
		return // a version that others name, without a release
	}
	if old, ok := m[key]; ok {
		value = old + between + value
	}
	m[key] = value
}

// blocks notes at each target which versions lose their edge to it: plain
// blocks first, since the first of them takes the place of what the node had.
func (a *applied) blocks(blocks []Block) {
	replaced := map[int]bool{}
	for _, b := range blocks {
		if b.Risk != nil {
			continue
		}
		targets := a.find(b.To)
		// Once s390x was written with a hyphen.
		if v, err := semver.Parse(b.To); err == nil && len(v.Build) == 0 && len(v.Pre) == 1 && v.Pre[0].String() == "s390x" {
			targets = a.find(b.To + "+s390x")
		}
		for _, i := range targets {
			if !replaced[i] {
				replaced[i] = true
				delete(a.Nodes[i].Metadata, keyPrevPattern)
			}
			a.append(i, keyPrevPattern, "|", b.From)
		}
	}
	for _, b := range blocks {
		if b.Risk == nil {
			continue
		}
		plain, _ := splitArch(b.To)
		for _, i := range a.find(plain) {
			a.append(i, keyPrevPattern, "|", b.From)
		}
	}
}

func (a *applied) channels(channels []Channel) {
	for _, c := range channels {
		in := map[int]bool{}
		for _, v := range c.Versions {
			for _, i := range a.find(v) {
				in[i] = true
			}
		}
		for i := range in {
			a.append(i, KeyChannels, ",", c.Name)
		}
	}
	for i := range a.Nodes {
		n := &a.Nodes[i]
		if n.Metadata[KeyChannels] == "" {
			continue
		}
		// By what follows the first hyphen, then by name: an old script's
		// order that readers have got used to.
		names := n.Channels()
		slices.Sort(names)
		slices.SortStableFunc(names, func(x, y string) int { return strings.Compare(channelSuffix(x), channelSuffix(y)) })
		n.Metadata[KeyChannels] = strings.Join(names, ",")
	}
}

func channelSuffix(name string) string {
	_, suffix, _ := strings.Cut(name, "-")
	return suffix
}

// each calls fn with the versions that a key of each node lists, the node's
// architecture added.
func (a *applied) each(key string, fn func(node, other int), all func(node int)) error {
	for i := range a.Nodes {
		n := &a.Nodes[i]
		list, ok := n.Metadata[key]
		if !ok {
			continue
		}
		if all != nil && strings.TrimSpace(list) == "*" {
			all(i)
			continue
		}
		for v := range strings.SplitSeq(list, ",") {
			v = strings.TrimSpace(v)
			if arch, ok := n.Metadata[KeyArch]; ok {
				parsed, err := semver.Parse(v)
				if err != nil {
					return &Error{Op: "apply", Target: n.Version, Err: fmt.Errorf("metadata %s: %.80q: %w", key, v, err)}
				}
				parsed.Build = nil
				v = withArch(parsed.String(), arch)
			}
			if other, ok := a.exact[v]; ok {
				fn(i, other)
			}
		}
	}
	return nil
}

func (a *applied) add() error {
	err := a.each(keyPrevAdd, func(to, from int) { a.edges[[2]int{from, to}] = true }, nil)
	if err == nil {
		err = a.each(keyNextAdd, func(from, to int) { a.edges[[2]int{from, to}] = true }, nil)
	}
	if err == nil && len(a.edges) > MaxEdges {
		err = &Error{Op: "apply", Err: fmt.Errorf("%d edges, limit %d", len(a.edges), MaxEdges)}
	}
	return err
}

// incoming lists the nodes that have an edge to each.
func (a *applied) incoming() [][]int {
	in := make([][]int, len(a.Nodes))
	for e := range a.edges {
		in[e[1]] = append(in[e[1]], e[0])
	}
	return in
}

// conditional lists the edges that have risks, those with the same risks
// together, in the order of targets and of their first risk.
func (a *applied) conditional(blocks []Block) error {
	if !slices.ContainsFunc(blocks, func(b Block) bool { return b.Risk != nil }) {
		return nil
	}
	in, rank := a.incoming(), a.ranks()
	risks := map[[2]int][]int{} // places in blocks
	for place, b := range blocks {
		if b.Risk == nil {
			continue
		}
		from, err := compile(b.From, MaxPattern)
		if err != nil {
			return &Error{Op: "apply", Target: b.To, Err: fmt.Errorf("block from: %w", err)}
		}
		plain, _ := splitArch(b.To)
		for _, to := range a.find(plain) {
			for _, i := range in[to] {
				if b.From == everyVersion || from.MatchString(a.Nodes[i].Version) {
					risks[[2]int{i, to}] = append(risks[[2]int{i, to}], place)
				}
			}
		}
	}
	type group struct {
		risks []int
		edges [][2]int
	}
	groups := map[string]*group{}
	for e, places := range risks {
		id := fmt.Sprint(places)
		if groups[id] == nil {
			groups[id] = &group{risks: places}
		}
		groups[id].edges = append(groups[id].edges, e)
	}
	for _, id := range slices.SortedFunc(maps.Keys(groups), func(x, y string) int { return slices.Compare(groups[x].risks, groups[y].risks) }) {
		gr := groups[id]
		out := ConditionalEdges{}
		for _, place := range gr.risks {
			out.Risks = append(out.Risks, *blocks[place].Risk)
		}
		slices.SortFunc(gr.edges, func(x, y [2]int) int {
			return cmp.Or(cmp.Compare(rank[x[1]], rank[y[1]]), cmp.Compare(rank[x[0]], rank[y[0]]))
		})
		for _, e := range gr.edges {
			out.Edges = append(out.Edges, Edge{a.Nodes[e[0]].Version, a.Nodes[e[1]].Version})
		}
		a.Conditional = append(a.Conditional, out)
	}
	return nil
}

func (a *applied) remove() error {
	in := a.incoming()
	drop := func(from, to int) { delete(a.edges, [2]int{from, to}) }
	all := func(to int) {
		for _, from := range in[to] {
			drop(from, to)
		}
	}
	if err := a.each(keyPrevRemove, func(to, from int) { drop(from, to) }, all); err != nil {
		return err
	}
	for to := range a.Nodes {
		pattern, ok := a.Nodes[to].Metadata[keyPrevPattern]
		if !ok {
			continue
		}
		if pattern == everyVersion {
			all(to)
			continue
		}
		from, err := compile(pattern, MaxPatterns)
		if err != nil {
			return &Error{Op: "apply", Target: a.Nodes[to].Version, Err: fmt.Errorf("metadata %s: %w", keyPrevPattern, err)}
		}
		for _, i := range in[to] {
			if from.MatchString(a.Nodes[i].Version) {
				drop(i, to)
			}
		}
	}
	return a.each(keyNextRemove, drop, nil)
}
