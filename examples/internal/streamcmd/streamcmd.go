// Package streamcmd is "okd-streams stream": streams to look at, to start one's
// own from, to check and to move on.
package streamcmd

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

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
	ui.AddOutput(root.PersistentFlags())
	ui.AddJSON(root.PersistentFlags())
	root.AddCommand(initCommand(), list(), show(), lint(), diffCommand(), bumpCommand(), statusCommand())
	return root
}

// leaf makes a command with so many arguments.
func leaf(use, short, long string, arguments int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + "." + long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != arguments {
				return ui.WrongArguments(cmd, args)
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

// listed is a built-in stream as list prints it.
type listed struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Title   string `json:"title"`
	// EndsWith is the last version of a stream that ends, and Why says why.
	EndsWith string `json:"endsWith,omitempty"`
	Why      string `json:"why,omitempty"`
}

func list() *cobra.Command {
	return leaf("list", "List the built-in streams", "", 0, func(cmd *cobra.Command, _ []string) error {
		var all []listed
		var rows [][]string
		for _, name := range stream.BuiltinNames() {
			def, err := stream.Builtin(name)
			if err != nil {
				return err
			}
			one := listed{Name: name, Version: def.Version.String(), Title: def.Identity.Title}
			note := def.Identity.Title
			if end := def.Identity.EndOfLife; end != nil {
				one.EndsWith, one.Why = end.Version.String(), end.Message
				note += fmt.Sprintf(" (ends with %s: %s)", end.Version, end.Message)
			}
			all = append(all, one)
			rows = append(rows, []string{name, def.Version.String(), note})
		}
		return ui.Print(cmd, all, ui.Rows(rows))
	})
}

func show() *cobra.Command {
	return leaf("show NAME", "Print the definition of a built-in stream", "", 1, func(cmd *cobra.Command, args []string) error {
		if _, err := stream.Builtin(args[0]); err != nil {
			return &ui.UsageError{Err: err}
		}
		text := stream.BuiltinSource(args[0])
		data, err := yaml.YAMLToJSON(text)
		if err != nil {
			return err
		}
		return ui.Print(cmd, json.RawMessage(data), func(w io.Writer) error { _, err := w.Write(text); return err })
	})
}
