package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// environment is what the names of variables for flags begin with.
const environment = "OKD_STREAMS_"

// variable is the environment variable of a flag: --max-layers is
// OKD_STREAMS_MAX_LAYERS, whatever the command.
func variable(flag string) string {
	return environment + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment has flags that are not on the command line take what the
// environment says, in a command and all below it. A variable that is set to
// nothing says nothing.
func fromEnvironment(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			var err error
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				text := os.Getenv(variable(f.Name))
				if err != nil || f.Changed || text == "" || f.Name == "help" {
					return
				}
				if setErr := cmd.Flags().Set(f.Name, text); setErr != nil {
					err = ui.Usagef("%s: %w", variable(f.Name), setErr)
				}
			})
			if err != nil {
				return err
			}
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		fromEnvironment(c)
	}
}
