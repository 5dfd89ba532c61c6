package cosignsigner_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/cosignsigner"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

const passphrase = "correct horse"

func protected() *cosignsigner.SignerOptions {
	return &cosignsigner.SignerOptions{Passphrase: func() ([]byte, error) { return []byte(passphrase), nil }}
}

// push writes an image and tags it.
func push(t testing.TB, registry *remoteregistry.Registry, tag name.Tag, img v1.Image) v1.Descriptor {
	t.Helper()
	desc, err := registry.WriteImage(t.Context(), tag.Repository, img, nil)
	require.NoError(t, err)
	require.NoError(t, registry.Tag(t.Context(), tag, desc.Digest))
	return desc
}

// A bundle is found by the referrers of the image, or the tag that stands in
// for them.
func TestBundleInRegistry(t *testing.T) {
	host := interop.Registry(t)
	registry, err := remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	signer, verifier := fixtureKeys(t)
	img, err := random.Image(100, 1)
	require.NoError(t, err)
	tag, err := name.NewTag(host + "/okd/release:4.20")
	require.NoError(t, err)
	desc := push(t, registry, tag, img)
	bundle, err := signer.Bundle(t.Context(), desc, tag.Repository.Name(), day)
	require.NoError(t, err)
	_, err = registry.WriteImage(t.Context(), tag.Repository, bundle, nil)
	require.NoError(t, err)
	found := 0
	for referrer, err := range registry.Referrers(t.Context(), tag.Repository.Digest(desc.Digest.String()), cosignsigner.BundleType) {
		require.NoError(t, err)
		got, err := registry.Image(t.Context(), tag.Repository.Digest(referrer.Digest.String()))
		require.NoError(t, err)
		_, err = verifier.Bundle(t.Context(), got, desc.Digest, tag.String())
		require.NoError(t, err)
		found++
	}
	require.Equal(t, 1, found)
}

// OpenSSL makes and checks the same signatures of files.
func TestOpenSSL(t *testing.T) {
	interop.Peer(t, "openssl")
	dir := t.TempDir()
	openssl := func(args ...string) error {
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("openssl %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return data
	}
	message := bytes.Repeat([]byte("message\n"), 100000)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "message"), message, 0o600))
	for _, kind := range []struct{ name, digest string }{{"P-256", "sha256"}, {"P-384", "sha384"}, {"P-521", "sha512"}, {"RSA", "sha256"}} {
		args := []string{"genpkey", "-out", "key", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:" + kind.name}
		if kind.name == "RSA" {
			args = []string{"genpkey", "-out", "key", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}
		}
		require.NoError(t, openssl(args...))
		require.NoError(t, openssl("pkey", "-in", "key", "-pubout", "-out", "pub"))
		signer, err := cosignsigner.ParseSigner(read("key"), nil)
		require.NoError(t, err)
		require.Equal(t, read("pub"), signer.PublicKey())
		sig, err := signer.Sign(t.Context(), bytes.NewReader(message))
		require.NoError(t, err)
		raw, err := base64.StdEncoding.DecodeString(string(sig))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "sig"), raw, 0o600))
		require.NoError(t, openssl("dgst", "-"+kind.digest, "-verify", "pub", "-signature", "sig", "message"))
		require.NoError(t, openssl("dgst", "-"+kind.digest, "-sign", "key", "-out", "theirs", "message"))
		verifier, err := cosignsigner.ParseVerifier(read("pub"))
		require.NoError(t, err)
		_, err = verifier.Verify(t.Context(), bytes.NewReader(message), read("theirs"))
		require.NoError(t, err)
		raw[len(raw)-1] ^= 1
		require.NoError(t, os.WriteFile(filepath.Join(dir, "sig"), raw, 0o600))
		require.Error(t, openssl("dgst", "-"+kind.digest, "-verify", "pub", "-signature", "sig", "message"))
	}
}
