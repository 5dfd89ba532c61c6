package deflate_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk/internal/deflate"
)

// inputs are of every kind: nothing, few symbols, runs, text, noise, and all of them.
func inputs() map[string][]byte {
	noise := make([]byte, deflate.MaxSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	var text strings.Builder
	for i := 0; text.Len() < deflate.MaxSize; i++ {
		text.WriteString([]string{"all ", "work ", "and ", "no ", "play ", "makes\n"}[int(noise[i])%6])
	}
	words := []byte(text.String()[:deflate.MaxSize])
	skewed := make([]byte, deflate.MaxSize) // makes words longer than there may be
	n := 0
	for symbol, count := 0, 1; n+count < len(skewed); symbol, count = symbol+1, count*3/2+1 {
		n += copy(skewed[n:], bytes.Repeat([]byte{byte(symbol)}, count))
	}
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(skewed), func(i, j int) { skewed[i], skewed[j] = skewed[j], skewed[i] })
	mixed := append(append(append([]byte(nil), words[:20000]...), noise[:20000]...), bytes.Repeat([]byte{7}, 20000)...)
	return map[string][]byte{
		"nothing": nil, "byte": {5}, "zero byte": {0}, "three": {1, 2, 3}, "equal": {9, 9, 9, 9, 9, 9, 9}, "zeros": make([]byte, deflate.MaxSize),
		"text": words, "noise": noise, "skewed": skewed, "mixed": mixed, "short noise": noise[:100],
		"far": append(append(append([]byte(nil), noise[:32768]...), noise[:1000]...), noise[:4096]...),
	}
}

// inflate reads data as Go's compress/flate does, with matches that reach back no
// more than window bytes.
func inflate(t testing.TB, data []byte) []byte {
	t.Helper()
	r := bytes.NewReader(data)
	got, err := io.ReadAll(flate.NewReader(r))
	require.NoError(t, err)
	require.Zero(t, r.Len(), "bytes behind the end")
	return got
}

func TestEncode(t *testing.T) {
	for _, window := range []int{4 << 10, 32 << 10} {
		e := deflate.New(window)
		for name, in := range inputs() {
			out := e.Encode([]byte("before"), in)
			require.Equal(t, "before", string(out[:6]), name)
			got := inflate(t, out[6:])
			require.True(t, bytes.Equal(in, got), name)
			require.LessOrEqual(t, len(out)-6, len(in)+len(in)/10000+16, name)
			// Whatever was encoded before.
			require.Equal(t, out[6:], deflate.New(window).Encode(nil, in), name)
		}
	}
}

// TestWindow reads with a window no larger than the encoder was told.
func TestWindow(t *testing.T) {
	in := inputs()
	noise := in["noise"][:4<<10]
	near := append(append([]byte(nil), noise...), noise...)                    // 4096 back
	far := append(append(append([]byte(nil), noise...), noise[0]+1), noise...) // 4097 back
	e := deflate.New(4 << 10)
	require.Less(t, len(e.Encode(nil, near)), len(near)*6/10)
	require.Greater(t, len(e.Encode(nil, far)), len(far)*9/10)
	require.Less(t, len(deflate.New(32<<10).Encode(nil, far)), len(far)*6/10)
}

func FuzzEncode(f *testing.F) {
	for _, in := range inputs() {
		f.Add(in[:min(len(in), 2000)], uint16(3))
	}
	small, large := deflate.New(4<<10), deflate.New(32<<10)
	f.Fuzz(func(t *testing.T, in []byte, repeat uint16) {
		in = bytes.Repeat(in, int(repeat)%50+1)
		in = in[:min(len(in), deflate.MaxSize)]
		require.True(t, bytes.Equal(in, inflate(t, small.Encode(nil, in))))
		require.True(t, bytes.Equal(in, inflate(t, large.Encode(nil, in))))
	})
}

func BenchmarkEncode(b *testing.B) {
	in := make([]byte, 0, deflate.MaxSize)
	r := rand.New(rand.NewPCG(1, 2))
	for len(in) < deflate.MaxSize-16 { // as machine code: few operations, many operands
		in = append(in, "\x48\x8b\x45\xf8\xe8"[r.IntN(5):][:1]...)
		in = binary.LittleEndian.AppendUint16(in, uint16(r.ExpFloat64()*300))
	}
	e := deflate.New(32 << 10)
	b.SetBytes(int64(len(in)))
	var out []byte
	for b.Loop() {
		out = e.Encode(out[:0], in)
	}
	b.ReportMetric(float64(len(out)), "bytes/out")
}
