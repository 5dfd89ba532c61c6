package graph

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/payload"
)

// Release is what a node is made of.
type Release struct {
	// Payload is the pullspec that clusters are given; it must be by digest.
	Payload string
	// Arch is the image's: amd64, …, or multi for an index of several.
	Arch     string
	Metadata *payload.Metadata
}

// Build makes a graph for several architectures of releases: a node for each,
// an edge for each previous and next version that another release of the same
// architecture has. The same release may be given twice; two images of one
// version and architecture are an error that names both.
//
// A release whose metadata is that of several architectures but whose image is
// of one is a part of another release and gives no node. Nodes are ordered by
// version; the order of releases does not count.
func Build(releases []Release) (*Graph, error) {
	g := &Graph{}
	place := map[string]int{}
	for _, r := range releases {
		if r.Metadata == nil {
			return nil, &Error{Op: "build", Target: r.Payload, Err: errors.New("no release metadata")}
		}
		ref, err := name.NewDigest(r.Payload)
		if err != nil {
			return nil, &Error{Op: "build", Target: r.Metadata.Version, Err: fmt.Errorf("payload %q is not named by digest: %w", r.Payload, err)}
		}
		if shard(r) {
			continue
		}
		arch := r.Arch
		if !only(arch, "") {
			return nil, &Error{Op: "build", Target: r.Metadata.Version, Err: fmt.Errorf("architecture %.80q", arch)}
		}
		plain, _ := splitArch(r.Metadata.Version)
		n := Node{Version: withArch(plain, arch), Payload: r.Payload, Metadata: map[string]string{KeyArch: arch, KeyManifest: ref.DigestStr()}}
		for _, k := range slices.Sorted(maps.Keys(r.Metadata.Metadata)) {
			if text, ok := r.Metadata.Metadata[k].(string); ok && k != KeyArch && k != KeyManifest {
				n.Metadata[k] = text
			}
		}
		if i, ok := place[n.Version]; ok {
			if old := g.Nodes[i]; old.Metadata[KeyManifest] != n.Metadata[KeyManifest] {
				return nil, &Error{Op: "build", Target: n.Version, Err: fmt.Errorf("two images: %s and %s", old.Payload, n.Payload)}
			}
			continue
		}
		place[n.Version] = len(g.Nodes)
		g.Nodes = append(g.Nodes, n)
	}
	edge := func(arch, from, to string) {
		from, _ = splitArch(from)
		to, _ = splitArch(to)
		i, ok1 := place[withArch(from, arch)]
		j, ok2 := place[withArch(to, arch)]
		if ok1 && ok2 && i != j {
			g.Edges = append(g.Edges, [2]int{i, j})
		}
	}
	for _, r := range releases {
		if shard(r) {
			continue
		}
		for _, v := range r.Metadata.Previous {
			edge(r.Arch, v, r.Metadata.Version)
		}
		for _, v := range r.Metadata.Next {
			edge(r.Arch, r.Metadata.Version, v)
		}
	}
	if err := g.check(); err != nil {
		return nil, &Error{Op: "build", Err: err}
	}
	g.sort()
	return g, nil
}

// shard says that r is one architecture's image of a release for several.
func shard(r Release) bool {
	return r.Metadata.Metadata[payload.MetadataArchitecture] == "multi" && r.Arch != "multi"
}
