//go:build !linux && !darwin

package unix

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

type (
	Errno    = syscall.Errno
	Timespec struct{ Sec, Nsec int64 }
	Timeval  struct{ Sec, Usec int64 }
	Flock_t  struct {
		Type, Whence int16
		Start, Len   int64
	}
)

// Unix gives the time as seconds since 1970 and nanoseconds.
func (t *Timespec) Unix() (sec, nsec int64) { return t.Sec, t.Nsec }

// Nano gives the time as nanoseconds since 1970.
func (t *Timespec) Nano() int64 { return t.Sec*1e9 + t.Nsec }

const (
	E2BIG        = syscall.E2BIG
	EACCES       = syscall.EACCES
	EAGAIN       = syscall.EAGAIN
	EEXIST       = syscall.EEXIST
	EINTR        = syscall.EINTR
	EINVAL       = syscall.EINVAL
	EISDIR       = syscall.EISDIR
	ELOOP        = syscall.ELOOP
	EMLINK       = syscall.EMLINK
	ENAMETOOLONG = syscall.ENAMETOOLONG
	ENODATA      = syscall.ENODATA
	ENODEV       = syscall.ENODEV
	ENOENT       = syscall.ENOENT
	ENOLCK       = syscall.ENOLCK
	ENOSPC       = syscall.ENOSPC
	ENOSYS       = syscall.ENOSYS
	ENOTDIR      = syscall.ENOTDIR
	ENOTSUP      = syscall.ENOTSUP
	ENXIO        = syscall.ENXIO
	EOPNOTSUPP   = syscall.EOPNOTSUPP
	EPERM        = syscall.EPERM
	ERANGE       = syscall.ERANGE
	EROFS        = syscall.EROFS
	EWOULDBLOCK  = syscall.EWOULDBLOCK
	EXDEV        = syscall.EXDEV
)

// Linux's.
const (
	AT_FDCWD            = -100
	AT_REMOVEDIR        = 0x200
	AT_SYMLINK_FOLLOW   = 0x400
	AT_SYMLINK_NOFOLLOW = 0x100
	DT_LNK              = 10
	DT_REG              = 8
	DT_UNKNOWN          = 0
	F_RDLCK             = 0
	F_UNLCK             = 2
	F_WRLCK             = 1
	LOCK_EX             = 2
	LOCK_NB             = 4
	LOCK_UN             = 8
	LOCK_SH             = 1
	O_CLOEXEC           = syscall.O_CLOEXEC
	O_CREAT             = syscall.O_CREAT
	O_DIRECTORY         = 0x4000
	O_EXCL              = syscall.O_EXCL
	O_NOFOLLOW          = 0x20000 // of no meaning to os.OpenFile
	O_NONBLOCK          = syscall.O_NONBLOCK
	O_RDONLY            = syscall.O_RDONLY
	O_RDWR              = syscall.O_RDWR
	O_WRONLY            = syscall.O_WRONLY
	PathMax             = 4096
	S_IFBLK             = 0o060000
	S_IFCHR             = 0o020000
	S_IFDIR             = 0o040000
	S_IFIFO             = 0o010000
	S_IFLNK             = 0o120000
	S_IFMT              = 0o170000
	S_IFREG             = 0o100000
	S_IFSOCK            = 0o140000
	S_ISVTX             = 0o1000
	UTIME_NOW           = -1
	UTIME_OMIT          = -2
	X_OK                = 1
)

// handle is what a descriptor stands for.
type handle struct {
	path string
	file *os.File
}

// Descriptors are a process's, and so is this table. They begin high, so that
// none is one of the system's.
const firstHandle = 1 << 28

var handles = struct {
	sync.Mutex
	next int
	open map[int]handle
}{next: firstHandle, open: make(map[int]handle)}

func lookup(fd int) (handle, error) {
	handles.Lock()
	defer handles.Unlock()
	h, ok := handles.open[fd]
	if !ok {
		return h, ENOSYS // a descriptor of the system
	}
	return h, nil
}

// at gives the path of what lies in an open folder.
func at(dirfd int, path string) (string, error) {
	path = filepath.FromSlash(path)
	if dirfd == AT_FDCWD || filepath.IsAbs(path) {
		return filepath.Abs(path)
	}
	dir, err := lookup(dirfd)
	return filepath.Join(dir.path, path), err
}

// errno gives the number that stands for an error of package os.
func errno(err error) error {
	var number syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return ENOENT
	case errors.Is(err, fs.ErrExist):
		return EEXIST
	case errors.Is(err, fs.ErrPermission):
		return EACCES
	case errors.As(err, &number):
		return number
	}
	return err
}

// Openat opens for reading; for anything else it answers ENOSYS.
func Openat(dirfd int, path string, flags int, mode uint32) (int, error) {
	if flags&(O_WRONLY|O_RDWR|O_CREAT) != 0 {
		return -1, ENOSYS
	}
	path, err := at(dirfd, path)
	if err != nil {
		return -1, err
	}
	stat := os.Stat
	if flags&O_NOFOLLOW != 0 {
		stat = os.Lstat
	}
	info, err := stat(path)
	if err != nil {
		return -1, errno(err)
	}
	switch {
	case flags&O_NOFOLLOW != 0 && info.Mode()&fs.ModeSymlink != 0:
		return -1, ELOOP
	case flags&O_DIRECTORY != 0 && !info.IsDir():
		return -1, ENOTDIR
	case !info.IsDir() && !info.Mode().IsRegular():
		return -1, ENXIO
	}
	file, err := os.Open(path)
	if err != nil {
		return -1, errno(err)
	}
	handles.Lock()
	defer handles.Unlock()
	fd := handles.next
	handles.next++
	handles.open[fd] = handle{path, file}
	return fd, nil
}

// take forgets a descriptor.
func take(fd int) (handle, error) {
	handles.Lock()
	defer handles.Unlock()
	h, ok := handles.open[fd]
	if !ok {
		return h, ENOSYS
	}
	delete(handles.open, fd)
	return h, nil
}

func Close(fd int) error {
	h, err := take(fd)
	if err != nil {
		return err
	}
	return errno(h.file.Close())
}

// NewFile makes an [os.File] of a descriptor, which belongs to it from then on.
func NewFile(fd int, name string) *os.File {
	h, err := take(fd)
	if err != nil {
		return os.NewFile(uintptr(fd), name)
	}
	return h.file
}

func Read(fd int, p []byte) (int, error) {
	h, err := lookup(fd)
	if err != nil {
		return 0, err
	}
	n, err := h.file.Read(p)
	if err == io.EOF {
		err = nil
	}
	return n, errno(err)
}

func Pread(fd int, p []byte, offset int64) (int, error) {
	h, err := lookup(fd)
	if err != nil {
		return 0, err
	}
	n, err := h.file.ReadAt(p, offset)
	if err == io.EOF {
		err = nil
	}
	return n, errno(err)
}

func Seek(fd int, offset int64, whence int) (int64, error) {
	h, err := lookup(fd)
	if err != nil {
		return 0, err
	}
	n, err := h.file.Seek(offset, whence)
	return n, errno(err)
}

func (s *Stat_t) from(info fs.FileInfo) {
	mtime := info.ModTime()
	*s = Stat_t{Nlink: 1, Mode: uint32(info.Mode().Perm()), Size: info.Size(), Mtim: Timespec{mtime.Unix(), int64(mtime.Nanosecond())}}
	switch info.Mode().Type() {
	case 0:
		s.Mode |= S_IFREG
	case fs.ModeDir:
		s.Mode |= S_IFDIR
	case fs.ModeSymlink:
		s.Mode |= S_IFLNK
	default:
		s.Mode |= S_IFSOCK // nothing that is ever read
	}
}

func Fstat(fd int, stat *Stat_t) error {
	h, err := lookup(fd)
	if err != nil {
		return err
	}
	info, err := h.file.Stat()
	if err == nil {
		stat.from(info)
	}
	return errno(err)
}

func Fstatat(dirfd int, path string, stat *Stat_t, flags int) error {
	path, err := at(dirfd, path)
	if err != nil {
		return err
	}
	get := os.Stat
	if flags&AT_SYMLINK_NOFOLLOW != 0 {
		get = os.Lstat
	}
	info, err := get(path)
	if err == nil {
		stat.from(info)
	}
	return errno(err)
}

func Readlinkat(dirfd int, path string, buf []byte) (int, error) {
	path, err := at(dirfd, path)
	if err != nil {
		return 0, err
	}
	target, err := os.Readlink(path)
	return copy(buf, filepath.ToSlash(target)), errno(err)
}

// InfoOf answers false.
func InfoOf(info fs.FileInfo) (Info, bool) { return Info{}, false }

func Getpid() int { return os.Getpid() }

// The rest answers ENOSYS or, about attributes, ENOTSUP.

func Access(path string, mode uint32) error { return ENOSYS }

func Fchmod(fd int, mode uint32) error { return ENOSYS }

func Fchown(fd, uid, gid int) error { return ENOSYS }

func Fchownat(dirfd int, path string, uid, gid, flags int) error { return ENOSYS }

func FcntlFlock(fd uintptr, cmd int, lk *Flock_t) error { return ENOSYS }

func Fdatasync(fd int) error { return ENOSYS }

func Fstatfs(fd int, buf *Statfs_t) error { return ENOSYS }

func Flock(fd, how int) error { return ENOSYS }

func Fsync(fd int) error { return ENOSYS }

func Linkat(olddirfd int, oldpath string, newdirfd int, newpath string, flags int) error {
	return ENOSYS
}

func Mkdirat(dirfd int, path string, mode uint32) error { return ENOSYS }

func ReadDirent(fd int, buf []byte) (int, error) { return 0, ENOSYS }

func Renameat(olddirfd int, oldpath string, newdirfd int, newpath string) error { return ENOSYS }

func Symlinkat(oldpath string, newdirfd int, newpath string) error { return ENOSYS }

func Syncfs(fd int) error { return ENOSYS }

func Unlinkat(dirfd int, path string, flags int) error { return ENOSYS }

func Utimes(path string, tv []Timeval) error { return ENOSYS }

func UtimesNanoAt(dirfd int, path string, ts []Timespec, flags int) error { return ENOSYS }

func Write(fd int, p []byte) (int, error) { return 0, ENOSYS }

func Fgetxattr(fd int, attr string, dest []byte) (int, error) { return 0, ENOTSUP }

func Flistxattr(fd int, dest []byte) (int, error) { return 0, ENOTSUP }

func Fsetxattr(fd int, attr string, data []byte, flags int) error { return ENOTSUP }

func Lgetxattr(path, attr string, dest []byte) (int, error) { return 0, ENOTSUP }

func Llistxattr(path string, dest []byte) (int, error) { return 0, ENOTSUP }

func Lsetxattr(path, attr string, data []byte, flags int) error { return ENOTSUP }
