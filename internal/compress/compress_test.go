package compress_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"

	kzstd "github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/compress"
	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/zstd"
)

var update = flag.Bool("update", false, "write golden files")

// text gives n bytes with repetitions near and far, always the same.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	words := make([][]byte, 3000)
	for i := range words {
		words[i] = make([]byte, 1+r.IntN(12))
		for j := range words[i] {
			words[i][j] = byte('a' + r.IntN(26))
		}
	}
	out := make([]byte, 0, n+1<<16)
	for len(out) < n {
		switch r.IntN(200) {
		case 0: // what does not compress
			for range r.IntN(4000) {
				out = append(out, byte(r.Uint32()))
			}
		case 1: // zeros, as disks have
			out = append(out, make([]byte, r.IntN(20000))...)
		default:
			w := words[min(r.IntN(len(words)), r.IntN(len(words)))]
			out = append(append(out, w...), ' ')
		}
	}
	return out[:n]
}

// packed compresses content by several writes.
func packed(t testing.TB, e compress.Encoding, workers int, content []byte) ([]byte, compress.Result) {
	t.Helper()
	p, err := compress.NewPool(e, workers, 1)
	require.NoError(t, err)
	defer p.Close()
	var b bytes.Buffer
	w := p.NewWriter(t.Context(), &b)
	for len(content) > 0 {
		n, err := w.Write(content[:min(len(content), 77_777)])
		require.NoError(t, err)
		content = content[n:]
	}
	r, err := w.Finish()
	require.NoError(t, err)
	return b.Bytes(), r
}

// read compresses what r has.
func read(t testing.TB, e compress.Encoding, r io.Reader) ([]byte, compress.Result) {
	t.Helper()
	p, err := compress.NewPool(e, 2, 1)
	require.NoError(t, err)
	defer p.Close()
	var b bytes.Buffer
	w := p.NewWriter(t.Context(), &b)
	_, err = w.ReadFrom(r)
	require.NoError(t, err)
	result, err := w.Finish()
	require.NoError(t, err)
	return b.Bytes(), result
}

// TestReadFromFails: the error of the reader is told, wherever it comes, and the
// workers are free for the next stream.
func TestReadFromFails(t *testing.T) {
	p, err := compress.NewPool(compress.Encoding{Codec: compress.None, BlockSize: block}, 1, 1)
	require.NoError(t, err)
	defer p.Close()
	for _, size := range sizes {
		w := p.NewWriter(t.Context(), io.Discard)
		n, err := w.ReadFrom(io.MultiReader(bytes.NewReader(text(size)), iotest.ErrReader(io.ErrNoProgress)))
		require.ErrorIs(t, err, io.ErrNoProgress)
		require.EqualValues(t, size, n)
		w.Abort()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := p.NewWriter(ctx, io.Discard)
	_, err = w.ReadFrom(bytes.NewReader(text(1)))
	require.ErrorIs(t, err, context.Canceled)
	w.Abort()
}

const block = 100_000

var encodings = []compress.Encoding{
	{Codec: compress.None, BlockSize: block},
	{Codec: compress.Gzip, Level: 1, BlockSize: block},
	{Codec: compress.Gzip, Level: 6, BlockSize: block},
	{Codec: compress.Gzip, Level: 9, BlockSize: block},
	{Codec: compress.Gzip, Level: 3, BlockSize: block, Own: true},
	{Codec: compress.Zstd, Level: 1, BlockSize: block},
	{Codec: compress.Zstd, Level: 3, BlockSize: block, Seekable: true},
	{Codec: compress.Zstd, Level: 9, BlockSize: block, Seekable: true},
	{Codec: compress.Zstd, Level: 19, BlockSize: block, Seekable: true},
	{Codec: compress.XZ, Level: 1, BlockSize: block},
	{Codec: compress.XZ, Level: 6, BlockSize: block},
}

func name(e compress.Encoding) string {
	return fmt.Sprintf("%s-%d-%v", e.Codec, e.Level, e.Seekable || e.Own)
}

var sizes = []int{0, 1, block - 1, block, block + 1, 3 * block, 3*block + 7}

func TestRoundTrip(t *testing.T) {
	for _, e := range encodings {
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%s/%d", name(e), size), func(t *testing.T) {
				content := text(size)
				data, r := packed(t, e, 2, content)
				require.Equal(t, compress.Result{
					ContentSize: int64(size), ContentSHA256: sha256.Sum256(content), Size: int64(len(data)), SHA256: sha256.Sum256(data),
				}, r)
				d, err := decompress.NewReader(bytes.NewReader(data))
				require.NoError(t, err)
				got, err := io.ReadAll(d)
				require.NoError(t, err)
				require.NoError(t, d.Close())
				require.True(t, bytes.Equal(content, got))

				again, _ := packed(t, e, 1, content)
				require.True(t, bytes.Equal(data, again), "one worker gives other bytes")

				again, fromReader := read(t, e, iotest.HalfReader(bytes.NewReader(content)))
				require.True(t, bytes.Equal(data, again), "what is read gives other bytes than what is written")
				require.Equal(t, r, fromReader)
			})
		}
	}
}

// TestPinned notices that bytes of an encoding change: then digests of images and
// checksums of artifacts do.
func TestPinned(t *testing.T) {
	got := map[string]string{}
	for _, e := range encodings {
		data, _ := packed(t, e, 2, text(5*block/2))
		got[name(e)] = fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))
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

// TestSeekTable reads each frame alone, by the table at the end.
func TestSeekTable(t *testing.T) {
	content := text(7*block/2 + 5)
	data, _ := packed(t, compress.Encoding{Codec: compress.Zstd, Level: 3, BlockSize: block, Seekable: true}, 2, content)
	footer := data[len(data)-9:]
	require.EqualValues(t, 0x8f92eab1, binary.LittleEndian.Uint32(footer[5:]))
	require.EqualValues(t, 0x80, footer[4], "entries have checksums")
	frames := int(binary.LittleEndian.Uint32(footer))
	require.Equal(t, 4, frames)
	table := data[len(data)-9-12*frames-8:]
	require.EqualValues(t, 0x184d2a5e, binary.LittleEndian.Uint32(table))
	require.EqualValues(t, len(table)-8, binary.LittleEndian.Uint32(table[4:]))
	d, err := kzstd.NewReader(nil)
	require.NoError(t, err)
	defer d.Close()
	at, offset := 0, 0
	for i := range frames {
		entry := table[8+12*i:]
		size, length := int(binary.LittleEndian.Uint32(entry)), int(binary.LittleEndian.Uint32(entry[4:]))
		got, err := d.DecodeAll(data[at:at+size], nil)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content[offset:offset+length], got), "frame %d", i)
		require.Equal(t, data[at+size-4:at+size], entry[8:12])
		at, offset = at+size, offset+length
	}
	require.Equal(t, len(content), offset)
	require.Equal(t, len(data)-len(table), at)
}

func TestCheck(t *testing.T) {
	for _, e := range []compress.Encoding{
		{}, {Codec: "bzip2", Level: 1, BlockSize: 1}, {Codec: compress.Gzip, BlockSize: 1}, {Codec: compress.Gzip, Level: 10, BlockSize: 1},
		{Codec: compress.Gzip, Level: 6}, {Codec: compress.Gzip, Level: 6, BlockSize: compress.MaxBlockSize + 1},
		{Codec: compress.Gzip, Level: 6, BlockSize: 1, Seekable: true}, {Codec: compress.Zstd, Level: 23, BlockSize: 1}, {Codec: compress.None, Level: 1, BlockSize: 1},
		{Codec: compress.Zstd, Level: 1, BlockSize: zstd.MaxSize + 1},
		{Codec: compress.Zstd, Level: -1, BlockSize: 1}, {Codec: compress.XZ, BlockSize: 1}, {Codec: compress.XZ, Level: 6, BlockSize: 1, Own: true}, {Codec: compress.XZ, Level: 10, BlockSize: 1},
	} {
		_, err := compress.NewPool(e, 1, 1)
		require.ErrorIs(t, err, errors.ErrUnsupported, "%+v", e)
	}
}

func TestWorkers(t *testing.T) {
	e := compress.Encoding{Codec: compress.Zstd, Level: 10, BlockSize: 16 << 20}
	require.Equal(t, 1, e.Workers(8, 1, 0))
	require.Equal(t, 8, e.Workers(8, 1, 1<<40))
	n := e.Workers(8, 1, 128<<20)
	require.LessOrEqual(t, e.Memory(n, 1), int64(128<<20))
	require.Greater(t, e.Memory(n+1, 1), int64(128<<20))
}

// TestManyStreams has more streams than workers, all at once.
func TestManyStreams(t *testing.T) {
	e := compress.Encoding{Codec: compress.Gzip, Level: 1, BlockSize: 1000}
	const streams = 8
	p, err := compress.NewPool(e, 2, streams)
	require.NoError(t, err)
	defer p.Close()
	want, _ := packed(t, e, 1, text(50_000))
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			var b bytes.Buffer
			w := p.NewWriter(t.Context(), &b)
			_, err := w.Write(text(50_000))
			if _, finishErr := w.Finish(); err != nil || finishErr != nil || !bytes.Equal(want, b.Bytes()) {
				t.Errorf("%v, %v, %d bytes", err, finishErr, b.Len())
			}
		})
	}
	all.Wait()
}

// full takes so many bytes and no more.
type full struct{ left int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

type zeros struct{ read int }

func (z *zeros) Read(p []byte) (int, error) {
	z.read += len(p)
	return len(p), nil
}

// TestFullDisk: an endless source ends soon after the file does.
func TestFullDisk(t *testing.T) {
	for _, left := range []int{0, 5, 5000} {
		p, err := compress.NewPool(compress.Encoding{Codec: compress.None, BlockSize: 1000}, 2, 1)
		require.NoError(t, err)
		w := p.NewWriter(t.Context(), &full{left})
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, &zeros{}, make([]byte, 100))
		require.ErrorIs(t, err, errFull)
		_, err = w.Finish()
		require.ErrorIs(t, err, errFull)
		p.Close()
	}
	// At the very end.
	p, err := compress.NewPool(compress.Encoding{Codec: compress.Gzip, Level: 1, BlockSize: 1000}, 1, 1)
	require.NoError(t, err)
	defer p.Close()
	w := p.NewWriter(t.Context(), &full{10})
	_, err = w.Finish()
	require.ErrorIs(t, err, errFull)
}

// stuck does not take anything before it is let go.
type stuck struct{ free chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.free; return len(p), nil }

func TestCancel(t *testing.T) {
	p, err := compress.NewPool(compress.Encoding{Codec: compress.None, BlockSize: 1000}, 2, 1)
	require.NoError(t, err)
	defer p.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	to := stuck{make(chan struct{})}
	w := p.NewWriter(ctx, to)
	cancel(io.ErrNoProgress)
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, &zeros{}, make([]byte, 100))
	require.ErrorIs(t, err, io.ErrNoProgress)
	close(to.free)
	w.Abort()

	// What was taken is there for the next.
	var b bytes.Buffer
	w = p.NewWriter(t.Context(), &b)
	_, err = w.Write(make([]byte, 10_000))
	require.NoError(t, err)
	_, err = w.Finish()
	require.NoError(t, err)
	require.Equal(t, 10_000, b.Len())
}

// TestTools has the programs read what we write.
func TestTools(t *testing.T) {
	interop.Peer(t, "gzip", "pigz", "zstd", "xz")
	content := text(7*block/2 + 5)
	for _, e := range encodings {
		for _, tool := range map[compress.Codec][][]string{
			compress.Gzip: {{"gzip", "-dc"}, {"pigz", "-dc"}},
			compress.Zstd: {{"zstd", "-dc"}},
			compress.XZ:   {{"xz", "-dc"}, {"xz", "-dc", "-T2"}},
		}[e.Codec] {
			for _, n := range []int{0, 1, block, len(content)} {
				data, _ := packed(t, e, 2, content[:n])
				if len(data) == 0 {
					continue
				}
				cmd := exec.CommandContext(t.Context(), tool[0], tool[1:]...)
				cmd.Stdin = bytes.NewReader(data)
				got, err := cmd.Output()
				require.NoError(t, err, "%v of %s", tool, name(e))
				require.True(t, bytes.Equal(content[:n], got), "%v of %s", tool, name(e))
			}
		}
	}
}

func Example() {
	p, err := compress.NewPool(compress.Encoding{Codec: compress.Gzip, Level: 6, BlockSize: 1 << 20}, 2, 1)
	if err != nil {
		panic(err)
	}
	defer p.Close()
	var file bytes.Buffer
	w := p.NewWriter(context.Background(), &file)
	if _, err := io.WriteString(w, "content"); err != nil {
		w.Abort()
		panic(err)
	}
	r, err := w.Finish()
	fmt.Println(r.ContentSize, r.Size == int64(file.Len()), err)
	// Output: 7 true <nil>
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("content content content"), uint16(5), uint8(1))
	f.Add(text(3000), uint16(1000), uint8(7))
	f.Add([]byte("\x1f\x8b"), uint16(5), uint8(0))
	f.Fuzz(func(t *testing.T, content []byte, size uint16, which uint8) {
		e := encodings[int(which)%len(encodings)]
		e.BlockSize = max(int(size), 1+len(content)/50)
		data, _ := packed(t, e, 2, content)
		if e.Codec == compress.None { // the content may look like something compressed
			require.True(t, bytes.Equal(content, data))
			return
		}
		d, err := decompress.NewReader(bytes.NewReader(data))
		require.NoError(t, err)
		got, err := io.ReadAll(d)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
	})
}

func BenchmarkWriter(b *testing.B) {
	content := text(16 << 20)
	for _, e := range encodings[1:] {
		e.BlockSize = 1 << 20
		b.Run(name(e), func(b *testing.B) {
			p, err := compress.NewPool(e, 2, 1)
			require.NoError(b, err)
			defer p.Close()
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				w := p.NewWriter(b.Context(), io.Discard)
				_, err := w.Write(content)
				require.NoError(b, err)
				_, err = w.Finish()
				require.NoError(b, err)
			}
		})
	}
}
