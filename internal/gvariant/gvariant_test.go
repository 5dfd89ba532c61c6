package gvariant_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/gvariant"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return data
}

func parse(t testing.TB, text string) *gvariant.Type {
	t.Helper()
	typ, err := gvariant.ParseType(text)
	require.NoError(t, err)
	require.Equal(t, text, typ.String())
	return typ
}

func TestParseType(t *testing.T) {
	for _, c := range []struct {
		text  string
		fixed int
	}{
		{"y", 1}, {"b", 1}, {"t", 8}, {"s", 0}, {"v", 0}, {"ay", 0}, {"()", 1}, {"(yu)", 8}, {"(uy)", 8}, {"(yyy)", 3}, {"{yt}", 16},
		{"a{sv}", 0}, {"mu", 0}, {"(a{sv}aya(say)sstayay)", 0}, {"((uu)t)", 16}, {"(uuua(ayay))", 0},
	} {
		require.Equal(t, c.fixed, parse(t, c.text).Fixed(), c.text)
	}
	for _, text := range []string{"", "z", "a", "(", "(s", "{s}", "{vs}", "{sss}", "{()s}", "{(y)s}", "{ays}", "ss", "s)", "*", "r", strings.Repeat("a", 70) + "y", strings.Repeat("(", 200), "(" + strings.Repeat("y", 300) + ")"} {
		_, err := gvariant.ParseType(text)
		require.Error(t, err, text)
	}
}

// The vectors are from the GVariant specification's examples and from objects
// of OSTree repositories.
func TestCheck(t *testing.T) {
	for _, c := range []struct{ typ, data string }{
		{"s", "68656c6c6f20776f726c6400"},
		{"(si)", "666f6f00 ffffffff 04"},
		{"a(si)", "68690000 feffffff 03 000000 62796500 ffffffff 04 09 15"},
		{"as", "6900 63616e00 68617300 737472696e67733f00 02 06 0a 13"},
		{"aay", "0102 03 02 03"},
		{"v", "01 00 79"},
		{"a{sv}", ""},
		{"(a(say)a(sayay))", "00"},
		{"(uuuusa(ayay))", "00000000 00000000 000081a4 00000000 00 11"},
		{"ms", ""},
		{"ms", "6100 00"},
		{"()", "00"},
		{"(yu)", "01 000000 02000000"},
		{"g", "617b73767d00"},
		{"b", "01"},
	} {
		require.NoError(t, gvariant.Check(parse(t, c.typ), unhex(t, c.data)), c.typ)
	}
	for _, c := range []struct{ typ, data, want string }{
		{"s", "6869", "no NUL"},
		{"s", "68006900", "NUL at 1"},
		{"s", "ff00", "not UTF-8"},
		{"s", "", "no NUL"},
		{"b", "02", "neither 0 nor 1"},
		{"u", "000000", "3 bytes"},
		{"(si)", "", "cannot hold"},
		{"(si)", "666f6f00 ffffffff 05", "lies at"},
		{"(si)", "666f6f00 ffffffff ff", "lies at"},
		{"(si)", "6600 0100 ffffffff 02", "padding at 2"},
		{"(si)", "666f6f00 ffffffff 00 04", "behind the last member"},
		{"as", "6100 01", "no NUL"},
		{"as", "6100 6200 04 02", "element 0 lies"},
		{"as", "6100 6200 00", "element 0 lies"},
		{"as", "6100 6200 01 04", "no NUL"},
		{"as", "ff", "framing offsets start"},
		{"au", "000000", "no multiple"},
		{"v", "", "no type string"},
		{"v", "7979", "no type string"},
		{"v", "01 00 7a", "type string has"},
		{"v", "01 02 00 79", "2 bytes, want 1"},
		{"()", "01", "behind the last member"},
		{"(yu)", "01 000100 02000000", "padding at 1"},
		{"g", "7a00", "type string has"},
		{"ms", "610001", "no zero byte"},
		{"v", strings.Repeat("00", 1) + strings.Repeat("0076", 70), "deeper"},
	} {
		err := gvariant.Check(parse(t, c.typ), unhex(t, c.data))
		require.ErrorIs(t, err, gvariant.ErrNotNormal, "%s %s", c.typ, c.data)
		require.ErrorContains(t, err, c.want, "%s %s", c.typ, c.data)
	}
}

func TestOffsetWidth(t *testing.T) {
	pair := gvariant.TupleOf(gvariant.Bytes, gvariant.Bytes)
	for _, c := range []struct{ size, want int }{{253, 1}, {254, 1}, {255, 2}, {65533, 2}, {65534, 4}} {
		data, err := gvariant.AppendTuple(nil, pair, make([]byte, c.size), nil)
		require.NoError(t, err)
		require.Len(t, data, c.size+c.want)
		require.NoError(t, gvariant.Check(pair, data))
		members, err := gvariant.AppendMembers(nil, pair, data)
		require.NoError(t, err)
		require.Len(t, members[0], c.size)
		require.Empty(t, members[1])
	}
	// A wider offset than needed holds the same value and is refused.
	wide := append(make([]byte, 254), 254, 0)
	require.Len(t, wide, 256)
	require.ErrorContains(t, gvariant.Check(pair, wide), "wider")
}

func TestWriteRefusesWrongMembers(t *testing.T) {
	_, err := gvariant.AppendTuple(nil, parse(t, "(uu)"), make([]byte, 4))
	require.Error(t, err)
	_, err = gvariant.AppendTuple(nil, parse(t, "(uu)"), make([]byte, 4), make([]byte, 3))
	require.Error(t, err)
	_, err = gvariant.AppendTuple(nil, parse(t, "au"), make([]byte, 4))
	require.Error(t, err)
}

// rebuild writes again what data holds, from the leaves up.
func rebuild(t testing.TB, typ *gvariant.Type, text string, data []byte) []byte {
	switch {
	case text == "v":
		child, body, err := gvariant.DecodeVariant(data)
		require.NoError(t, err)
		return gvariant.AppendVariant(nil, child.String(), rebuild(t, child, child.String(), body))
	case text == "s":
		s, err := gvariant.DecodeString(data)
		require.NoError(t, err)
		return gvariant.AppendString(nil, s)
	case text[0] == 'a':
		a, err := gvariant.OpenArray(typ, data)
		require.NoError(t, err)
		var b gvariant.ArrayBuilder
		b.Reset(typ)
		for i := range a.Len() {
			elem, err := a.At(i)
			require.NoError(t, err)
			b.Add(rebuild(t, typ.Elem(), typ.Elem().String(), elem))
		}
		return bytes.Clone(b.Bytes())
	case text[0] == '(' && len(typ.Members()) > 0 || text[0] == '{':
		members, err := gvariant.AppendMembers(nil, typ, data)
		require.NoError(t, err)
		for i, m := range typ.Members() {
			members[i] = rebuild(t, m, m.String(), members[i])
		}
		out, err := gvariant.AppendTuple(nil, typ, members...)
		require.NoError(t, err)
		return out
	default:
		return bytes.Clone(data)
	}
}

func FuzzCheck(f *testing.F) {
	add := func(typ, data string) { f.Add(typ, unhex(f, data)) }
	add("a{sv}", "6b00 000000000000 01 00 79 02 0b")
	add("(si)", "666f6f00 ffffffff 04")
	add("a(si)", "68690000 feffffff 03 000000 62796500 ffffffff 04 09 15")
	add("(a{sv}aya(say)sstayay)", "00")
	add("(a(say)a(sayay))", "00")
	add("(uuuusa(ayay))", "00000000 00000000 000081a4 00000000 00 11")
	add("v", "01 00 79")
	add("mms", "00")
	f.Fuzz(func(t *testing.T, text string, data []byte) {
		typ, err := gvariant.ParseType(text)
		if err != nil {
			return
		}
		if len(text)*len(data) > 1<<16 {
			return
		}
		fuzzbound.Linear(t, len(data), 1000, func() { err = gvariant.Check(typ, data) })
		allocated := testing.AllocsPerRun(1, func() { err = gvariant.Check(typ, data) })
		// Each allocation is for something that the data holds: a string, a
		// child type, an error.
		require.LessOrEqual(t, allocated, float64(1000+300*len(data)))
		if err != nil {
			require.ErrorIs(t, err, gvariant.ErrNotNormal)
			return
		}
		require.Equal(t, data, append([]byte{}, rebuild(t, typ, text, data)...))
	})
}

func BenchmarkAppendMembers(b *testing.B) {
	typ := parse(b, "(uuuusa(ayay))")
	data := unhex(b, "00000000 00000000 000081a4 00000000 00 11")
	b.SetBytes(int64(len(data)))
	var room [8][]byte
	for b.Loop() {
		if _, err := gvariant.AppendMembers(room[:0], typ, data); err != nil {
			b.Fatal(err)
		}
	}
}
