package retention

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	streammd "github.com/coreos/stream-metadata-go/stream"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/payload/graph"
)

// StreamPins are the builds that a stream's metadata refers to: whatever has a
// release there, on platforms that nobody knows too.
func StreamPins(d *bootimage.Document[streammd.Stream]) ([]Pin, error) {
	var document any
	if err := json.Unmarshal(d.Bytes(), &document); err != nil {
		return nil, fmt.Errorf("publish/retention: stream metadata: %w", err)
	}
	builds := map[string]bool{}
	releases(document, builds)
	var pins []Pin
	for _, id := range slices.Sorted(maps.Keys(builds)) {
		pins = append(pins, Pin{Build: id, Reason: "stream " + d.Value().Stream})
	}
	return pins, nil
}

// releases finds the members called release. Documents are bounded in depth.
func releases(value any, found map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			if id, ok := member.(string); ok && key == "release" && id != "" {
				found[id] = true
			}
			releases(member, found)
		}
	case []any:
		for _, member := range value {
			releases(member, found)
		}
	}
}

// UpdatesPins are the builds that a stream's updates need: of those at which
// older ones must stop on their way, and of what is rolled out, the container
// images, from which machines update.
func UpdatesPins(u *bootimage.Updates) []Pin {
	var pins []Pin
	for _, r := range u.Releases {
		reason := ""
		switch {
		case r.Metadata.Barrier != nil:
			reason = "barrier"
		case r.Metadata.Rollout != nil:
			reason = "rollout"
		default:
			continue
		}
		pins = append(pins, Pin{Build: r.Version, Reason: reason + " of stream " + u.Stream, Kinds: []Kind{Containers, Build}})
	}
	return pins
}

// GraphRoots are the releases of an update graph, each with its components.
func GraphRoots(g *graph.Graph) []Root {
	var roots []Root
	for _, n := range g.Nodes {
		if n.Payload != "" {
			roots = append(roots, Root{Image: n.Payload, Reason: "release " + n.Version + " of the graph", Payload: true})
		}
	}
	return roots
}
