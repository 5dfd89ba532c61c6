package inflate_test

import (
	"bytes"
	stdflate "compress/flate"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/inflate"
)

// contents are what streams are made of: runs, text, numbers, noise, the same at
// every distance.
func contents() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var text, far, mixed, skewed bytes.Buffer
	for text.Len() < 300_000 {
		fmt.Fprintf(&text, "line %d of a text that repeats itself %d times\n", text.Len()%977, r.IntN(50))
	}
	for d := 1; d <= 32<<10; d += 1 + d/7 {
		far.Write(noise[:d])
		far.Write(noise[:min(d, 300)])
	}
	for mixed.Len() < 1_000_000 {
		n := r.IntN(5000)
		switch r.IntN(4) {
		case 0:
			mixed.Write(noise[n : n+n%700])
		case 1:
			mixed.Write(bytes.Repeat(noise[n:n+1+n%13], 1+n%90))
		case 2:
			mixed.Write(text.Bytes()[n : n+n%3000])
		default:
			mixed.Write(make([]byte, n))
		}
	}
	// Frequencies that fall by half make the longest codes.
	for i := range 30 {
		for range 1 << max(0, 17-i) {
			skewed.WriteByte(byte(i * 7))
		}
	}
	shuffled := skewed.Bytes()
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	return map[string][]byte{
		"empty": {}, "one": {7}, "zeros": make([]byte, 500_000), "noise": noise, "text": text.Bytes(), "far": far.Bytes(),
		"mixed": mixed.Bytes(), "skewed": shuffled,
	}
}

func deflated(t testing.TB, content []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// stdDeflated is by another encoder, in pieces that end on whole bytes.
func stdDeflated(t testing.TB, content []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := stdflate.NewWriter(&b, level)
	require.NoError(t, err)
	for piece := 1; len(content) > 0; piece = piece*3 + 1 {
		n := min(piece, len(content))
		_, err = w.Write(content[:n])
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		content = content[n:]
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func gzipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := stdgzip.NewWriterLevel(&b, 6)
	require.NoError(t, err)
	w.Name, w.Comment, w.Extra = "a name", "a comment", []byte("extra")
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestReader(t *testing.T) {
	z := inflate.NewReader(nil)
	for name, content := range contents() {
		for _, level := range []int{0, 1, 3, 6, 9, flate.HuffmanOnly} {
			for i, data := range [][]byte{deflated(t, content, level), stdDeflated(t, content, level)} {
				// Reused, as callers do, and with every way to get bytes.
				z.Reset(bytes.NewReader(append(bytes.Clone(data), "more"...)))
				got, err := io.ReadAll(z)
				require.NoError(t, err, "%s, level %d, encoder %d", name, level, i)
				require.True(t, bytes.Equal(content, got), "%s, level %d, encoder %d", name, level, i)
				if level != 6 {
					continue
				}
				for _, r := range []io.Reader{
					iotest.OneByteReader(bytes.NewReader(data)), iotest.HalfReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data)),
				} {
					got, err := io.ReadAll(inflate.NewReader(r))
					require.NoError(t, err)
					require.True(t, bytes.Equal(content, got))
				}
				require.NoError(t, iotest.TestReader(inflate.NewReader(bytes.NewReader(data)), content))
			}
		}
	}
}

func TestReaderEarlyEnd(t *testing.T) {
	for name, content := range contents() {
		for _, level := range []int{0, 1, 6} {
			data := deflated(t, content[:min(len(content), 3000)], level)
			for n := range data {
				_, err := io.ReadAll(inflate.NewReader(bytes.NewReader(data[:n])))
				require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%s, level %d: %d of %d bytes", name, level, n, len(data))
			}
		}
		broken := errors.New("broken")
		_, err := io.ReadAll(inflate.NewReader(io.MultiReader(bytes.NewReader(deflated(t, content, 6)[:1]), iotest.ErrReader(broken))))
		require.ErrorIs(t, err, broken)
	}
	_, err := io.ReadAll(inflate.NewReader(silent{}))
	require.ErrorIs(t, err, io.ErrNoProgress)
}

// silent gives nothing.
type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestReaderCorrupt(t *testing.T) {
	for name, data := range map[string][]byte{
		"block type 3":              {0x07},
		"stored, lengths differ":    {0x01, 1, 0, 1, 0, 'x'},
		"stored, ends in length":    {0x01, 0xff, 0xff},
		"287 literals":              {0xf5, 0xff, 0xff, 0xff},
		"distance before beginning": {0x63, 0x02, 0x02}, // fixed: a literal, then a match
		"no code":                   {0x05, 0xe0, 0x81, 0x08, 0, 0, 0, 0},
	} {
		_, want := io.ReadAll(stdflate.NewReader(bytes.NewReader(data)))
		_, err := io.ReadAll(inflate.NewReader(bytes.NewReader(data)))
		require.Equal(t, want == nil, err == nil, "%s: %v, %v", name, want, err)
	}
}

func TestGzipReader(t *testing.T) {
	for name, content := range contents() {
		data := gzipped(t, content)
		got, err := io.ReadAll(inflate.NewGzipReader(bytes.NewReader(data)))
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(content, got), name)
		require.NoError(t, iotest.TestReader(inflate.NewGzipReader(iotest.OneByteReader(bytes.NewReader(data))), content))
		// Several, an empty one among them, and used again.
		three := bytes.Join([][]byte{data, gzipped(t, nil), data}, nil)
		z := inflate.NewGzipReader(bytes.NewReader(data[:len(data)/2]))
		_, err = io.ReadAll(z)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		z.Reset(bytes.NewReader(three))
		got, err = io.ReadAll(z)
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(append(bytes.Clone(content), content...), got), name)
		if len(content) > 10 {
			continue
		}
		for n := range data {
			_, err := io.ReadAll(inflate.NewGzipReader(bytes.NewReader(data[:n])))
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, n)
			_, err = io.ReadAll(inflate.NewGzipReader(bytes.NewReader(append(bytes.Clone(data), data[:n]...))))
			require.Equal(t, n == 0, err == nil)
		}
		for i := range data {
			bad := bytes.Clone(data)
			bad[i] ^= 1
			got, err := io.ReadAll(inflate.NewGzipReader(bytes.NewReader(bad)))
			if err == nil {
				require.Equal(t, content, got, "byte %d, of names and times", i)
			}
		}
		_, err = io.ReadAll(inflate.NewGzipReader(bytes.NewReader(append(bytes.Clone(data), "garbage behind it"...))))
		require.ErrorIs(t, err, inflate.ErrCorrupt)
	}
	// With a checksum of the header.
	head := []byte{0x1f, 0x8b, 8, 2, 0, 0, 0, 0, 0, 255, 0x1d, 0x26, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	_, want := io.ReadAll(mustGzip(bytes.NewReader(head)))
	_, err := io.ReadAll(inflate.NewGzipReader(bytes.NewReader(head)))
	require.Equal(t, want == nil, err == nil, "%v", want)
}

// mustGzip is the standard library's, whose first error comes from Read as well.
func mustGzip(r io.Reader) io.Reader {
	z, err := stdgzip.NewReader(r)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return iotest.ErrReader(err)
	}
	return z
}

// most is how much content fuzz targets look at.
const most = 4 << 20

// compare wants that both gave the same or refused it. Ours gives nothing of a piece
// that has a fault in it, whose beginning the other may have filled most with.
func compare(t *testing.T, want, got []byte, wantErr, err error) {
	if max(len(want), len(got)) < most {
		require.Equal(t, wantErr == nil, err == nil, "%v, %v", wantErr, err)
	}
	if wantErr == nil && err == nil {
		require.True(t, bytes.Equal(want, got))
	}
}

func compareReader(t *testing.T, data []byte) {
	want, wantErr := io.ReadAll(io.LimitReader(stdflate.NewReader(bytes.NewReader(data)), most))
	got, err := io.ReadAll(io.LimitReader(inflate.NewReader(iotest.HalfReader(bytes.NewReader(data))), most))
	compare(t, want, got, wantErr, err)
	// The standard library takes no code with fewer bits behind it than the end of
	// the block has.
	want, _ = io.ReadAll(io.LimitReader(stdflate.NewReader(io.MultiReader(bytes.NewReader(data), bytes.NewReader(make([]byte, 8)))), most))
	require.True(t, bytes.HasPrefix(want, got), "what is given before an error is right")
}

func compareGzip(t *testing.T, data []byte) {
	want, wantErr := io.ReadAll(io.LimitReader(mustGzip(bytes.NewReader(data)), most))
	got, err := io.ReadAll(io.LimitReader(inflate.NewGzipReader(bytes.NewReader(data)), most))
	// The standard library takes members with reserved flags, which RFC 1952 wants to
	// be refused, and none with a name or comment of more than 511 bytes.
	for rest := data; ; {
		_, after, ok := bytes.Cut(rest, []byte{0x1f, 0x8b, 8})
		if !ok || len(after) == 0 {
			break
		}
		if flags := after[0]; (flags&0xe0 != 0 && err != nil) || (flags&0x18 != 0 && len(after) > 511 && wantErr != nil) {
			return
		}
		rest = after
	}
	compare(t, want, got, wantErr, err)
}

// TestLikeStandard has what a fuzz target takes long to find.
func TestLikeStandard(t *testing.T) {
	data := deflated(t, make([]byte, most+5000), 6)
	compareReader(t, data[:len(data)-8])
	data = deflated(t, make([]byte, most), 6)
	compareReader(t, append(data[:len(data)-8], "garbage"...))
	data = gzipped(t, []byte("content"))
	for i := range 8 {
		for _, name := range []int{0, 511, 512, 70_000} {
			other := bytes.Clone(data[:10])
			other[3] |= 1 << i
			for range 2 {
				other = append(append(other, strings.Repeat("n", name)...), 0)
				compareGzip(t, append(bytes.Clone(other), data[10:]...))
			}
		}
	}
	data[3] |= 0x20
	_, err := io.ReadAll(inflate.NewGzipReader(bytes.NewReader(data)))
	require.ErrorIs(t, err, inflate.ErrCorrupt)
}

// Any input gives what the standard library gives, or is refused by both.
func FuzzReader(f *testing.F) {
	for _, content := range contents() {
		content = content[:min(len(content), 2000)]
		for _, level := range []int{0, 1, 6} {
			f.Add(deflated(f, content, level))
		}
	}
	f.Add([]byte{0x01, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzbound.Linear(t, len(data), 16, func() {
			_, _ = io.Copy(io.Discard, io.LimitReader(inflate.NewReader(bytes.NewReader(data)), most))
		})
		compareReader(t, data)
	})
}

func FuzzGzipReader(f *testing.F) {
	for _, content := range contents() {
		f.Add(gzipped(f, content[:min(len(content), 2000)]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzbound.Linear(t, len(data), 16, func() {
			_, _ = io.Copy(io.Discard, io.LimitReader(inflate.NewGzipReader(bytes.NewReader(data)), most))
		})
		compareGzip(t, data)
	})
}

func BenchmarkReader(b *testing.B) {
	for _, name := range []string{"text", "mixed", "noise", "skewed"} {
		content := contents()[name]
		data := deflated(b, content, 6)
		b.Run(name, func(b *testing.B) {
			z := inflate.NewReader(nil)
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				z.Reset(bytes.NewReader(data))
				_, err := io.Copy(io.Discard, z)
				require.NoError(b, err)
			}
		})
	}
}
