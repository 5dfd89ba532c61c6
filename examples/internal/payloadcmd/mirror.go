package payloadcmd

import (
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

func (c *common) mirror() *cobra.Command {
	var o payload.MirrorOptions
	var into, release string
	var plan bool
	cmd := c.leaf("mirror RELEASE REPOSITORY", "Copy a release and its components, with cosign's signatures, and print what sends clusters there", `

Images keep their digests. It can be stopped and run again: what has arrived is
not moved again.`, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, src, err := c.release(cmd, args[0])
		if err != nil {
			return err
		}
		to, err := name.NewRepository(args[1])
		if err != nil {
			return ui.Usagef("repository %q: %w", args[1], err)
		}
		if release != "" {
			if o.Release, err = name.NewRepository(release); err != nil {
				return ui.Usagef("--release-to: %w", err)
			}
		}
		copies, err := payload.Mirror(r, to, &o)
		if err != nil {
			return err
		}
		moves := make([]publish.Copy, len(copies))
		for i, m := range copies {
			moves[i] = publish.Copy(m)
		}
		if plan {
			return writeJSON(cmd.OutOrStdout(), moves)
		}
		from, ok := src.(publish.Registry)
		if !ok {
			return ui.Usagef("--from=%s: a mirror is made from docker:// or dir:PATH", c.from)
		}
		target, err := c.registry(cmd, into)
		if err != nil {
			return err
		}
		if _, err := move(cmd.Context(), cmd.ErrOrStderr(), target, from, moves, false); err != nil {
			return err
		}
		sets, err := payload.MirrorSets(copies, "")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "# in install-config.yaml:\n%s---\n%s", sets.InstallConfig, sets.DigestMirrorSet)
		return err
	})
	flags := cmd.Flags()
	flags.StringVar(&into, "into", "docker://", "where REPOSITORY is: docker:// or dir:`PATH`")
	flags.StringVar(&release, "release-to", "", "another `REPOSITORY` for the release image")
	flags.BoolVar(&o.SkipRelease, "skip-release", false, "only the components")
	flags.BoolVar(&o.NoSignatures, "no-signatures", false, "leave cosign's signatures where they are")
	flags.BoolVar(&o.NoReferrers, "no-referrers", false, "leave what refers to images where it is")
	flags.BoolVar(&plan, "plan", false, "print the copies as JSON, and make none")
	return cmd
}
