package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/verify"
)

func TestAhead(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, 256 << 10, 256<<10 + 1, 3<<20 + 7} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		sum := sha256.Sum256(data)
		want := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
		open := func(src io.Reader, size int) *verify.Ahead {
			r, err := verify.NewReader(src, want, int64(size))
			require.NoError(t, err)
			a := verify.NewAhead(r)
			t.Cleanup(a.Close)
			return a
		}
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "data and error": iotest.DataErrReader,
		} {
			a := open(wrap(bytes.NewReader(data)), size)
			got, err := io.ReadAll(iotest.HalfReader(a))
			require.NoError(t, err, "%s %d", name, size)
			require.Equal(t, len(data), len(got))
			require.True(t, bytes.Equal(data, got))
			require.EqualValues(t, size, a.Count())
			n, err := a.Read(make([]byte, 1))
			require.Zero(t, n)
			require.ErrorIs(t, err, io.EOF, "again")

			a = open(wrap(bytes.NewReader(data)), size)
			head := make([]byte, min(size, 1000))
			_, err = io.ReadFull(a, head)
			require.NoError(t, err)
			var tail bytes.Buffer
			wrote, err := a.WriteTo(&tail)
			require.NoError(t, err)
			require.EqualValues(t, tail.Len(), wrote)
			require.True(t, bytes.Equal(data, append(head, tail.Bytes()...)))
			require.EqualValues(t, size, a.Count())
			_, err = a.WriteTo(&tail)
			require.NoError(t, err, "again")
		}
		if size == 0 {
			continue
		}
		wrong := bytes.Clone(data)
		wrong[size-1] ^= 1
		_, err := open(bytes.NewReader(wrong), size).WriteTo(io.Discard)
		require.ErrorIs(t, err, verify.ErrDigest)
		_, err = io.ReadAll(open(bytes.NewReader(wrong), size))
		require.ErrorIs(t, err, verify.ErrDigest)
		_, err = io.Copy(io.Discard, open(bytes.NewReader(data[:size-1]), size))
		require.ErrorIs(t, err, verify.ErrDigest)
		broken := errors.New("broken")
		_, err = io.Copy(io.Discard, open(io.MultiReader(bytes.NewReader(data[:size/2]), iotest.ErrReader(broken)), size))
		require.ErrorIs(t, err, broken)
		out, in := io.Pipe()
		require.NoError(t, out.CloseWithError(broken))
		_, err = open(bytes.NewReader(data), size).WriteTo(in)
		require.ErrorIs(t, err, broken, "of the one that is written to")
	}
}

// Who stops in the middle leaves nothing running.
func TestAheadIsClosed(t *testing.T) {
	want := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(make([]byte, 32))}
	r, err := verify.NewReader(endless{}, want, 1<<40)
	require.NoError(t, err)
	a := verify.NewAhead(r)
	_, err = io.ReadFull(a, make([]byte, 5<<20))
	require.NoError(t, err)
	a.Close()
	count := r.Count()
	require.LessOrEqual(t, count, int64(7<<20), "no more is read than is kept")
	require.Equal(t, count, r.Count())
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
