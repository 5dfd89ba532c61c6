// Package mutants makes other JSON documents out of given ones, which are JSON or
// YAML: with members that are null, missing, doubled, of other types or under
// other keys; and other tar files. Go's fuzzing changes bytes, and seldom gets to
// a document that is right but for one of these. Fuzz targets add them to their seeds.
package mutants

import (
	"bytes"
	"encoding/json"
	"flag"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Env asks for so many changes by chance, others in each run, for a search.
const Env = "OKD_STREAMS_MUTANTS"

const (
	count   = 100     // of those with changes by chance
	single  = 300     // of those with one change, at most
	changes = 4       // by chance, at most
	maxSize = 1 << 16 // bytes of a mutant
)

// Add adds documents as seeds, and mutants of those that are JSON or YAML.
func Add[T ~string | ~[]byte](f *testing.F, docs ...T) {
	f.Helper()
	for doc := range Of(docs...) {
		f.Add([]byte(doc))
	}
}

// Of gives documents, and mutants of those that are JSON or YAML: each value
// missing, null, empty, twice, in a list and under a key in other case, as long as
// these are not too many, and some with changes by chance, the same in each run.
// While Go is fuzzing, which makes its own, there are none.
func Of[T ~string | ~[]byte](docs ...T) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, doc := range docs {
			if !yield(string(doc)) {
				return
			}
		}
		m, n := newMutator()
		for _, doc := range docs {
			m.learn([]byte(doc))
		}
		if len(m.docs) == 0 || fuzzing() {
			return
		}
		singles := m.singles()
		m.rand.Shuffle(len(singles), func(i, j int) { singles[i], singles[j] = singles[j], singles[i] })
		for _, one := range singles[:min(len(singles), single)] {
			if !yield(one()) {
				return
			}
		}
		for range n {
			if !yield(m.mutant()) {
				return
			}
		}
	}
}

// newMutator gives one, and how many mutants it is asked for.
func newMutator() (*mutator, int) {
	n, seed := count, uint64(1)
	if many, err := strconv.Atoi(os.Getenv(Env)); err == nil {
		n, seed = many, rand.Uint64()
	}
	return &mutator{rand: rand.New(rand.NewPCG(seed, 0))}, n
}

func fuzzing() bool {
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != f.DefValue {
			return true
		}
	}
	return false
}

// node is a value; members have keys in an object.
type node struct {
	open    byte // '{', '[', or 0 for a scalar
	scalar  string
	members []member
}

type member struct {
	key   string
	value *node
}

func parse(d *json.Decoder) *node {
	token, err := d.Token()
	if err != nil {
		return nil
	}
	open, ok := token.(json.Delim)
	if !ok {
		return &node{scalar: encode(token)}
	}
	n := &node{open: byte(open)}
	for d.More() {
		var m member
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return nil
			}
			m.key = key.(string)
		}
		if m.value = parse(d); m.value == nil {
			return nil
		}
		n.members = append(n.members, m)
	}
	_, _ = d.Token() // it has been seen
	return n
}

func encode(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // strings, numbers, true, false, nil
	return strings.TrimSpace(b.String())
}

func (n *node) write(b *strings.Builder, space string) {
	if n.open == 0 {
		b.WriteString(n.scalar)
		return
	}
	b.WriteByte(n.open)
	for i, m := range n.members {
		if i > 0 {
			b.WriteString("," + space)
		}
		if n.open == '{' {
			b.WriteString(encode(m.key) + ":" + space)
		}
		m.value.write(b, space)
	}
	b.WriteByte(n.open + 2)
}

func (n *node) clone() *node {
	c := *n
	c.members = slices.Clone(n.members)
	for i := range c.members {
		c.members[i].value = c.members[i].value.clone()
	}
	return &c
}

// walk calls fn for n and all within, with the value that it is a member of.
func (n *node) walk(parent *node, i int, fn func(n, parent *node, i int)) {
	fn(n, parent, i)
	for i, m := range n.members {
		m.value.walk(n, i, fn)
	}
}

type mutator struct {
	rand   *rand.Rand
	docs   []*node
	values []*node
	keys   []string
}

func (m *mutator) learn(doc []byte) {
	if !json.Valid(doc) {
		var err error
		if doc, err = yaml.YAMLToJSON(doc); err != nil {
			return // meant to be neither
		}
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	root := parse(d)
	if root == nil || root.open == 0 {
		return
	}
	m.docs = append(m.docs, root)
	root.walk(nil, 0, func(n, _ *node, _ int) {
		m.values = append(m.values, n)
		for _, member := range n.members {
			m.keys = append(m.keys, member.key)
		}
	})
}

// strange are values that readers trip over.
var strange = []string{
	"[]", "{}", `""`, "0", "-1", "1", "1.50", "1e2", "1e400", "9223372036854775807", "9223372036854775808", "true", "false",
	`"x"`, `" a "`, `"a\nb"`, `"\u0000"`, `"\ud800"`, `"<&>"`, `"\u2028"`, `"../x"`, `"/"`, `"."`, `"%s"`, `"$(X)"`, `"1.2.3"`, `"null"`,
	`"2026-01-02T03:04:05Z"`, `"2026-01-02T03:04:05.123456789+05:30"`, `"9999-12-31T23:59:59-12:00"`, `"https://example.org/x?y=z#f"`,
	`"sha256:` + strings.Repeat("0", 64) + `"`, `"` + strings.Repeat("a", 300) + `"`, "[null]", "[[]]", "[{}]", `{"":null}`, `["a","a"]`,
}

// mixed are what is put into keys and strings.
var mixed = []string{"\x00", " ", "\n", "/", "..", "-", ":", "@", "\"", "\\", "<", "é", "\u2028", "\u212a", "A", "0", "%2F", "$", "=", ",", "#"}

func pick[T any](m *mutator, list []T) T { return list[m.rand.IntN(len(list))] }

func (n *node) text(space string) string {
	var b strings.Builder
	n.write(&b, space)
	return b.String()[:min(b.Len(), maxSize)]
}

func (m *mutator) mutant() string {
	root := pick(m, m.docs).clone()
	for range 1 + m.rand.IntN(changes) {
		root = m.change(root)
	}
	return root.text(pick(m, []string{"", " ", "\n"}))
}

// place is a value of a document, and where it is: the parent of the whole is nil.
type place struct {
	n, parent *node
	i         int
}

func (n *node) places() (all []place) {
	n.walk(nil, 0, func(n, parent *node, i int) { all = append(all, place{n, parent, i}) })
	return all
}

// singles make the documents with one change.
func (m *mutator) singles() (list []func() string) {
	for _, doc := range m.docs {
		for i, at := range doc.places() {
			changes := []func(p place){
				func(p place) { *p.n = node{scalar: "null"} },
				func(p place) { *p.n = node{scalar: `""`} },
				func(p place) { *p.n = node{open: '['} },
				func(p place) { *p.n = node{open: '{'} },
				func(p place) { *p.n = node{open: '[', members: []member{{value: p.n.clone()}}} },
			}
			if at.parent != nil {
				changes = append(changes,
					func(p place) { p.parent.members = slices.Delete(p.parent.members, p.i, p.i+1) },
					func(p place) { p.parent.members = append(p.parent.members, p.parent.members[p.i]) },
					func(p place) { p.parent.members[p.i].key = strings.ToUpper(p.parent.members[p.i].key) },
				)
			}
			for _, change := range changes {
				list = append(list, func() string {
					changed := doc.clone()
					change(changed.places()[i])
					return changed.text("")
				})
			}
		}
	}
	return list
}

// change gives root with one change somewhere.
func (m *mutator) change(root *node) *node {
	at := pick(m, root.places())
	put := func(n *node) {
		if at.parent == nil {
			root = n
		} else {
			at.parent.members[at.i].value = n
		}
	}
	if at.parent != nil {
		members := &at.parent.members
		switch m.rand.IntN(10) {
		case 0:
			*members = slices.Delete(*members, at.i, at.i+1)
			return root
		case 1:
			double := (*members)[at.i]
			double.value = double.value.clone()
			*members = append(*members, double)
			return root
		case 2:
			j := m.rand.IntN(len(*members))
			(*members)[at.i], (*members)[j] = (*members)[j], (*members)[at.i]
			return root
		case 3:
			(*members)[at.i].key = m.other((*members)[at.i].key)
			return root
		case 4:
			if len(m.keys) > 0 {
				(*members)[at.i].key = pick(m, m.keys)
			}
			return root
		}
	}
	switch m.rand.IntN(6) {
	case 0:
		put(&node{scalar: "null"})
	case 1:
		d := json.NewDecoder(strings.NewReader(pick(m, strange)))
		d.UseNumber()
		put(parse(d))
	case 2:
		put(pick(m, m.values).clone())
	case 3:
		put(&node{open: '[', members: []member{{value: at.n}}})
	case 4:
		if more := (member{value: pick(m, m.values).clone()}); at.n.open != 0 {
			if len(m.keys) > 0 {
				more.key = pick(m, m.keys)
			}
			at.n.members = append(at.n.members, more)
		}
	case 5:
		var text string
		if at.n.open == 0 && json.Unmarshal([]byte(at.n.scalar), &text) == nil {
			put(&node{scalar: encode(m.other(text))})
		}
	}
	return root
}

// other gives a text that is a little different.
func (m *mutator) other(s string) string {
	i := m.rand.IntN(len(s) + 1)
	switch m.rand.IntN(5) {
	case 0:
		return s[:i] + pick(m, mixed) + s[i:]
	case 1:
		return strings.ToUpper(s)
	case 2:
		return s[:i]
	case 3:
		return s + s
	}
	if i < len(s) {
		return s[:i] + string(rune(s[i]^0x20)) + s[i+1:]
	}
	return s
}
