package pgpsigner

import (
	"context"
	"io"
	"time"

	"github.com/okd-project/okd-streams/internal/pgp"
)

// Form is what signatures look like.
type Form = pgp.Form

// The forms.
const (
	Detached = pgp.Detached // packets beside the message, gpg --detach-sign
	Armored  = pgp.Armored  // the same as text, gpg --armor --detach-sign
	Clear    = pgp.Clear    // readable text with its signature, gpg --clear-sign
	Message  = pgp.Message  // packets with the message in them, as container signatures are
	Packed   = pgp.Packed   // the same, compressed, gpg --sign
)

// SignerOptions say how signatures are made.
type SignerOptions struct {
	// Form is what [Signer.Sign] gives. Default: [Detached].
	Form Form
	// Key is the fingerprint, hexadecimal, of the key or subkey to sign with.
	// Default: of the file's only key, the newest subkey that may sign, or else
	// the primary key.
	Key string
	// Passphrase gives the passphrase of a protected key, and is called at most
	// once. The slice that it gives is wiped. Default: a protected key is an
	// error.
	Passphrase func() ([]byte, error)
	// Lifetime is how long signatures count, at least a second and at most
	// 136 years, in whole seconds. Default: for ever.
	Lifetime time.Duration
}

// Signer signs with one key. It is a publish.Signer.
type Signer struct {
	key  *pgp.Secret
	now  func() time.Time
	form Form
	opts pgp.SignOptions
}

// ParseSigner reads a secret key as gpg --export-secret-keys or
// --export-secret-subkeys writes it, binary or armoured. now gives the time
// that signatures say, and at which the key must be good.
func ParseSigner(key []byte, now func() time.Time, opts *SignerOptions) (*Signer, error) {
	if opts == nil {
		opts = new(SignerOptions)
	}
	secret, err := pgp.ParseSecret(key, &pgp.SecretOptions{Key: opts.Key, Passphrase: opts.Passphrase})
	if err != nil {
		return nil, err
	}
	return &Signer{secret, now, opts.Form, pgp.SignOptions{Lifetime: opts.Lifetime}}, nil
}

// Fingerprint is that of the primary key, upper-case hexadecimal.
func (s *Signer) Fingerprint() string { return s.key.Fingerprint() }

// Sign signs a message. Detached forms read it as a stream; the others hold it,
// at most 4 MiB. Clear text must be UTF-8 without control
// characters but tabs and line ends, and loses blanks before line ends.
func (s *Signer) Sign(ctx context.Context, message io.Reader) ([]byte, error) {
	return s.key.Sign(ctx, message, s.form, s.now(), &s.opts)
}
