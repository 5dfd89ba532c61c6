package ostree_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// TestDebianAsPeer commits a Debian system, without its large folders, in every
// mode: the same commit and the same objects on both sides, each side's fsck and
// checkout take the other's, and what we pull from their repository is what they
// pull.
func TestDebianAsPeer(t *testing.T) {
	interop.Peer(t, "ostree", "debootstrap")
	if !isRoot() {
		t.Skip("the tree needs root")
	}
	t.Parallel()
	folder := interop.DebianTree(t)
	skipped := []string{"boot", "usr/bin", "usr/include", "usr/lib", "usr/sbin", "usr/share", "var/lib", "var/cache"}
	skip := filepath.Join(t.TempDir(), "skip")
	require.NoError(t, os.WriteFile(skip, []byte("/"+strings.Join(skipped, "\n/")+"\n"), 0o644))
	theirs := make(map[ostree.Mode]string)
	for _, mode := range allModes() {
		opts := &ostree.CommitOptions{Ref: "debian", Subject: "s", Timestamp: time.Unix(1_700_000_000, 0), Metadata: []ostree.MetadataItem{ostree.RefBinding("debian")},
			Edit: func(e *ostree.Entry) (bool, error) { return !slices.Contains(skipped, e.Path), nil }}
		theirs[mode] = peerRepo(t, mode)
		args := []string{"commit", "--repo=" + theirs[mode], "--branch=debian", "--subject=s", "--timestamp=@1700000000", "--skip-list=" + skip, "--tree=dir=" + folder}
		if mode == ostree.ModeBareUserOnly { // which keeps nothing else
			args = append(args, "--canonical-permissions", "--no-xattrs")
			opts.CanonicalPermissions, opts.SkipXattrs = true, true
		}
		want := strings.TrimSpace(run(t, "ostree", args...))
		r := newRepo(t, mode)
		got, err := r.Commit(t.Context(), openDir(t, folder), opts)
		require.NoError(t, err)
		sameCommit(t, theirs[mode], want, r.Path(), got.String())
		same(t, objectNames(t, theirs[mode]), objectNames(t, r.Path()))

		run(t, "ostree", "--repo="+r.Path(), "fsck", "-q")
		peer, err := ostree.Open(t.Context(), theirs[mode], nil)
		require.NoError(t, err)
		defer peer.Close()
		require.NoError(t, peer.Fsck(t.Context(), nil))
		out := t.TempDir()
		run(t, "ostree", "--repo="+r.Path(), "checkout", "-U", "debian", out+"/theirs")
		require.NoError(t, os.Mkdir(out+"/ours", 0o755))
		checkout(t, peer, out+"/ours", got, &ostree.CheckoutOptions{UserMode: true})
		same(t, listing(t, out+"/theirs"), listing(t, out+"/ours"))
	}
	source := staticServer(t, theirs[ostree.ModeArchive])
	for _, mode := range faithful() {
		r, dst := newRepo(t, mode), peerRepo(t, mode)
		require.NoError(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: source, Revs: []string{"debian"}, Verifier: unverified}))
		run(t, "ostree", "--repo="+dst, "remote", "add", "--no-gpg-verify", "origin", source)
		run(t, "ostree", "--repo="+dst, "pull", "origin", "debian")
		same(t, objectNames(t, dst), objectNames(t, r.Path()))
		run(t, "ostree", "--repo="+r.Path(), "fsck", "-q")
	}
}
