package readers_test

import (
	"archive/tar"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/readers"
)

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := readers.Context{Ctx: ctx, R: strings.NewReader("abc")}
	buf := make([]byte, 2)
	n, err := r.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "ab", string(buf[:n]))
	cancel()
	n, err = r.Read(buf)
	require.Zero(t, n)
	require.ErrorIs(t, err, context.Canceled)
}

func TestCounter(t *testing.T) {
	c := &readers.Counter{R: strings.NewReader("abc")}
	data, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "abc", string(data))
	require.Equal(t, int64(3), c.N)
}

func TestSparse(t *testing.T) {
	require.False(t, readers.Sparse(&tar.Header{PAXRecords: map[string]string{"GNU.x": "1", "SCHILY.xattr.GNU.sparse.map": "1"}}))
	require.True(t, readers.Sparse(&tar.Header{Typeflag: tar.TypeGNUSparse}))
	require.True(t, readers.Sparse(&tar.Header{PAXRecords: map[string]string{"GNU.sparse.map": "0,1"}}))
}
