//go:build linux || darwin

package unix

import "golang.org/x/sys/unix"

// What both have in the same form.

type (
	Errno    = unix.Errno
	Flock_t  = unix.Flock_t
	Timespec = unix.Timespec
	Timeval  = unix.Timeval
)

const (
	E2BIG        = unix.E2BIG
	EACCES       = unix.EACCES
	EAGAIN       = unix.EAGAIN
	EEXIST       = unix.EEXIST
	EINTR        = unix.EINTR
	EINVAL       = unix.EINVAL
	EISDIR       = unix.EISDIR
	ELOOP        = unix.ELOOP
	EMLINK       = unix.EMLINK
	ENAMETOOLONG = unix.ENAMETOOLONG
	ENODATA      = unix.ENODATA
	ENODEV       = unix.ENODEV
	ENOENT       = unix.ENOENT
	ENOLCK       = unix.ENOLCK
	ENOSPC       = unix.ENOSPC
	ENOSYS       = unix.ENOSYS
	ENOTDIR      = unix.ENOTDIR
	ENOTSUP      = unix.ENOTSUP
	ENXIO        = unix.ENXIO
	EOPNOTSUPP   = unix.EOPNOTSUPP
	EPERM        = unix.EPERM
	ERANGE       = unix.ERANGE
	EROFS        = unix.EROFS
	EWOULDBLOCK  = unix.EWOULDBLOCK
	EXDEV        = unix.EXDEV
)

const (
	AT_FDCWD            = unix.AT_FDCWD
	AT_REMOVEDIR        = unix.AT_REMOVEDIR
	AT_SYMLINK_FOLLOW   = unix.AT_SYMLINK_FOLLOW
	AT_SYMLINK_NOFOLLOW = unix.AT_SYMLINK_NOFOLLOW
	DT_LNK              = unix.DT_LNK
	DT_REG              = unix.DT_REG
	DT_UNKNOWN          = unix.DT_UNKNOWN
	F_RDLCK             = unix.F_RDLCK
	F_UNLCK             = unix.F_UNLCK
	F_WRLCK             = unix.F_WRLCK
	LOCK_EX             = unix.LOCK_EX
	LOCK_NB             = unix.LOCK_NB
	LOCK_UN             = unix.LOCK_UN
	LOCK_SH             = unix.LOCK_SH
	O_CLOEXEC           = unix.O_CLOEXEC
	O_CREAT             = unix.O_CREAT
	O_DIRECTORY         = unix.O_DIRECTORY
	O_EXCL              = unix.O_EXCL
	O_NOFOLLOW          = unix.O_NOFOLLOW
	O_NONBLOCK          = unix.O_NONBLOCK
	O_RDONLY            = unix.O_RDONLY
	O_RDWR              = unix.O_RDWR
	O_WRONLY            = unix.O_WRONLY
	PathMax             = unix.PathMax
	S_IFBLK             = unix.S_IFBLK
	S_IFCHR             = unix.S_IFCHR
	S_IFDIR             = unix.S_IFDIR
	S_IFIFO             = unix.S_IFIFO
	S_IFLNK             = unix.S_IFLNK
	S_IFMT              = unix.S_IFMT
	S_IFREG             = unix.S_IFREG
	S_IFSOCK            = unix.S_IFSOCK
	S_ISVTX             = unix.S_ISVTX
	X_OK                = unix.X_OK
)

func Access(path string, mode uint32) error { return unix.Access(path, mode) }

func Close(fd int) error { return unix.Close(fd) }

func Fchmod(fd int, mode uint32) error { return unix.Fchmod(fd, mode) }

func Fchown(fd, uid, gid int) error { return unix.Fchown(fd, uid, gid) }

func Fchownat(dirfd int, path string, uid, gid, flags int) error {
	return unix.Fchownat(dirfd, path, uid, gid, flags)
}

func Fgetxattr(fd int, attr string, dest []byte) (int, error) { return unix.Fgetxattr(fd, attr, dest) }

func Flistxattr(fd int, dest []byte) (int, error) { return unix.Flistxattr(fd, dest) }

func Flock(fd, how int) error { return unix.Flock(fd, how) }

func Fsetxattr(fd int, attr string, data []byte, flags int) error {
	return unix.Fsetxattr(fd, attr, data, flags)
}

func Fsync(fd int) error { return unix.Fsync(fd) }

func Getpid() int { return unix.Getpid() }

func Lgetxattr(path, attr string, dest []byte) (int, error) { return unix.Lgetxattr(path, attr, dest) }

func Linkat(olddirfd int, oldpath string, newdirfd int, newpath string, flags int) error {
	return unix.Linkat(olddirfd, oldpath, newdirfd, newpath, flags)
}

func Llistxattr(path string, dest []byte) (int, error) { return unix.Llistxattr(path, dest) }

func Lsetxattr(path, attr string, data []byte, flags int) error {
	return unix.Lsetxattr(path, attr, data, flags)
}

func Mkdirat(dirfd int, path string, mode uint32) error { return unix.Mkdirat(dirfd, path, mode) }

func Openat(dirfd int, path string, flags int, mode uint32) (int, error) {
	return unix.Openat(dirfd, path, flags, mode)
}

func Pread(fd int, p []byte, offset int64) (int, error) { return unix.Pread(fd, p, offset) }

func Read(fd int, p []byte) (int, error) { return unix.Read(fd, p) }

func ReadDirent(fd int, buf []byte) (int, error) { return unix.ReadDirent(fd, buf) }

func Readlinkat(dirfd int, path string, buf []byte) (int, error) {
	return unix.Readlinkat(dirfd, path, buf)
}

func Renameat(olddirfd int, oldpath string, newdirfd int, newpath string) error {
	return unix.Renameat(olddirfd, oldpath, newdirfd, newpath)
}

func Seek(fd int, offset int64, whence int) (int64, error) { return unix.Seek(fd, offset, whence) }

func Symlinkat(oldpath string, newdirfd int, newpath string) error {
	return unix.Symlinkat(oldpath, newdirfd, newpath)
}

func Unlinkat(dirfd int, path string, flags int) error { return unix.Unlinkat(dirfd, path, flags) }

func Utimes(path string, tv []Timeval) error { return unix.Utimes(path, tv) }

func UtimesNanoAt(dirfd int, path string, ts []Timespec, flags int) error {
	return unix.UtimesNanoAt(dirfd, path, ts, flags)
}

func Write(fd int, p []byte) (int, error) { return unix.Write(fd, p) }
