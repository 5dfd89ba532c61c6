package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// repoPeak is how much memory we may use for a repository of whatever size.
const repoPeak = 200 << 20

// manyFiles is how many files the generated tree of [bench.many] has.
const manyFiles = 500_000

// repos is what is done with a repository that has the tree's commit: check,
// check out, copy, commit again, list. Both sides work on the same repositories
// and write to folders of their own.
func (b *bench) repos(ctx context.Context) ([]row, error) {
	// Not in the work folder, which is emptied.
	sources, err := os.MkdirTemp(filepath.Dir(b.work), "bench-source-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(sources)
	at := func(mode string) string { return filepath.Join(sources, mode) }
	for _, mode := range []string{"bare", "bare-user", "archive"} {
		if err := peerInit(at(mode), mode); err != nil {
			return nil, err
		}
		if _, err := measure(ctx, b.ours("commit", "-repo", at(mode), "-repomode", mode, "-tree", b.tree)); err != nil {
			return nil, err
		}
	}
	// A checkout that shares its inodes with the repository.
	links := filepath.Join(sources, "links")
	if _, err := measure(ctx, exec.Command("ostree", "--repo="+at("bare"), "checkout", "-H", branch, links)); err != nil {
		return nil, err
	}
	peer := func(mode string, args ...string) *exec.Cmd {
		return exec.Command("ostree", append([]string{"--repo=" + at(mode)}, args...)...)
	}
	var rows []row
	for _, c := range []struct {
		what   string
		into   string // mode of an empty repository to write to; "": none
		ours   func(to string) *exec.Cmd
		peer   func(to string) *exec.Cmd
		limits []limit
	}{
		{
			"fsck bare", "", func(string) *exec.Cmd { return b.ours("fsck", "-repo", at("bare")) },
			func(string) *exec.Cmd { return peer("bare", "fsck", "-q") }, []limit{faster("wall", wall, 4), shown("CPU", cpu)},
		},
		{
			"fsck archive", "", func(string) *exec.Cmd { return b.ours("fsck", "-repo", at("archive")) },
			func(string) *exec.Cmd { return peer("archive", "fsck", "-q") }, []limit{faster("wall", wall, 2.5), shown("CPU", cpu)},
		},
		{
			"checkout -U from archive", "", func(to string) *exec.Cmd { return b.ours("checkout", "-repo", at("archive"), "-to", to, "-user") },
			func(to string) *exec.Cmd { return peer("archive", "checkout", "-U", branch, to) }, []limit{faster("wall", wall, 2), shown("CPU", cpu)},
		},
		{
			"checkout from archive", "", func(to string) *exec.Cmd { return b.ours("checkout", "-repo", at("archive"), "-to", to) },
			func(to string) *exec.Cmd { return peer("archive", "checkout", branch, to) }, []limit{faster("wall", wall, 3), shown("CPU", cpu)},
		},
		{
			"checkout -H from bare", "", func(to string) *exec.Cmd { return b.ours("checkout", "-repo", at("bare"), "-to", to) },
			func(to string) *exec.Cmd { return peer("bare", "checkout", "-H", branch, to) }, []limit{faster("wall", wall, 1), shown("CPU", cpu)},
		},
		{
			"pull-local bare-user to archive", "archive", func(to string) *exec.Cmd {
				return b.ours("pull-local", "-repo", to, "-from", at("bare-user"))
			},
			func(to string) *exec.Cmd {
				return exec.Command("ostree", "--repo="+to, "pull-local", at("bare-user"), branch)
			},
			[]limit{faster("wall", wall, 2.5), shown("CPU", cpu)},
		},
		{
			"commit of a checkout by links", "", func(string) *exec.Cmd {
				return b.ours("commit", "-repo", at("bare"), "-repomode", "bare", "-tree", links, "-linked")
			},
			func(string) *exec.Cmd {
				cmd := peerCommit(at("bare"), links)
				cmd.Args = append(cmd.Args, "--link-checkout-speedup")
				return cmd
			},
			[]limit{faster("wall", wall, 3), shown("CPU", cpu)},
		},
		{
			"list of all names", "", func(string) *exec.Cmd { return b.ours("list", "-repo", at("bare-user")) },
			func(string) *exec.Cmd { return peer("bare-user", "ls", "-R", branch) }, []limit{shown("wall", wall), shown("CPU", cpu)},
		},
	} {
		run := func(label string, command func(to string) *exec.Cmd) side {
			return func(round int) (map[string]cost, error) {
				to := b.path(label, round)
				if c.into != "" {
					if err := peerInit(to, c.into); err != nil {
						return nil, err
					}
				}
				got, err := measure(ctx, command(to))
				return map[string]cost{label: got}, err
			}
		}
		got, err := b.each(c.what, map[string]side{"ours": run("ours", c.ours), "ostree": run("ostree", c.peer)}, "ours", "ostree")
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{what: c.what, ours: got["ours"], otherName: "ostree", other: got["ostree"], limits: c.limits, peak: repoPeak})
	}
	return rows, nil
}

// many is the commit of a tree of half a million files, and its check.
func (b *bench) many(ctx context.Context) ([]row, error) {
	sources, err := os.MkdirTemp(filepath.Dir(b.work), "bench-source-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(sources)
	tree := filepath.Join(sources, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return nil, err
	}
	if err := treegen.Write(tree, 1, &treegen.Options{Files: manyFiles, MaxSize: 4096}); err != nil {
		return nil, err
	}
	got, err := b.each("many files", map[string]side{
		"ours": func(round int) (map[string]cost, error) {
			repo := b.path("ours", round)
			commit, err := measure(ctx, b.ours("commit", "-repo", repo, "-repomode", "bare-user", "-tree", tree))
			if err != nil {
				return nil, err
			}
			fsck, err := measure(ctx, b.ours("fsck", "-repo", repo))
			return map[string]cost{"commit": commit, "fsck": fsck}, err
		},
		"ostree": func(round int) (map[string]cost, error) {
			repo := b.path("ostree", round)
			if err := peerInit(repo, "bare-user"); err != nil {
				return nil, err
			}
			commit, err := measure(ctx, peerCommit(repo, tree))
			if err != nil {
				return nil, err
			}
			fsck, err := measure(ctx, exec.Command("ostree", "--repo="+repo, "fsck", "-q"))
			return map[string]cost{"peer commit": commit, "peer fsck": fsck}, err
		},
	}, "ours", "ostree")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, verb := range []string{"commit", "fsck"} {
		rows = append(rows, row{
			what: fmt.Sprintf("%s of %d files", verb, manyFiles), ours: got[verb], otherName: "ostree", other: got["peer "+verb],
			limits: []limit{shown("wall", wall), shown("CPU", cpu)}, peak: repoPeak,
		})
	}
	return rows, nil
}

func oursFsck(ctx context.Context, dir string) error {
	repo, err := ostree.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	return errors.Join(repo.Fsck(ctx, nil), repo.Close())
}

func oursCheckout(ctx context.Context, dir, to string, user bool) (err error) {
	repo, err := ostree.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	commit, err := repo.Resolve(ctx, branch)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	return repo.Checkout(ctx, root, commit, &ostree.CheckoutOptions{UserMode: user})
}

func oursPullLocal(ctx context.Context, dir, from string) error {
	repo, err := ostree.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	src, err := ostree.Open(ctx, from, nil)
	if err != nil {
		return err
	}
	defer src.Close()
	return repo.PullLocal(ctx, src, &ostree.PullLocalOptions{Revs: []string{branch}, NoFsync: true})
}

// oursList reads all metadata of the branch's commit.
func oursList(ctx context.Context, dir string) error {
	repo, err := ostree.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	commit, err := repo.Resolve(ctx, branch)
	if err != nil {
		return err
	}
	n := 0
	for _, err := range repo.List(ctx, commit, "/", &ostree.ListOptions{Recursive: true}) {
		if err != nil {
			return err
		}
		n++
	}
	fmt.Println(n)
	return nil
}
