package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"
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
// Dir needs /proc for extended attributes. It keeps a handle of its own, so
// that closing root does not disturb it.
func Dir(root *os.Root) Tree { return &dirTree{root: root} }

type dirTree struct {
	root *os.Root
	open sync.Once
	file *os.File // the root directory; closed with the tree, by its finalizer
	fd   int
	err  error
}

// start opens the root directory once.
func (t *dirTree) start() error {
	t.open.Do(func() {
		if t.file, t.err = t.root.Open("."); t.err == nil {
			t.fd = int(t.file.Fd())
		}
	})
	return t.err
}

func (t *dirTree) Entries(ctx context.Context) iter.Seq2[Entry, error] { return t.entries(ctx, nil) }

func (t *dirTree) entries(ctx context.Context, skip func(string) bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := t.start(); err != nil {
			yield(Entry{}, &Error{"dir", ".", err})
			return
		}
		if err := unix.Access("/proc/self/fd", unix.X_OK); err != nil {
			yield(Entry{}, &Error{"dir", "/proc/self/fd", fmt.Errorf("needed to read extended attributes: %w", err)})
			return
		}
		w := &dirWalk{
			tree: t, ctx: ctx, skip: skip, yield: yield,
			dirents: make([]byte, 64<<10), buf: make([]byte, 64<<10),
		}
		// A descriptor of its own: passes must not share the reading position.
		fd, err := openBeneath(t.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
		if err != nil {
			w.fail(".", err)
			return
		}
		defer unix.Close(fd)
		if w.entry(fd, ".", ".") {
			w.dir(fd, ".")
		}
	}
}

// dirWalk is one pass over a dirTree.
type dirWalk struct {
	tree    *dirTree
	ctx     context.Context // of this pass, which ends before the call that got it
	skip    func(string) bool
	yield   func(Entry, error) bool
	dirents []byte
	buf     []byte // link targets, names and values of attributes; the kernel's limit is 64 KiB
}

// fail ends the sequence with a fault at path.
func (w *dirWalk) fail(path string, err error) bool {
	w.yield(Entry{}, &Error{"dir", quoted(path), err})
	return false
}

// dir yields what the directory open as fd holds and reports whether to go on.
func (w *dirWalk) dir(fd int, path string) bool {
	var names []string
	for {
		n, err := unix.ReadDirent(fd, w.dirents)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return w.fail(path, err)
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(w.dirents[:n], -1, names)
	}
	slices.Sort(names)
	for _, name := range names {
		if !w.entry(fd, name, join(path, name)) {
			return false
		}
	}
	return true
}

// entry yields path, which is name in the directory open as fd, and, if it is a
// directory other than the root, what is below it.
func (w *dirWalk) entry(fd int, name, path string) bool {
	if err := w.ctx.Err(); err != nil {
		return w.fail(path, err)
	}
	if w.skip != nil && w.skip(path) {
		return true
	}
	if !utf8.ValidString(name) {
		return w.fail(path, errNotUTF8)
	}
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return w.fail(path, err)
	}
	e := Entry{
		Path: path, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Detached: true,
		Identity: FileID{Dev: uint64(st.Dev), Ino: st.Ino, MtimeNs: st.Mtim.Nano(), CtimeNs: st.Ctim.Nano()},
	}
	switch st.Mode & ModeType {
	case ModeDir:
	case ModeRegular:
		e.Size = st.Size
		e.Open = (&dirFile{tree: w.tree, path: path, size: st.Size, id: e.Identity}).open
	case ModeSymlink:
		n, err := unix.Readlinkat(fd, name, w.buf)
		if err != nil {
			return w.fail(path, err)
		}
		if n == len(w.buf) {
			return w.fail(path, fmt.Errorf("link target of %d bytes or more: %w", n, unix.ENAMETOOLONG))
		}
		if e.Target = string(w.buf[:n]); !utf8.ValidString(e.Target) {
			return w.fail(path, fmt.Errorf("link target %q: %w", e.Target, errNotUTF8))
		}
	default:
		return w.fail(path, specialFile(specialKind(st.Mode)))
	}
	var err error
	if e.Xattrs, err = w.xattrs(fd, name); err != nil {
		return w.fail(path, fmt.Errorf("extended attributes: %w", err))
	}
	if !w.yield(e, nil) {
		return false
	}
	if e.Mode&ModeType != ModeDir || path == "." {
		return true
	}

	var sub int
	err = ignoringEINTR(func() (err error) {
		sub, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return w.fail(path, err)
	}
	defer unix.Close(sub)
	var now unix.Stat_t
	if err := unix.Fstat(sub, &now); err != nil {
		return w.fail(path, err)
	}
	if uint64(now.Dev) != e.Identity.Dev || now.Ino != e.Identity.Ino {
		return w.fail(path, errChanged)
	}
	return w.dir(sub, path)
}

// xattrs reads the extended attributes of name in the directory open as fd.
// Going by /proc/self/fd is the only way to read those of a symbolic link or
// an unreadable file without resolving the whole path again.
func (w *dirWalk) xattrs(fd int, name string) ([]Xattr, error) {
	path := "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name
	n, err := unix.Llistxattr(path, w.buf)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := string(w.buf[:n])
	var xattrs []Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		n, err := unix.Lgetxattr(path, name, w.buf)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quoted(name), err)
		}
		xattrs = append(xattrs, Xattr{Name: name, Value: slices.Clone(w.buf[:n])})
	}
	slices.SortFunc(xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return xattrs, nil
}

var errChanged = errors.New("changed since it was listed")

// dirFile opens one regular file of a dirTree.
type dirFile struct {
	tree *dirTree
	path string
	size int64
	id   FileID
}

func (f *dirFile) open(ctx context.Context) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, &Error{"dir", quoted(f.path), err}
	}
	// O_NONBLOCK: should a pipe have taken the file's place, do not wait for its
	// writer.
	fd, err := openBeneath(f.tree.fd, f.path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return nil, &Error{"dir", quoted(f.path), err}
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&ModeType != ModeRegular || uint64(st.Dev) != f.id.Dev || st.Ino != f.id.Ino ||
		st.Size != f.size || st.Mtim.Nano() != f.id.MtimeNs) {
		err = errChanged
	}
	if err != nil {
		unix.Close(fd)
		return nil, &Error{"dir", quoted(f.path), err}
	}
	return os.NewFile(uintptr(fd), f.path), nil
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
