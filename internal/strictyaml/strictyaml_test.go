package strictyaml_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/internal/strictyaml"
)

type file struct {
	Name  string            `yaml:"name"`
	List  []string          `yaml:"list"`
	Map   map[string]string `yaml:"map"`
	Any   any               `yaml:"any"`
	Time  time.Time         `yaml:"time"`
	Inner *struct {
		Number int `yaml:"number"`
	} `yaml:"inner"`
}

func TestUnmarshal(t *testing.T) {
	var f file
	require.NoError(t, strictyaml.Unmarshal([]byte("# first\n---\nname: a\nlist:\n- x\n- \"y\"\nmap: {k: v}\nany: [1, {a: b}]\ninner:\n  number: 7\n"), &f))
	require.Equal(t, "a", f.Name)
	require.Equal(t, []string{"x", "y"}, f.List)
	require.Equal(t, map[string]string{"k": "v"}, f.Map)
	require.Equal(t, 7, f.Inner.Number)
	for _, empty := range []string{"", "# nothing\n", "---\n"} {
		f := file{Name: "kept"}
		require.NoError(t, strictyaml.Unmarshal([]byte(empty), &f), "%q", empty)
		require.Equal(t, "kept", f.Name)
	}
	require.NoError(t, strictyaml.UnmarshalKnown([]byte("name: a\nmore: 1\n"), &f))

	for name, test := range map[string]struct{ text, want string }{
		"unknown key":     {"name: a\nmore: 1\n", "[2:1]"},
		"unknown keys":    {"name: a\ninner: {number: 1, z: 1}\nlater: 1\nmore: 1\n", `[2:20] unknown field "z"`},
		"after comments":  {"# a\r\nname: a # b\r\nmore: 1\r\n", "[3:1]"},
		"an unknown map":  {"y: {x: 1}\nx: 1\nw: 1\n", `[1:1] unknown field "y"`},
		"type":            {"name: [a]\n", "[1:7]"},
		"no text":         {"time: {a: 1}\n", "[1:7] cannot unmarshal"},
		"syntax":          {"name: a\n  b: c\n", "[1:7]"},
		"twice":           {"name: a\nname: b\n", "[2:1]"},
		"second document": {"name: a\n---\nname: b\n", "a second document"},
		"anchor":          {"name: &a x\n", "[1:7] an anchor"},
		"alias":           {"name: *a\n", "alias"},
		"tag":             {"list: !x \n", "[1:7] a tag"},
		"merge key":       {"map:\n  <<: {a: b}\n", "[2:3] a merge key"},
		"deep":            {"any: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "[1:38] nested deeper"},
		"deep in blocks":  {"any:\n  " + strings.Repeat("- ", 40), "nested deeper"},
		"deep in keys":    {strings.Repeat("? ", 40) + "a", "nested deeper"},
		"deep in lines":   {deepLines(33), "nested deeper"},
		"deep in both":    {strings.Replace(deepLines(20), "a:\n", "any:\n", 1) + strings.Repeat(" ", 20) + strings.Repeat("[", 13) + strings.Repeat("]", 13), "nested deeper"},
		"long line":       {"any: " + strings.Repeat("]", 9000), "[1:6] could not find '['"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, strictyaml.Unmarshal([]byte(test.text), &file{}), test.want)
		})
	}
}

func deepLines(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// TestHostileIsCheap: what is refused for its depth or is a fault in a long line
// costs no more than its size.
func TestHostileIsCheap(t *testing.T) {
	const n = 60000
	for name, text := range map[string]string{
		"open": "any: " + strings.Repeat("[", n), "closed": "any: " + strings.Repeat("]", n), "maps": strings.Repeat("{a: ", n),
		"blocks": strings.Repeat("- ", n), "keys": strings.Repeat("? ", n), "items": "any: [" + strings.Repeat("1,", n), "unknown": "more: [" + strings.Repeat("1,", n) + "1]",
	} {
		t.Run(name, func(t *testing.T) {
			fuzzbound.Linear(t, len(text), 3000, func() { require.Error(t, strictyaml.Unmarshal([]byte(text), &file{})) })
		})
	}
}

func FuzzUnmarshal(f *testing.F) {
	mutants.Add(f,
		"name: a\nlist: [x]\nmap: {k: v}\nany: 1\ninner: {number: 1}\n",
		"list: !000 ",
		"a: &a [*a]",
		"? [a]\n: b\n",
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzbound.Linear(t, len(data), 4096, func() {
			var out file
			_ = strictyaml.Unmarshal(data, &out)
			_ = strictyaml.UnmarshalKnown(data, &out)
		})
	})
}
