package ostreecmd_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ostreecmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

var update = flag.Bool("update", false, "write golden files")

// result is what a command left.
type result struct {
	code           int
	stdout, stderr string
}

// call runs a command as the program does.
func call(ctx context.Context, stdin io.Reader, args ...string) result {
	root := &cobra.Command{Use: "okd-streams", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(ostreecmd.Command())
	var out, diagnostics bytes.Buffer
	root.SetArgs(append([]string{"ostree"}, args...))
	root.SetIn(stdin)
	root.SetOut(&out)
	root.SetErr(&diagnostics)
	code := ui.Exit(&diagnostics, "okd-streams", root.ExecuteContext(ctx))
	return result{code, out.String(), diagnostics.String()}
}

// okd runs a command that must succeed and gives its output.
func okd(t testing.TB, args ...string) string {
	t.Helper()
	r := call(t.Context(), strings.NewReader(""), args...)
	require.Zero(t, r.code, "%v: %s", args, r.stderr)
	return r.stdout
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join(testdata, name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// testdata is found from wherever a test works.
var testdata = func() string {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		panic(err)
	}
	return dir
}()

// script runs commands, one a line, and gives them with what they print; %name
// stands for a word of words.
func script(t *testing.T, words map[string]string, commands string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(commands) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fmt.Fprintf(&b, "$ %s\n", line)
		args := split(line)
		for i, arg := range args {
			for name, word := range words {
				arg = strings.ReplaceAll(arg, "%"+name, word)
			}
			args[i] = arg
		}
		r := call(t.Context(), strings.NewReader(""), args...)
		stdout := strings.ReplaceAll(r.stdout, "\x00", "\\0\n")
		fmt.Fprint(&b, stdout)
		if r.code != 0 {
			fmt.Fprintf(&b, "[%d] %s", r.code, progressLine.ReplaceAllString(r.stderr, ""))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// progressLine is what is on standard error while a command works, or not, if it
// is done before.
var progressLine = regexp.MustCompile(`(?m)^[a-z-]+ (files|objects)\n`)

// split cuts a line into words; quotes keep blanks.
func split(line string) []string {
	var words []string
	var word strings.Builder
	quote, inside := rune(0), false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '`'):
			quote, inside = c, true
		case quote == 0 && c == ' ':
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(c)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	return words
}

// workFolder is a folder of its own to work in, with the tree "tree".
func workFolder(t *testing.T) {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1795608000")
	t.Setenv("OSTREE_REPO", "")
	t.Chdir(t.TempDir())
	for _, dir := range []string{"tree/usr/bin", "tree/usr/lib/modules/6.1", "tree/etc/conf.d", "tree/var"} {
		require.NoError(t, os.MkdirAll(dir, 0o755))
	}
	for name, content := range map[string]string{"usr/bin/hello": "#!/bin/sh\necho hello\n", "usr/lib/modules/6.1/vmlinuz": "kernel", "etc/conf.d/a": "a=1\n", "etc/motd": "welcome\n", "empty": ""} {
		require.NoError(t, os.WriteFile(filepath.Join("tree", name), []byte(content), 0o644))
	}
	require.NoError(t, filepath.WalkDir("tree", func(name string, d fs.DirEntry, err error) error {
		if mode := os.FileMode(0o644); err == nil { // whatever the umask is
			if d.IsDir() {
				mode = 0o755
			}
			err = os.Chmod(name, mode)
		}
		return err
	}))
	require.NoError(t, os.Chmod("tree/usr/bin/hello", 0o755))
	require.NoError(t, os.Symlink("hello", "tree/usr/bin/hi"))
	require.NoError(t, os.Symlink("usr/bin", "tree/bin"))
}

// initRepo makes a repository that does not wait for the disk.
func initRepo(t *testing.T, mode string) {
	t.Helper()
	okd(t, "--repo=repo", "init", "--mode="+mode)
	okd(t, "--repo=repo", "config", "set", "core.fsync", "false")
}
