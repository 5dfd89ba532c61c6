package stream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/okd-project/okd-streams/internal/strictyaml"
)

// Limits of a document. They bound what a hostile one can make us allocate;
// no real definition comes near them.
const (
	// MaxDefinitionSize is the most bytes a definition may have.
	MaxDefinitionSize = 128 << 10

	maxTokens = 16000 // of the text
	maxNodes  = 16000 // keys and values, each alias counted as what it stands for
	maxDepth  = 24
	maxKey    = 128 // bytes
	maxFaults = 100 // reported
)

type nodeKind uint8

const (
	mappingNode nodeKind = iota
	sequenceNode
	textNode // plain text or quoted
	intNode
	boolNode
	floatNode
	nullNode
)

func (k nodeKind) String() string {
	return [...]string{"a mapping", "a list", "text", "a number", "true or false", "a number with a point", "nothing"}[k]
}

// node is a YAML value with its place. Aliases are gone: they share the node
// they stand for.
type node struct {
	kind         nodeKind
	line, column int
	text         string // of scalars: the value
	size         int    // nodes in it, itself included
	keys         []key  // of mappings, in order
	items        []*node

	// For Edit.
	flow   bool
	shared bool // anchored or alias
	style  token.Type
	end    *token.Position // of the closing bracket of a flow mapping
}

type key struct {
	name         string
	line, column int
	value        *node
}

func (n *node) get(name string) *node {
	for _, k := range n.keys {
		if k.name == name {
			return k.value
		}
	}
	return nil
}

// parseYAML reads one document. Its errors are *FieldError without path, or
// with the path of a mapping key.
func parseYAML(data []byte) (root *node, err error) {
	// The parser is another project's; should a document make it panic, that
	// document is refused.
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, &FieldError{Line: 1, Column: 1, Err: fmt.Errorf("not readable as YAML: %v", r)}
		}
	}()
	if len(data) > MaxDefinitionSize {
		return nil, &FieldError{Line: 1, Column: 1, Err: fmt.Errorf("more than %d bytes", MaxDefinitionSize)}
	}
	if err := checkText(data); err != nil {
		return nil, err
	}
	if line, err := strictyaml.CheckLines(data); err != nil {
		return nil, &FieldError{Line: line, Column: 1, Err: err}
	}
	tokens := strictyaml.Tokens(data)
	if err := checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if y, ok := errors.AsType[yaml.Error](err); ok && y.GetToken() != nil && y.GetToken().Position != nil {
			p := y.GetToken().Position
			return nil, &FieldError{Line: p.Line, Column: p.Column, Err: errors.New(firstLine(y.GetMessage()))}
		}
		return nil, &FieldError{Line: 1, Column: 1, Err: errors.New(firstLine(err.Error()))}
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			first := doc.Body
			if m, ok := first.(*ast.MappingNode); ok && len(m.Values) > 0 {
				first = m.Values[0].Key
			}
			return nil, hintAt(first.GetToken().Position, "keep one definition a file", errors.New("second document"))
		}
		body = doc.Body
	}
	if body == nil {
		return nil, &FieldError{Line: 1, Column: 1, Err: errors.New("empty document")}
	}
	c := converter{anchors: map[string]*node{}}
	root, err = c.node(body, "", 0)
	if err != nil {
		return nil, err
	}
	return root, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// checkText refuses bytes that YAML does not allow or that hide what is
// written, before a parser sees them.
func checkText(data []byte) error {
	line, column := 1, 0
	for i, r := range string(data) {
		column++
		switch {
		case r == '\n':
			line, column = line+1, 0
		case r == '\ufffd' && data[i] != 0xef:
			return &FieldError{Line: line, Column: column, Err: errors.New("not UTF-8")}
		case r == '\r' && i+1 < len(data) && data[i+1] == '\n':
		case r < ' ' && r != '\t', r == 0x7f, r >= 0x80 && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff && i > 0:
			return &FieldError{Line: line, Column: column, Err: fmt.Errorf("character %U is not allowed", r)}
		}
	}
	return nil
}

// checkTokens bounds nesting and names, so that the parser, which recurses and
// keeps a path in each node, cannot be made to use much memory.
func checkTokens(tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return hintAt(tokens[maxTokens].Position, "split it", fmt.Errorf("more than %d tokens", maxTokens))
	}
	var nesting strictyaml.Nesting
	var counts strictyaml.Counts
	for i, t := range tokens {
		p := t.Position
		switch t.Type {
		case token.TagType:
			return hintAt(p, "remove it; the key says what type its value has", fmt.Errorf("tag %.40q is not allowed", t.Value))
		case token.DirectiveType:
			return hintAt(p, "remove it", errors.New("directives are not allowed"))
		case token.MergeKeyType:
			return hintAt(p, "write the keys out, or use an alias for the whole value", errors.New("merge keys are not allowed"))
		case token.InvalidType:
			return &FieldError{Line: p.Line, Column: p.Column, Err: errors.New(firstLine(t.Error))}
		case token.MappingKeyType:
			return hintAt(p, "write key: value", errors.New("complex keys are not allowed"))
		case token.MappingValueType:
			if i > 0 && len(tokens[i-1].Value) > maxKey {
				return hintAt(tokens[i-1].Position, "", fmt.Errorf("key of more than %d bytes", maxKey))
			}
		}
		if err := counts.Add(t); err != nil {
			return &FieldError{Line: p.Line, Column: p.Column, Err: err}
		}
		if nesting.Add(t) > maxDepth {
			return hintAt(p, "", fmt.Errorf("nested more than %d deep", maxDepth))
		}
	}
	return nil
}

func hintAt(p *token.Position, hint string, err error) *FieldError {
	return &FieldError{Line: p.Line, Column: p.Column, Hint: hint, Err: err}
}

type converter struct {
	anchors map[string]*node
	count   int
}

func (c *converter) node(n ast.Node, path string, depth int) (*node, error) {
	t := n.GetToken()
	p := t.Position
	out := &node{line: p.Line, column: p.Column, size: 1, text: t.Value, style: t.Type}
	if depth > maxDepth {
		return nil, hintAt(p, "", fmt.Errorf("nested more than %d deep", maxDepth))
	}
	c.count++
	switch n := n.(type) {
	case *ast.MappingNode:
		return out, c.mapping(out, n, n.Values, path, depth)
	case *ast.MappingValueNode:
		return out, c.mapping(out, nil, []*ast.MappingValueNode{n}, path, depth)
	case *ast.SequenceNode:
		out.kind, out.flow = sequenceNode, n.IsFlowStyle
		for i, v := range n.Values {
			item, err := c.node(v, fmt.Sprintf("%s[%d]", path, i), depth+1)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, item)
			out.size += item.size
		}
	case *ast.AnchorNode:
		name := n.Name.GetToken().Value
		value, err := c.node(n.Value, path, depth)
		if err != nil {
			return nil, err
		}
		value.shared = true
		// Set after the value is done: an alias within it is not defined yet.
		c.anchors[name] = value
		return value, nil
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		value, ok := c.anchors[name]
		if !ok {
			return nil, &FieldError{Path: path, Line: p.Line, Column: p.Column, Err: fmt.Errorf("alias *%.40s stands for nothing", name)}
		}
		if c.count += value.size; c.count > maxNodes {
			return nil, &FieldError{Path: path, Line: p.Line, Column: p.Column, Err: fmt.Errorf("aliases stand for more than %d values", maxNodes)}
		}
		// A copy at the place of the alias; what is in it stays shared.
		alias := *value
		alias.line, alias.column, alias.shared = p.Line, p.Column, true
		return &alias, nil
	case *ast.StringNode:
		out.kind, out.text = textNode, n.Value
	case *ast.LiteralNode:
		out.kind, out.text = textNode, n.Value.Value
	case *ast.IntegerNode:
		out.kind = intNode
	case *ast.BoolNode:
		out.kind = boolNode
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.kind = floatNode
	case *ast.NullNode:
		out.kind = nullNode
	default:
		return nil, &FieldError{Path: path, Line: p.Line, Column: p.Column, Err: fmt.Errorf("%s is not allowed here", strings.ToLower(n.Type().String()))}
	}
	return out, nil
}

func (c *converter) mapping(out *node, m *ast.MappingNode, values []*ast.MappingValueNode, path string, depth int) error {
	out.kind = mappingNode
	if m != nil && m.IsFlowStyle {
		out.flow = true
		if m.End != nil {
			out.end = m.End.Position
		}
	}
	for i, pair := range values {
		t := pair.Key.GetToken()
		if i == 0 && !out.flow {
			out.line, out.column = t.Position.Line, t.Position.Column
		}
		switch pair.Key.(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.BoolNode, *ast.FloatNode, *ast.NullNode:
		default:
			return hintAt(t.Position, "write the key as plain text", errors.New("key is not text"))
		}
		k := key{name: t.Value, line: t.Position.Line, column: t.Position.Column}
		at := join(path, k.name)
		if out.get(k.name) != nil {
			return &FieldError{Path: at, Line: k.line, Column: k.column, Hint: "remove one", Err: fmt.Errorf("key %.80q is there twice", k.name)}
		}
		value, err := c.node(pair.Value, at, depth+1)
		if err != nil {
			return err
		}
		k.value = value
		out.keys = append(out.keys, k)
		out.size += value.size + 1
	}
	return nil
}

// join appends a key to a path: a.b, or a["x.y"] where the key has other than
// letters, digits, "_" and "-".
func join(path, name string) string {
	if !plainKey(name) {
		return path + "[" + strconv.Quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func plainKey(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return name != ""
}
