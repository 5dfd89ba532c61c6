package publish

import (
	"context"
	"io"

	"github.com/okd-project/okd-streams/internal/signature"
)

// Why a [Verifier] does not accept a signature. All of them are
// [ErrSignature]; a message that cannot be read is not.
var (
	// ErrSignature: not accepted, whatever the reason: malformed, of another
	// message, or one of those below.
	ErrSignature = signature.ErrSignature
	// ErrUnknownKey: made by a key that is not among the trusted ones.
	ErrUnknownKey = signature.ErrUnknownKey
	// ErrExpired: the signature or its key has expired.
	ErrExpired = signature.ErrExpired
	// ErrRevoked: its key was revoked.
	ErrRevoked = signature.ErrRevoked
	// ErrWeak: made with a digest, algorithm or key size that proves nothing
	// any more.
	ErrWeak = signature.ErrWeak
)

// Signer makes signatures. What one looks like (detached or around the message,
// binary or text) is said where the signer is made; rooms that need a form ask
// for it. The message is read once and to its end. The key is in no error, log
// or print of a signer. Its methods may be called from any goroutine.
type Signer interface {
	Sign(ctx context.Context, message io.Reader) (signature []byte, err error)
}

// Verifier checks detached signatures. Verify reads the message once, as a
// stream, and gives nil only when the signature, or one of several, is by a
// trusted key over exactly these bytes; signer then names that key the way the
// backend's keys are named (OpenPGP: fingerprint of the primary key). The
// message counts for nothing before Verify has returned nil, and may not have
// been read to its end when it fails. Methods may be called from any goroutine.
type Verifier interface {
	Verify(ctx context.Context, message io.Reader, signature []byte) (signer string, err error)
}
