package ostree_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// variantTexts are what g_variant_print of GLib 2.74 gives, with the texts that
// g_variant_parse reads as the same.
var variantTexts = []struct{ typ, text, plain, other string }{
	{"s", `'x'`, `'x'`, `"x"`},
	{"s", `"it's"`, `"it's"`, `'it\'s'`},
	{"s", `'a\tb\n\u0001 ü\\'`, `'a\tb\n\u0001 ü\\'`, `"a\tb\n\U00000001 \u00fc\\"`},
	{"b", "true", "true", " true "},
	{"y", "byte 0x0f", "0x0f", "byte 15"},
	{"n", "int16 -5", "-5", "int16 -0x5"},
	{"q", "uint16 5", "5", "uint16 05"},
	{"i", "5", "5", "int32 5"},
	{"h", "handle 5", "5", "@h 5"},
	{"u", "uint32 5", "5", "@u +5"},
	{"x", "int64 -9223372036854775808", "-9223372036854775808", "@x -9223372036854775808"},
	{"t", "uint64 18446744073709551615", "18446744073709551615", "@t 18446744073709551615"},
	{"d", "1.0", "1.0", "double 1"},
	{"d", "0.10000000000000001", "0.10000000000000001", "0.1"},
	{"d", "1e+100", "1e+100", "1e100"},
	{"o", "objectpath '/a'", "'/a'", "@o '/a'"},
	{"g", "signature 'a{sv}'", "'a{sv}'", "@g 'a{sv}'"},
	{"ay", `b'abc'`, `b'abc'`, `[byte 0x61, 0x62, 0x63, 0]`},
	{"ay", `b"it's \"\\\001\n"`, `b"it's \"\\\001\n"`, `b'it\'s "\\\1\n'`},
	{"ay", "[byte 0x61, 0x00, 0x62]", "[0x61, 0x00, 0x62]", "[97, byte 0, 98]"},
	{"ay", "@ay []", "[]", "@ay []"},
	{"as", "@as []", "[]", "@as []"},
	{"as", "['a', 'b']", "['a', 'b']", "@as ['a','b']"},
	{"a{sv}", "@a{sv} {}", "{}", "@a{sv} {}"},
	{"a{sv}", "{'x': <'y'>, 'n': <int64 -1>}", "{'x': <'y'>, 'n': <int64 -1>}", "@a{sv} {'x':<'y'>,'n':<int64 -1>}"},
	{"a{ux}", "{uint32 1: int64 2, 3: 4}", "{1: 2, 3: 4}", "{1: int64 2, uint32 3: 4}"},
	{"(us)", "(uint32 1, 'a')", "(1, 'a')", "@(us) (1, 'a')"},
	{"(s)", "('a',)", "('a',)", "('a' , )"},
	{"()", "()", "()", "( )"},
	{"{su}", "{'a', uint32 1}", "{'a', 1}", "@{su} {'a', 1}"},
	{"ax", "[int64 1, 2, 3]", "[1, 2, 3]", "[1, int64 2, 3]"},
	{"aas", "[@as [], ['a']]", "[[], ['a']]", "[[], ['a']]"},
	{"v", "<uint32 1>", "<uint32 1>", "< uint32 1 >"},
	{"a(say)", "@a(say) []", "[]", "@a(say) []"},
	{"mi", "@mi 5", "5", "just 5"},
	{"ms", "@ms nothing", "nothing", "@ms nothing"},
	{"mmi", "@mmi just nothing", "just nothing", "@mmi just nothing"},
	{"ami", "[@mi 1, nothing]", "[1, nothing]", "[1, nothing]"},
	{"ams", "[@ms 'a', 'b']", "['a', 'b']", "['a', just 'b']"},
}

func TestVariantText(t *testing.T) {
	for _, tc := range variantTexts {
		v, err := ostree.ParseVariant(tc.text)
		require.NoError(t, err, tc.text)
		require.Equal(t, tc.typ, v.Type, tc.text)
		text, err := v.Text(true)
		require.NoError(t, err, tc.text)
		require.Equal(t, tc.text, text)
		text, err = v.Text(false)
		require.NoError(t, err, tc.text)
		require.Equal(t, tc.plain, text)
		again, err := ostree.ParseVariant(tc.other)
		require.NoError(t, err, tc.other)
		require.Equal(t, v, again, tc.other)
	}
}

func TestVariantTextFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "byte 0: a value expected",
		"x":                        `byte 0: "x" is no value`,
		"5 6":                      "byte 2: more text after the value",
		"[1":                       `byte 2: "," expected`,
		"[1, 'a']":                 "byte 4: not of the type of the elements before it",
		"[]":                       "byte 0: no type can be told; say it, as in @as []",
		"<[]>":                     "byte 1: no type can be told; say it, as in <@as []>",
		"byte 256":                 "byte 5: 256 is out of the range of type y",
		"uint32 -1":                "byte 7: -1 is out of the range of type u",
		"2147483648":               "byte 0: 2147483648 is out of the range of type i",
		"uint32 'a'":               "byte 7: not of type u",
		"'abc":                     "byte 0: a quote that is not closed",
		`'\u12'`:                   "byte 3: 4 hexadecimal digits expected",
		`'\ud800'`:                 "byte 3: no character of 4 hexadecimal digits",
		"@zz 5":                    `byte 0: "zz" is no type`,
		"{1, 2, 3}":                `byte 5: "}" expected`,
		"int32 1.5":                "byte 6: not of type i",
		"0b1":                      `byte 0: "0b1" is no number of type i`,
		strings.Repeat("[", 1000):  "nests deeper than",
		strings.Repeat("<", 1000):  "nests deeper than",
		strings.Repeat(" ", 2<<20): "variant text of 2097152 bytes, at most 1048576",
	} {
		_, err := ostree.ParseVariant(text)
		require.ErrorContains(t, err, want, "%.40s", text)
	}
}

// TestVariantTextBound: types cost in proportion to their text, however they nest and however
// many members they have.
func TestVariantTextBound(t *testing.T) {
	list := func(elem string) string { return "[" + strings.Repeat(elem+",", 99) + elem + "]" }
	m, a, y := strings.Repeat("m", 60), strings.Repeat("a", 60), strings.Repeat("y", 190)
	for name, tc := range map[string]struct {
		text  string
		fault string
	}{
		"optional":          {list("@" + m + "u 1"), ""},
		"optional tuple":    {list("@" + m + "(" + y + ") nothing"), ""},
		"optional in tuple": {list("@" + strings.Repeat("m(", 31) + "u" + strings.Repeat(")", 31) + " nothing"), ""},
		"arrays":            {list("<@" + a + "(" + y + ") []>"), ""},
		"long tuple":        {"(" + strings.Repeat("1,", 20_000) + "1)", "no type can be told"},
	} {
		_, err := fuzzbound.Parse(t, 256, ostree.ParseVariant, tc.text)
		if tc.fault == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, tc.fault, name)
		}
	}
}

func TestVariantSwapped(t *testing.T) {
	v, err := ostree.ParseVariant("(uint32 1, <uint64 2>, [int16 1, 2], @mu 3, 'ab', byte 1, b'xyz', {'k': <handle 1>})")
	require.NoError(t, err)
	swapped, err := v.Swapped()
	require.NoError(t, err)
	text, err := swapped.Text(true)
	require.NoError(t, err)
	require.Equal(t, "(uint32 16777216, <uint64 144115188075855872>, [int16 256, 512], @mu 50331648, 'ab', byte 0x01, b'xyz', {'k': <handle 16777216>})", text)
	again, err := swapped.Swapped()
	require.NoError(t, err)
	require.Equal(t, v, again)

	_, err = ostree.Variant{Type: "u", Data: []byte{1}}.Swapped()
	require.Error(t, err)
	_, err = ostree.Variant{Type: "as", Data: []byte{1}}.Text(true)
	require.Error(t, err)
	_, err = ostree.Variant{Type: "z"}.Text(true)
	require.Error(t, err)
}

// TestVariantTextOfPeer lets `ostree` read the texts and print them.
func TestVariantTextOfPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	repo := peerRepo(t, ostree.ModeArchive)
	args := []string{"--repo=" + repo, "commit", "--branch=x", "--timestamp=@0"}
	want := map[string]string{} // key to text
	for i, tc := range variantTexts {
		for _, text := range []string{tc.text, tc.other} {
			key := fmt.Sprintf("k%d.%d", i, len(want))
			args = append(args, "--add-metadata="+key+"="+text)
			want[key] = tc.text
		}
	}
	run(t, "ostree", append(args, t.TempDir())...)
	for key, text := range want {
		require.Equal(t, text+"\n", run(t, "ostree", "--repo="+repo, "show", "-B", "--print-metadata-key="+key, "x"))
		v, err := ostree.ParseVariant(text)
		require.NoError(t, err)
		swapped, err := v.Swapped()
		require.NoError(t, err)
		text, err = swapped.Text(true)
		require.NoError(t, err)
		require.Equal(t, text+"\n", run(t, "ostree", "--repo="+repo, "show", "--print-metadata-key="+key, "x"))
	}
}

func FuzzParseVariant(f *testing.F) {
	for _, tc := range variantTexts {
		f.Add(tc.text)
		f.Add(tc.other)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := fuzzbound.Parse(t, 512, ostree.ParseVariant, text)
		if err != nil {
			return
		}
		printed, err := v.Text(true)
		require.NoError(t, err)
		if len(printed) > ostree.MaxVariantText {
			return // .1 is 0.10000000000000001
		}
		again, err := ostree.ParseVariant(printed)
		require.NoError(t, err, printed)
		require.Equal(t, v.Type, again.Type)
		back, err := again.Text(true)
		require.NoError(t, err)
		require.Equal(t, printed, back)
	})
}
