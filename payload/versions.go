package payload

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/blang/semver/v4"
)

// ComponentVersion is a version that a component image states for what it
// brings (kubernetes, machine-os, …).
type ComponentVersion struct {
	Version     string // semantic version without build metadata
	DisplayName string
}

// ParseVersions reads the labels (or annotations) io.openshift.build.versions,
// "key=semver[,key=semver]", and io.openshift.build.version-display-names,
// "key=Name[,key=Name]". Keys are at least two lower-case letters, digits and
// inner hyphens; names are letters, digits, spaces and "-:().". Build metadata
// is dropped from versions. Without versions, names are not looked at.
func ParseVersions(versions, displayNames string) (map[string]ComponentVersion, error) {
	out, err := parseVersions(versions, displayNames)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return out, nil
}

func parseVersions(versions, displayNames string) (map[string]ComponentVersion, error) {
	if len(versions) > MaxLabelSize || len(displayNames) > MaxLabelSize {
		return nil, fmt.Errorf("versions of %d and %d bytes, limit %d", len(versions), len(displayNames), MaxLabelSize)
	}
	versions = strings.TrimSpace(versions)
	if versions == "" {
		return nil, nil
	}
	names := map[string]string{}
	if displayNames != "" {
		for pair := range strings.SplitSeq(displayNames, ",") {
			key, name, err := splitPair(pair)
			if err != nil {
				return nil, fmt.Errorf("display name: %w", err)
			}
			if name == "" || strings.ContainsFunc(name, notInDisplayName) {
				return nil, fmt.Errorf("display name %.100q of %s is not made of letters, digits, spaces and -:(). alone", name, key)
			}
			names[key] = name
		}
	}
	out := map[string]ComponentVersion{}
	for pair := range strings.SplitSeq(versions, ",") {
		key, text, err := splitPair(pair)
		if err != nil {
			return nil, fmt.Errorf("component version: %w", err)
		}
		v, err := semver.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("component version %s=%.100q: %w", key, text, err)
		}
		v.Build = nil
		out[key] = ComponentVersion{Version: v.String(), DisplayName: names[key]}
	}
	return out, nil
}

func splitPair(pair string) (key, value string, err error) {
	key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
	if !ok {
		return "", "", fmt.Errorf("%.100q is not KEY=VALUE", pair)
	}
	if !validVersionKey(key) {
		return "", "", fmt.Errorf("key %.100q is not two or more lower-case letters, digits and inner hyphens", key)
	}
	return key, value, nil
}

func validVersionKey(key string) bool {
	if len(key) < 2 || key[0] == '-' || key[len(key)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

func notInDisplayName(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("-: \t\n\f\r().", r)
}

// FormatVersions gives the two labels that [ParseVersions] reads, sorted by
// key. names is "" where no version has a display name.
func FormatVersions(versions map[string]ComponentVersion) (label, names string) {
	var pairs, named []string
	for _, key := range slices.Sorted(maps.Keys(versions)) {
		pairs = append(pairs, key+"="+versions[key].Version)
		if name := versions[key].DisplayName; name != "" {
			named = append(named, key+"="+name)
		}
	}
	return strings.Join(pairs, ","), strings.Join(named, ",")
}

// allowedComponents may have a version of their own in a payload; oc has the
// same list.
var allowedComponents = []string{"kubernetes", "machine-os", "kernel", "crio", "kubectl", "kubernetes-tests"}

// mergedVersion is a component's version as several images state it.
type mergedVersion struct {
	ComponentVersion
	tags     []string // that state it, in order
	conflict bool     // they do not agree
}

// mergeVersions collects the versions that the images with the given names
// state. Versions in defaults hold where no image states one. Images that
// differ are an error, but for machine-os, of which a payload may have
// several; kubectl counts only from the images that ship it.
func mergeVersions(tags []Tag, names map[string]bool, defaults map[string]ComponentVersion) (out map[string]mergedVersion, warnings []string, err error) {
	out = map[string]mergedVersion{}
	kubectl := map[string]bool{}
	for _, tag := range tags {
		if !names[tag.Name] {
			continue
		}
		found, err := parseVersions(tag.Annotations[annotationVersions], tag.Annotations[annotationDisplayNames])
		if err != nil {
			return nil, nil, fmt.Errorf("tag %s: %w", tag.Name, err)
		}
		for _, key := range slices.Sorted(maps.Keys(found)) {
			if key == "kubectl" {
				kubectl[found[key].Version] = true
				if tag.Name != "cli" && tag.Name != "cli-artifacts" {
					continue
				}
			}
			m, ok := out[key]
			switch {
			case !ok:
				m.ComponentVersion = found[key]
			case m.Version != found[key].Version && key != "machine-os":
				return nil, nil, fmt.Errorf("version of %s: tag %s states %s, but %s states %s", key, tag.Name, found[key].Version, strings.Join(m.tags, ", "), m.Version)
			case m.Version != found[key].Version:
				m.conflict = true
			}
			m.tags = append(m.tags, tag.Name)
			out[key] = m
		}
	}
	if len(kubectl) > 2 {
		warnings = append(warnings, "several versions of kubectl: "+strings.Join(slices.Sorted(maps.Keys(kubectl)), ", "))
	}
	for key, v := range defaults {
		if _, ok := out[key]; !ok {
			out[key] = mergedVersion{ComponentVersion: v}
		}
	}
	return out, warnings, nil
}

const versionPlaceholder = "0.0.1-snapshot"

// substituteVersions replaces 0.0.1-snapshot by the release's version and
// 0.0.1-snapshot-COMPONENT by the component's, where no letter, digit or
// underscore touches it. left are the offsets in data of those that stay.
//
// In compatible mode the byte that follows belongs to the match, so that of
// two placeholders with one byte between only the first is replaced, and a
// version that several images state cannot be used even if they agree.
func substituteVersions(data []byte, release string, versions map[string]mergedVersion, compatible bool) (out []byte, left []int, err error) {
	if !bytes.Contains(data, []byte(versionPlaceholder)) {
		return data, nil, nil
	}
	if v, err := semver.Parse(release); err == nil {
		v.Build = nil
		release = v.String()
	} else {
		release = ""
	}
	var missing, inconsistent []string
	done := 0  // written so far
	taken := 0 // the byte before this one was part of a match
	for pos := 0; ; {
		i := bytes.Index(data[pos:], []byte(versionPlaceholder))
		if i < 0 {
			break
		}
		start := pos + i
		end := start + len(versionPlaceholder)
		pos = start + 1
		if start > 0 && (isWord(data[start-1]) || start == taken) {
			left = append(left, start)
			continue
		}
		component, next := "", end
		if end < len(data) && data[end] == '-' {
			for next = end + 1; next < len(data) && isComponentByte(data[next]); next++ {
			}
			if component = string(data[end+1 : next]); component == "" {
				missing = append(missing, "")
				pos = next
				continue
			}
		} else if end < len(data) && isWord(data[end]) {
			left = append(left, start)
			continue
		}
		value := release
		if component != "" {
			m, ok := versions[component]
			switch {
			case !ok:
				missing = append(missing, component)
			case m.conflict, compatible && len(m.tags) > 1:
				inconsistent = append(inconsistent, fmt.Sprintf("%s (%s)", component, strings.Join(m.tags, ", ")))
			}
			value = m.Version
		} else if release == "" {
			left = append(left, start)
			pos = end
			continue
		}
		out = append(out, data[done:start]...)
		out = append(out, value...)
		done, pos = next, next
		if compatible && component == "" && next < len(data) {
			_, n := utf8.DecodeRune(data[next:])
			taken = next + n
		}
	}
	switch {
	case slices.Contains(missing, ""):
		return nil, nil, errors.New("version placeholder with a hyphen and no component")
	case len(missing) > 0:
		return nil, nil, fmt.Errorf("no version known for %s", strings.Join(missing, ", "))
	case len(inconsistent) > 0:
		return nil, nil, fmt.Errorf("images state several versions for %s", strings.Join(inconsistent, "; "))
	}
	return append(out, data[done:]...), left, nil
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

func isComponentByte(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' }
