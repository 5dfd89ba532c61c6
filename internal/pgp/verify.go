package pgp

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/okd-project/okd-streams/internal/signature"
)

// MaxSignatureSize bounds a file of detached signatures, in bytes, armoured or
// not.
const MaxSignatureSize = 256 << 10

// maxSignatures bounds the signatures of one message.
const maxSignatures = 64

// Signature is what one signature of a message says, and whether it counts.
type Signature struct {
	Err error // nil: good; else why not, [signature.ErrSignature]

	KeyID       string // of the key that made it, 16 upper-case hexadecimal digits; "" if it does not say
	Fingerprint string // of that key, upper-case hexadecimal; "" if it is unknown
	Primary     string // fingerprint of its primary key, the same where that signed; "" if it is unknown
	UserIDs     []string
	KeyExpires  time.Time // zero: never

	Created time.Time
	Expires time.Time // of the signature; zero: never

	Digest    string // "SHA-256", …
	Text      bool   // of text: line ends may differ
	Notations []Notation
}

// Notation is something the signer states beside the message.
type Notation struct {
	Name     string
	Value    []byte
	Critical bool
}

// VerifyOptions say which signatures count.
type VerifyOptions struct {
	// ExpiredKeys lets signatures count whose key has expired, as release
	// payloads want it: their keys were published once, and used for longer.
	ExpiredKeys bool
}

// Verify checks detached signatures of a message, binary or armoured, at a
// time. It gives them all, in their order, and an error unless at least one is
// good. The message is read as a stream, and not at all if no signature can be
// good.
func (k *Keyring) Verify(ctx context.Context, message io.Reader, detached []byte, now time.Time, opts *VerifyOptions) ([]Signature, error) {
	sigs, err := parseDetached(detached)
	if err != nil {
		return nil, fmt.Errorf("pgp: %w", err)
	}
	c := k.newCheck(sigs, now, opts)
	if c.needed() {
		if err := signature.Copy(ctx, c, message); err != nil {
			return nil, fmt.Errorf("pgp: verify: %w", err)
		}
	}
	return c.verdict()
}

// parseDetached reads a file of nothing but signatures. One that cannot be
// read is kept as the error, so that others beside it count.
func parseDetached(data []byte) ([]parsed, error) {
	if len(data) > MaxSignatureSize {
		return nil, malformed("signature of more than %d bytes", MaxSignatureSize)
	}
	raw, err := dearmor(data, blockSignature)
	if err != nil {
		return nil, err
	}
	var sigs []parsed
	for p := newPackets(bytes.NewReader(raw)); ; {
		tag, r, err := p.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		switch tag {
		case tagSignature:
			if sigs, err = appendSignature(sigs, r); err != nil {
				return nil, err
			}
		case tagMarker, tagPadding:
		case tagOnePass, tagCompressed, tagLiteral:
			return nil, malformed("a signed message where there should be a detached signature")
		default:
			return nil, malformed("packet %d where there should be a signature", tag)
		}
	}
	if len(sigs) == 0 {
		return nil, malformed("no signature")
	}
	return sigs, nil
}

// parsed is a signature packet, or why it cannot be read.
type parsed struct {
	sig *packet.Signature
	err error
}

func appendSignature(sigs []parsed, r *body) ([]parsed, error) {
	if len(sigs) == maxSignatures {
		return nil, malformed("more than %d signatures", maxSignatures)
	}
	body, err := readPacket(r)
	if err != nil {
		return nil, err
	}
	sig, err := parseSignature(body)
	return append(sigs, parsed{sig, err}), nil
}

// check hashes a message for its signatures and then judges them.
type check struct {
	keys    *Keyring
	now     time.Time
	expired bool // keys may be
	sigs    []parsed
	hashes  map[hashKind]*messageHash
}

type hashKind struct {
	digest crypto.Hash
	text   bool
}

func (k *Keyring) newCheck(sigs []parsed, now time.Time, opts *VerifyOptions) *check {
	c := &check{keys: k, now: now.Truncate(time.Second), sigs: sigs, hashes: make(map[hashKind]*messageHash)}
	c.expired = opts != nil && opts.ExpiredKeys
	for i := range c.sigs {
		s := &c.sigs[i]
		if s.err == nil {
			s.err = precheck(s.sig)
		}
		if s.err != nil || len(k.candidates(s.sig)) == 0 {
			continue
		}
		kind := kindOf(s.sig)
		if c.hashes[kind] == nil {
			c.hashes[kind] = newMessageHash(kind)
		}
	}
	return c
}

func kindOf(sig *packet.Signature) hashKind {
	return hashKind{sig.Hash, sig.SigType == packet.SigTypeText}
}

// precheck looks at what needs neither key nor message.
func precheck(sig *packet.Signature) error {
	switch {
	case sig.SigType != packet.SigTypeBinary && sig.SigType != packet.SigTypeText:
		return malformed("signature of type 0x%02x is not of a message", uint8(sig.SigType))
	case !messageDigest(sig.Hash):
		return fmt.Errorf("digest %v: %w", sig.Hash, signature.ErrWeak)
	case sig.PubKeyAlgo == packet.PubKeyAlgoDSA:
		return fmt.Errorf("DSA: %w", signature.ErrWeak)
	case hasUnknownCriticalNotation(sig):
		return fmt.Errorf("has a critical notation that is not known: %w", signature.ErrSignature)
	}
	return nil
}

// candidates are the keys that a signature may be by: those with its key id,
// and its fingerprint where it says one.
func (k *Keyring) candidates(sig *packet.Signature) []*key {
	if sig.IssuerKeyId == nil {
		return nil
	}
	var found []*key
	for _, key := range k.byID[*sig.IssuerKeyId] {
		if sig.CheckKeyIdOrFingerprint(key.pub) {
			found = append(found, key)
		}
	}
	return found
}

// needed tells whether reading the message can make a signature good.
func (c *check) needed() bool { return len(c.hashes) > 0 }

func (c *check) Write(p []byte) (int, error) {
	for _, h := range c.hashes {
		h.Write(p)
	}
	return len(p), nil
}

// verdict judges every signature once the message was written.
func (c *check) verdict() ([]Signature, error) {
	for _, h := range c.hashes {
		h.end()
	}
	all := make([]Signature, 0, len(c.sigs))
	var faults []error
	good := false
	for _, s := range c.sigs {
		verdict := c.judge(s)
		if verdict.Err == nil {
			good = true
		} else {
			name := verdict.KeyID
			if name == "" {
				name = "an unknown key"
			}
			faults = append(faults, fmt.Errorf("pgp: signature by %s: %w", name, verdict.Err))
		}
		all = append(all, verdict)
	}
	if good {
		return all, nil
	}
	return all, errors.Join(faults...)
}

func (c *check) judge(s parsed) Signature {
	var out Signature
	if s.sig != nil {
		out = describe(s.sig)
	}
	if s.err != nil {
		out.Err = s.err
		return out
	}
	out.Err = fmt.Errorf("key is not in the keyring, or of a kind that is not checked here: %w", signature.ErrUnknownKey)
	for _, key := range c.keys.candidates(s.sig) {
		st := key.at(c.now)
		out.Fingerprint, out.Primary = key.fingerprint(), key.cert.primary.fingerprint()
		out.UserIDs, out.KeyExpires = st.userIDs, st.expires
		if out.Err = c.judgeBy(key, &st, s.sig); out.Err == nil {
			break
		}
	}
	return out
}

func (c *check) judgeBy(k *key, st *state, sig *packet.Signature) error {
	if bits := rsaBits(k.pub); bits != 0 && bits < 2048 {
		return fmt.Errorf("RSA key of %d bits: %w", bits, signature.ErrWeak)
	}
	// The hash goes on to be written to, and others need it as it is.
	h, err := c.hashes[kindOf(sig)].clone()
	if err != nil {
		return err
	}
	if k.pub.VerifySignature(h, sig) != nil {
		return fmt.Errorf("does not fit the message: %w", signature.ErrSignature)
	}
	switch { // in GnuPG's order
	case sig.CreationTime.Before(k.pub.CreationTime):
		return fmt.Errorf("is older than its key: %w", signature.ErrSignature)
	case k.pub.CreationTime.After(c.now):
		return fmt.Errorf("key is made %s, after the time of the check: %w", stamp(k.pub.CreationTime), signature.ErrSignature)
	case !st.bound:
		return fmt.Errorf("key is not bound to its primary key or a user: %w", signature.ErrUnknownKey)
	case !st.crossed:
		return fmt.Errorf("subkey has not signed its primary key: %w", signature.ErrUnknownKey)
	case !st.signs:
		return fmt.Errorf("key is not for signing: %w", signature.ErrSignature)
	case sigExpired(sig, c.now):
		return fmt.Errorf("signature: %w %s", signature.ErrExpired, stamp(sigExpires(sig)))
	case st.expired(c.now) && !c.expired:
		return fmt.Errorf("key: %w %s", signature.ErrExpired, stamp(st.expires))
	case st.revoked:
		return fmt.Errorf("key: %w", signature.ErrRevoked)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func describe(sig *packet.Signature) Signature {
	out := Signature{
		Created: sig.CreationTime.UTC(), Expires: sigExpires(sig), Digest: sig.Hash.String(), Text: sig.SigType == packet.SigTypeText,
	}
	if !out.Expires.IsZero() {
		out.Expires = out.Expires.UTC()
	}
	if sig.IssuerKeyId != nil {
		out.KeyID = fmt.Sprintf("%016X", *sig.IssuerKeyId)
	}
	for _, n := range sig.Notations {
		out.Notations = append(out.Notations, Notation{Name: strings.ToValidUTF8(n.Name, "\uFFFD"), Value: n.Value, Critical: n.IsCritical})
	}
	return out
}

// messageHash hashes a message as one kind of signature wants it.
type messageHash struct {
	hash hash.Hash
	text *textWriter // nil: as it is
}

func newMessageHash(kind hashKind) *messageHash {
	m := &messageHash{hash: kind.digest.New()}
	if kind.text {
		m.text = &textWriter{w: m.hash}
	}
	return m
}

func (m *messageHash) Write(p []byte) {
	if m.text != nil {
		m.text.Write(p)
		return
	}
	m.hash.Write(p)
}

// end is called once, after the message.
func (m *messageHash) end() {
	if m.text != nil {
		m.text.Close()
	}
}

// clone gives the hash to finish for one signature.
func (m *messageHash) clone() (hash.Hash, error) {
	c, ok := m.hash.(hash.Cloner)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	h, err := c.Clone()
	if err != nil {
		return nil, err
	}
	return h, nil
}

// textWriter writes lines with the ends that signatures of text are over: CR
// and LF, whatever carriage returns and line feed ended them (as GnuPG does).
type textWriter struct {
	w   io.Writer
	crs int // held back
}

var carriageReturns = bytes.Repeat([]byte{'\r'}, 512)

func (t *textWriter) Write(p []byte) {
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			i = len(p)
		}
		if i > 0 {
			t.flush()
			t.w.Write(p[:i])
			p = p[i:]
			continue
		}
		if p[0] == '\r' {
			t.crs++
		} else {
			t.crs = 0
			t.w.Write([]byte("\r\n"))
		}
		p = p[1:]
	}
}

// flush writes the carriage returns that turned out not to end a line.
func (t *textWriter) flush() {
	for t.crs > 0 {
		n := min(t.crs, len(carriageReturns))
		t.w.Write(carriageReturns[:n])
		t.crs -= n
	}
}

// Close drops carriage returns at the very end.
func (t *textWriter) Close() { t.crs = 0 }
