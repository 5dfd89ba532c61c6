package payload

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/blang/semver/v4"
)

const extensionsSuffix = "-extensions"

// OSImage is a node image of a payload: the operating system of its machines.
type OSImage struct {
	Tag string
	// Extensions is the tag of the image with packages that can be added, ""
	// if the payload has none.
	Extensions string
	// Version is machine-os in the image's io.openshift.build.versions or, if
	// it has none, org.opencontainers.image.version; "" if it has neither.
	Version string
	// Bootable: the image's labels say that it is an OSTree or bootc image.
	Bootable bool
}

// bootable looks for the labels of ostree-ext and bootc.
func bootable(labels map[string]string) bool {
	for _, key := range []string{"ostree.bootable", "containers.bootc"} {
		if v := labels[key]; v == "1" || v == "true" {
			return true
		}
	}
	return labels["ostree.final-diffid"] != ""
}

// pairedOS finds node images by name: X where X-extensions is there too and X
// contains coreos. alone are those that are called coreos and have no pair.
func pairedOS(tags []Tag) (paired, alone []string) {
	names := map[string]bool{}
	for _, t := range tags {
		names[t.Name] = true
	}
	for _, t := range tags {
		if !strings.Contains(t.Name, "coreos") || strings.HasSuffix(t.Name, extensionsSuffix) {
			continue
		}
		if names[t.Name+extensionsSuffix] {
			paired = append(paired, t.Name)
		} else {
			alone = append(alone, t.Name)
		}
	}
	return paired, alone
}

// findOS finds the node images, by name or by their labels.
func findOS(tags []Tag, labels func(tag string) map[string]string) (found []OSImage, warnings []string, err error) {
	names := map[string]bool{}
	for _, t := range tags {
		names[t.Name] = true
	}
	paired := map[string]bool{}
	list, _ := pairedOS(tags)
	for _, name := range list {
		paired[name] = true
	}
	for _, t := range tags {
		l := labels(t.Name)
		boot := bootable(l) && !strings.HasSuffix(t.Name, extensionsSuffix)
		if !paired[t.Name] && !boot {
			continue
		}
		img := OSImage{Tag: t.Name, Bootable: boot, Version: l[labelImageVersion]}
		if names[t.Name+extensionsSuffix] {
			img.Extensions = t.Name + extensionsSuffix
		}
		versions, err := parseVersions(l[annotationVersions], l[annotationDisplayNames])
		if err != nil {
			return nil, nil, &Error{Op: "assemble", Target: "component " + t.Name, Err: err}
		}
		if v, ok := versions["machine-os"]; ok {
			img.Version = v.Version
		}
		if img.Version == "" {
			warnings = append(warnings, fmt.Sprintf("node image %s states no version", t.Name))
		}
		found = append(found, img)
	}
	return found, warnings, nil
}

// missingExtensions is the error for a node image without extensions.
func missingExtensions(tag string) error {
	return &Error{Op: "assemble", Target: "component " + tag + extensionsSuffix,
		Err: fmt.Errorf("extensions of node image %s are required and not among the images: %w", tag, fs.ErrNotExist)}
}

// osVersions is the machine-os version of a node image that states it only in
// the label of the OCI specification; ok if it can be a component's version.
func osVersions(labels map[string]string) (label string, ok bool) {
	v, err := semver.Parse(labels[labelImageVersion])
	if err != nil || labels[annotationVersions] != "" || !bootable(labels) {
		return "", false
	}
	v.Build = nil
	return "machine-os=" + v.String(), true
}
