package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

type pullFlags struct {
	url, newerThan                                         string
	mirror, commitsOnly, noFsync, newerThanRef, anyBinding bool
	noRetry, noDeltas                                      bool
	depth, retries, connections                            int
	subpaths, headers                                      []string
}

func (c *common) pull() *cobra.Command {
	var f pullFlags
	cmd := c.leaf("pull REMOTE [BRANCH...]", "Take commits from a repository on a web server", 1, -1, func(cmd *cobra.Command, args []string) error {
		remote, ref, ok := strings.Cut(args[0], ":")
		revs := args[1:]
		if ok {
			if len(revs) > 0 {
				return ui.Usagef("either REMOTE:BRANCH or REMOTE and BRANCHes")
			}
			revs = []string{ref}
		}
		opts, err := f.options(revs)
		if err != nil {
			return err
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error { return c.runPull(ctx, cmd, r, remote, opts) })
	})
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "", "pull from `URL`, not from the one in the config")
	flags.BoolVar(&f.mirror, "mirror", false, "set this repository's own refs, and take all if no BRANCH is given")
	flags.IntVar(&f.depth, "depth", 0, "take `DEPTH` ancestors with each commit; -1: all")
	flags.StringArrayVar(&f.subpaths, "subpath", nil, "take `PATH` of the tree alone; may be repeated")
	flags.BoolVar(&f.commitsOnly, "commit-metadata-only", false, "take commit objects alone")
	flags.BoolVarP(&f.newerThanRef, "timestamp-check", "T", false, "refuse commits older than those that there are")
	flags.StringVar(&f.newerThan, "timestamp-check-from-rev", "", "refuse commits older than `REV`")
	flags.BoolVar(&f.anyBinding, "disable-verify-bindings", false, "take commits for refs that they are not meant for")
	flags.StringArrayVar(&f.headers, "http-header", nil, "send the header `NAME=VALUE` with all requests; may be repeated")
	flags.IntVar(&f.retries, "network-retries", 5, "send a request that fails `N` times more")
	flags.BoolVar(&f.noRetry, "disable-retry-on-network-errors", false, "send no request again")
	flags.IntVar(&f.connections, "max-outstanding-fetcher-requests", 0, "fetch `N` objects at a time, at most 64 (default 64)")
	flags.BoolVar(&f.noDeltas, "disable-static-deltas", false, "fetch every object by itself")
	flags.BoolVar(&f.noFsync, "disable-fsync", false, "do not wait for the disk")
	ignore(cmd, "everything that is fetched is verified", "untrusted", "http-trusted")
	ignore(cmd, "files that a repository of mode bare-user-only can't keep are always refused", "bareuseronly-files")
	ignore(cmd, "objects are made durable together", "per-object-fsync")
	refuse(cmd, "static deltas are used where there are any, else objects are fetched one by one", "require-static-deltas", "dry-run")
	refuse(cmd, "okd-streams ostree pull-local takes what the other repository has, before the pull", "localcache-repo,L=")
	refuse(cmd, "summaries are fetched each time", "cache-dir=")
	refuse(cmd, "--quiet shows no progress, a terminal a line that is drawn again", "update-frequency=")
	refuse(cmd, "a server that is silent for a minute is given up", "low-speed-limit-bytes=", "low-speed-time-seconds=")
	return cmd
}

func (f *pullFlags) options(revs []string) (*ostree.PullOptions, error) {
	if len(revs) == 0 {
		revs = nil
	}
	opts := &ostree.PullOptions{URL: f.url, Revs: revs, Mirror: f.mirror, Depth: f.depth, Subpaths: f.subpaths, CommitsOnly: f.commitsOnly, NewerThanRef: f.newerThanRef,
		NewerThan: f.newerThan, AnyBinding: f.anyBinding, NoDeltas: f.noDeltas, NoFsync: f.noFsync, Workers: f.connections, Now: time.Now(), Header: make(http.Header), Stats: &ostree.PullStats{}}
	if f.retries < 0 || f.connections < 0 {
		return nil, ui.Usagef("--network-retries and --max-outstanding-fetcher-requests are not negative")
	}
	opts.Attempts = f.retries + 1
	if f.noRetry {
		opts.Attempts = 1
	}
	for _, text := range f.headers {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, ui.Usagef("--http-header: not NAME=VALUE") // the text may be a secret
		}
		opts.Header.Add(name, value)
	}
	var err error
	opts.Keys, err = machineKeys()
	return opts, err
}

func (c *common) runPull(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, remote string, opts *ostree.PullOptions) error {
	if opts.URL == "" {
		if _, err := findRemote(r, remote); err != nil {
			return err
		}
	}
	show, done := c.progress(cmd)
	defer done()
	opts.Progress = show
	err := r.Pull(ctx, remote, opts)
	switch stats := opts.Stats; {
	case errors.Is(err, ostree.ErrSignature):
		return ui.Next(err, "remote gpg-import or remote add --sign-verify names the keys that are trusted, remote add --no-sign-verify takes commits as they are")
	case errors.Is(err, ostree.ErrOlder):
		return ui.Next(err, "leave --timestamp-check out to go back in time")
	case errors.Is(err, fs.ErrNotExist):
		return ui.Next(err, "check the URL with remote show-url, and the refs in the server's summary")
	case err != nil && errors.Is(err, context.Canceled):
		return ui.Next(errors.New("stopped"), "run it again: what was fetched is kept")
	case err != nil && stats.Requests > 0 && !errors.Is(err, ostree.ErrCorrupt):
		return ui.Next(err, "run it again: what was fetched is kept")
	case err != nil:
		return err
	}
	done()
	return ui.Print(cmd, struct {
		Commits  int64 `json:"commits"`
		Metadata int64 `json:"metadataFetched"`
		Content  int64 `json:"contentFetched"`
		Bytes    int64 `json:"bytesReceived"`
		Requests int64 `json:"requests"`
		Resumed  int64 `json:"resumed"`
		Deltas   int64 `json:"deltasApplied"`
	}{opts.Stats.Commits, opts.Stats.MetadataFetched, opts.Stats.ContentFetched, opts.Stats.BytesReceived, opts.Stats.Requests, opts.Stats.Resumed, opts.Stats.DeltasApplied}, func(w io.Writer) error {
		if n := opts.Stats.DeltasApplied; n > 0 {
			fmt.Fprintf(w, "%s, ", ui.Count(int(n), "static delta"))
		}
		_, err := fmt.Fprintf(w, "%d metadata, %d content objects fetched; %s transferred\n", opts.Stats.Commits+opts.Stats.MetadataFetched, opts.Stats.ContentFetched, size(opts.Stats.BytesReceived))
		return err
	})
}

// machineKeys are the keys that a machine trusts, where `ostree` looks for them.
func machineKeys() (keys ostree.KeyFiles, err error) {
	read := func(to *[][]byte, patterns ...string) {
		for _, pattern := range patterns {
			names, globErr := filepath.Glob(pattern)
			err = errors.Join(err, globErr)
			for _, name := range names {
				if info, statErr := os.Stat(name); statErr != nil || !info.Mode().IsRegular() {
					continue
				}
				data, readErr := os.ReadFile(name)
				err = errors.Join(err, readErr)
				*to = append(*to, data)
			}
		}
	}
	gpg := "/usr/share/ostree/trusted.gpg.d"
	if home := os.Getenv("OSTREE_GPG_HOME"); home != "" {
		gpg = home
	}
	read(&keys.GPG, filepath.Join(gpg, "*.gpg"))
	for _, base := range []string{"/etc/ostree", "/usr/share/ostree"} {
		read(&keys.Ed25519, base+"/trusted.ed25519", base+"/trusted.ed25519.d/*")
		read(&keys.RevokedEd25519, base+"/revoked.ed25519", base+"/revoked.ed25519.d/*")
	}
	return keys, err
}
