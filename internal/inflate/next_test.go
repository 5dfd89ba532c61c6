package inflate_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/inflate"
)

func TestNext(t *testing.T) {
	var z inflate.Reader
	for name, content := range contents() {
		z.Reset(bytes.NewReader(deflated(t, content, 6)))
		var got []byte
		for {
			piece, err := z.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err, name)
			require.NotEmpty(t, piece, name)
			got = append(got, piece...)
		}
		require.True(t, bytes.Equal(content, got), name)
		more, err := z.Rest()
		require.NoError(t, err, name)
		require.False(t, more, name)
	}
}

func TestRest(t *testing.T) {
	packed := string(deflated(t, []byte("some text, some text"), 6))
	var z inflate.Reader
	for _, follows := range []string{"x", "01234567", strings.Repeat("\x00", 100<<10)} {
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
			z.Reset(wrap(strings.NewReader(packed + follows)))
			_, err := io.Copy(io.Discard, &z)
			require.NoError(t, err)
			more, err := z.Rest()
			require.NoError(t, err)
			require.True(t, more)
		}
	}
	// Nothing was read yet, which is the same as nothing is in the stream.
	z.Reset(strings.NewReader(""))
	more, err := z.Rest()
	require.NoError(t, err)
	require.False(t, more)
	fault := errors.New("fault")
	z.Reset(iotest.ErrReader(fault))
	_, err = z.Rest()
	require.ErrorIs(t, err, fault)
}
