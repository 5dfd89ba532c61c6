package main

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the packages of a program allocate when it starts says what they do then,
// on any machine: at 4 MB the collector runs for the first time. This process has
// those of its tests besides.
func TestStart(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace bytes.Buffer
	cmd.Stderr = &trace
	require.NoError(t, cmd.Run())
	sum := 0
	for line := range strings.Lines(trace.String()) {
		// init PACKAGE @0.1 ms, 0.2 ms clock, 300 bytes, 4 allocs
		fields := strings.Fields(line)
		if len(fields) != 11 || fields[0] != "init" {
			continue
		}
		size, err := strconv.Atoi(fields[7])
		require.NoError(t, err, line)
		sum += size
		limit := 256 << 10
		if strings.HasPrefix(fields[1], "github.com/okd-project/") && !strings.HasSuffix(fields[1], "/internal/zstd") { // its tables
			limit = 64 << 10
		}
		require.Less(t, size, limit, "%s\nlet it be done when it is needed first: internal/lazyregexp, sync.OnceValue", line)
	}
	require.NotZero(t, sum)
	require.Less(t, sum, 3<<20, "bytes that all packages allocate")
}

// Completions are registered only for the shell that asks for them, and the
// certificates read for all commands but the one that needs nothing.
func TestRunsOnlyWhatIsAsked(t *testing.T) {
	allocated := func(args ...string) float64 {
		return testing.AllocsPerRun(3, func() {
			var out bytes.Buffer
			require.NoError(t, run(t.Context(), args, &out, &out))
		})
	}
	require.Less(t, allocated("version"), 10000.0)
}
