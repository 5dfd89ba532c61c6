package stream

import (
	"bytes"
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml/token"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Encode writes the definition as YAML in the order of its fields, without
// comments and without what is zero. [Decode] reads the same definition back.
// To change a file that people wrote, use [Edit].
func (d *Definition) Encode(w io.Writer) error {
	var b bytes.Buffer
	if err := encodeFields(&b, reflect.ValueOf(d).Elem(), 0); err != nil {
		return err
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("stream: write definition: %w", err)
	}
	return nil
}

func encodeFields(b *bytes.Buffer, v reflect.Value, indent int) error {
	for i, k := range keysOf(v.Type()) {
		if f := v.Field(i); !f.IsZero() || f.Kind() == reflect.Struct && k == "version" {
			if err := encodeKey(b, k, f, indent); err != nil {
				return err
			}
		}
	}
	return nil
}

func encodeKey(b *bytes.Buffer, k string, v reflect.Value, indent int) error {
	fmt.Fprintf(b, "%*s%s:", indent, "", encodeText(k))
	return encodeValue(b, v, indent)
}

// encodeValue writes what follows a colon or dash, with the line's end.
func encodeValue(b *bytes.Buffer, v reflect.Value, indent int) error {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if scalar, ok, err := encodeScalar(v); ok {
		fmt.Fprintf(b, " %s\n", scalar)
		return err
	}
	switch v.Kind() {
	case reflect.Struct:
		var inner bytes.Buffer
		if err := encodeFields(&inner, v, indent+2); err != nil {
			return err
		}
		if inner.Len() == 0 {
			b.WriteString(" {}\n")
			return nil
		}
		b.WriteByte('\n')
		b.Write(inner.Bytes())
	case reflect.Map:
		if v.Len() == 0 {
			b.WriteString(" {}\n")
			return nil
		}
		b.WriteByte('\n')
		for _, k := range sortedKeys(v.Interface().(map[string]string)) {
			if err := encodeKey(b, k, v.MapIndex(reflect.ValueOf(k)), indent+2); err != nil {
				return err
			}
		}
	case reflect.Slice:
		if v.Len() == 0 {
			b.WriteString(" []\n")
			return nil
		}
		b.WriteByte('\n')
		for i := range v.Len() {
			var inner bytes.Buffer
			if err := encodeValue(&inner, v.Index(i), indent+2); err != nil {
				return err
			}
			// The first key of a mapping stands beside the dash.
			text := strings.TrimPrefix(inner.String(), "\n")
			fmt.Fprintf(b, "%*s- %s", indent+2, "", strings.TrimLeft(text, " "))
		}
	}
	return nil
}

func encodeScalar(v reflect.Value) (text string, ok bool, err error) {
	if v.Type() == typeDuration {
		return encodeText(formatDuration(time.Duration(v.Int()))), true, nil
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		out, err := m.MarshalText()
		return encodeText(string(out)), true, err
	}
	switch v.Kind() {
	case reflect.String:
		return encodeText(v.String()), true, nil
	case reflect.Bool, reflect.Int:
		return fmt.Sprint(v.Interface()), true, nil
	}
	return "", false, nil
}

// reMeasure is durations and sizes: no reader takes them for numbers.
var reMeasure = lazyregexp.New(`^([0-9]{1,9}([smhdw]|[KMGT]i))+$`)

// encodeText writes text plain where every YAML reader takes it for the same
// text, else in double quotes.
func encodeText(text string) string {
	plain := text != "" && !token.IsNeedQuoted(text)
	for i, c := range []byte(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '/', c == '$':
		case c >= '0' && c <= '9':
			// 4.20, 1e3, 2026-01-02, 12:30 are other types to some readers.
			plain = plain && i > 0
		case strings.IndexByte(".-+@=~", c) >= 0, c == ' ', c == ':', c == '{', c == '}', c == '*', c == ';', c == ',', c == '(', c == ')':
			plain = plain && i > 0
		default:
			plain = false
		}
	}
	switch strings.ToLower(text) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null", "~":
		plain = false
	}
	if reMeasure.MatchString(text) {
		return text
	}
	if plain && !strings.Contains(text, ": ") && !strings.HasSuffix(text, ":") && text[len(text)-1] != ' ' {
		return text
	}
	return quoteText(text)
}
