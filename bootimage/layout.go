package bootimage

import (
	"errors"
	"strings"
)

// Reindent lays the document out anew, a value a line: by 4 spaces as Fedora's
// stream generator and coreos-assembler do, by 2 as plume and rollout.py do, at
// most 8; 0 puts everything on one line. Order, number text and the end of the
// file stay.
func (d *Document[T]) Reindent(spaces int) error {
	if spaces < 0 || spaces > 8 {
		return &FieldError{Document: documentName[T](), Err: errors.New("indented by less than 0 or more than 8 spaces")}
	}
	d.head, d.root = "", relayout(d.root, strings.Repeat(" ", spaces), "", spaces > 0)
	return nil
}

// relayout copies v with other white space.
func relayout(v *value, unit, indent string, lines bool) *value {
	if v.kind == 0 {
		return v
	}
	out := &value{kind: v.kind, members: make([]member, len(v.members))}
	inner := indent + unit
	for i, m := range v.members {
		m.lead, m.trail = "", ""
		if v.kind == '{' {
			m.colon = ": "
		}
		switch {
		case lines:
			m.lead = "\n" + inner
		case i > 0:
			m.lead = " "
		}
		m.value = relayout(m.value, unit, inner, lines)
		out.members[i] = m
	}
	if n := len(out.members); n > 0 && lines {
		out.members[n-1].trail = "\n" + indent
	}
	return out
}

// startIndented makes a new document of v, indented by as many spaces; 0: 4.
func startIndented[T any](v T, spaces int) (*Document[T], error) {
	d, err := NewDocument(v)
	if err == nil && spaces != 0 {
		err = d.Reindent(spaces)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Override merges a JSON object into the document, as Fedora's stream generator
// does: objects key by key, at every depth; anything else in patch takes the
// place of what is there, and null leaves it. What patch does not name stays
// byte for byte. The result is checked as by decoding; on an error nothing is
// changed.
func (d *Document[T]) Override(patch []byte) error {
	_, over, _, err := parseJSON(patch)
	if err != nil {
		return named[T](err)
	}
	if over.kind != '{' {
		return &FieldError{Document: documentName[T](), Err: errors.New("override is not an object")}
	}
	done, err := d.changed(overlay(d.root, over))
	if err != nil {
		return err
	}
	*d = *done
	return nil
}

// overlay is base with over on top.
func overlay(base, over *value) *value {
	if over.null() {
		return base
	}
	if base.kind != '{' || over.kind != '{' {
		return over
	}
	out := &value{kind: '{'}
	at := over.index()
	for _, m := range base.members {
		if i, ok := at[m.key]; ok {
			m.value = overlay(m.value, over.members[i].value)
		}
		out.members = append(out.members, m)
	}
	there := base.index()
	for _, m := range over.members {
		if _, ok := there[m.key]; !ok && !m.value.null() {
			out.members = append(out.members, m)
		}
	}
	return out
}
