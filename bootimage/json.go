package bootimage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a document. The largest real one, a meta.json with its package
// differences, has a quarter of them.
const (
	// MaxDocumentSize is the most bytes a document may have.
	MaxDocumentSize = 8 << 20

	maxValues = 150_000
	maxDepth  = 64
)

// value is a JSON value with the text around its parts, so that writing an
// unchanged one gives the same bytes.
type value struct {
	kind    byte   // '{', '[', or 0 for a scalar
	raw     string // of scalars
	members []member
	tail    string // white space before the closing bracket
}

type member struct {
	lead   string // white space before the key or item
	rawKey string // with quotes; "" in arrays
	key    string
	colon  string // white space, ":" and white space
	value  *value
	trail  string // white space before the comma or bracket
	place  int    // in the document, from 1; 0 where it is new
}

// jsonParser splits text that json.Valid has accepted.
type jsonParser struct {
	text  string
	at    int
	count int
}

// parseJSON reads a document: white space, value, white space.
func parseJSON(data []byte) (head string, root *value, tail string, err error) {
	switch {
	case len(data) > MaxDocumentSize:
		return "", nil, "", fmt.Errorf("more than %d bytes", MaxDocumentSize)
	case !utf8.Valid(data):
		return "", nil, "", errors.New("not UTF-8")
	case !json.Valid(data):
		var v struct{}
		err := json.Unmarshal(data, &v)
		if s, ok := errors.AsType[*json.SyntaxError](err); ok {
			before := data[:min(int(s.Offset), len(data))]
			line := 1 + bytes.Count(before, []byte("\n"))
			return "", nil, "", fmt.Errorf("line %d: %w", line, err)
		}
		return "", nil, "", errors.New("not JSON")
	}
	p := &jsonParser{text: string(data)}
	head = p.space()
	root, err = p.value(0, "")
	if err != nil {
		return "", nil, "", err
	}
	return head, root, p.space(), nil
}

func (p *jsonParser) space() string {
	from := p.at
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	return p.text[from:p.at]
}

func (p *jsonParser) value(depth int, path string) (*value, error) {
	if p.count++; p.count > maxValues {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	v := &value{}
	switch c := p.text[p.at]; c {
	case '{', '[':
		v.kind = c
		p.at++
	default:
		v.raw = p.scalar()
		return v, nil
	}
	var seen map[string]bool
	for {
		m := member{lead: p.space(), place: len(v.members) + 1}
		if c := p.text[p.at]; c == '}' || c == ']' {
			p.at++
			v.tail = m.lead
			return v, nil
		}
		where := path
		if v.kind == '{' {
			m.rawKey = p.scalar()
			if err := json.Unmarshal([]byte(m.rawKey), &m.key); err != nil {
				return nil, err
			}
			// At the top also in other case: Go's readers take either for ours. U+017F is a small
			// letter s to them, U+212A a capital K.
			name := m.key
			if depth == 0 {
				name = strings.ToLower(strings.ToUpper(name))
			}
			if seen[name] {
				return nil, &FieldError{Path: join(path, m.key), Err: errors.New("key is there twice")}
			}
			if seen == nil {
				seen = map[string]bool{}
			}
			seen[name] = true
			from := p.at
			p.space()
			p.at++ // colon
			p.space()
			m.colon = p.text[from:p.at]
			where = join(path, m.key)
		}
		var err error
		if m.value, err = p.value(depth+1, where); err != nil {
			return nil, err
		}
		m.trail = p.space()
		v.members = append(v.members, m)
		if p.text[p.at] == ',' {
			p.at++
			continue
		}
		p.at++
		// White space before the bracket belongs to the last member.
		return v, nil
	}
}

// scalar takes a string, number, true, false or null.
func (p *jsonParser) scalar() string {
	from := p.at
	if p.text[p.at] == '"' {
		for p.at++; p.text[p.at] != '"'; p.at++ {
			if p.text[p.at] == '\\' {
				p.at++
			}
		}
		p.at++
		return p.text[from:p.at]
	}
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n,:]}", p.text[p.at]) < 0 {
		p.at++
	}
	return p.text[from:p.at]
}

// join appends a key to a path.
func join(path, key string) string {
	if key == "" || strings.ContainsAny(key, ".[]\"") {
		return fmt.Sprintf("%s[%q]", path, key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func (v *value) write(b *strings.Builder) {
	if v.kind == 0 {
		b.WriteString(v.raw)
		return
	}
	b.WriteByte(v.kind)
	for i, m := range v.members {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(m.lead)
		b.WriteString(m.rawKey)
		b.WriteString(m.colon)
		m.value.write(b)
		b.WriteString(m.trail)
	}
	b.WriteString(v.tail)
	b.WriteByte(v.kind + 2) // '}' and ']' follow their openers by two
}

func (v *value) equal(o *value) bool {
	if v.kind != o.kind || v.raw != o.raw || len(v.members) != len(o.members) {
		return false
	}
	for i, m := range v.members {
		if m.key != o.members[i].key || !m.value.equal(o.members[i].value) {
			return false
		}
	}
	return true
}

func (v *value) null() bool { return v.raw == "null" }

// style is how a document is laid out.
type style struct {
	unit  string // of indentation; "" with lines false: all in one line
	lines bool
	colon string
	comma string // white space after a comma within a line
}

// own is the layout of documents that start here, and coreos-assembler's.
var own = style{unit: "    ", lines: true, colon: ": ", comma: " "}

// styleOf reads the layout off a document.
func styleOf(root *value) style {
	s := style{colon: ": ", comma: " "}
	seen := false
	var walk func(v *value, indent string)
	walk = func(v *value, indent string) {
		for i, m := range v.members {
			if m.colon != "" && !seen {
				seen, s.colon = true, m.colon
			}
			in, lines := indentOf(m.lead)
			if !lines {
				in = indent
			} else if !s.lines {
				s.lines, s.unit = true, strings.TrimPrefix(in, indent)
			}
			if !lines && i == 1 {
				s.comma = m.lead
			}
			if s.lines && seen {
				return
			}
			walk(m.value, in)
		}
	}
	walk(root, "")
	if root.kind != 0 && len(root.members) == 0 {
		return own
	}
	return s
}

// indentOf gives what follows the last newline of white space.
func indentOf(space string) (string, bool) {
	i := strings.LastIndexByte(space, '\n')
	return space[i+1:], i >= 0
}

// apply gives d with what changed from a to b, and nothing else. indent is the
// indentation of the line that d's closing bracket would be on.
func (s style) apply(d, a, b *value, indent string) *value {
	switch {
	case a.equal(b):
		return d
	case d.kind == '{' && a.kind == '{' && b.kind == '{':
		return s.applyObject(d, a, b, indent)
	case d.kind == '[' && a.kind == '[' && b.kind == '[' && len(d.members) == len(a.members):
		return s.applyArray(d, a, b, indent)
	}
	return s.fresh(b, indent, s.lines)
}

func (s style) applyObject(d, a, b *value, indent string) *value {
	inner, lines := s.inner(d, indent)
	inA, inB := a.index(), b.index()
	d, twice := d.readAs(inA, inB)
	inD := d.index()
	removed := map[string]bool{}
	for _, m := range a.members {
		if i, ok := inB[m.key]; !ok || b.members[i].value.null() && !m.value.null() {
			removed[m.key] = true
		}
	}
	changed := map[string]*value{}
	added := map[string][]member{} // by the key before them; "" at the end
	before := ""
	for _, m := range b.members {
		var old *value
		if i, ok := inA[m.key]; ok {
			old = a.members[i].value
		}
		at, there := inD[m.key]
		switch {
		case old != nil && old.equal(m.value):
		case m.value.null():
			continue
		case there && old != nil && !twice[m.key]:
			changed[m.key] = s.apply(d.members[at].value, old, m.value, inner)
		case there:
			changed[m.key] = s.fresh(m.value, inner, lines)
		default:
			added[before] = append(added[before], member{
				rawKey: quote(m.key), key: m.key, colon: s.colon, value: s.fresh(m.value, inner, lines),
			})
			there = true
		}
		if there {
			before = m.key
		}
	}
	out := &value{kind: '{'}
	var put func(key string)
	put = func(key string) {
		for _, m := range added[key] {
			out.members = append(out.members, m)
			if m.key != "" {
				put(m.key)
			}
		}
	}
	for _, m := range d.members {
		if removed[m.key] {
			continue
		}
		if v, ok := changed[m.key]; ok {
			m.value = v
		}
		out.members = append(out.members, m)
		if m.key != "" {
			put(m.key)
		}
	}
	put("")
	s.space(out, d, indent, inner, lines)
	return out
}

// readAs is v with the keys that encoding/json takes its members for, which it
// finds in other case, too: known has the keys of what it made of v. twice are
// those that v has in more than one case.
func (v *value) readAs(known ...map[string]int) (as *value, twice map[string]bool) {
	as = &value{kind: v.kind, members: slices.Clone(v.members), tail: v.tail}
	seen := make(map[string]bool, len(as.members))
	twice = map[string]bool{}
	for i := range as.members {
		key := readKey(as.members[i].key, known)
		as.members[i].key = key
		twice[key] = seen[key]
		seen[key] = true
	}
	return as, twice
}

// readKey is the one of the known keys that encoding/json takes key for: itself,
// or one in other case. It is key if there is none.
func readKey(key string, known []map[string]int) string {
	for _, keys := range known {
		if _, ok := keys[key]; ok {
			return key
		}
	}
	for _, keys := range known {
		for _, other := range slices.Sorted(maps.Keys(keys)) {
			if strings.EqualFold(other, key) {
				return other
			}
		}
	}
	return key
}

// index is where the keys of an object are.
func (v *value) index() map[string]int {
	at := make(map[string]int, len(v.members))
	for i, m := range v.members {
		at[m.key] = i
	}
	return at
}

// applyArray lines up the items of a and b: those that are the same keep their
// text in d, those that stand alone between such ones are changed in place,
// others are written anew.
func (s style) applyArray(d, a, b *value, indent string) *value {
	inner, lines := s.inner(d, indent)
	out := &value{kind: '['}
	pairs := match(a.members, b.members)
	i, j := 0, 0
	for _, pair := range append(pairs, [2]int{len(a.members), len(b.members)}) {
		sameCount := pair[0]-i == pair[1]-j
		for ; j < pair[1]; j++ {
			m := member{}
			if sameCount {
				m = d.members[i]
				m.value = s.apply(m.value, a.members[i].value, b.members[j].value, inner)
				i++
			} else {
				m.value = s.fresh(b.members[j].value, inner, lines)
			}
			out.members = append(out.members, m)
		}
		if i = pair[0]; i < len(a.members) {
			out.members = append(out.members, d.members[i])
			i, j = i+1, pair[1]+1
		}
	}
	s.space(out, d, indent, inner, lines)
	return out
}

// match pairs equal items, ascending in both: as many as possible where the
// lists are short, else those of the common start and end.
func match(a, b []member) (pairs [][2]int) {
	start := 0
	for start < len(a) && start < len(b) && a[start].value.equal(b[start].value) {
		pairs = append(pairs, [2]int{start, start})
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end].value.equal(b[len(b)-1-end].value) {
		end++
	}
	n, m := len(a)-start-end, len(b)-start-end
	if n > 0 && m > 0 && n*m <= 1<<16 {
		// Longest common subsequence of the middle.
		length := make([][]int, n+1)
		for i := range length {
			length[i] = make([]int, m+1)
		}
		same := func(i, j int) bool { return a[start+i].value.equal(b[start+j].value) }
		for i := n - 1; i >= 0; i-- {
			for j := m - 1; j >= 0; j-- {
				if same(i, j) {
					length[i][j] = length[i+1][j+1] + 1
				} else {
					length[i][j] = max(length[i+1][j], length[i][j+1])
				}
			}
		}
		for i, j := 0, 0; i < n && j < m; {
			switch {
			case same(i, j):
				pairs = append(pairs, [2]int{start + i, start + j})
				i, j = i+1, j+1
			case length[i+1][j] >= length[i][j+1]:
				i++
			default:
				j++
			}
		}
	}
	for i := end; i > 0; i-- {
		pairs = append(pairs, [2]int{len(a) - i, len(b) - i})
	}
	return pairs
}

// inner is how members of d are indented, and whether each is on its own line.
func (s style) inner(d *value, indent string) (string, bool) {
	if len(d.members) > 0 {
		if in, lines := indentOf(d.members[0].lead); lines {
			return in, true
		}
		return indent, false
	}
	return indent + s.unit, s.lines
}

// space puts white space between the members of out, which came from d.
func (s style) space(out, d *value, indent, inner string, lines bool) {
	if len(out.members) == 0 {
		return
	}
	first, next, last := "", s.comma, ""
	if lines {
		first, next, last = "\n"+inner, "\n"+inner, "\n"+indent
	}
	if n := len(d.members); n > 0 {
		first, last = d.members[0].lead, d.members[n-1].trail
		if n > 1 {
			next = d.members[1].lead
		}
	}
	for i := range out.members {
		m := &out.members[i]
		if i == 0 {
			m.lead = first
		} else if m.place <= 1 { // new, or it was first
			m.lead = next
		}
		if i == len(out.members)-1 {
			m.trail = last
		} else if m.place == 0 || m.place == len(d.members) {
			m.trail = ""
		}
	}
}

// fresh writes v, which has no white space, in this style.
func (s style) fresh(v *value, indent string, lines bool) *value {
	if v.kind == 0 {
		return v
	}
	out := &value{kind: v.kind}
	inner := indent + s.unit
	for _, m := range v.members {
		if v.kind == '{' && m.value.null() {
			continue // absent, to every reader of these documents
		}
		m.value = s.fresh(m.value, inner, lines)
		m.lead, m.trail, m.place = "", "", 0
		if v.kind == '{' {
			m.rawKey, m.colon = quote(m.key), s.colon
		}
		switch {
		case lines:
			m.lead = "\n" + inner
		case len(out.members) > 0:
			m.lead = s.comma
		}
		out.members = append(out.members, m)
	}
	if lines && len(out.members) > 0 {
		out.tail = "\n" + indent
	}
	return out
}

// quote writes a JSON string as documents have it: <, > and & stay.
func quote(text string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a buffer takes everything, and text encodes
	return strings.TrimSuffix(b.String(), "\n")
}
