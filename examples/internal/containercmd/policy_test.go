package containercmd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/cosignsigner"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// policy writes a signature policy and gives its path; "": the user's own.
func (s *shop) policy(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if name == "" {
		path = filepath.Join(s.dir, "home", ".config", "containers", "policy.json")
	}
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(s.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// digestOf gives the digest of an image in the shop.
func (s *shop) digestOf(image string) v1.Hash {
	s.t.Helper()
	var out struct{ Digest string }
	require.NoError(s.t, json.Unmarshal([]byte(s.must("inspect", "-o", "json", image)), &out))
	h, err := v1.NewHash(out.Digest)
	require.NoError(s.t, err)
	return h
}

// TestImportPolicy imports an image that is signed with OpenPGP, in a folder and
// on a web server, and by cosign, beside it, under policies of each kind.
func TestImportPolicy(t *testing.T) {
	s := newShop(t)
	s.must("encapsulate", "one", pullspec+"one")
	s.must("encapsulate", "two", pullspec+"two")
	s.must("encapsulate", "one", "oci:"+s.dir+"/layout:x")
	digest := s.digestOf(pullspec + "one")

	keys := filepath.Join("..", "..", "..", "publish", "pgpsigner", "testdata")
	secret, err := os.ReadFile(filepath.Join(keys, "ed.secret.asc"))
	require.NoError(t, err)
	pgp, err := pgpsigner.ParseSigner(secret, func() time.Time { return time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC) }, &pgpsigner.SignerOptions{
		Form: pgpsigner.Packed, Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
	})
	require.NoError(t, err)
	sig, err := pgp.Sign(t.Context(), strings.NewReader(fmt.Sprintf(`{"critical": {"type": "atomic container signature", "image": {"docker-manifest-digest": %q}, "identity": {"docker-reference": %q}}}`, digest, pullspec+"one")))
	require.NoError(t, err)
	lookaside := filepath.Join(s.dir, "signatures", "okd", "scos@sha256="+digest.Hex)
	require.NoError(t, os.MkdirAll(lookaside, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(lookaside, "signature-1"), sig, 0o600))
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(s.dir, "signatures"))))
	defer server.Close()
	registries := func(name, url string) string {
		return filepath.Dir(s.policy(name+"/x.yaml", "docker: {registry.example.org/okd: {lookaside: '"+url+"'}}\n"))
	}
	folder, web := registries("folder", "file://"+s.dir+"/signatures"), registries("web", server.URL)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	cosign, err := cosignsigner.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil)
	require.NoError(t, err)
	public := s.policy("cosign.pub", string(cosign.PublicKey()))
	signed, err := cosign.Image(t.Context(), digest, "registry.example.org/okd/scos", nil)
	require.NoError(t, err)
	registry, err := layoutregistry.Open(t.Context(), s.dir+"/registry", nil)
	require.NoError(t, err)
	repo, err := name.NewRepository("registry.example.org/okd/scos")
	require.NoError(t, err)
	desc, err := registry.WriteImage(t.Context(), repo, signed, nil)
	require.NoError(t, err)
	require.NoError(t, registry.Tag(t.Context(), repo.Tag(cosignsigner.Tag(digest)), desc.Digest))

	absolute, err := filepath.Abs(filepath.Join(keys, "ed.asc"))
	require.NoError(t, err)
	byPGP := s.policy("pgp.json", fmt.Sprintf(`{"default": [{"type": "reject"}], "transports": {"docker": {"registry.example.org/okd": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": %q}]}}}`, absolute))
	byCosign := s.policy("cosign.json", fmt.Sprintf(`{"default": [{"type": "sigstoreSigned", "keyPath": %q, "signedIdentity": {"type": "matchRepository"}}]}`, public))
	anything := s.policy("anything.json", `{"default": [{"type": "insecureAcceptAnything"}]}`)
	scoped := s.policy("scoped.json", fmt.Sprintf(`{"default": [{"type": "reject"}], "transports": {"oci": {%q: [{"type": "insecureAcceptAnything"}]}}}`, s.dir))
	for _, tc := range []struct {
		name  string
		args  []string
		image string
		code  int
		says  string
	}{
		{"signed, in a folder", []string{"--policy=" + byPGP, "--registries-d=" + folder}, pullspec + "one", 0, ""},
		{"signed, on a server", []string{"--policy=" + byPGP, "--registries-d=" + web}, "ostree-image-signed:docker://" + pullspec + "one", 0, ""},
		{"another image", []string{"--policy=" + byPGP, "--registries-d=" + folder}, pullspec + "two", 3, "it has no signature"},
		{"another image, on a server", []string{"--policy=" + byPGP, "--registries-d=" + web}, pullspec + "two", 3, "it has no signature"},
		{"nowhere to look", []string{"--policy=" + byPGP}, pullspec + "one", 3, "it has no signature"},
		{"by cosign", []string{"--policy=" + byCosign, "--signed"}, pullspec + "one", 0, ""},
		{"another image by cosign", []string{"--policy=" + byCosign}, "ostree-unverified-registry:" + pullspec + "two", 3, "it has no signature"},
		{"anything", []string{"--policy=" + anything}, "ostree-unverified-image:registry:" + pullspec + "two", 0, ""},
		{"anything is no policy", []string{"--policy=" + anything}, "ostree-image-signed:registry:" + pullspec + "two", 2, "no policy for images that must be signed"},
		{"the user's own", nil, pullspec + "two", 0, ""},
		{"the user's own is no policy", []string{"--signed"}, pullspec + "two", 2, "no policy for images that must be signed"},
		{"a layout", []string{"--policy=" + scoped}, "oci:" + s.dir + "/layout:x", 0, ""},
		{"a layout has no signatures", []string{"--policy=" + byCosign}, "oci:" + s.dir + "/layout:x", 3, "an OCI layout has no signatures"},
		{"rejected", []string{"--policy=" + scoped}, pullspec + "one", 3, "the policy rejects it"},
		{"no such policy", []string{"--policy=" + s.dir + "/none"}, pullspec + "one", 1, "none"},
		{"no policy", []string{"--policy=" + public}, pullspec + "one", 2, "cosign.pub"},
		{"no such folder", []string{"--policy=" + byPGP, "--registries-d=" + s.dir + "/none"}, pullspec + "one", 2, "none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			repo := filepath.Join(t.TempDir(), "repo")
			require.NoError(t, os.CopyFS(repo, os.DirFS(s.emptyRepo())))
			code, out, stderr := s.call(append(append([]string{"import", "--repo=" + repo}, tc.args...), tc.image)...)
			require.Equal(t, tc.code, code, "%s%s", out, stderr)
			require.Contains(t, stderr, tc.says)
			var refs []string
			require.NoError(t, filepath.WalkDir(filepath.Join(repo, "objects"), func(path string, d os.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					refs = append(refs, path)
				}
				return err
			}))
			require.Equal(t, tc.code == 0, len(refs) > 0, "nothing of an image that is refused is stored")
		})
	}

	require.NoError(t, os.Remove(s.policy("", "")))
	if _, err := os.Stat("/etc/containers/policy.json"); err == nil {
		return // it is the machine's that counts
	}
	code, _, stderr := s.call("import", pullspec+"two")
	require.Zero(t, code, stderr)
	require.Contains(t, stderr, "there is no signature policy")
	code, _, stderr = s.call("import", "--signed", pullspec+"two")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "no signature policy in DIR/home")
}

// emptyRepo makes a repository without objects, once.
func (s *shop) emptyRepo() string {
	dir := filepath.Join(s.dir, "empty")
	if _, err := os.Stat(dir); err != nil {
		r, err := ostree.Init(s.t.Context(), dir, ostree.ModeBareUser, nil)
		require.NoError(s.t, err)
		require.NoError(s.t, r.Close())
	}
	return dir
}
