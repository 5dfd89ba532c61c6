package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the run that README shows")

// TestREADME: README shows what a run of this program prints, at the time that
// call sets, but for how long the steps took.
func TestREADME(t *testing.T) {
	const path, command = "../../README.md", "    $ SOURCE_DATE_EPOCH=1795608000 go run ./examples/dailybuild\n"
	state := t.TempDir()
	code, stdout, stderr := call(t, "-state", state)
	require.Zero(t, code, stderr)
	var block strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(stdout, state, filepath.Join("~", ".cache", "okd-streams", "sample"))) {
		block.WriteString(strings.TrimRight("    "+line, " \n") + "\n")
	}

	readme, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(readme), command)
	require.True(t, ok, "README has no line %q", command)
	// To the next line that is not of the block.
	end := regexp.MustCompile(`(?m)^[^ \n]`).FindStringIndex(rest)
	require.NotNil(t, end)
	seconds := regexp.MustCompile(`\b\d+\.\d\d {3,6}|\b\d+\.\d\d$`)
	masked := func(text string) string {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		for i, line := range lines {
			lines[i] = strings.TrimRight(seconds.ReplaceAllString(line, "SECONDS  "), " ")
		}
		return strings.Join(lines, "\n")
	}
	if *update && masked(block.String()) != masked(rest[:end[0]]) {
		whole := before + command + strings.TrimRight(block.String(), "\n") + "\n\n" + rest[end[0]:]
		require.NoError(t, os.WriteFile(path, []byte(whole), 0o644))
		return
	}
	require.Equal(t, masked(block.String()), masked(rest[:end[0]]), "go test ./examples/dailybuild -run TestREADME -update writes it")
}
