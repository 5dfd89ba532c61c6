package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/internal/yamlsize"
)

// members are the members of a JSON object. What take does not take is what
// the reader does not know, and is kept.
type members map[string]json.RawMessage

func decodeMembers(data []byte) (members, error) {
	if len(data) == 0 || string(data) == "null" {
		return nil, nil
	}
	var m members
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	return m, nil
}

// take decodes a member into dst, if it is there and not null, and forgets it.
// Unlike encoding/json it does not accept keys in other case.
func (m members) take(key string, dst any) error {
	raw, ok := m[key]
	if !ok {
		return nil
	}
	delete(m, key)
	if string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// takeMembers is take for an object whose members are wanted one by one.
func (m members) takeMembers(key string) (members, error) {
	raw := m[key]
	delete(m, key)
	sub, err := decodeMembers(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return sub, nil
}

// unknown is what is left, nil if nothing is.
func (m members) unknown() members {
	if len(m) == 0 {
		return nil
	}
	return m
}

// object writes a JSON object with its members in the order of the calls.
type object struct {
	buf bytes.Buffer
	err error
}

func (o *object) put(key string, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		o.err = errors.Join(o.err, fmt.Errorf("%s: %w", key, err))
		return
	}
	if o.buf.Len() == 0 {
		o.buf.WriteByte('{')
	} else {
		o.buf.WriteByte(',')
	}
	name, _ := json.Marshal(key) // a string always marshals
	o.buf.Write(name)
	o.buf.WriteByte(':')
	o.buf.Write(data)
}

// putText leaves out the empty string.
func (o *object) putText(key, value string) {
	if value != "" {
		o.put(key, value)
	}
}

// rest writes unknown members, sorted by key.
func (o *object) rest(m members) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		o.put(key, m[key])
	}
}

func (o *object) bytes() ([]byte, error) {
	if o.err != nil {
		return nil, o.err
	}
	if o.buf.Len() == 0 {
		return []byte("{}"), nil
	}
	o.buf.WriteByte('}')
	return o.buf.Bytes(), nil
}

// indent gives compact JSON with two spaces of indentation, if that has at most
// limit bytes. What is nested deeply grows with the square of its depth.
func indent(data []byte, limit int) ([]byte, error) {
	if n := indentedSize(data); n > limit {
		return nil, fmt.Errorf("%d bytes, limit %d", n, limit)
	}
	var out bytes.Buffer
	err := json.Indent(&out, data, "", "  ")
	return out.Bytes(), err
}

func indentedSize(data []byte) int {
	n, depth := len(data), 0
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if data[i+1] == c+2 { // {} and [] stay as they are
				i++
				continue
			}
			depth++
			n += 1 + 2*depth
		case '}', ']':
			depth--
			n += 1 + 2*depth
		case ',':
			n += 1 + 2*depth
		case ':':
			n++
		}
	}
	return n
}

// toJSON gives a document as JSON that may be JSON or YAML (the first
// document of it).
func toJSON(data []byte, limit int) ([]byte, error) {
	if len(data) > limit {
		return nil, fmt.Errorf("%d bytes, limit %d", len(data), limit)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	if json.Valid(data) {
		return data, nil
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 {
		return nil, errors.New("empty document")
	}
	if err := checkYAML(data); err != nil {
		return nil, err
	}
	return yaml.YAMLToJSON(data)
}

// checkYAML refuses documents that would need too much memory.
func checkYAML(data []byte) error {
	if len(data) > MaxYAMLSize {
		return fmt.Errorf("YAML document of %d bytes, limit %d", len(data), MaxYAMLSize)
	}
	if n := yamlNodes(data); n > MaxYAMLNodes {
		return fmt.Errorf("YAML document of up to %d nodes, limit %d", n, MaxYAMLNodes)
	}
	if err := yamlsize.Check(data); err != nil {
		return fmt.Errorf("YAML document: %w", err)
	}
	return nil
}

// yamlNodes bounds the nodes of a document from above.
func yamlNodes(data []byte) int {
	n := 1
	for _, c := range [...]string{"\n", "\r", ",", ":", "-", "[", "{", "?"} {
		n += bytes.Count(data, []byte(c))
	}
	return n
}

// decodeList decodes an array of at most limit elements; their number is known
// before they are given memory. A list that is missing or null is nil, and an
// empty one is not, as encoding/json has it.
func decodeList[T any](raw json.RawMessage, limit int) ([]T, error) {
	var parts []json.RawMessage
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return nil, err
	}
	if len(parts) > limit {
		return nil, fmt.Errorf("%d elements, limit %d", len(parts), limit)
	}
	out := make([]T, len(parts))
	for i, part := range parts {
		if err := json.Unmarshal(part, &out[i]); err != nil {
			return nil, fmt.Errorf("element %d: %w", i+1, err)
		}
	}
	return out, nil
}
