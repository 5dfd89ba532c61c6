package cosign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"github.com/okd-project/okd-streams/internal/signature"
)

// MaxKeySize bounds a key file, in bytes.
const MaxKeySize = 64 << 10

// Types of PEM blocks.
const (
	pemPublic    = "PUBLIC KEY"                     // PKIX
	pemPrivate   = "PRIVATE KEY"                    // PKCS #8
	pemEC        = "EC PRIVATE KEY"                 // SEC 1
	pemRSA       = "RSA PRIVATE KEY"                // PKCS #1
	pemCosign    = "ENCRYPTED COSIGN PRIVATE KEY"   // until cosign 2.0
	pemSigstore  = "ENCRYPTED SIGSTORE PRIVATE KEY" // since
	minRSA       = 2048
	maxRSA       = 16384
	maxSignature = 16 << 10
)

// PublicKey checks signatures: ECDSA on P-256, P-384 or P-521, Ed25519, or RSA
// of 2048 bits and more (PKCS #1 v1.5).
type PublicKey struct {
	key crypto.PublicKey
	der []byte
}

// ParsePublicKey reads a PEM file of one public key, such as cosign.pub.
func ParsePublicKey(data []byte) (*PublicKey, error) {
	block, err := onePEM(data)
	if err != nil {
		return nil, fmt.Errorf("cosign: public key: %w", err)
	}
	if block.Type != pemPublic {
		return nil, fmt.Errorf("cosign: public key: a %.40q: %w", block.Type, errors.ErrUnsupported)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("cosign: public key: malformed")
	}
	return newPublicKey(key)
}

func newPublicKey(key crypto.PublicKey) (*PublicKey, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return nil, fmt.Errorf("cosign: key on curve %s: %w", k.Curve.Params().Name, errors.ErrUnsupported)
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA {
			return nil, fmt.Errorf("cosign: RSA key of %d bits: %w", bits, signature.ErrWeak)
		} else if bits > maxRSA {
			return nil, fmt.Errorf("cosign: RSA key of %d bits: %w", bits, errors.ErrUnsupported)
		}
	default:
		return nil, fmt.Errorf("cosign: key of type %T: %w", key, errors.ErrUnsupported)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("cosign: key: %w", errors.ErrUnsupported)
	}
	return &PublicKey{key, der}, nil
}

func onePEM(data []byte) (*pem.Block, error) {
	if len(data) > MaxKeySize {
		return nil, fmt.Errorf("more than %d bytes: %w", MaxKeySize, errors.ErrUnsupported)
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, fmt.Errorf("several keys in one file: %w", errors.ErrUnsupported)
	}
	return block, nil
}

// ID names a key: "sha256:" and the digest of its PKIX form, hexadecimal.
func (k *PublicKey) ID() string {
	sum := sha256.Sum256(k.der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// hint is how a bundle names its key.
func (k *PublicKey) hint() string {
	sum := sha256.Sum256(k.der)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// PEM is the key as a file, cosign.pub.
func (k *PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: k.der})
}

// Verify checks a signature of a message, as cosign sign-blob makes it, raw or
// in base64, and gives the id of the key that it fits. The message is read as a
// stream.
func Verify(ctx context.Context, message io.Reader, sig []byte, keys ...*PublicKey) (string, error) {
	if len(sig) > maxSignature {
		return "", fmt.Errorf("cosign: signature of more than %d bytes: %w", maxSignature, signature.ErrSignature)
	}
	d := newDigests(keys...)
	if err := signature.Copy(ctx, d, message); err != nil {
		return "", fmt.Errorf("cosign: verify: %w", err)
	}
	forms := [][]byte{sig}
	if raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(sig))); err == nil {
		forms = append(forms, raw)
	}
	for _, k := range keys {
		for _, form := range forms {
			if k.check(d, nil, form) {
				return k.ID(), nil
			}
		}
	}
	return "", fmt.Errorf("cosign: signature fits none of %d keys: %w", len(keys), signature.ErrUnknownKey)
}

// verifyBytes checks a raw signature of a short message.
func (k *PublicKey) verifyBytes(message, sig []byte) bool {
	if len(sig) > maxSignature {
		return false
	}
	d := newDigests(k)
	d.Write(message)
	return k.check(d, message, sig)
}

// check tries what cosign versions made with such a key: ECDSA over SHA-256,
// whatever the curve, or over the digest that fits it; Ed25519 of the message
// (if given) or of its SHA-512.
func (k *PublicKey) check(d digests, message, sig []byte) bool {
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		for _, h := range ecdsaDigests(key.Curve) {
			if ecdsa.VerifyASN1(key, d.sum(h), sig) {
				return true
			}
		}
	case ed25519.PublicKey:
		if message != nil && ed25519.Verify(key, message, sig) {
			return true
		}
		return ed25519.VerifyWithOptions(key, d.sum(crypto.SHA512), sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, d.sum(crypto.SHA256), sig) == nil
	}
	return false
}

// ecdsaDigests are the digests seen with keys on a curve, the fitting one first.
func ecdsaDigests(curve elliptic.Curve) []crypto.Hash {
	switch curve {
	case elliptic.P384():
		return []crypto.Hash{crypto.SHA384, crypto.SHA256}
	case elliptic.P521():
		return []crypto.Hash{crypto.SHA512, crypto.SHA256}
	}
	return []crypto.Hash{crypto.SHA256}
}

// needs are the digests that a signature by the key may be over.
func (k *PublicKey) needs() []crypto.Hash {
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		return ecdsaDigests(key.Curve)
	case ed25519.PublicKey:
		return []crypto.Hash{crypto.SHA512}
	}
	return []crypto.Hash{crypto.SHA256}
}

// digests are those of one message.
type digests map[crypto.Hash]hash.Hash

func newDigests(keys ...*PublicKey) digests {
	d := make(digests)
	for _, k := range keys {
		for _, h := range k.needs() {
			if d[h] == nil {
				d[h] = h.New()
			}
		}
	}
	return d
}

func (d digests) Write(p []byte) (int, error) {
	for _, h := range d {
		h.Write(p)
	}
	return len(p), nil
}

func (d digests) sum(h crypto.Hash) []byte { return d[h].Sum(nil) }

// Secret is a key that signs. The key itself is where no print, log or error
// finds it. It may be used from any goroutine.
type Secret struct {
	public *PublicKey
	signer func() crypto.Signer
}

// ParseSecret reads a PEM file of one private key: cosign.key, for which
// passphrase is called once, or PKCS #8, SEC 1 or PKCS #1 without a passphrase.
// The slice that passphrase gives is wiped.
func ParseSecret(data []byte, passphrase func() ([]byte, error)) (*Secret, error) {
	block, err := onePEM(data)
	if err != nil {
		return nil, fmt.Errorf("cosign: private key: %w", err)
	}
	der := block.Bytes
	var key any
	switch block.Type {
	case pemCosign, pemSigstore:
		if der, err = unlock(der, passphrase); err != nil {
			return nil, fmt.Errorf("cosign: private key: %w", err)
		}
		key, err = x509.ParsePKCS8PrivateKey(der)
		clear(der)
	case pemPrivate:
		key, err = x509.ParsePKCS8PrivateKey(der)
	case pemEC:
		key, err = x509.ParseECPrivateKey(der)
	case pemRSA:
		key, err = x509.ParsePKCS1PrivateKey(der)
	default:
		return nil, fmt.Errorf("cosign: private key: a %.40q: %w", block.Type, errors.ErrUnsupported)
	}
	if err != nil {
		return nil, errors.New("cosign: private key: malformed") // the parser's text could quote it
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("cosign: private key of type %T: %w", key, errors.ErrUnsupported)
	}
	public, err := newPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	return &Secret{public, func() crypto.Signer { return signer }}, nil
}

// encrypted is what cosign.key holds: a key made from the passphrase by scrypt,
// and a secretbox with the PKCS #8 form (the format of go-securesystemslib's
// "encrypted").
type encrypted struct {
	KDF struct {
		Name   string `json:"name"`
		Params struct {
			N int `json:"N"`
			R int `json:"r"`
			P int `json:"p"`
		} `json:"params"`
		Salt []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// maxKDF bounds the memory that making a key takes, 128·N·r bytes. cosign asks
// for 64 MiB.
const maxKDF = 128 << 20

func unlock(data []byte, passphrase func() ([]byte, error)) ([]byte, error) {
	var e encrypted
	if json.Unmarshal(data, &e) != nil {
		return nil, errors.New("malformed")
	}
	p := e.KDF.Params
	switch {
	case e.KDF.Name != "scrypt" || e.Cipher.Name != "nacl/secretbox":
		return nil, fmt.Errorf("protected by %.20q and %.20q: %w", e.KDF.Name, e.Cipher.Name, errors.ErrUnsupported)
	case p.N <= 1 || p.N&(p.N-1) != 0 || p.R <= 0 || p.P <= 0 || p.R > 64 || p.P > 16 || p.N > maxKDF/128/p.R:
		return nil, fmt.Errorf("protected by scrypt of N=%d, r=%d, p=%d: %w", p.N, p.R, p.P, errors.ErrUnsupported)
	case len(e.Cipher.Nonce) != 24:
		return nil, errors.New("malformed")
	case passphrase == nil:
		return nil, errors.New("protected by a passphrase, and none is given")
	}
	pass, err := passphrase()
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	defer clear(pass)
	derived, err := scrypt.Key(pass, e.KDF.Salt, p.N, p.R, p.P, 32)
	if err != nil {
		return nil, errors.New("malformed")
	}
	defer clear(derived)
	der, ok := secretbox.Open(nil, e.Ciphertext, (*[24]byte)(e.Cipher.Nonce), (*[32]byte)(derived))
	if !ok {
		return nil, errors.New("the passphrase does not open it")
	}
	return der, nil
}

// Public gives the public key.
func (s *Secret) Public() *PublicKey { return s.public }

// Sign signs a message, read as a stream, as cosign sign-blob does: the result
// is base64 text. The same message and key give the same bytes.
func (s *Secret) Sign(ctx context.Context, message io.Reader) ([]byte, error) {
	d := newDigests(s.public)
	if err := signature.Copy(ctx, d, message); err != nil {
		return nil, fmt.Errorf("cosign: sign: %w", err)
	}
	sig, err := s.sign(d, nil)
	if err != nil {
		return nil, err
	}
	return []byte(base64.StdEncoding.EncodeToString(sig)), nil
}

// signBytes signs a short message; Ed25519 directly where pure is set.
func (s *Secret) signBytes(message []byte, pure bool) ([]byte, error) {
	d := newDigests(s.public)
	d.Write(message)
	if !pure {
		message = nil
	}
	return s.sign(d, message)
}

func (s *Secret) sign(d digests, message []byte) ([]byte, error) {
	var sig []byte
	var err error
	switch key := s.signer().(type) {
	case *ecdsa.PrivateKey: // without randomness: RFC 6979
		h := ecdsaDigests(key.Curve)[0]
		sig, err = key.Sign(nil, d.sum(h), h)
	case ed25519.PrivateKey:
		if message != nil {
			sig = ed25519.Sign(key, message)
		} else {
			sig, err = key.Sign(nil, d.sum(crypto.SHA512), crypto.SHA512)
		}
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, d.sum(crypto.SHA256))
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, errors.New("cosign: the key cannot sign")
	}
	return sig, nil
}
