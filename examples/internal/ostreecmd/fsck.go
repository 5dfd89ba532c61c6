package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

type fsckFlags struct {
	all, bindings, backRefs bool
	repairFrom              string
}

// fsckJSON is the result for programs.
type fsckJSON struct {
	Commits  int      `json:"commits"` // that were checked
	Partial  int      `json:"partialCommits"`
	Repaired int      `json:"repaired"` // objects
	Faults   []string `json:"faults"`
}

func (c *common) fsck() *cobra.Command {
	var f fsckFlags
	cmd := c.leaf("fsck", "Check a repository", 0, 0, func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error { return c.runFsck(ctx, cmd, r, &f) })
	})
	flags := cmd.Flags()
	flags.BoolVarP(&f.all, "all", "a", false, "name all faults, not only the first")
	flags.BoolVar(&f.bindings, "verify-bindings", false, "check that each ref's commit is meant for it")
	flags.BoolVar(&f.backRefs, "verify-back-refs", false, "check that the refs which commits are meant for lead to them; implies --verify-bindings")
	flags.StringVar(&f.repairFrom, "repair-from", "", "take what is damaged or missing from the repository `REPO`")
	refuse(cmd, "--repair-from=REPO takes what is damaged from another repository", "delete")
	refuse(cmd, "okd-streams ostree config set core.tombstone-commits true lets prune write them", "add-tombstones")
	return cmd
}

func (c *common) runFsck(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, f *fsckFlags) error {
	result := fsckJSON{Faults: []string{}}
	say := func(w io.Writer, format string, args ...any) {
		if !c.quiet && c.output == ui.Text {
			fmt.Fprintf(w, format+"\n", args...)
		}
	}
	out := cmd.OutOrStdout()
	if f.repairFrom != "" {
		src, err := c.open(cmd, f.repairFrom)
		if err != nil {
			return err
		}
		result.Repaired, err = r.Repair(ctx, src)
		if err := errors.Join(err, src.Close()); err != nil {
			return err
		}
		say(out, "Repaired %d objects", result.Repaired)
	}
	say(out, "Validating refs...\nValidating refs in collections...\nEnumerating commits...")
	for commit, err := range r.Commits(ctx) {
		if err != nil {
			return err
		}
		partial, err := r.Partial(ctx, commit)
		if err != nil {
			return err
		}
		if partial {
			result.Partial++
		} else {
			result.Commits++
		}
	}
	say(out, "Verifying content integrity of %d commit objects...", result.Commits)
	show, done := c.progress(cmd)
	err := r.Fsck(ctx, &ostree.FsckOptions{Progress: show})
	done()
	if err == nil && (f.bindings || f.backRefs) {
		err = checkBindings(ctx, r, f.backRefs)
	}
	faults := flatten(err)
	if err != nil && !f.all {
		faults = faults[:1]
	}
	for _, fault := range faults {
		result.Faults = append(result.Faults, fault.Error())
	}
	if c.output != ui.Text {
		if err := ui.Print(cmd, result, nil); err != nil {
			return err
		}
	}
	if err != nil {
		return errors.Join(faults...)
	}
	if c.output == ui.Text {
		if result.Partial > 0 {
			fmt.Fprintf(out, "%d partial commits not verified\n", result.Partial)
		}
		_, err = fmt.Fprintf(out, "object fsck of %d commits completed successfully - no errors found.\n", result.Commits)
	}
	return err
}

// flatten gives the errors that were joined.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil {
			return nil
		}
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, flatten(e)...)
	}
	return list
}

// boundRefs are the refs that a commit says it is meant for; nil: it does not say.
func boundRefs(ctx context.Context, r *ostree.Repo, c ostree.Checksum) ([]string, error) {
	commit, err := r.ReadCommit(ctx, c)
	if err != nil {
		return nil, err
	}
	v, ok := commit.Lookup("ostree.ref-binding")
	if !ok {
		return nil, nil
	}
	return v.AsStrings()
}

// misbound is an error about a ref and its commit.
func misbound(format string, args ...any) error {
	return ui.Next(&ui.VerificationError{Err: fmt.Errorf(format, args...)}, "commit again with --branch or --bind-ref, or delete the ref; okd-streams ostree refs --revision lists all")
}

// checkBinding refuses a ref that its commit is not meant for.
func checkBinding(ctx context.Context, r *ostree.Repo, ref ostree.Ref) error {
	refs, err := boundRefs(ctx, r, ref.Commit)
	if err == nil && refs != nil && !slices.Contains(refs, ref.Name) {
		err = misbound("commit %s is not meant for ref %s but for %q", ref.Commit, ref, refs)
	}
	return err
}

// checkBindings compares refs with the refs that commits say they are meant for.
func checkBindings(ctx context.Context, r *ostree.Repo, back bool) error {
	var faults []error
	for ref, err := range r.Refs(ctx) {
		if err != nil {
			return err
		}
		err = checkBinding(ctx, r, ref)
		if _, ok := errors.AsType[*ui.VerificationError](err); err != nil && !ok {
			return err
		}
		faults = append(faults, err)
	}
	if !back {
		return errors.Join(faults...)
	}
	for c, err := range r.Commits(ctx) {
		if err != nil {
			return err
		}
		refs, err := boundRefs(ctx, r, c)
		if err != nil {
			return err
		}
		for _, name := range refs {
			switch got, err := r.Resolve(ctx, name); {
			case errors.Is(err, fs.ErrNotExist):
				faults = append(faults, misbound("commit %s is meant for ref %s, which is not there", c, name))
			case err != nil:
				return err
			case got != c:
				faults = append(faults, misbound("commit %s is meant for ref %s, which means %s", c, name, got))
			}
		}
	}
	return errors.Join(faults...)
}
