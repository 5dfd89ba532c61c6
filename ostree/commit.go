package ostree

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/unix"
)

// Owner is a user and group number.
type Owner struct{ UID, GID uint32 }

// CommitOptions configures [Repo.Commit]. Nil is the zero value.
type CommitOptions struct {
	// Ref is set to the new commit: [remote:]name. "": no ref.
	Ref string
	// Parent is the commit before this one. Zero: none. `ostree commit` takes
	// the ref's commit, which is r.Resolve(ctx, Ref).
	Parent Checksum
	// Subject is one line, Body any text; both may be empty.
	Subject, Body string
	// Timestamp is the commit's time, to the second. Zero: 1970-01-01 UTC.
	Timestamp time.Time
	// Metadata is part of the commit object, in this order. `ostree commit`
	// adds [RefBinding] at the end; this does not.
	Metadata []MetadataItem
	// Detached replaces the commit's detached metadata. Nil: what may be there
	// stays.
	Detached []MetadataItem
	// SkipUnchanged writes nothing and gives Parent if the tree is Parent's.
	SkipUnchanged bool

	// Owner replaces the owner of everything. Nil: as the source says.
	Owner *Owner
	// CanonicalPermissions makes everything owned by root, takes all bits but
	// 0755 off the modes of files and directories and all extended attributes
	// away. In a repository of [ModeBareUserOnly] it is always so.
	CanonicalPermissions bool
	// SkipXattrs takes all extended attributes away.
	SkipXattrs bool
	// Edit changes entries, one after the other in the tree's order, after the
	// above; false leaves an entry and what is below it out. It may not change
	// Path. Of an entry whose Link is set, only being left out counts. Nil:
	// nothing is changed.
	Edit func(*Entry) (keep bool, err error)
	// SELinux is the policy that labels everything, after the above: the attribute
	// security.selinux of each entry is the policy's label, or stays where the
	// policy has none. A hard link has the label of the path that it links to.
	// Nil: labels stay as they are.
	SELinux *Policy

	// Cache skips reading files that were committed before and did not change.
	// Nil: everything is read.
	Cache *DevInoCache
	// Linked takes files and symbolic links of a [Dir], alone or in an [Overlay],
	// that are hard links to content objects of the repository for those objects,
	// without reading them: with the object's owner, mode and attributes, which
	// the options above then change. It is for a checkout by hard links with
	// changes; a file in it that was written to in place has damaged the object,
	// which goes unnoticed. A map of the repository's inodes takes about 80 bytes
	// an object.
	Linked bool
	// Consume lets files of a [Dir] become objects as they are, by a hard link, where
	// the repository can keep them so ([ModeBare], if owner, mode and attributes
	// are not changed; [ModeBareUserOnly]) and they have no other name. They are read,
	// but not written. It is for folders that are removed after the commit: a later
	// change of such a file would damage the object, and its mode and time are the
	// object's, also if the commit fails. Nothing is removed.
	Consume bool
	// Workers is how many goroutines read, hash and write, at most 64. 0: as
	// many as may run at once (GOMAXPROCS). It has no effect on the result.
	Workers int
	// NoFsync leaves out what makes the commit durable against a crash of the
	// machine, as core.fsync=false does. A killed process is no danger either way.
	NoFsync bool
	// Progress gets Phase "files" with the files done so far.
	Progress func(Event)
	// Stats is filled in, also after an error.
	Stats *CommitStats
}

// CommitStats says what a commit did.
type CommitStats struct {
	Files, Dirs     int64 // entries that were looked at: none of a commit of this repository, taken as it is
	Bytes           int64 // of content of these files, but for Linked ones
	ContentWritten  int64 // content objects that were new
	MetadataWritten int64 // metadata objects that were new
	BytesRead       int64 // of content
	BytesWritten    int64 // of content objects, as stored
	CacheHits       int64 // files that Cache knew, or that are Linked
}

// smallFile is up to which size a file is held in memory, so that an object
// that is there already costs no write.
const smallFile = 1 << 20

// Limits of one batch of files that goes to a worker.
const (
	batchFiles = 16
	batchBytes = 1 << 20
)

const maxWorkers = 64

// Commit stores the tree src and a commit object of it, and gives the commit's
// checksum. The same tree and options always give the same checksum, the one
// that `ostree commit` gives. Objects that are there are not written again; a
// second commit of the same tree writes nothing but, perhaps, its commit object.
// Of files on disk (see [Entry].Identity), attributes without a value are left
// out, as libostree does.
//
// The last entry of a path counts, and objects of replaced entries are not kept.
// Device nodes, pipes and sockets are refused, as are names that libostree
// refuses: those that are not UTF-8, "", ".", ".." or contain a slash or NUL; and
// directories more than 2048 deep, which nothing here would read again. A
// full disk is one error that wraps [syscall.ENOSPC]; nothing of the commit is
// left behind then. The content of entries with an Object that is in the
// repository is not read; Edit, Owner and the like take account of that.
//
// Memory is about 100 bytes and the name for each file, 150 and the name for each
// directory, and 4 MiB for each worker; the garbage collector takes as much again.
func (r *Repo) Commit(ctx context.Context, src Tree, opts *CommitOptions) (Checksum, error) {
	if opts == nil {
		opts = &CommitOptions{}
	}
	target := opts.Ref
	if target == "" {
		target = r.path
	}
	c, err := r.commit(ctx, src, opts)
	if err != nil {
		var inner *Error
		if errors.As(err, &inner) && inner.Op == "commit" {
			return Checksum{}, err
		}
		return Checksum{}, &Error{Op: "commit", Target: target, Err: err}
	}
	return c, nil
}

func (r *Repo) commit(ctx context.Context, src Tree, opts *CommitOptions) (_ Checksum, err error) {
	var refFile string
	if opts.Ref != "" {
		if refFile, err = refPath(opts.Ref); err != nil {
			return Checksum{}, err
		}
	}
	workers := opts.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	if workers < 0 || workers > maxWorkers {
		return Checksum{}, fmt.Errorf("%d workers, want 0 to %d", workers, maxWorkers)
	}
	if err := opts.checkLabels(r); err != nil {
		return Checksum{}, err
	}
	if err := r.writable(); err != nil {
		return Checksum{}, err
	}
	// The last shelf is the walk's own.
	t, err := r.begin(ctx, workers+1, opts.NoFsync)
	if err != nil {
		return Checksum{}, err
	}
	defer func() {
		if e := t.end(); err == nil {
			err = e
		}
	}()
	b := &builder{repo: r, txn: t, opts: opts, shelf: t.shelves[workers], metas: make(map[string]*metaNode), plain: make(map[plainMeta]*metaNode), gone: make(map[string]uint32), left: make(map[string]struct{})}
	if opts.Stats != nil {
		defer func() { *opts.Stats = b.stats.get() }()
	}
	if opts.Cache != nil {
		b.cache = opts.Cache.use(t.started, opts.variant(r))
		b.cache.whole = r.holds(ctx, opts.Cache.tree)
		t.present.many = !b.cache.whole && opts.Cache.files() >= 256*listAfter
	}
	commit := &Commit{Metadata: opts.Metadata, Parent: opts.Parent, Subject: opts.Subject, Body: opts.Body, Timestamp: opts.Timestamp}
	if known, err := r.wholeTree(ctx, src, opts); err != nil {
		return Checksum{}, err
	} else if known != nil {
		commit.RootTree, commit.RootMeta = known.RootTree, known.RootMeta
	} else if m, ok := src.(*MutableTree); ok && m.repo == r && r.parent == nil && opts.keepsTree(r) {
		if commit.RootTree, commit.RootMeta, err = b.writeMutable(ctx, m); err != nil {
			return Checksum{}, err
		}
	} else {
		if err := b.collect(ctx, src, workers); err != nil {
			return Checksum{}, err
		}
		if b.root == nil {
			return Checksum{}, errors.New("the tree has no root directory")
		}
		if err := b.writeDirs(ctx); err != nil {
			return Checksum{}, err
		}
		commit.RootTree, commit.RootMeta = b.root.tree, b.root.meta.sum
		b.forget() // what follows needs room of its own
		if b.cache != nil {
			// Before the objects are in their place: whoever trusts this looks for the tree.
			b.cache.learn(commit.RootTree, !b.dropped)
		}
	}
	if opts.SkipUnchanged && !opts.Parent.IsZero() {
		parent, err := r.ReadCommit(ctx, opts.Parent)
		if err != nil || parent.RootTree == commit.RootTree && parent.RootMeta == commit.RootMeta {
			return opts.Parent, err
		}
	}
	data, err := commit.Marshal()
	if err != nil {
		return Checksum{}, err
	}
	c := sum(data)
	var last []ObjectType
	if last, err = b.stageDetached(ctx, c, last); err != nil {
		return c, err
	}
	if there, err := r.hasPath(TypeCommit, r.objectPath(TypeCommit, c)); err != nil {
		return c, err
	} else if !there {
		if err := b.shelf.last(TypeCommit, data); err != nil {
			return c, err
		}
		b.stats.metadata(true)
		last = append(last, TypeCommit)
	}
	if err := t.publish(ctx, b.wanted, &c, last); err != nil {
		return c, err
	}
	if err := r.completed(c); err != nil {
		return c, err
	}
	if refFile != "" {
		if err := r.writeRef(refFile, c, t.fsync); err != nil {
			return c, err
		}
	}
	stats := b.stats.get()
	r.log.LogAttrs(ctx, slog.LevelInfo, "committed", slog.String("ref", opts.Ref), slog.String("commit", c.String()), slog.Int64("files", stats.Files),
		slog.Int64("content_written", stats.ContentWritten), slog.Int64("metadata_written", stats.MetadataWritten))
	return c, nil
}

// completed takes back what an interrupted pull, a check or a prune said about a
// commit that is whole now.
func (r *Repo) completed(c Checksum) error {
	for _, stale := range []struct {
		dir  int
		path string
	}{{r.dir, partialPath(c)}, {r.objects, r.objectPath(TypeTombstone, c)}} {
		if err := unix.Unlinkat(stale.dir, stale.path, 0); err != nil && err != unix.ENOENT {
			return pathError("unlink", stale.path, err)
		}
	}
	return nil
}

// wholeTree gives the commit whose tree src is, if nothing in it is changed and
// all of it is in this repository: its objects are then those of the new commit.
// Nil: src has to be walked.
func (r *Repo) wholeTree(ctx context.Context, src Tree, opts *CommitOptions) (*Commit, error) {
	t, ok := src.(*commitTree)
	if !ok || t.repo != r || !opts.keepsTree(r) {
		return nil, nil
	}
	if partial, err := r.Partial(ctx, t.commit); err != nil || partial {
		return nil, err
	}
	if r.parent != nil {
		if own, err := r.hasPath(TypeCommit, r.objectPath(TypeCommit, t.commit)); err != nil || !own {
			return nil, err
		}
	}
	return r.ReadCommit(ctx, t.commit)
}

// maxHolders is how many refs are followed in search of a tree.
const maxHolders = 64

// holds reports whether one of the first refs leads to a commit of the tree, so that all
// of its objects are there: what a ref leads to is not pruned. Refs that can't be
// followed are none.
func (r *Repo) holds(ctx context.Context, tree Checksum) bool {
	if tree.IsZero() || r.parent != nil {
		return false
	}
	n := 0
	for ref, err := range r.Refs(ctx) {
		if err != nil || n == maxHolders {
			return false
		}
		n++
		if commit, err := r.ReadCommit(ctx, ref.Commit); err != nil || commit.RootTree != tree {
			continue
		}
		if partial, err := r.Partial(ctx, ref.Commit); err == nil && !partial {
			return true
		}
	}
	return false
}

// hasContent reports whether objects/ is not empty.
func (r *Repo) hasContent() (bool, error) {
	entries, err := readNames(r.objects, ".")
	return len(entries) > 0, err
}

// stageDetached stages detached metadata that differs from what is there, and
// adds it to last.
func (b *builder) stageDetached(ctx context.Context, c Checksum, last []ObjectType) ([]ObjectType, error) {
	if b.opts.Detached == nil {
		return last, nil
	}
	data, err := MarshalMetadata(b.opts.Detached)
	if err != nil {
		return last, err
	}
	if old, err := b.repo.object(ctx, TypeCommitMeta, c); err == nil && string(old) == string(data) {
		return last, nil
	}
	b.stats.metadata(true)
	return append(last, TypeCommitMeta), b.shelf.last(TypeCommitMeta, data)
}

// counters are CommitStats while workers add to them.
type counters struct {
	files, dirs, bytes, content, meta, read, written, hits atomic.Int64
}

func (c *counters) metadata(fresh bool) {
	if fresh {
		c.meta.Add(1)
	}
}

func (c *counters) get() CommitStats {
	return CommitStats{Files: c.files.Load(), Dirs: c.dirs.Load(), Bytes: c.bytes.Load(), ContentWritten: c.content.Load(), MetadataWritten: c.meta.Load(),
		BytesRead: c.read.Load(), BytesWritten: c.written.Load(), CacheHits: c.hits.Load()}
}

// builder holds the tree that a commit is made of.
type builder struct {
	repo  *Repo
	txn   *txn
	opts  *CommitOptions
	shelf *shelf // of the walk, and later of the metadata
	stats counters
	done  atomic.Int64

	cache   *cacheUse   // nil: none
	noClone atomic.Bool // the file systems of source and repository share no blocks
	noLinks atomic.Bool // nor files

	root  *dirNode
	gone  map[string]uint32 // files left out by Edit, which hard links may name
	files nodes[fileNode]
	subs  nodes[dirNode]       // all directories but the root
	metas map[string]*metaNode // by what they are, serialized
	plain map[plainMeta]*metaNode
	names names
	spare spare
	left  map[string]struct{} // directories left out by Edit
	chain []pathNode          // directories looked up, each below the one before

	encoder dirTreeEncoder
	dropped bool                  // there may be content objects that are not in the tree
	used    map[Checksum]struct{} // those that are, if so
	buf     []byte
}

type dirNode struct {
	meta  *metaNode
	files nodeSet
	dirs  nodeSet
	walk  *walkedDir // nil, or the folder that has more files
	same  bool       // tree is that of the latest time
	tree  Checksum   // of the dirtree, once it is staged
}

// metaNode is a dirmeta. A tree has few that differ.
type metaNode struct {
	data   []byte // serialized
	staged sync.Once
	sum    Checksum // once it is staged
	err    error    // of that
}

// plainMeta is a dirmeta without attributes.
type plainMeta struct{ uid, gid, mode uint32 }

// fileNode is a file in the tree. A worker fills in the checksum.
type fileNode struct{ sum Checksum }

// job is a file for a worker.
type job struct {
	node  *fileNode
	entry Entry
	data  []byte   // content that had to be read at once, if it is small
	spool *rawFile // and if it is large
	sum   Checksum // of spool
}

type batch struct {
	jobs  []job
	bytes int64
}

// collect walks src and has the workers store the files' content.
func (b *builder) collect(ctx context.Context, src Tree, workers int) error {
	without := prune{cache: b.cache}
	if b.cache != nil && b.cache.variant == rearranged && !b.opts.Linked {
		without.asIs = func(string) bool { return true }
	}
	if b.opts.Linked {
		inodes, err := b.txn.inodes(ctx)
		if err != nil {
			return err
		}
		without.object = inodes.find
	}
	group, gctx := errgroup.WithContext(ctx)
	queue := make(chan *batch, workers)
	b.spare.expect(workers)
	for i := range workers {
		group.Go(func() error {
			w := newWriter(b, b.txn.shelves[i])
			for batch := range queue {
				for j := range batch.jobs {
					if err := gctx.Err(); err != nil {
						batch.close(j)
						return err
					}
					if err := w.job(gctx, &batch.jobs[j]); err != nil {
						batch.close(j + 1)
						return &Error{Op: "commit", Target: batch.jobs[j].entry.Path, Err: err}
					}
				}
				b.progress(int64(len(batch.jobs)))
				batches.Put(batch.reset())
			}
			return b.spare.help(gctx, w)
		})
	}
	group.Go(func() error {
		defer close(queue)
		w := newWriter(b, b.shelf)
		pending := batches.Get().(*batch)
		send := func() error {
			select {
			case queue <- pending:
				pending = batches.Get().(*batch)
				return nil
			case <-gctx.Done():
				pending.close(0)
				return gctx.Err()
			}
		}
		for e, err := range entriesWithout(gctx, src, without) {
			if err != nil {
				pending.close(0)
				return err
			}
			if e.walked != nil {
				if err := b.keep(&e); err != nil {
					pending.close(0)
					return err
				}
				continue
			}
			j, size, err := b.entry(gctx, w, e)
			if err != nil {
				pending.close(0)
				return &Error{Op: "commit", Target: fmt.Sprintf("%.1024s", e.Path), Err: err}
			}
			if j.node == nil {
				continue
			}
			pending.jobs, pending.bytes = append(pending.jobs, j), pending.bytes+size
			if len(pending.jobs) >= batchFiles || pending.bytes >= batchBytes {
				if err := send(); err != nil {
					return err
				}
			}
		}
		return send()
	})
	err := group.Wait()
	for left := range queue {
		left.close(0)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

var batches = sync.Pool{New: func() any { return &batch{jobs: make([]job, 0, batchFiles)} }}

func (b *batch) reset() *batch {
	clear(b.jobs)
	b.jobs, b.bytes = b.jobs[:0], 0
	return b
}

// close releases the jobs from number first on.
func (b *batch) close(first int) {
	for i := first; i < len(b.jobs); i++ {
		if b.jobs[i].spool != nil {
			b.jobs[i].spool.Close()
		}
	}
}

func (b *builder) progress(files int64) {
	done := b.done.Add(files)
	if b.opts.Progress != nil {
		b.opts.Progress(Event{Step: "commit", Phase: "files", Done: done})
	}
}

// errNoParent is the fault of a tree that yields children before parents.
var errNoParent = errors.New("its directory is not in the tree")

// entry puts an entry in the tree. A job with a node is work to do.
func (b *builder) entry(ctx context.Context, w *contentWriter, e Entry) (job, int64, error) {
	dir, name := b.lookup(e.Path)
	if e.Path != "." {
		if err := checkName(name); err != nil {
			return job{}, 0, err
		}
		if dir == nil {
			return b.orphan(ctx, w, e)
		}
	}
	if e.linked {
		b.stats.hits.Add(1)
		if b.opts.keepsTree(b.repo) {
			number, node := b.files.add()
			node.sum = e.Object
			return job{}, 0, b.place(dir, name, number)
		}
		if err := b.readLinked(ctx, &e); err != nil {
			return job{}, 0, err
		}
	}
	if e.Link == "" {
		b.override(&e)
	}
	keep := true
	if b.opts.Edit != nil {
		var err error
		if e, keep, err = b.edit(e); err != nil {
			return job{}, 0, err
		}
	}
	if e.Link != "" {
		return job{}, 0, b.link(&e, dir, name, keep)
	}
	if err := b.label(&e); err != nil {
		return job{}, 0, err
	}
	switch e.Mode & ModeType {
	case ModeDir:
		if !keep {
			if e.Path == "." {
				return job{}, 0, errors.New("edit left the root directory out")
			}
			b.left[e.Path] = struct{}{}
			b.remove(dir, name)
			return job{}, 0, nil
		}
		delete(b.left, e.Path)
		return job{}, 0, b.directory(&e, dir, name)
	case ModeRegular, ModeSymlink:
		if e.Path == "." {
			return job{}, 0, errors.New("the root is not a directory")
		}
		return b.file(ctx, w, e, dir, name, keep)
	case unix.S_IFCHR, unix.S_IFBLK:
		return job{}, 0, errors.New("is a device node, which OSTree can't store")
	case unix.S_IFIFO:
		return job{}, 0, errors.New("is a pipe, which OSTree can't store")
	case unix.S_IFSOCK:
		return job{}, 0, errors.New("is a socket, which OSTree can't store")
	default:
		return job{}, 0, fmt.Errorf("mode %#o has no known type", e.Mode)
	}
}

// edit has the caller edit an entry.
func (b *builder) edit(e Entry) (Entry, bool, error) {
	before := e
	keep, err := b.opts.Edit(&e)
	if err != nil {
		return e, false, err
	}
	if e.Path != before.Path {
		return e, false, fmt.Errorf("edit changed the path to %.80q", e.Path)
	}
	if e.Link != "" {
		return before, keep, nil
	}
	if e.UID != before.UID || e.GID != before.GID || e.Mode != before.Mode || e.Target != before.Target || !equalXattrs(e.Xattrs, before.Xattrs) || e.Size != before.Size {
		e.Object = Checksum{}
	}
	return e, keep, nil
}

// orphan handles an entry whose directory is not in the tree: that is a fault of
// the source, unless Edit left the directory out.
func (b *builder) orphan(ctx context.Context, w *contentWriter, e Entry) (job, int64, error) {
	for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
		if _, ok := b.left[dir]; !ok {
			continue
		}
		if t := e.Mode & ModeType; e.Link == "" && (t == ModeRegular || t == ModeSymlink) {
			b.override(&e)
			if err := b.label(&e); err != nil {
				return job{}, 0, err
			}
			return b.file(ctx, w, e, nil, "", false)
		}
		return job{}, 0, nil
	}
	return job{}, 0, errNoParent
}

// keepsTree reports whether nothing changes the source's entries.
func (o *CommitOptions) keepsTree(r *Repo) bool {
	return o.Owner == nil && !o.canonical(r) && !o.SkipXattrs && o.Edit == nil && o.SELinux == nil
}

// variant tells a cache in which way entries are changed.
func (o *CommitOptions) variant(r *Repo) uint32 {
	if o.keepsTree(r) && !r.settings.noXattrs {
		return rearranged
	}
	var owner Owner
	if o.Owner != nil {
		owner = *o.Owner
	}
	how := fmt.Sprint(o.Owner != nil, owner, o.canonical(r), o.SkipXattrs || r.settings.noXattrs, o.Edit != nil, o.SELinux != nil)
	return crc32.ChecksumIEEE([]byte(how)) | 2
}

// canonical reports whether owners, modes and attributes are made canonical.
func (o *CommitOptions) canonical(r *Repo) bool {
	return o.CanonicalPermissions || r.settings.mode == ModeBareUserOnly
}

// override applies the options that change every entry.
func (b *builder) override(e *Entry) {
	before := *e
	o := b.opts
	if o.Owner != nil {
		e.UID, e.GID = o.Owner.UID, o.Owner.GID
	}
	canonical := o.canonical(b.repo)
	if canonical {
		e.UID, e.GID = 0, 0
		if t := e.Mode & ModeType; t == ModeRegular || t == ModeDir {
			e.Mode &= ModeType | 0o755
		}
	}
	switch {
	case canonical || o.SkipXattrs || b.repo.settings.noXattrs:
		e.Xattrs = nil
	case e.Identity != (FileID{}) && slices.ContainsFunc(e.Xattrs, withoutValue):
		e.Xattrs = slices.DeleteFunc(slices.Clone(e.Xattrs), withoutValue)
	}
	if e.UID != before.UID || e.GID != before.GID || e.Mode != before.Mode || len(e.Xattrs) != len(before.Xattrs) {
		e.Object = Checksum{}
	}
}

// withoutValue is true for attributes that libostree does not see on disk.
func withoutValue(x Xattr) bool { return len(x.Value) == 0 }

func equalXattrs(a, b []Xattr) bool {
	return slices.EqualFunc(a, b, func(x, y Xattr) bool { return x.Name == y.Name && string(x.Value) == string(y.Value) })
}

// pathNode is a directory by its path.
type pathNode struct {
	path string
	dir  *dirNode
}

// lookup gives the directory that p is in, or nil, and p's last component.
func (b *builder) lookup(p string) (*dirNode, string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return b.dir(p[:i]), p[i+1:]
	}
	return b.dir("."), p
}

// dir gives the directory that p names, or nil. Sources give what is in a directory
// soon after it.
func (b *builder) dir(p string) *dirNode {
	for i := len(b.chain); i > 0; i-- {
		at := b.chain[i-1]
		if at.path == p {
			return at.dir
		}
		if below(p, at.path) {
			break
		}
		b.chain = b.chain[:i-1]
	}
	d := b.find(p)
	if d != nil {
		b.chain = append(b.chain, pathNode{p, d})
	}
	return d
}

// find gives the directory that p names, or nil.
func (b *builder) find(p string) *dirNode {
	d := b.root
	if p == "." {
		return d
	}
	for name := range strings.SplitSeq(p, "/") {
		if d == nil {
			return nil
		}
		d = b.subs.at(d.dirs.get(&b.names, name))
	}
	return d
}

// remove takes what name is in dir out of the tree.
func (b *builder) remove(dir *dirNode, name string) {
	if dir == nil {
		return
	}
	b.dropped = true
	dir.files.remove(&b.names, name)
	dir.dirs.remove(&b.names, name)
	b.chain = nil // its directories may have been below
}

func (b *builder) directory(e *Entry, dir *dirNode, name string) error {
	old := b.root
	if e.Path != "." {
		old = b.subs.at(dir.dirs.get(&b.names, name))
	}
	if old != nil && e.Implied {
		return nil
	}
	if strings.Count(e.Path, "/") >= maxDepth {
		return errTooDeep // nobody could read it
	}
	meta, err := b.dirMeta(e)
	if err != nil {
		return err
	}
	b.stats.dirs.Add(1)
	if old != nil {
		old.meta = meta
		return nil
	}
	if e.Path == "." {
		b.root = &dirNode{meta: meta}
		return nil
	}
	b.dropped = dir.files.remove(&b.names, name) || b.dropped
	number, d := b.subs.add()
	d.meta = meta
	b.chain = append(b.chain, pathNode{e.Path, d})
	_, err = dir.dirs.set(&b.names, name, number)
	return err
}

// dirMeta gives the dirmeta of a directory.
func (b *builder) dirMeta(e *Entry) (*metaNode, error) {
	plain := plainMeta{e.UID, e.GID, e.Mode}
	if len(e.Xattrs) == 0 && b.plain[plain] != nil {
		return b.plain[plain], nil
	}
	data, err := (&DirMeta{UID: e.UID, GID: e.GID, Mode: e.Mode, Xattrs: e.Xattrs}).Marshal()
	if err != nil {
		return nil, err
	}
	meta := b.metas[string(data)]
	if meta == nil {
		meta = &metaNode{data: data}
		b.metas[string(data)] = meta
	}
	if len(e.Xattrs) == 0 {
		b.plain[plain] = meta
	}
	return meta, nil
}

// place gives name in dir a new file.
func (b *builder) place(dir *dirNode, name string, node uint32) error {
	if dir.dirs.get(&b.names, name) != 0 {
		b.remove(dir, name)
	}
	replaced, err := dir.files.set(&b.names, name, node)
	b.dropped = replaced || b.dropped
	b.stats.files.Add(1)
	return err
}

// keep puts the files of a folder that did not change in the tree.
func (b *builder) keep(e *Entry) error {
	dir := b.dir(e.Path)
	if dir == nil {
		return &Error{Op: "commit", Target: e.Path, Err: errNoParent}
	}
	dir.walk = e.walked.dir
	b.stats.files.Add(e.walked.files)
	b.stats.hits.Add(e.walked.files)
	b.stats.bytes.Add(e.walked.bytes)
	if e.walked.files > 0 {
		b.progress(e.walked.files)
	}
	return nil
}

// link puts a hard link in the tree.
func (b *builder) link(e *Entry, dir *dirNode, name string, keep bool) error {
	var node uint32
	if d, linked := b.lookup(e.Link); d != nil {
		node = d.files.get(&b.names, linked)
	}
	if node == 0 {
		node = b.gone[e.Link]
	}
	if node == 0 {
		return fmt.Errorf("hard link to %.1024q, which is no file in the tree", e.Link)
	}
	if !keep {
		b.remove(dir, name)
		b.gone[e.Path] = node
		return nil
	}
	return b.place(dir, name, node)
}

// forget lets go of the tree.
func (b *builder) forget() {
	b.root, b.gone, b.chain, b.names = nil, nil, nil, names{}
	b.files, b.subs = nodes[fileNode]{}, nodes[dirNode]{}
}

// file puts a regular file or symbolic link in the tree.
func (b *builder) file(ctx context.Context, w *contentWriter, e Entry, dir *dirNode, name string, keep bool) (job, int64, error) {
	number, node := b.files.add()
	if !keep {
		b.remove(dir, name)
		if e.Detached {
			return job{}, 0, nil
		}
		b.dropped = true
		// A later hard link may need what can't be read again then. If none
		// does, the object is not kept.
		b.gone[e.Path] = number
	} else {
		if err := b.place(dir, name, number); err != nil {
			return job{}, 0, err
		}
		if e.Mode&ModeType == ModeRegular {
			b.stats.bytes.Add(e.Size)
		}
	}
	j := job{node: node, entry: e}
	if e.Mode&ModeType != ModeRegular || e.Detached || e.Size == 0 && e.Open == nil {
		return j, e.Size, nil
	}
	if e.Open == nil || e.Size < 0 {
		return job{}, 0, fmt.Errorf("regular file of %d bytes without content", e.Size)
	}
	if e.Size <= smallFile {
		// The walk's stream can't wait for a worker.
		body, err := e.Open(ctx)
		if err != nil {
			return job{}, 0, err
		}
		defer body.Close()
		j.data = make([]byte, e.Size+1)
		if j.data, err = readExactly(body, j.data, e.Size); err != nil {
			return job{}, 0, err
		}
		return j, e.Size, nil
	}
	spool, sum, err := w.stream(ctx, &j)
	j.spool, j.sum = spool, sum
	if err != nil || spool == nil {
		return job{}, 0, err
	}
	return j, e.Size, nil
}

// readExactly reads size bytes into buf, which has room for one more, and
// checks that there are no more.
func readExactly(r io.Reader, buf []byte, size int64) ([]byte, error) {
	n, err := io.ReadFull(r, buf[:size+1])
	switch {
	case err == nil:
		return nil, fmt.Errorf("content goes on behind its length of %d bytes", size)
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return nil, err
	case int64(n) < size:
		return nil, fmt.Errorf("content has %d bytes, want %d", n, size)
	}
	return buf[:n], nil
}

func (b *builder) stage(kind ObjectType, data []byte) (Checksum, error) {
	c, fresh, err := b.shelf.metadata(kind, data)
	b.stats.metadata(fresh)
	return c, err
}

// wanted reports whether a staged object belongs to the commit: entries that
// were replaced later left objects that don't.
func (b *builder) wanted(kind ObjectType, c *Checksum) bool {
	if kind != TypeFile || !b.dropped {
		return true
	}
	_, ok := b.used[*c]
	return ok
}
