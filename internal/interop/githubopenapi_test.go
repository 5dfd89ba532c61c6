package interop

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExtractFile(t *testing.T) {
	var archive bytes.Buffer
	zipped := gzip.NewWriter(&archive)
	files := tar.NewWriter(zipped)
	require.NoError(t, files.WriteHeader(&tar.Header{Name: "package/x", Typeflag: tar.TypeReg, Mode: 0o644, Size: 3}))
	_, err := files.Write([]byte("abc"))
	require.NoError(t, err)
	require.NoError(t, files.Close())
	require.NoError(t, zipped.Close())
	path, to := filepath.Join(t.TempDir(), "x.tgz"), filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(path, archive.Bytes(), 0o600))

	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	require.NoError(t, extractFile(path, "package/x", to, abc))
	got, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Equal(t, "abc", string(got))
	require.ErrorContains(t, extractFile(path, "package/x", to, "00"+abc[2:]), "has SHA-256 "+abc)
	require.ErrorIs(t, extractFile(path, "package/y", to, abc), os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, archive.Bytes()[:20], 0o600))
	require.Error(t, extractFile(path, "package/x", to, abc))
}
