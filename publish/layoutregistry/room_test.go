package layoutregistry_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// long is so many bytes that are not in memory, and then err.
type long struct {
	size, gives int64
	err         error
}

func (l long) Size() int64 { return l.size }

func (l long) Open(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(io.LimitReader(endless{}, l.gives), iotest.ErrReader(l.err))), nil
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A blob that is larger than what room is kept for at a time has its length and
// no more of the disk, and one that breaks off has nothing.
func TestRoomOfLargeBlobs(t *testing.T) {
	const size = 64<<20 + 1
	hash := sha256.New()
	_, err := io.CopyN(hash, endless{}, size)
	require.NoError(t, err)
	blob := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}, Size: size}
	dir, repo := t.TempDir(), testRepo(t, "okd/large")
	r, err := layoutregistry.Open(t.Context(), dir, &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)

	broken := errors.New("broken")
	require.ErrorIs(t, r.WriteBlob(t.Context(), repo, blob, long{size, size - 1, broken}), broken)
	blobs := filepath.Join(dir, "okd", "large", "blobs", "sha256")
	_, err = os.Stat(filepath.Join(blobs, blob.Digest.Hex))
	require.ErrorIs(t, err, os.ErrNotExist)

	require.NoError(t, r.WriteBlob(t.Context(), repo, blob, long{size, size, io.EOF}))
	info, err := os.Stat(filepath.Join(blobs, blob.Digest.Hex))
	require.NoError(t, err)
	require.EqualValues(t, size, info.Size())
	sys, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	require.LessOrEqual(t, sys.Blocks*512, int64(size+1<<20), "no room is left over")
	rc, err := r.OpenBlob(t.Context(), repo, blob)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, rc)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
}
