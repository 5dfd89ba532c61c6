package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
)

// MetadataKind is the kind of release-metadata.
const MetadataKind = "cincinnati-metadata-v0"

// MetadataArchitecture is the key of [Metadata.Metadata] that is "multi" in a
// release for several architectures.
const MetadataArchitecture = "release.openshift.io/architecture"

// Metadata is release-metadata: the version and the edges of the update graph
// that lead to it and from it. Fields that it does not know are kept.
type Metadata struct {
	// Raw are the bytes this was decoded from; nil if it was not.
	Raw []byte

	Version        string   // semantic version
	Previous, Next []string // semantic versions
	Metadata       map[string]any

	other members
}

// DecodeMetadata reads release-metadata, JSON of at most [MaxMetadataSize]
// bytes. Another kind and what is not a semantic version are errors.
func DecodeMetadata(data []byte) (*Metadata, error) {
	m, err := decodeMetadata(data)
	if err != nil {
		return nil, fmt.Errorf("payload: release-metadata: %w", err)
	}
	return m, nil
}

func decodeMetadata(data []byte) (*Metadata, error) {
	if len(data) > MaxMetadataSize {
		return nil, fmt.Errorf("%d bytes, limit %d", len(data), MaxMetadataSize)
	}
	fields, err := decodeMembers(data)
	if err != nil {
		return nil, err
	}
	m := &Metadata{Raw: bytes.Clone(data)}
	var kind string
	var free json.RawMessage
	err = errors.Join(
		fields.take("kind", &kind),
		fields.take("version", &m.Version),
		fields.take("previous", &m.Previous),
		fields.take("next", &m.Next),
		fields.take("metadata", &free),
	)
	if err != nil {
		return nil, err
	}
	if kind != MetadataKind {
		return nil, fmt.Errorf("kind %.100q, want %s", kind, MetadataKind)
	}
	if free != nil {
		// The text of numbers is kept.
		dec := json.NewDecoder(bytes.NewReader(free))
		dec.UseNumber()
		if err := dec.Decode(&m.Metadata); err != nil {
			return nil, fmt.Errorf("metadata: %w", err)
		}
	}
	m.other = fields.unknown()
	return m, m.check()
}

func (m *Metadata) check() error {
	if _, err := semver.Parse(m.Version); err != nil {
		return fmt.Errorf("version %.100q: %w", m.Version, err)
	}
	for _, v := range slices.Concat(m.Previous, m.Next) {
		if _, err := semver.Parse(v); err != nil {
			return fmt.Errorf("previous or next version %.100q: %w", v, err)
		}
	}
	return nil
}

// Encode writes release-metadata as oc does: JSON, kind, version, previous
// (always), next and metadata (unless empty), two spaces of indentation, no
// final newline. More than [MaxMetadataSize] bytes are an error.
func (m *Metadata) Encode() ([]byte, error) {
	data, err := json.Marshal(m)
	if err == nil {
		data, err = indent(data, MaxMetadataSize)
	}
	if err != nil {
		return nil, fmt.Errorf("payload: release-metadata: %w", err)
	}
	return data, nil
}

// MarshalJSON writes the members in the order of Encode.
func (m *Metadata) MarshalJSON() ([]byte, error) {
	var o object
	o.put("kind", MetadataKind)
	o.put("version", m.Version)
	previous := m.Previous
	if previous == nil {
		previous = []string{}
	}
	o.put("previous", previous)
	if len(m.Next) > 0 {
		o.put("next", m.Next)
	}
	if len(m.Metadata) > 0 {
		o.put("metadata", m.Metadata)
	}
	o.rest(m.other)
	return o.bytes()
}

// orderVersions sorts and checks a list of previous or next versions: by
// semantic version and without repeats or, as oc does it, as strings.
func orderVersions(list []string, compatible bool) ([]string, error) {
	type item struct {
		text    string
		version semver.Version
	}
	var items []item
	for _, text := range list {
		if text == "" && compatible {
			continue
		}
		v, err := semver.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("version %.100q: %w", text, err)
		}
		items = append(items, item{text, v})
	}
	slices.SortFunc(items, func(a, b item) int {
		if !compatible {
			if c := a.version.Compare(b.version); c != 0 {
				return c
			}
		}
		return strings.Compare(a.text, b.text)
	})
	if !compatible {
		items = slices.CompactFunc(items, func(a, b item) bool { return a.text == b.text })
	}
	out := make([]string, len(items))
	for i := range items {
		out[i] = items[i].text
	}
	return out, nil
}

// floatNumbers gives free metadata as oc writes it, with numbers as float64.
func floatNumbers(free map[string]any) (map[string]any, error) {
	data, err := json.Marshal(free)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(data, &out)
}
