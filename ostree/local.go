package ostree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/unix"
)

// PullLocalOptions configures [Repo.PullLocal]. Nil is the zero value.
type PullLocalOptions struct {
	// Revs are what is pulled: refs of the source, which are set here too, or
	// whatever else [Repo.Resolve] takes. Nil: the source's own refs, all.
	Revs []string
	// Remote is the remote whose refs are set: "origin" sets origin:REF. "":
	// this repository's own.
	Remote string
	// Depth is how many ancestors come with each commit, as far as the source
	// has them. 0: none; negative: all.
	Depth int
	// Trusted takes files whose object the source has as this repository has it
	// without reading them, as `ostree pull-local` does unless told --untrusted.
	// Otherwise every file is verified.
	Trusted bool
	// Copy makes no hard links to the source's objects.
	Copy bool
	// CommitsOnly takes the commit objects and detached metadata alone and marks
	// the commits partial.
	CommitsOnly bool
	// Workers is how many goroutines read and write files, at most 64. 0:
	// GOMAXPROCS.
	Workers int
	// NoFsync leaves out what makes the pull durable against a crash of the
	// machine, as core.fsync=false does.
	NoFsync bool
	// Progress gets Phase "objects" with the content objects done so far.
	Progress func(Event)
	// Stats is filled in, also after an error.
	Stats *PullLocalStats
}

// PullLocalStats says what [Repo.PullLocal] did.
type PullLocalStats struct {
	Commits         int64 // that were new, or partial before
	MetadataWritten int64 // dirtrees and dirmetas that were new
	ContentWritten  int64 // content objects that were new
	ContentLinked   int64 // of those, hard links to the source's
}

// PullLocal takes commits, with all that they need, and their refs from another
// repository on this machine, of whatever mode. Objects that are there are left
// alone; the source's detached metadata takes the place of this repository's. Where both repositories store objects alike, files are hard links or
// reflinks if the file system allows it and one user owns both, else copies;
// compressed files are taken as they are. What is missing or damaged in the
// source is an error, and nothing is pulled. Refs are set last, one by one.
//
// A repository of [ModeBareUserOnly] takes only files that it can keep: of root,
// without attributes, with modes up to 0775.
func (r *Repo) PullLocal(ctx context.Context, src *Repo, opts *PullLocalOptions) error {
	if opts == nil {
		opts = &PullLocalOptions{}
	}
	p := &localPull{repo: r, src: src, opts: opts, seen: make(map[claimKey]struct{})}
	err := p.run(ctx)
	if opts.Stats != nil {
		*opts.Stats = PullLocalStats{Commits: p.commits, MetadataWritten: p.meta, ContentWritten: p.linked.Load(), ContentLinked: p.linked.Load()}
		if p.builder != nil {
			opts.Stats.ContentWritten += p.builder.stats.content.Load()
		}
	}
	if err != nil {
		if inner, ok := errors.AsType[*Error](err); ok && inner.Op == "pull" {
			return err
		}
		return &Error{Op: "pull", Target: src.path, Err: err}
	}
	return nil
}

type localPull struct {
	repo, src *Repo
	opts      *PullLocalOptions
	builder   *builder
	seen      map[claimKey]struct{} // what was looked at
	there     []Checksum            // commits that need only their detached metadata
	queue     chan Checksum
	noLink    atomic.Bool
	linked    atomic.Int64
	done      atomic.Int64
	commits   int64
	meta      int64
}

// pulledRef is a ref to set: its path below refs/.
type pulledRef struct {
	path   string
	commit Checksum
}

// pulledCommit is a commit to write.
type pulledCommit struct {
	sum    Checksum
	commit *Commit
	data   []byte
}

func (p *localPull) run(ctx context.Context) (err error) {
	workers := p.opts.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	if workers < 0 || workers > maxWorkers {
		return fmt.Errorf("%d workers, want 0 to %d", workers, maxWorkers)
	}
	if err := p.repo.writable(); err != nil {
		return err
	}
	// The source must not be pruned meanwhile; one that can't be written to can't
	// be locked.
	lock, err := p.src.lockShared(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
	case err != nil:
		return fmt.Errorf("source: %w", err)
	default:
		defer unlock(lock)
	}
	refs, err := p.revs(ctx)
	if err != nil {
		return err
	}
	t, err := p.repo.begin(ctx, workers+1, p.opts.NoFsync)
	if err != nil {
		return err
	}
	defer func() {
		if e := t.end(); err == nil {
			err = e
		}
	}()
	p.into(t, workers)
	commits, err := p.history(ctx, refs)
	if err != nil {
		return err
	}
	if err := p.objects(ctx, commits, workers); err != nil {
		return err
	}
	if err := t.publish(ctx, func(ObjectType, *Checksum) bool { return true }, &Checksum{}, nil); err != nil {
		return err
	}
	// Ancestors first: a killed process leaves no history with a hole.
	for _, c := range slices.Backward(commits) {
		if err := p.writeCommit(ctx, &c, t.fsync); err != nil {
			return err
		}
	}
	for _, c := range p.there {
		if err := p.detached(ctx, c, t.fsync); err != nil {
			return err
		}
	}
	for _, ref := range refs {
		if ref.path == "" {
			continue
		}
		if err := p.repo.writeRef(ref.path, ref.commit, t.fsync); err != nil {
			return err
		}
	}
	p.repo.log.LogAttrs(ctx, slog.LevelInfo, "pulled", slog.String("from", p.src.path), slog.Int64("commits", p.commits), slog.Int64("metadata", p.meta),
		slog.Int64("linked", p.linked.Load()))
	return nil
}

// into lets what is pulled be staged in t.
func (p *localPull) into(t *txn, workers int) {
	p.builder = &builder{repo: p.repo, txn: t, opts: &CommitOptions{}, shelf: t.shelves[workers]}
	var own, their unix.Stat_t
	if unix.Fstat(p.repo.dir, &own) != nil || unix.Fstat(p.src.dir, &their) != nil || own.Uid != their.Uid || p.opts.Copy {
		p.noLink.Store(true)
	}
}

// revs gives what is pulled. A path is empty for what is no ref.
func (p *localPull) revs(ctx context.Context) ([]pulledRef, error) {
	prefix := ""
	if p.opts.Remote != "" {
		prefix = p.opts.Remote + ":"
	}
	var refs []pulledRef
	add := func(name string, c Checksum) error {
		file, err := refPath(prefix + name)
		refs = append(refs, pulledRef{file, c})
		return err
	}
	if p.opts.Revs == nil {
		for ref, err := range p.src.Refs(ctx) {
			if err == nil && ref.Remote == "" {
				err = add(ref.Name, ref.Commit)
			}
			if err != nil {
				return nil, err
			}
		}
		return refs, nil
	}
	for _, rev := range p.opts.Revs {
		c, err := p.src.Resolve(ctx, rev)
		if err != nil {
			return nil, err
		}
		if file, err := refPath(rev); err == nil {
			if _, err := p.src.readRefPath(file); err == nil {
				_, name, isRemote := strings.Cut(rev, ":")
				if !isRemote {
					name = rev
				}
				if err := add(name, c); err != nil {
					return nil, err
				}
				continue
			}
		}
		refs = append(refs, pulledRef{"", c})
	}
	return refs, nil
}

// history gives the commits that are to be written, each before its ancestors.
func (p *localPull) history(ctx context.Context, refs []pulledRef) ([]pulledCommit, error) {
	var commits []pulledCommit
	for _, ref := range refs {
		c := ref.commit
		for n := 0; !c.IsZero() && (n == 0 || p.opts.Depth < 0 || n <= p.opts.Depth); n++ {
			data, err := p.src.object(ctx, TypeCommit, c)
			if n > 0 && errors.Is(err, fs.ErrNotExist) {
				break
			}
			var commit *Commit
			if err == nil {
				commit, err = DecodeCommit(data)
			}
			if err != nil {
				return nil, &Error{Op: "pull", Target: objectName(TypeCommit, c), Err: err}
			}
			key := claimKey{TypeCommit, c}
			if _, ok := p.seen[key]; !ok {
				p.seen[key] = struct{}{}
				whole, err := p.whole(ctx, c)
				if err != nil {
					return nil, err
				}
				if whole {
					p.there = append(p.there, c)
				} else {
					commits = append(commits, pulledCommit{c, commit, data})
				}
			}
			c = commit.Parent
		}
	}
	return commits, nil
}

// whole reports whether the repository has a commit and all that it needs.
func (p *localPull) whole(ctx context.Context, c Checksum) (bool, error) {
	there, err := p.repo.hasPath(TypeCommit, p.repo.objectPath(TypeCommit, c))
	if err != nil || !there || p.opts.CommitsOnly {
		return there, err
	}
	partial, err := p.repo.Partial(ctx, c)
	return !partial, err
}

// objects stages what the commits need and the repository lacks.
func (p *localPull) objects(ctx context.Context, commits []pulledCommit, workers int) error {
	if p.opts.CommitsOnly {
		return nil
	}
	return p.work(ctx, workers, func(ctx context.Context) error {
		for i := range commits {
			if err := p.closure(ctx, commits[i].commit); err != nil {
				return err
			}
		}
		return nil
	})
}

// closure stages what a commit needs.
func (p *localPull) closure(ctx context.Context, c *Commit) error {
	if err := p.metadata(ctx, TypeDirMeta, c.RootMeta); err != nil {
		return err
	}
	return p.tree(ctx, c.RootTree, 0)
}

// work stages the content objects that find queues.
func (p *localPull) work(ctx context.Context, workers int, find func(context.Context) error) error {
	group, gctx := errgroup.WithContext(ctx)
	p.queue = make(chan Checksum, 4*workers)
	p.builder.spare.expect(workers)
	for i := range workers {
		group.Go(func() error {
			w := newWriter(p.builder, p.builder.txn.shelves[i])
			buf := make([]byte, 256<<10)
			for c := range p.queue {
				if err := p.content(gctx, w, c, buf); err != nil {
					if gctx.Err() != nil {
						return gctx.Err()
					}
					return &Error{Op: "pull", Target: objectName(TypeFile, c), Err: err}
				}
				if done := p.done.Add(1); p.opts.Progress != nil && done%16 == 0 {
					p.opts.Progress(Event{Step: "pull", Phase: "objects", Done: done})
				}
			}
			return p.builder.spare.help(gctx, w)
		})
	}
	group.Go(func() error {
		defer close(p.queue)
		return find(gctx)
	})
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	return nil
}

// first reports whether an object was not looked at yet.
func (p *localPull) first(kind ObjectType, c Checksum) bool {
	key := claimKey{kind, c}
	_, ok := p.seen[key]
	p.seen[key] = struct{}{}
	return !ok
}

// metadata stages a dirtree or dirmeta of the source.
func (p *localPull) metadata(ctx context.Context, kind ObjectType, c Checksum) error {
	if !p.first(kind, c) {
		return nil
	}
	data, err := p.src.object(ctx, kind, c)
	if err == nil && kind == TypeDirMeta {
		_, err = DecodeDirMeta(data)
	}
	if err != nil {
		return &Error{Op: "pull", Target: objectName(kind, c), Err: err}
	}
	return p.stage(kind, data)
}

func (p *localPull) stage(kind ObjectType, data []byte) error {
	_, fresh, err := p.builder.shelf.metadata(kind, data)
	if fresh {
		p.meta++
	}
	return err
}

// file queues a content object.
func (p *localPull) file(ctx context.Context, c Checksum) error {
	if !p.first(TypeFile, c) {
		return nil
	}
	select {
	case p.queue <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *localPull) tree(ctx context.Context, c Checksum, depth int) error {
	if !p.first(TypeDirTree, c) {
		return nil
	}
	if depth > maxDepth {
		return corruptf("directories nest deeper than %d", maxDepth)
	}
	data, err := p.src.object(ctx, TypeDirTree, c)
	var d *DirTree
	if err == nil {
		d, err = DecodeDirTree(data)
	}
	if err != nil {
		return &Error{Op: "pull", Target: objectName(TypeDirTree, c), Err: err}
	}
	if err := p.stage(TypeDirTree, data); err != nil {
		return err
	}
	for i := range d.Files {
		if err := p.file(ctx, d.Files[i].Object); err != nil {
			return err
		}
	}
	for i := range d.Dirs {
		if err := p.metadata(ctx, TypeDirMeta, d.Dirs[i].Meta); err != nil {
			return err
		}
		if err := p.tree(ctx, d.Dirs[i].Tree, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// content stages a content object unless it is there.
func (p *localPull) content(ctx context.Context, w *contentWriter, c Checksum, buf []byte) error {
	if there, err := w.known(&c); err != nil || there {
		return err
	}
	o, err := p.src.openContent(ctx, c)
	if err != nil {
		return err
	}
	defer o.Close()
	f := o.file
	if f.Mode&ModeType == ModeSymlink {
		if err := f.verifyHeader(c); err != nil {
			return err
		}
	}
	own := p.repo.settings.mode
	if own == ModeBareUserOnly && (f.UID != 0 || f.GID != 0 || len(f.Xattrs) > 0 || f.Mode&ModeType == ModeRegular && f.Mode&0o7777&^maxOnlyMode != 0) {
		return fmt.Errorf("owner %d:%d, mode %#o, %d attributes: a %s repository can't keep that", f.UID, f.GID, f.Mode, len(f.Xattrs), own)
	}
	isRegular := f.Mode&ModeType == ModeRegular
	if o.repo.settings.mode == own && own != ModeBareSplitXattrs {
		verified := p.opts.Trusted || !isRegular
		if !p.noLink.Load() {
			if !verified {
				if err := o.verify(ctx, c, buf); err != nil {
					return err
				}
				verified = true
			}
			ok, err := p.link(w, o, &c)
			if err != nil || ok {
				return err
			}
		}
		if own == ModeArchive && isRegular {
			if !verified {
				if err := o.verify(ctx, c, buf); err != nil {
					return err
				}
			}
			return p.copyStored(ctx, w, o, c, buf)
		}
	}
	e := fileEntry(c.String(), c, f)
	e.Detached = true
	if isRegular {
		first := true // is what is open already
		e.Open = func(ctx context.Context) (io.ReadCloser, error) {
			if first {
				first = false
				return o.unverified(ctx, c), nil
			}
			return p.src.openBody(ctx, c)
		}
	}
	j := job{node: &fileNode{}, entry: e}
	if err := w.job(ctx, &j); err != nil {
		return err
	}
	if j.node.sum != c {
		if isRegular {
			if err := o.verify(ctx, c, buf); err != nil {
				return err
			}
		}
		// Attributes in another order than today's have another checksum.
		return fmt.Errorf("would be stored as %s: %w", j.node.sum, errUnsupported)
	}
	return nil
}

// verify reads a regular file's content to its end. o stays open.
func (o *opened) verify(ctx context.Context, c Checksum, buf []byte) error {
	again, err := o.repo.openContent(ctx, c)
	if err != nil {
		return err
	}
	body := again.body(ctx, c)
	defer body.Close()
	for {
		if _, err := body.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// link stages a hard link to an object of the source; false: it can't be one.
func (p *localPull) link(w *contentWriter, o *opened, c *Checksum) (bool, error) {
	write, err := w.claim(c)
	if err != nil || !write {
		return true, err
	}
	name, err := w.shelf.name(w.path, c[0])
	if err != nil {
		return false, err
	}
	err = linkObject(o.repo, o.name, w.txn.staging, name)
	switch {
	case err == nil:
		w.shelf.staged(TypeFile, c)
		p.linked.Add(1)
		return true, nil
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP):
		p.noLink.Store(true)
	case !errors.Is(err, unix.EMLINK):
		return false, err
	}
	w.txn.disclaim(TypeFile, c)
	return false, nil
}

// copyStored stages a copy of an archive object as it is stored.
func (p *localPull) copyStored(ctx context.Context, w *contentWriter, o *opened, c Checksum, buf []byte) error {
	write, err := w.claim(&c)
	if err != nil || !write {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		return pathError("stat", o.name, err)
	}
	if err := w.txn.take(st.Size); err != nil {
		return err
	}
	f, err := w.shelf.create(w.path, c[0])
	if err != nil {
		return err
	}
	if err = retry(func() error { return unix.IoctlFileClone(f.fd, o.fd) }); err != nil {
		if _, err = unix.Seek(o.fd, 0, io.SeekStart); err == nil {
			_, err = io.CopyBuffer(struct{ io.Writer }{f}, readers.Context{Ctx: ctx, R: o.rawFile}, buf)
		}
	}
	if err := w.shelf.finish(f, err, 0o644); err != nil {
		return err
	}
	w.wrote(st.Size)
	w.shelf.staged(TypeFile, &c)
	return nil
}

// writeCommit stores a commit and its detached metadata. All that the commit
// needs is there.
func (p *localPull) writeCommit(ctx context.Context, c *pulledCommit, fsync bool) error {
	if err := p.detached(ctx, c.sum, fsync); err != nil {
		return err
	}
	there, err := p.repo.hasPath(TypeCommit, p.repo.objectPath(TypeCommit, c.sum))
	if err != nil {
		return err
	}
	if !there {
		if p.opts.CommitsOnly {
			if err := p.repo.replace(partialPath(c.sum), nil, fsync); err != nil {
				return err
			}
		}
		if err := p.repo.putObject(TypeCommit, c.sum, c.data, fsync); err != nil {
			return err
		}
	}
	p.commits++
	if p.opts.CommitsOnly {
		return nil
	}
	return p.repo.completed(c.sum)
}

// detached takes a commit's detached metadata, to which signatures may have been
// added since the commit came, if it is not the same.
func (p *localPull) detached(ctx context.Context, c Checksum, fsync bool) error {
	data, err := p.src.object(ctx, TypeCommitMeta, c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = DecodeMetadata(data)
	}
	if err == nil {
		if old, e := p.repo.object(ctx, TypeCommitMeta, c); e != nil || !bytes.Equal(old, data) {
			err = p.repo.putObject(TypeCommitMeta, c, data, fsync)
		}
	}
	if err != nil {
		return &Error{Op: "pull", Target: objectName(TypeCommitMeta, c), Err: err}
	}
	return nil
}

// putObject writes an object whose name is that of a commit.
func (r *Repo) putObject(kind ObjectType, c Checksum, data []byte, fsync bool) error {
	path := r.objectPath(kind, c)
	if err := mkdirat(r.objects, path[:2], 0o777); err != nil {
		return err
	}
	if err := r.replace("objects/"+path, data, fsync); err != nil {
		return err
	}
	if fsync {
		return fsyncDir(r.objects, path[:2])
	}
	return nil
}
