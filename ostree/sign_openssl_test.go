package ostree_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/ed25519signer"
)

// opensslSigner signs with a key in a file, and openssl.
type opensslSigner struct {
	t   testing.TB
	key string
}

func (s opensslSigner) Sign(_ context.Context, message io.Reader) ([]byte, error) {
	data, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	in, out := filepath.Join(s.t.TempDir(), "message"), filepath.Join(s.t.TempDir(), "signature")
	if err := os.WriteFile(in, data, 0o600); err != nil {
		return nil, err
	}
	run(s.t, "openssl", "pkeyutl", "-sign", "-rawin", "-inkey", s.key, "-in", in, "-out", out)
	return os.ReadFile(out)
}

// TestEd25519OpenSSL: openssl verifies signatures of a commit's bytes by this
// package, and this package those by openssl, with one key for both. The `ostree`
// of Debian has no Ed25519.
func TestEd25519OpenSSL(t *testing.T) {
	interop.Peer(t, "openssl")
	folder := t.TempDir()
	secret, public := filepath.Join(folder, "secret.pem"), filepath.Join(folder, "public.pem")
	run(t, "openssl", "genpkey", "-algorithm", "ed25519", "-out", secret)
	run(t, "openssl", "pkey", "-in", secret, "-pubout", "-out", public)
	// The key itself is at the end of PKCS #8 (RFC 8410).
	der := run(t, "openssl", "pkey", "-in", secret, "-outform", "DER")
	key := ed25519.NewKeyFromSeed([]byte(der[len(der)-ed25519.SeedSize:]))
	der = run(t, "openssl", "pkey", "-in", secret, "-pubout", "-outform", "DER")
	require.Equal(t, der[len(der)-ed25519.PublicKeySize:], string(key.Public().(ed25519.PublicKey)))
	ours, err := ed25519signer.ParseSigner([]byte(base64.StdEncoding.EncodeToString(key)))
	require.NoError(t, err)
	trust := verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(ours.Public())}})

	r := newRepo(t, ostree.ModeArchive)
	commit := func(name string) (c ostree.Checksum, bytes string) {
		c, err := r.Commit(t.Context(), literal(dir("."), file(name, "content")), &ostree.CommitOptions{Ref: name})
		require.NoError(t, err)
		data, err := r.Object(t.Context(), ostree.TypeCommit, c)
		require.NoError(t, err)
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return c, path
	}
	signature := func(c ostree.Checksum) string {
		list, err := r.Signatures(t.Context(), c)
		require.NoError(t, err)
		require.Len(t, list, 1)
		path := filepath.Join(t.TempDir(), "signature")
		require.NoError(t, os.WriteFile(path, list[0].Data, 0o600))
		return path
	}

	a, message := commit("a")
	require.NoError(t, r.Sign(t.Context(), a, ostree.SignatureEd25519, ours))
	verify := []string{"pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, "-in", message, "-sigfile", signature(a)}
	require.Contains(t, run(t, "openssl", verify...), "Signature Verified Successfully")

	b, other := commit("b")
	require.NoError(t, r.Sign(t.Context(), b, ostree.SignatureEd25519, opensslSigner{t, secret}))
	_, err = r.Verify(t.Context(), b, trust, time.Time{})
	require.NoError(t, err)

	// Neither takes the signature of another commit.
	verify[7] = other
	out, err := try(t, "openssl", verify...)
	require.Error(t, err)
	require.Contains(t, out, "Signature Verification Failure")
	items, err := r.Object(t.Context(), ostree.TypeCommitMeta, b)
	require.NoError(t, err)
	data, err := r.Object(t.Context(), ostree.TypeCommit, a)
	require.NoError(t, err)
	metadata, err := ostree.DecodeMetadata(items)
	require.NoError(t, err)
	_, err = trust.Verify(t.Context(), data, metadata, time.Time{})
	require.ErrorIs(t, err, ostree.ErrSignature)
}
