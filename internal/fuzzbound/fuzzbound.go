// Package fuzzbound holds parsers to what they may allocate: in proportion to
// their input, whatever lengths the input claims. Fuzz targets use it.
package fuzzbound

import (
	"bytes"
	"io"
	"runtime"
	"testing"
)

// base is what any parser may allocate: a buffer, an error, tables that are
// made at first use, and what other goroutines do meanwhile.
const base = 1 << 20

// Allocated runs fn and gives the bytes that were allocated meanwhile, freed or
// not.
func Allocated(fn func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// Within runs fn, and fails t if it allocates more than limit bytes.
func Within(t testing.TB, limit int, fn func()) {
	t.Helper()
	if n := Allocated(fn); n > limit {
		t.Fatalf("%d bytes allocated, at most %d are right", n, limit)
	}
}

// Linear runs fn, which parses so many bytes of input, and fails t if it
// allocates more than factor bytes for each of them and 1 MiB.
func Linear(t testing.TB, input, factor int, fn func()) {
	t.Helper()
	if n := Allocated(fn); n > base+factor*input {
		t.Fatalf("%d bytes allocated for an input of %d, at most %d are right", n, input, base+factor*input)
	}
}

// Parse gives what parse makes of in, within the bounds of [Linear].
func Parse[In ~[]byte | ~string, Out any](t testing.TB, factor int, parse func(In) (Out, error), in In) (out Out, err error) {
	t.Helper()
	Linear(t, len(in), factor, func() { out, err = parse(in) })
	return out, err
}

// Read gives what read makes of in, within the bounds of [Linear].
func Read[Out any](t testing.TB, factor int, read func(io.Reader) (Out, error), in []byte) (out Out, err error) {
	t.Helper()
	Linear(t, len(in), factor, func() { out, err = read(bytes.NewReader(in)) })
	return out, err
}
