package fuzzbound_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
)

// recorder keeps that a test failed; it goes on, as no test's goroutine is to end.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.failed = true }

var sink []byte

// claimed is a parser that believes a length.
func claimed(n int) func() { return func() { sink = make([]byte, n) } }

func TestBounds(t *testing.T) {
	require.GreaterOrEqual(t, fuzzbound.Allocated(claimed(3<<20)), 3<<20)
	for name, tc := range map[string]struct {
		failed bool
		check  func(t testing.TB)
	}{
		"within":          {false, func(t testing.TB) { fuzzbound.Within(t, 3<<20, claimed(2<<20)) }},
		"above":           {true, func(t testing.TB) { fuzzbound.Within(t, 3<<20, claimed(4<<20)) }},
		"in proportion":   {false, func(t testing.TB) { fuzzbound.Linear(t, 1<<16, 64, claimed(4<<20)) }},
		"no proportion":   {true, func(t testing.TB) { fuzzbound.Linear(t, 1<<16, 64, claimed(6<<20)) }},
		"empty":           {false, func(t testing.TB) { fuzzbound.Linear(t, 0, 64, claimed(1000)) }},
		"large for empty": {true, func(t testing.TB) { fuzzbound.Linear(t, 0, 64, claimed(2<<20)) }},
		"parse": {true, func(t testing.TB) {
			_, _ = fuzzbound.Parse(t, 1, func(string) (int, error) { claimed(2 << 20)(); return 0, nil }, "x")
		}},
		"read": {true, func(t testing.TB) {
			_, _ = fuzzbound.Read(t, 1, func(io.Reader) (int, error) { claimed(2 << 20)(); return 0, nil }, nil)
		}},
	} {
		r := &recorder{TB: t}
		tc.check(r)
		require.Equal(t, tc.failed, r.failed, name)
	}
}

func TestResults(t *testing.T) {
	bad := errors.New("bad")
	n, err := fuzzbound.Parse(t, 1, func(data []byte) (int, error) { return len(data), bad }, []byte("abc"))
	require.Equal(t, 3, n)
	require.ErrorIs(t, err, bad)
	data, err := fuzzbound.Read(t, 1, io.ReadAll, []byte("abc"))
	require.NoError(t, err)
	require.Equal(t, "abc", string(data))
}

func TestZstdWindows(t *testing.T) {
	frame := func(window byte) string { return "\x28\xb5\x2f\xfd\x00" + string([]byte{window}) + "\x01\x00\x00" }
	for text, want := range map[string]int{
		"": 0, "\x28\xb5\x2f\xfd": 0, frame(0x80): 64 << 20, frame(0x88): 128 << 20, frame(0x90): 128 << 20,
		frame(0x80) + frame(0x80): 64 << 20, frame(0x80) + frame(0x88): 192 << 20, frame(0x88) + frame(0x80): 128 << 20,
		"\x28\xb5\x2f\xfd\x20\x05\x01\x00\x00": 5,
	} {
		require.Equal(t, want, fuzzbound.ZstdWindows([]byte(text), 128<<20), "%q", text)
	}
}
