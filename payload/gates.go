package payload

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// LoggedGate is a feature gate that is not the same in two releases: what it
// is in the second, "Enabled", "Disabled" or "" (it is not known there), by
// profile and feature set, with " (New)" or " (Changed)" where the first has
// no or another value.
type LoggedGate struct {
	Name   string                       `json:"name"`
	Status map[string]map[string]string `json:"status"`
}

const (
	gateEnabled  = "Enabled"
	gateDisabled = "Disabled"
)

// gateKey says where a gate has a value.
type gateKey struct{ gate, profile, set string }

// featureGates reads the FeatureGate objects of a payload, which are in files
// with featureGate- in their names, for clusters of a major version; 0: of any.
func featureGates(ctx context.Context, r *Release, major uint64) (map[gateKey]string, error) {
	cluster := &Cluster{MajorVersion: major}
	out := map[gateKey]string{}
	for _, f := range r.files {
		if !strings.Contains(f.name, "featureGate-") || !isManifestName(f.name) {
			continue
		}
		var fault error
		fileObjects(ctx, f, func(o *Object, err error) bool {
			if err == nil && o.Kind == "FeatureGate" && o.Group() == "config.openshift.io" && cluster.excludesMajor(o) == "" {
				err = gatesOf(o, out)
			}
			fault = err
			return err == nil
		})
		if fault != nil {
			return nil, fault
		}
	}
	return out, nil
}

func gatesOf(o *Object, out map[gateKey]string) error {
	type gate struct {
		Name string `json:"name"`
	}
	var spec struct {
		Status struct {
			FeatureGates []struct {
				Enabled  []gate `json:"enabled"`
				Disabled []gate `json:"disabled"`
			} `json:"featureGates"`
		} `json:"status"`
	}
	if err := json.Unmarshal(o.JSON, &spec); err != nil {
		return &Error{Op: "read", Target: fmt.Sprintf("manifest %s:%d", o.File, o.Line), Err: err}
	}
	var profiles []string
	for _, key := range slices.Sorted(maps.Keys(o.Annotations)) {
		if profile, ok := strings.CutPrefix(key, annotationInclude); ok {
			profiles = append(profiles, profile)
		}
	}
	sets := []string{"Default"}
	if text, ok := o.Annotations[annotationFeatureSet]; ok {
		sets = splitList(text)
	}
	for _, values := range spec.Status.FeatureGates {
		for _, profile := range profiles {
			for _, set := range sets {
				for _, g := range values.Enabled {
					out[gateKey{g.Name, profile, set}] = gateEnabled
				}
				for _, g := range values.Disabled {
					out[gateKey{g.Name, profile, set}] = gateDisabled
				}
			}
		}
	}
	return nil
}

// EnabledGates are the feature gates that the payload has on in clusters with
// the profile, feature set and major version of c, sorted: what
// [Cluster.FeatureGates] is to be for a cluster that is installed from it. The
// payload says it in FeatureGate objects of files with featureGate- in their
// names.
func (r *Release) EnabledGates(ctx context.Context, c *Cluster) ([]string, error) {
	gates, err := featureGates(ctx, r, c.MajorVersion)
	if err != nil {
		return nil, err
	}
	profile, set := cmp.Or(c.Profile, DefaultProfile), cmp.Or(c.FeatureSet, "Default")
	var out []string
	for key, value := range gates {
		if value == gateEnabled && key.profile == profile && key.set == set {
			out = append(out, key.gate)
		}
	}
	slices.Sort(out)
	return out, nil
}

// loggedGates are the gates that differ, by name.
func loggedGates(ctx context.Context, from, to *Release) ([]LoggedGate, error) {
	before, err := featureGates(ctx, from, 0)
	if err != nil {
		return nil, err
	}
	after, err := featureGates(ctx, to, 0)
	if err != nil {
		return nil, err
	}
	differ := map[string]bool{}
	all := map[string]map[gateKey]bool{}
	for key := range union(before, after) {
		differ[key.gate] = differ[key.gate] || before[key] != after[key]
		if all[key.gate] == nil {
			all[key.gate] = map[gateKey]bool{}
		}
		all[key.gate][key] = true
	}
	var out []LoggedGate
	for _, name := range slices.Sorted(maps.Keys(differ)) {
		if !differ[name] {
			continue
		}
		g := LoggedGate{Name: name, Status: map[string]map[string]string{}}
		for key := range all[name] {
			if g.Status[key.profile] == nil {
				g.Status[key.profile] = map[string]string{}
			}
			value, old := after[key], before[key]
			switch {
			case value != "" && old == "":
				value += " (New)"
			case value != "" && value != old:
				value += " (Changed)"
			}
			g.Status[key.profile][key.set] = value
		}
		out = append(out, g)
	}
	return out, nil
}
