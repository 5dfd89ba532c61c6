package ostree

import (
	"context"
	"io"
	"os"
	"strconv"

	"github.com/okd-project/okd-streams/internal/unix"
)

// adopt lets a file on disk be its own object, by a hard link, if
// [CommitOptions].Consume asks for that and file and repository allow it. false:
// nothing was done.
func (w *contentWriter) adopt(ctx context.Context, o object, j *job) (bool, error) {
	if !w.opts.Consume || w.noLinks.Load() || o.Identity == (FileID{}) || o.Open == nil {
		return false, nil
	}
	if mode := w.repo.settings.mode; mode != ModeBare && mode != ModeBareUserOnly {
		return false, nil
	}
	body, err := o.Open(ctx)
	if err != nil {
		return false, err
	}
	defer body.Close()
	f, ok := body.(*os.File)
	if !ok {
		return false, nil
	}
	fd := int(f.Fd()) // from here on a descriptor that blocks, as a file's does anyway
	if ok, err := w.adoptable(o, fd); err != nil || !ok {
		return false, err
	}
	if err := w.copy(ctx, nil, f, o.Size); err != nil {
		return false, err
	}
	c := w.sum()
	j.node.sum = c
	write, err := w.claim(&c)
	if err != nil || !write {
		return true, err
	}
	name, err := w.shelf.name(w.path, c[0])
	if err != nil {
		return true, err
	}
	// By way of /proc no privileges are needed, and it is the file that was hashed.
	if err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), w.txn.staging, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		w.noLinks.Store(true) // another file system, or one without hard links
		return true, w.open(ctx, o, func(body io.Reader) error { return w.copyStream(ctx, o, c, body) })
	}
	own, err := openat(w.txn.staging, name, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return true, err
	}
	object := &rawFile{own, name}
	var st unix.Stat_t
	if err = pathError("fstat", name, unix.Fstat(own, &st)); err == nil && (st.Size != o.Size || st.Mtim.Nano() != o.Identity.MtimeNs) {
		err = errContentChanged
	}
	if err := w.finishBare(o, object, err); err != nil {
		return true, err
	}
	w.wrote(0)
	w.shelf.staged(TypeFile, &c)
	return true, nil
}

// adoptable reports whether the open file of an entry is what its object has to
// be, and has no other name.
func (w *contentWriter) adoptable(o object, fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if st.Nlink != 1 {
		return false, nil
	}
	if w.repo.settings.mode == ModeBareUserOnly {
		return int(st.Uid) == os.Geteuid(), nil // owner and attributes are no part of the object
	}
	if st.Uid != o.UID || st.Gid != o.GID || st.Mode != o.Mode {
		return false, nil
	}
	xattrs, err := fileXattrs(fd)
	return err == nil && equalXattrs(xattrs, sortedXattrs(o.Xattrs)), err
}
