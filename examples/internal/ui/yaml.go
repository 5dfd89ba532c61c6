package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// YAML prints v for programs: the value that [JSON] prints, keys in the same
// order. Numbers and strings are those of the JSON; what YAML could take for
// something else is quoted.
func YAML(w io.Writer, v any) error {
	var data bytes.Buffer
	if err := JSON(&data, v); err != nil {
		return err
	}
	dec := json.NewDecoder(&data)
	dec.UseNumber()
	e := &yamlEncoder{dec: dec}
	if err := e.value(0, "", ""); err != nil {
		return err
	}
	_, err := w.Write(e.out.Bytes())
	return err
}

// yamlEncoder writes what a JSON decoder gives.
type yamlEncoder struct {
	dec *json.Decoder
	out bytes.Buffer
}

// value writes the next value at a depth. before stands between what is written
// already and a scalar, first before the first line of a collection: a list's "- "
// has its first item on the same line.
func (e *yamlEncoder) value(depth int, before, first string) error {
	token, err := e.dec.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		return e.collection(depth, t, before, first)
	case string:
		e.out.WriteString(before + yamlString(t) + "\n")
	case nil:
		e.out.WriteString(before + "null\n")
	default:
		fmt.Fprintf(&e.out, "%s%v\n", before, t)
	}
	return nil
}

func (e *yamlEncoder) collection(depth int, open json.Delim, before, first string) error {
	if !e.dec.More() {
		e.out.WriteString(before + map[json.Delim]string{'{': "{}", '[': "[]"}[open] + "\n")
		_, err := e.dec.Token()
		return err
	}
	e.out.WriteString(first)
	indent := strings.Repeat("  ", depth)
	inline := strings.HasSuffix(first, " ") // the first line has begun
	for n := 0; e.dec.More(); n++ {
		if n > 0 || !inline {
			e.out.WriteString(indent)
		}
		if open == '[' {
			if err := e.value(depth+1, "- ", "- "); err != nil {
				return err
			}
			continue
		}
		key, err := e.dec.Token()
		if err != nil {
			return err
		}
		name, ok := key.(string)
		if !ok {
			return errors.New("a key that is no text")
		}
		e.out.WriteString(yamlString(name) + ":")
		if err := e.value(depth+1, " ", "\n"); err != nil {
			return err
		}
	}
	_, err := e.dec.Token()
	return err
}

var (
	plainYAML = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9 /._@+-]*(:[A-Za-z0-9/._@+-]+)*$`)
	})
	// wordYAML are words that some version of YAML takes for something else.
	wordYAML = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null)$`)
	})
)

func yamlString(text string) string {
	if plainYAML().MatchString(text) && !wordYAML().MatchString(text) && !strings.HasSuffix(text, " ") {
		return text
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a string always can be
	return strings.NewReplacer("\ufeff", `\uFEFF`, "\u007f", `\u007F`, "\u0085", `\u0085`).Replace(strings.TrimSuffix(b.String(), "\n"))
}
