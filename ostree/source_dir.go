package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/internal/unix"
)

// Dir is the tree below root, in the byte order of the names, depth first. It
// has owners, modes and extended attributes as the kernel gives them to this
// process, and [Entry.Identity]; links are never followed, mount points are
// entered.
//
// Sockets, pipes, device nodes, names and link targets that are not UTF-8 and
// what can't be read are errors that name the path. Entries are detached: Open
// works as long as the tree does, gives an *[os.File], never leaves root nor
// follows a link, and fails when the path no longer is the file that was
// listed, unchanged in size and time.
//
// On kernels before 6.13 Dir needs /proc for extended attributes. It keeps a
// handle of its own, so that closing root does not disturb it.
func Dir(root *os.Root) Tree { return &dirTree{root: root} }

type dirTree struct {
	root *os.Root
	open sync.Once
	file *os.File // the root directory; closed with the tree, by its finalizer
	fd   int
	err  error
	// byProc says that attributes are read by way of /proc: an old kernel, or a
	// sandbox that does not know the call.
	byProc bool
	// listed says that the listings of directories have the inodes of files.
	listed bool
}

// start opens the root directory once.
func (t *dirTree) start() error {
	t.open.Do(func() {
		if t.file, t.err = t.root.Open("."); t.err == nil {
			t.fd = int(t.file.Fd())
			_, err := listxattrat(t.fd, ".", nil)
			t.byProc = t.byProc || err == unix.ENOSYS || err == unix.EPERM
			t.listed = direntInodes(t.fd) && !mountsBelow(t.fd)
		}
	})
	return t.err
}

func (t *dirTree) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return t.entries(ctx, byContext(ctx))
}

func (t *dirTree) entries(ctx context.Context, without prune) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := t.start(); err != nil {
			yield(Entry{}, &Error{"dir", ".", err})
			return
		}
		if t.byProc {
			if err := unix.Access("/proc/self/fd", unix.X_OK); err != nil {
				yield(Entry{}, &Error{"dir", "/proc/self/fd", fmt.Errorf("needed to read extended attributes: %w", err)})
				return
			}
		}
		w := &dirWalk{tree: t, ctx: ctx, without: without, yield: yield}
		w.changed.L = &w.mu
		var ahead sync.WaitGroup
		defer ahead.Wait()
		defer w.stop()
		for range min(runtime.GOMAXPROCS(0), maxReadAhead) {
			ahead.Go(w.readAhead)
		}
		r := newDirReader(w)
		w.deliver(r, r.top())
	}
}

// Bounds of what is read ahead of the reader of a dirTree.
const (
	maxReadAhead    = 4       // goroutines
	maxAheadEntries = 8 << 10 // that nobody has taken yet
	maxFreeItems    = 16      // lists of entries that are kept for reuse
	maxItems        = 1024    // entries of one directory that are looked at at a time
	maxKeptText     = 1 << 20 // bytes of names for which room is kept
)

// dirWalk is one pass over a dirTree. Listing a directory costs system calls
// alone, so directories are listed ahead of the reader, those first that he will
// come to first.
type dirWalk struct {
	tree    *dirTree
	ctx     context.Context // of this pass, which ends before the call that got it
	without prune
	yield   func(Entry, error) bool

	mu      sync.Mutex
	changed sync.Cond   // of what follows
	todo    []*listing  // a stack: the next to come is on top
	held    int         // entries that were listed and not taken yet
	free    [][]dirItem // that were taken, for the next
	stopped bool
}

// listing is one directory: what is in it, and the fault at which that ends. Of
// a large one it is a part.
type listing struct {
	path  string
	id    FileID   // of the directory when its parent was listed
	names dirNames // those of this part and what follows, if it is not the first
	cache *walkedDir
	taken atomic.Bool
	done  sync.WaitGroup // of what follows
	items []dirItem
	kept  keptFiles // that are not in items
	rest  *listing  // nil: none
	err   error     // an *Error
}

// dirItem is an entry, and its listing if it is a directory; or, with nothing
// but a path, one that is left out.
type dirItem struct {
	entry Entry
	sub   *listing
	out   bool
}

// newListing is a directory that is to be listed.
func newListing(path string, id FileID) *listing {
	l := &listing{path: path, id: id}
	l.done.Add(1)
	return l
}

// stop ends the reading ahead.
func (w *dirWalk) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.changed.Broadcast()
}

func (w *dirWalk) readAhead() {
	r := newDirReader(w)
	for {
		w.mu.Lock()
		for !w.stopped && (len(w.todo) == 0 || w.held > maxAheadEntries) {
			w.changed.Wait()
		}
		if w.stopped {
			w.mu.Unlock()
			return
		}
		next := w.todo[len(w.todo)-1]
		w.todo[len(w.todo)-1] = nil
		w.todo = w.todo[:len(w.todo)-1]
		w.mu.Unlock()
		if !next.taken.Swap(true) {
			w.list(r, next)
		}
	}
}

// list lists a directory that was taken for it, and offers those in it.
func (w *dirWalk) list(r *dirReader, l *listing) {
	r.list(l)
	w.mu.Lock()
	w.held += len(l.items)
	subs := 0
	if l.rest != nil {
		w.todo = append(w.todo, l.rest)
		subs++
	}
	for i := range slices.Backward(l.items) {
		if sub := l.items[i].sub; sub != nil {
			w.todo = append(w.todo, sub)
			subs++
		}
	}
	w.mu.Unlock()
	l.done.Done()
	if subs > 0 {
		w.changed.Broadcast()
	}
}

// dir yields what is in a directory and below it and reports whether to go on.
func (w *dirWalk) dir(r *dirReader, l *listing) bool {
	for l != nil {
		if !w.part(r, l) {
			return false
		}
		l = l.rest
	}
	return true
}

// part is dir without the parts that follow.
func (w *dirWalk) part(r *dirReader, l *listing) bool {
	if !l.taken.Swap(true) {
		w.list(r, l)
	}
	l.done.Wait()
	if l.kept.dir != nil && l.err == nil && !w.yield(Entry{Path: l.path, walked: &l.kept}, nil) {
		return false
	}
	w.mu.Lock()
	full := w.held > maxAheadEntries
	w.held -= len(l.items)
	full = full && w.held <= maxAheadEntries
	w.mu.Unlock()
	if full {
		w.changed.Broadcast()
	}
	return w.deliver(r, l)
}

func (w *dirWalk) deliver(r *dirReader, l *listing) bool {
	for i := range l.items {
		item := &l.items[i]
		if item.out {
			w.without.report(item.entry.Path)
			continue
		}
		if err := w.ctx.Err(); err != nil {
			w.yield(Entry{}, dirError(item.entry.Path, err))
			return false
		}
		if !w.yield(item.entry, nil) {
			return false
		}
		if item.sub != nil && !w.dir(r, item.sub) {
			return false
		}
		*item = dirItem{} // what was yielded is the reader's to keep
	}
	if l.err != nil {
		w.yield(Entry{}, l.err)
		return false
	}
	w.mu.Lock()
	if len(w.free) < maxFreeItems {
		w.free = append(w.free, l.items[:0])
	}
	w.mu.Unlock()
	l.items = nil
	return true
}

// items gives room for n entries.
func (w *dirWalk) items(n int) []dirItem {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range slices.Backward(w.free) {
		if items := w.free[i]; cap(items) >= n {
			w.free = slices.Delete(w.free, i, i+1)
			return items
		}
	}
	return make([]dirItem, 0, n)
}

// dirReader lists directories. It belongs to one goroutine.
type dirReader struct {
	*dirWalk
	dirents []byte
	buf     []byte // link targets, names and values of attributes; the kernel's limit is 64 KiB
	names   []dirName
	text    []byte // of names
	st      unix.Stat_t
}

// dirNames are names of a directory, sorted.
type dirNames struct {
	text  string // has all
	names []dirName
}

// dirName is a name as a listing has it.
type dirName struct {
	ino        uint64
	start, end uint32 // in text
	cached     uint32 // 1 + the place of the entry of that name that a cache has
	summed     bool   // that entry has a checksum
	dtype      byte   // DT_REG and the like; 0: not known
}

func newDirReader(w *dirWalk) *dirReader {
	return &dirReader{dirWalk: w, dirents: make([]byte, 64<<10), buf: make([]byte, 64<<10)}
}

func dirError(path string, err error) error { return &Error{"dir", quoted(path), err} }

// top gives the root directory alone.
func (r *dirReader) top() *listing {
	l := &listing{}
	if r.without.skips(".") {
		return l
	}
	l.path = "."
	l.err = r.entry(l, r.tree.fd, ".", 0, &cachePart{})
	return l
}

// list reads a directory, as far as it can be read.
func (r *dirReader) list(l *listing) { l.err = r.read(l) }

func (r *dirReader) read(l *listing) error {
	// A descriptor of its own: passes must not share the reading position.
	fd, err := openBeneath(r.tree.fd, l.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return dirError(l.path, err)
	}
	defer unix.Close(fd)
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return dirError(l.path, err)
	}
	if uint64(now.Dev) != l.id.Dev || now.Ino != l.id.Ino {
		return dirError(l.path, errChanged)
	}
	names, text := l.names.names, l.names.text
	l.names = dirNames{}
	first := names == nil
	if first {
		if use := r.without.cache; use != nil {
			l.cache = use.dir(&now, r.tree.listed && r.without.object == nil, r.without.asIs != nil && r.without.asIs(l.path))
		}
		if l.cache != nil && l.cache.listed {
			text = r.cachedNames(l.cache.known.entries)
		} else if text, err = r.readNames(fd, l.path); err != nil {
			return err
		} else if l.cache != nil {
			r.findCached(text, l.cache.known.entries)
		}
		names = r.names
	}
	if first && cap(r.names) > 16*maxItems {
		r.names = nil // of a directory that is seldom so large
	}
	if len(names) > maxItems {
		rest := names[maxItems:]
		if first && r.names != nil {
			rest = slices.Clone(rest) // these are the next directory's soon
		}
		l.rest = newListing(l.path, l.id)
		l.rest.cache, l.rest.names = l.cache, dirNames{text, rest}
		names = names[:maxItems]
	}
	part := newCachePart(l.cache, len(names))
	room := len(names)
	if l.cache != nil && l.cache.keeps {
		room = 0
		for i := range names {
			if !names[i].summed {
				room++
			}
		}
	}
	if room > 0 {
		l.items = r.items(room)
	}
	for i := range names {
		n := &names[i]
		name := text[n.start:n.end]
		if i%256 == 0 && r.ctx.Err() != nil {
			return dirError(join(l.path, name), r.ctx.Err())
		}
		if r.without.test != nil && r.without.test(join(l.path, name)) {
			l.items = append(l.items, dirItem{entry: Entry{Path: join(l.path, name)}, out: true})
			part.skip(name)
			continue
		}
		if r.linked(l, n, name) {
			part.skip(name)
			continue
		}
		if err := r.entry(l, fd, name, n.cached, &part); err != nil {
			return err
		}
	}
	l.kept = part.end()
	return nil
}

// readNames reads the names of a directory, sorted, and gives what they are parts
// of.
func (r *dirReader) readNames(fd int, dir string) (string, error) {
	names, text := r.names[:0], r.text[:0]
	for {
		n, err := unix.ReadDirent(fd, r.dirents)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", dirError(dir, err)
		}
		if n == 0 {
			break
		}
		err = eachDirent(r.dirents[:n], func(ino uint64, dtype byte, name []byte) error {
			if ino == 0 { // removed by now
				return nil
			}
			if len(text) > math.MaxUint32/2 {
				return errors.New("more names than can be sorted")
			}
			at := len(text)
			text = append(text, name...)
			names = append(names, dirName{ino: ino, start: uint32(at), end: uint32(len(text)), dtype: dtype})
			return nil
		})
		if err != nil {
			return "", dirError(dir, err)
		}
	}
	r.names, r.text = names, text
	if cap(r.text) > maxKeptText {
		r.text = nil
	}
	all := string(text)
	slices.SortFunc(names, func(a, b dirName) int { return strings.Compare(all[a.start:a.end], all[b.start:b.end]) })
	return all, nil
}

// cachedNames is readNames for a directory whose names a cache knows.
func (r *dirReader) cachedNames(entries string) string {
	r.names = r.names[:0]
	for at := uint32(0); int(at) < len(entries); {
		e, next := entryAt(entries, at)
		start := at + cacheNameHead
		r.names = append(r.names, dirName{start: start, end: start + uint32(len(e.name)), cached: at + 1, summed: e.flags&hasSum != 0})
		at = next
	}
	return entries
}

// findCached finds the entries that a cache has of the names that were read.
func (r *dirReader) findCached(text, entries string) {
	i := 0
	for at := uint32(0); int(at) < len(entries); {
		e, next := entryAt(entries, at)
		for i < len(r.names) && text[r.names[i].start:r.names[i].end] < e.name {
			i++
		}
		if i < len(r.names) && text[r.names[i].start:r.names[i].end] == e.name {
			r.names[i].cached, r.names[i].summed = at+1, e.flags&hasSum != 0
		}
		at = next
	}
}

// linked adds name if its inode, as the listing has it, is a content object's:
// there is nothing else to be known of it.
func (r *dirReader) linked(l *listing, n *dirName, name string) bool {
	if r.without.object == nil || !r.tree.listed || !utf8.ValidString(name) {
		return false
	}
	e := Entry{Detached: true, Identity: FileID{Dev: l.id.Dev, Ino: n.ino}}
	switch n.dtype {
	case unix.DT_REG:
		e.Mode = ModeRegular
	case unix.DT_LNK:
		e.Mode = ModeSymlink
	default:
		return false
	}
	if e.Object, e.linked = r.without.object(e.Identity); e.linked {
		e.Path = join(l.path, name)
		l.items = append(l.items, dirItem{entry: e})
	}
	return e.linked
}

// entry adds name in the directory open as fd.
func (r *dirReader) entry(l *listing, fd int, name string, cached uint32, part *cachePart) error {
	st := &r.st
	err := unix.Fstatat(fd, name, st, unix.AT_SYMLINK_NOFOLLOW)
	for err == unix.EINTR {
		err = unix.Fstatat(fd, name, st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return dirError(join(l.path, name), err)
	}
	if cached == 0 && !utf8.ValidString(name) {
		return dirError(join(l.path, name), errNotUTF8)
	}
	var slot *cacheSlot
	bare := false // there are no attributes
	if part.walkedDir != nil {
		var kept bool
		if slot, bare, kept = part.look(st, name, cached); kept {
			return nil
		}
	}
	path := join(l.path, name)
	item := dirItem{entry: Entry{
		Path: path, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Detached: true, slot: slot,
		Identity: FileID{Dev: uint64(st.Dev), Ino: st.Ino, MtimeNs: st.Mtim.Nano(), CtimeNs: st.Ctim.Nano()},
	}}
	e := &item.entry
	if kind := st.Mode & ModeType; r.without.object != nil && (kind == ModeRegular || kind == ModeSymlink) {
		if e.Object, e.linked = r.without.object(e.Identity); e.linked {
			l.items = append(l.items, item)
			return nil
		}
	}
	switch st.Mode & ModeType {
	case ModeDir:
		item.sub = newListing(path, e.Identity)
	case ModeRegular:
		e.Size = st.Size
		e.Open = r.tree.opener(path, st.Size, e.Identity)
	case ModeSymlink:
		n, err := unix.Readlinkat(fd, name, r.buf)
		if err != nil {
			return dirError(path, err)
		}
		if n == len(r.buf) {
			return dirError(path, fmt.Errorf("link target of %d bytes or more: %w", n, unix.ENAMETOOLONG))
		}
		if e.Target = string(r.buf[:n]); !utf8.ValidString(e.Target) {
			return dirError(path, fmt.Errorf("link target %q: %w", e.Target, errNotUTF8))
		}
	default:
		return dirError(path, specialFile(specialKind(st.Mode)))
	}
	if !bare {
		if e.Xattrs, err = r.xattrs(fd, name); err != nil {
			return dirError(path, fmt.Errorf("extended attributes: %w", err))
		}
		if slot != nil && len(e.Xattrs) == 0 {
			slot.flags |= noXattrs
		}
	}
	l.items = append(l.items, item)
	return nil
}

// xattrs reads the extended attributes of name in the directory open as fd.
func (r *dirReader) xattrs(fd int, name string) ([]Xattr, error) {
	n, err := r.listXattrs(fd, name)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := string(r.buf[:n])
	var xattrs []Xattr
	for attr := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		n, err := r.getXattr(fd, name, attr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quoted(attr), err)
		}
		xattrs = append(xattrs, Xattr{Name: attr, Value: slices.Clone(r.buf[:n])})
	}
	slices.SortFunc(xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return xattrs, nil
}

func (r *dirReader) listXattrs(fd int, name string) (int, error) {
	if r.tree.byProc {
		return unix.Llistxattr(procPath(fd, name), r.buf)
	}
	return listxattrat(fd, name, r.buf)
}

func (r *dirReader) getXattr(fd int, name, attr string) (int, error) {
	if r.tree.byProc {
		return unix.Lgetxattr(procPath(fd, name), attr, r.buf)
	}
	return getxattrat(fd, name, attr, r.buf)
}

// procPath names what is in a directory. On kernels before 6.13 it is the only
// way to the attributes of a symbolic link or an unreadable file that does not
// resolve the whole path again.
func procPath(fd int, name string) string { return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name }

var errChanged = errors.New("changed since it was listed")

// opener gives the [Entry.Open] of a regular file.
func (t *dirTree) opener(path string, size int64, id FileID) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) { return t.openFile(ctx, path, size, id) }
}

// openFile opens a regular file that is as it was listed.
func (t *dirTree) openFile(ctx context.Context, path string, size int64, id FileID) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, &Error{"dir", quoted(path), err}
	}
	// O_NONBLOCK: should a pipe have taken the file's place, do not wait for its
	// writer.
	fd, err := openBeneath(t.fd, path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return nil, &Error{"dir", quoted(path), err}
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&ModeType != ModeRegular || uint64(st.Dev) != id.Dev || st.Ino != id.Ino ||
		st.Size != size || st.Mtim.Nano() != id.MtimeNs) {
		err = errChanged
	}
	if err != nil {
		unix.Close(fd)
		return nil, &Error{"dir", quoted(path), err}
	}
	return unix.NewFile(fd, path), nil
}

// openBeneath opens path below the directory dir without following any link.
func openBeneath(dir int, path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
			// An old kernel, or a sandbox that does not know the call.
			return walkBeneath(dir, path, flags)
		default:
			return -1, err
		}
	}
}

// walkBeneath is openBeneath for kernels without openat2.
func walkBeneath(dir int, path string, flags int) (int, error) {
	at := dir
	for {
		name, rest, more := strings.Cut(path, "/")
		how := flags
		if more {
			how = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		var fd int
		err := ignoringEINTR(func() (err error) {
			fd, err = unix.Openat(at, name, how, 0)
			return err
		})
		if at != dir {
			unix.Close(at)
		}
		if err != nil || !more {
			return fd, err
		}
		at, path = fd, rest
	}
}

// ignoringEINTR repeats fn while a signal interrupts it.
func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// specialKind names a file type that has no object.
func specialKind(mode uint32) string {
	switch mode & ModeType {
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFIFO:
		return "named pipe"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "file of unknown type"
}
