package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
)

// TestCompletion: what the shell asks the program for.
func TestCompletion(t *testing.T) {
	state := t.TempDir()
	code, _, stderr := call(t, "build", "commit", "--state", state, "--quiet")
	require.Zero(t, code, stderr)
	for _, tc := range []struct{ line, want string }{
		{"stream s", "show\nstatus\n"}, {"stream show okd-s", "okd-scos-next\nokd-scos-stable\n"}, {"stream status sam", "sample\n"},
		{"build --stream okd-f", "okd-fcos-stable\n"}, {"build -o y", "yaml\n"}, {"status -o prom", "prometheus\n"}, {"gate show -o js", "json\n"},
		{"gate record --stream sample li", "lint\n"}, {"bootimage find --platform qe", "qemu\n"}, {"bootimage find --format qcow2", "qcow2"},
		{"ostree --repo " + filepath.Join(state, "repo") + " log sam", "sample/x86_64/sample\n"}, {"gate record li", ""}, {"ostree --repo none log x", ""},
	} {
		code, stdout, stderr := call(t, append([]string{"__completeNoDesc"}, strings.Split(tc.line, " ")...)...)
		require.Zero(t, code, "%s: %s", tc.line, stderr)
		if tc.want != "" {
			require.Contains(t, stdout, tc.want, tc.line)
		}
		require.Regexp(t, `(?m)^:\d+$`, stdout, tc.line)
	}
}

// TestProgram looks at the program as it is published.
func TestProgram(t *testing.T) {
	interop.Peer(t, "bash", "go")
	binary := filepath.Join(t.TempDir(), "okd-streams")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Run("completion in bash", func(t *testing.T) { completes(t, binary) })
	t.Run("size and start", func(t *testing.T) { small(t, binary) })
}

// completes: the script loads in bash, and completes commands, flags and names
// of streams.
func completes(t *testing.T, binary string) {
	script := filepath.Join(t.TempDir(), "completion.bash")
	out, err := exec.CommandContext(t.Context(), binary, "completion", "bash").Output()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(script, out, 0o600))
	for line, want := range map[string]string{
		"okd-streams strea": "stream", "okd-streams stream li": "list lint", "okd-streams build --max": "--max-layers",
		"okd-streams stream show okd-scos": "okd-scos-next okd-scos-stable", "okd-streams stream list -o ": "text json yaml",
	} {
		words := strings.Split(line, " ")
		run := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile", "-c", `set -e
source "$1"; shift
compopt() { :; } # bash has it only while the reader completes
COMP_LINE="$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; }
set +e
__start_okd-streams
printf '%s\n' "${COMPREPLY[@]}"
`, "bash", script, line)
		run.Args = append(run.Args, words...)
		run.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
		out, err := run.CombinedOutput()
		require.NoError(t, err, "%s: %s", line, out)
		var got []string
		for reply := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSpace(reply), " ")
			got = append(got, word)
		}
		for _, w := range strings.Fields(want) {
			require.Contains(t, got, w, line)
		}
	}
}

// small: the program is at most 45 MB; how long it takes to start is noted.
func small(t *testing.T, binary string) {
	info, err := os.Stat(binary)
	require.NoError(t, err)
	t.Logf("%.1f MB", float64(info.Size())/1e6)
	require.LessOrEqual(t, info.Size(), int64(45e6))
	best := time.Hour
	for range 10 {
		started := time.Now()
		require.NoError(t, exec.CommandContext(t.Context(), binary, "version").Run())
		best = min(best, time.Since(started))
	}
	t.Logf("version: %s, the best of ten (aim 30ms)", best)
}
