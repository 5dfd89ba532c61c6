package payloadcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/payload"
)

const gitWorkers = 8

// cloneSources clones what a release was built from, each repository at HOST/PATH
// of a folder, at the commit that the release has. Of several commits of one
// repository the first is checked out. A repository that cannot be cloned does
// not keep the others from it.
func cloneSources(cmd *cobra.Command, r *payload.Release, dir string) error {
	list, unknown := r.Sources()
	for _, name := range unknown {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: component %s does not say what it was built from\n", name)
	}
	var group errgroup.Group
	group.SetLimit(gitWorkers)
	errs := make([]error, len(list))
	at := ""
	for i, s := range list {
		rel := filepath.FromSlash(s.Host + "/" + s.Path)
		if rel == at {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s was also built from commit %s of %s\n", strings.Join(s.Components, ", "), s.Commit, s.URL())
			continue
		}
		at = rel
		group.Go(func() error {
			if err := cloneSource(cmd.Context(), filepath.Join(dir, rel), s); err != nil {
				errs[i] = fmt.Errorf("%s: %w", s.URL(), err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	at = ""
	for i, s := range list {
		if rel := s.Host + "/" + s.Path; rel != at && errs[i] == nil {
			at = rel
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), s.Commit, filepath.Join(dir, filepath.FromSlash(rel))); err != nil {
				return err
			}
		}
	}
	return errors.Join(errs...)
}

// cloneSource makes a clone, or uses one that is there, and checks the commit out.
func cloneSource(ctx context.Context, dir string, s payload.Source) error {
	git := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_TERMINAL_PROMPT=0")
		out, err := cmd.CombinedOutput()
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("git %s: %s", strings.Join(args, " "), strings.TrimSpace(string(out)))
		}
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, ".git")); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		if err := git("clone", "--quiet", "--filter=blob:none", "--no-checkout", "--", s.URL(), dir); err != nil {
			return err
		}
	}
	if git("-C", dir, "cat-file", "-e", s.Commit+"^{commit}") != nil {
		// A branch may not have it any more.
		if err := git("-C", dir, "fetch", "--quiet", "--filter=blob:none", "origin", s.Commit); err != nil {
			return err
		}
	}
	return git("-C", dir, "checkout", "--quiet", "--detach", s.Commit)
}
