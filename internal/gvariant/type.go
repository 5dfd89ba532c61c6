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
	Bool      = letter('b', 1, 1)
	Byte      = letter('y', 1, 1)
	Int16     = letter('n', 2, 2)
	Uint16    = letter('q', 2, 2)
	Int32     = letter('i', 4, 4)
	Uint32    = letter('u', 4, 4)
	Handle    = letter('h', 4, 4)
	Int64     = letter('x', 8, 8)
	Uint64    = letter('t', 8, 8)
	Double    = letter('d', 8, 8)
	String    = letter('s', 1, 0)
	Path      = letter('o', 1, 0)
	Signature = letter('g', 1, 0)
	Variant   = letter('v', 8, 0)
	Bytes     = ArrayOf(Byte)                     // ay
	Dict      = ArrayOf(EntryOf(String, Variant)) // a{sv}
	Strings   = ArrayOf(String)                   // as
	letters   = map[byte]*Type{'b': Bool, 'y': Byte, 'n': Int16, 'q': Uint16, 'i': Int32, 'u': Uint32, 'h': Handle,
		'x': Int64, 't': Uint64, 'd': Double, 's': String, 'o': Path, 'g': Signature, 'v': Variant}
)

func letter(kind byte, align, fixed int) *Type {
	return &Type{kind: kind, text: string(kind), align: align, fixed: fixed}
}

// String is the type string.
func (t *Type) String() string { return t.text }

// Fixed is the size in bytes of every value of t, or 0 if they differ.
func (t *Type) Fixed() int { return t.fixed }

// basic reports whether t may be the key of a dictionary.
func (t *Type) basic() bool { return letters[t.kind] == t && t != Variant }

// Elem is the type of what an array or an optional value holds, and nil for every
// other type.
func (t *Type) Elem() *Type {
	if t.kind != 'a' && t.kind != 'm' {
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
func ArrayOf(elem *Type) *Type { return holder('a', "a"+elem.text, elem) }

func holder(kind byte, text string, elem *Type) *Type {
	return &Type{kind: kind, text: text, align: elem.align, elems: []*Type{elem}}
}

// TupleOf is the type of tuples of members.
func TupleOf(members ...*Type) *Type { return sequence('(', "("+join(members)+")", members) }

// EntryOf is the type of dictionary entries. Key is a basic type.
func EntryOf(key, value *Type) *Type {
	members := []*Type{key, value}
	return sequence('{', "{"+join(members)+"}", members)
}

func join(members []*Type) string {
	var text strings.Builder
	for _, m := range members {
		text.WriteString(m.text)
	}
	return text.String()
}

func sequence(kind byte, text string, members []*Type) *Type {
	t := &Type{kind: kind, text: text, align: 1, elems: members}
	size, fixed := 0, true
	for _, m := range members {
		t.align = max(t.align, m.align)
		fixed = fixed && m.fixed > 0
		size = alignUp(size, m.align) + m.fixed
	}
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

// parseType reads the type that text begins with, and gives what follows. The texts of
// types are parts of text: those of nested ones would be the square of it.
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
		return holder(c, text[:len(text)-len(rest)], elem), rest, nil
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
		rest = rest[1:]
		whole := text[:len(text)-len(rest)]
		if c == '{' && (len(members) != 2 || !members[0].basic()) {
			return nil, "", fmt.Errorf("gvariant: %q is not a dictionary entry of a basic type and another", whole)
		}
		return sequence(c, whole, members), rest, nil
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
