package gvariant

import (
	"encoding/binary"
	"fmt"
)

// AppendTuple appends a tuple or dictionary entry of type t whose members are
// already serialized. It aligns from the end of dst, so dst's length must be a
// multiple of the alignment where that matters.
func AppendTuple(dst []byte, t *Type, members ...[]byte) ([]byte, error) {
	if t.kind != '(' && t.kind != '{' || len(members) != len(t.elems) {
		return dst, fmt.Errorf("gvariant: %d members for type %s", len(members), t.text)
	}
	base, offsets := len(dst), 0
	for i, m := range members {
		elem := t.elems[i]
		if elem.fixed > 0 && len(m) != elem.fixed {
			return dst[:base], fmt.Errorf("gvariant: member %d of type %s has %d bytes, want %d", i, elem.text, len(m), elem.fixed)
		}
		if elem.fixed == 0 && i < len(members)-1 {
			offsets++
		}
		dst = append(pad(dst, base, elem.align), m...)
	}
	if t.fixed > 0 {
		for len(dst)-base < t.fixed {
			dst = append(dst, 0)
		}
		return dst, nil
	}
	w := widthFor(len(dst)-base, offsets)
	end := len(dst) - base
	for i := len(members) - 1; i >= 0; i-- {
		// Walking backwards, end is where member i ends.
		if i < len(members)-1 && t.elems[i].fixed == 0 {
			dst = appendOffset(dst, end, w)
		}
		end = memberStart(t, members, i)
	}
	return dst, nil
}

// memberStart is where the member before members[i] ends, which is where the
// padding of members[i] starts.
func memberStart(t *Type, members [][]byte, i int) int {
	at := 0
	for j := range i {
		at = alignUp(at, t.elems[j].align) + len(members[j])
	}
	return at
}

// ArrayBuilder collects the elements of one array. Reset it to build another
// with the same memory.
type ArrayBuilder struct {
	typ  *Type
	buf  []byte
	ends []int
}

// Reset starts an array of type t, which must be an array type.
func (b *ArrayBuilder) Reset(t *Type) {
	b.typ, b.buf, b.ends = t, b.buf[:0], b.ends[:0]
}

// Add appends a serialized element.
func (b *ArrayBuilder) Add(elem []byte) {
	b.buf = append(pad(b.buf, 0, b.typ.elems[0].align), elem...)
	b.ends = append(b.ends, len(b.buf))
}

// AddTuple appends an element that is a tuple of serialized members.
func (b *ArrayBuilder) AddTuple(members ...[]byte) error {
	elem := b.typ.elems[0]
	var err error
	b.buf, err = AppendTuple(pad(b.buf, 0, elem.align), elem, members...)
	b.ends = append(b.ends, len(b.buf))
	return err
}

// Bytes gives the serialized array, valid until the builder is used again.
func (b *ArrayBuilder) Bytes() []byte {
	if b.typ.elems[0].fixed > 0 || len(b.ends) == 0 {
		return b.buf
	}
	out := b.buf
	w := widthFor(len(out), len(b.ends))
	for _, end := range b.ends {
		out = appendOffset(out, end, w)
	}
	// Keep the grown memory without the offsets.
	b.buf = out[:len(b.buf)]
	return out
}

// AppendString appends a value of type s.
func AppendString(dst []byte, s string) []byte { return append(append(dst, s...), 0) }

// AppendVariant appends a value of type v that holds a serialized child.
func AppendVariant(dst []byte, typ string, child []byte) []byte {
	return append(append(append(dst, child...), 0), typ...)
}

func pad(dst []byte, base, align int) []byte {
	for (len(dst)-base)&(align-1) != 0 {
		dst = append(dst, 0)
	}
	return dst
}

// AppendOffset appends one framing offset, v, to a container that has body bytes
// and will have n framing offsets in all.
func AppendOffset(dst []byte, v, body, n int) []byte { return appendOffset(dst, v, widthFor(body, n)) }

func appendOffset(dst []byte, v, w int) []byte {
	switch w {
	case 1:
		return append(dst, byte(v))
	case 2:
		return binary.LittleEndian.AppendUint16(dst, uint16(v))
	case 4:
		return binary.LittleEndian.AppendUint32(dst, uint32(v))
	default:
		return binary.LittleEndian.AppendUint64(dst, uint64(v))
	}
}
