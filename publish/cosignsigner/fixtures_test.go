package cosignsigner_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/cosignsigner"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

var update = flag.Bool("update", false, "make the fixtures anew, with cosign; it must accept ours")

// identity is what the fixtures' image is signed as.
const identity = "registry.example.com/okd/release"

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return data
}

// fixtureKeys are those that cosign generate-key-pair made.
func fixtureKeys(t testing.TB) (*cosignsigner.Signer, *cosignsigner.Verifier) {
	t.Helper()
	signer, err := cosignsigner.ParseSigner(fixture(t, "cosign.key"), protected())
	require.NoError(t, err)
	require.Equal(t, string(fixture(t, "cosign.pub")), string(signer.PublicKey()))
	verifier, err := cosignsigner.ParseVerifier(fixture(t, "cosign.pub"))
	require.NoError(t, err)
	return signer, verifier
}

// flat is an image of one small layer: its manifest, config and layer.
type flat struct {
	Manifest json.RawMessage `json:"manifest"`
	Config   json.RawMessage `json:"config"`
	Layer    string          `json:"layer"`
}

func flatten(t testing.TB, img v1.Image) flat {
	t.Helper()
	manifest, err := img.RawManifest()
	require.NoError(t, err)
	config, err := img.RawConfigFile()
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	rc, err := layers[0].Compressed()
	require.NoError(t, err)
	defer rc.Close()
	layer, err := io.ReadAll(rc)
	require.NoError(t, err)
	return flat{manifest, config, string(layer)}
}

func (f flat) RawManifest() ([]byte, error)        { return f.Manifest, nil }
func (f flat) RawConfigFile() ([]byte, error)      { return f.Config, nil }
func (f flat) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (f flat) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	layer := static.NewLayer([]byte(f.Layer), "")
	if d, err := layer.Digest(); err != nil || d != h {
		return nil, errors.New("no such layer")
	}
	return layer, nil
}

func unflatten(t testing.TB, raw []byte) v1.Image {
	t.Helper()
	var f flat
	require.NoError(t, json.Unmarshal(raw, &f))
	img, err := partial.CompressedToImage(f)
	require.NoError(t, err)
	return img
}

// ours is the fixtures' image, signed by us in both ways.
func ours(t testing.TB, signer *cosignsigner.Signer) (signed v1.Descriptor, tagged, referring v1.Image) {
	t.Helper()
	desc, err := partial.Descriptor(empty.Image)
	require.NoError(t, err)
	tagged, err = signer.Image(t.Context(), desc.Digest, identity, nil)
	require.NoError(t, err)
	referring, err = signer.Bundle(t.Context(), *desc, identity, day)
	require.NoError(t, err)
	return *desc, tagged, referring
}

// The same key and image give the bytes that cosign accepted when the fixtures
// were made.
func TestGolden(t *testing.T) {
	t.Parallel()
	signer, _ := fixtureKeys(t)
	_, tagged, referring := ours(t, signer)
	for name, img := range map[string]v1.Image{"ours.tag.json": tagged, "ours.bundle.json": referring} {
		want, err := unflatten(t, fixture(t, name)).Digest()
		require.NoError(t, err)
		got, err := img.Digest()
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	sig, err := signer.Sign(t.Context(), strings.NewReader("message"))
	require.NoError(t, err)
	require.Equal(t, string(fixture(t, "ours.sig")), string(sig))
}

// What cosign signed verifies; its bundles name no image.
func TestCosignSignatures(t *testing.T) {
	t.Parallel()
	signer, verifier := fixtureKeys(t)
	signed, _, _ := ours(t, signer)
	tagged := unflatten(t, fixture(t, "cosign.tag.json"))
	all, err := verifier.Image(t.Context(), tagged, signed.Digest, identity)
	require.NoError(t, err)
	require.Equal(t, []cosignsigner.Signature{{Key: signer.KeyID(), Identity: identity, Digest: signed.Digest}}, all)
	_, err = verifier.Image(t.Context(), tagged, signed.Digest, identity+"2")
	require.ErrorIs(t, err, publish.ErrSignature)

	bundle := unflatten(t, fixture(t, "cosign.bundle.json"))
	_, err = verifier.Bundle(t.Context(), bundle, signed.Digest, cosignsigner.AnyIdentity)
	require.NoError(t, err)
	_, err = verifier.Bundle(t.Context(), bundle, signed.Digest, identity)
	require.ErrorIs(t, err, publish.ErrSignature)

	who, err := verifier.Verify(t.Context(), strings.NewReader("message"), fixture(t, "cosign.sig"))
	require.NoError(t, err)
	require.Equal(t, signer.KeyID(), who)

	both, err := signer.Image(t.Context(), signed.Digest, identity, tagged)
	require.NoError(t, err)
	d, err := both.Digest()
	require.NoError(t, err)
	want, err := tagged.Digest()
	require.NoError(t, err)
	require.Equal(t, want, d, "cosign's payload is ours: signed already")
}

// TestUpdateFixtures makes testdata with cosign (version 3) from PATH, with
// -update, and has it verify what we sign.
func TestUpdateFixtures(t *testing.T) {
	if !*update {
		return
	}
	interop.Peer(t, "cosign")
	host := interop.Registry(t)
	registry, err := remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	testdata, err := filepath.Abs("testdata")
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(testdata))
	require.NoError(t, os.MkdirAll(testdata, 0o755))
	write := func(name string, data []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(testdata, name), data, 0o644))
	}
	writeImage := func(name string, img v1.Image) {
		raw, err := json.Marshal(flatten(t, img))
		require.NoError(t, err)
		write(name, raw)
	}
	cosign := func(args ...string) {
		cmd := exec.CommandContext(t.Context(), "cosign", args...)
		cmd.Dir = testdata
		cmd.Env = append(os.Environ(), "COSIGN_PASSWORD="+passphrase, "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "cosign %s\n%s", strings.Join(args, " "), out)
	}
	cosign("generate-key-pair")
	signer, _ := fixtureKeys(t)
	signed, tagged, referring := ours(t, signer)
	noLog := []string{"--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", "-y"}
	for _, who := range []string{"ours", "cosign"} {
		tag, err := name.NewTag(host + "/okd/" + who + ":4.20")
		require.NoError(t, err)
		require.Equal(t, signed.Digest, push(t, registry, tag, empty.Image).Digest)
		digest := tag.Repository.Digest(signed.Digest.String())
		sigs := tag.Repository.Tag(cosignsigner.Tag(signed.Digest))
		if who == "ours" {
			push(t, registry, sigs, tagged)
			_, err = registry.WriteImage(t.Context(), tag.Repository, referring, nil)
			require.NoError(t, err)
		} else {
			for _, bundle := range []string{"true", "false"} {
				args := append([]string{"sign", "--new-bundle-format=" + bundle, "--allow-http-registry"}, noLog...)
				if bundle == "false" {
					args = append(args, "--sign-container-identity", identity)
				}
				cosign(append(args, digest.String())...)
			}
		}
		for _, bundle := range []string{"true", "false"} {
			cosign("verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--new-bundle-format="+bundle, "--allow-http-registry", digest.String())
		}
		img, err := registry.Image(t.Context(), sigs)
		require.NoError(t, err)
		writeImage(who+".tag.json", img)
		for desc, err := range registry.Referrers(t.Context(), digest, cosignsigner.BundleType) {
			require.NoError(t, err)
			img, err := registry.Image(t.Context(), tag.Repository.Digest(desc.Digest.String()))
			require.NoError(t, err)
			writeImage(who+".bundle.json", img)
		}
	}
	message := filepath.Join(t.TempDir(), "message")
	require.NoError(t, os.WriteFile(message, []byte("message"), 0o600))
	cosign(append([]string{"sign-blob", "--new-bundle-format=false", "--output-signature", "cosign.sig", message}, noLog...)...)
	sig, err := signer.Sign(t.Context(), bytes.NewReader([]byte("message")))
	require.NoError(t, err)
	write("ours.sig", sig)
	for _, who := range []string{"ours", "cosign"} {
		cosign("verify-blob", "--key", "cosign.pub", "--insecure-ignore-tlog", "--new-bundle-format=false", "--signature", who+".sig", message)
	}
}
