package containercmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish"
)

// encoding are the flags of all commands that make layers.
type encoding struct {
	codec         string
	level, format int
}

func (e *encoding) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&e.codec, "compression", "gzip", "`gzip|zstd|none`")
	flags.IntVar(&e.level, "level", 0, "of compression, 1 to 9 (zstd: 22); 0 is 6 (zstd: 1)")
	flags.IntVar(&e.format, "format-version", 1, "`1|2`: 2 has directories in every layer")
}

// splitting are the flags of all commands that split content over layers.
type splitting struct {
	encoding
	maxLayers                          int
	planner, prior, contentMeta, arch  string
	labels, copyKeys, copyKeysOptional []string
	dialect                            string
	compat                             bool
}

func (s *splitting) register(cmd *cobra.Command) {
	s.encoding.register(cmd)
	flags := cmd.Flags()
	flags.IntVar(&s.maxLayers, "max-layers", 0, "most layers beside the commit's (default 64)")
	flags.StringVar(&s.planner, "planner", "", "`frugal|stable|ostree-ext` (default: frugal with --prior, else stable)")
	flags.StringVar(&s.prior, "prior", "", "`IMAGE` before this one, whose layers are kept as far as that is good")
	flags.StringVar(&s.contentMeta, "contentmeta", "", "`FILE` that says what goes into which layer (default: the package database does)")
	flags.StringVar(&s.arch, "arch", "", "`ARCHITECTURE` (default: the commit's)")
	flags.StringArrayVar(&s.labels, "label", nil, "label to add, `NAME=VALUE`; may be repeated")
	flags.StringArrayVar(&s.copyKeys, "copymeta", nil, "metadata `KEY` of the commit that becomes a label; may be repeated")
	flags.StringArrayVar(&s.copyKeysOptional, "copymeta-opt", nil, "the same for a `KEY` that may be missing; may be repeated")
	flags.StringVar(&s.dialect, "dialect", "", "`v1a|v1b|plain` of the layers: of ostree-ext 0.15, of bootc (default), or without a commit")
	flags.BoolVar(&s.compat, "compat", false, "copy the faults of the dialect's tool, to compare digests; not all such images can be imported")
}

// options turns flags into options; components and planner may be left to the
// library.
func (s *splitting) options(c *common, cmd *cobra.Command) (*container.EncapsulateOptions, error) {
	labels, err := pairs(s.labels)
	if err != nil {
		return nil, err
	}
	o := &container.EncapsulateOptions{
		Dialect: container.Dialect(s.dialect), Compat: s.compat, FormatVersion: s.format, Codec: container.Codec(s.codec), Level: s.level, MaxLayers: s.maxLayers,
		Labels: labels, CopyKeys: s.copyKeys, CopyKeysOptional: s.copyKeysOptional, Architecture: s.arch,
		Logger: c.logger(cmd), Progress: c.progress(cmd),
	}
	switch o.Codec {
	case "", container.Gzip, container.Zstd, container.None:
	default:
		return nil, ui.Usagef("--compression=%s: none of gzip, zstd and none", s.codec)
	}
	if s.maxLayers != 0 && (s.maxLayers < 2 || s.maxLayers > 499) {
		return nil, ui.Usagef("--max-layers=%d: it is 2 to 499", s.maxLayers)
	}
	var split container.Split
	if s.prior != "" {
		if o.Prior, _, err = c.image(cmd, s.prior); err != nil {
			return nil, fmt.Errorf("--prior: %w", err)
		}
		if split, err = container.SplitOf(o.Prior); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("--prior: %w", err)
		}
	}
	switch s.planner {
	case "":
	case "frugal":
		o.Planner = container.Frugal{Prior: split}
	case "stable":
		o.Planner = container.Stable{}
	case "ostree-ext":
		o.Planner = container.OstreeExt{Prior: split}
	default:
		return nil, ui.Usagef("--planner=%s: none of frugal, stable and ostree-ext", s.planner)
	}
	if s.contentMeta != "" {
		file, err := os.Open(s.contentMeta)
		if err != nil {
			return nil, err
		}
		meta, err := container.DecodeContentMeta(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("--contentmeta: %w", err)
		}
		o.Components = meta.Components()
	}
	return o, nil
}

func (c *common) encapsulate() *cobra.Command {
	s := &splitting{}
	cmd := c.leaf("encapsulate [FLAGS] REV IMAGE", "Make an OSTree-native container image of a commit", `
REV is a ref or a checksum. Content is split over layers by the package database
in the commit, so that a day on which little changes moves little.
`+images, 2, 2, func(cmd *cobra.Command, args []string) error {
		to, err := parsePlace(args[1])
		if err != nil {
			return err
		}
		repo, err := c.openRepo(cmd)
		if err != nil {
			return err
		}
		commit, err := repo.Resolve(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		cache, err := c.openCache(cmd.Context())
		if err != nil {
			return err
		}
		o, err := s.options(c, cmd)
		if err != nil {
			return err
		}
		if o.Components == nil {
			if o.Components, err = splitCommit(cmd.Context(), cache, repo, commit); err != nil {
				return err
			}
		}
		if tag, ok := to.ref.(name.Tag); ok { // layers are uploaded while others are being compressed
			registry, err := c.openRegistry(cmd)
			if err != nil {
				return err
			}
			o.Made = func(ctx context.Context, layer v1.Layer) error {
				return publish.WriteLayer(ctx, registry, tag.Context(), layer)
			}
		}
		img, err := container.Encapsulate(cmd.Context(), cache, repo, commit, o)
		if err != nil {
			return err
		}
		return c.put(cmd, to, img)
	})
	s.register(cmd)
	return cmd
}

// splitCommit gives what files name themselves and what the package database
// says; none: all is one layer.
func splitCommit(ctx context.Context, cache *container.Cache, repo *ostree.Repo, commit ostree.Checksum) ([]container.Component, error) {
	own, err := container.ExclusiveComponents(ctx, repo, commit, nil)
	if err != nil {
		return nil, err
	}
	packages, err := container.Components(ctx, cache, repo, commit, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return append(own, packages...), nil
}

func (c *common) rechunk() *cobra.Command {
	s := &splitting{}
	cmd := c.leaf("rechunk [FLAGS] IMAGE TO", "Split an image's content over layers anew", `
What layers have on top of a commit becomes part of a new one; configuration but
labels, command and time is left out.
`+images, 2, 2, func(cmd *cobra.Command, args []string) error {
		to, err := parsePlace(args[1])
		if err != nil {
			return err
		}
		img, _, err := c.image(cmd, args[0])
		if err != nil {
			return err
		}
		o, err := s.options(c, cmd)
		if err != nil {
			return err
		}
		cache, err := c.openCache(cmd.Context())
		if err != nil {
			return err
		}
		repo, err := c.tempRepo(cmd.Context())
		if err != nil {
			return err
		}
		made, err := container.Rechunk(cmd.Context(), cache, repo, img, o)
		if err != nil {
			return err
		}
		return c.put(cmd, to, made)
	})
	s.register(cmd)
	return cmd
}

func (c *common) reexport() *cobra.Command {
	e := &encoding{}
	cmd := c.leaf("reexport [FLAGS] NAME TO", "Make an image again of one that was imported", `
NAME is one that okd-streams container list prints.
`+images, 2, 2, func(cmd *cobra.Command, args []string) error {
		to, err := parsePlace(args[1])
		if err != nil {
			return err
		}
		repo, err := c.openRepo(cmd)
		if err != nil {
			return err
		}
		stored, err := find(cmd.Context(), repo, args[0])
		if err != nil {
			return err
		}
		cache, err := c.openCache(cmd.Context())
		if err != nil {
			return err
		}
		img, err := container.Reexport(cmd.Context(), cache, repo, stored, &container.ReexportOptions{
			Codec: container.Codec(e.codec), Level: e.level, FormatVersion: e.format, Progress: c.progress(cmd),
		})
		if err != nil {
			return err
		}
		return c.put(cmd, to, img)
	})
	e.register(cmd)
	return cmd
}

func (c *common) index() *cobra.Command {
	return c.leaf("index TO IMAGE...", "Join the images of several architectures into one index", images, 2, -1, func(cmd *cobra.Command, args []string) error {
		to, err := parsePlace(args[0])
		if err != nil {
			return err
		}
		var list []v1.Image
		for _, text := range args[1:] {
			img, _, err := c.image(cmd, text)
			if err != nil {
				return err
			}
			list = append(list, img)
		}
		idx, err := container.Index(list...)
		if err != nil {
			return err
		}
		digest, err := idx.Digest()
		if err != nil {
			return err
		}
		if to.ref == nil {
			err = to.writeLayout(func(p layout.Path, opts ...layout.Option) error {
				return p.ReplaceIndex(idx, to.matcher(digest), opts...)
			})
		} else {
			err = c.push(cmd, to, digest, func(registry publish.Registry) error {
				_, err := registry.WriteIndex(cmd.Context(), to.ref.Context(), idx, nil)
				return err
			})
		}
		if err != nil {
			return err
		}
		m, err := idx.IndexManifest()
		if err != nil {
			return err
		}
		rows := [][]string{{"Image:", to.String()}, {"Digest:", digest.String()}}
		out := struct {
			Image   string            `json:"image"`
			Digest  string            `json:"digest"`
			Members map[string]string `json:"members"` // digests by platform
		}{to.String(), digest.String(), map[string]string{}}
		for _, d := range m.Manifests {
			out.Members[d.Platform.String()] = d.Digest.String()
			rows = append(rows, []string{d.Platform.String() + ":", d.Digest.String()})
		}
		return ui.Print(cmd, out, ui.Rows(rows))
	})
}
