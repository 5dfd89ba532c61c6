package ostree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/okd-project/okd-streams/internal/edsign"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/internal/signature"
)

// Why a signature does not count; the same values as publish's. Each of the
// others wraps ErrSignature, which covers malformed ones and ones of other
// bytes too.
var (
	ErrSignature  = signature.ErrSignature
	ErrUnknownKey = signature.ErrUnknownKey // made by a key that is not trusted
	ErrExpired    = signature.ErrExpired    // the signature or its key
	ErrRevoked    = signature.ErrRevoked    // its key
	ErrWeak       = signature.ErrWeak       // SHA-1, MD5, short RSA keys, DSA
)

// KeyFiles are the contents of files of public keys.
type KeyFiles struct {
	// GPG are keyrings, binary or armoured, of at most 8 MiB each.
	GPG [][]byte
	// Ed25519 are trusted keys: base64 of 32 bytes, one a line, as in
	// trusted.ed25519; at most 1 MiB each.
	Ed25519 [][]byte
	// RevokedEd25519 are keys that don't count, even if they are in Ed25519, as
	// in revoked.ed25519.
	RevokedEd25519 [][]byte
}

// Verifier says which signatures a commit must have. The zero value asks for
// none. It may be used from any goroutine.
type Verifier struct {
	gpg     *pgp.Keyring // nil: no key
	ed25519 edsign.Keys

	needGPG, needSign bool
}

// ParseVerifier makes a verifier of files of keys: of each kind of which there
// are files, a commit needs a good signature, as `ostree pull` wants it from a
// remote with gpg-verify, with sign-verify, or with both. No file of trusted
// keys at all is an error.
func ParseVerifier(files KeyFiles) (*Verifier, error) {
	v := &Verifier{needGPG: len(files.GPG) > 0, needSign: len(files.Ed25519) > 0}
	if !v.needGPG && !v.needSign {
		return nil, &Error{Op: "parse", Target: "keys", Err: errors.New("no file of trusted keys")}
	}
	if err := v.add(files); err != nil {
		return nil, &Error{Op: "parse", Target: "keys", Err: err}
	}
	return v, nil
}

func (v *Verifier) add(files KeyFiles) (err error) {
	if len(files.GPG) > 0 {
		if v.gpg, err = pgp.ParseKeyring(files.GPG...); err != nil {
			return err
		}
	}
	for _, file := range files.Ed25519 {
		if err := v.ed25519.Trust(file); err != nil {
			return err
		}
	}
	for _, file := range files.RevokedEd25519 {
		if err := v.ed25519.Revoke(file); err != nil {
			return err
		}
	}
	return nil
}

// Verdict is what became of one signature. What it says of itself counts if Err
// is nil.
type Verdict struct {
	Signature
	// Err is nil if the signature is good and by a trusted key; if not, why:
	// [ErrSignature].
	Err error
	// Signer is the key that made it: the fingerprint of an OpenPGP primary key,
	// upper-case hexadecimal, or an Ed25519 public key in base64. "": unknown.
	Signer string
	// Fingerprint is that of the OpenPGP key or subkey that made it. "": unknown.
	Fingerprint string
	// UserIDs are those of the OpenPGP key.
	UserIDs []string
	// KeyExpires is when the OpenPGP key does. Zero: never, or unknown.
	KeyExpires time.Time
}

// Verify checks the signatures of a commit at a time, which matters to those of
// OpenPGP. It gives a verdict on each, in the order of [Repo.Signatures], also
// beside an error, which wraps [ErrSignature] and the reasons found unless the
// commit has the good signatures that v asks for. The commit object is read and
// its checksum verified; what it names is not looked at: [Repo.Fsck] does that.
func (r *Repo) Verify(ctx context.Context, commit Checksum, v *Verifier, now time.Time) ([]Verdict, error) {
	data, err := r.object(ctx, TypeCommit, commit)
	var verdicts []Verdict
	if err == nil {
		var items []MetadataItem
		if items, err = r.detached(ctx, commit); err == nil {
			verdicts, err = v.verify(ctx, data, items, now)
		}
	}
	if err != nil {
		return verdicts, &Error{Op: "verify", Target: commit.String(), Err: err}
	}
	return verdicts, nil
}

// Verify is [Repo.Verify] for what is in no repository yet: the bytes of a
// commit object and its detached metadata, or of a summary and of summary.sig,
// which has the same form.
func (v *Verifier) Verify(ctx context.Context, message []byte, metadata []MetadataItem, now time.Time) ([]Verdict, error) {
	verdicts, err := v.verify(ctx, message, metadata, now)
	if err != nil {
		return verdicts, &Error{Op: "verify", Target: sum(message).String(), Err: err}
	}
	return verdicts, nil
}

func (v *Verifier) verify(ctx context.Context, message []byte, metadata []MetadataItem, now time.Time) ([]Verdict, error) {
	list, err := listSignatures(ctx, metadata)
	if err != nil {
		return nil, err
	}
	var verdicts []Verdict
	for i, s := range list {
		if i > 0 && s.Kind == list[i-1].Kind && s.element == list[i-1].element {
			continue // judged along with that
		}
		judged, err := v.judge(ctx, message, s, now)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, judged...)
	}
	if v.needGPG {
		err = require(verdicts, SignatureGPG)
	}
	if v.needSign {
		err = errors.Join(err, require(verdicts, SignatureEd25519))
	}
	return verdicts, err
}

// judge checks the signatures in the byte string of s.
func (v *Verifier) judge(ctx context.Context, message []byte, s Signature, now time.Time) ([]Verdict, error) {
	verdict := Verdict{Signature: s}
	switch s.Kind {
	case SignatureGPG:
		keys := v.gpg
		if keys == nil {
			keys = new(pgp.Keyring)
		}
		found, err := keys.Verify(ctx, bytes.NewReader(message), s.Data, now, nil)
		if err != nil && !errors.Is(err, ErrSignature) {
			return nil, err
		}
		if len(found) == 0 {
			verdict.Err = err
			break
		}
		verdicts := make([]Verdict, len(found))
		for i, f := range found {
			s.KeyID, s.Created, s.Expires = f.KeyID, f.Created, f.Expires
			verdicts[i] = Verdict{Signature: s, Err: f.Err, Signer: f.Primary, Fingerprint: f.Fingerprint, UserIDs: f.UserIDs, KeyExpires: f.KeyExpires}
		}
		return verdicts, nil
	case SignatureEd25519:
		verdict.Signer, verdict.Err = v.ed25519.Verify(ctx, bytes.NewReader(message), s.Data)
		if verdict.Err != nil && !errors.Is(verdict.Err, ErrSignature) {
			return nil, verdict.Err
		}
	default:
		verdict.Err = fmt.Errorf("kind %.80q: %w: %w", s.Kind, ErrSignature, errUnsupported)
	}
	return []Verdict{verdict}, nil
}

// require asks for one good signature of a kind.
func require(verdicts []Verdict, kind SignatureKind) error {
	var faults []error
	for _, v := range verdicts {
		if v.Kind != kind {
			continue
		}
		if v.Err == nil {
			return nil
		}
		switch {
		case v.KeyID != "":
			faults = append(faults, fmt.Errorf("by %s: %w", v.KeyID, v.Err))
		default:
			faults = append(faults, v.Err)
		}
	}
	if len(faults) == 0 {
		return fmt.Errorf("no signature of kind %s: %w", kind, ErrSignature)
	}
	return fmt.Errorf("no good signature of kind %s: %w", kind, errors.Join(faults...))
}
