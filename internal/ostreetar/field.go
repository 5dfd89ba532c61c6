package ostreetar

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// fieldSize is the length of a header's name and link fields.
const fieldSize = 100

// putPath copies path into field one component at a time, each followed by a
// NUL that the next one overwrites, and reports whether all of it fitted. What
// was copied before a component that does not fit stays, and so do the bytes
// after the last NUL: the reference leaves them too, and diff IDs depend on
// both. A name loses its "." components; a link target keeps a leading one.
func putPath(field *[fieldSize]byte, path string, link bool) bool {
	at := 0
	put := func(s string) bool {
		if len(s) > fieldSize-at {
			return false
		}
		at += copy(field[at:], s)
		if at < fieldSize {
			field[at] = 0
		}
		return true
	}
	if link && len(path) > 0 && path[0] == '/' && !put("/") {
		return false
	}
	// A lone "." is kept, as in "./", the root.
	lone := onlyDot(path)
	first, slash := !strings.HasPrefix(path, "/"), false
	for rest := path; rest != ""; {
		var part string
		part, rest = cut(rest)
		if part == "" {
			continue
		}
		if part == "." && !lone && (!first || !link) {
			first = false
			continue
		}
		first = false
		if slash && !put("/") {
			return false
		}
		if !put(part) {
			return false
		}
		slash = true
	}
	if len(path) > 0 && path[len(path)-1] == '/' {
		return put("/")
	}
	return true
}

// onlyDot reports whether "." is the only component of path.
func onlyDot(path string) bool {
	found := false
	for rest := path; rest != ""; {
		var part string
		part, rest = cut(rest)
		switch part {
		case "":
		case ".":
			found = true
		default:
			return false
		}
	}
	return found
}

// cut splits off what comes before the first slash.
func cut(path string) (part, rest string) {
	for i := range len(path) {
		if path[i] == '/' {
			return path[:i], path[i+1:]
		}
	}
	return path, ""
}

// putName sets a name field and reports whether the whole name is in it. If
// not, an L entry must carry it, and the field gets its first 100 bytes, cut
// back to whole UTF-8 sequences.
func putName(field *[fieldSize]byte, path string) bool {
	if putPath(field, path, false) {
		return true
	}
	head := path[:min(len(path), fieldSize)]
	for i := 0; i < len(head); {
		r, n := utf8.DecodeRuneInString(head[i:])
		if r == utf8.RuneError && n <= 1 {
			head = head[:i]
			break
		}
		i += n
	}
	putPath(field, head, false)
	return false
}

// putTarget sets the link field of a symbolic link and reports whether the
// whole target is in it. If not, a K entry must carry it and the field keeps
// the components that fitted. A target that does fit is copied as it is but for
// Compat, see the package comment.
func (t *Writer) putTarget(field *[fieldSize]byte, target string) bool {
	if len(target) > fieldSize || t.Compat && !strings.Contains(target, "//") {
		return putPath(field, target, true)
	}
	copy(field[:], target)
	return true
}

// number writes v as zero-padded octal digits and a NUL, or, where it does not
// fit, as a big-endian binary number with the highest bit set (GNU base-256).
func number(field []byte, v uint64) {
	digits := len(field) - 1
	if v>>(3*digits) == 0 {
		octal(field, v)
		return
	}
	for i := len(field) - 1; i >= 0; i-- {
		field[i] = byte(v)
		v >>= 8
	}
	field[0] |= 0x80
}

// octal writes v as octal digits that fill field but for a final NUL.
func octal(field []byte, v uint64) {
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = byte('0' + v&7)
		v >>= 3
	}
	field[len(field)-1] = 0
}

// paxRecord appends "LENGTH KEY=VALUE\n", whose length counts its own digits.
func paxRecord(dst []byte, key string, value []byte) []byte {
	rest := len(key) + len(value) + len(" =\n")
	n := rest + digits(rest)
	if rest+digits(n) != n {
		n = rest + digits(n)
	}
	dst = fmt.Appendf(dst, "%d %s=", n, key)
	dst = append(dst, value...)
	return append(dst, '\n')
}

func digits(n int) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}
