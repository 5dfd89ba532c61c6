package payload

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// placeholder is what an operator's manifests have in place of an image.
type placeholder struct {
	text     string
	tag      string
	pullspec string // what takes its place
}

// placeholders reads an operator's image-references. Those whose tag is not
// in the payload are an error or, if allowMissing, left as they are.
func placeholders(local *ImageStream, payload []Tag, allowMissing bool) ([]placeholder, error) {
	known := make(map[string]string, len(payload))
	for _, tag := range payload {
		known[tag.Name] = tag.Pullspec
	}
	var out []placeholder
	seen := map[string]string{}
	for _, tag := range local.Tags {
		if tag.Kind != dockerImage {
			continue
		}
		if tag.Pullspec == "" {
			return nil, fmt.Errorf("image-references: tag %q has no from.name", tag.Name)
		}
		spec := known[tag.Name]
		if spec == "" {
			if allowMissing {
				continue
			}
			return nil, fmt.Errorf("image-references: no image named %q in the payload", tag.Name)
		}
		if other, ok := seen[tag.Pullspec]; ok {
			return nil, fmt.Errorf("image-references: %q and %q have the same placeholder %q", other, tag.Name, tag.Pullspec)
		}
		seen[tag.Pullspec] = tag.Name
		out = append(out, placeholder{tag.Pullspec, tag.Name, spec})
	}
	// The longest first, so that of repo and repo:tag the latter matches.
	slices.SortFunc(out, func(a, b placeholder) int {
		return cmp.Or(cmp.Compare(len(b.text), len(a.text)), strings.Compare(a.text, b.text))
	})
	return out, nil
}

// compatibleImages replaces placeholders by oc's grammar: a non-word character
// or the start; the placeholder; a tag or a digest, if any; a space, a quote or
// the end. What stands before and after belongs to the match and stays.
func compatibleImages(list []placeholder) (func([]byte) []byte, error) {
	if len(list) == 0 {
		return func(data []byte) []byte { return data }, nil
	}
	specs := map[string]string{}
	quoted := make([]string, len(list))
	for i, p := range list {
		specs[p.text] = p.pullspec
		quoted[i] = regexp.QuoteMeta(p.text)
	}
	re, err := regexp.Compile(`(\W|^)(` + strings.Join(quoted, "|") + `)` +
		`(?::\w[\w.-]{0,127}|@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[[:xdigit:]]{2,})?([\s"']|$)`)
	if err != nil {
		return nil, err
	}
	return func(data []byte) []byte {
		if !slices.ContainsFunc(list, func(p placeholder) bool { return bytes.Contains(data, []byte(p.text)) }) {
			return data
		}
		var out []byte
		done := 0
		for _, m := range re.FindAllSubmatchIndex(data, -1) {
			out = append(out, data[done:m[3]]...) // through the leading character
			out = append(out, specs[string(data[m[4]:m[5]])]...)
			done = m[6] // from the trailing character
		}
		if done == 0 {
			return data
		}
		return append(out, data[done:]...)
	}, nil
}

// strictImages replaces placeholders wherever they stand as a whole image
// reference: with a tag, a digest, both or none, between any characters that
// are not part of a reference. left are the offsets of references to a
// placeholder that cannot be replaced, such as repo:$(TAG).
func strictImages(data []byte, list []placeholder) (out []byte, left []int) {
	s := newScanner(data, list)
	done := 0
	for {
		i, start, ok := s.next()
		if !ok {
			break
		}
		end, whole := referenceEnd(data, start+len(list[i].text))
		if !whole {
			left = append(left, start)
			continue
		}
		out = append(out, data[done:start]...)
		out = append(out, list[i].pullspec...)
		done = end
		s.skip(end)
	}
	if done == 0 {
		return data, left
	}
	return append(out, data[done:]...), left
}

// scanner finds where placeholders stand as the name of an image, in order of
// position, and of several at one position the first in the list. Placeholders
// with the same start are looked for together, because those of a payload
// mostly have one.
type scanner struct {
	data   []byte
	list   []placeholder
	groups []group
}

type group struct {
	start   string
	members []int
	at      int // next occurrence, len(data) if none
}

const groupStart = 6

func newScanner(data []byte, list []placeholder) *scanner {
	s := &scanner{data: data, list: list}
	index := map[string]int{}
	for i, p := range list {
		start := p.text[:min(len(p.text), groupStart)]
		n, ok := index[start]
		if !ok {
			n = len(s.groups)
			index[start] = n
			s.groups = append(s.groups, group{start: start})
		}
		s.groups[n].members = append(s.groups[n].members, i)
	}
	// Only starts shorter than the others can be where another is.
	slices.SortStableFunc(s.groups, func(a, b group) int { return cmp.Compare(len(b.start), len(a.start)) })
	for i := range s.groups {
		s.find(&s.groups[i], 0)
	}
	return s
}

func (s *scanner) find(g *group, from int) {
	g.at = len(s.data)
	if from < len(s.data) {
		if n := bytes.Index(s.data[from:], []byte(g.start)); n >= 0 {
			g.at = from + n
		}
	}
}

func (s *scanner) skip(to int) {
	for i := range s.groups {
		if s.groups[i].at < to {
			s.find(&s.groups[i], to)
		}
	}
}

func (s *scanner) next() (index, start int, ok bool) {
	for {
		var g *group
		start = len(s.data)
		for i := range s.groups {
			if s.groups[i].at < start {
				g, start = &s.groups[i], s.groups[i].at
			}
		}
		if g == nil {
			return 0, 0, false
		}
		s.find(g, start+1)
		if !startsReference(s.data, start) {
			continue
		}
		for _, i := range g.members {
			text := s.list[i].text
			if len(text) <= len(s.data)-start && string(s.data[start:start+len(text)]) == text && endsName(s.data, start+len(text)) {
				return i, start, true
			}
		}
	}
}

// startsReference: what stands before is not part of a reference that starts
// earlier. A double slash ends a transport (docker://).
func startsReference(data []byte, start int) bool {
	if start == 0 {
		return true
	}
	switch c := data[start-1]; c {
	case '/':
		return start > 1 && data[start-2] == '/'
	case '.', '-', '@':
		return false
	default:
		return !isWord(c)
	}
}

// endsName: the name of the repository (or the tag, if the placeholder has
// one) does not go on.
func endsName(data []byte, end int) bool {
	if end == len(data) {
		return true
	}
	switch c := data[end]; c {
	case '/':
		return false
	case '.', '-':
		return end+1 == len(data) || !isWord(data[end+1]) && data[end+1] != c
	default:
		return !isWord(c)
	}
}

// referenceEnd finds the end of a reference whose name ends at end: behind its
// tag and digest. whole is false where something else follows that belongs to
// it, such as a variable.
func referenceEnd(data []byte, end int) (next int, whole bool) {
	if end+1 < len(data) && data[end] == ':' && isWord(data[end+1]) {
		for end++; end < len(data) && (isWord(data[end]) || data[end] == '.' || data[end] == '-'); end++ {
		}
		for data[end-1] == '.' || data[end-1] == '-' { // the end of a sentence
			end--
		}
	}
	if n := digestLength(data[end:]); n > 0 {
		end += n
	}
	after := data[end:]
	if len(after) > 0 && strings.IndexByte(":@.-/", after[0]) >= 0 {
		after = after[1:]
		if len(after) > 0 && (isWord(after[0]) || after[0] == '/') {
			return end, false
		}
	}
	if len(after) > 0 && strings.IndexByte("$%({", after[0]) >= 0 {
		return end, false
	}
	if end < len(data) && (isWord(data[end]) || data[end] == '/') {
		return end, false
	}
	return end, true
}

// digestLength is the length of "@algorithm:hex" at the start of data, 0 if
// there is none.
func digestLength(data []byte) int {
	if len(data) == 0 || data[0] != '@' {
		return 0
	}
	i := 1
	for i < len(data) && (isWord(data[i]) && data[i] != '_' || strings.IndexByte("-_+.", data[i]) >= 0) {
		i++
	}
	if i == 1 || i == len(data) || data[i] != ':' {
		return 0
	}
	i++
	start := i
	for i < len(data) && isHex(data[i]) {
		i++
	}
	if i-start < 32 || i < len(data) && isWord(data[i]) {
		return 0
	}
	return i
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// unpinned gives the offsets where a reference to one of the names stands
// without a digest. With tagged, only those that have a tag count.
func unpinned(data []byte, names []placeholder, tagged bool) []int {
	var out []int
	s := newScanner(data, names)
	for {
		i, start, ok := s.next()
		if !ok {
			return out
		}
		end := start + len(names[i].text)
		hasTag := false
		if end+1 < len(data) && data[end] == ':' && (isWord(data[end+1]) || data[end+1] == '$') {
			hasTag = true
			for end++; end < len(data) && (isWord(data[end]) || data[end] == '.' || data[end] == '-'); end++ {
			}
		}
		if digestLength(data[end:]) == 0 && (hasTag || !tagged) {
			out = append(out, start)
		}
	}
}

// lineAt is the line of an offset, from 1.
func lineAt(data []byte, offset int) int {
	return 1 + bytes.Count(data[:min(offset, len(data))], []byte("\n"))
}
