package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	streamKind       = "ImageStream"
	streamAPIVersion = "image.openshift.io/v1"
	dockerImage      = "DockerImage"
)

// ImageStream is an OpenShift image stream, the format of image-references
// and of the stream a payload is made from (kind ImageStream, apiVersion
// image.openshift.io/v1). Fields that it does not know are kept by
// [DecodeImageStream] and written by [ImageStream.Encode] behind the known ones.
type ImageStream struct {
	// Raw are the bytes this was decoded from; nil if it was not. They are not
	// changed by changes to the other fields.
	Raw []byte

	Name        string
	Namespace   string
	Created     time.Time // creationTimestamp, zero: null
	Annotations map[string]string
	Tags        []Tag
	// Repository and PublicRepository are where the images of Status are seen
	// from inside and outside of a cluster.
	Repository, PublicRepository string
	// Status says what the tags of a cluster's stream resolve to.
	Status []TagStatus

	localLookup                 bool
	other, otherMeta, otherSpec members
	otherLookup, otherStatus    members
}

// Tag is one image of an image stream.
type Tag struct {
	Name        string
	Annotations map[string]string
	// Kind and Pullspec are the tag's from.kind and from.name. A component has
	// kind DockerImage and a pullspec by digest.
	Kind, Pullspec string
	Generation     *int64

	from, other            members
	hasFrom, reference     bool
	importPolicy           importPolicy
	referenceType          string
	otherImport, otherRefs members
}

type importPolicy struct {
	Insecure   bool   `json:"insecure,omitempty"`
	Scheduled  bool   `json:"scheduled,omitempty"`
	ImportMode string `json:"importMode,omitempty"`
}

// TagStatus is what a tag of a cluster's image stream resolves to.
type TagStatus struct {
	Tag        string         `json:"tag"`
	Items      []TagEvent     `json:"items"`
	Conditions []TagCondition `json:"conditions,omitempty"`
}

// UnmarshalJSON bounds the items and conditions.
func (t *TagStatus) UnmarshalJSON(data []byte) error {
	var raw struct {
		Tag        string          `json:"tag"`
		Items      json.RawMessage `json:"items"`
		Conditions json.RawMessage `json:"conditions"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	var err error
	t.Tag = raw.Tag
	if t.Items, err = decodeList[TagEvent](raw.Items, MaxTagItems); err != nil {
		return fmt.Errorf("items: %w", err)
	}
	if t.Conditions, err = decodeList[TagCondition](raw.Conditions, MaxTagItems); err != nil {
		return fmt.Errorf("conditions: %w", err)
	}
	return nil
}

// TagEvent is an image that a tag pointed to, newest first in a [TagStatus].
type TagEvent struct {
	Created              time.Time `json:"created,omitzero"`
	DockerImageReference string    `json:"dockerImageReference"`
	Image                string    `json:"image"` // digest
	Generation           int64     `json:"generation"`
}

// TagCondition says how the import of a tag went.
type TagCondition struct {
	Type       string `json:"type"` // "ImportSuccess"
	Status     string `json:"status"`
	Reason     string `json:"reason,omitempty"`
	Message    string `json:"message,omitempty"`
	Generation int64  `json:"generation"`
}

// DecodeImageStream reads an image stream from JSON or YAML. Another kind or
// apiVersion, more than [MaxReferencesSize] bytes (YAML: [MaxYAMLSize]), more
// than [MaxTags] tags and names that cannot be a tag's are errors.
func DecodeImageStream(data []byte) (*ImageStream, error) {
	s, err := decodeImageStream(data)
	if err != nil {
		return nil, fmt.Errorf("payload: image stream: %w", err)
	}
	return s, nil
}

func decodeImageStream(data []byte) (*ImageStream, error) {
	text, err := toJSON(data, MaxReferencesSize)
	if err != nil {
		return nil, err
	}
	top, err := decodeMembers(text)
	if err != nil {
		return nil, err
	}
	var kind, apiVersion string
	if err := errors.Join(top.take("kind", &kind), top.take("apiVersion", &apiVersion)); err != nil {
		return nil, err
	}
	if kind != streamKind || apiVersion != streamAPIVersion {
		return nil, fmt.Errorf("kind %.100q, apiVersion %.100q, want %s, %s", kind, apiVersion, streamKind, streamAPIVersion)
	}
	s := &ImageStream{Raw: bytes.Clone(data)}
	if err := s.decodeMetadata(top); err != nil {
		return nil, err
	}
	if err := s.decodeSpec(top); err != nil {
		return nil, err
	}
	if err := s.decodeStatus(top); err != nil {
		return nil, err
	}
	s.other = top.unknown()
	return s, nil
}

func (s *ImageStream) decodeMetadata(top members) error {
	meta, err := top.takeMembers("metadata")
	if err != nil {
		return err
	}
	err = errors.Join(
		meta.take("name", &s.Name),
		meta.take("namespace", &s.Namespace),
		meta.take("creationTimestamp", &s.Created),
		meta.take("annotations", &s.Annotations),
	)
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if year := s.Created.UTC().Year(); year < 1 || year > 9999 {
		return fmt.Errorf("metadata: creationTimestamp: year %d", year)
	}
	s.Created = s.Created.UTC().Truncate(time.Second)
	s.otherMeta = meta.unknown()
	return nil
}

func (s *ImageStream) decodeSpec(top members) error {
	spec, err := top.takeMembers("spec")
	if err != nil {
		return err
	}
	lookup, err := spec.takeMembers("lookupPolicy")
	if err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	var list json.RawMessage
	if err := errors.Join(lookup.take("local", &s.localLookup), spec.take("tags", &list)); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	s.otherLookup, s.otherSpec = lookup.unknown(), spec.unknown()
	tags, err := decodeList[json.RawMessage](list, MaxTags)
	if err != nil {
		return fmt.Errorf("spec: tags: %w", err)
	}
	seen := make(map[string]bool, len(tags))
	for i, raw := range tags {
		tag, err := decodeTag(raw)
		if err != nil {
			return fmt.Errorf("spec: tag %d: %w", i+1, err)
		}
		if seen[tag.Name] {
			return fmt.Errorf("spec: tag %q is there twice", tag.Name)
		}
		seen[tag.Name] = true
		s.Tags = append(s.Tags, tag)
	}
	return nil
}

func decodeTag(raw json.RawMessage) (Tag, error) {
	m, err := decodeMembers(raw)
	if err != nil {
		return Tag{}, err
	}
	var t Tag
	if err := m.take("name", &t.Name); err != nil {
		return Tag{}, err
	}
	if err := checkTagName(t.Name); err != nil {
		return Tag{}, err
	}
	if from, ok := m["from"]; ok && string(from) != "null" {
		t.hasFrom = true
	}
	from, err := m.takeMembers("from")
	if err != nil {
		return Tag{}, fmt.Errorf("%q: %w", t.Name, err)
	}
	imp, err := m.takeMembers("importPolicy")
	if err != nil {
		return Tag{}, fmt.Errorf("%q: %w", t.Name, err)
	}
	refs, err := m.takeMembers("referencePolicy")
	if err != nil {
		return Tag{}, fmt.Errorf("%q: %w", t.Name, err)
	}
	err = errors.Join(
		m.take("annotations", &t.Annotations),
		from.take("kind", &t.Kind),
		from.take("name", &t.Pullspec),
		m.take("generation", &t.Generation),
		m.take("reference", &t.reference),
		imp.take("insecure", &t.importPolicy.Insecure),
		imp.take("scheduled", &t.importPolicy.Scheduled),
		imp.take("importMode", &t.importPolicy.ImportMode),
		refs.take("type", &t.referenceType),
	)
	if err != nil {
		return Tag{}, fmt.Errorf("%q: %w", t.Name, err)
	}
	t.from, t.other, t.otherImport, t.otherRefs = from.unknown(), m.unknown(), imp.unknown(), refs.unknown()
	return t, nil
}

func (s *ImageStream) decodeStatus(top members) error {
	status, err := top.takeMembers("status")
	if err != nil {
		return err
	}
	var tags json.RawMessage
	err = errors.Join(
		status.take("dockerImageRepository", &s.Repository),
		status.take("publicDockerImageRepository", &s.PublicRepository),
		status.take("tags", &tags),
	)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if s.Status, err = decodeList[TagStatus](tags, MaxTags); err != nil {
		return fmt.Errorf("status: tags: %w", err)
	}
	for i := range s.Status {
		if err := checkTagName(s.Status[i].Tag); err != nil {
			return fmt.Errorf("status: tag %d: %w", i+1, err)
		}
	}
	s.otherStatus = status.unknown()
	return nil
}

// checkTagName refuses what could not be part of a file name.
func checkTagName(name string) error {
	switch {
	case name == "":
		return errors.New("tag without a name")
	case len(name) > MaxNameLength:
		return fmt.Errorf("tag name of %d bytes, limit %d", len(name), MaxNameLength)
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == '\\' }):
		return fmt.Errorf("tag name %q has characters that it cannot have", name)
	}
	return nil
}

// Tag finds a tag by name, nil if there is none.
func (s *ImageStream) Tag(name string) *Tag {
	for i := range s.Tags {
		if s.Tags[i].Name == name {
			return &s.Tags[i]
		}
	}
	return nil
}

// Encode writes the stream as oc writes image-references: JSON, members in the
// order of the API's types, two spaces of indentation, no final newline. Names
// and pullspecs that JSON cannot hold, which are not UTF-8, are errors: they
// would become others. So are more than [MaxReferencesSize] bytes, which nobody
// would read.
func (s *ImageStream) Encode() ([]byte, error) {
	for _, t := range s.Tags {
		if !utf8.ValidString(t.Name) || !utf8.ValidString(t.Pullspec) {
			return nil, fmt.Errorf("payload: image stream: tag %.80q of %.200q is not UTF-8", t.Name, t.Pullspec)
		}
	}
	data, err := json.Marshal(s)
	if err == nil {
		data, err = indent(data, MaxReferencesSize)
	}
	if err != nil {
		return nil, fmt.Errorf("payload: image stream: %w", err)
	}
	return data, nil
}

// MarshalJSON writes the members in the order of the API's types.
func (s *ImageStream) MarshalJSON() ([]byte, error) {
	var meta, lookup, spec, status, top object
	meta.put("name", s.Name)
	meta.putText("namespace", s.Namespace)
	if s.Created.IsZero() {
		meta.put("creationTimestamp", nil)
	} else {
		meta.put("creationTimestamp", s.Created.UTC().Format(time.RFC3339))
	}
	if len(s.Annotations) > 0 {
		meta.put("annotations", s.Annotations)
	}
	meta.rest(s.otherMeta)

	lookup.put("local", s.localLookup)
	lookup.rest(s.otherLookup)
	top.put("kind", streamKind)
	top.put("apiVersion", streamAPIVersion)
	putObject(&top, "metadata", &meta)
	putObject(&spec, "lookupPolicy", &lookup)
	if len(s.Tags) > 0 {
		spec.put("tags", s.Tags)
	}
	spec.rest(s.otherSpec)
	putObject(&top, "spec", &spec)
	status.put("dockerImageRepository", s.Repository)
	status.putText("publicDockerImageRepository", s.PublicRepository)
	if len(s.Status) > 0 {
		status.put("tags", s.Status)
	}
	status.rest(s.otherStatus)
	putObject(&top, "status", &status)
	top.rest(s.other)
	return top.bytes()
}

func putObject(dst *object, key string, value *object) {
	data, err := value.bytes()
	if err != nil {
		dst.err = errors.Join(dst.err, fmt.Errorf("%s: %w", key, err))
		return
	}
	dst.put(key, json.RawMessage(data))
}

// MarshalJSON writes the members in the order of the API's type.
func (t Tag) MarshalJSON() ([]byte, error) {
	var o, from, imp, refs object
	o.put("name", t.Name)
	o.put("annotations", t.Annotations) // null where there are none
	if t.hasFrom || t.Kind != "" || t.Pullspec != "" {
		from.putText("kind", t.Kind)
		from.putText("name", t.Pullspec)
		from.rest(t.from)
		putObject(&o, "from", &from)
	}
	if t.reference {
		o.put("reference", true)
	}
	o.put("generation", t.Generation)
	if t.importPolicy.Insecure {
		imp.put("insecure", true)
	}
	if t.importPolicy.Scheduled {
		imp.put("scheduled", true)
	}
	imp.putText("importMode", t.importPolicy.ImportMode)
	imp.rest(t.otherImport)
	putObject(&o, "importPolicy", &imp)
	refs.put("type", t.referenceType)
	refs.rest(t.otherRefs)
	putObject(&o, "referencePolicy", &refs)
	o.rest(t.other)
	return o.bytes()
}

// clone copies what Assemble changes.
func (s *ImageStream) clone() *ImageStream {
	c := *s
	c.Raw = nil
	c.Annotations = maps.Clone(s.Annotations)
	c.Tags = slices.Clone(s.Tags)
	for i := range c.Tags {
		c.Tags[i].Annotations = maps.Clone(c.Tags[i].Annotations)
	}
	return &c
}
