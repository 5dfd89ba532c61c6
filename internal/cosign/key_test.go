package cosign_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"github.com/okd-project/okd-streams/internal/cosign"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/signature"
)

// makeKey makes a key, another one each time but for RSA.
func makeKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	switch kind {
	case "p256", "p384", "p521", "p224":
		curve := map[string]elliptic.Curve{"p224": elliptic.P224(), "p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()}[kind]
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		return key
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		return key
	}
	if kind == "rsa" {
		return rsaKey() // takes its time
	}
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	return key
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

var kinds = []string{"p256", "p384", "p521", "ed25519", "rsa"}

func pkcs8(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func publicPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// protect makes a cosign.key.
func protect(t testing.TB, key crypto.Signer, passphrase, kind string, n int) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	salt, nonce := bytes.Repeat([]byte{1}, 32), [24]byte{2}
	derived, err := scrypt.Key([]byte(passphrase), salt, n, 8, 1, 32)
	require.NoError(t, err)
	sealed := secretbox.Seal(nil, der, &nonce, (*[32]byte)(derived))
	raw, err := json.Marshal(map[string]any{
		"kdf":        map[string]any{"name": "scrypt", "params": map[string]int{"N": n, "r": 8, "p": 1}, "salt": salt},
		"cipher":     map[string]any{"name": "nacl/secretbox", "nonce": nonce[:]},
		"ciphertext": sealed,
	})
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

func given(text string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(text), nil }
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		key := makeKey(t, kind)
		public, err := cosign.ParsePublicKey(publicPEM(t, key))
		require.NoError(t, err)
		files := map[string][]byte{
			"PKCS #8":  pkcs8(t, key),
			"sigstore": protect(t, key, "secret", "ENCRYPTED SIGSTORE PRIVATE KEY", 1<<8),
			"cosign":   protect(t, key, "secret", "ENCRYPTED COSIGN PRIVATE KEY", 1<<8),
		}
		if k, ok := key.(*ecdsa.PrivateKey); ok {
			der, err := x509.MarshalECPrivateKey(k)
			require.NoError(t, err)
			files["SEC 1"] = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
		}
		if k, ok := key.(*rsa.PrivateKey); ok {
			files["PKCS #1"] = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
		}
		var first []byte
		for name, file := range files {
			secret, err := cosign.ParseSecret(file, given("secret"))
			require.NoError(t, err, name)
			require.Equal(t, public.ID(), secret.Public().ID())
			require.Equal(t, publicPEM(t, key), secret.Public().PEM())
			sig, err := secret.Sign(t.Context(), strings.NewReader("message"))
			require.NoError(t, err)
			if first == nil {
				first = sig
			}
			require.Equal(t, first, sig, "the same bytes from each file and each time")
			signer, err := cosign.Verify(t.Context(), strings.NewReader("message"), append(sig, '\n'), public)
			require.NoError(t, err)
			require.Equal(t, public.ID(), signer)
			raw, err := base64.StdEncoding.DecodeString(string(sig))
			require.NoError(t, err)
			_, err = cosign.Verify(t.Context(), strings.NewReader("message"), raw, public)
			require.NoError(t, err)
			for i := 0; i < len(raw); i += 1 + len(raw)/16 {
				bad := bytes.Clone(raw)
				bad[i] ^= 4
				_, err = cosign.Verify(t.Context(), strings.NewReader("message"), bad, public)
				require.ErrorIs(t, err, signature.ErrUnknownKey)
			}
			_, err = cosign.Verify(t.Context(), strings.NewReader("massage"), sig, public)
			require.ErrorIs(t, err, signature.ErrUnknownKey)
		}
		if kind != "ed25519" && kind != "rsa" { // what older versions made with larger curves
			sum := crypto.SHA256.New()
			io.WriteString(sum, "message")
			sig, err := key.Sign(nil, sum.Sum(nil), crypto.SHA256)
			require.NoError(t, err)
			_, err = cosign.Verify(t.Context(), strings.NewReader("message"), sig, public)
			require.NoError(t, err)
		}
	}
}

func TestBadKeys(t *testing.T) {
	key := makeKey(t, "p256")
	good := protect(t, key, "secret", "ENCRYPTED SIGSTORE PRIVATE KEY", 1<<8)
	_, err := cosign.ParseSecret(good, given("guess"))
	require.ErrorContains(t, err, "the passphrase does not open it")
	_, err = cosign.ParseSecret(good, nil)
	require.ErrorContains(t, err, "none is given")
	refused := errors.New("no terminal")
	_, err = cosign.ParseSecret(good, func() ([]byte, error) { return nil, refused })
	require.ErrorIs(t, err, refused)
	pass := []byte("secret")
	_, err = cosign.ParseSecret(good, func() ([]byte, error) { return pass, nil })
	require.NoError(t, err)
	require.Equal(t, make([]byte, 6), pass, "wiped")

	block, _ := pem.Decode(good)
	for name, edit := range map[string]func(string) string{
		"memory":     func(s string) string { return strings.Replace(s, `"N":256`, `"N":1073741824`, 1) },
		"no power":   func(s string) string { return strings.Replace(s, `"N":256`, `"N":257`, 1) },
		"zero":       func(s string) string { return strings.Replace(s, `"N":256`, `"N":0`, 1) },
		"r":          func(s string) string { return strings.Replace(s, `"r":8`, `"r":0`, 1) },
		"r too much": func(s string) string { return strings.Replace(s, `"r":8`, `"r":1000000000`, 1) },
		"p":          func(s string) string { return strings.Replace(s, `"p":1`, `"p":1000000000`, 1) },
		"kdf":        func(s string) string { return strings.Replace(s, `scrypt`, `argon2`, 1) },
		"cipher":     func(s string) string { return strings.Replace(s, `nacl/secretbox`, `rot13`, 1) },
	} {
		file := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: []byte(edit(string(block.Bytes)))})
		require.NotEqual(t, string(good), string(file))
		_, err := cosign.ParseSecret(file, given("secret"))
		require.ErrorIs(t, err, errors.ErrUnsupported, name)
	}
	for name, tc := range map[string]struct {
		file []byte
		want error
	}{
		"not PEM":  {[]byte("key"), nil},
		"two":      {append(bytes.Clone(good), good...), errors.ErrUnsupported},
		"other":    {pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("x")}), errors.ErrUnsupported},
		"garbage":  {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), nil},
		"too long": {make([]byte, cosign.MaxKeySize+1), errors.ErrUnsupported},
		"P-224":    {pkcs8(t, makeKey(t, "p224")), errors.ErrUnsupported},
	} {
		_, err := cosign.ParseSecret(tc.file, given("secret"))
		require.Error(t, err, name)
		if tc.want != nil {
			require.ErrorIs(t, err, tc.want, name)
		}
	}
	_, err = cosign.ParsePublicKey(pkcs8(t, key))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	t.Setenv("GODEBUG", "rsa1024min=0")
	_, err = cosign.ParsePublicKey(publicPEM(t, makeKey(t, "rsa1024")))
	require.ErrorIs(t, err, signature.ErrWeak)
}

// Nothing of a private key is in an error or in a print of what holds it.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		key := makeKey(t, kind)
		file := pkcs8(t, key)
		block, _ := pem.Decode(file)
		public, _ := pem.Decode(publicPEM(t, key))
		leaks := func(text string) string {
			for i := 0; i+6 <= len(block.Bytes); i++ {
				w := block.Bytes[i : i+6]
				for _, form := range []string{string(w), hex.EncodeToString(w), base64.StdEncoding.EncodeToString(w), " " + strings.Trim(fmt.Sprint(w), "[]") + " "} {
					if strings.Contains(strings.ToLower(text), strings.ToLower(form)) && !bytes.Contains(public.Bytes, w) {
						return form
					}
				}
			}
			return ""
		}
		secret, err := cosign.ParseSecret(file, nil)
		require.NoError(t, err)
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			require.Empty(t, leaks(fmt.Sprintf(format, secret)), format)
			require.Empty(t, leaks(fmt.Sprintf(format, *secret)), format)
		}
		texts := make(map[string]bool)
		for i := 0; i < len(block.Bytes); i += 1 + len(block.Bytes)/60 {
			flipped := bytes.Clone(block.Bytes)
			flipped[i] ^= 0x55
			for _, bad := range [][]byte{flipped, block.Bytes[:i]} {
				for _, kind := range []string{"PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"} {
					_, err := cosign.ParseSecret(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bad}), given("x"))
					if err != nil {
						texts[err.Error()] = true
					}
				}
				_, err := cosign.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: bad}))
				if err != nil {
					texts[err.Error()] = true
				}
			}
		}
		for text := range texts {
			require.Empty(t, leaks(text), text)
		}
		require.NotEmpty(t, texts)
	}
}

func FuzzPublicKey(f *testing.F) {
	for _, kind := range kinds {
		f.Add(publicPEM(f, makeKey(f, kind)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := fuzzbound.Parse(t, 64, cosign.ParsePublicKey, data)
		if err != nil {
			return
		}
		again, err := cosign.ParsePublicKey(key.PEM())
		require.NoError(t, err)
		require.Equal(t, key.ID(), again.ID())
		_, err = cosign.Verify(t.Context(), strings.NewReader("m"), []byte("s"), key)
		require.Error(t, err)
	})
}

func FuzzSecret(f *testing.F) {
	for _, kind := range kinds {
		f.Add(pkcs8(f, makeKey(f, kind)))
	}
	f.Add(protect(f, makeKey(f, "p256"), "secret", "ENCRYPTED SIGSTORE PRIVATE KEY", 2))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := fuzzbound.Parse(t, 64, func(data []byte) (*cosign.Secret, error) {
			return cosign.ParseSecret(data, func() ([]byte, error) { return nil, errors.New("refused") })
		}, data)
		if err != nil {
			return
		}
		sig, err := s.Sign(t.Context(), strings.NewReader("m"))
		if err == nil {
			_, err = cosign.Verify(t.Context(), strings.NewReader("m"), sig, s.Public())
			require.NoError(t, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	secret, err := cosign.ParseSecret(pkcs8(b, makeKey(b, "p256")), nil)
	require.NoError(b, err)
	data := make([]byte, 16<<20)
	sig, err := secret.Sign(b.Context(), bytes.NewReader(data))
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_, err := cosign.Verify(b.Context(), bytes.NewReader(data), sig, secret.Public())
		require.NoError(b, err)
	}
}
