package edsign_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/edsign"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/signature"
)

// The first two test vectors of RFC 8032 section 7.1.
var vectors = []struct{ seed, public, message, sig string }{
	{
		"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
		"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
	},
	{
		"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
		"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
	},
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	require.NoError(t, err)
	return data
}

func b64(data ...[]byte) []byte {
	return []byte(base64.StdEncoding.EncodeToString(bytes.Join(data, nil)))
}

func TestVectors(t *testing.T) {
	t.Parallel()
	var keys edsign.Keys
	for _, v := range vectors {
		s, err := edsign.ParseSecret(append(b64(unhex(t, v.seed), unhex(t, v.public)), '\n'))
		require.NoError(t, err)
		require.Equal(t, string(b64(unhex(t, v.public))), s.Public())
		sig, err := s.Sign(t.Context(), bytes.NewReader(unhex(t, v.message)))
		require.NoError(t, err)
		require.Equal(t, v.sig, hex.EncodeToString(sig))
		_, err = keys.Verify(t.Context(), bytes.NewReader(unhex(t, v.message)), sig)
		require.ErrorIs(t, err, signature.ErrUnknownKey)
		require.NoError(t, keys.Trust([]byte("\n"+s.Public()+"\n")))
		signer, err := keys.Verify(t.Context(), bytes.NewReader(unhex(t, v.message)), sig)
		require.NoError(t, err)
		require.Equal(t, s.Public(), signer)
		for i := range sig {
			bad := bytes.Clone(sig)
			bad[i] ^= 1
			_, err = keys.Verify(t.Context(), bytes.NewReader(unhex(t, v.message)), bad)
			require.ErrorIs(t, err, signature.ErrSignature)
		}
		_, err = keys.Verify(t.Context(), strings.NewReader("other"), sig)
		require.ErrorIs(t, err, signature.ErrUnknownKey)
	}
	// What is revoked stays so, even if trusted later.
	v := vectors[0]
	require.NoError(t, keys.Revoke(b64(unhex(t, v.public))))
	require.NoError(t, keys.Trust(b64(unhex(t, v.public))))
	_, err := keys.Verify(t.Context(), strings.NewReader(""), unhex(t, v.sig))
	require.ErrorIs(t, err, signature.ErrRevoked)
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	v := vectors[1]
	seed, public := unhex(t, v.seed), unhex(t, v.public)
	for name, text := range map[string][]byte{
		"empty": {}, "short": b64(seed), "long": b64(seed, public, public), "not base64": []byte(strings.Repeat("!", 88)),
		"another's public key": b64(seed, unhex(t, vectors[0].public)),
	} {
		_, err := edsign.ParseSecret(text)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "!!")
	}
	var keys edsign.Keys
	for name, file := range map[string][]byte{
		"short": b64(public[1:]), "long": b64(public, []byte{1}), "not base64": []byte("no key"), "comment": append([]byte("# "), b64(public)...),
		"too large": make([]byte, edsign.MaxKeyFileSize+1), "endless line": bytes.Repeat([]byte("A"), 100000),
	} {
		require.Error(t, keys.Trust(file), name)
		require.Error(t, keys.Revoke(file), name)
	}
	for _, size := range []int{0, 63, 65} {
		_, err := keys.Verify(t.Context(), strings.NewReader(""), make([]byte, size))
		require.ErrorIs(t, err, signature.ErrSignature)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := keys.Verify(ctx, strings.NewReader(""), make([]byte, 64))
	require.ErrorIs(t, err, context.Canceled)
}

func TestMessagesAreBounded(t *testing.T) {
	var keys edsign.Keys
	_, err := keys.Verify(t.Context(), io.LimitReader(zeros{}, edsign.MaxMessageSize+1), make([]byte, 64))
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Nothing of a secret key is in an error or in a print of what holds it.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	v := vectors[0]
	seed, public := unhex(t, v.seed), unhex(t, v.public)
	text := b64(seed, public)
	leaks := func(out string) bool {
		for i := 0; i+6 <= len(seed); i++ {
			w := seed[i : i+6]
			if strings.Contains(out, string(w)) || strings.Contains(out, hex.EncodeToString(w)) || strings.Contains(out, strings.Trim(fmt.Sprint(w), "[]")) {
				return true
			}
		}
		for i := 0; i+8 <= 40; i++ { // base64 of the seed
			if strings.Contains(out, string(text[i:i+8])) {
				return true
			}
		}
		return false
	}
	s, err := edsign.ParseSecret(text)
	require.NoError(t, err)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		require.False(t, leaks(fmt.Sprintf(format, s)), format)
		require.False(t, leaks(fmt.Sprintf(format, *s)), format)
	}
	for i := range text {
		flipped := bytes.Clone(text)
		flipped[i] ^= 0x55
		for _, bad := range [][]byte{flipped, text[:i], append(bytes.Clone(text[:i]), text...)} {
			var keys edsign.Keys
			_, err := edsign.ParseSecret(bad)
			for _, err := range []error{err, keys.Trust(bad)} {
				if err != nil {
					require.False(t, leaks(err.Error()), err.Error())
				}
			}
		}
	}
}

// With these keys and a signature of zeros Go's check is content.
func TestKeysOfSmallOrder(t *testing.T) {
	for _, key := range []string{
		strings.Repeat("00", 31) + "80", "ed" + strings.Repeat("ff", 30) + "7f", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	} {
		require.True(t, ed25519.Verify(unhex(t, key), []byte("m"), make([]byte, 64)))
		var keys edsign.Keys
		require.NoError(t, keys.Trust(b64(unhex(t, key))))
		_, err := keys.Verify(t.Context(), strings.NewReader("m"), make([]byte, 64))
		require.ErrorIs(t, err, signature.ErrUnknownKey, key)
	}
}

func FuzzKeys(f *testing.F) {
	v := vectors[0]
	f.Add([]byte(b64(unhex(f, v.public))))
	f.Add(b64(make([]byte, 31), []byte{0x80}))
	f.Add([]byte("\n\r\n" + string(b64(unhex(f, v.seed), unhex(f, v.public)))))
	f.Fuzz(func(t *testing.T, data []byte) {
		var keys edsign.Keys
		var trustErr error
		fuzzbound.Linear(t, len(data), 64, func() { trustErr = keys.Trust(data) })
		if trustErr == nil {
			_, err := keys.Verify(t.Context(), strings.NewReader("m"), make([]byte, 64))
			require.ErrorIs(t, err, signature.ErrSignature)
		}
		s, err := fuzzbound.Parse(t, 64, edsign.ParseSecret, data)
		if err != nil {
			return
		}
		sig, err := s.Sign(t.Context(), strings.NewReader("m"))
		require.NoError(t, err)
		var own edsign.Keys
		require.NoError(t, own.Trust([]byte(s.Public())))
		_, err = own.Verify(t.Context(), strings.NewReader("m"), sig)
		require.NoError(t, err)
	})
}
