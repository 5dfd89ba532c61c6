package ostree_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// withRemote is a repository whose config has a remote with the keys given.
func withRemote(t testing.TB, keys string, files map[string][]byte) *ostree.Repo {
	t.Helper()
	r := newRepo(t, ostree.ModeArchive)
	config := filepath.Join(r.Path(), "config")
	data, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, append(data, "\n[remote \"origin\"]\nurl=https://example.com\n"+keys...), 0o644))
	for name, data := range files {
		require.NoError(t, os.WriteFile(filepath.Join(r.Path(), name), data, 0o644))
	}
	again, err := ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { again.Close() })
	return again
}

// TestRemoteVerifiers is about what a remote's config asks for: of a commit
// with a signature by ed and an Ed25519 key, and of one without.
func TestRemoteVerifiers(t *testing.T) {
	t.Parallel()
	ed, rsa := pgpFile(t, "ed.asc"), pgpFile(t, "rsa.asc")
	key, other := []byte(edKey(t, 1).Public()), []byte(edKey(t, 2).Public())
	folder := t.TempDir()
	keyDir := filepath.Join(folder, "keys")
	require.NoError(t, os.MkdirAll(filepath.Join(keyDir, "folder"), 0o755))
	for name, data := range map[string][]byte{"ed.asc": ed, "rsa.asc": rsa, "ed25519": append(append(other, '\n'), key...), "keys/rsa": rsa} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), data, 0o644))
	}
	require.NoError(t, os.Symlink("../ed.asc", filepath.Join(keyDir, "linked")))
	own := func(data []byte) map[string][]byte { return map[string][]byte{"origin.trustedkeys.gpg": data} }

	repo := newRepo(t, ostree.ModeArchive)
	bare := unsigned(t, repo)
	signed, err := repo.Commit(t.Context(), literal(dir(".")), nil)
	require.NoError(t, err)
	require.NoError(t, repo.Sign(t.Context(), signed, ostree.SignatureGPG, pgpKey(t, "ed", keyDay(100), pgpsigner.SignerOptions{})))
	require.NoError(t, repo.Sign(t.Context(), signed, ostree.SignatureEd25519, edKey(t, 1)))

	const ok, refused = true, false
	for name, tc := range map[string]struct {
		config         string
		files          map[string][]byte
		machine        ostree.KeyFiles
		signed, bare   bool // accepted as a commit
		signed2, bare2 bool // as a summary
	}{
		"by default no key is trusted":      {"", nil, ostree.KeyFiles{}, refused, refused, ok, ok},
		"the machine's key":                 {"", nil, ostree.KeyFiles{GPG: [][]byte{ed}}, ok, refused, ok, ok},
		"the remote's own":                  {"gpg-verify=true\n", own(ed), ostree.KeyFiles{}, ok, refused, ok, ok},
		"its own replace the machine's":     {"", own(rsa), ostree.KeyFiles{GPG: [][]byte{ed}}, refused, refused, ok, ok},
		"off":                               {"gpg-verify=false\n", own(rsa), ostree.KeyFiles{}, ok, ok, ok, ok},
		"gpgkeypath":                        {"gpgkeypath=" + folder + "/rsa.asc;" + folder + "/ed.asc\n", nil, ostree.KeyFiles{}, ok, refused, ok, ok},
		"gpgkeypath, beside others":         {"gpgkeypath=" + folder + "/rsa.asc\n", nil, ostree.KeyFiles{GPG: [][]byte{ed}}, ok, refused, ok, ok},
		"gpgkeypath, a folder":              {"gpgkeypath=" + keyDir + "\n", own(rsa), ostree.KeyFiles{}, ok, refused, ok, ok},
		"summary":                           {"gpg-verify=0\ngpg-verify-summary=1\n", own(ed), ostree.KeyFiles{}, ok, ok, ok, refused},
		"ed25519":                           {"gpg-verify=false\nsign-verify=true\nverification-ed25519-key=" + string(key) + "\n", nil, ostree.KeyFiles{}, ok, refused, ok, ok},
		"ed25519, by name":                  {"gpg-verify=false\nsign-verify=spki;ed25519;\nverification-ed25519-key=" + string(key) + "\n", nil, ostree.KeyFiles{}, ok, refused, ok, ok},
		"ed25519, a file":                   {"gpg-verify=false\nsign-verify=ed25519\nverification-ed25519-file=" + folder + "/ed25519\n", nil, ostree.KeyFiles{}, ok, refused, ok, ok},
		"ed25519, revoked on the machine":   {"gpg-verify=false\nsign-verify=1\nverification-ed25519-key=" + string(key) + "\n", nil, ostree.KeyFiles{RevokedEd25519: [][]byte{key}}, refused, refused, ok, ok},
		"ed25519, the machine's":            {"gpg-verify=false\nsign-verify=true\n", nil, ostree.KeyFiles{Ed25519: [][]byte{key}}, ok, refused, ok, ok},
		"ed25519, instead of the machine's": {"gpg-verify=false\nsign-verify=true\nverification-ed25519-key=" + string(other) + "\n", nil, ostree.KeyFiles{Ed25519: [][]byte{key}}, refused, refused, ok, ok},
		"ed25519, no key":                   {"gpg-verify=false\nsign-verify=true\n", nil, ostree.KeyFiles{}, refused, refused, ok, ok},
		"ed25519, summary":                  {"gpg-verify=false\nsign-verify=false\nsign-verify-summary=ed25519\n", nil, ostree.KeyFiles{Ed25519: [][]byte{key}}, ok, ok, ok, refused},
		"both":                              {"sign-verify=true\n", own(ed), ostree.KeyFiles{Ed25519: [][]byte{key}}, ok, refused, ok, ok},
		"both, one of them another's":       {"sign-verify=true\n", own(ed), ostree.KeyFiles{Ed25519: [][]byte{other}}, refused, refused, ok, ok},
	} {
		r := withRemote(t, tc.config, tc.files)
		commits, summary, err := r.RemoteVerifiers(t.Context(), "origin", tc.machine)
		require.NoError(t, err, name)
		for _, check := range []struct {
			v    *ostree.Verifier
			c    ostree.Checksum
			want bool
		}{{commits, signed, tc.signed}, {commits, bare, tc.bare}, {summary, signed, tc.signed2}, {summary, bare, tc.bare2}} {
			_, err := repo.Verify(t.Context(), check.c, check.v, keyDay(100))
			require.Equal(t, check.want, err == nil, "%s: %v", name, err)
			if err != nil {
				require.ErrorIs(t, err, ostree.ErrSignature, name)
			}
		}
	}

	// A child has its parent's remotes and their keyrings.
	parent := withRemote(t, "", own(ed))
	child := newRepo(t, ostree.ModeBareUser)
	require.NoError(t, child.SetConfig(t.Context(), "core", "parent", parent.Path()))
	child, err = ostree.Open(t.Context(), child.Path(), nil)
	require.NoError(t, err)
	defer child.Close()
	commits, _, err := child.RemoteVerifiers(t.Context(), "origin", ostree.KeyFiles{})
	require.NoError(t, err)
	_, err = repo.Verify(t.Context(), signed, commits, keyDay(100))
	require.NoError(t, err)
}

func TestRemoteVerifiersRefuse(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o644))
	for name, tc := range map[string]struct {
		config string
		files  map[string][]byte
		want   error
	}{
		"not a bool":          {"gpg-verify=maybe\n", nil, nil},
		"not a bool, summary": {"gpg-verify-summary=maybe\n", nil, nil},
		"only unknown kinds":  {"sign-verify=spki\n", nil, errors.ErrUnsupported},
		"of the summary":      {"sign-verify-summary=dummy\n", nil, errors.ErrUnsupported},
		"no keyring":          {"", map[string][]byte{"origin.trustedkeys.gpg": []byte("x")}, nil},
		"no key there":        {"gpgkeypath=/nonexistent/key\n", nil, fs.ErrNotExist},
		"a pipe":              {"gpgkeypath=" + pipe + "\n", nil, nil},
		"no key file there":   {"sign-verify=true\nverification-ed25519-file=/nonexistent/key\n", nil, fs.ErrNotExist},
		"no key":              {"sign-verify=true\nverification-ed25519-key=x\n", nil, nil},
	} {
		_, _, err := withRemote(t, tc.config, tc.files).RemoteVerifiers(t.Context(), "origin", ostree.KeyFiles{})
		require.Error(t, err, name)
		if tc.want != nil {
			require.ErrorIs(t, err, tc.want, name)
		}
	}
	_, _, err := newRepo(t, ostree.ModeArchive).RemoteVerifiers(t.Context(), "origin", ostree.KeyFiles{})
	require.ErrorIs(t, err, fs.ErrNotExist)
}
