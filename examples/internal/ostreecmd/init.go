package ostreecmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

func (c *common) init() *cobra.Command {
	mode := "bare"
	cmd := c.leaf("init", "Make a repository", 0, 0, func(cmd *cobra.Command, _ []string) error {
		if mode == "archive-z2" { // as it is written in a repository's config
			mode = string(ostree.ModeArchive)
		}
		switch ostree.Mode(mode) {
		case ostree.ModeArchive, ostree.ModeBare, ostree.ModeBareUser, ostree.ModeBareUserOnly:
		default:
			return ui.Next(ui.Usagef("--mode=%s: no such mode", mode), "archive for serving, bare-user to work without root, bare for root, bare-user-only for trees without owners")
		}
		path := c.repo
		if path == "" {
			path = "."
		}
		r, err := ostree.Init(cmd.Context(), path, ostree.Mode(mode), c.openOptions(cmd))
		if errors.Is(err, fs.ErrNotExist) {
			err = ui.Next(err, "make the folder that it is to be in first")
		}
		if err != nil {
			return err
		}
		return r.Close()
	})
	cmd.Flags().StringVar(&mode, "mode", mode, "`MODE`: bare, bare-user, bare-user-only or archive")
	refuse(cmd, "collections are left to ostree", "collection-id=")
	return cmd
}

func (c *common) config() *cobra.Command {
	var group string
	// name gives group and key of an argument.
	name := func(arg string) (string, string, error) {
		if group != "" {
			return group, arg, nil
		}
		for i := range len(arg) {
			if arg[i] == '.' {
				return arg[:i], arg[i+1:], nil
			}
		}
		return "", "", ui.Next(ui.Usagef("%s has no group", quoted(arg)), "name the key as GROUP.KEY, or give --group")
	}
	cmd := c.leaf("config get KEY | set KEY VALUE | unset KEY", "Read and change a repository's settings", 2, 3, func(cmd *cobra.Command, args []string) error {
		op, want := args[0], 2
		if op == "set" {
			want = 3
		} else if op != "get" && op != "unset" {
			return ui.Usagef("unknown operation %s", quoted(op))
		}
		if len(args) != want {
			return ui.Usagef("%s takes %d arguments", op, want-1)
		}
		group, key, err := name(args[1])
		if err != nil {
			return err
		}
		r, err := c.open(cmd, c.repo)
		if err != nil {
			return err
		}
		defer r.Close()
		switch op {
		case "set":
			return r.SetConfig(cmd.Context(), group, key, args[2])
		case "unset":
			_, err := r.UnsetConfig(cmd.Context(), group, key)
			return err
		}
		value, ok := r.Config(group, key)
		if !ok {
			return ui.Next(fmt.Errorf("the repository's config has no key %s in group %s", quoted(key), quoted(group)), "all of it is in "+filepath.Join(r.Path(), "config"))
		}
		return ui.Print(cmd, struct {
			Value string `json:"value"`
		}{value}, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, value)
			return err
		})
	})
	cmd.Flags().StringVar(&group, "group", "", "`NAME` of the group that KEY is in")
	return cmd
}
