package bootimage

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// textChange is a text of the object that is another one than was read.
type textChange struct {
	path  []string // of the mapping that it is in
	key   string
	value string
	gone  bool
}

// changes are the texts that are not as they were read.
func (c *ConfigMap) changes() (all []textChange) {
	diff := func(was, is map[string]string, path ...string) {
		keys := maps.Clone(was)
		if keys == nil {
			keys = map[string]string{}
		}
		maps.Copy(keys, is)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			old, had := was[key]
			text, has := is[key]
			if old != text || had != has && !(had && old == "") {
				all = append(all, textChange{path, key, text, !has})
			}
		}
	}
	diff(c.was.Data, c.data(), "data")
	diff(c.was.Metadata.Annotations, c.Annotations, "metadata", "annotations")
	return all
}

// edited is what was read with what was changed, and nothing else. Where the text
// cannot be changed in place, as in YAML of flow style, the object is written anew with
// all that it has.
func (c *ConfigMap) edited() ([]byte, error) {
	changes := c.changes()
	if len(changes) == 0 {
		return c.source, nil
	}
	if head, root, tail, err := parseJSON(c.source); err == nil && root.kind == '{' {
		next := root
		for _, change := range changes {
			next = change.inJSON(next, change.path)
		}
		d := Document[object]{head: head, tail: tail, root: styleOf(root).apply(root, root, next, "")}
		return d.Bytes(), nil
	}
	want, err := plainObject(c.source)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(c.source), "\n")
	for _, change := range changes {
		change.inObject(want)
		if lines, err = change.inLines(lines); err != nil {
			return nil, err
		}
	}
	// Only what reads as it should is taken: lines know nothing of all that YAML can be.
	text := []byte(strings.Join(lines, ""))
	if got, err := plainObject(text); err == nil && reflect.DeepEqual(got, want) {
		return text, nil
	}
	return yaml.Marshal(want)
}

// plainObject reads YAML or JSON without a view; numbers keep their text.
func plainObject(data []byte) (map[string]any, error) {
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, err
	}
	var v map[string]any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	err = dec.Decode(&v)
	return v, err
}

func (t textChange) inObject(o map[string]any) {
	for _, key := range t.path {
		in, ok := o[key].(map[string]any)
		if !ok {
			in = map[string]any{}
			o[key] = in
		}
		o = in
	}
	if t.gone {
		delete(o, t.key)
	} else {
		o[t.key] = t.value
	}
}

func (t textChange) inJSON(o *value, path []string) *value {
	if len(path) > 0 {
		in := o.get(path[0])
		if in == nil || in.kind != '{' {
			in = &value{kind: '{'}
		}
		return o.with(path[0], t.inJSON(in, path[1:]))
	}
	if t.gone {
		members := slices.DeleteFunc(slices.Clone(o.members), func(m member) bool { return m.key == t.key })
		return &value{kind: '{', members: members}
	}
	return o.with(t.key, &value{raw: quote(t.value)})
}

// inLines changes a text in YAML of block style: the lines of its entry are written
// anew. Where the mapping or the entry is not found the lines stay, which who called
// finds out.
func (t textChange) inLines(lines []string) ([]string, error) {
	from, to, indent := 0, len(lines), 0
	for _, key := range t.path {
		at, end := entryOf(lines, from, to, indent, key)
		if at < 0 {
			return lines, nil
		}
		from, to = at+1, end
		for indent = 0; from < to; from++ {
			if n, ok := indentation(lines[from]); ok {
				indent = n
				break
			}
		}
	}
	var fresh []string
	if !t.gone {
		data, err := yaml.Marshal(map[string]string{t.key: t.value})
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			if line != "\n" {
				line = strings.Repeat(" ", indent) + line
			}
			fresh = append(fresh, line)
		}
	}
	at, end := entryOf(lines, from, to, indent, t.key)
	if at < 0 {
		for at = to; at > from && strings.TrimSpace(lines[at-1]) == ""; at-- {
		}
		if at > 0 && !strings.HasSuffix(lines[at-1], "\n") {
			lines = slices.Clone(lines)
			lines[at-1] += "\n"
		}
		end = at
	}
	return slices.Concat(lines[:at], fresh, lines[end:]), nil
}

// entryOf finds the lines of an entry in those of its mapping, which is indented by so
// many spaces; -1: it is not there.
func entryOf(lines []string, from, to, indent int, key string) (at, end int) {
	quoted, _ := json.Marshal(key) // a string encodes
	for at = from; at < to; at++ {
		n, ok := indentation(lines[at])
		if !ok || n != indent {
			continue
		}
		is := func(name string) bool {
			rest, ok := strings.CutPrefix(lines[at][n:], name+":")
			return ok && (rest == "" || strings.ContainsRune(" \r\n", rune(rest[0])))
		}
		if !is(key) && !is(string(quoted)) && !is("'"+key+"'") {
			continue
		}
		for end = at + 1; end < to; end++ {
			if n, ok := indentation(lines[end]); ok && n <= indent {
				break
			}
		}
		// Empty lines before what follows are not the entry's.
		for end > at+1 && end < to && strings.TrimSpace(lines[end-1]) == "" {
			end--
		}
		return at, end
	}
	return -1, -1
}

// indentation is how many spaces are before what is in a line, if anything is.
func indentation(line string) (int, bool) {
	rest := strings.TrimLeft(line, " ")
	return len(line) - len(rest), strings.TrimSpace(rest) != ""
}
