package tekton_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/stream/tekton"
)

// TestClone runs the script of git-clone against a repository: a branch, then a
// commit before it, into a folder that has another source.
func TestClone(t *testing.T) {
	for _, program := range []string{"bash", "git"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err)
	}
	r, err := tekton.Render(cases["okd-fcos-stable"].definition(t), cases["okd-fcos-stable"].opts)
	require.NoError(t, err)
	script := ""
	for _, o := range r.Objects {
		if task, ok := o.(*tekton.Task); ok && task.Metadata.Name == "git-clone" {
			script = task.Spec.Steps[1].Script
		}
	}
	require.NotEmpty(t, script)

	dir := t.TempDir()
	source := filepath.Join(dir, "upstream")
	env := append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	git := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "git %v: %s", args, out)
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "release-4.15", source)
	git("-C", source, "config", "uploadpack.allowAnySHA1InWant", "true")
	commit := func(text string) string {
		require.NoError(t, os.WriteFile(filepath.Join(source, "Dockerfile"), []byte(text), 0o644))
		git("-C", source, "add", "-A")
		git("-C", source, "commit", "-q", "-m", text)
		return git("-C", source, "rev-parse", "HEAD")
	}
	first, second := commit("first"), commit("second")

	result := filepath.Join(dir, "result")
	clone := func(repo, branch, commit string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash")
		cmd.Stdin = strings.NewReader(strings.NewReplacer("/workspace/shared-workspace", dir, "$(results.source-commit.path)", result).Replace(script))
		cmd.Env = append(env, "REPO="+repo, "BRANCH="+branch, "COMMIT="+commit)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	check := func(commit, text string) {
		got, err := os.ReadFile(result)
		require.NoError(t, err)
		require.Equal(t, commit, string(got))
		data, err := os.ReadFile(filepath.Join(dir, "source", "Dockerfile"))
		require.NoError(t, err)
		require.Equal(t, text, string(data))
		require.NoFileExists(t, filepath.Join(dir, "source", "left"))
	}
	out, err := clone("file://"+source, "release-4.15", "")
	require.NoError(t, err, out)
	check(second, "second")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "source", "left"), nil, 0o644))
	out, err = clone("file://"+source, "release-4.15", first)
	require.NoError(t, err, out)
	check(first, "first")

	// Values are values: no option, and no program.
	hit := filepath.Join(dir, "hit")
	for _, branch := range []string{"--upload-pack=touch " + hit, "$(touch " + hit + ")", "`touch " + hit + "`", "; touch " + hit} {
		_, err := clone("file://"+source, branch, "")
		require.Error(t, err, branch)
		_, err = clone(branch, "release-4.15", "")
		require.Error(t, err, branch)
	}
	_, err = clone("ext::sh -c touch% "+hit, "release-4.15", "")
	require.Error(t, err)
	require.NoFileExists(t, hit)
}
