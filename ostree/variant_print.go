package ostree

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// Text gives v in the text format of GVariant, as GLib's g_variant_print and with
// it `ostree show --print-metadata-key` write it: 'x', uint32 7, ['a', 'b'],
// {'k': <true>}. annotate adds the types that the text alone does not tell, so
// that [ParseVariant] gives v again. The source is the GVariant Text Format page
// of GLib's reference.
func (v Variant) Text(annotate bool) (string, error) {
	t, err := gvariant.ParseType(v.Type)
	if err != nil {
		return "", err
	}
	if err := gvariant.Check(t, v.Data); err != nil {
		return "", err
	}
	var p variantPrinter
	p.value(t, v.Data, annotate)
	return p.String(), p.err
}

// Swapped gives v with the bytes of every integer and floating-point number in
// the other order, as g_variant_byteswap does: commits and dirmetas hold
// big-endian numbers, which [Variant.AsUint64] and [Variant.Text] would read as
// little-endian ones.
func (v Variant) Swapped() (Variant, error) {
	t, err := gvariant.ParseType(v.Type)
	if err != nil {
		return Variant{}, err
	}
	if err := gvariant.Check(t, v.Data); err != nil {
		return Variant{}, err
	}
	out := Variant{v.Type, slices.Clone(v.Data)}
	return out, variantSwap(t, out.Data)
}

// variantSwap swaps in place; data was checked.
func variantSwap(t *gvariant.Type, data []byte) error {
	switch text := t.String(); text[0] {
	case 'n', 'q', 'i', 'u', 'h', 'x', 't', 'd':
		slices.Reverse(data)
	case 'v':
		child, body, err := gvariant.DecodeVariant(data)
		if err != nil {
			return err
		}
		return variantSwap(child, body)
	case 'm':
		if body := variantJust(t, data); body != nil {
			return variantSwap(t.Elem(), body)
		}
	case 'a':
		a, err := gvariant.OpenArray(t, data)
		if err != nil || text == "ay" {
			return err
		}
		for i := range a.Len() {
			elem, err := a.At(i)
			if err == nil {
				err = variantSwap(t.Elem(), elem)
			}
			if err != nil {
				return err
			}
		}
	case '(', '{':
		members, err := gvariant.AppendMembers(nil, t, data)
		if err != nil {
			return err
		}
		for i, m := range members {
			if err := variantSwap(t.Members()[i], m); err != nil {
				return err
			}
		}
	}
	return nil
}

// variantJust gives what an optional value holds; nil: nothing.
func variantJust(t *gvariant.Type, data []byte) []byte {
	switch {
	case len(data) == 0:
		return nil
	case t.Elem().Fixed() == 0:
		return data[:len(data)-1]
	default:
		return data
	}
}

// variantPrinter prints values that were checked.
type variantPrinter struct {
	strings.Builder
	err error
}

// fail keeps the first error.
func (p *variantPrinter) fail(err error) bool {
	if p.err == nil {
		p.err = err
	}
	return p.err != nil
}

func (p *variantPrinter) value(t *gvariant.Type, data []byte, annotate bool) {
	number := func(name, digits string) {
		if annotate && name != "" {
			p.WriteString(name + " ")
		}
		p.WriteString(digits)
	}
	switch text := t.String(); text[0] {
	case 'b':
		p.WriteString(strconv.FormatBool(data[0] == 1))
	case 'y':
		number("byte", fmt.Sprintf("0x%02x", data[0]))
	case 'n':
		number("int16", strconv.Itoa(int(int16(binary.LittleEndian.Uint16(data)))))
	case 'q':
		number("uint16", strconv.Itoa(int(binary.LittleEndian.Uint16(data))))
	case 'i': // what a number is that has no type
		number("", strconv.Itoa(int(int32(binary.LittleEndian.Uint32(data)))))
	case 'h':
		number("handle", strconv.Itoa(int(int32(binary.LittleEndian.Uint32(data)))))
	case 'u':
		number("uint32", strconv.FormatUint(uint64(binary.LittleEndian.Uint32(data)), 10))
	case 'x':
		number("int64", strconv.FormatInt(int64(binary.LittleEndian.Uint64(data)), 10))
	case 't':
		number("uint64", strconv.FormatUint(binary.LittleEndian.Uint64(data), 10))
	case 'd':
		p.WriteString(doubleText(math.Float64frombits(binary.LittleEndian.Uint64(data))))
	case 's':
		p.quoted(string(data[:len(data)-1]))
	case 'o', 'g':
		name := "objectpath"
		if text == "g" {
			name = "signature"
		}
		number(name, "'"+string(data[:len(data)-1])+"'")
	case 'v':
		child, body, err := gvariant.DecodeVariant(data)
		if p.fail(err) {
			return
		}
		p.WriteByte('<')
		p.value(child, body, true)
		p.WriteByte('>')
	case 'm':
		p.maybe(t, data, annotate)
	case 'a':
		p.array(t, data, annotate)
	default:
		p.tuple(t, data, annotate)
	}
}

// doubleText is "%.17g" with a point if there is nothing else that tells it from
// an integer.
func doubleText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	text := fmt.Sprintf("%.17g", f)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

// quoted prints a string in the quotes that it has not.
func (p *variantPrinter) quoted(s string) {
	quote := '\''
	if strings.ContainsRune(s, '\'') {
		quote = '"'
	}
	p.WriteRune(quote)
	for _, c := range s {
		switch {
		case c == quote || c == '\\':
			p.WriteRune('\\')
			p.WriteRune(c)
		case printable(c):
			p.WriteRune(c)
		case c >= '\a' && c <= '\r':
			p.WriteByte('\\')
			p.WriteByte("abtnvfr"[c-'\a'])
		case c < 0x10000:
			fmt.Fprintf(p, "\\u%04x", c)
		default:
			fmt.Fprintf(p, "\\U%08x", c)
		}
	}
	p.WriteRune(quote)
}

// printable is g_unichar_isprint: neither control, format, surrogate nor
// unassigned.
func printable(c rune) bool {
	return unicode.In(c, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Co)
}

func (p *variantPrinter) maybe(t *gvariant.Type, data []byte, annotate bool) {
	body := variantJust(t, data)
	if annotate {
		p.WriteString("@" + t.String() + " ")
	}
	if body == nil {
		p.WriteString("nothing")
		return
	}
	var child variantPrinter
	child.value(t.Elem(), body, false)
	p.err = child.err
	text := child.String()
	if strings.HasSuffix(text, "nothing") { // which would mean the outer one
		p.WriteString("just ")
	}
	p.WriteString(text)
}

func (p *variantPrinter) array(t *gvariant.Type, data []byte, annotate bool) {
	text := t.String()
	if text == "ay" && len(data) > 0 && slices.Index(data, 0) == len(data)-1 {
		p.byteString(data[:len(data)-1])
		return
	}
	a, err := gvariant.OpenArray(t, data)
	if p.fail(err) {
		return
	}
	dict := text[1] == '{'
	open, closing := "[", "]"
	if dict {
		open, closing = "{", "}"
	}
	if a.Len() == 0 && annotate {
		p.WriteString("@" + text + " ")
	}
	p.WriteString(open)
	for i := range a.Len() {
		elem, err := a.At(i)
		if p.fail(err) {
			return
		}
		if i > 0 {
			p.WriteString(", ")
		}
		if !dict {
			p.value(t.Elem(), elem, annotate)
		} else {
			members, err := gvariant.AppendMembers(nil, t.Elem(), elem)
			if p.fail(err) {
				return
			}
			p.value(t.Elem().Members()[0], members[0], annotate)
			p.WriteString(": ")
			p.value(t.Elem().Members()[1], members[1], annotate)
		}
		annotate = false // the first tells for all
	}
	p.WriteString(closing)
}

// byteString prints bytes that end with their only NUL, which is left out.
func (p *variantPrinter) byteString(data []byte) {
	quote := byte('\'')
	if slices.Contains(data, '\'') {
		quote = '"'
	}
	p.WriteByte('b')
	p.WriteByte(quote)
	for _, c := range data {
		switch {
		case c == '\\' || c == '"':
			p.WriteByte('\\')
			p.WriteByte(c)
		case c >= '\b' && c <= '\r':
			p.WriteByte('\\')
			p.WriteByte("btnvfr"[c-'\b'])
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(p, "\\%03o", c)
		default:
			p.WriteByte(c)
		}
	}
	p.WriteByte(quote)
}

func (p *variantPrinter) tuple(t *gvariant.Type, data []byte, annotate bool) {
	members, err := gvariant.AppendMembers(nil, t, data)
	if p.fail(err) {
		return
	}
	open, closing := "(", ")"
	if t.String()[0] == '{' {
		open, closing = "{", "}"
	}
	p.WriteString(open)
	for i, m := range members {
		p.value(t.Members()[i], m, annotate)
		switch {
		case i < len(members)-1:
			p.WriteString(", ")
		case len(members) == 1:
			p.WriteString(",")
		}
	}
	p.WriteString(closing)
}
