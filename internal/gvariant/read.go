package gvariant

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrNotNormal is wrapped by every error about bytes that are not the normal
// form of the type they are read as.
var ErrNotNormal = errors.New("not in GVariant normal form")

func fault(t *Type, format string, args ...any) error {
	return fmt.Errorf("gvariant: value of type %s: "+format+": %w", append(append([]any{t.text}, args...), ErrNotNormal)...)
}

// offset reads the framing offset of w bytes at data[at:].
func offset(data []byte, at, w int) int {
	var v uint64
	switch w {
	case 1:
		return int(data[at])
	case 2:
		return int(binary.LittleEndian.Uint16(data[at:]))
	case 4:
		v = uint64(binary.LittleEndian.Uint32(data[at:]))
	default:
		v = binary.LittleEndian.Uint64(data[at:])
	}
	if v > uint64(len(data)) {
		return len(data) + 1 // out of range, without overflow
	}
	return int(v)
}

func zero(data []byte) bool {
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}

// AppendMembers appends to dst the members of a tuple or dictionary entry, in
// order, as views into data. It checks the framing, not the members.
func AppendMembers(dst [][]byte, t *Type, data []byte) ([][]byte, error) {
	if t.kind != '(' && t.kind != '{' {
		return dst, fault(t, "has no members")
	}
	if t.fixed > 0 && len(data) != t.fixed {
		return dst, fault(t, "%d bytes, want %d", len(data), t.fixed)
	}
	offsets := 0
	for i, m := range t.elems {
		if m.fixed == 0 && i < len(t.elems)-1 {
			offsets++
		}
	}
	w := width(len(data))
	limit := len(data) - offsets*w
	if limit < 0 {
		return dst, fault(t, "%d bytes cannot hold %d framing offsets", len(data), offsets)
	}
	if offsets > 0 && widthFor(limit, offsets) != w {
		return dst, fault(t, "framing offsets are wider than needed")
	}
	at, next := 0, len(data)
	for i, m := range t.elems {
		start := alignUp(at, m.align)
		end := limit
		switch {
		case m.fixed > 0:
			end = start + m.fixed
		case i < len(t.elems)-1:
			next -= w
			end = offset(data, next, w)
		}
		if start > limit || end < start || end > limit {
			return dst, fault(t, "member %d lies at %d to %d of %d", i, start, end, limit)
		}
		if !zero(data[at:start]) {
			return dst, fault(t, "padding at %d is not zero", at)
		}
		dst = append(dst, data[start:end:end])
		at = end
	}
	if t.fixed == 0 && at != limit || !zero(data[at:limit]) {
		return dst, fault(t, "%d bytes behind the last member", limit-at)
	}
	return dst, nil
}

// Array is a view of an array's elements.
type Array struct {
	typ  *Type
	data []byte
	body int // where the framing offsets start
	w    int
	n    int
}

// OpenArray checks the framing's size. The elements are checked by [Array.At].
func OpenArray(t *Type, data []byte) (Array, error) {
	if t.kind != 'a' {
		return Array{}, fault(t, "is no array")
	}
	a := Array{typ: t, data: data, body: len(data)}
	if fixed := t.elems[0].fixed; fixed > 0 {
		if len(data)%fixed != 0 {
			return a, fault(t, "%d bytes are no multiple of %d", len(data), fixed)
		}
		a.n = len(data) / fixed
		return a, nil
	}
	if len(data) == 0 {
		return a, nil
	}
	a.w = width(len(data))
	if len(data) < a.w {
		return a, fault(t, "%d bytes cannot hold a framing offset", len(data))
	}
	a.body = offset(data, len(data)-a.w, a.w)
	if a.body > len(data)-a.w || (len(data)-a.body)%a.w != 0 {
		return a, fault(t, "framing offsets start at %d of %d", a.body, len(data))
	}
	a.n = (len(data) - a.body) / a.w
	if widthFor(a.body, a.n) != a.w {
		return a, fault(t, "framing offsets are wider than needed")
	}
	return a, nil
}

// Len is the number of elements. It is at most the length of the data.
func (a Array) Len() int { return a.n }

// At gives element i as a view, having checked its framing and the padding
// before it.
func (a Array) At(i int) ([]byte, error) {
	if i < 0 || i >= a.n {
		return nil, fault(a.typ, "has %d elements, not %d", a.n, i+1)
	}
	elem := a.typ.elems[0]
	if elem.fixed > 0 {
		return a.data[i*elem.fixed : (i+1)*elem.fixed : (i+1)*elem.fixed], nil
	}
	at := 0
	if i > 0 {
		at = offset(a.data, a.body+(i-1)*a.w, a.w)
	}
	start, end := alignUp(at, elem.align), offset(a.data, a.body+i*a.w, a.w)
	if end < start || end > a.body {
		return nil, fault(a.typ, "element %d lies at %d to %d of %d", i, start, end, a.body)
	}
	if !zero(a.data[at:start]) {
		return nil, fault(a.typ, "padding at %d is not zero", at)
	}
	return a.data[start:end:end], nil
}

// DecodeString reads a value of type s.
func DecodeString(data []byte) (string, error) {
	if err := checkString(data); err != nil {
		return "", err
	}
	return string(data[:len(data)-1]), nil
}

func checkString(data []byte) error {
	if len(data) == 0 || data[len(data)-1] != 0 {
		return fault(String, "no NUL at its end")
	}
	body := data[:len(data)-1]
	if i := bytes.IndexByte(body, 0); i >= 0 {
		return fault(String, "NUL at %d", i)
	}
	if !utf8.Valid(body) {
		return fault(String, "%.80q is not UTF-8", body)
	}
	return nil
}

// DecodeVariant splits a value of type v into its child's type and bytes. The
// child is not checked.
func DecodeVariant(data []byte) (*Type, []byte, error) {
	for i := len(data) - 1; i >= 0 && len(data)-i <= MaxTypeLength+1; i-- {
		if data[i] == 0 {
			t, err := ParseType(string(data[i+1:]))
			if err != nil {
				return nil, nil, fmt.Errorf("%w: %w", err, ErrNotNormal)
			}
			return t, data[:i:i], nil
		}
	}
	return nil, nil, fault(Variant, "no type string")
}

// Check reports whether data is the normal form of a value of type t, down to
// every child. It nests at most [MaxDepth] deep.
func Check(t *Type, data []byte) error { return check(t, data, 0) }

func check(t *Type, data []byte, depth int) error {
	if depth > MaxDepth {
		return fault(t, "nests deeper than %d", MaxDepth)
	}
	switch t.kind {
	case 's':
		return checkString(data)
	case 'o':
		text, err := DecodeString(data)
		if err == nil && !isPath(text) {
			err = fault(t, "%.80q is no object path", text)
		}
		return err
	case 'g':
		text, err := DecodeString(data)
		if err != nil {
			return err
		}
		for text != "" {
			_, rest, err := parseType(text, 0)
			if err != nil {
				return fmt.Errorf("%w: %w", err, ErrNotNormal)
			}
			text = rest
		}
		return nil
	case 'v':
		child, body, err := DecodeVariant(data)
		if err != nil {
			return err
		}
		return check(child, body, depth+1)
	case 'm':
		elem := t.elems[0]
		if len(data) == 0 {
			return nil
		}
		if elem.fixed == 0 {
			if data[len(data)-1] != 0 {
				return fault(t, "no zero byte at its end")
			}
			data = data[:len(data)-1]
		}
		return check(elem, data, depth+1)
	case 'a':
		a, err := OpenArray(t, data)
		if err != nil || t.elems[0].kind == 'y' {
			return err
		}
		for i := range a.Len() {
			elem, err := a.At(i)
			if err != nil {
				return err
			}
			if err := check(t.elems[0], elem, depth+1); err != nil {
				return err
			}
		}
		return nil
	case '(', '{':
		var room [8][]byte
		members, err := AppendMembers(room[:0], t, data)
		if err != nil {
			return err
		}
		for i, m := range members {
			if err := check(t.elems[i], m, depth+1); err != nil {
				return err
			}
		}
		return nil
	default:
		if len(data) != t.fixed {
			return fault(t, "%d bytes, want %d", len(data), t.fixed)
		}
		if t.kind == 'b' && data[0] > 1 {
			return fault(t, "%d is neither 0 nor 1", data[0])
		}
		return nil
	}
}

// isPath reports whether text is a D-Bus object path: / or /a/b_1, of ASCII
// letters, digits and underscores.
func isPath(text string) bool {
	if text == "/" {
		return true
	}
	if text == "" || text[0] != '/' || text[len(text)-1] == '/' {
		return false
	}
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '/' && text[i-1] != '/', c == '_', c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
		default:
			return false
		}
	}
	return true
}
