package payload

import (
	"context"
	"slices"
	"strings"
)

// ImplicitCapabilities are the capabilities that the cluster-version operator
// enables by itself when the cluster goes from one release to another, sorted:
// those that an object which the cluster applies today belongs to in the new
// release, and that are not enabled. So nothing that runs is taken away. A
// cluster with all capabilities (Capabilities is nil) has none to enable.
func (c *Cluster) ImplicitCapabilities(ctx context.Context, from, to *Release) ([]string, error) {
	if c.Capabilities == nil {
		return nil, nil
	}
	today := map[Override]bool{} // applied, so that all their capabilities are enabled
	for o, err := range from.Objects(ctx) {
		if err != nil {
			return nil, err
		}
		if c.excludes(o) == "" {
			today[o.identity()] = true
		}
	}
	var out []string
	for o, err := range to.Objects(ctx) {
		if err != nil {
			return nil, err
		}
		if !today[o.identity()] || c.excludes(o) == "" {
			continue
		}
		for _, name := range o.capabilities() {
			if !slices.Contains(c.Capabilities, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (o *Object) identity() Override { return Override{o.Group(), o.Kind, o.Namespace, o.Name} }

// capabilities are those that must all be enabled for the object to be applied.
func (o *Object) capabilities() []string {
	value, ok := o.Annotations[annotationCapability]
	if !ok {
		return nil
	}
	return strings.Split(value, "+")
}
