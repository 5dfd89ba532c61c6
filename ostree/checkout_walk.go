package ostree

import (
	"context"
	"errors"
	"path"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/unix"
)

// A checkout is many small tasks: one a directory, which makes those in it and
// its files, and further ones for the files of a large directory. Workers take
// the newest first, so that few directories are open at a time, and mostly each
// a directory for itself: the kernel lets only one add names to a directory.
//
// No file is seen by its name before it is whole. A rename each would be a tenth
// of a checkout; so in a folder that was empty, the directories at the top have
// other names until all below is there, or the checkout has failed.

// checkoutDir is a directory of the checkout.
type checkoutDir struct {
	parent     *checkoutDir
	name, path string
	as         string // the name that it is made by; others see it by name when all in it is there
	hidden     bool   // it, or one above it, has another name still
	tree, meta Checksum
	made       bool // by this checkout
	depth      int
	fd         int          // once its task has begun
	left       atomic.Int64 // tasks of it and of directories in it that are not done
}

// checkoutTask is a directory, or some files of one.
type checkoutTask struct {
	dir   *checkoutDir
	files []DirTreeFile // nil: all of it
}

// checkoutFiles is how many files are a task: those that are linked are little
// work.
const checkoutFiles, checkoutLinks = 64, 1024

// maxMetas bounds what is kept of dirmeta objects.
const maxMetas = 4096

// checkoutQueue hands out tasks, the newest first.
type checkoutQueue struct {
	mu      sync.Mutex
	changed sync.Cond
	tasks   []checkoutTask
	running int  // tasks that may add others
	stopped bool // nothing is handed out any more
	open    map[*checkoutDir]struct{}
}

// add adds tasks of a directory, which are taken in this order.
func (q *checkoutQueue) add(tasks []checkoutTask) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range tasks {
		q.tasks = append(q.tasks, tasks[len(tasks)-1-i])
	}
	for range tasks {
		q.changed.Signal()
	}
}

// take waits for a task; false: there is no more. done has to be called after it.
func (q *checkoutQueue) take() (checkoutTask, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.stopped && len(q.tasks) == 0 && q.running > 0 {
		q.changed.Wait()
	}
	if q.stopped || len(q.tasks) == 0 {
		return checkoutTask{}, false
	}
	last := len(q.tasks) - 1
	task := q.tasks[last]
	q.tasks[last] = checkoutTask{}
	q.tasks = q.tasks[:last]
	q.running++
	return task, true
}

func (q *checkoutQueue) done() {
	q.mu.Lock()
	q.running--
	if q.running == 0 && len(q.tasks) == 0 {
		q.changed.Broadcast()
	}
	q.mu.Unlock()
}

func (q *checkoutQueue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.changed.Broadcast()
}

// opened and closed keep account of open directories, for the end after an error.
func (q *checkoutQueue) opened(d *checkoutDir) {
	q.mu.Lock()
	q.open[d] = struct{}{}
	q.mu.Unlock()
}

func (q *checkoutQueue) closed(d *checkoutDir) {
	q.mu.Lock()
	delete(q.open, d)
	q.mu.Unlock()
}

// run checks out top, which is the folder root.
func (co *checkout) run(ctx context.Context, top *checkoutDir, root, workers int) error {
	q := &co.queue
	q.changed.L, q.open = &q.mu, make(map[*checkoutDir]struct{})
	q.add([]checkoutTask{{dir: top}})
	group, gctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(gctx, q.stop)()
	for range workers {
		group.Go(func() error {
			buf := make([]byte, 256<<10)
			for {
				task, ok := q.take()
				if !ok {
					return gctx.Err()
				}
				err := co.task(gctx, &task, root, buf)
				q.done()
				if err != nil {
					return err
				}
			}
		})
	}
	err := group.Wait()
	for d := range q.open {
		unix.Close(d.fd)
	}
	for _, d := range co.hidden {
		if d.as == d.name {
			continue
		}
		if e := d.show(root); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

// show gives a directory its name.
func (d *checkoutDir) show(parent int) error {
	err := renameNew(parent, d.as, d.name)
	d.as = d.name
	return err
}

func (co *checkout) task(ctx context.Context, t *checkoutTask, root int, buf []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var err error
	if t.files != nil {
		err = co.files(ctx, t.dir, t.files, buf)
	} else {
		err = co.dir(ctx, t.dir, root, buf)
	}
	if err != nil {
		return err
	}
	return co.release(ctx, t.dir)
}

// release ends a task; the last of a directory finishes it.
func (co *checkout) release(ctx context.Context, d *checkoutDir) error {
	for ; d != nil && d.left.Add(-1) == 0; d = d.parent {
		err := co.finish(ctx, d)
		co.queue.closed(d)
		unix.Close(d.fd)
		if err == nil && d.as != d.name {
			err = d.show(d.parent.fd)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dir makes what a dirtree names.
func (co *checkout) dir(ctx context.Context, d *checkoutDir, root int, buf []byte) error {
	if d.depth > maxDepth {
		return corruptf("directories nest deeper than %d", maxDepth)
	}
	parent := root
	if d.parent != nil {
		parent = d.parent.fd
	}
	var err error
	if d.fd, err = openDir(parent, d.as); err != nil {
		return &Error{Op: "checkout", Target: d.path, Err: err}
	}
	co.queue.opened(d)
	tree, err := co.repo.ReadDirTree(ctx, d.tree)
	if err != nil {
		return err
	}
	files := tree.Files
	if co.opts.Whiteouts || co.opts.Skip != nil {
		if files, err = co.choose(d.fd, files, d.path); err != nil {
			return err
		}
	}
	var subs []checkoutTask
	for i := range tree.Dirs {
		sub := &checkoutDir{parent: d, name: tree.Dirs[i].Name, path: path.Join(d.path, tree.Dirs[i].Name), tree: tree.Dirs[i].Tree, meta: tree.Dirs[i].Meta, made: true, hidden: d.hidden, depth: d.depth + 1}
		if co.skips(sub.path) {
			continue
		}
		sub.as = sub.name
		if d.parent == nil && co.opts.Union == UnionNone {
			sub.hidden, sub.as = true, co.temp()
		}
		if err := co.makeDir(ctx, d.fd, sub); err != nil {
			return &Error{Op: "checkout", Target: sub.path, Err: err}
		}
		if sub.as != sub.name {
			co.hidden = append(co.hidden, sub)
		}
		subs = append(subs, checkoutTask{dir: sub})
	}
	most := checkoutFiles
	if co.links() {
		most = checkoutLinks
	}
	own := files[:min(len(files), most)]
	var tasks []checkoutTask
	for rest := files[len(own):]; len(rest) > 0; {
		n := min(len(rest), most)
		tasks = append(tasks, checkoutTask{d, rest[:n]})
		rest = rest[n:]
	}
	tasks = append(tasks, subs...)
	d.left.Store(int64(1 + len(tasks)))
	co.queue.add(tasks)
	return co.files(ctx, d, own, buf)
}

// skips reports whether a path is left out.
func (co *checkout) skips(at string) bool {
	if co.opts.Skip == nil {
		return false
	}
	co.skip.Lock()
	defer co.skip.Unlock()
	return co.opts.Skip(at)
}
