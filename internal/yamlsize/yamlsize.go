// Package yamlsize bounds what a YAML document becomes where it has aliases. The
// parser of sigs.k8s.io/yaml, whose semantics the field has, bounds how often
// they repeat something, but not how large that is: of 100 KB it makes 100 MB.
package yamlsize

import (
	"bytes"
	"errors"
	"fmt"

	elder "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"
)

// A document may become so many times its size and so many bytes more.
const (
	factor = 16
	spare  = 64 << 10
	node   = 16 // bytes that a value counts beside its text
)

var errTooLarge = errors.New("aliases repeat too much")

// Check refuses the first document of data if its aliases make it larger than
// 16 times its size and 64 KiB. It is quick where there are none. Other faults are
// left to who reads the document, unless they hide what its aliases are.
func Check(data []byte) error {
	if !begins(data, '&') || !begins(data, '*') {
		return nil
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		// That of sigs.k8s.io/yaml names the right line. It unfolds nothing for a struct
		// without fields.
		var other *elder.TypeError
		if fault := elder.Unmarshal(data, &struct{}{}); fault != nil && !errors.As(fault, &other) {
			return fault
		}
		return fmt.Errorf("with aliases: %w", err)
	}
	m := &measure{limit: factor*len(data) + spare, known: map[*yaml.Node]int{}}
	if size, err := m.size(&root); err != nil {
		return err
	} else if size > m.limit {
		return errTooLarge
	}
	return nil
}

// begins reports whether something may be an anchor or alias, which have a name
// behind the character and no word before it.
func begins(data []byte, c byte) bool {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return true // UTF-16
	}
	for at := 0; ; at++ {
		next := bytes.IndexByte(data[at:], c)
		if next < 0 {
			return false
		}
		at += next
		if at+1 < len(data) && word(data[at+1]) && (at == 0 || !word(data[at-1])) {
			return true
		}
	}
}

func word(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '-'
}

// measure knows how large nodes are with all that is repeated in them.
type measure struct {
	limit int
	known map[*yaml.Node]int // of those with an anchor; 0: while it is reckoned
}

// size gives a node's size; one above the limit is not added up further.
func (m *measure) size(n *yaml.Node) (int, error) {
	at := n
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if size, ok := m.known[n]; ok {
		if size == 0 {
			return 0, fmt.Errorf("line %d: %.100q contains itself", at.Line, at.Value)
		}
		return size, nil
	}
	if n.Anchor != "" {
		m.known[n] = 0
	}
	size := len(n.Value) + node
	for _, child := range n.Content {
		more, err := m.size(child)
		if err != nil {
			return 0, err
		}
		if size += more; size > m.limit {
			break
		}
	}
	if n.Anchor != "" {
		m.known[n] = size
	}
	return size, nil
}
