package payloadcmd

import (
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
)

func (c *common) swap() *cobra.Command {
	var made making
	cmd := c.leaf("swap RELEASE [NAME=PULLSPEC]...", "Make a release of another with other images in it, without a cluster", `

Images must be named by digest. What a cluster would trip over, such as an image
without a digest in a manifest, is an error; --allow lets a check pass. The same
arguments and time (SOURCE_DATE_EPOCH) give the same release.`, 1, -1, func(cmd *cobra.Command, args []string) error {
		src, err := c.images(cmd)
		if err != nil {
			return err
		}
		base, err := c.reference(args[0])
		if err != nil {
			return err
		}
		spec := &payload.Spec{FromRelease: base, Version: made.version, Exclude: made.exclude, Previous: made.previous}
		if spec.Overrides, err = components(args[1:]); err != nil {
			return err
		}
		if spec.Created, err = ui.BuildTime(); err != nil {
			return err
		}
		opts := made.options()
		if !made.list {
			opts.Platform = c.platform()
		}
		return made.assemble(c, cmd, src, spec, opts, base.Context())
	})
	made.flags(cmd)
	flags := cmd.Flags()
	flags.Lookup("version").Usage += " (default: the old one's)"
	flags.Lookup("previous").Usage += " (default: those of the old release)"
	flags.BoolVar(&made.list, "manifest-list", false, "keep the release for several architectures")
	return cmd
}
