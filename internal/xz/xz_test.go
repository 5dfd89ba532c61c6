package xz_test

import (
	"bytes"
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
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/xz"
)

var update = flag.Bool("update", false, "write golden files")

// file compresses content in blocks of so many bytes.
func file(t testing.TB, level, block int, content []byte) []byte {
	t.Helper()
	return fileOf(t, encoder(t, level), block, content)
}

func encoder(t testing.TB, level int) *xz.Encoder {
	t.Helper()
	e, err := xz.NewEncoder(level)
	require.NoError(t, err)
	return e
}

func fileOf(t testing.TB, e *xz.Encoder, block int, content []byte) []byte {
	t.Helper()
	out := xz.AppendHeader(nil)
	var index xz.Index
	for len(content) > 0 {
		n, begin := min(block, len(content)), len(out)
		var err error
		out, err = e.AppendBlock(out, content[:n])
		require.NoError(t, err)
		index.Add(out[begin:])
		content = content[n:]
	}
	return index.Append(out)
}

func unpacked(t testing.TB, data []byte) []byte {
	t.Helper()
	d, err := decompress.NewReader(bytes.NewReader(data))
	require.NoError(t, err)
	content, err := io.ReadAll(d)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	return content
}

// samples are contents that exercise different packets and chunks.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	words := make([][]byte, 500)
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x ", r.Uint32N(1<<uint(r.IntN(32))))
	}
	var prose []byte
	for len(prose) < 120_000 {
		prose = append(prose, words[r.IntN(1+r.IntN(len(words)))]...)
	}
	records := make([]byte, 0, 80_000) // the same but for a byte: literals between matches
	for i := 0; len(records) < 80_000; i++ {
		records = append(records, "a record of the kind that tables have, number "...)
		records = append(records, byte(i), byte(i>>8), byte(r.IntN(3)), 0)
	}
	dna := make([]byte, 40_000)
	for i := range dna {
		dna[i] = "acgt"[r.IntN(4)]
	}
	far := append(bytes.Clone(noise[:40_000]), prose[:40_000]...)
	far = append(append(far, make([]byte, 1_000_000)...), noise[:40_000]...) // farther behind than level 1 looks
	return map[string][]byte{
		"one": {7}, "two": {7, 7}, "three": {1, 2, 3}, "four": {1, 2, 3, 4}, "short": []byte("abcabcabcabcd"),
		"zeros": make([]byte, 2_200_000), "noise": noise, "prose": prose, "records": records, "dna": dna, "far": far,
		"mixed": bytes.Join([][]byte{prose[:70_000], noise[:66_000], records[:50_000], noise[50_000:], noise[:90_000], make([]byte, 5000), prose}, nil),
	}
}

func TestRoundTrip(t *testing.T) {
	encoders := map[int]*xz.Encoder{1: encoder(t, 1), 6: encoder(t, 6)}
	require.Empty(t, unpacked(t, file(t, 1, 1, nil)))
	for name, content := range samples() {
		for level, e := range encoders {
			for _, block := range []int{len(content), len(content)/3 + 1} {
				if level == 6 && block == len(content) {
					continue // TestSizes does
				}
				got := fileOf(t, e, block, content)
				require.True(t, bytes.Equal(content, unpacked(t, got)), "%s, level %d, blocks of %d", name, level, block)
				// No more than what LZMA2 and the container need at worst.
				require.Less(t, len(got), len(content)+len(content)/20_000+200, name)
			}
		}
	}
}

// TestSizes: nothing is written larger than it need be. TestReference compares with
// xz.
func TestSizes(t *testing.T) {
	e := encoder(t, 6)
	limits := map[string]int{"zeros": 500, "prose": 36_000, "records": 2_000, "dna": 11_700, "far": 54_000}
	for name, content := range samples() {
		got := fileOf(t, e, 8<<20, content)
		require.True(t, bytes.Equal(content, unpacked(t, got)), name)
		most, ok := limits[name]
		if !ok {
			most = len(content) + len(content)/20_000 + 200
		}
		require.LessOrEqual(t, len(got), most, name)
	}
}

// An encoder that worked on something gives the same bytes as a new one.
func TestPinned(t *testing.T) {
	e := encoder(t, 6)
	got := map[string]string{}
	for name, content := range samples() {
		data := fileOf(t, e, 1<<20, content)
		if len(content) < 100_000 {
			require.True(t, bytes.Equal(data, file(t, 6, 1<<20, content)), name)
		}
		got[name] = fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))
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
		_, err := xz.NewEncoder(level)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.Zero(t, xz.Memory(level))
	}
	e := encoder(t, 1)
	_, err := e.AppendBlock(nil, make([]byte, xz.MaxBlockSize+1))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	var index xz.Index
	index.Add([]byte("no block"))
	require.Equal(t, new(xz.Index).Append(nil), index.Append(nil))
}

// TestReference has xz test and list what we write, and compares sizes.
func TestReference(t *testing.T) {
	interop.Peer(t, "xz")
	path := filepath.Join(t.TempDir(), "file.xz")
	xzCommand := func(in []byte, args ...string) string {
		cmd := exec.CommandContext(t.Context(), "xz", args...)
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %.300s", args, out)
		return string(out)
	}
	encoders := map[int]*xz.Encoder{1: encoder(t, 1), 6: encoder(t, 6), 9: encoder(t, 9)}
	for name, content := range samples() {
		for level, e := range encoders {
			if level == 9 && len(content) > 50_000 {
				continue // its tables are cleared for each block
			}
			data := fileOf(t, e, 100_000, content)
			require.NoError(t, os.WriteFile(path, data, 0o644))
			require.True(t, string(content) == xzCommand(nil, "-dc", "-T2", path), name)
			list := xzCommand(nil, "--robot", "--list", "-vv", path)
			require.Equal(t, (len(content)+99_999)/100_000, strings.Count(list, "\nblock\t"), name)
			require.Contains(t, list, "CRC64")
			require.Contains(t, list, "\tcu\t", "sizes are in the headers of blocks")
		}
		ours := len(fileOf(t, encoders[6], 8<<20, content))
		theirs := len(xzCommand(content, "-6", "--block-size=8388608", "-c"))
		require.LessOrEqual(t, float64(ours), 1.03*float64(theirs)+32, name)
	}
}

func ExampleEncoder() {
	e, err := xz.NewEncoder(6)
	if err != nil {
		panic(err)
	}
	var index xz.Index
	out := xz.AppendHeader(nil)
	for _, content := range []string{"a block", "another"} {
		block, err := e.AppendBlock(nil, []byte(content))
		if err != nil {
			panic(err)
		}
		index.Add(block)
		out = append(out, block...)
	}
	out = index.Append(out)
	d, err := decompress.NewReader(bytes.NewReader(out))
	if err != nil {
		panic(err)
	}
	content, err := io.ReadAll(d)
	fmt.Println(string(content), err)
	// Output: a blockanother <nil>
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("content content content"), uint16(5), uint8(3))
	for _, content := range samples() {
		f.Add(content[:min(len(content), 5000)], uint16(len(content)), uint8(6))
	}
	encoders := map[int]*xz.Encoder{}
	f.Fuzz(func(t *testing.T, content []byte, block uint16, repeat uint8) {
		level := 1 + int(repeat)%6
		if encoders[level] == nil {
			var err error
			encoders[level], err = xz.NewEncoder(level)
			require.NoError(t, err)
		}
		content = bytes.Repeat(content, 1+int(repeat)/16) // so that there are long matches
		data := fileOf(t, encoders[level], max(int(block), 1+len(content)/20), content)
		require.True(t, bytes.Equal(content, unpacked(t, data)))
	})
}

func BenchmarkEncoder(b *testing.B) {
	content := samples()["mixed"]
	for _, level := range []int{1, 6} {
		b.Run(fmt.Sprint(level), func(b *testing.B) {
			e := encoder(b, level)
			var out []byte
			var err error
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				out, err = e.AppendBlock(out[:0], content)
				require.NoError(b, err)
			}
		})
	}
}
