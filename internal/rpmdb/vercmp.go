package rpmdb

import (
	"cmp"
	"strings"
)

// CompareVersions gives the order of two versions or releases, -1, 0 or 1, as
// RPM has it: runs of digits and of letters are compared in turn, numbers above
// letters; "~" sorts before the end ("1.0~rc1" is older than "1.0"), "^" after
// it but before anything else ("1.0^git1" is between "1.0" and "1.0.1"); other
// characters only separate. Versions that differ may be equal: "1.0" and "1_0".
func CompareVersions(a, b string) int {
	for a != "" || b != "" {
		a, b = skipSeparators(a), skipSeparators(b)
		ta, tb := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~")
		ca, cb := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^")
		switch {
		case ta && tb, ca && cb:
			a, b = a[1:], b[1:]
			continue
		case ta:
			return -1
		case tb:
			return 1
		case ca && b == "":
			return 1
		case cb && a == "":
			return -1
		case ca:
			return -1
		case cb:
			return 1
		}
		if a == "" || b == "" {
			break
		}
		kind := isLetter
		if isDigit(a[0]) {
			kind = isDigit
		}
		var x, y string
		x, a = leading(a, kind)
		y, b = leading(b, kind)
		switch number := isDigit(x[0]); {
		case y == "" && number:
			return 1
		case y == "":
			return -1
		case number:
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Compare(len(x), len(y)); c != 0 {
				return c
			}
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(min(len(a), 1), min(len(b), 1))
}

// CompareEVR compares epochs (decimal, "" is 0), then versions, then releases.
func CompareEVR(epoch1, version1, release1, epoch2, version2, release2 string) int {
	return cmp.Or(CompareVersions(cmp.Or(epoch1, "0"), cmp.Or(epoch2, "0")),
		CompareVersions(version1, version2), CompareVersions(release1, release2))
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func skipSeparators(s string) string {
	for s != "" && !isDigit(s[0]) && !isLetter(s[0]) && s[0] != '~' && s[0] != '^' {
		s = s[1:]
	}
	return s
}

func leading(s string, kind func(byte) bool) (head, tail string) {
	i := 0
	for i < len(s) && kind(s[i]) {
		i++
	}
	return s[:i], s[i:]
}
