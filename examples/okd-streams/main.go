// Command okd-streams is the one program of task images, CI helpers and
// people: the daily build and each of its steps, and the streams themselves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/okd-project/okd-streams/examples/internal/actionscmd"
	"github.com/okd-project/okd-streams/examples/internal/bootimagecmd"
	"github.com/okd-project/okd-streams/examples/internal/browsecmd"
	"github.com/okd-project/okd-streams/examples/internal/containercmd"
	"github.com/okd-project/okd-streams/examples/internal/diskcmd"
	"github.com/okd-project/okd-streams/examples/internal/doctorcmd"
	"github.com/okd-project/okd-streams/examples/internal/gatecmd"
	"github.com/okd-project/okd-streams/examples/internal/githubcmd"
	"github.com/okd-project/okd-streams/examples/internal/graphcmd"
	"github.com/okd-project/okd-streams/examples/internal/imagecmd"
	"github.com/okd-project/okd-streams/examples/internal/notifycmd"
	"github.com/okd-project/okd-streams/examples/internal/ostreecmd"
	"github.com/okd-project/okd-streams/examples/internal/payloadcmd"
	"github.com/okd-project/okd-streams/examples/internal/prowcmd"
	"github.com/okd-project/okd-streams/examples/internal/prunecmd"
	"github.com/okd-project/okd-streams/examples/internal/releasecmd"
	"github.com/okd-project/okd-streams/examples/internal/servecmd"
	"github.com/okd-project/okd-streams/examples/internal/statuscmd"
	"github.com/okd-project/okd-streams/examples/internal/streamcmd"
	"github.com/okd-project/okd-streams/examples/internal/tektoncmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/publish/daily"
)

const long = `Build and release the operating system of OKD: from a tree to a commit, an
image, boot images and a release, and from there to people and clusters.

Results go to standard output, everything else to standard error.

Every flag may come from the environment: --max-layers is
OKD_STREAMS_MAX_LAYERS. What is on the command line counts more.

In the task of a pipeline, --results-dir (OKD_STREAMS_RESULTS_DIR) names a
folder, as Tekton's /tekton/results, for the few values that a command ends with:
a file each, without a newline, of the names that its help lists. Lists and
sentences are cut to 512 bytes, and end in " ..." then; names and digests are
never cut. If all together are more than Tekton takes (4096 bytes as it encodes
them, of which 512 are its own) no file is written, and the command fails.

In a Prow job ($ARTIFACTS), commands that work leave junit_okd-streams-COMMAND.xml
there, with a case for the run and for each step and gate, and their report as
okd-streams-COMMAND-summary.html, which Prow shows.

Exit codes:
  0  it is done
  1  it failed
  2  it was called wrongly
  3  something is not what its checksum or signature says
  4  there was nothing to do (build --detailed-exit-code)`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ui.Exit(os.Stderr, "okd-streams", run(ctx, os.Args[1:], os.Stdout, os.Stderr))
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	strictHelp(root)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		complete(root)
	}
	usageErrors(root)
	fromEnvironment(root)
	return root.ExecuteContext(ctx)
}

// newRoot makes the command with all that is below it.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "okd-streams",
		Short:         "Build and release the operating system of OKD",
		Long:          long,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          group,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			if cmd.Name() != "version" {
				trustRoots()
			}
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &ui.UsageError{Err: err} })
	root.AddCommand(buildCommand(), streamcmd.Command(), ostreecmd.Command(), containercmd.Command(), bootimagecmd.Command(), diskcmd.Command(), payloadcmd.Command(), graphcmd.Command(), gatecmd.Command(), releasecmd.Command(), statuscmd.Command(), prunecmd.Command(),
		githubcmd.Command(), notifycmd.Command(), imagecmd.Command(), servecmd.Command(), browsecmd.Command(), doctorcmd.Command(), prowcmd.Command(), tektoncmd.Command(), actionscmd.Command(), manCommand(), versionCommand())
	giveResults(root)
	keepArtifacts(root)
	return root
}

// usageErrors makes what cobra finds wrong with arguments a [ui.UsageError], in a
// command and in all below it.
func usageErrors(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		check = cobra.ArbitraryArgs // for group, where there are commands below
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		switch _, ok := errors.AsType[*ui.UsageError](err); {
		case err == nil || ok:
			return err
		case !cmd.HasSubCommands():
			return ui.WrongArguments(cmd, args)
		}
		return &ui.UsageError{Err: err}
	}
	for _, c := range cmd.Commands() {
		usageErrors(c)
	}
}

// strictHelp lets help and completion refuse what there is not.
func strictHelp(root *cobra.Command) {
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			c.RunE = group
		case "help":
			help := c.Run
			c.Run, c.RunE = nil, func(cmd *cobra.Command, args []string) error {
				if of, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return group(of, rest)
				}
				help(cmd, args)
				return nil
			}
		}
	}
}

// group is what a command does that only has commands below it.
func group(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		cmd.SuggestionsMinimumDistance = 2 // letters
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			err = fmt.Errorf("%w\n(did you mean %s?)", err, strings.Join(near, " or "))
		}
		return &ui.UsageError{Err: err}
	}
	return cmd.Help()
}

// purposes say what each step does, for its command.
var purposes = map[string]string{
	daily.StepInputs:      "Pin the inputs and name the build",
	daily.StepCommit:      "Commit the tree and lint it",
	daily.StepEncapsulate: "Make the base image of the commit",
	daily.StepNode:        "Find the node image and its extensions",
	daily.StepBootimage:   "Measure the boot artifacts",
	daily.StepPayload:     "Assemble the release image",
	daily.StepPublish:     "Publish, pointers last",
}

func buildCommand() *cobra.Command {
	build := stepCommand("build", "Run the daily build, all steps", daily.StepPublish)
	for _, step := range daily.Steps() {
		build.AddCommand(stepCommand(step, purposes[step], step))
	}
	return build
}

// stepCommand runs the walk up to a step. What earlier runs did is reused, so
// that each step can be a task of a pipeline engine over one state folder.
func stepCommand(use, short, step string) *cobra.Command {
	flags := &walk.Flags{}
	command := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := walk.Setup(cmd.Context(), flags, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return errors.Join(r.Do(cmd.Context(), flags, step, cmd.OutOrStdout()), r.Close())
		},
	}
	set := flag.NewFlagSet(use, flag.ContinueOnError)
	flags.Register(set)
	set.VisitAll(func(f *flag.Flag) {
		flag := pflag.PFlagFromGoFlag(f)
		if f.Name == "output" {
			flag.Shorthand = "o"
		}
		command.Flags().AddFlag(flag)
	})
	command.Flags().StringVar(&flags.Build, "build", "", "go on with this build of the state folder, with the inputs that it has")
	return command
}

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man FOLDER", Short: "Write the manual pages of all commands", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			made, err := ui.BuildTime()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "okd-streams", Manual: "OKD Streams", Date: &made}, args[0])
		},
	}
}

// programVersion is what version prints.
type programVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // commit
	Go       string `json:"go"`
}

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := programVersion{Version: "unknown", Go: runtime.Version()}
			if info, ok := debug.ReadBuildInfo(); ok {
				v.Version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						v.Revision = s.Value
					}
				}
			}
			return ui.Print(cmd, v, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, strings.TrimSpace("okd-streams "+v.Version+" "+v.Revision))
				return err
			})
		},
	}
	ui.AddOutput(cmd.Flags())
	return cmd
}
