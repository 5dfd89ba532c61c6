package ostreecmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

type pruneFlags struct {
	dry, refsOnly bool
	depth         int
	remove        string
	younger       string
	retain, only  []string
}

func (c *common) prune() *cobra.Command {
	f := pruneFlags{depth: -1}
	cmd := c.leaf("prune", "Remove the objects that nothing needs", 0, 0, func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error { return c.runPrune(ctx, cmd, r, &f) })
	})
	flags := cmd.Flags()
	flags.BoolVar(&f.dry, "no-prune", false, "only tell what would go")
	flags.BoolVar(&f.refsOnly, "refs-only", false, "keep only commits that refs lead to")
	flags.IntVar(&f.depth, "depth", f.depth, "keep `DEPTH` ancestors of each ref's commit; -1: all")
	flags.StringVar(&f.remove, "delete-commit", "", "delete `COMMIT`, though it is not to be one that a ref means")
	flags.StringVar(&f.younger, "keep-younger-than", "", "keep of the ancestors those not older than `DATE`; implies --refs-only")
	flags.StringArrayVar(&f.retain, "retain-branch-depth", nil, "`BRANCH=DEPTH`: keep so many ancestors of this ref's commit; implies --refs-only; may be repeated")
	flags.StringArrayVar(&f.only, "only-branch", nil, "keep all ancestors of other refs' commits than `BRANCH`'s; implies --refs-only; may be repeated")
	refuse(cmd, "static deltas are left to ostree", "static-deltas-only")
	refuse(cmd, "objects of all kinds go together", "commit-only")
	return cmd
}

func (c *common) runPrune(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, f *pruneFlags) error {
	show, done := c.progress(cmd)
	defer done()
	opts := &ostree.PruneOptions{RefsOnly: f.refsOnly, Depth: libraryDepth(f.depth), DryRun: f.dry, Progress: show}
	var err error
	if opts.RefDepth, err = f.refDepth(ctx, r); err != nil {
		return err
	}
	if f.younger != "" {
		when, err := parseDate(f.younger, time.Now())
		if err != nil {
			return fmt.Errorf("--keep-younger-than: %w", err)
		}
		opts.KeepYoungerThan = when
	}
	var deleted int64
	if f.remove != "" {
		if f.dry {
			return ui.Usagef("either --delete-commit or --no-prune, not both")
		}
		commit, err := resolve(ctx, r, f.remove)
		if err != nil {
			return err
		}
		if deleted, err = deletable(ctx, r, commit); err != nil {
			return err
		}
		opts.Delete = []ostree.Checksum{commit}
		// Who pulls is told that it went on purpose.
		if err := r.SetConfig(ctx, "core", "tombstone-commits", "true"); err != nil {
			return err
		}
		again, err := c.open(cmd, r.Path())
		if err != nil {
			return err
		}
		defer again.Close()
		r = again
	}
	stats, err := r.Prune(ctx, opts)
	if err != nil {
		return err
	}
	done()
	// `ostree` deletes the commit before it counts.
	stats.Objects -= int64(len(opts.Delete))
	stats.Pruned -= int64(len(opts.Delete))
	stats.Bytes -= deleted
	return ui.Print(cmd, struct {
		Objects int64 `json:"objects"`
		Pruned  int64 `json:"pruned"`
		Bytes   int64 `json:"bytes"`
		DryRun  bool  `json:"dryRun"`
	}{stats.Objects, stats.Pruned, stats.Bytes, f.dry}, func(w io.Writer) error {
		fmt.Fprintf(w, "Total objects: %d\n", stats.Objects)
		var err error
		switch {
		case stats.Pruned == 0:
			_, err = fmt.Fprintln(w, "No unreachable objects")
		case f.dry:
			_, err = fmt.Fprintf(w, "Would delete: %d objects, freeing %s\n", stats.Pruned, size(stats.Bytes))
		default:
			_, err = fmt.Fprintf(w, "Deleted %d objects, %s freed\n", stats.Pruned, size(stats.Bytes))
		}
		return err
	})
}

// libraryDepth is a depth as package ostree has it, where 0 is all.
func libraryDepth(depth int) int {
	switch {
	case depth < 0:
		return 0
	case depth == 0:
		return -1
	}
	return depth
}

// refDepth is what --retain-branch-depth and --only-branch say; nil: nothing.
func (f *pruneFlags) refDepth(ctx context.Context, r *ostree.Repo) (map[string]int, error) {
	if len(f.retain)+len(f.only) == 0 {
		return nil, nil
	}
	depths := make(map[string]int)
	for _, text := range f.retain {
		name, digits, _ := strings.Cut(text, "=")
		depth, err := strconv.Atoi(digits)
		if err != nil {
			return nil, ui.Usagef("--retain-branch-depth=%s is not BRANCH=DEPTH", text)
		}
		depths[name] = libraryDepth(depth)
	}
	for _, name := range f.only {
		if _, err := resolve(ctx, r, name); err != nil {
			return nil, err
		}
	}
	if len(f.only) == 0 {
		return depths, nil
	}
	for ref, err := range r.Refs(ctx) {
		if err != nil {
			return nil, err
		}
		if _, ok := depths[ref.String()]; !ok && !slices.Contains(f.only, ref.String()) {
			depths[ref.String()] = libraryDepth(-1)
		}
	}
	return depths, nil
}

// deletable refuses commits that refs mean, or that are not there, before
// anything is changed. It gives the length of the commit object.
func deletable(ctx context.Context, r *ostree.Repo, commit ostree.Checksum) (int64, error) {
	for ref, err := range r.Refs(ctx) {
		if err != nil {
			return 0, err
		}
		if ref.Commit == commit {
			return 0, ui.Next(fmt.Errorf("ref %s means commit %s", ref, commit), "okd-streams ostree refs --delete or reset comes first")
		}
	}
	data, err := r.Object(ctx, ostree.TypeCommit, commit)
	return int64(len(data)), err
}

// size is bytes as GLib prints them for `ostree`: powers of 1000, and a space
// where no line is broken.
func size(n int64) string {
	if n == 1 {
		return "1 byte"
	}
	if n < 1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	units := []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	value, unit := float64(n)/1000, 0
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.1f\u00a0%s", value, units[unit])
}

// sourceDate is SOURCE_DATE_EPOCH, or now.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now(), nil
	}
	when, err := parseDate("@"+text, time.Now())
	if err != nil {
		return when, ui.Usagef("SOURCE_DATE_EPOCH: %s is no number of seconds", quoted(text))
	}
	return when, nil
}
