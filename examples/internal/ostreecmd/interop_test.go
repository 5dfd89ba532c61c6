package ostreecmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ostreecmd"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
)

// peer runs `ostree` and gives what it prints, without progress.
func peer(t testing.TB, args ...string) (stdout string, failed bool) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "ostree", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Stdout, cmd.Stderr = &out, &diagnostics
	err := cmd.Run()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err)
		t.Logf("ostree %v: %s", args, diagnostics.String())
	}
	var kept strings.Builder
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "fsck objects (") {
			kept.WriteString(line)
		}
	}
	return kept.String(), err != nil
}

// both runs a command that changes nothing with both programs and compares what
// they print.
func both(t testing.TB, args ...string) string {
	t.Helper()
	want, failed := peer(t, args...)
	got := call(t.Context(), strings.NewReader(""), args...)
	require.Equal(t, failed, got.code != 0, "%v: %s", args, got.stderr)
	require.Equal(t, want, got.stdout, "%v", args)
	return want
}

// bothSorted is both where `ostree` has no order.
func bothSorted(t testing.TB, args ...string) {
	t.Helper()
	want, failed := peer(t, args...)
	got := call(t.Context(), strings.NewReader(""), args...)
	require.Equal(t, failed, got.code != 0, "%v: %s", args, got.stderr)
	require.ElementsMatch(t, strings.Split(want, "\n"), strings.Split(got.stdout, "\n"), "%v", args)
}

// each runs a command with `ostree` in one folder and with us in another, which
// are the same before, and compares what they print and what is in the folders.
func each(t testing.TB, theirs, ours string, args ...string) string {
	t.Helper()
	t.Chdir(theirs)
	want, failed := peer(t, args...)
	t.Chdir(ours)
	got := call(t.Context(), strings.NewReader(""), args...)
	require.Equal(t, failed, got.code != 0, "%v: %s", args, got.stderr)
	// What is written for links does not count there; and how files are compressed
	// is not the same.
	bytesLine := regexp.MustCompile(`Content Bytes Written: .*`)
	if config, err := os.ReadFile(filepath.Join(theirs, "repo", "config")); err == nil && bytes.Contains(config, []byte("archive")) {
		bytesLine = regexp.MustCompile(`Content Bytes Written: .*|, .* freed|, freeing .*`)
	}
	require.Equal(t, bytesLine.ReplaceAllString(want, ""), bytesLine.ReplaceAllString(got.stdout, ""), "%v", args)
	if !failed { // else they stop where they are
		sameFolders(t, theirs, ours, args)
	}
	return want
}

// sameFolders compares names, modes, owners, links and sizes, of files in archive
// repositories not: how they are compressed is not the same.
func sameFolders(t testing.TB, theirs, ours string, args []string) {
	t.Helper()
	list := func(root string) string {
		var b strings.Builder
		require.NoError(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(root, name)
			for _, volatile := range []string{"/tmp/", "/.lock"} { // of repositories
				if strings.Contains("/"+rel, volatile) {
					return nil
				}
			}
			stat := info.Sys().(*syscall.Stat_t)
			size, target := info.Size(), ""
			if !info.Mode().IsRegular() || strings.HasSuffix(name, ".filez") || strings.HasSuffix(name, "/config") {
				size = 0
			}
			if info.Mode()&fs.ModeSymlink != 0 {
				target, err = os.Readlink(name)
			}
			mode := info.Mode()
			if strings.Contains("/"+rel, "/objects/") && info.IsDir() {
				return nil // made as needed
			}
			fmt.Fprintln(&b, rel, mode, stat.Uid, stat.Gid, size, target)
			return err
		}))
		return b.String()
	}
	require.Equal(t, list(theirs), list(ours), "%v", args)
}

// generated is a folder with trees v1 and v2 of a seed, mixtures of everything that
// commits can hold, and v3, which is v1 with files changed and added.
func generated(t testing.TB, seed uint64) string {
	t.Helper()
	work := t.TempDir()
	// libarchive puts combining characters together.
	opts := &treegen.Options{Composed: true, Files: 60, MaxSize: 16 << 10, Root: os.Getuid() == 0, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	for i, name := range []string{"v1", "v2"} {
		dir := filepath.Join(work, name)
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.NoError(t, treegen.Write(dir, 100*seed+uint64(i), opts))
	}
	// What is in both, with other content, mode, type and owner.
	for _, dir := range []string{"v1", "v2"} {
		for _, sub := range []string{"same/deep/er", "changed/dir", "mode"} {
			require.NoError(t, os.MkdirAll(filepath.Join(work, dir, sub), 0o755))
		}
		for name, content := range map[string]string{"same/a": "a", "same/deep/er/b": "b", "changed/c": dir, "changed/dir/d": dir, "mode/e": "e", "mode/f": "f"} {
			require.NoError(t, os.WriteFile(filepath.Join(work, dir, name), []byte(content), 0o644))
		}
	}
	v1, v2 := filepath.Join(work, "v1"), filepath.Join(work, "v2")
	require.NoError(t, os.Chmod(v2+"/mode/e", 0o600))
	require.NoError(t, os.Chmod(v2+"/mode", 0o700))
	require.NoError(t, os.MkdirAll(v1+"/file-to-dir-not/x", 0o755)) // a directory that becomes a file, and the other way
	require.NoError(t, os.WriteFile(v1+"/file-to-dir-not/x/y", []byte("y"), 0o644))
	require.NoError(t, os.WriteFile(v2+"/file-to-dir-not", []byte("file"), 0o644))
	require.NoError(t, os.WriteFile(v1+"/becomes-dir", []byte("file"), 0o644))
	require.NoError(t, os.MkdirAll(v2+"/becomes-dir/x", 0o755))
	require.NoError(t, os.Symlink("a", v1+"/same/link"))
	out, err := exec.CommandContext(t.Context(), "cp", "-a", v1, filepath.Join(work, "v3")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(work+"/v3/same/a", []byte("other"), 0o640))
	require.NoError(t, os.MkdirAll(work+"/v3/added/deep", 0o755))
	require.NoError(t, os.WriteFile(work+"/v3/added/deep/g", []byte("g"), 0o755))
	require.NoError(t, os.Remove(work+"/v3/mode/e"))
	require.NoError(t, os.WriteFile(v2+"/same/link", []byte("a"), 0o644))
	return work
}

// peerModes are those in which this process can write everything.
func peerModes() []string {
	modes := []string{"archive", "bare-user", "bare-user-only"}
	if os.Getuid() == 0 {
		modes = append(modes, "bare")
	}
	return modes
}

// TestReadAsPeer reads repositories of `ostree` with both programs.
func TestReadAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	for i, mode := range peerModes() {
		if mode == "bare-user" {
			continue // which reads as archive does
		}
		t.Run(mode, func(t *testing.T) {
			t.Chdir(generated(t, uint64(i)))
			repo := func(args ...string) {
				out, failed := peer(t, append([]string{"--repo=repo"}, args...)...)
				require.False(t, failed, out)
			}
			repo("init", "--mode="+mode)
			repo("config", "set", "core.fsync", "false")
			canonical := "--owner-uid=0"
			if mode == "bare-user-only" {
				canonical = "--canonical-permissions"
			}
			repo("commit", "-b", "os/main", "-s", "First ü", "-m", "Body\n\n  more\n", "--timestamp=2026-01-02 03:04:05 +0100", canonical, "--add-metadata-string=version=1.0",
				"--add-metadata=n=uint32 7", "--add-metadata=dict={'x': <['y', \"it's\"]>, 'b': <b'bytes'>}", "--add-detached-metadata-string=who=me", "v1")
			repo("commit", "-b", "os/main", "--timestamp=@1700000001", "v2", canonical)
			repo("commit", "-b", "other", "--orphan", "--timestamp=@1700000002", "v1", "--no-xattrs", canonical)
			repo("refs", "--create=origin:os/main", "os/main^")
			repo("refs", "--create=latest", "--alias", "os/main")

			for _, args := range [][]string{
				{"log", "os/main"}, {"log", "--raw", "os/main"}, {"log", "nowhere"},
				{"show", "os/main"}, {"show", "os/main^"}, {"show", "--raw", "os/main"}, {"show", "-B", "os/main^"}, {"show", "nowhere"},
				{"show", "--print-metadata-key=version", "os/main^"}, {"show", "--print-metadata-key=n", "os/main^"}, {"show", "-B", "--print-metadata-key=n", "os/main^"},
				{"show", "-B", "--print-metadata-key=dict", "os/main^"}, {"show", "--print-metadata-key=none", "os/main^"},
				{"show", "--print-detached-metadata-key=who", "os/main^"}, {"show", "--print-detached-metadata-key=who", "os/main"}, {"show", "--print-related", "os/main"},
				{"rev-parse", "os/main"}, {"rev-parse", "os/main^"}, {"rev-parse", "os/main^^"}, {"rev-parse", "latest", "origin:os/main", "os/main"}, {"rev-parse", "nowhere"}, {"rev-parse", "-S"},
				{"ls", "os/main"}, {"ls", "-R", "os/main"}, {"ls", "-R", "-X", "-C", "os/main"}, {"ls", "-d", "os/main", "/same", "changed/c"}, {"ls", "-RC", "origin:os/main", "/same/deep"},
				{"ls", "os/main", "/nowhere"}, {"ls", "--nul-filenames-only", "-R", "os/main^"}, {"ls", "os/main", "/same/link"}, {"ls", "nowhere"},
				{"cat", "os/main", "/same/a", "same/deep/er/b"}, {"cat", "os/main^", "/same/link"}, {"cat", "os/main", "/same"}, {"cat", "os/main", "/nowhere"},
				{"diff", "os/main"}, {"diff", "os/main^", "os/main"}, {"diff", "os/main", "os/main^"}, {"diff", "--no-xattrs", "os/main"}, {"diff", "os/main", "os/main"}, {"diff", "os/main", "nowhere"},
				{"fsck"}, {"fsck", "-q"}, {"fsck", "-a"},
				{"prune", "--no-prune"}, {"prune", "--no-prune", "--refs-only"}, {"prune", "--no-prune", "--refs-only", "--depth=0"}, {"prune", "--no-prune", "--depth=0"},
				{"prune", "--no-prune", "--keep-younger-than=2030-01-01"}, {"prune", "--no-prune", "--keep-younger-than=@1700000000"}, {"prune", "--no-prune", "--keep-younger-than=30 days ago"},
				{"config", "get", "core.mode"}, {"config", "get", "core.none"}, {"config", "get", "--group=core", "repo_version"},
			} {
				both(t, append([]string{"--repo=repo"}, args...)...)
			}
			for _, args := range [][]string{
				{"refs"}, {"refs", "os"}, {"refs", "--list", "os"}, {"refs", "--list"}, {"refs", "os/main"}, {"refs", "nowhere"}, {"refs", "origin:"}, {"refs", "origin:os"}, {"refs", "-A"}, {"refs", "os", "latest"},
				{"diff", "os/main", "./v2"}, {"diff", "os/main^", "./v1"}, {"diff", "./v1", "./v2"}, {"diff", "./v1", "os/main"}, {"diff", "--owner-uid=5", "--owner-gid=6", "os/main", "./v2"},
			} {
				bothSorted(t, append([]string{"--repo=repo"}, args...)...)
			}
			// Every object, and every file.
			shown := map[string]bool{}
			var list []struct{ Checksum, Contents string }
			require.NoError(t, json.Unmarshal([]byte(okd(t, "--repo=repo", "ls", "-R", "-o", "json", "os/main")), &list))
			for _, e := range list {
				for _, object := range []string{e.Checksum, e.Contents} {
					if len(shown) < 12 && object != "" && !shown[object] {
						both(t, "--repo=repo", "show", object)
						both(t, "--repo=repo", "show", "--raw", object)
						shown[object] = true
					}
				}
			}
		})
	}
}

// TestWriteAsPeer changes repositories that are the same with both programs.
func TestWriteAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	work := generated(t, 7)
	for name, text := range map[string]string{
		"skip": "/same/deep\n/mode/e\n", "modes": "2048 /same/a\n=384 /mode/f\n=493 /changed\n", "body": "One\n\nTwo\n", "unmatched": "/none\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(work, name), []byte(text), 0o644))
	}
	stream, err := exec.CommandContext(t.Context(), "tar", "-C", filepath.Join(work, "v1"), "--format=pax", "--sort=name", "-cf", filepath.Join(work, "v1.tar"), "./same", "./changed", ".").CombinedOutput()
	require.NoError(t, err, "%s", stream)
	for _, mode := range peerModes() {
		if mode == "bare" || mode == "bare-user" {
			continue // which commit as archive does
		}
		t.Run(mode, func(t *testing.T) {
			theirs, ours := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
			require.NoError(t, os.Mkdir(theirs, 0o755))
			require.NoError(t, os.Mkdir(ours, 0o755))
			run := func(args ...string) string { return each(t, theirs, ours, append([]string{"--repo=repo"}, args...)...) }
			run("init", "--mode="+mode)
			run("config", "set", "core.fsync", "false")
			v1, v2 := filepath.Join(work, "v1"), filepath.Join(work, "v2")
			at := 0
			commit := func(args ...string) string {
				at++
				return run(append([]string{"commit", fmt.Sprintf("--timestamp=@%d", 1_700_000_000+at*86400)}, args...)...)
			}
			commit("-b", "main", "-s", "S", "-m", "B", v1)
			commit("-b", "main", "-F", filepath.Join(work, "body"), "--tree=dir="+v2, "--table-output")
			commit("-b", "main", "--skip-if-unchanged", v2)
			commit("-b", "main", "--owner-uid=3", "--owner-gid=4", v1)
			commit("-b", "main", "--no-xattrs", v1)
			commit("-b", "main", "--mode-ro-executables", v1)
			commit("-b", "main", "--canonical-permissions", v1)
			commit("-b", "main", "--skip-list="+filepath.Join(work, "skip"), "--statoverride="+filepath.Join(work, "modes"), v1)
			commit("-b", "main", "--canonical-permissions", "--statoverride="+filepath.Join(work, "modes"), v1)
			commit("-b", "main", "--skip-list="+filepath.Join(work, "unmatched"), v1)
			commit("-b", "main", "--statoverride="+filepath.Join(work, "unmatched"), v1)
			commit("-b", "two", "--tree=dir="+v1, "--tree=dir="+filepath.Join(work, "v3"))
			commit("-b", "two", "--tree=ref=main", "--tree=dir="+v2+"/same", "--owner-uid=9")
			commit("-b", "two", "--tree=ref=main^")
			commit("-b", "two", "--base=main", "--tree=dir="+v2+"/changed", "--owner-uid=9", "--owner-gid=8", "--no-xattrs")
			commit("-b", "tar", "--tree=tar="+filepath.Join(work, "v1.tar"), "--no-xattrs")
			commit("-b", "meta", "--add-metadata-string=version=2", "--add-metadata=n=int64 -5", "--add-metadata=l=[('a', byte 1)]", "--bind-ref=z", "--bind-ref=a", v1+"/same")
			commit("-b", "meta", "--keep-metadata=version", "--keep-metadata=n", "--add-detached-metadata-string=k=v", v1+"/same")
			commit("-b", "meta", "--keep-metadata=none", v1+"/same")
			commit("-b", "meta", "--parent=none", "--no-bindings", v1+"/same")
			commit("--orphan", "--bind-ref=x", v1+"/same")
			commit("-b", "bad..ref/", v1)
			commit(v1)
			commit("-b", "x", "--add-metadata=k=zzz", v1)
			commit("-b", "x", "--tree=nonsense", v1)

			for _, args := range [][]string{
				{"--only-branch=two", "--depth=0"}, {"--only-branch=two", "--only-branch=tar", "--retain-branch-depth=two=1", "--depth=0"}, {"--retain-branch-depth=two=1"}, {"--retain-branch-depth=two=0", "--depth=0"},
				{"--retain-branch-depth=two=-1", "--keep-younger-than=2030-01-01"}, {"--only-branch=two", "--keep-younger-than=@1701100000"}, {"--only-branch=nowhere"}, {"--retain-branch-depth=two"},
			} {
				run(append([]string{"prune", "--no-prune"}, args...)...)
			}
			run("prune", "--only-branch=meta", "--depth=0")

			run("refs", "--create=new", "main")
			run("refs", "--create=new", "main^")
			run("refs", "--create=new", "--force", "main^")
			run("refs", "--create=origin:remote/ref", "two")
			run("refs", "--create=al", "--alias", "new")
			run("refs", "--create=al", "--alias", "main")
			run("refs", "--create=al2", "--alias", "none")
			run("refs", "--delete", "new")
			run("refs", "--delete", "main")
			run("refs", "--delete", "al")
			run("refs", "--delete", "origin:remote")
			run("refs", "--delete", "none")
			run("refs", "--delete")
			run("reset", "meta", "two")
			run("reset", "none", "two")
			run("config", "set", "--group=remote \"x\"", "url", "http://localhost/")
			run("config", "unset", "core.min-free-space-percent")
			run("config", "get", "--group=remote \"x\"", "url")

			run("prune")
			run("prune", "--refs-only", "--depth=2")
			run("prune", "--keep-younger-than=@1700500000")
			head := strings.TrimSpace(run("rev-parse", "two"))
			parent := strings.TrimSpace(run("rev-parse", "two^"))
			run("prune", "--delete-commit="+head)
			run("prune", "--delete-commit="+parent)
			run("prune", "--refs-only", "--depth=0")
			run("prune", "--depth=0")
			run("fsck", "-q")
			commit("-b", "meta/below", v1+"/same")
			for _, dir := range []string{theirs, ours} { // the one's by the other
				t.Chdir(dir)
				both(t, "--repo=repo", "fsck")
			}
		})
	}
}

// TestCheckoutAsPeer checks out with both programs and compares the folders.
func TestCheckoutAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	work := generated(t, 3)
	require.NoError(t, os.WriteFile(filepath.Join(work, "skip"), []byte("/same/deep/\n/changed/c\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(work, "list"), []byte("main\x00/same\x00main^\x00/changed\x00"), 0o644))
	for _, mode := range peerModes() {
		if mode == "bare-user-only" {
			continue // from which all is in user mode
		}
		t.Run(mode, func(t *testing.T) {
			repo := filepath.Join(t.TempDir(), "repo")
			for _, args := range [][]string{{"init", "--mode=" + mode}, {"config", "set", "core.fsync", "false"}, {"commit", "-b", "main", filepath.Join(work, "v1")}, {"commit", "-b", "main", filepath.Join(work, "v3")}} {
				out, failed := peer(t, append([]string{"--repo=" + repo}, args...)...)
				require.False(t, failed, out)
			}
			theirs, ours := t.TempDir(), t.TempDir()
			run := func(args ...string) {
				each(t, theirs, ours, append([]string{"--repo=" + repo, "checkout"}, args...)...)
			}
			// In folders of their own: those that fail leave what they have.
			for _, args := range [][]string{{"-U", "-H", "main", "x"}, {"-H", "main", "x"}, {"-U", "-H", "--union-identical", "main", "x"}, {"-U", "--union-identical", "main", "x"}, {"-U", "--union", "--union-add", "-C", "main", "x"}} {
				if args[0] == "-U" || os.Getuid() == 0 {
					each(t, t.TempDir(), t.TempDir(), append([]string{"--repo=" + repo, "checkout"}, args...)...)
				}
			}
			user := []string{"-U"}
			if os.Getuid() == 0 {
				user = append(user, "") // privileged too
			}
			for i, how := range user {
				dir := func(name string) string { return fmt.Sprint(name, i) }
				with := func(args ...string) {
					if how == "-U" {
						args = append([]string{"-U"}, args...)
					}
					run(args...)
				}
				with("main", dir("plain"))
				with("main", dir("plain"))
				with("-C", "main^", dir("copy"))
				if how == "-U" { // else ostree forgets owners of links
					with("--union", "main", dir("plain"))
				}
				with("--union-add", "-C", "main", dir("copy"))
				with("--subpath=/same", "main", dir("sub"))
				with("--subpath=/none", "main", dir("none"))
				with("--allow-noent", "--subpath=/none", "main", dir("none"))
				with("--skip-list="+filepath.Join(work, "skip"), "main", dir("skipped"))
				with("-C", "-M", "main", dir("dirs"))
				with("--union", "--from-file="+filepath.Join(work, "list"), dir("many"))
			}
		})
	}
}

// TestExportAsPeer commits what both export to the same tree.
func TestExportAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	t.Chdir(generated(t, 5))
	for _, args := range [][]string{{"init", "--mode=archive"}, {"commit", "-b", "main", "v1"}} {
		_, failed := peer(t, append([]string{"--repo=repo"}, args...)...)
		require.False(t, failed)
	}
	for i, args := range [][]string{nil, {"--subpath=/same"}, {"--prefix=a/b/"}, {"--no-xattrs"}} {
		a, b := fmt.Sprintf("a%d.tar", i), fmt.Sprintf("b%d.tar", i)
		_, failed := peer(t, append(append([]string{"--repo=repo", "export", "main"}, args...), "-o", a)...)
		require.False(t, failed)
		okd(t, append(append([]string{"--repo=repo", "export", "main"}, args...), "-o", b)...)
		okd(t, "--repo=repo", "commit", "-b", a, "--no-xattrs", "--tree=tar="+a)
		okd(t, "--repo=repo", "commit", "-b", b, "--no-xattrs", "--tree=tar="+b)
		require.Empty(t, okd(t, "--repo=repo", "diff", a, b), "%v", args)
	}
}

// TestPullLocalAsPeer pulls with both programs, from repositories of the other.
func TestPullLocalAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	work := generated(t, 9)
	t.Chdir(work)
	for _, args := range [][]string{{"init", "--mode=archive"}, {"commit", "-b", "main", "v1"}, {"commit", "-b", "main", "v2"}, {"commit", "-b", "other", "v1/same"}} {
		_, failed := peer(t, append([]string{"--repo=repo"}, args...)...)
		require.False(t, failed)
	}
	src := filepath.Join(work, "repo")
	for _, mode := range []string{"archive", "bare-user"} {
		theirs, ours := t.TempDir(), t.TempDir()
		counts := func(text string) string {
			before, _, _ := strings.Cut(text, "; ")
			return strings.TrimSpace(before)
		}
		for _, args := range [][]string{
			{"init", "--mode=" + mode},
			{"pull-local", src, "other"},
			{"pull-local", "--commit-metadata-only", src, "main"},
			{"pull-local", "--untrusted", src, "main"},
			{"pull-local", "--remote=origin", "--depth=-1", src},
			{"pull-local", src},
			{"pull-local", src, "none"},
		} {
			args = append([]string{"--repo=repo"}, args...)
			t.Chdir(theirs)
			want, failed := peer(t, args...)
			t.Chdir(ours)
			got := call(t.Context(), nil, args...)
			require.Equal(t, failed, got.code != 0, "%v: %s", args, got.stderr)
			if args[2] != "--untrusted" { // of a commit whose object is there, only we count it
				require.Equal(t, counts(want), counts(got.stdout), "%v", args)
			}
			sameFolders(t, theirs, ours, args)
		}
	}
}

// TestDatesAsPeer: what both read as a time is the same one.
func TestDatesAsPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	theirs, ours := t.TempDir(), t.TempDir()
	each(t, theirs, ours, "--repo=repo", "init", "--mode=archive")
	tree := t.TempDir()
	for _, date := range []string{
		"@1700000000", "2026-01-02", "2026-01-02 03:04:05", "2026-01-02 03:04", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05+02:00", "2026-01-02 03:04:05 +0200", "2026-01-02 03:04:05Z",
		"Fri, 02 Jan 2026 03:04:05 +0100", "2 Jan 2026", "Fri Jan  2 03:04:05 2026", "2026-07-02 03:04:05", "soon", "2026-13-01", "@x",
	} {
		each(t, theirs, ours, "--repo=repo", "commit", "-b", "x", "--parent=none", "--timestamp="+date, tree)
	}
}

// TestFlagsOfPeer: every flag of `ostree` does the same here, changes nothing, or
// is refused with what to do instead; none is unknown.
func TestFlagsOfPeer(t *testing.T) {
	interop.Peer(t, "ostree")
	line := regexp.MustCompile(`(?m)^  (?:-(\w), )?--([a-z-]+)`)
	for _, name := range []string{"init", "config", "commit", "checkout", "export", "ls", "cat", "log", "show", "diff", "refs", "rev-parse", "reset", "fsck", "prune", "sign", "summary", "pull", "pull-local",
		"remote add", "remote delete", "remote list", "remote show-url", "remote gpg-import", "static-delta list", "static-delta show", "static-delta apply-offline"} {
		help := peerOK(t, append(strings.Fields(name), "--help")...)
		cmd, _, err := ostreecmd.Command().Find(strings.Fields(name))
		require.NoError(t, err)
		cmd.InitDefaultHelpFlag()
		found := 0
		for _, m := range line.FindAllStringSubmatch(help, -1) {
			if m[2] == "version" || name == "static-delta show" && m[2] == "sysroot" {
				continue
			}
			found++
			flag := cmd.Flag(m[2])
			require.NotNil(t, flag, "%s --%s", name, m[2])
			if m[1] != "" {
				require.Equal(t, m[1], flag.Shorthand, "%s --%s", name, m[2])
			}
		}
		require.Greater(t, found, 1, name)
	}
}
