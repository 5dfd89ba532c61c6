package bootimagecmd_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
)

// plainBuild makes the folder of a build with three plain artifacts.
func plainBuild(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	m := bootimage.Meta{
		BuildID: "10.0.20261125-0", Name: "own", Arch: "x86_64", OSTreeCommit: strings.Repeat("ab", 32), OSTreeVersion: "10.0.20261125-0",
		OSTreeTimestamp: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), Images: map[string]bootimage.Image{},
	}
	for _, artifact := range []string{"qemu", "metal", "ostree"} {
		content := strings.Repeat("content of "+artifact, 5000)
		path := bootimage.ArtifactPath("own", m.BuildID, artifact, "x86_64", "raw")
		m.Images[artifact] = bootimage.Image{Path: path, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content))), Size: int64(len(content)), SkipCompression: artifact == "ostree"}
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), []byte(content), 0o644))
	}
	d, err := bootimage.NewDocument(m)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, bootimage.MetaFile), d.Bytes(), 0o644))
	return dir
}

func TestCompressAndUncompress(t *testing.T) {
	dir := plainBuild(t)
	code, stdout, stderr := call(t.Context(), "", "compress", "--platform-compressor=metal=zstd", "--memory=100", dir)
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "compress")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], filepath.Join(dir, "own-10.0.20261125-0-metal.x86_64.raw.zst"))
	require.Contains(t, lines[1], "own-10.0.20261125-0-qemu.x86_64.raw.gz")
	require.FileExists(t, filepath.Join(dir, "own-10.0.20261125-0-ostree.x86_64.raw"))

	code, stdout, stderr = call(t.Context(), "", "compress", "-q", "-o=json", dir)
	require.Zero(t, code, stderr)
	require.Equal(t, "[]\n", stdout)
	require.Empty(t, stderr)

	code, stdout, stderr = call(t.Context(), "", "uncompress", "-q", "-o=json", "--artifact=qemu", dir)
	require.Zero(t, code, stderr)
	var done []struct {
		Artifact string
		Old, New bootimage.Image
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &done))
	require.Len(t, done, 1)
	require.Equal(t, "own-10.0.20261125-0-qemu.x86_64.raw.gz", done[0].Old.Path)
	require.Equal(t, "own-10.0.20261125-0-qemu.x86_64.raw", done[0].New.Path)

	// A file that is not what the record says.
	packed := filepath.Join(dir, "own-10.0.20261125-0-metal.x86_64.raw.zst")
	data, err := os.ReadFile(packed)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.WriteFile(packed, data, 0o644))
	code, stdout, stderr = call(t.Context(), "", "uncompress", dir)
	require.Equal(t, 3, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "artifact metal")
	require.Contains(t, stderr, "it and its record are as they were")
	require.NoFileExists(t, filepath.Join(dir, "own-10.0.20261125-0-metal.x86_64.raw"))
	require.FileExists(t, packed)
}

func TestCompressUsage(t *testing.T) {
	dir := plainBuild(t)
	for text, args := range map[string][]string{
		"none of gzip":           {"compress", "--compressor=zip", dir},
		"--compressor=bzip2":     {"compress", "--platform-compressor=qemu=bzip2", dir},
		"arguments":              {"compress"},
		"with meta.json":         {"compress", t.TempDir()},
		`artifact "aws"`:         {"uncompress", "--artifact=aws", dir},
		"name the folder":        {"uncompress", filepath.Join(dir, "none")},
		"level 10 is not within": {"compress", "--level=10", dir},
	} {
		code, stdout, stderr := call(t.Context(), "", append(args, "-q")...)
		require.NotZero(t, code, text)
		require.Empty(t, stdout)
		require.Contains(t, stderr, text)
	}
}
