package yamlsize_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/yamlsize"
)

// bomb has nine times nine times … of a text.
func bomb(levels int) string {
	text := "a0: &a0 text\n"
	for i := range levels {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	return text
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for name, tc := range map[string]struct{ text, want string }{
		"empty":              {"", ""},
		"no aliases":         {"a: " + long + "\n", ""},
		"no YAML":            {"a: [\n", ""},
		"words":              {"a: x && *.y\nb: R&D 2*3 *\nc: 'a*b &c'\n", ""},
		"not quite YAML":     {"a: &x [*x\n\n}", "yaml: line 2: did not find expected"},
		"an alias":           {"a: &a {b: c}\nd: *a\ne: {<<: *a}\n", ""},
		"some of a lot":      {"a: &a " + long + "\nb: [*a, *a, *a, *a]\n", ""},
		"a lot of a lot":     {"a: &a " + long + "\nb: [" + strings.Repeat("*a,", 1000) + "]\n", "repeat too much"},
		"without blanks":     {`{"a":&a "` + long + `","b":[` + strings.Repeat("*a,", 1000) + "]}", "repeat too much"},
		"a key":              {"a: &a " + long + "\nb: [" + strings.Repeat("{? *a : 1},", 1000) + "]\n", "repeat too much"},
		"merged":             {"a: &a {b: " + long + "}\nc: [" + strings.Repeat("{<<: *a},", 1000) + "]\n", "repeat too much"},
		"a list often":       {"a: &a [" + strings.Repeat("{},", 300) + "]\nb: [" + strings.Repeat("*a,", 90) + "]\n", "repeat too much"},
		"small levels":       {bomb(3), ""},
		"levels":             {bomb(9), "repeat too much"},
		"many levels":        {bomb(200), "repeat too much"},
		"itself":             {"a: &a [*a]\n", `line 1: "a" contains itself`},
		"itself further off": {"a: &a {b: &b [*a]}\n", "contains itself"},
		"same name twice":    {"a: &a x\nb: &a [*a]\nc: *a\n", "contains itself"},
		"only the first":     {"a: &a x\nb: *a\n---\n" + bomb(9), ""},
		"UTF-16":             {utf16("a: &a [*a]\n"), "contains itself"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fuzzbound.Parse(t, 1024, func(text string) (bool, error) { return true, yamlsize.Check([]byte(text)) }, tc.text)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func utf16(text string) string {
	out := "\xff\xfe"
	for _, c := range text {
		out += string(c) + "\x00"
	}
	return out
}

// FuzzCheck: what passes becomes JSON of a bounded size.
func FuzzCheck(f *testing.F) {
	for _, text := range []string{
		"a: &a {b: c}\nd: *a\ne: {<<: *a}\n", bomb(3), bomb(9), utf16(bomb(2)), "a: &a [*a]\n", "- &a x\n- ? *a\n  : &b\n- !!str &c y\n- *b\n- *c\n# *d &d\n",
		"s: &s " + strings.Repeat("x", 2000) + "\na: [" + strings.Repeat("*s,", 100) + "]\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var err error
		fuzzbound.Linear(t, len(data), 2048, func() { err = yamlsize.Check(data) })
		if err != nil {
			return
		}
		text, err := yaml.YAMLToJSON(data)
		if err != nil {
			return
		}
		// A byte has up to six in JSON, and a number up to twenty-four.
		require.LessOrEqual(t, len(text), 6*(16*len(data)+64<<10))
	})
}
