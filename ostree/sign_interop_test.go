package ostree_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// try runs a peer that may refuse.
func try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// clientOf is a repository of `ostree` with a remote r, whose commits must be
// signed by the keys of a file; opened by this package, too.
func clientOf(t testing.TB, r *ostree.Repo, keys ...string) (string, *ostree.Repo) {
	t.Helper()
	client := peerRepo(t, ostree.ModeArchive)
	args := []string{"--repo=" + client, "remote", "add", "--set=gpg-verify=true"}
	for _, key := range keys {
		args = append(args, "--gpg-import="+key)
	}
	run(t, "ostree", append(args, "origin", "file://"+r.Path())...)
	ours, err := ostree.Open(t.Context(), client, nil)
	require.NoError(t, err)
	t.Cleanup(func() { ours.Close() })
	return client, ours
}

// TestPeerVerifiesOurs signs with every kind of key and has `ostree` and this
// package judge by the same keyring of the same remote.
func TestPeerVerifiesOurs(t *testing.T) {
	interop.Peer(t, "ostree", "gpg")
	now := time.Now()
	fixture := func(name string) string { return filepath.Join("..", "internal", "pgp", "testdata", name) }
	for _, tc := range []struct {
		users []string // who sign
		keys  []string
		good  bool
		shows string // `ostree show`
	}{
		{[]string{"rsa"}, []string{"rsa.asc"}, true, "Good signature from \"rsa <rsa@example.com>\""},
		{[]string{"ed"}, []string{"ed.pgp"}, true, "Good signature from \"ed <ed@example.com>\""},
		{[]string{"p256"}, []string{"p256.pgp"}, true, "Good signature"},
		{[]string{"p384"}, []string{"p384.pgp"}, true, "Good signature"},
		{[]string{"p521"}, []string{"p521.pgp"}, true, "Good signature"},
		{[]string{"sub"}, []string{"sub.pgp"}, true, "Good signature"},
		{[]string{"subrsa"}, []string{"subrsa.asc"}, true, "Good signature"},
		{[]string{"p256", "ed", "rsa"}, []string{"rsa.pgp"}, true, "Found 3 signatures"},
		{[]string{"rsa", "sub"}, []string{"rsa.pgp", "sub.asc"}, true, "Found 2 signatures"},
		{[]string{"ed"}, []string{"rsa.asc"}, false, "public key not found"},
		{[]string{"expired"}, []string{"expired.asc"}, false, "Key expired"},
		{[]string{"subexpired"}, []string{"subexpired.asc"}, false, "Key expired"},
		{[]string{"revoked"}, []string{"revoked.asc"}, false, "Key revoked"},
		{[]string{"subrevoked"}, []string{"subrevoked.asc"}, false, "Key revoked"},
		{[]string{"revoked", "ed"}, []string{"revoked.asc", "ed.asc"}, true, "Found 2 signatures"},
		{nil, []string{"ed.asc"}, false, ""},
	} {
		t.Run(strings.Join(append(tc.users, tc.keys...), " "), func(t *testing.T) {
			t.Parallel()
			r := newRepo(t, ostree.ModeArchive)
			c, err := r.Commit(t.Context(), literal(dir("."), file("a", "content")), &ostree.CommitOptions{Ref: "os", Timestamp: now,
				Detached: []ostree.MetadataItem{{Key: "fixture", Value: ostree.StringVariant("kept")}}})
			require.NoError(t, err)
			for _, user := range tc.users {
				require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, pgpKey(t, user, keyDay(100), pgpsigner.SignerOptions{})))
			}
			run(t, "ostree", "--repo="+r.Path(), "fsck")
			require.Equal(t, "'kept'\n", run(t, "ostree", "--repo="+r.Path(), "show", "--print-detached-metadata-key=fixture", "os"))

			var keys []string
			for _, key := range tc.keys {
				keys = append(keys, fixture(key))
			}
			client, ours := clientOf(t, r, keys...)
			v, _, err := ours.RemoteVerifiers(t.Context(), "origin", ostree.KeyFiles{})
			require.NoError(t, err)
			verdicts, err := r.Verify(t.Context(), c, v, now)
			require.Equal(t, tc.good, err == nil, "%v", err)
			require.Len(t, verdicts, len(tc.users))
			out, err := try(t, "ostree", "--repo="+client, "pull-local", "--remote=origin", "--gpg-verify", r.Path(), "os")
			require.Equal(t, tc.good, err == nil, out)
			out, err = try(t, "ostree", "--repo="+client, "pull", "origin", "os")
			require.Equal(t, tc.good, err == nil, out)
			if !tc.good {
				run(t, "ostree", "--repo="+client, "pull-local", "--remote=origin", r.Path(), "os")
			}
			out, _ = try(t, "ostree", "--repo="+client, "show", "--gpg-verify-remote=origin", "origin:os")
			require.Contains(t, out, tc.shows)
			// As they have it.
			verdicts, err = ours.Verify(t.Context(), c, v, now)
			require.Equal(t, tc.good, err == nil, "%v", err)
			require.Len(t, verdicts, len(tc.users))
		})
	}
}

// gpgHome is a home of gpg's with keys that nothing protects, one a user; its
// path is short enough for the agent's socket.
func gpgHome(t testing.TB, users ...string) (home string, gpg func(args ...string) string) {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg")
	require.NoError(t, err)
	t.Cleanup(func() {
		if out, err := exec.Command("gpgconf", "--homedir", home, "--kill", "all").CombinedOutput(); err != nil {
			t.Logf("gpgconf: %v: %s", err, out)
		}
		require.NoError(t, os.RemoveAll(home))
	})
	gpg = func(args ...string) string {
		t.Helper()
		return run(t, "gpg", append([]string{"--homedir", home, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	}
	for _, user := range users {
		gpg("--quick-gen-key", user, "ed25519", "sign", "2d")
	}
	return home, gpg
}

func fingerprint(t testing.TB, gpg func(...string) string, user string) string {
	t.Helper()
	for line := range strings.Lines(gpg("--with-colons", "--list-keys", "="+user)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return f[9]
		}
	}
	t.Fatalf("no key of %s", user)
	return ""
}

// TestWeVerifyPeers has `ostree commit` and `ostree gpg-sign` sign.
func TestWeVerifyPeers(t *testing.T) {
	interop.Peer(t, "ostree", "gpg", "gpgconf")
	home, gpg := gpgHome(t, "one", "two")
	one, two := fingerprint(t, gpg, "one"), fingerprint(t, gpg, "two")
	export := func(user string) []byte { return []byte(gpg("--export", "="+user)) }
	source := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(source, "a"), []byte("content"), 0o644))
	path := peerRepo(t, ostree.ModeArchive)
	c, err := ostree.ParseChecksum(strings.TrimSpace(run(t, "ostree", "--repo="+path, "commit", "--branch=os", "--tree=dir="+source,
		"--add-detached-metadata-string=fixture=kept", "--gpg-homedir="+home, "--gpg-sign="+one)))
	require.NoError(t, err)
	r, err := ostree.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer r.Close()
	keyring := verifier(t, ostree.KeyFiles{GPG: [][]byte{export("one")}})
	now := time.Now()
	verdicts, err := r.Verify(t.Context(), c, keyring, now)
	require.NoError(t, err)
	require.Len(t, verdicts, 1)
	require.Equal(t, one, verdicts[0].Signer)
	require.Equal(t, []string{"one"}, verdicts[0].UserIDs)

	_, err = r.Verify(t.Context(), c, keyring, now.AddDate(0, 0, 3))
	require.ErrorIs(t, err, ostree.ErrExpired)
	_, err = r.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{GPG: [][]byte{export("two")}}), now)
	require.ErrorIs(t, err, ostree.ErrUnknownKey)

	// Each side adds to what the other has, and takes away from it.
	ed := edKey(t, 1)
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureEd25519, ed))
	require.NoError(t, r.Sign(t.Context(), c, ostree.SignatureGPG, pgpKey(t, "rsa", keyDay(100), pgpsigner.SignerOptions{})))
	run(t, "ostree", "--repo="+path, "gpg-sign", "--gpg-homedir="+home, "os", two)
	verdicts, err = r.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{GPG: [][]byte{export("one"), export("two"), pgpFile(t, "rsa.pgp")},
		Ed25519: [][]byte{[]byte(ed.Public())}}), now)
	require.NoError(t, err)
	require.Len(t, verdicts, 4)
	for _, v := range verdicts {
		require.NoError(t, v.Err)
	}
	require.Contains(t, run(t, "ostree", "--repo="+path, "show", "os"), "Found 3 signatures")
	n, err := r.RemoveSignatures(t.Context(), c, func(s ostree.Signature) bool { return strings.HasSuffix(one, s.KeyID) && s.KeyID != "" })
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Contains(t, run(t, "ostree", "--repo="+path, "show", "os"), "Found 2 signatures")
	n, err = r.RemoveSignatures(t.Context(), c, func(s ostree.Signature) bool { return s.Kind == ostree.SignatureGPG })
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NotContains(t, run(t, "ostree", "--repo="+path, "show", "os"), "signature")
	require.Equal(t, "'kept'\n", run(t, "ostree", "--repo="+path, "show", "--print-detached-metadata-key=fixture", "os"))
	run(t, "ostree", "--repo="+path, "fsck")

	// Signed, then revoked: by both.
	run(t, "ostree", "--repo="+path, "gpg-sign", "--gpg-homedir="+home, "os", one)
	cert, err := os.ReadFile(filepath.Join(home, "openpgp-revocs.d", one+".rev"))
	require.NoError(t, err)
	revocation := filepath.Join(home, "revocation.asc")
	require.NoError(t, os.WriteFile(revocation, bytes.Replace(cert, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1), 0o600))
	gpg("--import", revocation)
	keys := filepath.Join(home, "one.pgp")
	require.NoError(t, os.WriteFile(keys, export("one"), 0o600))
	client, ours := clientOf(t, r, keys)
	out, err := try(t, "ostree", "--repo="+client, "pull", "origin", "os")
	require.Error(t, err, out)
	v, _, err := ours.RemoteVerifiers(t.Context(), "origin", ostree.KeyFiles{})
	require.NoError(t, err)
	_, err = r.Verify(t.Context(), c, v, time.Now())
	require.ErrorIs(t, err, ostree.ErrRevoked)
}

// TestSharedSignatures checks what lies in the shared repositories.
func TestSharedSignatures(t *testing.T) {
	interop.Peer(t, "tar", "zstd")
	read := func(elem ...string) []byte {
		data, err := os.ReadFile(filepath.Join(elem...))
		require.NoError(t, err)
		return data
	}
	now := time.Now()
	r, err := ostree.Open(t.Context(), unpack(t, "repo-archive"), nil)
	require.NoError(t, err)
	defer r.Close()
	c, err := r.Resolve(t.Context(), "fixture/x86_64/base")
	require.NoError(t, err)
	commit, err := r.ReadCommit(t.Context(), c)
	require.NoError(t, err)
	items, err := ostree.DecodeMetadata(read(r.Path(), "summary.sig"))
	require.NoError(t, err)
	for _, key := range []string{"fixture-key.asc", "fixture-key.gpg"} {
		v := verifier(t, ostree.KeyFiles{GPG: [][]byte{read(interop.SharedData(t, "ostree", "expected", key))}})
		verdicts, err := r.Verify(t.Context(), c, v, now)
		require.NoError(t, err)
		require.Len(t, verdicts, 1)
		require.Equal(t, "FA5433FE857E035BAE9CC7B1A7F1A9953C84BDCE", verdicts[0].Signer)
		_, err = r.Verify(t.Context(), commit.Parent, v, now)
		require.ErrorIs(t, err, ostree.ErrSignature)
		_, err = v.Verify(t.Context(), read(r.Path(), "summary"), items, now)
		require.NoError(t, err)
	}

	// libostree's own fixture, signed with Ed25519.
	dir := t.TempDir()
	run(t, "tar", "-xzf", interop.SharedData(t, "ostree", "upstream", "pre-signed-pull-data.tar.gz"), "-C", dir)
	signed, err := ostree.Open(t.Context(), filepath.Join(dir, "repo"), nil)
	require.NoError(t, err)
	defer signed.Close()
	c, err = signed.Resolve(t.Context(), "testref")
	require.NoError(t, err)
	// In key.b64 as SubjectPublicKeyInfo; this is the key in it.
	const public = "45yzbkuEok0lLabxzdAHWUDSMZgYfxU40sN+LMfYHVA="
	key := []byte(public)
	verdicts, err := signed.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{Ed25519: [][]byte{key}}), now)
	require.NoError(t, err)
	require.Len(t, verdicts, 1)
	require.Equal(t, public, verdicts[0].Signer)
	_, err = signed.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{Ed25519: [][]byte{key}, RevokedEd25519: [][]byte{key}}), now)
	require.ErrorIs(t, err, ostree.ErrRevoked)
	_, err = signed.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(edKey(t, 1).Public())}}), now)
	require.ErrorIs(t, err, ostree.ErrUnknownKey)
	// Ours is added beside it.
	require.NoError(t, signed.Sign(t.Context(), c, ostree.SignatureEd25519, edKey(t, 1)))
	verdicts, err = signed.Verify(t.Context(), c, verifier(t, ostree.KeyFiles{Ed25519: [][]byte{key, []byte(edKey(t, 1).Public())}}), now)
	require.NoError(t, err)
	require.Len(t, verdicts, 2)
	for _, v := range verdicts {
		require.NoError(t, v.Err)
	}
}
