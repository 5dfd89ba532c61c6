package ostree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// pullTask is an object to look at: a commit, or a dirtree or dirmeta.
type pullTask struct {
	kind  ObjectType
	sum   Checksum
	fetch bool   // it is claimed, and has to be fetched
	depth int    // of directories
	path  string // of a directory above subpaths, with a slash behind; "" in a subpath
}

// pullQueue is what is still to be done. Metadata goes first, in its order, so
// that all workers find work soon; then content.
type pullQueue struct {
	mu      sync.Mutex
	wake    sync.Cond
	meta    []pullTask
	next    int // in meta
	files   []Checksum
	busy    int  // workers that may still find more
	stopped bool // by an error
	seen    map[Checksum]struct{}
	large   chan struct{}
}

// maxPullObjects is how many objects one pull may be led to: those of any real
// tree, but not of one made to fill the memory.
const maxPullObjects = 64 << 20

func newPullQueue() *pullQueue {
	q := &pullQueue{seen: make(map[Checksum]struct{}), large: make(chan struct{}, 1)}
	q.wake.L = &q.mu
	return q
}

func (q *pullQueue) push(tasks []pullTask, files []Checksum) {
	q.mu.Lock()
	q.meta = append(q.meta, tasks...)
	q.files = append(q.files, files...)
	q.mu.Unlock()
	q.wake.Broadcast()
}

// first reports whether a dirtree was not looked at yet.
func (q *pullQueue) first(c Checksum) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.seen[c]
	q.seen[c] = struct{}{}
	return !ok
}

// take gives the next task, or content object; neither: all is done, or stopped.
// The caller says with done when it has pushed what follows from it.
func (q *pullQueue) take() (task pullTask, file Checksum, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.stopped:
			return task, file, false
		case q.next < len(q.meta):
			task = q.meta[q.next]
			q.meta[q.next] = pullTask{}
			if q.next++; q.next > 1024 && q.next > len(q.meta)/2 {
				q.meta = slices.Clone(q.meta[q.next:])
				q.next = 0
			}
			q.busy++
			return task, file, true
		case len(q.files) > 0:
			file = q.files[len(q.files)-1]
			q.files = q.files[:len(q.files)-1]
			q.busy++
			return task, file, true
		case q.busy == 0:
			q.wake.Broadcast()
			return task, file, false
		}
		q.wake.Wait()
	}
}

func (q *pullQueue) done() {
	q.mu.Lock()
	q.busy--
	idle := q.busy == 0
	q.mu.Unlock()
	if idle {
		q.wake.Broadcast()
	}
}

func (q *pullQueue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.wake.Broadcast()
}

// work runs the workers until nothing is left to do.
func (p *httpPull) work(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(gctx, p.queue.stop)()
	for range p.workers {
		group.Go(func() error {
			w := newPullWorker(p)
			defer w.close()
			for {
				task, file, ok := p.queue.take()
				if !ok {
					return gctx.Err()
				}
				err := w.do(gctx, &task, &file)
				p.queue.done()
				if err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	return nil
}

// do does one task and names the object in its error.
func (w *pullWorker) do(ctx context.Context, task *pullTask, file *Checksum) error {
	kind, sum := task.kind, task.sum
	var err error
	switch kind {
	case TypeCommit:
		err = w.commit(ctx, sum)
	case TypeDirTree:
		err = w.tree(ctx, task)
	case TypeDirMeta:
		err = w.dirMeta(ctx, sum)
	default:
		kind, sum = TypeFile, *file
		err = w.content(ctx, sum)
		w.pull.progress()
	}
	if w.isLarge {
		w.isLarge, w.raw = false, bytes.Buffer{}
		<-w.pull.queue.large
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if inner, ok := errors.AsType[*Error](err); ok && inner.Op == "pull" {
		return err
	}
	return &Error{Op: "pull", Target: objectName(kind, sum), Err: err}
}

func (p *httpPull) progress() {
	done := p.stats.done.Add(1)
	if p.opts.Progress != nil && done%16 == 0 {
		p.opts.Progress(Event{Step: "pull", Phase: "objects", Done: done, Total: p.stats.known.Load()})
	}
}

// pullCommit is a commit that is pulled.
type pullCommit struct {
	depth   int      // how many ancestors are wanted
	names   []string // of the refs it is pulled by
	looked  bool     // Parent is known
	parent  Checksum
	whole   bool // it was complete before
	missing bool // an ancestor that the server does not have
	child   bool // only wanted as an ancestor
}

// want asks for a commit with so many ancestors, by the name of a ref, "" for
// none.
func (p *httpPull) want(c Checksum, depth int, name string) {
	if depth < 0 {
		depth = math.MaxInt
	}
	p.queue.mu.Lock()
	known, ok := p.commits[c]
	if !ok {
		known = &pullCommit{}
		p.commits[c] = known
	}
	if name != "" {
		known.names = append(known.names, name)
	}
	known.depth = max(known.depth, depth)
	p.queue.mu.Unlock()
	if !ok {
		p.queue.push([]pullTask{{kind: TypeCommit, sum: c}}, nil)
	}
}

// wantAncestors asks for the ancestors of a commit that was looked at, and of
// those that were looked at before with less depth.
func (p *httpPull) wantAncestors(c Checksum) {
	for {
		p.queue.mu.Lock()
		known := p.commits[c]
		parent, depth := known.parent, known.depth
		if !known.looked || parent.IsZero() || depth == 0 {
			p.queue.mu.Unlock()
			return
		}
		if depth != math.MaxInt {
			depth--
		}
		next, ok := p.commits[parent]
		if !ok {
			p.commits[parent] = &pullCommit{depth: depth, child: true}
		} else if next.depth < depth {
			next.depth = depth
		} else {
			p.queue.mu.Unlock()
			return
		}
		p.queue.mu.Unlock()
		if !ok {
			p.queue.push([]pullTask{{kind: TypeCommit, sum: parent}}, nil)
			return
		}
		c = parent
	}
}

// commit fetches, verifies and stores a commit and its detached metadata, and
// asks for what it needs.
func (w *pullWorker) commit(ctx context.Context, c Checksum) error {
	p := w.pull
	there, err := p.repo.Has(ctx, TypeCommit, c)
	if err != nil {
		return err
	}
	partial := true
	if there {
		if partial, err = p.repo.Partial(ctx, c); err != nil {
			return err
		}
	}
	p.queue.mu.Lock()
	deltas := partial && !p.commits[c].child && p.deltasUsed()
	p.queue.mu.Unlock()
	data, detached, offered, err := p.fetchCommit(ctx, c, there, deltas)
	if errors.Is(err, fs.ErrNotExist) {
		return p.noCommit(ctx, c, err)
	}
	if err != nil {
		return err
	}
	commit, err := DecodeCommit(data)
	if err != nil {
		return err
	}
	if err := p.verifyCommit(ctx, c, commit, data, detached, there); err != nil {
		return err
	}
	p.queue.mu.Lock()
	known := p.commits[c]
	known.whole, known.looked, known.parent = there && !partial, true, commit.Parent
	whole := known.whole
	p.queue.mu.Unlock()
	if err := p.storeCommit(ctx, c, data, detached, there); err != nil {
		return err
	}
	if !whole {
		p.stats.commits.Add(1)
	}
	p.wantAncestors(c)
	if whole || p.opts.CommitsOnly {
		return nil
	}
	if deltas {
		if err := p.applyDelta(ctx, c, offered); err != nil {
			return err
		}
	}
	root := pullTask{kind: TypeDirTree, sum: commit.RootTree}
	if at := slices.Index(p.subpaths, ""); at >= 0 {
		p.found[at].Store(true)
	} else if len(p.subpaths) > 0 {
		root.path = "/"
	}
	meta, err := w.claimMetadata(ctx, TypeDirMeta, commit.RootMeta)
	if err != nil {
		return err
	}
	tasks := append(meta, root)
	return p.pushAll(tasks, nil)
}

// noCommit says why a commit is not there; an ancestor may be missing.
func (p *httpPull) noCommit(ctx context.Context, c Checksum, cause error) error {
	p.queue.mu.Lock()
	known := p.commits[c]
	known.missing = known.child && len(known.names) == 0
	missing := known.missing
	p.queue.mu.Unlock()
	if missing {
		return nil
	}
	if p.tombstones {
		tombstone, err := p.server.optional(ctx, "objects/"+string(appendObjectPath(nil, &c, TypeTombstone.String())), MaxMetadataSize)
		if err != nil {
			return err
		}
		if tombstone != nil {
			return fmt.Errorf("deleted on purpose at the server: %w", cause)
		}
	}
	return cause
}

// fetchCommit gives a commit's bytes and its detached metadata's, nil for none,
// and if deltas which static deltas lead to it.
func (p *httpPull) fetchCommit(ctx context.Context, c Checksum, there, deltas bool) (data, detached []byte, offered map[DeltaName]Checksum, err error) {
	group, gctx := errgroup.WithContext(ctx)
	if deltas {
		group.Go(func() (err error) {
			offered, err = p.fetchIndex(gctx, c)
			return err
		})
	}
	group.Go(func() (err error) {
		detached, err = p.server.optional(gctx, "objects/"+string(appendObjectPath(nil, &c, TypeCommitMeta.String())), MaxMetadataSize)
		return err
	})
	group.Go(func() (err error) {
		if there {
			data, err = p.repo.object(gctx, TypeCommit, c)
			return err
		}
		data, err = p.server.document(gctx, "objects/"+string(appendObjectPath(nil, &c, TypeCommit.String())), MaxMetadataSize)
		if err == nil && sum(data) != c {
			err = corruptf("checksum is %s", sum(data))
		}
		return err
	})
	err = group.Wait()
	return data, detached, offered, err
}

// verifyCommit checks signatures, bindings and time of a commit.
func (p *httpPull) verifyCommit(ctx context.Context, c Checksum, commit *Commit, data, detached []byte, there bool) error {
	var items []MetadataItem
	var err error
	if detached != nil {
		if items, err = DecodeMetadata(detached); err != nil {
			return &Error{Op: "pull", Target: objectName(TypeCommitMeta, c), Err: err}
		}
	} else if there {
		if items, err = p.repo.detached(ctx, c); err != nil {
			return err
		}
	}
	if v := p.verifier; v.needGPG || v.needSign {
		if _, err := v.verify(ctx, data, items, p.opts.Now); err != nil {
			return err
		}
	}
	if commit.Timestamp.Before(p.notBefore) {
		return fmt.Errorf("of %s, older than %s, of %s: %w", commit.Timestamp, p.opts.NewerThan, p.notBefore, ErrOlder)
	}
	p.queue.mu.Lock()
	names := slices.Clone(p.commits[c].names)
	p.queue.mu.Unlock()
	if !p.opts.AnyBinding {
		if err := checkBindings(commit, names, p.config["collection-id"]); err != nil {
			return err
		}
	}
	if !p.opts.NewerThanRef {
		return nil
	}
	for _, name := range names {
		old, err := p.repo.resolve(ctx, p.refPrefix()+name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		before, err := p.repo.ReadCommit(ctx, old)
		if err != nil {
			return err
		}
		if commit.Timestamp.Before(before.Timestamp) {
			return fmt.Errorf("of %s, older than %s, which %s names, of %s: %w", commit.Timestamp, old, p.refPrefix()+name, before.Timestamp, ErrOlder)
		}
	}
	return nil
}

// checkBindings wants a commit to name the refs that it is pulled by, if it names
// any, and the remote's collection, if that has one.
func checkBindings(commit *Commit, names []string, collection string) error {
	v, ok := commit.Lookup("ostree.ref-binding")
	if !ok {
		if collection != "" {
			return errors.New("names no refs it is meant for, as those of a collection must")
		}
		return nil
	}
	bound, err := v.AsStrings()
	if err != nil {
		return corrupt(fmt.Errorf("ostree.ref-binding: %w", err))
	}
	for _, name := range names {
		if !slices.Contains(bound, name) {
			return fmt.Errorf("is meant for the refs %.300q, not for %q", bound, name)
		}
	}
	if collection == "" {
		return nil
	}
	v, _ = commit.Lookup("ostree.collection-binding")
	if id, err := v.AsString(); err != nil || id != collection {
		return fmt.Errorf("is not of the remote's collection %.255q", collection)
	}
	return nil
}

// storeCommit stores a commit that may lack objects, marked as such, and its
// detached metadata, unless they are there.
func (p *httpPull) storeCommit(ctx context.Context, c Checksum, data, detached []byte, there bool) error {
	if detached != nil {
		if old, err := p.repo.object(ctx, TypeCommitMeta, c); err == nil && string(old) == string(detached) {
			detached = nil
		}
	}
	if !there {
		if err := mkdirat(p.repo.dir, "state", 0o775); err != nil {
			return err
		}
		if err := p.repo.replace(partialPath(c), nil, p.txn.fsync); err != nil {
			return err
		}
	}
	if detached != nil {
		if err := p.repo.putObject(TypeCommitMeta, c, detached, p.txn.fsync); err != nil {
			return err
		}
	}
	if there {
		return nil
	}
	return p.repo.putObject(TypeCommit, c, data, p.txn.fsync)
}

// pushAll queues tasks and content objects that are claimed.
func (p *httpPull) pushAll(tasks []pullTask, files []Checksum) error {
	n := int64(len(files))
	for i := range tasks {
		if tasks[i].fetch {
			n++
		}
	}
	if p.stats.known.Add(n) > maxPullObjects {
		return corruptf("more than %d objects", maxPullObjects)
	}
	p.queue.push(tasks, files)
	return nil
}

// claimMetadata gives a task for a dirmeta that has to be fetched.
func (w *pullWorker) claimMetadata(ctx context.Context, kind ObjectType, c Checksum) ([]pullTask, error) {
	fetch, err := w.claim(ctx, kind, &c)
	if err != nil || !fetch {
		return nil, err
	}
	return []pullTask{{kind: kind, sum: c, fetch: true}}, nil
}

// dirMeta fetches a dirmeta.
func (w *pullWorker) dirMeta(ctx context.Context, c Checksum) error {
	data, err := w.fetchMetadata(ctx, TypeDirMeta, c)
	if err == nil {
		_, err = DecodeDirMeta(data)
	}
	if err != nil {
		return err
	}
	return w.stage(TypeDirMeta, c, data)
}

// tree looks at a dirtree, which is fetched if it is not there, and queues what
// is in it. Also those that are there are looked at: the commit they came with
// may be partial.
func (w *pullWorker) tree(ctx context.Context, task *pullTask) error {
	p := w.pull
	if task.depth > maxDepth {
		return corruptf("directories nest deeper than %d", maxDepth)
	}
	if task.path == "" && !p.queue.first(task.sum) {
		return nil
	}
	fetch, err := w.claim(ctx, TypeDirTree, &task.sum)
	if err != nil {
		return err
	}
	var data []byte
	if fetch {
		p.stats.known.Add(1)
		data, err = w.fetchMetadata(ctx, TypeDirTree, task.sum)
	} else if data, err = w.ownMetadata(ctx, TypeDirTree, task.sum); errors.Is(err, fs.ErrNotExist) {
		// Another worker has it, at another place above the subpaths.
		data, err = w.fetchMetadata(ctx, TypeDirTree, task.sum)
	}
	if err != nil {
		return err
	}
	d, err := DecodeDirTree(data)
	if err != nil {
		return err
	}
	if fetch {
		if err := w.stage(TypeDirTree, task.sum, data); err != nil {
			return err
		}
	}
	var tasks []pullTask
	var files []Checksum
	for i := range d.Files {
		f := &d.Files[i]
		if task.path != "" && p.match(task.path+f.Name, false) != subpathInside {
			continue
		}
		fetch, err := w.claim(ctx, TypeFile, &f.Object)
		if err != nil {
			return err
		}
		if fetch {
			files = append(files, f.Object)
		}
	}
	for i := range d.Dirs {
		f := &d.Dirs[i]
		next := pullTask{kind: TypeDirTree, sum: f.Tree, depth: task.depth + 1}
		if task.path != "" {
			switch p.match(task.path+f.Name, true) {
			case subpathOutside:
				continue
			case subpathAbove:
				next.path = task.path + f.Name + "/"
			}
		}
		meta, err := w.claimMetadata(ctx, TypeDirMeta, f.Meta)
		if err != nil {
			return err
		}
		tasks = append(append(tasks, meta...), next)
	}
	return p.pushAll(tasks, files)
}

// How a path in the tree relates to the subpaths that are pulled.
const (
	subpathOutside = iota
	subpathAbove   // a directory on the way to one
	subpathInside
)

// match says how an absolute path relates to the subpaths.
func (p *httpPull) match(name string, isDir bool) int {
	name = name[1:]
	result := subpathOutside
	for i, sub := range p.subpaths {
		switch {
		case sub == name:
			p.found[i].Store(true)
			return subpathInside
		case isDir && strings.HasPrefix(sub, name+"/"):
			result = subpathAbove
		}
	}
	return result
}

// fetchMetadata fetches a metadata object.
func (w *pullWorker) fetchMetadata(ctx context.Context, kind ObjectType, c Checksum) ([]byte, error) {
	name := "objects/" + string(appendObjectPath(nil, &c, kind.String()))
	b, err := w.pull.server.open(ctx, w.pull.server.meta, name, w.kept)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	w.raw.Reset()
	n, err := w.raw.ReadFrom(io.LimitReader(b, largeMetadata+1))
	if err == nil && n > largeMetadata {
		// Only one at a time grows beyond this.
		select {
		case w.pull.queue.large <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		w.isLarge = true // until the task is done
		if _, err = w.raw.ReadFrom(io.LimitReader(b, MaxMetadataSize+1-n)); err == nil && w.raw.Len() > MaxMetadataSize {
			return nil, corruptf("more than %d bytes", MaxMetadataSize)
		}
	}
	if err != nil {
		return nil, err
	}
	data := w.raw.Bytes()
	if got := sum(data); got != c {
		return nil, corruptf("checksum is %s", got)
	}
	w.pull.stats.metadata.Add(1)
	w.pull.progress()
	return data, nil
}
