package stream

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FieldError is one fault of a definition.
type FieldError struct {
	Path   string // of the key: gates[1].timeout; "" for the document
	Line   int    // from 1; 0 where there is no text, as in [Definition.Validate]
	Column int    // from 1, in characters
	Hint   string // what to do, or ""
	Err    error
}

// Error is one line: place, path, fault, hint.
func (e *FieldError) Error() string {
	var b strings.Builder
	b.WriteString("stream: ")
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", e.Line, e.Column)
	}
	if e.Path != "" {
		fmt.Fprintf(&b, "%s: ", e.Path)
	}
	b.WriteString(e.Err.Error())
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// Faults lists the faults that err joins, in the order of the text.
func Faults(err error) []*FieldError {
	if err == nil {
		return nil
	}
	if f, ok := err.(*FieldError); ok {
		return []*FieldError{f}
	}
	var all []*FieldError
	switch err := err.(type) {
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			all = append(all, Faults(e)...)
		}
	case interface{ Unwrap() error }:
		all = Faults(err.Unwrap())
	}
	return all
}

// Decode reads a definition and checks it. Unknown keys, wrong types and
// impossible values are faults, all reported at once: the error joins a
// *[FieldError] each (see [Faults]), at most 100. What is not YAML, or more
// than one document, or larger than [MaxDefinitionSize], gives one.
func Decode(r io.Reader) (*Definition, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxDefinitionSize+1))
	if err != nil {
		return nil, fmt.Errorf("stream: read definition: %w", err)
	}
	root, err := parseYAML(data)
	if err != nil {
		return nil, err
	}
	d := &Definition{}
	dec := decoder{faults: faults{places: map[string]*node{}, broken: map[string]bool{}}}
	dec.value(root, reflect.ValueOf(d).Elem(), "")
	d.check(&dec.faults)
	if err := dec.err(); err != nil {
		return nil, err
	}
	return d, nil
}

// Validate checks a definition that was not decoded, as [Decode] does.
func (d *Definition) Validate() error {
	f := faults{}
	d.check(&f)
	return f.err()
}

// faults collects what is wrong, each path once.
type faults struct {
	places map[string]*node
	seen   map[string]bool
	broken map[string]bool // of the wrong type: what is in it says nothing
	all    []*FieldError
}

// add reports a fault at path; the first at one path wins, as the others
// mostly follow from it.
func (f *faults) add(path string, err error) {
	line, column, found := 0, 0, false
	for at := path; ; at = parent(at) {
		if at != path && f.broken[at] {
			return
		}
		if n := f.places[at]; n != nil && !found {
			line, column, found = n.line, n.column, true
		}
		if at == "" {
			break
		}
	}
	hint := ""
	if h, ok := err.(*hintError); ok {
		err, hint = h.err, h.hint
	}
	f.addAt(path, line, column, hint, err)
}

func (f *faults) addAt(path string, line, column int, hint string, err error) {
	if f.seen[path] {
		return
	}
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	f.seen[path] = true
	f.all = append(f.all, &FieldError{Path: path, Line: line, Column: column, Hint: hint, Err: err})
}

// faulty reports whether path or something in it is wrong already.
func (f *faults) faulty(path string) bool {
	for p := range f.seen {
		if p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[") {
			return true
		}
	}
	return false
}

func (f *faults) err() error {
	slices.SortStableFunc(f.all, func(a, b *FieldError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, 0, len(f.all))
	for i, e := range f.all {
		if i == maxFaults {
			errs = append(errs, fmt.Errorf("stream: and %d more faults", len(f.all)-i))
			break
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// parent cuts the last step off a path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// decoder fills values from nodes.
type decoder struct{ faults }

var typeDuration = reflect.TypeFor[time.Duration]()

func (d *decoder) value(n *node, v reflect.Value, path string) {
	d.places[path] = n
	want := func(kind nodeKind) bool {
		if n.kind == kind {
			return true
		}
		hint := ""
		switch {
		case n.kind == nullNode:
			hint = "give a value or remove the key"
		case kind == textNode && n.kind != mappingNode && n.kind != sequenceNode:
			hint = "quote it: " + strconv.Quote(n.text)
		case kind == sequenceNode:
			hint = "write a list: [a, b]"
		}
		d.add(path, hinted(fmt.Errorf("want %v, got %v", kind, n.kind), hint))
		d.broken[path] = true
		return false
	}
	if v.Type() == typeDuration {
		if want(textNode) {
			t, err := parseDuration(n.text)
			if err != nil {
				d.add(path, err)
			}
			v.SetInt(int64(t))
		}
		return
	}
	if v.Kind() != reflect.Pointer && v.CanAddr() {
		if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if want(textNode) {
				if err := u.UnmarshalText([]byte(n.text)); err != nil {
					d.add(path, err)
				}
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
	case reflect.String:
		if want(textNode) {
			if n.text == "" {
				d.add(path, hinted(errors.New("empty text"), "give a value or remove the key"))
			}
			v.SetString(n.text)
		}
	case reflect.Bool:
		if want(boolNode) {
			b, err := strconv.ParseBool(strings.ToLower(n.text))
			if err != nil {
				d.add(path, hinted(fmt.Errorf("%.40q is not true or false", n.text), "write true or false"))
			}
			v.SetBool(b)
		}
	case reflect.Int:
		if want(intNode) {
			i := 0
			if !parseInt(n.text, &i) || strconv.Itoa(i) != n.text {
				d.add(path, hinted(fmt.Errorf("%.40q is not a whole number from 0 to %d", n.text, maxNumber), "write decimal digits"))
			}
			v.SetInt(int64(i))
		}
	case reflect.Slice:
		if want(sequenceNode) {
			out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
			for i, item := range n.items {
				d.value(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
			}
			v.Set(out)
		}
	case reflect.Map:
		if want(mappingNode) {
			out := reflect.MakeMapWithSize(v.Type(), len(n.keys))
			for _, k := range n.keys {
				item := reflect.New(v.Type().Elem()).Elem()
				d.value(k.value, item, join(path, k.name))
				out.SetMapIndex(reflect.ValueOf(k.name), item)
			}
			v.Set(out)
		}
	case reflect.Struct:
		if want(mappingNode) {
			d.fields(n, v, path)
		}
	}
}

func (d *decoder) fields(n *node, v reflect.Value, path string) {
	known := keysOf(v.Type())
	for _, k := range n.keys {
		at := join(path, k.name)
		i := slices.Index(known, k.name)
		if i < 0 {
			d.addAt(at, k.line, k.column, suggest(k.name, known), fmt.Errorf("unknown key %.80q", k.name))
			continue
		}
		d.value(k.value, v.Field(i), at)
	}
}

// keysOf gives the keys of a struct, in the order of its fields.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

// parseDuration reads Go's durations, and whole days and weeks (90d, 2w).
func parseDuration(text string) (time.Duration, error) {
	bad := hinted(fmt.Errorf("%.40q is not a duration", text), `write a positive number with s, m, h, d or w, as "90m"`)
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		digits, ok := strings.CutSuffix(text, suffix)
		if !ok {
			continue
		}
		n := 0
		if !parseInt(digits, &n) || n == 0 || n > 36500 {
			return 0, bad
		}
		return time.Duration(n) * unit, nil
	}
	t, err := time.ParseDuration(text)
	if err != nil || t <= 0 {
		return 0, bad
	}
	return t, nil
}

// formatDuration writes what parseDuration reads.
func formatDuration(t time.Duration) string {
	if day := 24 * time.Hour; t%day == 0 && t/day <= 36500 {
		return fmt.Sprintf("%dd", t/day)
	}
	text := t.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// hintError carries advice beside a fault.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string {
	if e.hint == "" {
		return e.err.Error()
	}
	return e.err.Error() + " (" + e.hint + ")"
}
func (e *hintError) Unwrap() error { return e.err }

func hinted(err error, hint string) error {
	if h, ok := err.(*hintError); ok {
		err = h.err
	}
	return &hintError{err, hint}
}

// oneOf is the error for a word that is none of known.
func oneOf(what, got string, known ...string) error {
	hint := suggest(got, known)
	if hint == "" {
		hint = "one of " + strings.Join(known, ", ")
	}
	return hinted(fmt.Errorf("unknown %s %.80q", what, got), hint)
}

func enum[T ~string](to *T, what string, text []byte, known []T) error {
	if !slices.Contains(known, T(text)) {
		return oneOf(what, string(text), names(known)...)
	}
	*to = T(text)
	return nil
}

func names[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = string(x)
	}
	return out
}

// suggest names the known word that was likely meant, or "".
func suggest(got string, known []string) string {
	if len(got) > maxKey {
		return ""
	}
	best, least := "", max(len(got)/3, 1)+1
	for _, k := range known {
		if n := distance(strings.ToLower(got), strings.ToLower(k)); n < least {
			best, least = k, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// distance is how many letters to add, drop, change or swap with the next.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := rows[(i+2)%3], rows[i%3], rows[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return rows[(len(a)+1)%3][len(b)]
}

// sortedKeys gives the keys of a map in byte order.
func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
