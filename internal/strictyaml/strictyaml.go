// Package strictyaml decodes small YAML files that people write and that may
// come from anybody: unknown keys are errors with their line, and there are no
// anchors, aliases, tags and merge keys, with which few bytes become many.
package strictyaml

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	maxDepth = 32   // of the nesting
	maxLine  = 1000 // bytes of a line that an error shows
)

// Unmarshal decodes the one document of data into out, whose fields have yaml
// tags. The caller bounds the size of data. An empty document leaves out as it
// is. Errors say line and column.
func Unmarshal(data []byte, out any) error { return unmarshal(data, out, true) }

// UnmarshalKnown is Unmarshal that passes over unknown keys.
func UnmarshalKnown(data []byte, out any) error { return unmarshal(data, out, false) }

func unmarshal(data []byte, out any, strict bool) (err error) {
	// The parser is another project's; should a document make it panic, that
	// document is refused.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("[1:1] not readable as YAML: %v", r)
		}
		err = short(err, data)
	}()
	if line, err := CheckLines(data); err != nil {
		return fmt.Errorf("[%d:1] %w", line, err)
	}
	tokens := Tokens(data)
	var nesting Nesting
	var counts Counts
	for _, t := range tokens {
		if err := counts.Add(t); err != nil {
			return fmt.Errorf("[%d:%d] %w", t.Position.Line, t.Position.Column, err)
		}
		if nesting.Add(t) > maxDepth {
			return fmt.Errorf("[%d:%d] nested deeper than %d", t.Position.Line, t.Position.Column, maxDepth)
		}
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return err
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); comment {
			continue
		}
		if body != nil {
			return fmt.Errorf("[%d:1] a second document", doc.Body.GetToken().Position.Line)
		}
		body = doc.Body
	}
	if body == nil {
		return nil
	}
	w := &walker{}
	if ast.Walk(w, body); w.err != nil {
		return w.err
	}
	if depth(body) > maxDepth { // Nesting is not that exact
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	if !strict {
		return yaml.NodeToValue(body, out)
	}
	// Of several unknown keys the decoder names any.
	if key := unknown(body, reflect.TypeOf(out)); key != nil {
		return &yaml.UnknownFieldError{Message: fmt.Sprintf("unknown field %q", key.String()), Token: key.GetToken()}
	}
	return yaml.NodeToValue(body, out, yaml.DisallowUnknownField())
}

// short is err without the lines around its place, should they be long: the
// parser's printer takes a time that grows with their square.
func short(err error, data []byte) error {
	y, ok := errors.AsType[yaml.Error](err)
	if !ok || y.GetToken() == nil || y.GetToken().Position == nil {
		return err
	}
	for line := range bytes.Lines(data) {
		if len(line) > maxLine {
			p := y.GetToken().Position
			return fmt.Errorf("[%d:%d] %.*s", p.Line, p.Column, maxLine, y.GetMessage())
		}
	}
	return err
}

// unknown gives the first key for which a value of type t has no field, or nil.
func unknown(n ast.Node, t reflect.Type) ast.Node {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n := n.(type) {
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
			return nil
		}
		for _, v := range n.Values {
			if key := unknown(v, t.Elem()); key != nil {
				return key
			}
		}
	case *ast.MappingNode:
		for _, v := range n.Values {
			if key := unknown(v, t); key != nil {
				return key
			}
		}
	case *ast.MappingValueNode:
		switch t.Kind() {
		case reflect.Map:
			return unknown(n.Value, t.Elem())
		case reflect.Struct:
			if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
				return nil // a text, of which the decoder says that a mapping is none
			}
			name, ok := n.Key.(*ast.StringNode)
			if !ok {
				return nil // the decoder says what is wrong with it
			}
			for f := range t.Fields() {
				if tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); tag == name.Value {
					return unknown(n.Value, f.Type)
				}
			}
			return n.Key
		}
	}
	return nil
}

// walker finds what is not allowed.
type walker struct{ err error }

func (w *walker) Visit(n ast.Node) ast.Visitor {
	if w.err != nil || n == nil {
		return nil
	}
	what := ""
	switch n.(type) {
	case *ast.AnchorNode:
		what = "an anchor"
	case *ast.AliasNode:
		what = "an alias"
	case *ast.TagNode:
		what = "a tag"
	case *ast.MergeKeyNode:
		what = "a merge key"
	case *ast.DirectiveNode:
		what = "a directive"
	default:
		return w
	}
	p := n.GetToken().Position
	w.err = fmt.Errorf("[%d:%d] %s, which is not allowed here", p.Line, p.Column, what)
	return nil
}

// depth is how deep values are nested, as far as it matters.
func depth(n ast.Node) int {
	most := 0
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			most = max(most, depth(v.Value))
		}
	case *ast.MappingValueNode:
		most = depth(n.Value)
	case *ast.SequenceNode:
		for _, v := range n.Values {
			most = max(most, depth(v))
		}
	default:
		return 0
	}
	return most + 1
}
