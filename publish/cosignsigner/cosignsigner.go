package cosignsigner

import (
	"context"
	"errors"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/cosign"
)

const (
	// AnyIdentity is what to ask [Verifier.Image] and [Verifier.Bundle] for
	// where it does not matter what the image was called when it was signed.
	AnyIdentity = cosign.AnyIdentity
	// BundleType is the artifact type of manifests with bundles.
	BundleType = string(cosign.BundleType)
)

// Signature is what one signature of an image says and whether it counts: Err
// is nil then. Key is the [Signer.KeyID] of the key that made it; Identity,
// Digest and Annotations are what was signed.
type Signature = cosign.Signature

// Tag is the tag of an image's signatures, in its repository.
func Tag(signed v1.Hash) string { return cosign.Tag(signed) }

// SignerOptions say how the key is opened and what is signed along.
type SignerOptions struct {
	// Passphrase gives the passphrase of a cosign.key, and is called at most
	// once. The slice that it gives is wiped. Default: a protected key is an
	// error.
	Passphrase func() ([]byte, error)
	// Annotations are signed along with images. Default: none.
	Annotations map[string]string
}

// Signer signs with one key. The same inputs give the same bytes.
type Signer struct {
	key         *cosign.Secret
	annotations map[string]string
}

// ParseSigner reads a private key from PEM: cosign.key (ENCRYPTED SIGSTORE
// PRIVATE KEY or the older ENCRYPTED COSIGN PRIVATE KEY), or one that is not
// protected (PRIVATE KEY, EC PRIVATE KEY, RSA PRIVATE KEY). The key is ECDSA on
// P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 16384 bits.
func ParseSigner(key []byte, opts *SignerOptions) (*Signer, error) {
	if opts == nil {
		opts = new(SignerOptions)
	}
	secret, err := cosign.ParseSecret(key, opts.Passphrase)
	if err != nil {
		return nil, err
	}
	return &Signer{secret, opts.Annotations}, nil
}

// KeyID is "sha256:" and the digest of the public key, hexadecimal.
func (s *Signer) KeyID() string { return s.key.Public().ID() }

// PublicKey is the public key as a PEM file, what cosign calls cosign.pub.
func (s *Signer) PublicKey() []byte { return s.key.Public().PEM() }

// Sign signs a message, read as a stream, as cosign sign-blob does. The
// signature is base64 text.
func (s *Signer) Sign(ctx context.Context, message io.Reader) ([]byte, error) {
	return s.key.Sign(ctx, message)
}

// Image gives the signatures of an image, to be written to its repository and
// tagged with [Tag]. identity is the image's pullspec, usually without tag and
// digest. prior is what has that tag already, or nil: its signatures are kept,
// and if it has this one, it is what is given back. The digest is sha256
// ([errors.ErrUnsupported]).
func (s *Signer) Image(ctx context.Context, signed v1.Hash, identity string, prior v1.Image) (v1.Image, error) {
	return cosign.SignImage(ctx, signed, identity, s.key, s.annotations, prior)
}

// Bundle gives a manifest that refers to an image, to be written to its
// repository by digest. signed is the image's descriptor: media type, digest and
// size. identity is its pullspec; "" leaves it out, as cosign does, and such a
// bundle verifies for [AnyIdentity] only. created is written beside the bundle.
func (s *Signer) Bundle(ctx context.Context, signed v1.Descriptor, identity string, created time.Time) (v1.Image, error) {
	return cosign.SignBundle(ctx, signed, identity, s.key, s.annotations, created)
}

// Verifier checks signatures by any of some keys.
type Verifier struct{ keys []*cosign.PublicKey }

// ParseVerifier reads public keys from PEM files (PUBLIC KEY), one each.
func ParseVerifier(keys ...[]byte) (*Verifier, error) {
	if len(keys) == 0 {
		return nil, errors.New("cosign: no public key")
	}
	v := new(Verifier)
	for _, data := range keys {
		key, err := cosign.ParsePublicKey(data)
		if err != nil {
			return nil, err
		}
		v.keys = append(v.keys, key)
	}
	return v, nil
}

// Verify checks the signature of a message, in base64 or raw. signer is the
// [Signer.KeyID] of the key.
func (v *Verifier) Verify(ctx context.Context, message io.Reader, sig []byte) (signer string, err error) {
	return cosign.Verify(ctx, message, sig, v.keys...)
}

// Image checks the signatures of an image, given what has its [Tag]. It gives
// them all, and an error (publish.ErrSignature) unless one is good: by one of the
// keys, over the digest signed, and over identity: the same repository and,
// where both name one, the same tag and digest.
func (v *Verifier) Image(ctx context.Context, signatures v1.Image, signed v1.Hash, identity string) ([]Signature, error) {
	return cosign.VerifyImage(ctx, signatures, signed, identity, v.keys...)
}

// Bundle checks a manifest that refers to an image, as [Verifier.Image] does.
func (v *Verifier) Bundle(ctx context.Context, referrer v1.Image, signed v1.Hash, identity string) ([]Signature, error) {
	return cosign.VerifyBundle(ctx, referrer, signed, identity, v.keys...)
}
