package payload_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/cosign"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/payload"
)

// signer is a key pair made for a test.
type signer struct {
	secret *pgp.Secret
	ring   *payload.Keyring
	armor  string // public
	form   pgp.Form
	life   time.Duration
}

func (s *signer) Sign(ctx context.Context, message io.Reader) ([]byte, error) {
	return s.secret.Sign(ctx, message, s.form, testTime, &pgp.SignOptions{Lifetime: s.life})
}

func newSigner(t testing.TB, lifetime time.Duration) *signer {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return testTime.Add(-time.Hour) }, KeyLifetimeSecs: uint32(lifetime / time.Second)}
	e, err := openpgp.NewEntity("test", "", "test@example.com", config)
	require.NoError(t, err)
	var secret, public bytes.Buffer
	require.NoError(t, e.SerializePrivate(&secret, config))
	w, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
	require.NoError(t, err)
	require.NoError(t, e.Serialize(w))
	require.NoError(t, w.Close())
	s := &signer{armor: public.String(), form: pgp.Packed}
	s.secret, err = pgp.ParseSecret(secret.Bytes(), nil)
	require.NoError(t, err)
	s.ring, err = pgp.ParseKeyring(public.Bytes())
	require.NoError(t, err)
	return s
}

// list is a store with these signatures, whatever is asked for.
type list [][]byte

func (l list) Signatures(context.Context, v1.Hash) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, s := range l {
			if !yield(s, nil) {
				return
			}
		}
	}
}

type brokenStore struct{}

func (brokenStore) Signatures(context.Context, v1.Hash) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) { yield(nil, errors.New("store is broken")) }
}

var signedRef = "registry.test/okd/release@sha256:" + strings.Repeat("5", 64)

func messageText(t testing.TB, change func(*payload.Message)) string {
	t.Helper()
	ref, err := name.NewDigest(signedRef)
	require.NoError(t, err)
	m := &payload.Message{Digest: mustHash(t, ref.DigestStr()), Reference: signedRef, Creator: "test", Timestamp: testTime}
	if change != nil {
		change(m)
	}
	data, err := m.Encode()
	require.NoError(t, err)
	return string(data)
}

// What is accepted of a signature and its message; the cases and what
// library-go makes of them are in the reference.
func TestSignatureAcceptance(t *testing.T) {
	key := newSigner(t, 0)
	ref, err := name.NewDigest(signedRef)
	require.NoError(t, err)
	good := messageText(t, nil)
	sign := func(text string, form pgp.Form) []byte {
		sig, err := key.secret.Sign(t.Context(), strings.NewReader(text), form, testTime, nil)
		require.NoError(t, err)
		return sig
	}
	armored := func(data []byte) []byte {
		var buf bytes.Buffer
		w, err := armor.Encode(&buf, "PGP MESSAGE", nil)
		require.NoError(t, err)
		_, err = w.Write(data)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return buf.Bytes()
	}
	for name, c := range map[string]struct {
		sig  []byte
		want string // "": accepted
	}{
		"as gpg -s makes it":            {sig: sign(good, pgp.Packed)},
		"not compressed":                {sig: sign(good, pgp.Message)},
		"compact JSON":                  {sig: sign(strings.Join(strings.Fields(good), ""), pgp.Packed), want: "type"}, // blanks in the type are gone
		"really compact JSON":           {sig: sign(compactJSON(t, good), pgp.Packed)},
		"no optional part":              {sig: sign(good[:strings.Index(good, `"optional"`)]+`"optional":{}}`, pgp.Packed)},
		"JSON behind it":                {sig: sign(good+`{"a":1}`, pgp.Packed), want: "something follows"}, // library-go does not look
		"a blank line behind it":        {sig: sign(good+"\n\n", pgp.Packed)},
		"armored":                       {sig: armored(sign(good, pgp.Packed)), want: "keyring"},
		"clear text":                    {sig: sign(good, pgp.Clear), want: "keyring"},
		"detached":                      {sig: sign(good, pgp.Detached), want: "keyring"},
		"nothing":                       {sig: nil, want: "keyring"},
		"no signature":                  {sig: []byte("junk"), want: "keyring"},
		"unknown member":                {sig: sign(strings.Replace(good, `"critical"`, `"more":1,"critical"`, 1), pgp.Packed), want: "unknown field"},
		"unknown member of the image":   {sig: sign(strings.Replace(good, `"docker-manifest-digest"`, `"x":1,"docker-manifest-digest"`, 1), pgp.Packed), want: "unknown field"},
		"a member twice":                {sig: sign(strings.Replace(good, `"type"`, `"type": "x", "type"`, 1), pgp.Packed), want: "there twice"},
		"another type":                  {sig: sign(strings.Replace(good, "atomic container", "other", 1), pgp.Packed), want: "type"},
		"no reference":                  {sig: sign(strings.Replace(good, signedRef, "", 1), pgp.Packed), want: "no docker-reference"},
		"no critical part":              {sig: sign(`{"optional":{}}`, pgp.Packed), want: "no critical"},
		"not JSON":                      {sig: sign("x", pgp.Packed), want: "invalid"},
		"another digest":                {sig: sign(messageText(t, func(m *payload.Message) { m.Digest.Hex = strings.Repeat("6", 64) }), pgp.Packed), want: "it is of sha256:666"},
		"another repository":            {sig: sign(messageText(t, func(m *payload.Message) { m.Reference = "registry.test/okd/other@" + ref.DigestStr() }), pgp.Packed), want: "it is of an image in registry.test/okd/other"},
		"a tag of the repository":       {sig: sign(messageText(t, func(m *payload.Message) { m.Reference = "registry.test/okd/release:4.20" }), pgp.Packed)},
		"another digest in the name":    {sig: sign(messageText(t, func(m *payload.Message) { m.Reference = strings.Replace(signedRef, ":5", ":6", 1) }), pgp.Packed), want: "another digest"},
		"a digest that is none":         {sig: sign(strings.Replace(good, "sha256:555", "sha256:xyz", 1), pgp.Packed), want: "digest"},
		"a digest of another algorithm": {sig: sign(strings.Replace(good, "sha256:"+strings.Repeat("5", 64), "sha512:"+strings.Repeat("5", 128), 1), pgp.Packed), want: "unsupported"},
		"too large":                     {sig: sign(good+strings.Repeat(" ", payload.MaxSignatureSize+1), pgp.Message), want: "limit 51200"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &payload.Policy{Keyrings: map[string]*payload.Keyring{"keyring": key.ring}, Stores: []payload.SignatureStore{list{c.sig}}}
			v, err := p.Verify(t.Context(), ref, testTime.Add(time.Minute))
			if c.want == "" {
				require.NoError(t, err)
				require.Len(t, v.Signers, 1)
				require.Equal(t, ref.DigestStr(), v.Message.Digest.String())
				require.Equal(t, [][]byte{c.sig}, v.Signatures)
				return
			}
			require.ErrorIs(t, err, payload.ErrSignature)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, v)
		})
	}
}

func compactJSON(t *testing.T, text string) string {
	t.Helper()
	var buf bytes.Buffer
	require.NoError(t, json.Compact(&buf, []byte(text)))
	return buf.String()
}

func TestPolicy(t *testing.T) {
	one, two := newSigner(t, 0), newSigner(t, 0)
	ref, err := name.NewDigest(signedRef)
	require.NoError(t, err)
	m := &payload.Message{Digest: mustHash(t, ref.DigestStr()), Reference: signedRef}
	sign := func(s *signer) []byte {
		sig, err := payload.Sign(t.Context(), m, s)
		require.NoError(t, err)
		return sig
	}
	rings := func(s ...*signer) map[string]*payload.Keyring {
		out := map[string]*payload.Keyring{}
		for i := range s {
			out[fmt.Sprint(i+1)] = s[i].ring
		}
		return out
	}
	now := testTime.Add(time.Minute)
	verify := func(p *payload.Policy) (*payload.Verified, error) { return p.Verify(t.Context(), ref, now) }

	// All keyrings have to have signed, in any store.
	_, err = verify(&payload.Policy{Keyrings: rings(one, two), Stores: []payload.SignatureStore{list{sign(one)}}})
	require.ErrorContains(t, err, "no accepted signature for 2")
	v, err := verify(&payload.Policy{Keyrings: rings(one, two), Stores: []payload.SignatureStore{list{[]byte("junk"), sign(two)}, brokenStore{}, list{sign(one)}}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"1": one.secret.Fingerprint(), "2": two.secret.Fingerprint()}, v.Signers)
	require.Len(t, v.Signatures, 2)

	// What could not be asked is among the reasons.
	_, err = verify(&payload.Policy{Keyrings: rings(one), Stores: []payload.SignatureStore{brokenStore{}}})
	require.ErrorContains(t, err, "store is broken")
	require.ErrorIs(t, err, payload.ErrSignature)
	_, err = verify(&payload.Policy{Keyrings: rings(one)})
	require.ErrorContains(t, err, "no signature found")
	_, err = verify(&payload.Policy{Keyrings: rings(one), Stores: []payload.SignatureStore{list{sign(two)}}})
	require.ErrorIs(t, err, payload.ErrUnknownKey)
	_, err = verify(&payload.Policy{})
	require.ErrorContains(t, err, "policy without keys")
	var e *payload.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "verify", e.Op)

	// Mirrors: by name, or any.
	mirror, err := name.NewDigest(strings.Replace(signedRef, "registry.test", "mirror.test", 1))
	require.NoError(t, err)
	p := &payload.Policy{Keyrings: rings(one), Stores: []payload.SignatureStore{list{sign(one)}}}
	_, err = p.Verify(t.Context(), mirror, now)
	require.ErrorIs(t, err, payload.ErrSignature)
	p.Identities = []string{"registry.test/okd/release"}
	_, err = p.Verify(t.Context(), mirror, now)
	require.NoError(t, err)
	p.Identities, p.AnyIdentity = nil, true
	_, err = p.Verify(t.Context(), mirror, now)
	require.NoError(t, err)

	// The lifetime of a signature counts, that of its key does not.
	short := newSigner(t, 0)
	short.life = time.Hour
	p = &payload.Policy{Keyrings: rings(short), Stores: []payload.SignatureStore{list{sign(short)}}}
	_, err = p.Verify(t.Context(), ref, testTime.Add(59*time.Minute))
	require.NoError(t, err)
	_, err = p.Verify(t.Context(), ref, testTime.Add(61*time.Minute))
	require.ErrorIs(t, err, payload.ErrExpired)
	old := newSigner(t, 2*time.Hour)
	_, err = (&payload.Policy{Keyrings: rings(old), Stores: []payload.SignatureStore{list{sign(old)}}}).Verify(t.Context(), ref, testTime.AddDate(1, 0, 0))
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = (&payload.Policy{Keyrings: rings(one), Stores: []payload.SignatureStore{payload.FileSignatures(fstest.MapFS{})}}).Verify(ctx, ref, now)
	require.ErrorIs(t, err, context.Canceled)
}

func TestSign(t *testing.T) {
	w := newWorld(t)
	_, r := w.must(t, w.spec(), nil)
	m, err := r.Message("okd-streams", testTime)
	require.NoError(t, err)
	text, err := m.Encode()
	require.NoError(t, err)
	again, err := payload.DecodeMessage(text)
	require.NoError(t, err)
	require.Equal(t, m, again)

	key := newSigner(t, 0)
	one, err := payload.Sign(t.Context(), m, key)
	require.NoError(t, err)
	two, err := payload.Sign(t.Context(), m, key)
	require.NoError(t, err)
	require.Equal(t, one, two)
	p := &payload.Policy{Keyrings: map[string]*payload.Keyring{"k": key.ring}, Stores: []payload.SignatureStore{list{one}}}
	_, err = p.Verify(t.Context(), r.Pullspec(), testTime)
	require.NoError(t, err)

	for _, form := range []pgp.Form{pgp.Armored, pgp.Clear} {
		key.form = form
		_, err = payload.Sign(t.Context(), m, key)
		require.ErrorContains(t, err, "no OpenPGP message in binary")
	}
	_, err = payload.Sign(t.Context(), m, fixedSigner(nil))
	require.ErrorContains(t, err, "no OpenPGP message")
	for n, bad := range []bool{false, true} {
		_, err = payload.Sign(t.Context(), m, fixedSigner(bytes.Repeat([]byte{0x90}, payload.MaxSignatureSize+n)))
		require.Equal(t, bad, err != nil)
	}
	_, err = payload.Sign(t.Context(), &payload.Message{Reference: "x"}, key)
	require.Error(t, err)
	_, err = payload.Sign(t.Context(), &payload.Message{Digest: m.Digest, Reference: "!"}, key)
	require.Error(t, err)
	// JSON may make six bytes of one; what is written can be read at the limit.
	m.Creator = strings.Repeat("<", (payload.MaxSignatureSize-len(text))/6)
	m.Creator += strings.Repeat("c", payload.MaxSignatureSize-len(text)-6*len(m.Creator)+len("okd-streams"))
	text, err = m.Encode()
	require.NoError(t, err)
	require.Len(t, text, payload.MaxSignatureSize)
	again, err = payload.DecodeMessage(text)
	require.NoError(t, err)
	require.Equal(t, m, again)
	m.Creator += "c"
	_, err = m.Encode()
	require.ErrorContains(t, err, "51201 bytes, limit 51200")
	_, err = payload.Sign(t.Context(), m, key)
	require.ErrorContains(t, err, "51201 bytes, limit 51200")

	folder, err := payload.OpenFolder(t.Context(), fstest.MapFS{"image-references": {Data: r.References.Raw}, "release-metadata": {Data: r.Metadata.Raw}})
	require.NoError(t, err)
	_, err = folder.Message("", testTime)
	require.ErrorContains(t, err, "no digest to sign")
}

type fixedSigner []byte

func (f fixedSigner) Sign(context.Context, io.Reader) ([]byte, error) { return f, nil }

// stores gives the same signatures in every kind of store.
func storesOf(t *testing.T, digest v1.Hash, numbers map[int][]byte) map[string]payload.SignatureStore {
	t.Helper()
	files := fstest.MapFS{}
	for n, sig := range numbers {
		files[payload.SignatureKey(digest, n)] = &fstest.MapFile{Data: sig}
	}
	server := httptest.NewServer(http.StripPrefix("/sigs", http.FileServerFS(files)))
	t.Cleanup(server.Close)
	web, err := payload.HTTPSignatures(server.URL+"/sigs/", nil)
	require.NoError(t, err)
	return map[string]payload.SignatureStore{"files": payload.FileSignatures(files), "http": web}
}

func collect(t *testing.T, s payload.SignatureStore, digest v1.Hash) (out []string, err error) {
	t.Helper()
	for sig, e := range s.Signatures(t.Context(), digest) {
		require.NoError(t, err, "nothing follows an error")
		if err = e; err == nil {
			out = append(out, string(sig))
		}
	}
	return out, err
}

func TestSignatureStores(t *testing.T) {
	digest := mustHash(t, "sha256:"+strings.Repeat("5", 64))
	full := map[int][]byte{}
	var all []string
	for n := 1; n <= payload.MaxSignatures+1; n++ {
		full[n] = fmt.Append(nil, n)
		if n <= payload.MaxSignatures {
			all = append(all, fmt.Sprint(n))
		}
	}
	for _, c := range []struct {
		name    string
		numbers map[int][]byte
		want    []string
		err     string
	}{
		{name: "none"},
		{name: "the first ones until one is missing", numbers: map[int][]byte{1: []byte("a"), 2: []byte("b"), 4: []byte("d")}, want: []string{"a", "b"}},
		{name: "only the second", numbers: map[int][]byte{2: []byte("b")}},
		{name: "at most nine", numbers: full, want: all},
		{name: "large", numbers: map[int][]byte{1: make([]byte, payload.MaxSignatureSize)}, want: []string{string(make([]byte, payload.MaxSignatureSize))}},
		{name: "too large", numbers: map[int][]byte{1: []byte("a"), 2: make([]byte, payload.MaxSignatureSize+1)}, want: []string{"a"}, err: "51200"},
	} {
		for kind, store := range storesOf(t, digest, c.numbers) {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				got, err := collect(t, store, digest)
				require.Equal(t, c.want, got)
				if c.err != "" {
					require.Error(t, err)
				} else {
					require.NoError(t, err)
				}
				_, err = collect(t, store, v1.Hash{Algorithm: "sha256", Hex: "../x"})
				require.Error(t, err)
				for range store.Signatures(t.Context(), digest) {
					break // may be left early
				}
			})
		}
	}
	for _, bad := range []string{"", "ftp://x", "file:///x", "http://", "http://x?y", "http://u:p@[x", "x"} {
		_, err := payload.HTTPSignatures(bad, nil)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "u:p")
	}
}

// What servers say, other than the signature.
func TestHTTPSignatures(t *testing.T) {
	digest := mustHash(t, "sha256:"+strings.Repeat("5", 64))
	var calls atomic.Int64
	status := http.StatusForbidden
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(status)
	}))
	defer server.Close()
	store, err := payload.HTTPSignatures(strings.Replace(server.URL, "http://", "http://user:secret@", 1), &payload.HTTPSignaturesOptions{Transport: http.DefaultTransport})
	require.NoError(t, err)
	_, err = collect(t, store, digest)
	require.ErrorContains(t, err, "status 403")
	require.NotContains(t, err.Error(), "secret")
	require.EqualValues(t, 1, calls.Load())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range store.Signatures(ctx, digest) {
		require.ErrorIs(t, err, context.Canceled)
	}
}

func TestSignatureConfigMap(t *testing.T) {
	digest := mustHash(t, "sha256:"+strings.Repeat("5", 64))
	file, data, err := payload.EncodeSignatureConfigMap(digest, [][]byte{[]byte("a"), []byte("b")})
	require.NoError(t, err)
	require.Equal(t, "signature-sha256-5555555555555555.json", file)
	store, err := payload.ConfigMapSignatures(data, []byte("---\n"+string(data)))
	require.NoError(t, err)
	got, err := collect(t, store, digest)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, got)
	got, err = collect(t, store, mustHash(t, "sha256:"+strings.Repeat("6", 64)))
	require.NoError(t, err)
	require.Empty(t, got)

	// The cluster-version operator's own numbers from 0.
	own := strings.NewReplacer(digest.Hex+"-1", digest.Hex+"-0").Replace(string(data))
	store, err = payload.ConfigMapSignatures([]byte(own))
	require.NoError(t, err)
	got, err = collect(t, store, digest)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, got)

	for in, want := range map[string]string{
		namespace("a"): "no ConfigMap with signatures",
		"[":            "line 1",
		strings.Replace(string(data), "verification-signatures", "other", 1):          "no ConfigMap with signatures",
		strings.Replace(string(data), "-1\"", "-x\"", 1):                              "is not sha256-HEX-N",
		strings.Replace(string(data), "-1\"", "-02\"", 1):                             "is not sha256-HEX-N",
		strings.Replace(string(data), "\"sha256-"+digest.Hex+"-1", "\"sha256-x-1", 1): "digest",
		strings.Replace(string(data), "YQ==", "!", 1):                                 "base64",
		strings.Repeat("---\n", payload.MaxDocuments+1):                               "more than 4096 documents",
	} {
		_, err := payload.ConfigMapSignatures([]byte(in))
		require.ErrorContains(t, err, want)
	}
	for n, bad := range []bool{false, true} {
		_, _, err = payload.EncodeSignatureConfigMap(digest, make([][]byte, payload.MaxSignatures+n))
		require.Equal(t, bad, err != nil)
		_, _, err = payload.EncodeSignatureConfigMap(digest, [][]byte{make([]byte, payload.MaxSignatureSize+n)})
		require.Equal(t, bad, err != nil)
	}
	_, _, err = payload.EncodeSignatureConfigMap(v1.Hash{}, nil)
	require.Error(t, err)
}

func TestSampleSignature(t *testing.T) {
	src := sampleImages(t)
	r := sampleRelease(t, src, 0)
	sig := []byte(sampleText(t, "signature-1"))
	digest := mustHash(t, samples[0].digest)

	// The message, but for who wrote it.
	m, err := r.Message("oc-adm-release-new/$Format:%H$", sampleTime)
	require.NoError(t, err)
	text, err := m.Encode()
	require.NoError(t, err)
	require.Equal(t, sampleText(t, "sig1.json"), string(text))

	// The ConfigMap of the mirror.
	file, data, err := payload.EncodeSignatureConfigMap(digest, [][]byte{sig})
	require.NoError(t, err)
	require.Equal(t, "signature-sha256-8ad6d1ad8581a408.json", file)
	require.Equal(t, sampleText(t, file), string(data)+"\n")

	// Whom the release tells to trust.
	trust, err := r.Trust(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"http://127.0.0.1:25120/sigs"}, trust.Stores)
	require.Equal(t, []string{"6B37957429D3CB04A4643DADAC5F291381F2912E"}, trust.Keyrings["verifier-public-key-fake"].Fingerprints())
	own, err := pgp.ParseKeyring([]byte(sampleText(t, "key.asc")))
	require.NoError(t, err)
	require.Equal(t, own.Fingerprints(), trust.Keyrings["verifier-public-key-fake"].Fingerprints())

	now := sampleTime.Add(time.Hour)
	for kind, store := range storesOf(t, digest, map[int][]byte{1: sig}) {
		v, err := (&payload.Policy{Keyrings: trust.Keyrings, Stores: []payload.SignatureStore{store}}).Verify(t.Context(), r.Pullspec(), now)
		require.NoError(t, err, kind)
		require.Equal(t, "127.0.0.1:25118/fake/release@"+samples[0].digest, v.Message.Reference)
	}
	fromMap, err := payload.ConfigMapSignatures(data)
	require.NoError(t, err)
	require.NoError(t, payload.CheckRotation(t.Context(), r.Pullspec(), []*payload.Release{r}, []payload.SignatureStore{fromMap}, now))
	_, err = (&payload.Policy{Keyrings: trust.Keyrings, Stores: []payload.SignatureStore{fromMap}}).Verify(t.Context(), sampleRelease(t, src, 1).Pullspec(), now)
	require.ErrorContains(t, err, "no signature found")
}

// The signatures, keyrings and ConfigMaps that library-go is tested with.
func TestLibraryGoSignatures(t *testing.T) {
	dir := interop.SharedData(t, "payload", "verify")
	read := func(elem ...string) []byte {
		data, err := os.ReadFile(filepath.Join(append([]string{dir}, elem...)...))
		require.NoError(t, err)
		return data
	}
	store := payload.FileSignatures(rootOf(t, filepath.Join(dir, "signatures")))
	ref, err := name.NewDigest("registry.test/x@sha256:e3f12513a4b22a2d7c0e7c9207f52128113758d9d68c7d06b11a0ac7672966f7")
	require.NoError(t, err)
	for ring, accepted := range map[string]bool{"redhat.txt": true, "combined.txt": true, "simple.txt": false} {
		keys, err := pgp.ParseKeyring(read("keyrings", ring))
		require.NoError(t, err)
		p := &payload.Policy{Keyrings: map[string]*payload.Keyring{ring: keys}, Stores: []payload.SignatureStore{store}, AnyIdentity: true}
		v, err := p.Verify(t.Context(), ref, testTime)
		if !accepted {
			require.ErrorIs(t, err, payload.ErrUnknownKey)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "567E347AD0044ADE55BA8A5F199E2F91FD431D51", v.Signers[ring])
		_, err = p.Verify(t.Context(), ref.Context().Digest("sha256:"+strings.Repeat("0", 64)), testTime)
		require.ErrorContains(t, err, "no signature found")
		p.AnyIdentity = false
		_, err = p.Verify(t.Context(), ref, testTime)
		require.ErrorContains(t, err, "it is of an image in ")
	}

	trust := func(file string) (*payload.Trust, error) {
		r, err := openEntries(t, releaseEntries(entry{name: "release-manifests/a.yaml", data: string(read("manifests", file))})...)
		require.NoError(t, err)
		return r.Trust(t.Context())
	}
	for file, want := range map[string]string{
		"loads-valid.yaml": "", "only-first-used.yaml": "",
		// Their data are in metadata, so none of them has any.
		"requires-data.yaml": "verifier-public-key-", "requires-stores.yaml": "verifier-public-key-", "requires-verifiers.yaml": "verifier-public-key-",
	} {
		got, err := trust(file)
		if want != "" {
			require.ErrorContains(t, err, "has no "+want, file)
			continue
		}
		require.NoError(t, err, file)
		require.Equal(t, "release-verification", got.Name)
		require.Len(t, got.Keyrings, 1)
		_, err = (&payload.Policy{Keyrings: got.Keyrings, Stores: []payload.SignatureStore{store}, AnyIdentity: true}).Verify(t.Context(), ref, testTime)
		require.NoError(t, err)
	}
	// And those of the cluster-version operator.
	for file, want := range map[string]string{"loads-valid.yaml": "", "requires-data.yaml": "has no verifier"} {
		data, err := os.ReadFile(interop.SharedData(t, "payload", "cvo", "testdata", "manifests", file))
		require.NoError(t, err)
		_, err = payload.DecodeTrust(data)
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}

func trustMap(name string, keys ...string) string {
	out := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n  annotations:\n    release.openshift.io/verification-config-map: \"\"\ndata:\n  store-x: https://sigs.example.com\n"
	for i, k := range keys {
		out += fmt.Sprintf("  verifier-public-key-%d: |\n    %s\n", i, strings.ReplaceAll(strings.TrimSpace(k), "\n", "\n    "))
	}
	return out
}

func TestTrust(t *testing.T) {
	key := newSigner(t, 0)
	open := func(files ...string) *payload.Release {
		entries := releaseEntries()
		for i, f := range files {
			entries = append(entries, entry{name: fmt.Sprintf("release-manifests/%d.yaml", i), data: f})
		}
		r, err := openEntries(t, entries...)
		require.NoError(t, err)
		return r
	}
	got, err := open(namespace("a"), namespace("b")+"---\n"+trustMap("one", key.armor), trustMap("two", key.armor)).Trust(t.Context())
	require.NoError(t, err)
	require.Equal(t, "one", got.Name)
	require.Equal(t, []string{"https://sigs.example.com"}, got.Stores)
	_, err = open(namespace("a")).Trust(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = open(trustMap("bad", "not a key")).Trust(t.Context())
	require.ErrorContains(t, err, "manifest 0.yaml:1: ConfigMap bad: verifier-public-key-0")
	_, err = open(strings.Replace(trustMap("bad", key.armor), "store-x", "other", 1)).Trust(t.Context())
	require.ErrorContains(t, err, `key "other" is neither`)
	_, err = open(strings.Replace(trustMap("bad", key.armor), "  store-x: https://sigs.example.com\n", "", 1)).Trust(t.Context())
	require.ErrorContains(t, err, "has no store-")
	_, err = open("[").Trust(t.Context())
	require.Error(t, err)
	for in, want := range map[string]string{"[": "trust", namespace("a"): "is no ConfigMap", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a, annotations: {release.openshift.io/verification-config-map: ''}}\ndata: {a: [1]}": "unmarshal"} {
		_, err := payload.DecodeTrust([]byte(in))
		require.ErrorContains(t, err, want)
	}
}

// A new key needs a release in between that is signed with the old one.
func TestCheckRotation(t *testing.T) {
	old, next := newSigner(t, 0), newSigner(t, 0)
	release := func(keys ...string) *payload.Release {
		r, err := openEntries(t, releaseEntries(entry{name: "release-manifests/keys.yaml", data: trustMap("keys", keys...)})...)
		require.NoError(t, err)
		return r
	}
	silent, err := openEntries(t, releaseEntries()...)
	require.NoError(t, err)
	ref, err := name.NewDigest(signedRef)
	require.NoError(t, err)
	m := &payload.Message{Digest: mustHash(t, ref.DigestStr()), Reference: signedRef}
	sign := func(s ...*signer) []payload.SignatureStore {
		var out list
		for _, s := range s {
			sig, err := payload.Sign(t.Context(), m, s)
			require.NoError(t, err)
			out = append(out, sig)
		}
		return []payload.SignatureStore{out}
	}
	check := func(from *payload.Release, stores []payload.SignatureStore) error {
		return payload.CheckRotation(t.Context(), ref, []*payload.Release{from, silent}, stores, testTime)
	}
	require.NoError(t, check(release(old.armor), sign(old)), "the bridge")
	require.NoError(t, check(release(old.armor+next.armor), sign(next)), "after a bridge that announces the key")
	require.NoError(t, check(release(old.armor), sign(old, next)), "signed with both")
	err = check(release(old.armor), sign(next))
	require.ErrorIs(t, err, payload.ErrUnknownKey)
	require.ErrorContains(t, err, "for clusters at 4.20.0-test.1")
	require.Error(t, check(release(old.armor, next.armor), sign(next)), "each keyring must have signed")
	require.NoError(t, check(release(old.armor, next.armor), sign(next, old)))
	require.NoError(t, check(silent, nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, payload.CheckRotation(ctx, ref, []*payload.Release{release(old.armor)}, sign(old), testTime), context.Canceled)
}

func TestPolicyCosign(t *testing.T) {
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(pair)
	require.NoError(t, err)
	secret, err := cosign.ParseSecret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil)
	require.NoError(t, err)
	key, err := payload.ParseCosignKey(secret.Public().PEM())
	require.NoError(t, err)
	_, err = payload.ParseCosignKey([]byte("x"))
	require.Error(t, err)

	m := newMemory()
	ref, err := name.NewDigest(signedRef)
	require.NoError(t, err)
	digest := mustHash(t, ref.DigestStr())
	p := &payload.Policy{CosignKeys: []*payload.CosignKey{key}, Images: m}
	_, err = p.Verify(t.Context(), ref, testTime)
	require.ErrorIs(t, err, payload.ErrSignature)
	require.ErrorContains(t, err, "no signature by cosign")

	img, err := cosign.SignImage(t.Context(), digest, ref.Context().Name(), secret, nil, nil)
	require.NoError(t, err)
	m.tags[ref.Context().Tag(cosign.Tag(digest)).Name()] = mustHash(t, m.add(t, "x.test/x", img).DigestStr())
	v, err := p.Verify(t.Context(), ref, testTime)
	require.NoError(t, err)
	require.Equal(t, key.ID(), v.CosignKey)
	p.Identities = []string{"elsewhere.test/okd/release"}
	_, err = p.Verify(t.Context(), ref, testTime)
	require.ErrorIs(t, err, payload.ErrSignature)
	p.AnyIdentity = true
	_, err = p.Verify(t.Context(), ref, testTime)
	require.NoError(t, err)
	p.Images = nil
	_, err = p.Verify(t.Context(), ref, testTime)
	require.ErrorContains(t, err, "no images")
}

func FuzzMessage(f *testing.F) {
	mutants.Add(f,
		`{"critical":{"type":"atomic container signature","image":{"docker-manifest-digest":"sha256:`+strings.Repeat("5", 64)+`"},"identity":{"docker-reference":"q.io/a"}},"optional":{"creator":"c","timestamp":1}}`,
		`{"critical":{},"critical":{}}`,
	)
	// What is written of it would be longer than what may be read.
	f.Add([]byte(`{"critical":{"type":"atomic container signature","image":{"docker-manifest-digest":"sha256:` + strings.Repeat("5", 64) + `"},"identity":{"docker-reference":"q.io/a"}},"optional":{"creator":"` + strings.Repeat("<", payload.MaxSignatureSize/6) + `"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzbound.Linear(t, len(data), 64, func() {
			m, err := payload.DecodeMessage(data)
			if err != nil {
				require.ErrorIs(t, err, payload.ErrSignature)
				return
			}
			text, err := m.Encode()
			if err != nil {
				return // a reference that is none
			}
			again, err := payload.DecodeMessage(text)
			require.NoError(t, err)
			require.Equal(t, m.Digest, again.Digest)
			require.Equal(t, m.Reference, again.Reference)
		})
	})
}

func FuzzConfigMaps(f *testing.F) {
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("5", 64)}
	_, data, _ := payload.EncodeSignatureConfigMap(digest, [][]byte{[]byte("a")})
	mutants.Add(f,
		string(data),
		trustMap("a", "x"),
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 16<<10 {
			return
		}
		fuzzbound.Linear(t, len(data), 2000, func() {
			_, _ = payload.ConfigMapSignatures(data)
			_, _ = payload.DecodeTrust(data)
		})
		if store, err := payload.ConfigMapSignatures(data); err == nil {
			for sig, err := range store.Signatures(t.Context(), digest) {
				require.NoError(t, err)
				require.LessOrEqual(t, len(sig), payload.MaxSignatureSize)
			}
		}
		if trust, err := payload.DecodeTrust(data); err == nil {
			require.NotEmpty(t, trust.Keyrings)
			require.NotEmpty(t, trust.Stores)
		}
	})
}
