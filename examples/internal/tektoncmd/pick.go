package tektoncmd

import (
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/stream"
)

func pick() *cobra.Command {
	var which, release, address, from string
	var registries remote.Flags
	cmd := &cobra.Command{
		Use: "pick --stream STREAM", Short: "Pick the release that a payload starts from, by digest", DisableFlagsInUseLine: true,
		Long: `Pick the release that a payload starts from, by digest: the newest that the release
controller accepted which the definition names under payload.pick.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			def, err := definition(which)
			if err != nil {
				return err
			}
			version := ""
			if release == "" {
				if p := def.Payload.Pick; p != nil {
					if address == "" {
						address = p.Controller
					}
					if from == "" {
						if from, err = p.Stream.Expand(stream.Vars{Minor: def.Version.String(), Stream: def.Identity.Name}); err != nil {
							return err
						}
					}
				}
				if address == "" || from == "" {
					return ui.Usagef("stream %s says not what to pick: give --release PULLSPEC, or --release-controller URL and --release-stream STREAM", def.Identity.Name)
				}
				client, err := controller.NewClient(address, nil)
				if err != nil {
					return &ui.UsageError{Err: err}
				}
				tag, err := client.Latest(ctx, from, nil)
				if err != nil {
					return err
				}
				release, version = tag.PullSpec, tag.Name
			}
			ref, err := name.ParseReference(release)
			if err != nil {
				return ui.Usagef("--release %s: %w", release, err)
			}
			registry, err := open.Registry(ctx, "docker://", &open.RegistryOptions{Remote: registries.Options(nil)})
			if err != nil {
				return err
			}
			found, err := registry.Head(ctx, ref)
			if err != nil {
				return err
			}
			pullspec := ref.Context().Digest(found.Digest.String())
			ui.SetResult(ctx, "release-name", version)
			ui.SetResult(ctx, "release-pullspec", pullspec.Name())
			ui.SetResult(ctx, "release-digest", found.Digest.String())
			_, err = fmt.Fprintln(cmd.OutOrStdout(), pullspec.Name())
			return err
		},
	}
	set := cmd.Flags()
	set.StringVar(&which, "stream", "", "`STREAM`: the name of a built-in one, or a definition's file (required)")
	set.StringVar(&release, "release", "", "`PULLSPEC` that was picked already, and of which the digest is wanted")
	set.StringVar(&address, "release-controller", "", "`URL` of the release controller (default: the definition's)")
	set.StringVar(&from, "release-stream", "", "`STREAM` there (default: the definition's)")
	registries.Add(set)
	return cmd
}
