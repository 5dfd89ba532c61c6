package tekton

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Encode writes objects as YAML, a document each, in the order given. The same
// objects give the same bytes.
func Encode(w io.Writer, objects ...Object) error {
	var b bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			b.WriteString("---\n")
		}
		if err := encodeYAML(&b, o); err != nil {
			head := o.Head()
			return fmt.Errorf("tekton: encode %s %s: %w", head.Kind, head.Metadata.Name, err)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("tekton: write: %w", err)
	}
	return nil
}

// encodeYAML writes a value, which encoding/json can marshal to an object, in
// YAML's block style and in the order that its JSON has.
func encodeYAML(b *bytes.Buffer, v any) error {
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	dec := json.NewDecoder(&data)
	dec.UseNumber()
	y := &yamlWriter{b: b, dec: dec}
	t, err := dec.Token()
	if err != nil {
		return err
	}
	return y.value(t, 0, false)
}

type yamlWriter struct {
	b   *bytes.Buffer
	dec *json.Decoder
}

// value writes the value that begins with token t. indent is that of the lines of a
// collection; inline says that the cursor stands behind a dash, where the first line of a mapping
// belongs.
func (y *yamlWriter) value(t json.Token, indent int, inline bool) error {
	switch t := t.(type) {
	case json.Delim:
		if !y.dec.More() {
			if _, err := y.dec.Token(); err != nil {
				return err
			}
			empty := "{}\n"
			if t == '[' {
				empty = "[]\n"
			}
			y.b.WriteString(empty)
			return nil
		}
		if t == '[' {
			return y.sequence(indent)
		}
		return y.mapping(indent, inline)
	case string:
		y.text(t, indent)
	case nil:
		y.b.WriteString("null\n")
	default:
		fmt.Fprintf(y.b, "%v\n", t)
	}
	return nil
}

func (y *yamlWriter) mapping(indent int, inline bool) error {
	for first := true; y.dec.More(); first = false {
		key, err := y.dec.Token()
		if err != nil {
			return err
		}
		if !first || !inline {
			fmt.Fprintf(y.b, "%*s", indent, "")
		}
		fmt.Fprintf(y.b, "%s:", plainOrQuoted(key.(string)))
		value, err := y.dec.Token()
		if err != nil {
			return err
		}
		below := indent + 2
		if d, ok := value.(json.Delim); ok && y.dec.More() {
			y.b.WriteByte('\n')
			if d == '[' {
				below = indent // dashes stand below the key
			}
		} else {
			y.b.WriteByte(' ')
		}
		if err := y.value(value, below, false); err != nil {
			return err
		}
	}
	_, err := y.dec.Token()
	return err
}

func (y *yamlWriter) sequence(indent int) error {
	for y.dec.More() {
		fmt.Fprintf(y.b, "%*s- ", indent, "")
		t, err := y.dec.Token()
		if err != nil {
			return err
		}
		if t == json.Delim('[') && y.dec.More() {
			return fmt.Errorf("a list in a list") // no object has one
		}
		if err := y.value(t, indent+2, true); err != nil {
			return err
		}
	}
	_, err := y.dec.Token()
	return err
}

// text writes lines as a literal block, everything else on one line.
func (y *yamlWriter) text(s string, indent int) {
	if !literal(s) {
		y.b.WriteString(plainOrQuoted(s))
		y.b.WriteByte('\n')
		return
	}
	y.b.WriteString("|")
	body, ended := strings.CutSuffix(s, "\n")
	if !ended {
		y.b.WriteByte('-')
	}
	y.b.WriteByte('\n')
	for line := range strings.SplitSeq(body, "\n") {
		if line != "" {
			fmt.Fprintf(y.b, "%*s%s", indent, "", line)
		}
		y.b.WriteByte('\n')
	}
}

// literal reports whether text can stand in a literal block: several lines, the
// first without a space before it, one end of line at most at the end, and nothing
// that is not printed.
func literal(s string) bool {
	body := strings.TrimSuffix(s, "\n")
	if !strings.Contains(body, "\n") || strings.HasSuffix(body, "\n") || body[0] == ' ' || body[0] == '\n' {
		return false
	}
	for _, r := range s {
		if r != '\n' && !printed(r) {
			return false
		}
	}
	return true
}

// plainOrQuoted gives text without quotes where every YAML reader takes it for that text,
// else in double quotes.
func plainOrQuoted(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case printed(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// printed reports whether a character stands for itself with every reader, and is seen by people.
func printed(r rune) bool {
	return r == ' ' || r < 0xfeff && unicode.IsGraphic(r) && !unicode.IsSpace(r)
}

func plain(s string) bool {
	if s == "" {
		return false
	}
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null":
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '/', c == '_', c == '$':
		case i == 0:
			if !strings.HasPrefix(s, "--") || len(s) < 3 || s[2] == '-' {
				return false // numbers, times, marks of YAML
			}
		case c >= '0' && c <= '9', c == '.', c == '-', c == '(', c == ')', c == '=', c == '@':
		case c == ' ', c == ',', c == ';', c == '+', c == '~':
			if i == len(s)-1 {
				return false
			}
		case c == ':':
			if i == len(s)-1 || s[i+1] == ' ' {
				return false
			}
		default:
			return false
		}
	}
	return true
}
