package cosignsigner_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/cosignsigner"
)

var (
	_ publish.Signer   = (*cosignsigner.Signer)(nil)
	_ publish.Verifier = (*cosignsigner.Verifier)(nil)

	day = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
)

// exampleKey is a key for examples; take yours from cosign generate-key-pair.
func exampleKey() []byte {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), []byte(strings.Repeat("example!", 4)))
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// An image is signed at the tag beside it.
func ExampleSigner_Image() {
	ctx := context.Background()
	img, err := random.Image(100, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	signed, err := img.Digest()
	if err != nil {
		fmt.Println(err)
		return
	}
	signer, err := cosignsigner.ParseSigner(exampleKey(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	signatures, err := signer.Image(ctx, signed, "quay.example.com/okd/release", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cosignsigner.Tag(signed) == "sha256-"+signed.Hex+".sig")

	// Whoever pulls asks for the name that they know the image by.
	verifier, err := cosignsigner.ParseVerifier(signer.PublicKey())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, identity := range []string{"quay.example.com/okd/release:4.20", "mirror.example.com/okd/release", cosignsigner.AnyIdentity} {
		_, err := verifier.Image(ctx, signatures, signed, identity)
		fmt.Println(errors.Is(err, publish.ErrSignature))
	}
	// Output:
	// true
	// false
	// true
	// false
}

func ExampleTag() {
	img, err := random.Image(100, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	digest, err := img.Digest()
	fmt.Println(len(cosignsigner.Tag(digest)), err)
	// Output: 75 <nil>
}

// An image is signed by a manifest that refers to it.
func ExampleSigner_Bundle() {
	ctx := context.Background()
	img, err := random.Image(100, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	signed, err := partial.Descriptor(img)
	if err != nil {
		fmt.Println(err)
		return
	}
	signer, err := cosignsigner.ParseSigner(exampleKey(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	referrer, err := signer.Bundle(ctx, *signed, "quay.example.com/okd/release", time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := cosignsigner.ParseVerifier(signer.PublicKey())
	if err != nil {
		fmt.Println(err)
		return
	}
	all, err := verifier.Bundle(ctx, referrer, signed.Digest, "quay.example.com/okd/release")
	fmt.Println(all[0].Identity, all[0].Key == signer.KeyID(), err)
	// Output: quay.example.com/okd/release true <nil>
}

// A file is signed as cosign sign-blob does.
func ExampleSigner_Sign() {
	ctx := context.Background()
	signer, err := cosignsigner.ParseSigner(exampleKey(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	sig, err := signer.Sign(ctx, strings.NewReader("a file"))
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := cosignsigner.ParseVerifier(signer.PublicKey())
	if err != nil {
		fmt.Println(err)
		return
	}
	who, err := verifier.Verify(ctx, strings.NewReader("a file"), sig)
	fmt.Println(who == signer.KeyID(), err)
	_, err = verifier.Verify(ctx, strings.NewReader("another file"), sig)
	fmt.Println(errors.Is(err, publish.ErrSignature))
	// Output:
	// true <nil>
	// true
}

func ExampleParseSigner() {
	_, err := cosignsigner.ParseSigner([]byte("not a key"), &cosignsigner.SignerOptions{
		Passphrase: func() ([]byte, error) { return nil, errors.New("no terminal to ask at") },
	})
	fmt.Println(err)
	// Output: cosign: private key: not PEM
}

func ExampleParseVerifier() {
	_, err := cosignsigner.ParseVerifier()
	fmt.Println(err)
	// Output: cosign: no public key
}
