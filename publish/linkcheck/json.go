package linkcheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

const (
	maxValues = 300_000
	maxDepth  = 64
)

// node is a JSON value; objects keep the order of their keys, and keys that are
// there twice.
type node struct {
	kind    byte   // '{', '[', '"', or 0 for numbers and the rest
	text    string // of strings and numbers
	members []member
}

type member struct {
	key   string
	value *node
}

// parse reads a JSON document.
func parse(data []byte) (*node, error) {
	p := &parser{dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	root, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.dec.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return root, nil
}

type parser struct {
	dec   *json.Decoder
	count int
}

func (p *parser) value(depth int) (*node, error) {
	token, err := p.dec.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	return p.rest(token, depth)
}

// rest reads what follows the first token of a value.
func (p *parser) rest(token json.Token, depth int) (*node, error) {
	if p.count++; p.count > maxValues {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	n := &node{}
	switch t := token.(type) {
	case string:
		n.kind, n.text = '"', t
		return n, nil
	case json.Number:
		n.text = t.String()
		return n, nil
	case json.Delim:
		n.kind = byte(t)
	default:
		return n, nil
	}
	for p.dec.More() {
		var m member
		if n.kind == '{' {
			token, err := p.dec.Token()
			if err != nil {
				return nil, err
			}
			m.key = token.(string) // the decoder takes nothing else
		}
		var err error
		if m.value, err = p.value(depth + 1); err != nil {
			return nil, err
		}
		n.members = append(n.members, m)
	}
	_, err := p.dec.Token() // the bracket
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// get is the last member with a key, as Go's readers take it; nil if none.
func (n *node) get(key string) *node {
	if n == nil || n.kind != '{' {
		return nil
	}
	for i := len(n.members) - 1; i >= 0; i-- {
		if n.members[i].key == key {
			return n.members[i].value
		}
	}
	return nil
}

// string is the string under a key; "" if there is none.
func (n *node) string(key string) string {
	if v := n.get(key); v != nil && v.kind == '"' {
		return v.text
	}
	return ""
}

var plainKey = lazyregexp.New(`^[A-Za-z0-9_@$/+-]+$`)

// join appends a key to a path. Keys that could be taken for something else, or
// do something to a terminal, are quoted.
func join(path, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return fmt.Sprintf("%s[%q]", path, key)
	case path == "":
		return key
	}
	return path + "." + key
}

func item(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// isJSON tells JSON from YAML: documents here are objects or lists.
func isJSON(data []byte) bool {
	start := strings.TrimLeft(string(data[:min(len(data), 256)]), " \t\r\n\ufeff")
	return strings.HasPrefix(start, "{") || strings.HasPrefix(start, "[")
}
