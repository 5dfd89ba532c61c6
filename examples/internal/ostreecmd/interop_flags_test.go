package ostreecmd_test

import (
	"os/exec"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ostreecmd"
	"github.com/okd-project/okd-streams/internal/interop"
)

// TestFlagsAreOstrees: each flag of `ostree` is one of ours, with the same letter,
// and with a value where it has one.
func TestFlagsAreOstrees(t *testing.T) {
	interop.Peer(t, "ostree")
	flag := regexp.MustCompile(`(?m)^  (?:-(\w), )?--([a-z0-9-]+)(=)?`)
	everywhere := []string{"help", "version"} // of the program, not of a command
	for _, cmd := range ostreecmd.Command().Commands() {
		if cmd.HasSubCommands() || !cmd.IsAvailableCommand() {
			continue
		}
		t.Run(cmd.Name(), func(t *testing.T) {
			help, err := exec.CommandContext(t.Context(), "ostree", cmd.Name(), "--help").Output()
			require.NoError(t, err)
			cmd.InheritedFlags() // merges those of the parents
			flags := flag.FindAllStringSubmatch(string(help), -1)
			require.NotEmpty(t, flags)
			for _, f := range flags {
				letter, name, value := f[1], f[2], f[3] != ""
				if slices.Contains(everywhere, name) {
					continue
				}
				ours := cmd.Flags().Lookup(name)
				if ours == nil {
					ours = cmd.InheritedFlags().Lookup(name)
				}
				require.NotNil(t, ours, "--%s", name)
				require.Equal(t, letter, ours.Shorthand, "letter of --%s", name)
				if value { // the help of ostree leaves it out here and there
					require.Empty(t, ours.NoOptDefVal, "--%s needs a value", name)
				}
			}
		})
	}
}
