package zstd_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	kzstd "github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/zstd"
)

var update = flag.Bool("update", false, "write golden files")

// levels are one of each strength.
var levels = []int{1, 3, 6, 10}

func encoder(t testing.TB, level int) *zstd.Encoder {
	t.Helper()
	e, err := zstd.NewEncoder(level)
	require.NoError(t, err)
	return e
}

func frame(t testing.TB, e *zstd.Encoder, content []byte) []byte {
	t.Helper()
	out, err := e.Append(nil, content)
	require.NoError(t, err)
	return out
}

func decoder(t testing.TB) *kzstd.Decoder {
	t.Helper()
	d, err := kzstd.NewReader(nil, kzstd.WithDecoderConcurrency(1), kzstd.WithDecoderMaxMemory(1<<26))
	require.NoError(t, err)
	t.Cleanup(d.Close)
	return d
}

// samples are contents that exercise all kinds of blocks, literals and tables.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	words := make([][]byte, 2000)
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x ", r.Uint32N(1<<uint(r.IntN(32))))
	}
	var prose []byte
	for len(prose) < 400_000 {
		prose = append(prose, words[r.IntN(1+r.IntN(len(words)))]...)
	}
	records := make([]byte, 0, 150_000) // the same but for a byte: distances again
	for i := 0; len(records) < 150_000; i++ {
		records = append(records, "a record of the kind that tables have, number "...)
		records = append(records, byte(i), byte(i>>8), byte(r.IntN(3)), 0)
	}
	dna := make([]byte, 60_000) // literals without matches that pay
	for i := range dna {
		dna[i] = "acgt"[r.IntN(4)]
	}
	skewed := make([]byte, 70_000) // weights of which there is one only
	for i := range skewed {
		skewed[i] = byte(r.IntN(192))
		if r.IntN(4) == 0 {
			skewed[i] = 255
		}
	}
	fibonacci := make([]byte, 0, 150_000) // the longest codes
	for s, a, b := byte(0), 1, 1; len(fibonacci) < 130_000; s, a, b = s+1, b, a+b {
		fibonacci = append(fibonacci, bytes.Repeat([]byte{s}, a)...)
	}
	r.Shuffle(len(fibonacci), func(i, j int) { fibonacci[i], fibonacci[j] = fibonacci[j], fibonacci[i] })
	far := append(bytes.Clone(noise[:60_000]), prose[:100_000]...)
	far = append(append(far, make([]byte, 1_000_000)...), noise[:60_000]...)
	return map[string][]byte{
		"none": nil, "one": {7}, "two": {7, 7}, "three": {1, 2, 3}, "seven": []byte("abababa"), "short": []byte("abcabcabcabcd"),
		"zeros": make([]byte, 300_000), "noise": noise, "prose": prose, "records": records, "dna": dna, "skewed": skewed, "fibonacci": fibonacci, "far": far,
		"mixed": bytes.Join([][]byte{prose[:70_000], noise[:66_000], records[:50_000], noise[50_000:], dna, noise[:90_000], make([]byte, 5000), prose}, nil),
	}
}

func TestRoundTrip(t *testing.T) {
	d := decoder(t)
	for _, level := range levels {
		e := encoder(t, level)
		for name, content := range samples() {
			got := frame(t, e, content)
			back, err := d.DecodeAll(got, nil)
			require.NoError(t, err, "%s, level %d", name, level)
			require.True(t, bytes.Equal(content, back), "%s, level %d", name, level)
			// No more than what headers need at worst.
			require.LessOrEqual(t, len(got), len(content)+3*(len(content)>>17+1)+16, name)
			// What was compressed before changes nothing.
			if len(content) < 100_000 {
				require.True(t, bytes.Equal(got, frame(t, encoder(t, level), content)), "%s, level %d", name, level)
			}
		}
	}
}

// TestBorders has sizes at which headers, blocks and streams of literals change.
func TestBorders(t *testing.T) {
	d := decoder(t)
	r := rand.New(rand.NewPCG(3, 4))
	sources := [][]byte{samples()["prose"], samples()["noise"], samples()["dna"], make([]byte, 1<<18)}
	for _, level := range levels {
		e := encoder(t, level)
		check := func(content []byte) {
			t.Helper()
			back, err := d.DecodeAll(frame(t, e, content), nil)
			require.NoError(t, err, "level %d, %d bytes", level, len(content))
			require.True(t, bytes.Equal(content, back), "level %d, %d bytes", level, len(content))
		}
		for _, source := range sources {
			for n := range 300 {
				at := r.IntN(len(source) - n)
				check(source[at : at+n])
			}
			for _, border := range []int{1 << 10, 1 << 12, 1 << 14, 1 << 16, 1<<16 + 256, 1 << 17, 1 << 18} {
				for n := border - 3; n <= border+3; n++ {
					check(source[:min(n, len(source))])
				}
			}
		}
	}
}

// TestStructured has content of random repetitions near and far, with few or many
// different bytes.
func TestStructured(t *testing.T) {
	d := decoder(t)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(5, seed))
		content := make([]byte, 0, 300_000)
		kinds := 1 + r.IntN(256)
		for n := 1000 << r.IntN(8); len(content) < n; {
			if len(content) > 0 && r.IntN(2) == 0 {
				place := len(content) - 1 - r.IntN(min(len(content), 1<<r.IntN(18)))
				for range 1 + r.IntN(4<<r.IntN(10)) {
					content = append(content, content[place])
					place++
				}
				continue
			}
			for range 1 + r.IntN(1+r.IntN(100)) {
				content = append(content, byte(r.IntN(kinds)))
			}
		}
		for _, level := range levels {
			back, err := d.DecodeAll(frame(t, encoder(t, level), content), nil)
			require.NoError(t, err, "seed %d, level %d", seed, level)
			require.True(t, bytes.Equal(content, back), "seed %d, level %d", seed, level)
		}
	}
}

// TestPinned notices that bytes change: then digests of images and checksums of artifacts
// do, and the encoder's number in ostree/container has to.
func TestPinned(t *testing.T) {
	got := map[string]string{}
	for _, level := range levels {
		e := encoder(t, level)
		for name, content := range samples() {
			data := frame(t, e, content)
			got[fmt.Sprintf("%s-%d", name, level)] = fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))
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

// TestReference has zstd read what we write, and compares sizes with its own.
func TestReference(t *testing.T) {
	interop.Peer(t, "zstd")
	run := func(content []byte, args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), "zstd", args...)
		cmd.Stdin = bytes.NewReader(content)
		out, err := cmd.Output()
		require.NoError(t, err)
		return out
	}
	for _, level := range levels {
		e := encoder(t, level)
		for name, content := range samples() {
			data := frame(t, e, content)
			require.True(t, bytes.Equal(content, run(data, "-dc")), "%s, level %d", name, level)
			run(data, "-tq")
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, level := range []int{-1, 0, 23} {
		_, err := zstd.NewEncoder(level)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	out, err := encoder(t, 1).Append([]byte("kept"), make([]byte, zstd.MaxSize+1))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Equal(t, "kept", string(out))
}

func FuzzAppend(f *testing.F) {
	for _, content := range samples() {
		f.Add(content[:min(len(content), 20_000)], uint8(10))
	}
	d := decoder(f)
	f.Fuzz(func(t *testing.T, content []byte, level uint8) {
		e := encoder(t, int(level%22)+1)
		for range 2 { // as a second frame, too
			back, err := d.DecodeAll(frame(t, e, content), nil)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, back))
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	content := bytes.Repeat(samples()["mixed"], 3)
	for _, level := range levels {
		b.Run(fmt.Sprint(level), func(b *testing.B) {
			e := encoder(b, level)
			var out []byte
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				out, _ = e.Append(out[:0], content)
			}
		})
	}
}
