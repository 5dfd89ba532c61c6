package payload

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Annotations by which manifests say where they belong.
const (
	annotationExclude      = "exclude.release.openshift.io/"
	annotationInclude      = "include.release.openshift.io/"
	annotationFeatureSet   = "release.openshift.io/feature-set"
	annotationFeatureGate  = "release.openshift.io/feature-gate"
	annotationMajorVersion = "release.openshift.io/major-version"
	annotationCapability   = "capability.openshift.io/name"
)

// DefaultProfile is the cluster profile of OKD.
const DefaultProfile = "self-managed-high-availability"

// featureSets are the known ones. A manifest that names another is for no
// cluster.
var featureSets = []string{"Default", "TechPreviewNoUpgrade", "DevPreviewNoUpgrade", "CustomNoUpgrade", "OKD"}

// Cluster is what the cluster-version operator of a cluster goes by when it
// decides which objects of a payload it applies. The zero value is a cluster
// of OKD's usual profile and feature set, with no feature gates on and all
// capabilities.
type Cluster struct {
	// Profile is the cluster profile; "": [DefaultProfile].
	Profile string
	// FeatureSet as in the FeatureGate object; "": "Default".
	FeatureSet string
	// FeatureGates are the gates that are on.
	FeatureGates []string
	// Capabilities are those that are enabled; nil: all, also those that no
	// release has.
	Capabilities []string
	// MajorVersion of the release, which FeatureGate objects and
	// CustomResourceDefinitions may ask for; 0: not looked at.
	MajorVersion uint64
	// Overrides are the objects that ClusterVersion's spec.overrides has as
	// unmanaged.
	Overrides []Override
	// Exclude is the identifier of a hosted cluster's operator, "" elsewhere.
	Exclude string
}

// Override names an object that is not managed.
type Override struct{ Group, Kind, Namespace, Name string }

// Exclusion says why a cluster does not apply an object.
type Exclusion struct{ Reason string }

func (e *Exclusion) Error() string { return "payload: not for this cluster: " + e.Reason }

// Includes says whether the cluster applies the object: nil, or an error of
// type [*Exclusion] with the first reason that the cluster-version operator
// would find, in its order.
func (c *Cluster) Includes(o *Object) error {
	if reason := c.excludes(o); reason != "" {
		return &Exclusion{reason}
	}
	return nil
}

func (c *Cluster) excludes(o *Object) string {
	if o.Annotations == nil {
		return "it has no annotations"
	}
	if c.Exclude != "" {
		if key := annotationExclude + c.Exclude; o.Annotations[key] == "true" {
			return key + "=true"
		}
	}
	for _, check := range []func(*Object) string{c.excludesFeatureSet, c.excludesGates, c.excludesMajor, c.excludesProfile, c.excludesCapability} {
		if reason := check(o); reason != "" {
			return reason
		}
	}
	if slices.Contains(c.Overrides, Override{o.Group(), o.Kind, o.Namespace, o.Name}) {
		return "an override has it unmanaged"
	}
	return ""
}

func (c *Cluster) excludesFeatureSet(o *Object) string {
	value, ok := o.Annotations[annotationFeatureSet]
	if !ok {
		return ""
	}
	if _, both := o.Annotations[annotationFeatureGate]; both {
		return annotationFeatureSet + " and " + annotationFeatureGate + " are both set"
	}
	want := c.FeatureSet
	if want == "" {
		want = "Default"
	}
	sets := splitList(value)
	for _, set := range sets {
		if !slices.Contains(featureSets, set) {
			return fmt.Sprintf("%s has an unknown value, %.100q", annotationFeatureSet, set)
		}
	}
	if !slices.Contains(sets, want) {
		return fmt.Sprintf("%s=%.200s does not have %.100s", annotationFeatureSet, value, want)
	}
	return ""
}

func (c *Cluster) excludesGates(o *Object) string {
	value, ok := o.Annotations[annotationFeatureGate]
	if !ok {
		return ""
	}
	for _, gate := range splitList(value) {
		name, off := strings.CutPrefix(gate, "-")
		if on := slices.Contains(c.FeatureGates, name); on == off {
			return fmt.Sprintf("feature gate %.100s is %s", name, map[bool]string{true: "on", false: "off"}[on])
		}
	}
	return ""
}

func (c *Cluster) excludesMajor(o *Object) string {
	value, ok := o.Annotations[annotationMajorVersion]
	if !ok || c.MajorVersion == 0 {
		return ""
	}
	if !(o.Kind == "FeatureGate" && o.Group() == "config.openshift.io") && !(o.Kind == "CustomResourceDefinition" && o.Group() == "apiextensions.k8s.io") {
		return ""
	}
	wanted, found := false, false
	for _, item := range splitList(value) {
		text, not := strings.CutPrefix(item, "-")
		n, err := strconv.ParseUint(text, 10, 64)
		switch {
		case err != nil:
			return fmt.Sprintf("%s has an invalid value, %.100q", annotationMajorVersion, item)
		case not && n == c.MajorVersion:
			return fmt.Sprintf("%s=%.200s excludes %d", annotationMajorVersion, value, c.MajorVersion)
		case !not:
			wanted = true
			found = found || n == c.MajorVersion
		}
	}
	if wanted && !found {
		return fmt.Sprintf("%s=%.200s does not have %d", annotationMajorVersion, value, c.MajorVersion)
	}
	return ""
}

func (c *Cluster) excludesProfile(o *Object) string {
	profile := c.Profile
	if profile == "" {
		profile = DefaultProfile
	}
	switch value, ok := o.Annotations[annotationInclude+profile]; {
	case !ok:
		return annotationInclude + profile + " is not set"
	case value != "true":
		return fmt.Sprintf("%s=%.100s", annotationInclude+profile, value)
	}
	return ""
}

func (c *Cluster) excludesCapability(o *Object) string {
	value, ok := o.Annotations[annotationCapability]
	if !ok || c.Capabilities == nil {
		return ""
	}
	for name := range strings.SplitSeq(value, "+") {
		if !slices.Contains(c.Capabilities, name) {
			return fmt.Sprintf("capability %.100s is not enabled", name)
		}
	}
	return ""
}

// splitList splits at commas and drops blanks around the parts.
func splitList(text string) []string {
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}
