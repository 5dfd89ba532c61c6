package unix

import "golang.org/x/sys/unix"

type (
	OpenHow  = unix.OpenHow
	Stat_t   = unix.Stat_t
	Statfs_t = unix.Statfs_t
)

const (
	F_OFD_SETLK           = unix.F_OFD_SETLK
	O_PATH                = unix.O_PATH
	RENAME_NOREPLACE      = unix.RENAME_NOREPLACE
	RESOLVE_BENEATH       = unix.RESOLVE_BENEATH
	RESOLVE_NO_MAGICLINKS = unix.RESOLVE_NO_MAGICLINKS
	RESOLVE_NO_SYMLINKS   = unix.RESOLVE_NO_SYMLINKS
	UTIME_NOW             = unix.UTIME_NOW
	UTIME_OMIT            = unix.UTIME_OMIT
)

func FcntlFlock(fd uintptr, cmd int, lk *Flock_t) error { return unix.FcntlFlock(fd, cmd, lk) }

func Fdatasync(fd int) error { return unix.Fdatasync(fd) }

func Fstat(fd int, stat *Stat_t) error { return unix.Fstat(fd, stat) }

func Fstatat(dirfd int, path string, stat *Stat_t, flags int) error {
	return unix.Fstatat(dirfd, path, stat, flags)
}

func Fstatfs(fd int, buf *Statfs_t) error { return unix.Fstatfs(fd, buf) }

func IoctlFileClone(destFd, srcFd int) error { return unix.IoctlFileClone(destFd, srcFd) }

func Openat2(dirfd int, path string, how *OpenHow) (int, error) {
	return unix.Openat2(dirfd, path, how)
}

func Renameat2(olddirfd int, oldpath string, newdirfd int, newpath string, flags uint) error {
	return unix.Renameat2(olddirfd, oldpath, newdirfd, newpath, flags)
}

func Syncfs(fd int) error { return unix.Syncfs(fd) }
