// Package ostreecmd is the command `okd-streams ostree`: what the program
// `ostree` does with repositories, by package ostree. Flags that mean what
// `ostree` means have its names, and text on standard output is what `ostree`
// prints, for the scripts that read it; -o json is for new ones. What is not done
// here is refused by name, never passed over.
package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

// common is what the commands share.
type common struct {
	repo    string
	output  string
	quiet   bool
	verbose bool
}

// Command gives the command with all that is below it.
func Command() *cobra.Command {
	c := &common{}
	elsewhere := map[string]string{
		"admin": "deployments are left to ostree, rpm-ostree and bootc", "gpg-sign": "okd-streams ostree sign --sign-type=gpg --keys-file=FILE signs with a key from gpg --export-secret-keys",
		"checksum": "okd-streams ostree commit --orphan gives the checksum of a tree", "create-usb": "okd-streams ostree pull-local copies to any folder", "find-remotes": "collections are left to ostree",
		"trivial-httpd": "any web server serves an archive repository",
	}
	root := c.group("ostree", "Work with OSTree repositories, with the flags and output of ostree", elsewhere)
	root.Long = root.Short + `.

The repository is the one of --repo, else the current folder, else $OSTREE_REPO, else /sysroot/ostree/repo.
Results are on standard output, everything else on standard error. Exit codes: 0 done, 1 failed, 2 called in a
way that can't be meant, or with a flag or command that is not supported, 3 something is not what its checksum or
signature says. What is not supported is named in the help of each command.` + notHere(elsewhere)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return c.explain(cmd, &ui.UsageError{Err: err}) })
	flags := root.PersistentFlags()
	flags.StringVar(&c.repo, "repo", "", "`PATH` of the repository (default: the current folder, $OSTREE_REPO, /sysroot/ostree/repo)")
	ui.AddOutput(flags)
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "no progress")
	flags.BoolVarP(&c.verbose, "verbose", "v", false, "log what is done")
	root.AddCommand(
		c.init(), c.config(), c.commit(), c.checkout(), c.export(),
		c.ls(), c.cat(), c.log(), c.show(), c.diff(),
		c.refs(), c.revParse(), c.reset(),
		c.fsck(), c.prune(), c.sign(), c.summary(),
		c.remote(), c.pull(), c.pullLocal(), c.staticDelta(),
	)
	return root
}

// leaf makes a command of least to most arguments (negative: any number) whose
// errors say what to do next.
func (c *common) leaf(use, short string, least, most int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < least || most >= 0 && len(args) > most {
				return c.explain(cmd, ui.WrongArguments(cmd, args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := refused(cmd)
			c.output = ui.Format(cmd)
			if err == nil {
				err = run(cmd, args)
			}
			return c.explain(cmd, err)
		},
	}
}

// with opens the repository for a while.
func (c *common) with(cmd *cobra.Command, do func(ctx context.Context, r *ostree.Repo) error) error {
	r, err := c.open(cmd, c.repo)
	if err != nil {
		return err
	}
	return errors.Join(do(cmd.Context(), r), r.Close())
}

// open opens a repository; "" is the one that `ostree` takes without --repo.
func (c *common) open(cmd *cobra.Command, path string) (*ostree.Repo, error) {
	if path == "" {
		var err error
		if path, err = defaultRepo(); err != nil {
			return nil, err
		}
	}
	r, err := ostree.Open(cmd.Context(), path, c.openOptions(cmd))
	if errors.Is(err, fs.ErrNotExist) {
		err = ui.Next(err, "make a repository with okd-streams ostree --repo="+path+" init, or name another with --repo=PATH")
	}
	return r, err
}

func (c *common) openOptions(cmd *cobra.Command) *ostree.OpenOptions {
	if !c.verbose {
		return nil
	}
	return &ostree.OpenOptions{Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

func defaultRepo() (string, error) {
	has := func(dir, name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	if has(".", "objects") && has(".", "config") {
		return ".", nil
	}
	if path := os.Getenv("OSTREE_REPO"); path != "" {
		return path, nil
	}
	if path := "/sysroot/ostree/repo"; has(path, "config") {
		return path, nil
	}
	return "", ui.Usagef("no repository: --repo is not given, and the current folder is none")
}

// progress shows events until done is called.
func (c *common) progress(cmd *cobra.Command) (show func(ostree.Event), done func()) {
	p := ui.NewProgress(cmd.ErrOrStderr(), time.Now, c.quiet)
	return func(e ostree.Event) { p.Update(e.Step, e.Phase, e.Done, e.Total, false) }, p.Done
}

// noJSON is for commands whose result is a stream of bytes.
func (c *common) noJSON(cmd *cobra.Command) error {
	if c.output != ui.Text {
		return ui.Usagef("%s prints content as it is: there is no --output=%s", cmd.Name(), c.output)
	}
	return nil
}

// resolve gives a commit, and says where to look if there is none.
func resolve(ctx context.Context, r *ostree.Repo, rev string) (ostree.Checksum, error) {
	c, err := r.Resolve(ctx, rev)
	if err == nil && c.IsZero() { // what stands for "none" names no commit
		err = fmt.Errorf("no commit %s: %w", c, fs.ErrNotExist)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ui.Next(err, "okd-streams ostree refs lists what there is")
	}
	return c, err
}

// readCommit is resolve with the commit object.
func readCommit(ctx context.Context, r *ostree.Repo, rev string) (ostree.Checksum, *ostree.Commit, error) {
	c, err := resolve(ctx, r, rev)
	if err != nil {
		return c, nil, err
	}
	commit, err := r.ReadCommit(ctx, c)
	return c, commit, err
}

// refusedFlag is a flag of `ostree` that is not supported here: instead says what
// to do.
type refusedFlag struct{ instead string }

func (*refusedFlag) String() string   { return "" }
func (*refusedFlag) Set(string) error { return nil }
func (*refusedFlag) Type() string     { return "value" }

// refuse declares flags of `ostree` that are not supported here: NAME or
// NAME,LETTER, which take no value, and NAME=. The command's help lists them.
func refuse(cmd *cobra.Command, instead string, names ...string) {
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	if title := "\n\nFlags of ostree that are not supported, with the exit code 2, and what to do instead:"; !strings.Contains(cmd.Long, title) {
		cmd.Long += title
	}
	cmd.Long += "\n"
	for i, name := range names {
		separator := ", --"
		if i == 0 {
			separator = "  --"
		}
		name, _, _ = strings.Cut(name, ",")
		cmd.Long += separator + strings.TrimSuffix(name, "=")
	}
	cmd.Long += ": " + instead
	for _, name := range names {
		name, takes := strings.CutSuffix(name, "=")
		name, letter, _ := strings.Cut(name, ",")
		flag := cmd.Flags().VarPF(&refusedFlag{instead}, name, letter, "not supported: "+instead)
		if !takes {
			flag.NoOptDefVal = "true"
		}
		flag.Hidden = true
	}
}

// refused gives the error of the first such flag that was given.
func refused(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if r, ok := f.Value.(*refusedFlag); ok && err == nil {
			err = ui.Next(ui.Usagef("--%s of %s is not supported here", f.Name, strings.TrimPrefix(cmd.CommandPath(), "okd-streams ")), r.instead)
		}
	})
	return err
}

// ignore declares flags of `ostree` that change nothing here.
func ignore(cmd *cobra.Command, why string, names ...string) {
	for _, name := range names {
		cmd.Flags().Bool(name, false, "no effect: "+why)
		if err := cmd.Flags().MarkHidden(name); err != nil {
			panic(fmt.Sprintf("flag %s was declared a line above: %v", name, err))
		}
	}
}
