package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/okd-project/okd-streams/ostree"
)

// oursVerb as the first argument makes this program do our side of a case: a
// process of its own, whose cost the kernel counts.
const oursVerb = "ours"

func ours(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: bench %s commit", oursVerb)
	}
	flags := flag.NewFlagSet(oursVerb, flag.ContinueOnError)
	repo := flags.String("repo", "", "repository, made if it is not there")
	switch verb := args[0]; verb {
	case "commit":
		mode := flags.String("repomode", "", "mode of the repository")
		tree := flags.String("tree", "", "folder")
		cache := flags.String("cache", "", "file of the device-inode cache")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return oursCommit(ctx, *repo, ostree.Mode(*mode), *tree, *cache)
	default:
		return fmt.Errorf("no verb %q", verb)
	}
}

func oursCommit(ctx context.Context, dir string, mode ostree.Mode, tree, cacheFile string) error {
	repo, err := ostree.Init(ctx, dir, mode, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	opts := &ostree.CommitOptions{Ref: branch, Subject: subject, Timestamp: time.Unix(stamp, 0), NoFsync: true}
	if cacheFile != "" {
		if opts.Cache, err = ostree.OpenDevInoCache(cacheFile); err != nil {
			return err
		}
	}
	if opts.Parent, err = repo.Resolve(ctx, branch); err != nil {
		opts.Parent = ostree.Checksum{} // day one
	}
	opts.Metadata = []ostree.MetadataItem{ostree.RefBinding(branch)}
	commit, err := repo.Commit(ctx, ostree.Dir(root), opts)
	if err != nil {
		return err
	}
	fmt.Println(commit)
	if opts.Cache != nil {
		return opts.Cache.Save()
	}
	return nil
}
