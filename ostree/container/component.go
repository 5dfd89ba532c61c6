package container

import (
	"errors"
	"fmt"
	"math"

	"github.com/okd-project/okd-streams/ostree"
)

// EveryBuild is the [Component.Frequency] of what changes with each build.
const EveryBuild = math.MaxUint32

// Component is content that tends to change together: a package, the initramfs,
// what no package owns.
type Component struct {
	// ID tells this version of the component apart from others, "bash-5.2.15":
	// unique, and shown in the image's history.
	ID string
	// Name stays the same over versions, "bash". It goes into the layer's
	// ostree.components annotation, and so has no comma. "" means ID.
	Name string
	// Source names what it is built from, with its version: components of one
	// source change together. "": nothing else is built from its source.
	Source string
	// Frequency is how often the content changes a year; [EveryBuild] if it
	// always does.
	Frequency uint32
	// Objects are content objects of the commit, in any order. An object belongs
	// to one component at most; those of none go into the commit layer.
	Objects []ostree.Checksum
	// Size is how many bytes the objects have together; 0: Encapsulate finds
	// out.
	Size int64
	// Exclusive gives the component a layer of its own, before all planned ones,
	// with exactly Paths ("usr/bin/true"), in this order, whatever else their
	// objects belong to. Objects is not used then.
	Exclusive bool
	Paths     []string
}

func (c *Component) name() string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

// Chunk is the components that share a layer.
type Chunk struct {
	// Components are IDs; the image's history has them in this order.
	Components []string
}

// Planner distributes components over layers.
type Planner interface {
	// Plan gives at most limit chunks, in the order of layers, that hold each
	// component once. It must not modify components, and give the same answer
	// for the same question. Exclusive components are not asked about.
	Plan(components []Component, limit int) ([]Chunk, error)
}

// Layout is a [Planner] that knows the answer: for plans made elsewhere.
type Layout []Chunk

// Plan gives the layout.
func (l Layout) Plan(components []Component, limit int) ([]Chunk, error) { return l, nil }

// Separate is a [Planner] that gives each component a layer of its own, in
// their order, and fails if there are too many.
type Separate struct{}

// Plan gives one chunk a component.
func (Separate) Plan(components []Component, limit int) ([]Chunk, error) {
	if len(components) > limit {
		return nil, fmt.Errorf("%d components, at most %d layers", len(components), limit)
	}
	chunks := make([]Chunk, len(components))
	for i := range components {
		chunks[i].Components = []string{components[i].ID}
	}
	return chunks, nil
}

// checkChunks checks a planner's answer: it may be anyone's.
func checkChunks(chunks []Chunk, byID map[string]*Component, planned, limit int) error {
	if len(chunks) > limit {
		return fmt.Errorf("plan has %d layers, at most %d", len(chunks), limit)
	}
	var errs []error
	seen := make(map[string]bool, planned)
	for _, c := range chunks {
		for _, id := range c.Components {
			switch {
			case byID[id] == nil || byID[id].Exclusive:
				errs = append(errs, fmt.Errorf("plan has a component %q that does not exist", id))
			case seen[id]:
				errs = append(errs, fmt.Errorf("plan has component %q twice", id))
			}
			seen[id] = true
		}
	}
	if len(errs) == 0 && len(seen) != planned {
		for id, c := range byID {
			if !seen[id] && !c.Exclusive {
				errs = append(errs, fmt.Errorf("plan lacks component %q", id))
			}
		}
	}
	return errors.Join(errs...)
}
