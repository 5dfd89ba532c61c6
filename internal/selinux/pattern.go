package selinux

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"
)

// pattern is a regular expression: what it begins with, and the rest.
type pattern struct {
	prefix string         // literal bytes
	rest   *syntax.Regexp // nil: nothing more
	exact  bool           // without special characters: goes before those that have some
	within string         // what a path must begin with for it to count; "": nothing more than prefix
}

// special are the characters for which libselinux takes a pattern to be more
// than a path. A backslash takes the next character's meaning.
const special = ".^$?*+|[({"

// parsePattern reads a pattern. Of what Perl has, it knows what Go's regexp does
// the same way.
func parsePattern(text string) (pattern, error) {
	if len(text) > maxPattern {
		return pattern{}, fmt.Errorf("%d bytes, at most %d", len(text), maxPattern)
	}
	p := pattern{exact: !hasSpecial(text)}
	whole := text
	// libselinux puts these around each pattern: there they say nothing.
	text = strings.TrimLeft(text, "^")
	for strings.HasSuffix(text, "$") && !escaped(text, len(text)-1) {
		text = text[:len(text)-1]
	}
	if err := check(text); err != nil {
		return p, err
	}
	var rest string
	p.prefix, rest = cutLiteral(text)
	// libselinux files a pattern under its first component, if a slash ends it,
	// and looks there only for what is below: /usr/? is not for /usr.
	if i := strings.IndexByte(whole[min(1, len(whole)):], '/') + 1; i > 1 && !strings.ContainsAny(whole[:i], special+`\`) && len(p.prefix) <= i {
		p.within = p.prefix + "/"
	}
	if rest == "" {
		return p, nil
	}
	var err error
	if p.rest, err = syntax.Parse(rest, syntax.Perl|syntax.DotNL); err != nil {
		return p, fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	return p, nil
}

// hasSpecial reports whether a character of [special] is in a pattern.
func hasSpecial(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' {
			i++
		} else if strings.IndexByte(special, text[i]) >= 0 {
			return true
		}
	}
	return false
}

// escaped reports whether an odd number of backslashes is before text[at].
func escaped(text string, at int) bool {
	n := 0
	for at > n && text[at-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errors.ErrUnsupported)...)
}

// check refuses what Go's regexp can't do, or does otherwise.
func check(text string) error {
	depth := 0
	for i := 0; i < len(text); i++ {
		rest := text[i:]
		switch text[i] {
		case '\\':
			if err := checkEscape(rest); err != nil {
				return err
			}
			i++
		case '[':
			n, err := checkClass(rest)
			if err != nil {
				return err
			}
			i += n - 1
		case '(':
			if strings.HasPrefix(rest, "(?") && !strings.HasPrefix(rest, "(?:") {
				return unsupported("group %.4q", rest)
			}
			depth++
		case ')':
			depth--
		case '|':
			if depth == 0 {
				return unsupported("alternatives outside of parentheses")
			}
		case '^', '$':
			return unsupported("anchor %q inside the pattern", text[i])
		case '{':
			if strings.HasPrefix(rest, "{,") { // means one thing or another by the release
				return unsupported("repetition without lower limit")
			}
		}
	}
	return nil
}

// checkEscape checks the escape that text begins with.
func checkEscape(text string) error {
	if len(text) < 2 {
		return unsupported("backslash at its end")
	}
	switch c := text[1]; {
	case strings.IndexByte("dDwW", c) >= 0, !isWord(c):
		return nil
	default:
		return unsupported("escape %q", text[:2])
	}
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// checkClass checks the character class that text begins with and gives its length.
func checkClass(text string) (int, error) {
	i := 1
	if strings.HasPrefix(text[i:], "^") {
		i++
	}
	if strings.HasPrefix(text[i:], "]") {
		i++
	}
	for i < len(text) && text[i] != ']' {
		switch {
		case text[i] == '\\':
			if err := checkEscape(text[i:]); err != nil {
				return 0, err
			}
			i += 2
		case strings.HasPrefix(text[i:], "[:"):
			end := strings.Index(text[i:], ":]")
			if end < 0 {
				return 0, unsupported("class name without end")
			}
			i += end + 2
		default:
			i++
		}
	}
	if i >= len(text) {
		return 0, errors.New("character class without end")
	}
	return i + 1, nil
}

// cutLiteral splits a checked pattern after the bytes that stand for themselves.
func cutLiteral(text string) (literal, rest string) {
	var b strings.Builder
	for text != "" {
		n := 1
		if text[0] == '\\' {
			n = 2
		}
		if n == 1 && strings.IndexByte(special+")", text[0]) >= 0 || n == 2 && isWord(text[1]) ||
			len(text) > n && strings.IndexByte("?*+{", text[n]) >= 0 {
			break
		}
		b.WriteByte(text[n-1])
		text = text[n:]
	}
	return b.String(), text
}
