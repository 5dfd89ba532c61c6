// Package payloadcmd is the command `okd-streams payload`: release payloads
// looked at, compared, built, made anew or from others with an image swapped, extracted,
// mirrored, bundled for sites without network, signed and verified, from
// registries, folders and archives.
package payloadcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/ocregistry"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

const releases = `

A RELEASE is a pullspec, which is read from --from:
  docker://     the registry that the pullspec names
  dir:PATH      a folder of OCI layouts, one for each repository
  folder:PATH   an OCI layout, or a mirror made by oc adm release mirror --to-dir
  archive:PATH  one of these as a tar archive
or unpacked:PATH, the files of a payload (of oc adm release extract).`

// common is what the commands share.
type common struct {
	from, arch         string
	flags              remote.Flags
	verbose, allLayers bool
	closers            []func() error
}

// Command gives the command with all that is below it.
func Command() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use: "payload", Short: "Look at release payloads, and make, extract, mirror, sign and verify them", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.from, "from", "docker://", "where images are read from: docker://, dir:`PATH`, folder:PATH or archive:PATH")
	c.flags.Add(flags)
	flags.StringVar(&c.arch, "arch", "amd64", "`ARCHITECTURE` to choose from manifest lists, as Go spells it")
	flags.BoolVar(&c.allLayers, "all-layers", false, "read all layers of the release image, as a cluster does, not its last alone")
	flags.BoolVar(&c.verbose, "verbose", false, "log each request")
	ui.AddOutput(flags)
	root.AddCommand(c.info(), c.lint(), c.new(), c.swap(), c.build(), c.changelog(), c.extract(), c.mirror(), c.bundle(), c.unbundle(), c.sign(), c.verify())
	return root
}

// leaf makes a command with at least so many arguments, and at most.
func (c *common) leaf(use, short, long string, least, most int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + "." + long + releases,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < least || most >= 0 && len(args) > most {
				return ui.WrongArguments(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return explain(errors.Join(run(cmd, args), c.close()))
		},
	}
}

// explain gives what this command knows better than others an advice, and the
// exit code that it has.
func explain(err error) error {
	if _, usage := errors.AsType[*ui.UsageError](err); usage || err == nil {
		return err
	}
	if errors.Is(err, payload.ErrSignature) || errors.Is(err, payload.ErrDigest) {
		return &ui.VerificationError{Err: err}
	}
	fault, ok := errors.AsType[*payload.Error](err)
	_, file := errors.AsType[*fs.PathError](err)
	switch {
	case ok && fault.Op == "assemble" && strings.HasPrefix(fault.Err.Error(), "version "):
		return ui.Next(&ui.UsageError{Err: err}, "give --version a semantic one, such as 4.22.0-mine.1")
	case !ok || file || !errors.Is(err, fs.ErrNotExist):
	case strings.HasPrefix(fault.Target, "component "):
		return ui.Next(err, "okd-streams payload info RELEASE lists the components that a release has")
	case fault.Op == "open":
		return ui.Next(err, "name a release image; okd-streams container inspect IMAGE says what another one is")
	case fault.Op == "extract":
		return ui.Next(err, "okd-streams payload extract --to FOLDER RELEASE writes all files that a release has")
	}
	return err
}

func (c *common) close() error {
	var errs []error
	for _, fn := range c.closers {
		errs = append(errs, fn())
	}
	c.closers = nil
	return errors.Join(errs...)
}

func (c *common) platform() v1.Platform { return v1.Platform{OS: "linux", Architecture: c.arch} }

// remote is how registries are spoken to, as podman would on this machine.
func (c *common) remote(stderr io.Writer) remoteregistry.Options {
	if !c.verbose {
		return c.flags.Options(nil)
	}
	return c.flags.Options(slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// registry opens a registry by URL, or a mirror in oc's folder.
func (c *common) registry(cmd *cobra.Command, url string) (publish.Registry, error) {
	if dir, ok := strings.CutPrefix(url, "mirror:"); ok {
		r, err := ocregistry.Open(cmd.Context(), dir, nil)
		if err != nil {
			return nil, ui.Usagef("%s: %w", url, err)
		}
		return r, nil
	}
	r, err := open.Registry(cmd.Context(), url, &open.RegistryOptions{Remote: c.remote(cmd.ErrOrStderr())})
	if err != nil {
		return nil, ui.Usagef("%s: %w", url, err)
	}
	return r, nil
}

// images opens what --from names.
func (c *common) images(cmd *cobra.Command) (payload.Images, error) {
	fsys, err := c.files()
	switch {
	case err != nil:
		return nil, err
	case fsys == nil:
		return c.registry(cmd, c.from)
	}
	return payload.Folder(fsys)
}

// files opens the folder or archive that --from names; nil: it names a registry.
func (c *common) files() (fs.FS, error) {
	scheme, path, _ := strings.Cut(c.from, ":")
	switch scheme {
	case "folder":
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, err
		}
		c.closers = append(c.closers, root.Close)
		return root.FS(), nil
	case "archive":
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		c.closers = append(c.closers, file.Close)
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		return payload.Archive(file, info.Size())
	}
	return nil, nil
}

// source is what a mirror is copied from.
func source(src payload.Images) publish.Registry {
	if r, ok := src.(publish.Registry); ok {
		return r
	}
	return publish.ReadOnly(src)
}

// release opens a release and what its images are read from.
func (c *common) release(cmd *cobra.Command, text string) (*payload.Release, payload.Images, error) {
	if path, ok := strings.CutPrefix(text, "unpacked:"); ok {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, nil, err
		}
		defer root.Close()
		r, err := payload.OpenFolder(cmd.Context(), root.FS())
		return r, nil, err
	}
	src, err := c.images(cmd)
	if err != nil {
		return nil, nil, err
	}
	ref, err := c.reference(text)
	if err != nil {
		return nil, nil, err
	}
	r, err := payload.Open(cmd.Context(), src, ref, &payload.OpenOptions{Platform: c.platform(), AllLayers: c.allLayers})
	return r, src, err
}

func (c *common) reference(text string) (name.Reference, error) {
	ref, err := name.ParseReference(text)
	if err != nil {
		return nil, ui.Usagef("pullspec %q: %w", text, err)
	}
	return ref, nil
}

// components reads NAME=PULLSPEC arguments.
func components(args []string) (map[string]name.Reference, error) {
	out, err := payload.DecodeMapping([]byte(strings.Join(args, "\n")))
	if err != nil {
		return nil, &ui.UsageError{Err: err}
	}
	return out, nil
}

// move copies images between registries with progress for people.
func move(ctx context.Context, stderr io.Writer, to, from publish.Registry, copies []publish.Copy, dry bool) (*publish.Transferred, error) {
	progress := ui.NewProgress(stderr, time.Now, false)
	defer progress.Done()
	done, err := publish.Transfer(ctx, to, from, copies, &publish.TransferOptions{DryRun: dry, Jitter: rand.Float64})
	if err != nil {
		return nil, fmt.Errorf("%w\n  run it again: what has arrived is not moved again", err)
	}
	return done, nil
}
