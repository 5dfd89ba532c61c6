package container

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/ostree"
)

// Labels and annotations of the images that [Encapsulate] makes.
const (
	LabelCommit      = "ostree.commit"       // the commit's checksum
	LabelFinalDiffID = "ostree.final-diffid" // the last layer that is part of the commit
	LabelBootable    = "ostree.bootable"     // "true" if the commit says so
	LabelBootc       = "containers.bootc"    // "1" where LabelBootable is
	LabelLinux       = "ostree.linux"        // the kernel's version, from the commit
	LabelVersion     = "org.opencontainers.image.version"
	// AnnotationComponents is on each layer but the first: the names of its
	// components, sorted, joined by commas; "" for the layer reserved for new
	// ones.
	AnnotationComponents = "ostree.components"

	legacyVersion = "version"
	commandKey    = "ostree.container-cmd"
	reservedName  = "Reserved for new packages"
)

// imageLabels gives all labels but LabelFinalDiffID.
func imageLabels(s *snapshot, opts *EncapsulateOptions) (map[string]string, error) {
	labels := map[string]string{LabelCommit: s.commit.String()}
	text := func(key string, required bool) (string, bool, error) {
		v, ok := s.head.Lookup(key)
		if !ok {
			if required {
				return "", false, fmt.Errorf("commit has no metadata %q", key)
			}
			return "", false, nil
		}
		t, err := v.AsString()
		if err != nil {
			return "", false, fmt.Errorf("commit metadata %q: %w", key, err)
		}
		return t, true, nil
	}
	if v, ok, err := text("version", false); err != nil {
		return nil, err
	} else if ok {
		labels[LabelVersion] = v
		if opts.LegacyVersion {
			labels[legacyVersion] = v
		}
	}
	for i, keys := range [][]string{opts.CopyKeys, opts.CopyKeysOptional} {
		for _, key := range keys {
			v, ok, err := text(key, i == 0)
			if err != nil {
				return nil, err
			}
			if ok {
				labels[key] = v
			}
		}
	}
	if v, ok := s.head.Lookup(LabelBootable); ok {
		b, err := v.AsBool()
		if err != nil {
			return nil, fmt.Errorf("commit metadata %q: %w", LabelBootable, err)
		}
		labels[LabelBootable] = fmt.Sprint(b)
		labels[LabelBootc] = "1"
	}
	if v, ok, err := text(LabelLinux, false); err != nil {
		return nil, err
	} else if ok {
		labels[LabelLinux] = v
	}
	for _, key := range []string{LabelCommit, LabelFinalDiffID} {
		if _, ok := opts.Labels[key]; ok {
			return nil, fmt.Errorf("label %q can't be given: it says what is in the image", key)
		}
	}
	maps.Copy(labels, opts.Labels)
	return labels, nil
}

// command gives the image's default command.
func command(head *ostree.Commit, opts *EncapsulateOptions) ([]string, error) {
	if opts.Cmd != nil {
		return opts.Cmd, nil
	}
	v, ok := head.Lookup(commandKey)
	if !ok {
		return nil, nil
	}
	cmd, err := v.AsStrings()
	if err != nil {
		return nil, fmt.Errorf("commit metadata %q: %w", commandKey, err)
	}
	return cmd, nil
}

// rpmArchitectures are the RPM spellings that differ from Go's.
var rpmArchitectures = map[string]string{"x86_64": "amd64", "aarch64": "arm64", "i686": "386"}

// architecture gives the image's architecture in Go's spelling.
func architecture(head *ostree.Commit, opts *EncapsulateOptions) string {
	arch := opts.Architecture
	for _, key := range []string{"ostree.architecture", "coreos-assembler.basearch"} {
		if v, ok := head.Lookup(key); ok && arch == "" {
			arch, _ = v.AsString()
		}
	}
	if arch == "" {
		return runtime.GOARCH
	}
	if goarch, ok := rpmArchitectures[arch]; ok {
		return goarch
	}
	return arch
}

// describeChunk gives a layer's line in the history, as the reference words it.
func describeChunk(components []string) string {
	switch n := len(components); {
	case n == 0:
		return reservedName
	case n <= 5:
		return strings.Join(components, " and ")
	default:
		return fmt.Sprintf("%d components", n)
	}
}

// builtLayer is a layer that is there.
type builtLayer struct {
	v1.Layer
	diffID     v1.Hash
	descriptor v1.Descriptor
	name       string
}

// documents makes the config and the manifest: canonical JSON, that is sorted
// keys, no white space and no escapes that JSON doesn't ask for, so that equal
// images have equal digests. The manifest has no mediaType, like the
// reference's.
func documents(labels map[string]string, cmd []string, arch, created string, layers []builtLayer) (config, manifest []byte, err error) {
	var history, descriptors []any
	var diffIDs []string
	for _, l := range layers {
		history = append(history, map[string]any{"created": created, "created_by": l.name})
		diffIDs = append(diffIDs, l.diffID.String())
		descriptors = append(descriptors, describe(l.descriptor))
	}
	runtimeConfig := map[string]any{"Labels": labels}
	if len(cmd) > 0 {
		runtimeConfig["Cmd"] = cmd
	}
	config, err = canonicalJSON(map[string]any{
		"architecture": arch,
		"config":       runtimeConfig,
		"created":      created,
		"history":      history,
		"os":           "linux",
		"rootfs":       map[string]any{"diff_ids": diffIDs, "type": "layers"},
	})
	if err != nil {
		return nil, nil, err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, nil, err
	}
	manifest, err = canonicalJSON(map[string]any{
		"annotations":   labels,
		"config":        describe(v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: digest, Size: size}),
		"layers":        descriptors,
		"schemaVersion": 2,
	})
	return config, manifest, err
}

func describe(d v1.Descriptor) map[string]any {
	m := map[string]any{"digest": d.Digest.String(), "mediaType": string(d.MediaType), "size": d.Size}
	if len(d.Annotations) > 0 {
		m["annotations"] = d.Annotations
	}
	return m
}

func canonicalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	err := e.Encode(v) // maps come sorted by key
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), err
}

// timestamp is RFC 3339 in whole seconds of UTC.
func timestamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

func sortedNames(components []*Component) []string {
	names := make([]string, len(components))
	for i, c := range components {
		names[i] = c.name()
	}
	slices.Sort(names)
	return names
}
