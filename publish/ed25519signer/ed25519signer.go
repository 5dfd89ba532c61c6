package ed25519signer

import (
	"context"
	"io"

	"github.com/okd-project/okd-streams/internal/edsign"
)

// Signer signs with one key. It is a publish.Signer; the same message and key
// give the same 64 bytes.
type Signer struct{ key *edsign.Secret }

// ParseSigner reads a secret key: base64 of 64 bytes, the seed and the public
// key, white space around it allowed.
func ParseSigner(key []byte) (*Signer, error) {
	secret, err := edsign.ParseSecret(key)
	if err != nil {
		return nil, err
	}
	return &Signer{secret}, nil
}

// Public is the public key, base64 of 32 bytes.
func (s *Signer) Public() string { return s.key.Public() }

// Sign gives the signature of a message of at most 64 MiB: Ed25519 needs it as a
// whole. A larger one gives [errors.ErrUnsupported].
func (s *Signer) Sign(ctx context.Context, message io.Reader) ([]byte, error) {
	return s.key.Sign(ctx, message)
}

// VerifierOptions say which keys do not count.
type VerifierOptions struct {
	Revoked [][]byte // files like the trusted ones; a key in them is not trusted any more
}

// Verifier checks signatures. It is a publish.Verifier.
type Verifier struct{ keys edsign.Keys }

// ParseVerifier reads files of trusted public keys, base64 of 32 bytes each,
// one a line, as OSTree's trusted.ed25519.
func ParseVerifier(trusted [][]byte, opts *VerifierOptions) (*Verifier, error) {
	v := new(Verifier)
	for _, file := range trusted {
		if err := v.keys.Trust(file); err != nil {
			return nil, err
		}
	}
	if opts != nil {
		for _, file := range opts.Revoked {
			if err := v.keys.Revoke(file); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// Verify checks the 64 bytes of a signature of a message of at most
// 64 MiB. signer is the public key in base64. A signature by a
// revoked key gives publish.ErrRevoked, by any other publish.ErrUnknownKey, as
// signatures do not say who made them.
func (v *Verifier) Verify(ctx context.Context, message io.Reader, signature []byte) (signer string, err error) {
	return v.keys.Verify(ctx, message, signature)
}
