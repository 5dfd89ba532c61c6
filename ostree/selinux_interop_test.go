package ostree_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// systemPolicy is the policy of this machine.
func systemPolicy(t testing.TB) *ostree.Policy {
	t.Helper()
	p, err := ostree.ReadPolicy(os.DirFS("/"))
	require.NoError(t, err)
	return p
}

// TestLabelsOfOstree labels generated trees with the policy of this machine, from
// directories, archives and commits: the checksums that ostree gives.
func TestLabelsOfOstree(t *testing.T) {
	interop.Peer(t, "ostree", "tar", "matchpathcon")
	if !isRoot() {
		t.Skip("ostree keeps owners for root alone")
	}
	stamp := time.Unix(1700000000, 0)
	p := systemPolicy(t)
	for seed := range uint64(1) {
		tree := t.TempDir()
		// libostree 2022.7 leaves a label behind attributes that sort after it, as
		// those of users do: there are none but those that sort before.
		require.NoError(t, treegen.Write(tree, seed, &treegen.Options{Root: true, NoXattrs: true, MaxSize: 20000, Files: 120, Composed: true}))
		for _, path := range []string{"usr/bin", "usr/etc/selinux", "proc/1", "var/run", "etc/systemd/system", "home/me/.ssh", "lost+found", "selinux"} {
			require.NoError(t, os.MkdirAll(filepath.Join(tree, path), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(tree, path, "passwd"), []byte(path), 0o644))
			require.NoError(t, os.Symlink("passwd", filepath.Join(tree, path, "link")))
		}
		require.NoError(t, unix.Lsetxattr(filepath.Join(tree, "usr/bin/passwd"), "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
		require.NoError(t, unix.Lsetxattr(filepath.Join(tree, "home/me/.ssh/passwd"), "security.selinux", []byte("other:label\x00"), 0))
		require.NoError(t, unix.Lsetxattr(filepath.Join(tree, "selinux/passwd"), "security.selinux", []byte("other:label\x00"), 0))
		peer := filepath.Join(t.TempDir(), "repo")
		run(t, "ostree", "init", "--repo="+peer, "--mode=archive")
		theirs := func(args ...string) string {
			t.Helper()
			return strings.TrimSpace(run(t, "ostree", append([]string{"commit", "--repo=" + peer, "--orphan", "--subject=s", "--no-bindings", "--timestamp=@1700000000", "--selinux-policy=/"}, args...)...))
		}
		repo := newRepo(t, ostree.ModeArchive)
		ours := func(src ostree.Tree, opts ostree.CommitOptions) string {
			t.Helper()
			opts.Subject, opts.Timestamp, opts.SELinux = "s", stamp, p
			c, err := repo.Commit(t.Context(), src, &opts)
			require.NoError(t, err)
			return c.String()
		}
		want := theirs("--tree=dir=" + tree)
		sameCommit(t, peer, want, repo.Path(), ours(openDir(t, tree), ostree.CommitOptions{}))
		require.Equal(t, theirs("--tree=dir="+tree, "--no-xattrs"), ours(openDir(t, tree), ostree.CommitOptions{SkipXattrs: true}))
		require.Equal(t, theirs("--tree=dir="+tree, "--canonical-permissions"), ours(openDir(t, tree), ostree.CommitOptions{CanonicalPermissions: true}))

		// From a commit without labels, and from one that has all.
		bare, err := repo.Commit(t.Context(), openDir(t, tree), &ostree.CommitOptions{Subject: "s", Timestamp: stamp})
		require.NoError(t, err)
		require.Equal(t, want, ours(repo.Tree(bare), ostree.CommitOptions{}))
		labelled, err := ostree.ParseChecksum(want)
		require.NoError(t, err)
		require.Equal(t, want, ours(repo.Tree(labelled), ostree.CommitOptions{}))
		run(t, "ostree", "pull-local", "--repo="+peer, repo.Path(), bare.String())
		require.Equal(t, want, theirs("--tree=ref="+bare.String()))

		// From an archive, without attributes.
		archive := filepath.Join(t.TempDir(), "tree.tar")
		run(t, "tar", "-C", tree, "-cf", archive, ".")
		require.Equal(t, theirs("--tree=tar="+archive), ours(openTar(t, archive), ostree.CommitOptions{}))

		for _, mode := range []ostree.Mode{ostree.ModeBare, ostree.ModeBareUser} {
			r := newRepo(t, mode)
			c, err := r.Commit(t.Context(), openDir(t, tree), &ostree.CommitOptions{Subject: "s", Timestamp: stamp, SELinux: p})
			require.NoError(t, err)
			require.Equal(t, want, c.String())
			run(t, "ostree", "fsck", "--repo="+r.Path())
		}
	}
}

// TestLabelsOfRealTree labels what of a Debian system is not in its largest
// folders, by the policy that is put into it.
func TestLabelsOfRealTree(t *testing.T) {
	interop.Peer(t, "ostree", "debootstrap", "matchpathcon")
	if !isRoot() {
		t.Skip("the tree needs root")
	}
	folder := interop.DebianTree(t)
	// The policy is a layer of its own: the tree stays as it is.
	layer := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(layer, "etc"), 0o755))
	require.NoError(t, os.CopyFS(filepath.Join(layer, "etc/selinux"), os.DirFS("/etc/selinux")))
	src := ostree.Overlay(openDir(t, folder), openDir(t, layer))
	p, err := ostree.TreePolicy(t.Context(), src)
	require.NoError(t, err)

	// What is large, and the one folder whose access list sorts behind a label.
	skipped := []string{"boot", "usr/include", "usr/lib", "usr/share", "var/lib", "var/cache", "var/log/journal"}
	opts := ostree.CommitOptions{Subject: "s", Timestamp: time.Unix(1700000000, 0), SELinux: p, Edit: func(e *ostree.Entry) (bool, error) {
		return !slices.Contains(skipped, e.Path), nil
	}}
	repo := newRepo(t, ostree.ModeBareUser)
	c, err := repo.Commit(t.Context(), src, &opts)
	require.NoError(t, err)

	skip := filepath.Join(t.TempDir(), "skip")
	require.NoError(t, os.WriteFile(skip, []byte("/"+strings.Join(skipped, "\n/")+"\n"), 0o644))
	want := run(t, "ostree", "commit", "--repo="+repo.Path(), "--orphan", "--subject=s", "--no-bindings", "--timestamp=@1700000000",
		"--selinux-policy="+layer, "--skip-list="+skip, "--tree=dir="+folder, "--tree=dir="+layer)
	sameCommit(t, repo.Path(), strings.TrimSpace(want), repo.Path(), c.String())
	got := labels(t, repo, c)
	t.Logf("%d paths", len(got))
	require.Equal(t, "system_u:object_r:shadow_t:s0\x00", got["etc/shadow"])
	require.Equal(t, "system_u:object_r:shell_exec_t:s0\x00", got["usr/bin/bash"])
}

// sameCommit wants equal commits, and shows the first path that differs.
func sameCommit(t testing.TB, wantRepo, want, gotRepo, got string) {
	t.Helper()
	if want == got {
		return
	}
	list := func(repo, commit string) string { // directories have too many checksums to show which path it is
		out := run(t, "ostree", "ls", "-R", "-X", "-C", "--repo="+repo, commit)
		return regexp.MustCompile(`(?m)^(d.*?) [0-9a-f]{64} [0-9a-f]{64}`).ReplaceAllString(out, "$1")
	}
	same(t, list(wantRepo, want), list(gotRepo, got))
	require.Equal(t, want, got)
}
