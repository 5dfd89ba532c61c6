// Package actionscmd is the command `okd-streams actions`: a stream on GitHub
// Actions.
package actionscmd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/actions"
)

// Command is "okd-streams actions".
func Command() *cobra.Command {
	root := &cobra.Command{
		Use: "actions", Short: "Run a stream on GitHub Actions", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	root.AddCommand(render())
	return root
}

type rendering struct {
	output, publicKey       string
	check                   bool
	inputs, runners, pinned []string
	opts                    actions.Options
}

func render() *cobra.Command {
	r := &rendering{}
	cmd := &cobra.Command{
		Use: "render --image IMAGE STREAM", Short: "Write the workflows of a stream", DisableFlagsInUseLine: true,
		Long: `Write the workflows of a stream: the daily build, and the promotion if the
definition schedules one.

STREAM is the name of a built-in stream, or the path of a definition, which the
workflows have in them: render again when it changes, --check says whether that is so.
They are written into the folder of a repository, .github/workflows in it, or printed.
Steps are commands of okd-streams from the task image; no action of anybody is used but
what --action names by its commit.

The secrets that the repository must have are named at the end.`,
		Example: `  okd-streams actions render --image ghcr.io/EXAMPLE/okd-streams@sha256:… --context os --output . mine.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return ui.WrongArguments(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return r.run(cmd, args[0]) },
	}
	set := cmd.Flags()
	set.StringVar(&r.opts.Image, "image", "", "task `IMAGE` by digest, as okd-streams image build prints it (required)")
	set.StringVar(&r.output, "output", "", "`FOLDER` of the repository to write into (default: print the workflows)")
	set.BoolVar(&r.check, "check", false, "write nothing, and fail if the workflows in --output are others")
	set.StringArrayVar(&r.inputs, "input", nil, "`NAME=VALUE` of an input that runs have unless they are started with another; may be repeated")
	set.StringArrayVar(&r.runners, "runner", nil, "`ARCHITECTURE=LABEL` of the runner that builds for it (default: GitHub's); may be repeated")
	set.StringArrayVar(&r.pinned, "action", nil, "`ACTION=COMMIT` that may be used, actions/cache or actions/upload-artifact; may be repeated")
	set.StringVar(&r.opts.Context, "context", "", "`FOLDER` of the repository that the node image is built in (default: the definition's os.source)")
	set.BoolVar(&r.opts.Checkout, "checkout", false, "fetch the repository, for a definition that names files in it")
	set.StringVar(&r.opts.State, "state", "", "`FOLDER` of the runner that is kept from run to run (default: none)")
	set.StringVar(&r.publicKey, "public-key", "", "`FILE` of public OpenPGP keys, in ASCII armor, by which clusters judge the releases")
	set.StringVar(&r.opts.Flow, "flow", "", "`KEY` in the store of a stream without a release controller, for promotions")
	return cmd
}

// pairs reads NAME=VALUE.
func pairs[K ~string](flag string, texts []string) (map[K]string, error) {
	out := map[K]string{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, ui.Usagef("--%s %s: it is NAME=VALUE", flag, text)
		}
		out[K(key)] = value
	}
	return out, nil
}

func (r *rendering) run(cmd *cobra.Command, which string) (err error) {
	if r.opts.Image == "" {
		return ui.Usagef("give --image IMAGE, the task image by digest: okd-streams image build prints it")
	}
	if r.check && r.output == "" {
		return ui.Usagef("--check needs --output FOLDER")
	}
	if r.opts.Inputs, err = pairs[string]("input", r.inputs); err != nil {
		return err
	}
	if r.opts.Runners, err = pairs[stream.Arch]("runner", r.runners); err != nil {
		return err
	}
	if r.opts.Actions, err = pairs[string]("action", r.pinned); err != nil {
		return err
	}
	if r.publicKey != "" {
		text, err := os.ReadFile(r.publicKey)
		if err != nil {
			return err
		}
		r.opts.PublicKeys = string(text)
	}
	def, err := walk.Definition(which)
	if err != nil {
		return err
	}
	files, err := actions.Render(def, &r.opts)
	if err != nil {
		return ui.Next(err, "name it in the definition or on the command line; okd-streams actions render --help shows how")
	}
	out := cmd.OutOrStdout()
	for _, f := range files {
		if err := r.file(out, f); err != nil {
			return err
		}
	}
	if list := actions.Secrets(def); len(list) > 0 && !r.check {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "secrets that the repository must have: %s\n", strings.Join(list, ", "))
	}
	return err
}

// file prints a workflow, writes it or compares it.
func (r *rendering) file(out io.Writer, f actions.File) error {
	if r.output == "" {
		_, err := fmt.Fprintf(out, "--- # %s\n%s", f.Path, f.Data)
		return err
	}
	path := filepath.Join(r.output, filepath.FromSlash(f.Path))
	if r.check {
		data, err := os.ReadFile(path)
		if err == nil && !bytes.Equal(data, f.Data) {
			err = fmt.Errorf("%s is not what the definition gives", path)
		}
		return ui.Next(err, "run it without --check, and commit what it writes")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := ui.Output(out, path, func(w io.Writer) error {
		_, err := w.Write(f.Data)
		return err
	}); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, path)
	return err
}
