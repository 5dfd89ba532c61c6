package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReference holds docs/reference.md to what the commands say of themselves;
// -update writes it.
func TestReference(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Commands\n\nWritten by the program itself: `go test ./examples/okd-streams -run TestReference -update`.\n")
	var add func(path []string)
	add = func(path []string) {
		code, help, stderr := call(t, append(path, "--help")...)
		require.Zero(t, code, stderr)
		help, _, _ = strings.Cut(help, "\nGlobal Flags:\n") // the command above has them
		name := strings.Join(append([]string{"okd-streams"}, path...), " ")
		page.WriteString("\n## " + name + "\n\n```text\n" + strings.TrimSpace(help) + "\n```\n")
		_, list, ok := strings.Cut(help, "\nAvailable Commands:\n")
		if !ok {
			return
		}
		for line := range strings.Lines(list) {
			fields := strings.Fields(line)
			if len(fields) == 0 {
				break
			}
			if fields[0] != "help" && fields[0] != "completion" {
				add(append(append([]string{}, path...), fields[0]))
			}
		}
	}
	add(nil)
	file := filepath.Join("..", "..", "docs", "reference.md")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(page.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), page.String(), "the reference is old: -update writes it")
}
