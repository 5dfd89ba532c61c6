package ostree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// PullOptions configures [Repo.Pull]. Nil is the zero value.
type PullOptions struct {
	// URL is where the repository is, http or https. "": the remote's url in the
	// config.
	URL string
	// Revs are what is pulled: names of refs, checksums of commits, or
	// REF@CHECKSUM, which sets a ref to that commit. Nil: the remote's branches
	// in the config, or with Mirror and no branches all refs of its summary.
	Revs []string
	// Mirror sets this repository's own refs instead of the remote's, and copies
	// the summary and its signature where all refs are pulled.
	Mirror bool
	// Depth is how many ancestors come with each commit, as far as the server has
	// them. 0: none; negative: all.
	Depth int
	// Subpaths are absolute paths in the tree, of files or directories: only they,
	// and the directories above them, are pulled, and the commits stay marked
	// partial. One that is not in the tree is an error that wraps
	// [fs.ErrNotExist]. Nil: everything.
	Subpaths []string
	// CommitsOnly takes the commit objects and detached metadata alone and marks
	// the commits partial.
	CommitsOnly bool

	// Verifier says how each commit must be signed, SummaryVerifier the summary,
	// which then must be there. Nil: as the remote's config says (see
	// [Repo.RemoteVerifiers]), which for commits is by OpenPGP. [Verifier]'s zero
	// value asks for no signature.
	Verifier, SummaryVerifier *Verifier
	// Keys are those of the machine, for where Verifier is nil.
	Keys KeyFiles
	// Now is the time at which signatures must count. Those of OpenPGP count at
	// no time if it is zero.
	Now time.Time
	// NewerThanRef refuses a commit that is older than the one that its ref names
	// here already, as `ostree pull --timestamp-check` does; not with Depth.
	NewerThanRef bool
	// NewerThan refuses commits that are older than this one of the repository,
	// whatever [Repo.Resolve] takes. "": none.
	NewerThan string
	// AnyBinding takes commits whose metadata does not name the ref that they
	// are pulled by (see [RefBinding]), or the remote's collection.
	AnyBinding bool

	// NoDeltas fetches every object by itself. Static deltas are not used either
	// with Subpaths or CommitsOnly, and never for an archive repository.
	NoDeltas bool

	// Header is sent with each request to the servers of the config and URL, and
	// to no others: perhaps Authorization. Nil: none.
	Header http.Header
	// Transport sends requests, once each. Nil: a new one with the certificates
	// and proxy of the remote's config, or the environment's proxies.
	Transport http.RoundTripper
	// Attempts is how often a request is sent at most, and how often in turn a
	// body that broke off is taken up again without gain; 0: 6. Delay is the wait
	// before the second time, then doubled; 0: half a second.
	Attempts int
	Delay    time.Duration
	// HeaderTimeout and StallTimeout bound how long the server is silent before
	// an answer (0: two minutes) and within one (0: one minute); negative: not.
	HeaderTimeout, StallTimeout time.Duration
	// Workers is how many requests are under way at once, at most 256. 0: 96.
	Workers int
	// NoFsync leaves out what makes the pull durable against a crash of the
	// machine, as core.fsync=false does.
	NoFsync bool
	// Progress gets Phase "objects" with the objects fetched so far and those
	// known of so far.
	Progress func(Event)
	// Stats is filled in, also after an error.
	Stats *PullStats
}

// PullStats says what [Repo.Pull] did.
type PullStats struct {
	Requests        int64 // that got an answer, or none after all attempts
	BytesReceived   int64 // of bodies
	Commits         int64 // that were new, or partial before
	MetadataFetched int64 // dirtrees and dirmetas
	ContentFetched  int64 // content objects
	Resumed         int64 // objects that an earlier pull, killed, had fetched
	DeltasApplied   int64 // static deltas, whose objects are not counted above
}

// ErrOlder is wrapped by the errors of pulls that would go back in time.
var ErrOlder = errors.New("older commit refused")

// Pull takes commits, with all that they need, and their refs from an archive
// repository behind HTTP: remote is a name in the config, whose refs are set, as
// origin:os for the remote origin; it need not be in the config if
// [PullOptions].URL and Verifier are there. Objects that are here are not asked
// for.
//
// Nothing is stored before it is verified: signatures of a commit before the
// commit, checksums and form of objects before each object. A server that sends
// something else, too much, or nothing, gets an error that names the object and,
// if bytes are wrong, wraps [ErrCorrupt]; what it does not have wraps
// [fs.ErrNotExist]. In an archive repository files are stored as they were
// received, compressed.
//
// A commit whose objects are still coming is marked partial and its ref is not
// set; when a pull is stopped, even killed, the next one goes on with what is
// missing. Refs are set last, one by one. A repository of [ModeBareUserOnly] takes
// only files that it can keep, as with [Repo.PullLocal]. Where the
// server offers a static delta from a commit that is here, it is used, and one
// from nothing where the ref is not here; objects it lacks, and all of one that is
// at fault, are fetched one by one. Remotes with a metalink, a custom
// backend, or a URL that is neither http nor https wrap [errors.ErrUnsupported].
//
// Memory is about 100 bytes for each object of the tree, 200 KiB for each worker,
// that of one directory's names, and 200 MiB while a static delta is applied.
func (r *Repo) Pull(ctx context.Context, remote string, opts *PullOptions) error {
	if opts == nil {
		opts = &PullOptions{}
	}
	p := &httpPull{repo: r, remote: remote, opts: opts, commits: make(map[Checksum]*pullCommit), desks: newPullDesks(), deltas: make(chan struct{}, 1)}
	err := p.run(ctx)
	if opts.Stats != nil {
		*opts.Stats = PullStats{Commits: p.stats.commits.Load(), MetadataFetched: p.stats.metadata.Load(), ContentFetched: p.stats.content.Load(), Resumed: p.stats.resumed, DeltasApplied: p.stats.deltas.Load()}
		if p.server != nil {
			opts.Stats.Requests, opts.Stats.BytesReceived = p.server.requests.Load(), p.server.received.Load()
		}
	}
	if err != nil {
		if inner, ok := errors.AsType[*Error](err); ok && inner.Op == "pull" {
			return err
		}
		return &Error{Op: "pull", Target: cmp.Or(remote, "repository"), Err: err}
	}
	return nil
}

// How many requests are under way at once: a server 20 ms away is asked for 4,800
// objects a second.
const (
	pullWorkers    = 96
	maxPullWorkers = 256
)

// httpPull is one call of [Repo.Pull].
type httpPull struct {
	repo   *Repo
	remote string
	opts   *PullOptions
	config map[string]string // the remote's keys
	server *pullServer
	txn    *txn

	workers                   int
	verifier, summaryVerifier *Verifier
	notBefore                 time.Time // of NewerThan
	subpaths                  []string  // without slashes at either end; "" is everything
	found                     []atomic.Bool

	summary    []byte
	signature  []byte
	parsed     *Summary // nil: the server has none
	tombstones bool
	offered    map[DeltaName]Checksum // static deltas in the summary
	indexed    bool                   // more may be in delta-indexes/
	all        bool                   // all refs of the summary
	refs       []pullRef
	commits    map[Checksum]*pullCommit // under queue's lock
	queue      *pullQueue
	deltas     chan struct{}    // held by who applies a static delta
	desks      chan *pullDesk   // that are free
	made       [256]atomic.Bool // folders of the staging folder
	stats      struct {
		commits, metadata, content, done, known, deltas atomic.Int64
		resumed                                         int64
	}
}

// pullRef is a ref to set: its path below refs/, "" for a commit alone.
type pullRef struct {
	name, path string
	commit     Checksum
}

func (p *httpPull) run(ctx context.Context) (err error) {
	workers := p.opts.Workers
	if workers == 0 {
		workers = pullWorkers
	}
	if workers < 0 || workers > maxPullWorkers {
		return fmt.Errorf("%d workers, want 0 to %d", workers, maxPullWorkers)
	}
	p.workers = workers
	if err := p.repo.writable(); err != nil {
		return err
	}
	if err := p.settings(ctx); err != nil {
		return err
	}
	if p.server, err = newPullServer(p); err != nil {
		return err
	}
	defer p.server.close()
	if err := p.server.findMirrors(ctx); err != nil {
		return err
	}
	if err := p.fetchSummary(ctx); err != nil {
		return err
	}
	if err := p.resolveRefs(ctx); err != nil {
		return err
	}
	if err := p.fetchAll(ctx); err != nil {
		return err
	}
	for i := range p.found {
		if !p.found[i].Load() && !p.nothingNew() {
			return &Error{Op: "pull", Target: "/" + p.subpaths[i], Err: fmt.Errorf("not in the tree: %w", fs.ErrNotExist)}
		}
	}
	if err := p.finish(ctx); err != nil {
		return err
	}
	p.repo.log.LogAttrs(ctx, slog.LevelInfo, "pulled", slog.String("from", p.server.name()), slog.Int64("commits", p.stats.commits.Load()), slog.Int64("metadata", p.stats.metadata.Load()),
		slog.Int64("content", p.stats.content.Load()), slog.Int64("requests", p.server.requests.Load()), slog.Int64("bytes", p.server.received.Load()))
	return nil
}

// settings reads options and the remote's config.
func (p *httpPull) settings(ctx context.Context) (err error) {
	if p.remote != "" && !remoteName.MatchString(p.remote) {
		return fmt.Errorf("%.80q is no valid remote name", p.remote)
	}
	remotes := p.repo.Remotes()
	i := slices.IndexFunc(remotes, func(r Remote) bool { return r.Name == p.remote })
	if i >= 0 {
		p.config = remotes[i].Keys
		for _, key := range []string{"unconfigured-state", "custom-backend"} {
			if value := p.config[key]; value != "" {
				return fmt.Errorf("%s: %.200q: %w", key, value, errUnsupported)
			}
		}
		if p.opts.URL == "" && p.config["metalink"] != "" {
			return fmt.Errorf("metalink: %w", errUnsupported)
		}
	} else if p.opts.URL == "" {
		return fmt.Errorf("no such remote in the config: %w", fs.ErrNotExist)
	}
	if p.remote == "" && !p.opts.Mirror {
		return errors.New("without a remote's name refs can only be those of a mirror")
	}
	p.verifier, p.summaryVerifier = p.opts.Verifier, p.opts.SummaryVerifier
	switch {
	case i < 0 && p.verifier == nil:
		return errors.New("no such remote in the config says how commits must be signed, and no verifier is given")
	case i < 0 && p.summaryVerifier == nil:
		p.summaryVerifier = &Verifier{}
	case p.verifier == nil || p.summaryVerifier == nil:
		commits, summary, err := p.repo.remoteVerifiers(ctx, p.remote, p.opts.Keys)
		if err != nil {
			return err
		}
		if p.verifier == nil {
			p.verifier = commits
		}
		if p.summaryVerifier == nil {
			p.summaryVerifier = summary
		}
	}
	if p.opts.NewerThanRef && p.opts.Depth != 0 {
		return errors.New("ancestors can't be newer than the ref's commit: no depth with this check")
	}
	if p.opts.NewerThan != "" {
		c, err := p.repo.resolve(ctx, p.opts.NewerThan)
		if err != nil {
			return err
		}
		commit, err := p.repo.ReadCommit(ctx, c)
		if err != nil {
			return err
		}
		p.notBefore = commit.Timestamp
	}
	for _, sub := range p.opts.Subpaths {
		clean := path.Clean(sub)
		if !path.IsAbs(sub) || strings.Contains(sub, "\x00") {
			return fmt.Errorf("subpath %.80q is not absolute", sub)
		}
		p.subpaths = append(p.subpaths, strings.Trim(clean, "/"))
	}
	p.found = make([]atomic.Bool, len(p.subpaths))
	return nil
}

// fetchSummary fetches and verifies what the server says of itself.
func (p *httpPull) fetchSummary(ctx context.Context) error {
	var config []byte
	fetch := func(withConfig bool) error {
		group, gctx := errgroup.WithContext(ctx)
		get := func(name string, limit int64, to *[]byte) {
			group.Go(func() (err error) {
				*to, err = p.server.optional(gctx, name, limit)
				return err
			})
		}
		get("summary", MaxMetadataSize, &p.summary)
		get("summary.sig", MaxMetadataSize, &p.signature)
		if withConfig {
			get("config", maxConfigSize, &config)
		}
		return group.Wait()
	}
	if err := fetch(true); err != nil {
		return err
	}
	err := p.verifySummary(ctx)
	if err != nil && errors.Is(err, ErrSignature) {
		// It may have been replaced between the two requests.
		if err = fetch(false); err == nil {
			err = p.verifySummary(ctx)
		}
	}
	if err == nil && p.summary != nil {
		p.parsed, err = DecodeSummary(p.summary)
	}
	if err == nil && p.parsed != nil {
		p.offered, err = p.parsed.Deltas()
	}
	if err != nil {
		return &Error{Op: "pull", Target: "summary", Err: err}
	}
	return p.readServerConfig(config)
}

func (p *httpPull) verifySummary(ctx context.Context) error {
	v := p.summaryVerifier
	if !v.needGPG && !v.needSign {
		return nil
	}
	if p.summary == nil {
		return fmt.Errorf("must be signed, and is not there: %w", fs.ErrNotExist)
	}
	items, err := DecodeMetadata(p.signature)
	if err != nil {
		return err
	}
	_, err = v.verify(ctx, p.summary, items, p.opts.Now)
	return err
}

// readServerConfig checks that the server has an archive repository.
func (p *httpPull) readServerConfig(data []byte) error {
	mode, tombstones, indexed := "", false, false
	if p.parsed != nil {
		if v, ok := p.parsed.Lookup(summaryMode); ok {
			mode, _ = v.AsString()
		}
		if v, ok := p.parsed.Lookup(summaryTombstones); ok {
			tombstones, _ = v.AsBool()
		}
		if v, ok := p.parsed.Lookup(summaryIndexed); ok {
			indexed, _ = v.AsBool()
		}
	}
	if mode == "" {
		if data == nil {
			return &Error{Op: "pull", Target: "config", Err: fmt.Errorf("is no repository, or hides its config: %w", fs.ErrNotExist)}
		}
		config, err := parseKeyFile(data)
		if err == nil {
			mode, _ = config.get("core", "mode")
			tombstones, err = config.boolean("core", "tombstone-commits", false)
		}
		if err == nil {
			indexed, err = config.boolean("core", "indexed-deltas", false)
		}
		if err != nil {
			return &Error{Op: "pull", Target: "config", Err: corrupt(err)}
		}
	}
	p.tombstones, p.indexed = tombstones, indexed
	if m, ok := parseMode(mode); !ok || m != ModeArchive {
		return fmt.Errorf("the server's repository is of mode %.80q, want %s: %w", mode, ModeArchive, errUnsupported)
	}
	return nil
}

// resolveRefs finds out which commits are to be pulled.
func (p *httpPull) resolveRefs(ctx context.Context) error {
	revs := p.opts.Revs
	if revs == nil {
		revs = splitList(p.config["branches"])
		p.all = p.opts.Mirror && len(revs) == 0
	}
	if p.all {
		if p.parsed == nil {
			return &Error{Op: "pull", Target: "summary", Err: fmt.Errorf("pulling all refs needs it: %w", fs.ErrNotExist)}
		}
		for i := range p.parsed.Refs {
			revs = append(revs, p.parsed.Refs[i].Name)
		}
	} else if len(revs) == 0 {
		return errors.New("no refs given, and no branches in the remote's config")
	}
	p.refs = make([]pullRef, len(revs))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(p.workers)
	for i, rev := range revs {
		group.Go(func() (err error) {
			if p.refs[i], err = p.resolveRef(gctx, rev); err != nil {
				return &Error{Op: "pull", Target: fmt.Sprintf("%.255s", rev), Err: err}
			}
			return nil
		})
	}
	return group.Wait()
}

func (p *httpPull) resolveRef(ctx context.Context, rev string) (ref pullRef, err error) {
	if c, err := ParseChecksum(rev); err == nil {
		return pullRef{commit: c}, nil
	}
	name, text, fixed := strings.Cut(rev, "@")
	if strings.Contains(name, ":") {
		return ref, fmt.Errorf("%.80q is no name of a ref at the remote", name)
	}
	ref.name = name
	if ref.path, err = refPath(p.refPrefix() + name); err != nil {
		return ref, err
	}
	if fixed {
		ref.commit, err = ParseChecksum(text)
		return ref, err
	}
	if p.parsed != nil {
		found, ok := p.parsed.Ref(name)
		if !ok {
			return ref, fmt.Errorf("not in the server's summary: %w", fs.ErrNotExist)
		}
		ref.commit = found.Commit
		return ref, nil
	}
	data, err := p.server.document(ctx, "refs/heads/"+name, 2*ChecksumSize+2)
	if err != nil {
		return ref, err
	}
	if ref.commit, err = ParseChecksum(strings.TrimSpace(string(data))); err != nil {
		return ref, corrupt(err)
	}
	return ref, nil
}

// refPrefix is what stands before the names of the refs that are set.
func (p *httpPull) refPrefix() string {
	if p.opts.Mirror {
		return ""
	}
	return p.remote + ":"
}

// fetchAll stages and publishes what the commits need. What was verified is kept
// also after an error: the commits are marked partial.
func (p *httpPull) fetchAll(ctx context.Context) (err error) {
	p.stats.resumed, err = p.repo.adoptPulls(ctx, p.opts.NoFsync)
	if err != nil {
		return err
	}
	t, err := p.repo.beginPull(ctx, p.opts.NoFsync)
	if err != nil {
		return err
	}
	defer func() {
		if e := t.end(); err == nil {
			err = e
		}
	}()
	p.txn = t
	p.queue = newPullQueue()
	for _, ref := range p.refs {
		p.want(ref.commit, p.opts.Depth, ref.name)
	}
	err = p.work(ctx)
	if p.opts.Progress != nil {
		p.opts.Progress(Event{Step: "pull", Phase: "objects", Done: p.stats.done.Load(), Total: p.stats.known.Load()})
	}
	// What is staged is verified, and a commit that needs it is there. Beside it
	// may be files that are not whole.
	t.single = err != nil
	if e := t.publish(context.WithoutCancel(ctx), func(ObjectType, *Checksum) bool { return true }, &Checksum{}, nil); err == nil {
		err = e
	}
	return err
}

// nothingNew is true if there was nothing to look for subpaths in.
func (p *httpPull) nothingNew() bool {
	for _, c := range p.commits {
		if !c.whole {
			return false
		}
	}
	return true
}

// finish marks the commits complete and sets the refs.
func (p *httpPull) finish(ctx context.Context) error {
	if len(p.subpaths) == 0 && !p.opts.CommitsOnly {
		for c, known := range p.commits {
			if known.whole || known.missing {
				continue
			}
			if err := p.repo.completed(c); err != nil {
				return err
			}
		}
	}
	for _, ref := range p.refs {
		if ref.path == "" {
			continue
		}
		if c, err := p.repo.readRefPath(ref.path); err == nil && c == ref.commit {
			continue
		}
		if err := p.repo.writeRef(ref.path, ref.commit, p.repo.settings.fsync && !p.opts.NoFsync); err != nil {
			return err
		}
	}
	if !p.all {
		return ctx.Err()
	}
	release, err := p.repo.lockMetadata(ctx)
	if err != nil {
		return err
	}
	defer release()
	return p.repo.replaceSummary(p.summary, p.signature)
}
