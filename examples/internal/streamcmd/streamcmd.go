// Package streamcmd is "okd-streams stream": streams to look at, to start one's
// own from, to check and to move on.
package streamcmd

import (
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/stream"
)

// Command gives the command with all that is below it.
func Command() *cobra.Command {
	root := &cobra.Command{
		Use: "stream", Short: "Start a stream of one's own, check it, move it on", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	root.AddCommand(initCommand(), list(), show(), lint(), diffCommand(), bumpCommand())
	return root
}

// leaf makes a command with so many arguments.
func leaf(use, short, long string, arguments int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + "." + long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != arguments {
				return ui.Usagef("%d arguments, but it is %s", len(args), cmd.UseLine())
			}
			return nil
		},
		RunE: run,
	}
}

func platform(arch stream.Arch) v1.Platform {
	return v1.Platform{OS: "linux", Architecture: arch.GOARCH()}
}

// decode reads a built-in stream, or a file.
func decode(which string) (*stream.Definition, error) { return walk.Definition(which) }

// source is the text of a built-in stream, or of a file.
func source(which string) ([]byte, error) {
	if _, err := decode(which); err != nil {
		return nil, err
	}
	if text := stream.BuiltinSource(which); text != nil {
		return text, nil
	}
	return os.ReadFile(which)
}

func list() *cobra.Command {
	return leaf("list", "List the built-in streams", "", 0, func(cmd *cobra.Command, _ []string) error {
		var rows [][]string
		for _, name := range stream.BuiltinNames() {
			def, err := stream.Builtin(name)
			if err != nil {
				return err
			}
			note := def.Identity.Title
			if end := def.Identity.EndOfLife; end != nil {
				note += fmt.Sprintf(" (ends with %s: %s)", end.Version, end.Message)
			}
			rows = append(rows, []string{name, def.Version.String(), note})
		}
		return ui.Table(cmd.OutOrStdout(), rows)
	})
}

func show() *cobra.Command {
	return leaf("show NAME", "Print the definition of a built-in stream", "", 1, func(cmd *cobra.Command, args []string) error {
		if _, err := stream.Builtin(args[0]); err != nil {
			return &ui.UsageError{Err: err}
		}
		_, err := cmd.OutOrStdout().Write(stream.BuiltinSource(args[0]))
		return err
	})
}

func lint() *cobra.Command {
	return leaf("lint FILE", "Check a definition and name every fault", "", 1, func(cmd *cobra.Command, args []string) error {
		def, err := decode(args[0])
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if _, err := fmt.Fprintf(out, "%s: stream %s, no faults\n", args[0], def.Identity.Name); err != nil {
			return err
		}
		needs, err := def.Needs(def.Version.String())
		if err != nil {
			return err
		}
		for _, need := range needs {
			if _, err := fmt.Fprintf(out, "each run has to be given what %s does not say: %s\n", need.Path, need.What); err != nil {
				return err
			}
		}
		return nil
	})
}
