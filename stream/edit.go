package stream

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// Set is one change for [Edit].
type Set struct {
	// Path is as in [FieldError]: gates[1].timeout, os.buildArgs["a.b"].
	Path string
	// Value is a text, bool, int, duration or what marshals to text.
	Value any
}

// Edit sets scalars in the text of a definition and leaves every other byte as
// it is: comments, order, quotes, blank lines. The changes apply one after the
// other. A key that is missing is added at the end of its mapping, with the
// mappings above it where those are missing, too; a list gets no new items
// (the error wraps [io/fs.ErrNotExist]).
//
// What cannot be changed by itself gives an error that wraps
// [errors.ErrUnsupported]: values with an anchor or alias, block texts ("|"),
// texts over several lines. The result is read back, and given only if it
// differs in the wanted places and no others. Edit does not check that it is
// a good definition, as one change can make a fault that the next mends:
// [Decode] it.
func Edit(old []byte, edits ...Set) ([]byte, error) {
	text := bytes.Clone(old)
	for _, e := range edits {
		var err error
		if text, err = edit(text, e); err != nil {
			return nil, err
		}
	}
	return text, nil
}

func edit(text []byte, e Set) ([]byte, error) {
	fail := func(err error) error {
		return &FieldError{Path: e.Path, Err: fmt.Errorf("edit: %w", err)}
	}
	root, err := parseYAML(text)
	if err != nil {
		return nil, err
	}
	steps, err := parsePath(e.Path)
	if err != nil {
		return nil, fail(err)
	}
	value, err := scalarNode(e.Value)
	if err != nil {
		return nil, fail(err)
	}
	ed := editor{text: text}
	out, want, err := ed.set(root, steps, value)
	if err != nil {
		return nil, fail(err)
	}
	after, err := parseYAML(out)
	if err != nil {
		return nil, fail(fmt.Errorf("the text around it cannot be changed: %w (%w)", errors.ErrUnsupported, err))
	}
	if !after.same(want) {
		return nil, fail(fmt.Errorf("the text around it cannot be changed: %w", errors.ErrUnsupported))
	}
	return out, nil
}

// step is a key, or where key is "" an index.
type step struct {
	key   string
	index int
}

func parsePath(path string) ([]step, error) {
	var steps []step
	bad := fmt.Errorf("path %.200q is not one (as gates[1].timeout)", path)
	for rest := path; rest != ""; {
		switch {
		case strings.HasPrefix(rest, `["`):
			quoted, err := strconv.QuotedPrefix(rest[1:])
			if err != nil || !strings.HasPrefix(rest[1+len(quoted):], "]") {
				return nil, bad
			}
			key, err := strconv.Unquote(quoted)
			if err != nil || key == "" {
				return nil, bad
			}
			steps = append(steps, step{key: key})
			rest = rest[2+len(quoted):]
		case rest[0] == '[':
			digits, tail, ok := strings.Cut(rest[1:], "]")
			index := 0
			if !ok || !parseInt(digits, &index) {
				return nil, bad
			}
			steps = append(steps, step{index: index})
			rest = tail
		default:
			if len(steps) > 0 {
				if rest[0] != '.' {
					return nil, bad
				}
				rest = rest[1:]
			}
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if !plainKey(rest[:end]) {
				return nil, bad
			}
			steps = append(steps, step{key: rest[:end]})
			rest = rest[end:]
		}
	}
	if len(steps) == 0 {
		return nil, bad
	}
	return steps, nil
}

// scalarNode makes the node that value becomes.
func scalarNode(value any) (*node, error) {
	if t, ok := value.(time.Duration); ok {
		return &node{kind: textNode, text: formatDuration(t)}, nil
	}
	if m, ok := value.(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		return &node{kind: textNode, text: string(text)}, err
	}
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return nil, errors.New("text is not UTF-8")
		}
		return &node{kind: textNode, text: v.String()}, nil
	case reflect.Bool:
		return &node{kind: boolNode, text: strconv.FormatBool(v.Bool())}, nil
	case reflect.Int:
		return &node{kind: intNode, text: strconv.FormatInt(v.Int(), 10)}, nil
	}
	return nil, fmt.Errorf("value of type %T: %w", value, errors.ErrUnsupported)
}

// same reports whether n and o hold the same values.
func (n *node) same(o *node) bool {
	if n.kind != o.kind || len(n.keys) != len(o.keys) || len(n.items) != len(o.items) {
		return false
	}
	for i, k := range n.keys {
		if k.name != o.keys[i].name || !k.value.same(o.keys[i].value) {
			return false
		}
	}
	for i, item := range n.items {
		if !item.same(o.items[i]) {
			return false
		}
	}
	return n.kind <= sequenceNode || n.text == o.text
}

type editor struct{ text []byte }

// set gives the text with value at steps below n, and what it must read as.
func (e *editor) set(n *node, steps []step, value *node) ([]byte, *node, error) {
	if n.shared {
		return nil, nil, fmt.Errorf("value at line %d is shared by an anchor: %w", n.line, errors.ErrUnsupported)
	}
	want := *n
	s := steps[0]
	if s.key == "" {
		if n.kind != sequenceNode {
			return nil, nil, fmt.Errorf("[%d] in %v", s.index, n.kind)
		}
		if s.index >= len(n.items) {
			return nil, nil, fmt.Errorf("item %d of %d: %w", s.index, len(n.items), fs.ErrNotExist)
		}
		want.items = append([]*node{}, n.items...)
		out, item, err := e.below(n, nil, n.items[s.index], steps[1:], value)
		want.items[s.index] = item
		return out, &want, err
	}
	if n.kind != mappingNode {
		return nil, nil, fmt.Errorf("key %q in %v", s.key, n.kind)
	}
	want.keys = append([]key{}, n.keys...)
	for i, k := range n.keys {
		if k.name == s.key {
			out, item, err := e.below(n, &n.keys[i], k.value, steps[1:], value)
			want.keys[i].value = item
			return out, &want, err
		}
	}
	made := value
	for i := len(steps) - 1; i > 0; i-- {
		if steps[i].key == "" {
			return nil, nil, fmt.Errorf("item %d of a missing list: %w", steps[i].index, fs.ErrNotExist)
		}
		made = &node{kind: mappingNode, keys: []key{{name: steps[i].key, value: made}}}
	}
	want.keys = append(want.keys, key{name: s.key, value: made})
	out, err := e.add(n, steps, value)
	return out, &want, err
}

// below goes on in child, the value of k or an item of n.
func (e *editor) below(n *node, k *key, child *node, steps []step, value *node) ([]byte, *node, error) {
	if len(steps) > 0 {
		return e.set(child, steps, value)
	}
	out, err := e.replace(n, k, child, value)
	return out, value, err
}

// replace puts value where the scalar old stands.
func (e *editor) replace(parent *node, k *key, old, value *node) ([]byte, error) {
	if old.kind == mappingNode || old.kind == sequenceNode {
		return nil, fmt.Errorf("is %v: %w", old.kind, errors.ErrUnsupported)
	}
	if old.shared {
		return nil, fmt.Errorf("value at line %d is shared by an anchor: %w", old.line, errors.ErrUnsupported)
	}
	start := e.offset(old.line, old.column)
	rest := e.text[start:]
	end := -1
	switch {
	case old.style == token.DoubleQuoteType && bytes.HasPrefix(rest, []byte(`"`)):
		for i := 1; i < len(rest) && end < 0; i++ {
			switch rest[i] {
			case '\\':
				i++
			case '"':
				end = i + 1
			}
		}
	case old.style == token.SingleQuoteType && bytes.HasPrefix(rest, []byte("'")):
		for i := 1; i < len(rest) && end < 0; i++ {
			if rest[i] != '\'' {
				continue
			}
			if i+1 < len(rest) && rest[i+1] == '\'' {
				i++
				continue
			}
			end = i + 1
		}
	case old.kind == nullNode && k != nil && !bytes.HasPrefix(rest, []byte(old.text)) || old.kind == nullNode && k != nil && old.text == "":
		// Nothing is written; the value goes behind the key's colon.
		at := e.offset(k.line, k.column)
		colon := bytes.IndexByte(e.text[at:], ':')
		if colon < 0 {
			break
		}
		at += colon + 1
		return splice(e.text, at, at, " "+e.literal(value, old.style, parent.flow)), nil
	case old.style != token.LiteralType && old.style != token.FoldedType && old.text != "" && bytes.HasPrefix(rest, []byte(old.text)):
		end = len(old.text)
	}
	if end < 0 || bytes.IndexByte(rest[:end], '\n') >= 0 {
		return nil, fmt.Errorf("text at line %d is written in a way that cannot be replaced: %w", old.line, errors.ErrUnsupported)
	}
	return splice(e.text, start, start+end, e.literal(value, old.style, parent.flow)), nil
}

// literal writes a scalar, in the quotes the old one had.
func (e *editor) literal(v *node, style token.Type, flow bool) string {
	if v.kind != textNode {
		return v.text
	}
	quote := style == token.DoubleQuoteType || flow && strings.ContainsAny(v.text, ",[]{}:*&#?")
	if style == token.SingleQuoteType && !strings.ContainsFunc(v.text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "'" + strings.ReplaceAll(v.text, "'", "''") + "'"
	}
	if quote {
		return quoteText(v.text)
	}
	return encodeText(v.text)
}

// add writes keys that are missing at the end of mapping n.
func (e *editor) add(n *node, steps []step, value *node) ([]byte, error) {
	literal := e.literal(value, token.StringType, n.flow)
	if n.flow {
		if n.end == nil {
			return nil, errors.ErrUnsupported
		}
		at := e.offset(n.end.Line, n.end.Column)
		if at >= len(e.text) || e.text[at] != '}' {
			return nil, errors.ErrUnsupported
		}
		for at > 0 && (e.text[at-1] == ' ' || e.text[at-1] == '\t') {
			at--
		}
		text := ""
		if len(n.keys) > 0 {
			text = ", "
		}
		for i, s := range steps {
			if i > 0 {
				text += "{"
			}
			text += encodeText(s.key) + ": "
		}
		return splice(e.text, at, at, text+literal+strings.Repeat("}", len(steps)-1)), nil
	}
	last := n.keys[len(n.keys)-1]
	at := e.blockEnd(last.line, n.column-1)
	newline := "\n"
	if i := bytes.IndexByte(e.text, '\n'); i > 0 && e.text[i-1] == '\r' {
		newline = "\r\n"
	}
	text := ""
	for i, s := range steps {
		text += strings.Repeat(" ", n.column-1+2*i) + encodeText(s.key) + ":"
		if i < len(steps)-1 {
			text += newline
		}
	}
	text += " " + literal
	if at > 0 && e.text[at-1] != '\n' {
		text = newline + text
	} else {
		text += newline
	}
	return splice(e.text, at, at, text), nil
}

// blockEnd is the offset after the last line of a mapping whose keys are
// indented by indent and whose last key is on the given line.
func (e *editor) blockEnd(line, indent int) int {
	at := e.offset(line, 1)
	end := e.lineEnd(at)
	for next := end; next < len(e.text); {
		stop := e.lineEnd(next)
		content := strings.TrimRight(string(e.text[next:stop]), "\r\n")
		trimmed := strings.TrimLeft(content, " ")
		depth := len(content) - len(trimmed)
		belongs := depth > indent || depth == indent && (trimmed == "-" || strings.HasPrefix(trimmed, "- "))
		switch {
		case strings.TrimSpace(content) == "": // within or after, the next line tells
		case belongs:
			end = stop
		default:
			return end
		}
		next = stop
	}
	return end
}

func (e *editor) lineEnd(at int) int {
	if i := bytes.IndexByte(e.text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(e.text)
}

// offset is where line and column are in the text; its end if it is shorter.
func (e *editor) offset(line, column int) int {
	at := 0
	for ; line > 1; line-- {
		at = e.lineEnd(at)
	}
	for ; column > 1 && at < len(e.text); column-- {
		_, size := utf8.DecodeRune(e.text[at:])
		at += size
	}
	return at
}

func splice(text []byte, from, to int, with string) []byte {
	out := make([]byte, 0, len(text)-(to-from)+len(with))
	out = append(out, text[:from]...)
	out = append(out, with...)
	return append(out, text[to:]...)
}

// quoteText writes text in double quotes, with JSON's escapes, all of which
// YAML has.
func quoteText(text string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a buffer takes everything, and text encodes
	var out strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		if r >= 0x7f && r < 0xa0 || r == 0xfeff { // allowed in JSON, not in YAML
			fmt.Fprintf(&out, "\\u%04x", r)
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}
