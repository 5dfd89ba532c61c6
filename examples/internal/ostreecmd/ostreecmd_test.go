package ostreecmd_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// TestCommands runs every command and compares all that is printed.
func TestCommands(t *testing.T) {
	workFolder(t)
	words := map[string]string{
		"secret": "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==", // of RFC 8032's test vectors
		"public": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
	}
	require.NoError(t, os.WriteFile("skip", []byte("/var\n"), 0o644))
	require.NoError(t, os.WriteFile("modes", []byte("2048 /usr/bin/hello\n=384 /etc/motd\n"), 0o644))
	require.NoError(t, os.WriteFile("body", []byte("First line.\n\nLast line.\n"), 0o644))
	require.NoError(t, os.WriteFile("public", []byte(words["public"]+"\n"), 0o644))
	require.NoError(t, os.WriteFile("secret", []byte(words["secret"]+"\n"), 0o600))
	got := script(t, words, `
		--repo=repo init --mode=archive
		--repo=repo config set core.fsync false
		--repo=repo config get core.mode
		--repo=repo commit -b os/main -s First --owner-uid=0 --owner-gid=0 --no-xattrs --add-metadata-string=version=1.0 tree
		--repo=repo commit -b os/main -s Second -F body --owner-uid=0 --owner-gid=0 --no-xattrs --add-metadata='n=uint32 7' --skip-list=skip --statoverride=modes --mode-ro-executables --bootable --table-output tree
		--repo=repo commit -b os/main --skip-if-unchanged --tree=ref=os/main
		--repo=repo commit --orphan --no-bindings --timestamp=@0 --canonical-permissions --sign=%secret --add-detached-metadata-string=who=me tree
		--repo=repo commit -b os/next --base=os/main --tree=dir=tree/etc --owner-uid=7 --owner-gid=8 --no-xattrs --bind-ref=os/later
		--repo=repo commit -b os/main --keep-metadata=n --tree=ref=os/main
		--repo=repo log os/main
		--repo=repo log --raw os/main^
		--repo=repo log -o json os/main^
		--repo=repo show os/main
		--repo=repo show --list-metadata-keys os/main
		--repo=repo show --print-metadata-key=n os/main
		--repo=repo show -B --print-metadata-key=n os/main
		--repo=repo show --print-metadata-key=version -o json os/main^
		--repo=repo rev-parse os/main os/main^ os/next
		--repo=repo ls os/main
		--repo=repo ls -R -C -X os/main
		--repo=repo ls -d os/main /usr /etc/motd
		--repo=repo ls --nul-filenames-only -R os/main /usr/bin
		--repo=repo ls -o json os/main /usr/bin
		--repo=repo cat os/main /etc/motd /usr/bin/hi
		--repo=repo diff os/main
		--repo=repo diff os/main os/next
		--repo=repo diff -o json os/main os/next
		--repo=repo refs
		--repo=repo refs os
		--repo=repo refs --list os
		--repo=repo refs --revision
		--repo=repo refs --create=os/stable os/main^
		--repo=repo refs --create=latest --alias os/main
		--repo=repo refs --alias
		--repo=repo refs -o json
		--repo=repo refs --delete latest os/next
		--repo=repo reset os/stable os/main
		--repo=repo refs -r
		--repo=repo sign os/main %secret
		--repo=repo sign --verify os/main %public
		--repo=repo sign --verify -o json --keys-file=public os/main
		--repo=repo sign --keys-file=secret os/stable
		--repo=repo show os/main
		--repo=repo show -o json os/main
		--repo=repo sign --delete os/main %public
		--repo=repo sign --verify os/main %public
		--repo=repo fsck
		--repo=repo fsck -q -o json
		--repo=repo fsck --verify-back-refs
		--repo=repo prune --no-prune --refs-only --depth=0
		--repo=repo prune --refs-only
		--repo=repo prune --refs-only -o json
		--repo=copy init --mode=bare-user
		--repo=copy pull-local --disable-verify-bindings --depth=-1 repo
		--repo=copy pull-local -o json --remote=origin repo os/main
		--repo=copy refs
		--repo=copy refs origin:
		--repo=copy refs --list origin:os
		--repo=copy fsck --quiet
		--repo=repo summary --update --add-metadata='note=<"x">' --sign-type=ed25519 --sign-from-file=secret
		--repo=repo summary --view -o json
		--repo=repo summary --list-metadata-keys
		--repo=repo summary --print-metadata-key=note
		--repo=repo summary --raw
		--repo=repo static-delta list
		--repo=repo static-delta list -o json
		--repo=copy remote add origin http://localhost:1/repo os/main --no-gpg-verify --set=tls-permissive=true
		--repo=copy remote add signed http://localhost:1/signed --sign-verify=ed25519=inline:%public
		--repo=copy remote add origin http://localhost:2/ --if-not-exists
		--repo=copy remote list
		--repo=copy remote list --show-urls
		--repo=copy remote list -o json
		--repo=copy remote show-url signed
		--repo=copy remote delete signed
		--repo=copy remote delete signed --if-exists
		--repo=copy remote list
		--repo=repo config unset core.fsync
		--repo=repo config get --group=core fsync
	`)
	golden(t, "commands.golden", got)
}

// TestHelp: the texts that people read first.
func TestHelp(t *testing.T) {
	got := script(t, nil, "--help\ncommit --help\nprune --help")
	golden(t, "help.golden", got)
}

func TestCheckout(t *testing.T) {
	workFolder(t)
	initRepo(t, "bare-user")
	repo := func(args ...string) string { return okd(t, append([]string{"--repo=repo"}, args...)...) }
	repo("commit", "-b", "os", "tree")

	repo("checkout", "-UC", "os", "out")
	data, err := os.ReadFile("out/usr/bin/hi")
	require.NoError(t, err)
	require.Equal(t, "#!/bin/sh\necho hello\n", string(data))
	repo("checkout", "-U", "os") // the folder has the name of the commit
	require.DirExists(t, "os/usr")
	repo("checkout", "-UC", "--subpath=/usr/bin", "os", "sub")
	require.FileExists(t, "sub/hello")
	repo("checkout", "-U", "--allow-noent", "--subpath=/nowhere", "os", "none")
	require.NoDirExists(t, "none")

	require.NoError(t, os.WriteFile("out/etc/motd", []byte("mine\n"), 0o644)) // the object is another's
	repo("checkout", "-UC", "--union-add", "os", "out")
	data, err = os.ReadFile("out/etc/motd")
	require.NoError(t, err)
	require.Equal(t, "mine\n", string(data))

	require.NoError(t, os.WriteFile("skip", []byte("/usr\n"), 0o644))
	repo("checkout", "-UC", "--skip-list=skip", "--fsync=true", "os", "skipped")
	require.NoDirExists(t, "skipped/usr")
	require.FileExists(t, "skipped/etc/conf.d/a")

	require.NoError(t, os.WriteFile("list", []byte("os\x00/usr/bin\x00os\x00/etc\x00"), 0o644))
	repo("checkout", "-UC", "--union", "--from-file=list", "many")
	require.FileExists(t, "many/hello")
	require.FileExists(t, "many/conf.d/a")

	// The repository of bare-user hands out its own files, and knows them again.
	repo("checkout", "-UH", "os", "linked")
	commit := repo("commit", "-b", "os", "--devino-canonical", "--link-checkout-speedup", "linked")
	require.Empty(t, repo("diff", "os"), commit)
}

func TestCommitUnread(t *testing.T) {
	workFolder(t)
	initRepo(t, "bare-user")
	time.Sleep(50 * time.Millisecond) // a file is not known before the clock has moved on
	commit := func(more ...string) string {
		return okd(t, append([]string{"--repo=repo", "commit", "-b", "os", "--timestamp=@1", "--table-output", "tree"}, more...)...)
	}
	require.Contains(t, commit("--devino-cache"), "Content Cache Hits: 0\n")
	second := commit("--devino-cache")
	_, total, _ := strings.Cut(second, "Content Total: ")
	total, _, _ = strings.Cut(total, "\n")
	require.NotEqual(t, "0", total)
	require.Contains(t, second, "Content Cache Hits: "+total+"\n")
	require.Contains(t, commit("--link-checkout-speedup"), "Content Cache Hits: ")
	require.Contains(t, commit("--link-checkout-speedup"), "Content Cache Hits: "+total+"\n")
	require.Contains(t, commit(), "Content Cache Hits: 0\n")
}

func TestCheckoutThatFails(t *testing.T) {
	workFolder(t)
	initRepo(t, "bare-user")
	okd(t, "--repo=repo", "commit", "-b", "os", "tree")
	found, err := filepath.Glob("repo/objects/*/*.file")
	require.NoError(t, err)
	for _, name := range found {
		require.NoError(t, os.WriteFile(name, []byte("damaged"), 0o644))
	}
	r := call(t.Context(), nil, "--repo=repo", "checkout", "-UC", "os", "out")
	require.Equal(t, 3, r.code, r.stderr)
	require.NoDirExists(t, "out", "what was begun is removed")

	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as Ctrl-C does
	r = call(ctx, nil, "--repo=repo", "checkout", "-UC", "os", "out")
	require.Equal(t, result{1, "", "okd-streams: stopped\n  nothing half-done is left: run it again\n"}, r)
	require.NoDirExists(t, "out")
}

func TestExport(t *testing.T) {
	workFolder(t)
	initRepo(t, "archive")
	okd(t, "--repo=repo", "commit", "-b", "os", "--no-xattrs", "--owner-uid=0", "--owner-gid=0", "tree")
	stream := okd(t, "--repo=repo", "export", "--subpath=/etc", "--prefix=x/", "os")
	var names []string
	for in := tar.NewReader(strings.NewReader(stream)); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		names = append(names, h.Name)
	}
	require.Contains(t, names, "x/conf.d/a")

	okd(t, "--repo=repo", "export", "os", "-o", "out.tar")
	file, err := os.ReadFile("out.tar")
	require.NoError(t, err)
	require.Equal(t, okd(t, "--repo=repo", "export", "os"), string(file))
	require.Empty(t, must(filepath.Glob(".out.tar*")))

	// And back: from a file, and from standard input.
	okd(t, "--repo=repo", "commit", "-b", "again", "--tree=tar=out.tar")
	require.Empty(t, okd(t, "--repo=repo", "diff", "os", "again"))
	r := call(t.Context(), bytes.NewReader(file), "--repo=repo", "commit", "-b", "stdin", "--tree=tar=-")
	require.Zero(t, r.code, r.stderr)
	require.Empty(t, okd(t, "--repo=repo", "diff", "os", "stdin"))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestConsume(t *testing.T) {
	workFolder(t)
	initRepo(t, "archive")
	okd(t, "--repo=repo", "commit", "-b", "os", "--consume", "tree")
	require.NoDirExists(t, "tree")
	require.Contains(t, okd(t, "--repo=repo", "ls", "os"), "/usr")
}

// TestConsumeLinks: a file is its object afterwards, where the repository can keep it so.
func TestConsumeLinks(t *testing.T) {
	modes := []string{"bare-user-only"}
	if os.Getuid() == 0 {
		modes = append(modes, "bare") // which keeps owners
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			workFolder(t)
			initRepo(t, mode)
			require.NoError(t, os.WriteFile("tree/taken", []byte("taken"), 0o644))
			before, err := os.Stat("tree/taken")
			require.NoError(t, err)
			okd(t, "--repo=repo", "commit", "-b", "os", "--consume", "tree")
			require.NoDirExists(t, "tree")
			objects, err := filepath.Glob("repo/objects/*/*.file")
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(objects, func(name string) bool {
				info, err := os.Stat(name)
				return err == nil && os.SameFile(before, info)
			}))
			require.Equal(t, "taken", okd(t, "--repo=repo", "cat", "os", "/taken"))
			okd(t, "--repo=repo", "fsck")
		})
	}
}

// TestComposefs: the digest in the metadata is that of the image.
func TestComposefs(t *testing.T) {
	workFolder(t)
	initRepo(t, "bare-user")
	okd(t, "--repo=repo", "commit", "-b", "os", "--generate-composefs-metadata", "tree")
	var shown struct{ Value string }
	require.NoError(t, json.Unmarshal([]byte(okd(t, "--repo=repo", "show", "-o", "json", "--print-hex", "--print-metadata-key=ostree.composefs.digest.v0", "os")), &shown))
	require.Len(t, shown.Value, 64)
	okd(t, "--repo=repo", "checkout", "--composefs", "os", "image")
	info, err := os.Stat("image")
	require.NoError(t, err)
	require.Positive(t, info.Size())
}

// TestRepair: what another repository has whole is taken from it.
func TestRepair(t *testing.T) {
	workFolder(t)
	initRepo(t, "archive")
	okd(t, "--repo=repo", "commit", "-b", "os", "tree")
	okd(t, "--repo=copy", "init", "--mode=archive")
	okd(t, "--repo=copy", "pull-local", "repo")
	found, err := filepath.Glob("repo/objects/*/*.filez")
	require.NoError(t, err)
	for _, name := range found[:2] {
		require.NoError(t, os.Remove(name))
	}
	r := call(t.Context(), nil, "--repo=repo", "fsck", "--all")
	require.Equal(t, 3, r.code)
	require.Equal(t, 2, strings.Count(r.stderr, ".file:"), r.stderr)
	require.Contains(t, okd(t, "--repo=repo", "fsck", "--repair-from=copy"), "Repaired 2 objects\n")
	require.Contains(t, okd(t, "--repo=repo", "fsck"), "no errors found")
}

// TestDefaultRepo: the current folder, then the environment's.
func TestDefaultRepo(t *testing.T) {
	workFolder(t)
	initRepo(t, "archive")
	okd(t, "--repo=repo", "commit", "-b", "os", "tree")
	t.Setenv("OSTREE_REPO", must(filepath.Abs("repo")))
	require.Equal(t, "os\n", okd(t, "refs"))
	t.Setenv("OSTREE_REPO", "nowhere")
	t.Chdir("repo")
	require.Equal(t, "os\n", okd(t, "refs"))
}

// TestPull serves one repository and pulls into another.
func TestPull(t *testing.T) {
	workFolder(t)
	initRepo(t, "archive")
	okd(t, "--repo=repo", "commit", "-b", "os", "tree")
	okd(t, "--repo=repo", "commit", "-b", "os", "-s", "Second", "tree/etc")
	okd(t, "--repo=repo", "commit", "-b", "other", "tree/usr")
	okd(t, "--repo=repo", "summary", "-u")
	r, err := ostree.Open(t.Context(), "repo", nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	handler, err := ostree.Handler(r)
	require.NoError(t, err)
	var tokens atomic.Int64 // requests that have it
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("X-Token") == "t" {
			tokens.Add(1)
		}
		handler.ServeHTTP(w, q)
	}))
	t.Cleanup(server.Close)

	okd(t, "--repo=client", "init", "--mode=bare-user")
	okd(t, "--repo=client", "config", "set", "core.fsync", "false")
	failed := call(t.Context(), nil, "--repo=client", "pull", "origin", "os")
	require.Equal(t, 1, failed.code)
	require.Contains(t, failed.stderr, "\n  okd-streams ostree remote list lists")

	okd(t, "--repo=client", "remote", "add", "origin", server.URL)
	failed = call(t.Context(), nil, "--repo=client", "pull", "origin", "os")
	require.Equal(t, 3, failed.code, "it is not signed: %s", failed.stderr)
	require.Contains(t, failed.stderr, "--no-sign-verify")

	okd(t, "--repo=client", "remote", "add", "--force", "--no-gpg-verify", "origin", server.URL)
	require.Regexp(t, `^4 metadata, 2 content objects fetched; .* transferred\n$`, okd(t, "--repo=client", "pull", "--http-header=X-Token=t", "origin:os"))
	require.Positive(t, tokens.Load())
	require.Equal(t, okd(t, "--repo=repo", "rev-parse", "os"), okd(t, "--repo=client", "rev-parse", "origin:os"))
	var stats map[string]int
	require.NoError(t, json.Unmarshal([]byte(okd(t, "--repo=client", "pull", "--depth=-1", "-o", "json", "origin", "os", "other")), &stats))
	require.Equal(t, 2, stats["commits"])
	okd(t, "--repo=client", "pull", "--mirror", "origin")
	require.Equal(t, "origin:os\norigin:other\nos\nother\n", okd(t, "--repo=client", "refs"))
	okd(t, "--repo=client", "fsck", "-q")

	failed = call(t.Context(), nil, "--repo=client", "pull", "origin", "none")
	require.Equal(t, 1, failed.code)
	require.Contains(t, failed.stderr, "\n  check the URL")
	okd(t, "--repo=repo", "reset", "os", "os^")
	failed = call(t.Context(), nil, "--repo=client", "pull", "--timestamp-check-from-rev=origin:os", "--network-retries=0", "origin", "os")
	require.Zero(t, failed.code, "both were made at one time: %s", failed.stderr)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	failed = call(ctx, nil, "--repo=client", "pull", "origin", "os")
	require.Equal(t, 1, failed.code)
	require.Contains(t, failed.stderr, "okd-streams: stopped\n  ")
}

// TestLabels commits by the policy of the tree, of another and of a commit.
func TestLabels(t *testing.T) {
	workFolder(t)
	initRepo(t, "bare-user")
	require.NoError(t, os.MkdirAll("tree/usr/etc/selinux/targeted/contexts/files", 0o755))
	require.NoError(t, os.WriteFile("tree/usr/etc/selinux/config", []byte("SELINUX=enforcing\nSELINUXTYPE=targeted\n"), 0o644))
	require.NoError(t, os.WriteFile("tree/usr/etc/selinux/targeted/contexts/files/file_contexts", []byte("/.*\tsystem_u:object_r:root_t:s0\n/usr(/.*)?\tsystem_u:object_r:usr_t:s0\n"), 0o644))
	require.NoError(t, os.Remove("tree/etc/motd"))
	require.NoError(t, os.RemoveAll("tree/etc"))
	label := func(rev, name string) string {
		_, after, _ := strings.Cut(okd(t, "--repo=repo", "ls", "-dX", rev, name), "(b'security.selinux', b'")
		label, _, _ := strings.Cut(after, "'")
		return label
	}
	okd(t, "--repo=repo", "commit", "-b", "a", "-P", "tree")
	require.Equal(t, "system_u:object_r:usr_t:s0", label("a", "/usr/bin/hello"))
	require.Equal(t, "system_u:object_r:root_t:s0", label("a", "/empty"))
	okd(t, "--repo=repo", "commit", "-b", "b", "--selinux-policy=tree", "--selinux-labeling-epoch=1", "tree")
	require.Equal(t, "system_u:object_r:usr_t:s0", label("b", "/usr/bin"))
	require.Equal(t, "system_u:object_r:root_t:s0", label("b", "/usr/etc"), "as /etc")

	require.NoError(t, os.Mkdir("more", 0o755))
	require.NoError(t, os.WriteFile("more/new", []byte("new"), 0o644))
	okd(t, "--repo=repo", "commit", "-b", "c", "-P", "--tree=ref=a", "--tree=dir=more")
	require.Equal(t, "system_u:object_r:root_t:s0", label("c", "/new"))
	okd(t, "--repo=repo", "commit", "-b", "d", "-P", "--base=a", "--tree=dir=more", "--owner-uid=7")
	require.Equal(t, "system_u:object_r:root_t:s0", label("d", "/new"))
	require.Equal(t, "A    /new\n", strings.TrimPrefix(okd(t, "--repo=repo", "diff", "a", "d"), "M    /\n"))
}

// TestReadme runs the commands of the README as they are written.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(testdata, "../../../../README.md"))
	require.NoError(t, err)
	workFolder(t)
	require.NoError(t, os.Rename("tree", "rootfs"))
	n := 0
	for line := range strings.Lines(string(readme)) {
		if command, ok := strings.CutPrefix(line, "    $ okd-streams ostree "); ok {
			n++
			okd(t, split(strings.TrimSpace(command))...)
		}
	}
	require.Positive(t, n)
	require.FileExists(t, "tree/usr/bin/hello")
}

// TestRelativeDates: times that count from now, which is between two readings of
// the clock.
func TestRelativeDates(t *testing.T) {
	workFolder(t)
	initRepo(t, "archive")
	for text, step := range map[string]func(time.Time) time.Time{
		"now":                  func(t time.Time) time.Time { return t },
		"yesterday":            func(t time.Time) time.Time { return t.AddDate(0, 0, -1) },
		"tomorrow":             func(t time.Time) time.Time { return t.AddDate(0, 0, 1) },
		"30 days ago":          func(t time.Time) time.Time { return t.AddDate(0, 0, -30) },
		"-1 week":              func(t time.Time) time.Time { return t.AddDate(0, 0, -7) },
		"+2 hours":             func(t time.Time) time.Time { return t.Add(2 * time.Hour) },
		"last month":           func(t time.Time) time.Time { return t.AddDate(0, -1, 0) },
		"next year":            func(t time.Time) time.Time { return t.AddDate(1, 0, 0) },
		"a fortnight ago":      func(t time.Time) time.Time { return t.AddDate(0, 0, -14) },
		"yesterday 90 minutes": func(t time.Time) time.Time { return t.AddDate(0, 0, -1).Add(90 * time.Minute) },
		"1 day 5 seconds ago":  func(t time.Time) time.Time { return t.AddDate(0, 0, 1).Add(-5 * time.Second) },
	} {
		before := step(time.Now()).Truncate(time.Second)
		okd(t, "--repo=repo", "commit", "-b", "os", "--timestamp="+text, "tree/var")
		after := step(time.Now())
		var shown struct{ Commit struct{ Timestamp time.Time } }
		require.NoError(t, json.Unmarshal([]byte(okd(t, "--repo=repo", "show", "-o", "json", "os")), &shown))
		require.False(t, shown.Commit.Timestamp.Before(before) || shown.Commit.Timestamp.After(after), "%s: %s, not from %s to %s", text, shown.Commit.Timestamp, before, after)
	}
	for _, text := range []string{"3", "3 suns ago", "9999999 days ago", "now now", "@-1", "ago"} {
		r := call(t.Context(), nil, "--repo=repo", "prune", "--keep-younger-than="+text, "--no-prune")
		require.Equal(t, 2, r.code, "%s: %s", text, r.stdout)
	}
}
