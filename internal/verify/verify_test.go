package verify_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/verify"
)

func digestOf(t testing.TB, text string) v1.Hash {
	t.Helper()
	h, _, err := v1.SHA256(strings.NewReader(text))
	require.NoError(t, err)
	return h
}

func TestReader(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text, of string
		size           int64
		ok             bool
	}{
		{"right", "abc", "abc", 3, true},
		{"empty", "", "", 0, true},
		{"size unknown", "abc", "abc", verify.SizeUnknown, true},
		{"empty of unknown size", "", "", verify.SizeUnknown, true},
		{"wrong bytes", "abd", "abc", 3, false},
		{"wrong bytes, size unknown", "abd", "abc", verify.SizeUnknown, false},
		{"short", "ab", "abc", 3, false},
		{"long", "abcd", "abc", 3, false},
		{"empty with wrong digest", "", "abc", 0, false},
		{"something for nothing", "a", "", 0, false},
		{"nothing for something", "", "abc", 3, false},
		{"negative size", "abc", "abc", -2, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for how, wrap := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r },
				"bytes": iotest.OneByteReader,
				"eof":   iotest.DataErrReader,
			} {
				r, err := verify.NewReader(wrap(strings.NewReader(tc.text)), digestOf(t, tc.of), tc.size)
				var got []byte
				if err == nil {
					got, err = io.ReadAll(r)
				}
				if tc.ok {
					require.NoError(t, err, how)
					require.Equal(t, tc.text, string(got))
					require.Equal(t, io.EOF, r.Err())
					require.EqualValues(t, len(tc.text), r.Count())
					continue
				}
				require.ErrorIs(t, err, verify.ErrDigest, how)
				require.LessOrEqual(t, len(got), 3)
			}
		})
	}
}

// A caller that stops at the size it expects, as io.ReadFull does, must hear of
// wrong bytes too.
func TestReaderChecksAtLastByte(t *testing.T) {
	t.Parallel()
	r, err := verify.NewReader(strings.NewReader("abd"), digestOf(t, "abc"), 3)
	require.NoError(t, err)
	n, err := r.Read(make([]byte, 3))
	require.Equal(t, 3, n)
	require.ErrorIs(t, err, verify.ErrDigest)
	_, err = r.Read(make([]byte, 3))
	require.ErrorIs(t, err, verify.ErrDigest, "the error stays")
}

func TestReaderPassesErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r, err := verify.NewReader(io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken)), digestOf(t, "abc"), 3)
	require.NoError(t, err)
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, verify.ErrDigest)
}

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	sum := sha512.Sum512([]byte("abc"))
	require.NoError(t, verify.Bytes([]byte("abc"), v1.Hash{Algorithm: "sha512", Hex: hex.EncodeToString(sum[:])}, 3))
	require.ErrorIs(t, verify.Bytes(nil, v1.Hash{Algorithm: "md5", Hex: "00"}, 0), errors.ErrUnsupported)
	require.ErrorIs(t, verify.Bytes(nil, v1.Hash{Algorithm: "sha256", Hex: "00"}, 0), verify.ErrDigest)
	require.ErrorIs(t, verify.Bytes(nil, v1.Hash{}, 0), errors.ErrUnsupported)
	require.ErrorIs(t, verify.Bytes([]byte("abc"), digestOf(t, "abc"), 4), verify.ErrDigest)
	require.ErrorIs(t, verify.Bytes([]byte("abd"), digestOf(t, "abc"), 3), verify.ErrDigest)
}

type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

func TestReadCloser(t *testing.T) {
	t.Parallel()
	c := &closer{Reader: strings.NewReader("abc")}
	rc, err := verify.ReadCloser(c, digestOf(t, "abc"), 3)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	require.True(t, c.closed)
	c.closed = false
	_, err = verify.ReadCloser(c, v1.Hash{}, 3)
	require.Error(t, err)
	require.True(t, c.closed, "closed although it failed")
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("abc"), []byte("abc"), int64(3), 1)
	f.Add([]byte(""), []byte(""), int64(0), 1)
	f.Add([]byte("abcd"), []byte("abc"), int64(3), 2)
	f.Add([]byte("ab"), []byte("abc"), int64(-1), 7)
	f.Fuzz(func(t *testing.T, data, promised []byte, size int64, step int) {
		want, _, err := v1.SHA256(bytes.NewReader(promised))
		require.NoError(t, err)
		fuzzbound.Linear(t, len(data), 4, func() {
			if r, err := verify.NewReader(bytes.NewReader(data), want, size); err == nil {
				_, _ = io.Copy(io.Discard, r)
			}
		})
		r, err := verify.NewReader(bytes.NewReader(data), want, size)
		if err != nil {
			require.Less(t, size, int64(verify.SizeUnknown))
			return
		}
		var got []byte
		buf := make([]byte, 1+uint(step)%64)
		for {
			var n int
			n, err = r.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
		}
		right := bytes.Equal(data, promised) && (size == verify.SizeUnknown || size == int64(len(data)))
		require.Equal(t, right, err == io.EOF, "%v", err)
		if size >= 0 {
			require.LessOrEqual(t, int64(len(got)), size)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	data := make([]byte, 16<<20)
	want, _, err := v1.SHA256(bytes.NewReader(data))
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r, err := verify.NewReader(bytes.NewReader(data), want, int64(len(data)))
		require.NoError(b, err)
		_, err = io.Copy(io.Discard, r)
		require.NoError(b, err)
	}
}
