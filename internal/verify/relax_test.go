package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/verify"
)

// The outer of two readers of one digest checks; the inner one lets it.
func TestRelax(t *testing.T) {
	data := bytes.Repeat([]byte("blob"), 1000)
	sum := sha256.Sum256(data)
	want := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
	other := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(make([]byte, 32))}
	size := int64(len(data))
	reader := func(content []byte, want v1.Hash, size int64) *verify.Reader {
		r, err := verify.NewReader(bytes.NewReader(content), want, size)
		require.NoError(t, err)
		return r
	}
	wrong := bytes.Clone(data)
	wrong[17] ^= 1

	relaxed := reader(wrong, want, size)
	require.True(t, relaxed.Relax(want, size))
	got, err := io.ReadAll(relaxed)
	require.NoError(t, err, "the digest is not looked at")
	require.Equal(t, wrong, got)

	outer, err := verify.NewReader(reader(wrong, want, size), want, size)
	require.NoError(t, err)
	_, err = io.ReadAll(outer)
	require.ErrorIs(t, err, verify.ErrDigest, "the outer reader checks")

	for name, r := range map[string]*verify.Reader{"too short": reader(data[1:], want, size), "too long": reader(append(bytes.Clone(data), 0), want, size)} {
		require.True(t, r.Relax(want, size))
		_, err = io.ReadAll(r)
		require.ErrorIs(t, err, verify.ErrDigest, "%s: the size is checked all the same", name)
	}

	kept := reader(data, want, size)
	require.False(t, kept.Relax(other, size), "another digest")
	require.False(t, kept.Relax(want, size+1), "another size")
	_, err = kept.Read(make([]byte, 1))
	require.NoError(t, err)
	require.False(t, kept.Relax(want, size), "begun")
	_, err = io.Copy(io.Discard, kept)
	require.NoError(t, err)
	begun := reader(wrong, want, size)
	_, err = begun.Read(make([]byte, 1))
	require.NoError(t, err)
	require.False(t, begun.Relax(want, size))
	_, err = io.Copy(io.Discard, begun)
	require.ErrorIs(t, err, verify.ErrDigest)
}
