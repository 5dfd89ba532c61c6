package registriesconf

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep arrays and tables lie in each other.
const maxDepth = 32

// value is one of string, bool, number, []*value and *table.
type value struct {
	line int
	v    any
}

// number is a number or date, which this package has no use for.
type number string

// table is a TOML table.
type table struct {
	line int
	keys []string // in the order of the text
	m    map[string]*value
	how  origin
}

// origin says how a table came about, which decides who may add to it.
type origin int

const (
	implied origin = iota // by a header further down
	header
	dotted
	inline
)

func newTable(line int, how origin) *table {
	return &table{line: line, m: map[string]*value{}, how: how}
}

func (t *table) set(key string, v *value) {
	t.keys = append(t.keys, key)
	t.m[key] = v
}

// tables is an array of tables that [[headers]] make.
type tables []*table

// tomlReader reads a document from s.
type tomlReader struct {
	s    string
	at   int
	line int
}

// parseTOML reads the subset of TOML that the package comment describes.
func parseTOML(data []byte) (*table, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	r := &tomlReader{s: strings.TrimPrefix(string(data), "\ufeff"), line: 1}
	root, err := r.document()
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", r.line, err)
	}
	return root, nil
}

func (r *tomlReader) document() (*table, error) {
	root := newTable(1, header)
	current := root
	for {
		if err := r.skipLines(); err != nil {
			return nil, err
		}
		var err error
		switch {
		case r.at == len(r.s):
			return root, nil
		case r.peek() == '[':
			current, err = r.header(root)
		default:
			err = r.pair(current, 0)
		}
		if err != nil {
			return nil, err
		}
		if err := r.endOfLine(); err != nil {
			return nil, err
		}
	}
}

// peek gives the next byte, 0 at the end.
func (r *tomlReader) peek() byte {
	if r.at == len(r.s) {
		return 0
	}
	return r.s[r.at]
}

func (r *tomlReader) take(text string) bool {
	if strings.HasPrefix(r.s[r.at:], text) {
		r.at += len(text)
		return true
	}
	return false
}

func (r *tomlReader) skipBlanks() {
	for r.peek() == ' ' || r.peek() == '\t' {
		r.at++
	}
}

// comment skips one, if it is there.
func (r *tomlReader) comment() error {
	if r.peek() != '#' {
		return nil
	}
	for r.at < len(r.s) && r.peek() != '\n' {
		if c := r.peek(); control(c) && !(c == '\r' && strings.HasPrefix(r.s[r.at:], "\r\n")) {
			return fmt.Errorf("byte %#x in a comment", c)
		}
		r.at++
	}
	return nil
}

func control(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// skipLines skips blanks, line ends and comments.
func (r *tomlReader) skipLines() error {
	for {
		r.skipBlanks()
		if err := r.comment(); err != nil {
			return err
		}
		if !r.newline() {
			return nil
		}
	}
}

func (r *tomlReader) newline() bool {
	if r.take("\n") || r.take("\r\n") {
		r.line++
		return true
	}
	return false
}

// endOfLine wants nothing but a comment before it.
func (r *tomlReader) endOfLine() error {
	r.skipBlanks()
	if err := r.comment(); err != nil {
		return err
	}
	if r.at < len(r.s) && !r.newline() {
		return fmt.Errorf("%.20q after the end of a value or table header", r.rest())
	}
	return nil
}

// rest is the rest of the line, for errors.
func (r *tomlReader) rest() string {
	text, _, _ := strings.Cut(r.s[r.at:], "\n")
	return text
}

// header reads [a.b] or [[a.b]] and gives the table that follows it.
func (r *tomlReader) header(root *table) (*table, error) {
	array := r.take("[[")
	if !array {
		r.take("[")
	}
	path, err := r.key()
	if err != nil {
		return nil, err
	}
	if array && !r.take("]]") || !array && !r.take("]") {
		return nil, errors.New("table header without its closing bracket")
	}
	at := root
	for _, key := range path[:len(path)-1] {
		old := at.m[key]
		if old == nil {
			next := newTable(r.line, implied)
			at.set(key, &value{r.line, next})
			at = next
			continue
		}
		switch v := old.v.(type) {
		case *table:
			if v.how == inline {
				return nil, fmt.Errorf("%q is complete already", key)
			}
			at = v
		case *tables:
			at = (*v)[len(*v)-1]
		default:
			return nil, fmt.Errorf("%q is not a table", key)
		}
	}
	key := path[len(path)-1]
	old, next := at.m[key], newTable(r.line, header)
	if old == nil {
		if array {
			at.set(key, &value{r.line, &tables{next}})
		} else {
			at.set(key, &value{r.line, next})
		}
		return next, nil
	}
	if list, ok := old.v.(*tables); ok && array {
		*list = append(*list, next)
		return next, nil
	}
	if t, ok := old.v.(*table); ok && !array && t.how == implied {
		t.how, t.line = header, r.line
		return t, nil
	}
	return nil, fmt.Errorf("%q is there already", key)
}

// key reads a.b."c d".
func (r *tomlReader) key() ([]string, error) {
	var path []string
	for {
		r.skipBlanks()
		begin := r.at
		switch c := r.peek(); c {
		case '"', '\'':
			part, err := r.text(c)
			if err != nil {
				return nil, err
			}
			path = append(path, part)
		default:
			for r.at < len(r.s) && bare(r.peek()) {
				r.at++
			}
			if r.at == begin {
				return nil, fmt.Errorf("no key at %.20q", r.rest())
			}
			path = append(path, r.s[begin:r.at])
		}
		if len(path) > maxDepth {
			return nil, fmt.Errorf("a key of more than %d parts", maxDepth)
		}
		r.skipBlanks()
		if !r.take(".") {
			return path, nil
		}
	}
}

func bare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// pair reads key = value into t.
func (r *tomlReader) pair(t *table, depth int) error {
	line := r.line
	path, err := r.key()
	if err != nil {
		return err
	}
	if !r.take("=") {
		return fmt.Errorf("no = after the key %.40q", strings.Join(path, "."))
	}
	for _, key := range path[:len(path)-1] {
		old := t.m[key]
		if old == nil {
			next := newTable(line, dotted)
			t.set(key, &value{line, next})
			t = next
			continue
		}
		next, ok := old.v.(*table)
		if !ok || next.how != dotted {
			return fmt.Errorf("%q cannot be added to", key)
		}
		t = next
	}
	v, err := r.value(depth + 1)
	if err != nil {
		return err
	}
	key := path[len(path)-1]
	if t.m[key] != nil {
		return fmt.Errorf("%q is there already", key)
	}
	t.set(key, v)
	return nil
}

func (r *tomlReader) value(depth int) (*value, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d levels", maxDepth)
	}
	r.skipBlanks()
	out := &value{line: r.line}
	var err error
	switch c := r.peek(); c {
	case '"', '\'':
		if r.take(`"""`) || r.take(`'''`) {
			return nil, fmt.Errorf("a string over several lines: %w", errors.ErrUnsupported)
		}
		out.v, err = r.text(c)
	case '[':
		out.v, err = r.array(depth)
	case '{':
		out.v, err = r.inline(depth)
	default:
		begin := r.at
		for r.at < len(r.s) && (bare(r.peek()) || r.peek() == '+' || r.peek() == '.' || r.peek() == ':') {
			r.at++
		}
		switch word := r.s[begin:r.at]; {
		case word == "true" || word == "false":
			out.v = word == "true"
		case word != "" && strings.ContainsRune("+-0123456789in", rune(word[0])): // inf and nan too
			out.v = number(word)
		default:
			err = fmt.Errorf("no value at %.20q", r.s[begin:r.at]+r.rest())
		}
	}
	return out, err
}

// text reads a string on one line, with its quotes.
func (r *tomlReader) text(quote byte) (string, error) {
	r.at++
	var out strings.Builder
	for {
		c := r.peek()
		switch {
		case r.at == len(r.s) || control(c):
			return "", errors.New("a string without its closing quote")
		case c == quote:
			r.at++
			return out.String(), nil
		case c == '\\' && quote == '"':
			if err := r.escape(&out); err != nil {
				return "", err
			}
		default:
			out.WriteByte(c)
			r.at++
		}
	}
}

func (r *tomlReader) escape(out *strings.Builder) error {
	rest := r.s[r.at+1:]
	if rest == "" {
		return errors.New("a string without its closing quote")
	}
	digits := map[byte]int{'u': 4, 'U': 8}[rest[0]]
	if digits == 0 {
		i := strings.IndexByte(`btnfr"\`, rest[0])
		if i < 0 {
			return fmt.Errorf(`escape \%.1q in a string`, rest)
		}
		out.WriteByte("\b\t\n\f\r\"\\"[i])
		r.at += 2
		return nil
	}
	if len(rest) <= digits {
		return errors.New("an escape without its digits")
	}
	code, err := strconv.ParseUint(rest[1:1+digits], 16, 32)
	if err != nil || code > utf8.MaxRune || !utf8.ValidRune(rune(code)) {
		return fmt.Errorf("%.10q is not a character", rest[:1+digits])
	}
	out.WriteRune(rune(code))
	r.at += 2 + digits
	return nil
}

func (r *tomlReader) array(depth int) ([]*value, error) {
	r.take("[")
	out := []*value{}
	for {
		if err := r.skipLines(); err != nil {
			return nil, err
		}
		if r.take("]") {
			return out, nil
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		if err := r.skipLines(); err != nil {
			return nil, err
		}
		if !r.take(",") && r.peek() != ']' {
			return nil, errors.New("an array without comma or closing bracket")
		}
	}
}

func (r *tomlReader) inline(depth int) (*table, error) {
	r.take("{")
	out := newTable(r.line, inline)
	r.skipBlanks()
	if r.take("}") {
		return out, nil
	}
	for {
		r.skipBlanks()
		if err := r.pair(out, depth); err != nil {
			return nil, err
		}
		r.skipBlanks()
		if r.take("}") {
			return out, nil
		}
		if !r.take(",") {
			return nil, errors.New("an inline table without comma or closing brace")
		}
	}
}
