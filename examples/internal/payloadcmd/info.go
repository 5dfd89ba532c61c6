package payloadcmd

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
)

// eachLine is text with a line for each.
func eachLine[T any](list []T) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, one := range list {
			if _, err := fmt.Fprintln(w, one); err != nil {
				return err
			}
		}
		return nil
	}
}

func (c *common) info() *cobra.Command {
	var view, image string
	var contents, images, packages, manifests bool
	var capabilities []string
	cmd := c.leaf("info RELEASE [RELEASE]", "Describe a release, or what is different between two", `

The text and the JSON are those of oc adm release info.`, 1, 2, func(cmd *cobra.Command, args []string) error {
		out := cmd.OutOrStdout()
		r, src, err := c.release(cmd, args[0])
		if err != nil {
			return err
		}
		setRelease(cmd, r)
		if len(args) == 2 {
			to, _, err := c.release(cmd, args[1])
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("capability") {
				cluster := &payload.Cluster{Capabilities: append([]string{}, capabilities...)}
				list, err := cluster.ImplicitCapabilities(cmd.Context(), r, to)
				if err != nil {
					return err
				}
				return ui.Print(cmd, append([]string{}, list...), eachLine(list))
			}
			d := payload.Compare(r, to)
			return ui.Print(cmd, d, func(w io.Writer) error {
				return d.WriteText(w, &payload.DifferenceTextOptions{Manifests: manifests})
			})
		}
		switch {
		case image != "":
			ref, err := r.Image(image)
			if err == nil {
				ui.SetResult(cmd.Context(), "image", ref.Name())
				err = ui.Print(cmd, ref.Name(), eachLine([]string{ref.Name()}))
			}
			return err
		case contents:
			return r.WriteContents(cmd.Context(), out)
		case packages:
			list, err := r.Packages(cmd.Context(), src, &payload.PackagesOptions{Platform: c.platform()})
			if err != nil {
				return err
			}
			return ui.Print(cmd, list, eachLine(list))
		}
		opts := &payload.TextOptions{View: payload.View(view), Now: time.Now()}
		if images || opts.View == payload.ViewSize {
			if src == nil {
				return ui.Usagef("an unpacked payload has no images to read")
			}
			if opts.Components, err = r.Components(cmd.Context(), src, &payload.ComponentsOptions{Platform: c.platform()}); err != nil {
				return err
			}
		}
		if ui.Format(cmd) == ui.Text {
			return r.WriteText(out, opts)
		}
		info, err := r.Info()
		if err != nil {
			return err
		}
		info.Images = opts.Components
		return ui.Print(cmd, info, nil)
	})
	flags := cmd.Flags()
	flags.StringVar(&view, "view", "", "show `pullspecs|commits|commit-urls|size` of each component (default: digests)")
	flags.StringVar(&image, "image-for", "", "print the pullspec of component `NAME` alone")
	flags.BoolVar(&contents, "contents", false, "print all files of the payload")
	flags.BoolVar(&images, "include-images", false, "read each component's manifest and configuration, which shows that they are there, too")
	flags.BoolVar(&packages, "packages", false, "list the packages of the node image")
	flags.BoolVar(&manifests, "manifests", false, "of two releases, also list the manifests that are different")
	flags.StringArrayVar(&capabilities, "capability", nil, "of two releases, only list the capabilities that the update enables by itself in a cluster that has `NAME` enabled; may be repeated")
	return cmd
}

// setRelease leaves which release it is for a pipeline; of several
// architectures that of all of them.
func setRelease(cmd *cobra.Command, r *payload.Release) {
	ctx := cmd.Context()
	ui.SetResult(ctx, "release-name", r.Version())
	if r.Ref == nil {
		return
	}
	pullspec := r.Pullspec()
	if r.ListDigest.Hex != "" {
		pullspec = pullspec.Context().Digest(r.ListDigest.String())
	}
	ui.SetResult(ctx, "release-pullspec", pullspec)
	ui.SetResult(ctx, "release-digest", pullspec.DigestStr())
}

func (c *common) lint() *cobra.Command {
	return c.leaf("lint RELEASE", "Look for what a cluster would trip over", `

With --all-layers also for manifests of older releases below.`, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, _, err := c.release(cmd, args[0])
		if err != nil {
			return err
		}
		findings, err := r.Lint(cmd.Context())
		if err != nil {
			return err
		}
		for _, w := range r.Warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w)
		}
		if len(findings) > 0 {
			return findings
		}
		return ui.Print(cmd, struct {
			Release  string   `json:"release"`
			Warnings []string `json:"warnings,omitempty"`
		}{r.Version(), r.Warnings}, eachLine([]string{r.Version() + ": no faults"}))
	})
}
