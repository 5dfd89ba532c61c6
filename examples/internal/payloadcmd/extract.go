package payloadcmd

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
)

func (c *common) extract() *cobra.Command {
	var to, file, featureSet, profile string
	var systems, commands, gates, capabilities []string
	var tools, included, sources bool
	var o payload.FilesOptions
	cmd := c.leaf("extract RELEASE", "Write the files of a release, its client tools or its source code into a folder", `

Tools are the archives of oc, openshift-install and ccoctl for all systems, with
the release written into them, release.txt and sha256sum.txt.`, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, src, err := c.release(cmd, args[0])
		if err != nil {
			return err
		}
		if file != "" {
			data, err := r.File(file)
			if err == nil {
				_, err = cmd.OutOrStdout().Write(data)
			}
			return err
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if sources {
			return cloneSources(cmd, r, to)
		}
		if tools || len(commands) > 0 || len(systems) > 0 {
			if src == nil {
				return ui.Usagef("an unpacked payload has no images to read")
			}
			set, err := r.Tools(cmd.Context(), src, to, &payload.ToolsOptions{OS: systems, Commands: commands, Platform: c.platform()})
			if err != nil {
				return err
			}
			for _, t := range set.Tools {
				for _, w := range t.Warnings {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w)
				}
			}
			_, err = cmd.OutOrStdout().Write(set.Sums)
			return err
		}
		if included {
			o.Cluster = &payload.Cluster{Profile: profile, FeatureSet: featureSet, FeatureGates: gates}
			if !cmd.Flags().Changed("feature-gate") {
				if o.Cluster.FeatureGates, err = r.EnabledGates(cmd.Context(), o.Cluster); err != nil {
					return err
				}
			}
			if cmd.Flags().Changed("capability") {
				o.Cluster.Capabilities = append([]string{}, capabilities...)
			}
		}
		n, err := r.Extract(cmd.Context(), to, &o)
		if err == nil {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d files in %s\n", n, to)
		}
		return err
	})
	flags := cmd.Flags()
	flags.StringVar(&to, "to", ".", "`FOLDER` to write to")
	flags.StringVar(&file, "file", "", "print file `NAME` instead")
	flags.BoolVar(&o.Normalised, "normalised", false, "write manifests as oc does: sorted keys, no comments")
	flags.BoolVar(&included, "included", false, "only what a cluster of this profile and feature set applies")
	flags.StringVar(&profile, "profile", payload.DefaultProfile, "cluster profile")
	flags.StringVar(&featureSet, "feature-set", "Default", "feature set")
	flags.StringArrayVar(&gates, "feature-gate", nil, "feature gate that is on; may be repeated (default: those that the release has on)")
	flags.StringArrayVar(&capabilities, "capability", nil, "capability that is enabled; may be repeated (default: all)")
	flags.BoolVar(&o.CredentialsRequests, "credentials-requests", false, "only the requests for credentials")
	flags.StringVar(&o.Cloud, "cloud", "", "of these, those for one cloud, as aws")
	flags.BoolVar(&sources, "git", false, "clones of the repositories that it was built from instead, each at HOST/PATH and its commit")
	flags.BoolVar(&tools, "tools", false, "the client tools instead")
	flags.StringArrayVar(&systems, "os", nil, "tools for `SYSTEM[/ARCHITECTURE]`: linux, mac, windows; may be repeated")
	flags.StringArrayVar(&commands, "command", nil, "tool `NAME`, as oc or openshift-install; may be repeated")
	return cmd
}
