package ostreecmd_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

// peerOK runs `ostree`, which must succeed.
func peerOK(t testing.TB, args ...string) string {
	t.Helper()
	out, failed := peer(t, args...)
	require.False(t, failed, "%v: %s", args, out)
	return out
}

// served is a repository of `ostree` with a history, its summary and a delta, and
// the URL of a server of its files.
func served(t *testing.T, work string) string {
	t.Helper()
	repo := filepath.Join(work, "repo")
	peerOK(t, "--repo="+repo, "init", "--mode=archive")
	peerOK(t, "--repo="+repo, "config", "set", "core.fsync", "false")
	for i, args := range [][]string{{"-b", "os/main", work + "/v1", "--add-metadata-string=version=1"}, {"-b", "os/main", work + "/v3"}, {"-b", "other", work + "/v1/same", "--add-metadata-string=version=2"}} {
		peerOK(t, append([]string{"--repo=" + repo, "commit", fmt.Sprintf("--timestamp=@%d", 1_700_000_000+i)}, args...)...)
	}
	peerOK(t, "--repo="+repo, "static-delta", "generate", "os/main")
	peerOK(t, "--repo="+repo, "static-delta", "generate", "--empty", "other")
	peerOK(t, "--repo="+repo, "summary", "-u", "--add-metadata=note={'a': <uint32 7>}")
	server := httptest.NewServer(http.FileServer(http.Dir(repo)))
	t.Cleanup(server.Close)
	return server.URL
}

// TestSummaryAsPeer reads the summaries of both with both.
func TestSummaryAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	work := generated(t, 11)
	served(t, work)
	t.Chdir(work)
	for range 2 { // theirs, then ours
		want := peerOK(t, "--repo=repo", "summary", "--view")
		require.Equal(t, want, strings.TrimSuffix(okd(t, "--repo=repo", "summary", "--view"), "Summary is unsigned\n"), "which ostree says since 2023")
		both(t, "--repo=repo", "summary", "--raw")
		require.Equal(t, okd(t, "--repo=repo", "summary", "--view"), okd(t, "--repo=repo", "summary", "-v"))
		bothSorted(t, "--repo=repo", "static-delta", "list")
		for name := range strings.Lines(okd(t, "--repo=repo", "static-delta", "list")) {
			both(t, "--repo=repo", "static-delta", "show", strings.TrimSpace(name))
		}
		// Without the time and the order of metadata, which is none there.
		before := viewed(okd(t, "--repo=repo", "summary", "--view"))
		okd(t, "--repo=repo", "summary", "-u", "--add-metadata=note={'a': <uint32 7>}")
		require.Equal(t, before, viewed(okd(t, "--repo=repo", "summary", "--view")))
	}
	both(t, "--repo=repo", "static-delta", "show", strings.Repeat("0", 64))
	both(t, "--repo=repo", "summary")
}

// viewed are the lines of a summary but for its time.
func viewed(text string) []string {
	list := strings.Split(regexp.MustCompile(`(?m)^(Last-Modified|Static Deltas).*$`).ReplaceAllString(text, ""), "\n")
	slices.Sort(list)
	return list
}

// TestPullAsPeer pulls with both programs.
func TestPullAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	work := generated(t, 12)
	url := served(t, work)
	theirs, ours := t.TempDir(), t.TempDir()
	counts := func(text string) string { // of metadata they count what they ask for twice, too
		return regexp.MustCompile(`\d+ content objects`).FindString(text)
	}
	head := strings.TrimSpace(peerOK(t, "--repo="+work+"/repo", "rev-parse", "os/main^"))
	for _, args := range [][]string{
		{"init", "--mode=bare-user"},
		{"config", "set", "core.fsync", "false"},
		{"remote", "add", "--no-gpg-verify", "origin", url, "other"},
		{"remote", "add", "--no-gpg-verify", "origin", url},
		{"remote", "add", "--if-not-exists", "origin", url + "/x"},
		{"remote", "add", "signed", url},
		{"remote", "list"},
		{"remote", "list", "-u"},
		{"remote", "show-url", "origin"},
		{"remote", "show-url", "none"},
		{"pull", "--disable-static-deltas", "origin"}, // branches of the config
		{"pull", "--disable-static-deltas", "signed", "other"},
		{"pull", "--disable-static-deltas", "--commit-metadata-only", "origin", "os/main"},
		{"pull", "--disable-static-deltas", "origin:os/main"},
		{"pull", "--disable-static-deltas", "origin", "os/main"},
		{"pull", "--disable-static-deltas", "origin", "os/main@" + head},
		{"pull", "--disable-static-deltas", "--timestamp-check", "origin", "os/main"},
		{"pull", "--disable-static-deltas", "--timestamp-check", "origin", "os/main@" + head},
		{"pull", "--disable-static-deltas", "origin", "none"},
		{"pull", "none", "x"},
		{"remote", "delete", "signed"},
		{"remote", "delete", "signed"},
		{"remote", "delete", "--if-exists", "signed"},
		{"fsck", "-q"},
		{"--repo=mirror", "init", "--mode=archive"},
		{"--repo=mirror", "remote", "add", "--no-gpg-verify", "origin", url},
		{"--repo=mirror", "pull", "--mirror", "--depth=-1", "origin"},
		{"--repo=deltas", "init", "--mode=bare-user"},
		{"--repo=deltas", "remote", "add", "--no-gpg-verify", "origin", url},
		{"--repo=deltas", "pull", "origin", "other"}, // there is one from nothing
		{"--repo=deltas", "fsck", "-q"},
	} {
		if !strings.HasPrefix(args[0], "--repo=") {
			args = append([]string{"--repo=repo"}, args...)
		}
		t.Chdir(theirs)
		want, failed := peer(t, args...)
		t.Chdir(ours)
		got := call(t.Context(), nil, args...)
		require.Equal(t, failed, got.code != 0, "%v: %s", args, got.stderr)
		if args[1] != "pull" {
			require.Equal(t, want, got.stdout, "%v", args)
		} else if args[0] == "--repo=deltas" {
			require.Contains(t, got.stdout, "1 static delta, ")
		} else if len(args) > 3 && args[3] == "origin" && !failed {
			require.Equal(t, counts(want), counts(got.stdout), "%v", args)
		}
		if !failed {
			sameFolders(t, theirs, ours, args)
		}
	}
}

// TestDeltaAsPeer applies a delta with both programs.
func TestDeltaAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	work := generated(t, 13)
	served(t, work)
	commit := strings.TrimSpace(peerOK(t, "--repo="+work+"/repo", "rev-parse", "other"))
	found, err := filepath.Glob(work + "/repo/deltas/*/*/superblock")
	require.NoError(t, err)
	theirs, ours := t.TempDir(), t.TempDir()
	each(t, theirs, ours, "--repo=repo", "init", "--mode=bare-user")
	applied := 0
	for _, file := range found {
		if len(filepath.Base(filepath.Dir(file))) < 64 { // from nothing
			each(t, theirs, ours, "--repo=repo", "static-delta", "apply-offline", filepath.Dir(file))
			applied++
		}
	}
	require.Equal(t, 1, applied)
	require.Equal(t, "commit "+commit, strings.Split(okd(t, "--repo=repo", "log", commit), "\n")[0])
	each(t, theirs, ours, "--repo=repo", "static-delta", "apply-offline", "/nowhere")
	each(t, theirs, ours, "--repo=repo", "static-delta", "list")
}

// TestLabelsAsPeer labels with both programs, by a policy of a few lines.
func TestLabelsAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	work := generated(t, 14)
	for _, tree := range []string{"v1", "v3"} {
		dir := filepath.Join(work, tree, "usr/etc/selinux/targeted/contexts/files")
		require.NoError(t, os.MkdirAll(dir, 0o755))
		require.NoError(t, os.MkdirAll(filepath.Join(work, tree, "usr/etc/selinux/targeted/policy"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(work, tree, "usr/etc/selinux/config"), []byte("SELINUX=enforcing\nSELINUXTYPE=targeted\n"), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(work, tree, "usr/etc/selinux/targeted/policy/policy.33"), []byte("policy"), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file_contexts"), []byte(strings.Join([]string{
			"/.*\tsystem_u:object_r:default_t:s0", "/same(/.*)?\tsystem_u:object_r:same_t:s0", "/same/deep\t-d\tsystem_u:object_r:deep_t:s0",
			"/usr/etc(/.*)?\tsystem_u:object_r:etc_t:s0", "/same/link\t-l\tsystem_u:object_r:link_t:s0", "/mode/.*\t--\tsystem_u:object_r:mode_t:s0", "",
		}, "\n")), 0o644))
	}
	theirs, ours := t.TempDir(), t.TempDir()
	run := func(args ...string) string { return each(t, theirs, ours, append([]string{"--repo=repo"}, args...)...) }
	run("init", "--mode=archive")
	run("config", "set", "core.fsync", "false")
	v1, v3 := filepath.Join(work, "v1"), filepath.Join(work, "v3")
	for i, args := range [][]string{
		// libostree 2022.7 leaves a label behind attributes that sort after it.
		{"-P", "--no-xattrs", v1}, {"--selinux-policy=" + v1, "--no-xattrs", v3}, {"-P", "--canonical-permissions", v1}, {"-P", "--tree=ref=main", "--tree=dir=" + v3 + "/added"},
		{"-P", "--no-xattrs", "--base=main", "--tree=dir=" + v3 + "/added"}, {"-P", "--selinux-policy=/", v1},
	} {
		run(append([]string{"commit", "-b", "main", fmt.Sprintf("--timestamp=@%d", 1_700_000_000+i)}, args...)...)
	}
}

// TestSignAsPeer: what one signs by OpenPGP, the other takes.
func TestSignAsPeer(t *testing.T) {
	interop.Peer(t, "ostree", "gpg", "gpgconf")
	home, err := os.MkdirTemp("", "gpg") // whose sockets have short names
	require.NoError(t, err)
	t.Cleanup(func() {
		out, err := exec.Command("gpgconf", "--homedir", home, "--kill", "all").CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.NoError(t, os.RemoveAll(home))
	})
	require.NoError(t, os.Chmod(home, 0o700))
	gpg := func(args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), "gpg", append([]string{"--homedir", home, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		out, err := cmd.Output()
		require.NoError(t, err, "%v", args)
		return out
	}
	gpg("--quick-gen-key", "one", "ed25519", "sign", "2d")
	fingerprint := strings.Split(string(gpg("--with-colons", "--list-keys", "one")), "fpr:::::::::")[1][:40]
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("secret", gpg("--export-secret-keys", "one"), 0o600))
	require.NoError(t, os.WriteFile("public", gpg("--export", "one"), 0o644))
	require.NoError(t, os.Mkdir("tree", 0o755))
	peerOK(t, "--repo=repo", "init", "--mode=archive")
	okd(t, "--repo=repo", "commit", "-b", "ours", "--sign-type=gpg", "--sign-from-file=secret", "tree")
	peerOK(t, "--repo=repo", "remote", "add", "--gpg-import=public", "self", "http://localhost/")
	require.Contains(t, peerOK(t, "--repo=repo", "show", "--gpg-verify-remote=self", "ours"), "Good signature from \"one")
	peerOK(t, "--repo=repo", "commit", "-b", "theirs", "--gpg-sign="+fingerprint, "--gpg-homedir="+home, "tree")
	require.Contains(t, okd(t, "--repo=repo", "sign", "--verify", "--sign-type=gpg", "--keys-file=public", "theirs"), "gpg: Signature verified successfully with key")
	okd(t, "--repo=repo", "summary", "-u", "--sign-type=gpg", "--sign-from-file=secret")

	// Remotes: the keyring that one imports, the other uses.
	server := httptest.NewServer(http.FileServer(http.Dir("repo")))
	t.Cleanup(server.Close)
	for name, add := range map[string]func(...string) string{"theirs": func(args ...string) string { return peerOK(t, args...) }, "ours": func(args ...string) string { return okd(t, args...) }} {
		peerOK(t, "--repo="+name, "init", "--mode=archive")
		require.Equal(t, "Imported 1 GPG key to remote \"origin\"\n", add("--repo="+name, "remote", "add", "--set=gpg-verify-summary=true", "--gpg-import=public", "origin", server.URL))
		okd(t, "--repo="+name, "pull", "origin", "ours")
		peerOK(t, "--repo="+name, "pull", "origin", "theirs")
	}
	okd(t, "--repo=repo", "sign", "--delete", "--sign-type=gpg", "ours", fingerprint)
	require.NotContains(t, peerOK(t, "--repo=repo", "show", "ours"), "Found")
}

// TestHardLinksAsPeer commits checkouts whose files are the repository's own.
func TestHardLinksAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	work := generated(t, 15)
	for _, mode := range []string{"bare-user", "bare-user-only"} {
		theirs, ours := t.TempDir(), t.TempDir()
		run := func(args ...string) string { return each(t, theirs, ours, append([]string{"--repo=repo"}, args...)...) }
		run("init", "--mode="+mode)
		run("config", "set", "core.fsync", "false")
		run("commit", "-b", "main", "--timestamp=@1", work+"/v1")
		run("checkout", "-U", "-H", "main", "co")
		for _, dir := range []string{theirs, ours} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "co/new"), []byte("new"), 0o644))
			require.NoError(t, os.Remove(filepath.Join(dir, "co/same/a")))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "co/same/a"), []byte("other"), 0o644))
			require.NoError(t, os.Rename(filepath.Join(dir, "co/mode/e"), filepath.Join(dir, "co/mode/moved")))
		}
		run("commit", "-b", "main", "--timestamp=@2", "-I", "co")
		run("commit", "-b", "main", "--timestamp=@3", "--devino-canonical", "--link-checkout-speedup", "--owner-uid=7", "co")
		run("commit", "-b", "main", "--timestamp=@4", "--link-checkout-speedup", "--owner-uid=0", "--owner-gid=0", "--no-xattrs", "co")
		for _, dir := range []string{theirs, ours} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "skip"), []byte("/new\n/same/b\n"), 0o644))
		}
		run("commit", "-b", "main", "--timestamp=@5", "-I", "--skip-list=skip", "co")
		require.NoError(t, os.WriteFile(filepath.Join(theirs, "skip"), []byte("/new\n/same/deep\n"), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(ours, "skip"), []byte("/new\n/same/deep\n"), 0o644))
		run("commit", "-b", "main", "--timestamp=@6", "-I", "--skip-list=skip", "co")
		run("commit", "-b", "main", "--timestamp=@7", "-I", "--consume", "co")
	}
}
