package payloadcmd

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

// making is what the commands that make releases share.
type making struct {
	version, to, into        string
	mirror                   string
	exclude, allow, previous []string
	compatible, list, plan   bool
}

func (m *making) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&m.version, "version", "", "`NAME` of the new release, a semantic version")
	flags.StringVar(&m.to, "to", "", "`REPOSITORY:TAG` to push the release to (default: only say what it would be)")
	flags.StringVar(&m.into, "into", "docker://", "where that is: docker://, dir:`PATH` or mirror:PATH")
	flags.StringVar(&m.mirror, "mirror", "", "`REPOSITORY` to copy the images to; the release names them there")
	flags.StringArrayVar(&m.exclude, "exclude", nil, "leave component `NAME` out; may be repeated")
	flags.StringArrayVar(&m.previous, "previous", nil, "`VERSION` that may be updated to this one; may be repeated")
	flags.StringArrayVar(&m.allow, "allow", nil, "let a `CHECK` pass with a warning, as unpinned-reference; may be repeated")
	flags.BoolVar(&m.compatible, "compatible", false, "make what oc adm release new makes, with its faults")
	flags.BoolVar(&m.plan, "plan", false, "write nothing")
}

func (m *making) options() *payload.AssembleOptions {
	return &payload.AssembleOptions{Compatible: m.compatible, ManifestList: m.list, Allow: func(f payload.Finding) bool { return slices.Contains(m.allow, string(f.Check)) }}
}

// assemble makes a release, puts it where it is wanted and prints what it is.
func (m *making) assemble(c *common, cmd *cobra.Command, src payload.Images, spec *payload.Spec, opts *payload.AssembleOptions, from ...name.Repository) error {
	out, err := m.release(c, cmd, src, spec, opts, from...)
	if err != nil {
		return err
	}
	return ui.Print(cmd, out, eachLine([]string{out.line()}))
}

// release makes a release and puts it where it is wanted; from are repositories
// that may have its layers.
func (m *making) release(c *common, cmd *cobra.Command, src payload.Images, spec *payload.Spec, opts *payload.AssembleOptions, from ...name.Repository) (*assembled, error) {
	ctx := cmd.Context()
	if m.mirror != "" {
		var err error
		if spec.Mirror, err = name.NewRepository(m.mirror); err != nil {
			return nil, ui.Usagef("--mirror: %w", err)
		}
	}
	built, err := payload.Assemble(ctx, src, spec, opts)
	if err != nil {
		return nil, err
	}
	for _, w := range built.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w)
	}
	digest := built.Digest
	if built.Index != nil {
		digest = built.ListDigest
	}
	ui.SetResult(ctx, "release-name", built.Metadata.Version)
	ui.SetResult(ctx, "release-digest", digest)
	out := &assembled{Version: built.Metadata.Version, Digest: digest.String(), Images: len(built.References.Tags), Manifests: built.Manifests, created: built.References.Created}
	if m.plan || m.to == "" {
		return out, nil
	}
	target, err := name.NewTag(m.to)
	if err != nil || strings.Contains(m.to, "@") {
		return nil, ui.Usagef("--to=%s: want REPOSITORY:TAG", m.to)
	}
	registry, err := c.registry(cmd, m.into)
	if err != nil {
		return nil, err
	}
	var copies []publish.Copy
	for _, c := range built.Copies {
		copies = append(copies, publish.Copy(c))
	}
	if _, err := move(ctx, cmd.ErrOrStderr(), registry, source(src), copies, false); err != nil {
		return nil, err
	}
	write := &publish.WriteOptions{From: from}
	if built.Index != nil {
		_, err = registry.WriteIndex(ctx, target.Context(), built.Index, write)
	} else {
		_, err = registry.WriteImage(ctx, target.Context(), built.Image, write)
	}
	if err != nil {
		return nil, err
	}
	if err := registry.Tag(ctx, target, digest); err != nil {
		return nil, err
	}
	ui.SetResult(ctx, "release-pullspec", target.Context().Digest(digest.String()))
	out.Pullspec = target.Context().Digest(digest.String()).Name()
	return out, nil
}

// assembled is what the commands that make releases print.
type assembled struct {
	Version   string `json:"version"`
	Digest    string `json:"digest"`
	Pullspec  string `json:"pullspec,omitempty"` // where it was pushed to
	Images    int    `json:"images"`
	Manifests int    `json:"manifests"`
	created   time.Time
}

// line is the release for people.
func (a *assembled) line() string {
	if a.Pullspec == "" {
		return fmt.Sprintf("%s %s (%d images, %d manifests)", a.Digest, a.Version, a.Images, a.Manifests)
	}
	return fmt.Sprintf("%s %s %s", a.Pullspec, a.Version, a.created.Format("2006-01-02T15:04:05Z07:00"))
}

func (c *common) new() *cobra.Command {
	var made making
	var folder, stream, mode string
	var include []string
	cmd := c.leaf("new [NAME=PULLSPEC]...", "Make a release of images, an image stream or a folder of manifests", `

With --folder the manifests come from a folder with one for each operator and
image-references, as oc adm release new --dir writes it; images named beside
replace those there. Images of a folder or stream that no operator refers to are
left out, but for --include. The same arguments and time (SOURCE_DATE_EPOCH) give the
same release.`, 0, -1, func(cmd *cobra.Command, args []string) error {
		src, err := c.images(cmd)
		if err != nil {
			return err
		}
		if made.version == "" {
			return ui.Usagef("--version is required")
		}
		spec := &payload.Spec{Version: made.version, Exclude: made.exclude, Include: include, Previous: made.previous, ReferenceMode: payload.ReferenceMode(mode)}
		if spec.Created, err = ui.BuildTime(); err != nil {
			return err
		}
		images, err := components(args)
		if err != nil {
			return err
		}
		switch {
		case folder != "" && stream != "":
			return ui.Usagef("--folder and --stream exclude each other")
		case folder != "":
			root, err := os.OpenRoot(folder)
			if err != nil {
				return err
			}
			c.closers = append(c.closers, root.Close)
			spec.Folder, spec.Overrides = root.FS(), images
		case stream != "":
			data, err := os.ReadFile(stream)
			if err != nil {
				return err
			}
			if spec.Stream, err = payload.DecodeImageStream(data); err != nil {
				return &ui.UsageError{Err: err}
			}
			spec.Overrides = images
		default:
			spec.Components = images
		}
		opts := made.options()
		opts.Platform = c.platform()
		return made.assemble(c, cmd, src, spec, opts)
	})
	made.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&folder, "folder", "", "`FOLDER` with manifests and image-references")
	flags.StringVar(&stream, "stream", "", "`FILE` with an image stream, YAML or JSON")
	flags.StringArrayVar(&include, "include", nil, "keep component `NAME` though no operator refers to it; may be repeated")
	flags.StringVar(&mode, "reference-mode", "", "`public` rewrites what the image stream names to its public repository (default: as it names it)")
	flags.BoolVar(&made.list, "manifest-list", false, "make a release for each architecture of the base image")
	return cmd
}
