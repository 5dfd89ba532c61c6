package containercmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/buildah"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree/container"
)

func (c *common) node() *cobra.Command {
	cmd := c.group("node", "Render, build and check node images and their extensions")
	cmd.AddCommand(c.render(), c.build(), c.check())
	return cmd
}

const specs = `
SPEC is a JSON file; "-" is standard input. For instance:
  {"base": "quay.io/okd/scos-base@sha256:…", "version": "9.0.20261126-0", "openshift": "4.22",
   "repositories": [{"name": "nfv", "url": "https://…"}], "packages": ["cri-o", "openshift-kubelet"],
   "extensions": [{"name": "usbguard", "packages": ["usbguard"]}]}
or with "containerfile": "Containerfile" for one's own.
`

func readSpec(cmd *cobra.Command, path string) (*container.NodeSpec, error) {
	if path == "-" {
		return container.DecodeNodeSpec(cmd.InOrStdin())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	spec, err := container.DecodeNodeSpec(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return spec, nil
}

func (c *common) render() *cobra.Command {
	var dir string
	cmd := c.leaf("render [FLAGS] SPEC", "Print the Containerfiles of a node image and of its extensions", specs, 1, 1, func(cmd *cobra.Command, args []string) error {
		spec, err := readSpec(cmd, args[0])
		if err != nil {
			return ui.Next(err, "okd-streams container node render --help shows a spec")
		}
		node, extensions, err := container.RenderNode(spec)
		if err != nil {
			return err
		}
		out := struct {
			Node       string `json:"node"`
			Extensions string `json:"extensions,omitempty"`
		}{node, extensions}
		if dir == "" {
			return ui.Print(cmd, out, func(w io.Writer) error {
				separator := ""
				if node != "" && extensions != "" {
					separator = "\n"
				}
				_, err := io.WriteString(w, node+separator+extensions)
				return err
			})
		}
		for name, text := range map[string]string{"Containerfile": node, "Containerfile.extensions": extensions} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Flags().StringVar(&dir, "write", "", "`FOLDER` to write Containerfile and Containerfile.extensions to, instead of printing them")
	return cmd
}

func (c *common) build() *cobra.Command {
	var b buildah.Builder
	var context string
	cmd := c.leaf("build [FLAGS] SPEC BASE NODE [EXTENSIONS]", "Build a node image of the image BASE, and its extensions, with buildah", `
BASE is read and NODE and EXTENSIONS are written, the extensions first: where the
node image's name has appeared, the pair is there. They are checked as node check
does before anything is written.
`+specs+images, 3, 4, func(cmd *cobra.Command, args []string) error {
		spec, err := readSpec(cmd, args[0])
		if err != nil {
			return ui.Next(err, "okd-streams container node render --help shows a spec")
		}
		_, rendered, err := container.RenderNode(spec)
		if err != nil {
			return err
		}
		switch has := rendered != "" || spec.ExtensionsContainerfile != ""; {
		case has && len(args) == 3:
			return ui.Usagef("the spec has extensions, and nothing says where they shall be")
		case !has && len(args) == 4:
			return ui.Usagef("the spec has no extensions, for %s", args[3])
		}
		var places []*place
		for _, text := range args[2:] {
			p, err := parsePlace(text)
			if err != nil {
				return err
			}
			places = append(places, p)
		}
		base, _, err := c.image(cmd, args[1])
		if err != nil {
			return err
		}
		cache, err := c.openCache(cmd.Context())
		if err != nil {
			return err
		}
		dir, err := c.tempDir()
		if err != nil {
			return err
		}
		if !c.quiet {
			b.Output = cmd.ErrOrStderr()
		}
		if spec.Created.IsZero() {
			if spec.Created, err = ui.BuildTime(); err != nil {
				return err
			}
		}
		node, extensions, err := container.BuildNode(cmd.Context(), cache, base, spec, &container.BuildNodeOptions{Context: context, Dir: dir, Build: b.Build})
		if err != nil {
			return err
		}
		var rows [][]string
		out := map[string]*written{}
		for i := len(places) - 1; i >= 0; i-- {
			img, name := node, "node"
			if i == 1 {
				img, name = extensions, "extensions"
			}
			if out[name], err = c.write(cmd, places[i], img); err != nil {
				return err
			}
			rows = append(rows, []string{name + ":", out[name].Image, out[name].Digest, ui.Size(out[name].Size)})
		}
		return ui.Print(cmd, out, ui.Rows(rows))
	})
	cmd.Flags().StringVar(&context, "context", ".", "`FOLDER` that the spec's paths are in")
	flags := cmd.Flags()
	flags.StringVar(&b.Program, "buildah", "buildah", "`PROGRAM` that builds images")
	flags.StringVar(&b.Root, "storage-root", "", "`FOLDER` of buildah's storage (default: buildah's own)")
	flags.StringVar(&b.RunRoot, "storage-runroot", "", "`FOLDER` of the state of buildah's storage (default: buildah's own)")
	flags.StringVar(&b.Driver, "storage-driver", "", "`DRIVER` of buildah's storage: overlay or vfs (default: buildah's own)")
	flags.StringVar(&b.Isolation, "isolation", "", "`oci|rootless|chroot` of build steps; chroot works within containers (default: buildah's own)")
	flags.StringArrayVar(&b.Volumes, "volume", nil, "`PATH:PATH:ro` that build steps see; may be repeated")
	flags.StringArrayVar(&b.Secrets, "secret", nil, "`id=yumrepos,src=FILE`, repositories that build steps see; may be repeated")
	return cmd
}

func (c *common) check() *cobra.Command {
	var baseName string
	cmd := c.leaf("check [FLAGS] NODE [EXTENSIONS]", "Name where a node image, its base and its extensions image disagree", images, 1, 2, func(cmd *cobra.Command, args []string) error {
		node, at, err := c.image(cmd, args[0])
		if err != nil {
			return err
		}
		var base, extensions v1.Image
		if len(args) == 2 {
			if extensions, _, err = c.image(cmd, args[1]); err != nil {
				return err
			}
		}
		if baseName != "" {
			if base, _, err = c.image(cmd, baseName); err != nil {
				return fmt.Errorf("--base: %w", err)
			}
		}
		return c.faults(cmd, container.CheckNode(cmd.Context(), base, node, extensions), at.String(), at.String()+": no disagreement",
			"okd-streams container node build makes images that agree")
	})
	cmd.Flags().StringVar(&baseName, "base", "", "`IMAGE` that the node image was built of")
	return cmd
}
