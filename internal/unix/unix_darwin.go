package unix

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func changed(st *syscall.Stat_t) time.Time { return time.Unix(st.Ctimespec.Unix()) }

// Of macOS's sys/stat.h.
const (
	UTIME_NOW  = -1
	UTIME_OMIT = -2
)

func (s *Stat_t) from(st *unix.Stat_t, err error) error {
	*s = Stat_t{Dev: uint64(st.Dev), Ino: st.Ino, Nlink: uint64(st.Nlink), Mode: uint32(st.Mode), Uid: st.Uid, Gid: st.Gid, Size: st.Size, Mtim: st.Mtim, Ctim: st.Ctim}
	return err
}

func Fstat(fd int, stat *Stat_t) error {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return stat.from(&st, err)
}

func Fstatat(dirfd int, path string, stat *Stat_t, flags int) error {
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, path, &st, flags)
	return stat.from(&st, err)
}

func Fstatfs(fd int, buf *Statfs_t) error {
	var st unix.Statfs_t
	err := unix.Fstatfs(fd, &st)
	*buf = Statfs_t{Bsize: int64(st.Bsize), Blocks: st.Blocks, Bavail: st.Bavail}
	return err
}

func FcntlFlock(fd uintptr, cmd int, lk *Flock_t) error {
	if cmd == F_OFD_SETLK {
		return EINVAL
	}
	return unix.FcntlFlock(fd, cmd, lk)
}

func Fdatasync(fd int) error { return unix.Fsync(fd) }

func Syncfs(fd int) error { return unix.Sync() }
