package pgp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/big"
	"strings"
	"time"
	"unicode/utf8"

	pgpecdsa "github.com/ProtonMail/go-crypto/openpgp/ecdsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/flate"

	"github.com/okd-project/okd-streams/internal/signature"
)

// Form is what a signature looks like.
type Form int

// The forms, as gpg makes them.
const (
	Detached Form = iota // packets (gpg --detach-sign)
	Armored              // detached, in text (gpg --armor --detach-sign)
	Clear                // text and its signature (gpg --clear-sign)
	Message              // packets with the message in them (gpg --sign --compress-algo none)
	Packed               // the same, compressed (gpg --sign)
)

// Secret is a secret key that signs. The key itself is where no print, log or
// error finds it. It may be used from any goroutine.
type Secret struct {
	cert *cert
	// secrets gives a key's secret part: behind a function, no printing of the
	// struct shows it.
	secrets func(fingerprint string) *packet.PrivateKey
	want    string // fingerprint of the key to sign with; "": the newest that may
}

// SecretOptions say which key of a file signs.
type SecretOptions struct {
	// Key is the fingerprint, upper- or lower-case hexadecimal, of the primary
	// key or subkey to sign with. "": of the file's only key, the newest subkey
	// that may sign, else the primary key, as gpg chooses.
	Key string
	// Passphrase gives the passphrase. It is called at most once, and only if
	// the key is protected; nil: a protected key is an error. The slice that it
	// gives is wiped.
	Passphrase func() ([]byte, error)
}

// ParseSecret reads a secret key, binary or armoured, as gpg --export-secret-keys
// or --export-secret-subkeys write it.
func ParseSecret(data []byte, opts *SecretOptions) (*Secret, error) {
	if opts == nil {
		opts = new(SecretOptions)
	}
	certs, err := parseCerts(data, blockSecret)
	if err != nil {
		return nil, fmt.Errorf("pgp: secret key: %w", err)
	}
	want := strings.ToUpper(strings.ReplaceAll(opts.Key, " ", ""))
	var found *cert
	for _, c := range certs {
		for _, k := range c.keys() {
			if k.secret == nil || want != "" && k.fingerprint() != want && c.primary.fingerprint() != want {
				continue
			}
			if found != nil && found != c {
				return nil, fmt.Errorf("pgp: secret key: the file has several keys, and none is asked for")
			}
			found = c
		}
	}
	if found == nil {
		return nil, fmt.Errorf("pgp: secret key: the file does not have it: %w", signature.ErrUnknownKey)
	}
	if want == found.primary.fingerprint() {
		want = "" // the key as a whole
	}
	secrets, err := unlock(found, opts.Passphrase)
	if err != nil {
		return nil, fmt.Errorf("pgp: secret key: %w", err)
	}
	return &Secret{cert: found, want: want, secrets: func(fingerprint string) *packet.PrivateKey { return secrets[fingerprint] }}, nil
}

// unlock decrypts the secret keys of c and takes them out of it.
func unlock(c *cert, passphrase func() ([]byte, error)) (map[string]*packet.PrivateKey, error) {
	secrets := make(map[string]*packet.PrivateKey)
	var pass []byte
	defer func() { clear(pass) }()
	for _, k := range c.keys() {
		s := k.secret
		k.secret = nil
		if s == nil {
			continue
		}
		if s.Encrypted {
			if passphrase == nil {
				return nil, errors.New("protected by a passphrase, and none is given")
			}
			if pass == nil {
				var err error
				if pass, err = passphrase(); err != nil {
					return nil, fmt.Errorf("passphrase: %w", err)
				}
				if pass == nil {
					pass = []byte{}
				}
			}
			if s.Decrypt(pass) != nil { // its text is nothing that helps
				return nil, errors.New("the passphrase does not open it")
			}
		}
		if s.PubKeyAlgo == packet.PubKeyAlgoECDSA {
			signer, err := deterministic(s)
			if err != nil {
				return nil, err
			}
			s.PrivateKey = signer
		}
		secrets[k.fingerprint()] = s
	}
	return secrets, nil
}

// deterministic is an ECDSA key whose signatures are a function of the message
// (RFC 6979): no randomness is needed, and none can be bad.
func deterministic(s *packet.PrivateKey) (crypto.Signer, error) {
	name, err := s.Curve()
	if err != nil {
		return nil, keyError(err)
	}
	curve := map[packet.Curve]elliptic.Curve{
		packet.CurveNistP256: elliptic.P256(), packet.CurveNistP384: elliptic.P384(), packet.CurveNistP521: elliptic.P521(),
	}[name]
	key, ok := s.PrivateKey.(*pgpecdsa.PrivateKey)
	if curve == nil || !ok || key.D == nil || key.D.Sign() <= 0 || key.D.Cmp(curve.Params().N) >= 0 {
		return nil, malformed("key packet")
	}
	std, err := ecdsa.ParseRawPrivateKey(curve, key.D.FillBytes(make([]byte, (curve.Params().BitSize+7)/8)))
	if err != nil {
		return nil, keyError(err)
	}
	if pub, ok := s.PublicKey.PublicKey.(*pgpecdsa.PublicKey); !ok || !samePoint(std, pub.X, pub.Y) {
		return nil, malformed("secret key of another public key")
	}
	return rfc6979{std}, nil
}

func samePoint(key *ecdsa.PrivateKey, x, y *big.Int) bool {
	raw, err := key.PublicKey.Bytes()
	if err != nil || x == nil || y == nil {
		return false
	}
	size := (len(raw) - 1) / 2
	return new(big.Int).SetBytes(raw[1:1+size]).Cmp(x) == 0 && new(big.Int).SetBytes(raw[1+size:]).Cmp(y) == 0
}

type rfc6979 struct{ key *ecdsa.PrivateKey }

func (r rfc6979) Public() crypto.PublicKey { return r.key.Public() }

func (r rfc6979) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return r.key.Sign(nil, digest, opts)
}

// parseSecret reads a secret key's packet. Of what may protect it, only what
// GnuPG writes is read: nothing, or a passphrase stretched by repeated hashing
// and a SHA-1 checksum. A placeholder (a primary key kept elsewhere) is a
// public key.
func parseSecret(tag byte, body []byte) (*key, error) {
	p, err := packet.Read(bytes.NewReader(frame(tag, body)))
	if err != nil {
		return nil, keyError(err)
	}
	secret, ok := p.(*packet.PrivateKey)
	if !ok {
		return nil, malformed("key packet")
	}
	pub := secret.PublicKey // a copy that prints without the secret
	k := &key{pub: &pub}
	if secret.Dummy() {
		return k, nil
	}
	var public bytes.Buffer
	if err := pub.Serialize(&public); err != nil {
		return nil, keyError(err)
	}
	_, content, err := newPackets(&public).next()
	if err != nil {
		return nil, keyError(err)
	}
	size, err := io.Copy(io.Discard, content)
	if err != nil || size >= int64(len(body)) {
		return nil, malformed("key packet")
	}
	switch usage := body[size]; usage {
	case 0, 254:
	default:
		return nil, fmt.Errorf("secret key protected in a way %d that gpg does not use: %w", usage, errors.ErrUnsupported)
	}
	k.secret = secret
	return k, nil
}

// SignOptions say what is signed along.
type SignOptions struct {
	Lifetime time.Duration // how long the signature counts, whole seconds, at most 136 years; 0: for ever
}

// Sign signs a message at a time, which becomes the signature's. Detached
// signatures read it as a stream; the other forms hold it, up to
// [MaxMessageSize] bytes. The same message, key and time give the same bytes.
//
// Clear text must be UTF-8 without other control characters than tabs and line
// ends; blanks before line ends, and a missing last line feed, are not kept.
func (s *Secret) Sign(ctx context.Context, message io.Reader, form Form, now time.Time, opts *SignOptions) ([]byte, error) {
	signed, err := s.sign(ctx, message, form, now, opts)
	if err != nil {
		return nil, fmt.Errorf("pgp: sign: %w", err)
	}
	return signed, nil
}

func (s *Secret) sign(ctx context.Context, message io.Reader, form Form, now time.Time, opts *SignOptions) ([]byte, error) {
	priv, err := s.choose(now)
	if err != nil {
		return nil, err
	}
	sig := &packet.Signature{
		Version: 4, SigType: packet.SigTypeBinary, PubKeyAlgo: priv.PubKeyAlgo, Hash: digestFor(priv), CreationTime: now,
		IssuerKeyId: &priv.KeyId,
	}
	if opts != nil && opts.Lifetime != 0 {
		secs := opts.Lifetime / time.Second
		if secs < 1 || secs > 1<<32-1 {
			return nil, fmt.Errorf("lifetime of %s: %w", opts.Lifetime, errors.ErrUnsupported)
		}
		lifetime := uint32(secs)
		sig.SigLifetimeSecs = &lifetime
	}
	switch form {
	case Detached, Armored:
		h := sig.Hash.New()
		if err := signature.Copy(ctx, h, message); err != nil {
			return nil, err
		}
		packets, err := finish(sig, priv, h)
		if err != nil || form == Detached {
			return packets, err
		}
		return enarmor(packets, blockSignature)
	case Clear, Message, Packed:
		content, err := io.ReadAll(io.LimitReader(message, MaxMessageSize+1))
		if err != nil {
			return nil, fmt.Errorf("read message: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(content) > MaxMessageSize {
			return nil, fmt.Errorf("message of more than %d bytes: %w", MaxMessageSize, errors.ErrUnsupported)
		}
		if form == Clear {
			return signClear(sig, priv, content)
		}
		return signMessage(sig, priv, content, form == Packed)
	}
	return nil, fmt.Errorf("form %d: %w", form, errors.ErrUnsupported)
}

// finish signs what was hashed and gives the packet.
func finish(sig *packet.Signature, priv *packet.PrivateKey, h hash.Hash) ([]byte, error) {
	fixed := false
	config := &packet.Config{
		Rand: noRandomness{}, NonDeterministicSignaturesViaNotation: &fixed,
		InsecureGenerateNonCriticalSignatureCreationTime: true, // as gpg; older readers know no other
	}
	if err := sig.Sign(h, priv, config); err != nil {
		return nil, errors.New("the key cannot sign")
	}
	var out bytes.Buffer
	if err := sig.Serialize(&out); err != nil {
		return nil, errors.New("the key cannot sign")
	}
	return out.Bytes(), nil
}

// noRandomness: none of the ways to sign here takes any.
type noRandomness struct{}

func (noRandomness) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

func signClear(sig *packet.Signature, priv *packet.PrivateKey, content []byte) ([]byte, error) {
	text := string(content)
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' }) {
		return nil, fmt.Errorf("clear text that is not text: %w", errors.ErrUnsupported)
	}
	shown, signed := clearText(text)
	sig.SigType = packet.SigTypeText
	h := sig.Hash.New()
	io.WriteString(h, signed)
	packets, err := finish(sig, priv, h)
	if err != nil {
		return nil, err
	}
	armored, err := enarmor(packets, blockSignature)
	if err != nil {
		return nil, err
	}
	name := strings.ReplaceAll(sig.Hash.String(), "-", "")
	return append([]byte("-----BEGIN "+blockClear+"-----\nHash: "+name+"\n\n"+shown), armored...), nil
}

func signMessage(sig *packet.Signature, priv *packet.PrivateKey, content []byte, compress bool) ([]byte, error) {
	var out bytes.Buffer
	announce := &packet.OnePassSignature{
		Version: 3, SigType: sig.SigType, Hash: sig.Hash, PubKeyAlgo: sig.PubKeyAlgo, KeyId: priv.KeyId, IsLast: true,
	}
	if err := announce.Serialize(&out); err != nil {
		return nil, err
	}
	// Binary, without a file name; the time is not signed and kept out.
	literal := append([]byte{'b', 0}, 0, 0, 0, 0)
	out.Write(frame(tagLiteral, append(literal, content...)))
	h := sig.Hash.New()
	h.Write(content)
	packets, err := finish(sig, priv, h)
	if err != nil {
		return nil, err
	}
	out.Write(packets)
	if !compress {
		return out.Bytes(), nil
	}
	var packed bytes.Buffer
	packed.WriteByte(1) // ZIP
	w, err := flate.NewWriter(&packed, 6)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return frame(tagCompressed, packed.Bytes()), nil
}

// choose gives the key to sign with at a time.
func (s *Secret) choose(now time.Time) (*packet.PrivateKey, error) {
	if sec := now.Unix(); sec < 0 || sec > 1<<32-1 {
		return nil, fmt.Errorf("time %s: %w", stamp(now), errors.ErrUnsupported)
	}
	now = now.Truncate(time.Second)
	var best *key
	var last error
	for _, k := range s.cert.keys() {
		if s.secrets(k.fingerprint()) == nil || s.want != "" && s.want != k.fingerprint() {
			continue
		}
		st := k.at(now)
		if err := usable(k, &st, now); err != nil {
			last = fmt.Errorf("key %s: %w", k.fingerprint(), err)
			continue
		}
		// The primary key comes first, and any subkey is preferred to it.
		if best == nil || best == s.cert.primary || k.pub.CreationTime.After(best.pub.CreationTime) {
			best = k
		}
	}
	if best == nil {
		if last == nil {
			last = errors.New("no key that signs")
		}
		return nil, last
	}
	return s.secrets(best.fingerprint()), nil
}

func usable(k *key, st *state, now time.Time) error {
	switch bits := rsaBits(k.pub); {
	case bits != 0 && bits < 2048:
		return fmt.Errorf("RSA key of %d bits: %w", bits, signature.ErrWeak)
	case st.revoked:
		return signature.ErrRevoked
	case st.expired(now):
		return fmt.Errorf("%w %s", signature.ErrExpired, stamp(st.expires))
	case k.pub.CreationTime.After(now):
		return fmt.Errorf("is made %s only: %w", stamp(k.pub.CreationTime), signature.ErrSignature)
	case !st.bound || !st.crossed || !st.signs:
		return fmt.Errorf("is not for signing: %w", signature.ErrSignature)
	}
	return nil
}

// Fingerprint is that of the primary key, upper-case hexadecimal.
func (s *Secret) Fingerprint() string { return s.cert.primary.fingerprint() }

// digestFor is the digest that a key signs: as long as an ECDSA key, and
// SHA-256 otherwise, which hardware knows.
func digestFor(priv *packet.PrivateKey) crypto.Hash {
	if priv.PubKeyAlgo == packet.PubKeyAlgoECDSA {
		if curve, err := priv.Curve(); err == nil {
			switch curve {
			case packet.CurveNistP384:
				return crypto.SHA384
			case packet.CurveNistP521:
				return crypto.SHA512
			}
		}
	}
	return crypto.SHA256
}
