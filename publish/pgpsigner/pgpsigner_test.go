package pgpsigner_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

var (
	_ publish.Signer   = (*pgpsigner.Signer)(nil)
	_ publish.Verifier = (*pgpsigner.Verifier)(nil)
)

// on gives noon of so many days after the fixtures' keys were made; they signed
// on day 100, one was revoked on day 200, one expired on day 365.
func on(day int) func() time.Time {
	return func() time.Time { return time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, day) }
}

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return data
}

func passphrase() ([]byte, error) { return []byte("correct horse"), nil }

func TestVerifier(t *testing.T) {
	t.Parallel()
	message := fixture(t, "message")
	for _, tc := range []struct {
		user    string
		day     int
		expired bool
		want    error
	}{
		{"ed", 400, false, nil},
		{"expired", 300, false, nil},
		{"expired", 400, false, publish.ErrExpired},
		{"expired", 400, true, nil},
		{"revoked", 400, true, publish.ErrRevoked},
	} {
		keys, err := pgpsigner.ParseKeyring(fixture(t, tc.user+".asc"))
		require.NoError(t, err)
		v := pgpsigner.NewVerifier(keys, on(tc.day), &pgpsigner.VerifierOptions{ExpiredKeys: tc.expired})
		signer, err := v.Verify(t.Context(), bytes.NewReader(message), fixture(t, tc.user+".message.sig"))
		if tc.want == nil {
			require.NoError(t, err)
			require.Equal(t, keys.Fingerprints()[0], signer)
		} else {
			require.ErrorIs(t, err, tc.want)
			require.ErrorIs(t, err, publish.ErrSignature)
			require.Empty(t, signer)
		}
		all, _ := v.Signatures(t.Context(), bytes.NewReader(message), fixture(t, tc.user+".message.sig"))
		require.Len(t, all, 1)
		require.Equal(t, tc.want == nil, all[0].Err == nil)
	}
	keys, err := pgpsigner.ParseKeyring(fixture(t, "sub.asc"))
	require.NoError(t, err)
	_, err = pgpsigner.NewVerifier(keys, on(100), nil).Verify(t.Context(), bytes.NewReader(message), fixture(t, "ed.message.sig"))
	require.ErrorIs(t, err, publish.ErrUnknownKey)
}

func TestSignerForms(t *testing.T) {
	t.Parallel()
	keys, err := pgpsigner.ParseKeyring(fixture(t, "ed.asc"))
	require.NoError(t, err)
	v := pgpsigner.NewVerifier(keys, on(101), nil)
	for _, form := range []pgpsigner.Form{pgpsigner.Detached, pgpsigner.Armored, pgpsigner.Clear, pgpsigner.Message, pgpsigner.Packed} {
		s, err := pgpsigner.ParseSigner(fixture(t, "ed.secret.asc"), on(100), &pgpsigner.SignerOptions{Form: form, Passphrase: passphrase, Lifetime: 30 * 24 * time.Hour})
		require.NoError(t, err)
		require.Equal(t, keys.Fingerprints()[0], s.Fingerprint())
		signed, err := s.Sign(t.Context(), strings.NewReader("text\n"))
		require.NoError(t, err)
		if form <= pgpsigner.Armored {
			signer, err := v.Verify(t.Context(), strings.NewReader("text\n"), signed)
			require.NoError(t, err)
			require.Equal(t, s.Fingerprint(), signer)
			continue
		}
		content, signer, err := v.Open(t.Context(), bytes.NewReader(signed))
		require.NoError(t, err)
		require.Equal(t, "text\n", string(content))
		require.Equal(t, s.Fingerprint(), signer)
		content, signer, err = pgpsigner.NewVerifier(keys, on(131), nil).Open(t.Context(), bytes.NewReader(signed))
		require.ErrorIs(t, err, publish.ErrExpired)
		require.Nil(t, content)
		require.Empty(t, signer)
	}
	refused := errors.New("no terminal")
	_, err = pgpsigner.ParseSigner(fixture(t, "ed.secret.asc"), on(100), &pgpsigner.SignerOptions{Passphrase: func() ([]byte, error) { return nil, refused }})
	require.ErrorIs(t, err, refused)
	_, err = pgpsigner.ParseSigner(fixture(t, "ed.secret.asc"), on(100), nil)
	require.Error(t, err)
}

func TestReadKeyring(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := pgpsigner.ReadKeyring(os.DirFS(dir))
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, name := range []string{"ed.asc", "sub.asc"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), fixture(t, name), 0o600))
	}
	keys, err := pgpsigner.ReadKeyring(os.DirFS(dir))
	require.NoError(t, err)
	require.Len(t, keys.Fingerprints(), 2)
}
