package ostree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/gvariant"
)

// MaxVariantText bounds what [ParseVariant] reads, in bytes.
const MaxVariantText = 1 << 20

// ParseVariant reads a value in the text format of GVariant, as GLib's
// g_variant_parse and with it `ostree commit --add-metadata` read it: what
// [Variant.Text] writes, with blanks between tokens, numbers in decimal, hex or
// octal, and types where they are wanted: uint32 7, @as [], <'x'>. Numbers
// without a type are int32, or double with a point or exponent. Arrays take their
// type from all elements together. Errors tell the byte at which they arise.
func ParseVariant(text string) (Variant, error) {
	if len(text) > MaxVariantText {
		return Variant{}, fmt.Errorf("ostree: variant text of %d bytes, at most %d", len(text), MaxVariantText)
	}
	p := &variantParser{text: text}
	n, err := p.value(0)
	if err != nil {
		return Variant{}, err
	}
	p.blanks()
	if p.at < len(text) {
		return Variant{}, p.fault(p.at, "more text after the value")
	}
	t, err := gvariant.ParseType(n.pattern.settle())
	if err != nil {
		return Variant{}, p.fault(0, "no type can be told; say it, as in @as []")
	}
	data, err := p.build(n, t)
	if err != nil {
		return Variant{}, err
	}
	v := Variant{t.String(), data}
	return v, v.check()
}

// pattern is what is known of a value's type: kind is a type letter, '(' '{' 'a'
// and 'm' with their parts, or 'N' for a number of any type, 'S' for a string of
// any, '*' for anything.
type pattern struct {
	kind  byte
	parts []*pattern
}

// settle gives the type string, with the defaults where it is open; what can't be
// told is left as '*', which is no type. Of one that is too long it gives the
// beginning, which is too long as well.
func (p *pattern) settle() string { return string(p.appendType(nil)) }

func (p *pattern) appendType(dst []byte) []byte {
	switch p.kind {
	case 'N':
		return append(dst, 'i')
	case 'S':
		return append(dst, 's')
	}
	dst = append(dst, p.kind)
	for _, part := range p.parts {
		if len(dst) > gvariant.MaxTypeLength {
			return dst
		}
		dst = part.appendType(dst)
	}
	switch p.kind {
	case '(':
		dst = append(dst, ')')
	case '{':
		dst = append(dst, '}')
	}
	return dst
}

// unify gives what is both a and b; nil: nothing is.
func unify(a, b *pattern) *pattern {
	switch {
	case a.kind == '*':
		return b
	case b.kind == '*':
		return a
	case a.kind == 'm' && b.kind != 'm':
		b = &pattern{kind: 'm', parts: []*pattern{b}}
	case b.kind == 'm' && a.kind != 'm':
		a = &pattern{kind: 'm', parts: []*pattern{a}}
	case a.kind == 'N' && strings.IndexByte("ynqiuxthd", b.kind) >= 0, a.kind == 'S' && (b.kind == 'o' || b.kind == 'g' || b.kind == 's'):
		return b
	case b.kind == 'N' && strings.IndexByte("ynqiuxthd", a.kind) >= 0, b.kind == 'S' && (a.kind == 'o' || a.kind == 'g' || a.kind == 's'):
		return a
	}
	if a.kind != b.kind || len(a.parts) != len(b.parts) {
		return nil
	}
	out := &pattern{kind: a.kind}
	for i := range a.parts {
		part := unify(a.parts[i], b.parts[i])
		if part == nil {
			return nil
		}
		out.parts = append(out.parts, part)
	}
	return out
}

// variantNode is a parsed value whose type may still be open.
type variantNode struct {
	at       int // where its text begins
	pattern  *pattern
	kind     byte   // of its text: 'b' '0' 's' 'y' '[' '{' '(' '<' 'j' 'n', or '@' with a type
	text     string // number, string or bytes, decoded
	children []*variantNode
}

type variantParser struct {
	text string
	at   int
}

func (p *variantParser) fault(at int, format string, args ...any) error {
	return fmt.Errorf("ostree: variant text, byte %d: "+format, append([]any{at}, args...)...)
}

func (p *variantParser) blanks() {
	for p.at < len(p.text) && strings.IndexByte(" \t\n\r\v\f", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take takes a token that may stand here.
func (p *variantParser) take(token string) bool {
	p.blanks()
	if !strings.HasPrefix(p.text[p.at:], token) {
		return false
	}
	p.at += len(token)
	return true
}

func (p *variantParser) expect(token string) error {
	if !p.take(token) {
		return p.fault(p.at, "%q expected", token)
	}
	return nil
}

// keywords are the types that have names.
var keywords = map[string]byte{"boolean": 'b', "byte": 'y', "int16": 'n', "uint16": 'q', "int32": 'i', "handle": 'h', "uint32": 'u',
	"int64": 'x', "uint64": 't', "double": 'd', "string": 's', "objectpath": 'o', "signature": 'g'}

func (p *variantParser) value(depth int) (*variantNode, error) {
	p.blanks()
	at := p.at
	if depth > gvariant.MaxDepth {
		return nil, p.fault(at, "nests deeper than %d", gvariant.MaxDepth)
	}
	if at == len(p.text) {
		return nil, p.fault(at, "a value expected")
	}
	switch c := p.text[at]; {
	case c == '[':
		return p.list('[', "]", depth)
	case c == '(':
		return p.list('(', ")", depth)
	case c == '{':
		return p.dict(depth)
	case c == '<':
		p.at++
		child, err := p.value(depth + 1)
		if err == nil {
			err = p.expect(">")
		}
		return &variantNode{at: at, kind: '<', pattern: &pattern{kind: 'v'}, children: []*variantNode{child}}, err
	case c == '\'' || c == '"':
		text, err := p.string(false)
		return &variantNode{at: at, kind: 's', pattern: &pattern{kind: 'S'}, text: text}, err
	case c == 'b' && at+1 < len(p.text) && (p.text[at+1] == '\'' || p.text[at+1] == '"'):
		p.at++
		text, err := p.string(true)
		return &variantNode{at: at, kind: 'y', pattern: &pattern{kind: 'a', parts: []*pattern{{kind: 'y'}}}, text: text}, err
	case c == '@':
		return p.typed(depth)
	}
	end, more := at, "+-."
	if at < len(p.text) && strings.IndexByte("0123456789+-.", p.text[at]) < 0 {
		more = ""
	}
	for end < len(p.text) && (isAlphanumeric(p.text[end]) || strings.IndexByte(more, p.text[end]) >= 0) {
		end++
	}
	word := p.text[at:end]
	p.at = end
	switch word {
	case "true", "false":
		return &variantNode{at: at, kind: 'b', pattern: &pattern{kind: 'b'}, text: word}, nil
	case "nothing":
		return &variantNode{at: at, kind: 'n', pattern: &pattern{kind: 'm', parts: []*pattern{{kind: '*'}}}}, nil
	case "just":
		child, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		return &variantNode{at: at, kind: 'j', pattern: &pattern{kind: 'm', parts: []*pattern{child.pattern}}, children: []*variantNode{child}}, nil
	}
	if letter, ok := keywords[word]; ok {
		return p.withType(at, &pattern{kind: letter}, depth)
	}
	if word == "" || word != "inf" && word != "nan" && strings.IndexByte("0123456789+-.", word[0]) < 0 {
		return nil, p.fault(at, "%.80q is no value", word)
	}
	number := &pattern{kind: 'N'}
	if isDouble(word) {
		number.kind = 'd'
	}
	return &variantNode{at: at, kind: '0', pattern: number, text: word}, nil
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isDouble tells whether a number can't be an integer.
func isDouble(word string) bool {
	hex := strings.HasPrefix(strings.TrimLeft(word, "+-"), "0x")
	return strings.Contains(word, ".") || !hex && strings.ContainsAny(word, "eE") || strings.HasSuffix(word, "inf") || strings.HasSuffix(word, "nan")
}

// typed reads @TYPE VALUE.
func (p *variantParser) typed(depth int) (*variantNode, error) {
	at := p.at
	p.at++
	begin := p.at
	for p.at < len(p.text) && strings.IndexByte(" \t\n\r\v\f", p.text[p.at]) < 0 {
		p.at++
	}
	t, err := gvariant.ParseType(p.text[begin:p.at])
	if err != nil {
		return nil, p.fault(at, "%.80q is no type", p.text[begin:p.at])
	}
	return p.withType(at, patternOf(t), depth)
}

// withType reads the value that a type was said of.
func (p *variantParser) withType(at int, want *pattern, depth int) (*variantNode, error) {
	child, err := p.value(depth + 1)
	if err != nil {
		return nil, err
	}
	n := &variantNode{at: at, kind: '@', pattern: unify(want, child.pattern), children: []*variantNode{child}}
	if n.pattern == nil || n.pattern.settle() != want.settle() {
		return nil, p.fault(child.at, "not of type %s", want.settle())
	}
	return n, nil
}

func patternOf(t *gvariant.Type) *pattern {
	text := t.String()
	out := &pattern{kind: text[0]}
	switch text[0] {
	case 'a', 'm':
		out.parts = []*pattern{patternOf(t.Elem())}
	case '(', '{':
		for _, m := range t.Members() {
			out.parts = append(out.parts, patternOf(m))
		}
	}
	return out
}

// list reads an array or a tuple.
func (p *variantParser) list(open byte, closing string, depth int) (*variantNode, error) {
	n := &variantNode{at: p.at, kind: open}
	p.at++
	for !p.take(closing) {
		if count := len(n.children); count > 1 || count == 1 && open == '[' {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		child, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.children = append(n.children, child)
		if open == '(' && len(n.children) == 1 { // (x,) and (x, y), but not (x)
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
	}
	if open == '(' {
		n.pattern = &pattern{kind: '('}
		for _, c := range n.children {
			n.pattern.parts = append(n.pattern.parts, c.pattern)
		}
		return n, nil
	}
	elem, err := p.common(n.children)
	n.pattern = &pattern{kind: 'a', parts: []*pattern{elem}}
	return n, err
}

// common is the pattern of all nodes.
func (p *variantParser) common(nodes []*variantNode) (*pattern, error) {
	out := &pattern{kind: '*'}
	for _, n := range nodes {
		both := unify(out, n.pattern)
		if both == nil {
			return nil, p.fault(n.at, "not of the type of the elements before it")
		}
		out = both
	}
	return out, nil
}

// dict reads a dictionary, or one entry of it: {KEY, VALUE}.
func (p *variantParser) dict(depth int) (*variantNode, error) {
	n := &variantNode{at: p.at, kind: '{'}
	p.at++
	var keys, values []*variantNode
	entry := false
	for first := true; !p.take("}"); first = false {
		if !first {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		key, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if first && p.take(",") {
			entry = true
		} else if err := p.expect(":"); err != nil {
			return nil, err
		}
		value, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		keys, values = append(keys, key), append(values, value)
		if entry {
			if err := p.expect("}"); err != nil {
				return nil, err
			}
			break
		}
	}
	key, err := p.common(keys)
	if err != nil {
		return nil, err
	}
	value, err := p.common(values)
	if err != nil {
		return nil, err
	}
	n.pattern = &pattern{kind: '{', parts: []*pattern{key, value}}
	if !entry {
		n.kind = ':'
		n.pattern = &pattern{kind: 'a', parts: []*pattern{n.pattern}}
	}
	for i := range keys {
		n.children = append(n.children, keys[i], values[i])
	}
	return n, nil
}

// string reads a quoted string, or bytes.
func (p *variantParser) string(isBytes bool) (string, error) {
	at, quote := p.at, p.text[p.at]
	p.at++
	var b strings.Builder
	for {
		if p.at == len(p.text) {
			return "", p.fault(at, "a quote that is not closed")
		}
		c := p.text[p.at]
		p.at++
		switch {
		case c == quote:
			s := b.String()
			if isBytes {
				s, _, _ = strings.Cut(s, "\x00") // for GLib they end there
			} else if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
				return "", p.fault(at, "not UTF-8, or a NUL")
			}
			return s, nil
		case c != '\\':
			b.WriteByte(c)
		case isBytes:
			p.octal(&b)
		default:
			if err := p.escape(&b); err != nil {
				return "", err
			}
		}
	}
}

// octal reads what follows a backslash in bytes.
func (p *variantParser) octal(b *strings.Builder) {
	digits := 0
	for digits < 3 && p.at+digits < len(p.text) && p.text[p.at+digits] >= '0' && p.text[p.at+digits] <= '7' {
		digits++
	}
	if digits > 0 {
		n, _ := strconv.ParseUint(p.text[p.at:p.at+digits], 8, 16) // three octal digits
		b.WriteByte(byte(n))
		p.at += digits
		return
	}
	if p.at < len(p.text) {
		if c := p.text[p.at]; c != '\n' { // a line that goes on
			b.WriteByte(unescaped(c))
		}
		p.at++
	}
}

func unescaped(c byte) byte {
	if i := strings.IndexByte("abtnvfr", c); i >= 0 {
		return byte('\a' + i)
	}
	return c
}

// escape reads what follows a backslash in a string.
func (p *variantParser) escape(b *strings.Builder) error {
	if p.at == len(p.text) {
		return p.fault(p.at, "a backslash at the end")
	}
	c := p.text[p.at]
	p.at++
	digits := map[byte]int{'u': 4, 'U': 8}[c]
	switch {
	case digits > 0:
		if p.at+digits > len(p.text) {
			return p.fault(p.at, "%d hexadecimal digits expected", digits)
		}
		n, err := strconv.ParseUint(p.text[p.at:p.at+digits], 16, 32)
		if err != nil || n == 0 || !utf8.ValidRune(rune(n)) {
			return p.fault(p.at, "no character of %d hexadecimal digits", digits)
		}
		b.WriteRune(rune(n))
		p.at += digits
	case c == '\n': // a line that goes on
	default:
		b.WriteByte(unescaped(c))
	}
	return nil
}

// build serializes a node as type t, which its pattern agrees with.
func (p *variantParser) build(n *variantNode, t *gvariant.Type) ([]byte, error) {
	text := t.String()
	if n.kind == '@' {
		return p.build(n.children[0], t)
	}
	if text[0] == 'm' {
		return p.buildMaybe(n, t)
	}
	switch n.kind {
	case 'b':
		return BoolVariant(n.text == "true").Data, nil
	case 's':
		return gvariant.AppendString(nil, n.text), nil
	case 'y':
		return append([]byte(n.text), 0), nil
	case '0':
		return p.buildNumber(n, text[0])
	case '<':
		child := n.children[0]
		inner, err := gvariant.ParseType(child.pattern.settle())
		if err != nil {
			return nil, p.fault(child.at, "no type can be told; say it, as in <@as []>")
		}
		data, err := p.build(child, inner)
		return gvariant.AppendVariant(nil, inner.String(), data), err
	case '(', '{':
		members := make([][]byte, len(n.children))
		for i, c := range n.children {
			var err error
			if members[i], err = p.build(c, t.Members()[i]); err != nil {
				return nil, err
			}
		}
		return gvariant.AppendTuple(nil, t, members...)
	}
	// An array, or a dictionary, whose children are keys and values in turn.
	var b gvariant.ArrayBuilder
	b.Reset(t)
	step := 1
	if n.kind == ':' {
		step = 2
	}
	for part := range slices.Chunk(n.children, step) {
		var err error
		var members [2][]byte
		for i, c := range part {
			elem := t.Elem()
			if step == 2 {
				elem = elem.Members()[i]
			}
			if members[i], err = p.build(c, elem); err != nil {
				return nil, err
			}
		}
		if step == 1 {
			b.Add(members[0])
		} else if err := b.AddTuple(members[0], members[1]); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func (p *variantParser) buildMaybe(n *variantNode, t *gvariant.Type) ([]byte, error) {
	if n.kind == 'n' {
		return nil, nil
	}
	if n.kind == 'j' {
		n = n.children[0]
	}
	data, err := p.build(n, t.Elem())
	if err == nil && t.Elem().Fixed() == 0 {
		data = append(data, 0)
	}
	return data, err
}

func (p *variantParser) buildNumber(n *variantNode, letter byte) ([]byte, error) {
	digits := strings.TrimLeft(n.text, "+-")
	if len(n.text)-len(digits) > 1 || strings.Contains(digits, "_") {
		return nil, p.fault(n.at, "%.80q is no number", n.text)
	}
	negative := strings.HasPrefix(n.text, "-")
	if letter == 'd' {
		if hex := strings.HasPrefix(digits, "0x") || strings.HasPrefix(digits, "0X"); hex && !strings.ContainsAny(digits, "pP") {
			digits += "p0" // which Go wants
		}
		f, err := strconv.ParseFloat(digits, 64)
		if err != nil {
			return nil, p.fault(n.at, "%.80q is no number", n.text)
		}
		if negative {
			f = -f
		}
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(f)), nil
	}
	bits := map[byte]int{'y': 8, 'n': 16, 'q': 16, 'i': 32, 'h': 32, 'u': 32, 'x': 64, 't': 64}[letter]
	var v uint64
	var err error
	if strings.ContainsAny(digits, "oOB") || strings.HasPrefix(digits, "0b") { // of Go alone
		err = strconv.ErrSyntax
	} else if n.text != "-" { // which is 0 for GLib
		v, err = strconv.ParseUint(digits, 0, 64)
	}
	limit := uint64(math.MaxUint64) >> (64 - bits)
	if signed := strings.IndexByte("nihx", letter) >= 0; signed && negative {
		limit = limit/2 + 1
	} else if signed {
		limit /= 2
	} else if negative {
		limit = 0
	}
	if errors.Is(err, strconv.ErrRange) || err == nil && v > limit {
		return nil, p.fault(n.at, "%.80s is out of the range of type %c", n.text, letter)
	}
	if err != nil {
		return nil, p.fault(n.at, "%.80q is no number of type %c", n.text, letter)
	}
	if negative {
		v = -v
	}
	return binary.LittleEndian.AppendUint64(nil, v)[:bits/8], nil
}
