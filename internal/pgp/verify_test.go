package pgp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/internal/signature"
)

// keyring has the fixtures' public keys.
func keyring(t testing.TB, names ...string) *pgp.Keyring {
	t.Helper()
	var files [][]byte
	for _, name := range names {
		files = append(files, readFixture(t, name))
	}
	k, err := pgp.ParseKeyring(files...)
	require.NoError(t, err)
	return k
}

func verify(t testing.TB, k *pgp.Keyring, message, sig []byte, now time.Time, opts *pgp.VerifyOptions) ([]pgp.Signature, error) {
	t.Helper()
	return k.Verify(t.Context(), bytes.NewReader(message), sig, now, opts)
}

// Signatures are made on day 100; some keys are revoked on day 200 or expire
// on day 365.
func TestVerify(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		user string
		at   int
		want error
	}{
		{"rsa", 400, nil}, {"ed", 400, nil}, {"p256", 400, nil}, {"p384", 400, nil}, {"p521", 400, nil},
		{"sub", 400, nil}, {"subrsa", 400, nil},
		{"expired", 364, nil}, {"expired", 366, signature.ErrExpired},
		{"subexpired", 364, nil}, {"subexpired", 366, signature.ErrExpired},
		{"revoked", 300, signature.ErrRevoked}, {"revoked", 150, signature.ErrRevoked},
		{"subrevoked", 300, signature.ErrRevoked}, {"subrevoked", 150, signature.ErrRevoked},
	} {
		for _, ext := range []string{".asc", ".pgp"} {
			message, sig := readFixture(t, "message"), readFixture(t, tc.user+".message.sig")
			k := keyring(t, tc.user+ext)
			all, err := verify(t, k, message, sig, day(tc.at), nil)
			require.Len(t, all, 1)
			got := all[0]
			require.Equal(t, day(100), got.Created)
			require.Equal(t, k.Fingerprints()[0], got.Primary)
			require.Equal(t, strings.HasPrefix(tc.user, "sub"), got.Fingerprint != got.Primary, "signed by the subkey")
			require.True(t, strings.HasSuffix(got.Fingerprint, got.KeyID))
			require.Equal(t, []string{userID(tc.user)}, got.UserIDs)
			require.False(t, got.Text)
			if tc.want == nil {
				require.NoError(t, err)
				require.NoError(t, got.Err)
			} else {
				require.ErrorIs(t, err, tc.want)
				require.ErrorIs(t, got.Err, tc.want)
				require.ErrorIs(t, err, signature.ErrSignature)
			}
			if strings.Contains(tc.user, "expired") {
				require.Equal(t, day(365), got.KeyExpires.UTC())
			}

			// A changed message is another one, whatever else is wrong.
			message[0] ^= 1
			_, err = verify(t, k, message, sig, day(tc.at), nil)
			require.ErrorIs(t, err, signature.ErrSignature)
			require.ErrorContains(t, err, "does not fit the message")
		}
	}
}

func TestVerifyExpiredKeysIfAskedFor(t *testing.T) {
	t.Parallel()
	opts := &pgp.VerifyOptions{ExpiredKeys: true}
	message := readFixture(t, "message")
	for _, user := range []string{"expired", "subexpired"} {
		_, err := verify(t, keyring(t, user+".asc"), message, readFixture(t, user+".message.sig"), day(900), opts)
		require.NoError(t, err)
	}
	for _, user := range []string{"revoked", "subrevoked"} {
		_, err := verify(t, keyring(t, user+".asc"), message, readFixture(t, user+".message.sig"), day(900), opts)
		require.ErrorIs(t, err, signature.ErrRevoked)
	}
}

func TestVerifyUnknownKey(t *testing.T) {
	t.Parallel()
	unread := iotest.ErrReader(errors.New("read"))
	all, err := keyring(t, "rsa.asc").Verify(t.Context(), unread, readFixture(t, "ed.message.sig"), day(100), nil)
	require.ErrorIs(t, err, signature.ErrUnknownKey)
	require.Len(t, all, 1)
	require.NotEmpty(t, all[0].KeyID)
	require.Empty(t, all[0].Fingerprint)
}

func TestVerifySeveralSignatures(t *testing.T) {
	t.Parallel()
	message := readFixture(t, "message")
	revoked, good, unknown := readFixture(t, "revoked.message.sig"), readFixture(t, "ed.message.sig"), readFixture(t, "rsa.message.sig")
	sig := bytes.Join([][]byte{revoked, good, unknown}, nil)
	k := keyring(t, "ed.asc", "revoked.asc")
	all, err := verify(t, k, message, sig, day(300), nil)
	require.NoError(t, err, "one good one is enough")
	require.Len(t, all, 3)
	require.ErrorIs(t, all[0].Err, signature.ErrRevoked)
	require.NoError(t, all[1].Err)
	require.ErrorIs(t, all[2].Err, signature.ErrUnknownKey)

	all, err = verify(t, k, message, append(bytes.Clone(revoked), unknown...), day(300), nil)
	require.ErrorIs(t, err, signature.ErrRevoked)
	require.ErrorIs(t, err, signature.ErrUnknownKey)
	require.Len(t, all, 2)

	_, err = verify(t, k, message, bytes.Repeat(good, 65), day(300), nil)
	require.ErrorContains(t, err, "more than 64 signatures")
	_, err = verify(t, k, message, bytes.Repeat(good, 64), day(300), nil)
	require.NoError(t, err)
}

// What a key says elsewhere counts too: its revocation in another file.
func TestKeyringsAreMerged(t *testing.T) {
	t.Parallel()
	message, sig := readFixture(t, "message"), readFixture(t, "revoked.message.sig")
	secret := readFixture(t, "revoked.secret.asc") // as it was before
	fresh := publicOf(t, secret)
	_, err := verify(t, mustParse(t, fresh), message, sig, day(300), nil)
	require.NoError(t, err)
	for _, files := range [][][]byte{
		{fresh, readFixture(t, "revoked.asc")},
		{readFixture(t, "revoked.pgp"), fresh},
		{append(bytes.Clone(fresh), readFixture(t, "revoked.pgp")...)},
	} {
		k := mustParse(t, files...)
		require.Len(t, k.Fingerprints(), 1)
		_, err = verify(t, k, message, sig, day(300), nil)
		require.ErrorIs(t, err, signature.ErrRevoked)
	}
}

func mustParse(t testing.TB, files ...[]byte) *pgp.Keyring {
	t.Helper()
	k, err := pgp.ParseKeyring(files...)
	require.NoError(t, err)
	return k
}

func TestKeyringFiles(t *testing.T) {
	t.Parallel()
	all := []string{"rsa", "ed", "p256", "sub"}
	var armored, binary []byte
	dir := fstest.MapFS{".hidden": {Data: []byte("no key")}, "sub": {Mode: fs.ModeDir}}
	for _, name := range all {
		armored = append(armored, readFixture(t, name+".asc")...)
		binary = append(binary, readFixture(t, name+".pgp")...)
		dir[name+".asc"] = &fstest.MapFile{Data: readFixture(t, name+".asc")}
	}
	require.Len(t, mustParse(t, armored).Fingerprints(), len(all), "several blocks in one file")
	require.Equal(t, mustParse(t, armored).Fingerprints(), mustParse(t, binary).Fingerprints())
	k, err := pgp.ReadKeyring(dir)
	require.NoError(t, err)
	require.ElementsMatch(t, mustParse(t, armored).Fingerprints(), k.Fingerprints())

	dir["notes.txt"] = &fstest.MapFile{Data: []byte("keys of the release team")}
	_, err = pgp.ReadKeyring(dir)
	require.ErrorContains(t, err, "notes.txt")
	require.ErrorIs(t, err, signature.ErrSignature)
	_, err = pgp.ReadKeyring(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = pgp.ReadKeyring(os.DirFS("testdata/nowhere"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = pgp.ParseKeyring(append(make([]byte, 8), "KBXf0123"...))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = pgp.ParseKeyring(readFixture(t, "ed.secret.asc"))
	require.ErrorIs(t, err, signature.ErrSignature, "a secret key where a public one should be")
	_, err = pgp.ParseKeyring(make([]byte, pgp.MaxKeyringSize+1))
	require.ErrorContains(t, err, "more than")
	_, err = pgp.ParseKeyring(readFixture(t, "ed.message.gpg"))
	require.ErrorContains(t, err, "a message where there should be keys")
}

// Every form gpg makes, and what it says.
func TestOpen(t *testing.T) {
	t.Parallel()
	message := readFixture(t, "message")
	k := keyring(t, "ed.asc")
	for _, form := range forms {
		signed := readFixture(t, "ed.message."+form.name)
		if strings.Contains(strings.Join(form.args, " "), "detach") {
			all, err := verify(t, k, message, signed, day(100), nil)
			require.NoError(t, err, form.name)
			require.Equal(t, strings.HasPrefix(form.name, "text"), all[0].Text)
			_, _, err = k.Open(t.Context(), bytes.NewReader(signed), day(100), nil)
			require.ErrorIs(t, err, signature.ErrSignature, form.name)
			continue
		}
		content, all, err := k.Open(t.Context(), bytes.NewReader(signed), day(100), nil)
		require.NoError(t, err, form.name)
		want := string(message)
		switch form.name {
		case "clear":
			want = strings.ReplaceAll(want, "  \t\n", "\n")
		case "text.gpg":
			want = strings.ReplaceAll(want, "\n", "\r\n")
		}
		require.Equal(t, want, string(content), form.name)
		require.Len(t, all, 1)

		_, _, err = k.Open(t.Context(), bytes.NewReader(signed), day(100), &pgp.OpenOptions{Packets: true})
		require.Equal(t, form.name != "clear" && form.name != "armored.gpg", err == nil, form.name)
		_, _, err = keyring(t, "rsa.asc").Open(t.Context(), bytes.NewReader(signed), day(100), nil)
		require.ErrorIs(t, err, signature.ErrUnknownKey)
		_, _, err = k.Open(t.Context(), bytes.NewReader(append(bytes.Clone(signed), signed...)), day(100), nil)
		require.Error(t, err, "%s twice", form.name)
		content, _, err = k.Open(t.Context(), bytes.NewReader(signed), day(100), &pgp.OpenOptions{MaxSize: int64(len(want)) - 1})
		require.ErrorContains(t, err, "holds more than", form.name)
		require.Nil(t, content)
		_, _, err = k.Open(t.Context(), bytes.NewReader(signed), day(100), &pgp.OpenOptions{MaxSize: int64(len(want))})
		require.NoError(t, err)
		_, err = verify(t, k, message, signed, day(100), nil)
		require.ErrorIs(t, err, signature.ErrSignature, "not a detached signature")
		for cut := range len(signed) - 1 {
			content, _, err = k.Open(t.Context(), bytes.NewReader(signed[:cut]), day(100), nil)
			// The checksum and last line of armour may be missing.
			if err == nil && bytes.Contains(signed, []byte("-----")) {
				require.Greater(t, cut, len(signed)-40)
				continue
			}
			require.Error(t, err, "%s cut at %d of %d", form.name, cut, len(signed))
			require.Nil(t, content)
		}
	}
}

// No bit of a signed message can change without notice, but in what is not
// signed: the head of the content and the structure around it.
func TestOpenFlippedBits(t *testing.T) {
	t.Parallel()
	k := keyring(t, "ed.asc")
	message := readFixture(t, "message")
	signed := readFixture(t, "ed.message.plain.gpg")
	for i := range len(signed) * 8 {
		bad := bytes.Clone(signed)
		bad[i/8] ^= 1 << (i % 8)
		content, _, err := k.Open(t.Context(), bytes.NewReader(bad), day(100), nil)
		if err == nil {
			require.Equal(t, message, content)
		} else {
			require.ErrorIs(t, err, signature.ErrSignature, "bit %d", i)
			require.Nil(t, content)
		}
	}
}

func TestVerifyFlippedBits(t *testing.T) {
	t.Parallel()
	k := keyring(t, "rsa.asc", "ed.asc")
	message := readFixture(t, "message")
	for _, name := range []string{"rsa", "ed"} {
		sig := readFixture(t, name+".message.sig")
		passed := 0
		for i := range len(sig) * 8 {
			bad := bytes.Clone(sig)
			bad[i/8] ^= 1 << (i % 8)
			if _, err := verify(t, k, message, bad, day(100), nil); err == nil {
				passed++ // the unhashed issuer, the hash's first two bytes
			} else {
				require.ErrorIs(t, err, signature.ErrSignature)
			}
		}
		require.Less(t, passed, 10*8+16+8, name)
	}
}

// One keyring serves any number of goroutines.
func TestKeyringIsShared(t *testing.T) {
	t.Parallel()
	message, sig := readFixture(t, "message"), readFixture(t, "subrsa.message.sig")
	k := keyring(t, "subrsa.asc", "revoked.asc")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := k.Verify(t.Context(), bytes.NewReader(message), sig, day(100), nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestVerifyStopsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	_, err := keyring(t, "ed.asc").Verify(ctx, endless, readFixture(t, "ed.message.sig"), day(100), nil)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, signature.ErrSignature)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestVerifyPassesReadErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	_, err := keyring(t, "ed.asc").Verify(t.Context(), io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken)), readFixture(t, "ed.message.sig"), day(100), nil)
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, signature.ErrSignature)
}
