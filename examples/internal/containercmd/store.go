package containercmd

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// imported is what import prints.
type imported struct {
	Image    string         `json:"image"`
	Digest   string         `json:"digest"`
	Commit   string         `json:"commit"`         // to deploy
	Base     string         `json:"base,omitempty"` // the image's own commit
	Layers   int            `json:"layers"`
	Reused   int            `json:"reused"`
	Bytes    int64          `json:"bytes"` // read of layers
	Filtered map[string]int `json:"filtered,omitempty"`
}

func (c *common) importImage() *cobra.Command {
	var o container.ImportOptions
	var noName bool
	var trust trust
	cmd := c.leaf("import [FLAGS] IMAGE", "Store an image in a repository as a commit", `
The image is kept under its name, as bootc and ostree-ext keep theirs; what is
interrupted goes on where it was.

Before anything else of the image is read, the signature policy decides: by
OpenPGP signatures and by those of cosign, by keys. As with ostree and bootc,
ostree-image-signed: before the IMAGE asks for a policy that does not accept
just anything (--signed), ostree-unverified-image: and
ostree-unverified-registry: do not.
`+images, 1, 1, func(cmd *cobra.Command, args []string) error {
		img, from, err := c.image(cmd, trust.prefix(args[0]))
		if err != nil {
			return err
		}
		if o.Verify, err = c.verifier(cmd, &trust, from); err != nil {
			return err
		}
		repo, err := c.openRepo(cmd)
		if err != nil {
			return err
		}
		if o.Name == "" && !noName && !o.CommitOnly {
			o.Name = from.String()
		}
		var stats container.ImportStats
		o.Stats, o.Progress, o.Logger = &stats, c.progress(cmd), c.logger(cmd)
		done, err := container.Import(cmd.Context(), repo, img, &o)
		if err != nil {
			return err
		}
		out := &imported{
			Image: from.String(), Digest: done.Digest.String(), Commit: done.Commit.String(),
			Layers: stats.Layers, Reused: stats.Reused, Bytes: stats.Bytes, Filtered: done.Filtered,
		}
		if !done.Base.IsZero() {
			out.Base = done.Base.String()
		}
		for _, name := range slices.Sorted(maps.Keys(done.Filtered)) {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: left out below /%s: %s, for which OSTree has no place\n", name, ui.Count(done.Filtered[name], "entry of a layer"))
		}
		rows := [][]string{{"Commit:", out.Commit}}
		if out.Base != "" && out.Base != out.Commit {
			rows = append(rows, []string{"Base:", out.Base})
		}
		rows = append(rows, []string{"Digest:", out.Digest}, []string{"Layers:", fmt.Sprintf("%d, %d of them there already, %s read", out.Layers, out.Reused, ui.Size(out.Bytes))})
		return ui.Print(cmd, out, ui.Rows(rows))
	})
	trust.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.Name, "name", "", "`TRANSPORT:NAME` to keep the image under (default: its own)")
	flags.BoolVar(&noName, "no-name", false, "keep the image under no name")
	flags.StringVar(&o.Ref, "write-ref", "", "`REF` to set to the commit")
	flags.BoolVar(&o.CommitOnly, "commit-only", false, "take nothing but the commit in the image")
	flags.BoolVar(&o.DirMeta, "directory-changes", false, "let layers change owner and mode of directories that exist, as in a container")
	return cmd
}

// find gives an image of a repository by its name.
func find(ctx context.Context, repo *ostree.Repo, name string) (*container.StoredImage, error) {
	for image, err := range container.ListImages(ctx, repo) {
		if err != nil {
			return nil, err
		}
		if image.Name == name {
			return image, nil
		}
	}
	return nil, fmt.Errorf("image %s: %w", name, fs.ErrNotExist)
}

// listed is a line of list.
type listed struct {
	Image   string `json:"image"`
	Digest  string `json:"digest"`
	Commit  string `json:"commit"`
	Version string `json:"version,omitempty"`
}

func (c *common) list() *cobra.Command {
	return c.leaf("list", "List the images of a repository", "", 0, 0, func(cmd *cobra.Command, _ []string) error {
		repo, err := c.openRepo(cmd)
		if err != nil {
			return err
		}
		out := []listed{}
		rows := [][]string{}
		for image, err := range container.ListImages(cmd.Context(), repo) {
			if err != nil {
				return err
			}
			l := listed{image.Name, image.Digest.String(), image.Commit.String(), image.Config.Config.Labels[container.LabelVersion]}
			out = append(out, l)
			rows = append(rows, []string{l.Image, l.Version, l.Commit})
		}
		return ui.Print(cmd, out, ui.Rows(rows))
	})
}

func (c *common) remove() *cobra.Command {
	return c.leaf("remove NAME...", "Take images' names out of a repository", `
okd-streams container prune then lets go of their layers.
`, 1, -1, func(cmd *cobra.Command, args []string) error {
		repo, err := c.openRepo(cmd)
		if err != nil {
			return err
		}
		for _, name := range args {
			if err := container.RemoveImage(cmd.Context(), repo, name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *common) prune() *cobra.Command {
	return c.leaf("prune", "Let go of layers that no image of a repository has", `
okd-streams ostree prune --refs-only then frees the room.
`, 0, 0, func(cmd *cobra.Command, _ []string) error {
		repo, err := c.openRepo(cmd)
		if err != nil {
			return err
		}
		pruned, err := container.PruneImages(cmd.Context(), repo)
		if err != nil {
			return err
		}
		out := struct {
			Layers []string `json:"layers"` // digests
		}{[]string{}}
		for _, h := range pruned {
			out.Layers = append(out.Layers, h.String())
		}
		return ui.Print(cmd, out, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "Layers let go of: %d\n", len(pruned))
			return err
		})
	})
}
