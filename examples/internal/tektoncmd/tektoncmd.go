// Package tektoncmd is the command `okd-streams tekton`: a stream on Tekton
// Pipelines, and what its tasks need there.
package tektoncmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

const long = `Run a stream on Tekton Pipelines.

render writes what a cluster needs to build and release a stream by itself: tasks,
pipelines, their runs, and the CronJobs that start them by the definition's
cadences. The other commands are for its tasks, and for people.`

// Command is "okd-streams tekton".
func Command() *cobra.Command {
	root := &cobra.Command{
		Use: "tekton", Short: "Run a stream on Tekton Pipelines", Long: long, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	root.AddCommand(render(), check(), runCommand(), lock(), unlock(), pick(), install())
	return root
}

type rendering struct {
	platform, output, storage string
	params                    []string
	opts                      tekton.Options
}

func render() *cobra.Command {
	r := &rendering{}
	cmd := &cobra.Command{
		Use: "render --image IMAGE STREAM", Short: "Write the objects of a stream as YAML", DisableFlagsInUseLine: true,
		Long: `Write the objects of a stream as YAML.

STREAM is the name of a built-in stream, or the path of a definition. Without
--output the objects for --platform are printed, ready for kubectl apply -f -. With
it a folder is made, for kubectl apply -k FOLDER/overlays/PLATFORM:
  base/                what is the same everywhere
  overlays/PLATFORM/   what is not: plain, kind, openshift
  runs/PLATFORM/       runs, for kubectl create -f, each time that one is wanted
A folder that is there is replaced if render made it.

Secrets that the definition names have to be in the namespace; none is rendered.`,
		Example: `  okd-streams tekton render --image quay.io/EXAMPLE/okd-streams@sha256:… okd-scos-next | kubectl apply -f -
  okd-streams tekton render --image quay.io/EXAMPLE/okd-streams@sha256:… --output deploy my-stream.yaml`,
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
	set.StringVar(&r.opts.Namespace, "namespace", tekton.DefaultNamespace, "`NAMESPACE` of all objects")
	set.StringVar(&r.opts.Prefix, "prefix", "", "`TEXT` that every name begins with, where several streams share a namespace")
	set.StringVar(&r.platform, "platform", string(tekton.Plain), "`PLATFORM`: plain, kind or openshift")
	set.StringVar(&r.output, "output", "", "`FOLDER` to write, for all platforms (default: print those of --platform)")
	set.StringVar(&r.opts.StorageClass, "storage-class", "", "`CLASS` of volume claims (default: the cluster's)")
	set.StringVar(&r.storage, "storage", "", "`SIZE` of the volume that builds work in, as 40Gi (default: the definition's, else "+tekton.DefaultStorage.String()+")")
	set.StringArrayVar(&r.opts.Insecure, "insecure", nil, "registry `HOST[:PORT]` that may be spoken to over plain HTTP; may be repeated (loopback always may)")
	set.BoolVar(&r.opts.HostNetwork, "host-network", false, "give pods the network of their node, for registries and stores on its loopback address")
	set.StringArrayVar(&r.params, "param", nil, "`NAME=VALUE` of a pipeline's parameter, for every run; may be repeated")
	return cmd
}

func (r *rendering) run(cmd *cobra.Command, which string) error {
	if r.opts.Image == "" {
		return ui.Usagef("give --image IMAGE, the task image by digest: okd-streams image build prints it")
	}
	if err := r.opts.Platform.UnmarshalText([]byte(r.platform)); err != nil {
		return ui.Usagef("--platform: %w", err)
	}
	if r.storage != "" {
		if err := r.opts.Storage.UnmarshalText([]byte(r.storage)); err != nil {
			return ui.Usagef("--storage: %w", err)
		}
	}
	for _, text := range r.params {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return ui.Usagef("--param %s: it is NAME=VALUE", text)
		}
		if r.opts.Params == nil {
			r.opts.Params = map[string]string{}
		}
		r.opts.Params[name] = value
	}
	def, err := walk.Definition(which)
	if err != nil {
		return err
	}
	if r.output == "" {
		out, err := tekton.Render(def, &r.opts)
		if err != nil {
			return ui.Next(err, advice)
		}
		return out.Encode(cmd.OutOrStdout())
	}
	files, err := tekton.Tree(def, &r.opts)
	if err != nil {
		return ui.Next(err, advice)
	}
	if err := tekton.Write(r.output, files); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d files; kubectl apply -k %s\n", r.output, len(files), filepath.Join(r.output, "overlays", r.platform))
	return err
}

// advice is for what a definition or the flags leave open.
const advice = "say it in the definition, or with --param NAME=VALUE; okd-streams tekton render --help shows the other flags"

func check() *cobra.Command {
	return &cobra.Command{
		Use: "check PATH...", Short: "Find what a cluster takes and no run would survive", DisableFlagsInUseLine: true,
		Long: `Find what a cluster takes and no run would survive, in YAML that render wrote and
people changed: parameters that are missing or unknown, workspaces that nobody
binds, results that no task has, tasks that wait for each other.

A PATH is a file, a folder with files *.yaml, or "-" for standard input. All
together are one set of objects; kustomization.yaml is passed over. No fault: exit code 0. Faults: 1.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ui.Usagef("no path, but it is %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var objects []tekton.Object
			for _, path := range args {
				more, err := read(cmd.InOrStdin(), path)
				if err != nil {
					return err
				}
				objects = append(objects, more...)
			}
			if len(objects) == 0 {
				return ui.Next(fmt.Errorf("%s: no objects to check", strings.Join(args, ", ")), "name files with objects, or a folder with files *.yaml")
			}
			if err := tekton.Check(objects...); err != nil {
				return ui.Next(err, "mend these objects; okd-streams tekton render writes ones without a fault")
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d objects, no faults\n", len(objects))
			return err
		},
	}
}

// read reads the objects of a file, or of all files in a folder.
func read(stdin io.Reader, path string) ([]tekton.Object, error) {
	if path == "-" {
		return tekton.Decode(stdin)
	}
	var objects []tekton.Object
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "kustomization.yaml" || file != path && filepath.Ext(file) != ".yaml" {
			return err
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		more, err := tekton.Decode(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		objects = append(objects, more...)
		return nil
	})
	return objects, err
}

// definition is what lock and unlock need of a stream.
func definition(which string) (*stream.Definition, error) {
	if which == "" {
		return nil, ui.Usagef("give --stream STREAM: the name of a built-in one, or a definition's file")
	}
	return walk.Definition(which)
}
