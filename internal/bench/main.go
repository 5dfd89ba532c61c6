package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/okd-project/okd-streams/internal/interop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == oursVerb {
		err = ours(ctx, os.Args[2:])
	} else if len(os.Args) > 1 && os.Args[1] == floorVerb {
		err = floor(ctx, os.Args[2:])
	} else if len(os.Args) > 1 && os.Args[1] == serveVerb {
		err = serve(ctx, os.Args[2:])
	} else {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// What both sides put into commits.
const (
	branch  = "sample"
	subject = "sample"
	stamp   = 1790000000 // seconds since 1970
)

// bench is a run of all cases.
type bench struct {
	tree, day2 string
	work       string // for repositories, layouts and the registry
	self       string // this program
	only       *regexp.Regexp
	rounds     int
	progress   io.Writer
	moved      int // folders put aside
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	tree := flags.String("tree", "", "folder to commit; default: the Debian tree of internal/interop")
	day2 := flags.String("day2", "", "the same folder a day later; default: made from the tree of internal/interop")
	only := flags.String("only", "", "regular expression of cases: cp, commit, repository, many, encapsulate, push, pull, import, copy, large, payload, disk, compress")
	rounds := flags.Int("rounds", 3, "how often each side runs; medians are shown")
	work := flags.String("work", "", "folder for repositories, emptied; default: a temporary one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b := &bench{tree: *tree, day2: *day2, rounds: *rounds, progress: stderr}
	var err error
	if b.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp(*work, "bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.work)

	cases := []struct {
		name string
		run  func(context.Context) ([]row, error)
		tree bool // it commits or copies the tree
	}{
		{"cp", b.copyFloor, true},
		{"commit bare-user", func(ctx context.Context) ([]row, error) { return b.commits(ctx, "bare-user") }, true},
		{"commit archive", func(ctx context.Context) ([]row, error) { return b.commits(ctx, "archive") }, true},
		{"repository", b.repos, true},
		{"many", b.many, false},
		{"encapsulate", b.encapsulates, true},
		{"push", b.pushes, true},
		{"pull", b.pulls, true},
		{"import", b.imports, true},
		{"copy", b.copies, false},
		{"large", b.large, false},
		{"payload", b.payloads, false},
		{"disk", b.disks, true},
		{"compress", b.compressions, true},
		{"uncompress", b.uncompressions, true},
	}
	var rows []row
	for _, c := range cases {
		if !b.only.MatchString(c.name) {
			continue
		}
		if c.tree {
			if err := b.trees(ctx); err != nil {
				return err
			}
		}
		more, err := c.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		rows = append(rows, more...)
	}
	if len(rows) == 0 {
		return fmt.Errorf("no case matches %q", *only)
	}
	about := "no tree"
	if b.tree != "" {
		version, err := exec.CommandContext(ctx, "ostree", "--version").Output()
		if err != nil {
			return err
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(string(version), "libostree:\n Version: "), "\n")
		about = fmt.Sprintf("ostree %s, ostree-ext %s; tree %s", strings.Trim(number, "'"), interop.OstreeExtVersion, filepath.Base(b.tree))
	}
	fmt.Fprintf(stdout, "%s; medians of %d\n", about, b.rounds)
	if !print(stdout, rows) {
		return errors.New("a limit is not met")
	}
	return nil
}

// trees makes the trees that were not given.
func (b *bench) trees(ctx context.Context) (err error) {
	if b.tree == "" {
		if b.tree, err = interop.MakeDebianTree(ctx); err != nil {
			return err
		}
	}
	if b.day2 == "" {
		b.day2, err = interop.MakeSecondDay(ctx, b.tree)
	}
	return err
}

// path gives a new name in the work folder. Nothing there is deleted before
// the end of a round.
func (b *bench) path(name string, round int) string {
	return filepath.Join(b.work, fmt.Sprintf("%s-%d", name, round))
}

// ours is this program doing our side of a case.
func (b *bench) ours(args ...string) *exec.Cmd {
	return exec.Command(b.self, append([]string{oursVerb}, args...)...)
}

// each runs sides in turn, in every other round from the last to the first, and
// gives the median of each. What a round wrote is put aside after it.
func (b *bench) each(what string, sides map[string]func(round int) (map[string]cost, error), order ...string) (map[string]cost, error) {
	all := make(map[string][]cost)
	for round := range b.rounds {
		for i := range order {
			side := order[i]
			if round%2 == 1 {
				side = order[len(order)-1-i]
			}
			fmt.Fprintf(b.progress, "%s, round %d of %d: %s\n", what, round+1, b.rounds, side)
			costs, err := sides[side](round)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", side, err)
			}
			for name, c := range costs {
				all[name] = append(all[name], c)
			}
		}
		if err := b.empty(); err != nil {
			return nil, err
		}
	}
	medians := make(map[string]cost)
	for name, costs := range all {
		medians[name] = median(costs)
	}
	return medians, nil
}

// roomLeft is how much of the disk is left to the sides of a round: with less,
// what earlier rounds wrote is removed.
const roomLeft = 12 << 30

// empty puts what is in the work folder aside, and removes it if there is no
// more room. ext4 searches long for an inode where many were freed in the last
// minute (recently_deleted): who runs first after a removal would pay for it,
// up to twice the CPU time of the run.
func (b *bench) empty() error {
	entries, err := os.ReadDir(b.work)
	if err != nil {
		return err
	}
	aside := filepath.Join(b.work, asideName)
	var room syscall.Statfs_t
	if err := syscall.Statfs(b.work, &room); err != nil {
		return err
	}
	if room.Bavail*uint64(room.Bsize) < roomLeft {
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(b.work, e.Name())); err != nil {
				return err
			}
		}
		return nil
	}
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == asideName {
			continue
		}
		b.moved++
		if err := os.Rename(filepath.Join(b.work, e.Name()), filepath.Join(aside, strconv.Itoa(b.moved))); err != nil {
			return err
		}
	}
	return nil
}

// asideName is where in the work folder that is.
const asideName = "aside"
