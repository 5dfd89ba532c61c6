package components

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// batchesOf orders steps so that each comes after those that it uses, in as few
// batches as that needs.
func batchesOf(steps map[string]*Step) ([][]Step, error) {
	const visiting = -1
	level := map[string]int{}
	var path []string
	var visit func(component string) error
	visit = func(component string) error {
		switch level[component] {
		case 0:
		case visiting:
			circle := append(path[slices.Index(path, component):], component)
			return &Error{"plan", "component " + component, fmt.Errorf("built of itself: %s", strings.Join(circle, " of "))}
		default:
			return nil
		}
		level[component] = visiting
		path = append(path, component)
		most := 0
		for _, u := range steps[component].Uses {
			if u.Component == "" {
				continue
			}
			if err := visit(u.Component); err != nil {
				return err
			}
			most = max(most, level[u.Component])
		}
		path = path[:len(path)-1]
		level[component] = most + 1
		return nil
	}
	var batches [][]Step
	for _, component := range slices.Sorted(maps.Keys(steps)) {
		if err := visit(component); err != nil {
			return nil, err
		}
	}
	for _, component := range slices.Sorted(maps.Keys(steps)) {
		n := level[component]
		for len(batches) < n {
			batches = append(batches, nil)
		}
		batches[n-1] = append(batches[n-1], *steps[component])
	}
	return batches, nil
}
