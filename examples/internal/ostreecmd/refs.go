package ostreecmd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

type refsFlags struct {
	remove, list, revision, alias, force bool
	create                               string
}

func (c *common) refs() *cobra.Command {
	var f refsFlags
	cmd := c.leaf("refs [PREFIX...]", "List, make and delete refs", 0, -1, func(cmd *cobra.Command, args []string) error {
		switch {
		case f.create != "" && len(args) != 1:
			return ui.Usagef("--create takes one argument, the revision that the new ref means")
		case f.create != "" && f.remove:
			return ui.Usagef("either --create or --delete, not both")
		case f.remove && len(args) == 0:
			return ui.Usagef("--delete needs a PREFIX, to help avoid accidents")
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			switch {
			case f.create != "":
				return createRef(ctx, r, args[0], &f)
			case f.remove:
				return deleteRefs(ctx, r, args)
			}
			return c.listRefs(ctx, cmd, r, args, &f)
		})
	})
	flags := cmd.Flags()
	flags.BoolVar(&f.list, "list", false, "do not take the prefix off the names")
	flags.BoolVarP(&f.revision, "revision", "r", false, "print the commits, too")
	flags.BoolVarP(&f.alias, "alias", "A", false, "list aliases alone; with --create, make one")
	flags.StringVar(&f.create, "create", "", "make `NEWREF` for a commit")
	flags.BoolVar(&f.force, "force", false, "with --create, replace a ref that is there")
	flags.BoolVar(&f.remove, "delete", false, "delete refs instead of listing them")
	refuse(cmd, "collections are left to ostree", "collections,c")
	return cmd
}

func createRef(ctx context.Context, r *ostree.Repo, rev string, f *refsFlags) error {
	name := f.create
	if err := ostree.CheckRef(name); err != nil {
		return &ui.UsageError{Err: err}
	}
	for ref, err := range r.RefsBelow(ctx, name) {
		if err != nil {
			return err
		}
		if replaced := f.alias && ref.Alias != ""; ref.String() == name && !f.force && !replaced {
			return ui.Next(fmt.Errorf("ref %s is there already", quoted(name)), "--force replaces it")
		}
	}
	if f.alias {
		return r.SetAlias(ctx, name, rev)
	}
	commit, err := resolve(ctx, r, rev)
	if err != nil {
		return err
	}
	return r.SetRef(ctx, name, commit)
}

func deleteRefs(ctx context.Context, r *ostree.Repo, prefixes []string) error {
	for _, prefix := range prefixes {
		var names []string
		for ref, err := range r.RefsBelow(ctx, prefix) {
			if err != nil {
				return err
			}
			names = append(names, ref.String())
		}
		for _, name := range names {
			if err := r.DeleteRef(ctx, name); err != nil {
				return ui.Next(err, "okd-streams ostree refs --alias lists aliases, which go first")
			}
		}
	}
	return nil
}

// refJSON is a ref for programs.
type refJSON struct {
	Ref    string          `json:"ref"`
	Commit ostree.Checksum `json:"commit"`
	Alias  string          `json:"alias,omitempty"`
	shown  string
}

func (c *common) listRefs(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, prefixes []string, f *refsFlags) error {
	list := []refJSON{}
	add := func(refs iter.Seq2[ostree.Ref, error], prefix string) error {
		var part []refJSON
		for ref, err := range refs {
			if err != nil {
				return err
			}
			if f.alias && ref.Alias == "" {
				continue
			}
			j := refJSON{Ref: ref.String(), Commit: ref.Commit, Alias: ref.Alias, shown: ref.String()}
			if _, below, ok := strings.Cut(ref.Name, prefix+"/"); ok && prefix != "" && !f.list && !f.alias && strings.HasPrefix(ref.Name, prefix+"/") {
				ref.Name = below
				j.shown = ref.String()
			}
			part = append(part, j)
		}
		slices.SortFunc(part, func(a, b refJSON) int { return cmp.Compare(a.shown, b.shown) })
		list = append(list, part...)
		return nil
	}
	if len(prefixes) == 0 {
		if err := add(r.Refs(ctx), ""); err != nil {
			return err
		}
	}
	for _, prefix := range prefixes {
		name := prefix
		if _, after, ok := strings.Cut(prefix, ":"); ok {
			name = after
		}
		if err := add(r.RefsBelow(ctx, prefix), name); err != nil {
			return err
		}
	}
	return ui.Print(cmd, list, func(w io.Writer) error {
		for _, ref := range list {
			switch {
			case f.alias:
				fmt.Fprintf(w, "%s -> %s\n", ref.shown, ref.Alias)
			case f.revision:
				fmt.Fprintf(w, "%s\t%s\n", ref.shown, ref.Commit)
			default:
				fmt.Fprintln(w, ref.shown)
			}
		}
		return nil
	})
}

func (c *common) revParse() *cobra.Command {
	var single bool
	cmd := c.leaf("rev-parse REV...", "Print the checksums of commits", 0, -1, func(cmd *cobra.Command, args []string) error {
		if single != (len(args) == 0) {
			return ui.Usagef("either a REV or --single")
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			commits := []ostree.Checksum{}
			for _, rev := range args {
				commit, err := resolve(ctx, r, rev)
				if err != nil {
					return err
				}
				commits = append(commits, commit)
			}
			if single {
				for commit, err := range r.Commits(ctx) {
					if err != nil {
						return err
					}
					commits = append(commits, commit)
				}
				if len(commits) != 1 {
					return ui.Next(fmt.Errorf("the repository has %d commits, not one", len(commits)), "name one by a ref, which okd-streams ostree refs lists")
				}
			}
			return ui.Print(cmd, commits, func(w io.Writer) error {
				for _, commit := range commits {
					fmt.Fprintln(w, commit)
				}
				return nil
			})
		})
	})
	cmd.Flags().BoolVarP(&single, "single", "S", false, "print the repository's only commit; more or less are an error")
	return cmd
}

func (c *common) reset() *cobra.Command {
	return c.leaf("reset REF COMMIT", "Let a ref mean another commit", 2, 2, func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			found := false
			for ref, err := range r.Refs(ctx) {
				if err != nil {
					return err
				}
				found = found || ref.String() == args[0]
			}
			if !found {
				return ui.Next(fmt.Errorf("no ref %s", quoted(args[0])), "okd-streams ostree refs lists what there is, refs --create makes one")
			}
			commit, err := resolve(ctx, r, args[1])
			if err != nil {
				return err
			}
			return r.SetRef(ctx, args[0], commit)
		})
	})
}
