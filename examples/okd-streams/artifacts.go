package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/prow"
)

// passing are commands that end at once, or never: jobs keep nothing of them.
var passing = map[string]bool{
	"okd-streams help": true, "okd-streams version": true, "okd-streams man": true, "okd-streams serve": true, "okd-streams graph serve": true,
	"okd-streams stream list": true, "okd-streams stream show": true, "okd-streams stream diff": true, "okd-streams prow watch": true,
}

// keepArtifacts has a Prow job keep how the commands went.
func keepArtifacts(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		keepArtifacts(c)
	}
	if run := cmd.RunE; run != nil && !cmd.HasSubCommands() || cmd.CommandPath() == "okd-streams build" {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			path := cmd.CommandPath()
			if passing[path] {
				return run(cmd, args)
			}
			return ui.Job(cmd.Context(), os.Getenv(prow.ArtifactsVariable), path, func(ctx context.Context) error {
				cmd.SetContext(ctx)
				return run(cmd, args)
			})
		}
	}
}
