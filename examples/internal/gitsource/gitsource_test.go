package gitsource_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/gitsource"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/components"
)

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	require.NoError(t, err, "git %v: %s", args, out)
	return strings.TrimSpace(string(out))
}

// repository has two commits, the second with a submodule, and a tag of the first.
func repository(t *testing.T) (dir, first, second string) {
	t.Helper()
	all := t.TempDir()
	config := filepath.Join(t.TempDir(), "gitconfig")
	require.NoError(t, os.WriteFile(config, []byte("[user]\nname = x\nemail = x@example\n[protocol \"file\"]\nallow = always\n[url \"file://"+all+"/\"]\ninsteadOf = https://git.example/\n"), 0o600))
	t.Setenv("GIT_CONFIG_GLOBAL", config)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_AUTHOR_DATE", "1790000000 +0000")
	t.Setenv("GIT_COMMITTER_DATE", "1790000000 +0000")
	for _, name := range []string{"inner", "outer"} {
		dir = filepath.Join(all, name)
		require.NoError(t, os.Mkdir(dir, 0o755))
		git(t, dir, "init", "--quiet", "--initial-branch=main")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte(name), 0o644))
		git(t, dir, "add", "file")
		git(t, dir, "commit", "--quiet", "--message", "first")
	}
	git(t, dir, "tag", "--annotate", "--message=x", "v1")
	first = git(t, dir, "rev-parse", "HEAD")
	git(t, dir, "submodule", "--quiet", "add", "https://git.example/inner", "sub")
	git(t, dir, "commit", "--quiet", "--message", "second")
	return dir, first, git(t, dir, "rev-parse", "HEAD")
}

func TestFetch(t *testing.T) {
	interop.Peer(t, "git")
	dir, first, second := repository(t)
	f := &gitsource.Fetcher{Dir: filepath.Join(t.TempDir(), "sources")}
	const url = "https://git.example/outer"
	get := func(s components.Source) *components.Tree {
		t.Helper()
		tree, err := f.Fetch(t.Context(), s)
		require.NoError(t, err)
		require.EqualValues(t, 1790000000, tree.Time.Unix())
		return tree
	}
	tree := get(components.Source{Repository: url, Ref: "main"})
	require.Equal(t, second, tree.Commit)
	text, err := os.ReadFile(filepath.Join(tree.Dir, "sub", "file"))
	require.NoError(t, err)
	require.Equal(t, "inner", string(text))
	require.Equal(t, first, get(components.Source{Repository: url, Ref: "v1"}).Commit)
	require.Equal(t, first, get(components.Source{Repository: url, Commit: first}).Commit)

	// A server that gives branches alone.
	git(t, dir, "config", "uploadpack.allowAnySHA1InWant", "false")
	f.Dir = filepath.Join(t.TempDir(), "sources")
	require.Equal(t, first, get(components.Source{Repository: url, Ref: "main", Commit: first}).Commit)

	// What is there needs no server.
	require.NoError(t, os.Rename(dir, dir+"-away"))
	require.Equal(t, first, get(components.Source{Repository: url, Ref: "main", Commit: first}).Commit)
	_, err = f.Fetch(t.Context(), components.Source{Repository: url, Ref: "main"})
	require.ErrorContains(t, err, "git fetch: exit status 128: fatal: ")
	require.NoError(t, os.Rename(dir+"-away", dir))
	for _, s := range []components.Source{
		{Repository: url, Ref: "none"}, {Repository: url, Commit: strings.Repeat("0", 40)}, {Repository: url, Ref: "main", Commit: strings.Repeat("0", 40)},
		{Repository: "https://git.example/none", Ref: "main"},
	} {
		_, err := f.Fetch(t.Context(), s)
		require.ErrorContains(t, err, "git ")
	}
	left, err := filepath.Glob(filepath.Join(f.Dir, "tmp-*"))
	require.NoError(t, err)
	require.Empty(t, left)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.Fetch(ctx, components.Source{Repository: url, Ref: "main"})
	require.ErrorIs(t, err, context.Canceled)
}

func TestFetchFolder(t *testing.T) {
	f := &gitsource.Fetcher{Program: "no-such-program", Dir: t.TempDir()}
	dir := t.TempDir()
	tree, err := f.Fetch(t.Context(), components.Source{Repository: "file://" + dir})
	require.NoError(t, err)
	require.Equal(t, &components.Tree{Dir: dir}, tree)
	_, err = f.Fetch(t.Context(), components.Source{Repository: "file://" + dir + "/none"})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = f.Fetch(t.Context(), components.Source{Repository: "https://git.example/x", Ref: "main"})
	var usage *ui.UsageError
	require.ErrorAs(t, err, &usage)
}
