package bootimage

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/bits"
	"slices"
	"strconv"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
)

// UpdateGraph is what Fedora CoreOS' update service answers machines of one
// architecture: its releases, and which of them a machine may go to from which.
// Written as JSON it is what Zincati reads.
type UpdateGraph struct {
	Nodes []UpdateNode `json:"nodes"` // from the oldest to the newest
	Edges [][2]int     `json:"edges"` // from, to: places in Nodes
}

// UpdateNode is a release for one architecture.
type UpdateNode struct {
	Version  string            `json:"version"`
	Metadata map[string]string `json:"metadata"` // of what is said of the release in the updates document
	// Payload is the commit; with OCI images the pullspec by digest.
	Payload string `json:"payload"`

	marks UpdatesMetadata
}

// UpdateGraphOptions are options of [UpdateGraphFor].
type UpdateGraphOptions struct {
	// OCI says that machines update from container images, not from commits.
	OCI bool
}

// UpdateGraphFor makes the update graph of an architecture from the index of a
// stream's releases and its updates document, by the rules of
// fedora-coreos-cincinnati: every rollout is reached from the releases since the
// barrier before it, that one included; every other barrier from the releases
// since the one before; dead ends have no way out. Releases without anything for
// the architecture are left out. The error wraps [io/fs.ErrInvalid] where the
// documents are of two streams or no release is for the architecture.
//
// The graph is that for machines that wait for nothing: [UpdateGraph.Throttle] is
// what one machine is shown.
func UpdateGraphFor(index *releasemd.Index, updates *Updates, arch string, opts *UpdateGraphOptions) (*UpdateGraph, error) {
	if index.Stream != updates.Stream {
		return nil, fmt.Errorf("bootimage: update graph: releases of stream %s, updates of %s: %w", index.Stream, updates.Stream, fs.ErrInvalid)
	}
	marks := map[string]UpdatesMetadata{}
	for _, r := range updates.Releases {
		marks[r.Version] = r.Metadata
	}
	g := &UpdateGraph{Edges: [][2]int{}}
	oci := opts != nil && opts.OCI
	for age, r := range index.Releases {
		payload, scheme := payloadOf(r, arch, oci)
		if payload == "" {
			continue
		}
		n := UpdateNode{Version: r.Version, Payload: payload, marks: marks[r.Version]}
		n.describe(age, scheme)
		g.Nodes = append(g.Nodes, n)
	}
	if len(g.Nodes) == 0 {
		return nil, fmt.Errorf("bootimage: update graph: no release of stream %s for %.40q: %w", index.Stream, arch, fs.ErrInvalid)
	}
	g.connect()
	return g, nil
}

func payloadOf(r releasemd.IndexRelease, arch string, oci bool) (payload, scheme string) {
	if oci {
		for _, image := range r.OciImages {
			if image.Architecture == arch {
				payload = image.DigestRef
			}
		}
		return payload, "oci"
	}
	for _, c := range r.Commits {
		if c.Architecture == arch {
			payload = c.Checksum
		}
	}
	return payload, "checksum"
}

// describe writes the keys that Zincati knows.
func (n *UpdateNode) describe(age int, scheme string) {
	const prefix = "org.fedoraproject.coreos."
	n.Metadata = map[string]string{prefix + "releases.age_index": strconv.Itoa(age), prefix + "scheme": scheme}
	mark := func(key string, reason *UpdatesReason) {
		if reason == nil {
			return
		}
		n.Metadata[prefix+"updates."+key] = "true"
		text := reason.Reason
		if text == "" {
			text = "generic"
		}
		n.Metadata[prefix+"updates."+key+"_reason"] = text
	}
	mark("barrier", n.marks.Barrier)
	mark("deadend", n.marks.DeadEnd)
	if r := n.marks.Rollout; r != nil {
		n.Metadata[prefix+"updates.rollout"] = "true"
		if r.StartEpoch != 0 {
			n.Metadata[prefix+"updates.start_epoch"] = strconv.FormatInt(r.StartEpoch, 10)
		}
		n.Metadata[prefix+"updates.start_value"] = strconv.FormatFloat(float64(r.StartPercentage), 'f', -1, 64)
		if r.DurationMinutes != nil {
			n.Metadata[prefix+"updates.duration_minutes"] = strconv.FormatUint(*r.DurationMinutes, 10)
		}
	}
}

// connect draws the edges, rollouts from the newest on, then barriers.
func (g *UpdateGraph) connect() {
	barrier := make([]int, len(g.Nodes)) // the place of the barrier before; 0: none
	last := 0
	for i, n := range g.Nodes {
		barrier[i] = last
		if n.marks.Barrier != nil {
			last = i
		}
	}
	reach := func(to int) {
		for from := barrier[to]; from < to; from++ {
			if g.Nodes[from].marks.DeadEnd == nil {
				g.Edges = append(g.Edges, [2]int{from, to})
			}
		}
	}
	for to := len(g.Nodes) - 1; to >= 0; to-- {
		if g.Nodes[to].marks.Rollout != nil {
			reach(to)
		}
	}
	for to, n := range g.Nodes {
		if n.marks.Barrier != nil && n.marks.Rollout == nil {
			reach(to)
		}
	}
}

// Throttle is the graph that a machine is shown at a time: without the ways to
// rollouts that have not reached it. Wariness is 0 to 1 ([Wariness]); a machine
// with 0 sees every rollout, even before its start.
func (g *UpdateGraph) Throttle(now time.Time, wariness float64) *UpdateGraph {
	shown := &UpdateGraph{Nodes: g.Nodes, Edges: [][2]int{}}
	wariness = min(max(wariness, 0), 1)
	for _, e := range g.Edges {
		if r := g.Nodes[e[1]].marks.Rollout; r == nil || wariness <= r.At(now) {
			shown.Edges = append(shown.Edges, e)
		}
	}
	return shown
}

// Path is the way that machines take from a release, each time to the newest
// release that they see: the versions after it, none where it is the end of its
// way. The error wraps [io/fs.ErrNotExist] where there is no such release.
func (g *UpdateGraph) Path(version string) ([]string, error) {
	at := slices.IndexFunc(g.Nodes, func(n UpdateNode) bool { return n.Version == version })
	if at < 0 {
		return nil, fmt.Errorf("bootimage: update graph: release %.140q: %w", version, fs.ErrNotExist)
	}
	next := make([]int, len(g.Nodes))
	for _, e := range g.Edges {
		next[e[0]] = max(next[e[0]], e[1])
	}
	var path []string
	for at = next[at]; at != 0; at = next[at] {
		path = append(path, g.Nodes[at].Version)
	}
	return path, nil
}

// Wariness is that of a machine that does not choose one: above 0 up to 1, the
// same for the same text, by its UUID as Zincati sends it.
func Wariness(node string) float64 {
	const least = 0.000_001
	scaled := float64(sipHash13(append([]byte(node), 0xff))) / (1 << 64)
	return min(max(scaled, least), 1)
}

// sipHash13 is SipHash with one round a block and three at the end, and a key of
// zeros: the hash of Rust's standard library that the service takes.
func sipHash13(data []byte) uint64 {
	v0, v1, v2, v3 := uint64(0x736f6d6570736575), uint64(0x646f72616e646f6d), uint64(0x6c7967656e657261), uint64(0x7465646279746573)
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	block := func(m uint64) {
		v3 ^= m
		round()
		v0 ^= m
	}
	last := uint64(len(data)) << 56
	for ; len(data) >= 8; data = data[8:] {
		block(binary.LittleEndian.Uint64(data))
	}
	var rest [8]byte
	copy(rest[:], data)
	block(last | binary.LittleEndian.Uint64(rest[:]))
	v2 ^= 0xff
	for range 3 {
		round()
	}
	return v0 ^ v1 ^ v2 ^ v3
}
