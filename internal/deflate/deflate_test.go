package deflate_test

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	kflate "github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/deflate"
	"github.com/okd-project/okd-streams/internal/interop"
)

var update = flag.Bool("update", false, "write golden files")

func encoder(t testing.TB, level int) *deflate.Encoder {
	t.Helper()
	e, err := deflate.NewEncoder(level, deflate.MaxWindow)
	require.NoError(t, err)
	return e
}

// packed compresses content in pieces of so many bytes.
func packed(t testing.TB, e *deflate.Encoder, piece int, content []byte) (out []byte) {
	t.Helper()
	for first := true; first || len(content) > 0; first = false {
		n := min(piece, len(content))
		var err error
		out, err = e.Append(out, content[:n], n == len(content))
		require.NoError(t, err)
		content = content[n:]
	}
	return out
}

func requireUnpacks(t testing.TB, content, data []byte) {
	t.Helper()
	got, err := io.ReadAll(flate.NewReader(bytes.NewReader(data)))
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	got, err = io.ReadAll(kflate.NewReader(bytes.NewReader(data)))
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
}

// samples are contents that exercise all kinds of blocks and codes.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	words := make([][]byte, 500)
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x ", r.Uint32N(1<<uint(r.IntN(32))))
	}
	var prose []byte
	for len(prose) < 300_000 {
		prose = append(prose, words[r.IntN(1+r.IntN(len(words)))]...)
	}
	// Bytes as frequent as Fibonacci's numbers: codes would be longer than allowed.
	var skewed []byte
	for i, a, b := 0, 1, 1; i < 24; i, a, b = i+1, b, a+b {
		for range a {
			skewed = append(skewed, byte(i*7))
		}
	}
	r.Shuffle(len(skewed), func(i, j int) { skewed[i], skewed[j] = skewed[j], skewed[i] })
	return map[string][]byte{
		"empty": nil, "one": {7}, "seven": []byte("content"), "short": []byte("abcabcabcabcdabcabcabcabcd"),
		"zeros": make([]byte, 500_000), "noise": noise, "prose": prose, "skewed": skewed,
		"far":   append(append(bytes.Clone(noise[:40_000]), make([]byte, 70_000)...), noise[:40_000]...),
		"edge":  append(append(bytes.Clone(noise[:32_767]), noise[:32_767]...), noise[:300]...),
		"mixed": bytes.Join([][]byte{prose[:70_000], noise[:66_000], noise[50_000:], noise[:90_000], make([]byte, 5000), prose, skewed}, nil),
	}
}

func TestRoundTrip(t *testing.T) {
	for level := 1; level <= 9; level++ {
		e := encoder(t, level)
		for name, content := range samples() {
			for _, piece := range []int{len(content) + 1, len(content)/3 + 1} {
				data := packed(t, e, piece, content)
				requireUnpacks(t, content, data)
				require.LessOrEqual(t, len(data), len(content)+len(content)/5000+30, "%s, level %d", name, level)
			}
		}
	}
}

// TestWindow: matches reach as far back as the encoder was told, and no farther.
func TestWindow(t *testing.T) {
	noise := samples()["noise"]
	for level := 1; level <= 9; level++ {
		for _, window := range []int{deflate.MinWindow, 10_000, deflate.MaxWindow} {
			e, err := deflate.NewEncoder(level, window)
			require.NoError(t, err)
			for _, c := range []struct {
				dist   int
				within bool
			}{{1000, true}, {window - 1, true}, {window + 1, false}} {
				content := bytes.Join([][]byte{noise[:c.dist], noise[:600], noise[:c.dist]}, nil)[:c.dist+600]
				got := len(packed(t, e, len(content), content))
				require.Equal(t, c.within, got < c.dist+300, "level %d, window %d, distance %d: %d bytes", level, window, c.dist, got)
			}
		}
	}
}

// TestFarthest: at every place the bytes that are farthest away are still known.
func TestFarthest(t *testing.T) {
	const dist = deflate.MaxWindow - 1
	content := bytes.Repeat(samples()["noise"][:dist], 20)
	for level := 1; level <= 9; level++ {
		size := len(packed(t, encoder(t, level), len(content), content))
		// A match of 258 bytes takes two bytes; the lower levels do not find all of them.
		require.Less(t, size, dist+(len(content)-dist)/258*5, "level %d", level)
	}
}

// TestSizes: not larger than what the encoder of Go makes of it at its level 6, but for
// what is lost where its blocks happen to end better.
func TestSizes(t *testing.T) {
	e := encoder(t, 6)
	for name, content := range samples() {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, 6)
		require.NoError(t, err)
		_, err = w.Write(content)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.LessOrEqual(t, float64(len(packed(t, e, len(content)+1, content))), 1.03*float64(b.Len())+8, name)
	}
}

// An encoder that worked on something gives the same bytes as a new one.
func TestPinned(t *testing.T) {
	got := map[string]string{}
	for _, level := range []int{1, 3, 6, 9} {
		e := encoder(t, level)
		for name, content := range samples() {
			data := packed(t, e, 100_000, content)
			require.True(t, bytes.Equal(data, packed(t, encoder(t, level), 100_000, content)), name)
			got[fmt.Sprintf("%s %d", name, level)] = fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))
		}
	}
	have, err := json.MarshalIndent(got, "", "  ")
	require.NoError(t, err)
	path := filepath.Join("testdata", "pinned.json")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, append(have, '\n'), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(have)+"\n")
}

func TestErrors(t *testing.T) {
	for _, level := range []int{-1, 0, 10} {
		_, err := deflate.NewEncoder(level, deflate.MaxWindow)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	for _, window := range []int{0, deflate.MinWindow - 1, deflate.MaxWindow + 1} {
		_, err := deflate.NewEncoder(6, window)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
}

// TestReference has gzip read what we write.
func TestReference(t *testing.T) {
	interop.Peer(t, "pigz")
	for name, content := range samples() {
		// A zlib stream without a header is what pigz has no option for: as zlib, whose
		// checksum comes last.
		data := append([]byte{0x78, 0x9c}, packed(t, encoder(t, 6), 50_000, content)...)
		a, b := uint32(1), uint32(0)
		for _, c := range content {
			a = (a + uint32(c)) % 65521
			b = (b + a) % 65521
		}
		data = append(data, byte(b>>8), byte(b), byte(a>>8), byte(a))
		cmd := exec.CommandContext(t.Context(), "pigz", "-dcz")
		cmd.Stdin = bytes.NewReader(data)
		got, err := cmd.Output()
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(content, got), name)
	}
}

func ExampleEncoder() {
	e, err := deflate.NewEncoder(6, deflate.MaxWindow)
	if err != nil {
		panic(err)
	}
	first, err := e.Append(nil, []byte("a piece, "), false)
	if err != nil {
		panic(err)
	}
	second, err := e.Append(nil, []byte("and the last"), true)
	if err != nil {
		panic(err)
	}
	content, err := io.ReadAll(flate.NewReader(bytes.NewReader(append(first, second...))))
	fmt.Println(string(content), err)
	// Output: a piece, and the last <nil>
}

func FuzzRoundTrip(f *testing.F) {
	for _, content := range samples() {
		f.Add(content[:min(len(content), 20_000)], uint16(len(content)), uint8(3))
	}
	encoders := map[int]*deflate.Encoder{}
	f.Fuzz(func(t *testing.T, content []byte, piece uint16, repeat uint8) {
		level := 1 + int(repeat)%9
		if encoders[level] == nil {
			encoders[level] = encoder(t, level)
		}
		content = bytes.Repeat(content, 1+int(repeat)/8)
		requireUnpacks(t, content, packed(t, encoders[level], max(int(piece), 1+len(content)/20), content))
	})
}

// BenchmarkClusters compresses what disk images have: pieces of 64 KiB.
func BenchmarkClusters(b *testing.B) {
	content := samples()["mixed"]
	e := encoder(b, 4)
	var out []byte
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		for at := 0; at < len(content); at += 64 << 10 {
			var err error
			out, err = e.Append(out[:0], content[at:min(at+64<<10, len(content))], true)
			require.NoError(b, err)
		}
	}
}

func BenchmarkEncoder(b *testing.B) {
	content := samples()["mixed"]
	for _, level := range []int{1, 3, 6} {
		b.Run(fmt.Sprint(level), func(b *testing.B) {
			e := encoder(b, level)
			var out []byte
			var err error
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				out, err = e.Append(out[:0], content, true)
				require.NoError(b, err)
			}
		})
	}
}
