package decompress_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/xz"
)

// blocks is an xz file with blocks of known sizes.
func blocks(t testing.TB, content []byte, size int) []byte {
	t.Helper()
	e, err := xz.NewEncoder(1)
	require.NoError(t, err)
	out := xz.AppendHeader(nil)
	var index xz.Index
	for len(content) > 0 {
		n, begin := min(size, len(content)), len(out)
		out, err = e.AppendBlock(out, content[:n])
		require.NoError(t, err)
		index.Add(out[begin:])
		content = content[n:]
	}
	return index.Append(out)
}

func unpackedBy(workers int, r io.Reader) ([]byte, error) {
	d, err := decompress.NewParallelReader(r, workers, decompress.MaxXZAhead)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(d)
	return content, errors.Join(err, d.Close())
}

// words gives n bytes that compress.
func words(n int) (out []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for len(out) < n {
		out = fmt.Appendf(out, "%x ", r.Uint32N(1<<uint(r.IntN(32))))
	}
	return out[:n]
}

func TestParallel(t *testing.T) {
	content := words(50_000)
	for _, size := range []int{100, 7_000, 50_000} {
		data := blocks(t, content, size)
		mixed := bytes.Join([][]byte{data, make([]byte, 8), packed(t, "xz", content), data, packed(t, "xz sha256", nil), blocks(t, nil, 1), data}, nil)
		for workers := range 5 {
			got, err := unpackedBy(workers, iotest.HalfReader(bytes.NewReader(data)))
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got))

			// Blocks without sizes, empty streams and padding between them.
			got, err = unpackedBy(workers, bytes.NewReader(mixed))
			require.NoError(t, err)
			require.True(t, bytes.Equal(bytes.Repeat(content, 4), got))
		}
	}
}

// TestParallelDamage changes each byte and cuts everywhere: what is given is right as far
// as it goes, and whole blocks alone.
func TestParallelDamage(t *testing.T) {
	content := words(2_000)
	data := blocks(t, content, 500)
	lenient := 0
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x40
		if i >= 6 { // else it is no xz file
			got, err := unpackedBy(2, bytes.NewReader(bad))
			if err == nil {
				require.True(t, bytes.Equal(content, got), "byte %d", i)
				lenient++
			}
			require.True(t, bytes.HasPrefix(content, got), "byte %d", i)
			require.Zero(t, len(got)%500, "byte %d", i)
		}
		if i > 6 {
			got, err := unpackedBy(2, bytes.NewReader(data[:i]))
			require.Error(t, err, "cut at %d", i)
			require.True(t, bytes.HasPrefix(content, got))
			require.Zero(t, len(got)%500, "cut at %d", i)
		}
	}
	require.Less(t, lenient, 10)

	// The error of the file comes behind the blocks before it.
	got, err := unpackedBy(3, io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(io.ErrNoProgress)))
	require.ErrorIs(t, err, io.ErrNoProgress)
	require.NotEmpty(t, got)
	require.True(t, bytes.HasPrefix(content, got))
}

// sized is a file whose block's header promises sizes.
func sized(packed, size uint64, dict byte) []byte {
	head := binary.AppendUvarint(binary.AppendUvarint([]byte{0, 0xc0}, packed), size)
	head = append(head, 0x21, 1, dict)
	for len(head)%4 != 0 {
		head = append(head, 0)
	}
	head[0] = byte(len(head) / 4)
	return append(xz.AppendHeader(nil), binary.LittleEndian.AppendUint32(head, crc32.ChecksumIEEE(head))...)
}

// TestParallelBombs: memory is taken for what is there, not for what is promised.
func TestParallelBombs(t *testing.T) {
	for _, size := range [][2]uint64{{1, 1 << 40}, {100 << 20, 1 << 20}, {1 << 20, 100 << 20}, {1 << 62, 1 << 62}, {1, 100 << 20}} {
		data := append(sized(size[0], size[1], 0), "\x01\x00\x00x"...)
		fuzzbound.Within(t, 8<<20, func() {
			_, err := unpackedBy(2, bytes.NewReader(data))
			require.Error(t, err)
		})
	}
	// Zeros become more than the header says.
	zeros := blocks(t, make([]byte, 20<<20), 20<<20)
	head := sized(uint64(len(zeros)), 1000, zeros[19])
	_, err := unpackedBy(2, bytes.NewReader(append(head, zeros[32:]...)))
	require.Error(t, err)
}

func TestParallelTools(t *testing.T) {
	interop.Peer(t, "xz")
	content := words(1 << 20)
	for _, args := range [][]string{{"-T2", "--block-size=100KiB"}, {"-T2", "-0"}, {"-T2", "-C", "sha256", "--block-size=300KiB"}, {"-T2", "-C", "crc32", "--block-size=300KiB"}, {"-T2", "-C", "none", "--block-size=300KiB"}, {"-9", "-T1"}} {
		cmd := exec.CommandContext(t.Context(), "xz", append(args, "-c")...)
		cmd.Stdin = bytes.NewReader(content)
		data, err := cmd.Output()
		require.NoError(t, err, "%s", args)
		got, err := unpackedBy(2, bytes.NewReader(data))
		require.NoError(t, err, "%s", args)
		require.True(t, bytes.Equal(content, got), "%s", args)
	}
}

func ExampleNewParallelReader() {
	e, err := xz.NewEncoder(1)
	if err != nil {
		panic(err)
	}
	block, err := e.AppendBlock(nil, []byte("content"))
	if err != nil {
		panic(err)
	}
	var index xz.Index
	index.Add(block)
	file := index.Append(append(xz.AppendHeader(nil), block...))
	r, err := decompress.NewParallelReader(bytes.NewReader(file), 2, decompress.MaxXZAhead)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	fmt.Println(string(content), err)
	// Output: content <nil>
}

// FuzzParallel: several workers find the same as none.
func FuzzParallel(f *testing.F) {
	f.Add(blocks(f, []byte("content content content"), 5))
	f.Add(append(blocks(f, []byte("content"), 3), packed(f, "xz sha256", []byte("more"))...))
	f.Add(sized(1<<20, 1<<30, 30))
	f.Fuzz(requireSame)
}

// A fault behind what the fuzz target reads.
func TestParallelLateFault(t *testing.T) {
	data := blocks(t, make([]byte, 9<<20), 9<<20)
	data[len(data)-12-12-1] ^= 1 // before index and footer
	_, err := unpackedBy(0, bytes.NewReader(data))
	require.ErrorContains(t, err, "content checksum")
	requireSame(t, data)
}

// requireSame reads with and without workers.
func requireSame(t *testing.T, data []byte) {
	const most = 8 << 20
	read := func(workers int) ([]byte, error) {
		d, err := decompress.NewParallelReader(bytes.NewReader(data), workers, decompress.MaxXZAhead)
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(io.LimitReader(d, most))
		return content, errors.Join(err, d.Close())
	}
	var one, two []byte
	var oneErr, twoErr error
	// The content is kept, of 8 MiB at most, in a buffer that doubles.
	limit := 2*(decompress.MaxXZWindow+32<<20) + 2*4096*len(data)
	if bytes.Contains(data, []byte{0xb5, 0x2f, 0xfd}) {
		limit += 2 * (fuzzbound.ZstdWindows(data, decompress.MaxZstdWindow) + 16<<20)
	}
	fuzzbound.Within(t, limit, func() {
		one, oneErr = read(0)
		two, twoErr = read(2)
	})
	if len(one) < most { // else workers see a fault in the rest of the block as well
		require.Equal(t, oneErr == nil, twoErr == nil, "%v, %v", oneErr, twoErr)
	}
	if oneErr == nil && twoErr == nil {
		require.True(t, bytes.Equal(one, two))
	}
	require.True(t, bytes.HasPrefix(one, two))
}

func BenchmarkParallel(b *testing.B) {
	content := words(8 << 20)
	data := blocks(b, content, 1<<20)
	for _, workers := range []int{0, 2} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				d, err := decompress.NewParallelReader(bytes.NewReader(data), workers, decompress.MaxXZAhead)
				require.NoError(b, err)
				_, err = io.Copy(io.Discard, d)
				require.NoError(b, err)
				require.NoError(b, d.Close())
			}
		})
	}
}
