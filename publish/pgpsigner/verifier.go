package pgpsigner

import (
	"context"
	"io"
	"io/fs"
	"time"

	"github.com/okd-project/okd-streams/internal/pgp"
)

// MaxKeyringSize bounds one file of keys, in bytes.
const MaxKeyringSize = pgp.MaxKeyringSize

// Keyring is public keys that are trusted. It does not change and may be used
// from any goroutine. Its method Fingerprints names the primary keys.
type Keyring = pgp.Keyring

// Signature is what one signature says and whether it counts: Err is nil then.
// KeyID, Fingerprint, Primary and UserIDs say who made it, KeyExpires until when
// that key is good; Created, Expires, Digest, Text and Notations, what the signer
// states beside the message, are the signature's own.
type Signature = pgp.Signature

// ParseKeyring reads files of public keys, as gpg --export writes them, binary
// or armoured, with any number of keys each. What several files say of one key
// is put together. Nothing found to check with gives [io/fs.ErrNotExist],
// GnuPG's own keybox files [errors.ErrUnsupported].
func ParseKeyring(files ...[]byte) (*Keyring, error) { return pgp.ParseKeyring(files...) }

// ReadKeyring is [ParseKeyring] of all regular files of a folder but those whose
// names begin with a dot; folders in it are passed over. A file that holds no
// keys is an error that names it.
func ReadKeyring(dir fs.FS) (*Keyring, error) { return pgp.ReadKeyring(dir) }

// VerifierOptions say which signatures count.
type VerifierOptions struct {
	// ExpiredKeys lets signatures count whose key has expired; when they were
	// made is only the signer's word. Default: they do not.
	ExpiredKeys bool
}

// Verifier checks signatures. It is a publish.Verifier.
type Verifier struct {
	keys *Keyring
	now  func() time.Time
	opts pgp.VerifyOptions
}

// NewVerifier makes a verifier that judges expiry at the time that now gives.
func NewVerifier(keys *Keyring, now func() time.Time, opts *VerifierOptions) *Verifier {
	v := &Verifier{keys: keys, now: now}
	if opts != nil {
		v.opts.ExpiredKeys = opts.ExpiredKeys
	}
	return v
}

// Verify checks a detached signature, binary or armoured and of at most 256 KiB, of a
// message, which is read as a stream. Of several signatures one good one is enough;
// signer is the fingerprint, in upper-case hexadecimal, of the primary key behind the
// first good one.
func (v *Verifier) Verify(ctx context.Context, message io.Reader, signature []byte) (signer string, err error) {
	all, err := v.Signatures(ctx, message, signature)
	if err != nil {
		return "", err
	}
	return first(all), nil
}

// Signatures is [Verifier.Verify] that gives every signature, in their order,
// good or not. The error is nil if one is good.
func (v *Verifier) Signatures(ctx context.Context, message io.Reader, signature []byte) ([]Signature, error) {
	return v.keys.Verify(ctx, message, signature, v.now(), &v.opts)
}

// Open checks a signed message and gives what it holds, at most 4 MiB: an OpenPGP
// message, binary or armoured, compressed or not, or clear-signed text (its lines as
// signed: without blanks at their ends).
// Nothing may stand around it. content is nil unless a signature is good; signer
// is as of [Verifier.Verify].
func (v *Verifier) Open(ctx context.Context, signed io.Reader) (content []byte, signer string, err error) {
	content, all, err := v.OpenSignatures(ctx, signed)
	if err != nil {
		return nil, "", err
	}
	return content, first(all), nil
}

// OpenSignatures is [Verifier.Open] that gives every signature, in their order,
// good or not.
func (v *Verifier) OpenSignatures(ctx context.Context, signed io.Reader) (content []byte, all []Signature, err error) {
	return v.keys.Open(ctx, signed, v.now(), &pgp.OpenOptions{VerifyOptions: v.opts})
}

// first is the primary key of the first good signature.
func first(all []Signature) string {
	for _, s := range all {
		if s.Err == nil {
			return s.Primary
		}
	}
	return ""
}
