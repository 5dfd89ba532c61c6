package ostreecmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

type checkoutFlags struct {
	opts                         ostree.CheckoutOptions
	union, add, identical        bool
	allowNoent, fromStdin        bool
	fromFile, fsync, skipList    string
	composefs, composefsNoVerity bool
}

func (c *common) checkout() *cobra.Command {
	var f checkoutFlags
	cmd := c.leaf("checkout COMMIT [DESTINATION]", "Write a commit's tree into a folder", 1, 2, func(cmd *cobra.Command, args []string) error {
		if err := f.check(args); err != nil {
			return err
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			show, done := c.progress(cmd)
			defer done()
			f.opts.Progress = show
			target := args[len(args)-1]
			switch {
			case f.composefs || f.composefsNoVerity:
				return f.writeComposefs(ctx, r, args[0], target)
			case f.fromStdin || f.fromFile != "":
				return f.many(ctx, r, cmd.InOrStdin(), target)
			}
			return f.one(ctx, r, args[0], f.opts.Subpath, target)
		})
	})
	flags := cmd.Flags()
	flags.BoolVarP(&f.opts.UserMode, "user-mode", "U", false, "leave owners and extended attributes out")
	flags.StringVar(&f.opts.Subpath, "subpath", "", "check out the directory `PATH` of the commit alone")
	flags.BoolVar(&f.union, "union", false, "keep directories that are there, replace files")
	flags.BoolVar(&f.add, "union-add", false, "keep directories and files that are there")
	flags.BoolVar(&f.identical, "union-identical", false, "keep what is there if it is the same, else fail")
	flags.BoolVar(&f.opts.Whiteouts, "whiteouts", false, "obey the files with which container layers delete")
	flags.BoolVar(&f.allowNoent, "allow-noent", false, "do nothing if the commit has no --subpath")
	flags.BoolVar(&f.fromStdin, "from-stdin", false, "read commits and subpaths, each with a NUL behind it, and check them all out; the argument is the destination")
	flags.StringVar(&f.fromFile, "from-file", "", "the same from `FILE`")
	flags.BoolVarP(&f.opts.RequireHardLinks, "require-hardlinks", "H", false, "fail where a file can't be a hard link")
	flags.BoolVarP(&f.opts.Copy, "force-copy", "C", false, "make no hard links")
	flags.BoolVarP(&f.opts.PlainDirs, "bareuseronly-dirs", "M", false, "take all bits but 0775 off the modes of directories")
	flags.StringVar(&f.skipList, "skip-list", "", "`FILE` of paths to leave out, one a line")
	flags.StringVar(&f.fsync, "fsync", "", "`true|false`: wait for the disk")
	flags.BoolVar(&f.composefs, "composefs", false, "write the tree's composefs image as the file DESTINATION")
	flags.BoolVar(&f.composefsNoVerity, "composefs-noverity", false, "the same without the digests of files")
	ignore(cmd, "there is no such cache", "disable-cache")
	ignore(cmd, "such files never are hard links", "force-copy-zerosized")
	ignore(cmd, "it is so unless --fsync=true is given", "disable-fsync")
	refuse(cmd, "device nodes are not made", "process-passthrough-whiteouts")
	refuse(cmd, "label the tree when it is committed", "selinux-policy=", "selinux-prefix=")
	return cmd
}

func (f *checkoutFlags) check(args []string) error {
	unions := 0
	for _, u := range []struct {
		set  bool
		mode ostree.Union
	}{{f.union, ostree.UnionOverwrite}, {f.add, ostree.UnionAdd}, {f.identical, ostree.UnionIdentical}} {
		if u.set {
			f.opts.Union = u.mode
			unions++
		}
	}
	many := f.fromStdin || f.fromFile != ""
	switch {
	case unions > 1:
		return ui.Usagef("one of --union, --union-add and --union-identical, not several")
	case f.opts.RequireHardLinks && f.opts.Copy:
		return ui.Usagef("either --require-hardlinks or --force-copy, not both")
	case f.identical && !f.opts.RequireHardLinks:
		return ui.Next(ui.Usagef("--union-identical needs --require-hardlinks"), "give both, as with ostree")
	case many && len(args) > 1:
		return ui.Usagef("--from-stdin and --from-file take the destination alone")
	case (f.composefs || f.composefsNoVerity) && (many || len(args) < 2):
		return ui.Usagef("--composefs takes a commit and the file to write")
	}
	switch f.fsync {
	case "true", "yes", "1":
		f.opts.Fsync = true
	case "", "false", "no", "0", "none":
	default:
		return ui.Usagef("--fsync=%s: neither true nor false", f.fsync)
	}
	if f.skipList != "" {
		skip, err := readSkipList(f.skipList)
		if err != nil {
			return err
		}
		f.opts.Skip = func(name string) bool { return skip["/"+name] || skip["/"+name+"/"] } // `ostree` takes directories with a slash alone
	}
	return nil
}

// one checks out one commit.
func (f *checkoutFlags) one(ctx context.Context, r *ostree.Repo, rev, subpath, target string) (err error) {
	commit, err := resolve(ctx, r, rev)
	if err != nil {
		return err
	}
	opts := f.opts
	opts.Subpath = strings.TrimPrefix(path.Clean("/"+subpath), "/")
	if opts.Subpath != "" {
		// Before anything is made.
		for _, err := range r.List(ctx, commit, opts.Subpath, &ostree.ListOptions{Self: true}) {
			if errors.Is(err, fs.ErrNotExist) {
				if f.allowNoent {
					return nil
				}
				return missing("/" + opts.Subpath)
			}
			if err != nil {
				return err
			}
		}
	}
	err = os.Mkdir(target, 0o755)
	made := err == nil
	if errors.Is(err, fs.ErrExist) && opts.Union != ostree.UnionNone {
		err = nil
	}
	if errors.Is(err, fs.ErrExist) {
		return ui.Next(fmt.Errorf("%s is there already", quoted(target)), "name a folder that is not there, or say with --union what becomes of one that is")
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ui.Next(err, "make the folder that it is to be in first")
	}
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(target)
	if err == nil {
		err = errors.Join(r.Checkout(ctx, root, commit, &opts), root.Close())
	}
	if opts.RequireHardLinks && errors.Is(err, errors.ErrUnsupported) {
		err = ui.Next(err, "leave --require-hardlinks out, or check out from a repository of mode bare-user with --user-mode")
	}
	if err != nil && made {
		err = errors.Join(err, os.RemoveAll(target))
	}
	return err
}

// many checks out what a list says, all into one folder.
func (f *checkoutFlags) many(ctx context.Context, r *ostree.Repo, stdin io.Reader, target string) error {
	if f.fromFile != "" {
		file, err := os.Open(f.fromFile)
		if err != nil {
			return err
		}
		defer file.Close()
		stdin = file
	}
	in := bufio.NewReader(io.LimitReader(stdin, 1<<20))
	for {
		rev, err := in.ReadString(0)
		if rev = strings.TrimSuffix(rev, "\x00"); rev == "" {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		subpath, err := in.ReadString(0)
		if err != nil {
			return ui.Usagef("the list of checkouts ends behind %s: a commit and a subpath, each with a NUL behind it", quoted(rev))
		}
		if err := f.one(ctx, r, rev, strings.TrimSuffix(subpath, "\x00"), target); err != nil {
			return err
		}
	}
}

// writeComposefs writes an image under its name when it is whole.
func (f *checkoutFlags) writeComposefs(ctx context.Context, r *ostree.Repo, rev, target string) error {
	commit, err := resolve(ctx, r, rev)
	if err != nil {
		return err
	}
	return writeWhole(target, func(w io.Writer) error {
		_, err := r.WriteComposefs(ctx, w, commit, &ostree.ComposefsOptions{NoVerity: f.composefsNoVerity, Progress: f.opts.Progress})
		return err
	})
}
