package bootimage_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
)

// zeros gives n zeros.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.n))
	clear(p[:n])
	z.n -= int64(n)
	return n, nil
}

// TestBombs: a small file of much content is stopped at the bound, in little memory, and
// nothing is left of it. A zip file, as of Hyper-V's disks, is not looked into.
func TestBombs(t *testing.T) {
	const content, bound = 8 << 20, 1 << 20
	for _, compressor := range []bootimage.Compressor{bootimage.CompressGzip, bootimage.CompressZstd, bootimage.CompressXZ} {
		t.Run(string(compressor), func(t *testing.T) {
			var packed bytes.Buffer
			_, err := bootimage.Compress(t.Context(), &packed, &zeros{content}, &bootimage.CompressOptions{Compressor: compressor, Level: 1})
			require.NoError(t, err)
			require.Less(t, packed.Len(), content/100)
			file := packed.Bytes()
			for name, read := range map[string]func() error{
				"measure": func() error {
					_, err := bootimage.Measure(t.Context(), bytes.NewReader(file), &bootimage.MeasureOptions{MaxUncompressed: bound})
					return err
				},
				"uncompress": func() error {
					out := &counting{}
					_, err := bootimage.Uncompress(t.Context(), out, bytes.NewReader(file), bootimage.Measurement{UncompressedSize: bound})
					require.LessOrEqual(t, out.n, int64(bound))
					require.ErrorIs(t, err, bootimage.ErrVerification)
					return err
				},
				"download": func() error {
					root := openRoot(t)
					e := bootimage.Entry{URL: serve(t, &fileServer{data: file, ranges: true}), SHA256: sum256(file)}
					_, err := download(t, root, e, bootimage.DownloadOptions{Decompress: true, MaxContent: bound})
					require.ErrorIs(t, err, bootimage.ErrVerification)
					require.Empty(t, names(t, root))
					return err
				},
			} {
				used := fuzzbound.Allocated(func() { err = read() })
				require.ErrorContains(t, err, "more than 1048576 bytes", name)
				require.Less(t, used, 160<<20, name)
			}
		})
	}
	zip := append([]byte("PK\x03\x04"), make([]byte, 100)...)
	m, err := bootimage.Measure(t.Context(), bytes.NewReader(zip), nil)
	require.NoError(t, err)
	require.Equal(t, bootimage.Measurement{Size: int64(len(zip)), SHA256: sum256(zip)}, m)
}

type counting struct{ n int64 }

func (c *counting) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
