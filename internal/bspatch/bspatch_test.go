package bspatch_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/bspatch"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
)

// step is one step of a patch.
func step(diff, extra string, seek int64) string {
	var b []byte
	for _, n := range []int64{int64(len(diff)), int64(len(extra)), seek} {
		v := uint64(n)
		if n < 0 {
			v = uint64(-n) | 1<<63
		}
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return string(b) + diff + extra
}

func apply(old, patch string, size int64) (string, error) {
	data, err := io.ReadAll(bspatch.NewReader(strings.NewReader(old), int64(len(old)), strings.NewReader(patch), size))
	return string(data), err
}

func TestReader(t *testing.T) {
	const old = "abcdefgh"
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	for _, c := range []struct{ name, patch, want string }{
		{"nothing", "", ""},
		{"same", step(zeros(8), "", 0), old},
		{"changed", step("\x01\x00\xff", "", 0), "bbb"},
		{"extra", step("", "new", 0), "new"},
		{"there and back", step(zeros(2), "-", 4) + step(zeros(2), "-", -8) + step(zeros(8), "", 0), "ab-gh-" + old},
		{"before and behind", step("", "", -2) + step(zeros(12), "", 0), "\x00\x00" + old + "\x00\x00"},
		{"far before", step("", "", -1<<40) + step("xy", "z", 0), "xyz"},
		{"steps of nothing", step("", "", 1) + step("", "", 1) + step(zeros(1), "", 0), "c"},
		{"large", step(strings.Repeat("x", 100_000), strings.Repeat("y", 100_000), 0), string([]byte{'x' + 'a', 'x' + 'b', 'x' + 'c', 'x' + 'd', 'x' + 'e', 'x' + 'f', 'x' + 'g', 'x' + 'h'}) +
			strings.Repeat("x", 100_000-8) + strings.Repeat("y", 100_000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			size := int64(len(c.want))
			got, err := apply(old, c.patch, size)
			require.NoError(t, err)
			require.Equal(t, c.want, got)

			var out bytes.Buffer
			_, err = io.Copy(&out, iotest.OneByteReader(bspatch.NewReader(strings.NewReader(old), int64(len(old)), strings.NewReader(c.patch), size)))
			require.NoError(t, err)
			require.Equal(t, c.want, out.String(), "byte by byte")

			if size == 0 {
				return
			}
			for _, cut := range []int{0, 1, 23, len(c.patch) / 2, len(c.patch) - 1} {
				_, err = apply(old, c.patch[:cut], size)
				require.ErrorIs(t, err, bspatch.ErrPatch, "cut at %d", cut)
			}
			if size > 1 {
				_, err = apply(old, c.patch, size-1)
				require.ErrorIs(t, err, bspatch.ErrPatch)
			}
		})
	}
}

func TestDamage(t *testing.T) {
	negative := []byte(step("abc", "", 0))
	negative[7] |= 0x80
	for name, patch := range map[string]string{
		"negative":  string(negative),
		"too long":  step("abcdef", "", 0),
		"overflow":  string(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 1<<63-1), 1<<63-1), 0)),
		"far":       step("", "", 1<<62+1),
		"far twice": step("", "", 1<<62) + step("a", "", 1),
		"far back":  step("", "", -1<<62) + step("", "", -1),
	} {
		_, err := apply("old", patch, 5)
		require.ErrorIs(t, err, bspatch.ErrPatch, name)
	}
	broken := errors.New("broken")
	_, err := io.ReadAll(bspatch.NewReader(strings.NewReader("o"), 3, strings.NewReader(step("abc", "", 0)), 3))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "old content that is shorter than said")
	_, err = io.ReadAll(bspatch.NewReader(strings.NewReader(""), 0, iotest.ErrReader(broken), 3))
	require.ErrorIs(t, err, broken)
}

func FuzzReader(f *testing.F) {
	f.Add("old content", step("\x01\x02", "extra", -1)+step("abc", "", 0), int64(10))
	f.Add("", step("", "x", 1<<40), int64(1))
	f.Fuzz(func(t *testing.T, old, patch string, size int64) {
		var got string
		var err error
		// The content is read whole, which doubles, and made a string.
		fuzzbound.Linear(t, len(patch), 16, func() { got, err = apply(old, patch, size) })
		if err == nil {
			require.Equal(t, max(size, 0), int64(len(got)))
			return
		}
		require.ErrorIs(t, err, bspatch.ErrPatch)
		require.LessOrEqual(t, len(got), len(patch))
	})
}

func BenchmarkReader(b *testing.B) {
	const size = 8 << 20
	old := bytes.NewReader(bytes.Repeat([]byte("some old content"), size/16))
	patch := step(strings.Repeat("\x00", size), "", 0)
	b.SetBytes(size)
	for b.Loop() {
		if n, err := io.Copy(io.Discard, bspatch.NewReader(old, size, strings.NewReader(patch), size)); n != size || err != nil {
			b.Fatal(n, err)
		}
	}
}

func ExampleNewReader() {
	old := "Hello, OSTree"
	patch := step(strings.Repeat("\x00", 7), "", 0) + step("", "bsdiff", 0)
	r := bspatch.NewReader(strings.NewReader(old), int64(len(old)), strings.NewReader(patch), 13)
	content, err := io.ReadAll(r)
	fmt.Println(string(content), err)
	// Output: Hello, bsdiff <nil>
}
