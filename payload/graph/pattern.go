package graph

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// compile is regexp.Compile with a bound: few bytes of a pattern, such as x{1000},
// can be as much as many of others. One that names many versions may be as long as
// they are.
func compile(pattern string, limit int) (*regexp.Regexp, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	limit = max(limit, 2*len(pattern))
	if n := patternSize(re); n > limit {
		return nil, fmt.Errorf("pattern %.80q is like one of %d characters, limit %d", pattern, n, limit)
	}
	return regexp.Compile(pattern)
}

// patternSize is about how many instructions a pattern becomes. The parser
// bounds it at some millions.
func patternSize(re *syntax.Regexp) int {
	n := 1
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += patternSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return n
}
