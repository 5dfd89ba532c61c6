//go:build !linux

package unix

// Stat_t has the members of Linux's that are used.
type Stat_t struct {
	Dev, Ino, Nlink uint64
	Mode, Uid, Gid  uint32
	Size            int64
	Mtim, Ctim      Timespec
}

// Statfs_t has the members of Linux's that are used.
type Statfs_t struct {
	Bsize, Frsize  int64
	Blocks, Bavail uint64
}

// OpenHow has the members of Linux's.
type OpenHow struct{ Flags, Mode, Resolve uint64 }

// These mean something to Linux alone.
const (
	F_OFD_SETLK           = 37
	O_PATH                = 0x200000
	RENAME_NOREPLACE      = 1
	RESOLVE_BENEATH       = 8
	RESOLVE_NO_MAGICLINKS = 2
	RESOLVE_NO_SYMLINKS   = 4
)

// IoctlFileClone answers ENOTSUP.
func IoctlFileClone(destFd, srcFd int) error { return ENOTSUP }

// Openat2 answers ENOSYS.
func Openat2(dirfd int, path string, how *OpenHow) (int, error) { return -1, ENOSYS }

// Renameat2 answers ENOSYS.
func Renameat2(olddirfd int, oldpath string, newdirfd int, newpath string, flags uint) error {
	return ENOSYS
}
