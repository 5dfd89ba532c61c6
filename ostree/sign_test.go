package ostree_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/ed25519signer"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

var (
	_ ostree.Signer = publish.Signer(nil)
	_ ostree.Signer = (*pgpsigner.Signer)(nil)
	_ ostree.Signer = (*ed25519signer.Signer)(nil)
)

// The keys of internal/pgp's fixtures were made on day 0, signed on day 100;
// some were revoked on day 200 or expire on day 365.
func keyDay(n int) time.Time { return time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, n) }

func pgpFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "internal", "pgp", "testdata", name))
	require.NoError(t, err)
	return data
}

func pgpKey(t testing.TB, user string, at time.Time, opts pgpsigner.SignerOptions) *pgpsigner.Signer {
	t.Helper()
	opts.Passphrase = func() ([]byte, error) { return []byte("correct horse"), nil }
	s, err := pgpsigner.ParseSigner(pgpFile(t, user+".secret.asc"), func() time.Time { return at }, &opts)
	require.NoError(t, err)
	return s
}

// edKey is a key of nothing but n.
func edKey(t testing.TB, n byte) *ed25519signer.Signer {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	s, err := ed25519signer.ParseSigner([]byte(base64.StdEncoding.EncodeToString(key)))
	require.NoError(t, err)
	return s
}

func verifier(t testing.TB, files ostree.KeyFiles) *ostree.Verifier {
	t.Helper()
	v, err := ostree.ParseVerifier(files)
	require.NoError(t, err)
	return v
}

// signerFunc is a function as a signer.
type signerFunc func(ctx context.Context, message io.Reader) ([]byte, error)

func (f signerFunc) Sign(ctx context.Context, message io.Reader) ([]byte, error) {
	return f(ctx, message)
}

func stored(sig []byte) ostree.Signer {
	return signerFunc(func(context.Context, io.Reader) ([]byte, error) { return sig, nil })
}

// unsigned is a commit with some detached metadata.
func unsigned(t testing.TB, r *ostree.Repo) ostree.Checksum {
	t.Helper()
	c, err := r.Commit(t.Context(), literal(dir("."), file("a", "content")), &ostree.CommitOptions{Ref: "os", Detached: []ostree.MetadataItem{
		{Key: "z", Value: ostree.StringVariant("kept")}, {Key: "a", Value: ostree.Uint64Variant(7)}}})
	require.NoError(t, err)
	return c
}

func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes() {
		r := newRepo(t, mode)
		c := unsigned(t, r)
		before, err := r.ReadMetadata(t.Context(), c)
		require.NoError(t, err)
		for _, user := range []string{"rsa", "ed", "p256", "p384", "p521", "sub", "subrsa"} {
			require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, pgpKey(t, user, keyDay(100), pgpsigner.SignerOptions{})), user)
		}
		ed := edKey(t, 1)
		require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, ed))

		after, err := r.ReadMetadata(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, before, after[:2])
		require.Len(t, after, 4)
		list, err := r.Signatures(t.Context(), c)
		require.NoError(t, err)
		require.Len(t, list, 8)

		for _, user := range []string{"rsa", "ed", "p256", "p384", "p521", "sub", "subrsa"} {
			verdicts, err := r.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{GPG: [][]byte{pgpFile(t, user+".asc")}}), keyDay(150))
			require.NoError(t, err, user)
			require.Len(t, verdicts, 8)
			good := 0
			for i, v := range verdicts {
				require.Equal(t, list[i], v.Signature)
				if v.Err != nil {
					require.ErrorIs(t, v.Err, ostree.ErrUnknownKey)
					require.Empty(t, v.UserIDs)
					continue
				}
				good++
				require.Equal(t, []string{user + " <" + user + "@example.com>"}, v.UserIDs)
				require.True(t, v.Created.Equal(keyDay(100)))
				require.NotEmpty(t, v.Signer)
				require.Equal(t, strings.HasPrefix(user, "sub"), v.Signer != v.Fingerprint)
			}
			require.Equal(t, 1, good)
		}
		verdicts, err := r.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(ed.Public())}}), time.Time{})
		require.NoError(t, err)
		require.Equal(t, ed.Public(), verdicts[7].Signer)
		require.NoError(t, r.Fsck(t.Context(), nil))
		noLitter(t, r)
	}
}

// noLitter checks that nothing is left in tmp/.
func noLitter(t testing.TB, r *ostree.Repo) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(r.Path(), "tmp", "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(r.Path(), "tmp", "cache")}, names)
}

// TestVerdicts signs with keys that were revoked or expired since.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	c := unsigned(t, r)
	for _, tc := range []struct {
		user   string
		keys   string
		signed int
		day    int
		want   error
	}{
		{"ed", "ed.asc", 100, 100, nil},
		{"ed", "ed.pgp", 100, 4000, nil},
		{"ed", "p256.asc", 100, 150, ostree.ErrUnknownKey},
		{"ed", "ed.asc", 100, -1, ostree.ErrSignature}, // the key is made later
		{"expired", "expired.asc", 100, 364, nil},
		{"expired", "expired.asc", 100, 366, ostree.ErrExpired},
		{"subexpired", "subexpired.asc", 100, 364, nil},
		{"subexpired", "subexpired.pgp", 100, 366, ostree.ErrExpired},
		{"revoked", "revoked.asc", 100, 150, ostree.ErrRevoked},
		{"subrevoked", "subrevoked.pgp", 100, 250, ostree.ErrRevoked},
	} {
		name := fmt.Sprintf("%s by %s on day %d", tc.user, tc.keys, tc.day)
		require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, pgpKey(t, tc.user, keyDay(tc.signed), pgpsigner.SignerOptions{})))
		verdicts, err := r.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{GPG: [][]byte{pgpFile(t, tc.keys)}}), keyDay(tc.day))
		require.Len(t, verdicts, 1)
		if tc.want == nil {
			require.NoError(t, err, name)
			require.NoError(t, verdicts[0].Err, name)
		} else {
			require.ErrorIs(t, err, tc.want, name)
			require.ErrorIs(t, err, ostree.ErrSignature, name)
			require.ErrorIs(t, verdicts[0].Err, tc.want, name)
			var e *ostree.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "verify", e.Op)
			require.Contains(t, err.Error(), verdicts[0].KeyID)
		}
		n, err := r.RemoveSignatures(t.Context(), c, func(ostree.Signature) bool { return true })
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	// A signature that expires by itself.
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, pgpKey(t, "ed", keyDay(100), pgpsigner.SignerOptions{Lifetime: 24 * time.Hour})))
	v := verifier(t, ostree.KeyFiles{GPG: [][]byte{pgpFile(t, "ed.asc")}})
	verdicts, err := r.Verify(t.Context(), c, v, keyDay(100))
	require.NoError(t, err)
	require.True(t, verdicts[0].Expires.Equal(keyDay(101)))
	_, err = r.Verify(t.Context(), c, v, keyDay(102))
	require.ErrorIs(t, err, ostree.ErrExpired)
}

// TestRequire is about which signatures a commit must have.
func TestRequire(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeBareUser)
	a, b := edKey(t, 1), edKey(t, 2)
	gpg, pubA, pubB := pgpFile(t, "ed.asc"), []byte(a.Public()), []byte(b.Public()+"\n")
	other := pgpFile(t, "rsa.asc")
	for i, tc := range []struct {
		name   string
		gpg    bool
		ed     bool
		keys   ostree.KeyFiles
		refuse error
	}{
		{"unsigned", false, false, ostree.KeyFiles{GPG: [][]byte{gpg}}, ostree.ErrSignature},
		{"only the other kind", false, true, ostree.KeyFiles{GPG: [][]byte{gpg}}, ostree.ErrSignature},
		{"only the other kind", true, false, ostree.KeyFiles{Ed25519: [][]byte{pubA}}, ostree.ErrSignature},
		{"gpg", true, true, ostree.KeyFiles{GPG: [][]byte{gpg}}, nil},
		{"gpg, one of two keyrings", true, true, ostree.KeyFiles{GPG: [][]byte{other, gpg}}, nil},
		{"ed25519", true, true, ostree.KeyFiles{Ed25519: [][]byte{pubB, pubA}}, nil},
		{"both", true, true, ostree.KeyFiles{GPG: [][]byte{gpg}, Ed25519: [][]byte{pubA}}, nil},
		{"both, gpg unknown", true, true, ostree.KeyFiles{GPG: [][]byte{other}, Ed25519: [][]byte{pubA}}, ostree.ErrUnknownKey},
		{"both, ed25519 unknown", true, true, ostree.KeyFiles{GPG: [][]byte{gpg}, Ed25519: [][]byte{pubB}}, ostree.ErrUnknownKey},
		{"both, ed25519 missing", true, false, ostree.KeyFiles{GPG: [][]byte{gpg}, Ed25519: [][]byte{pubA}}, ostree.ErrSignature},
		{"revoked beats trusted", true, true, ostree.KeyFiles{Ed25519: [][]byte{pubA}, RevokedEd25519: [][]byte{pubA}}, ostree.ErrRevoked},
		{"another is revoked", true, true, ostree.KeyFiles{Ed25519: [][]byte{pubA}, RevokedEd25519: [][]byte{pubB}}, nil},
	} {
		c, err := r.Commit(t.Context(), literal(dir(".")), &ostree.CommitOptions{Subject: fmt.Sprint(i)})
		require.NoError(t, err)
		if tc.gpg {
			require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, pgpKey(t, "ed", keyDay(100), pgpsigner.SignerOptions{})))
		}
		if tc.ed {
			require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, a))
		}
		v := verifier(t, tc.keys)
		verdicts, err := r.Verify(t.Context(), c, v, keyDay(100))
		if tc.refuse == nil {
			require.NoError(t, err, tc.name)
		} else {
			require.ErrorIs(t, err, tc.refuse, tc.name)
			require.ErrorIs(t, err, ostree.ErrSignature, tc.name)
		}
		// The same from bytes, as they come from elsewhere.
		data, err := r.Object(t.Context(), ostree.TypeCommit, c)
		require.NoError(t, err)
		items, err := r.ReadMetadata(t.Context(), c)
		if err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
		again, err := v.Verify(t.Context(), data, items, keyDay(100))
		require.Equal(t, verdicts, again)
		require.Equal(t, tc.refuse == nil, err == nil, tc.name)
		data[len(data)-1] ^= 1
		_, err = v.Verify(t.Context(), data, items, keyDay(100))
		require.ErrorIs(t, err, ostree.ErrSignature, tc.name)
		// Nothing is asked for.
		_, err = new(ostree.Verifier).Verify(t.Context(), data, items, keyDay(100))
		require.NoError(t, err, tc.name)
	}
	for name, files := range map[string]ostree.KeyFiles{
		"none": {}, "only revoked": {RevokedEd25519: [][]byte{pubA}}, "no keyring": {GPG: [][]byte{[]byte("x")}}, "no key": {Ed25519: [][]byte{[]byte("x")}},
		"no revoked key": {Ed25519: [][]byte{pubA}, RevokedEd25519: [][]byte{[]byte("x")}},
	} {
		_, err := ostree.ParseVerifier(files)
		require.Error(t, err, name)
	}
}

func TestSignAgain(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	c := unsigned(t, r)
	path := metaPath(r, c)
	first, other := pgpKey(t, "sub", keyDay(100), pgpsigner.SignerOptions{}), pgpKey(t, "rsa", keyDay(100), pgpsigner.SignerOptions{})
	for _, s := range []ostree.Signer{first, other} {
		require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, s))
	}
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 1)))
	before, err := os.Stat(path)
	require.NoError(t, err)

	// The same: nothing is written.
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, first))
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 1)))
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
	require.Equal(t, before.ModTime(), after.ModTime())

	// The same key, later: the new one is in the old one's stead.
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, pgpKey(t, "sub", keyDay(101), pgpsigner.SignerOptions{})))
	list, err := r.Signatures(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.True(t, list[0].Created.Equal(keyDay(100)))
	require.True(t, list[1].Created.Equal(keyDay(101)))

	// A string with another's signature beside that of the key stays.
	mixed, err := r.Object(t.Context(), ostree.TypeCommit, c)
	require.NoError(t, err)
	var both []byte
	for _, s := range []ostree.Signer{first, other} {
		sig, err := s.Sign(t.Context(), bytes.NewReader(mixed))
		require.NoError(t, err)
		both = append(both, sig...)
	}
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, stored(both)))
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, pgpKey(t, "rsa", keyDay(102), pgpsigner.SignerOptions{})))
	list, err = r.Signatures(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, list, 4)
	require.Equal(t, list[0].Data, list[1].Data)
	require.NotEqual(t, list[0].KeyID, list[1].KeyID)
	verdicts, err := r.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{GPG: [][]byte{pgpFile(t, "sub.asc"), pgpFile(t, "rsa.asc")}}), keyDay(110))
	require.NoError(t, err)
	require.Len(t, verdicts, 4)
	for _, v := range verdicts[:3] {
		require.NoError(t, v.Err)
	}

	// It goes only if all of it is to go.
	rsa := list[2].KeyID
	n, err := r.RemoveSignatures(t.Context(), c, func(s ostree.Signature) bool { return s.KeyID == rsa })
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = r.RemoveSignatures(t.Context(), c, func(s ostree.Signature) bool { return s.Kind == ostree.SignatureGPG })
	require.NoError(t, err)
	require.Equal(t, 2, n)
	n, err = r.RemoveSignatures(t.Context(), c, func(s ostree.Signature) bool { return s.Kind == ostree.SignatureGPG })
	require.NoError(t, err)
	require.Zero(t, n)
	items, err := r.ReadMetadata(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, items, 3)
	require.Equal(t, []string{"z", "a", "ostree.sign.ed25519"}, []string{items[0].Key, items[1].Key, items[2].Key})
	noLitter(t, r)
}

func metaPath(r *ostree.Repo, c ostree.Checksum) string {
	return filepath.Join(r.Path(), "objects", c.String()[:2], c.String()[2:]+".commitmeta")
}

// TestSignRefuses checks that a fault is an error and that nothing was written.
func TestSignRefuses(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	c := unsigned(t, r)
	boom := errors.New("boom")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	before := snapshot(t, r.Path())
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		commit ostree.Checksum
		kind   ostree.SignatureKind
		signer ostree.Signer
		want   error
	}{
		{"no such commit", t.Context(), ostree.Checksum{1}, ostree.SignatureEd25519, edKey(t, 1), fs.ErrNotExist},
		{"the signer fails", t.Context(), c, ostree.SignatureGPG, signerFunc(func(context.Context, io.Reader) ([]byte, error) { return nil, boom }), boom},
		{"armoured", t.Context(), c, ostree.SignatureGPG, pgpKey(t, "ed", keyDay(100), pgpsigner.SignerOptions{Form: pgpsigner.Armored}), nil},
		{"with the message", t.Context(), c, ostree.SignatureGPG, pgpKey(t, "ed", keyDay(100), pgpsigner.SignerOptions{Form: pgpsigner.Message}), nil},
		{"empty", t.Context(), c, ostree.SignatureGPG, stored(nil), nil},
		{"cut off", t.Context(), c, ostree.SignatureGPG, stored(pgpFile(t, "ed.message.sig")[:50]), nil},
		{"a key", t.Context(), c, ostree.SignatureGPG, stored(pgpFile(t, "ed.pgp")), nil},
		{"the other kind", t.Context(), c, ostree.SignatureEd25519, pgpKey(t, "ed", keyDay(100), pgpsigner.SignerOptions{}), nil},
		{"the other kind", t.Context(), c, ostree.SignatureGPG, edKey(t, 1), nil},
		{"kind of libostree", t.Context(), c, "ostree.sign.spki", edKey(t, 1), errors.ErrUnsupported},
		{"not a kind", t.Context(), c, "z", edKey(t, 1), errors.ErrUnsupported},
		{"cancelled", cancelled, c, ostree.SignatureEd25519, edKey(t, 1), context.Canceled},
	} {
		err := r.Sign(tc.ctx, tc.commit, tc.kind, tc.signer)
		var e *ostree.Error
		require.ErrorAs(t, err, &e, tc.name)
		require.Equal(t, "sign", e.Op)
		if tc.want != nil {
			require.ErrorIs(t, err, tc.want, tc.name)
		}
	}
	_, err := r.Signatures(t.Context(), ostree.Checksum{1})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = r.Verify(t.Context(), ostree.Checksum{1}, new(ostree.Verifier), time.Time{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = r.RemoveSignatures(t.Context(), ostree.Checksum{1}, func(ostree.Signature) bool { return true })
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, before, snapshot(t, r.Path()))

	list, err := r.Signatures(t.Context(), c)
	require.NoError(t, err)
	require.Empty(t, list)
}

// TestStrangeMetadata is about detached metadata as others may have left it.
func TestStrangeMetadata(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	ed := edKey(t, 1)
	v := verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(ed.Public())}, GPG: [][]byte{pgpFile(t, "ed.asc")}})
	commit := func(name string, detached ...ostree.MetadataItem) ostree.Checksum {
		c, err := r.Commit(t.Context(), literal(dir(".")), &ostree.CommitOptions{Subject: name, Detached: detached})
		require.NoError(t, err)
		return c
	}
	lists := func(list ...string) ostree.Variant { // strings of 1 to 255 bytes, together as many
		var body, ends []byte
		for _, s := range list {
			body = append(body, s...)
			ends = append(ends, byte(len(body)))
		}
		return ostree.Variant{Type: "aay", Data: append(body, ends...)}
	}

	wrong := commit("type", ostree.MetadataItem{Key: "ostree.gpgsigs", Value: ostree.StringVariant("x")})
	many := commit("many", ostree.MetadataItem{Key: "ostree.sign.ed25519", Value: ostree.Variant{Type: "aay", Data: bytes.Repeat([]byte{0, 0}, 257)}})
	broken := commit("broken")
	require.NoError(t, os.WriteFile(metaPath(r, broken), []byte("not a dictionary"), 0o644))
	strs := commit("strings", ostree.MetadataItem{Key: "ostree.gpgsigs", Value: ostree.StringsVariant([]string{"x"})}) // looks like aay
	twice := commit("twice")
	data, err := ostree.MarshalMetadata([]ostree.MetadataItem{{Key: "ostree.sign.ed25519", Value: lists("a")}, {Key: "ostree.sign.ed25518", Value: lists("b")}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(metaPath(r, twice), bytes.Replace(data, []byte("25518"), []byte("25519"), 1), 0o644))
	for _, c := range []ostree.Checksum{wrong, many, broken, strs, twice} {
		_, err := r.Signatures(t.Context(), c)
		require.ErrorIs(t, err, ostree.ErrCorrupt)
		_, err = r.Verify(t.Context(), c, v, keyDay(100))
		require.ErrorIs(t, err, ostree.ErrCorrupt)
		_, err = r.RemoveSignatures(t.Context(), c, func(ostree.Signature) bool { return true })
		require.ErrorIs(t, err, ostree.ErrCorrupt)
	}
	require.ErrorIs(t, r.Sign(t.Context(), wrong, ostree.SignatureGPG, pgpKey(t, "ed", keyDay(100), pgpsigner.SignerOptions{})), ostree.ErrCorrupt)
	require.ErrorIs(t, r.Sign(t.Context(), many, ostree.SignatureEd25519, ed), ostree.ErrCorrupt)

	// Rubbish beside good signatures does no harm, and is reported.
	c := commit("rubbish", ostree.MetadataItem{Key: "ostree.gpgsigs", Value: lists("rubbish", "\x88\x05short")},
		ostree.MetadataItem{Key: "ostree.sign.ed25519", Value: lists("", strings.Repeat("x", 64))}, ostree.MetadataItem{Key: "ostree.sign.spki", Value: lists("s")})
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, pgpKey(t, "ed", keyDay(100), pgpsigner.SignerOptions{})))
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, ed))
	verdicts, err := r.Verify(t.Context(), c, v, keyDay(100))
	require.NoError(t, err)
	require.Len(t, verdicts, 7)
	for i, good := range []bool{false, false, true, false, false, true, false} {
		if good {
			require.NoError(t, verdicts[i].Err)
		} else {
			require.ErrorIs(t, verdicts[i].Err, ostree.ErrSignature)
			require.Empty(t, verdicts[i].KeyID)
		}
	}
	require.ErrorIs(t, verdicts[6].Err, errors.ErrUnsupported)
	// All can be removed, the unknown ones too.
	n, err := r.RemoveSignatures(t.Context(), c, func(ostree.Signature) bool { return true })
	require.NoError(t, err)
	require.Equal(t, 7, n)
	_, err = r.Verify(t.Context(), c, v, keyDay(100))
	require.ErrorIs(t, err, ostree.ErrSignature)

	// Full.
	full := commit("full", ostree.MetadataItem{Key: "ostree.sign.ed25519", Value: ostree.Variant{Type: "aay", Data: bytes.Repeat([]byte{0, 0}, 256)}})
	require.ErrorContains(t, r.Sign(t.Context(), full, ostree.SignatureEd25519, ed), "at most 256")

	// A commit whose bytes are others is none that a signature counts for.
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, ed))
	path := strings.TrimSuffix(metaPath(r, c), "meta")
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	data[len(data)-1] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o644))
	_, err = r.Verify(t.Context(), c, v, keyDay(100))
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	require.ErrorIs(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 2)), ostree.ErrCorrupt)
}

// TestSignConcurrently loses no signature, and readers see whole metadata.
func TestSignConcurrently(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	c := unsigned(t, r)
	// What a killed process leaves is in nobody's way.
	require.NoError(t, os.WriteFile(filepath.Join(r.Path(), "tmp", "okd-commitmeta-lock"), nil, 0o600))
	again, err := ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	defer again.Close()
	const n = 12
	var signers, reader sync.WaitGroup
	done := make(chan struct{})
	errs := make([]error, n+1)
	reader.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := r.Signatures(t.Context(), c); err != nil {
				errs[n] = err
				return
			}
		}
	})
	for i := range n {
		key, repo := edKey(t, byte(i)), []*ostree.Repo{r, again}[i%2]
		signers.Go(func() { errs[i] = repo.Sign(t.Context(), c, ostree.SignatureEd25519, key) })
	}
	signers.Wait()
	close(done)
	reader.Wait()
	require.NoError(t, errors.Join(errs...))
	list, err := r.Signatures(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, list, n)
	noLitter(t, r)
}

func TestSignInParent(t *testing.T) {
	t.Parallel()
	parent := newRepo(t, ostree.ModeArchive)
	c := unsigned(t, parent)
	require.NoError(t, parent.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 1)))
	r := newRepo(t, ostree.ModeBareUser)
	require.NoError(t, r.SetConfig(t.Context(), "core", "parent", parent.Path()))
	child, err := ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	defer child.Close()
	// Read through, but not written: that would be metadata beside no commit.
	_, err = child.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(edKey(t, 1).Public())}}), time.Time{})
	require.NoError(t, err)
	require.ErrorIs(t, child.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 2)), fs.ErrNotExist)
}

// TestFlippedBits flips each bit of a signed commit and of its signatures.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	c, err := r.Commit(t.Context(), literal(dir(".")), nil)
	require.NoError(t, err)
	commit, err := r.Object(t.Context(), ostree.TypeCommit, c)
	require.NoError(t, err)
	for kind, signer := range map[ostree.SignatureKind]ostree.Signer{
		ostree.SignatureEd25519: edKey(t, 1), ostree.SignatureGPG: pgpKey(t, "ed", keyDay(100), pgpsigner.SignerOptions{}),
	} {
		_, err := r.RemoveSignatures(t.Context(), c, func(ostree.Signature) bool { return true })
		require.NoError(t, err)
		require.NoError(t, r.Sign(t.Context(), c, kind, signer))
		meta, err := r.Object(t.Context(), ostree.TypeCommitMeta, c)
		require.NoError(t, err)
		v := verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(edKey(t, 1).Public())}})
		if kind == ostree.SignatureGPG {
			v = verifier(t, ostree.KeyFiles{GPG: [][]byte{pgpFile(t, "ed.asc")}})
		}
		verify := func(commit, meta []byte) error {
			items, err := ostree.DecodeMetadata(meta)
			if err == nil {
				_, err = v.Verify(t.Context(), commit, items, keyDay(100))
			}
			return err
		}
		require.NoError(t, verify(commit, meta))
		for i := range 8 * len(commit) {
			commit[i/8] ^= 1 << (i % 8)
			require.ErrorIs(t, verify(commit, meta), ostree.ErrSignature, "%s: bit %d of the commit", kind, i)
			commit[i/8] ^= 1 << (i % 8)
		}
		// What changes neither what was signed nor the signature's numbers: the
		// short digest, a mere hint, and the numbers' lengths in bits where that
		// in bytes stays (RFC 4880 sections 5.2.3 and 3.2).
		harmless := map[int]bool{}
		if kind == ostree.SignatureGPG {
			hint := bytes.Index(meta, []byte{0xc2, 0x75, 4}) + 2 + 6 + 0x27 + 2
			for _, at := range []int{0, 1, 3, 4 + 32 + 1} {
				harmless[hint+at] = true
			}
		}
		for i := range 8 * len(meta) {
			meta[i/8] ^= 1 << (i % 8)
			if !harmless[i/8] {
				require.Error(t, verify(commit, meta), "%s: bit %d of the metadata", kind, i)
			}
			meta[i/8] ^= 1 << (i % 8)
		}
	}
}
