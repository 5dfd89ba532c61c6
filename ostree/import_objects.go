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
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/unix"
)

// ReceiveOptions configures [Repo.Receive]. Nil is the zero value.
type ReceiveOptions struct {
	// Workers is how many goroutines hash, compress and write files, at most 64.
	// 0: as many as may run at once (GOMAXPROCS).
	Workers int
	// NoFsync leaves out what makes objects durable against a crash of the
	// machine, as core.fsync=false does.
	NoFsync bool
	// Single says that there will be one delivery. In a repository that has no
	// objects yet that costs less: its folders are moved, not its files. A second
	// delivery is an error.
	Single bool
}

// Receiver takes objects that come with their checksums, in streams of which
// several may be read at once: the layers of a container image. All is one
// transaction, which ends with Close; what a [Delivery] has is in the repository
// once that was kept. Its methods may be called from any goroutine.
type Receiver struct {
	repo    *Repo
	builder *builder
	txn     *txn
	single  bool
	tasks   chan receiveTask
	workers sync.WaitGroup
	stop    chan struct{} // closed after the first fault

	mu      sync.Mutex
	changed *sync.Cond
	err     error                 // the first fault
	begun   bool                  // there was a delivery
	stored  map[claimKey]struct{} // objects that are staged or in the repository

	meta  sync.Mutex // of builder.shelf
	order sync.Mutex // of publication
	queue []*keep    // deliveries that wait for it, under mu
}

// Receive begins to take objects. Until Close, nobody prunes the repository.
func (r *Repo) Receive(ctx context.Context, opts *ReceiveOptions) (*Receiver, error) {
	if opts == nil {
		opts = &ReceiveOptions{}
	}
	workers := opts.Workers
	if workers == 0 {
		workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	err := r.writable()
	if err == nil && (workers < 0 || workers > maxWorkers) {
		err = fmt.Errorf("%d workers, want 0 to %d", workers, maxWorkers)
	}
	var t *txn
	if err == nil {
		t, err = r.begin(ctx, workers+1, opts.NoFsync)
	}
	if err != nil {
		return nil, &Error{Op: "receive", Target: r.path, Err: err}
	}
	if !opts.Single {
		t.filled = true // parts are published while others are staged: file by file
	}
	x := &Receiver{
		repo: r, txn: t, single: opts.Single, builder: &builder{repo: r, txn: t, opts: &CommitOptions{}, shelf: t.shelves[workers]},
		tasks: make(chan receiveTask, workers), stop: make(chan struct{}), stored: make(map[claimKey]struct{}),
	}
	x.changed = sync.NewCond(&x.mu)
	for i := range workers {
		x.workers.Go(func() {
			w := newWriter(x.builder, t.shelves[i])
			for task := range x.tasks {
				x.work(ctx, w, &task)
			}
		})
	}
	return x, nil
}

// Close ends the transaction. What was not kept is gone. Nothing may use x or
// its deliveries any more.
func (x *Receiver) Close() error {
	close(x.tasks)
	x.workers.Wait()
	if err := x.txn.end(); err != nil {
		return &Error{Op: "receive", Target: x.repo.path, Err: err}
	}
	return nil
}

// fail remembers the first fault, which is everybody's.
func (x *Receiver) fail(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == nil {
		x.err = err
		close(x.stop)
		x.changed.Broadcast()
	}
}

func (x *Receiver) failed() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

// Delivery is a part of what is received: a layer. Its methods may be called
// from any goroutine.
type Delivery struct {
	x       *Receiver
	mu      sync.Mutex
	left    int  // objects that workers have not done, under x.mu
	kept    bool // or is about to be, under x.mu
	objects map[claimKey]struct{}
	others  int // of them the metadata objects

	// held is metadata that need not be read again, as far as there is room;
	// heldBytes is its size, or more than keepReceived where something is not there.
	held      map[claimKey][]byte
	heldBytes int

	// needed is what Needs found for the key that it has.
	needed    map[Checksum]struct{}
	neededFor neededKey
}

// neededKey is what the answer of [Delivery.Needs] depends on.
type neededKey struct {
	tree, meta Checksum
	others     int
}

// keepReceived is how many bytes of a delivery's metadata are kept in memory.
const keepReceived = 32 << 20

// Begin begins a delivery.
func (x *Receiver) Begin() *Delivery {
	x.mu.Lock()
	second := x.begun
	x.begun = true
	x.mu.Unlock()
	if second && x.single {
		x.fail(&Error{Op: "receive", Target: x.repo.path, Err: errors.New("a second delivery, where one was announced")})
	}
	return &Delivery{x: x, objects: make(map[claimKey]struct{}), held: make(map[claimKey][]byte)}
}

// ReceivedFile is a content object that is received.
type ReceivedFile struct {
	// Name is what errors call it, such as the entry of an archive.
	Name string
	// Checksum is the one that it must have.
	Checksum Checksum
	UID, GID uint32
	Mode     uint32 // with ModeRegular or ModeSymlink
	Target   string // a symbolic link's target
	// Xattrs are the extended attributes, serialized as [MarshalXattrs] does.
	Xattrs []byte
	// Size is a regular file's length in bytes. Body has at least as many; they
	// are read before File returns.
	Size int64
	Body io.Reader
}

// receiveBlock is how much of a large file is handed to a worker at a time, and
// receiveDepth how many of those may wait.
const (
	receiveBlock = 256 << 10
	receiveDepth = 4
)

type receiveTask struct {
	d      *Delivery
	kind   ObjectType
	entry  Entry
	sum    Checksum
	data   []byte            // content of a small file, or a metadata object
	buf    *[]byte           // that data is in
	blocks chan receivedData // of a large one
}

type receivedData struct {
	buf *[]byte
	n   int   // bytes in buf
	err error // reading failed
}

var (
	smallBuffers = sync.Pool{New: func() any { return new([]byte) }}
	blockBuffers = sync.Pool{New: func() any { b := make([]byte, receiveBlock); return &b }}
)

// File takes a content object. That it has its checksum is known only once the
// delivery was kept: a worker finds out, and any later call gives the fault. A
// repository of [ModeBareUserOnly] takes only files that it can keep.
func (d *Delivery) File(ctx context.Context, f *ReceivedFile) error {
	x := d.x
	fail := func(err error) error {
		err = &Error{Op: "receive", Target: quoted(f.Name), Err: err}
		x.fail(err)
		return err
	}
	e := Entry{Path: f.Name, Target: f.Target, Mode: f.Mode, UID: f.UID, GID: f.GID, Size: f.Size}
	if len(f.Xattrs) > maxHeaderSize {
		return fail(corruptf("extended attributes of %d bytes, at most %d", len(f.Xattrs), maxHeaderSize))
	}
	var err error
	if e.Xattrs, err = decodeXattrs(f.Xattrs); err != nil {
		return fail(err)
	}
	if err := x.fits(&e); err != nil {
		return fail(err)
	}
	task := receiveTask{d: d, kind: TypeFile, entry: e, sum: f.Checksum}
	if f.Mode&ModeType == ModeRegular {
		switch {
		case f.Size < 0:
			return fail(corruptf("regular file of %d bytes", f.Size))
		case f.Size > smallFile:
			task.blocks = make(chan receivedData, receiveDepth)
		default:
			task.buf = smallBuffers.Get().(*[]byte)
			*task.buf = slices.Grow((*task.buf)[:0], int(f.Size))
			task.data = (*task.buf)[:f.Size]
			if _, err := io.ReadFull(f.Body, task.data); err != nil {
				return fail(unexpected(err))
			}
		}
	}
	d.note(TypeFile, f.Checksum)
	if err := d.hand(ctx, &task); err != nil || task.blocks == nil {
		return err
	}
	defer close(task.blocks)
	for left := f.Size; left > 0; {
		buf := blockBuffers.Get().(*[]byte)
		n, err := io.ReadFull(f.Body, (*buf)[:min(left, receiveBlock)])
		if err = unexpected(err); err != nil {
			err = fail(err)
		}
		select {
		case task.blocks <- receivedData{buf, n, err}:
		case <-x.stop:
			return x.failed()
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// hand gives a worker something to do.
func (d *Delivery) hand(ctx context.Context, task *receiveTask) error {
	x := d.x
	x.mu.Lock()
	kept := d.kept
	if !kept {
		d.left++
	}
	x.mu.Unlock()
	if kept {
		return &Error{Op: "receive", Target: x.repo.path, Err: errors.New("the delivery was kept, nothing can be added to it")}
	}
	select {
	case x.tasks <- *task:
		return nil
	case <-x.stop:
		return x.failed()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unexpected is the error of a stream that ends within what it announced.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fits refuses what a repository of ModeBareUserOnly can't keep.
func (x *Receiver) fits(e *Entry) error {
	if x.repo.settings.mode != ModeBareUserOnly {
		return nil
	}
	if e.UID != 0 || e.GID != 0 || len(e.Xattrs) > 0 || e.Mode&ModeType == ModeRegular && e.Mode&0o7777&^maxOnlyMode != 0 {
		return fmt.Errorf("owner %d:%d, mode %#o, %d attributes: a %s repository can't keep that: %w", e.UID, e.GID, e.Mode, len(e.Xattrs), ModeBareUserOnly, errUnsupported)
	}
	return nil
}

func (d *Delivery) note(kind ObjectType, c Checksum) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := claimKey{kind, c}
	if _, ok := d.objects[key]; !ok && kind != TypeFile {
		d.others++
	}
	d.objects[key] = struct{}{}
}

// work stores one object.
func (x *Receiver) work(ctx context.Context, w *contentWriter, task *receiveTask) {
	select {
	case <-x.stop:
		return // readers stopped as well, or do now
	default:
	}
	var err error
	target := objectName(task.kind, task.sum)
	if task.kind == TypeFile {
		target = quoted(task.entry.Path)
		err = x.receive(ctx, w, task)
	} else {
		_, err = x.stage(w.shelf, task.kind, task.data)
	}
	if task.buf != nil {
		smallBuffers.Put(task.buf)
	}
	if err != nil {
		if ctx.Err() == nil {
			err = &Error{Op: "receive", Target: target, Err: err}
		} else {
			err = ctx.Err()
		}
		x.fail(err)
	}
	x.mu.Lock()
	task.d.left--
	x.changed.Broadcast()
	x.mu.Unlock()
}

// receive stores a content object that must have the checksum that it came with.
func (x *Receiver) receive(ctx context.Context, w *contentWriter, task *receiveTask) error {
	o, err := w.start(&task.entry)
	if err != nil {
		return corrupt(err)
	}
	c := task.sum
	check := func() error {
		if got := w.sum(); got != c {
			return corruptf("checksum is %s", got)
		}
		return nil
	}
	if task.blocks == nil {
		w.hash.Write(task.data)
		w.stats.read.Add(int64(len(task.data)))
		if err := check(); err != nil {
			return err
		}
		if err := w.store(o, c, task.data); err != nil {
			return err
		}
		return x.note(TypeFile, &c)
	}
	body := &blockReader{blocks: task.blocks}
	write, err := w.claim(&c)
	switch {
	case err != nil:
		return err
	case !write:
		err = w.copy(ctx, nil, body, o.Size)
		if err == nil {
			err = check()
		}
	default:
		err = w.receiveLarge(ctx, o, &c, body, check)
	}
	if err != nil {
		return err
	}
	return x.note(TypeFile, &c)
}

// receiveLarge stores a claimed regular file, while it is hashed.
func (w *contentWriter) receiveLarge(ctx context.Context, o object, c *Checksum, body io.Reader, check func() error) error {
	f, err := w.shelf.create(w.path, c[0])
	if err != nil {
		return err
	}
	done := o.Size
	if w.repo.settings.mode == ModeArchive {
		out := w.output(f, o)
		zw, err := w.deflater(out)
		if err == nil {
			err = w.copy(ctx, zw, body, o.Size)
		}
		if err == nil {
			err = check()
		}
		if err == nil {
			err = zw.Close()
		}
		if err == nil {
			err = out.flush()
		}
		if err := w.shelf.finish(f, err, 0o644); err != nil {
			return err
		}
		done = out.done
	} else {
		err := w.txn.take(o.Size)
		if err == nil {
			err = w.copy(ctx, f, body, o.Size)
		}
		if err == nil {
			err = check()
		}
		if err := w.finishBare(o, f, err); err != nil {
			return err
		}
	}
	w.wrote(done)
	w.shelf.staged(TypeFile, c)
	return nil
}

// note remembers that a verified object is staged or in the repository, unless
// another worker is still at it, which will.
func (x *Receiver) note(kind ObjectType, c *Checksum) error {
	key := claimKey{kind, *c}
	x.txn.mu.Lock()
	at, _ := x.txn.claims.get(&key)
	x.txn.mu.Unlock()
	there := at != 0
	if !there {
		var err error
		if there, err = x.txn.present.has(&key, appendObjectPath(nil, c, x.repo.ext(kind))); err != nil || !there {
			return err
		}
	}
	x.mu.Lock()
	x.stored[key] = struct{}{}
	x.changed.Broadcast()
	x.mu.Unlock()
	return nil
}

// stage stages a metadata object, with the shelf of who calls.
func (x *Receiver) stage(s *shelf, kind ObjectType, data []byte) (Checksum, error) {
	c, fresh, err := s.metadata(kind, data)
	if err != nil {
		return c, err
	}
	x.builder.stats.metadata(fresh)
	return c, x.note(kind, &c)
}

// blockReader reads what a stream's reader hands over.
type blockReader struct {
	blocks chan receivedData
	buf    *[]byte
	data   []byte // of buf, not read yet
}

func (b *blockReader) Read(p []byte) (int, error) {
	for len(b.data) == 0 {
		if b.buf != nil {
			blockBuffers.Put(b.buf)
			b.buf = nil
		}
		next, ok := <-b.blocks
		switch {
		case !ok:
			return 0, io.EOF
		case next.err != nil:
			return 0, next.err
		}
		b.buf, b.data = next.buf, (*next.buf)[:next.n]
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

// emptyDirTree is the dirtree of an empty directory. The tools that made older
// images left out that of /sysroot, and with it, where no other directory was
// empty, this one.
var emptyDirTree = []byte{0}

// Metadata takes a dirtree or dirmeta. Its checksum is verified at once.
func (d *Delivery) Metadata(ctx context.Context, kind ObjectType, c Checksum, data []byte) error {
	err := ctx.Err()
	if err == nil {
		if got := sum(data); got != c {
			err = corruptf("checksum is %s", got)
		}
	}
	if err == nil {
		switch {
		case kind != TypeDirTree && kind != TypeDirMeta:
			err = fmt.Errorf("is no dirtree or dirmeta: %w", errUnsupported)
		case len(data) > MaxMetadataSize:
			err = corruptf("%s of %d bytes, at most %d", kind, len(data), MaxMetadataSize)
		case kind == TypeDirTree:
			_, err = DecodeDirTree(data)
		default:
			_, err = DecodeDirMeta(data)
		}
	}
	if err != nil {
		return &Error{Op: "receive", Target: objectName(kind, c), Err: err}
	}
	data = bytes.Clone(data)
	d.note(kind, c)
	d.mu.Lock()
	if d.heldBytes += len(data); d.heldBytes <= keepReceived {
		d.held[claimKey{kind, c}] = data
	}
	d.mu.Unlock()
	return d.hand(ctx, &receiveTask{d: d, kind: kind, sum: c, data: data})
}

// stage stages a metadata object at once.
func (d *Delivery) stage(kind ObjectType, data []byte) error {
	d.x.meta.Lock()
	defer d.x.meta.Unlock()
	c, err := d.x.stage(d.x.builder.shelf, kind, data)
	d.note(kind, c)
	return err
}

// metadata gives a metadata object that is staged or in the repository.
func (x *Receiver) metadata(ctx context.Context, kind ObjectType, c Checksum) ([]byte, error) {
	x.order.Lock() // nothing is on its way from there to here
	defer x.order.Unlock()
	x.txn.mu.Lock()
	shelf, _ := x.txn.claims.get(&claimKey{kind, c})
	x.txn.mu.Unlock()
	if shelf == 0 {
		return x.repo.object(ctx, kind, c)
	}
	return readFileAt(x.txn.staging, x.txn.stagingPath(int(shelf)-1, x.repo.objectPath(kind, c)), MaxMetadataSize)
}

// metadata gives a metadata object of the delivery, or what its receiver has.
func (d *Delivery) metadata(ctx context.Context, kind ObjectType, c Checksum) ([]byte, error) {
	d.mu.Lock()
	data, ok := d.held[claimKey{kind, c}]
	d.mu.Unlock()
	if ok {
		return data, nil
	}
	return d.x.metadata(ctx, kind, c)
}

// Needs gives the content objects that a commit needs, whose dirtrees and
// dirmetas were delivered or are in the repository. One that is missing is an
// error that wraps [fs.ErrNotExist]; one that was delivered and is not needed is
// an error too. The dirtree of an empty directory need not be delivered. The
// answer is not to be changed.
func (d *Delivery) Needs(ctx context.Context, commit *Commit) (map[Checksum]struct{}, error) {
	d.mu.Lock()
	needed, known := d.needed, d.needed != nil && d.neededFor == neededKey{commit.RootTree, commit.RootMeta, d.others}
	all := d.heldBytes <= keepReceived
	d.mu.Unlock()
	if known {
		return needed, nil
	}
	if !all {
		if err := d.wait(ctx); err != nil { // some are read again
			return nil, err
		}
	}
	n := &receivedNeeds{d: d, content: make(map[Checksum]struct{}), seen: make(map[claimKey]struct{})}
	if err := n.meta(ctx, commit.RootMeta); err != nil {
		return nil, err
	}
	if err := n.tree(ctx, commit.RootTree, 0); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var extra []string
	for key := range d.objects {
		if _, ok := n.seen[key]; !ok && key.kind != TypeFile {
			extra = append(extra, objectName(key.kind, key.sum))
		}
	}
	if len(extra) > 0 {
		return nil, &Error{Op: "receive", Target: slices.Min(extra), Err: corruptf("no part of the commit, as %d others", len(extra)-1)}
	}
	d.needed, d.neededFor = n.content, neededKey{commit.RootTree, commit.RootMeta, d.others}
	clear(d.held)
	d.heldBytes = keepReceived + 1
	return n.content, nil
}

type receivedNeeds struct {
	d       *Delivery
	content map[Checksum]struct{}
	seen    map[claimKey]struct{}
}

func (n *receivedNeeds) first(kind ObjectType, c Checksum) bool {
	_, ok := n.seen[claimKey{kind, c}]
	n.seen[claimKey{kind, c}] = struct{}{}
	return !ok
}

func (n *receivedNeeds) meta(ctx context.Context, c Checksum) error {
	if !n.first(TypeDirMeta, c) {
		return nil
	}
	data, err := n.d.metadata(ctx, TypeDirMeta, c)
	if err == nil {
		_, err = DecodeDirMeta(data)
	}
	if err != nil {
		return &Error{Op: "receive", Target: objectName(TypeDirMeta, c), Err: err}
	}
	return nil
}

func (n *receivedNeeds) tree(ctx context.Context, c Checksum, depth int) error {
	if !n.first(TypeDirTree, c) {
		return nil
	}
	if depth > maxDepth {
		return &Error{Op: "receive", Target: objectName(TypeDirTree, c), Err: corruptf("directories nest deeper than %d", maxDepth)}
	}
	data, err := n.d.metadata(ctx, TypeDirTree, c)
	if errors.Is(err, fs.ErrNotExist) && c == sum(emptyDirTree) {
		data, err = emptyDirTree, n.d.stage(TypeDirTree, emptyDirTree)
	}
	var t *DirTree
	if err == nil {
		t, err = DecodeDirTree(data)
	}
	if err != nil {
		return &Error{Op: "receive", Target: objectName(TypeDirTree, c), Err: err}
	}
	for i := range t.Files {
		n.content[t.Files[i].Object] = struct{}{}
	}
	for i := range t.Dirs {
		if err := n.meta(ctx, t.Dirs[i].Meta); err != nil {
			return err
		}
		if err := n.tree(ctx, t.Dirs[i].Tree, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// ReceivedCommit is a commit that is received.
type ReceivedCommit struct {
	Checksum Checksum // the one that it must have
	Data     []byte   // the commit object
	Detached []byte   // its detached metadata object; nil: what may be there stays
	// Refs are set to it, in this order; each as [Repo.SetRef] takes it.
	Refs []string
}

// Commit keeps the delivery and a commit of it: what the commit needs must have
// been delivered or be in the repository, by this delivery or one that was kept
// before. Everything is verified before anything of it is in the repository; a
// ref is set when all is. No more can be delivered.
func (d *Delivery) Commit(ctx context.Context, c *ReceivedCommit) error {
	err := func() error {
		if got := sum(c.Data); got != c.Checksum {
			return corruptf("checksum is %s", got)
		}
		commit, err := DecodeCommit(c.Data)
		if err != nil {
			return err
		}
		if c.Detached != nil {
			if _, err := DecodeMetadata(c.Detached); err != nil {
				return fmt.Errorf("detached metadata: %w", err)
			}
		}
		needed, err := d.Needs(ctx, commit)
		if err != nil {
			return err
		}
		if err := d.wait(ctx); err != nil {
			return err
		}
		if err := d.missing(ctx, needed); err != nil {
			return err
		}
		return d.keep(ctx, c)
	}()
	if err != nil {
		if _, ok := errors.AsType[*Error](err); ok || ctx.Err() != nil {
			return err
		}
		return &Error{Op: "receive", Target: objectName(TypeCommit, c.Checksum), Err: err}
	}
	return nil
}

// missing finds needed content that is neither stored nor in the repository.
func (d *Delivery) missing(ctx context.Context, needed map[Checksum]struct{}) error {
	var missing []string
	for c := range needed {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.x.mu.Lock()
		_, ok := d.x.stored[claimKey{TypeFile, c}]
		d.x.mu.Unlock()
		if !ok {
			var err error
			if ok, err = d.x.repo.Has(ctx, TypeFile, c); err != nil {
				return err
			}
		}
		if !ok {
			missing = append(missing, objectName(TypeFile, c))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("needs %s and %d others, which were not delivered: %w", slices.Min(missing), len(missing)-1, fs.ErrNotExist)
	}
	return nil
}

// Set keeps the delivery's content objects by a commit of them: one directory
// whose names are their checksums. It is how ostree-ext keeps what is in a layer.
// Refs are set to it. No more can be delivered.
func (d *Delivery) Set(ctx context.Context, refs ...string) (Checksum, error) {
	c, err := d.set(ctx, refs)
	if err != nil {
		if _, ok := errors.AsType[*Error](err); !ok && ctx.Err() == nil {
			err = &Error{Op: "receive", Target: d.x.repo.path, Err: err}
		}
		return Checksum{}, err
	}
	return c, nil
}

func (d *Delivery) set(ctx context.Context, refs []string) (Checksum, error) {
	if err := d.wait(ctx); err != nil {
		return Checksum{}, err
	}
	t := &DirTree{}
	for key := range d.objects {
		if key.kind != TypeFile {
			return Checksum{}, fmt.Errorf("%s: a set has content objects only", objectName(key.kind, key.sum))
		}
		t.Files = append(t.Files, DirTreeFile{Name: key.sum.String(), Object: key.sum})
	}
	slices.SortFunc(t.Files, func(a, b DirTreeFile) int { return slices.Compare(a.Object[:], b.Object[:]) })
	tree, err := t.Marshal()
	if err != nil {
		return Checksum{}, err
	}
	meta, err := (&DirMeta{Mode: ModeDir | 0o755}).Marshal()
	if err != nil {
		return Checksum{}, err
	}
	data, err := (&Commit{RootTree: sum(tree), RootMeta: sum(meta)}).Marshal()
	if err != nil {
		return Checksum{}, err
	}
	if err := d.stage(TypeDirTree, tree); err != nil {
		return Checksum{}, err
	}
	if err := d.stage(TypeDirMeta, meta); err != nil {
		return Checksum{}, err
	}
	// Another delivery may be at the same.
	if err := d.wait(ctx); err != nil {
		return Checksum{}, err
	}
	c := sum(data)
	return c, d.keep(ctx, &ReceivedCommit{Checksum: c, Data: data, Refs: refs})
}

// wait waits until the delivery's objects are verified and stored.
func (d *Delivery) wait(ctx context.Context) error {
	x := d.x
	stop := context.AfterFunc(ctx, func() {
		x.mu.Lock()
		x.changed.Broadcast()
		x.mu.Unlock()
	})
	defer stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	for d.left > 0 && x.err == nil && ctx.Err() == nil {
		x.changed.Wait()
	}
	// What is in several deliveries is stored by one of them.
	for key := range d.objects {
		for x.err == nil && ctx.Err() == nil {
			if _, ok := x.stored[key]; ok {
				break
			}
			x.changed.Wait()
		}
	}
	if x.err != nil {
		return x.err
	}
	return ctx.Err()
}

// keep is a delivery that waits to be published with its commit.
type keep struct {
	d      *Delivery
	commit *ReceivedCommit
	refs   []string // paths below refs/
	done   bool
	err    error
}

// keep publishes the delivery, together with those that wait to be: the disk is
// asked once for all of them to have what was written.
func (d *Delivery) keep(ctx context.Context, c *ReceivedCommit) error {
	k := &keep{d: d, commit: c}
	for _, ref := range c.Refs {
		p, err := refPath(ref)
		if err != nil {
			return err
		}
		k.refs = append(k.refs, p)
	}
	x := d.x
	x.mu.Lock()
	d.kept = true
	x.queue = append(x.queue, k)
	x.mu.Unlock()
	x.order.Lock()
	defer x.order.Unlock()
	if k.done {
		return k.err
	}
	x.mu.Lock()
	all := x.queue
	x.queue = nil
	x.mu.Unlock()
	err := x.publish(ctx, all)
	for _, k := range all {
		if k.done = true; err != nil {
			k.err = err
		} else {
			k.err = x.name(ctx, k)
		}
	}
	return k.err
}

// publish moves what deliveries have to objects/.
func (x *Receiver) publish(ctx context.Context, all []*keep) error {
	t := x.txn
	if t.fsync {
		if err := retry(func() error { return unix.Syncfs(t.staging) }); err != nil {
			return pathError("syncfs", t.name, err)
		}
	}
	var moves [256][]move
	t.mu.Lock()
	for _, k := range all {
		for key := range k.d.objects {
			shelf, _ := t.claims.get(&key)
			if shelf == 0 {
				continue
			}
			moves[key.sum[0]] = append(moves[key.sum[0]], move{key, shelf})
			t.claims.set(&key, 0)
		}
	}
	t.mu.Unlock()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(len(t.shelves))
	for i := range moves {
		if len(moves[i]) > 0 {
			group.Go(func() error { return t.moveAll(gctx, i, slices.Values(moves[i])) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return t.fsyncDirs(func(i int) bool { return len(moves[i]) > 0 })
}

// name writes the commit of a delivery that is in objects/, and its refs.
func (x *Receiver) name(ctx context.Context, k *keep) error {
	c := k.commit.Checksum
	fsync := x.txn.fsync
	if k.commit.Detached != nil {
		if err := x.repo.putObject(TypeCommitMeta, c, k.commit.Detached, fsync); err != nil {
			return err
		}
	}
	there, err := x.repo.hasPath(TypeCommit, x.repo.objectPath(TypeCommit, c))
	if err != nil {
		return err
	}
	if !there {
		if err := x.repo.putObject(TypeCommit, c, k.commit.Data, fsync); err != nil {
			return err
		}
		x.builder.stats.metadata(true)
	}
	if err := x.repo.completed(c); err != nil {
		return err
	}
	for _, ref := range k.refs {
		if err := x.repo.writeRef(ref, c, fsync); err != nil {
			return err
		}
	}
	x.repo.log.LogAttrs(ctx, slog.LevelInfo, "received", slog.String("commit", c.String()), slog.Int("objects", len(k.d.objects)))
	return nil
}

// ReceiveStats says what a [Receiver] stored so far.
type ReceiveStats struct {
	ContentWritten  int64 // content objects that were new
	MetadataWritten int64 // metadata objects that were new
	BytesRead       int64 // of content
	BytesWritten    int64 // of content objects, as stored
}

// Stats gives what was stored so far.
func (x *Receiver) Stats() ReceiveStats {
	s := x.builder.stats.get()
	return ReceiveStats{ContentWritten: s.ContentWritten, MetadataWritten: s.MetadataWritten, BytesRead: s.BytesRead, BytesWritten: s.BytesWritten}
}
