package edsign

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/okd-project/okd-streams/internal/signature"
)

// MaxMessageSize bounds a message, which Ed25519 needs as a whole, in bytes.
// Commits and summaries are much smaller.
const MaxMessageSize = 64 << 20

// MaxKeyFileSize bounds a file of keys, in bytes.
const MaxKeyFileSize = 1 << 20

// Keys are public keys that are trusted, and those among them that no longer
// are: what is revoked counts for nothing, wherever else it stands.
type Keys struct {
	trusted, revoked [][]byte
}

// Trust adds the keys of a file: base64 of 32 bytes, one a line. Empty lines
// are passed over.
func (k *Keys) Trust(file []byte) error { return read(&k.trusted, file) }

// Revoke takes the keys of a file out for good.
func (k *Keys) Revoke(file []byte) error { return read(&k.revoked, file) }

func read(into *[][]byte, file []byte) error {
	if len(file) > MaxKeyFileSize {
		return fmt.Errorf("ed25519: key file of more than %d bytes: %w", MaxKeyFileSize, errors.ErrUnsupported)
	}
	lines := bufio.NewScanner(bytes.NewReader(file))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		key, err := decode(line, ed25519.PublicKeySize)
		if err != nil {
			return fmt.Errorf("ed25519: public key in line %d: %w", n, err)
		}
		*into = append(*into, key)
	}
	if lines.Err() != nil {
		return errors.New("ed25519: key file has a line that is no key")
	}
	return nil
}

// decode reads base64 of so many bytes; its errors hold nothing of it.
func decode(text []byte, size int) ([]byte, error) {
	if len(text) > base64.StdEncoding.EncodedLen(size) {
		return nil, fmt.Errorf("more than %d bytes in base64", size)
	}
	key, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return nil, errors.New("not base64")
	}
	if len(key) != size {
		return nil, fmt.Errorf("%d bytes, want %d", len(key), size)
	}
	return key, nil
}

// Verify checks a signature of a message and gives the key that made it, in
// base64.
func (k *Keys) Verify(ctx context.Context, message io.Reader, sig []byte) (string, error) {
	if len(sig) != ed25519.SignatureSize {
		return "", fmt.Errorf("ed25519: signature of %d bytes, want %d: %w", len(sig), ed25519.SignatureSize, signature.ErrSignature)
	}
	data, err := readMessage(ctx, message)
	if err != nil {
		return "", fmt.Errorf("ed25519: verify: %w", err)
	}
	fits := func(key []byte) bool { return !smallOrder(key) && ed25519.Verify(key, data, sig) }
	if i := slices.IndexFunc(k.revoked, fits); i >= 0 {
		return "", fmt.Errorf("ed25519: signature by %s: %w", base64.StdEncoding.EncodeToString(k.revoked[i]), signature.ErrRevoked)
	}
	i := slices.IndexFunc(k.trusted, fits)
	if i < 0 {
		return "", fmt.Errorf("ed25519: signature fits none of %d keys: %w", len(k.trusted), signature.ErrUnknownKey)
	}
	return base64.StdEncoding.EncodeToString(k.trusted[i]), nil
}

// smallOrder tells the keys that are points of small order, however they are spelled.
// Anyone can sign for such a key: 64 zeros are a signature of many a message. Go takes
// them; libsodium, which libostree has, does not.
func smallOrder(key []byte) bool {
	y := bytes.Clone(key)
	y[len(y)-1] &= 0x7f // the sign of x
	switch hex.EncodeToString(y) {
	case "0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f":
		return true
	}
	return false
}

func readMessage(ctx context.Context, message io.Reader) ([]byte, error) {
	var buf bytes.Buffer
	if err := signature.Copy(ctx, &buf, io.LimitReader(message, MaxMessageSize+1)); err != nil {
		return nil, err
	}
	if buf.Len() > MaxMessageSize {
		return nil, fmt.Errorf("message of more than %d bytes: %w", MaxMessageSize, errors.ErrUnsupported)
	}
	return buf.Bytes(), nil
}

// Secret is a secret key. The key itself is where no print, log or error finds
// it. It may be used from any goroutine.
type Secret struct{ key func() ed25519.PrivateKey }

// ParseSecret reads a secret key: base64 of 64 bytes, seed and public key, with
// or without white space around it.
func ParseSecret(text []byte) (*Secret, error) {
	raw, err := decode(bytes.TrimSpace(text), ed25519.PrivateKeySize)
	if err != nil {
		return nil, fmt.Errorf("ed25519: secret key: %w", err)
	}
	key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if !bytes.Equal(key, raw) { // signing for another public key gives the secret one away
		return nil, errors.New("ed25519: secret key: its halves do not belong together")
	}
	return &Secret{func() ed25519.PrivateKey { return key }}, nil
}

// Public is the public key, base64.
func (s *Secret) Public() string {
	return base64.StdEncoding.EncodeToString(s.key()[ed25519.SeedSize:])
}

// Sign gives the 64 bytes that sign a message.
func (s *Secret) Sign(ctx context.Context, message io.Reader) ([]byte, error) {
	data, err := readMessage(ctx, message)
	if err != nil {
		return nil, fmt.Errorf("ed25519: sign: %w", err)
	}
	return ed25519.Sign(s.key(), data), nil
}
