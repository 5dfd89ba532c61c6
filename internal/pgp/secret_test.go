package pgp_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/internal/signature"
)

func pass() ([]byte, error) { return []byte(passphrase), nil }

func secret(t testing.TB, name, key string) *pgp.Secret {
	t.Helper()
	s, err := pgp.ParseSecret(readFixture(t, name), &pgp.SecretOptions{Passphrase: pass, Key: key})
	require.NoError(t, err)
	return s
}

// publicOf makes the public key of a secret one.
func publicOf(t testing.TB, data []byte) []byte {
	t.Helper()
	block, err := armor.Decode(bytes.NewReader(data))
	require.NoError(t, err)
	var out bytes.Buffer
	for r := packet.NewReader(block.Body); ; {
		p, err := r.Next()
		if err != nil {
			return out.Bytes()
		}
		switch p := p.(type) {
		case *packet.PrivateKey:
			require.NoError(t, p.PublicKey.Serialize(&out))
		case interface{ Serialize(w *bytes.Buffer) error }:
			require.NoError(t, p.Serialize(&out))
		case *packet.UserId:
			require.NoError(t, p.Serialize(&out))
		case *packet.Signature:
			require.NoError(t, p.Serialize(&out))
		}
	}
}

// Each kind of key signs in each form; what it signs verifies, and is the same
// every time.
func TestSign(t *testing.T) {
	t.Parallel()
	message := readFixture(t, "message")
	for _, u := range users {
		s := secret(t, u.name+".secret.asc", "")
		k := mustParse(t, publicOf(t, readFixture(t, u.name+".secret.asc")))
		require.Equal(t, k.Fingerprints()[0], s.Fingerprint())
		for form := pgp.Detached; form <= pgp.Packed; form++ {
			signed, err := s.Sign(t.Context(), bytes.NewReader(message), form, day(100), nil)
			require.NoError(t, err)
			again, err := s.Sign(t.Context(), bytes.NewReader(message), form, day(100), nil)
			require.NoError(t, err)
			require.Equal(t, signed, again, "the same bytes")
			var all []pgp.Signature
			if form <= pgp.Armored {
				all, err = verify(t, k, message, signed, day(101), nil)
			} else {
				var content []byte
				content, all, err = k.Open(t.Context(), bytes.NewReader(signed), day(101), nil)
				if form == pgp.Clear {
					require.Equal(t, strings.ReplaceAll(string(message), "  \t\n", "\n"), string(content))
				} else {
					require.Equal(t, string(message), string(content))
				}
			}
			require.NoError(t, err, "%s form %d", u.name, form)
			require.Equal(t, day(100), all[0].Created)
			require.Equal(t, u.sub != "", all[0].Fingerprint != all[0].Primary, "the subkey is preferred")
		}
	}
}

func TestSignLifetime(t *testing.T) {
	t.Parallel()
	s, k := secret(t, "ed.secret.asc", ""), keyring(t, "ed.asc")
	signed, err := s.Sign(t.Context(), strings.NewReader("m"), pgp.Detached, day(100), &pgp.SignOptions{Lifetime: time.Hour})
	require.NoError(t, err)
	all, err := verify(t, k, []byte("m"), signed, day(100).Add(time.Hour-time.Second), nil)
	require.NoError(t, err)
	require.Equal(t, day(100).Add(time.Hour), all[0].Expires)
	_, err = verify(t, k, []byte("m"), signed, day(100).Add(time.Hour), nil)
	require.ErrorIs(t, err, signature.ErrExpired)
	for _, bad := range []time.Duration{-time.Second, time.Millisecond, 137 * 366 * 24 * time.Hour} {
		_, err = s.Sign(t.Context(), strings.NewReader("m"), pgp.Detached, day(100), &pgp.SignOptions{Lifetime: bad})
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
}

// Which key of a file signs.
func TestSigningKey(t *testing.T) {
	t.Parallel()
	both := append(readFixture(t, "ed.secret.asc"), readFixture(t, "sub.secret.asc")...)
	_, err := pgp.ParseSecret(both, &pgp.SecretOptions{Passphrase: pass})
	require.ErrorContains(t, err, "several keys")
	for _, name := range []string{"ed", "sub"} {
		want := keyring(t, name+".asc").Fingerprints()[0]
		s, err := pgp.ParseSecret(both, &pgp.SecretOptions{Passphrase: pass, Key: strings.ToLower(want)})
		require.NoError(t, err)
		require.Equal(t, want, s.Fingerprint())
		_, err = s.Sign(t.Context(), strings.NewReader("m"), pgp.Detached, day(100), nil)
		require.NoError(t, err)
	}
	_, err = pgp.ParseSecret(both, &pgp.SecretOptions{Passphrase: pass, Key: strings.Repeat("0", 40)})
	require.ErrorIs(t, err, signature.ErrUnknownKey)

	// The secret part of the primary key may be elsewhere.
	s := secret(t, "sub.only.secret.asc", "")
	sig, err := s.Sign(t.Context(), strings.NewReader("m"), pgp.Detached, day(100), nil)
	require.NoError(t, err)
	all, err := verify(t, keyring(t, "sub.asc"), []byte("m"), sig, day(100), nil)
	require.NoError(t, err)
	// One subkey can be asked for.
	s = secret(t, "sub.secret.asc", all[0].Fingerprint)
	_, err = s.Sign(t.Context(), strings.NewReader("m"), pgp.Detached, day(100), nil)
	require.NoError(t, err)

	for _, tc := range []struct {
		name string
		at   int
		want error
	}{
		{"expired", 364, nil}, {"expired", 366, signature.ErrExpired}, {"subexpired", 366, nil}, // its primary key only certifies, see below
		{"ed", -1, signature.ErrSignature},
	} {
		if tc.name == "subexpired" {
			tc.want = signature.ErrSignature
		}
		_, err := secret(t, tc.name+".secret.asc", "").Sign(t.Context(), strings.NewReader("m"), pgp.Detached, day(tc.at), nil)
		if tc.want == nil {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, tc.want, tc.name)
		}
	}
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	data := readFixture(t, "sub.secret.asc")
	calls := 0
	given := []byte(passphrase)
	_, err := pgp.ParseSecret(data, &pgp.SecretOptions{Passphrase: func() ([]byte, error) { calls++; return given, nil }})
	require.NoError(t, err)
	require.Equal(t, 1, calls, "once, though two keys are protected")
	require.Equal(t, make([]byte, len(given)), given, "wiped")

	_, err = pgp.ParseSecret(data, nil)
	require.ErrorContains(t, err, "protected by a passphrase, and none is given")
	_, err = pgp.ParseSecret(data, &pgp.SecretOptions{Passphrase: func() ([]byte, error) { return []byte("guess"), nil }})
	require.ErrorContains(t, err, "the passphrase does not open it")
	require.NotContains(t, err.Error(), "guess")
	refused := errors.New("no terminal")
	_, err = pgp.ParseSecret(data, &pgp.SecretOptions{Passphrase: func() ([]byte, error) { return nil, refused }})
	require.ErrorIs(t, err, refused)
	_, err = pgp.ParseSecret(readFixture(t, "sub.asc"), nil)
	require.Error(t, err, "a public key")
}

func TestClearText(t *testing.T) {
	t.Parallel()
	s, k := secret(t, "ed.secret.asc", ""), keyring(t, "ed.asc")
	for text, want := range map[string]string{
		"":                              "\n",
		"\n":                            "\n",
		"a":                             "a\n",
		"a\n":                           "a\n",
		"a\n\n":                         "a\n\n",
		"a\r\nb \t\n":                   "a\nb\n",
		"-----BEGIN PGP SIGNATURE-----": "-----BEGIN PGP SIGNATURE-----\n",
		"- a\nFrom b\n  c\n":            "- a\nFrom b\n  c\n",
		"größe\n":                       "größe\n",
	} {
		signed, err := s.Sign(t.Context(), strings.NewReader(text), pgp.Clear, day(100), nil)
		require.NoError(t, err)
		content, _, err := k.Open(t.Context(), bytes.NewReader(signed), day(100), nil)
		require.NoError(t, err, "%q", text)
		require.Equal(t, want, string(content))

		for _, bad := range []string{
			"before\n" + string(signed),
			string(signed) + "after\n",
			strings.Replace(string(signed), "Hash: SHA256\n", "Hash: SHA256\nComment: looks signed\n", 1),
			strings.Replace(string(signed), "Hash: SHA256\n\n", "Hash: SHA256\n \nadded\n", 1),
			strings.Replace(string(signed), "\n-----BEGIN PGP SIGNATURE", "\nadded\n-----BEGIN PGP SIGNATURE", 1),
			strings.Replace(string(signed), "-----END PGP SIGNATURE-----", "-----END PGP SIGNATURE----- after", 1),
		} {
			content, _, err := k.Open(t.Context(), strings.NewReader(bad), day(100), nil)
			require.ErrorIs(t, err, signature.ErrSignature, "%q", bad)
			require.Nil(t, content)
		}
	}
	for _, bad := range []string{"\x00", "\xff", "\x1b[2J"} {
		_, err := s.Sign(t.Context(), strings.NewReader(bad), pgp.Clear, day(100), nil)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	_, err := s.Sign(t.Context(), bytes.NewReader(make([]byte, pgp.MaxMessageSize+1)), pgp.Message, day(100), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	signed, err := s.Sign(t.Context(), bytes.NewReader(make([]byte, pgp.MaxMessageSize)), pgp.Packed, day(100), nil)
	require.NoError(t, err)
	_, _, err = k.Open(t.Context(), bytes.NewReader(signed), day(100), nil)
	require.NoError(t, err)
	_, err = s.Sign(t.Context(), strings.NewReader("m"), pgp.Form(9), day(100), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// Nothing of a secret key is in an error or in a print of what holds it:
// neither as it is nor as hexadecimal, base64 or decimal.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"rsa", "ed", "p256", "sub"} {
		data := readFixture(t, name+".secret.asc")
		block, err := armor.Decode(bytes.NewReader(data))
		require.NoError(t, err)
		var raw bytes.Buffer
		_, err = raw.ReadFrom(block.Body)
		require.NoError(t, err)
		public := publicOf(t, data) // holds the fingerprints, too
		seen := make(map[string]bool)
		leaks := func(text string) string {
			if seen[text] {
				return ""
			}
			seen[text] = true
			lower := strings.ToLower(text)
			for i := 0; i+8 <= raw.Len(); i++ {
				w := raw.Bytes()[i : i+8]
				for _, form := range []string{string(w), base64.StdEncoding.EncodeToString(w)[:8], strings.Trim(fmt.Sprint(w), "[]"), hex.EncodeToString(w)} {
					if strings.Contains(text, form) || strings.Contains(lower, form) {
						if !bytes.Contains(public, w) {
							return form
						}
					}
				}
			}
			return ""
		}
		s := secret(t, name+".secret.asc", "")
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			require.Empty(t, leaks(fmt.Sprintf(format, s)), format)
			require.Empty(t, leaks(fmt.Sprintf(format, *s)), format)
		}
		for i := 0; i < raw.Len(); i += 1 + raw.Len()/12 { // broken keys
			for _, bad := range [][]byte{raw.Bytes()[:i], flip(raw.Bytes(), i)} {
				s, err := pgp.ParseSecret(bad, &pgp.SecretOptions{Passphrase: pass})
				if err == nil {
					_, err = s.Sign(t.Context(), strings.NewReader("m"), pgp.Detached, day(100), nil)
				}
				if err != nil {
					require.Empty(t, leaks(err.Error()), err.Error())
				}
			}
		}
		require.Greater(t, len(seen), 5)
	}
}

func flip(data []byte, i int) []byte {
	out := bytes.Clone(data)
	out[i] ^= 0x55
	return out
}
