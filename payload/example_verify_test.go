package payload_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

var exampleTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// exampleKeys reads a key pair.
func exampleKeys() (*pgpsigner.Signer, *payload.Keyring, string) {
	secret, err := os.ReadFile("../publish/pgpsigner/testdata/ed.secret.asc")
	if err != nil {
		panic(err)
	}
	public, err := os.ReadFile("../publish/pgpsigner/testdata/ed.asc")
	if err != nil {
		panic(err)
	}
	signer, err := pgpsigner.ParseSigner(secret, func() time.Time { return exampleTime }, &pgpsigner.SignerOptions{
		Form:       pgpsigner.Packed, // what clusters read
		Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
	})
	if err != nil {
		panic(err)
	}
	keys, err := pgpsigner.ParseKeyring(public)
	if err != nil {
		panic(err)
	}
	return signer, keys, string(public)
}

// A release is signed, its signature stored, and checked against a key that
// the caller trusts.
func ExamplePolicy_Verify() {
	signer, keys, _ := exampleKeys()
	ref, err := name.NewDigest("registry.example.com/okd/release@sha256:" + strings.Repeat("5", 64))
	if err != nil {
		fmt.Println(err)
		return
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("5", 64)}
	message := &payload.Message{Digest: digest, Reference: ref.Name(), Creator: "okd-streams", Timestamp: exampleTime}
	signature, err := payload.Sign(context.Background(), message, signer)
	if err != nil {
		fmt.Println(err)
		return
	}
	store := fstest.MapFS{payload.SignatureKey(digest, 1): {Data: signature}}

	policy := &payload.Policy{
		Keyrings: map[string]*payload.Keyring{"okd": keys},
		Stores:   []payload.SignatureStore{payload.FileSignatures(store)},
	}
	verified, err := policy.Verify(context.Background(), ref, exampleTime.Add(time.Hour))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(verified.Message.Creator)

	_, err = policy.Verify(context.Background(), ref.Context().Digest("sha256:"+strings.Repeat("6", 64)), exampleTime)
	fmt.Println(errors.Is(err, payload.ErrSignature))
	// Output:
	// okd-streams
	// true
}

// The signatures of a release for a cluster without a way to a signature store.
func ExampleEncodeSignatureConfigMap() {
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("5", 64)}
	file, data, err := payload.EncodeSignatureConfigMap(digest, [][]byte{[]byte("signature")})
	if err != nil {
		fmt.Println(err)
		return
	}
	store, err := payload.ConfigMapSignatures(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	for signature, err := range store.Signatures(context.Background(), digest) {
		fmt.Println(file, string(signature), err)
	}
	// Output: signature-sha256-5555555555555555.json signature <nil>
}

func ExampleHTTPSignatures() {
	store, err := payload.HTTPSignatures("https://signatures.example.com/openshift/release", nil)
	fmt.Println(store != nil, err)
	// Output: true <nil>
}

func ExampleDecodeMessage() {
	text := `{"critical":{"type":"atomic container signature","image":{"docker-manifest-digest":"sha256:` + strings.Repeat("5", 64) + `"},"identity":{"docker-reference":"registry.example.com/okd/release:4.20.0"}},"optional":{}}`
	message, err := payload.DecodeMessage([]byte(text))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(message.Reference)
	// Output: registry.example.com/okd/release:4.20.0
}

func ExampleDecodeTrust() {
	_, _, public := exampleKeys()
	trust, err := payload.DecodeTrust([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: release-verification\n  annotations:\n    release.openshift.io/verification-config-map: \"\"\n" +
		"data:\n  store-okd: https://signatures.example.com/openshift/release\n  verifier-public-key-okd: |\n    " + strings.ReplaceAll(public, "\n", "\n    ") + "\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(trust.Name, trust.Stores, len(trust.Keyrings))
	// Output: release-verification [https://signatures.example.com/openshift/release] 1
}

// Before a release is announced that is signed with a new key: can the clusters
// that are to be updated check it?
func ExampleCheckRotation() {
	next := strings.Repeat("5", 64)
	ref, err := name.NewDigest("registry.example.com/okd/release@sha256:" + next)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _, public := exampleKeys()
	current, err := payload.OpenFolder(context.Background(), fstest.MapFS{
		"image-references": {Data: []byte(`{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","metadata":{"name":"4.20.0-okd-scos.1"}}`)},
		"release-metadata": {Data: []byte(`{"kind":"cincinnati-metadata-v0","version":"4.20.0-okd-scos.1","previous":[]}`)},
		"0000_90_keys.yaml": {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: release-verification\n  annotations:\n    release.openshift.io/verification-config-map: \"\"\n" +
			"data:\n  store-okd: https://signatures.example.com/openshift/release\n  verifier-public-key-okd: |\n    " + strings.ReplaceAll(public, "\n", "\n    ") + "\n")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	trust, err := current.Trust(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(trust.Name)
	unsigned := payload.FileSignatures(fstest.MapFS{})
	err = payload.CheckRotation(context.Background(), ref, []*payload.Release{current}, []payload.SignatureStore{unsigned}, exampleTime)
	fmt.Println(strings.ReplaceAll(err.Error(), next, "…"))
	// Output:
	// release-verification
	// payload: verify registry.example.com/okd/release@sha256:… for clusters at 4.20.0-okd-scos.1: no accepted signature for verifier-public-key-okd: signature not accepted: no signature found
}

func ExampleParseCosignKey() {
	key, err := payload.ParseCosignKey([]byte("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoWVlu8UvVXA1wDx0GWUPFVI7iWVE\nEbUBFFTs0SfZsvxpIqOH1EbSJ0mTPfuMVFPYvBVSqDqrTb8M9EZCAAAAAA==\n-----END PUBLIC KEY-----\n"))
	fmt.Println(key == nil, err != nil)
	// Output: true true
}
