package actions

import (
	"encoding/json"
	"strings"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// writer writes YAML of which only scalars come from elsewhere.
type writer struct {
	b      strings.Builder
	indent int
}

// line writes one at the present indentation.
func (w *writer) line(text string) {
	if text != "" {
		w.b.WriteString(strings.Repeat("  ", w.indent))
	}
	w.b.WriteString(text + "\n")
}

// in writes a key with what is below it.
func (w *writer) in(key string, below func()) {
	w.line(key + ":")
	w.indent++
	below()
	w.indent--
}

// item writes an entry of a list, whose keys are below "- ".
func (w *writer) item(below func()) {
	at := w.b.Len()
	w.indent++
	below()
	w.indent--
	text := w.b.String()
	dash := at + 2*w.indent
	w.b.Reset()
	w.b.WriteString(text[:dash] + "- " + text[dash+2:])
}

// set writes a key and a value.
func (w *writer) set(key, value string) { w.line(key + ": " + scalar(value)) }

// block writes a key and lines as they are.
func (w *writer) block(key, text string) {
	w.line(key + ": |")
	w.indent++
	for l := range strings.Lines(text) {
		w.line(strings.TrimRight(l, "\n"))
	}
	w.indent--
}

// plainScalar needs no quotes, whatever reads it: it is no number, no truth value
// and has nothing that means something.
var plainScalar = lazyregexp.New(`^[A-Za-z/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)

func scalar(text string) string {
	switch strings.ToLower(text) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
	default:
		if plainScalar.MatchString(text) {
			return text
		}
	}
	// JSON's strings are YAML's.
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// literal is text in which GitHub finds no expression.
func literal(text string) string { return strings.ReplaceAll(text, "${{", "${{ '${{' }}") }

// quoted is text in an expression.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
