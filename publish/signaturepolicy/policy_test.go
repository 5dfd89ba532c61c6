package signaturepolicy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/cosignsigner"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
	"github.com/okd-project/okd-streams/publish/signaturepolicy"
)

var now = time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC)

// signers make signatures of both kinds, with a key that policies name, and
// cosign's with another.
type signers struct {
	pgp           *pgpsigner.Signer
	cosign, other *cosignsigner.Signer
	pgpPublic     []byte
	dir           string // of key files
}

func newSigners(t testing.TB) *signers {
	t.Helper()
	testdata := filepath.Join("..", "pgpsigner", "testdata")
	secret, err := os.ReadFile(filepath.Join(testdata, "ed.secret.asc"))
	require.NoError(t, err)
	s := &signers{dir: t.TempDir()}
	s.pgp, err = pgpsigner.ParseSigner(secret, func() time.Time { return now }, &pgpsigner.SignerOptions{
		Form: pgpsigner.Packed, Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
	})
	require.NoError(t, err)
	s.pgpPublic, err = os.ReadFile(filepath.Join(testdata, "ed.asc"))
	require.NoError(t, err)
	s.cosign, s.other = newCosign(t), newCosign(t)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "pgp"), s.pgpPublic, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "cosign"), s.cosign.PublicKey(), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "other"), s.other.PublicKey(), 0o600))
	return s
}

func newCosign(t testing.TB) *cosignsigner.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	s, err := cosignsigner.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil)
	require.NoError(t, err)
	return s
}

// message signs what `podman image sign` signs.
func (s *signers) message(t testing.TB, digest, identity string) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"type": "atomic container signature", "image": map[string]string{"docker-manifest-digest": digest}, "identity": map[string]string{"docker-reference": identity},
		},
		"optional": map[string]any{"creator": "test"},
	})
	require.NoError(t, err)
	sig, err := s.pgp.Sign(t.Context(), strings.NewReader(string(text)))
	require.NoError(t, err)
	return sig
}

// verdict is a case for us and for skopeo: HOST is the registry's, DIR that of
// keys, PGP and COSIGN keys in base64.
type verdict struct {
	name     string
	policy   string // what stands for "default", or the whole file
	pgp      string // identity of the OpenPGP signature; "": there is none
	cosign   string // the same of cosign's
	other    bool   // cosign's is by another key
	byDigest bool   // the image is named by its digest
	ok       bool
}

const (
	byPGP    = `[{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "DIR/pgp"%s}]`
	byCosign = `[{"type": "sigstoreSigned", "keyPath": "DIR/cosign"%s}]`
)

func with(format, identity string) string {
	if identity != "" {
		identity = `, "signedIdentity": ` + identity
	}
	return fmt.Sprintf(format, identity)
}

// The image is HOST/okd/os:1.
var verdicts = []verdict{
	{name: "anything", policy: `[{"type": "insecureAcceptAnything"}]`, ok: true},
	{name: "rejected", policy: `[{"type": "reject"}]`, pgp: "HOST/okd/os:1"},
	{name: "all of several", policy: `[{"type": "insecureAcceptAnything"}, {"type": "reject"}]`},

	{name: "pgp", policy: with(byPGP, ""), pgp: "HOST/okd/os:1", ok: true},
	{name: "pgp, key in the file", policy: `[{"type": "signedBy", "keyType": "GPGKeys", "keyData": "PGP"}]`, pgp: "HOST/okd/os:1", ok: true},
	{name: "pgp, several keys", policy: `[{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["DIR/pgp", "DIR/pgp"]}]`, pgp: "HOST/okd/os:1", ok: true},
	{name: "pgp, no signature", policy: with(byPGP, "")},
	{name: "pgp, only cosign's", policy: with(byPGP, ""), cosign: "HOST/okd/os:1"},
	{name: "pgp, another tag", policy: with(byPGP, ""), pgp: "HOST/okd/os:2"},
	{name: "pgp, another repository", policy: with(byPGP, ""), pgp: "HOST/okd/other:1"},
	{name: "pgp, by digest, another tag", policy: with(byPGP, ""), pgp: "HOST/okd/os:2", byDigest: true, ok: true},
	{name: "pgp, by digest, another repository", policy: with(byPGP, ""), pgp: "HOST/okd/other:2", byDigest: true},
	{name: "exact", policy: with(byPGP, `{"type": "matchExact"}`), pgp: "HOST/okd/os:1", ok: true},
	{name: "exact, by digest", policy: with(byPGP, `{"type": "matchExact"}`), pgp: "HOST/okd/os:1", byDigest: true},
	{name: "repository", policy: with(byPGP, `{"type": "matchRepository"}`), pgp: "HOST/okd/os:2", ok: true},
	{name: "repository, another", policy: with(byPGP, `{"type": "matchRepository"}`), pgp: "HOST/okd/osx:1"},
	{name: "exact reference", policy: with(byPGP, `{"type": "exactReference", "dockerReference": "example.com/x/y:3"}`), pgp: "example.com/x/y:3", ok: true},
	{name: "exact reference, another", policy: with(byPGP, `{"type": "exactReference", "dockerReference": "example.com/x/y:3"}`), pgp: "example.com/x/y:4"},
	{name: "exact repository", policy: with(byPGP, `{"type": "exactRepository", "dockerRepository": "example.com/x/y"}`), pgp: "example.com/x/y:4", ok: true},
	{name: "exact repository of Docker Hub", policy: with(byPGP, `{"type": "exactRepository", "dockerRepository": "docker.io/library/y"}`), pgp: "y:4", ok: true},
	{name: "exact repository, another", policy: with(byPGP, `{"type": "exactRepository", "dockerRepository": "example.com/x/y"}`), pgp: "example.com/x/z:4"},
	{name: "remapped", policy: with(byPGP, `{"type": "remapIdentity", "prefix": "HOST", "signedPrefix": "quay.io/a"}`), pgp: "quay.io/a/okd/os:1", ok: true},
	{name: "remapped folder", policy: with(byPGP, `{"type": "remapIdentity", "prefix": "HOST/okd", "signedPrefix": "quay.io"}`), pgp: "quay.io/os:1", ok: true},
	{name: "remapped repository", policy: with(byPGP, `{"type": "remapIdentity", "prefix": "HOST/okd/os", "signedPrefix": "quay.io/x"}`), pgp: "quay.io/x:1", ok: true},
	{name: "remapped, part of a name", policy: with(byPGP, `{"type": "remapIdentity", "prefix": "HOST/okd/o", "signedPrefix": "quay.io/x"}`), pgp: "HOST/okd/os:1", ok: true},
	{name: "remapped, another tag", policy: with(byPGP, `{"type": "remapIdentity", "prefix": "HOST/okd", "signedPrefix": "quay.io"}`), pgp: "quay.io/os:2"},
	{name: "remapped, the old name", policy: with(byPGP, `{"type": "remapIdentity", "prefix": "HOST/okd", "signedPrefix": "quay.io"}`), pgp: "HOST/okd/os:1"},

	{name: "cosign", policy: with(byCosign, ""), cosign: "HOST/okd/os:1", ok: true},
	{name: "cosign, key in the file", policy: `[{"type": "sigstoreSigned", "keyData": "COSIGN", "signedIdentity": {"type": "matchRepository"}}]`, cosign: "HOST/okd/os", ok: true},
	{name: "cosign, without tag", policy: with(byCosign, ""), cosign: "HOST/okd/os"},
	{name: "cosign, without tag, by digest", policy: with(byCosign, ""), cosign: "HOST/okd/os", byDigest: true, ok: true},
	{name: "cosign, repository", policy: with(byCosign, `{"type": "matchRepository"}`), cosign: "HOST/okd/os", ok: true},
	{name: "cosign, another repository", policy: with(byCosign, `{"type": "matchRepository"}`), cosign: "HOST/okd/other"},
	{name: "cosign, another key", policy: with(byCosign, `{"type": "matchRepository"}`), cosign: "HOST/okd/os", other: true},
	{name: "cosign, one of several keys", policy: `[{"type": "sigstoreSigned", "keyPaths": ["DIR/cosign", "DIR/other"], "signedIdentity": {"type": "matchRepository"}}]`, cosign: "HOST/okd/os", other: true, ok: true},
	{name: "cosign, none", policy: with(byCosign, "")},
	{name: "both", policy: `[{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "DIR/pgp"}, {"type": "sigstoreSigned", "keyPath": "DIR/cosign"}]`, pgp: "HOST/okd/os:1", cosign: "HOST/okd/os:1", ok: true},
	{name: "both, one missing", policy: `[{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "DIR/pgp"}, {"type": "sigstoreSigned", "keyPath": "DIR/cosign"}]`, pgp: "HOST/okd/os:1"},

	{name: "scope of the tag", policy: scoped("HOST/okd/os:1", "HOST/okd/os"), ok: true},
	{name: "scope of the repository", policy: scoped("HOST/okd/os", "HOST/okd"), ok: true},
	{name: "scope of a folder", policy: scoped("HOST/okd", "HOST"), ok: true},
	{name: "scope of the host", policy: scoped("HOST", ""), ok: true},
	{name: "scope of all", policy: scoped("", "HOST/okd/o"), ok: true},
	{name: "scope of another transport", policy: `{"default": [{"type": "reject"}], "transports": {"oci": {"": [{"type": "insecureAcceptAnything"}]}}}`},
}

// scoped accepts in one scope and rejects in another, which counts less.
func scoped(accept, reject string) string {
	return fmt.Sprintf(`{"default": [{"type": "reject"}], "transports": {"docker": {%q: [{"type": "insecureAcceptAnything"}], %q: [{"type": "reject"}]}}}`, accept, reject)
}

// file is the policy of a case.
func (v *verdict) file(s *signers, host string) string {
	text := v.policy
	if text[0] == '[' {
		text = `{"default": ` + text + `}`
	}
	return strings.NewReplacer("HOST", host, "DIR", s.dir, "PGP", base64.StdEncoding.EncodeToString(s.pgpPublic), "COSIGN", base64.StdEncoding.EncodeToString(s.cosign.PublicKey())).Replace(text)
}

// signatures of a case; nil where it has none.
func (v *verdict) signatures(t testing.TB, s *signers, host string, digest v1.Hash) (pgp []byte, cosign v1.Image) {
	t.Helper()
	if v.pgp != "" {
		pgp = s.message(t, digest.String(), strings.ReplaceAll(v.pgp, "HOST", host))
	}
	if v.cosign != "" {
		signer := s.cosign
		if v.other {
			signer = s.other
		}
		var err error
		cosign, err = signer.Image(t.Context(), digest, strings.ReplaceAll(v.cosign, "HOST", host), nil)
		require.NoError(t, err)
	}
	return pgp, cosign
}

func (v *verdict) reference(t testing.TB, host string, digest v1.Hash) name.Reference {
	t.Helper()
	text := host + "/okd/os:1"
	if v.byDigest {
		text = host + "/okd/os@" + digest.String()
	}
	ref, err := name.ParseReference(text)
	require.NoError(t, err)
	return ref
}

func lookaside(t testing.TB, yaml string) *signaturepolicy.Lookaside {
	t.Helper()
	l, err := signaturepolicy.ReadLookaside(fstest.MapFS{"x.yaml": {Data: []byte(yaml)}})
	require.NoError(t, err)
	return l
}

func TestVerify(t *testing.T) {
	s := newSigners(t)
	img, err := random.Image(100, 1)
	require.NoError(t, err)
	digest, err := img.Digest()
	require.NoError(t, err)
	for _, host := range []string{"registry.example.com", "127.0.0.1:5000"} {
		for i := range verdicts {
			v := &verdicts[i]
			t.Run(host+" "+v.name, func(t *testing.T) {
				sig, cosign := v.signatures(t, s, host, digest)
				p, err := signaturepolicy.Decode(strings.NewReader(v.file(s, host)))
				require.NoError(t, err)
				err = p.Verify(t.Context(), &signaturepolicy.Image{Reference: v.reference(t, host, digest), Digest: digest}, options(t, sig, cosign, digest))
				if v.ok {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, publish.ErrSignature)
					require.ErrorContains(t, err, "docker://"+host)
				}
			})
		}
	}
}

// options has these signatures at their places.
func options(t testing.TB, sig []byte, cosign v1.Image, digest v1.Hash) *signaturepolicy.VerifyOptions {
	return &signaturepolicy.VerifyOptions{
		ReadFile: os.ReadFile, Now: now,
		Signatures: lookaside(t, "default-docker: {lookaside: https://signatures.example.com}").Signatures(func(_ context.Context, url, path string) (io.ReadCloser, error) {
			if sig == nil || path != "okd/os@sha256="+digest.Hex+"/signature-1" {
				return nil, fs.ErrNotExist
			}
			return io.NopCloser(strings.NewReader(string(sig))), nil
		}),
		Images: func(_ context.Context, ref name.Reference) (v1.Image, error) {
			if cosign == nil || ref.Identifier() != cosignsigner.Tag(digest) {
				return nil, fs.ErrNotExist
			}
			return cosign, nil
		},
	}
}

// What is not supported refuses, whatever signatures there are.
func TestVerifyUnsupported(t *testing.T) {
	s := newSigners(t)
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	v := &verdict{cosign: "HOST/okd/os:1"}
	_, cosign := v.signatures(t, s, "example.com", digest)
	for _, q := range []string{
		`{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}`,
		`{"type": "sigstoreSigned", "fulcio": {"caPath": "x", "oidcIssuer": "y", "subjectEmail": "z"}, "rekorPublicKeyPath": "k"}`,
		`{"type": "sigstoreSigned", "pki": {"caRootsPath": "x"}}`,
		`{"type": "sigstoreSigned", "keyPath": "DIR/cosign", "rekorPublicKeyPath": "DIR/other"}`,
	} {
		v.policy = "[" + q + "]"
		p, err := signaturepolicy.Decode(strings.NewReader(v.file(s, "example.com")))
		require.NoError(t, err)
		err = p.Verify(t.Context(), &signaturepolicy.Image{Reference: v.reference(t, "example.com", digest), Digest: digest}, options(t, nil, cosign, digest))
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorIs(t, err, publish.ErrSignature)
	}
}

func TestVerifyFaults(t *testing.T) {
	s := newSigners(t)
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	another := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("b", 64)}
	broken := errors.New("broken")
	v := &verdict{policy: with(byPGP, ""), pgp: "HOST/okd/os:1", cosign: "HOST/okd/os:1"}
	sig, cosign := v.signatures(t, s, "example.com", another)
	ref := v.reference(t, "example.com", digest)
	pgpPolicy, err := signaturepolicy.Decode(strings.NewReader(v.file(s, "example.com")))
	require.NoError(t, err)
	v.policy = with(byCosign, "")
	cosignPolicy, err := signaturepolicy.Decode(strings.NewReader(v.file(s, "example.com")))
	require.NoError(t, err)
	img := &signaturepolicy.Image{Reference: ref, Digest: digest}

	err = pgpPolicy.Verify(t.Context(), img, options(t, sig, cosign, digest))
	require.ErrorIs(t, err, publish.ErrSignature)
	require.ErrorContains(t, err, "it is of "+another.String())
	require.ErrorIs(t, cosignPolicy.Verify(t.Context(), img, options(t, sig, cosign, digest)), publish.ErrSignature, "cosign's of another image")
	require.ErrorIs(t, pgpPolicy.Verify(t.Context(), img, options(t, []byte("no signature"), nil, digest)), publish.ErrSignature)
	require.ErrorIs(t, pgpPolicy.Verify(t.Context(), img, nil), fs.ErrNotExist, "no keys")

	o := options(t, sig, nil, digest)
	o.ReadFile = func(string) ([]byte, error) { return nil, fs.ErrPermission }
	require.ErrorIs(t, pgpPolicy.Verify(t.Context(), img, o), fs.ErrPermission)
	o = options(t, nil, nil, digest)
	o.Signatures = lookaside(t, "docker: {example.com/okd: {lookaside: 'https://a/'}}").Signatures(func(context.Context, string, string) (io.ReadCloser, error) { return nil, broken })
	err = pgpPolicy.Verify(t.Context(), img, o)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "https://a/okd/os@sha256=")
	o.Images = func(context.Context, name.Reference) (v1.Image, error) { return nil, broken }
	require.ErrorIs(t, cosignPolicy.Verify(t.Context(), img, o), broken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, cosignPolicy.Verify(ctx, img, o), context.Canceled)

	folder := &signaturepolicy.Image{Path: "/srv/images/os", Digest: digest}
	require.ErrorContains(t, pgpPolicy.Verify(t.Context(), folder, o), "an OCI layout has no signatures")
	for scope, ok := range map[string]bool{"/srv/images/os": true, "/srv/images": true, "/srv": true, "": true, "/srv/image": false, "/": false} {
		p, err := signaturepolicy.Decode(strings.NewReader(fmt.Sprintf(`{"default": [{"type": "reject"}], "transports": {"oci": {%q: [{"type": "insecureAcceptAnything"}]}}}`, scope)))
		require.NoError(t, err)
		require.Equal(t, ok, p.Verify(t.Context(), folder, nil) == nil, scope)
		require.False(t, p.Insecure())
	}
	p, err := signaturepolicy.Decode(strings.NewReader(`{"default": [{"type": "insecureAcceptAnything"}]}`))
	require.NoError(t, err)
	require.True(t, p.Insecure())
}

func TestWildcardScopes(t *testing.T) {
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	for scope, ok := range map[string]bool{"*.b.example.com": true, "*.example.com": true, "*.com": true, "*.a.b.example.com": false, "*.xample.com": false, "docker.io": false} {
		p, err := signaturepolicy.Decode(strings.NewReader(fmt.Sprintf(`{"default": [{"type": "reject"}], "transports": {"docker": {%q: [{"type": "insecureAcceptAnything"}]}}}`, scope)))
		require.NoError(t, err)
		ref, err := name.ParseReference("a.b.example.com:5000/x")
		require.NoError(t, err)
		require.Equal(t, ok, p.Verify(t.Context(), &signaturepolicy.Image{Reference: ref, Digest: digest}, nil) == nil, scope)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                  "unexpected end",
		`[]`:                "array",
		`null`:              "null",
		`{}`:                "no default",
		`{"default": []}`:   "at least one",
		`{"default": null}`: "at least one",
		`{"default": [{"type": "reject"}], "x": 1}`:                                                                                         `unknown member "x"`,
		`{"default": [{"type": "reject"}], "Default": []}`:                                                                                  `unknown member "Default"`,
		`{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}`:                                                "twice",
		`{"default": [{"type": "reject", "keyPath": "x"}]}`:                                                                                 `unknown member "keyPath"`,
		`{"default": [{"Type": "reject"}]}`:                                                                                                 `unknown member "Type"`,
		`{"default": [{"type": "trust"}]}`:                                                                                                  `"trust" is not known`,
		`{"default": [{}]}`:                                                                                                                 "is not known",
		`{"default": [{"type": "signedBy", "keyPath": "x"}]}`:                                                                               "keyType",
		`{"default": [{"type": "signedBy", "keyType": "GPGKeys"}]}`:                                                                         "0 sources",
		`{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": []}]}`:                                                         "no keys",
		`{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "x", "keyData": "eA=="}]}`:                                      "2 sources",
		`{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyData": "!"}]}`:                                                         "base64",
		`{"default": [{"type": "sigstoreSigned", "keyPath": "x", "signedIdentity": {"type": "any"}}]}`:                                      "signedIdentity",
		`{"default": [{"type": "sigstoreSigned", "keyPath": "x", "signedIdentity": {"type": "exactReference", "dockerReference": "a/b"}}]}`: "neither tag nor digest",
		`{"default": [{"type": "sigstoreSigned", "keyPath": "x", "signedIdentity": {"type": "remapIdentity", "prefix": "a"}}]}`:             "prefix",
		`{"default": [{"type": "reject"}], "transports": {"docker": {"a": [{"type": "reject"}, {"type": "b"}]}}}`:                           `transports, "docker", "a": requirement 2`,
		`{"default": [{"type": "reject"}]} x`:                                                                                               "invalid character",
	} {
		_, err := signaturepolicy.Decode(strings.NewReader(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err := signaturepolicy.Decode(strings.NewReader(strings.Repeat(" ", signaturepolicy.MaxPolicySize+1)))
	require.ErrorContains(t, err, "over 1048576 bytes")
	_, err = fuzzbound.Read(t, 512, signaturepolicy.Decode, []byte(`{"default": [`+strings.Repeat("1,", 30_000)+`1]}`))
	require.ErrorContains(t, err, "requirement 100: json: cannot unmarshal number")
}

func TestReadLookaside(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"unknown member": {map[string]string{"a.yaml": "docker: {x: {lookasides: y}}"}, "a.yaml"},
		"two defaults":   {map[string]string{"a.yaml": "default-docker: {lookaside: x}", "b.yaml": "default-docker: {lookaside: y}"}, "default-docker is in a.yaml too"},
		"a scope twice":  {map[string]string{"a.yaml": "docker: {x: {lookaside: x}}", "b.yaml": "docker: {x: {sigstore: y}}"}, `"x" is in a.yaml too`},
	} {
		fsys := fstest.MapFS{}
		for file, text := range tc.files {
			fsys[file] = &fstest.MapFile{Data: []byte(text)}
		}
		_, err := signaturepolicy.ReadLookaside(fsys)
		require.ErrorContains(t, err, tc.want, name)
	}
	l, err := signaturepolicy.ReadLookaside(fstest.MapFS{
		"a.yaml": {Data: []byte("default-docker: {sigstore: 'https://default'}\ndocker: {example.com: {lookaside: 'https://host', sigstore: 'https://old'}, example.com/a/b: {sigstore: 'file:///b'}}\n")},
		"b.yaml": {Data: []byte("docker: {example.com/a: {use-sigstore-attachments: true}}\n")}, "readme": {Data: []byte("no YAML: [")},
	})
	require.NoError(t, err)
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	for text, want := range map[string]string{
		"example.com/x/y:1": "https://host x/y", "example.com/a/c": "https://host a/c", "example.com/a/b:2": "file:///b a/b", "quay.io/x": "https://default x", "busybox": "https://default library/busybox",
	} {
		ref, err := name.ParseReference(text)
		require.NoError(t, err)
		for _, err := range l.Signatures(func(_ context.Context, url, path string) (io.ReadCloser, error) {
			require.Equal(t, want+"@sha256="+digest.Hex+"/signature-1", url+" "+path)
			return nil, fs.ErrNotExist
		})(t.Context(), ref, digest) {
			require.NoError(t, err)
		}
	}
	opened := 0
	ref, err := name.ParseReference("quay.io/x")
	require.NoError(t, err)
	var last error
	for _, last = range l.Signatures(func(context.Context, string, string) (io.ReadCloser, error) {
		opened++
		return io.NopCloser(strings.NewReader("x")), nil
	})(t.Context(), ref, digest) {
	}
	require.ErrorContains(t, last, "over 128 signatures")
	require.Equal(t, signaturepolicy.MaxSignatures, opened)
}

func FuzzDecode(f *testing.F) {
	var docs []string
	for i := range verdicts {
		text := verdicts[i].policy
		if text[0] == '[' {
			text = `{"default": ` + text + `}`
		}
		docs = append(docs, text)
	}
	docs = append(docs, `{"default":[{"type":"reject"}],"tran\u0073ports":{"docker":{"":[{"type":"insecureAcceptAnything"}]}}}`)
	mutants.Add(f, docs...)
	ref, err := name.ParseReference("example.com/okd/os:1")
	require.NoError(f, err)
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := fuzzbound.Read(t, 512, signaturepolicy.Decode, data)
		if err != nil {
			return
		}
		before := p.Insecure()
		err = p.Verify(t.Context(), &signaturepolicy.Image{Reference: ref, Digest: digest}, nil)
		if err == nil && !before {
			var members map[string]json.RawMessage // their names may be written with escapes
			require.NoError(t, json.Unmarshal(data, &members))
			require.Contains(t, members, "transports", "only a scope of its own accepts")
		}
		again, err := signaturepolicy.Decode(strings.NewReader(string(data)))
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
