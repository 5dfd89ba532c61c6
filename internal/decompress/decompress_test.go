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
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
)

func packed(t testing.TB, codec string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch codec {
	case "none":
		return content
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	case "xz":
		w, err = xz.WriterConfig{BlockSize: 4096, DictCap: 1 << 16}.NewWriter(&b)
	case "xz crc32":
		w, err = xz.WriterConfig{CheckSum: xz.CRC32, DictCap: 1 << 16}.NewWriter(&b)
	case "xz sha256":
		w, err = xz.WriterConfig{CheckSum: xz.SHA256, DictCap: 1 << 16}.NewWriter(&b)
	case "xz none":
		w, err = xz.WriterConfig{NoCheckSum: true, DictCap: 1 << 16}.NewWriter(&b)
	}
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func unpacked(r io.Reader) ([]byte, error) {
	d, err := decompress.NewReader(r)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(d)
	return content, errors.Join(err, d.Close())
}

func TestNewReader(t *testing.T) {
	for _, codec := range []string{"none", "gzip", "zstd", "xz", "xz crc32", "xz sha256", "xz none"} {
		for _, content := range []string{"", "x", strings.Repeat("some content ", 2000)} {
			t.Run(fmt.Sprintf("%s %d", codec, len(content)), func(t *testing.T) {
				data := packed(t, codec, []byte(content))
				got, err := unpacked(iotest.OneByteReader(bytes.NewReader(data)))
				require.NoError(t, err)
				require.Equal(t, content, string(got))

				got, err = unpacked(io.MultiReader(bytes.NewReader(data), bytes.NewReader(data)))
				require.NoError(t, err, "two in a row")
				require.Equal(t, content+content, string(got))

				if codec == "none" {
					return
				}
				for cut := 7; cut < len(data); cut++ {
					_, err := unpacked(bytes.NewReader(data[:cut]))
					require.Error(t, err, "cut at %d of %d", cut, len(data))
				}
			})
		}
	}
	_, err := unpacked(iotest.ErrReader(io.ErrNoProgress))
	require.ErrorIs(t, err, io.ErrNoProgress)
}

// TestXZDamage changes each byte of an xz file in turn: each change is found,
// or does not matter (the LZMA decoder is lenient about a chunk's packed size).
func TestXZDamage(t *testing.T) {
	content := strings.Repeat("some content ", 1000)
	data := packed(t, "xz", []byte(content))
	lenient := 0
	for i := 6; i < len(data); i++ {
		bad := bytes.Clone(data)
		bad[i] ^= 0x40
		got, err := unpacked(bytes.NewReader(bad))
		if err == nil {
			require.Equal(t, content, string(got), "byte %d", i)
			lenient++
		}
	}
	require.Less(t, lenient, 10)
}

func TestXZWindow(t *testing.T) {
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 128 << 20}.NewWriter(&b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	b.Reset()
	w, err = xz.WriterConfig{DictCap: 128 << 20}.NewWriter(&b)
	require.NoError(t, err)
	_, err = w.Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	_, err = unpacked(&b)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "window of 134217728 bytes")
}

// manyBlocks are blocks that need the largest window for one stored byte each, without
// the index.
func manyBlocks(n int) []byte {
	block := []byte{2, 0, 0x21, 1, 28, 0, 0, 0}
	block = binary.LittleEndian.AppendUint32(block, crc32.ChecksumIEEE(block))
	block = append(block, 1, 0, 0, 'x', 0, 0, 0, 0)
	data := []byte{0xfd, '7', 'z', 'X', 'Z', 0, 0, 0}
	data = binary.LittleEndian.AppendUint32(data, crc32.ChecksumIEEE(data[6:]))
	return append(data, bytes.Repeat(block, n)...)
}

// TestXZSmallBlocks: a window is made as large as it can be used, not as it is asked for.
func TestXZSmallBlocks(t *testing.T) {
	data := manyBlocks(1000)
	fuzzbound.Linear(t, len(data), 1000, func() {
		got, err := unpacked(bytes.NewReader(data))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "no index")
		require.Len(t, got, 1000)
	})
	// The second half is found in the first, wherever the block's end is to the reader's
	// buffer of 64 KiB.
	for _, n := range []int{1, 4000, 30_000, 65_400, 65_536, 70_000, 300_000} {
		content := make([]byte, n)
		_, _ = rand.NewChaCha8([32]byte{}).Read(content)
		content = append(content, content...)
		var b bytes.Buffer
		w, err := xz.WriterConfig{DictCap: 1 << 20}.NewWriter(&b)
		require.NoError(t, err)
		_, err = w.Write(content)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.Less(t, b.Len(), n+n/10+200)
		got, err := unpacked(&b)
		require.NoError(t, err, n)
		require.True(t, bytes.Equal(content, got), n)
	}
	// A reader's own error, before the end of a block is seen.
	_, err := unpacked(io.MultiReader(bytes.NewReader(data[:len(data)-6]), iotest.ErrReader(io.ErrNoProgress)))
	require.ErrorIs(t, err, io.ErrNoProgress)
}

func TestTools(t *testing.T) {
	interop.Peer(t, "gzip", "xz", "zstd")
	content := bytes.Repeat([]byte("some content of the tools\n"), 100000)
	for _, args := range [][]string{{"gzip", "-9"}, {"xz", "-0"}, {"xz", "-9", "-T2", "--block-size=100000"}, {"xz", "-C", "none"}, {"zstd", "-19"}, {"zstd", "--long=27"}} {
		cmd := exec.CommandContext(t.Context(), args[0], append(args[1:], "-c")...)
		cmd.Stdin = bytes.NewReader(content)
		data, err := cmd.Output()
		require.NoError(t, err, "%s", args)
		got, err := unpacked(bytes.NewReader(data))
		require.NoError(t, err, "%s", args)
		require.True(t, bytes.Equal(content, got), "%s", args)
	}
}

func ExampleNewReader() {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, "content")
	w.Close()
	r, err := decompress.NewReader(&b)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	fmt.Println(string(content), err)
	// Output: content <nil>
}

func FuzzNewReader(f *testing.F) {
	for _, codec := range []string{"none", "gzip", "zstd", "xz", "xz none"} {
		f.Add(packed(f, codec, []byte("content content content")))
	}
	f.Add(manyBlocks(5))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\x88\x29\x00\x00hello")) // asks for the largest window
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\x80\x29\x00\x00hello\x28\xb5\x2f\xfd\x00\x88\x29\x00\x00hello"))
	f.Fuzz(func(t *testing.T, data []byte) {
		limit := 1<<20 + 4096*len(data) // xz: each block has a decoder
		switch {
		case len(data) > 0 && data[0] == 0xfd:
			limit += decompress.MaxXZWindow // of one block that is larger than the buffer
		case bytes.Contains(data, []byte{0xb5, 0x2f, 0xfd}):
			limit += fuzzbound.ZstdWindows(data, decompress.MaxZstdWindow) + 16<<20
		}
		fuzzbound.Within(t, limit, func() {
			d, err := decompress.NewReader(bytes.NewReader(data))
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(d, 8<<20))
			_ = d.Close() // may tell the fault again
		})
	})
}
