package strictyaml_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/strictyaml"
)

// TestSquares: what the parser does in the square of a number has a limit.
func TestSquares(t *testing.T) {
	const n = 60000
	lines := func(count int, format string) string {
		var b strings.Builder
		for i := range count {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, test := range map[string]struct{ text, want string }{
		"empty lines":          {"any: |\n x\n" + strings.Repeat("\n", n), "[3:1] more than 100 empty lines"},
		"blank lines":          {"any: |+\n" + strings.Repeat(" \t \r\n", n/5), "[2:1] more than 100 empty lines"},
		"empty lines of a Mac": {"any: >\n x" + strings.Repeat("\r", n), "[3:1] more than 100 empty lines"},
		"documents":            {strings.Repeat("--- 1\n", n/6), "[11:1] more than 10 marks of documents"},
		"ends":                 {strings.Repeat("a: 1\n...\n", n/9), "more than 10 marks of documents"},
		"keys":                 {lines(n/10, "%x:\n"), "[1001:4] more than 1000 keys in a mapping"},
		"keys without values":  {"any:\n" + lines(n/10, "  ? %x\n"), "[1002:3] more than 1000 keys in a mapping"},
		"keys of an item":      {"any:\n-\n" + lines(n/10, "  %x: 1\n"), "more than 1000 keys in a mapping"},
	} {
		fuzzbound.Linear(t, len(test.text), 3000, func() {
			require.ErrorContains(t, strictyaml.Unmarshal([]byte(test.text), &file{}), test.want, name)
		})
	}
	for name, text := range map[string]string{
		"lines":                "any: |+\n x\n" + strings.Repeat("\n", 99) + " y" + strings.Repeat("\r\n", 100),
		"keys":                 "any:\n" + lines(1000, "  k%d: 1\n"),
		"items":                "any:\n" + lines(2000, "- a: %d\n  b: 1\n"),
		"mappings of a few":    "any:\n" + lines(900, "  k%d:\n    a: 1\n    b: 1\n"),
		"items below a key":    "any:\n" + lines(900, "  k%d:\n  - a: 1\n  - a: 1\n"),
		"mappings on one line": "any: [" + lines(2000, "{k%d: 1},") + "]",
	} {
		require.NoError(t, strictyaml.Unmarshal([]byte(text), &file{}), name)
	}
}
