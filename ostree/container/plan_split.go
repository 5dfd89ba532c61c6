package container

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
)

// Split says how an image's content is split, for a [Planner] to keep to: for
// each layer after that of the commit the names of its components.
type Split [][]string

// SplitOf reads the split off an image's annotations, up to the last layer that
// belongs to the commit. An image that isn't OSTree-native gives an error that
// wraps [errors.ErrUnsupported], one whose layers are not annotated one that
// wraps [fs.ErrNotExist], one that contradicts itself [ostree.ErrCorrupt]. Only
// documents are read, no layer.
func SplitOf(img v1.Image) (Split, error) {
	s, err := splitOf(img)
	if err != nil {
		return nil, &Error{"split", "image", err}
	}
	return s, nil
}

func splitOf(img v1.Image) (Split, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	last, err := lastOfCommit(m, config)
	if err != nil {
		return nil, err
	}
	split := Split{}
	for i, l := range m.Layers[1 : last+1] {
		names, ok := l.Annotations[AnnotationComponents]
		if !ok {
			return nil, fmt.Errorf("layer %d has no annotation %s: %w", i+1, AnnotationComponents, fs.ErrNotExist)
		}
		split = append(split, slices.DeleteFunc(strings.Split(names, ","), func(n string) bool { return n == "" }))
	}
	return split, nil
}

// defaultPlanner is for Encapsulate.
func defaultPlanner(prior v1.Image) (Planner, error) {
	if prior == nil {
		return Stable{}, nil
	}
	split, err := splitOf(prior)
	switch {
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrNotExist):
		return Stable{}, nil
	case err != nil:
		return nil, err
	}
	return Frugal{Prior: split}, nil
}

// lastOfCommit gives the index of the last layer that belongs to the commit.
func lastOfCommit(m *v1.Manifest, config *v1.ConfigFile) (int, error) {
	diffIDs := config.RootFS.DiffIDs
	if len(m.Layers) != len(diffIDs) {
		return 0, fmt.Errorf("%d layers, but %d diff IDs: %w", len(m.Layers), len(diffIDs), ostree.ErrCorrupt)
	}
	final := config.Config.Labels[LabelFinalDiffID]
	if final == "" {
		return 0, fmt.Errorf("no label %s: not an OSTree-native image: %w", LabelFinalDiffID, errors.ErrUnsupported)
	}
	for i, d := range diffIDs {
		if d.String() == final {
			return i, nil
		}
	}
	return 0, fmt.Errorf("label %s names a layer that is not there, %s: %w", LabelFinalDiffID, final, ostree.ErrCorrupt)
}
