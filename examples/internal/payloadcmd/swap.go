package payloadcmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

func (c *common) swap() *cobra.Command {
	var version, to, into string
	var exclude, allow, previous []string
	var compatible, list, plan bool
	cmd := c.leaf("swap RELEASE [NAME=PULLSPEC]...", "Make a release of another with other images in it, without a cluster", `

Images must be named by digest. What a cluster would trip over, such as an image
without a digest in a manifest, is an error; --allow lets a check pass. The same
arguments and time (SOURCE_DATE_EPOCH) give the same release.`, 1, -1, func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		src, err := c.images(cmd)
		if err != nil {
			return err
		}
		base, err := c.reference(args[0])
		if err != nil {
			return err
		}
		spec := &payload.Spec{FromRelease: base, Version: version, Exclude: exclude, Previous: previous}
		if spec.Overrides, err = components(args[1:]); err != nil {
			return err
		}
		if spec.Created, err = ui.BuildTime(); err != nil {
			return err
		}
		opts := &payload.AssembleOptions{Compatible: compatible, ManifestList: list, Allow: func(f payload.Finding) bool { return slices.Contains(allow, string(f.Check)) }}
		if !list {
			opts.Platform = c.platform()
		}
		built, err := payload.Assemble(ctx, src, spec, opts)
		if err != nil {
			return err
		}
		for _, w := range built.Warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w)
		}
		digest := built.Digest
		if built.Index != nil {
			digest = built.ListDigest
		}
		if plan || to == "" {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s (%d images, %d manifests)\n", digest, built.Metadata.Version, len(built.References.Tags), built.Manifests)
			return err
		}
		target, err := name.NewTag(to)
		if err != nil || strings.Contains(to, "@") {
			return ui.Usagef("--to=%s: want REPOSITORY:TAG", to)
		}
		registry, err := c.registry(cmd, into)
		if err != nil {
			return err
		}
		write := &publish.WriteOptions{From: []name.Repository{base.Context()}}
		if built.Index != nil {
			_, err = registry.WriteIndex(ctx, target.Context(), built.Index, write)
		} else {
			_, err = registry.WriteImage(ctx, target.Context(), built.Image, write)
		}
		if err != nil {
			return err
		}
		if err := registry.Tag(ctx, target, digest); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", target.Context().Digest(digest.String()), built.Metadata.Version, built.References.Created.Format("2006-01-02T15:04:05Z07:00"))
		return err
	})
	flags := cmd.Flags()
	flags.StringVar(&version, "version", "", "`NAME` of the new release, a semantic version (default: the old one's)")
	flags.StringVar(&to, "to", "", "`REPOSITORY:TAG` to push the release to (default: only say what it would be)")
	flags.StringVar(&into, "into", "docker://", "where that is: docker:// or dir:`PATH`")
	flags.StringArrayVar(&exclude, "exclude", nil, "leave component `NAME` out; may be repeated")
	flags.StringArrayVar(&previous, "previous", nil, "`VERSION` that may be updated to this one; may be repeated (default: those of the old release)")
	flags.StringArrayVar(&allow, "allow", nil, "let a `CHECK` pass with a warning, as unpinned-reference; may be repeated")
	flags.BoolVar(&compatible, "compatible", false, "make what oc adm release new makes, with its faults")
	flags.BoolVar(&list, "manifest-list", false, "keep the release for several architectures")
	flags.BoolVar(&plan, "plan", false, "write nothing")
	return cmd
}
