package ostree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/unix"
)

// Union says what a checkout does with names that are there already.
type Union uint8

const (
	// UnionNone fails; the folder must be empty.
	UnionNone Union = iota
	// UnionOverwrite replaces files and links; directories are merged and keep
	// their owner, mode and times.
	UnionOverwrite
	// UnionAdd keeps files and links that are there; directories are merged.
	UnionAdd
	// UnionIdentical keeps files and links that are there and the same as those
	// of the commit: content, mode and, unless in user mode, owner and
	// attributes; of links the target. Others are an error that wraps
	// [fs.ErrExist]. Directories are merged.
	UnionIdentical
)

// CheckoutOptions configures [Repo.Checkout]. Nil is the zero value.
type CheckoutOptions struct {
	// UserMode leaves owners and extended attributes out and takes the set-user
	// and set-group bits of files away. A process that is not root can do
	// nothing else, and a repository of [ModeBareUserOnly] has nothing else: for
	// them, false means the same.
	UserMode bool
	// Subpath is the directory of the commit to check out, slash-separated.
	// "": all.
	Subpath string
	// Union says what to do with names that are there.
	Union Union
	// Copy makes every file a copy. Else files are hard links to the objects of
	// a bare-user or bare-user-only repository in user mode, and of a bare one
	// otherwise, where the file system allows it: who writes to such a file
	// writes to the repository.
	Copy bool
	// RequireHardLinks makes it an error that wraps [errors.ErrUnsupported] if a
	// file can't be a hard link. Files of no bytes, files that their owner can't
	// read and, but for a bare repository, symbolic links are made anew all the
	// same.
	RequireHardLinks bool
	// Whiteouts obeys the entries with which container layers delete: the file
	// .wh.NAME removes NAME, and .wh..wh..opq everything that was in its
	// directory. Neither is made itself. With [UnionOverwrite], files also
	// replace directories and directories files.
	Whiteouts bool
	// PlainDirs takes all bits but 0775 off the modes of directories, as is
	// always done in a repository of [ModeBareUserOnly].
	PlainDirs bool
	// Skip leaves out the path for which it is true, slash-separated and
	// relative to Subpath, and all below it. Called for parents before what is in
	// them, from any goroutine, one call at a time. Nil: nothing is left out.
	Skip func(path string) bool
	// Fsync makes the checkout durable before it returns.
	Fsync bool
	// Workers is how many goroutines make directories and files, at most 64. 0:
	// GOMAXPROCS.
	Workers int
	// Progress gets Phase "files" with the files done so far.
	Progress func(Event)
}

// Checkout writes a commit's tree into the folder dst. Nothing outside of dst is
// touched and no symbolic link in it is followed, whatever the commit holds.
//
// As with libostree, the time of the last change of hard links, and of
// directories that were made, is the epoch; dst itself gets the root directory's
// owner and mode unless names are united. Files that are copied are verified;
// hard links and reflinks are as the repository has them (see [Repo.Fsck]).
// Files of no bytes are never hard links. An error leaves what was written so
// far, each file whole. What a killed checkout left is removed by the next into the
// same folder that runs alone there: all names .okd-checkout-NUMBER-NUMBER.
func (r *Repo) Checkout(ctx context.Context, dst *os.Root, commit Checksum, opts *CheckoutOptions) error {
	if opts == nil {
		opts = &CheckoutOptions{}
	}
	err := r.checkout(ctx, dst, commit, opts)
	if err != nil {
		var inner *Error
		if errors.As(err, &inner) && inner.Op == "checkout" {
			return err
		}
		return &Error{Op: "checkout", Target: commit.String(), Err: err}
	}
	return nil
}

func (r *Repo) checkout(ctx context.Context, dst *os.Root, commit Checksum, opts *CheckoutOptions) error {
	workers := opts.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	if workers < 0 || workers > maxWorkers || opts.Union > UnionIdentical {
		return fmt.Errorf("%d workers or union %d out of range", workers, opts.Union)
	}
	if opts.Copy && opts.RequireHardLinks {
		return errors.New("copies can't be hard links: Copy and RequireHardLinks exclude each other")
	}
	c, err := r.ReadCommit(ctx, commit)
	if err != nil {
		return err
	}
	tree, meta, err := r.subpath(ctx, c, opts.Subpath)
	if err != nil {
		return err
	}
	root, err := dst.Open(".")
	if err != nil {
		return err
	}
	defer root.Close()
	co := &checkout{repo: r, opts: opts, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), metas: make(map[Checksum]*DirMeta)}
	if err := co.enter(ctx, int(root.Fd())); err != nil {
		return err
	}
	if opts.Union == UnionNone {
		if _, err := root.ReadDir(1); err == nil {
			return fmt.Errorf("folder is not empty: %w", fs.ErrExist)
		} else if err != io.EOF {
			return err
		}
	}
	co.user = opts.UserMode || r.settings.mode == ModeBareUserOnly || co.uid != 0
	top := &checkoutDir{name: ".", as: ".", path: ".", tree: tree, meta: meta, made: opts.Union == UnionNone}
	err = co.run(ctx, top, int(root.Fd()), workers)
	if e := co.leave(int(root.Fd())); err == nil {
		err = e
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	if opts.Fsync {
		return retry(func() error { return unix.Syncfs(int(root.Fd())) })
	}
	return nil
}

// subpath finds a directory of a commit.
func (r *Repo) subpath(ctx context.Context, c *Commit, p string) (tree, meta Checksum, err error) {
	tree, meta = c.RootTree, c.RootMeta
	p = strings.Trim(path.Clean("/"+p), "/")
	if p == "" {
		return tree, meta, nil
	}
	for _, name := range strings.Split(p, "/") {
		d, err := r.ReadDirTree(ctx, tree)
		if err != nil {
			return tree, meta, err
		}
		found := false
		for i := range d.Dirs {
			if d.Dirs[i].Name == name {
				tree, meta, found = d.Dirs[i].Tree, d.Dirs[i].Meta, true
			}
		}
		if !found {
			return tree, meta, fmt.Errorf("directory %.1024q: %w", p, fs.ErrNotExist)
		}
	}
	return tree, meta, nil
}

// checkout is one run.
type checkout struct {
	repo      *Repo
	opts      *CheckoutOptions
	user      bool
	noLink    atomic.Bool // hard links don't work here
	noReflink atomic.Bool
	uid, gid  uint32 // that new files have
	temps     atomic.Int64
	mark      string // the name that says that a union runs; "": none
	done      atomic.Int64
	queue     checkoutQueue
	hidden    []*checkoutDir // in the root, made by another name

	mu    sync.Mutex
	metas map[Checksum]*DirMeta // a tree has few
	skip  sync.Mutex            // held while opts.Skip is called
}

// makeDir makes a directory, or takes what is there for one.
func (co *checkout) makeDir(ctx context.Context, parent int, sub *checkoutDir) error {
	if co.opts.Whiteouts {
		d, err := co.repo.ReadDirTree(ctx, sub.tree)
		if err != nil {
			return err
		}
		if _, opaque := d.child(opaqueWhiteout); opaque {
			if err := removeAll(parent, sub.name, 0); err != nil {
				return err
			}
		} else if co.opts.Union == UnionOverwrite {
			var st unix.Stat_t
			err := unix.Fstatat(parent, sub.name, &st, unix.AT_SYMLINK_NOFOLLOW)
			if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
				err = unix.Unlinkat(parent, sub.name, 0)
			}
			if err != nil && err != unix.ENOENT {
				return pathError("unlink", sub.name, err)
			}
		}
	}
	// The mode keeps everyone else out until the directory is finished.
	err := unix.Mkdirat(parent, sub.as, 0o700)
	if err == unix.EEXIST && co.opts.Union != UnionNone {
		sub.made, err = false, nil
	}
	return pathError("mkdir", sub.name, err)
}

// The names of whiteouts, as OCI images have them.
const (
	whiteoutPrefix = ".wh."
	opaqueWhiteout = ".wh..wh..opq"
)

// choose gives the files of a directory that are made, and does what whiteouts
// say before any is.
func (co *checkout) choose(fd int, files []DirTreeFile, p string) ([]DirTreeFile, error) {
	chosen := make([]DirTreeFile, 0, len(files))
	for _, f := range files {
		at := path.Join(p, f.Name)
		if co.skips(at) {
			continue
		}
		gone, ok := strings.CutPrefix(f.Name, whiteoutPrefix)
		switch {
		case !co.opts.Whiteouts || !ok:
			chosen = append(chosen, f)
			continue
		case f.Name == opaqueWhiteout:
			if p == "." {
				// Others are obeyed when their directory is made.
				if err := removeBelow(fd, 0); err != nil {
					return nil, &Error{Op: "checkout", Target: at, Err: err}
				}
			}
			continue
		}
		err := checkName(gone)
		if err == nil {
			err = removeAll(fd, gone, 0)
		}
		if err != nil {
			return nil, &Error{Op: "checkout", Target: at, Err: err}
		}
	}
	return chosen, nil
}

// removeAll removes what name is, if it is there, without following links.
func removeAll(dir int, name string, depth int) error {
	err := retry(func() error { return unix.Unlinkat(dir, name, 0) })
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM: // POSIX has the second for directories
	default:
		return pathError("unlink", name, err)
	}
	fd, err := openDir(dir, name)
	if err != nil {
		return err
	}
	err = removeBelow(fd, depth)
	unix.Close(fd)
	if err != nil {
		return err
	}
	return pathError("rmdir", name, unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
}

// removeBelow empties an open directory.
func removeBelow(fd, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("directories nest deeper than %d", maxDepth)
	}
	entries, err := readNames(fd, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeAll(fd, e.Name(), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// finish sets what a directory that was made has besides names. Modes and times
// come last: a directory may be read-only, and each new name changes its time.
func (co *checkout) finish(ctx context.Context, d *checkoutDir) error {
	if d.parent == nil {
		if err := co.leave(d.fd); err != nil {
			return err
		}
	}
	if !d.made {
		return nil
	}
	m, err := co.dirMeta(ctx, d.meta)
	if err != nil {
		return err
	}
	mode := m.Mode
	if co.opts.PlainDirs || co.repo.settings.mode == ModeBareUserOnly {
		mode &= ModeType | maxOnlyMode
	}
	if err := co.apply(d.fd, m.UID, m.GID, mode, m.Xattrs); err != nil {
		return pathError("finish directory", d.name, err)
	}
	if co.opts.Copy {
		return nil
	}
	return setMtimeZero(d.fd, ".")
}

// dirMeta reads a dirmeta object, once.
func (co *checkout) dirMeta(ctx context.Context, c Checksum) (*DirMeta, error) {
	co.mu.Lock()
	defer co.mu.Unlock()
	m := co.metas[c]
	if m == nil {
		var err error
		if m, err = co.repo.ReadDirMeta(ctx, c); err != nil {
			return nil, err
		}
		if len(co.metas) < maxMetas {
			co.metas[c] = m
		}
	}
	return m, nil
}

// apply sets owner, attributes and mode of an open file or directory, as far as
// they are others: to ask costs a fraction of setting them.
func (co *checkout) apply(fd int, uid, gid, mode uint32, xattrs []Xattr) error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	mode &= 0o7777
	if !co.user {
		if st.Uid != uid || st.Gid != gid {
			if err := retry(func() error { return unix.Fchown(fd, int(uid), int(gid)) }); err != nil {
				return err
			}
			st.Mode = ^mode // may have lost bits
		}
		if len(xattrs) > 0 {
			if err := setXattrs(fd, xattrs); err != nil {
				return err
			}
			st.Mode = ^mode // an access control list changes it
		}
	}
	if st.Mode&0o7777 == mode {
		return nil
	}
	return retry(func() error { return unix.Fchmod(fd, mode) })
}

func (co *checkout) files(ctx context.Context, d *checkoutDir, files []DirTreeFile, buf []byte) error {
	for i := range files {
		f := &files[i]
		if err := co.file(ctx, d, f.Name, f.Object, buf); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &Error{Op: "checkout", Target: path.Join(d.path, f.Name), Err: err}
		}
	}
	if done := co.done.Add(int64(len(files))); co.opts.Progress != nil && len(files) > 0 {
		co.opts.Progress(Event{Step: "checkout", Phase: "files", Done: done})
	}
	return nil
}

// file writes one file or link.
func (co *checkout) file(ctx context.Context, d *checkoutDir, name string, c Checksum, buf []byte) error {
	dir := d.fd
	if done, err := co.linkUnopened(ctx, dir, name, c); done || err != nil {
		return err
	}
	o, err := co.repo.openContent(ctx, c)
	if err != nil {
		return err
	}
	defer o.Close()
	f := o.file
	mode := f.Mode
	if co.user && mode&ModeType == ModeRegular {
		mode &^= 0o6000
		// What its owner can't read is no use to a checkout that is not root's.
		mode |= 0o400
	}
	want := &wanted{checksum: c, opened: o, mode: mode}
	if f.Mode&ModeType == ModeSymlink {
		if err := f.verifyHeader(c); err != nil {
			return err
		}
		return co.put(ctx, dir, name, want, func(as string) error {
			if err := pathError("symlink", name, unix.Symlinkat(f.Target, dir, as)); err != nil || co.user {
				return err
			}
			return co.applyLink(dir, as, f)
		})
	}
	if co.linkable(o) {
		err := co.put(ctx, dir, name, want, func(as string) error { return linkObject(o.repo, o.name, dir, as) })
		if !co.noLinks(err) {
			return err
		}
	}
	if co.opts.RequireHardLinks && f.Size > 0 && (!co.user || f.Mode&0o400 != 0) {
		return fmt.Errorf("can't be a hard link to an object of a %s repository: %w", o.repo.Mode(), errUnsupported)
	}
	return co.copy(ctx, d, name, want, buf)
}

// wanted is a file or link that a checkout is to have.
type wanted struct {
	checksum Checksum
	*opened
	mode uint32 // st_mode of the checkout's file
}

func linkObject(r *Repo, object string, dir int, name string) error {
	return pathError("link", name, retry(func() error { return unix.Linkat(r.objects, object, dir, name, 0) }))
}

// noLinks reports whether err says that a hard link can't be made.
func (co *checkout) noLinks(err error) bool {
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP):
		co.noLink.Store(true)
	case errors.Is(err, unix.EMLINK): // of this one object
	default:
		return false
	}
	return true
}

// links reports whether files are hard links to objects of which nothing but
// their inode has to be known.
func (co *checkout) links() bool {
	mode := co.repo.settings.mode
	return !co.opts.Copy && !co.noLink.Load() && co.opts.Union != UnionIdentical && (mode == ModeBareUserOnly || mode == ModeBare && !co.user)
}

// linkUnopened makes a hard link where the object needs no look to know that it
// may be one; false: it does, or can't be.
func (co *checkout) linkUnopened(ctx context.Context, dir int, name string, c Checksum) (bool, error) {
	if !co.links() {
		return false, nil
	}
	mode := co.repo.settings.mode
	p := co.repo.objectPath(TypeFile, c)
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(co.repo.objects, p, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return false, nil // opening it tells why
	}
	isLink := st.Mode&unix.S_IFMT == unix.S_IFLNK
	if isLink && mode != ModeBare {
		return false, nil // libostree makes these anew
	}
	if !isLink && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 || co.user && (st.Mode&0o400 == 0 || st.Mode&0o6000 != 0)) {
		return false, nil
	}
	err := co.put(ctx, dir, name, nil, func(as string) error { return linkObject(co.repo, p, dir, as) })
	if co.noLinks(err) {
		return false, nil
	}
	return true, err
}

// linkable reports whether a regular file may be a hard link to its object: one
// with the owner, mode and attributes that the checkout gives files.
func (co *checkout) linkable(o *opened) bool {
	if o.file.Size == 0 || co.opts.Copy || co.noLink.Load() {
		return false
	}
	switch o.repo.settings.mode {
	case ModeBare:
		return !co.user
	case ModeBareUser, ModeBareUserOnly:
		return co.user && o.file.Mode&0o400 != 0
	}
	return false
}

// put makes name by way of fn, which makes the name that it is given, and does
// as co.opts.Union says with a name that is there. want is only needed for
// UnionIdentical.
func (co *checkout) put(ctx context.Context, dir int, name string, want *wanted, fn func(as string) error) error {
	err := fn(name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	switch co.opts.Union {
	case UnionAdd:
		return nil
	case UnionOverwrite:
		temp := co.temp()
		if err := fn(temp); err != nil {
			return err
		}
		return co.replace(dir, temp, name)
	case UnionIdentical:
		return co.identical(ctx, dir, name, want)
	}
	return err
}

// identical is an error unless what name is there is what is wanted.
func (co *checkout) identical(ctx context.Context, dir int, name string, want *wanted) error {
	differs := func(what string) error {
		return pathError("checkout", name, fmt.Errorf("is there with another %s: %w", what, fs.ErrExist))
	}
	f := want.file
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return pathError("stat", name, err)
	}
	if st.Mode&ModeType != f.Mode&ModeType {
		return differs("type")
	}
	if f.Mode&ModeType == ModeSymlink {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return pathError("readlink", name, err)
		}
		if string(buf[:n]) != f.Target {
			return differs("target")
		}
		return nil
	}
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	there := &rawFile{fd, name}
	defer there.Close()
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return pathError("stat", name, err)
	}
	if object := (unix.Stat_t{}); unix.Fstat(want.fd, &object) == nil && object.Dev == st.Dev && object.Ino == st.Ino {
		return nil
	}
	switch {
	case st.Mode != want.mode:
		return differs("mode")
	case st.Size != f.Size:
		return differs("length")
	}
	if !co.user {
		xattrs, err := fileXattrs(fd)
		if err != nil {
			return err
		}
		if st.Uid != f.UID || st.Gid != f.GID {
			return differs("owner")
		}
		if !equalXattrs(xattrs, sortedXattrs(f.Xattrs)) {
			return differs("attributes")
		}
	}
	for _, x := range f.xattrOrders() {
		h := sha256.New()
		h.Write(appendFileHeader(nil, f.UID, f.GID, f.Mode, f.Target, x))
		if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(h, readers.Context{Ctx: ctx, R: there}); err != nil {
			return err
		}
		if Checksum(h.Sum(nil)) == want.checksum {
			return nil
		}
	}
	return differs("content")
}

// temp is a name that is free, unless somebody wants trouble; then making it
// fails.
func (co *checkout) temp() string {
	return fmt.Sprintf(tempPrefix+"%d-%d", unix.Getpid(), co.temps.Add(1))
}

// replace renames temp over name.
func (co *checkout) replace(dir int, temp, name string) error {
	err := retry(func() error { return unix.Renameat(dir, temp, dir, name) })
	if err == unix.EISDIR && co.opts.Whiteouts {
		if err := removeAll(dir, name, 0); err != nil {
			return err
		}
		err = retry(func() error { return unix.Renameat(dir, temp, dir, name) })
	}
	// If both are links to one file, nothing happens; if it failed, temp is left.
	if e := unix.Unlinkat(dir, temp, 0); err == nil && e != unix.ENOENT {
		err = e
	}
	return pathError("rename", name, err)
}

// copy writes a regular file and verifies it. Under its name, it is whole; in a
// directory that has another name itself, once this has returned.
func (co *checkout) copy(ctx context.Context, d *checkoutDir, name string, want *wanted, buf []byte) error {
	dir := d.fd
	if d.hidden {
		return co.write(ctx, dir, name, want, buf)
	}
	if co.opts.Union == UnionAdd || co.opts.Union == UnionIdentical {
		var st unix.Stat_t
		if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			if co.opts.Union == UnionAdd {
				return nil
			}
			return co.identical(ctx, dir, name, want)
		}
	}
	temp := co.temp()
	if err := co.write(ctx, dir, temp, want, buf); err != nil {
		return err
	}
	if co.opts.Union == UnionOverwrite {
		return co.replace(dir, temp, name)
	}
	err := renameNew(dir, temp, name)
	if err != nil {
		unix.Unlinkat(dir, temp, 0)
	}
	if errors.Is(err, fs.ErrExist) && co.opts.Union == UnionAdd {
		return nil
	}
	return err
}

// write makes a file, which is whole or not there when this returns.
func (co *checkout) write(ctx context.Context, dir int, name string, want *wanted, buf []byte) (err error) {
	f := want.file
	// Who is not to read it in the end can't meanwhile.
	mode := uint32(0o600)
	if want.mode&0o7000 == 0 && (co.user || f.UID == co.uid && f.GID == co.gid) {
		mode = want.mode & 0o777
	}
	fd, err := openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	out := &rawFile{fd, name}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
		if err != nil {
			unix.Unlinkat(dir, name, 0)
		}
	}()
	if !co.reflink(fd, want.opened) {
		if err := want.writeTo(ctx, out, want.checksum, buf); err != nil {
			return err
		}
	}
	return pathError("finish", name, co.apply(fd, f.UID, f.GID, want.mode, f.Xattrs))
}

// writeTo copies the content and verifies it.
func (o *opened) writeTo(ctx context.Context, out io.Writer, c Checksum, buf []byte) error {
	body := o.body(ctx, c)
	for {
		piece, err := body.next(buf)
		if err == nil {
			_, err = out.Write(piece)
		}
		if err != nil {
			e := body.Close()
			if err == io.EOF {
				return e
			}
			return err
		}
	}
}

// reflink shares the blocks of an object with fd, if the file system can.
func (co *checkout) reflink(fd int, o *opened) bool {
	if o.repo.settings.mode == ModeArchive || o.file.Size == 0 || co.noReflink.Load() {
		return false
	}
	if err := retry(func() error { return unix.IoctlFileClone(fd, o.fd) }); err != nil {
		co.noReflink.Store(true)
		return false
	}
	return true
}

// renameNew renames temp to name unless name exists.
func renameNew(dir int, temp, name string) error {
	err := retry(func() error { return unix.Renameat2(dir, temp, dir, name, unix.RENAME_NOREPLACE) })
	if err == unix.EINVAL || err == unix.ENOSYS {
		// File systems without that flag have links.
		if err = unix.Linkat(dir, temp, dir, name, 0); err == nil {
			err = unix.Unlinkat(dir, temp, 0)
		}
	}
	return pathError("rename", name, err)
}

// applyLink sets owner and attributes of a symbolic link.
func (co *checkout) applyLink(dir int, name string, f *File) error {
	if err := unix.Fchownat(dir, name, int(f.UID), int(f.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("chown", name, err)
	}
	return setLinkXattrs(dir, name, f.Xattrs)
}
