package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/okd-project/okd-streams/ostree"
)

// pullPeak is how much memory a pull may use.
const pullPeak = 200 << 20

// pullDelay is how long a server that is far away takes before each answer.
const pullDelay = 20 * time.Millisecond

// pulls is pulling the tree's commit over HTTP from an archive repository into
// empty repositories, from a file server that answers at once, or late.
func (b *bench) pulls(ctx context.Context) ([]row, error) {
	// Not in the work folder, which is emptied.
	source, err := os.MkdirTemp(filepath.Dir(b.work), "bench-source-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(source)
	repo := filepath.Join(source, "repo")
	if _, err := measure(ctx, b.ours("commit", "-repo", repo, "-repomode", "archive", "-tree", b.tree), exec.Command("ostree", "--repo="+repo, "summary", "-u")); err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range []struct {
		mode  string
		delay time.Duration
		least float64
	}{{"bare-user", 0, 3}, {"archive", 0, 6}, {"bare-user", pullDelay, 6}, {"archive", pullDelay, 6}} {
		what := "pull into " + c.mode
		if c.delay > 0 {
			what += fmt.Sprintf(", %s a request", c.delay)
		}
		url, stop, err := b.startServer(repo, c.delay)
		if err != nil {
			return nil, err
		}
		got, err := b.each(what, map[string]side{
			"ours": func(round int) (map[string]cost, error) {
				got, err := measure(ctx, b.ours("pull", "-repo", b.path("ours", round), "-repomode", c.mode, "-url", url))
				return map[string]cost{"ours": got}, err
			},
			"ostree": func(round int) (map[string]cost, error) {
				to := b.path("ostree", round)
				if err := peerInit(to, c.mode); err != nil {
					return nil, err
				}
				if out, err := exec.CommandContext(ctx, "ostree", "--repo="+to, "remote", "add", "--no-gpg-verify", "origin", url).CombinedOutput(); err != nil {
					return nil, fmt.Errorf("remote add: %w\n%s", err, out)
				}
				got, err := measure(ctx, exec.Command("ostree", "--repo="+to, "pull", "origin", branch))
				return map[string]cost{"ostree": got}, err
			},
		}, "ours", "ostree")
		fmt.Fprintf(b.progress, "%s: the server took %s s of CPU\n", what, seconds(stop()))
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{what: what, ours: got["ours"], otherName: "ostree", other: got["ostree"], limits: []limit{faster("wall", wall, c.least), shown("CPU", cpu)}, peak: pullPeak})
	}
	return rows, nil
}

// oursPull pulls the branch.
func oursPull(ctx context.Context, dir string, mode ostree.Mode, url string) error {
	repo, err := ostree.Init(ctx, dir, mode, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	return repo.Pull(ctx, "origin", &ostree.PullOptions{URL: url, Revs: []string{branch}, Verifier: &ostree.Verifier{}, NoFsync: true})
}
