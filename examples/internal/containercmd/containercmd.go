// Package containercmd is the command `okd-streams container`: commits as
// container images and back, and what there is to know and to do about such
// images, node images among them, by package ostree/container.
package containercmd

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/credhelper"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// images is how all commands name images.
const images = `
An IMAGE is one of
  PULLSPEC         in the registry that it names, or in the folder of --registry
  oci:PATH[:NAME]  in an OCI layout`

// common is what the commands share.
type common struct {
	registry, authFile string
	repo, cache        string
	insecure           []string
	quiet, verbose     bool
	closers            []func() error
}

// Command gives the command with all that is below it.
func Command() *cobra.Command {
	c := &common{}
	root := c.group("container", "Make container images of commits and commits of images, and look at them")
	flags := root.PersistentFlags()
	ui.AddOutput(flags)
	flags.StringVar(&c.registry, "registry", "docker://", "where pullspecs are read and written: docker:// or dir:`PATH`, a folder of OCI layouts")
	flags.StringVar(&c.authFile, "authfile", "", "`FILE` of registry credentials (default: as podman finds them)")
	flags.StringArrayVar(&c.insecure, "insecure", nil, "registry `HOST[:PORT]` that may be spoken to over plain HTTP; may be repeated (loopback always may)")
	flags.StringVar(&c.repo, "repo", "", "`PATH` of the OSTree repository (default: $OSTREE_REPO)")
	flags.StringVar(&c.cache, "cache", "", "`FOLDER` where layers are kept for the next image (default: in the user's cache folder)")
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "no progress")
	flags.BoolVarP(&c.verbose, "verbose", "v", false, "log what is done")
	root.AddCommand(
		c.encapsulate(), c.importImage(), c.list(), c.remove(), c.prune(),
		c.inspect(), c.history(), c.compare(), c.lint(), c.checkRegression(),
		c.rechunk(), c.reexport(), c.index(), c.node(),
	)
	return root
}

// group makes a command that only has commands below it.
func (c *common) group(use, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return explain(cmd, ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath()))
			}
			return cmd.Help()
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return explain(cmd, &ui.UsageError{Err: err}) })
	return cmd
}

// leaf makes a command of least to most arguments (negative: any number) whose
// errors say what to do next.
func (c *common) leaf(use, short, long string, least, most int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: strings.TrimRight(short+".\n"+long, "\n"), DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < least || most >= 0 && len(args) > most {
				return explain(cmd, ui.WrongArguments(cmd, args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return explain(cmd, errors.Join(run(cmd, args), c.close()))
		},
	}
}

func (c *common) close() error {
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	c.closers = nil
	return errors.Join(errs...)
}

func (c *common) logger(cmd *cobra.Command) *slog.Logger {
	if !c.verbose {
		return nil
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// progress shows events until the command ends.
func (c *common) progress(cmd *cobra.Command) func(ostree.Event) {
	p := ui.NewProgress(cmd.ErrOrStderr(), time.Now, c.quiet)
	c.closers = append(c.closers, func() error { p.Done(); return nil })
	return func(e ostree.Event) { p.Update(e.Step, e.Phase, e.Done, e.Total, true) }
}

// openRepo opens the repository.
func (c *common) openRepo(cmd *cobra.Command) (*ostree.Repo, error) {
	path := c.repo
	if path == "" {
		path = os.Getenv("OSTREE_REPO")
	}
	if path == "" {
		return nil, ui.Usagef("no repository: --repo is not given")
	}
	r, err := ostree.Open(cmd.Context(), path, &ostree.OpenOptions{Logger: c.logger(cmd)})
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = ui.Next(err, "make a repository with okd-streams ostree --repo="+path+" init, or name another with --repo=PATH")
		}
		return nil, err
	}
	c.closers = append(c.closers, r.Close)
	return r, nil
}

// tempRepo makes a repository that is gone when the command ends.
func (c *common) tempRepo(ctx context.Context) (*ostree.Repo, error) {
	dir, err := c.tempDir()
	if err != nil {
		return nil, err
	}
	r, err := ostree.Init(ctx, filepath.Join(dir, "repo"), ostree.ModeBareUser, nil)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, r.Close)
	return r, r.SetConfig(ctx, "core", "fsync", "false")
}

// tempDir makes a folder that is gone when the command ends.
func (c *common) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "okd-streams-container-")
	if err == nil {
		c.closers = append(c.closers, func() error { return os.RemoveAll(dir) })
	}
	return dir, err
}

// openCache opens the layer cache.
func (c *common) openCache(ctx context.Context) (*container.Cache, error) {
	dir := c.cache
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, ui.Usagef("no folder for layers: %w; name one with --cache", err)
		}
		dir = filepath.Join(user, "okd-streams", "layers")
	}
	cache, err := container.OpenCache(ctx, dir, nil)
	if err == nil {
		c.closers = append(c.closers, cache.Close)
	}
	return cache, err
}

// openRegistry opens what --registry names.
func (c *common) openRegistry(cmd *cobra.Command) (publish.Registry, error) {
	r, err := open.Registry(cmd.Context(), c.registry, &open.RegistryOptions{Remote: remoteregistry.Options{
		AuthFile: c.authFile, AuthFiles: remoteregistry.AuthFiles(os.Getenv), CredentialHelper: credhelper.Get,
		CertDirs: remoteregistry.CertDirs(os.Getenv), Mirrors: remoteregistry.MirrorFiles(os.Getenv),
		Insecure: c.insecure, Jitter: rand.Float64, Logger: c.logger(cmd),
	}})
	if err != nil {
		return nil, ui.Usagef("--registry=%s: %w", c.registry, err)
	}
	return r, nil
}

// explain gives every error an advice, and the exit code that it has.
func explain(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*ui.AdviceError](err); ok {
		return err
	}
	switch _, usage := errors.AsType[*ui.UsageError](err); {
	case usage:
		return ui.Next(err, cmd.CommandPath()+" --help shows what there is")
	case errors.Is(err, ostree.ErrCorrupt) || errors.Is(err, publish.ErrDigest):
		return ui.Next(&ui.VerificationError{Err: err}, "pull the image again; it stays wrong if it was pushed so")
	case errors.Is(err, publish.ErrSignature):
		return ui.Next(&ui.VerificationError{Err: err}, "nothing was stored; --policy names the signature policy, --registries-d where signatures are")
	case errors.Is(err, container.ErrRegression):
		return ui.Next(err, "--allow=NAME accepts a package that is gone or older")
	case errors.Is(err, errors.ErrUnsupported) && cmd.Name() == "reexport":
		return ui.Next(err, "okd-streams container rechunk makes an image of its own of what can't be kept as it is")
	case errors.Is(err, errors.ErrUnsupported):
		return ui.Next(err, cmd.CommandPath()+" --help shows what there is")
	}
	if _, file := errors.AsType[*fs.PathError](err); file && errors.Is(err, fs.ErrNotExist) {
		return ui.Next(err, "check the name and where it is looked for")
	}
	if advice := ui.Advice(err); advice != "" {
		return ui.Next(err, advice)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return ui.Next(err, "okd-streams container list names the images of a repository; okd-streams ostree refs its refs")
	}
	return ui.Next(err, "okd-streams container lint IMAGE names every fault of an image")
}

func pairs(texts []string) (map[string]string, error) {
	out := map[string]string{}
	for _, t := range texts {
		key, value, ok := strings.Cut(t, "=")
		if !ok || key == "" {
			return nil, ui.Usagef("%q is not NAME=VALUE", t)
		}
		out[key] = value
	}
	return out, nil
}
