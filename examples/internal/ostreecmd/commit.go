package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

type commitFlags struct {
	branch, parent, subject, body, bodyFile string
	orphan, noBindings                      bool
	bindRefs                                []string
	metaStrings, meta, keep, detached       []string
	bootable, composefs, skipUnchanged      bool
	timestamp, fsync                        string
	noFsync, consume, table, devinoCache    bool
	treeFlags
	signFlags
}

func (c *common) commit() *cobra.Command {
	var f commitFlags
	cmd := c.leaf("commit [PATH]", "Commit a tree", 0, 1, func(cmd *cobra.Command, args []string) error {
		if err := f.check(args); err != nil {
			return err
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error { return c.runCommit(ctx, cmd, r, &f) })
	})
	flags := cmd.Flags()
	flags.StringVarP(&f.branch, "branch", "b", "", "set the ref `BRANCH` to the commit")
	flags.BoolVar(&f.orphan, "orphan", false, "set no ref")
	flags.StringVar(&f.parent, "parent", "", "`COMMIT` before this one, a checksum or none (default: the branch's)")
	flags.StringVarP(&f.subject, "subject", "s", "", "one line about the commit")
	flags.StringVarP(&f.body, "body", "m", "", "full description")
	flags.StringVarP(&f.bodyFile, "body-file", "F", "", "take the full description from `FILE`")
	flags.BoolVar(&f.noBindings, "no-bindings", false, "do not say in the commit what refs it is meant for")
	flags.StringArrayVar(&f.bindRefs, "bind-ref", nil, "say that the commit is meant for the ref `BRANCH`, too; may be repeated")
	flags.StringArrayVar(&f.metaStrings, "add-metadata-string", nil, "add `KEY=VALUE`, a string, to the metadata; may be repeated")
	flags.StringArrayVar(&f.meta, "add-metadata", nil, "add `KEY=VALUE`, a value in the text format of GVariant, to the metadata; may be repeated")
	flags.StringArrayVar(&f.keep, "keep-metadata", nil, "take `KEY` of the parent's metadata; may be repeated")
	flags.StringArrayVar(&f.detached, "add-detached-metadata-string", nil, "add `KEY=VALUE`, a string, to the detached metadata; may be repeated")
	flags.BoolVar(&f.bootable, "bootable", false, "say in the metadata that the tree has a kernel, and which")
	flags.BoolVar(&f.composefs, "generate-composefs-metadata", false, "put the digest of the tree's composefs image into the metadata")
	flags.BoolVar(&f.skipUnchanged, "skip-if-unchanged", false, "do nothing if the tree is the parent's")
	flags.StringVar(&f.timestamp, "timestamp", "", "`TIME` of the commit (default: $SOURCE_DATE_EPOCH, else now)")
	flags.StringVar(&f.fsync, "fsync", "", "`true|false`: wait for the disk")
	flags.BoolVar(&f.noFsync, "disable-fsync", false, "do not wait for the disk")
	flags.BoolVar(&f.devinoCache, "devino-cache", false, "do not read files again that a commit with this flag had, with the device, inode, size and times that they have")
	flags.BoolVar(&f.consume, "consume", false, "delete the folders that were committed, whose files become objects as they are where the repository can keep them")
	flags.BoolVar(&f.table, "table-output", false, "print more, as KEY: VALUE")
	f.treeFlags.register(cmd)
	f.signFlags.register(cmd, "sign-type", "")
	flags.StringArrayVar(&f.keys, "sign", nil, "sign with the secret key `KEY`, base64; prefer --sign-from-file; may be repeated")
	flags.StringArrayVar(&f.files, "sign-from-file", nil, "sign with the secret keys in the file `PATH`; may be repeated")
	refuse(cmd, "give the text with --subject and --body or --body-file", "editor,e")
	refuse(cmd, "export the key with gpg --export-secret-keys and give it with --sign-type=gpg --sign-from-file", "gpg-sign=", "gpg-homedir=")
	refuse(cmd, "sizes are neither written nor read", "generate-sizes")
	refuse(cmd, "repack the archive with the names that it is to have", "tar-pathname-filter=")
	ignore(cmd, "they always are", "tar-autocreate-parents")
	return cmd
}

// check finds what is wrong with the flags alone.
func (f *commitFlags) check(args []string) error {
	if f.branch == "" && !f.orphan {
		return ui.Usagef("no branch: give --branch, or --orphan for none")
	}
	if f.branch != "" {
		if err := ostree.CheckRef(f.branch); err != nil {
			return &ui.UsageError{Err: fmt.Errorf("--branch: %w", err)}
		}
	}
	if len(args) > 0 && len(f.trees) > 0 {
		return ui.Usagef("either a PATH or --tree, not both")
	}
	if len(f.trees) == 0 {
		f.trees = []string{"dir=" + append(args, ".")[0]}
	}
	switch f.fsync {
	case "", "true", "yes", "1":
	case "false", "no", "0", "none":
		f.noFsync = true
	default:
		return ui.Usagef("--fsync=%s: neither true nor false", f.fsync)
	}
	if f.body != "" && f.bodyFile != "" {
		return ui.Usagef("either --body or --body-file, not both")
	}
	return f.treeFlags.check()
}

func (c *common) runCommit(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, f *commitFlags) (err error) {
	opts, err := f.options(ctx, r)
	if err != nil {
		return err
	}
	signers, kind, err := f.signers()
	if err != nil {
		return err
	}
	if f.devinoCache || f.speedup || f.devinoCanonical {
		// Beside the caches that libostree has there.
		if opts.Cache, err = ostree.OpenDevInoCache(filepath.Join(r.Path(), "tmp", "cache", "okd-streams.devino")); err != nil {
			return err
		}
	}
	show, done := c.progress(cmd)
	defer done()
	opts.Progress = show
	trees, err := f.open(ctx, r, cmd.InOrStdin(), opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, trees.close()) }()
	stats, cache := opts.Stats, opts.Cache
	commit, err := f.make(ctx, r, trees.tree, opts, signers, kind)
	if err != nil {
		return err
	}
	if cache != nil {
		if err := cache.Save(); err != nil {
			return err
		}
	}
	if f.consume {
		if err := f.removeTrees(); err != nil {
			return ui.Next(err, "the commit "+commit.String()+" is made; remove the folder")
		}
	}
	done()
	ui.SetResult(cmd.Context(), "commit", commit)
	ui.SetResult(cmd.Context(), "ref", f.branch)
	return c.printCommitted(cmd, commit, stats, f.table)
}

// options are what of the flags is not about the tree.
func (f *commitFlags) options(ctx context.Context, r *ostree.Repo) (*ostree.CommitOptions, error) {
	opts := &ostree.CommitOptions{Subject: f.subject, Body: f.body, NoFsync: f.noFsync, SkipUnchanged: f.skipUnchanged, Consume: f.consume, Stats: &ostree.CommitStats{}}
	var err error
	switch {
	case f.parent == "none":
	case f.parent != "":
		if opts.Parent, err = ostree.ParseChecksum(f.parent); err != nil {
			return nil, ui.Next(&ui.UsageError{Err: fmt.Errorf("--parent: %w", err)}, "okd-streams ostree rev-parse prints the checksum of a ref's commit")
		}
	case !f.orphan:
		if opts.Parent, err = r.Resolve(ctx, f.branch); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return nil, err
	}
	if f.bodyFile != "" {
		data, err := os.ReadFile(f.bodyFile)
		if err != nil {
			return nil, err
		}
		opts.Body = string(data)
	}
	if f.timestamp != "" {
		opts.Timestamp, err = parseDate(f.timestamp, time.Now())
	} else {
		opts.Timestamp, err = sourceDate()
	}
	if err != nil {
		return nil, err
	}
	if opts.Metadata, err = f.metadata(ctx, r, opts.Parent); err != nil {
		return nil, err
	}
	opts.Detached, err = keyValues(f.detached, false)
	return opts, err
}

// metadata is what becomes part of the commit, in the order of `ostree`.
func (f *commitFlags) metadata(ctx context.Context, r *ostree.Repo, parent ostree.Checksum) ([]ostree.MetadataItem, error) {
	items, err := keyValues(f.metaStrings, false)
	if err != nil {
		return nil, err
	}
	more, err := keyValues(f.meta, true)
	if err != nil {
		return nil, err
	}
	items = append(items, more...)
	if len(f.keep) > 0 {
		if parent.IsZero() {
			return nil, ui.Usagef("--keep-metadata needs a parent: a --branch that is there, or --parent")
		}
		commit, err := r.ReadCommit(ctx, parent)
		if err != nil {
			return nil, err
		}
		for _, key := range f.keep {
			value, ok := commit.Lookup(key)
			if !ok {
				return nil, ui.Next(fmt.Errorf("commit %s has no metadata key %s", parent, quoted(key)), "okd-streams ostree show --list-metadata-keys lists what it has")
			}
			items = append(items, ostree.MetadataItem{Key: key, Value: value})
		}
	}
	if !f.noBindings {
		var refs []string
		if f.branch != "" {
			refs = append(refs, f.branch)
		}
		refs = append(refs, f.bindRefs...)
		slices.Sort(refs)
		items = append(items, ostree.RefBinding(refs...))
	}
	return items, nil
}

// keyValues reads KEY=VALUE.
func keyValues(list []string, typed bool) ([]ostree.MetadataItem, error) {
	var items []ostree.MetadataItem
	for _, text := range list {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, ui.Usagef("metadata %s is not KEY=VALUE", quoted(text))
		}
		item := ostree.MetadataItem{Key: key, Value: ostree.StringVariant(value)}
		if typed {
			var err error
			if item.Value, err = ostree.ParseVariant(value); err != nil {
				return nil, ui.Next(&ui.UsageError{Err: fmt.Errorf("metadata %s: %w", quoted(key), err)},
					`write values as 'text', true, uint32 7, ['a', 'b'] or {'key': <'value'>}; --add-metadata-string takes text as it is`)
			}
		}
		items = append(items, item)
	}
	return items, nil
}

// make commits, signs and sets the ref, which never names what is not signed.
func (f *commitFlags) make(ctx context.Context, r *ostree.Repo, src ostree.Tree, opts *ostree.CommitOptions, signers []ostree.Signer, kind ostree.SignatureKind) (ostree.Checksum, error) {
	if f.bootable || f.composefs { // which take the files to be committed
		files, err := r.Commit(ctx, src, &ostree.CommitOptions{Owner: opts.Owner, CanonicalPermissions: opts.CanonicalPermissions, SkipXattrs: opts.SkipXattrs, Edit: opts.Edit, SELinux: opts.SELinux,
			Parent: opts.Parent, SkipUnchanged: opts.SkipUnchanged, Cache: opts.Cache, Linked: opts.Linked, Consume: opts.Consume, NoFsync: opts.NoFsync, Progress: opts.Progress, Stats: opts.Stats})
		if err != nil || files == opts.Parent {
			return files, err
		}
		// The tree is as it is to be.
		opts.Owner, opts.CanonicalPermissions, opts.SkipXattrs, opts.Edit, opts.SELinux, opts.Stats = nil, false, false, nil, nil, nil
		src = r.Tree(files)
		if f.bootable {
			version, _, _, err := ostree.Kernel(ctx, src)
			if err != nil {
				return files, ui.Next(err, "--bootable is for trees with usr/lib/modules/VERSION/vmlinuz")
			}
			opts.Metadata = append(opts.Metadata, ostree.MetadataItem{Key: "ostree.bootable", Value: ostree.BoolVariant(true)},
				ostree.MetadataItem{Key: "ostree.linux", Value: ostree.StringVariant(version)})
		}
		if f.composefs {
			digest, err := r.ComposefsDigest(ctx, files, &ostree.ComposefsOptions{Progress: opts.Progress})
			if err != nil {
				return files, err
			}
			opts.Metadata = append(opts.Metadata, ostree.ComposefsMetadata(digest))
		}
	}
	if len(signers) == 0 {
		opts.Ref = f.branch
	}
	commit, err := r.Commit(ctx, src, opts)
	if err != nil || len(signers) == 0 {
		return commit, err
	}
	for _, signer := range signers {
		if err := r.Sign(ctx, commit, kind, signer); err != nil {
			return commit, err
		}
	}
	if f.branch != "" {
		err = r.SetRef(ctx, f.branch, commit)
	}
	return commit, err
}

// printCommitted prints what `ostree commit` does.
func (c *common) printCommitted(cmd *cobra.Command, commit ostree.Checksum, stats *ostree.CommitStats, table bool) error {
	return ui.Print(cmd, struct {
		Commit          ostree.Checksum `json:"commit"`
		Files           int64           `json:"files"`
		Dirs            int64           `json:"dirs"`
		ContentWritten  int64           `json:"contentWritten"`
		MetadataWritten int64           `json:"metadataWritten"`
		BytesWritten    int64           `json:"bytesWritten"`
		CacheHits       int64           `json:"cacheHits"`
	}{commit, stats.Files, stats.Dirs, stats.ContentWritten, stats.MetadataWritten, stats.BytesWritten, stats.CacheHits}, func(w io.Writer) error {
		if !table {
			_, err := fmt.Fprintln(w, commit)
			return err
		}
		_, err := fmt.Fprintf(w, "Commit: %s\nMetadata Total: %d\nMetadata Written: %d\nContent Total: %d\nContent Written: %d\nContent Cache Hits: %d\nContent Bytes Written: %d\n",
			commit, 2*stats.Dirs+1, stats.MetadataWritten, stats.Files, stats.ContentWritten, stats.CacheHits, stats.BytesWritten)
		return err
	})
}
