package ostree_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// glibJudge has GLib itself read texts that end in NUL: for each a line with
// type, serialized bytes in hexadecimal and both printed forms, or "!".
const glibJudge = `
import ctypes, sys
lib = ctypes.CDLL("libglib-2.0.so.0")
for name, result, args in [
    ("g_variant_parse", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]),
    ("g_variant_get_type_string", ctypes.c_char_p, [ctypes.c_void_p]),
    ("g_variant_get_size", ctypes.c_size_t, [ctypes.c_void_p]),
    ("g_variant_store", None, [ctypes.c_void_p, ctypes.c_void_p]),
    ("g_variant_print", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
    ("g_free", None, [ctypes.c_void_p]),
    ("g_variant_unref", None, [ctypes.c_void_p]),
]:
    f = getattr(lib, name)
    f.restype, f.argtypes = result, args
def text(v, annotate):
    p = lib.g_variant_print(v, annotate)
    s = ctypes.string_at(p)
    lib.g_free(p)
    return s
out = []
for t in sys.stdin.buffer.read().split(b"\0")[:-1]:
    v = lib.g_variant_parse(None, t, None, None, None)
    if not v:
        out.append(b"!")
        continue
    data = ctypes.create_string_buffer(lib.g_variant_get_size(v) + 8)
    lib.g_variant_store(v, data)
    out.append(b"\x01".join([lib.g_variant_get_type_string(v), data.raw[:-8].hex().encode(), text(v, 1), text(v, 0)]))
    lib.g_variant_unref(v)
sys.stdout.buffer.write(b"".join(o + b"\0" for o in out))
`

// TestVariantTextOfGLib compares texts that nobody wrote: the same are read, as
// the same type and bytes, and are printed alike.
func TestVariantTextOfGLib(t *testing.T) {
	interop.Peer(t, "python3", "ostree") // which brings GLib
	rng := rand.New(rand.NewPCG(5, 6))
	var texts []string
	for range 20000 {
		text := randomVariant(rng, 0)
		if rng.IntN(3) == 0 && text != "" {
			at := rng.IntN(len(text))
			switch rng.IntN(3) {
			case 0:
				text = text[:at] + text[at+1:]
			case 1:
				text = text[:at] + string(` ,'"\<>()[]{}@-+0x9eaimbsuy:`[rng.IntN(28)]) + text[at:]
			default:
				text = text[:at]
			}
		}
		texts = append(texts, text)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", glibJudge)
	cmd.Stdin = strings.NewReader(strings.Join(texts, "\x00") + "\x00")
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	require.NoError(t, cmd.Run(), diag.String())
	answers := strings.Split(strings.TrimSuffix(out.String(), "\x00"), "\x00")
	require.Len(t, answers, len(texts))
	read := 0
	for i, text := range texts {
		got := "!"
		if v, err := ostree.ParseVariant(text); err == nil {
			annotated, err := v.Text(true)
			require.NoError(t, err)
			plain, err := v.Text(false)
			require.NoError(t, err)
			got = strings.Join([]string{v.Type, hex.EncodeToString(v.Data), annotated, plain}, "\x01")
			read++
		}
		// An optional beside a value whose type was said is no list for GLib.
		if answers[i] == "!" && (strings.Contains(text, "just") || strings.Contains(text, "nothing")) {
			continue
		}
		// And of two types that are said of one value it believes either, as it does
		// of two signs.
		if got == "!" && doubled.MatchString(text) {
			continue
		}
		require.Equal(t, answers[i], got, text)
	}
	require.Greater(t, read, len(texts)/4)
}

var doubled = regexp.MustCompile(`[-+][-+]|(@\S*|byte|int\d\d|double|handle|string|boolean|path|signature) *(@|byte|u?int\d\d|double|handle|string|boolean|objectpath|signature|<)`)

// randomVariant is a text that is likely to be a variant.
func randomVariant(rng *rand.Rand, depth int) string {
	some := func(list ...string) string { return list[rng.IntN(len(list))] }
	number := func() string {
		return some("", "", "", "-", "+") + some("0", "1", "7", "255", "256", "65536", "4294967296", "0x1f", "017", "1.5", "1e3", "0.1", "2147483648", "9223372036854775808")
	}
	text := func() string {
		quote := some(`'`, `"`)
		var b strings.Builder
		for range rng.IntN(4) {
			b.WriteString(some("a", "é", " ", `\n`, `\'`, `\"`, `\\`, `\u00e9`, `\U0001f600`, `\t`, "€", "<", `\a`, "\u200b", "\U000e0001", `\x`))
		}
		return quote + b.String() + quote
	}
	if depth > 3 {
		return some(number(), text())
	}
	list := func(parts func() string) string {
		var all []string
		for range rng.IntN(4) {
			all = append(all, parts())
		}
		return strings.Join(all, some(",", ", "))
	}
	child := func() string { return randomVariant(rng, depth+1) }
	switch rng.IntN(16) {
	case 0, 1:
		return number()
	case 2:
		return text()
	case 3:
		return some("true", "false", "nothing", "just nothing")
	case 4:
		return some("byte", "int16", "uint16", "int32", "uint32", "int64", "uint64", "double", "handle", "string", "boolean") + " " + some(number(), number(), text(), "true")
	case 5:
		return some("objectpath", "signature", "string") + " " + some("'/a'", "'/'", "'/a/b_1'", "'a{sv}'", "''", "'/a/'", "'ii'")
	case 6:
		return "b" + text()
	case 7:
		same := child()
		return "[" + list(func() string { return some(same, same, child()) }) + "]"
	case 8:
		return "[" + list(number) + "]"
	case 9:
		return "{" + list(func() string { return fmt.Sprintf("%s: %s", some("'a'", "'b'", "1"), some("<1>", "<'x'>", child())) }) + "}"
	case 10:
		return "{" + some("'a'", number(), "true") + ", " + child() + "}"
	case 11:
		return "(" + list(child) + some("", ",") + ")"
	case 12:
		return "<" + child() + ">"
	case 13:
		return "just " + child()
	case 14:
		return "@" + some("as", "a{sv}", "u", "ms", "ay", "(su)", "v", "ai", "mi", "aai", "d", "x", "a(si)", "{sv}", "mmi", "ad", "()") + " " +
			some("[]", "{}", "1", "'x'", "nothing", "()", "<1>", "[1, 2]", "['a']", "('a', 1)", "just 5", "[[1], []]", child())
	default:
		return some("@", "[", "", "int32", "foo", "b", "@a", "'") + child()
	}
}
