package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

func (c *common) export() *cobra.Command {
	var opts ostree.ExportOptions
	var output string
	cmd := c.leaf("export COMMIT", "Write a commit's tree as a tar stream", 1, 1, func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			commit, err := resolve(ctx, r, args[0])
			if err != nil {
				return err
			}
			opts.Subpath = strings.TrimPrefix(path.Clean("/"+opts.Subpath), "/")
			write := func(w io.Writer) error { return r.Export(ctx, w, commit, &opts) }
			if output == "" {
				return write(cmd.OutOrStdout())
			}
			return writeWhole(output, write)
		})
	})
	flags := cmd.Flags()
	flags.BoolVar(&opts.SkipXattrs, "no-xattrs", false, "leave extended attributes out")
	flags.StringVar(&opts.Subpath, "subpath", "", "write the directory `PATH` of the commit alone")
	flags.StringVar(&opts.Prefix, "prefix", "", "put `PREFIX` before every name")
	flags.StringVarP(&output, "output", "o", "", "write to the file `PATH`, not to standard output")
	return cmd
}

// writeWhole writes a file that has its name when it is whole. What is no regular
// file, such as a pipe, is written to.
func writeWhole(name string, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".part-")
	if err != nil {
		return ui.Next(fmt.Errorf("write %s: %w", name, cause(err)), "name a file in a folder that is there and can be written to")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return f.Close()
}
