package ed25519signer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/ed25519signer"
)

var (
	_ publish.Signer   = (*ed25519signer.Signer)(nil)
	_ publish.Verifier = (*ed25519signer.Verifier)(nil)
)

// A key of RFC 8032's test vectors, as OSTree writes it.
const (
	secretKey = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="
	publicKey = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
)

func TestRevoked(t *testing.T) {
	t.Parallel()
	s, err := ed25519signer.ParseSigner([]byte(secretKey + "\n"))
	require.NoError(t, err)
	sig, err := s.Sign(t.Context(), strings.NewReader("commit"))
	require.NoError(t, err)
	v, err := ed25519signer.ParseVerifier([][]byte{[]byte(publicKey)}, &ed25519signer.VerifierOptions{Revoked: [][]byte{[]byte(publicKey)}})
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), strings.NewReader("commit"), sig)
	require.ErrorIs(t, err, publish.ErrRevoked)
	_, err = ed25519signer.ParseVerifier([][]byte{[]byte("no key")}, nil)
	require.Error(t, err)
	_, err = ed25519signer.ParseVerifier(nil, &ed25519signer.VerifierOptions{Revoked: [][]byte{[]byte("no key")}})
	require.Error(t, err)
}

// unpack unpacks an archive of the shared data.
func unpack(t testing.TB, elem ...string) (dir string) {
	t.Helper()
	interop.Peer(t, "tar", "zstd")
	dir = t.TempDir()
	out, err := exec.CommandContext(t.Context(), "tar", "-xf", interop.SharedData(t, elem...), "-C", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	return dir
}

// What libostree signed with a key, we sign with it: the same bytes, and they
// verify. (Debian's ostree itself is built without Ed25519.)
func TestOSTreeSignatures(t *testing.T) {
	dir := filepath.Join(unpack(t, "ostree", "v1b", "signatures.tar.zst"), "signatures")
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return data
	}
	s, err := ed25519signer.ParseSigner(read("ed25519.secret"))
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(read("ed25519.public"))), s.Public())
	v, err := ed25519signer.ParseVerifier([][]byte{read("ed25519.public")}, nil)
	require.NoError(t, err)
	pairs := map[string]string{"summary": "summary.sig"}
	commits, err := filepath.Glob(filepath.Join(dir, "objects", "*.commit"))
	require.NoError(t, err)
	for _, c := range commits {
		name := filepath.Join("objects", filepath.Base(c))
		pairs[name] = name + "meta"
	}
	matched := 0
	for message, meta := range pairs {
		sig, err := s.Sign(t.Context(), bytes.NewReader(read(message)))
		require.NoError(t, err)
		if !bytes.Contains(read(meta), []byte("ostree.sign.ed25519")) {
			continue
		}
		require.True(t, bytes.Contains(read(meta), sig), message)
		_, err = v.Verify(t.Context(), bytes.NewReader(read(message)), sig)
		require.NoError(t, err)
		matched++
	}
	require.GreaterOrEqual(t, matched, 2)
}

// The commit, key and signature that OSTree's own tests pull.
func TestOSTreeFixture(t *testing.T) {
	dir := unpack(t, "ostree", "upstream", "pre-signed-pull-data.tar.gz")
	v, err := ed25519signer.ParseVerifier([][]byte{[]byte("45yzbkuEok0lLabxzdAHWUDSMZgYfxU40sN+LMfYHVA=")}, nil)
	require.NoError(t, err)
	checked := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".commitmeta") {
			return err
		}
		meta, err := os.ReadFile(path)
		require.NoError(t, err)
		commit, err := os.ReadFile(strings.TrimSuffix(path, "meta"))
		require.NoError(t, err)
		for i := 0; i+64 <= len(meta); i++ { // it is in there somewhere
			if _, err := v.Verify(t.Context(), bytes.NewReader(commit), meta[i:i+64]); err == nil {
				checked++
			}
		}
		return nil
	}))
	require.NotZero(t, checked)
}

// A commit is signed with OSTree's keys.
func ExampleSigner_Sign() {
	ctx := context.Background()
	signer, err := ed25519signer.ParseSigner([]byte(secretKey))
	if err != nil {
		fmt.Println(err)
		return
	}
	sig, err := signer.Sign(ctx, strings.NewReader("bytes of a commit"))
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := ed25519signer.ParseVerifier([][]byte{[]byte(signer.Public() + "\n")}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	who, err := verifier.Verify(ctx, strings.NewReader("bytes of a commit"), sig)
	fmt.Println(len(sig), who, err)
	// Output: 64 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo= <nil>
}

func ExampleParseSigner() {
	_, err := ed25519signer.ParseSigner([]byte("short"))
	fmt.Println(err)
	// Output: ed25519: secret key: not base64
}

// A key that is revoked counts for nothing, wherever it is trusted.
func ExampleParseVerifier() {
	ctx := context.Background()
	signer, err := ed25519signer.ParseSigner([]byte(secretKey))
	if err != nil {
		fmt.Println(err)
		return
	}
	sig, err := signer.Sign(ctx, strings.NewReader("commit"))
	if err != nil {
		fmt.Println(err)
		return
	}
	file := []byte(publicKey + "\n")
	verifier, err := ed25519signer.ParseVerifier([][]byte{file}, &ed25519signer.VerifierOptions{Revoked: [][]byte{file}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = verifier.Verify(ctx, strings.NewReader("commit"), sig)
	fmt.Println(errors.Is(err, publish.ErrRevoked))
	// Output: true
}
