package registriesconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/internal/yamlsize"
)

// maxObjects bounds the objects of one file.
const maxObjects = 1000

// object is what is looked at of a Kubernetes object.
type object struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metadata          `json:"metadata"`
	Spec       json.RawMessage   `json:"spec"`
	Items      []json.RawMessage `json:"items"`
}

type metadata struct {
	Name string `json:"name"`
}

// mirrorSpec is the spec of all three kinds; each has its own list.
type mirrorSpec struct {
	Digest []mirrorSet `json:"imageDigestMirrors"`
	Tag    []mirrorSet `json:"imageTagMirrors"`
	Policy []mirrorSet `json:"repositoryDigestMirrors"`
}

type mirrorSet struct {
	Source  string   `json:"source"`
	Mirrors []string `json:"mirrors"`
	Policy  string   `json:"mirrorSourcePolicy"`
}

// kinds gives each kind its API version and the list of its spec.
var kinds = map[string]struct {
	version string
	list    func(*mirrorSpec) (*[]mirrorSet, string)
	pulls   pulls
}{
	"ImageDigestMirrorSet": {"config.openshift.io/v1", func(s *mirrorSpec) (*[]mirrorSet, string) { return &s.Digest, "imageDigestMirrors" }, digestOnly},
	"ImageTagMirrorSet":    {"config.openshift.io/v1", func(s *mirrorSpec) (*[]mirrorSet, string) { return &s.Tag, "imageTagMirrors" }, tagOnly},
	"ImageContentSourcePolicy": {"operator.openshift.io/v1alpha1",
		func(s *mirrorSpec) (*[]mirrorSet, string) { return &s.Policy, "repositoryDigestMirrors" }, digestOnly},
}

// setReader collects mirror sets by kind of pull and source.
type setReader struct {
	sets    map[pulls]map[string]*sourceSets
	objects int
	count   int // mirrors
}

type sourceSets struct {
	lists [][]string
	never bool
	place string
}

// addSets adds the mirror sets of all files together: the order of one source's
// mirrors comes from all of them.
func (c *Config) addSets(files []File) error {
	r := &setReader{sets: map[pulls]map[string]*sourceSets{digestOnly: {}, tagOnly: {}}}
	var errs []error
	for _, file := range files {
		r.objects = 0
		if err := r.file(file); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	scopes := map[string]bool{}
	for _, kind := range []pulls{digestOnly, tagOnly} {
		for _, source := range slices.Sorted(maps.Keys(r.sets[kind])) {
			set := r.sets[kind][source]
			e := c.get(source)
			if e == nil {
				added := entry{prefix: source, location: source, place: set.place}
				if source[0] == '*' {
					added.location = ""
				}
				c.put(added)
				e = c.get(source)
			}
			e.blocked = e.blocked || set.never
			for _, location := range inOrder(source, set.lists) {
				m := mirror{location: location, pulls: kind}
				if over, _ := c.find(location); over != nil {
					m.insecure = over.insecure
				}
				e.mirrors = append(e.mirrors, m)
			}
			scopes[source] = true
		}
	}
	c.inherit(scopes)
	return nil
}

// inherit gives tables below a source that have no mirrors those of the source:
// only the table with the longest prefix counts, so they would be lost.
func (c *Config) inherit(scopes map[string]bool) {
	had := make([]bool, len(c.entries))
	for i := range c.entries {
		had[i] = len(c.entries[i].mirrors) > 0
	}
	for i := range c.entries {
		below := &c.entries[i]
		if had[i] || below.prefix[0] == '*' {
			continue
		}
		var from *entry
		var rest string
		for source := range scopes {
			if r, ok := after(below.prefix, source); ok && (from == nil || len(source) > len(from.prefix)) {
				from, rest = c.get(source), r
			}
		}
		if from == nil {
			continue
		}
		below.blocked = below.blocked || from.blocked
		for _, m := range from.mirrors {
			m.location += rest
			below.mirrors = append(below.mirrors, m)
		}
	}
}

// file reads the documents of a YAML file.
func (r *setReader) file(file File) error {
	if len(file.Data) > MaxFileSize {
		return fmt.Errorf("%s: more than %d bytes: %w", file.Name, MaxFileSize, errors.ErrUnsupported)
	}
	var bad faults
	for i, document := range documents(file.Data) {
		var text []byte
		err := yamlsize.Check(document)
		if err == nil {
			text, err = yaml.YAMLToJSONStrict(document)
		}
		if err != nil {
			bad.add(fmt.Errorf("%s: document %d: %w", file.Name, i+1, err))
		} else if string(text) != "null" {
			bad.add(r.object(text, fmt.Sprintf("%s: document %d", file.Name, i+1), 0))
		}
	}
	return bad.err()
}

// documents splits at lines that begin with ---.
func documents(data []byte) [][]byte {
	var out [][]byte
	begin := 0
	for at := 0; at < len(data); {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			end = len(data)
		} else {
			end += at + 1
		}
		if line := strings.TrimRight(string(data[at:min(end, at+5)]), "\r\n"); line == "---" || strings.HasPrefix(line, "--- ") {
			out = append(out, data[begin:at])
			begin = end
			if strings.HasPrefix(line, "--- ") {
				begin = at + 4
			}
		}
		at = end
	}
	return append(out, data[begin:])
}

// object reads a mirror set or a list of them.
func (r *setReader) object(text []byte, place string, depth int) error {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return fmt.Errorf("%s: not a Kubernetes object: %w", place, err)
	}
	if r.objects++; r.objects+len(o.Items) > maxObjects {
		return fmt.Errorf("%s: more than %d objects: %w", place, maxObjects, errors.ErrUnsupported)
	}
	if o.Metadata.Name != "" {
		place += fmt.Sprintf(": %s %.100q", o.Kind, o.Metadata.Name)
	}
	if strings.HasSuffix(o.Kind, "List") && depth == 0 {
		var bad faults
		for i, item := range o.Items {
			bad.add(r.object(item, fmt.Sprintf("%s: items[%d]", place, i), depth+1))
		}
		return bad.err()
	}
	kind, ok := kinds[o.Kind]
	if !ok || kind.version != o.APIVersion {
		return fmt.Errorf("%s: %.60q of %.60q is not a mirror set: %w", place, o.Kind, o.APIVersion, errors.ErrUnsupported)
	}
	var spec mirrorSpec
	d := json.NewDecoder(bytes.NewReader(o.Spec))
	d.DisallowUnknownFields()
	if err := d.Decode(&spec); err != nil && len(o.Spec) > 0 {
		return fmt.Errorf("%s: spec: %w", place, err)
	}
	list, field := kind.list(&spec)
	total := len(spec.Digest) + len(spec.Tag) + len(spec.Policy)
	if total != len(*list) {
		return fmt.Errorf("%s: spec: want %s alone", place, field)
	}
	var bad faults
	for i, set := range *list {
		at := fmt.Sprintf("%s: spec.%s[%d]", place, field, i)
		if err := r.add(set, kind.pulls, o.Kind, at); err != nil {
			bad.add(fmt.Errorf("%s: %w", at, err))
		}
	}
	return bad.err()
}

// add checks a set and adds it to those of its source.
func (r *setReader) add(set mirrorSet, kind pulls, name, place string) error {
	source, matches, err := checkPrefix(set.Source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if !matches {
		return fmt.Errorf("source: %.100q: want no tag or digest", set.Source)
	}
	switch {
	case set.Policy != "" && name == "ImageContentSourcePolicy":
		return errors.New("mirrorSourcePolicy is not of this kind")
	case set.Policy != "" && set.Policy != "NeverContactSource" && set.Policy != "AllowContactingSource":
		return fmt.Errorf("mirrorSourcePolicy: %.60q, want NeverContactSource or AllowContactingSource", set.Policy)
	}
	if r.count += len(set.Mirrors); r.count > MaxEntries {
		return fmt.Errorf("more than %d mirrors in all: %w", MaxEntries, errors.ErrUnsupported)
	}
	real := false
	mirrors := make([]string, 0, len(set.Mirrors))
	for i, text := range set.Mirrors {
		location, err := checkLocation(text)
		if err != nil {
			return fmt.Errorf("mirrors[%d]: %w", i, err)
		}
		mirrors = append(mirrors, location)
		real = real || location != source
	}
	if !real {
		return nil // not a mirror set, whatever its policy, as the machine-config operator has it
	}
	s := r.sets[kind][source]
	if s == nil {
		s = &sourceSets{place: place}
		r.sets[kind][source] = s
	}
	s.lists = append(s.lists, mirrors)
	s.never = s.never || set.Policy == "NeverContactSource"
	return nil
}

// inOrder merges lists of mirrors into one that keeps the order of each, as far
// as they agree: first what nothing goes before, by name; a circle is broken at
// its first name. It is the order of the machine-config operator. A source that
// comes last is left out: it is tried last anyway.
func inOrder(source string, lists [][]string) []string {
	before, next := map[string]map[string]bool{}, map[string]map[string]bool{}
	edge := func(from, to string) {
		for _, node := range []string{from, to} {
			if next[node] == nil {
				before[node], next[node] = map[string]bool{}, map[string]bool{}
			}
		}
		next[from][to], before[to][from] = true, true
	}
	for _, list := range lists {
		for i := range len(list) - 1 {
			edge(list[i], list[i+1])
		}
		if !slices.Contains(list, source) {
			edge(list[len(list)-1], source)
		}
	}
	nodes := slices.Sorted(maps.Keys(next))
	var queue, out []string
	for _, node := range nodes {
		if len(before[node]) == 0 {
			queue = append(queue, node)
		}
	}
	used := map[string]bool{}
	for at := 0; ; {
		var node string
		switch {
		case len(queue) > 0:
			node, queue = queue[0], queue[1:]
		case at < len(nodes):
			if node = nodes[at]; used[node] {
				at++
				continue
			}
		default:
			if out[len(out)-1] == source {
				out = out[:len(out)-1]
			}
			return out
		}
		used[node] = true
		out = append(out, node)
		for _, to := range slices.Sorted(maps.Keys(next[node])) {
			delete(before[to], node)
			if len(before[to]) == 0 && !used[to] {
				queue = append(queue, to)
			}
		}
	}
}
