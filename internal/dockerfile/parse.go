package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Limits of a file. Real ones have a few kilobytes and ten stages at most.
const (
	MaxSize         = 1 << 20 // bytes
	maxInstructions = 10_000
	maxStages       = 200
	maxValue        = 4096      // bytes of a word after expansion
	maxExpanded     = 256 << 10 // bytes of variables in all words together
)

// File is a Dockerfile.
type File struct {
	args   []instruction // ARG before the first FROM
	stages []stage
	escape byte
}

type stage struct {
	name  string // "": it has none
	image string // as written
	from  instruction
	rest  []instruction
}

// instruction is one with its flags. raw is its text with here documents and the
// line breaks at the end, of which text has the words after the name.
type instruction struct {
	name  string // capital letters
	flags []excerpt
	text  string
	raw   string
	parts []part
	line  int
}

// excerpt is a part of an instruction's line, which is what its continued lines
// are together, and where it is in it.
type excerpt struct {
	text string
	at   int
}

// part is what one line of raw, which begins at so many bytes, adds to the
// instruction's line.
type part struct{ at, raw, size int }

// place is where an excerpt is in raw; false: a line ends within it.
func (in *instruction) place(e excerpt) (int, bool) {
	for _, p := range in.parts {
		if e.at >= p.at && e.at+len(e.text) <= p.at+p.size {
			return p.raw + e.at - p.at, true
		}
	}
	return 0, false
}

// Parse reads a file. Errors name the line.
func Parse(text []byte) (*File, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("dockerfile of %d bytes, limit %d", len(text), MaxSize)
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, errors.New("dockerfile has a zero byte")
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	f := &File{escape: '\\'}
	list, err := f.instructions(string(text))
	if err != nil {
		return nil, err
	}
	for n, in := range list {
		switch {
		case in.name == "FROM":
			s, err := fromStage(in)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", in.line, err)
			}
			if f.stages = append(f.stages, s); len(f.stages) > maxStages {
				return nil, fmt.Errorf("line %d: more than %d stages", in.line, maxStages)
			}
		case len(f.stages) > 0:
			s := &f.stages[len(f.stages)-1]
			s.rest = list[n-len(s.rest) : n+1]
		case in.name == "ARG":
			f.args = list[:n+1]
		default:
			return nil, fmt.Errorf("line %d: %.40s before the first FROM", in.line, in.name)
		}
	}
	if len(f.stages) == 0 {
		return nil, errors.New("dockerfile without FROM")
	}
	return f, nil
}

func fromStage(in instruction) (stage, error) {
	words := strings.Fields(in.text)
	s := stage{from: in}
	switch {
	case len(words) == 1:
	case len(words) == 3 && strings.EqualFold(words[1], "as"):
		s.name = strings.ToLower(words[2])
		if !stageName.MatchString(s.name) {
			return stage{}, fmt.Errorf("%.200q is not the name of a stage, which has letters, digits, dots, - and _", words[2])
		}
		if _, err := strconv.Atoi(s.name); err == nil {
			return stage{}, fmt.Errorf("%.200q is the number of a stage and can't be the name of another", words[2])
		}
	default:
		return stage{}, fmt.Errorf("%.200q is not FROM IMAGE [AS NAME]", in.text)
	}
	s.image = words[0]
	return s, nil
}

var (
	directive = lazyregexp.New(`^#[ \t]*([A-Za-z]+)[ \t]*=[ \t]*(.*?)[ \t\r]*$`)
	heredoc   = lazyregexp.New(`^[0-9]*<<(-?)(?:"([A-Za-z0-9_.]+)"|'([A-Za-z0-9_.]+)'|([A-Za-z0-9_.]+))$`)
	stageName = lazyregexp.New(`^[a-z0-9_.-]+$`)
	word      = lazyregexp.New(`^[A-Za-z]+$`)
)

// instructions cuts a file into instructions.
func (f *File) instructions(text string) ([]instruction, error) {
	lines := strings.SplitAfter(text, "\n")
	n := 0
	for ; n < len(lines); n++ { // directives come first
		m := directive.FindStringSubmatch(strings.TrimRight(lines[n], "\n"))
		if m == nil {
			break
		}
		if strings.EqualFold(m[1], "escape") {
			if m[2] != `\` && m[2] != "`" {
				return nil, fmt.Errorf("line %d: escape %.10q, not \\ or `", n+1, m[2])
			}
			f.escape = m[2][0]
		}
	}
	list := make([]instruction, 0, min(len(lines)-n, maxInstructions)) // as one that grows takes five times as much
	for n < len(lines) {
		if blank(lines[n]) || comment(lines[n]) {
			n++
			continue
		}
		in := instruction{line: n + 1}
		var joined, raw strings.Builder
		for n < len(lines) {
			line, at := lines[n], raw.Len()
			n++
			raw.WriteString(line)
			if comment(line) || joined.Len() > 0 && blank(line) {
				continue // within an instruction, too
			}
			text := strings.TrimRight(line, " \t\r\n")
			words, goesOn := strings.CutSuffix(text, string(f.escape))
			in.parts = append(in.parts, part{at: joined.Len(), raw: at, size: len(words)})
			joined.WriteString(words)
			if !goesOn {
				break
			}
		}
		if err := in.split(joined.String()); err != nil {
			return nil, fmt.Errorf("line %d: %w", in.line, err)
		}
		for _, doc := range in.heredocs() {
			ended := false
			for n < len(lines) && !ended {
				raw.WriteString(lines[n])
				ended = doc.ends(lines[n])
				n++
			}
			if !ended {
				return nil, fmt.Errorf("line %d: here document without its end %.100q", in.line, doc.end)
			}
		}
		in.raw = raw.String()
		if len(list) == maxInstructions {
			return nil, fmt.Errorf("line %d: more than %d instructions", in.line, maxInstructions)
		}
		list = append(list, in)
	}
	return list, nil
}

func blank(line string) bool { return strings.TrimSpace(line) == "" }

func comment(line string) bool { return strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") }

// split finds the name, the flags and the rest.
func (in *instruction) split(line string) error {
	line = strings.TrimRightFunc(strings.ReplaceAll(line, "\t", " "), unicode.IsSpace)
	name, rest, _ := strings.Cut(strings.TrimLeftFunc(line, unicode.IsSpace), " ")
	if !word.MatchString(name) {
		return fmt.Errorf("%.40q is not an instruction", name)
	}
	in.name = strings.ToUpper(name)
	for rest = strings.TrimLeft(rest, " "); strings.HasPrefix(rest, "--"); rest = strings.TrimLeft(rest, " ") {
		flag := excerpt{at: len(line) - len(rest)}
		flag.text, rest, _ = strings.Cut(rest, " ")
		in.flags = append(in.flags, flag)
	}
	in.text = rest
	return nil
}

// flag gives the values of a flag.
func (in *instruction) flag(name string) []excerpt {
	var values []excerpt
	for _, f := range in.flags {
		if v, ok := f.after("--" + name + "="); ok {
			values = append(values, v)
		}
	}
	return values
}

// after is what follows a prefix; false: e does not begin so.
func (e excerpt) after(prefix string) (excerpt, bool) {
	text, ok := strings.CutPrefix(e.text, prefix)
	return excerpt{text, e.at + len(e.text) - len(text)}, ok
}

// split cuts e at each comma.
func (e excerpt) split() []excerpt {
	var list []excerpt
	for text := range strings.SplitSeq(e.text, ",") {
		list = append(list, excerpt{text, e.at})
		e.at += len(text) + 1
	}
	return list
}

type document struct {
	end  string
	tabs bool // that stand before the end are no part of it
}

func (d document) ends(line string) bool {
	line = strings.TrimRight(line, "\r\n")
	if d.tabs {
		line = strings.TrimLeft(line, "\t")
	}
	return line == d.end
}

// heredocs are the here documents that an instruction announces.
func (in *instruction) heredocs() []document {
	if in.name != "RUN" && in.name != "COPY" && in.name != "ADD" {
		return nil
	}
	var list []document
	for _, w := range strings.Fields(in.text) {
		if m := heredoc.FindStringSubmatch(w); m != nil {
			list = append(list, document{end: m[2] + m[3] + m[4], tabs: m[1] == "-"})
		}
	}
	return list
}
