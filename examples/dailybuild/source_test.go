package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/stream"
)

// sampleWith writes the sample's definition with changes, old and new text in
// turn, and gives its path.
func sampleWith(t *testing.T, changes ...string) string {
	t.Helper()
	text := string(stream.BuiltinSource("sample"))
	for i := 0; i < len(changes); i += 2 {
		require.Contains(t, text, changes[i])
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	path := filepath.Join(t.TempDir(), "own.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// sampleFrom is the sample with another source.
func sampleFrom(t *testing.T, source string) string {
	return sampleWith(t, "  kind: given # with no source: made on the spot\n", "  kind: given\n  source: {"+source+"}\n")
}

// packedTree is a tar of a small system as tar makes it, with zeros at the end.
func packedTree(t *testing.T) (tree string, data []byte) {
	t.Helper()
	tree = smallSystem(t, 20)
	data, err := exec.CommandContext(t.Context(), "tar", "-C", tree, "--sort=name", "-cf", "-", ".").Output()
	require.NoError(t, err)
	return tree, data
}

// codecs are what a tar may be compressed with, by the end of its name.
func codecs(t *testing.T, data []byte) map[string][]byte {
	var z, x bytes.Buffer
	zw, err := zstd.NewWriter(&z)
	require.NoError(t, err)
	xw, err := xz.NewWriter(&x)
	require.NoError(t, err)
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{zw, xw} {
		_, err := w.Write(data)
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	return map[string][]byte{".tar": data, ".tar.gz": compressed(t, data), ".tar.zst": z.Bytes(), ".tar.xz": x.Bytes()}
}

// TestPinnedTar: the file of a definition is the one that its checksum says, to
// the last byte, or nothing is made of it.
func TestPinnedTar(t *testing.T) {
	tree, tarred := packedTree(t)
	code, stdout, stderr := call(t, "-state", t.TempDir(), "-source", "dir:"+tree, "-json", "-quiet")
	require.Zero(t, code, stderr)
	content := decode(t, stdout).Commit.Content

	for ext, data := range codecs(t, tarred) {
		sum := sha256.Sum256(data)
		digest := hex.EncodeToString(sum[:])
		file := filepath.Join(t.TempDir(), "tree"+ext)
		state := t.TempDir()
		run := func(pin string, data []byte) (int, string, string) {
			require.NoError(t, os.WriteFile(file, data, 0o600))
			return call(t, "-state", state, "-stream", sampleFrom(t, "tar: "+file+", sha256: '"+pin+"'"), "-json", "-quiet")
		}
		for name, tt := range map[string]struct {
			pin  string
			data []byte
		}{
			"another pin":     {strings.Repeat("0", 64), data},
			"a byte more":     {digest, append(bytes.Clone(data), 0)},
			"zeros at an end": {digest, append(bytes.Clone(data), make([]byte, 10240)...)},
			"cut":             {digest, data[:len(data)/2]},
		} {
			code, stdout, stderr := run(tt.pin, tt.data)
			require.Equal(t, 1, code, "%s of %s: %s", name, ext, stderr)
			require.Empty(t, stdout)
			found := sha256.Sum256(tt.data)
			require.Contains(t, stderr, fmt.Sprintf("%s has SHA-256 %x, wanted is %s", file, found, tt.pin), name)
			requireNothingPublished(t, state)
		}
		code, stdout, stderr := run(digest, data)
		require.Zero(t, code, "%s: %s", ext, stderr)
		require.Equal(t, content, decode(t, stdout).Commit.Content, ext)

		// The command line pins as a definition does, or takes the file as it is.
		code, _, stderr = call(t, "-state", t.TempDir(), "-source", "tar:"+file+"#sha256="+strings.Repeat("0", 64), "-quiet")
		require.Equal(t, 1, code, ext)
		require.Contains(t, stderr, digest)
		code, stdout, stderr = call(t, "-state", t.TempDir(), "-source", "tar:"+file, "-json", "-quiet")
		require.Zero(t, code, "%s: %s", ext, stderr)
		require.Equal(t, content, decode(t, stdout).Commit.Content, ext)
	}
}

// TestPinnedCommit: a ref that moved on from its pin is an error, a commit alone
// needs no ref.
func TestPinnedCommit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	repo, err := ostree.Init(t.Context(), dir, ostree.ModeBareUser, nil)
	require.NoError(t, err)
	commit := func(ctx context.Context) string {
		root, err := os.OpenRoot(smallSystem(t, 2))
		require.NoError(t, err)
		defer root.Close()
		checksum, err := repo.Commit(ctx, ostree.Postprocess(ostree.Dir(root), nil), &ostree.CommitOptions{Ref: "os/stable", Subject: t.TempDir()})
		require.NoError(t, err)
		return checksum.String()
	}
	before, now := commit(t.Context()), commit(t.Context())
	require.NoError(t, repo.Close())
	require.NotEqual(t, before, now)
	for _, tt := range []struct {
		source string
		want   []string // none: it is built
	}{
		{"ref: os/stable", nil},
		{"commit: '" + before + "'", nil},
		{"ref: os/stable, commit: '" + now + "'", nil},
		{"ref: os/stable, commit: '" + before + "'", []string{"os/stable is at commit " + now, "wanted is " + before}},
		{"ref: os/none, commit: '" + before + "'", []string{"os/none"}},
	} {
		state := t.TempDir()
		code, _, stderr := call(t, "-state", state, "-stream", sampleFrom(t, "ostree: {repository: "+dir+", "+tt.source+"}"), "-quiet")
		if tt.want == nil {
			require.Zero(t, code, "%s: %s", tt.source, stderr)
			continue
		}
		require.Equal(t, 1, code, tt.source)
		for _, want := range tt.want {
			require.Contains(t, stderr, want)
		}
		requireNothingPublished(t, state)
	}
}
