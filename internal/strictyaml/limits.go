package strictyaml

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml/token"
)

// Limits of what costs the parser the square of its number.
const (
	maxEmpty   = 100  // lines one after the other: it takes them off a text one by one
	maxMapKeys = 1000 // of a mapping in block style: it copies those that follow for each
	maxMarkers = 10   // of documents: it copies what follows for each
)

// CheckLines refuses text with more empty lines one after the other than anybody
// writes. [Tokens] should not see it. line is where they begin.
func CheckLines(data []byte) (line int, err error) {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	at, empty := 1, -1 // -1: there is something in this line
	for _, c := range data {
		switch c {
		case '\n', '\r':
			at++
			if empty++; empty > maxEmpty {
				return at - empty, fmt.Errorf("more than %d empty lines", maxEmpty)
			}
		case ' ', '\t':
		default:
			empty = -1
		}
	}
	return 0, nil
}

// Counts follows how many keys the mappings of a document have, from its tokens,
// and how many documents there are. The zero value is before the first token.
type Counts struct {
	flow, markers int
	mappings      []keys
	last          *token.Token
}

// keys are those of a mapping, all at one column.
type keys struct{ column, count int }

// Add reports that with a token there is too much of something.
func (c *Counts) Add(t *token.Token) error {
	last := c.last
	c.last = t
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		c.flow++
	case token.SequenceEndType, token.MappingEndType:
		c.flow--
	case token.DocumentHeaderType, token.DocumentEndType:
		c.mappings = nil
		if c.markers++; c.markers > maxMarkers {
			return fmt.Errorf("more than %d marks of documents", maxMarkers)
		}
	case token.SequenceEntryType:
		if c.flow == 0 {
			c.leave(t.Position.Column)
		}
	case token.MappingKeyType, token.MappingValueType:
		if c.flow > 0 || last == nil && t.Type == token.MappingValueType {
			return nil
		}
		column := t.Position.Column // of ?, which needs no value
		if t.Type == token.MappingValueType {
			column = last.Position.Column
		}
		c.leave(column)
		if n := len(c.mappings); n == 0 || c.mappings[n-1].column < column {
			c.mappings = append(c.mappings, keys{column: column})
		}
		m := &c.mappings[len(c.mappings)-1]
		if m.count++; m.count > maxMapKeys {
			return fmt.Errorf("more than %d keys in a mapping", maxMapKeys)
		}
	}
	return nil
}

// leave ends the mappings right of a column.
func (c *Counts) leave(column int) {
	for len(c.mappings) > 0 && c.mappings[len(c.mappings)-1].column > column {
		c.mappings = c.mappings[:len(c.mappings)-1]
	}
}
