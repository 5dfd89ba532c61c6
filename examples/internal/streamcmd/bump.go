package streamcmd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/stream"
)

const bumpLong = `

The version moves on, and with it texts that name the old one: jobs of gates,
branches, addresses of repositories, build arguments and image streams. What is
pinned by digest is not touched and listed, for it is of the old version; with
--from-release base release, node image and extensions are those of another
release, which may be of the same version. Comments and layout stay.`

type bumpFlags struct {
	initFlags
	to     string
	dryRun bool
}

func bumpCommand() *cobra.Command {
	f := &bumpFlags{}
	cmd := leaf("bump FILE", "Move a stream to the next version", bumpLong, 1, func(cmd *cobra.Command, args []string) error {
		return f.run(cmd, args[0])
	})
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "`VERSION` X.Y to move to (default: the next, or that of --from-release)")
	flags.StringVar(&f.release, "from-release", "", "`RELEASE` to build on from now, or a repository of releases")
	flags.StringVar(&f.registry, "registry", "docker://", "where releases are read from: docker:// or dir:PATH")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would change, and change nothing")
	f.remote.Add(flags)
	return cmd
}

func (f *bumpFlags) run(cmd *cobra.Command, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	def, err := stream.Decode(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s:\n%w", file, err)
	}
	to := stream.Minor{Major: def.Version.Major, Minor: def.Version.Minor + 1}
	var edits []stream.Set
	if f.release != "" {
		if to, edits, err = f.pins(cmd.Context(), def); err != nil {
			return err
		}
	}
	if f.to != "" {
		want, err := stream.ParseMinor(f.to)
		if err != nil {
			return ui.Usagef("--to: %w", err)
		}
		if f.release != "" && want != to {
			return ui.Usagef("--to %s: the release is of %s", want, to)
		}
		to = want
	}
	if to.Compare(def.Version) < 0 {
		return ui.Usagef("%s is at %s, and %s is before that", file, def.Version, to)
	}
	if _, err := def.Profile(to.String()); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	edits = append(moves(def, to), edits...)
	changed, err := stream.Edit(text, edits...)
	if err != nil {
		return fmt.Errorf("%s: %w\n(change it with an editor)", file, err)
	}
	after, err := stream.Decode(bytes.NewReader(changed))
	if err != nil {
		return fmt.Errorf("%s would have faults:\n%w", file, err)
	}
	changes := differences(def, after)
	if len(changes) == 0 {
		return ui.Print(cmd, changes, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s: nothing to change\n", file)
			return err
		})
	}
	if !f.dryRun {
		if err := ui.Output(nil, file, func(w io.Writer) error { _, err := w.Write(changed); return err }); err != nil {
			return err
		}
	}
	if err := ui.Print(cmd, changes, func(w io.Writer) error { return printChanges(w, changes) }); err != nil {
		return err
	}
	if f.release == "" && to != def.Version {
		for _, pin := range pinned(after) {
			if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s is pinned, and so still of %s: %s\n", pin.path, def.Version, pin.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// pins are the changes that put another release below a stream.
func (f *bumpFlags) pins(ctx context.Context, def *stream.Definition) (stream.Minor, []stream.Set, error) {
	f.arch = string(def.Architectures[0])
	v, err := f.look(ctx)
	if err != nil {
		return stream.Minor{}, nil, err
	}
	to, err := stream.ParseMinor(v.Minor)
	if err != nil {
		return to, nil, err
	}
	edits := []stream.Set{{Path: "payload.base", Value: v.Base}}
	if def.OS.Source.Image != "" {
		edits = append(edits, stream.Set{Path: "os.source.image", Value: v.Node})
	}
	if v.Extensions != "" && def.Extensions.Image != "" {
		edits = append(edits, stream.Set{Path: "extensions.image", Value: v.Extensions})
	}
	return to, edits, nil
}

// text is a value of a definition that may name a version.
type text struct{ path, value string }

// moves are the changes of all that names the version.
func moves(def *stream.Definition, to stream.Minor) []stream.Set {
	if to == def.Version {
		return nil
	}
	texts := []text{{"os.source.ref", string(def.OS.Source.Ref)}, {"os.source.variant", def.OS.Source.Variant}}
	if p := def.Payload.Pick; p != nil {
		texts = append(texts, text{"payload.pick.stream", string(p.Stream)})
	}
	for i, r := range def.OS.Repositories {
		texts = append(texts, text{fmt.Sprintf("os.repositories[%d].baseURL", i), string(r.BaseURL)})
	}
	for key, value := range def.OS.BuildArgs {
		texts = append(texts, text{fmt.Sprintf("os.buildArgs[%q]", key), value})
	}
	for i, g := range def.Gates {
		texts = append(texts, text{fmt.Sprintf("gates[%d].job", i), g.Job})
	}
	for i, im := range def.Imports {
		texts = append(texts, text{fmt.Sprintf("imports[%d].imageStream", i), string(im.ImageStream)})
	}
	edits := []stream.Set{{Path: "version", Value: to}}
	// Whole numbers: 4.2 is not in 4.20, nor in 14.2, but in release-4.2.1.
	old := regexp.MustCompile(`(^|[^0-9.])` + regexp.QuoteMeta(def.Version.String()) + `($|[^0-9])`)
	for _, t := range texts {
		if moved := old.ReplaceAllString(t.value, "${1}"+to.String()+"${2}"); moved != t.value {
			edits = append(edits, stream.Set{Path: t.path, Value: moved})
		}
	}
	return edits
}

// pinned are the images and sources that a definition names by content.
func pinned(def *stream.Definition) []text {
	all := []text{
		{"os.source.image", def.OS.Source.Image}, {"os.source.commit", def.OS.Source.Commit}, {"os.builder.image", def.OS.Builder.Image},
		{"payload.base", def.Payload.Base}, {"extensions.image", def.Extensions.Image},
	}
	for i, c := range def.Payload.Overrides {
		all = append(all, text{fmt.Sprintf("payload.overrides[%d].image", i), c.Image})
	}
	var said []text
	for _, t := range all {
		if strings.TrimSpace(t.value) != "" {
			said = append(said, t)
		}
	}
	return said
}
