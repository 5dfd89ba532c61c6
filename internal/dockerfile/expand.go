package dockerfile

import (
	"fmt"
	"strings"
)

// expand gives a word with its variables replaced and its quotes removed, as
// Docker's reference has it: $NAME, ${NAME}, ${NAME:-word}, ${NAME-word},
// ${NAME:+word} and ${NAME+word}.
func (w *walker) expand(text string, vars map[string]string) (string, error) {
	e := &expander{text: text, escape: w.file.escape, vars: vars, total: &w.expanded}
	out, err := e.until("", 0)
	if err != nil {
		return "", fmt.Errorf("%.200q: %w", text, err)
	}
	return out, nil
}

type expander struct {
	text   string
	at     int
	escape byte
	vars   map[string]string
	total  *int // bytes that took the place of variables, of all words
}

// maxNesting bounds how deep a variable's word has variables in it.
const maxNesting = 10

// until expands up to a character of stop, or to the end.
func (e *expander) until(stop string, depth int) (string, error) {
	if depth > maxNesting {
		return "", fmt.Errorf("nested deeper than %d", maxNesting)
	}
	var b strings.Builder
	quote := byte(0)
	for e.at < len(e.text) {
		c := e.text[e.at]
		switch {
		case quote == 0 && strings.IndexByte(stop, c) >= 0:
			return b.String(), nil
		case c == e.escape && quote != '\'' && e.at+1 < len(e.text):
			b.WriteByte(e.text[e.at+1])
			e.at += 2
			continue
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '$' && quote != '\'':
			value, err := e.variable(depth)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			if b.Len() > maxValue {
				return "", fmt.Errorf("more than %d bytes after expansion", maxValue)
			}
			if *e.total += len(value); *e.total > maxExpanded {
				return "", fmt.Errorf("more than %d bytes after expansion of this and what is before", maxExpanded)
			}
			continue
		default:
			b.WriteByte(c)
		}
		e.at++
	}
	switch {
	case quote != 0:
		return "", fmt.Errorf("no closing %c", quote)
	case stop != "":
		return "", fmt.Errorf("no closing %s", stop)
	case b.Len() > maxValue:
		return "", fmt.Errorf("more than %d bytes", maxValue)
	}
	return b.String(), nil
}

// variable expands what begins with "$".
func (e *expander) variable(depth int) (string, error) {
	e.at++
	if e.at == len(e.text) || !isName(e.text[e.at], true) && e.text[e.at] != '{' {
		return "$", nil
	}
	if e.text[e.at] != '{' {
		return e.vars[e.name()], nil
	}
	e.at++
	name := e.name()
	if name == "" || e.at == len(e.text) {
		return "", fmt.Errorf("no name or no closing } after ${")
	}
	value, set := e.vars[name]
	if e.text[e.at] == '}' {
		e.at++
		return value, nil
	}
	if e.text[e.at] == ':' {
		set = set && value != ""
		e.at++
	}
	if e.at == len(e.text) || e.text[e.at] != '-' && e.text[e.at] != '+' {
		return "", fmt.Errorf("${%s is followed by neither }, - nor +", name)
	}
	instead := e.text[e.at] == '-'
	e.at++
	other, err := e.until("}", depth+1)
	if err != nil {
		return "", err
	}
	e.at++
	switch {
	case instead && !set:
		return other, nil
	case instead:
		return value, nil
	case set:
		return other, nil
	}
	return "", nil
}

func (e *expander) name() string {
	from := e.at
	for e.at < len(e.text) && isName(e.text[e.at], e.at == from) {
		e.at++
	}
	return e.text[from:e.at]
}

func isName(c byte, first bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && c >= '0' && c <= '9'
}
