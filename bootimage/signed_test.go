package bootimage_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// TestDownloadKeys: keys that expired, were revoked, are other people's, or are none,
// leave nothing behind; a signature that was made while its key was good stays good.
func TestDownloadKeys(t *testing.T) {
	dir := filepath.Join("..", "internal", "pgp", "testdata") // made by gpg: signed on day 100
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return data
	}
	day := func(n int) time.Time { return time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, n) }
	message := read("message")
	for _, tt := range []struct {
		name, signer string
		keys         []string
		day          int
		good         bool
	}{
		{"good key", "ed", []string{"ed"}, 101, true},
		{"one of several keys", "rsa", []string{"ed", "expired", "rsa"}, 101, true},
		{"not expired yet", "expired", []string{"expired"}, 364, true},
		{"expired", "expired", []string{"expired"}, 366, false},
		{"expired subkey", "subexpired", []string{"subexpired"}, 366, false},
		{"revoked", "revoked", []string{"revoked"}, 201, false},
		{"revoked subkey", "subrevoked", []string{"subrevoked"}, 201, false},
		{"key of the future", "ed", []string{"ed"}, -2, false},
		{"unknown key", "rsa", []string{"ed", "p256"}, 101, false},
		{"no keys in the file", "ed", nil, 101, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := bootimage.DownloadOptions{Now: day(tt.day), Keys: [][]byte{}}
			for _, key := range tt.keys {
				o.Keys = append(o.Keys, read(key+".asc"))
			}
			if tt.keys == nil {
				o.Keys = append(o.Keys, []byte("not a key"))
			}
			server := &fileServer{data: message, ranges: true, sig: read(tt.signer + ".message.sig")}
			root := openRoot(t)
			_, err := download(t, root, bootimage.Entry{URL: serve(t, server), SHA256: sum256(message)}, o)
			if tt.good {
				require.NoError(t, err)
				require.Equal(t, []string{"d.raw"}, names(t, root))
				return
			}
			require.Error(t, err)
			require.Empty(t, names(t, root), "%v", err)
			if tt.keys != nil {
				require.ErrorIs(t, err, bootimage.ErrVerification)
			}
		})
	}
}

// TestSignedDocuments signs every document of a stream as files are signed: gpg finds the
// signatures good, and those of a changed document bad, as does our verifier.
func TestSignedDocuments(t *testing.T) {
	interop.Peer(t, "gpg")
	secret, public := gpgKey(t)
	signer, err := pgpsigner.ParseSigner(secret, time.Now, nil)
	require.NoError(t, err)
	key, err := os.ReadFile(public)
	require.NoError(t, err)
	keyring, err := pgpsigner.ParseKeyring(key)
	require.NoError(t, err)
	home := t.TempDir()
	gpg := func(args ...string) error {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--no-autostart"}, args...)...)
		return cmd.Run()
	}
	require.NoError(t, gpg("--import", public))

	release, err := bootimage.ReleaseFor([]bootimage.Meta{sampleMeta()}, &bootimage.ReleaseOptions{Stream: "own", BaseURL: "https://e.example/builds"})
	require.NoError(t, err)
	stream, err := bootimage.StreamFor(release.Value(), &bootimage.StreamOptions{LastModified: later})
	require.NoError(t, err)
	index, err := bootimage.NewDocument(releasemd.Index{Note: "for tools", Stream: "own", Metadata: releasemd.Metadata{LastModified: "2026-11-25T20:54:07Z"}})
	require.NoError(t, err)
	updates, err := bootimage.AddUpdate(rollout("9.0.20250222-0", 1764100000, 1), &bootimage.UpdatesOptions{Stream: "own", Now: later})(nil)
	require.NoError(t, err)
	for name, data := range map[string][]byte{"stream": stream.Bytes(), "release.json": release.Bytes(), "releases.json": index.Bytes(), "updates": updates} {
		signature, err := signer.Sign(t.Context(), bytes.NewReader(data))
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "document.json")
		require.NoError(t, os.WriteFile(path+".sig", signature, 0o600))
		verify := func(data []byte) (ours, theirs error) {
			require.NoError(t, os.WriteFile(path, data, 0o600))
			_, ours = pgpsigner.NewVerifier(keyring, time.Now, nil).Verify(t.Context(), bytes.NewReader(data), signature)
			return ours, gpg("--verify", path+".sig", path)
		}
		ours, theirs := verify(data)
		require.NoError(t, ours, name)
		require.NoError(t, theirs, name)
		ours, theirs = verify(bytes.Replace(data, []byte("own"), []byte("0wn"), 1))
		require.Error(t, ours, name)
		require.Error(t, theirs, name)
	}
}
