package gvariant

import (
	"fmt"
	"strings"
)

// Limits of what [ParseType] and [Check] accept, both from GLib.
const (
	MaxTypeLength = 255 // characters of a type string
	MaxDepth      = 64  // containers within containers, variants included
)

// Type is a definite GVariant type. It is immutable; the zero value is not a
// type. Types come from the constructors of this package or from [ParseType].
type Type struct {
	kind  byte // 'a', '(', '{', 'm' or the letter of a basic type or 'v'
	text  string
	align int
	fixed int // 0: no fixed size
	elems []*Type
}

// The basic types, the variant type and common arrays.
var (
	Bool      = basic('b', 1, 1)
	Byte      = basic('y', 1, 1)
	Int16     = basic('n', 2, 2)
	Uint16    = basic('q', 2, 2)
	Int32     = basic('i', 4, 4)
	Uint32    = basic('u', 4, 4)
	Handle    = basic('h', 4, 4)
	Int64     = basic('x', 8, 8)
	Uint64    = basic('t', 8, 8)
	Double    = basic('d', 8, 8)
	String    = basic('s', 1, 0)
	Path      = basic('o', 1, 0)
	Signature = basic('g', 1, 0)
	Variant   = basic('v', 8, 0)
	Bytes     = ArrayOf(Byte)                     // ay
	Dict      = ArrayOf(EntryOf(String, Variant)) // a{sv}
	Strings   = ArrayOf(String)                   // as
	letters   = map[byte]*Type{'b': Bool, 'y': Byte, 'n': Int16, 'q': Uint16, 'i': Int32, 'u': Uint32, 'h': Handle,
		'x': Int64, 't': Uint64, 'd': Double, 's': String, 'o': Path, 'g': Signature, 'v': Variant}
)

func basic(letter byte, align, fixed int) *Type {
	return &Type{kind: letter, text: string(letter), align: align, fixed: fixed}
}

// String is the type string.
func (t *Type) String() string { return t.text }

// Fixed is the size in bytes of every value of t, or 0 if they differ.
func (t *Type) Fixed() int { return t.fixed }

// Elem is the element type of an array and nil for every other type.
func (t *Type) Elem() *Type {
	if t.kind != 'a' {
		return nil
	}
	return t.elems[0]
}

// Members are the member types of a tuple or dictionary entry, and nil for
// every other type. The slice is not to be changed.
func (t *Type) Members() []*Type {
	if t.kind != '(' && t.kind != '{' {
		return nil
	}
	return t.elems
}

// ArrayOf is the type of arrays of elem.
func ArrayOf(elem *Type) *Type {
	return &Type{kind: 'a', text: "a" + elem.text, align: elem.align, elems: []*Type{elem}}
}

// MaybeOf is the type of optional values of elem.
func MaybeOf(elem *Type) *Type {
	return &Type{kind: 'm', text: "m" + elem.text, align: elem.align, elems: []*Type{elem}}
}

// TupleOf is the type of tuples of members.
func TupleOf(members ...*Type) *Type { return sequence('(', ")", members) }

// EntryOf is the type of dictionary entries. Key is a basic type.
func EntryOf(key, value *Type) *Type { return sequence('{', "}", []*Type{key, value}) }

func sequence(kind byte, end string, members []*Type) *Type {
	t := &Type{kind: kind, align: 1, elems: members}
	var text strings.Builder
	text.WriteByte(kind)
	size, fixed := 0, true
	for _, m := range members {
		text.WriteString(m.text)
		t.align = max(t.align, m.align)
		fixed = fixed && m.fixed > 0
		size = alignUp(size, m.align) + m.fixed
	}
	text.WriteString(end)
	t.text = text.String()
	if fixed {
		t.fixed = max(1, alignUp(size, t.align)) // the empty tuple is one zero byte
	}
	return t
}

// ParseType reads one definite type string of at most [MaxTypeLength] characters.
func ParseType(text string) (*Type, error) {
	if len(text) > MaxTypeLength {
		return nil, fmt.Errorf("gvariant: type string of %d characters, at most %d", len(text), MaxTypeLength)
	}
	t, rest, err := parseType(text, 0)
	if err == nil && rest != "" {
		err = fmt.Errorf("gvariant: type string %q has %q after its end", text, rest)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

func parseType(text string, depth int) (*Type, string, error) {
	if text == "" {
		return nil, "", fmt.Errorf("gvariant: type string ends early")
	}
	if depth > MaxDepth {
		return nil, "", fmt.Errorf("gvariant: type string nests deeper than %d", MaxDepth)
	}
	switch c := text[0]; c {
	case 'a', 'm':
		elem, rest, err := parseType(text[1:], depth+1)
		if err != nil {
			return nil, "", err
		}
		if c == 'a' {
			return ArrayOf(elem), rest, nil
		}
		return MaybeOf(elem), rest, nil
	case '(', '{':
		end := byte(')')
		if c == '{' {
			end = '}'
		}
		var members []*Type
		rest := text[1:]
		for rest == "" || rest[0] != end {
			m, r, err := parseType(rest, depth+1)
			if err != nil {
				return nil, "", err
			}
			members, rest = append(members, m), r
		}
		if c == '{' && (len(members) != 2 || members[0].elems != nil || members[0] == Variant) {
			return nil, "", fmt.Errorf("gvariant: %q is not a dictionary entry of a basic type and another", text[:len(text)-len(rest)+1])
		}
		return sequence(c, string(end), members), rest[1:], nil
	default:
		t, ok := letters[c]
		if !ok {
			return nil, "", fmt.Errorf("gvariant: type string has %q", c)
		}
		return t, text[1:], nil
	}
}

func alignUp(n, align int) int { return (n + align - 1) &^ (align - 1) }

// width is the size of one framing offset in a container of size bytes.
func width(size int) int {
	switch {
	case size <= 0xff:
		return 1
	case size <= 0xffff:
		return 2
	case uint64(size) <= 0xffffffff:
		return 4
	default:
		return 8
	}
}

// widthFor is the size of one framing offset for n of them behind body bytes.
func widthFor(body, n int) int {
	for _, w := range []int{1, 2, 4} {
		if width(body+n*w) <= w {
			return w
		}
	}
	return 8
}
