package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

type pullLocalFlags struct {
	remote                          string
	depth                           int
	commitsOnly, untrusted, noFsync bool
	anyBinding                      bool
}

func (c *common) pullLocal() *cobra.Command {
	var f pullLocalFlags
	cmd := c.leaf("pull-local SRC_REPO [REFS...]", "Take commits from a repository on this machine", 1, -1, func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			src, err := c.open(cmd, args[0])
			if err != nil {
				return err
			}
			err = c.runPullLocal(ctx, cmd, r, src, args[1:], &f)
			return errors.Join(err, src.Close())
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&f.remote, "remote", "", "set the refs of remote `REMOTE`, not this repository's own")
	flags.IntVar(&f.depth, "depth", 0, "take `DEPTH` ancestors with each commit; -1: all")
	flags.BoolVar(&f.commitsOnly, "commit-metadata-only", false, "take commit objects alone")
	flags.BoolVar(&f.untrusted, "untrusted", false, "verify all that is taken")
	flags.BoolVar(&f.noFsync, "disable-fsync", false, "do not wait for the disk")
	flags.BoolVar(&f.anyBinding, "disable-verify-bindings", false, "take commits for refs that they are not meant for")
	ignore(cmd, "files that a repository of mode bare-user-only can't keep are always refused", "bareuseronly-files")
	ignore(cmd, "objects are made durable together", "per-object-fsync")
	refuse(cmd, "objects are taken as they are", "require-static-deltas")
	refuse(cmd, "check what came with okd-streams ostree sign --verify, which takes keys by file", "gpg-verify", "gpg-verify-summary")
	return cmd
}

func (c *common) runPullLocal(ctx context.Context, cmd *cobra.Command, r, src *ostree.Repo, revs []string, f *pullLocalFlags) error {
	if !f.anyBinding {
		if err := checkSourceBindings(ctx, src, revs); err != nil {
			return err
		}
	}
	if len(revs) == 0 {
		revs = nil
	}
	show, done := c.progress(cmd)
	defer done()
	stats := &ostree.PullLocalStats{}
	err := r.PullLocal(ctx, src, &ostree.PullLocalOptions{Revs: revs, Remote: f.remote, Depth: f.depth, CommitsOnly: f.commitsOnly,
		Trusted: !f.untrusted, NoFsync: f.noFsync, Progress: show, Stats: stats})
	if err != nil {
		return err
	}
	done()
	return ui.Print(cmd, struct {
		Commits  int64 `json:"commits"`
		Metadata int64 `json:"metadataWritten"`
		Content  int64 `json:"contentWritten"`
		Linked   int64 `json:"contentLinked"`
	}{stats.Commits, stats.MetadataWritten, stats.ContentWritten, stats.ContentLinked}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d metadata, %d content objects imported\n", stats.Commits+stats.MetadataWritten, stats.ContentWritten)
		return err
	})
}

// checkSourceBindings refuses commits that say they are not meant for the refs by
// which they are pulled.
func checkSourceBindings(ctx context.Context, src *ostree.Repo, revs []string) error {
	wanted := make(map[string]bool, len(revs))
	for _, rev := range revs {
		wanted[rev] = true
	}
	for ref, err := range src.Refs(ctx) {
		if err != nil {
			return err
		}
		if len(revs) > 0 && !wanted[ref.String()] || len(revs) == 0 && ref.Remote != "" {
			continue
		}
		if err := checkBinding(ctx, src, ref); err != nil {
			return ui.Next(err, "name the refs to pull, or take this one too with --disable-verify-bindings")
		}
	}
	return nil
}
