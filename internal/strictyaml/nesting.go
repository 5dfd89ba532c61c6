package strictyaml

import (
	"strings"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// Tokens gives the tokens of a document. Line breaks of two characters are made
// one, as YAML reads them: the lexer counts those of comments twice.
func Tokens(data []byte) token.Tokens {
	return lexer.Tokenize(strings.ReplaceAll(string(data), "\r\n", "\n"))
}

// Nesting follows how deep the values of a document are, from its tokens: the
// parser recurses into them and keeps a path in each, so that it should not see
// what is too deep. The zero value is before the first token.
type Nesting struct {
	flow, line, onLine int
	indents            []int // columns at which open block collections began
	last               *token.Token
}

// Add gives a depth for the next token: what it is in at least, and not so much
// less that the parser would mind.
func (n *Nesting) Add(t *token.Token) int {
	last := n.last
	n.last = t
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		n.flow++
	case token.SequenceEndType, token.MappingEndType:
		n.flow--
	case token.MappingKeyType, token.MappingValueType, token.SequenceEntryType:
		p := t.Position
		if p.Line != n.line {
			n.line, n.onLine = p.Line, 0
		}
		// In flow style a line may hold many pairs, in block style each of these
		// on one line opens a level.
		if n.flow == 0 {
			n.onLine++
		}
		n.close(p.Column)
		if t.Type != token.MappingValueType {
			n.indents = append(n.indents, p.Column)
		} else if last != nil && n.flow == 0 {
			n.close(last.Position.Column)
			n.indents = append(n.indents, last.Position.Column)
		}
	}
	// A list may be one with the key above it, or further in.
	return max(n.flow, n.onLine, (len(n.indents)+1)/2)
}

// close ends the collections that began at a column or right of it.
func (n *Nesting) close(column int) {
	for len(n.indents) > 0 && n.indents[len(n.indents)-1] >= column {
		n.indents = n.indents[:len(n.indents)-1]
	}
}
